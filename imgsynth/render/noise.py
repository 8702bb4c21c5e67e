# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, RUF046
"""Noise over three dimensions for patterns: Warp functions of a point and a seed, and of nothing else.

No function of the C library is called whose last bits differ between machines.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS

wp.set_module_options(OPTIONS)

HASH_X = wp.constant(wp.uint32(0x9E3779B1))
HASH_Y = wp.constant(wp.uint32(0x85EBCA77))
HASH_Z = wp.constant(wp.uint32(0xC2B2AE3D))
HASH_A = wp.constant(wp.uint32(0x7FEB352D))
HASH_B = wp.constant(wp.uint32(0x846CA68B))
OCTAVE = wp.constant(wp.uint32(0x632BE5AB))
TEN_BITS = wp.constant(wp.uint32(1023))
NOISE_VARIANCE = wp.constant(0.0364595)  # of `gradient_noise`, from its blending weights
FADE_FROM = wp.constant(0.3)  # footprints in cells between which noise is faded out
FADE_TO = wp.constant(0.9)
FAR_OFF = wp.constant(1.0e9)


@wp.func
def hash3(x: int, y: int, z: int, seed: wp.uint32) -> wp.uint32:
    """32 hashed bits of a lattice point: two rounds of multiply, xor and shift."""
    h = seed ^ (wp.uint32(x) * HASH_X) ^ (wp.uint32(y) * HASH_Y) ^ (wp.uint32(z) * HASH_Z)
    h = (h ^ (h >> wp.uint32(16))) * HASH_A
    h = (h ^ (h >> wp.uint32(15))) * HASH_B
    return h ^ (h >> wp.uint32(16))


@wp.func
def unit_interval(h: wp.uint32) -> float:
    """A number in [0, 1) from the upper 24 of 32 hashed bits."""
    return float(h >> wp.uint32(8)) * (1.0 / 16777216.0)


@wp.func
def three(h: wp.uint32) -> wp.vec3:
    """Three numbers in (0, 1) from ten hashed bits each."""
    return wp.vec3(
        (float(h & TEN_BITS) + 0.5) * (1.0 / 1024.0),
        (float((h >> wp.uint32(10)) & TEN_BITS) + 0.5) * (1.0 / 1024.0),
        (float((h >> wp.uint32(20)) & TEN_BITS) + 0.5) * (1.0 / 1024.0),
    )


@wp.func
def smooth(low: float, high: float, x: float) -> float:
    """Hermite's step from 0 at low to 1 at high."""
    t = wp.clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def kept(reach: float) -> float:
    """What is left of noise of one cell under a footprint of `reach` cells: 1 to 0."""
    return 1.0 - smooth(FADE_FROM, FADE_TO, reach)


@wp.func
def normal_cdf(x: float) -> float:
    """Φ(x) to 2.5e-4 (Abramowitz and Stegun, 26.2.18)."""
    t = wp.abs(x)
    d = 1.0 + t * (0.196854 + t * (0.115194 + t * (0.000344 + t * 0.019527)))
    d = d * d
    tail = 0.5 / (d * d)
    return wp.where(x < 0.0, tail, 1.0 - tail)


@wp.func
def corner(x: int, y: int, z: int, seed: wp.uint32, d: wp.vec3) -> float:
    """A lattice point's slope, uniform in a cube, times the way from it."""
    g = three(hash3(x, y, z, seed))
    return 2.0 * wp.dot(g, d) - (d[0] + d[1] + d[2])


