"""How many images each class is to get: arithmetic on what validation images say."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64, I64

LEAST_PRIOR, MOST_PRIOR = 2.0, 50.0  # validation units that the prior counts as


def shrunk_recall(hits: ArrayLike, units: ArrayLike, counts: ArrayLike) -> F64:
    """Recall (K,) of each class, drawn towards what classes with as many training images reach.

    A class with few validation images says little of itself. The prior mean is a line of recall against the
    logarithm of training images, fitted over the classes by weighted least squares; its weight in units is
    that of a beta prior whose variance is what the classes scatter beyond chance (moments), at least 2
    units, at most 50.

    Args:
        hits: (K,) right answers, in units (images, or groups where images come in groups).
        units: (K,) validation units of each class; 0 where there are none.
        counts: (K,) training images.
    """
    h, n = np.asarray(hits, float), np.asarray(units, float)
    if n.sum() == 0:
        return np.full(len(n), 0.5)
    x = np.log1p(np.asarray(counts, float))
    recall = np.divide(h, n, out=np.zeros_like(n), where=n > 0)
    prior = np.clip(_line(x, recall, n), 0.01, 0.99)
    m = _strength(recall, prior, n)
    return (h + m * prior) / (n + m)


def need(recall: ArrayLike, counts: ArrayLike) -> F64:
    """(K,) how much a class needs images: its error times how far it is from the largest class, in 0 … 1."""
    n = np.asarray(counts, float)
    return np.asarray((1 - np.asarray(recall, float)) * (1 - n / max(n.max(), 1)), float)


def allocate(total: int, wanted: ArrayLike, most: ArrayLike) -> I64:
    """`total` images (K,) in proportion to `wanted`, none above `most`; what a full class leaves goes to the
    others. Whole numbers by largest remainder. Fewer than `total` where all that are wanted are full.
    """
    w, cap = np.asarray(wanted, float), np.asarray(most, np.int64)
    out = np.zeros(len(w), np.int64)
    open_ = (w > 0) & (cap > 0)
    left = int(total)
    while left > 0 and open_.any():
        share = np.where(open_, w, 0) / w[open_].sum() * left
        full = open_ & (share >= cap - out)
        if not full.any():
            whole = np.floor(share).astype(np.int64)
            order = np.argsort(-(share - whole), kind="stable")
            whole[order[: left - int(whole.sum())]] += 1
            return out + whole
        out[full] = cap[full]
        left = int(total) - int(out.sum())
        open_ &= ~full
    return out


def totals(budget: int, rounds: int) -> list[int]:
    """Images in all after each round: doubling, the last one the whole budget."""
    each = [max(1, round(budget * 2.0 ** (r + 1 - rounds))) for r in range(rounds)]
    return sorted({*each, budget} if budget else set())


def _line(x: F64, y: F64, weight: F64) -> F64:
    """Weighted least squares of y on x, read at x; flat where x or the weights leave no slope."""
    total = weight.sum()
    mean_x, mean_y = (weight @ x) / total, (weight @ y) / total
    spread = weight @ (x - mean_x) ** 2
    slope = (weight @ ((x - mean_x) * (y - mean_y))) / spread if spread > 1e-9 else 0.0
    return np.asarray(mean_y + max(slope, 0.0) * (x - mean_x), float)  # more images never make a class worse


def _strength(recall: F64, prior: F64, n: F64) -> float:
    """Units m of a beta prior: the classes' squared residuals are v/n·(1 + (n − 1)/(m + 1)), v = prior·(1 −
    prior).
    """
    there = n > 0
    v = (prior * (1 - prior))[there]
    chance = float(np.sum(v / n[there]))
    more = float(np.sum((recall - prior)[there] ** 2)) - chance
    slope = float(np.sum(v * (1 - 1 / n[there])))
    if more <= 0 or slope <= 0:
        return MOST_PRIOR
    return float(np.clip(slope / more - 1, LEAST_PRIOR, MOST_PRIOR))
