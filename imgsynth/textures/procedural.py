"""Textures made from noise: they tile seamlessly, and depend on nothing but their parameters and an integer
seed.

Only elementwise arithmetic on float32 is used, no matrix products, so that a texture has the same bytes alone
and in a batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F32, U8
from imgsynth.errors import SceneError
from imgsynth.seeding import threefry2x64
from imgsynth.shapes.params import rows
from imgsynth.textures.mips import encode_srgb

KINDS = ("noise", "speckle", "stripes", "checker", "wood")
_CHUNK = 64  # textures worked on at once, to bound memory


def noise_texture(
    seed: ArrayLike,
    color_a: ArrayLike,
    color_b: ArrayLike,
    *,
    kind: str = "noise",
    cells: ArrayLike = 4,
    size: int = 128,
    octaves: int = 5,
) -> U8:
    """Opaque textures (m, size, size, 4) that mix two colours by a pattern and repeat seamlessly.

    Args:
        seed: (m,) whole numbers; the pattern's identity.
        color_a: (m, 3) or (3,) linear RGB; where the pattern is 0.
        color_b: likewise; where it is 1.
        kind: "noise" (clouds: value noise, octaves halving), "speckle" (grains of b on a), "stripes" (along
            v, slightly wavy), "checker" (sharp squares), "wood" (grain along v).
        cells: (m,) whole numbers from 1 to 64: noise cells, stripes, pairs of squares or rings across the
            texture.
        size: side in texels, 8 to 4096.
        octaves: how many octaves of detail, as far as the size resolves them.

    Raises:
        SceneError: an unknown kind, or a parameter out of range.
    """
    if kind not in KINDS:
        raise SceneError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if not (8 <= size <= 4096 and 1 <= octaves <= 16):
        raise SceneError(f"size: expected 8 to 4096 and octaves 1 to 16, got {size} and {octaves}")
    seeds = np.atleast_1d(np.asarray(seed)).astype(np.uint64)
    m = len(seeds)
    a, b = (np.broadcast_to(rows(c, 3, n), (m, 3)) for c, n in ((color_a, "color_a"), (color_b, "color_b")))
    count = np.broadcast_to(np.asarray(cells), (m,)).astype(np.int64)
    if m and (count.min() < 1 or count.max() > 64):
        raise SceneError(f"cells: expected 1 to 64, got {count.min()} to {count.max()}")
    out = np.empty((m, size, size, 4), np.uint8)
    out[..., 3] = 255
    for n in np.unique(count):
        members = np.flatnonzero(count == n)
        for start in range(0, len(members), _CHUNK):
            of = members[start : start + _CHUNK]
            mix = _pattern(kind, seeds[of], int(n), size, octaves)[..., None]
            low, high = (c[of, None, None].astype(np.float32) for c in (a, b))
            out[of, ..., :3] = encode_srgb(low + (high - low) * mix)
    return out


def _pattern(kind: str, seed: NDArray[np.uint64], cells: int, size: int, octaves: int) -> F32:
    """(m, size, size) in 0..1."""
    u = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size))[None, None, :]
    if kind == "noise":
        return _smoothstep(0.2, 0.8, _fractal(seed, cells, cells, size, octaves))
    if kind == "speckle":
        return _smoothstep(0.6, 0.75, _fractal(seed, 8 * cells, 8 * cells, size, 2))
    if kind == "stripes":
        wave = _fractal(seed, cells, cells, size, 2) * np.float32(0.15)
        return _smoothstep(0.45, 0.55, _triangle(u * cells + wave))
    if kind == "checker":
        sharp = np.float32(size / (2 * cells))  # texels a square: edges are one texel wide
        v = u.transpose(0, 2, 1)
        s, t = ((_triangle(w * cells + np.float32(0.25)) - np.float32(0.5)) * 2 * sharp for w in (u, v))
        s, t = np.clip(s, -0.5, 0.5), np.clip(t, -0.5, 0.5)
        return np.broadcast_to(np.float32(0.5) - 2 * s * t, (len(seed), size, size))
    ring = _triangle(u * cells + _fractal(seed, 2 * cells, 1, size, 3) * np.float32(1.2))
    grain = _fractal(seed ^ np.uint64(1), 16 * cells, 2, size, 2)
    mix: F32 = np.float32(0.75) * ring * ring + np.float32(0.5) * (grain - np.float32(0.25))
    return np.clip(mix, 0, 1)


def _triangle(x: F32) -> F32:
    """Triangle wave of period 1 from 0 at whole numbers to 1 between them."""
    return 1 - np.abs(2 * (x - np.floor(x)) - 1)


def _smoothstep(low: float, high: float, x: F32) -> F32:
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _fractal(seed: NDArray[np.uint64], across: int, down: int, size: int, octaves: int) -> F32:
    """Octaves of value noise with halving amplitude, (m, size, size), scaled to 0..1; periodic in both axes.

    Octaves finer than two texels a cell are left out (the first always stays).
    """
    total, weight = np.zeros((len(seed), size, size), np.float32), 0.0
    for octave in range(octaves):
        columns, lines = min(across << octave, size), min(down << octave, size)
        if octave and 2 * max(columns, lines) > size:
            break
        total += np.float32(0.5**octave) * _value_noise(seed, octave, columns, lines, size)
        weight += 0.5**octave
    return total / np.float32(weight)


def _value_noise(seed: NDArray[np.uint64], octave: int, columns: int, lines: int, size: int) -> F32:
    """Uniform values on a periodic lattice of lines × columns, interpolated with cubic weights."""
    counter = np.arange(lines * columns, dtype=np.uint64)[None]
    stream = np.full((1, 1), octave, np.uint64)
    word, _ = threefry2x64(seed[:, None], stream, counter, np.zeros((1, 1), np.uint64))
    value = ((word >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)).reshape(-1, lines, columns)
    row, row_weight = _lattice(lines, size)
    column, column_weight = _lattice(columns, size)
    weight = row_weight[None, :, None]
    wide = value[:, row] * (1 - weight) + value[:, (row + 1) % lines] * weight
    out: F32 = wide[:, :, column] * (1 - column_weight)
    out += wide[:, :, (column + 1) % columns] * column_weight
    return out


def _lattice(cells: int, size: int) -> tuple[NDArray[np.int64], F32]:
    """For each texel centre the lattice point before it and the smooth weight of the one after."""
    at = (np.arange(size, dtype=np.float64) + 0.5) * cells / size
    before = np.floor(at).astype(np.int64)
    t = (at - before).astype(np.float32)
    return before, t * t * (3 - 2 * t)
