# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""What materials with patterns and layers are at given points, by the raster renderer's own finish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.batch import F64, SceneBatch
from imgsynth.render import finishes
from imgsynth.render.arrays import OPTIONS, Geometry
from imgsynth.render.finish import DIELECTRIC, rich_matter
from imgsynth.render.memory import Memory
from imgsynth.render.surfaces import Surface

wp.set_module_options(OPTIONS)


@dataclass(frozen=True)
class Finish:
    """What surface points are made of, (n, …): linear base colour, numbers of 0 to 1, radiance."""

    albedo: F64
    metallic: F64
    roughness: F64
    emission: F64
    coat: F64


@wp.kernel
def finish(
    geo: Geometry,
    material: wp.int32,
    point: wp.array(dtype=wp.vec3),
    dx: wp.array(dtype=wp.vec3),
    dy: wp.array(dtype=wp.vec3),
    across: wp.array(dtype=wp.vec3),
    uv: wp.array(dtype=wp.vec2),
    du: wp.array(dtype=wp.vec2),
    dv: wp.array(dtype=wp.vec2),
    albedo: wp.array(dtype=wp.vec3),
    f0: wp.array(dtype=wp.vec3),
    emission: wp.array(dtype=wp.vec3),
    numbers: wp.array(dtype=wp.vec2),
):
    """What a material is at given points, each over a footprint; `numbers` are roughness and clearcoat."""
    i = wp.tid()
    up = wp.vec3(0.0, 0.0, 1.0)
    surface = Surface()
    surface.material = material
    surface.normal = up
    surface.face_normal = up
    surface.point = point[i]
    surface.dx = dx[i]
    surface.dy = dy[i]
    surface.across = across[i]
    surface.uv = uv[i]
    surface.du = du[i]
    surface.dv = dv[i]
    m = rich_matter(geo, surface, up, up)
    albedo[i] = m.albedo
    f0[i] = m.f0
    emission[i] = m.emission
    numbers[i] = wp.vec2(m.rough, m.coat * (1.0 / DIELECTRIC))  # straight ahead lacquer reflects that


@dataclass(frozen=True)
class Patch:
    """Surface points and their footprints, (n, …): metres in the object's frame, texture coordinates."""

    point: F64
    dx: F64
    dy: F64
    across: F64  # normals, any length
    uv: F64
    du: F64
    dv: F64


class Finisher:
    """Evaluates the materials of a batch, patterns and layers included."""

    def __init__(self, batch: SceneBatch):
        self.memory = Memory("cpu")
        self.geo = Geometry()
        finishes.upload(self.memory, self.geo, batch.materials)
        finishes.upload_textures(self.memory, self.geo, batch.textures)

    def at(self, material: int, patch: Patch) -> Finish:
        """What a material, of those that have patterns or layers, is on a patch."""
        n, mem = len(patch.point), self.memory
        names = ("point", "dx", "dy", "across", "uv", "du", "dv")
        given = [
            mem.up(getattr(patch, name).astype(np.float32), wp.vec3 if i < 4 else wp.vec2)
            for i, name in enumerate(names)
        ]
        out = [mem.empty((n,), kind) for kind in (wp.vec3, wp.vec3, wp.vec3, wp.vec2)]
        wp.launch(finish, dim=n, inputs=[self.geo, material, *given, *out], device=mem.device)
        albedo, f0, emission, numbers = (mem.down(a).astype(np.float64) for a in out)
        # f0 = 0.04 (1 - metallic) + albedo · metallic, least squares over the three colours.
        span = albedo - DIELECTRIC
        metallic = ((f0 - DIELECTRIC) * span).sum(1) / np.maximum((span * span).sum(1), 1e-9)
        coat = np.where(numbers[:, 1] > 1e-6, numbers[:, 1], 0.0)
        return Finish(albedo, np.clip(metallic, 0, 1), numbers[:, 0], emission, coat)


def patterned(batch: SceneBatch) -> NDArray[np.bool_]:
    """(A,) materials that have a pattern or layers."""
    mat = batch.materials
    out: NDArray[np.bool_] = (mat.pattern >= 0) | (mat.layer_range[:, 1] > mat.layer_range[:, 0])
    return out
