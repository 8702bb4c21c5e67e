# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""What a surface point is made of: from a material and its textures to the `Matter` that light meets."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Geometry
from imgsynth.render.surfaces import Surface
from imgsynth.render.texturing import filtered

wp.set_module_options(OPTIONS)

DIELECTRIC = wp.constant(0.04)  # normal reflectance of an index of refraction of 1.5


@wp.struct
class Matter:
    """What a surface point is made of, its textures looked up."""

    albedo: wp.vec3  # linear base colour
    f0: wp.vec3  # reflectance facing it
    diffuse: wp.vec3  # albedo below the gloss
    rough: wp.float32  # perceptual
    emission: wp.vec3
    normal: wp.vec3  # unit, camera frame, facing it: the shading normal, bumps included
    coat: wp.float32  # the clearcoat's share of the light that goes to the camera, 0 = none
    coat_rough: wp.float32


@wp.func
def plain_matter(geo: Geometry, surface: Surface, n: wp.vec3, v: wp.vec3) -> Matter:
    """A material of constants and at most a base-colour texture.

    Args:
        geo: materials and textures.
        surface: the point, which must have a material.
        n: unit normal facing the camera.
        v: unit, towards the camera.
    """
    material = geo.materials[surface.material]
    albedo = material.base_color
    if material.texture >= 0:
        s = material.uv_scale
        uv = wp.vec2(surface.uv[0] * s[0], 1.0 - surface.uv[1] * s[1])
        du = wp.vec2(surface.du[0] * s[0], -surface.du[1] * s[1])
        dv = wp.vec2(surface.dv[0] * s[0], -surface.dv[1] * s[1])
        albedo = wp.cw_mul(albedo, filtered(geo, material.texture, uv, du, dv, False))
    out = Matter()
    grey = wp.vec3(DIELECTRIC, DIELECTRIC, DIELECTRIC)
    out.albedo = albedo
    out.f0 = grey * (1.0 - material.metallic) + albedo * material.metallic
    out.diffuse = albedo * (1.0 - material.metallic)
    out.rough = material.roughness
    out.emission = material.emission
    out.normal = n
    out.coat = 0.0
    return out
