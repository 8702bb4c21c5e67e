# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""Lenses as Warp functions: bending image points, and tables of the straight points that samples see.

Models, coefficients and fields are those of `imgsynth.lens`; here a point that lies in no field is
(NaN, NaN), which no triangle covers.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Placement

wp.set_module_options(OPTIONS)

vec8d = wp.types.vector(length=8, dtype=wp.float64)
BROWN = wp.constant(1)
ROUNDS = wp.constant(60)
WARM_ROUNDS = wp.constant(6)
ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
SMALL = wp.constant(wp.float64(1e-9))
NEAR = wp.constant(wp.float64(1e-24))  # squared miss from which a point is found
WARM = wp.constant(wp.float64(1e-22))
FOUND = wp.constant(wp.float64(1e-18))  # … and from which it counts as found
INSIDE = wp.constant(wp.float64(1.0 + 1e-9))


@wp.struct
class LensData:
    """A lens and the K it stands before."""

    kind: wp.int32
    c: vec8d
    reach: wp.float64  # radius of its field
    k: wp.mat33d
    inverse_k: wp.mat33d


@wp.func
def brown(c: vec8d, p: wp.vec2d) -> wp.vec2d:
    """Brown–Conrady: the bent point of a straight one."""
    x = p[0]
    y = p[1]
    s = x * x + y * y
    f = (ONE + s * (c[0] + s * (c[1] + s * c[4]))) / (ONE + s * (c[5] + s * (c[6] + s * c[7])))
    return wp.vec2d(
        x * f + TWO * c[2] * x * y + c[3] * (s + TWO * x * x),
        y * f + c[2] * (s + TWO * y * y) + TWO * c[3] * x * y,
    )


@wp.func
def brown_slopes(c: vec8d, p: wp.vec2d) -> wp.vec3d:
    """Its Jacobian (xx, xy = yx, yy)."""
    x = p[0]
    y = p[1]
    s = x * x + y * y
    low = ONE + s * (c[5] + s * (c[6] + s * c[7]))
    f = (ONE + s * (c[0] + s * (c[1] + s * c[4]))) / low
    three = wp.float64(3.0)
    six = wp.float64(6.0)
    slope = c[0] + s * (TWO * c[1] + three * s * c[4])
    slope = (slope - f * (c[5] + s * (TWO * c[6] + three * s * c[7]))) / low
    return wp.vec3d(
        f + TWO * x * x * slope + TWO * c[2] * y + six * c[3] * x,
        TWO * (x * y * slope + c[2] * x + c[3] * y),
        f + TWO * y * y * slope + six * c[2] * y + TWO * c[3] * x,
    )


@wp.func
def theta(c: vec8d, t: wp.float64) -> wp.vec2d:
    """Kannala–Brandt: bent radius of the angle t from the axis, and its derivative."""
    s = t * t
    value = t * (ONE + s * (c[0] + s * (c[1] + s * (c[2] + s * c[3]))))
    slope = wp.float64(7.0) * c[2] + s * wp.float64(9.0) * c[3]
    slope = ONE + s * (wp.float64(3.0) * c[0] + s * (wp.float64(5.0) * c[1] + s * slope))
    return wp.vec2d(value, slope)


@wp.func
def bend(lens: LensData, p: wp.vec2d) -> wp.vec2d:
    """The bent point of a straight one in the field."""
    if lens.kind == BROWN:
        return brown(lens.c, p)
    r = wp.sqrt(p[0] * p[0] + p[1] * p[1])
    if r < SMALL:
        return p
    t = theta(lens.c, wp.atan(r))
    return p * (t[0] / r)


@wp.func
def held(p: wp.vec2d, reach: wp.float64) -> wp.vec2d:
    """p, brought back to the rim of the field where it lies outside."""
    s = p[0] * p[0] + p[1] * p[1]
    if s > reach * reach:
        return p * (reach / wp.sqrt(s))
    return p


@wp.func
def radial_start(lens: LensData, bent: wp.vec2d) -> wp.vec2d:
    """The straight point of a bent one, decentering left out: Newton's method within a shrinking bracket."""
    c = lens.c
    c[2] = ZERO
    c[3] = ZERO
    wanted = wp.sqrt(bent[0] * bent[0] + bent[1] * bent[1])
    if wanted < SMALL:
        return bent
    low = wp.float64(0.0)
    high = lens.reach
    r = wp.min(wanted, high)
    for _i in range(ROUNDS):
        at = wp.vec2d(r, ZERO)
        miss = brown(c, at)[0] - wanted
        if miss * miss < NEAR:
            break
        if miss < ZERO:
            low = r
        else:
            high = r
        new = r - miss / brown_slopes(c, at)[0]
        if not (new >= low and new <= high):
            new = (low + high) * HALF
        r = new
    return bent * (r / wanted)


