"""Materials of glTF 2.0 files (§3.9), and where their textures lie."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from imgsynth.batch import F64
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.shapes.meshsource import Home, Source
from imgsynth.textures import Chain, Role

BLEND_CUTOFF = 0.5


class Images(Protocol):
    """Where a material's images come from."""

    def image(self, texture: dict[str, Any]) -> tuple[str, bytes]:
        """An image's name and bytes."""
        ...


def read_material(
    item: dict[str, Any], default: str, home: Home, images: Images, source: Source
) -> FileMaterial:
    """One material. Blending becomes a cut-off at half opacity; notes say what was changed."""
    name = str(item.get("name") or default)
    pbr = item.get("pbrMetallicRoughness", {})
    extensions = item.get("extensions", {})
    factor, base = pbr.get("baseColorFactor", (1, 1, 1, 1)), pbr.get("baseColorTexture")
    metallic, roughness = pbr.get("metallicFactor", 1.0), pbr.get("roughnessFactor", 1.0)
    if (glossy := extensions.get("KHR_materials_pbrSpecularGlossiness")) is not None:
        factor, base = glossy.get("diffuseFactor", (1, 1, 1, 1)), glossy.get("diffuseTexture")
        metallic, roughness = 0.0, 1.0 - float(glossy.get("glossinessFactor", 1.0))
        source.note(f"material {name!r}: its specular colour is left out (specular-glossiness)")
    color = np.clip(np.array(factor, np.float64), 0, 1)
    if color.shape != (4,):
        raise ValueError("baseColorFactor has not four values")
    if "KHR_materials_transmission" in extensions:
        source.note(f"material {name!r}: what it lets through is left out (transmission)")
    cutoff = _cutoff(item, float(color[3]), base is not None, name, source)
    texture = None if base is None else _chain(home, images, base, opaque=not cutoff)
    if cutoff and texture is not None and color[3] < 1:
        cutoff = min(cutoff / max(float(color[3]), 1e-6), 1.0)  # of the texture's alpha alone
    strength = extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
    emission = np.array(item.get("emissiveFactor", (0, 0, 0)), np.float64) * float(strength)
    if emission.shape != (3,) or not np.isfinite(emission).all():
        raise ValueError("emissiveFactor has not three values")
    placed = uv_set(item)
    coat = extensions.get("KHR_materials_clearcoat", {})
    normal = item.get("normalTexture")

    def data(what: str, entry: dict[str, Any] | None, role: Role) -> Chain | None:
        """A further texture; one that lies otherwise on the surface than the first cannot be shown."""
        if entry is not None and not _same(_where(entry), placed):
            source.note(f"material {name!r}: its {what} texture is left out: it has coordinates of its own")
            entry = None
        return None if entry is None else home.texture(images.image(entry)[1], what, role)

    return FileMaterial(
        name=name,
        color=color[:3],
        texture=texture,
        metallic=_share(metallic),
        roughness=_share(roughness),
        emission=emission if emission.any() else None,
        alpha_cutoff=cutoff if texture is not None else 0.0,
        two_sided=bool(item.get("doubleSided", False)),
        normal=data("normal", normal, "normal"),
        normal_scale=None if normal is None else max(float(normal.get("scale", 1.0)), 0.0),
        surface=data("metallic-roughness", None if glossy else pbr.get("metallicRoughnessTexture"), "data"),
        emission_texture=data("emission", item.get("emissiveTexture"), "color") if emission.any() else None,
        clearcoat=_share(coat["clearcoatFactor"]) if "clearcoatFactor" in coat else None,
        clearcoat_roughness=_share(coat.get("clearcoatRoughnessFactor", 0.0)) if coat else None,
    )


def _share(value: Any) -> float:
    return float(np.clip(float(value), 0, 1))


def _cutoff(item: dict[str, Any], alpha: float, textured: bool, name: str, source: Source) -> float:
    """The texture alpha below which nothing is there; 0 where all is (§3.9.4)."""
    mode = item.get("alphaMode", "OPAQUE")
    if mode == "MASK":
        return float(item.get("alphaCutoff", 0.5))
    if mode == "BLEND" and textured:
        source.note(f"material {name!r}: blending becomes a cut-out where it is less than half opaque")
        return BLEND_CUTOFF
    if mode == "BLEND" and alpha < 1:
        source.note(f"material {name!r}: opaque here, {alpha:.0%} in the file (blending)")
    return 0.0


def _chain(home: Home, images: Images, texture: dict[str, Any], *, opaque: bool) -> Chain:
    name, data = images.image(texture)
    return home.texture(data, name, opaque=opaque)


def _textures(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The material's textures, the base colour's first."""
    pbr = item.get("pbrMetallicRoughness", {})
    glossy = item.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    entries = (
        glossy.get("diffuseTexture"), pbr.get("baseColorTexture"), pbr.get("metallicRoughnessTexture"),
        item.get("normalTexture"), item.get("emissiveTexture"),
    )  # fmt: skip
    return [entry for entry in entries if entry is not None]


def _where(entry: dict[str, Any]) -> tuple[int, F64]:
    """Which set of texture coordinates a texture reads, and their transform (KHR_texture_transform)."""
    said = entry.get("extensions", {}).get("KHR_texture_transform", {})
    c, s = np.cos(float(said.get("rotation", 0.0))), np.sin(float(said.get("rotation", 0.0)))
    out = np.eye(3)
    # Counter-clockwise as seen, with v downwards.
    out[:2, :2] = np.array([[c, s], [-s, c]]) * np.array(said.get("scale", (1, 1)), np.float64)
    out[:2, 2] = said.get("offset", (0, 0))
    return int(said.get("texCoord", entry.get("texCoord", 0))), out


def _same(a: tuple[int, F64], b: tuple[int, F64]) -> bool:
    return a[0] == b[0] and np.allclose(a[1], b[1])


def uv_set(item: dict[str, Any]) -> tuple[int, F64]:
    """Which set of texture coordinates a material reads, and their transform (3, 3): its base colour's, or
    else its first texture's.
    """
    return _where(next(iter(_textures(item)), {}))
