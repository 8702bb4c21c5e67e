# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""Deferred shading and labels from a visibility buffer: Warp kernels, one source for CPU and CUDA.

Each pixel's samples are grouped by the surface they see (an instance's material slot, and faces that point
the same way); a group is shaded once, in the camera's frame. The point is the mean of the samples on the
group's first triangle, so that it lies in that triangle; its texture coordinates are carried on, by their
derivatives, to the mean of the whole group.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View
from imgsynth.render.finish import Matter, coat_of, plain_matter
from imgsynth.render.surfaces import (
    NOTHING,
    Seen,
    Surface,
    bent_footprint,
    facing,
    ground_surface,
    looked_at,
    mesh_surface,
    same_surface,
    seen_at,
    unit,
)
from imgsynth.render.texturing import background

wp.set_module_options(OPTIONS)

NONE = wp.constant(wp.uint64(0))
ONE = wp.constant(wp.uint64(1))
TILE = wp.constant(8)  # texels a side of a shadow map's tiles
INVERSE_PI = wp.constant(0.318309886)
LEAST_ROUGHNESS = wp.constant(0.045)  # below it the highlight of a point-like sun is no longer a picture


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
def surrounded(m: Matter, nv: float, ambient: wp.vec3) -> wp.vec3:
    """Light reflected from a constant environment: by Fresnel's term at n·v, held down by roughness, so that
    a white furnace is never outshone.
    """
    grazing = power5(1.0 - nv)
    f = wp.vec3(
        rim(m.f0[0], m.rough, grazing), rim(m.f0[1], m.rough, grazing), rim(m.f0[2], m.rough, grazing)
    )
    return wp.cw_mul(ambient, m.diffuse - wp.cw_mul(m.diffuse, f) + f)


@wp.func
def lobe_width(rough: float) -> float:
    """α² of the Trowbridge–Reitz distribution of a perceptual roughness."""
    a = wp.max(rough, LEAST_ROUGHNESS)
    return a * a * a * a


@wp.func
def reflected(
    m: Matter, a2: float, peak: float, nl: float, nv: float, vl: float, irradiance: wp.vec3
) -> wp.vec3:
    """Light reflected to v from direction l: metallic-roughness BSDF times n·l times the irradiance on what
    faces l.

    Trowbridge–Reitz distribution, height-correlated Smith masking and Schlick's Fresnel term as in glTF 2.0,
    appendix B; Lambert below it, weighted by (1 - F)(1 - metallic).

    Args:
        m: what the surface is made of.
        a2: α² of the distribution.
        peak: the same for what shines from one direction; less where l is the best of a light's many.
        nl: n·l, above 0.
        nv: n·v, above 0.
        vl: v·l.
        irradiance: what passed the shadow test.
    """
    # With h the unit vector along v + l: |v + l|² = 2 + 2 v·l gives n·h and v·h without h itself.
    across = wp.max(1.0 + vl, 1.0e-6)
    nh2 = wp.min(0.5 * (nl + nv) * (nl + nv) / across, 1.0)
    fs = m.f0 + (wp.vec3(1.0, 1.0, 1.0) - m.f0) * power5(1.0 - wp.min(wp.sqrt(0.5 * across), 1.0))
    spread = nh2 * (a2 - 1.0) + 1.0
    smith = nl * wp.sqrt(nv * nv * (1.0 - a2) + a2) + nv * wp.sqrt(nl * nl * (1.0 - a2) + a2)
    lobe = 0.5 * INVERSE_PI * peak / (spread * spread * smith)
    return wp.cw_mul(irradiance * nl, (m.diffuse - wp.cw_mul(m.diffuse, fs)) * INVERSE_PI + fs * lobe)


@wp.func
def sun_share(geo: Geometry, view: View, frame: FrameData, surface: Surface, row: int, at: wp.vec3) -> float:
    """Share of the sun that its shadow map lets through to the point `at` (camera frame) of a row."""
    # A sheet casts a shadow from the side that is lit, so it needs most of a texel.
    bias = wp.where(geo.rows[row].two_sided == 1, 0.75, 0.05) * wp.max(frame.texel[0], frame.texel[1])
    plane = frame.light_from_camera * surface.face_normal
    return lit_share(view, frame, frame.light_from_camera * at + frame.light_eye, plane, bias)


