"""What synthetic images are worth, counted in real ones; with the rest of what a study says of them.

Scores are "higher is better" in [0, 1] (accuracy, AP50, …); errors are 1 − score. A real-only learning curve
L_r turns a score into a number of real images; n_eff = L_r⁻¹(L_mixed(n_r)) − n_r is what the synthetic images
added to n_r real ones were worth, and with n_r = 0 how many real images they replace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.curves import LearningCurve
from imgsynth.evaluate.perclass import ClassDelta, benjamini_hochberg, delta_rows, per_class_delta
from imgsynth.evaluate.transfer import Transfer, transfer
from imgsynth.evaluate.uncertainty import relative_sd, student_stretch
from imgsynth.evaluate.verdict import Verdict, verdict

__all__ = [
    "ClassDelta",
    "Effective",
    "Rate",
    "Transfer",
    "Verdict",
    "benjamini_hochberg",
    "delta_rows",
    "effective_real_images",
    "exchange_rate",
    "per_class_delta",
    "transfer",
    "verdict",
]


@dataclass(frozen=True)
class Effective:
    """A number of real images.

    `value` is n_eff with its 95 % interval `lo`–`hi`; `hi` is None where it lies beyond the largest real size
    (unbounded by these data), `lo` is −n_real where it lies below the smallest. `censored` is "" where the
    score was reached by the real-only curve, "at least" (or "at most") where it lies beyond its largest
    (smallest) size: `value` is then that bound and no estimate. `extrapolated` is what the fitted law would
    say beyond the largest size: a guess, for a footnote. `curve` is "law" or "interpolation", and `why` says
    why that.
    """

    value: float
    lo: float
    hi: float | None
    censored: str
    n_real: int
    curve: str
    why: str
    extrapolated: float | None = None

    @property
    def words(self) -> str:
        """For instance `about 1,250 real images (950 to 1,600)` or `at least 4,000 real images`."""
        if self.censored:
            return f"{self.censored} {self.value:,.0f} real images"
        hi = "more than were measured" if self.hi is None else f"{self.hi:,.0f}"
        return f"about {self.value:,.0f} real images ({self.lo:,.0f} to {hi})"

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json, `words` among them."""
        return {**asdict(self), "words": self.words}


@dataclass(frozen=True)
class Rate:
    """Synthetic images per real image; None stands for "no number of them"."""

    value: float | None
    lo: float | None
    hi: float | None
    censored: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return asdict(self)


