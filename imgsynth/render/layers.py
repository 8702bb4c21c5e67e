# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, RUF046
"""Layers over a material, as Warp functions: dirt, fading, scratches, stickers and decals.

Each says what share of a pixel's footprint it covers: its mean is the coverage asked for, near and far.
"""

from __future__ import annotations

import warp as wp

from imgsynth.batch import DECAL, FADING, SCRATCHES, STICKERS
from imgsynth.render.arrays import OPTIONS, Geometry, LayerRow
from imgsynth.render.noise import fbm, hash3, kept, normal_cdf, three, unit_interval
from imgsynth.render.surfaces import Surface, unit
from imgsynth.render.texturing import codes, filtered

wp.set_module_options(OPTIONS)

KIND_FADING = wp.constant(FADING)
KIND_SCRATCHES = wp.constant(SCRATCHES)
KIND_STICKERS = wp.constant(STICKERS)
KIND_DECAL = wp.constant(DECAL)
HALF_CHANCE = wp.constant(0.5)  # share of the places for scratches that hold one, on a plane seen edge on
CORNER = wp.constant(0.15)  # radius of a sticker's corners, in its half width


@wp.struct
class Coat:
    """How much of a pixel a layer covers, and its colour there."""

    share: wp.float32
    color: wp.vec3


@wp.struct
class Spot:
    """Where a layer is looked at: in metres in the object's frame, or over texture coordinates."""

    point: wp.vec3
    dx: wp.vec3  # its change over one pixel in x
    dy: wp.vec3  # and in y
    across: wp.vec3  # the surface's normal there, any length


@wp.func
def spot(layer: LayerRow, surface: Surface) -> Spot:
    """The surface point as the layer has it."""
    out = Spot()
    if layer.mapped == 1:
        out.point = wp.vec3(surface.uv[0], surface.uv[1], 0.0)
        out.dx = wp.vec3(surface.du[0], surface.du[1], 0.0)
        out.dy = wp.vec3(surface.dv[0], surface.dv[1], 0.0)
        out.across = wp.vec3(0.0, 0.0, 1.0)
    else:
        out.point = surface.point
        out.dx = surface.dx
        out.dy = surface.dy
        out.across = surface.across
    return out


@wp.func
def blotches(layer: LayerRow, q: wp.vec3, reach: float) -> float:
    """Where noise exceeds what the layer's coverage leaves below it: a share of the footprint, by what the
    octaves too fine to be seen would add.
    """
    noise = fbm(q, reach, 5, 0.6, layer.seed)
    return normal_cdf((noise[0] - layer.threshold) / wp.sqrt(layer.softness * layer.softness + noise[1]))


@wp.func
def scratch(
    layer: LayerRow,
    u: float,
    wide: float,
    v: float,
    long: float,
    thick: float,
    chance: float,
    which: int,
    cell: int,
) -> float:
    """Share of a footprint `wide` about u that cell number `cell` scratches, if it does at v."""
    h = hash3(cell, which, 1, layer.seed)
    middle = float(cell) + 0.5 * thick + unit_interval(h) * (1.0 - thick)
    low = wp.max(u - 0.5 * wide, middle - 0.5 * thick)
    high = wp.min(u + 0.5 * wide, middle + 0.5 * thick)
    cut = wp.max(high - low, 0.0) / wide
    if cut > 0.0:
        piece = int(wp.floor(v + unit_interval(hash3(cell, which, 2, layer.seed))))
        there = wp.where(unit_interval(hash3(cell, piece, 3 + which, layer.seed)) < chance, 1.0, 0.0)
        cut = cut * (chance + (there - chance) * kept(long))
    return cut


