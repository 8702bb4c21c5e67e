# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""The shadows of a point-like sun, from its map: Warp functions."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.shadowmap import map_share
from imgsynth.render.surfaces import Surface

wp.set_module_options(OPTIONS)


@wp.func
def lit_share(view: View, frame: FrameData, light: wp.vec3, n: wp.vec3, bias: float) -> float:
    """Share of the sun that reaches a point; see `map_share`.

    Args:
        view: the shadow maps.
        frame: its frame.
        light: the point, (x, y, height) in light space.
        n: the receiver's plane normal in light space, any length and sign.
        bias: height that a caster must stand out by, metres.
    """
    scale = frame.shadow_map
    x = light[0] * scale[0] + scale[1] - 0.5
    y = light[1] * scale[2] + scale[3] - 0.5
    # Where the plane nearly holds the sun's direction its slope is cut off: hardly any light falls there.
    tilt = wp.max(wp.abs(n[2]), 0.05 * (wp.abs(n[0]) + wp.abs(n[1])) + 1.0e-30)
    tilt = wp.where(n[2] < 0.0, -1.0 / tilt, 1.0 / tilt)
    slope_x = -n[0] * tilt * frame.texel[0]
    slope_y = -n[1] * tilt * frame.texel[1]
    return map_share(view, frame.shadow_base, view.shadow_size, x, y, light[2] + bias, slope_x, slope_y)


@wp.func
def sun_share(geo: Geometry, view: View, frame: FrameData, surface: Surface, row: int, at: wp.vec3) -> float:
    """Share of the sun that its shadow map lets through to the point `at` (camera frame) of a row."""
    # A sheet casts a shadow from the side that is lit, so it needs most of a texel.
    bias = wp.where(geo.rows[row].two_sided == 1, 0.75, 0.05) * wp.max(frame.texel[0], frame.texel[1])
    plane = frame.light_from_camera * surface.face_normal
    return lit_share(view, frame, frame.light_from_camera * at + frame.light_eye, plane, bias)
