# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""Deferred shading and labels from a visibility buffer: Warp kernels, one source for CPU and CUDA.

Each pixel's samples are grouped by the surface they see (an instance's material slot, and faces that point the
same way); a group is shaded once, at the mean of its samples, in the camera's frame.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Geometry, View
from imgsynth.render.texturing import background, filtered

wp.set_module_options(OPTIONS)

EMPTY = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
NOTHING = wp.constant(-1)
DZERO = wp.constant(wp.float64(0.0))
DONE = wp.constant(wp.float64(1.0))
DHALF = wp.constant(wp.float64(0.5))
PI = wp.constant(3.14159265358979)
DIELECTRIC = wp.constant(0.04)  # normal reflectance of an index of refraction of 1.5
LEAST_ROUGHNESS = wp.constant(0.045)  # below it the highlight of a point-like sun is no longer a picture
SAME_FACE = wp.constant(0.9)  # cosine from which neighbouring faces share one shading point


@wp.struct
class Seen:
    """What a sample sees: row (an instance, or a ground), triangle of its mesh; row -1 is the background."""

    row: wp.int32
    triangle: wp.int32


@wp.struct
class Surface:
    """A surface point, in the camera's frame."""

    depth: wp.float64
    normal: wp.vec3  # interpolated, unit, facing the camera
    face_normal: wp.vec3  # of the plane, any length, any side
    uv: wp.vec2
    du: wp.vec2
    dv: wp.vec2
    light: wp.vec3  # (x, y, height) in the shadow map's frame, metres
    material: wp.int32


@wp.func
def seen_at(geo: Geometry, view: View, frame: int, at: wp.int64, x: float, y: float) -> Seen:
    """Resolve one sample's key against the ground at image point (x, y)."""
    seen = Seen()
    seen.row = NOTHING
    seen.triangle = 0
    key = view.keys[at]
    w = float(0.0)
    if key != EMPTY:
        w = wp.cast(~wp.uint32(key >> wp.uint64(32)), wp.float32)
    plane = view.ground[frame]
    ground = float(plane[0] * wp.float64(x) + plane[1] * wp.float64(y) + plane[2])
    if ground > w and ground <= view.inverse_near[frame]:
        seen.row = view.rows + frame
        return seen
    if key == EMPTY:
        return seen
    id = int(wp.uint32(key & wp.uint64(0xFFFFFFFF)))
    low = view.first_row[frame]
    high = view.first_row[frame + 1]
    while high - low > 1:
        middle = (low + high) / 2
        if geo.first_id[middle] <= id:
            low = middle
        else:
            high = middle
    seen.row = low
    seen.triangle = id - geo.first_id[low]
    return seen


@wp.func
def to_double(v: wp.vec3) -> wp.vec3d:
    """The same vector in double precision."""
    return wp.vec3d(wp.float64(v[0]), wp.float64(v[1]), wp.float64(v[2]))


@wp.func
def to_single(v: wp.vec3d) -> wp.vec3:
    """The same vector in single precision."""
    return wp.vec3(wp.float32(v[0]), wp.float32(v[1]), wp.float32(v[2]))


@wp.func
def face_cross(geo: Geometry, seen: Seen) -> wp.vec3:
    """Cross product of a triangle's edges in its object frame."""
    face = geo.faces[geo.first_face[seen.row] + seen.triangle]
    first = geo.first_vertex[seen.row]
    a = geo.vertices[first + face[0]]
    return wp.cross(geo.vertices[first + face[1]] - a, geo.vertices[first + face[2]] - a)


@wp.func
def same_surface(geo: Geometry, view: View, a: Seen, b: Seen) -> bool:
    """Whether two samples may share one shading point."""
    if a.row != b.row:
        return False
    if a.triangle == b.triangle or a.row >= view.rows:
        return True
    first = geo.first_face[a.row]
    if geo.slots[first + a.triangle] != geo.slots[first + b.triangle]:
        return False
    u = face_cross(geo, a)
    v = face_cross(geo, b)
    c = wp.dot(u, v)
    return c > 0.0 and c * c > SAME_FACE * SAME_FACE * wp.dot(u, u) * wp.dot(v, v)


