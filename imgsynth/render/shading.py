# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""Deferred shading and labels from a visibility buffer: Warp kernels, one source for CPU and CUDA.

Each pixel's samples are grouped by the surface they see (an instance's material slot, and faces that point
the same way); a group is shaded once, at the mean of its samples, in the camera's frame.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, Material, View
from imgsynth.render.texturing import background, filtered

wp.set_module_options(OPTIONS)

EMPTY = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
NOTHING = wp.constant(-1)
NONE = wp.constant(wp.uint64(0))
ONE = wp.constant(wp.uint64(1))
TILE = wp.constant(8)  # texels a side of a shadow map's tiles
DONE = wp.constant(wp.float64(1.0))
INVERSE_PI = wp.constant(0.318309886)
DIELECTRIC = wp.constant(0.04)  # normal reflectance of an index of refraction of 1.5
LEAST_ROUGHNESS = wp.constant(0.045)  # below it the highlight of a point-like sun is no longer a picture
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


@wp.func
def seen_at(geo: Geometry, view: View, frame: FrameData, f: int, at: wp.int64, x: float, y: float) -> Seen:
    """Resolve the key at offset `at` of frame number f against the ground at image point (x, y)."""
    seen = Seen()
    seen.row = NOTHING
    seen.triangle = 0
    seen.w = 0.0
    key = view.keys[at]
    w = float(0.0)
    if key != EMPTY:
        w = wp.cast(~wp.uint32(key >> wp.uint64(32)), wp.float32)
    plane = frame.ground
    ground = float(plane[0] * wp.float64(x) + plane[1] * wp.float64(y) + plane[2])
    if ground > w and ground <= frame.inverse_near:
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
    if geo.slots[first + a.triangle] != geo.slots[first + b.triangle]:
        return False
    u = face_cross(geo, a)
    v = face_cross(geo, b)
    c = wp.dot(u, v)
    return c > 0.0 and c * c > SAME_FACE * SAME_FACE * wp.dot(u, u) * wp.dot(v, v)


@wp.func
def ground_surface(geo: Geometry, frame: FrameData, seen: Seen, q: wp.vec3) -> Surface:
    """The ground plane along the ray through image point q = (x, y, 1)."""
    row = geo.rows[seen.row]
    out = Surface()
    plane = frame.ground
    t = DONE / (plane[0] * wp.float64(q[0]) + plane[1] * wp.float64(q[1]) + plane[2])
    out.depth = wp.float32(t)
    up = wp.vec3(row.normal[0, 2], row.normal[1, 2], row.normal[2, 2])
    m = row.ray
    d = m * q
    out.normal = wp.where(d[2] > 0.0, -up, up)  # from below, the plane's other side is seen
    out.face_normal = up
    out.material = geo.slot_materials[seen.row, 0]
    if geo.materials[out.material].texture >= 0:
        out.uv = wp.vec2(
            wp.float32(row.origin[0] + t * wp.float64(d[0])), wp.float32(row.origin[1] + t * wp.float64(d[1]))
        )
        # Moving one pixel moves the hit along the ray too, so that it stays in the plane.
        sx = m[2, 0] / d[2]
        sy = m[2, 1] / d[2]
        out.du = wp.vec2(m[0, 0] - d[0] * sx, m[1, 0] - d[1] * sx) * out.depth
        out.dv = wp.vec2(m[0, 1] - d[0] * sy, m[1, 1] - d[1] * sy) * out.depth
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
        if geo.materials[out.material].texture >= 0:
            ua = geo.uv[ia]
            ub = geo.uv[ib] - ua
            uc = geo.uv[ic] - ua
            out.uv = ua + ub * fb + uc * fc
            toward = wp.where(wp.abs(toward) < 1.0e-30, 1.0e-30, toward)
            px = wp.vec3(row.ray[0, 0], row.ray[1, 0], row.ray[2, 0])
            py = wp.vec3(row.ray[0, 1], row.ray[1, 1], row.ray[2, 1])
            px = (px - d * (wp.dot(px, g) / toward)) * t
            py = (py - d * (wp.dot(py, g) / toward)) * t
            out.du = ub * wp.dot(px, gb) + uc * wp.dot(px, gc)
            out.dv = ub * wp.dot(py, gb) + uc * wp.dot(py, gc)
    return out


