"""Splits of a data set: stratified by class, fixed by seed, and never through the middle of a group.

Images that come in groups (the 30 frames of one physical traffic sign, the digits of one writer) are
near-copies of each other. A split that puts some of them on either side measures memory, not generalization;
so where groups are given, a group goes to one part as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import I64
from imgsynth.errors import DataError

FRACTIONS: Mapping[str, float] = {"train": 0.7, "validation": 0.15, "test": 0.15}

DIGITS_BLOCKS = 13
DIGITS_PARTS: Mapping[str, tuple[int, ...]] = {
    "train": (0, 2, 4, 7, 9, 11),
    "validation": (5,),
    "test": (1, 3, 6, 8, 10, 12),
}


def split(
    labels: ArrayLike | int,
    groups: ArrayLike | None = None,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> dict[str, I64]:
    """Share the rows of a data set out to named parts.

    Without groups each class is cut exactly (largest remainder; a class too small for all parts goes to the
    earlier-named of the largest ones first). With groups, whole groups are dealt greedily, largest first,
    each to the part that it brings closest to its wanted class counts; the fractions are then met as nearly
    as the groups allow.

    The order of the rows does not matter where `names` or `groups` say who they are: a row is drawn by a hash
    of (seed, its name), a group by a hash of (seed, its name). Without either, by a hash of its position.

    Args:
        labels: (n,) class of each row, or n alone for rows of one class.
        groups: (n,) what a row must not be parted from, or None.
        fractions: part → share, adding up to 1.
        seed: another seed, another split.
        names: (n,) names that identify rows wherever they stand, such as file names.

    Returns:
        part → (m,) row numbers, ascending. Together they hold every row once.

    Raises:
        DataError: fractions that do not add up to 1, or lengths that differ.
    """
    y = np.zeros(labels, np.int64) if isinstance(labels, int) else np.asarray(labels)
    shares = np.array(list(fractions.values()), float)
    if len(shares) == 0 or np.any(shares < 0) or abs(shares.sum() - 1) > 1e-9:
        raise DataError(f"split fractions: expected numbers ≥ 0 that add up to 1, got {dict(fractions)}")
    for what, column in (("groups", groups), ("names", names)):
        if column is not None and len(np.asarray(column)) != len(y):
            raise DataError(f"split {what}: expected {len(y)}, one a row, got {len(np.asarray(column))}")
    classes, y = np.unique(y, return_inverse=True)
    if groups is None:
        part = _split_rows(
            y, len(classes), shares, _rank(names if names is not None else range(len(y)), seed)
        )
    else:
        part = _split_groups(y, len(classes), np.asarray(groups), shares, seed)
    return {name: np.flatnonzero(part == k).astype(np.int64) for k, name in enumerate(fractions)}


def digits_blocks(n: int = 1797) -> I64:
    """Block number (n,) of each row of scikit-learn's digits: 13 contiguous blocks, block b = rows ⌊nb/13⌋ …
    ⌊n(b+1)/13⌋.

    The set keeps no writer ids, yet it was gathered writer by writer (UCI "Optical Recognition of Handwritten
    Digits": 13 of its writers made what scikit-learn ships, the UCI *test* file) and the file keeps that
    order, so a contiguous block is close to one writer. Rows dealt at random would put each writer's hand on
    both sides and flatter every score. Train and test blocks alternate, so that neither end of the file is
    one part's alone; block 5 in the middle serves for validation.
    """
    edges = np.arange(DIGITS_BLOCKS + 1) * n // DIGITS_BLOCKS
    return np.repeat(np.arange(DIGITS_BLOCKS), np.diff(edges)).astype(np.int64)


def digits_split(n: int = 1797) -> dict[str, I64]:
    """The fixed split of scikit-learn's digits by block: train 6 blocks, validation 1, test 6."""
    block = digits_blocks(n)
    return {
        name: np.flatnonzero(np.isin(block, part)).astype(np.int64) for name, part in DIGITS_PARTS.items()
    }


def _rank(names: Sequence[Any] | range | NDArray[Any], seed: int) -> I64:
    """Rank (n,) of each name in the order of its hash with the seed; equal names keep their given order."""
    digests = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names]
    keys = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
    rank = np.empty(len(keys), np.int64)
    rank[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    return rank


def _split_rows(y: I64, n_classes: int, shares: NDArray[np.float64], rank: I64) -> I64:
    """Part (n,) of each row: each class in hash order, cut at its exact shares."""
    part = np.empty(len(y), np.int64)
    for c in range(n_classes):
        rows = np.flatnonzero(y == c)
        rows = rows[np.argsort(rank[rows])]
        part[rows] = np.repeat(np.arange(len(shares)), _counts(len(rows), shares))
    return part


def _counts(n: int, shares: NDArray[np.float64]) -> I64:
    """Whole numbers that add up to n, in proportion to the shares (Hamilton's largest-remainder rule)."""
    wanted = shares * n
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    short = n - int(counts.sum())
    order = np.lexsort((-shares, -(wanted - counts)))
    counts[order[:short]] += 1
    return counts


def _split_groups(
    y: I64, n_classes: int, groups: NDArray[Any], shares: NDArray[np.float64], seed: int
) -> I64:
    """Part (n,) of each row, whole groups at a time."""
    names, of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), n_classes))
    np.add.at(counts, (of_row, y), 1)
    # Scarce classes weigh as much as common ones: everything is in shares of the class's total.
    counts /= counts.sum(axis=0)
    held = np.zeros((len(shares), n_classes))
    target = shares[:, None]
    part = np.zeros(len(names), np.int64)
    for g in np.lexsort((_rank(names, seed), -np.bincount(of_row))):
        # Growth of Σ (held − target)² when the group goes to each part; a part of share 0 takes nothing.
        cost = np.sum(counts[g] * (2 * (held - target) + counts[g]), axis=1)
        best = int(np.argmin(np.where(shares > 0, cost, np.inf)))
        part[g] = best
        held[best] += counts[g]
    return part[of_row]
