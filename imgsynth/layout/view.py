"""Places by what the camera sees, and objects turned to a point."""

from __future__ import annotations

import numpy as np

from imgsynth import geometry, lens
from imgsynth.batch import F64, Cameras
from imgsynth.errors import SceneError
from imgsynth.layout.stage import Rows

_UP = np.array([0.0, 0.0, 1.0])


def rays(cameras: Cameras, frame: Rows, pixel: F64) -> F64:
    """(m, 3) unit directions in the camera's axes in which `pixel` (m, 2) lies, for cameras `frame` (m,)."""
    if cameras.lens is not None:
        kind, c = cameras.lens.kind[frame], cameras.lens.coefficients[frame]
        pixel = lens.pixels(cameras.k[frame], lens.look(kind, c, cameras.k[frame], pixel))
        if np.isnan(pixel).any():
            raise SceneError("expected places within the lens's field, got one outside", path="camera.lens")
    homogeneous = np.concatenate([pixel, np.ones((len(pixel), 1))], 1)
    return geometry.normalize(np.linalg.solve(cameras.k[frame], homogeneous[..., None])[..., 0])


def in_view(cameras: Cameras, frame: Rows, pixel: F64, distance: F64) -> F64:
    """(m, 3) world points seen at `pixel` (m, 2), `distance` (m,) metres from the cameras `frame` (m,)."""
    pose = cameras.world_from_camera[frame]
    ray = np.einsum("mij,mj->mi", pose[:, :3, :3], rays(cameras, frame, pixel))
    return pose[:, :3, 3] + ray * distance[:, None]


def facing(origin: F64, target: F64, level: bool) -> F64:
    """(m, 3, 3) rotations that take +x to the direction from `origin` to `target` (m, 3), +z as nearly up as
    can be; `level` ones turn about +z only. No turn where the two coincide.
    """
    forward = target - origin
    if level:
        forward = forward * [1.0, 1.0, 0.0]
    length = np.linalg.norm(forward, axis=1, keepdims=True)
    forward = np.where(length > 1e-12, forward, [1.0, 0.0, 0.0])
    forward = geometry.normalize(forward)
    left = np.cross(_UP, forward)
    upright = np.linalg.norm(left, axis=1, keepdims=True) < 1e-9  # straight up or down: +y stays as it is
    left = geometry.normalize(np.where(upright, [0.0, 1.0, 0.0], left))
    return np.stack([forward, left, np.cross(forward, left)], -1)
