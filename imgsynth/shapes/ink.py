"""Ribbons of ink along a pen's path, and what a size-normalizing scanner makes of them.

Points of the plane are complex numbers x + iy. A pen path of P points is inked by P - 1 quads, one from each
point to the next, and P octagons, one at each point; corners come as a place on the path plus an offset from
it, so that ink can be made thinner or thicker later. Where the pen is up, the quad has no area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32

C128 = NDArray[np.complex128]

SIDES = 8
MUCH = (
    412 / 1024,
    560 / 1024,
)  # of height²: above the first, ink is thinned by a step; above the second, by two
LITTLE = (256 / 1024, 108 / 1024)  # below the first, ink is thickened by a step; below the second, by two
STEP = 1 / 32  # of the height, on either side
FLOOR = 0.1  # the share of its breadth that ink keeps however much it is thinned
EDGE = 0.08  # `straighten` looks for the leftmost ink at this share of the height from the top and the bottom


def ribbon(path: C128, half: F64, down: NDArray[np.bool_]) -> tuple[C128, C128]:
    """Corners of the quads (4 each), then of the octagons: places on the path, and offsets from them.

    Args:
        path: (m, P) points of the pen's way.
        half: (m, P) half the breadth of the ink there.
        down: (m, P - 1) whether the pen is down between a point and the next.

    Returns:
        Two arrays (m, 4 (P - 1) + 8 P). Faces are `faces(P)`, counter-clockwise.
    """
    m = len(path)
    left = np.where(down, 1j * unit(np.diff(path)), 0)
    a, b = path[:, :-1], np.where(down, path[:, 1:], path[:, :-1])
    ra, rb = left * half[:, :-1], left * half[:, 1:]
    around = np.exp(2j * np.pi * (np.arange(SIDES) + 0.5) / SIDES)
    places = [np.stack([a, b, b, a], 2).reshape(m, -1), np.repeat(path, SIDES, axis=1)]
    offsets = [np.stack([-ra, -rb, rb, ra], 2).reshape(m, -1), (half[:, :, None] * around).reshape(m, -1)]
    return np.concatenate(places, 1), np.concatenate(offsets, 1)


def faces(points: int) -> I32:
    """(2 (P - 1) + 6 P, 3) triangles of a ribbon along P points."""
    quads = np.arange(points - 1)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])
    i = np.arange(1, SIDES - 1)
    fan = np.stack([np.zeros_like(i), i, i + 1], -1)
    octagons = 4 * (points - 1) + np.arange(points)[:, None, None] * SIDES + fan
    return np.concatenate([quads.reshape(-1, 3), octagons.reshape(-1, 3)]).astype(np.int32)


def fit(place: C128, offset: C128, height: F64, aspect: F64, equalize: F64) -> C128:
    """Corners of ink centred, `height` tall and, where `aspect` is not 0, that times as wide; equalized."""
    ink = place + offset
    x, y = np.ascontiguousarray(ink.real), np.ascontiguousarray(ink.imag)  # strided reductions are slow
    low, top = x.min(1) + 1j * y.min(1), x.max(1) + 1j * y.max(1)
    gain = height / (top - low).imag
    wide = np.where(aspect > 0, aspect * height / (top - low).real, gain)
    place = stretch(place - ((low + top) / 2)[:, None], wide, gain)
    offset = stretch(offset, wide, gain)
    if equalize.any():
        offset = _equalized(place, offset, height, equalize)
    return place + offset


def stretch(points: C128, wide: F64, tall: F64) -> C128:
    """Points (m, k), x times `wide` (m,) and y times `tall` (m,)."""
    out = np.empty(points.shape, np.complex128)
    out.real, out.imag = points.real * wide[:, None], points.imag * tall[:, None]
    return out


def _equalized(place: C128, offset: C128, height: F64, share: F64) -> C128:
    """Offsets whose ink is thinner all round where there is much of it, thicker where there is little.

    The thresholds and the step are those of the spatial normalization in NIST's public-domain recognition
    system (HSFSYS 2, `norm_2nd_gen`), which erodes or dilates a 32 × 32 bitmap once or twice by its number of
    black pixels. That number is taken here to be the area of the quads.
    """
    m = len(place)
    quads = _quad_corners(offset)
    quad = offset[:, :quads].reshape(m, -1, 4)
    corner = place[:, :quads].reshape(m, -1, 4)
    way = corner[:, :, 1] - corner[:, :, 0]
    length = np.abs(way)
    depth = np.abs((np.conj(way)[:, :, None] * quad).imag) / np.maximum(length, 1e-12)[:, :, None]
    area = (length * (depth[:, :, 0] + depth[:, :, 1])).sum(1) / height**2
    steps = np.select([area > MUCH[1], area > MUCH[0], area < LITTLE[1], area < LITTLE[0]], [-2, -1, 2, 1], 0)
    grow = (steps * share * STEP * height)[:, None]
    factor = np.maximum(1 + grow[:, :, None] / np.maximum(depth, 1e-9), FLOOR)
    disc = offset[:, quads:].reshape(m, -1, SIDES)
    across, up = (
        np.abs(radius).max(2, keepdims=True) / np.cos(np.pi / SIDES) for radius in (disc.real, disc.imag)
    )
    wider, taller = (np.maximum(1 + grow[:, :, None] / np.maximum(r, 1e-9), FLOOR) for r in (across, up))
    disc = disc.real * wider + 1j * (disc.imag * taller)
    return np.concatenate([(quad * factor).reshape(m, -1), disc.reshape(m, -1)], 1)


def straightened(ink: C128, share: F64, height: F64) -> C128:
    """Corners sheared about y = 0 by `share` of what aligns the leftmost ink near the top and the bottom."""
    if not share.any():
        return ink
    level = (0.5 - EDGE) * height
    lean = share * (_leftmost(ink, level) - _leftmost(ink, -level)) / (2 * level)
    return ink - lean[:, None] * ink.imag


def _leftmost(ink: C128, level: F64) -> F64:
    """(m,) least x at which the outline of a quad or octagon crosses y = `level`; 0 where none does."""
    cut = _quad_corners(ink)
    least = np.full(len(ink), np.inf)
    for part, sides in ((ink[:, :cut], 4), (ink[:, cut:], SIDES)):
        a = part.reshape(len(ink), -1, sides)
        b = np.concatenate([a[:, :, 1:], a[:, :, :1]], 2)
        below = a.imag <= level[:, None, None]
        crosses = below != (b.imag <= level[:, None, None])
        mesh, piece, side = np.nonzero(crosses)
        p, q = a[mesh, piece, side], b[mesh, piece, side]
        x = p.real + (q - p).real * (level[mesh] - p.imag) / (q - p).imag
        np.minimum.at(least, mesh, x)
    return np.where(np.isfinite(least), least, 0.0)


def _quad_corners(ink: C128) -> int:
    """How many of a ribbon's 4 (P - 1) + 8 P corners belong to quads."""
    return 4 * (ink.shape[1] - SIDES) // (4 + SIDES)


def unit(z: C128) -> C128:
    """z / |z|, 0 where z is 0."""
    return z / np.maximum(np.abs(z), 1e-12)
