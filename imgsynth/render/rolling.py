"""A rolling shutter's labels, put together from bands of lines that were drawn at times of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, I64, U8, SceneBatch
from imgsynth.frame import AmodalMasks, Buffers
from imgsynth.render.amodal import counts, offsets
from imgsynth.render.motion import Camera, carried, line_time
from imgsynth.render.projection import camera_from_object, projected_boxes, spans

Flags = NDArray[np.bool_]
PER_LINE = ("color", "depth", "normal", "instance", "albedo")
ROUNDS = 6  # a vertex's line and its time depend on one another


@dataclass(frozen=True)
class Bands:
    """The bands of lines that are exposed together, from the top."""

    height: int
    first: I64  # (B,)
    lines: I64  # (B,)

    @staticmethod
    def of(height: int, most: int) -> Bands:
        """Bands of `most` lines; the last may have fewer."""
        first = np.arange(0, height, most)
        return Bands(height, first, np.minimum(most, height - first))

    def times(self, batch: SceneBatch, rolls: Flags) -> F64:
        """(n, B) seconds about which each band is exposed; 0 in the frames that do not roll."""
        assert batch.exposure is not None
        middle = np.tile(self.first + self.lines / 2, (len(batch), 1))
        return np.where(rolls[:, None], line_time(batch.exposure, middle, self.height), 0.0)


def stacked(bands: Bands, parts: Sequence[Buffers], whole: Buffers, boxes: F64) -> Buffers:
    """One picture of the bands' pictures; what of silhouettes lies outside the frame is that of `whole`."""
    k = parts[0].supersample
    maps = {
        name: np.concatenate([getattr(p, name) for p in parts], axis=1)
        for name in PER_LINE
        if getattr(parts[0], name, None) is not None
    }
    windows = np.stack([p.amodal.window for p in parts])  # (B, I, 4)
    masks = _stacked_masks(bands, windows, [p.amodal for p in parts])
    outside = np.maximum(whole.amodal_total - counts(whole.amodal.data, whole.amodal.start), 0.0)
    inside: F64 = counts(masks.data, masks.start).astype(np.float64)
    return replace(
        whole,
        **maps,
        supersample=k,
        amodal=masks,
        amodal_total=inside + outside,
        boxes=boxes,
    )


def _stacked_masks(bands: Bands, windows: I32, parts: Sequence[AmodalMasks]) -> AmodalMasks:
    """Each instance's bytes of all bands in one window around them."""
    full = windows.astype(np.int64)
    full[..., 1::2] += bands.first[:, None, None]
    there: Any = np.asarray((full[..., 2] > full[..., 0]) & (full[..., 3] > full[..., 1]))
    big = 1 << 30
    low = np.where(there[..., None], full[..., :2], big).min(axis=0)
    high = np.where(there[..., None], full[..., 2:], -big).max(axis=0)
    window = np.where(there.any(axis=0)[:, None], np.concatenate([low, high], 1), 0)
    width = window[:, 2] - window[:, 0]
    start = offsets(width * (window[:, 3] - window[:, 1]))
    data = np.zeros(start[-1], np.uint8)
    for box, part in zip(full, parts, strict=True):
        row, local = spans(np.diff(part.start))
        wide = (box[:, 2] - box[:, 0])[row]
        y, x = local // np.maximum(wide, 1) + box[row, 1], local % np.maximum(wide, 1) + box[row, 0]
        data[start[row] + (y - window[row, 1]) * width[row] + x - window[row, 0]] = part.data[
            : part.start[-1]
        ]
    return AmodalMasks(window.astype(np.int32), start, data)


def rolled_boxes(batch: SceneBatch, bands: Bands, times: F64) -> F64:
    """(I, 4) amodal boxes of objects whose vertices each are seen at the time of the line that they fall on.

    Above and below the frame the first and the last band's times go on. An object that reaches behind the
    near plane has its box at time 0. NaN where nothing lies before the near plane.
    """
    out = projected_boxes(batch)
    table, pool, pose = batch.instances, batch.meshes, camera_from_object(batch)
    for frame in np.flatnonzero(np.any(times, axis=1)):
        for row in np.flatnonzero((table.frame == frame) & np.isfinite(out[:, 0])):
            mesh = table.mesh[row]
            vertices = pool.vertices[pool.vertex_start[mesh] : pool.vertex_start[mesh + 1]] * table.scale[row]
            path = _steps(batch, int(frame), int(row), times[frame]) @ pose[row]
            box = _box(vertices.astype(np.float64), path, batch, int(frame), bands)
            if box is not None:
                out[row] = box
    return out


def _steps(batch: SceneBatch, frame: int, row: int, times: F64) -> F64:
    """(B, 4, 4) from the camera's axes at time 0 to where an instance's points are at each band's time."""
    n = len(times)
    return carried(batch, np.full(n, frame), np.full(n, row), np.zeros(n), times)


def _box(vertices: F64, path: F64, batch: SceneBatch, frame: int, bands: Bands) -> F64 | None:
    band, camera = np.full(len(vertices), len(path) // 2), Camera.of(batch, frame)
    for _ in range(ROUNDS):
        m = path[band]
        points = np.einsum("vij,vj->vi", m[:, :3, :3], vertices) + m[:, :3, 3]
        if np.any(points[:, 2] < batch.cameras.near[frame]):
            return None
        xy = camera.project(points)
        if not np.isfinite(xy).all():
            return None
        band = np.clip(np.searchsorted(bands.first, xy[:, 1], side="right") - 1, 0, len(path) - 1)
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def either(batch: SceneBatch, first: Flags, a: Buffers, b: Buffers) -> Buffers:
    """The frames `first` (n,) of `a`, the others of `b`."""
    maps = {
        name: np.where(
            first.reshape(-1, *[1] * (getattr(a, name).ndim - 1)), getattr(a, name), getattr(b, name)
        )
        for name in PER_LINE
        if getattr(a, name, None) is not None
    }
    rows = first[batch.instances.frame]
    size = np.where(rows, np.diff(a.amodal.start), np.diff(b.amodal.start))
    start = offsets(size)
    row, local = spans(size)
    data: U8 = np.empty(start[-1], np.uint8)
    for part, mine in ((a.amodal, rows), (b.amodal, ~rows)):
        here = mine[row]
        data[here] = part.data[part.start[:-1][row[here]] + local[here]]
    boxes_b = projected_boxes(batch) if b.boxes is None else b.boxes
    assert a.boxes is not None
    return replace(
        a,
        **maps,
        amodal=AmodalMasks(np.where(rows[:, None], a.amodal.window, b.amodal.window), start, data),
        amodal_total=np.where(rows, a.amodal_total, b.amodal_total),
        boxes=np.where(rows[:, None], a.boxes, boxes_b),
    )
