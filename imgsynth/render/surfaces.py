# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""What a sample of the visibility buffer sees, and the surface there: Warp functions."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import (
    NEEDS_POINT,
    NEEDS_SLOPE,
    NEEDS_UV,
    OPTIONS,
    FrameData,
    Geometry,
    View,
)

wp.set_module_options(OPTIONS)

EMPTY = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
NOTHING = wp.constant(-1)
DONE = wp.constant(wp.float64(1.0))
LYING = wp.constant(1.0 + 1.0e-6)  # what lies on the ground, to rounding, is seen on it, not speckled by it
UV = wp.constant(NEEDS_UV)
POINT = wp.constant(NEEDS_POINT)
SLOPE = wp.constant(NEEDS_SLOPE)
SAME_FACE = wp.constant(0.9)  # cosine from which neighbouring faces share one shading point


@wp.struct
class Seen:
    """What a sample sees: row (an instance, or a ground), triangle of its mesh; row -1 is the background."""

    row: wp.int32
    triangle: wp.int32
    w: wp.float32  # inverse depth


@wp.struct
class Surface:
    """A surface point, in the camera's frame."""

    depth: wp.float32
    normal: wp.vec3  # interpolated, any length, on the side that the camera sees
    face_normal: wp.vec3  # of the plane, any length, any side
    uv: wp.vec2
    du: wp.vec2  # change over one pixel in x
    dv: wp.vec2  # and in y
    material: wp.int32
    # Where the material needs it:
    point: wp.vec3  # object frame, scaled: metres
    dx: wp.vec3  # its change over one pixel in x
    dy: wp.vec3  # and in y
    across: wp.vec3  # normal of the plane in that frame, any length
    slope_u: wp.vec3  # gradient of u in the camera's frame, any length
    slope_v: wp.vec3  # and of v


@wp.func
def seen_at(geo: Geometry, view: View, frame: FrameData, f: int, at: wp.int64, point: wp.vec2d) -> Seen:
    """Resolve the key at offset `at` of frame number f against the ground at an image point."""
    seen = Seen()
    seen.row = NOTHING
    seen.triangle = 0
    seen.w = 0.0
    key = view.keys[at]
    w = float(0.0)
    if key != EMPTY:
        w = wp.cast(~wp.uint32(key >> wp.uint64(32)), wp.float32)
    plane = frame.ground
    ground = float(plane[0] * point[0] + plane[1] * point[1] + plane[2])
    if ground > w * LYING and ground <= frame.inverse_near:
        seen.row = view.rows + f
        seen.w = ground
        return seen
    seen.w = w
    if key == EMPTY:
        return seen
    id = int(wp.uint32(key & wp.uint64(0xFFFFFFFF)))
    low = frame.first_row
    high = frame.last_row
    while high - low > 1:
        middle = (low + high) / 2
        if geo.rows[middle].first_id <= id:
            low = middle
        else:
            high = middle
    seen.row = low
    seen.triangle = id - geo.rows[low].first_id
    return seen


@wp.func
def looked_at(view: View, frame: FrameData, f: int, at: wp.int64) -> wp.vec2d:
    """The straight image point, in pixels, of the sample at offset `at` of frame number f, under a lens."""
    return view.points[wp.int64(frame.lens - f) * view.per_frame + at]


@wp.func
def bent_footprint(
    view: View, frame: FrameData, f: int, at: wp.int64, line: int, per_pixel: int, surface: Surface
) -> Surface:
    """`surface` with its changes over one pixel of the picture, not of the straight image any more.

    Args:
        view: the points.
        frame: its frame.
        f: its number.
        at: offset of a sample of it.
        line: samples in a line.
        per_pixel: samples along a pixel's side.
        surface: of that sample.
    """
    first = wp.int64(f) * view.per_frame
    row = int((at - first) / wp.int64(line))
    column = int((at - first) - wp.int64(row) * wp.int64(line))
    ahead = wp.where(column + 1 < line, 1, -1)
    below = wp.where(row + 1 < int(view.per_frame / wp.int64(line)), 1, -1)
    own = wp.int64(frame.lens) * view.per_frame + at - first
    p = view.points[own]
    x = view.points[own + wp.int64(wp.where(line > 1, ahead, 0))] - p
    y = view.points[own + wp.int64(wp.where(view.per_frame > wp.int64(line), below * line, 0))] - p
    sx = wp.float64(ahead * per_pixel)
    sy = wp.float64(below * per_pixel)
    du = surface.du
    dv = surface.dv
    surface.du = du * wp.float32(x[0] * sx) + dv * wp.float32(x[1] * sx)
    surface.dv = du * wp.float32(y[0] * sy) + dv * wp.float32(y[1] * sy)
    dx = surface.dx
    dy = surface.dy
    surface.dx = dx * wp.float32(x[0] * sx) + dy * wp.float32(x[1] * sx)
    surface.dy = dx * wp.float32(y[0] * sy) + dy * wp.float32(y[1] * sy)
    return surface


