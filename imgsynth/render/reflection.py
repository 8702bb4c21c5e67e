# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""What a surface reflects of light that reaches it: the BSDF, as Warp functions."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS
from imgsynth.render.finish import Matter

wp.set_module_options(OPTIONS)

INVERSE_PI = wp.constant(0.318309886)
LEAST_ROUGHNESS = wp.constant(0.045)  # below it the highlight of a point-like sun is no longer a picture


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
