"""Geometry on arrays: quaternions (w, x, y, z), rigid transforms, pinhole projection, boxes.

Everything is vectorized over leading axes. Quaternions and rotations act on column vectors; right-handed;
angles in degrees. Cameras have OpenCV axes: x right, y down, z forward. Boxes are xyxy, half-open pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def normalize(v: ArrayLike, axis: int = -1) -> F64:
    """`v` scaled to unit length; a zero vector stays zero."""
    a = np.asarray(v, np.float64)
    length = np.linalg.norm(a, axis=axis, keepdims=True)
    return a / np.where(length > 0, length, 1.0)


def quat_canonical(q: ArrayLike) -> F64:
    """The unit quaternion of the same rotation with w ≥ 0."""
    unit = normalize(q)
    return np.where(unit[..., :1] < 0, -unit, unit)


def quat_multiply(a: ArrayLike, b: ArrayLike) -> F64:
    """Hamilton product: rotates by `b` first, then by `a`."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, np.float64), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, np.float64), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def quat_conjugate(q: ArrayLike) -> F64:
    """The inverse rotation of unit quaternions."""
    return np.asarray(q, np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def quat_from_axis_angle(axis: ArrayLike, angle_deg: ArrayLike) -> F64:
    """Rotation by `angle_deg` (...) about `axis` (..., 3), which need not be of unit length."""
    half = np.radians(np.asarray(angle_deg, np.float64))[..., None] / 2
    vector = np.sin(half) * normalize(axis)
    return np.concatenate([np.broadcast_to(np.cos(half), (*vector.shape[:-1], 1)), vector], -1)


def quat_from_euler(angles_deg: ArrayLike) -> F64:
    """Rotation by (..., 3) angles about the fixed axes x, then y, then z: R = Rz(rz) Ry(ry) Rx(rx)."""
    rx, ry, rz = np.moveaxis(np.asarray(angles_deg, np.float64), -1, 0)
    x, y, z = (quat_from_axis_angle(axis, a) for axis, a in zip(np.eye(3), (rx, ry, rz), strict=True))
    return quat_multiply(z, quat_multiply(y, x))


def quat_between(a: ArrayLike, b: ArrayLike) -> F64:
    """The shortest rotation that takes direction `a` to `b`; any half turn where they are opposite."""
    a, b = np.broadcast_arrays(normalize(a), normalize(b))
    w = 1 + (a * b).sum(-1, keepdims=True)
    helper = np.where(np.abs(a[..., :1]) < 0.6, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    vector = np.where(w < 1e-12, np.cross(a, helper), np.cross(a, b))
    return quat_canonical(np.concatenate([np.where(w < 1e-12, 0.0, w), vector], -1))


def quat_to_matrix(q: ArrayLike) -> F64:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(normalize(q), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def matrix_to_quat(m: ArrayLike) -> F64:
    """Unit quaternions (w ≥ 0) of rotation matrices (..., 3, 3); exact in all quadrants.

    The four rows below are 4w·q, 4x·q, 4y·q, 4z·q; the longest is the best conditioned.
    """
    a = np.asarray(m, np.float64)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = (a[..., i, j] for i in range(3) for j in range(3))
    rows = np.stack(
        [
            np.stack([1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01], -1),
            np.stack([m21 - m12, 1 + m00 - m11 - m22, m01 + m10, m02 + m20], -1),
            np.stack([m02 - m20, m01 + m10, 1 - m00 + m11 - m22, m12 + m21], -1),
            np.stack([m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22], -1),
        ],
        -2,
    )
    best = np.argmax((rows**2).sum(-1), axis=-1)
    return quat_canonical(np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :])


def rotate(q: ArrayLike, v: ArrayLike) -> F64:
    """Vectors (..., 3) turned by quaternions (..., 4)."""
    return np.einsum("...ij,...j->...i", quat_to_matrix(q), np.asarray(v, np.float64))


def compose(rotation: ArrayLike, translation: ArrayLike) -> F64:
    """Rigid transforms (..., 4, 4) of quaternions (..., 4) or matrices (..., 3, 3), and translations."""
    r = np.asarray(rotation, np.float64)
    t = np.asarray(translation, np.float64)
    if r.shape[-2:] != (3, 3):
        r = quat_to_matrix(r)
    out = np.zeros((*np.broadcast_shapes(r.shape[:-2], t.shape[:-1]), 4, 4))
    out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = r, t, 1.0
    return out


def cross_matrix(v: ArrayLike) -> F64:
    """Matrices (..., 3, 3) of the cross product by `v` (..., 3): cross_matrix(v) @ x = v × x."""
    x, y, z = np.moveaxis(np.asarray(v, np.float64), -1, 0)
    zero = np.zeros_like(x)
    return np.stack(
        [np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2
    )


def turned(spin_deg: ArrayLike) -> F64:
    """Rotation matrices (..., 3, 3) by |spin_deg| degrees about `spin_deg` (..., 3); exact for no turn."""
    spin = np.asarray(spin_deg, np.float64)
    return quat_to_matrix(quat_from_axis_angle(spin, np.linalg.norm(spin, axis=-1)))


def screw(velocity: ArrayLike, spin_deg: ArrayLike) -> F64:
    """Rigid transforms (..., 4, 4) reached in one unit of time at constant `velocity` and spin in the moving
    body's own axes: the exponential of se(3) (Murray, Li & Sastry 1994, eq. 2.36).
    """
    spin = np.radians(np.asarray(spin_deg, np.float64))
    angle = np.linalg.norm(spin, axis=-1)[..., None, None]
    safe = np.where(angle > 1e-4, angle, 1.0)
    # Their Taylor series where the angle is small: the next terms are below rounding.
    a = np.where(angle > 1e-4, (1 - np.cos(safe)) / safe**2, 0.5 - angle**2 / 24)
    b = np.where(angle > 1e-4, (safe - np.sin(safe)) / safe**3, 1 / 6 - angle**2 / 120)
    w = cross_matrix(spin)
    path = np.eye(3) + a * w + b * (w @ w)
    return compose(turned(spin_deg), np.einsum("...ij,...j->...i", path, np.asarray(velocity, np.float64)))


def rigid_inverse(m: ArrayLike) -> F64:
    """Inverse of rigid transforms (..., 4, 4)."""
    a = np.asarray(m, np.float64)
    r = np.swapaxes(a[..., :3, :3], -1, -2)
    return compose(r, -np.einsum("...ij,...j->...i", r, a[..., :3, 3]))


def transform(m: ArrayLike, points: ArrayLike) -> F64:
    """Points (..., p, 3) under transforms (..., 4, 4)."""
    a = np.asarray(m, np.float64)
    return np.asarray(points, np.float64) @ np.swapaxes(a[..., :3, :3], -1, -2) + a[..., None, :3, 3]


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> F64:
    """`world_from_camera` (..., 4, 4) of cameras at `eye` (..., 3) with `target` on their +z axis and `up`
    upwards.

    Where `up` is along the line of sight, world y (else x) stands in, so that a camera looking straight down
    has y of the world at the top. Raises ValueError where eye and target coincide.
    """
    eye, target, up = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (eye, target, up)))
    if np.any(np.linalg.norm(target - eye, axis=-1) < 1e-12):
        raise ValueError("expected a camera away from its target, got one at the target itself")
    forward = normalize(target - eye)
    right = np.cross(forward, normalize(up))
    for stand_in in ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]):
        parallel = np.linalg.norm(right, axis=-1, keepdims=True) < 1e-9
        right = np.where(parallel, np.cross(forward, stand_in), right)
    right = normalize(right)
    down = np.cross(forward, right)
    return compose(np.stack([right, down, forward], -1), eye)