@wp.func
def to_double(v: wp.vec3) -> wp.vec3d:
    """The same vector in double precision."""
    return wp.vec3d(wp.float64(v[0]), wp.float64(v[1]), wp.float64(v[2]))


@wp.func
def to_single(v: wp.vec3d) -> wp.vec3:
    """The same vector in single precision."""
    return wp.vec3(wp.float32(v[0]), wp.float32(v[1]), wp.float32(v[2]))


@wp.func
def unit(v: wp.vec3) -> wp.vec3:
    """v at length 1; zero stays zero."""
    return v * (1.0 / wp.sqrt(wp.dot(v, v) + 1.0e-30))


@wp.func
def face_cross(geo: Geometry, seen: Seen) -> wp.vec3:
    """Cross product of a triangle's edges in its object frame."""
    row = geo.rows[seen.row]
    face = geo.faces[row.first_face + seen.triangle]
    first = row.first_vertex
    a = geo.vertices[first + face[0]]
    return wp.cross(geo.vertices[first + face[1]] - a, geo.vertices[first + face[2]] - a)


@wp.func
def same_surface(geo: Geometry, view: View, a: Seen, b: Seen) -> bool:
    """Whether two samples may share one shading point."""
    if a.row != b.row:
        return False
    if a.triangle == b.triangle or a.row >= view.rows:
        return True
    first = geo.rows[a.row].first_face
    slot = geo.slots[first + a.triangle]
    if slot != geo.slots[first + b.triangle]:
        return False
    material = geo.slot_materials[a.row, slot]
    if material >= 0:
        if (geo.materials[material].needs & UV) != 0:
            # Texture coordinates run on from one triangle to another only where they share a vertex.
            p = geo.faces[first + a.triangle]
            q = geo.faces[first + b.triangle]
            if p[0] != q[0] and p[0] != q[1] and p[0] != q[2]:
                if p[1] != q[0] and p[1] != q[1] and p[1] != q[2]:
                    if p[2] != q[0] and p[2] != q[1] and p[2] != q[2]:
                        return False
    u = face_cross(geo, a)
    v = face_cross(geo, b)
    c = wp.dot(u, v)
    return c > 0.0 and c * c > SAME_FACE * SAME_FACE * wp.dot(u, u) * wp.dot(v, v)


@wp.func
def ground_surface(geo: Geometry, frame: FrameData, seen: Seen, point: wp.vec2d) -> Surface:
    """The ground plane along the ray through an image point."""
    row = geo.rows[seen.row]
    out = Surface()
    plane = frame.ground
    t = DONE / (plane[0] * point[0] + plane[1] * point[1] + plane[2])
    q = wp.vec3(wp.float32(point[0]), wp.float32(point[1]), 1.0)
    out.depth = wp.float32(t)
    up = wp.vec3(row.normal[0, 2], row.normal[1, 2], row.normal[2, 2])
    m = row.ray
    d = m * q
    out.normal = wp.where(d[2] > 0.0, -up, up)  # from below, the plane's other side is seen
    out.face_normal = up
    out.material = geo.slot_materials[seen.row, 0]
    needs = geo.materials[out.material].needs
    if needs != 0:
        # Moving one pixel moves the hit along the ray too, so that it stays in the plane.
        sx = m[2, 0] / d[2]
        sy = m[2, 1] / d[2]
        px = wp.float32(row.origin[0] + t * wp.float64(d[0]))
        py = wp.float32(row.origin[1] + t * wp.float64(d[1]))
        out.uv = wp.vec2(px, py)
        out.du = wp.vec2(m[0, 0] - d[0] * sx, m[1, 0] - d[1] * sx) * out.depth
        out.dv = wp.vec2(m[0, 1] - d[0] * sy, m[1, 1] - d[1] * sy) * out.depth
        out.point = wp.vec3(px, py, wp.float32(frame.ground_height))
        out.dx = wp.vec3(out.du[0], out.du[1], 0.0)
        out.dy = wp.vec3(out.dv[0], out.dv[1], 0.0)
        out.across = wp.vec3(0.0, 0.0, 1.0)
        out.slope_u = wp.vec3(row.normal[0, 0], row.normal[1, 0], row.normal[2, 0])
        out.slope_v = wp.vec3(row.normal[0, 1], row.normal[1, 1], row.normal[2, 1])
    return out


