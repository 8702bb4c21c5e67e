"""What surrounds the objects of a frame: light, floor and background."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import (
    F64,
    FLAT,
    GRADIENT,
    NOISE,
    PHOTO,
    POINT,
    RECTANGLE,
    SPOT,
    Backgrounds,
    Environments,
    Ground,
    Lamps,
    Lights,
)
from imgsynth.color import srgb_to_linear
from imgsynth.environments import Environment, list_environments, load_environment
from imgsynth.geometry import normalize
from imgsynth.lightspec import EnvironmentSpec, LampSpec
from imgsynth.matter import MaterialTable, TextureTable, asset
from imgsynth.plan import Draws, Plan, Reader
from imgsynth.scene import BackgroundSpec, PhotosSpec
from imgsynth.sky import sky


def lights(plan: Plan, draws: Draws, folder: Path) -> Lights:
    """All light of each frame; no irradiance where the scene has no sun. Files are relative to `folder`."""
    spec, n = plan.spec.light, len(draws.indices)
    read = Reader(draws, "light", np.arange(n))
    ambient = read("ambient.radiance")[:, None] * srgb_to_linear(read("ambient.color"))
    direction, irradiance, shadows = np.tile([0.0, 0.0, 1.0], (n, 1)), np.zeros((n, 3)), np.zeros(n, bool)
    radius = np.zeros(n)
    if spec.sun is not None:
        azimuth, elevation = (
            np.radians(read(f"sun.{a}_deg").astype(np.float64)) for a in ("azimuth", "elevation")
        )
        direction = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
        )
        irradiance = read("sun.irradiance")[:, None] * srgb_to_linear(read("sun.color"))
        shadows = read("sun.shadows").astype(bool)
        radius = np.radians(read("sun.radius_deg").astype(np.float64))
    around = None
    if spec.environment is not None:
        with asset(f"light.environment.{'image' if spec.environment.image else 'folder'}"):
            files, index = _environments(spec.environment, read.at("environment"), folder)
        turn, scale = (
            np.radians(read("environment.rotation_deg").astype(np.float64)),
            read("environment.intensity"),
        )
        keeps = spec.sun is None
        if keeps:
            direction, irradiance, radius = _their_suns([files[k] for k in index], turn, scale)
            shadows = np.ones(n, bool)
        maps = tuple(f.radiance if keeps else f.whole for f in files)
        visible = read("environment.visible").astype(bool)
        around = Environments(maps, index, turn, scale.astype(np.float32), visible)
    elif spec.sky is not None:
        albedo = srgb_to_linear(read("sky.ground"))
        maps = tuple(map(sky, direction, read("sky.turbidity"), read("sky.irradiance"), albedo, irradiance))
        visible = read("sky.visible").astype(bool)
        around = Environments(
            maps, np.arange(n, dtype=np.int32), np.zeros(n), np.ones(n, np.float32), visible
        )
    f32 = np.float32
    return Lights(
        direction.astype(f32), irradiance.astype(f32), ambient.astype(f32), shadows,
        lamps=_lamps(plan, draws), samples=spec.samples, seed=read("seed").astype(np.uint32),
        environments=around, occlusion=read("occlusion").astype(f32), sun_radius=radius.astype(f32),
    )  # fmt: skip


def _environments(
    spec: EnvironmentSpec, read: Reader, folder: Path
) -> tuple[list[Environment], NDArray[np.int32]]:
    """The maps of the frames, each once, and which each frame has."""
    if spec.image is not None:
        return [load_environment(folder / spec.image)], np.zeros(len(read.frame), np.int32)
    files = list_environments(folder / str(spec.folder))
    which = np.minimum((read("pick") * len(files)).astype(int), len(files) - 1)
    chosen, index = np.unique(which, return_inverse=True)
    return [load_environment(files[k]) for k in chosen], index.astype(np.int32)


def _their_suns(maps: list[Environment], turn: F64, scale: NDArray[Any]) -> tuple[F64, F64, F64]:
    """Directions (n, 3), irradiances (n, 3) and angular radii (n,) of the maps' own suns."""
    d = np.array([m.sun_direction for m in maps]).reshape(-1, 3)
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.stack([cos * d[:, 0] - sin * d[:, 1], sin * d[:, 0] + cos * d[:, 1], d[:, 2]], 1)
    light = np.array([m.sun_irradiance for m in maps]).reshape(-1, 3) * scale[:, None]
    return turned, light, np.array([m.sun_radius for m in maps])


