"""How error falls with the number of synthetic images: error(n) = D·n^-α + C, and whether the data say so.

The law is that of Mikami et al. 2021 (arXiv 2108.11018) at a fixed number of real images: α is the rate at
which more rendering pays, C the transfer gap that no amount of rendering closes. For a fixed α the model is
linear in D and C, so the fit is a bounded 2-variable least squares inside a one-dimensional search over α
(variable projection), done for all bootstrap replicates at once.

α is badly determined by few sizes even where the curve looks perfect (seven sizes, noise .002: .11–.68 around
a true .4), so `ScalingFit.identified` says in one bit whether to quote it, and `reason` says in words why
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.powerlaw import ALPHA_BOUNDS as ALPHA_BOUNDS
from imgsynth.evaluate.powerlaw import fit_rows
from imgsynth.evaluate.uncertainty import (
    chosen_noise,
    flip_interval,
    law_intervals,
    misfit_p,
    prediction_interval,
    relative_sd,
    resample_means,
    why_not,
)


@dataclass(frozen=True)
class ScalingFit:
    """A fitted law error(n) = D·n^-α + C.

    `ci95` holds, for alpha, C and D, the hull of the bootstrap percentile interval and the profile-likelihood
    interval: the first knows the noise of the seeds (and of the test images, where the caller resampled
    those), the second the misfit of the law and the few degrees of freedom. `residual_sd` is that of single
    observations around the curve. `noise` tells whether the scatter was taken as constant or as proportional
    to the error.

    `flips_at` is n* = (D/C)^(1/α), where D·n^-α has fallen to C: with fewer images most of the error falls
    with their number, with more most of it is the transfer gap. It is None where it is not finite (C = 0),
    and so are the ends of `flips_ci95`. `misfit` is the p-value of the law against the scatter of the seeds,
    where sizes have several.
    """

    alpha: float
    C: float
    D: float
    ci95: dict[str, list[float]]
    identified: bool
    reason: str
    residual_sd: float
    noise: str
    fixed_D: bool = False
    flips_at: float | None = None
    flips_ci95: list[float | None] = field(default_factory=lambda: [None, None])
    misfit: float | None = None
    replicates: F64 = field(
        default_factory=lambda: np.zeros((0, 3)), repr=False, compare=False
    )  # (B, 3): α, C, D
    means: F64 = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)  # (S,) by size
    weight: F64 = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)  # (S,) of the means
    sse: float = field(default=0.0, repr=False)  # weighted, of single observations
    dof: int = field(default=1, repr=False)

    def predict(self, n: ArrayLike) -> F64:
        """Error at `n` images (any shape)."""
        return self.D * np.asarray(n, float) ** -self.alpha + self.C

    def band(self, n: ArrayLike, level: float = 0.95) -> tuple[F64, F64]:
        """Pointwise bootstrap interval of the curve at `n` (m,): two arrays (m,)."""
        rows = curves(self.replicates, np.atleast_1d(np.asarray(n, float)))
        tail = (1 - level) / 2
        low, high = np.quantile(rows, [tail, 1 - tail], axis=0)
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json, without the replicates."""
        return {
            "alpha": self.alpha,
            "C": self.C,
            "D": self.D,
            "ci95": self.ci95,
            "identified": self.identified,
            "reason": self.reason,
            "residual_sd": self.residual_sd,
            "noise": self.noise,
            "fixed_D": self.fixed_D,
            "flips_at": self.flips_at,
            "flips_ci95": self.flips_ci95,
            "misfit": self.misfit,
        }


