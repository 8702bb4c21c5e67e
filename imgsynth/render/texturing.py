# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, RUF046
"""Texture filtering and backgrounds, as Warp functions."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, FrameData, Geometry, View

wp.set_module_options(OPTIONS)

MAX_TAPS = wp.constant(8.0)  # longest footprint, in widths of its short axis, that is filtered as it is
BYTE = wp.constant(wp.uint32(255))
HASH_X = wp.constant(wp.uint32(0x9E3779B1))
HASH_Y = wp.constant(wp.uint32(0x85EBCA77))
HASH_A = wp.constant(wp.uint32(0x7FEB352D))
HASH_B = wp.constant(wp.uint32(0x846CA68B))


@wp.func
def log2_fast(x: float) -> float:
    """log₂ to 0.01 without the C library, whose last bits differ between machines."""
    bits = wp.cast(x, wp.int32)
    m = wp.cast((bits & 0x7FFFFF) | 0x3F800000, wp.float32)
    return float((bits >> 23) - 128) + m * (2.0 - m * 0.33333333) - 0.66666667


@wp.func
def wrap(i: int, n: int, clamped: bool) -> int:
    """Texel index repeated, or held at the border."""
    if i >= 0 and i < n:
        return i  # as almost all do: divisions are slow
    if clamped:
        return wp.clamp(i, 0, n - 1)
    r = i % n
    return wp.where(r < 0, r + n, r)


@wp.func
def decode(geo: Geometry, texel: wp.uint32) -> wp.vec3:
    """Linear RGB of an sRGB texel."""
    return wp.vec3(
        geo.srgb[int(texel & BYTE)],
        geo.srgb[int((texel >> wp.uint32(8)) & BYTE)],
        geo.srgb[int((texel >> wp.uint32(16)) & BYTE)],
    )


@wp.func
def bilinear(geo: Geometry, level: int, u: float, v: float, clamped: bool) -> wp.vec3:
    """Linear RGB at (u, v), v downwards, both in texture widths; texel centres at half-integers."""
    size = geo.level_size[level]
    x = u * float(size[1]) - 0.5
    y = v * float(size[0]) - 0.5
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    xa = wrap(int(wp.floor(x)), size[1], clamped)
    xb = wrap(int(wp.floor(x)) + 1, size[1], clamped)
    start = geo.level_start[level]
    ya = start + wp.int64(wrap(int(wp.floor(y)), size[0], clamped) * size[1])
    yb = start + wp.int64(wrap(int(wp.floor(y)) + 1, size[0], clamped) * size[1])
    top = (
        decode(geo, geo.texels[ya + wp.int64(xa)]) * (1.0 - fx)
        + decode(geo, geo.texels[ya + wp.int64(xb)]) * fx
    )
    low = (
        decode(geo, geo.texels[yb + wp.int64(xa)]) * (1.0 - fx)
        + decode(geo, geo.texels[yb + wp.int64(xb)]) * fx
    )
    return top * (1.0 - fy) + low * fy


@wp.struct
class Footprint:
    """How a texture is sampled over a pixel: taps along an axis, from two levels."""

    axis: wp.vec2
    taps: wp.int32
    level: wp.int32  # the finer of the two
    blend: wp.float32  # with the coarser


@wp.func
def footprint(geo: Geometry, texture: int, du: wp.vec2, dv: wp.vec2) -> Footprint:
    """The footprint of a pixel over which uv changes by du in x and by dv in y."""
    first = geo.first_level[texture]
    levels = geo.first_level[texture + 1] - first
    size = geo.level_size[first]
    a = wp.length(wp.vec2(du[0] * float(size[1]), du[1] * float(size[0])))
    b = wp.length(wp.vec2(dv[0] * float(size[1]), dv[1] * float(size[0])))
    axis = du
    long = a
    short = b
    if b > a:
        axis = dv
        long = b
        short = a
    short = wp.max(wp.max(short, long / MAX_TAPS), 1.0)
    lod = wp.clamp(log2_fast(short), 0.0, float(levels - 1))
    if short < 1.001:
        lod = 0.0
    level = int(wp.floor(lod))
    out = Footprint()
    out.axis = axis
    out.taps = int(wp.clamp(wp.ceil(long / short - 0.01), 1.0, MAX_TAPS))
    out.level = first + level
    out.blend = lod - float(level)
    return out


@wp.func
def filtered(geo: Geometry, texture: int, uv: wp.vec2, du: wp.vec2, dv: wp.vec2, clamped: bool) -> wp.vec3:
    """Texture colour over a pixel's footprint: trilinear, with taps along the footprint's long axis.

    Args:
        geo: the textures.
        texture: which one.
        uv: point, v downwards, in texture widths.
        du: change of uv over one pixel in x.
        dv: change of uv over one pixel in y.
        clamped: hold the border instead of repeating.
    """
    over = footprint(geo, texture, du, dv)
    total = wp.vec3(0.0, 0.0, 0.0)
    i = int(0)
    while i < over.taps:
        p = uv + over.axis * ((float(i) + 0.5) / float(over.taps) - 0.5)
        if over.blend > 0.0:
            fine = bilinear(geo, over.level, p[0], p[1], clamped)
            total += fine + (bilinear(geo, over.level + 1, p[0], p[1], clamped) - fine) * over.blend
        else:
            total += bilinear(geo, over.level, p[0], p[1], clamped)
        i += 1
    return total / float(over.taps)


@wp.func
def code(texel: wp.uint32) -> wp.vec4:
    """The four codes of a texel, 0 to 255."""
    return wp.vec4(
        float(texel & BYTE),
        float((texel >> wp.uint32(8)) & BYTE),
        float((texel >> wp.uint32(16)) & BYTE),
        float(texel >> wp.uint32(24)),
    )


@wp.func
def code_bilinear(geo: Geometry, level: int, u: float, v: float, clamped: bool) -> wp.vec4:
    """Codes at (u, v), as `bilinear`."""
    size = geo.level_size[level]
    x = u * float(size[1]) - 0.5
    y = v * float(size[0]) - 0.5
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    xa = wrap(int(wp.floor(x)), size[1], clamped)
    xb = wrap(int(wp.floor(x)) + 1, size[1], clamped)
    start = geo.level_start[level]
    ya = start + wp.int64(wrap(int(wp.floor(y)), size[0], clamped) * size[1])
    yb = start + wp.int64(wrap(int(wp.floor(y)) + 1, size[0], clamped) * size[1])
    top = code(geo.texels[ya + wp.int64(xa)]) * (1.0 - fx) + code(geo.texels[ya + wp.int64(xb)]) * fx
    low = code(geo.texels[yb + wp.int64(xa)]) * (1.0 - fx) + code(geo.texels[yb + wp.int64(xb)]) * fx
    return top * (1.0 - fy) + low * fy


@wp.func
def codes(geo: Geometry, texture: int, uv: wp.vec2, du: wp.vec2, dv: wp.vec2, clamped: bool) -> wp.vec4:
    """Codes (0 to 255) of a texture of data over a pixel's footprint; arguments as of `filtered`."""
    over = footprint(geo, texture, du, dv)
    total = wp.vec4(0.0, 0.0, 0.0, 0.0)
    i = int(0)
    while i < over.taps:
        p = uv + over.axis * ((float(i) + 0.5) / float(over.taps) - 0.5)
        fine = code_bilinear(geo, over.level, p[0], p[1], clamped)
        if over.blend > 0.0:
            fine += (code_bilinear(geo, over.level + 1, p[0], p[1], clamped) - fine) * over.blend
        total += fine
        i += 1
    return total / float(over.taps)