def _lamps(plan: Plan, draws: Draws) -> Lamps | None:
    """All lamps, sorted by frame; within a frame as the scene lists them."""
    groups = [_lamp_group(lamp, draws, name) for name, lamp in plan.spec.light.lamps.items()]
    if not groups:
        return None
    order = np.argsort(np.concatenate([g.frame for g in groups]), kind="stable")
    return Lamps(*(np.concatenate([getattr(g, f.name) for g in groups])[order] for f in fields(Lamps)))


def _lamp_group(lamp: LampSpec, draws: Draws, name: str) -> Lamps:
    """The lamps of one group."""
    path = f"light.lamps.{name}"
    frame, slot = np.nonzero(draws.active(path))
    read = Reader(draws, path, frame, slot)
    m, kind = len(frame), {"point": POINT, "spot": SPOT, "rectangle": RECTANGLE}[lamp.kind]
    position = read("position").astype(np.float64)
    direction = np.tile([0.0, 0.0, -1.0], (m, 1))
    if lamp.target is not None:
        direction = normalize(read("target") - position)
    elif lamp.direction is not None:
        direction = normalize(read("direction"))
    # A lamp at its own target has no direction: it shines down.
    direction = np.where(np.any(direction != 0, axis=1, keepdims=True), direction, [0.0, 0.0, -1.0])
    across = _level(direction)
    size, cone = np.zeros((m, 2)), np.full((m, 2), 2 * np.pi)
    if lamp.rectangle is not None:
        size = np.stack([read("rectangle.width"), read("rectangle.height")], 1).astype(np.float64)
        roll = np.radians(read("rectangle.roll_deg").astype(np.float64))[:, None]
        across = np.cos(roll) * across + np.sin(roll) * np.cross(direction, across)
        shine = np.pi * size.prod(axis=1)
    else:
        size[:, 0] = read(f"{lamp.kind}.radius")
        shine = np.full(m, 4 * np.pi)
    if lamp.spot is not None:
        outer = np.radians(read("spot.cone_deg").astype(np.float64))
        cone = np.stack([outer * (1 - read("spot.soft")), outer], 1)
        shine = spot_angle(cone)
    strength = "radiance" if lamp.rectangle is not None else "intensity"
    level = read("power") / shine if lamp.power is not None else read(f"{lamp.kind}.{strength}")
    radiant = level[:, None] * srgb_to_linear(read("color"))
    f32 = np.float32
    return Lamps(
        frame.astype(np.int32), np.full(m, kind, np.int32), position, direction, across, size.astype(f32),
        cone.astype(f32), radiant.astype(f32), read("shadows").astype(bool), _mapped(lamp, kind, size[:, 0]),
    )  # fmt: skip


def _mapped(lamp: LampSpec, kind: int, radius: F64) -> NDArray[np.bool_]:
    """Which of a group's lamps cast shadows by maps: points and spots, by default those without a size."""
    if lamp.shadows_by == "auto":
        return np.asarray((radius == 0) & (kind != RECTANGLE), bool)
    return np.full(len(radius), lamp.shadows_by == "map")


def spot_angle(cone: F64) -> F64:
    """Solid angle (m,) that a spot of full angles `cone` (m, 2) fills, weighted by its fall-off: its power is
    its intensity times this. The integral of 2π sin θ times the linear ramp, in closed form.
    """
    a, b = cone[:, 0] / 2, cone[:, 1] / 2
    width = b - a
    ramp = np.where(width > 1e-6, (np.sin(b) - np.sin(a)) / np.where(width > 1e-6, width, 1.0), np.cos(b))
    return np.asarray(2 * np.pi * (1 - ramp), np.float64)


def _level(direction: F64) -> F64:
    """Unit vectors (m, 3) across the directions (m, 3), level where there is one such only."""
    steep = np.abs(direction[:, 2:]) > 1 - 1e-9
    return normalize(np.where(steep, [1.0, 0.0, 0.0], np.cross([0.0, 0.0, 1.0], direction)))


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
