# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""Triangles cut by the near plane, as Warp functions."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Geometry, Row

wp.set_module_options(OPTIONS)

ONE = wp.constant(wp.float64(1.0))


@wp.struct
class Polygon:
    """A triangle cut by the near plane: up to four corners, and where they lie in the triangle."""

    count: wp.int32
    p0: wp.vec3d
    p1: wp.vec3d
    p2: wp.vec3d
    p3: wp.vec3d
    c0: wp.vec3
    c1: wp.vec3
    c2: wp.vec3
    c3: wp.vec3


@wp.func
def homogeneous(m: wp.mat33d, t: wp.vec3d, v: wp.vec3) -> wp.vec3d:
    """m·v + t in double precision."""
    return m * wp.vec3d(wp.float64(v[0]), wp.float64(v[1]), wp.float64(v[2])) + t


@wp.func
def corner(polygon: Polygon, p: wp.vec3d, c: wp.vec3) -> Polygon:
    """The polygon with one corner more."""
    if polygon.count == 0:
        polygon.p0 = p
        polygon.c0 = c
    elif polygon.count == 1:
        polygon.p1 = p
        polygon.c1 = c
    elif polygon.count == 2:
        polygon.p2 = p
        polygon.c2 = c
    else:
        polygon.p3 = p
        polygon.c3 = c
    polygon.count += 1
    return polygon


@wp.func
def unit(k: int) -> wp.vec3:
    """Barycentric coordinates of corner k."""
    return wp.vec3(wp.where(k == 0, 1.0, 0.0), wp.where(k == 1, 1.0, 0.0), wp.where(k == 2, 1.0, 0.0))


@wp.func
def clip_near(geo: Geometry, row: Row, face: wp.vec3i) -> Polygon:
    """Sutherland–Hodgman against z = near.

    A cut edge is always walked from its kept end, so two triangles that share it find the same point.
    """
    near = row.near
    first = row.first_vertex
    polygon = Polygon()
    for k in range(3):
        next = (k + 1) % 3
        a = homogeneous(row.linear, row.offset, geo.vertices[first + face[k]])
        b = homogeneous(row.linear, row.offset, geo.vertices[first + face[next]])
        keep = a[2] >= near
        if keep:
            w = ONE / a[2]
            polygon = corner(polygon, wp.vec3d(a[0] * w, a[1] * w, w), unit(k))
        if keep != (b[2] >= near):
            p = a
            q = b
            c = unit(k)
            d = unit(next)
            if not keep:
                p = b
                q = a
                c = unit(next)
                d = unit(k)
            s = (near - p[2]) / (q[2] - p[2])
            w = ONE / near
            at = wp.vec3d((p[0] + s * (q[0] - p[0])) * w, (p[1] + s * (q[1] - p[1])) * w, w)
            polygon = corner(polygon, at, c + wp.float32(s) * (d - c))
    return polygon
