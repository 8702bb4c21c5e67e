"""Host side of materials: a batch's tables as the arrays that kernels read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import Materials
from imgsynth.render.arrays import (
    NEEDS_POINT,
    NEEDS_SLOPE,
    NEEDS_UV,
    Finish,
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
        return
    geo.finishes = memory.up(
        pack(
            Finish,
            normal_texture=mat.normal_texture,
            surface_texture=mat.surface_texture,
            emission_texture=mat.emission_texture,
            pattern=mat.pattern,
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


def needs(mat: Materials) -> NDArray[np.int32]:
    """(A,) what each material wants to know of a surface point: sums of NEEDS_…"""
    bumpy = mat.normal_texture >= 0
    mapped = (mat.texture >= 0) | bumpy | (mat.surface_texture >= 0) | (mat.emission_texture >= 0)
    solid = np.zeros(len(mapped), bool)
    if mat.patterns is not None and len(mat.patterns):
        over_uv = mat.patterns.mapped[np.maximum(mat.pattern, 0)]
        mapped |= (mat.pattern >= 0) & over_uv
        solid = (mat.pattern >= 0) & ~over_uv
    total = mapped * NEEDS_UV + solid * NEEDS_POINT + bumpy * NEEDS_SLOPE
    return np.asarray(total, np.int32)
