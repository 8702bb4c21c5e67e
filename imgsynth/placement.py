"""Where objects stand and how they are turned: poses for all rows of a group at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth.batch import F64, Meshes

TRIES = 32
_CHUNK = 1 << 22  # transformed coordinates held at a time


def turn_z(angle_deg: F64) -> F64:
    """(m, 3, 3) rotations about +z, counter-clockwise seen from above."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    out = np.zeros((*np.shape(angle_deg), 3, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 1, 0], out[..., 1, 1], out[..., 2, 2] = c, -s, s, c, 1.0
    return out


def orientation(rotation: F64 | None, up: F64 | None, yaw_deg: F64) -> F64:
    """(m, 3, 3): first `up` (m, 3) to +z, then the quaternion `rotation` (m, 4), then `yaw_deg` (m,) about
    +z.
    """
    out = turn_z(yaw_deg)
    if rotation is not None:
        out = out @ geometry.quat_to_matrix(rotation)
    if up is not None:
        out = out @ geometry.quat_to_matrix(geometry.quat_between(up, [0.0, 0.0, 1.0]))
    return out


def extents(meshes: Meshes, mesh: NDArray[np.intp], turn: F64, scale: F64) -> tuple[F64, F64]:
    """Lowest z and plan radius about the origin of every row: meshes[mesh[r]] scaled by `scale[r]`, turned by
    `turn[r]`.
    """
    m, v = len(mesh), meshes.vertices.shape[1]
    low, radius = np.empty(m), np.empty(m)
    step = max(1, _CHUNK // (3 * v))
    for a in range(0, m, step):
        part = slice(a, a + step)
        points = np.einsum(
            "mvc,mrc->mvr",
            meshes.vertices[mesh[part]],
            (turn[part] * scale[part, None, None]).astype(np.float32),
        )
        low[part] = points[..., 2].min(1)
        radius[part] = np.hypot(points[..., 0], points[..., 1]).max(1)
    return low, radius


@dataclass
class Floor:
    """The places taken so far in each of n frames, by objects that keep apart."""

    n: int
    center: list[F64] = field(default_factory=list)  # each (n, 2)
    radius: list[F64] = field(default_factory=list)  # each (n,); -inf = nobody

    def settle(
        self,
        position: F64,
        radius: F64,
        gap: F64,
        active: NDArray[np.bool_],
        redraw: Callable[[int, int, NDArray[np.intp]], F64 | None],
    ) -> NDArray[np.bool_]:
        """Place a group's slots in turn, changing `position` (n, slots, 3); which of `active` found room.

        `redraw(slot, attempt, frames)` gives new positions (len(frames), 3), or None where the position is
        not random.
        """
        settled = active.copy()
        for slot in range(position.shape[1]):
            todo = np.flatnonzero(active[:, slot])
            for attempt in range(TRIES):
                todo = todo[
                    self._blocked(position[todo, slot, :2], radius[todo, slot] + gap[todo, slot], todo)
                ]
                if len(todo) == 0:
                    break
                fresh = redraw(slot, attempt, todo) if attempt < TRIES - 1 else None
                if fresh is None:
                    settled[todo, slot] = False
                    break
                position[todo, slot] = fresh
            self.center.append(position[:, slot, :2].copy())
            self.radius.append(np.where(settled[:, slot], radius[:, slot], -np.inf))
        return settled

    def _blocked(self, xy: F64, reach: F64, frames: NDArray[np.intp]) -> NDArray[np.bool_]:
        if not self.center:
            return np.zeros(len(frames), bool)
        center = np.stack([c[frames] for c in self.center], 1)
        taken = np.stack([r[frames] for r in self.radius], 1)
        distance = np.linalg.norm(center - xy[:, None], axis=-1)
        return (distance < taken + reach[:, None]).any(1)
