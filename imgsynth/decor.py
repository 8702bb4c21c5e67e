"""Patterns of a batch's materials and the layers over them, from their specs and sampled values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry, seeding
from imgsynth.batch import CHECKER, F64, I32, LAYER_KINDS, PATTERN_KINDS, RAMP, Layers, Patterns
from imgsynth.color import srgb_to_linear
from imgsynth.materialspec import LayerSpec, PatternSpec

Read = Callable[[str], NDArray[Any]]
Table = TypeVar("Table")


def joined(kind: type[Table], parts: list[Table]) -> Table:
    """Tables of one kind end to end, column by column."""
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return kind(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def f32(values: NDArray[Any]) -> NDArray[np.float32]:
    """The same in single precision."""
    return values.astype(np.float32)


def patterns(spec: PatternSpec, read: Read, m: int) -> Patterns:
    """The patterns of m rows: turned, scaled, and moved by a hash of their seeds so that no edge of a pattern
    falls on a face of an object by rule; over texture coordinates, and for gradients, they start at 0.
    """
    mapped = spec.space == "uv"
    kind = np.array([PATTERN_KINDS.index(k) for k in read("kind").astype(str)], np.int32)
    seed = read("seed").astype(np.uint64)
    turn = np.tile(np.eye(3), (m, 1, 1))
    if spec.rotation is not None:
        turn = np.swapaxes(geometry.quat_to_matrix(read("rotation")), 1, 2)
    still = (kind == RAMP) | (mapped & (kind >= CHECKER))
    return Patterns(
        kind, np.full(m, mapped), f32(turn / read("scale")[:, None, None]),
        f32(np.where(still[:, None], 0.0, _shifts(seed))), f32(srgb_to_linear(read("a"))),
        f32(srgb_to_linear(read("b"))), seed.astype(np.uint32), read("octaves").astype(np.int32),
        f32(read("gain")), f32(read("contrast")), f32(read("warp")), f32(read("mortar")),
        f32(read("variation")),
    )  # fmt: skip


def _shifts(seed: NDArray[np.uint64]) -> F64:
    """(m, 3) in 0..32, hashed from seeds."""
    key = np.full(1, 0x5EED, np.uint64)
    words = [seeding.threefry2x64(key, key, seed, np.full(1, k, np.uint64))[0] for k in range(3)]
    return np.stack([(w >> np.uint64(40)).astype(np.float64) * (32 / 2**24) for w in words], 1)


def layers(spec: LayerSpec, read: Read, m: int, texture: I32) -> Layers:
    """One layer of m rows; what its kind has no use for is filled in."""
    kind = spec.kind
    leaves = {f"{kind}.{name}" for name in type(getattr(spec, kind)).model_fields}

    def value(name: str, otherwise: float) -> NDArray[Any]:
        return read(f"{kind}.{name}") if f"{kind}.{name}" in leaves else np.full(m, otherwise)

    def color(name: str) -> NDArray[np.float32]:
        given = f"{kind}.{name}" in leaves
        return f32(srgb_to_linear(read(f"{kind}.{name}"))) if given else np.ones((m, 3), np.float32)

    single = color("color")
    strewn = kind == "stickers"
    nowhere = np.zeros((m, 2, 3), np.float32)
    return Layers(
        np.full(m, LAYER_KINDS.index(kind), np.int32),
        np.full(m, kind == "decal" or getattr(getattr(spec, kind), "space", "object") == "uv"),
        color("a") if strewn else single, color("b") if strewn else single,
        f32(value("coverage", 1.0)), f32(value("strength", 1.0)), f32(value("roughness", 0.5)),
        f32(value("metallic", 0.0)), f32(value("scale", 1.0)), f32(value("width", 1.0)),
        f32(value("length", 1.0)), f32(value("softness", 1.0)), value("seed", 0).astype(np.uint32), texture,
        f32(_places(lambda name: read(f"decal.{name}"))) if kind == "decal" else nowhere,
    )  # fmt: skip


def _places(read: Read) -> F64:
    """(m, 2, 3) texture coordinates, v up, to a decal's picture: 0 to 1 from its upper left."""
    center, size, angle = read("center"), read("size"), np.radians(read("rotation_deg").astype(np.float64))
    c, s = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], 1)
    turn = turn / (size * [1.0, -1.0])[:, :, None]
    return np.concatenate([turn, 0.5 - turn @ center[:, :, None]], 2)
