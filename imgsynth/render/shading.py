# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102, RUF046
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

from imgsynth.render.arrays import INLINED, OPTIONS, FrameData, Geometry, View
from imgsynth.render.finish import Matter, coat_of, plain_matter
from imgsynth.render.reflection import lobe_width, reflected, surrounded
from imgsynth.render.sunshadow import sun_share
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


@wp.func
def backdrop(geo: Geometry, view: View, frame: FrameData, x: float, y: float, looked: wp.vec3) -> wp.vec3:
    """What is seen at image point (x, y) where nothing is hit: the background, whatever the ray `looked`."""
    return background(geo, view, frame, x, y)


COLORS, LABELS, BOTH = 0, 1, 2
"""What a shading kernel fills: both only at one sample a pixel."""


@cache
def shade_kernel(
    fills: int = BOTH,
    grouped: bool = False,
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
        fills: COLORS, LABELS or BOTH. LABELS needs no lighting, and no materials but for albedo.
        grouped: a cell has more than one sample.
        lighting: a Warp function with the arguments of `sunlit`.
        matter: a Warp function with the arguments of `plain_matter`.
        with_albedo: the labels include the base colour.
        coated: some material has a clearcoat.
        behind: a Warp function with the arguments of `backdrop`.
        bent: some camera has a lens that bends.
    """
    colored, labelled = fills != LABELS, fills != COLORS

    @wp.kernel(module="unique", module_options=INLINED)
    def shade(
        geo: Geometry,
        view: View,
        color: wp.array(dtype=wp.vec3),
        depth: wp.array(dtype=wp.float32),
        normal: wp.array(dtype=wp.vec3),
        instance: wp.array(dtype=wp.int32),
        albedo: wp.array(dtype=wp.vec3),
        span: wp.int32,
    ):
        """Shade `span` cells (1, or a whole line) a thread.

        A cell is a pixel, or one of its detail × detail parts where only colour is asked for.
        """
        first = wp.tid() * span
        k = int(1)
        if wp.static(grouped):
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
        pixel = int(first)
        while pixel < first + span:
            x = float(pixel - row * width) * side
            done = wp.uint64(0)
            s = int(0)
            while s < count:
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
                    if wp.static(grouped):
                        mx = px
                        my = py
                        size = float(1.0)
                        ox = px
                        oy = py
                        own = float(1.0)
                        r = s + 1
                        while r < count:
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
                            r += 1
                        px = ox / own
                        py = oy / own
                        point = wp.vec2d(wp.float64(px), wp.float64(py))
                        away = wp.vec2(mx / size - px, my / size - py)
                    done = done | group
                    c = wp.vec3(0.0, 0.0, 0.0)
                    looked = wp.vec3(px, py, 1.0)  # the ray, as a point of a pinhole's image plane
                    if seen.row == NOTHING:
                        if wp.static(colored):
                            if wp.static(bent):
                                if frame.lens >= 0:  # a background lies on the picture, unbent
                                    px = float(0.0)
                                    py = float(0.0)
                                    size = float(0.0)
                                    t = int(s)
                                    while t < count:
                                        if ((group >> wp.uint64(t)) & ONE) == ONE:
                                            ty = (t * turn) >> 16
                                            px += x + (float(t - ty * k) + 0.5) * step
                                            py += y + (float(ty) + 0.5) * step
                                            size += 1.0
                                        t += 1
                                    px = px / size
                                    py = py / size
                            c = behind(geo, view, frame, px, py, looked)
                        if wp.static(labelled):
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
                            if wp.static(grouped):
                                surface.uv = surface.uv + surface.du * away[0] + surface.dv * away[1]
                                surface.point = surface.point + surface.dx * away[0] + surface.dy * away[1]
                        if wp.static(bent):
                            if frame.lens >= 0:
                                surface = bent_footprint(view, frame, f, mine, line, k * view.detail, surface)
                        if view.detail > 1:
                            surface.du = surface.du * side
                            surface.dv = surface.dv * side
                            surface.dx = surface.dx * side
                            surface.dy = surface.dy * side
                        ray = frame.camera_ray * q
                        v = -unit(ray)
                        n = facing(surface.normal, v)
                        if wp.static(with_albedo):
                            if wp.static(labelled):
                                base = wp.vec3(0.0, 0.0, 0.0)
                                if surface.material >= 0:
                                    base = matter(geo, surface, n, v).albedo
                                albedo[pixel] = base
                        if wp.static(colored):
                            if surface.material >= 0:
                                m = matter(geo, surface, n, v)
                                at = ray * surface.depth
                                where = wp.vec2(px, py)
                                if wp.static(coated):
                                    # One call of the lighting, in a loop, so that it stays inlined.
                                    film = int(0)
                                    while film < wp.where(m.coat > 0.0, 2, 1):
                                        now = m
                                        if film == 1:
                                            now = coat_of(m, n)
                                        lit = lighting(
                                            geo, view, frame, seen, surface, now, now.normal, v, at, where
                                        )
                                        c = c + (lit - c) * wp.where(film == 1, m.coat, 1.0)
                                        film += 1
                                else:
                                    c = lighting(geo, view, frame, seen, surface, m, m.normal, v, at, where)
                        if wp.static(labelled):
                            depth[pixel] = surface.depth
                            normal[pixel] = n
                            instance[pixel] = geo.rows[seen.row].id
                    if wp.static(colored):
                        if wp.static(not grouped):
                            color[pixel] = c
                        else:
                            u = int(s)
                            while u < count:
                                if ((group >> wp.uint64(u)) & ONE) == ONE:
                                    uy = (u * turn) >> 16
                                    color[left + wp.int64(uy * line + u - uy * k)] = c
                                u += 1
                s += 1
            left += wp.int64(k)
            pixel += 1

    return shade