@wp.func
def hashed(x: int, y: int, seed: wp.uint32) -> float:
    """A number in [0, 1) for a lattice point: two rounds of a 32-bit multiply-xor-shift hash."""
    h = seed ^ (wp.uint32(x) * HASH_X) ^ (wp.uint32(y) * HASH_Y)
    h = (h ^ (h >> wp.uint32(16))) * HASH_A
    h = (h ^ (h >> wp.uint32(15))) * HASH_B
    h = h ^ (h >> wp.uint32(16))
    return float(h >> wp.uint32(8)) * (1.0 / 16777216.0)


@wp.func
def value_noise(x: float, y: float, seed: wp.uint32) -> float:
    """Smooth noise in [0, 1): lattice values blended by quintic weights."""
    ix = int(wp.floor(x))
    iy = int(wp.floor(y))
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    fx = fx * fx * fx * (fx * (fx * 6.0 - 15.0) + 10.0)
    fy = fy * fy * fy * (fy * (fy * 6.0 - 15.0) + 10.0)
    top = hashed(ix, iy, seed) * (1.0 - fx) + hashed(ix + 1, iy, seed) * fx
    low = hashed(ix, iy + 1, seed) * (1.0 - fx) + hashed(ix + 1, iy + 1, seed) * fx
    return top * (1.0 - fy) + low * fy


@wp.func
def background(geo: Geometry, view: View, frame: FrameData, ix: float, iy: float) -> wp.vec3:
    """Background radiance at image point (ix, iy) in pixels."""
    a = frame.color_a
    b = frame.color_b
    if frame.background == 0:
        return a
    width = frame.picture_size[0]
    height = frame.picture_size[1]
    m = frame.picture
    q = m * wp.vec3(ix, iy, 1.0)
    x = q[0] / q[2]
    y = q[1] / q[2]
    if frame.background == 1:
        return a + (b - a) * wp.clamp(y / height, 0.0, 1.0)
    if frame.background == 2:
        # Cells are square: both axes count the image's width. Three octaves, each half as strong.
        scale = frame.noise_scale / width
        total = float(0.0)
        weight = float(4.0 / 7.0)
        for octave in range(3):
            total += weight * value_noise(x * scale, y * scale, frame.noise_seed + wp.uint32(octave))
            weight = weight * 0.5
            scale = scale * 2.0
        return a + (b - a) * total
    if frame.background == 3 and frame.photo >= 0:
        w = frame.photo_window
        at = wp.vec2(w[0] + (w[2] - w[0]) * x / width, w[1] + (w[3] - w[1]) * y / height)
        du = wp.vec2((w[2] - w[0]) * (m[0, 0] / q[2]) / (width * float(view.detail)), 0.0)
        dv = wp.vec2(0.0, (w[3] - w[1]) * (m[1, 1] / q[2]) / (height * float(view.detail)))
        return wp.cw_mul(a, filtered(geo, frame.photo, at, du, dv, True))
    return a
