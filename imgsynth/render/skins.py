"""What a part's surface is made of, as pictures over its texture coordinates: what the references read.

A `Skin` is the material of `batch.Materials` with its textures decoded, level 0 only: path tracers average
by their paths, not by mip chains.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from imgsynth.batch import F32, F64, SceneBatch
from imgsynth.color import srgb_to_linear
from imgsynth.render.reference import bilinear


@dataclass(frozen=True)
class Skin:
    """Pictures over texture coordinates, v downwards, repeated; each has its own size, 1 × 1 if constant."""

    albedo: F64  # (h, w, 3) linear base colour
    metallic: F64  # (h, w)
    roughness: F64  # (h, w) perceptual
    emission: F64  # (h, w, 3) radiance
    coat: F64  # (h, w) weight of the clearcoat
    coat_roughness: float
    normal: F64 | None  # (h, w, 3) unit, tangent space: x where u grows, y where v falls (up), z outwards
    opacity: F64 | None  # (h, w) 0 or 1

    @property
    def glows(self) -> bool:
        """Whether it shines anywhere."""
        return bool(np.any(self.emission > 0))


_ZERO = np.zeros((1, 1))
NOTHING = Skin(np.zeros((1, 1, 3)), _ZERO, _ZERO + 1, np.zeros((1, 1, 3)), _ZERO, 0.0, None, None)
"""Where there is no material: black."""


def skin(batch: SceneBatch, material: int) -> Skin:
    """The skin of a material by its own textures, NOTHING for none; patterns and layers are left out."""
    if material < 0:
        return NOTHING
    mat = batch.materials
    metallic, roughness = (np.full((1, 1), float(v[material])) for v in (mat.metallic, mat.roughness))
    albedo = mat.base_color[material].astype(np.float64).reshape(1, 1, 3)
    emission = mat.emission[material].astype(np.float64).reshape(1, 1, 3)
    opacity = normal = None
    if mat.texture[material] >= 0:
        image = texels(batch, int(mat.texture[material]))
        albedo = srgb_to_linear(image[..., :3]) * albedo
        if mat.alpha_cutoff[material] > 0:
            opacity = cut_out(image[..., 3], float(mat.alpha_cutoff[material]))
    if mat.surface_texture[material] >= 0:
        image = texels(batch, int(mat.surface_texture[material]))
        roughness, metallic = roughness * image[..., 1], metallic * image[..., 2]
    if mat.emission_texture[material] >= 0:
        emission = srgb_to_linear(texels(batch, int(mat.emission_texture[material]))[..., :3]) * emission
    if mat.normal_texture[material] >= 0:
        image = texels(batch, int(mat.normal_texture[material]))
        normal = bumps(image, float(mat.normal_scale[material]))
    coat, smear = np.full((1, 1), float(mat.clearcoat[material])), float(mat.clearcoat_roughness[material])
    return Skin(albedo, metallic, roughness, emission, coat, smear, normal, opacity)


def texels(batch: SceneBatch, texture: int) -> F32:
    """(h, w, 4) codes of a texture over 255."""
    pool = batch.textures
    level = int(pool.first_level[texture])
    h, w = (int(v) for v in pool.level_size[level])
    start = int(pool.level_start[level])
    return pool.texels[start : start + h * w].reshape(h, w, 4).astype(np.float32) / np.float32(255)


def bumps(image: F32, scale: float) -> F64:
    """(h, w, 3) unit normals of a normal map's codes over 255, its slopes times `scale`."""
    n = image[..., :3].astype(np.float64) * 255 - 128
    n[..., :2] *= scale
    out: F64 = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-9)
    return out


def cut_out(alpha: F32, cutoff: float) -> F64:
    """(h, w) 1 where bilinear alpha reaches the cut-off, on a grid fine enough to draw its curve."""
    h, w = alpha.shape
    fine = max(1, min(8, 2048 // max(h, w)))
    v, u = np.meshgrid((np.arange(h * fine) + 0.5) / (h * fine), (np.arange(w * fine) + 0.5) / (w * fine),
                       indexing="ij")  # fmt: skip
    return (bilinear(alpha, np.stack([u, v], -1)) >= cutoff).astype(np.float64)


def on_one_grid(*pictures: F64) -> list[F64]:
    """Pictures (h, w) or (h, w, c) on the finest of their grids; those of 1 × 1 are left to broadcast."""
    size = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    return [p if p.shape[:2] in (size, (1, 1)) else resized(p, size) for p in pictures]


def resized(picture: F64, size: tuple[int, int]) -> F64:
    """A picture on another grid, bilinear, repeated at its borders."""
    border = 2
    wide = np.pad(picture, [(border, border), (border, border), *[(0, 0)] * (picture.ndim - 2)], mode="wrap")
    (h, w), (rows, columns) = picture.shape[:2], size
    x = (np.arange(columns, dtype=np.float32) + 0.5) * w / columns - 0.5 + border
    y = (np.arange(rows, dtype=np.float32) + 0.5) * h / rows - 0.5 + border
    at_x, at_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(wide.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR).astype(np.float64)