@wp.func
def newton(lens: LensData, bent: wp.vec2d, start: wp.vec2d, rounds: int) -> wp.vec3d:
    """Newton's method from `start`, steps held in the field, halved where they lead away: (x, y, miss²)."""
    p = held(start, lens.reach)
    miss = brown(lens.c, p) - bent
    size = wp.dot(miss, miss)
    share = wp.float64(1.0)
    for _i in range(rounds):
        if size < NEAR:
            break
        j = brown_slopes(lens.c, p)
        scale = share / (j[0] * j[2] - j[1] * j[1])
        step = wp.vec2d(j[2] * miss[0] - j[1] * miss[1], j[0] * miss[1] - j[1] * miss[0]) * scale
        trial = held(p - step, lens.reach)
        there = brown(lens.c, trial) - bent
        other = wp.dot(there, there)
        if other < size:
            p = trial
            miss = there
            size = other
            share = wp.min(share * TWO, ONE)
        else:
            share = share * HALF
    return wp.vec3d(p[0], p[1], size)


@wp.func
def unbend(lens: LensData, bent: wp.vec2d, guess: wp.vec2d) -> wp.vec2d:
    """The straight point of a bent one, (NaN, NaN) outside of the field; `guess` may be anything."""
    nothing = wp.float64(wp.nan)
    if lens.kind == BROWN:
        found = newton(lens, bent, guess, WARM_ROUNDS)
        if not (found[2] < WARM):
            found = newton(lens, bent, radial_start(lens, bent), ROUNDS)
        if not (found[2] < FOUND * wp.max(ONE, wp.dot(bent, bent))):
            return wp.vec2d(nothing, nothing)
        return wp.vec2d(found[0], found[1])
    radius = wp.sqrt(bent[0] * bent[0] + bent[1] * bent[1])
    if radius < SMALL:
        return bent
    most = wp.atan(lens.reach * INSIDE)
    t = wp.min(radius, most)
    for _i in range(ROUNDS):
        v = theta(lens.c, t)
        step = (v[0] - radius) / v[1]
        t = wp.min(wp.max(t - step, ZERO), most)
        if step * step < NEAR:
            break
    miss = theta(lens.c, t)[0] - radius
    if not (miss * miss < FOUND * wp.max(ONE, radius * radius)):
        return wp.vec2d(nothing, nothing)
    return bent * (wp.tan(t) / radius)


@wp.kernel
def lay(
    lenses: wp.array(dtype=LensData),
    lens_of: wp.array(dtype=wp.int32),
    places: wp.array(dtype=Placement),
    items: wp.array(dtype=wp.vec2i),
    points: wp.array(dtype=wp.vec2d),
    bounds: wp.array2d(dtype=wp.float64),
):
    """Straight points, in pixels, of the samples of the lines `items` (place, line), and each place's bounds.

    Cells within a place's `window` are left out: (NaN, NaN).
    """
    item = items[wp.tid()]
    place = places[item[0]]
    lens = lenses[lens_of[item[0]]]
    affine = place.map
    window = place.window
    skipped = item[1] >= window[1] and item[1] < window[3]
    y = (wp.float64(item[1]) + HALF - affine[3]) / affine[2]
    lo_x = wp.float64(1e300)
    lo_y = wp.float64(1e300)
    hi_x = wp.float64(-1e300)
    hi_y = wp.float64(-1e300)
    at = place.base + wp.int64(item[1]) * wp.int64(place.columns)
    last = wp.vec2d(ZERO, ZERO)
    before = wp.vec2d(ZERO, ZERO)
    for x in range(place.columns):
        p = wp.vec2d(wp.float64(wp.nan), wp.float64(wp.nan))
        if not (skipped and x >= window[0] and x < window[2]):
            image = wp.vec3d((wp.float64(x) + HALF - affine[1]) / affine[0], y, ONE)
            bent = lens.inverse_k * image
            straight = unbend(lens, wp.vec2d(bent[0], bent[1]), last + last - before)
            before = last
            last = straight
            pixel = lens.k * wp.vec3d(straight[0], straight[1], ONE)
            p = wp.vec2d(pixel[0], pixel[1])
            if p[0] == p[0]:
                lo_x = wp.min(lo_x, p[0])
                lo_y = wp.min(lo_y, p[1])
                hi_x = wp.max(hi_x, p[0])
                hi_y = wp.max(hi_y, p[1])
            else:
                last = wp.vec2d(ZERO, ZERO)
                before = last
        points[at + wp.int64(x)] = p
    wp.atomic_min(bounds, item[0], 0, lo_x)
    wp.atomic_min(bounds, item[0], 1, lo_y)
    wp.atomic_max(bounds, item[0], 2, hi_x)
    wp.atomic_max(bounds, item[0], 3, hi_y)
