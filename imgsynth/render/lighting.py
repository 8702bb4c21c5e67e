# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""Light beyond a point-like sun and ambient radiance, as Warp functions: that of scenes with lamps,
environments, a sun that is a disc, or occlusion.

Diffuse light of a rectangle is exact (`polygon`), its gloss that of one point of it: the nearest to the
mirrored ray, the lobe's peak lowered by the lamp's size (Karis 2013, "Real shading in Unreal Engine 4", pp.
14–17). Shadows of what has a size are the share, weighted as light is, of `samples` rays that arrive: no
noise outside penumbrae.
"""

from __future__ import annotations

import warp as wp

from imgsynth.batch import RECTANGLE, SPOT
from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.environment import from_environment, glimpse, reflectance, spread_light
from imgsynth.render.finish import Matter
from imgsynth.render.lightarrays import FrameLight, Lamp
from imgsynth.render.polygon import arc_cosine, received, whole
from imgsynth.render.rays import Spot, blocked, in_the_clear
from imgsynth.render.reflection import INVERSE_PI, lobe_width, power5, reflected, surrounded
from imgsynth.render.sunshadow import sun_share
from imgsynth.render.surfaces import Seen, Surface, unit
from imgsynth.render.texturing import background, hashed

wp.set_module_options(OPTIONS)

KIND_SPOT = wp.constant(SPOT)
KIND_RECTANGLE = wp.constant(RECTANGLE)
SUN = wp.constant(1 << 20)  # numbers of no lamp
AROUND = wp.constant((1 << 20) + 1)
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
def flattened(a2: float, spread: float) -> float:
    """Peak of a lobe of α² when the light's nearest point to the mirrored ray stands for all of it: α⁴ / (α +
    spread)², for a light that fills a cone of half angle 2·`spread` (Karis 2013, p. 16).
    """
    a = wp.min(wp.sqrt(a2) + spread, 1.0)
    return a2 * a2 / (a * a)


@wp.func
def disc_light(m: Matter, n: wp.vec3, v: wp.vec3, toward: wp.vec3, radius: float, light: wp.vec3) -> wp.vec3:
    """Reflected to v of a disc about direction `toward`, `radius` wide at distance 1, n·toward above 0.

    `light` is its irradiance on a surface facing it.
    """
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    nl = wp.dot(n, toward)
    a2 = lobe_width(m.rough)
    if radius > 0.0:
        r = n * (2.0 * wp.dot(n, v)) - v
        away = r * wp.dot(r, toward) - toward
        best = unit(toward + away * wp.min(radius / wp.max(wp.length(away), 1.0e-9), 1.0))
        near = wp.dot(n, best)
        # The best place stands for the lobe alone: the disc's light falls as its middle's does.
        if near > 0.1 * nl:
            return reflected(
                m, a2, flattened(a2, 0.5 * radius), near, nv, wp.dot(v, best), light * (nl / near)
            )
    return reflected(m, a2, a2, nl, nv, wp.dot(v, toward), light)


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
def from_ball(
    geo: Geometry, view: View, frame: FrameData, light: FrameLight, lamp: Lamp, spot: Spot, m: Matter,
    n: wp.vec3, v: wp.vec3, at: wp.vec2,
) -> wp.vec3:  # fmt: skip
    """Light of a point or spot lamp reflected to v."""
    to = lamp.position - spot.at
    far2 = wp.dot(to, to)
    far = wp.sqrt(far2)
    toward = to * (1.0 / wp.max(far, 1.0e-9))
    nl = wp.dot(n, toward)
    strength = 1.0 / wp.max(far2, 1.0e-12)
    if lamp.kind == KIND_SPOT:
        beyond = lamp.cone[1] - arc_cosine(-wp.dot(toward, lamp.direction))
        strength = strength * wp.clamp(beyond / wp.max(lamp.cone[1] - lamp.cone[0], 1.0e-6), 0.0, 1.0)
    if nl <= 0.0 or strength <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    if lamp.shadows == 1:
        strength = strength * ball_share(geo, view, frame, light, spot, to, lamp.half[0], at)
        if strength <= 0.0:
            return wp.vec3(0.0, 0.0, 0.0)
    return disc_light(
        m, n, v, toward, lamp.half[0] / wp.max(far, lamp.half[0] + 1.0e-9), lamp.radiant * strength
    )


@wp.func
def nearest_to_ray(lamp: Lamp, middle: wp.vec3, r: wp.vec3) -> wp.vec3:
    """The point of a rectangle (`middle` from here) nearest, in its plane, to where the ray r meets that."""
    toward = wp.dot(r, lamp.direction)
    t = float(1.0e4) * wp.length(middle)
    if toward < -1.0e-4:
        t = wp.dot(middle, lamp.direction) / toward
    q = r * t - middle
    x = wp.clamp(wp.dot(q, lamp.across), -lamp.half[0], lamp.half[0])
    y = wp.clamp(wp.dot(q, lamp.upward), -lamp.half[1], lamp.half[1])
    return middle + lamp.across * x + lamp.upward * y


@wp.func
def from_rectangle(
    geo: Geometry, view: View, frame: FrameData, light: FrameLight, lamp: Lamp, spot: Spot, m: Matter,
    n: wp.vec3, v: wp.vec3, at: wp.vec2,
) -> wp.vec3:  # fmt: skip
    """Light of a rectangle reflected to v."""
    black = wp.vec3(0.0, 0.0, 0.0)
    middle = lamp.position - spot.at
    if wp.dot(middle, lamp.direction) >= 0.0:
        return black
    x = lamp.across * lamp.half[0]
    y = lamp.upward * lamp.half[1]
    irradiance = received(n, middle - x - y, middle + x - y, middle + x + y, middle - x + y)
    if irradiance <= 0.0:
        return black
    share = float(1.0)
    if lamp.shadows == 1:
        share = rectangle_share(geo, view, frame, light, lamp, spot, n, at)
        if share <= 0.0:
            return black
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    # Facing the lamp: the direction, and the size, of its vector irradiance.
    flow = whole(middle - x - y, middle + x - y, middle + x + y, middle - x + y)
    flow = flow * wp.where(wp.dot(flow, middle) < 0.0, -1.0, 1.0)
    size = wp.length(flow)
    half = wp.sqrt(0.5 * wp.max(1.0 + wp.dot(flow, v) / wp.max(size, 1.0e-9), 0.0))
    fresnel = m.f0 + (wp.vec3(1.0, 1.0, 1.0) - m.f0) * power5(1.0 - wp.min(half, 1.0))
    out = (m.diffuse - wp.cw_mul(m.diffuse, fresnel)) * (irradiance * INVERSE_PI)
    toward = unit(nearest_to_ray(lamp, middle, n * (2.0 * wp.dot(n, v)) - v))
    nl = wp.dot(n, toward)
    if nl > 0.0:
        gloss = m
        gloss.diffuse = black
        a2 = lobe_width(m.rough)
        peak = flattened(a2, 0.5 * wp.sqrt(size * INVERSE_PI))
        # A wide lobe sees what diffuse light sees, a narrow one nothing of the horizon that cuts the lamp.
        facing = size + (irradiance / nl - size) * wp.sqrt(a2)
        out += reflected(gloss, a2, peak, nl, nv, wp.dot(v, toward), wp.vec3(facing, facing, facing))
    return wp.cw_mul(out, lamp.radiant) * share


@wp.func
def radiance_around(view: View, frame: FrameData, light: FrameLight, d: wp.vec3, rough: float) -> wp.vec3:
    """Ambient radiance and the environment's, averaged under a lobe, in direction d (unit, camera frame)."""
    out = frame.ambient
    if light.environment >= 0:
        out += glimpse(view, light.environment, light.map_from_camera * d, rough) * light.environment_scale
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


