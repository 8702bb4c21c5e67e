"""Owen-scrambled Sobol points for every leaf, by index: better coverage with fewer frames, no state.

Each leaf owns a Sobol net (direction numbers of Joe and Kuo, "Constructing Sobol sequences with better
two-dimensional projections", SIAM J. Sci. Comput. 30, 2008) whose digits are scrambled by hashing (Laine and
Karras, "Stratified sampling for stochastic transparency", 2011) and whose index is shuffled by the same kind
of nested permutation (Burley, "Practical hash-based Owen scrambling", JCGT 9(4), 2020). All keys come from
the leaf alone, so leaves are independent paddings of each other and adding one changes no other draw.

For every leaf, each aligned block of 2^m frame numbers has exactly one point in each dyadic interval of
length 2^-m, in every dimension; dimensions 0 and 1 are a (0, m, 2)-net. A leaf with more than eight
dimensions is padded with further, independent nets. Between leaves, what is additive over them
gains by stratification, and interactions do about as well as with random numbers. Frame numbers must be
below 2^32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.seeding import as_counters, leaf_dims, leaf_key, threefry2x64

U32 = NDArray[np.uint32]

NET_DIMS = 8
# Joe and Kuo's new-joe-kuo-6.21201, dimensions 2 to 8: degree, inner coefficients of the primitive
# polynomial, m_1 ...
_JOE_KUO: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
)
# Even multipliers: x ^= x * c then carries information only upwards, from low bits to high ones.
_MULTIPLIERS = (0x3D20ADEA, 0x05526C56, 0x53A22864)
_PASSES = len(_MULTIPLIERS)
_WORDS = 3  # key words a pass
_CHUNK = 1 << 14


def sobol_uniforms(
    seed: int, paths: Sequence[str], indices: ArrayLike, dims: int | Sequence[int]
) -> NDArray[np.float64]:
    """Scrambled Sobol points with the signature and shape of `seeding.uniforms`: (n, L, D), 0.5 beyond a
    leaf's dims.

    Raises:
        ValueError: a frame number of 2^32 or more.
    """
    counters, each = as_counters(indices), leaf_dims(paths, dims)
    if counters.size and counters.max() >= 1 << 32:
        raise ValueError(f"expected frame numbers below 2^32 for Sobol points, got {counters.max()}")
    out = np.full((len(counters), len(paths), int(each.max(initial=0))), 0.5)
    reversed_index = _reverse(counters.astype(np.uint32))
    for net in range(-(-out.shape[2] // NET_DIMS)):
        first = net * NET_DIMS
        leaves = np.flatnonzero(each > first)
        width = min(NET_DIMS, out.shape[2] - first)
        keys = _net_keys(seed, [paths[int(leaf)] for leaf in leaves], net, width)
        rows = max(1, _CHUNK // len(leaves))
        for start in range(0, len(counters), rows):
            index = _scramble(reversed_index[start : start + rows, None], keys[0])
            part = out[start : start + rows]
            for d in range(width):
                use = each[leaves] > first + d
                part[:, leaves[use], first + d] = _coordinate(index[:, use], d, keys[1 + d][:, use])
    return out


def _coordinate(reversed_index: U32, d: int, keys: U32) -> NDArray[np.float64]:
    """Dimension d of the points at bit-reversed indices, scrambled, at cell midpoints."""
    tables = _tables()[d]
    x = tables[0][reversed_index & np.uint32(255)]
    for byte in range(1, 4):
        x ^= tables[byte][(reversed_index >> np.uint32(8 * byte)) & np.uint32(255)]
    return (_reverse(_scramble(x, keys)).astype(np.float64) + 0.5) * 2.0**-32


def _net_keys(seed: int, paths: Sequence[str], net: int, width: int) -> U32:
    """(1 + width, _WORDS * _PASSES, L) scrambling keys: one set for the index, one a dimension."""
    key = np.array([leaf_key(seed, f"{path}\nsobol {net}") for path in paths], np.uint64).reshape(-1, 2)
    count = (1 + width) * _WORDS * _PASSES
    block = np.arange(-(-count // 4), dtype=np.uint64)[:, None]
    words = np.stack(threefry2x64(key[:, 0], key[:, 1], block, np.zeros((1, 1), np.uint64)), axis=1)
    halves = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=1).astype(np.uint32)
    return halves.reshape(-1, len(paths))[:count].reshape(1 + width, _WORDS * _PASSES, len(paths))


def _scramble(x: U32, keys: U32) -> U32:
    """Nested uniform scrambling of bit-reversed numbers, key by leaf: each bit is flipped by a hash of the
    lower bits.

    Sums and products alone, Laine and Karras's hash, reach only half of the nested permutations of three
    levels, however many passes (flips of the third level are tied to those of the second), and one pass
    carries too few key bits; hence the two AND steps, and fresh keys for each pass. All 2^7 come out alike
    (χ² in the tests).
    """
    for p in range(_PASSES):
        add, multiply, select = keys[_WORDS * p : _WORDS * (p + 1)]
        x = x + add
        x *= multiply | np.uint32(1)
        x ^= (x << np.uint32(1)) & select
        x ^= (x << np.uint32(1)) & (x << np.uint32(2)) & (select >> np.uint32(16))
        x ^= x * np.uint32(_MULTIPLIERS[p])
    return x


def _reverse(x: U32) -> U32:
    """Bits in reverse order."""
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> np.uint32(shift)) & np.uint32(mask)) | ((x & np.uint32(mask)) << np.uint32(shift))
    return (x >> np.uint32(16)) | (x << np.uint32(16))


def _direction_numbers(d: int) -> list[int]:
    """V_1 .. V_32 of dimension d as 32-bit fractions (Joe and Kuo 2008, eq. 2 and 3)."""
    if d == 0:
        return [1 << (31 - k) for k in range(32)]
    degree, inner, start = _JOE_KUO[d - 1]
    v = [m << (31 - k) for k, m in enumerate(start)]
    for k in range(degree, 32):
        value = v[k - degree] ^ (v[k - degree] >> degree)
        for j in range(1, degree):
            if (inner >> (degree - 1 - j)) & 1:
                value ^= v[k - j]
        v.append(value)
    return v


@cache
def _tables() -> U32:
    """(NET_DIMS, 4, 256): what each byte of the reversed index contributes to the reversed point."""
    out = np.zeros((NET_DIMS, 4, 256), np.uint32)
    bytes_ = np.arange(256, dtype=np.uint32)
    for d in range(NET_DIMS):
        v = _reverse(np.array(_direction_numbers(d), np.uint32))
        for bit in range(32):  # bit of the reversed index is bit 31 - bit of the index
            row = out[d, bit // 8]
            row ^= np.where((bytes_ >> np.uint32(bit % 8)) & np.uint32(1), v[31 - bit], np.uint32(0))
    return out
