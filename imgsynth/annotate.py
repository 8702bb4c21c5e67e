"""Labels of every instance from a renderer's buffers: boxes, areas, fractions, poses.

Boxes are half-open xyxy pixels. The visible box is tight on the visible mask. The
amodal box bounds the projection of the whole object, also outside the frame; of an object that crosses the
near plane, of the part before it (cut exactly, at the edges' crossing points). An object wholly behind the
near plane has zeros for boxes and areas, and counts as wholly truncated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, I64, InstanceTable, SceneBatch
from imgsynth.frame import Buffers, Instances
from imgsynth.keypoints import locate
from imgsynth.render.projection import camera_from_object, projected_boxes


def annotate(batch: SceneBatch, buffers: Buffers) -> tuple[Instances, I32]:
    """Annotations of all instances, rows as in `batch.instances`, and semantic maps (n, H, W) int32.

    Unlabelled objects (class 0) keep their rows; their semantic pixels are 0, as the background's.
    """
    table, size = batch.instances, batch.size
    row_of, offset = _row_lookup(table, len(batch))
    area, box_visible, semantic = _visible(table, buffers.instance, row_of, offset)
    amodal = _window_sums(buffers.amodal.data, buffers.amodal.start)
    boxes = projected_boxes(batch) if buffers.boxes is None else buffers.boxes
    center, extent = _object_boxes(batch)
    pose = camera_from_object(batch)
    instances = Instances(
        frame=table.frame,
        id=table.id,
        class_id=table.class_id,
        path=table.path,
        group=table.group,
        box_visible=box_visible,
        box_amodal=np.where(np.isfinite(boxes), boxes, 0.0),
        area_visible=area,
        area_amodal=amodal,
        visible_fraction=np.divide(area, amodal, out=np.zeros(len(table)), where=amodal > 0),
        truncated_fraction=_truncated(amodal, buffers.amodal_total, boxes, size),
        world_from_object=table.world_from_object,
        camera_from_object=pose,
        box3d_center=center,
        box3d_size=extent,
        keypoints=locate(batch, buffers, pose),
    )
    return instances, semantic


def _row_lookup(table: InstanceTable, n: int) -> tuple[I64, I64]:
    """Row of (frame, id) is lookup[offset[frame] + id]; -1 where there is none, as for id 0."""
    most = np.zeros(n, np.int64)
    np.maximum.at(most, table.frame, table.id)
    offset = np.concatenate([[0], np.cumsum(most + 1)])[:-1].astype(np.int64)
    lookup = np.full(int((most + 1).sum()), -1, np.int64)
    lookup[offset[table.frame] + table.id] = np.arange(len(table))
    return lookup, offset


def _visible(table: InstanceTable, ids: I32, row_of: I64, offset: I64) -> tuple[I64, F64, I32]:
    """Visible areas (I,), tight boxes (I, 4) and the semantic maps, from id maps (n, H, W)."""
    n, height, width = ids.shape
    hit = np.flatnonzero(ids)
    frame = hit // (height * width)
    row = row_of[offset[frame] + ids.reshape(-1)[hit]]
    semantic = np.zeros(ids.size, np.int32)
    semantic[hit] = table.class_id[row]
    area = np.bincount(row, minlength=len(table))
    y, x = np.divmod(hit - frame * (height * width), width)
    low = np.full((2, len(table)), max(height, width), np.int64)
    high = np.zeros((2, len(table)), np.int64)
    for axis, values in enumerate((x, y)):
        np.minimum.at(low[axis], row, values)
        np.maximum.at(high[axis], row, values + 1)
    box = np.stack([low[0], low[1], high[0], high[1]], axis=1).astype(np.float64)
    box[area == 0] = 0.0
    return area, box, semantic.reshape(n, height, width)


def _window_sums(data: NDArray[np.uint8], start: I64) -> I64:
    """(I,) how many bytes are 1 between start[k] and start[k + 1]."""
    total = np.zeros(len(start) - 1, np.int64)
    filled = np.flatnonzero(np.diff(start))
    if len(filled):
        total[filled] = np.add.reduceat(data, start[filled], dtype=np.int64)
    return total


def _truncated(inside: I64, total: F64, boxes: F64, size: tuple[int, int]) -> F64:
    """(I,) share of the silhouette outside the frame.

    Where the silhouette covers no pixel centre at all the box decides: 1 outside the frame or behind, else 0.
    """
    height, width = size
    seen = np.isfinite(boxes[:, 0])
    out = ~seen
    out[seen] = np.any(boxes[seen, 2:] <= 0, axis=1) | np.any(boxes[seen, :2] >= [width, height], axis=1)
    share = 1.0 - np.divide(inside, total, out=np.where(out, 0.0, 1.0), where=total > 0)
    return np.clip(share, 0.0, 1.0)


def _object_boxes(batch: SceneBatch) -> tuple[F64, F64]:
    """(I, 3) centres and sizes of the scaled meshes' axis-aligned bounds in their object frames."""
    pool, table = batch.meshes, batch.instances
    low, high = np.zeros((2, len(pool.two_sided), 3))
    filled = np.flatnonzero(np.diff(pool.vertex_start))
    if len(filled):
        low[filled] = np.minimum.reduceat(pool.vertices, pool.vertex_start[filled], axis=0)
        high[filled] = np.maximum.reduceat(pool.vertices, pool.vertex_start[filled], axis=0)
    low, high = low[table.mesh] * table.scale, high[table.mesh] * table.scale
    return (low + high) / 2, np.abs(high - low)