@wp.func
def ground_surface(geo: Geometry, view: View, seen: Seen, q: wp.vec3d) -> Surface:
    """The ground plane along the ray through image point q = (x, y, 1)."""
    row = seen.row
    out = Surface()
    m = view.ray[row]
    d = m * q
    origin = view.origin[row]
    t = (view.ground_height[row - view.rows] - origin[2]) / d[2]
    p = origin + d * t
    out.depth = t
    up = view.normal[row] * wp.vec3(0.0, 0.0, 1.0)
    # Seen from below, the plane's other side faces the camera.
    out.normal = wp.where(d[2] > DZERO, -up, up)
    out.face_normal = up
    out.uv = wp.vec2(wp.float32(p[0]), wp.float32(p[1]))
    # Moving one pixel moves the hit along the ray too, so that it stays in the plane.
    sx = m[2, 0] / d[2]
    sy = m[2, 1] / d[2]
    out.du = wp.vec2(wp.float32(t * (m[0, 0] - d[0] * sx)), wp.float32(t * (m[1, 0] - d[1] * sx)))
    out.dv = wp.vec2(wp.float32(t * (m[0, 1] - d[0] * sy)), wp.float32(t * (m[1, 1] - d[1] * sy)))
    out.light = to_single(view.light[row] * p + view.light_offset[row])
    out.material = geo.materials[row, 0]
    return out


@wp.func
def mesh_surface(geo: Geometry, view: View, seen: Seen, q: wp.vec3d) -> Surface:
    """The triangle seen along the ray through image point q = (x, y, 1).

    Seen from the eye, corner i weighs as the volume that the ray spans with the opposite edge; this needs no
    projected vertices, so it holds for triangles cut by the near plane too.
    """
    row = seen.row
    index = geo.first_face[row] + seen.triangle
    face = geo.faces[index]
    first = geo.first_vertex[row]
    ia = first + face[0]
    ib = first + face[1]
    ic = first + face[2]
    m = view.ray[row]
    origin = view.origin[row]
    a = to_double(geo.vertices[ia]) - origin
    b = to_double(geo.vertices[ib]) - origin
    c = to_double(geo.vertices[ic]) - origin
    na = wp.cross(b, c)
    nb = wp.cross(c, a)
    nc = wp.cross(a, b)
    d = m * q
    wa = wp.dot(d, na)
    wb = wp.dot(d, nb)
    wc = wp.dot(d, nc)
    sum = wa + wb + wc
    inverse = DONE / sum
    wa = wp.clamp(wa * inverse, DZERO, DONE)
    wb = wp.clamp(wb * inverse, DZERO, DONE)
    wc = wp.clamp(wc * inverse, DZERO, DONE)
    inside = DONE / (wa + wb + wc)  # 1, unless a mean of samples fell beside the triangle
    wa = wa * inside
    wb = wb * inside
    wc = wc * inside
    fa = wp.float32(wa)
    fb = wp.float32(wb)
    fc = wp.float32(wc)

    out = Surface()
    out.depth = wp.dot(a, na) * inverse
    out.face_normal = view.normal[row] * to_single(na + nb + nc)
    n = view.normal[row] * (geo.normals[ia] * fa + geo.normals[ib] * fb + geo.normals[ic] * fc)
    if sum > DZERO and geo.two_sided[row] == 1:
        n = -n  # seen from behind
    out.normal = n
    out.light = to_single(view.light[row] * (origin + a * wa + b * wb + c * wc) + view.light_offset[row])
    out.material = geo.materials[row, geo.slots[index]]
    out.uv = geo.uv[ia] * fa + geo.uv[ib] * fb + geo.uv[ic] * fc
    if out.material >= 0:
        if geo.texture[out.material] >= 0:
            ua = geo.uv[ia]
            ub = geo.uv[ib]
            uc = geo.uv[ic]
            mx = wp.vec3d(m[0, 0], m[1, 0], m[2, 0])
            my = wp.vec3d(m[0, 1], m[1, 1], m[2, 1])
            xa = wp.dot(mx, na) * inverse
            xb = wp.dot(mx, nb) * inverse
            xc = wp.dot(mx, nc) * inverse
            ya = wp.dot(my, na) * inverse
            yb = wp.dot(my, nb) * inverse
            yc = wp.dot(my, nc) * inverse
            out.du = ua * wp.float32(xa) + ub * wp.float32(xb) + uc * wp.float32(xc)
            out.du = out.du - out.uv * wp.float32(xa + xb + xc)
            out.dv = ua * wp.float32(ya) + ub * wp.float32(yb) + uc * wp.float32(yc)
            out.dv = out.dv - out.uv * wp.float32(ya + yb + yc)
    return out


@wp.func
def facing(n: wp.vec3, to_eye: wp.vec3) -> wp.vec3:
    """Unit normal, turned just so far that it does not point away from the eye (smooth normals may, at a rim)."""
    unit = wp.normalize(n)
    away = wp.dot(unit, to_eye)
    if away < 0.0:
        unit = wp.normalize(unit - to_eye * away)
    return unit


