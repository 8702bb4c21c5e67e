"""A scene's cameras: orbiting or placed, with a field of view or intrinsics, pinholes or behind a lens."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth import lens as models
from imgsynth.batch import F64, Cameras, Lens
from imgsynth.cameraspec import IntrinsicsSpec, LensSpec, LookAtSpec, PoseSpec
from imgsynth.errors import SceneError
from imgsynth.plan import Reader
from imgsynth.scene import CameraSpec
from imgsynth.viewing import orbit_cameras

_BORDER = 33  # points looked at along each side of the picture
_RIGID = 1e-3  # how far a given rotation may be off one: three decimals


def placed_cameras(spec: CameraSpec, size: tuple[int, int], read: Reader) -> Cameras:
    """The cameras of a scene, before any framing.

    Raises:
        SceneError: a matrix that is no rigid pose, a camera at its own target, a field that the lens has not.
    """
    cameras = orbit_cameras(spec, size, read)
    if spec.pose is not None:
        cameras = replace(cameras, world_from_camera=_poses(spec.pose, read.at("pose")))
    if spec.lens is not None:
        cameras = replace(cameras, lens=_lens(spec.lens, read.at("lens")))
    if spec.intrinsics is not None:
        return replace(cameras, k=_intrinsics(spec.intrinsics, size, read.at("intrinsics")))
    return cameras if cameras.lens is None else replace(cameras, k=_through_lens(cameras, size, read))


def _poses(spec: PoseSpec, read: Reader) -> F64:
    """(n, 4, 4) world_from_camera."""
    if spec.look_at is not None:
        return _looking(spec.look_at, read.at("look_at"))
    if spec.opencv is not None:
        turn = np.stack([cv2.Rodrigues(v)[0] for v in read("opencv.rvec").astype(np.float64)])
        return geometry.rigid_inverse(geometry.compose(turn, read("opencv.tvec")))
    rows = read("matrix").astype(np.float64).reshape(-1, 3, 4)
    turn = rows[:, :, :3]
    off = np.abs(np.swapaxes(turn, 1, 2) @ turn - np.eye(3)).max(axis=(1, 2))
    bad = (off > _RIGID) | (np.linalg.det(turn) < 0)
    if bad.any():
        raise SceneError(
            "expected a rotation in the first three columns (orthonormal, right-handed), got one that is off "
            f"by {off[bad][0]:.3g}" + ("" if off[bad][0] > _RIGID else " and left-handed"),
            path="camera.pose.matrix",
        )
    u, _, v = np.linalg.svd(turn)
    return geometry.compose(u @ v, rows[:, :, 3])


def _looking(spec: LookAtSpec, read: Reader) -> F64:
    try:
        pose = geometry.look_at(read("position"), read("target"))
    except ValueError as error:
        raise SceneError(str(error), path="camera.pose.look_at") from None
    roll = np.radians(read("roll_deg").astype(np.float64))[:, None]
    right, down = pose[:, :3, 0], pose[:, :3, 1]
    # As with the orbit: a positive roll turns the camera clockwise, as seen from behind it.
    pose[:, :3, 0], pose[:, :3, 1] = (
        np.cos(roll) * right - np.sin(roll) * down,
        np.cos(roll) * down + np.sin(roll) * right,
    )
    return pose


def _intrinsics(spec: IntrinsicsSpec, size: tuple[int, int], read: Reader) -> F64:
    """(n, 3, 3) in pixels, the first pixel's centre at (0.5, 0.5)."""
    height, width = size
    unit_x, unit_y = (float(width), float(height)) if spec.units == "fractions" else (1.0, 1.0)
    fx = read("fx") * unit_x
    origin = 0.5 if spec.pixel_centers == "integer" else 0.0
    k = np.zeros((len(fx), 3, 3))
    k[:, 0, 0], k[:, 2, 2] = fx, 1.0
    k[:, 1, 1] = fx if spec.fy is None else read("fy") * unit_y
    k[:, 0, 2] = width / 2 if spec.cx is None else read("cx") * unit_x + origin
    k[:, 1, 2] = height / 2 if spec.cy is None else read("cy") * unit_y + origin
    return k


def _lens(spec: LensSpec, read: Reader) -> Lens:
    name, kind, terms = (
        ("brown_conrady", models.BROWN_CONRADY, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"))
        if spec.brown_conrady is not None
        else ("fisheye", models.KANNALA_BRANDT, ("k1", "k2", "k3", "k4"))
    )
    values = [read(f"{name}.{term}").astype(np.float64) for term in terms]
    c = np.stack(values + [np.zeros_like(values[0])] * (8 - len(terms)), axis=1)
    return Lens(np.full(len(c), kind, np.int32), c)


def _through_lens(cameras: Cameras, size: tuple[int, int], read: Reader) -> F64:
    """K such that what lies half of `fov_deg` below the axis falls on the picture's lower border."""
    assert cameras.lens is not None
    straight = np.tan(np.radians(read("fov_deg").astype(np.float64)) / 2)
    down = np.stack([np.zeros_like(straight), straight], -1)
    bent = models.bend(cameras.lens.kind, cameras.lens.coefficients, down)[:, 1]
    if not np.all(bent > 0):
        raise SceneError(
            f"the lens bends back before {read('fov_deg').max() / 2:g}° from its axis: expected milder "
            "coefficients or a smaller fov_deg",
            path="camera.lens",
        )
    k = cameras.k.copy()
    k[:, 0, 0] = k[:, 1, 1] = size[0] / 2 / bent
    return k


def checked(cameras: Cameras, size: tuple[int, int], indices: NDArray[np.integer]) -> Cameras:
    """The same cameras, each of which sees something at every point of its picture.

    Raises:
        SceneError: a lens that bends back within the picture, or a picture wider than a field can be.
    """
    lens = cameras.lens
    if lens is None:
        return cameras
    height, width = size
    x, y = np.linspace(0, width, _BORDER), np.linspace(0, height, _BORDER)
    border = np.concatenate(
        [np.stack(np.broadcast_arrays(x, e), -1) for e in (0.0, float(height))]
        + [np.stack(np.broadcast_arrays(e, y), -1) for e in (0.0, float(width))]
    )
    done = set()
    for i in range(len(lens.kind)):
        key = (int(lens.kind[i]), lens.coefficients[i].tobytes(), cameras.k[i].tobytes())
        if key in done or key[0] == models.PINHOLE:
            continue
        done.add(key)
        reach = models.reach(key[0], lens.coefficients[i])
        bent = models.normalized(cameras.k[i], border)
        if np.isfinite(models.straighten(key[0], lens.coefficients[i], bent, reach)).all():
            continue
        degrees = float(np.degrees(np.arctan(reach)))
        if degrees > models.MOST_DEG - 0.5:
            why = f"the picture reaches further than {models.MOST_DEG:g}° from the lens's axis"
        else:
            why = f"the lens bends back on itself {degrees:.0f}° from its axis, within the picture"
        raise SceneError(
            f"{why} (frame {int(indices[i])}): expected a longer focal length, a smaller fov_deg or milder "
            "coefficients",
            path="camera.lens",
        )
    return cameras