@wp.func
def facing(n: wp.vec3, to_eye: wp.vec3) -> wp.vec3:
    """Unit normal, turned just so far that it does not point away, as smooth normals may at a rim."""
    out = unit(n)
    away = wp.dot(out, to_eye)
    if away < 0.0:
        out = unit(out - to_eye * away)
    return out


@wp.func
def lit_share(view: View, frame: FrameData, light: wp.vec3, n: wp.vec3, bias: float) -> float:
    """Share of the sun that reaches a point: 3×3 percentage-closer filtering with bilinear weights.

    The reference height follows the receiver's own plane from texel to texel, so a plane needs no slope bias.

    Args:
        view: the shadow maps.
        frame: its frame.
        light: the point, (x, y, height) in light space.
        n: the receiver's plane normal in light space, any length and sign.
        bias: height that a caster must stand out by, metres.
    """
    size = view.shadow_size
    scale = frame.shadow_map
    x = light[0] * scale[0] + scale[1] - 0.5
    y = light[1] * scale[2] + scale[3] - 0.5
    last = float(size - 1)
    if not (x > -2.0 and y > -2.0 and x < last + 2.0 and y < last + 2.0):
        return 1.0
    # Where the plane nearly holds the sun's direction its slope is cut off: hardly any light falls there.
    tilt = wp.max(wp.abs(n[2]), 0.05 * (wp.abs(n[0]) + wp.abs(n[1])) + 1.0e-30)
    tilt = wp.where(n[2] < 0.0, -1.0 / tilt, 1.0 / tilt)
    slope_x = -n[0] * tilt * frame.texel[0]
    slope_y = -n[1] * tilt * frame.texel[1]
    ix = int(wp.floor(x))
    iy = int(wp.floor(y))
    left = wp.max(ix - 1, 0)
    right = wp.min(ix + 2, size - 1)
    top = wp.max(iy - 1, 0)
    bottom = wp.min(iy + 2, size - 1)
    # Nothing near stands higher than the lowest reference: lit, as most points are.
    coarse = size / TILE
    base = frame.shadow_base / wp.int64(TILE * TILE)
    upper = base + wp.int64((top / TILE) * coarse)
    lower = base + wp.int64((bottom / TILE) * coarse)
    highest = wp.max(
        wp.max(view.tiles[upper + wp.int64(left / TILE)], view.tiles[upper + wp.int64(right / TILE)]),
        wp.max(view.tiles[lower + wp.int64(left / TILE)], view.tiles[lower + wp.int64(right / TILE)]),
    )
    level = light[2] + bias
    if highest <= level - 2.0 * (wp.abs(slope_x) + wp.abs(slope_y)):
        return 1.0
    fx = x - float(ix)
    fy = y - float(iy)
    dark = float(0.0)
    for ty in range(top, bottom + 1):
        j = ty - iy
        line = frame.shadow_base + wp.int64(ty * size)
        at = level + slope_y * (float(j) - fy)
        row = float(0.0)
        for tx in range(left, right + 1):
            i = tx - ix
            weight = wp.where(i == -1, 1.0 - fx, wp.where(i == 2, fx, 1.0))
            row += wp.where(view.heights[line + wp.int64(tx)] > at + slope_x * (float(i) - fx), weight, 0.0)
        dark += row * wp.where(j == -1, 1.0 - fy, wp.where(j == 2, fy, 1.0))
    return 1.0 - dark * (1.0 / 9.0)


@wp.func
def power5(x: float) -> float:
    """x⁵."""
    square = x * x
    return square * square * x


@wp.func
def rim(f0: float, rough: float, grazing: float) -> float:
    """Reflectance of a constant environment: Schlick's, rising at most to 1 - roughness."""
    top = 1.0 - rough
    top = wp.where(top > f0, top, f0)
    return f0 + (top - f0) * grazing


