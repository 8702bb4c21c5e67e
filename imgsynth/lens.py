"""Lens models on arrays: where a ray's image point falls, and which ray an image point sees.

Points are normalized, (x/z, y/z) of the camera's frame: straight ones as a pinhole sees them, bent ones as
the lens does; K takes either to pixels. A lens is a kind and eight coefficients in OpenCV's order:

- `BROWN_CONRADY`: k1, k2, p1, p2, k3, k4, k5, k6 of OpenCV's `calibrateCamera` (rational model; Brown,
  "Decentering distortion of lenses", Photogrammetric Engineering 32(3), 1966, and Conrady, MNRAS 79, 1919);
- `KANNALA_BRANDT`: k1..k4 of OpenCV's `fisheye` (Kannala, Brandt, "A generic camera model …", IEEE PAMI
  28(8), 2006, eq. 6 with k1 = 1 there).

A polynomial fitted inside a picture bends back on itself somewhere outside. The *field* of a lens is the disc
of straight points, about the axis, in which it does not, cut at `MOST_DEG` from the axis: only what lies in
it is seen, and whole objects are measured as far as it goes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

PINHOLE, BROWN_CONRADY, KANNALA_BRANDT = 0, 1, 2
MOST_DEG = 85.0
"""Degrees from the axis where every field ends: a picture is at most twice that wide, corner to corner."""
LEAST_STRETCH = 1e-3
"""The field ends where the map's Jacobian falls below this determinant."""
LEAST_DENOMINATOR = 0.02
"""… and where the rational model's denominator falls below this: a pole is near."""
STEPS = 128
"""Radii at which `bulge` is tabulated."""
_RADII = np.tan(np.radians(np.linspace(0.0, MOST_DEG, 681)))[1:]
_ANGLES = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
_ROUNDS = 60
_NEAR = 1e-13


def bend(kind: ArrayLike, coefficients: ArrayLike, points: ArrayLike) -> F64:
    """Bent points (..., 2) of straight ones (..., 2); kind (...,) and coefficients (..., 8) broadcast.

    Outside of a lens's field the numbers mean nothing.
    """
    kind, c, p = np.asarray(kind), np.asarray(coefficients, np.float64), np.asarray(points, np.float64)
    out = np.array(np.broadcast_to(p, np.broadcast_shapes((*kind.shape, 2), p.shape)), np.float64)
    if np.any(kind == BROWN_CONRADY):
        out = np.where((kind == BROWN_CONRADY)[..., None], _brown(c, p)[0], out)
    if np.any(kind == KANNALA_BRANDT):
        r = np.linalg.norm(p, axis=-1)
        scale = np.where(r > 1e-9, _theta(c, np.arctan(r))[0] / np.where(r > 1e-9, r, 1.0), 1.0)
        out = np.where((kind == KANNALA_BRANDT)[..., None], p * scale[..., None], out)
    return out


