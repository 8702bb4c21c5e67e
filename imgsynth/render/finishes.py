"""Host side of materials: a batch's tables as the arrays that kernels read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray
from scipy.special import ndtri

from imgsynth.batch import Materials, TexturePool
from imgsynth.color import srgb_to_linear
from imgsynth.render.arrays import (
    NEEDS_POINT,
    NEEDS_SLOPE,
    NEEDS_UV,
    Finish,
    LayerRow,
    Material,
    PatternRow,
    pack,
)
from imgsynth.render.memory import Memory


def upload(memory: Memory, geo: Any, mat: Materials) -> None:
    """Put the materials of a batch, and what they are made with, into `geo`."""
    geo.materials = memory.up(
        pack(
            Material,
            base_color=mat.base_color,
            emission=mat.emission,
            uv_scale=mat.uv_scale,
            metallic=mat.metallic,
            roughness=mat.roughness,
            alpha_cutoff=mat.alpha_cutoff,
            texture=mat.texture,
            needs=needs(mat),
        ),
        Material,
    )
    if mat.plain:
        geo.finishes = memory.up(pack(Finish, pattern=np.zeros(0)), Finish)
        geo.patterns = memory.up(pack(PatternRow, kind=np.zeros(0)), PatternRow)
        geo.layers = memory.up(pack(LayerRow, kind=np.zeros(0)), LayerRow)
        return
    geo.finishes = memory.up(
        pack(
            Finish,
            normal_texture=mat.normal_texture,
            surface_texture=mat.surface_texture,
            emission_texture=mat.emission_texture,
            pattern=mat.pattern,
            first_layer=mat.layer_range[:, 0],
            last_layer=mat.layer_range[:, 1],
            normal_scale=mat.normal_scale,
            coat=mat.clearcoat,
            coat_rough=mat.clearcoat_roughness,
        ),
        Finish,
    )
    kinds = mat.patterns
    columns = {} if kinds is None else {f.name: getattr(kinds, f.name) for f in fields(kinds)}
    rows = pack(PatternRow, **(columns or {"kind": np.zeros(0)}))
    geo.patterns = memory.up(rows, PatternRow)
    geo.layers = memory.up(pack(LayerRow, **_layers(mat)), LayerRow)


def upload_textures(memory: Memory, geo: Any, textures: TexturePool) -> None:
    """Put the textures of a batch, and the table that decodes them, into `geo`."""
    up = memory.up
    geo.texels = up(np.ascontiguousarray(textures.texels).view("<u4").reshape(-1), wp.uint32)
    geo.first_level = up(textures.first_level, wp.int32)
    geo.level_start = up(textures.level_start, wp.int64)
    geo.level_size = up(textures.level_size, wp.vec2i)
    geo.srgb = up(srgb_to_linear(np.arange(256) / 255.0).astype(np.float32), wp.float32)


STICKER_AREA = 0.2228
"""Mean area of a sticker in its cell: 4·a·b less the corners, by the laws of a and b in `layers.stickers`."""


def _layers(mat: Materials) -> dict[str, NDArray[Any]]:
    """Fields of `arrays.LayerRow`: the columns, and what coverage means to each kind."""
    if mat.layers is None:
        return {"kind": np.zeros(0)}
    out = {f.name: getattr(mat.layers, f.name) for f in fields(mat.layers)}
    coverage = mat.layers.coverage.astype(np.float64)
    # Noise of variance 1 plus edges of variance softness² exceeds it on the share asked for.
    reach = np.clip(ndtri(coverage), -50.0, 50.0)
    out["threshold"] = -reach * np.sqrt(1.0 + mat.layers.softness.astype(np.float64) ** 2)
    # Three directions, each with half its places taken, together cover what is asked for.
    each = 1.0 - (1.0 - coverage) ** (1 / 3)
    out["spacing"] = 0.5 * mat.layers.width / np.maximum(each, 1e-6)
    out["chance"] = coverage / STICKER_AREA
    return out


def needs(mat: Materials) -> NDArray[np.int32]:
    """(A,) what each material wants to know of a surface point: sums of NEEDS_…"""
    bumpy = mat.normal_texture >= 0
    mapped = (mat.texture >= 0) | bumpy | (mat.surface_texture >= 0) | (mat.emission_texture >= 0)
    solid = np.zeros(len(mapped), bool)
    if mat.layers is not None:
        for k, (first, last) in enumerate(mat.layer_range):
            over_uv = mat.layers.mapped[first:last]
            mapped[k] |= bool(over_uv.any())
            solid[k] = not over_uv.all()
    if mat.patterns is not None and len(mat.patterns):
        over_uv = mat.patterns.mapped[np.maximum(mat.pattern, 0)]
        mapped |= (mat.pattern >= 0) & over_uv
        solid |= (mat.pattern >= 0) & ~over_uv
    total = mapped * NEEDS_UV + solid * NEEDS_POINT + bumpy * NEEDS_SLOPE
    return np.asarray(total, np.int32)
