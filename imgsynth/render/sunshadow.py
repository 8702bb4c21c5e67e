# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""The sun's shadow maps as shading reads them: Warp functions."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.surfaces import Surface

wp.set_module_options(OPTIONS)

TILE = wp.constant(8)  # texels a side of a shadow map's tiles


@wp.func
def lit_share(view: View, frame: FrameData, light: wp.vec3, n: wp.vec3, bias: float) -> float:
    """Share of the sun that reaches a point: 3×3 percentage-closer filtering with bilinear weights.

    The reference height follows the receiver's own plane from texel to texel, so a plane needs no slope bias.

    Args:
        view: the shadow maps.
        frame: its frame.
        light: the point, (x, y, height) in light space.
        n: the receiver's plane normal in light space, any length and sign.
        bias: height that a caster must stand out by, metres.
    """
    size = view.shadow_size
    scale = frame.shadow_map
    x = light[0] * scale[0] + scale[1] - 0.5
    y = light[1] * scale[2] + scale[3] - 0.5
    last = float(size - 1)
    if not (x > -2.0 and y > -2.0 and x < last + 2.0 and y < last + 2.0):
        return 1.0
    # Where the plane nearly holds the sun's direction its slope is cut off: hardly any light falls there.
    tilt = wp.max(wp.abs(n[2]), 0.05 * (wp.abs(n[0]) + wp.abs(n[1])) + 1.0e-30)
    tilt = wp.where(n[2] < 0.0, -1.0 / tilt, 1.0 / tilt)
    slope_x = -n[0] * tilt * frame.texel[0]
    slope_y = -n[1] * tilt * frame.texel[1]
    ix = int(wp.floor(x))
    iy = int(wp.floor(y))
    left = wp.max(ix - 1, 0)
    right = wp.min(ix + 2, size - 1)
    top = wp.max(iy - 1, 0)
    bottom = wp.min(iy + 2, size - 1)
    # Nothing near stands higher than the lowest reference: lit, as most points are.
    coarse = size / TILE
    base = frame.shadow_base / wp.int64(TILE * TILE)
    upper = base + wp.int64((top / TILE) * coarse)
    lower = base + wp.int64((bottom / TILE) * coarse)
    highest = wp.max(
        wp.max(view.tiles[upper + wp.int64(left / TILE)], view.tiles[upper + wp.int64(right / TILE)]),
        wp.max(view.tiles[lower + wp.int64(left / TILE)], view.tiles[lower + wp.int64(right / TILE)]),
    )
    level = light[2] + bias
    if highest <= level - 2.0 * (wp.abs(slope_x) + wp.abs(slope_y)):
        return 1.0
    fx = x - float(ix)
    fy = y - float(iy)
    dark = float(0.0)
    for ty in range(top, bottom + 1):
        j = ty - iy
        line = frame.shadow_base + wp.int64(ty * size)
        at = level + slope_y * (float(j) - fy)
        row = float(0.0)
        for tx in range(left, right + 1):
            i = tx - ix
            weight = wp.where(i == -1, 1.0 - fx, wp.where(i == 2, fx, 1.0))
            row += wp.where(view.heights[line + wp.int64(tx)] > at + slope_x * (float(i) - fx), weight, 0.0)
        dark += row * wp.where(j == -1, 1.0 - fy, wp.where(j == 2, fy, 1.0))
    return 1.0 - dark * (1.0 / 9.0)


@wp.func
def sun_share(geo: Geometry, view: View, frame: FrameData, surface: Surface, row: int, at: wp.vec3) -> float:
    """Share of the sun that its shadow map lets through to the point `at` (camera frame) of a row."""
    # A sheet casts a shadow from the side that is lit, so it needs most of a texel.
    bias = wp.where(geo.rows[row].two_sided == 1, 0.75, 0.05) * wp.max(frame.texel[0], frame.texel[1])
    plane = frame.light_from_camera * surface.face_normal
    return lit_share(view, frame, frame.light_from_camera * at + frame.light_eye, plane, bias)


@wp.kernel
def tile_heights(view: View, tiles: wp.array(dtype=wp.float32)):
    """Greatest height of each TILE × TILE texels of the shadow maps, laid out as they are."""
    tid = wp.tid()
    coarse = view.shadow_size / TILE
    line = tid / coarse
    first = wp.int64(line * TILE * view.shadow_size) + wp.int64((tid - line * coarse) * TILE)
    highest = view.heights[first]
    for j in range(TILE):
        at = first + wp.int64(j * view.shadow_size)
        for i in range(TILE):
            highest = wp.max(highest, view.heights[at + wp.int64(i)])
    tiles[tid] = highest
