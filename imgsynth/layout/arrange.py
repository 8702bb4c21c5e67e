"""Places in order: grids, rings and stacks, for all frames and slots at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64


def grid(columns: F64, rows: F64, spacing: F64, yaw_deg: F64, slots: int) -> F64:
    """(n, slots, 3) cells of grids about the origin, row by row from the far left: columns along +x, rows
    along -y, then turned by `yaw_deg` about +z. `columns`, `rows`, `yaw_deg` (n,), `spacing` (n, 2).
    """
    k = np.arange(slots)[None, :]
    row, column = np.divmod(k, columns[:, None])
    x = (column - (columns[:, None] - 1) / 2) * spacing[:, :1]
    y = ((rows[:, None] - 1) / 2 - row) * spacing[:, 1:]
    c, s = np.cos(np.radians(yaw_deg))[:, None], np.sin(np.radians(yaw_deg))[:, None]
    return np.stack([c * x - s * y, s * x + c * y, np.zeros_like(x)], -1)


def ring(radius: F64, phase_deg: F64, arc_deg: F64, count: NDArray[np.int64], slots: int) -> tuple[F64, F64]:
    """(n, slots, 3) places of `count` (n,) objects evenly round circles about the origin, and their azimuths
    (n, slots) in degrees. An arc below 360 has an object at each end.
    """
    gaps = np.maximum(np.where(arc_deg >= 360, count, count - 1), 1)
    angle = phase_deg[:, None] + np.arange(slots)[None, :] * (arc_deg / gaps)[:, None]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return radius[:, None, None] * np.stack([c, s, np.zeros_like(c)], -1), angle


def stack(height: F64, shift: F64, gap: F64, active: NDArray[np.bool_]) -> F64:
    """(n, slots) height of each object's lowest point above the first one's, of objects `height` (n, slots)
    tall that stand `shift` (n, slots) higher than they would and leave `gap` (n,).
    """
    step = np.where(active, height + shift + gap[:, None], 0.0)
    return np.cumsum(step, 1) - step