def fit_scaling(
    sizes: Sequence[float],
    errors: Sequence[ArrayLike],
    *,
    D: float | None = None,
    noise: str = "auto",
    resampled: ArrayLike | None = None,
    bootstrap: int = 400,
    seed: int = 0,
) -> ScalingFit:
    """Fit error(n) = D·n^-α + C by bounded least squares, D ≥ 0, 0 ≤ C ≤ 1, α in [.02, 3].

    Args:
        sizes: (S,) different numbers of images, each > 0.
        errors: for each size the errors of its replicates (seeds); ragged is fine.
        D: hold D at this value (the released fits of Mikami et al. hold .48).
        noise: "constant", "proportional" (standard deviation ∝ mean error at that size) or "auto": the
            likelier of the two.
        resampled: (B, S) mean errors of bootstrap replicates made by the caller, for instance over seeds and
            test images; the default resamples seeds within sizes, or residuals where a size has a single
            seed.
        bootstrap: how many replicates the default makes.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than three sizes, repeated or non-positive sizes, an empty or non-finite group.
    """
    n, groups, order = _checked(sizes, errors)
    mean = np.array([g.mean() for g in groups])
    count = np.array([len(g) for g in groups], float)
    squares = np.array([((g - g.mean()) ** 2).sum() for g in groups])
    model = chosen_noise(n, mean, count, squares, D, noise)
    relative = np.ones(len(n)) if model == "constant" else relative_sd(mean)
    weight, within = count / relative**2, float((squares / relative**2).sum())
    alpha, c, d, between = (float(a[0]) for a in fit_rows(n, weight, mean[None], D))
    fitted, sse = d * n**-alpha + c, between + within
    parameters = 3 if D is None else 2
    dof = max(int(count.sum()) - parameters, 1)
    if resampled is None:
        stars = resample_means(groups, fitted, relative, dof, bootstrap, np.random.default_rng(seed))
    else:
        stars = np.atleast_2d(np.asarray(resampled, float))[:, order]
    replicates = np.stack(fit_rows(n, weight, stars, D)[:3], axis=1)
    ci95 = law_intervals(n, weight, mean, replicates, (alpha, c, d), sse, dof, within, D)
    reason = why_not(n, weight, mean, d, sse, dof, within, ci95["alpha"], D)
    flips = _flip(alpha, c, d)
    return ScalingFit(
        alpha,
        c,
        d,
        ci95,
        identified=not reason,
        reason=reason or "α is determined by these sizes and seeds",
        residual_sd=float(np.sqrt((squares.sum() + (count * (mean - fitted) ** 2).sum()) / dof)),
        noise=model,
        fixed_D=D is not None,
        flips_at=flips if np.isfinite(flips) else None,
        flips_ci95=flip_interval(n, weight, mean, replicates, flips, sse, dof, within, D, ci95["alpha"]),
        misfit=misfit_p(mean, fitted, weight, count, within, parameters),
        replicates=replicates,
        means=mean,
        weight=weight,
        sse=sse,
        dof=dof,
    )


def _flip(alpha: float, c: float, d: float) -> float:
    with np.errstate(over="ignore"):
        return (
            float(np.exp((np.log(d) - np.log(c)) / alpha)) if c > 0 and d > 0 else (np.inf if d > 0 else 0.0)
        )


@dataclass(frozen=True)
class Advice:
    """What the law says about rendering more than `n` images.

    `action` is "render more" where D·n^-α is the larger part of the error at `n`, "change the synthesis"
    where C is (or where `factor` times more images would cut the error by less than the share asked for),
    "unknown" where α is not identified. It is `certain` where `n` lies outside the interval of `flips_at`,
    the n at which that flips. `gain` is the predicted fall of the error at `factor` times more images, with
    its bootstrap interval; `floor` the share of today's error that no rendering removes, C / error(n).
    """

    action: str
    n: int
    factor: int
    error_now: float
    error_then: float
    gain: float
    gain_ci95: list[float]
    floor: float
    flips_at: float | None = None
    flips_ci95: list[float | None] = field(default_factory=lambda: [None, None])
    certain: bool = False
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return asdict(self)


