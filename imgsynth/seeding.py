"""Counter-based random numbers: leaf `path` of frame `index` reads a hash of (seed, path, index).

The hash is Threefry-2x64 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011, §3.3), checked against the known-answer vectors of Random123. The key is a BLAKE2b digest
of (seed, path), the counter is (frame index, block). Hence a frame draws the same numbers alone, in any
batch, on any worker, and adding a leaf changes no other draw.

Words become uniforms at the midpoints of 2^52 (float64) or 2^23 (float32) equal cells, so they lie strictly
inside (0, 1) and every inverse CDF is finite.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]

_PARITY = np.uint64(0x1BD11BDAA9FC1A22)
_ROTATIONS = (16, 42, 12, 31, 16, 32, 24, 21)
_CHUNK = 8192  # counters hashed at once: the working set stays in the L2 cache


def threefry2x64(k0: U64, k1: U64, c0: U64, c1: U64) -> tuple[U64, U64]:
    """Two hashed words for each counter (c0, c1) under key (k0, k1); the arrays broadcast. 20 rounds.

    Needs 64-bit unsigned arrays (not scalars, whose overflow numpy warns about).
    """
    shape = np.broadcast_shapes(k0.shape, k1.shape, c0.shape, c1.shape)
    keys = (k0, k1, _PARITY ^ k0 ^ k1)
    x0, x1, spill = (np.empty(shape, np.uint64) for _ in range(3))
    np.add(c0, k0, out=x0)
    np.add(c1, k1, out=x1)
    for r in range(20):
        turn = _ROTATIONS[r % 8]
        np.add(x0, x1, out=x0)
        np.right_shift(x1, np.uint64(64 - turn), out=spill)
        np.left_shift(x1, np.uint64(turn), out=x1)
        np.bitwise_or(x1, spill, out=x1)
        np.bitwise_xor(x1, x0, out=x1)
        if r % 4 == 3:
            s = (r + 1) // 4
            np.add(x0, keys[s % 3], out=x0)
            np.add(x1, keys[(s + 1) % 3] + np.uint64(s), out=x1)
    return x0, x1


@lru_cache(maxsize=1 << 16)
def leaf_key(seed: int, path: str) -> tuple[int, int]:
    """The 128-bit key of a leaf as two 64-bit words. `seed` is any int ≥ 0; the same in every process.

    Raises:
        ValueError: a negative seed.
    """
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}")
    digest = hashlib.blake2b(f"{seed}\n{path}".encode(), digest_size=16, person=b"imgsynth leaf").digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def derive(seed: int, path: str) -> int:
    """A 63-bit seed for a generator of another library (torch, numpy), named by `path`."""
    return leaf_key(seed, path)[0] >> 1


def as_counters(indices: ArrayLike) -> U64:
    """Frame numbers as (n,) counters.

    Raises:
        ValueError: not a vector of whole numbers ≥ 0.
    """
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and (array.dtype.kind not in "iu" or array.min() < 0)):
        raise ValueError(f"expected a vector of frame numbers of at least 0, got {indices!r}")
    return array.astype(np.uint64)


def leaf_dims(paths: Sequence[str], dims: int | Sequence[int]) -> NDArray[np.int64]:
    """Dimensions of each leaf as (L,), from one number for all or one for each.

    Raises:
        ValueError: a wrong number of entries, or a negative one.
    """
    each = np.full(len(paths), dims, np.int64) if isinstance(dims, int) else np.asarray(dims, np.int64)
    if each.shape != (len(paths),) or (each.size and each.min() < 0):
        raise ValueError(f"expected one number of dimensions for each of {len(paths)} leaves, got {dims!r}")
    return each


def uniforms(
    seed: int, paths: Sequence[str], indices: ArrayLike, dims: int | Sequence[int]
) -> NDArray[np.float64]:
    """Independent uniforms, (n, L, D) float64 strictly inside (0, 1): frame × leaf × dimension.

    `dims` is one number for all leaves or one for each; D is the largest, and what lies beyond a leaf's own
    dimensions is 0.5. Entry [i, l, d] depends on (seed, paths[l], indices[i], d) alone.
    """
    counters, each = as_counters(indices), leaf_dims(paths, dims)
    width = int(each.max(initial=0))
    out = np.full((len(counters), len(paths), width + width % 2), 0.5)
    blocks = (each + 1) // 2
    leaf = np.repeat(np.arange(len(paths)), blocks)
    block = np.arange(len(leaf)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    if len(leaf) == 0 or len(counters) == 0:
        return out[..., :width]
    keys = np.array([leaf_key(seed, path) for path in paths], np.uint64).reshape(-1, 2)[leaf]
    both = 2 * block + 1 < each[leaf]  # an odd last dimension leaves the block's second word unused
    rows = max(1, _CHUNK // len(leaf))
    for start in range(0, len(counters), rows):
        frames = counters[start : start + rows, None]
        w0, w1 = threefry2x64(keys[:, 0], keys[:, 1], frames, block.astype(np.uint64))
        part = out[start : start + rows]
        part[:, leaf, 2 * block] = _unit64(w0)
        part[:, leaf[both], 2 * block[both] + 1] = _unit64(w1[:, both])
    return out[..., :width]


def noise(seed: int, path: str, indices: ArrayLike, shape: tuple[int, ...]) -> F32:
    """A field of uniforms for each frame, (n, *shape) float32 strictly inside (0, 1), 2^23 levels."""
    return _field(seed, path, indices, shape, "<u4", _unit32)


def normals(seed: int, path: str, indices: ArrayLike, shape: tuple[int, ...]) -> F32:
    """A field of standard normals for each frame, (n, *shape) float32.

    Made for pixels: 2^16 levels at equal steps of probability, scaled to variance 1, so |x| < 4.4.
    """
    return _field(seed, path, indices, shape, "<u2", lambda cells: _normal_levels()[cells])


def _field(
    seed: int,
    path: str,
    indices: ArrayLike,
    shape: tuple[int, ...],
    part: str,
    decode: Callable[[NDArray[Any]], F32],
) -> F32:
    """(n, *shape) numbers, each decoded from a part of a hashed word: "<u4" or "<u2", lowest part first."""
    counters = as_counters(indices)
    count = math.prod(shape)
    each = 16 // np.dtype(part).itemsize
    blocks = -(-count // each)
    out = np.empty((len(counters), count), np.float32)
    key = np.array(leaf_key(seed, path), np.uint64)
    columns = max(1, min(blocks, _CHUNK))
    rows = max(1, _CHUNK // columns)
    for first in range(0, blocks, columns):
        block = np.arange(first, min(first + columns, blocks), dtype=np.uint64)
        for start in range(0, len(counters), rows):
            words = threefry2x64(key[:1], key[1:], counters[start : start + rows, None], block)
            cells = np.stack(words, axis=-1).astype("<u8", copy=False).view(part)
            target = out[start : start + rows, each * first : each * (first + columns)]
            target[:] = decode(cells.reshape(len(cells), -1)[:, : target.shape[1]])
    return out.reshape(len(counters), *shape)


def _unit64(words: U64) -> NDArray[np.float64]:
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _unit32(words: NDArray[np.uint32]) -> F32:
    cells = (words >> np.uint32(9)).astype(np.float32)
    cells += np.float32(0.5)
    cells *= np.float32(2.0**-23)
    return cells


@cache
def _normal_levels() -> F32:
    levels = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return (levels / levels.std()).astype(np.float32)
