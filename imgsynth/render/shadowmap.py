# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, RUF046
"""Shadow maps as shading reads them: Warp functions.

A map holds, texel by texel, how far casters reach towards the light: metres of height for a sun, 1/z for a
lamp. Both are linear along a plane seen in the map.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, View

wp.set_module_options(OPTIONS)

TILE = wp.constant(8)  # texels a side of a shadow map's tiles


@wp.func
def map_share(
    view: View, start: wp.int64, size: int, x: float, y: float, level: float, slope_x: float, slope_y: float
) -> float:
    """Share of the light that reaches a point: 3×3 percentage-closer filtering with bilinear weights.

    The reference follows the receiver's own plane from texel to texel, so a plane needs no slope bias.

    Args:
        view: the shadow maps.
        start: offset of the map's first texel.
        size: texels a side.
        x: the point's column, counted from the middle of the first texel.
        y: its line.
        level: what a caster must exceed there, bias included.
        slope_x: how much more that is a texel to the right.
        slope_y: a texel down.
    """
    last = float(size - 1)
    if not (x > -2.0 and y > -2.0 and x < last + 2.0 and y < last + 2.0):
        return 1.0
    ix = int(wp.floor(x))
    iy = int(wp.floor(y))
    left = wp.max(ix - 1, 0)
    right = wp.min(ix + 2, size - 1)
    top = wp.max(iy - 1, 0)
    bottom = wp.min(iy + 2, size - 1)
    # Nothing near stands higher than the lowest reference: lit, as most points are.
    coarse = size / TILE
    base = start / wp.int64(TILE * TILE)
    upper = base + wp.int64((top / TILE) * coarse)
    lower = base + wp.int64((bottom / TILE) * coarse)
    highest = wp.max(
        wp.max(view.tiles[upper + wp.int64(left / TILE)], view.tiles[upper + wp.int64(right / TILE)]),
        wp.max(view.tiles[lower + wp.int64(left / TILE)], view.tiles[lower + wp.int64(right / TILE)]),
    )
    if highest <= level - 2.0 * (wp.abs(slope_x) + wp.abs(slope_y)):
        return 1.0
    fx = x - float(ix)
    fy = y - float(iy)
    dark = float(0.0)
    ty = int(top)
    while ty <= bottom:
        j = ty - iy
        line = start + wp.int64(ty * size)
        at = level + slope_y * (float(j) - fy)
        row = float(0.0)
        tx = int(left)
        while tx <= right:
            i = tx - ix
            weight = wp.where(i == -1, 1.0 - fx, wp.where(i == 2, fx, 1.0))
            row += wp.where(view.heights[line + wp.int64(tx)] > at + slope_x * (float(i) - fx), weight, 0.0)
            tx += 1
        dark += row * wp.where(j == -1, 1.0 - fy, wp.where(j == 2, fy, 1.0))
        ty += 1
    return 1.0 - dark * (1.0 / 9.0)


@wp.kernel
def tile_heights(
    heights: wp.array(dtype=wp.float32), size: wp.int32, start: wp.int64, tiles: wp.array(dtype=wp.float32)
):
    """Greatest height of each TILE × TILE texels of the maps of `size` texels a side that begin at `start`,
    laid out as they are.
    """
    tid = wp.tid()
    coarse = size / TILE
    line = tid / coarse
    first = start + wp.int64(line * TILE * size) + wp.int64((tid - line * coarse) * TILE)
    highest = heights[first]
    j = int(0)
    while j < TILE:
        at = first + wp.int64(j * size)
        i = int(0)
        while i < TILE:
            height = heights[at + wp.int64(i)]
            highest = wp.where(height > highest, height, highest)
            i += 1
        j += 1
    tiles[start / wp.int64(TILE * TILE) + wp.int64(tid)] = highest