@wp.func
def scratches(layer: LayerRow, point: wp.vec3, dx: wp.vec3, dy: wp.vec3, across: wp.vec3) -> float:
    """Straight scratches in three directions: where the surface cuts sheets of random places and lengths."""
    left = float(1.0)
    for i in range(3):
        n = unit(three(hash3(i, 0, 0, layer.seed)) * 2.0 - wp.vec3(1.0, 1.0, 1.0))
        lean = wp.dot(n, across)
        slant = wp.sqrt(wp.max(1.0 - lean * lean, 0.01))  # how fast sheets are crossed along the surface
        along = unit(wp.cross(n, across + wp.vec3(1.0e-6, 2.0e-6, 0.0)))
        u = wp.dot(n, point) / layer.spacing
        wide = wp.max((wp.abs(wp.dot(n, dx)) + wp.abs(wp.dot(n, dy))) / layer.spacing, 1.0e-4)
        v = wp.dot(along, point) / layer.length
        long = (wp.abs(wp.dot(along, dx)) + wp.abs(wp.dot(along, dy))) / layer.length
        thick = wp.min(layer.width * slant / layer.spacing, 1.0)
        chance = wp.min(HALF_CHANCE / slant, 1.0)
        mean = thick * chance
        keep = kept(wide)
        cut = mean
        if keep > 0.0:
            cell = int(wp.floor(u))
            beside = wp.where(u - wp.floor(u) < 0.5, cell - 1, cell + 1)
            cut = scratch(layer, u, wide, v, long, thick, chance, i, cell)
            cut += scratch(layer, u, wide, v, long, thick, chance, i, beside)
            cut = mean + (cut - mean) * keep
        left = left * (1.0 - wp.min(cut, 1.0))
    return 1.0 - left


@wp.func
def stickers(geo: Geometry, layer: LayerRow, surface: Surface) -> Coat:
    """Rounded rectangles strewn on the plane that the surface looks along most, at most one in each cell."""
    place = spot(layer, surface)
    per_metre = 1.0 / layer.scale
    q = place.point * per_metre
    dx = place.dx * per_metre
    dy = place.dy * per_metre
    across = place.across
    # Right-handed seen from outside, so that pictures are not mirrored.
    x = wp.vec3(1.0, 0.0, 0.0)
    y = wp.vec3(0.0, 1.0, 0.0)
    face = int(2)
    if wp.abs(across[2]) < wp.max(wp.abs(across[0]), wp.abs(across[1])):
        y = wp.vec3(0.0, 0.0, 1.0)
        if wp.abs(across[0]) > wp.abs(across[1]):
            face = 0
            x = wp.vec3(0.0, wp.where(across[0] > 0.0, 1.0, -1.0), 0.0)
        else:
            face = 1
            x = wp.vec3(wp.where(across[1] > 0.0, -1.0, 1.0), 0.0, 0.0)
    elif across[2] < 0.0:
        x = wp.vec3(-1.0, 0.0, 0.0)
    p = wp.vec2(wp.dot(q, x), wp.dot(q, y))
    px = wp.vec2(wp.dot(dx, x), wp.dot(dx, y))
    py = wp.vec2(wp.dot(dy, x), wp.dot(dy, y))
    reach = wp.max(wp.length(px), wp.length(py))
    i = int(wp.floor(p[0]))
    j = int(wp.floor(p[1]))
    h = hash3(i, j, face, layer.seed)
    size = three(hash3(i, j, face + 3, layer.seed))
    where = three(hash3(i, j, face + 6, layer.seed))
    a = 0.2 + 0.14 * size[0]
    b = a * (0.5 + 0.5 * size[1])
    room = 0.5 - wp.sqrt(a * a + b * b)
    # A turn by up to a quarter, without sine and cosine.
    t = 2.0 * size[2] - 1.0
    c = (1.0 - t * t) / (1.0 + t * t)
    s = 2.0 * t / (1.0 + t * t)
    d = wp.vec2(
        p[0] - float(i) - 0.5 - (2.0 * where[0] - 1.0) * room,
        p[1] - float(j) - 0.5 - (2.0 * where[1] - 1.0) * room,
    )
    d = wp.vec2(c * d[0] + s * d[1], c * d[1] - s * d[0])
    round = CORNER * b
    ox = wp.abs(d[0]) - a + round
    oy = wp.abs(d[1]) - b + round
    outside = wp.length(wp.vec2(wp.max(ox, 0.0), wp.max(oy, 0.0))) + wp.min(wp.max(ox, oy), 0.0) - round
    out = Coat()
    out.share = wp.where(
        unit_interval(h) < layer.chance, wp.clamp(0.5 - outside / wp.max(reach, 1.0e-5), 0.0, 1.0), 0.0
    )
    out.color = layer.color_a + (layer.color_b - layer.color_a) * where[2]
    keep = kept(reach)
    if layer.texture >= 0 and keep > 0.0 and out.share > 0.0:
        uv = wp.vec2(0.5 + 0.5 * d[0] / a, 0.5 - 0.5 * d[1] / b)
        du = wp.vec2((c * px[0] + s * px[1]) * 0.5 / a, (s * px[0] - c * px[1]) * 0.5 / b)
        dv = wp.vec2((c * py[0] + s * py[1]) * 0.5 / a, (s * py[0] - c * py[1]) * 0.5 / b)
        out.color = wp.cw_mul(out.color, filtered(geo, layer.texture, uv, du, dv, True))
        out.share = out.share * codes(geo, layer.texture, uv, du, dv, True)[3] * (1.0 / 255.0)
    if keep < 1.0:
        out.color = out.color * keep + (layer.color_a + layer.color_b) * (0.5 * (1.0 - keep))
        out.share = layer.coverage + (out.share - layer.coverage) * keep
    return out