@wp.func
def from_around(
    view: View, frame: FrameData, light: FrameLight, m: Matter, n: wp.vec3, v: wp.vec3
) -> wp.vec3:
    """Ambient radiance and the environment map reflected to v, nothing before them."""
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    out = surrounded(m, nv, frame.ambient)
    if light.environment >= 0:
        mirrored = light.map_from_camera * (n * (2.0 * wp.dot(n, v)) - v)
        gloss = glimpse(view, light.environment, unit(mirrored), m.rough)
        wide = spread_light(view, light.environment, light.map_from_camera * n)
        out += from_environment(m, reflectance(view, nv, m.rough), gloss, wide) * light.environment_scale
    return out


@wp.func
def from_sun(
    geo: Geometry, view: View, frame: FrameData, light: FrameLight, surface: Surface, spot: Spot, m: Matter,
    n: wp.vec3, v: wp.vec3, at: wp.vec2,
) -> wp.vec3:  # fmt: skip
    """Sunlight reflected to v: shadows from the map where the sun is a point, by rays where it is a disc."""
    sun = frame.irradiance
    if wp.dot(n, frame.sun) <= 0.0 or sun[0] + sun[1] + sun[2] <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    share = float(1.0)
    if light.sun_shadows == 1 and light.sun_radius > 0.0:
        reach = light.far * light.sun_radius
        share = ball_share(geo, view, frame, light, spot, frame.sun * light.far, reach, at)
    elif frame.shadow_base >= wp.int64(0):
        share = sun_share(geo, view, frame, surface, spot.row, spot.at)
    if share <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    return disc_light(m, n, v, frame.sun, light.sun_radius, sun * share)


@wp.func
def lit(
    geo: Geometry,
    view: View,
    frame: FrameData,
    seen: Seen,
    surface: Surface,
    m: Matter,
    n: wp.vec3,
    v: wp.vec3,
    at: wp.vec3,
    pixel: wp.vec2,
) -> wp.vec3:
    """Radiance towards the camera from all light of a scene; the arguments are those of `sunlit`."""
    light = view.lighting.frames[frame.number]
    spot = Spot()
    spot.at = at
    spot.row = seen.row
    spot.face = unit(surface.face_normal)
    spot.face = spot.face * wp.where(wp.dot(spot.face, v) < 0.0, -1.0, 1.0)
    out = from_around(view, frame, light, m, n, v)
    if light.occlusion > 0.0:
        out = wp.cw_mul(out, open_share(geo, view, frame, light, spot, n, jitter(pixel, light.seed, AROUND)))
    out += from_sun(geo, view, frame, light, surface, spot, m, n, v, jitter(pixel, light.seed, SUN))
    for i in range(light.first_lamp, light.last_lamp):
        lamp = view.lighting.lamps[i]
        place = jitter(pixel, light.seed, i - light.first_lamp)
        if lamp.kind == KIND_RECTANGLE:
            out += from_rectangle(geo, view, frame, light, lamp, spot, m, n, v, place)
        else:
            out += from_ball(geo, view, frame, light, lamp, spot, m, n, v, place)
    return out + m.emission


@wp.func
def surroundings(geo: Geometry, view: View, frame: FrameData, x: float, y: float, looked: wp.vec3) -> wp.vec3:
    """The environment map along the ray `looked` where the frame shows it, else the background."""
    light = view.lighting.frames[frame.number]
    if light.visible == 1 and light.environment >= 0:
        d = light.map_from_camera * unit(frame.camera_ray * looked)
        return glimpse(view, light.environment, d, 0.0) * light.environment_scale
    return background(geo, view, frame, x, y)
