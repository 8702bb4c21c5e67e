# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""Light beyond a point-like sun and ambient radiance, as Warp functions: that of scenes with lamps,
environments, a sun that is a disc, or occlusion.

Diffuse light of a rectangle is exact (`polygon`), its gloss that of one point of it: the nearest to the
mirrored ray, the lobe's peak lowered by the lamp's size (Karis 2013, "Real shading in Unreal Engine 4", pp.
14–17). Shadows of points come from maps (`lampshadow`) or one ray, those of what has a size from many
(`shares`).
"""

from __future__ import annotations

import warp as wp

from imgsynth.batch import RECTANGLE, SPOT
from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.environment import from_environment, glimpse, reflectance, spread_light
from imgsynth.render.finish import Matter
from imgsynth.render.lampshadow import lamp_share
from imgsynth.render.lightarrays import FrameLight, Lamp
from imgsynth.render.polygon import arc_cosine, received, whole
from imgsynth.render.rays import Spot
from imgsynth.render.reflection import INVERSE_PI, lobe_width, power5, reflected, surrounded
from imgsynth.render.shares import ball_share, jitter, open_share, rectangle_share
from imgsynth.render.sunshadow import sun_share
from imgsynth.render.surfaces import Seen, Surface, unit
from imgsynth.render.texturing import background

wp.set_module_options(OPTIONS)

KIND_SPOT = wp.constant(SPOT)
KIND_RECTANGLE = wp.constant(RECTANGLE)
SUN = wp.constant(1 << 20)  # numbers of no lamp
AROUND = wp.constant((1 << 20) + 1)


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
def reach(lamp: Lamp, spot: Spot, n: wp.vec3) -> float:
    """What is left of a point's or spot's intensity, nothing before it, on a surface of normal n: 1/m²; 0
    where none of it falls on the lit side.
    """
    to = lamp.position - spot.at
    far2 = wp.dot(to, to)
    toward = to * (1.0 / wp.max(wp.sqrt(far2), 1.0e-9))
    if wp.dot(n, toward) <= 0.0:
        return 0.0
    strength = 1.0 / wp.max(far2, 1.0e-12)
    if lamp.kind == KIND_SPOT:
        beyond = lamp.cone[1] - arc_cosine(-wp.dot(toward, lamp.direction))
        strength = strength * wp.clamp(beyond / wp.max(lamp.cone[1] - lamp.cone[0], 1.0e-6), 0.0, 1.0)
    return strength


@wp.func
def from_ball(lamp: Lamp, spot: Spot, m: Matter, n: wp.vec3, v: wp.vec3, strength: float) -> wp.vec3:
    """Light of a point or spot reflected to v, `strength` of it (see `reach`) arriving."""
    to = lamp.position - spot.at
    far = wp.sqrt(wp.dot(to, to))
    toward = to * (1.0 / wp.max(far, 1.0e-9))
    radius = lamp.half[0] / wp.max(far, lamp.half[0] + 1.0e-9)
    return disc_light(m, n, v, toward, radius, lamp.radiant * strength)


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
def from_around(
    view: View, frame: FrameData, light: FrameLight, m: Matter, n: wp.vec3, v: wp.vec3
) -> wp.vec3:
    """Ambient radiance and the environment map reflected to v, nothing before them."""
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    out = surrounded(m, nv, frame.ambient)
    if light.environment >= 0:
        mirrored = light.map_from_camera * (n * (2.0 * wp.dot(n, v)) - v)
        gloss = glimpse(
            view.lighting.environments, view.lighting.levels, light.environment, unit(mirrored), m.rough
        )
        wide = spread_light(
            view.lighting.environments, view.lighting.levels, light.environment, light.map_from_camera * n
        )
        out += (
            from_environment(m, reflectance(view.lighting.shades, nv, m.rough), gloss, wide)
            * light.environment_scale
        )
    return out


@wp.func
def sun_falls(frame: FrameData, n: wp.vec3) -> bool:
    """Whether a sun shines on the lit side of a surface of normal n."""
    sun = frame.irradiance
    return wp.dot(n, frame.sun) > 0.0 and sun[0] + sun[1] + sun[2] > 0.0


@wp.func
def spot_of(seen: Seen, surface: Surface, v: wp.vec3, at: wp.vec3) -> Spot:
    """The lit point `at` of a surface seen from v."""
    spot = Spot()
    spot.at = at
    spot.row = seen.row
    spot.face = unit(surface.face_normal)
    spot.face = spot.face * wp.where(wp.dot(spot.face, v) < 0.0, -1.0, 1.0)
    return spot


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
    spot = spot_of(seen, surface, v, at)
    out = from_around(view, frame, light, m, n, v)
    if light.occlusion > 0.0:
        out = wp.cw_mul(out, open_share(geo, view, frame, light, spot, n, jitter(pixel, light.seed, AROUND)))
    if sun_falls(frame, n):
        share = float(1.0)
        if light.sun_shadows == 1 and light.sun_radius > 0.0:
            to = frame.sun * light.far
            place = jitter(pixel, light.seed, SUN)
            share = ball_share(geo, view, frame, light, spot, to, light.far * light.sun_radius, place)
        elif frame.shadow_base >= wp.int64(0):
            share = sun_share(geo, view, frame, surface, spot.row, spot.at)
        if share > 0.0:
            out += disc_light(m, n, v, frame.sun, light.sun_radius, frame.irradiance * share)
    for i in range(light.first_lamp, light.last_lamp):
        lamp = view.lighting.lamps[i]
        place = jitter(pixel, light.seed, i - light.first_lamp)
        if lamp.kind == KIND_RECTANGLE:
            out += from_rectangle(geo, view, frame, light, lamp, spot, m, n, v, place)
        else:
            strength = reach(lamp, spot, n)
            if strength > 0.0 and lamp.shadows == 1:
                to = lamp.position - spot.at
                if lamp.last_map > lamp.first_map:
                    strength = strength * lamp_share(geo, view, light, lamp, spot, to)
                else:
                    strength = strength * ball_share(geo, view, frame, light, spot, to, lamp.half[0], place)
            if strength > 0.0:
                out += from_ball(lamp, spot, m, n, v, strength)
    return out + m.emission


@wp.func
def lit_by_maps(
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
    """What `lit` gives where nothing asks for rays and no lamp is a rectangle, several times as fast.

    It is inlined, so that no structs are copied for each call, as long as it stays small: the sun and the
    lamps share one loop and one reflection.
    """
    light = view.lighting.frames[frame.number]
    spot = spot_of(seen, surface, v, at)
    out = from_around(view, frame, light, m, n, v)
    for i in range(light.first_lamp - 1, light.last_lamp):
        strength = float(0.0)
        toward = frame.sun
        radiant = frame.irradiance
        radius = light.sun_radius
        if i < light.first_lamp:
            if sun_falls(frame, n):
                strength = 1.0
                if frame.shadow_base >= wp.int64(0):
                    strength = sun_share(geo, view, frame, surface, spot.row, spot.at)
        else:
            lamp = view.lighting.lamps[i]
            to = lamp.position - spot.at
            far = wp.sqrt(wp.dot(to, to))
            toward = to * (1.0 / wp.max(far, 1.0e-9))
            radiant = lamp.radiant
            radius = lamp.half[0] / wp.max(far, lamp.half[0] + 1.0e-9)
            strength = reach(lamp, spot, n)
            if strength > 0.0 and lamp.last_map > lamp.first_map:
                strength = strength * lamp_share(geo, view, light, lamp, spot, to)
        if strength > 0.0:
            out += disc_light(m, n, v, toward, radius, radiant * strength)
    return out + m.emission


@wp.func
def surroundings(geo: Geometry, view: View, frame: FrameData, x: float, y: float, looked: wp.vec3) -> wp.vec3:
    """The environment map along the ray `looked` where the frame shows it, else the background."""
    light = view.lighting.frames[frame.number]
    if light.visible == 1 and light.environment >= 0:
        d = light.map_from_camera * unit(frame.camera_ray * looked)
        return (
            glimpse(view.lighting.environments, view.lighting.levels, light.environment, d, 0.0)
            * light.environment_scale
        )
    return background(geo, view, frame, x, y)