@wp.func
def sunlit(
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
    """Radiance towards the camera of the surface point `at` (camera frame) under a point-like sun and ambient
    light: the lighting of `shade_kernel` for scenes with nothing else.
    """
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    out = surrounded(m, nv, frame.ambient)
    sun = frame.irradiance
    nl = wp.dot(n, frame.sun)
    if nl > 0.0:
        if frame.shadow_base >= wp.int64(0):
            sun = sun * sun_share(geo, view, frame, surface, seen.row, at)
        if sun[0] + sun[1] + sun[2] > 0.0:
            a2 = lobe_width(m.rough)
            out += reflected(m, a2, a2, nl, nv, wp.dot(v, frame.sun), sun)
    return out + m.emission


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


@wp.func
def backdrop(geo: Geometry, view: View, frame: FrameData, x: float, y: float, looked: wp.vec3) -> wp.vec3:
    """What is seen at image point (x, y) where nothing is hit: the background, whatever the ray `looked`."""
    return background(geo, view, frame, x, y)


@cache
def shade_kernel(
    lighting: Any = sunlit,
    matter: Any = plain_matter,
    with_albedo: bool = False,
    coated: bool = False,
    behind: Any = backdrop,
    bent: bool = False,
) -> Any:
    """The shading kernel for a way of lighting, for kinds of materials and for the labels asked for.

    Each is a module of its own, compiled when first used, so that plain scenes pay nothing for others.

    Args:
        lighting: a Warp function with the arguments of `sunlit`.
        matter: a Warp function with the arguments of `plain_matter`.
        with_albedo: the labels include the base colour.
        coated: some material has a clearcoat.
        behind: a Warp function with the arguments of `backdrop`.
        bent: some camera has a lens that bends.
    """

    @wp.kernel(module="unique", module_options=OPTIONS)
    def shade(
        geo: Geometry,
        view: View,
        labels: wp.int32,
        color: wp.array(dtype=wp.vec3),
        depth: wp.array(dtype=wp.float32),
        normal: wp.array(dtype=wp.vec3),
        instance: wp.array(dtype=wp.int32),
        albedo: wp.array(dtype=wp.vec3),
        span: wp.int32,
    ):
        """Shade `span` cells (1, or a whole line) a thread.

        A cell is a pixel, or one of its detail × detail parts where only colour is asked for. Fills colour
        (`labels` 0), labels (1), or both (2, at one sample a pixel only).
        """
        first = wp.tid() * span
        k = view.samples
        count = k * k
        width = view.width * view.detail
        side = 1.0 / float(view.detail)  # of a cell, in pixels
        line = width * k  # samples
        row = first / width
        f = row / (view.height * view.detail)
        frame = view.frames[f]
        y = float(row - f * view.height * view.detail) * side
        step = side / float(k)
        turn = 65536 / k + 1  # s / k = (s · turn) >> 16 for s < 64
        left = wp.int64(row) * wp.int64(k * line) + wp.int64((first - row * width) * k)
        for i in range(span):
            pixel = first + i
            x = float(pixel - row * width) * side
            done = wp.uint64(0)
            for s in range(count):
                if ((done >> wp.uint64(s)) & ONE) == NONE:
                    sy = (s * turn) >> 16
                    sx = s - sy * k
                    px = x + (float(sx) + 0.5) * step
                    py = y + (float(sy) + 0.5) * step
                    mine = left + wp.int64(sy * line + sx)
                    point = wp.vec2d(wp.float64(px), wp.float64(py))
                    if wp.static(bent):
                        if frame.lens >= 0:
                            point = looked_at(view, frame, f, mine)
                            px = wp.float32(point[0])
                            py = wp.float32(point[1])
                    seen = seen_at(geo, view, frame, f, mine, point)
                    group = ONE << wp.uint64(s)
                    away = wp.vec2(0.0, 0.0)
                    if count > 1:
                        mx = px
                        my = py
                        size = float(1.0)
                        ox = px
                        oy = py
                        own = float(1.0)
                        for r in range(s + 1, count):
                            if ((done >> wp.uint64(r)) & ONE) == NONE:
                                ry = (r * turn) >> 16
                                rx = r - ry * k
                                qx = x + (float(rx) + 0.5) * step
                                qy = y + (float(ry) + 0.5) * step
                                its = left + wp.int64(ry * line + rx)
                                point = wp.vec2d(wp.float64(qx), wp.float64(qy))
                                if wp.static(bent):
                                    if frame.lens >= 0:
                                        point = looked_at(view, frame, f, its)
                                        qx = wp.float32(point[0])
                                        qy = wp.float32(point[1])
                                other = seen_at(geo, view, frame, f, its, point)
                                if same_surface(geo, view, seen, other):
                                    group = group | (ONE << wp.uint64(r))
                                    mx += qx
                                    my += qy
                                    size += 1.0
                                    if other.triangle == seen.triangle:
                                        ox += qx
                                        oy += qy
                                        own += 1.0
                        px = ox / own
                        py = oy / own
                        point = wp.vec2d(wp.float64(px), wp.float64(py))
                        away = wp.vec2(mx / size - px, my / size - py)
                    done = done | group
                    c = wp.vec3(0.0, 0.0, 0.0)
                    looked = wp.vec3(px, py, 1.0)  # the ray, as a point of a pinhole's image plane
                    if seen.row == NOTHING:
                        if labels != 1:
                            if wp.static(bent):
                                if frame.lens >= 0:  # a background lies on the picture, unbent
                                    px = float(0.0)
                                    py = float(0.0)
                                    size = float(0.0)
                                    for r in range(s, count):
                                        if ((group >> wp.uint64(r)) & ONE) == ONE:
                                            ry = (r * turn) >> 16
                                            px += x + (float(r - ry * k) + 0.5) * step
                                            py += y + (float(ry) + 0.5) * step
                                            size += 1.0
                                    px = px / size
                                    py = py / size
                            c = behind(geo, view, frame, px, py, looked)
                        if labels != 0:
                            depth[pixel] = wp.inf
                            normal[pixel] = wp.vec3(0.0, 0.0, 0.0)
                            instance[pixel] = 0
                            if wp.static(with_albedo):
                                albedo[pixel] = wp.vec3(0.0, 0.0, 0.0)
                    else:
                        q = wp.vec3(px, py, 1.0)
                        surface = Surface()
                        if seen.row >= view.rows:
                            surface = ground_surface(geo, frame, seen, point)
                        else:
                            surface = mesh_surface(geo, seen, q, count == 1)
                            surface.uv = surface.uv + surface.du * away[0] + surface.dv * away[1]
                            surface.point = surface.point + surface.dx * away[0] + surface.dy * away[1]
                        if wp.static(bent):
                            if frame.lens >= 0:
                                surface = bent_footprint(view, frame, f, mine, line, k * view.detail, surface)
                        surface.du = surface.du * side
                        surface.dv = surface.dv * side
                        surface.dx = surface.dx * side
                        surface.dy = surface.dy * side
                        ray = frame.camera_ray * q
                        v = -unit(ray)
                        n = facing(surface.normal, v)
                        if wp.static(with_albedo):
                            if labels != 0:
                                base = wp.vec3(0.0, 0.0, 0.0)
                                if surface.material >= 0:
                                    base = matter(geo, surface, n, v).albedo
                                albedo[pixel] = base
                        if labels != 1:
                            if surface.material >= 0:
                                m = matter(geo, surface, n, v)
                                at = ray * surface.depth
                                where = wp.vec2(px, py)
                                if wp.static(coated):
                                    # One call of the lighting, in a loop, so that it stays inlined.
                                    for film in range(wp.where(m.coat > 0.0, 2, 1)):
                                        now = m
                                        if film == 1:
                                            now = coat_of(m, n)
                                        lit = lighting(
                                            geo, view, frame, seen, surface, now, now.normal, v, at, where
                                        )
                                        c = c + (lit - c) * wp.where(film == 1, m.coat, 1.0)
                                else:
                                    c = lighting(geo, view, frame, seen, surface, m, m.normal, v, at, where)
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

    return shade
