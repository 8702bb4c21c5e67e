"""A learning curve read backwards: how many real images reach a given error.

Two readings. Where the law D·n^-α + C is identified and fits, its closed-form inverse. Otherwise a monotone
one without any law: isotonic means (weighted least squares under "more images never hurt"), joined by a
monotone cubic (Fritsch & Carlson 1980, PCHIP) in log n. Neither is read outside the sizes that were measured:
there the answer is only that it lies beyond.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.scaling import ScalingFit, fit_scaling

MISFIT_P = 0.01
_GRID = 513  # points of the curve between the smallest and the largest size, joined by straight lines


class LearningCurve:
    """Error against number of images, measured at some sizes with some seeds each.

    Args:
        sizes: (S,) different numbers of images, at least two.
        errors: for each size the errors of its seeds.

    Raises:
        DataError: fewer than two sizes, repeated or non-positive sizes, an empty or non-finite group.
    """

    def __init__(self, sizes: Sequence[float], errors: Sequence[ArrayLike]):
        n = np.asarray(sizes, float)
        groups = [np.atleast_1d(np.asarray(g, float)).ravel() for g in errors]
        if n.ndim != 1 or len(n) != len(groups):
            raise DataError(f"learning curve: {n.size} sizes, but {len(groups)} groups of errors")
        if len(n) < 2 or len(np.unique(n)) != len(n) or not (np.isfinite(n).all() and (n > 0).all()):
            raise DataError(
                f"learning curve: expected two or more different sizes above 0, got {list(sizes)}"
            )
        for size, group in zip(n, groups, strict=True):
            if not group.size or not np.isfinite(group).all():
                raise DataError(f"learning curve: the errors at size {size:g} are empty or not finite")
        order = np.argsort(n)
        self.sizes: F64 = n[order]
        self.errors: list[F64] = [groups[i] for i in order]
        self.order = order
        self.means: F64 = np.array([g.mean() for g in self.errors])
        self.count: F64 = np.array([len(g) for g in self.errors], float)
        self.law, self.why = self._law()

    @property
    def kind(self) -> str:
        """`law` or `interpolation`: how the curve is read between its sizes."""
        return "law" if self.law is not None else "interpolation"

    def _law(self) -> tuple[ScalingFit | None, str]:
        if len(self.sizes) < 3:
            return None, f"{len(self.sizes)} sizes are too few for a law"
        fit = fit_scaling(self.sizes.tolist(), self.errors, bootstrap=200)
        if not fit.identified:
            return None, fit.reason
        if fit.misfit is not None and fit.misfit < MISFIT_P:
            return None, f"the curve bends in another way than D·n^-α + C (p = {fit.misfit:.2g})"
        return fit, f"the law with α = {fit.alpha:.2f} fits these sizes"

    def inverse(self, error: ArrayLike, means: F64 | None = None) -> F64:
        """How many images reach `error` (B,): 0 below the smallest size, inf beyond the largest.

        Args:
            error: (B,).
            means: (B, S) mean errors at the sizes, ascending, of bootstrap replicates; default the measured
                ones.
        """
        level = np.atleast_1d(np.asarray(error, float))
        stars = np.broadcast_to(self.means, (len(level), len(self.sizes))) if means is None else means
        if self.law is None:
            return _inverse_interpolated(self.sizes, stars, self.count, level)
        from imgsynth.evaluate.powerlaw import fit_rows

        alpha, c, d, _ = fit_rows(self.sizes, self.law.weight, np.ascontiguousarray(stars), None)
        return self._measured(_inverse_law(alpha, c, d, level))

    def extrapolated(self, error: float) -> float | None:
        """What the law says for an error that no size reached, inf at its floor; None without a law."""
        if self.law is None:
            return None
        parts = (np.array([v]) for v in (self.law.alpha, self.law.C, self.law.D, error))
        return float(_inverse_law(*parts)[0])

    def _measured(self, n: F64) -> F64:
        slack = 1 + 1e-9  # an error exactly at the end of the curve is measured
        out = np.where(n > self.sizes[-1] * slack, np.inf, n)
        return np.where(n < self.sizes[0] / slack, 0.0, out)


def _inverse_law(alpha: F64, c: F64, d: F64, error: F64) -> F64:
    above = error - c
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        n = np.where(above > 0, (d / np.where(above > 0, above, 1)) ** (1 / alpha), np.inf)
    return np.where(d <= 0, np.where(above > 0, 0.0, np.inf), n)


def isotonic_falling(means: F64, weight: F64) -> F64:
    """Nearest non-increasing rows to `means` (B, S) in weighted squares, weights (S,).

    By the min–max formula of isotonic regression (Robertson, Wright & Dykstra 1988); S is small.
    """
    total = np.concatenate([[0.0], np.cumsum(weight)])
    sums = np.concatenate([np.zeros((len(means), 1)), np.cumsum(means * weight, axis=1)], axis=1)
    size = means.shape[1]
    out = np.full(means.shape, np.inf)
    for first in range(size):  # mean over first..last, its maximum over last ≥ i, minimum over first ≤ i
        average = (sums[:, first + 1 :] - sums[:, first : first + 1]) / (total[first + 1 :] - total[first])
        highest = np.maximum.accumulate(average[:, ::-1], axis=1)[:, ::-1]
        out[:, first:] = np.minimum(out[:, first:], highest)
    return out


def _inverse_interpolated(sizes: F64, means: F64, weight: F64, error: F64) -> F64:
    """The middle (in log n) of where the monotone curve through each row equals that row's error."""
    from scipy.interpolate import PchipInterpolator

    grid = np.linspace(np.log(sizes[0]), np.log(sizes[-1]), _GRID)
    grid[-1] = np.log(sizes[-1])
    falling = isotonic_falling(means, weight)
    curve = PchipInterpolator(np.log(sizes), falling, axis=1)(grid)
    curve = np.minimum.accumulate(curve, axis=1)  # rounding must not make it rise
    curve[:, 0], curve[:, -1] = falling[:, 0], falling[:, -1]
    level = error[:, None]
    rows = np.arange(len(error))
    tiny = 1e-12 * np.maximum(np.abs(level), 1)
    first = np.argmax(curve <= level + tiny, axis=1)  # leftmost point at or under the level
    last = _GRID - 1 - np.argmax(curve[:, ::-1] >= level - tiny, axis=1)  # rightmost at or over it
    left = _between(grid, curve, rows, np.maximum(first - 1, 0), first, error)
    right = _between(grid, curve, rows, last, np.minimum(last + 1, _GRID - 1), error)
    n = np.exp((left + right) / 2)
    n = np.where(error > curve[:, 0] + tiny[:, 0], 0.0, n)
    return np.where(error < curve[:, -1] - tiny[:, 0], np.inf, n)


def _between(grid: F64, curve: F64, rows: np.ndarray, low: np.ndarray, high: np.ndarray, error: F64) -> F64:
    a, b = curve[rows, low], curve[rows, high]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(a > b, (a - error) / (a - b), 0.0)
    # On a flat stretch the end of it that faces the level is meant, which is where share is not defined.
    return grid[low] + np.clip(share, 0, 1) * (grid[high] - grid[low])