def advise(fit: ScalingFit, n: int, *, factor: int = 10, worth: float = 0.1) -> Advice:
    """Whether more than `n` images or another synthesis is what the error calls for.

    Args:
        fit: the law.
        n: today's number of images.
        factor: how many times more to think of.
        worth: the least share of today's error by which `factor` times more must cut it to be advised.
    """
    now, then = (float(v) for v in fit.predict([n, n * factor]))
    rows = curves(fit.replicates, np.array([n, n * factor], float))
    low, high = np.quantile(rows[:, 0] - rows[:, 1], [0.025, 0.975])
    gain, falling = now - then, now - fit.C
    first, last = fit.flips_ci95
    below, above = first is not None and n < first, last is not None and n > last
    if not fit.identified:
        action, reason = "unknown", fit.reason
    elif falling <= fit.C:
        action, reason = (
            "change the synthesis",
            f"{fit.C / now:.0%} of the error is left at any number of images",
        )
    elif gain < worth * now or low <= 0:
        action, reason = (
            "change the synthesis",
            f"{factor} times more images would gain {gain / now:.0%} of the error",
        )
    else:
        action, reason = "render more", f"{falling / now:.0%} of the error falls with the number of images"
    certain = fit.identified and (below if action == "render more" else above)
    return Advice(
        action,
        int(n),
        factor,
        now,
        then,
        gain,
        [float(low), float(high)],
        floor=float(fit.C / now) if now > 0 else 0.0,
        flips_at=fit.flips_at,
        flips_ci95=fit.flips_ci95,
        certain=certain,
        reason=reason,
    )


@dataclass(frozen=True)
class Holdout:
    """The largest size foretold from the smaller ones: `passed` where `observed` lies in the interval."""

    n: float
    predicted: float
    interval: list[float]
    observed: float
    passed: bool
    identified: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return asdict(self)


def holdout(sizes: Sequence[float], errors: Sequence[ArrayLike], **options: Any) -> Holdout:
    """Test of extrapolation: fit all sizes but the largest, foretell its mean error with a 95 % interval.

    The interval is that of a prediction: it holds the curve's uncertainty and the noise of the mean observed.

    Args:
        sizes: (S,), at least four.
        errors: for each size the errors of its seeds.
        options: `D` and `noise`, as for `fit_scaling`.

    Raises:
        DataError: fewer than four sizes, and as `fit_scaling`.
    """
    n, groups, _ = _checked(sizes, errors)
    if len(n) < 4:
        raise DataError(f"held-out size: expected at least 4 sizes, 3 to fit and 1 to foretell, got {len(n)}")
    fit = fit_scaling(n[:-1].tolist(), groups[:-1], **options)
    predicted, seen = float(fit.predict(n[-1])), float(groups[-1].mean())
    spread = (
        fit.predict(n) / np.exp(np.log(fit.predict(n[:-1])).mean()) if fit.noise == "proportional" else 1.0
    )
    last = len(groups[-1]) / np.broadcast_to(spread, n.shape)[-1] ** 2
    low, high = prediction_interval(
        n, np.append(fit.weight, last), fit.means, predicted, fit.sse, fit.dof, fit.D if fit.fixed_D else None
    )
    return Holdout(float(n[-1]), predicted, [low, high], seen, low <= seen <= high, fit.identified)


def curves(replicates: F64, n: F64) -> F64:
    """(B, m) error of each replicate's curve at n (m,)."""
    alpha, c, d = (replicates[:, k, None] for k in range(3))
    return d * n[None] ** -alpha + c


def _checked(sizes: Sequence[float], errors: Sequence[ArrayLike]) -> tuple[F64, list[F64], NDArray[np.intp]]:
    n = np.asarray(sizes, float)
    groups = [np.atleast_1d(np.asarray(g, float)).ravel() for g in errors]
    if n.ndim != 1 or len(n) != len(groups):
        raise DataError(
            f"scaling fit: expected one group of errors per size, got {n.size} sizes and {len(groups)} groups"
        )
    if len(n) < 3:
        raise DataError(f"scaling fit: expected at least 3 sizes for 3 parameters, got {len(n)}")
    if not (np.isfinite(n).all() and (n > 0).all()) or len(np.unique(n)) != len(n):
        raise DataError(f"scaling fit: expected different sizes above 0, got {list(sizes)}")
    for size, group in zip(n, groups, strict=True):
        if not group.size or not np.isfinite(group).all():
            raise DataError(f"scaling fit: the errors at size {size:g} are empty or not finite")
    order = np.argsort(n)
    return n[order], [groups[i] for i in order], order
