"""Average precision and recall as COCO defines them, under any weights of the images.

Matching happens once. Which found object precedes which does not depend on the weights either, so all that a
resample changes is how much each counts. Precision is at its highest at right answers, so only those are
visited: what lies between two of them is added up by a sparse product.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from imgsynth.batch import F64, I64
from imgsynth.evaluate.matching import AREAS, THRESHOLDS, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
FEW = (1, 10, 100)  # found objects of an image and class that AR_1, AR_10, AR_100 look at
_CELLS = 2_000_000  # numbers held at once


@dataclass(frozen=True)
class PrecisionTable:
    """What AP and AR are functions of.

    A curve is one area, threshold and class: A·T·K of them, in that order.
    """

    passed: Any  # sparse (J, n): objects of each image that stand between a right answer and the one before
    right: I64  # (J,) image of each right answer
    curve: I64  # (A·T·K + 1,) where each curve begins among the right answers
    recalled: Any  # sparse (F·T·K, n): right answers of each image; F: FEW in "all", then the other areas
    wanted: F64  # (A, K, n)

    @staticmethod
    def of(matches: Matches) -> PrecisionTable:
        """The table of what was matched."""
        areas, images, k = matches.wanted.shape
        steps = len(THRESHOLDS)
        order = np.lexsort((-matches.score, matches.label))
        image, label = matches.image[order], matches.label[order]
        right, counts, rows, columns = [], [], [], []
        total = 0
        for hit, skipped in zip(
            matches.hit[..., order].reshape(areas * steps, -1),
            matches.skipped[..., order].reshape(areas * steps, -1),
            strict=True,
        ):
            at = np.flatnonzero(hit)
            following: I64 = np.cumsum(hit) - hit  # the next right answer, this one included
            near = np.flatnonzero(~skipped & (following < len(at)))
            near = near[label[at[following[near]]] == label[near]]
            right.append(image[at])
            counts.append(np.bincount(label[at], minlength=k))
            rows.append(total + following[near])
            columns.append(image[near])
            total += len(at)
        row, column = np.concatenate(rows), np.concatenate(columns)
        return PrecisionTable(
            passed=csr_array((np.ones(len(row)), (row, column)), shape=(total, images)),
            right=np.concatenate(right),
            curve=np.concatenate([[0], np.cumsum(np.concatenate(counts))]),
            recalled=_recalled(matches, images, k),
            wanted=np.ascontiguousarray(matches.wanted.transpose(0, 2, 1), np.float64),
        )

    def figures(self, weights: F64) -> dict[str, F64]:
        """AP, AP50, AP75, AP_small … AR_large, (b,) each, and per_class_AP, per_class_AP50 (b, K).

        Args:
            weights: (b, n) how much each image counts.

        NaN where there is nothing to find.
        """
        areas, k, n = self.wanted.shape
        step = max(1, _CELLS // max(1, len(self.right), areas * len(THRESHOLDS) * k, n))
        parts = [self._block(weights[i : i + step]) for i in range(0, len(weights), step)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _block(self, weights: F64) -> dict[str, F64]:
        areas, k, n = self.wanted.shape
        w = np.ascontiguousarray(weights.T, np.float64)
        wanted = (self.wanted.reshape(-1, n) @ w).reshape(areas, 1, k, -1)
        precision = self._average_precision(w, wanted)
        recalled = (self.recalled @ w).reshape(-1, len(THRESHOLDS), k, w.shape[1])
        base = np.concatenate([np.repeat(wanted[:1], len(FEW), axis=0), wanted[1:]])
        recall = _where(base > 0, recalled / np.maximum(base, 1e-300))
        names = list(AREAS)
        out = {"AP": _mean(precision[0], (0, 1)), "AP50": _mean(precision[0, 0], 0),
               "AP75": _mean(precision[0, 5], 0)}  # fmt: skip
        out |= {f"AP_{a}": _mean(precision[i], (0, 1)) for i, a in enumerate(names) if i}
        out |= {f"AR_{m}": _mean(recall[i], (0, 1)) for i, m in enumerate(FEW)}
        out |= {f"AR_{a}": _mean(recall[len(FEW) - 1 + i], (0, 1)) for i, a in enumerate(names) if i}
        return out | {"per_class_AP": _mean(precision[0], 0).T, "per_class_AP50": precision[0, 0].T}

    def _average_precision(self, w: F64, wanted: F64) -> F64:
        """AP of every curve, (A, T, K, b): the mean over 101 recalls of the best precision from there on."""
        areas, k, _ = self.wanted.shape
        steps = len(THRESHOLDS)
        passed, right = self.passed @ w, w[self.right]
        out = np.zeros((areas * steps * k, w.shape[1]))
        share = np.broadcast_to(wanted, (areas, steps, k, w.shape[1])).reshape(out.shape)
        for c in np.flatnonzero(np.diff(self.curve)):
            rows = slice(self.curve[c], self.curve[c + 1])
            hits = np.cumsum(right[rows], axis=0)
            best = hits / np.maximum(np.cumsum(passed[rows], axis=0), 1e-300)
            best = np.maximum.accumulate(best[::-1], axis=0)[::-1]
            reached = _recalls_reached(hits / np.maximum(share[c], 1e-300))
            gained = np.diff(reached, axis=0, prepend=0)
            out[c] = np.einsum("jb,jb->b", best, gained) / len(RECALLS)
        return _where(share > 0, out).reshape(areas, steps, k, -1)


def _recalls_reached(recall: F64) -> F64:
    """How many of RECALLS are at most `recall`; what searchsorted says, but several times as fast."""
    near = np.rint(recall * (len(RECALLS) - 1))
    reached: F64 = near + (RECALLS[near.astype(np.int64)] <= recall)
    return reached


def _recalled(matches: Matches, images: int, k: int) -> Any:
    """Sparse (F·T·K, n): right answers of each image among the first few, and by area."""
    steps = len(THRESHOLDS)
    views = [matches.hit[0] & (matches.rank < m) for m in FEW] + list(matches.hit[1:])
    view, step, j = np.nonzero(np.array(views))
    row = (view * steps + step) * k + matches.label[j]
    return csr_array((np.ones(len(j)), (row, matches.image[j])), shape=(len(views) * steps * k, images))


def _where(known: Any, values: F64) -> F64:
    out: F64 = np.where(known, values, np.nan)
    return out


def _mean(values: F64, axis: int | tuple[int, ...]) -> F64:
    """Mean over what is known, NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=axis), float)
