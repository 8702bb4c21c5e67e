"""Mip chains by area averaging in linear light, and texture pools."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, U8, TexturePool
from imgsynth.color import linear_to_srgb, srgb_to_linear

Role = Literal["color", "data", "normal"]
"""What a texture's codes mean: sRGB colours, numbers as they are, or normals (see `TexturePool`)."""

# Level 0 (the image itself) to 1 × 1, each (h, w, 4).
Chain = tuple[U8, ...]


def build_mips(images: U8, role: Role = "color") -> list[U8]:
    """Levels of one image (h, w, 4), or of many of one size (t, h, w, 4): the images themselves down to 1 ×
    1.

    Each level has half the size, rounded down, and averages 2 × 2 texels of the last; where a side is odd,
    three by the area they share with the new texel, so that means are kept. Averages are taken in linear
    light and weighted by alpha (a fully transparent texel gets the plain mean, so that filtering does not
    draw in black). Levels are rounded only when stored.

    With `role` "data" codes are averaged as they are, whatever alpha says; with "normal" they are read as
    (code - 128) / 127, brought to unit length, averaged, and alpha keeps what averaging took: see
    `TexturePool`.

    Raises:
        ValueError: not uint8 RGBA.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 4 or 0 in images.shape:
        raise ValueError(f"expected uint8 (h, w, 4) or (t, h, w, 4), got {images.dtype} {images.shape}")
    if role != "color":
        return _data_mips(images) if role == "data" else _normal_mips(images)
    levels = [images]
    height, width = images.shape[-3:-1]
    if height == width == 1:
        return levels
    opaque = bool((images[..., 3] == 255).all())
    straight = _decode_table()[images[..., :3]]
    alpha = images[..., 3:].astype(np.float32) / np.float32(255)
    weighted = straight if opaque else straight * alpha
    while height > 1 or width > 1:
        height, width = max(1, height // 2), max(1, width // 2)
        weighted = _halve(weighted)
        out = np.empty((*images.shape[:-3], height, width, 4), np.uint8)
        if opaque:
            out[..., :3], out[..., 3] = encode_srgb(weighted), 255
        else:
            straight, alpha = _halve(straight), _halve(alpha)
            color = np.where(alpha > 0, weighted / np.maximum(alpha, np.float32(1e-12)), straight)
            out[..., :3], out[..., 3:] = encode_srgb(color), np.rint(alpha * 255)
        levels.append(out)
    return levels


def _data_mips(images: U8) -> list[U8]:
    levels, mean = [images], images.astype(np.float32)
    while mean.shape[-3:-1] != (1, 1):
        mean = _halve(mean)
        levels.append(np.rint(mean).astype(np.uint8))
    return levels


def _normal_mips(images: U8) -> list[U8]:
    mean = (images[..., :3].astype(np.float32) - 128) / np.float32(127)
    length = np.linalg.norm(mean, axis=-1, keepdims=True)
    up = np.array([0, 0, 1], np.float32)
    mean = np.where(length > 1e-3, mean / np.maximum(length, np.float32(1e-3)), up)
    levels = [np.concatenate([images[..., :3], np.full_like(images[..., 3:], 255)], -1)]
    while mean.shape[-3:-1] != (1, 1):
        mean = _halve(mean)
        levels.append(_encode_normals(mean))
    return levels


def _encode_normals(mean: F32) -> U8:
    """Directions and, in alpha, what the lengths lack. Toksvig, eq. 4, read as a variance of slopes: (1 - r)
    / r.
    """
    length = np.minimum(np.linalg.norm(mean, axis=-1, keepdims=True), np.float32(1))
    up = np.array([0, 0, 1], np.float32)
    short = np.maximum(length, np.float32(1e-3))
    unit = np.where(length > 1e-3, mean / short, up)
    spread = np.sqrt((1 - length) / short)
    codes = np.concatenate([128 + 127 * unit, 255 * (1 - np.minimum(spread, 1))], -1)
    return np.rint(codes).astype(np.uint8)


def pool(textures: Sequence[U8 | Chain]) -> TexturePool:
    """Pack images (h, w, 4) and ready-made chains into one pool, in order. Images of one size are filtered
    together.

    An image that several materials use belongs in the sequence once: sharing is the caller's.
    """
    if not textures:
        return TexturePool.empty()
    chains: list[Chain] = [t if isinstance(t, tuple) else () for t in textures]
    by_size: dict[tuple[int, ...], list[int]] = {}
    for k, texture in enumerate(textures):
        if not isinstance(texture, tuple):
            by_size.setdefault(texture.shape, []).append(k)
    for members in by_size.values():
        levels = build_mips(np.stack([np.asarray(textures[k]) for k in members]))
        for n, k in enumerate(members):
            chains[k] = tuple(level[n] for level in levels)
    flat = [level for chain in chains for level in chain]
    size = np.array([level.shape[:2] for level in flat], np.int32)
    texels = size.astype(np.int64).prod(1)
    return TexturePool(
        texels=np.concatenate([level.reshape(-1, 4) for level in flat]),
        first_level=np.cumsum([0] + [len(chain) for chain in chains], dtype=np.int32),
        level_start=np.cumsum(texels) - texels,
        level_size=size,
    )


def _halve(image: F32) -> F32:
    return _halve_axis(_halve_axis(image, -3), -2)


def _halve_axis(image: F32, axis: int) -> F32:
    """Area-average one axis n → n // 2: pairs, or for n = 2k + 1 triples weighted (k - i, k, i + 1) / n."""
    n = image.shape[axis]
    if n == 1:
        return image
    lead = (slice(None),) * (image.ndim + axis)
    even, odd = image[(*lead, slice(0, n - 1, 2))], image[(*lead, slice(1, n, 2))]
    if n % 2 == 0:
        return (even + odd) * np.float32(0.5)
    k = n // 2
    i = np.arange(k, dtype=np.float32).reshape(-1, *[1] * (-axis - 1))
    after = image[(*lead, slice(2, n, 2))]
    return (even * (k - i) + odd * np.float32(k) + after * (i + 1)) / np.float32(n)


@lru_cache(maxsize=1)
def _decode_table() -> F32:
    return srgb_to_linear(np.arange(256) / 255).astype(np.float32)


@lru_cache(maxsize=1)
def _encode_table() -> U8:
    """sRGB codes of linear light in steps of 1/65535: 0.026 codes off where it is steepest."""
    return np.rint(linear_to_srgb(np.arange(65536) / 65535) * 255).astype(np.uint8)


def encode_srgb(linear: F32) -> U8:
    """(…,) linear light in 0..1 to sRGB codes."""
    index: NDArray[np.uint16] = np.rint(np.clip(linear, 0, 1) * 65535).astype(np.uint16)
    return _encode_table()[index]
