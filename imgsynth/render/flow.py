"""Optical flow between a frame and the next or the last one, from depth, instances and motion alone.

What a pixel's centre shows lies at a known depth on a body whose motion is known, so where it goes is known
in closed form, whichever renderer gave the labels. Objects move as `imgsynth.render.motion` says, the ground
stands still, and what is infinitely far only turns with the camera. Under a rolling shutter a point is seen
when the line that it falls on is exposed, in this frame as in the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I64, SceneBatch
from imgsynth.frame import Buffers
from imgsynth.render.motion import Camera, carried, line_time

Flags = NDArray[np.bool_]
TOLERANCE = 0.01
"""How much deeper than what is seen there, relatively, a point may lie and still be seen."""
CENTRE = 0.01
"""Pixels from a pixel's centre within which a point is taken to lie on it."""
ROUNDS = 8  # a rolling shutter's line and its time depend on one another
AT_ONCE = 1 << 18  # points


def flow(batch: SceneBatch, seen: Buffers, seconds: F64, lines: int = 1) -> tuple[F32, F64]:
    """Flow in pixels (n, H, W, 2), x and y, and the points' depths (n, H, W) then.

    Flow is where the point that a pixel's centre shows falls then, less that centre; NaN where it is then
    nowhere before the camera. What is infinitely far has depth inf.

    Args:
        batch: the frames.
        seen: their labels.
        seconds: (n,) how much later the other frames are; negative: earlier.
        lines: how many lines a rolling shutter exposes at once.
    """
    n, height, width = seen.depth.shape
    out = np.full((n, height, width, 2), np.nan, np.float32)
    depth = np.full((n, height, width), np.nan)
    rows = _rows(batch, seen.instance)
    for i in range(n):
        one = np.full(1, i)
        for top in range(0, height, step := max(1, AT_ONCE // width)):
            part = slice(top, min(top + step, height))
            y, x = np.mgrid[part, :width] + 0.5
            xy = np.stack([x, y], -1).reshape(-1, 2)
            moved, then = _landed(
                batch,
                one,
                xy,
                seen.depth[i, part].reshape(-1),
                rows[i, part].reshape(-1),
                float(seconds[i]),
                lines,
            )
            out[i, part] = (moved - xy).reshape(*y.shape, 2)
            depth[i, part] = then.reshape(y.shape)
    return out, depth


def hidden(flow: F32, depth: F64, seen: Buffers, then: Buffers) -> Flags:
    """(n, H, W) whether a frame's points cannot be seen in the other frame: hidden, or out of it.

    A point can be seen where one of the four pixel centres around it shows the same instance, no more than
    `TOLERANCE` nearer than the point. What is behind itself by less than that counts as seen.

    Args:
        flow: to the other frame.
        depth: the points' depths there.
        seen: labels of this frame.
        then: labels of the other.
    """
    n, height, width = depth.shape
    y, x = np.mgrid[:height, :width]
    out = np.ones(depth.shape, bool)
    for i in range(n):
        # In pixel numbers, so that whole ones are centres.
        px, py = x + flow[i, ..., 0].astype(np.float64), y + flow[i, ..., 1].astype(np.float64)
        inside = (px >= -0.5) & (py >= -0.5) & (px < width - 0.5) & (py < height - 0.5)
        px, py = np.where(inside, px, 0.0), np.where(inside, py, 0.0)
        # A centre that is hit as good as exactly has no neighbours.
        for cy in (np.floor(py + CENTRE), np.ceil(py - CENTRE)):
            for cx in (np.floor(px + CENTRE), np.ceil(px - CENTRE)):
                at = np.clip(cy, 0, height - 1).astype(np.intp), np.clip(cx, 0, width - 1).astype(np.intp)
                shown, far = then.depth[i][at], np.isinf(depth[i])
                near = np.where(far, np.isinf(shown), shown * (1 + TOLERANCE) >= depth[i]) & (
                    far | np.isfinite(shown)
                )
                out[i] &= ~(inside & near & (then.instance[i][at] == seen.instance[i]))
    return out


def _rows(batch: SceneBatch, instance: NDArray[np.int32]) -> I64:
    """(n, H, W) rows of the batch's InstanceTable; -1 for ground and background."""
    out = np.full(instance.shape, -1, np.int64)
    for i in range(len(instance)):
        mine = np.flatnonzero(batch.instances.frame == i)
        row_of = np.full(int(batch.instances.id[mine].max(initial=0)) + 1, -1, np.int64)
        row_of[batch.instances.id[mine]] = mine
        row_of[0] = -1
        out[i] = row_of[instance[i]]
    return out


def _landed(
    batch: SceneBatch, frame: I64, xy: F64, depth: F32, row: I64, seconds: float, lines: int
) -> tuple[F64, F64]:
    """Where what is seen at `xy` (m, 2) of one frame, `depth` (m,) away, falls `seconds` later; depths."""
    exposure = batch.exposure
    camera = Camera.of(batch, int(frame[0]))
    far = ~np.isfinite(depth)
    ray = np.concatenate([camera.look(xy), np.ones((len(xy), 1))], 1)
    points = ray * np.where(far, 1.0, depth.astype(np.float64))[:, None]
    if exposure is None:
        return xy.copy(), np.where(far, np.inf, depth)
    rolling = bool(exposure.readout[frame[0]] > 0)
    start = _exposed(batch, frame, xy[:, 1], lines)
    end = start + seconds
    for _ in range(ROUNDS if rolling else 1):
        moved = _carried(batch, frame, row, points, far, start, end, rolling)
        before = moved[:, 2] > np.where(far, 0.0, batch.cameras.near[frame[0]])
        there = camera.project(np.where(before[:, None], moved, np.nan))
        end = _exposed(batch, frame, there[:, 1], lines) + seconds
    return there, np.where(far, np.inf, moved[:, 2])


def _exposed(batch: SceneBatch, frame: I64, y: F64, lines: int) -> F64:
    """Seconds about which the lines at `y` (m,) of one frame are exposed; outside it, its border's."""
    height = batch.size[0]
    assert batch.exposure is not None
    first = np.floor(np.clip(np.nan_to_num(y), 0, height - 1) / lines) * lines
    middle = (first + np.minimum(first + lines, height)) / 2
    return line_time(batch.exposure, middle[None], height, frame)[0]


def _carried(
    batch: SceneBatch, frame: I64, row: I64, points: F64, far: Flags, start: F64, end: F64, rolling: bool
) -> F64:
    """The points (m, 3) at times `end` in the camera's axes then; of far ones the direction."""
    if rolling:
        m = carried(batch, np.repeat(frame, len(row)), row, start, end)
    else:
        distinct, which = np.unique(row, return_inverse=True)
        few = (
            np.full(len(distinct), start[0] if len(start) else 0.0),
            np.full(len(distinct), end[0] if len(end) else 0.0),
        )
        m = carried(batch, np.repeat(frame, len(distinct)), distinct, *few)[which]
    shift = np.where(far[:, None], 0.0, m[:, :3, 3])
    return np.einsum("mij,mj->mi", m[:, :3, :3], points) + shift