@wp.func
def radiance(
    material: Material,
    albedo: wp.vec3,
    n: wp.vec3,
    v: wp.vec3,
    to_sun: wp.vec3,
    sun: wp.vec3,
    ambient: wp.vec3,
) -> wp.vec3:
    """Light reflected to v: metallic-roughness BSDF under a sun and a constant environment.

    Trowbridge–Reitz distribution, height-correlated Smith masking and Schlick's Fresnel term as in glTF 2.0,
    appendix B; Lambert below it, weighted by (1 - F)(1 - metallic). `sun` is the irradiance, on a surface
    facing it, that passed the shadow test. The environment reflects by Fresnel's term at n·v, held down by
    roughness, so a white furnace is never outshone.
    """
    rough = material.roughness
    f0 = wp.vec3(DIELECTRIC, DIELECTRIC, DIELECTRIC) * (1.0 - material.metallic) + albedo * material.metallic
    diffuse = albedo * (1.0 - material.metallic)
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    grazing = power5(1.0 - nv)
    f = wp.vec3(rim(f0[0], rough, grazing), rim(f0[1], rough, grazing), rim(f0[2], rough, grazing))
    out = wp.cw_mul(ambient, diffuse - wp.cw_mul(diffuse, f) + f)
    nl = wp.dot(n, to_sun)
    if nl > 0.0 and sun[0] + sun[1] + sun[2] > 0.0:
        # With h the unit vector along v + sun: |v + sun|² = 2 + 2 v·sun gives n·h and v·h without h itself.
        across = wp.max(1.0 + wp.dot(v, to_sun), 1.0e-6)
        nh2 = wp.min(0.5 * (nl + nv) * (nl + nv) / across, 1.0)
        a = wp.max(rough, LEAST_ROUGHNESS)
        a2 = a * a * a * a
        fs = f0 + (wp.vec3(1.0, 1.0, 1.0) - f0) * power5(1.0 - wp.min(wp.sqrt(0.5 * across), 1.0))
        spread = nh2 * (a2 - 1.0) + 1.0
        smith = nl * wp.sqrt(nv * nv * (1.0 - a2) + a2) + nv * wp.sqrt(nl * nl * (1.0 - a2) + a2)
        lobe = 0.5 * INVERSE_PI * a2 / (spread * spread * smith)
        out += wp.cw_mul(sun * nl, (diffuse - wp.cw_mul(diffuse, fs)) * INVERSE_PI + fs * lobe)
    return out + material.emission


@wp.func
def shaded(
    geo: Geometry,
    view: View,
    frame: FrameData,
    two_sided: int,
    surface: Surface,
    n: wp.vec3,
    v: wp.vec3,
    at: wp.vec3,
) -> wp.vec3:
    """Radiance towards the camera of the surface point `at` (camera frame)."""
    if surface.material < 0:
        return wp.vec3(0.0, 0.0, 0.0)
    material = geo.materials[surface.material]
    albedo = material.base_color
    if material.texture >= 0:
        s = material.uv_scale
        uv = wp.vec2(surface.uv[0] * s[0], 1.0 - surface.uv[1] * s[1])
        du = wp.vec2(surface.du[0] * s[0], -surface.du[1] * s[1])
        dv = wp.vec2(surface.dv[0] * s[0], -surface.dv[1] * s[1])
        albedo = wp.cw_mul(albedo, filtered(geo, material.texture, uv, du, dv, False))
    sun = frame.irradiance
    if frame.shadow_base >= wp.int64(0) and wp.dot(n, frame.sun) > 0.0:
        # A sheet casts a shadow from the side that is lit, so it needs most of a texel.
        bias = wp.where(two_sided == 1, 0.75, 0.05) * wp.max(frame.texel[0], frame.texel[1])
        plane = frame.light_from_camera * surface.face_normal
        sun = sun * lit_share(view, frame, frame.light_from_camera * at + frame.light_eye, plane, bias)
    return radiance(material, albedo, n, v, frame.sun, sun, frame.ambient)