def intrinsics(fov_deg: ArrayLike, size: tuple[int, int]) -> F64:
    """Pinhole K (..., 3, 3) in pixels from the vertical field of view; square pixels, centred."""
    height, width = size
    f = height / 2 / np.tan(np.radians(np.asarray(fov_deg, np.float64)) / 2)
    k = np.zeros((*f.shape, 3, 3))
    k[..., 0, 0] = k[..., 1, 1] = f
    k[..., 0, 2], k[..., 1, 2], k[..., 2, 2] = width / 2, height / 2, 1.0
    return k


def project(k: ArrayLike, points: ArrayLike) -> F64:
    """Pixels (..., p, 2) of camera-frame points (..., p, 3); meaningful for z > 0 only (z ≤ 0 gives NaN)."""
    p = np.asarray(points, np.float64)
    z = np.where(p[..., 2:] > 0, p[..., 2:], np.nan)
    homogeneous = (p / z) @ np.swapaxes(np.asarray(k, np.float64), -1, -2)
    return homogeneous[..., :2]


def box_area(boxes: ArrayLike) -> F64:
    """Areas (...) of boxes (..., 4); 0 where empty."""
    b = np.asarray(boxes, np.float64)
    return np.maximum(b[..., 2] - b[..., 0], 0) * np.maximum(b[..., 3] - b[..., 1], 0)


def box_iou(a: ArrayLike, b: ArrayLike) -> F64:
    """Intersection over union of boxes (..., 4), broadcast; 0 where the union is empty."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    inter = box_area(np.concatenate([low, high], -1))
    union = box_area(a) + box_area(b) - inter
    return inter / np.where(union > 0, union, 1.0)


def box_union(a: ArrayLike, b: ArrayLike) -> F64:
    """The smallest box around both."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:])
    return np.concatenate([low, high], -1)


def box_clip(boxes: ArrayLike, size: tuple[int, int]) -> F64:
    """Boxes cut to an image of (height, width)."""
    height, width = size
    return np.clip(np.asarray(boxes, np.float64), 0.0, np.array([width, height, width, height], float))