@wp.func
def lit_share(view: View, frame: int, surface: Surface, bias: float) -> float:
    """Share of the sun that reaches a point, 3×3 percentage-closer filtering with bilinear weights.

    The reference height follows the receiver's own plane from texel to texel, so a plane needs no slope bias.
    """
    base = view.shadow_base[frame]
    if base < wp.int64(0):
        return 1.0
    size = view.shadow_size
    to_texel = view.shadow_map[frame]
    x = surface.light[0] * to_texel[0] + to_texel[1]
    y = surface.light[1] * to_texel[2] + to_texel[3]
    if x < -1.0 or y < -1.0 or x > float(size) + 1.0 or y > float(size) + 1.0:
        return 1.0
    n = view.light_from_camera[frame] * surface.face_normal
    tilt = wp.max(wp.abs(n[2]), 1.0e-6 + 0.05 * wp.length(n))
    tilt = wp.where(n[2] < 0.0, -tilt, tilt)
    slope_x = -n[0] / (tilt * to_texel[0])
    slope_y = -n[1] / (tilt * to_texel[2])
    ix = int(wp.floor(x - 0.5))
    iy = int(wp.floor(y - 0.5))
    fx = x - 0.5 - float(ix)
    fy = y - 0.5 - float(iy)
    start = surface.light[2] + bias
    dark = float(0.0)
    for j in range(-1, 3):
        ty = iy + j
        if ty >= 0 and ty < size:
            wy = float(1.0)
            if j == -1:
                wy = 1.0 - fy
            if j == 2:
                wy = fy
            line = base + wp.int64(ty * size)
            level = start + slope_y * (float(ty) + 0.5 - y)
            for i in range(-1, 3):
                tx = ix + i
                if tx >= 0 and tx < size:
                    if view.height[line + wp.int64(tx)] > level + slope_x * (float(tx) + 0.5 - x):
                        wx = float(1.0)
                        if i == -1:
                            wx = 1.0 - fx
                        if i == 2:
                            wx = fx
                        dark += wx * wy
    return 1.0 - dark / 9.0


@wp.func
def power5(x: float) -> float:
    """x⁵."""
    return x * x * x * x * x


@wp.func
def radiance(
    albedo: wp.vec3, metallic: float, roughness: float, n: wp.vec3, v: wp.vec3, to_sun: wp.vec3, sun: wp.vec3, ambient: wp.vec3
) -> wp.vec3:  # fmt: skip
    """Light reflected to v: metallic-roughness BSDF under a sun and a constant environment.

    Trowbridge–Reitz distribution, height-correlated Smith masking, Schlick's Fresnel term (glTF 2.0 appendix B);
    Lambert below it, weighted by (1 - F)(1 - metallic). `sun` is the irradiance on a surface facing it that
    passed the shadow test. The environment reflects by Fresnel's term at n·v, held down by roughness, so a white
    furnace is never outshone.
    """
    f0 = wp.vec3(DIELECTRIC, DIELECTRIC, DIELECTRIC) * (1.0 - metallic) + albedo * metallic
    diffuse = albedo * (1.0 - metallic)
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    gloss = 1.0 - roughness
    edge = power5(1.0 - nv)
    f = f0 + (wp.max(wp.vec3(gloss, gloss, gloss), f0) - f0) * edge
    out = wp.cw_mul(ambient, diffuse - wp.cw_mul(diffuse, f) + f)
    nl = wp.dot(n, to_sun)
    if nl > 0.0:
        h = wp.normalize(to_sun + v)
        nh = wp.clamp(wp.dot(n, h), 0.0, 1.0)
        rough = wp.max(roughness, LEAST_ROUGHNESS)
        a2 = rough * rough * rough * rough
        fs = f0 + (wp.vec3(1.0, 1.0, 1.0) - f0) * power5(1.0 - wp.clamp(wp.dot(v, h), 0.0, 1.0))
        spread = nh * nh * (a2 - 1.0) + 1.0
        d = a2 / (PI * spread * spread)
        smith = nl * wp.sqrt(nv * nv * (1.0 - a2) + a2) + nv * wp.sqrt(nl * nl * (1.0 - a2) + a2)
        out += wp.cw_mul(sun * nl, (diffuse - wp.cw_mul(diffuse, fs)) / PI + fs * (d * 0.5 / smith))
    return out