def _brown(c: F64, p: F64) -> tuple[F64, F64]:
    """Brown–Conrady: bent points (..., 2) and the map's Jacobians (..., 2, 2)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = np.moveaxis(c, -1, 0)
    x, y = p[..., 0], p[..., 1]
    s = x * x + y * y
    top, low = 1 + s * (k1 + s * (k2 + s * k3)), 1 + s * (k4 + s * (k5 + s * k6))
    f = top / low
    slope = (k1 + s * (2 * k2 + 3 * s * k3) - f * (k4 + s * (2 * k5 + 3 * s * k6))) / low
    bent = np.stack(
        [x * f + 2 * p1 * x * y + p2 * (s + 2 * x * x), y * f + p1 * (s + 2 * y * y) + 2 * p2 * x * y], -1
    )
    across = 2 * (x * y * slope + p1 * x + p2 * y)
    xx = f + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    yy = f + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    return bent, np.stack([np.stack([xx, across], -1), np.stack([across, yy], -1)], -2)


def _theta(c: F64, t: F64) -> tuple[F64, F64, F64]:
    """Kannala–Brandt: bent radius of the angle t from the axis, and its two derivatives by t."""
    k1, k2, k3, k4 = np.moveaxis(c[..., :4], -1, 0)
    s = t * t
    value = t * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
    first = 1 + s * (3 * k1 + s * (5 * k2 + s * (7 * k3 + s * 9 * k4)))
    second = t * (6 * k1 + s * (20 * k2 + s * (42 * k3 + s * 72 * k4)))
    return value, first, second


def straighten(kind: int, coefficients: ArrayLike, points: ArrayLike, reach: float) -> F64:
    """Straight points (..., 2) of bent ones (..., 2) under one lens of field radius `reach`; NaN outside.

    Newton's method, each step held inside the field: there the map is one-to-one.
    """
    c, bent = np.asarray(coefficients, np.float64), np.asarray(points, np.float64)
    if kind == PINHOLE:
        return bent.copy()
    with np.errstate(all="ignore"):
        if kind == KANNALA_BRANDT:
            radius, most = np.linalg.norm(bent, axis=-1), np.arctan(reach)
            t = np.minimum(radius, most)
            for _ in range(_ROUNDS):
                value, slope, _second = _theta(c, t)
                t = np.clip(t - (value - radius) / slope, 0.0, most)
            off = np.abs(_theta(c, t)[0] - radius)
            out = (
                bent
                * np.where(radius > 1e-9, np.tan(t) / np.where(radius > 1e-9, radius, 1.0), 1.0)[..., None]
            )
        else:
            out = _newton(c, bent, _radial(c, bent, reach), reach)
            off = np.linalg.norm(_brown(c, out)[0] - bent, axis=-1)
        out[~(off < 1e-9 * np.maximum(1.0, np.linalg.norm(bent, axis=-1)))] = np.nan
    return out


def _radial(c: F64, bent: F64, reach: float) -> F64:
    """Straight points of bent ones, decentering left out: Newton's method kept within a shrinking bracket."""
    wanted = np.linalg.norm(bent, axis=-1)
    low, high = np.zeros(wanted.shape), np.full(wanted.shape, reach)
    centred = np.where(np.isin(np.arange(8), (2, 3)), 0.0, c)
    r = np.minimum(wanted, reach)
    for _ in range(_ROUNDS):
        value, jacobian = _brown(centred, np.stack([r, np.zeros_like(r)], -1))
        miss = value[..., 0] - wanted
        low, high = np.where(miss < 0, r, low), np.where(miss >= 0, r, high)
        newton = r - miss / jacobian[..., 0, 0]
        new = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        if np.max(np.abs(new - r), initial=0.0) < _NEAR:
            break
        r = new
    return bent * np.where(wanted > 0, r / np.where(wanted > 0, wanted, 1.0), 1.0)[..., None]


def _newton(c: F64, bent: F64, start: F64, reach: float) -> F64:
    """Newton's method on the whole map, each step held inside the field and halved where it leads away."""
    out = start
    value, jacobian = _brown(c, out)
    share = np.ones(out.shape[:-1])
    for _ in range(_ROUNDS):
        miss = value - bent
        length = np.linalg.norm(miss, axis=-1)
        if np.nanmax(length, initial=0.0) < _NEAR:
            break
        (a, b), (d, e) = np.moveaxis(jacobian, (-2, -1), (0, 1))
        step = np.stack([e * miss[..., 0] - b * miss[..., 1], a * miss[..., 1] - d * miss[..., 0]], -1)
        trial = _held(out - step * (share / (a * e - b * d))[..., None], reach)
        there, turned = _brown(c, trial)
        better = np.linalg.norm(there - bent, axis=-1) < length
        share = np.where(better, np.minimum(2 * share, 1.0), share / 2)
        out = np.where(better[..., None], trial, out)
        value = np.where(better[..., None], there, value)
        jacobian = np.where(better[..., None, None], turned, jacobian)
    return out


def _held(p: F64, reach: float) -> F64:
    r = np.linalg.norm(p, axis=-1, keepdims=True)
    return np.where(r > reach, p * (reach / np.where(r > 0, r, 1.0)), p)


