# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""Shadow rays, as Warp functions: past bounding spheres, then through each object's own tree of volumes."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.lightarrays import FrameLight
from imgsynth.render.visibility import there

wp.set_module_options(OPTIONS)

MOST_HOLES = wp.constant(16)  # transparent texels that a ray goes through before it counts as stopped


@wp.struct
class Spot:
    """A lit point: where shadow rays start."""

    at: wp.vec3  # camera frame
    face: wp.vec3  # unit normal of its triangle, on the side of the camera
    row: wp.int32  # its instance, or a ground


@wp.func
def near_segment(center: wp.vec3, radius: float, start: wp.vec3, to: wp.vec3) -> bool:
    """Whether a sphere comes within its radius of the segment from start to start + to."""
    return near_cone(center, radius, start, to, 0.0)


@wp.func
def near_cone(center: wp.vec3, radius: float, start: wp.vec3, to: wp.vec3, reach: float) -> bool:
    """Whether a sphere comes within the cone from start to a ball of radius `reach` at start + to."""
    away = center - start
    long = wp.dot(to, to) + 1.0e-30
    t = wp.clamp(wp.dot(away, to) / long, 0.0, 1.0)
    d = away - to * t
    wide = radius + reach * wp.min(t + radius / wp.sqrt(long), 1.0)
    return wp.dot(d, d) < wide * wide


@wp.func
def in_the_clear(
    view: View, frame: FrameData, light: FrameLight, spot: Spot, to: wp.vec3, reach: float
) -> bool:
    """Whether nothing can stand between a point and all that lies within `reach` of spot + to."""
    if light.ground == 1:
        if light.eye_height + wp.dot(light.up, spot.at + to) < reach:
            return False
    for r in range(frame.first_row, frame.last_row):
        o = view.lighting.occluders[r]
        if near_cone(o.center, o.radius, spot.at, to, reach):
            return False
    return True


@wp.func
def stopped(geo: Geometry, view: View, row: int, start: wp.vec3, to: wp.vec3) -> bool:
    """Whether instance `row` stops the ray from start to start + to (camera frame)."""
    o = view.lighting.occluders[row]
    s = o.matrix * start + o.origin
    d = o.matrix * to
    if geo.rows[row].cutout == 0:
        return wp.mesh_query_ray_anyhit(o.mesh, s, d, 1.0)
    left = float(1.0)
    for _hole in range(MOST_HOLES):
        hit = wp.mesh_query_ray(o.mesh, s, d, left)
        if not hit.result:
            return False
        # Warp's u and v weigh the first two corners.
        if there(geo, geo.rows[row], row, hit.face, wp.vec3(hit.u, hit.v, 1.0 - hit.u - hit.v)):
            return True
        step = hit.t + 1.0e-4
        s = s + d * step
        left -= step
        if left <= 0.0:
            return False
    return True


@wp.func
def leeway(spot: Spot) -> float:
    """Metres that a point may be off: single precision knows it to some 1e-6 of its distance."""
    return 2.0e-5 * (wp.length(spot.at) + 1.0e-3)


@wp.func
def past_ground(view: View, light: FrameLight, spot: Spot, to: wp.vec3) -> bool:
    """Whether the ground lies between a point of an object and spot + to (camera frame)."""
    if light.ground == 1:
        gap = leeway(spot)
        here = light.eye_height + wp.dot(light.up, spot.at)
        lamp = here + wp.dot(light.up, to)
        if spot.row < view.rows:
            if (here < -gap and lamp > 0.0) or (here > gap and lamp < 0.0):
                return True
    return False


@wp.func
def blocked(geo: Geometry, view: View, frame: FrameData, light: FrameLight, spot: Spot, to: wp.vec3) -> bool:
    """Whether anything stops the light on the segment from a point to spot + to (camera frame).

    A point whose triangle is turned from the light, while its smooth normal is not, is not shadowed by its
    own object: the normal already says how its light fades.
    """
    facing = wp.dot(spot.face, to)
    gap = leeway(spot)
    start = spot.at + spot.face * wp.where(facing < 0.0, -gap, gap)
    if past_ground(view, light, spot, to):
        return True
    for r in range(frame.first_row, frame.last_row):
        if not (r == spot.row and facing <= 0.0):
            o = view.lighting.occluders[r]
            if near_segment(o.center, o.radius, start, to):
                if stopped(geo, view, r, start, to):
                    return True
    return False
