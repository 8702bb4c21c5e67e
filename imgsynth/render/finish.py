# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""What a surface point is made of: from a material and its textures to the `Matter` that light meets."""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Geometry, PatternRow
from imgsynth.render.layers import KIND_DECAL, KIND_STICKERS, Coat, decal, stickers, worn
from imgsynth.render.patterns import pattern_color
from imgsynth.render.surfaces import Surface, facing, unit
from imgsynth.render.texturing import codes, filtered

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


@wp.struct
class Mapping:
    """Where a surface point lies on its material's textures: v downwards, in repeats."""

    uv: wp.vec2
    du: wp.vec2  # its change over one pixel in x
    dv: wp.vec2  # and in y


@wp.func
def mapping(surface: Surface, repeat: wp.vec2) -> Mapping:
    """Texture coordinates of a surface point, repeated."""
    out = Mapping()
    out.uv = wp.vec2(surface.uv[0] * repeat[0], 1.0 - surface.uv[1] * repeat[1])
    out.du = wp.vec2(surface.du[0] * repeat[0], -surface.du[1] * repeat[1])
    out.dv = wp.vec2(surface.dv[0] * repeat[0], -surface.dv[1] * repeat[1])
    return out


@wp.func
def dressed(m: Matter, albedo: wp.vec3, metallic: float) -> Matter:
    """`m` with the reflectances of a base colour: metal has it in its gloss, the rest below it."""
    grey = wp.vec3(DIELECTRIC, DIELECTRIC, DIELECTRIC)
    m.albedo = albedo
    m.f0 = grey * (1.0 - metallic) + albedo * metallic
    m.diffuse = albedo * (1.0 - metallic)
    return m


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
        at = mapping(surface, material.uv_scale)
        albedo = wp.cw_mul(albedo, filtered(geo, material.texture, at.uv, at.du, at.dv, False))
    out = Matter()
    out.rough = material.roughness
    out.emission = material.emission
    out.normal = n
    out.coat = 0.0
    return dressed(out, albedo, material.metallic)


@wp.func
def patterned(p: PatternRow, surface: Surface, repeat: wp.vec2) -> wp.vec3:
    """Colour of a pattern at a surface point."""
    point = surface.point
    dx = surface.dx
    dy = surface.dy
    across = surface.across
    if p.mapped == 1:
        point = wp.vec3(surface.uv[0] * repeat[0], surface.uv[1] * repeat[1], 0.0)
        dx = wp.vec3(surface.du[0] * repeat[0], surface.du[1] * repeat[1], 0.0)
        dy = wp.vec3(surface.dv[0] * repeat[0], surface.dv[1] * repeat[1], 0.0)
    return pattern_color(p, p.frame * point + p.offset, p.frame * dx, p.frame * dy, p.frame * across)


@wp.func
def bumped(surface: Surface, n: wp.vec3, v: wp.vec3, x: float, y: float, z: float) -> wp.vec3:
    """The normal (x, y, z) of a normal map, in the camera's frame.

    x points where u grows and v does not, at right angles to n; y at right angles to both, to the side where
    v grows. So no tangents are kept at vertices: the plane's own gradients of u and v say it all.
    """
    t = wp.cross(surface.slope_v, n)
    hand = wp.dot(t, surface.slope_u)
    if hand == 0.0:
        return n  # texture coordinates that do not span the plane
    t = unit(wp.where(hand > 0.0, t, -t))
    b = wp.cross(n, t)
    b = wp.where(wp.dot(b, surface.slope_v) >= 0.0, b, -b)
    return facing(t * x + b * y + n * z, v)


@wp.func
def rich_matter(geo: Geometry, surface: Surface, n: wp.vec3, v: wp.vec3) -> Matter:
    """A material with all that it may have; arguments as of `plain_matter`."""
    material = geo.materials[surface.material]
    finish = geo.finishes[surface.material]
    at = mapping(surface, material.uv_scale)
    albedo = material.base_color
    if material.texture >= 0:
        albedo = wp.cw_mul(albedo, filtered(geo, material.texture, at.uv, at.du, at.dv, False))
    if finish.pattern >= 0:
        albedo = wp.cw_mul(albedo, patterned(geo.patterns[finish.pattern], surface, material.uv_scale))
    metallic = material.metallic
    out = Matter()
    out.rough = material.roughness
    if finish.surface_texture >= 0:
        orm = codes(geo, finish.surface_texture, at.uv, at.du, at.dv, False)
        out.rough = out.rough * orm[1] * (1.0 / 255.0)
        metallic = metallic * orm[2] * (1.0 / 255.0)
    out.emission = material.emission
    if finish.emission_texture >= 0:
        glow = filtered(geo, finish.emission_texture, at.uv, at.du, at.dv, False)
        out.emission = wp.cw_mul(out.emission, glow)
    bare = float(1.0)  # share that no layer covers
    i = int(finish.first_layer)
    while i < finish.last_layer:
        layer = geo.layers[i]
        over = Coat()
        if layer.kind == KIND_DECAL:
            over = decal(geo, layer, surface)
        elif layer.kind == KIND_STICKERS:
            over = stickers(geo, layer, surface)
        else:
            over = worn(layer, surface, albedo)
        over.share = over.share * layer.strength
        albedo = albedo + (over.color - albedo) * over.share
        metallic = metallic + (layer.metallic - metallic) * over.share
        out.rough = out.rough + (layer.roughness - out.rough) * over.share
        out.emission = out.emission * (1.0 - over.share)
        bare = bare * (1.0 - over.share)
        i += 1
    out.normal = n
    if finish.normal_texture >= 0:
        c = codes(geo, finish.normal_texture, at.uv, at.du, at.dv, False)
        k = finish.normal_scale
        out.normal = bumped(surface, n, v, (c[0] - 128.0) * k, (c[1] - 128.0) * k, c[2] - 128.0)
        # Slopes of variance s² that filtering took away widen the gloss: α² + 2 s² (Toksvig; Olano and Baker,
        # "LEAN mapping", I3D 2010, for slopes alike in all directions).
        s = (1.0 - c[3] * (1.0 / 255.0)) * k
        if s > 0.0:
            r2 = out.rough * out.rough
            out.rough = wp.min(wp.sqrt(wp.sqrt(r2 * r2 + 2.0 * s * s)), 1.0)
    out.coat = 0.0
    if finish.coat > 0.0:
        # The coat fills what the normal map digs: it lies on the smooth surface.
        c1 = 1.0 - wp.max(wp.dot(n, v), 0.0)
        c2 = c1 * c1
        out.coat = bare * finish.coat * (DIELECTRIC + (1.0 - DIELECTRIC) * c2 * c2 * c1)
        out.coat_rough = finish.coat_rough
    return dressed(out, albedo, metallic)


@wp.func
def coat_of(m: Matter, n: wp.vec3) -> Matter:
    """The clearcoat of `m` alone, as if it reflected all: what `Matter.coat` mixes over the rest, as
    KHR_materials_clearcoat does.
    """
    out = Matter()
    out.f0 = wp.vec3(1.0, 1.0, 1.0)
    out.rough = m.coat_rough
    out.normal = n
    return out