@wp.func
def gradient_noise(q: wp.vec3, seed: wp.uint32) -> float:
    """Gradient noise (Perlin, "Improving noise", SIGGRAPH 2002), cells of 1: mean 0, variance
    NOISE_VARIANCE.
    """
    x = int(wp.floor(q[0]))
    y = int(wp.floor(q[1]))
    z = int(wp.floor(q[2]))
    d = wp.vec3(q[0] - wp.floor(q[0]), q[1] - wp.floor(q[1]), q[2] - wp.floor(q[2]))
    u = d[0] * d[0] * d[0] * (d[0] * (d[0] * 6.0 - 15.0) + 10.0)
    v = d[1] * d[1] * d[1] * (d[1] * (d[1] * 6.0 - 15.0) + 10.0)
    w = d[2] * d[2] * d[2] * (d[2] * (d[2] * 6.0 - 15.0) + 10.0)
    ex = wp.vec3(1.0, 0.0, 0.0)
    ey = wp.vec3(0.0, 1.0, 0.0)
    ez = wp.vec3(0.0, 0.0, 1.0)
    a = corner(x, y, z, seed, d)
    a += (corner(x + 1, y, z, seed, d - ex) - a) * u
    b = corner(x, y + 1, z, seed, d - ey)
    b += (corner(x + 1, y + 1, z, seed, d - ey - ex) - b) * u
    c = corner(x, y, z + 1, seed, d - ez)
    c += (corner(x + 1, y, z + 1, seed, d - ez - ex) - c) * u
    e = corner(x, y + 1, z + 1, seed, d - ez - ey)
    e += (corner(x + 1, y + 1, z + 1, seed, d - ez - ey - ex) - e) * u
    a += (b - a) * v
    c += (e - c) * v
    return a + (c - a) * w


@wp.func
def fbm(q: wp.vec3, reach: float, octaves: int, gain: float, seed: wp.uint32) -> wp.vec2:
    """Octaves of gradient noise, each twice as fine and `gain` times as strong, in standard deviations.

    Octaves finer than the footprint are faded out.

    Args:
        q: the point, in cells of the first octave.
        reach: the footprint's length in those cells.
        octaves: how many.
        gain: of each octave's amplitude on the last's.
        seed: the noise's identity.

    Returns:
        Its value, and the share of the variance that fading took.
    """
    total = float(0.0)
    lost = float(0.0)
    whole = float(0.0)
    weight = float(1.0)
    size = float(reach)
    p = wp.vec3(q[0], q[1], q[2])
    own = wp.uint32(seed)
    i = int(0)
    while i < octaves:
        keep = kept(size)
        if keep > 0.0:
            total += weight * keep * gradient_noise(p, own)
        whole += weight * weight
        lost += weight * weight * (1.0 - keep * keep)
        # Shifted, so that the octaves' zeros do not fall together.
        p = p * 2.0 + wp.vec3(0.37, 0.71, 0.19)
        size = size * 2.0
        weight = weight * gain
        own = own + OCTAVE
        i += 1
    return wp.vec2(total / wp.sqrt(whole * NOISE_VARIANCE), lost / whole)


@wp.func
def nearest_seed(q: wp.vec3, flat: int, seed: wp.uint32) -> float:
    """Distance to the nearest of the points strewn one in each cell (Worley, "A cellular texture basis
    function", SIGGRAPH 1996): F₁. In the plane of x and y alone where `flat` is 1.
    """
    x = int(wp.floor(q[0]))
    y = int(wp.floor(q[1]))
    z = int(wp.floor(q[2]))
    f = wp.vec3(q[0] - wp.floor(q[0]), q[1] - wp.floor(q[1]), q[2] - wp.floor(q[2]))
    best = float(FAR_OFF)
    deep = 1 - flat
    for k in range(3):
        # The own layer, row and cell come first: what lies farther than the best so far is not looked at.
        dz = wp.where(k == 2, 1, -k)
        if dz == 0 or deep == 1:
            gz = wp.where(dz == 0, 0.0, wp.where(dz < 0, f[2], 1.0 - f[2]))
            for j in range(3):
                dy = wp.where(j == 2, 1, -j)
                gy = wp.where(dy == 0, 0.0, wp.where(dy < 0, f[1], 1.0 - f[1]))
                for i in range(3):
                    dx = wp.where(i == 2, 1, -i)
                    gx = wp.where(dx == 0, 0.0, wp.where(dx < 0, f[0], 1.0 - f[0]))
                    if gx * gx + gy * gy + gz * gz < best:
                        at = three(hash3(x + dx, y + dy, wp.where(deep == 1, z + dz, 0), seed))
                        away = wp.vec3(float(dx) + at[0] - f[0], float(dy) + at[1] - f[1], 0.0)
                        if deep == 1:
                            away[2] = float(dz) + at[2] - f[2]
                        best = wp.min(best, wp.dot(away, away))
    return wp.sqrt(best)