@wp.func
def shaded(
    geo: Geometry, view: View, frame: int, seen: Seen, surface: Surface, n: wp.vec3, v: wp.vec3
) -> wp.vec3:
    """Radiance of a surface point towards the camera."""
    material = surface.material
    if material < 0:
        return wp.vec3(0.0, 0.0, 0.0)
    albedo = geo.base_color[material]
    if geo.texture[material] >= 0:
        s = geo.uv_scale[material]
        at = wp.vec2(surface.uv[0] * s[0], 1.0 - surface.uv[1] * s[1])
        du = wp.vec2(surface.du[0] * s[0], -surface.du[1] * s[1])
        dv = wp.vec2(surface.dv[0] * s[0], -surface.dv[1] * s[1])
        albedo = wp.cw_mul(albedo, filtered(geo, geo.texture[material], at, du, dv, False))
    sun = view.irradiance[frame]
    to_sun = view.sun[frame]
    if wp.dot(n, to_sun) > 0.0 and (sun[0] > 0.0 or sun[1] > 0.0 or sun[2] > 0.0):
        texel = 1.0 / wp.max(view.shadow_map[frame][0], 1.0e-9)
        bias = texel * wp.where(seen.row < view.rows and geo.two_sided[seen.row] == 1, 0.75, 0.05)
        sun = sun * lit_share(view, frame, surface, bias)
    return geo.emission[material] + radiance(
        albedo, geo.metallic[material], geo.roughness[material], n, v, to_sun, sun, view.ambient[frame]
    )


@wp.kernel
def shade(
    geo: Geometry,
    view: View,
    labels: wp.int32,
    color: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
    normal: wp.array(dtype=wp.vec3),
    instance: wp.array(dtype=wp.int32),
    ids: wp.array(dtype=wp.int32),
    span: wp.int32,
):
    """Shade `span` pixels of a row of the image; fill colour (labels 0), labels (1) or both (2, one sample a pixel)."""
    tid = wp.tid()
    k = view.samples
    width = view.size[0]
    first = tid * span
    line = first / width
    frame = line / view.size[1]
    y = line - frame * view.size[1]
    step = 1.0 / float(k)
    corner = (wp.int64(line) * wp.int64(k)) * wp.int64(width * k)
    for pixel in range(first, wp.min(first + span, (line + 1) * width)):
        x = pixel - line * width
        left = corner + wp.int64(x * k)
        done = wp.uint64(0)
        for s in range(k * k):
            if ((done >> wp.uint64(s)) & wp.uint64(1)) == wp.uint64(0):
                sx = s % k
                sy = s / k
                at = left + wp.int64(sy) * wp.int64(width * k) + wp.int64(sx)
                px = float(x) + (float(sx) + 0.5) * step
                py = float(y) + (float(sy) + 0.5) * step
                seen = seen_at(geo, view, frame, at, px, py)
                group = wp.uint64(1) << wp.uint64(s)
                if k > 1:
                    mx = px
                    my = py
                    count = float(1.0)
                    for r in range(s + 1, k * k):
                        if ((done >> wp.uint64(r)) & wp.uint64(1)) == wp.uint64(0):
                            rx = r % k
                            ry = r / k
                            qx = float(x) + (float(rx) + 0.5) * step
                            qy = float(y) + (float(ry) + 0.5) * step
                            other = seen_at(
                                geo,
                                view,
                                frame,
                                left + wp.int64(ry) * wp.int64(width * k) + wp.int64(rx),
                                qx,
                                qy,
                            )
                            if same_surface(geo, view, seen, other):
                                group = group | (wp.uint64(1) << wp.uint64(r))
                                mx += qx
                                my += qy
                                count += 1.0
                    px = mx / count
                    py = my / count
                done = done | group
                c = wp.vec3(0.0, 0.0, 0.0)
                if seen.row == NOTHING:
                    if labels != 1:
                        c = background(geo, view, frame, px, py)
                    if labels != 0:
                        depth[pixel] = wp.inf
                        normal[pixel] = c * 0.0
                        instance[pixel] = 0
                else:
                    q = wp.vec3d(wp.float64(px), wp.float64(py), DONE)
                    surface = Surface()
                    if seen.row >= view.rows:
                        surface = ground_surface(geo, view, seen, q)
                    else:
                        surface = mesh_surface(geo, view, seen, q)
                    v = -wp.normalize(view.camera_ray[frame] * wp.vec3(px, py, 1.0))
                    n = facing(surface.normal, v)
                    if labels != 1:
                        c = shaded(geo, view, frame, seen, surface, n, v)
                    if labels != 0:
                        depth[pixel] = wp.float32(surface.depth)
                        normal[pixel] = n
                        instance[pixel] = ids[seen.row]
                if labels != 1:
                    for r in range(s, k * k):
                        if ((group >> wp.uint64(r)) & wp.uint64(1)) == wp.uint64(1):
                            color[left + wp.int64(r / k) * wp.int64(width * k) + wp.int64(r % k)] = c