@wp.kernel
def tile_heights(view: View, tiles: wp.array(dtype=wp.float32)):
    """Greatest height of each TILE × TILE texels of the shadow maps, laid out as they are."""
    tid = wp.tid()
    coarse = view.shadow_size / TILE
    line = tid / coarse
    first = wp.int64(line * TILE * view.shadow_size) + wp.int64((tid - line * coarse) * TILE)
    highest = view.heights[first]
    for j in range(TILE):
        at = first + wp.int64(j * view.shadow_size)
        for i in range(TILE):
            highest = wp.max(highest, view.heights[at + wp.int64(i)])
    tiles[tid] = highest


@wp.kernel
def shade(
    geo: Geometry,
    view: View,
    labels: wp.int32,
    color: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
    normal: wp.array(dtype=wp.vec3),
    instance: wp.array(dtype=wp.int32),
    span: wp.int32,
):
    """Shade `span` pixels (1, or a whole line) a thread.

    Fills colour (`labels` 0), labels (1), or both (2, at one sample a pixel only).
    """
    first = wp.tid() * span
    k = view.samples
    count = k * k
    width = view.width
    line = width * k  # samples
    row = first / width
    f = row / view.height
    frame = view.frames[f]
    y = float(row - f * view.height)
    step = 1.0 / float(k)
    turn = 65536 / k + 1  # s / k = (s · turn) >> 16 for s < 64
    left = wp.int64(row) * wp.int64(k * line) + wp.int64((first - row * width) * k)
    for i in range(span):
        pixel = first + i
        x = float(pixel - row * width)
        done = wp.uint64(0)
        for s in range(count):
            if ((done >> wp.uint64(s)) & ONE) == NONE:
                sy = (s * turn) >> 16
                sx = s - sy * k
                px = x + (float(sx) + 0.5) * step
                py = y + (float(sy) + 0.5) * step
                seen = seen_at(geo, view, frame, f, left + wp.int64(sy * line + sx), px, py)
                group = ONE << wp.uint64(s)
                if count > 1:
                    mx = px
                    my = py
                    size = float(1.0)
                    for r in range(s + 1, count):
                        if ((done >> wp.uint64(r)) & ONE) == NONE:
                            ry = (r * turn) >> 16
                            rx = r - ry * k
                            qx = x + (float(rx) + 0.5) * step
                            qy = y + (float(ry) + 0.5) * step
                            other = seen_at(geo, view, frame, f, left + wp.int64(ry * line + rx), qx, qy)
                            if same_surface(geo, view, seen, other):
                                group = group | (ONE << wp.uint64(r))
                                mx += qx
                                my += qy
                                size += 1.0
                    px = mx / size
                    py = my / size
                done = done | group
                c = wp.vec3(0.0, 0.0, 0.0)
                if seen.row == NOTHING:
                    if labels != 1:
                        c = background(geo, view, frame, px, py)
                    if labels != 0:
                        depth[pixel] = wp.inf
                        normal[pixel] = wp.vec3(0.0, 0.0, 0.0)
                        instance[pixel] = 0
                else:
                    q = wp.vec3(px, py, 1.0)
                    surface = Surface()
                    if seen.row >= view.rows:
                        surface = ground_surface(geo, frame, seen, q)
                    else:
                        surface = mesh_surface(geo, seen, q, count == 1)
                    ray = frame.camera_ray * q
                    v = -unit(ray)
                    n = facing(surface.normal, v)
                    if labels != 1:
                        two_sided = geo.rows[seen.row].two_sided
                        c = shaded(geo, view, frame, two_sided, surface, n, v, ray * surface.depth)
                    if labels != 0:
                        depth[pixel] = surface.depth
                        normal[pixel] = n
                        instance[pixel] = geo.rows[seen.row].id
                if labels != 1:
                    if count == 1:
                        color[pixel] = c
                    else:
                        for r in range(s, count):
                            if ((group >> wp.uint64(r)) & ONE) == ONE:
                                ry = (r * turn) >> 16
                                color[left + wp.int64(ry * line + r - ry * k)] = c
        left += wp.int64(k)
