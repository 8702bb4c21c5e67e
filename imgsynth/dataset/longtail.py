"""A set cut to a long tail, as benchmarks of imbalance have it: the commonest class keeps everything, the
scarcest a hundredth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import I64
from imgsynth.dataset.split import _rank
from imgsynth.errors import DataError


def long_tail(labels: ArrayLike, factor: float, seed: int = 0, groups: ArrayLike | None = None) -> I64:
    """Rows that remain when class k of K, from the commonest on, is cut to n·factor^(−k/(K−1)) images.

    The exponential profile of Cui et al. 2019 (arXiv 1901.05555, §5.1), n the images of the commonest class.
    Classes keep their order by size (ties: by number); one that has fewer images than its place asks for
    keeps them all. Rows are dropped by a hash of (seed, row). With groups whole groups stay, in the order of
    a hash of (seed, group), and only the last one is cut, so that few images are also few groups.

    Returns:
        (m,) row numbers, ascending.

    Raises:
        DataError: a factor below 1, groups of another length, no labels.
    """
    y = np.asarray(labels)
    if not np.isfinite(factor) or factor < 1:
        raise DataError(f"long tail: expected a factor of at least 1, got {factor:g}")
    if y.ndim != 1 or len(y) == 0:
        raise DataError(f"long tail: expected labels (n,), got shape {y.shape}")
    order = _rank(range(len(y)), seed)
    if groups is not None:
        g = np.asarray(groups)
        if g.shape != y.shape:
            raise DataError(f"long tail: groups: expected {len(y)}, one an image, got shape {g.shape}")
        names, of_row = np.unique(g, return_inverse=True)
        order = np.lexsort((np.arange(len(y)), _rank(list(names), seed)[of_row.ravel()])).argsort()
    kept = []
    counts = class_profile(np.bincount(y), factor)
    for c in np.flatnonzero(counts):
        rows = np.flatnonzero(y == c)
        kept.append(rows[np.argsort(order[rows], kind="stable")][: counts[c]])
    return np.sort(np.concatenate(kept)).astype(np.int64)


def class_profile(counts: ArrayLike, factor: float) -> I64:
    """Images (K,) that each class keeps of `counts` (K,); empty classes have no place in the profile."""
    n = np.asarray(counts, np.int64)
    there = np.flatnonzero(n)
    place = there[np.argsort(-n[there], kind="stable")]
    out = np.zeros(len(n), np.int64)
    share = float(factor) ** (-np.arange(len(place)) / max(len(place) - 1, 1))
    out[place] = np.minimum(n[place], np.maximum(1, np.rint(n.max() * share))).astype(np.int64)
    return out