@wp.func
def decal(geo: Geometry, layer: LayerRow, surface: Surface) -> Coat:
    """A picture laid on the texture coordinates, its edges filtered as its inside is."""
    m = layer.place
    at = wp.vec2(
        m[0, 0] * surface.uv[0] + m[0, 1] * surface.uv[1] + m[0, 2],
        m[1, 0] * surface.uv[0] + m[1, 1] * surface.uv[1] + m[1, 2],
    )
    du = wp.vec2(
        m[0, 0] * surface.du[0] + m[0, 1] * surface.du[1], m[1, 0] * surface.du[0] + m[1, 1] * surface.du[1]
    )
    dv = wp.vec2(
        m[0, 0] * surface.dv[0] + m[0, 1] * surface.dv[1], m[1, 0] * surface.dv[0] + m[1, 1] * surface.dv[1]
    )
    out = Coat()
    out.share = 1.0
    for k in range(2):
        wide = wp.max(wp.abs(du[k]) + wp.abs(dv[k]), 1.0e-3)
        low = wp.max(at[k] - 0.5 * wide, 0.0)
        out.share = out.share * wp.clamp((wp.min(at[k] + 0.5 * wide, 1.0) - low) / wide, 0.0, 1.0)
    out.color = layer.color_a
    if out.share > 0.0 and layer.texture >= 0:
        out.color = wp.cw_mul(out.color, filtered(geo, layer.texture, at, du, dv, True))
        out.share = out.share * codes(geo, layer.texture, at, du, dv, True)[3] * (1.0 / 255.0)
    return out


@wp.func
def worn(layer: LayerRow, surface: Surface, albedo: wp.vec3) -> Coat:
    """Dirt, fading or scratches over `albedo`."""
    place = spot(layer, surface)
    out = Coat()
    out.color = layer.color_a
    if layer.kind == KIND_SCRATCHES:
        out.share = scratches(layer, place.point, place.dx, place.dy, unit(place.across))
    else:
        size = 1.0 / layer.scale
        reach = wp.sqrt(wp.max(wp.dot(place.dx, place.dx), wp.dot(place.dy, place.dy))) * size
        out.share = blotches(layer, place.point * size, reach)
        if layer.kind == KIND_FADING:
            # Pigments go, what they covered stays: pale, and as bright as the colour was, almost.
            light = albedo[0] * 0.2126 + albedo[1] * 0.7152 + albedo[2] * 0.0722
            out.color = layer.color_a * (0.35 + 0.65 * light)
    return out
