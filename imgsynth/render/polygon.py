# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""Light from a diffuse rectangle in closed form, as Warp functions: Lambert's contour integral."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS
from imgsynth.render.surfaces import unit

wp.set_module_options(OPTIONS)

PI = wp.constant(3.14159265)


@wp.func
def arc_cosine(x: float) -> float:
    """arccos to 2e-8 (Abramowitz and Stegun 1964, 4.4.46), the same on every machine."""
    a = wp.min(wp.abs(x), 1.0)
    p = wp.sqrt(1.0 - a) * arc_series(a)
    return wp.where(x < 0.0, PI - p, p)


@wp.func
def arc_series(a: float) -> float:
    """arccos(a) / √(1 - a) for 0 ≤ a ≤ 1."""
    p = -0.0012624911 * a + 0.0066700901
    p = p * a - 0.0170881256
    p = p * a + 0.0308918810
    p = p * a - 0.0501743046
    p = p * a + 0.0889789874
    p = p * a - 0.2145988016
    return p * a + 1.5707963050


@wp.func
def arc_over_sine(x: float) -> float:
    """θ / sin θ of x = cos θ."""
    if x >= 0.0:
        return arc_series(wp.min(x, 1.0)) / wp.sqrt(1.0 + x)
    return arc_cosine(x) / wp.sqrt(wp.max(1.0 - x * x, 1.0e-8))


@wp.func
def side(a: wp.vec3, b: wp.vec3) -> wp.vec3:
    """A contour's share of the vector irradiance: the angle from a to b (unit) about their normal, halved."""
    return wp.cross(a, b) * (0.5 * arc_over_sine(wp.dot(a, b)))


@wp.func
def whole(a: wp.vec3, b: wp.vec3, c: wp.vec3, d: wp.vec3) -> wp.vec3:
    """Vector irradiance of a quadrilateral of radiance 1, its corners at a … d from the point, no horizon.

    Lambert (1760); in this form Baum, Rushmeier and Winget (1989), eq. 7: E·n is half the sum over the sides
    of their angles times (unit normal of point and side)·n.
    """
    p = unit(a)
    q = unit(b)
    r = unit(c)
    s = unit(d)
    return side(p, q) + side(q, r) + side(r, s) + side(s, p)


@wp.func
def received(n: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, d: wp.vec3) -> float:
    """Irradiance on a surface of normal n from a quadrilateral of radiance 1, cut off at its horizon.

    What lies above the horizon is a polygon again; where the contour dips below and comes back the horizon
    itself is its side, and that is the angle between the two points.
    """
    total = float(0.0)
    leave = wp.vec3(0.0, 0.0, 0.0)
    enter = wp.vec3(0.0, 0.0, 0.0)
    cut = 0
    for k in range(4):
        p = wp.where(k == 0, a, wp.where(k == 1, b, wp.where(k == 2, c, d)))
        q = wp.where(k == 0, b, wp.where(k == 1, c, wp.where(k == 2, d, a)))
        hp = wp.dot(p, n)
        hq = wp.dot(q, n)
        if hp > 0.0 or hq > 0.0:
            if hp <= 0.0:
                p = p + (q - p) * (hp / (hp - hq))
                enter = unit(p)
                cut += 1
            elif hq <= 0.0:
                q = p + (q - p) * (hp / (hp - hq))
                leave = unit(q)
                cut += 1
            total += wp.dot(side(unit(p), unit(q)), n)
    if cut == 2:
        total += wp.dot(side(leave, enter), n)
    return wp.abs(total)
