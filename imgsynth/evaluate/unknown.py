"""How well a classifier tells images of classes it does not know from those it knows: AUROC and FPR95."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, I64
from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import Estimate, percentile_shares, resample_counts

LEVEL = 0.95
ACCEPTED = 0.95  # share of known images let through, for FPR95
_CELLS = 2_000_000  # numbers held at once


@dataclass(frozen=True)
class UnknownScore:
    """How well one kind of confidence parts known images (high) from unknown ones (low). Intervals are 95 %.

    `auroc`: the chance that a known image has more confidence than an unknown one (ties count half);
    `fpr95`: the share of unknown images let through at the threshold that lets at least 95 % of the known
    ones through. The interval of fpr95 counts the uncertainty of that threshold.
    """

    auroc: Estimate
    fpr95: Estimate

    def to_json(self) -> dict[str, Any]:
        """{"auroc": {"mean", "ci95"}, "fpr95": {"mean", "ci95"}}."""
        return {"auroc": self.auroc.to_json(), "fpr95": self.fpr95.to_json()}


def score_unknown(
    known: ArrayLike,
    unknown: ArrayLike,
    known_groups: ArrayLike | None = None,
    unknown_groups: ArrayLike | None = None,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> UnknownScore:
    """Score confidences of known images (n,) and unknown ones (m,), each side resampled on its own.

    Raises:
        DataError: a side without images, confidences that are not finite, groups of another length.
    """
    sides = [np.asarray(side, float) for side in (known, unknown)]
    for what, side in zip(("known", "unknown"), sides, strict=True):
        if side.ndim != 1 or not len(side) or not np.all(np.isfinite(side)):
            raise DataError(f"{what} images: expected finite confidences (n ≥ 1,), got shape {side.shape}")
    units = [_units(g, len(s)) for g, s in zip((known_groups, unknown_groups), sides, strict=True)]
    rows = max(1, _CELLS // (len(sides[0]) + len(sides[1])))
    draws = []
    for block, start in enumerate(range(0, bootstrap, rows)):
        count = min(rows, bootstrap - start)
        weights = []
        for number, unit in enumerate(units):
            # A seed of its own for each block and side, so that neither hangs on the other's size.
            own = seed + ((2 * block + number) << 64)
            weights.append(np.concatenate(list(resample_counts(int(unit.max()) + 1, count, own)))[:, unit])
        draws.append(_figures(sides[0], sides[1], *weights))
    value = _figures(sides[0], sides[1], np.ones((1, len(sides[0]))), np.ones((1, len(sides[1]))))[0]
    made = np.concatenate(draws)
    lo, hi = np.quantile(made, percentile_shares(min(int(u.max()) + 1 for u in units), LEVEL), axis=0)
    lo, hi = np.minimum(lo, value), np.maximum(hi, value)
    return UnknownScore(
        *(Estimate(float(v), float(a), float(b)) for v, a, b in zip(value, lo, hi, strict=True))
    )


def max_probability(probabilities: ArrayLike) -> F64:
    """The largest class probability of each image, (n,) (Hendrycks & Gimpel 2017)."""
    return np.asarray(probabilities, float).max(axis=1)


def negative_energy(logits: ArrayLike) -> F64:
    """log Σ exp of the logits of each image, (n,) (Liu et al. 2020, eq. 4, at temperature 1)."""
    x = np.asarray(logits, float)
    top = x.max(axis=1)
    out: F64 = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    return out


def _units(groups: ArrayLike | None, n: int) -> I64:
    """(n,) the unit of resampling of each image: its group where there are several, or itself."""
    if groups is None:
        return np.arange(n)
    g: NDArray[Any] = np.asarray(groups)
    if g.shape != (n,):
        raise DataError(f"groups: expected {n}, one an image, got shape {g.shape}")
    names, of_image = np.unique(g, return_inverse=True)
    return np.arange(n) if len(names) == 1 else of_image


def _figures(known: F64, unknown: F64, known_weight: F64, unknown_weight: F64) -> F64:
    """AUROC and FPR95, (b, 2), under weights (b, n) and (b, m)."""
    levels, at = np.unique(np.concatenate([known, unknown]), return_inverse=True)
    k, u = (
        _per_level(weight, where, len(levels))
        for weight, where in ((known_weight, at[: len(known)]), (unknown_weight, at[len(known) :]))
    )
    k_total, u_total = k.sum(axis=1), u.sum(axis=1)
    below = np.cumsum(u, axis=1)
    auroc = np.sum(k * (below - u / 2), axis=1) / (k_total * u_total)
    rejected = np.cumsum(k, axis=1) - k  # known images below each level
    # The highest level that still lets enough through; the slack is for rounding of the shares.
    allowed = rejected <= (1 - ACCEPTED) * k_total[:, None] + 1e-9
    last = allowed.shape[1] - 1 - np.argmax(allowed[:, ::-1], axis=1)
    rows = np.arange(len(u))
    return np.column_stack([auroc, 1 - (below - u)[rows, last] / u_total])


def _per_level(weight: F64, level: I64, levels: int) -> F64:
    """Weights (b, n) added up by level, (b, levels)."""
    order = np.argsort(level, kind="stable")
    there, first = np.unique(level[order], return_index=True)
    out = np.zeros((len(weight), levels))
    out[:, there] = np.add.reduceat(weight[:, order], first, axis=1)
    return out
