"""Label maps that follow from depth, pose and camera, whichever renderer drew the frame: distance and object
coordinates.
"""

from __future__ import annotations

import numpy as np

from imgsynth import lens
from imgsynth.batch import F32, F64, I64, Cameras, SceneBatch
from imgsynth.frame import Buffers, Instances
from imgsynth.render.motion import seen_at


def sight(cameras: Cameras, size: tuple[int, int], i: int) -> F64:
    """(H, W, 2) the rays of frame i's pixel centres, as (x, y) at z = 1 in the camera's frame; NaN where the
    lens sees nothing.
    """
    height, width = size
    center = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    if cameras.lens is None or cameras.lens.kind[i] == lens.PINHOLE:
        return lens.normalized(cameras.k[i], center)
    kind, coefficients = int(cameras.lens.kind[i]), cameras.lens.coefficients[i]
    bent = lens.normalized(cameras.k[i], center)
    return lens.straighten(kind, coefficients, bent, lens.reach(kind, coefficients))


def distances(cameras: Cameras, buffers: Buffers) -> F32:
    """(n, H, W) float32 metres from the camera's centre along the ray, inf where nothing is hit."""
    n, height, width = buffers.depth.shape
    out = np.empty_like(buffers.depth)
    for i in range(n):
        ray = sight(cameras, (height, width), i)
        stretch = np.nan_to_num(np.sqrt(1 + (ray**2).sum(-1)), nan=1.0)
        np.multiply(buffers.depth[i], stretch, out=out[i], casting="same_kind")
    return out


def object_coordinates(batch: SceneBatch, buffers: Buffers, instances: Instances) -> F32:
    """(n, H, W, 3) float32: where in its object's 3-D box each pixel's centre lies, 0..1 an axis of the
    object's frame; 0 off objects.

    So (value - ½) · box3d_size + box3d_center is the point in the object's frame; ½ along an axis without
    extent. After NOCS (Wang et al., "Normalized object coordinate space …", CVPR 2019), but each axis is
    scaled by its own extent. Under a rolling shutter an object is where it is when the line is exposed.
    """
    cameras = batch.cameras
    n, height, width = buffers.depth.shape
    out = np.zeros((n, height, width, 3), np.float32)
    for i in range(n):
        ids = buffers.instance[i]
        y, x = np.nonzero(ids)
        rows = instances.of_frame(i)
        row_of = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
        known = instances.id[rows] < len(row_of)
        row_of[instances.id[rows[known]]] = rows[known]
        row = row_of[ids[y, x]]
        ray = sight(cameras, (height, width), i)[y, x]
        point = np.concatenate([ray, np.ones((len(ray), 1))], 1) * buffers.depth[i, y, x, None]
        pose = instances.camera_from_object[row]
        if buffers.line_time is not None and buffers.line_time[i].any():
            pose = _poses_by_line(batch, row, buffers.line_time[i][y])
        local = np.einsum("pji,pj->pi", pose[:, :3, :3], point - pose[:, :3, 3])
        extent = instances.box3d_size[row]
        share = (local - instances.box3d_center[row]) / np.where(extent > 0, extent, np.inf) + 0.5
        out[i, y, x] = np.clip(share, 0.0, 1.0)
    return out


def _poses_by_line(batch: SceneBatch, row: I64, seconds: F64) -> F64:
    """(m, 4, 4) poses of instances `row` (m,) in the camera at `seconds` (m,), each pair worked out once."""
    moments, moment = np.unique(seconds, return_inverse=True)
    pairs, which = np.unique(row * len(moments) + moment, return_inverse=True)
    return seen_at(batch, pairs // len(moments), moments[pairs % len(moments)])[which]
