# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""Procedural patterns, as Warp functions: how much of its second colour a pattern shows under a footprint.

Periodic profiles are box-filtered by differences of their antiderivatives, along each axis of the pattern;
noise fades octave by octave. So a pattern seen from afar is its mean, not a moiré.
"""

from __future__ import annotations

import warp as wp

from imgsynth.batch import BRICK, CHECKER, FBM, MARBLE, PATTERN_KINDS, STRIPES, WOOD, WORLEY
from imgsynth.render.arrays import OPTIONS, PatternRow
from imgsynth.render.noise import (
    fbm,
    gradient_noise,
    hash3,
    kept,
    nearest_seed,
    normal_cdf,
    unit_interval,
)

wp.set_module_options(OPTIONS)

KIND_FBM = wp.constant(FBM)
KIND_WORLEY = wp.constant(WORLEY)
KIND_CHECKER = wp.constant(CHECKER)
KIND_STRIPES = wp.constant(STRIPES)
KIND_WOOD = wp.constant(WOOD)
KIND_MARBLE = wp.constant(MARBLE)
KIND_BRICK = wp.constant(BRICK)
assert len(PATTERN_KINDS) == 8  # what is none of these is GRADIENT

LEAST = wp.constant(2.0e-3)  # narrowest box: below it differences of antiderivatives are rounding
WORLEY_MEAN = wp.constant(0.5203)  # of F₁ in space, cut at 1 (measured)
WORLEY_MEAN_FLAT = wp.constant(0.4296)  # and in the plane
SPREAD = wp.constant(3.4641)  # width of a box of standard deviation 1
COURSE = wp.constant(0.35)  # height of a course of bricks, in lengths of a brick


@wp.func
def fraction(u: float) -> float:
    """u less the whole number below it."""
    return u - wp.floor(u)


@wp.func
def square_sum(u: float) -> float:
    """Antiderivative of the square wave that is 1 on [0, ½) and -1 on [½, 1)."""
    return 0.5 - wp.abs(fraction(u) - 0.5)


@wp.func
def square_wave(u: float, width: float) -> float:
    """The square wave of period 1, averaged over a box."""
    w = wp.max(width, LEAST)
    x = fraction(u)
    return (square_sum(x + 0.5 * w) - square_sum(x - 0.5 * w)) / w


@wp.func
def pulse_sum(u: float, gap: float) -> float:
    """Antiderivative of the pulse that is 1 but for `gap` of its period, half at either end."""
    return wp.floor(u) * (1.0 - gap) + wp.clamp(fraction(u) - 0.5 * gap, 0.0, 1.0 - gap)


@wp.func
def pulse(u: float, gap: float, width: float) -> float:
    """That pulse of period 1, averaged over a box."""
    w = wp.max(width, LEAST)
    x = fraction(u)
    return (pulse_sum(x + 0.5 * w, gap) - pulse_sum(x - 0.5 * w, gap)) / w


@wp.func
def vein_sum(u: float) -> float:
    """Antiderivative of (1 - 2·|u|)⁴, repeated with period 1 from its peaks at whole numbers."""
    x = 2.0 * fraction(u) - 1.0
    x2 = x * x
    return wp.floor(u) * 0.2 + 0.1 * (x2 * x2 * x + 1.0)


@wp.func
def veins(u: float, width: float) -> float:
    """Thin veins at whole numbers, averaged over a box; the mean is 1/5."""
    w = wp.max(width, LEAST)
    x = fraction(u)
    return (vein_sum(x + 0.5 * w) - vein_sum(x - 0.5 * w)) / w


@wp.func
def ring_sum(u: float) -> float:
    """Antiderivative of fraction(u)³."""
    x = fraction(u)
    return 0.25 * (wp.floor(u) + x * x * x * x)


@wp.func
def rings(u: float, width: float) -> float:
    """Growth rings, pale wood that darkens towards a sharp end, averaged over a box; the mean is 1/4."""
    w = wp.max(width, LEAST)
    x = fraction(u)
    return (ring_sum(x + 0.5 * w) - ring_sum(x - 0.5 * w)) / w


@wp.func
def wood(p: PatternRow, q: wp.vec3, wide: wp.vec3) -> float:
    """Rings about the pattern's x axis, and fibres along it."""
    reach = wp.max(wide[0], wp.max(wide[1], wide[2]))
    bend = fbm(wp.vec3(q[0] * 0.08, q[1] * 0.3, q[2] * 0.3), 0.3 * reach, 2, 0.5, p.seed)
    u = wp.sqrt(q[1] * q[1] + q[2] * q[2]) + p.warp * bend[0]
    ring = rings(u, (wide[1] + wide[2]) * (1.0 + p.warp) + SPREAD * p.warp * wp.sqrt(bend[1]))
    fine = kept(8.0 * wp.max(wide[1], wide[2]))
    if fine > 0.0:
        fine = fine * gradient_noise(wp.vec3(q[0] * 0.4, q[1] * 8.0, q[2] * 8.0), p.seed + wp.uint32(7))
    return wp.clamp(0.75 * ring + 0.125 + 0.5 * fine, 0.0, 1.0)


