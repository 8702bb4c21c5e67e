# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""How much of a light that has a size arrives, as Warp functions: the share of `samples` rays, each weighted
as the light is, so there is no noise outside penumbrae.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.environment import glimpse
from imgsynth.render.lightarrays import FrameLight, Lamp
from imgsynth.render.rays import Spot, blocked, in_the_clear
from imgsynth.render.surfaces import unit
from imgsynth.render.texturing import hashed

wp.set_module_options(OPTIONS)

GOLDEN = wp.constant(0.618033989)
GOLDEN_COSINE = wp.constant(-0.737368878)  # of the golden angle, 137.5°
GOLDEN_SINE = wp.constant(0.675490294)


@wp.func
def around(u: float) -> wp.vec2:
    """A unit vector for u in [0, 1), once around: along a diamond, so without the C library's sine."""
    t = 4.0 * u
    x = wp.abs(t - 2.0) - 1.0
    y = wp.where(t < 2.0, 1.0 - wp.abs(t - 1.0), wp.abs(t - 3.0) - 1.0)
    return wp.vec2(x, y) * (1.0 / wp.sqrt(x * x + y * y))


@wp.func
def across(toward: wp.vec3) -> wp.vec3:
    """A unit vector across a unit vector."""
    axis = wp.where(wp.abs(toward[2]) < 0.9, wp.vec3(0.0, 0.0, 1.0), wp.vec3(1.0, 0.0, 0.0))
    return unit(wp.cross(axis, toward))


@wp.func
def jitter(pixel: wp.vec2, seed: wp.uint32, which: int) -> wp.vec2:
    """Two numbers in [0, 1) of a pixel and a lamp."""
    x = int(wp.floor(pixel[0]))
    y = int(wp.floor(pixel[1]))
    salt = seed + wp.uint32(2 * which)
    return wp.vec2(hashed(x, y, salt), hashed(x, y, salt + wp.uint32(1)))


@wp.func
def ball_share(
    geo: Geometry, view: View, frame: FrameData, light: FrameLight, spot: Spot, to: wp.vec3, radius: float,
    at: wp.vec2,
) -> float:  # fmt: skip
    """Share of a ball of `radius` at spot + to that is seen: rays to a disc across, on Vogel's spiral.

    `at` turns the spiral and moves it along itself.
    """
    if radius <= 0.0:
        return wp.where(blocked(geo, view, frame, light, spot, to), 0.0, 1.0)
    if in_the_clear(view, frame, light, spot, to, radius):
        return 1.0
    count = view.lighting.samples
    toward = unit(to)
    x = across(toward)
    y = wp.cross(toward, x)
    turn = around(at[0])
    seen = float(0.0)
    for i in range(count):
        r = radius * wp.sqrt((float(i) + at[1]) / float(count))
        if not blocked(geo, view, frame, light, spot, to + (x * turn[0] + y * turn[1]) * r):
            seen += 1.0
        turn = wp.vec2(
            turn[0] * GOLDEN_COSINE - turn[1] * GOLDEN_SINE, turn[0] * GOLDEN_SINE + turn[1] * GOLDEN_COSINE
        )
    return seen / float(count)


@wp.func
def rectangle_share(
    geo: Geometry, view: View, frame: FrameData, light: FrameLight, lamp: Lamp, spot: Spot, n: wp.vec3,
    at: wp.vec2,
) -> float:  # fmt: skip
    """Share of a rectangle's light on a surface of normal n that arrives: rays to a Fibonacci lattice on it,
    moved by `at`, each weighted by the light of its place.
    """
    middle = lamp.position - spot.at
    if in_the_clear(view, frame, light, spot, middle, wp.length(lamp.half)):
        return 1.0
    count = view.lighting.samples
    total = float(1.0e-30)
    seen = float(0.0)
    for i in range(count):
        u = (float(i) + 0.5) / float(count) + at[0]
        w = float(i) * GOLDEN + at[1]
        u = 2.0 * (u - wp.floor(u)) - 1.0
        w = 2.0 * (w - wp.floor(w)) - 1.0
        to = middle + lamp.across * (u * lamp.half[0]) + lamp.upward * (w * lamp.half[1])
        far = wp.dot(to, to)
        weight = wp.max(wp.dot(n, to), 0.0) * wp.max(-wp.dot(lamp.direction, to), 0.0) / (far * far)
        if weight > 0.0:
            total += weight
            if not blocked(geo, view, frame, light, spot, to):
                seen += weight
    return seen / total


@wp.func
def radiance_around(view: View, frame: FrameData, light: FrameLight, d: wp.vec3, rough: float) -> wp.vec3:
    """Ambient radiance and the environment's, averaged under a lobe, in direction d (unit, camera frame)."""
    out = frame.ambient
    if light.environment >= 0:
        out += (
            glimpse(
                view.lighting.environments,
                view.lighting.levels,
                light.environment,
                light.map_from_camera * d,
                rough,
            )
            * light.environment_scale
        )
    return out


@wp.func
def open_share(
    geo: Geometry, view: View, frame: FrameData, light: FrameLight, spot: Spot, n: wp.vec3, at: wp.vec2
) -> wp.vec3:
    """Share of the light from around, on a surface of normal n, that no object and no ground stands before.

    Rays by the cosine's density on Vogel's spiral; each counts what comes from there, so an obstacle before a
    bright part of the sky takes more away. Objects that hide less than a 500th of the light are passed over.
    """
    one = wp.vec3(1.0, 1.0, 1.0)
    clear = bool(light.ground == 0 or spot.row >= view.rows)
    for r in range(frame.first_row, frame.last_row):
        if clear:
            o = view.lighting.occluders[r]
            away = o.center - spot.at
            if wp.dot(n, away) > -o.radius and o.radius * o.radius * 500.0 > wp.dot(away, away):
                clear = False
    if clear:
        return one
    count = view.lighting.samples
    x = across(n)
    y = wp.cross(n, x)
    turn = around(at[0])
    total = one * 1.0e-12
    seen = one * 1.0e-12
    for i in range(count):
        r2 = (float(i) + at[1]) / float(count)
        radius = wp.sqrt(r2)
        d = x * (turn[0] * radius) + y * (turn[1] * radius) + n * wp.sqrt(wp.max(1.0 - r2, 1.0e-4))
        weight = radiance_around(view, frame, light, d, 0.7)
        total += weight
        if not blocked(geo, view, frame, light, spot, d * light.far):
            seen += weight
        turn = wp.vec2(
            turn[0] * GOLDEN_COSINE - turn[1] * GOLDEN_SINE, turn[0] * GOLDEN_SINE + turn[1] * GOLDEN_COSINE
        )
    share = wp.cw_div(seen, total)
    return one + (share - one) * light.occlusion