def effective_real_images(
    real_sizes: Sequence[float],
    real_errors: Sequence[ArrayLike],
    n_real: int,
    mixed_errors: ArrayLike,
    *,
    resampled: tuple[ArrayLike, ArrayLike] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Effective:
    """n_eff = L_r⁻¹(L_mixed(n_r)) − n_r, with a bootstrap interval.

    Args:
        real_sizes: (S,) numbers of real images of the real-only curve.
        real_errors: for each size the errors of its seeds, 1 − score.
        n_real: how many real images stood beside the synthetic ones; 0 for synthetic only.
        mixed_errors: (K,) errors of the seeds trained on those together.
        resampled: mean errors (B, S) of the real sizes, in the order given, and (B,) of the mixed arm, from
            bootstrap replicates over seeds and test images that the caller made, the same draw in a row. The
            default resamples seeds: deviations from the cell means, pooled over all cells.
        bootstrap: how many replicates the default makes.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than two sizes or two seeds in all cells, errors empty or not finite, n_real < 0,
            replicates of another shape.
    """
    curve = LearningCurve(real_sizes, real_errors)
    mixed = np.atleast_1d(np.asarray(mixed_errors, float)).ravel()
    if not mixed.size or not np.isfinite(mixed).all():
        raise DataError("effective real images: the errors of the mixed arm are empty or not finite")
    if n_real < 0:
        raise DataError(f"effective real images: expected n_real of 0 or more, got {n_real}")
    total = float(curve.inverse(mixed.mean())[0])
    if resampled is None:
        stars, freedom = _resampled_cells([*curve.errors, mixed], bootstrap, seed)
        real_stars, mixed_stars = stars[:, :-1], stars[:, -1]
    else:
        real_stars, mixed_stars = (np.asarray(v, float) for v in resampled)
        if mixed_stars.ndim != 1 or real_stars.shape != (len(mixed_stars), len(curve.sizes)):
            raise DataError(
                f"effective real images: expected replicates (B, {len(curve.sizes)}) and (B,), "
                f"got {real_stars.shape} and {mixed_stars.shape}"
            )
        real_stars = real_stars[:, curve.order]
        freedom = _freedom(mixed, total, curve, mixed_stars, real_stars)
    wide = student_stretch(freedom)
    totals = curve.inverse(
        mixed.mean() + wide * (mixed_stars - mixed.mean()), curve.means + wide * (real_stars - curve.means)
    )
    low, high = np.quantile(totals, [0.025, 0.975], method="inverted_cdf")
    return _as_effective(curve, total, float(low), float(high), n_real, float(mixed.mean()))


def _as_effective(
    curve: LearningCurve, total: float, low: float, high: float, n_real: int, error: float
) -> Effective:
    smallest, largest = float(curve.sizes[0]), float(curve.sizes[-1])
    censored, guess = "", None
    if total > largest:
        censored, value, guess = "at least", largest, curve.extrapolated(error)
    elif total < smallest:
        censored, value = "at most", smallest
    else:
        value = total
    low = min(low, value)
    high = max(high, value)
    return Effective(
        value - n_real,
        low - n_real,
        None if not np.isfinite(high) else high - n_real,
        censored,
        int(n_real),
        curve.kind,
        curve.why,
        guess - n_real if guess is not None and np.isfinite(guess) else None,
    )


def _freedom(mixed: F64, total: float, curve: LearningCurve, mixed_stars: F64, real_stars: F64) -> float:
    """Degrees of freedom (Satterthwaite 1946) of the mixed error against the curve beside it.

    Seeds of three cells enter: the mixed one and its two neighbours on the curve. Test images, which are
    shared by all cells and so for the most part fall out of the difference, count as many.
    """
    position = np.interp(
        np.log(np.clip(total, curve.sizes[0], curve.sizes[-1])),
        np.log(curve.sizes),
        np.arange(len(curve.sizes)),
    )
    left = min(int(position), len(curve.sizes) - 2)
    share = float(position - left)
    cells = ((1.0, mixed), (1 - share, curve.errors[left]), (share, curve.errors[left + 1]))
    parts = [(w**2 * float(np.var(v, ddof=1)) / len(v), len(v) - 1) for w, v in cells if len(v) > 1]
    of_seeds = sum(v for v, _ in parts)
    beside = (1 - share) * real_stars[:, left] + share * real_stars[:, left + 1]
    everything = float(np.var(mixed_stars - beside))
    if of_seeds <= 0 or everything <= 0:
        return np.inf
    freedom = of_seeds**2 / sum(v**2 / k for v, k in parts)
    return float(freedom / min(of_seeds / everything, 1.0) ** 2)


def _resampled_cells(cells: list[F64], replicates: int, seed: int) -> tuple[F64, float]:
    """(B, cells) means of cells whose seeds scatter alike, and the degrees of freedom of that scatter.

    Alike in absolute terms, or in proportion to the mean error, whichever is likelier. With three seeds a
    cell's own scatter says little, that of all cells together enough.
    """
    mean = np.array([c.mean() for c in cells])
    count = np.array([len(c) for c in cells])
    freedom = int((count - 1).sum())
    if freedom < 1:
        raise DataError("effective real images: two or more seeds in some cell expected, got one in each")
    models = []
    for relative in (np.ones(len(cells)), relative_sd(mean)):
        parts = [(c - m) / r for c, m, r in zip(cells, mean, relative, strict=True) if len(c) > 1]
        squares = sum(float(np.sum(v**2)) for v in parts)
        several = count > 1
        likelihood = -0.5 * freedom * np.log(max(squares, 1e-300)) - np.sum(
            (count - 1)[several] * np.log(relative[several])
        )
        models.append((likelihood, relative, parts))
    _, relative, parts = max(models, key=lambda m: m[0])
    # A cell's k deviations add up to 0 and so are short of its noise by (k − 1)/k.
    pool = np.concatenate([v * np.sqrt(len(v) / (len(v) - 1)) for v in parts])
    rng = np.random.default_rng(seed)
    columns = [
        m + r * pool[rng.integers(0, len(pool), (replicates, k))].mean(axis=1)
        for m, r, k in zip(mean, relative, count, strict=True)
    ]
    return np.stack(columns, axis=1), float(freedom)


def exchange_rate(effective: Effective, n_synthetic: int) -> Rate:
    """Synthetic images per real image at equal score: n_synthetic / n_eff, its interval turned over.

    None where n_eff is not above 0: no number of such images stands for a real one. With n_eff "at least" a
    bound the rate is "at most" one, and the other way round.

    Raises:
        DataError: n_synthetic < 1.
    """
    if n_synthetic < 1:
        raise DataError(f"exchange rate: expected 1 or more synthetic images, got {n_synthetic}")

    def per(real: float | None) -> float | None:
        return None if real is None or real <= 0 else n_synthetic / real

    turned = {"": "", "at least": "at most", "at most": "at least"}
    lo = 0.0 if effective.hi is None else per(effective.hi)
    return Rate(per(effective.value), lo, per(effective.lo), turned[effective.censored])