@wp.func
def marble(p: PatternRow, q: wp.vec3, wide: wp.vec3, reach: float) -> float:
    """Veins across the pattern's x axis, bent by turbulence."""
    bend = fbm(q * 0.7, 0.7 * reach, p.octaves, p.gain, p.seed)
    width = wide[0] + p.warp * reach + SPREAD * p.warp * wp.sqrt(bend[1])
    return veins(q[0] + p.warp * bend[0], width)


@wp.func
def bricks(p: PatternRow, x: float, y: float, wx: float, wy: float) -> wp.vec2:
    """A wall in running bond: share of mortar, and how much brighter or darker this brick is."""
    v = y / COURSE
    wv = wy / COURSE
    course = int(wp.floor(v))
    u = x + 0.5 * float(course & 1)
    # Mortar is as wide in upright joints as in level ones.
    gap = p.mortar * COURSE
    upright = pulse(u, gap, wx)
    # A footprint over several courses sees joints at both offsets.
    both = wp.clamp(wv - 0.5, 0.0, 1.0)
    if both > 0.0:
        upright += (0.5 * (upright + pulse(u + 0.5, gap, wx)) - upright) * both
    inside = upright * pulse(v, p.mortar, wv)
    tone = unit_interval(hash3(int(wp.floor(u)), course, 0, p.seed)) * 2.0 - 1.0
    return wp.vec2(1.0 - inside, p.variation * tone * kept(wp.max(wx, wv)))


@wp.func
def laid(p: PatternRow, q: wp.vec3, wide: wp.vec3, across: wp.vec3) -> wp.vec2:
    """Bricks on the plane that the surface looks along most: courses rise with z, or with y where it lies."""
    ax = wp.abs(across[0])
    ay = wp.abs(across[1])
    az = wp.abs(across[2])
    if az >= ax and az >= ay:
        return bricks(p, q[0], q[1], wide[0], wide[1])
    if ax > ay:
        return bricks(p, q[1], q[2], wide[1], wide[2])
    return bricks(p, q[0], q[2], wide[0], wide[2])


@wp.func
def pattern_color(p: PatternRow, q: wp.vec3, dx: wp.vec3, dy: wp.vec3, across: wp.vec3) -> wp.vec3:
    """Colour of a pattern over a pixel's footprint.

    Args:
        p: the pattern.
        q: the point, in the pattern's own frame and units.
        dx: its change over one pixel in x.
        dy: and in y.
        across: the surface's normal in that frame, any length.
    """
    wide = wp.vec3(
        wp.abs(dx[0]) + wp.abs(dy[0]), wp.abs(dx[1]) + wp.abs(dy[1]), wp.abs(dx[2]) + wp.abs(dy[2])
    )
    reach = wp.sqrt(wp.max(wp.dot(dx, dx), wp.dot(dy, dy)))
    t = float(0.0)
    tone = float(0.0)
    if p.kind == KIND_FBM:
        noise = fbm(q, reach, p.octaves, p.gain, p.seed)
        t = normal_cdf(p.contrast * noise[0] / wp.sqrt(1.0 + p.contrast * p.contrast * noise[1]))
    elif p.kind == KIND_WORLEY:
        t = wp.where(p.mapped == 1, WORLEY_MEAN_FLAT, WORLEY_MEAN)
        keep = kept(reach)
        if keep > 0.0:
            t += (wp.min(nearest_seed(q, p.mapped, p.seed), 1.0) - t) * keep
    elif p.kind == KIND_CHECKER:
        sign = square_wave(0.5 * q[0], 0.5 * wide[0]) * square_wave(0.5 * q[1], 0.5 * wide[1])
        if p.mapped == 0:
            sign = sign * square_wave(0.5 * q[2], 0.5 * wide[2])
        t = 0.5 - 0.5 * sign
    elif p.kind == KIND_STRIPES:
        t = 0.5 - 0.5 * square_wave(q[0], wide[0])
    elif p.kind == KIND_WOOD:
        t = wood(p, q, wide)
    elif p.kind == KIND_MARBLE:
        t = marble(p, q, wide, reach)
    elif p.kind == KIND_BRICK:
        wall = wp.vec2(0.0, 0.0)
        if p.mapped == 1:
            wall = bricks(p, q[0], q[1], wide[0], wide[1])
        else:
            wall = laid(p, q, wide, across)
        t = wall[0]
        tone = wall[1]
    else:
        t = wp.clamp(q[0] + 0.5, 0.0, 1.0)
    return p.color_a * ((1.0 - t) * (1.0 + tone)) + p.color_b * t
