"""What surrounds the objects of a frame: light, floor and background."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, FLAT, GRADIENT, NOISE, PHOTO, Backgrounds, Ground, Lights
from imgsynth.color import srgb_to_linear
from imgsynth.matter import MaterialTable, TextureTable, asset
from imgsynth.plan import Draws, Plan, Reader
from imgsynth.scene import BackgroundSpec, PhotosSpec


def lights(plan: Plan, draws: Draws) -> Lights:
    """The sun and the ambient light of each frame; no irradiance where the scene has no sun."""
    n = len(draws.indices)
    read = Reader(draws, "light", np.arange(n))
    ambient = read("ambient.radiance")[:, None] * srgb_to_linear(read("ambient.color"))
    direction, irradiance, shadows = np.tile([0.0, 0.0, 1.0], (n, 1)), np.zeros((n, 3)), np.zeros(n, bool)
    if plan.spec.light.sun is not None:
        azimuth, elevation = (
            np.radians(read(f"sun.{a}_deg").astype(np.float64)) for a in ("azimuth", "elevation")
        )
        direction = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
        )
        irradiance = read("sun.irradiance")[:, None] * srgb_to_linear(read("sun.color"))
        shadows = read("sun.shadows").astype(bool)
    return Lights(
        direction.astype(np.float32), irradiance.astype(np.float32), ambient.astype(np.float32), shadows
    )


def ground(plan: Plan, draws: Draws, materials: MaterialTable) -> Ground:
    """The floor of each frame."""
    n = len(draws.indices)
    if plan.spec.ground is None:
        return Ground(np.zeros(n, bool), np.zeros(n, np.float32), np.zeros(n, np.int32))
    read = Reader(draws, "ground", np.arange(n))
    with asset("ground.material.texture"):
        material = materials.add(plan.spec.ground.material, read.at("material"), n)
    return Ground(np.ones(n, bool), read("height").astype(np.float32), material)


def backgrounds(
    spec: BackgroundSpec, read: Reader, textures: TextureTable, size: tuple[int, int]
) -> Backgrounds:
    """What each frame shows where nothing is hit: one of the kinds that the scene gives, by weight."""
    n = len(read.frame)
    kinds = spec.kinds
    edges = np.cumsum(list(kinds.values()))[:-1]
    chosen = np.array(list(kinds), object)[np.searchsorted(edges, read("pick"), side="right")]
    code = {"flat": FLAT, "gradient": GRADIENT, "noise": NOISE, "photos": PHOTO}
    kind = np.array([code[c] for c in chosen], np.int32)
    a, b = np.zeros((n, 3)), np.zeros((n, 3))
    scale, seed = np.ones(n), np.zeros(n, np.uint32)
    texture, window = np.full(n, -1, np.int32), np.tile([0.0, 0.0, 1.0, 1.0], (n, 1))
    for name, first, second in (
        ("flat", "flat", "flat"),
        ("gradient", "gradient.top", "gradient.bottom"),
        ("noise", "noise.a", "noise.b"),
    ):
        if name in kinds:
            here = np.asarray(chosen == name, bool)
            a[here], b[here] = srgb_to_linear(read(first)[here]), srgb_to_linear(read(second)[here])
    if spec.noise is not None:
        scale, seed = read("noise.scale"), read("noise.seed").astype(np.uint32)
    if spec.photos is not None:
        here = np.asarray(chosen == "photos", bool)
        a[here] = read("photos.brightness")[here, None]
        with asset("background.photos.folder"):
            texture[here], window[here] = _photo_windows(
                spec.photos, replace(read.at("photos"), frame=read.frame[here]), textures, size
            )
    f32 = np.float32
    return Backgrounds(
        kind, a.astype(f32), b.astype(f32), scale.astype(f32), seed, texture, window.astype(f32)
    )


def _photo_windows(
    spec: PhotosSpec, read: Reader, textures: TextureTable, size: tuple[int, int]
) -> tuple[NDArray[np.int32], F64]:
    """A crop of the frame's own aspect from each picked photograph."""
    index = textures.pick(spec.folder, read("pick"))
    photo = textures.sizes(index)
    aspect = (size[1] / size[0]) / (photo[:, 1] / photo[:, 0])  # > 1: the frame is wider than the photograph
    part = read("crop")[:, None] * np.stack([np.minimum(1.0, aspect), np.minimum(1.0, 1.0 / aspect)], -1)
    start = np.stack([read("x"), read("y")], -1) * (1.0 - part)
    return index, np.concatenate([start, start + part], 1)