def reach(kind: int, coefficients: ArrayLike) -> float:
    """Radius of a lens's field: straight points nearer to the axis are seen, each in a place of its own."""
    c = np.asarray(coefficients, np.float64)
    if kind == PINHOLE:
        return np.inf
    with np.errstate(all="ignore"):
        if kind == KANNALA_BRANDT:
            good = _theta(c, np.arctan(_RADII))[1] > LEAST_STRETCH
        else:
            angles = _ANGLES if np.any(c[2:4]) else _ANGLES[:1]
            at = _RADII[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
            bent, jacobian = _brown(c, at)
            (xx, xy), (yx, yy) = np.moveaxis(jacobian, (-2, -1), (0, 1))
            s = _RADII**2
            good = np.all(xx * yy - xy * yx > LEAST_STRETCH, axis=1)
            good &= np.all(np.sum(bent * at, axis=-1) > 0, axis=1)
            good &= 1 + s * (c[5] + s * (c[6] + s * c[7])) > LEAST_DENOMINATOR
    first_bad = len(good) if good.all() else int(np.argmin(good))
    return float(_RADII[first_bad - 1]) if first_bad else 0.0


def bulge(kind: int, coefficients: ArrayLike, radius: float) -> F64:
    """(STEPS + 1,) bounds on the bent map's second derivative within straight radii up to k/STEPS · `radius`.

    A segment of length L within such a radius bends away from its chord by at most L²/8 times that. Of a
    radial map g(r)·p/r it is at most |g''| + 2 |(g/r)'|; 6 (|p1| + |p2|) bounds what decentering adds.
    """
    c = np.asarray(coefficients, np.float64)
    fine = 8
    r = np.linspace(0.0, radius, STEPS * fine + 1)[1:]
    with np.errstate(all="ignore"):
        if kind == KANNALA_BRANDT:
            value, first, second = _theta(c, np.arctan(r))
            across = 1 / (1 + r * r)
            slope = first * across
            curve = second * across**2 - 2 * r * first * across**2
            turn, extra = (slope - value / r) / r, 0.0
        else:
            s = r * r
            top, low = 1 + s * (c[0] + s * (c[1] + s * c[4])), 1 + s * (c[5] + s * (c[6] + s * c[7]))
            top1, low1 = c[0] + s * (2 * c[1] + 3 * s * c[4]), c[5] + s * (2 * c[6] + 3 * s * c[7])
            top2, low2 = 2 * c[1] + 6 * s * c[4], 2 * c[6] + 6 * s * c[7]
            f1 = (top1 - top / low * low1) / low
            f2 = (top2 - top / low * low2 - 2 * f1 * low1) / low
            curve, turn = 6 * r * f1 + 4 * r * s * f2, 2 * r * f1
            extra = 6 * (abs(c[2]) + abs(c[3]))
    most = np.maximum.accumulate(np.abs(curve) + 2 * np.abs(turn)) * 1.05 + extra
    return np.concatenate([most[:1], most[fine - 1 :: fine]])


def project(
    kind: ArrayLike, coefficients: ArrayLike, k: ArrayLike, points: ArrayLike, field: ArrayLike
) -> F64:
    """Pixels (..., 2) of camera-frame points (..., 3) under lenses and intrinsics K (..., 3, 3).

    NaN for points behind the camera (z ≤ 0) and outside of the fields, whose radii are `field` (...,).
    """
    p = np.asarray(points, np.float64)
    with np.errstate(all="ignore"):
        straight = p[..., :2] / np.where(p[..., 2:] > 0, p[..., 2:], np.nan)
        seen = np.linalg.norm(straight, axis=-1) <= np.asarray(field)
        bent = bend(kind, coefficients, np.where(seen[..., None], straight, np.nan))
    return pixels(k, bent)


def look(kind: ArrayLike, coefficients: ArrayLike, k: ArrayLike, points: ArrayLike) -> F64:
    """Straight points (m, 2) that pixels (m, 2) see: kind (m,), coefficients (m, 8), K (m, 3, 3) row by row.

    A ray's direction is (x, y, 1) of it. NaN outside of the fields.
    """
    kinds, c = np.asarray(kind), np.asarray(coefficients, np.float64)
    bent = normalized(k, points)
    table = np.concatenate([kinds[:, None], c], axis=1)
    distinct, number = np.unique(table, axis=0, return_inverse=True)
    out = np.empty(bent.shape)
    for i, row in enumerate(distinct):
        here = number.reshape(-1) == i
        out[here] = straighten(int(row[0]), row[1:], bent[here], reach(int(row[0]), row[1:]))
    return out


def pixels(k: ArrayLike, points: ArrayLike) -> F64:
    """Normalized points (..., 2) to pixels by K (..., 3, 3)."""
    m, p = np.asarray(k, np.float64), np.asarray(points, np.float64)
    return np.einsum("...ij,...j->...i", m[..., :2, :2], p) + m[..., :2, 2]


def normalized(k: ArrayLike, points: ArrayLike) -> F64:
    """Pixels (..., 2) to normalized points by K (..., 3, 3)."""
    m, p = np.asarray(k, np.float64), np.asarray(points, np.float64)
    return np.einsum("...ij,...j->...i", np.linalg.inv(m[..., :2, :2]), p - m[..., :2, 2])