@wp.func
def mesh_surface(geo: Geometry, seen: Seen, q: wp.vec3, exact: bool) -> Surface:
    """The triangle seen along the ray through image point q = (x, y, 1).

    It works on the triangle itself, in its object's frame, not on projected vertices: so it holds for
    triangles cut by the near plane too. Where q is the sample itself (`exact`) the depth is the visibility
    buffer's; else it is where the ray meets the triangle's plane.
    """
    row = geo.rows[seen.row]
    index = row.first_face + seen.triangle
    face = geo.faces[index]
    ia = row.first_vertex + face[0]
    ib = row.first_vertex + face[1]
    ic = row.first_vertex + face[2]
    a = geo.vertices[ia]
    ab = geo.vertices[ib] - a
    ac = geo.vertices[ic] - a
    g = wp.cross(ab, ac)
    d = row.ray * q
    eye = to_single(row.origin - to_double(a))
    toward = wp.dot(d, g)
    t = 1.0 / seen.w
    if not exact:
        t = -wp.dot(eye, g) / toward
    # Corner weights are linear in the point: gradients gb, gc.
    scale = 1.0 / wp.dot(g, g)
    gb = wp.cross(ac, g) * scale
    gc = wp.cross(g, ab) * scale
    p = eye + d * t
    fb = wp.clamp(wp.dot(p, gb), 0.0, 1.0)
    fc = wp.clamp(wp.dot(p, gc), 0.0, 1.0 - fb)
    fa = 1.0 - fb - fc

    out = Surface()
    out.depth = t
    out.face_normal = row.normal * g
    out.normal = row.normal * (geo.normals[ia] * fa + geo.normals[ib] * fb + geo.normals[ic] * fc)
    if toward > 0.0 and row.two_sided == 1:
        out.normal = -out.normal  # seen from behind
    out.material = geo.slot_materials[seen.row, geo.slots[index]]
    if out.material >= 0:
        needs = geo.materials[out.material].needs
        if needs != 0:
            toward = wp.where(wp.abs(toward) < 1.0e-30, 1.0e-30, toward)
            px = wp.vec3(row.ray[0, 0], row.ray[1, 0], row.ray[2, 0])
            py = wp.vec3(row.ray[0, 1], row.ray[1, 1], row.ray[2, 1])
            px = (px - d * (wp.dot(px, g) / toward)) * t
            py = (py - d * (wp.dot(py, g) / toward)) * t
            if (needs & UV) != 0:
                ua = geo.uv[ia]
                ub = geo.uv[ib] - ua
                uc = geo.uv[ic] - ua
                out.uv = ua + ub * fb + uc * fc
                out.du = ub * wp.dot(px, gb) + uc * wp.dot(px, gc)
                out.dv = ub * wp.dot(py, gb) + uc * wp.dot(py, gc)
                if (needs & SLOPE) != 0:
                    out.slope_u = row.normal * (gb * ub[0] + gc * uc[0])
                    out.slope_v = row.normal * (gb * ub[1] + gc * uc[1])
            if (needs & POINT) != 0:
                out.point = wp.cw_mul(a + ab * fb + ac * fc, row.scale)
                out.dx = wp.cw_mul(px, row.scale)
                out.dy = wp.cw_mul(py, row.scale)
                out.across = wp.cw_div(g, row.scale)
    return out


@wp.func
def facing(n: wp.vec3, to_eye: wp.vec3) -> wp.vec3:
    """Unit normal, turned just so far that it does not point away, as smooth normals may at a rim."""
    out = unit(n)
    away = wp.dot(out, to_eye)
    if away < 0.0:
        out = unit(out - to_eye * away)
    return out
