# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""The shadows of point-like lamps, from their maps: Warp functions. `lampmaps` makes the maps."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Geometry, View
from imgsynth.render.lightarrays import FrameLight, Lamp
from imgsynth.render.rays import Spot, past_ground
from imgsynth.render.shadowmap import map_share

wp.set_module_options(OPTIONS)


@wp.func
def lamp_share(geo: Geometry, view: View, light: FrameLight, lamp: Lamp, spot: Spot, to: wp.vec3) -> float:
    """Share of a lamp's light that its maps and the ground let through to spot + `to` (camera frame).

    In a lamp's map 1/z is linear along a plane: n·p = d makes it n·(u, v, 1) / d, so the reference follows
    the receiver's plane exactly.
    """
    if past_ground(view, light, spot, to):
        return 0.0
    which = lamp.first_map
    farthest = float(-1.0)
    for k in range(lamp.first_map, lamp.last_map):
        along = -wp.dot(view.lighting.maps[k].forward, to)
        if along > farthest:
            farthest = along
            which = k
    m = view.lighting.maps[which]
    if m.base < wp.int64(0) or farthest <= 0.0:
        return 1.0
    w = 1.0 / farthest
    x = -wp.dot(m.right, to) * w * m.scale[0] + m.scale[1] - 0.5
    y = -wp.dot(m.down, to) * w * m.scale[2] + m.scale[3] - 0.5
    nx = wp.dot(m.right, spot.face)
    ny = wp.dot(m.down, spot.face)
    # Where the plane nearly holds the ray its slope is cut off: hardly any light falls there.
    d = -wp.dot(to, spot.face)
    tilt = wp.max(wp.abs(d), 0.05 * farthest * (wp.abs(nx) + wp.abs(ny)) + 1.0e-30)
    tilt = wp.where(d < 0.0, -1.0 / tilt, 1.0 / tilt)
    # A sheet casts a shadow from the side that is lit, so it needs most of a texel; and single precision
    # knows the point to some 1e-6 of its distance.
    texel = wp.max(1.0 / m.scale[0], 1.0 / m.scale[2])
    bias = wp.where(geo.rows[spot.row].two_sided == 1, 0.75, 0.05) * texel
    bias = bias + 2.0e-6 * wp.length(spot.at) * w
    return map_share(view, m.base, m.size, x, y, w + bias * w, nx * tilt / m.scale[0], ny * tilt / m.scale[2])
