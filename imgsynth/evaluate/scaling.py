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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.errors import DataError

F64 = NDArray[np.float64]

ALPHA_BOUNDS = (0.02, 3.0)
MIN_SIZES = 5
MAX_RATIO = 2.5
_GRID = np.geomspace(*ALPHA_BOUNDS, 241)


@dataclass(frozen=True)
class ScalingFit:
    """A fitted law error(n) = D·n^-α + C.

    `ci95` holds, for alpha, C and D, the hull of the bootstrap percentile interval and the profile-likelihood
    interval: the first knows the noise of the seeds (and of the test images, where the caller resampled
    those), the second the misfit of the law and the few degrees of freedom. `residual_sd` is that of single
    observations around the curve. `noise` tells whether the scatter was taken as constant or as proportional
    to the error.
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
    replicates: F64 = field(
        default_factory=lambda: np.zeros((0, 3)), repr=False, compare=False
    )  # (B, 3): α, C, D

    def predict(self, n: ArrayLike) -> F64:
        """Error at `n` images (any shape)."""
        return self.D * np.asarray(n, float) ** -self.alpha + self.C

    def band(self, n: ArrayLike, level: float = 0.95) -> tuple[F64, F64]:
        """Pointwise bootstrap interval of the curve at `n` (m,): two arrays (m,)."""
        curves = _curves(self.replicates, np.atleast_1d(np.asarray(n, float)))
        tail = (1 - level) / 2
        low, high = np.quantile(curves, [tail, 1 - tail], axis=0)
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
        }


@dataclass(frozen=True)
class Advice:
    """What the law says about rendering `factor` times more than `n` images.

    `action` is "render more", "change the synthesis" or "unknown"; `gain` is the predicted fall of the error,
    with its bootstrap interval; `floor` the predicted share of today's error that no rendering removes, C /
    error(n).
    """

    action: str
    n: int
    factor: int
    error_now: float
    error_then: float
    gain: float
    gain_ci95: list[float]
    floor: float


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
    n, groups = _checked(sizes, errors)
    mean = np.array([g.mean() for g in groups])
    count = np.array([len(g) for g in groups], float)
    within = np.array([((g - g.mean()) ** 2).sum() for g in groups])
    model = _chosen_noise(n, mean, count, within, D, noise)
    relative = np.ones(len(n)) if model == "constant" else _relative_sd(mean)
    weight = count / relative**2
    alpha, c, d, sse = (a[0] for a in _fit(n, weight, mean[None], D))
    sse += (within / relative**2).sum()
    dof = max(int(count.sum()) - (3 if D is None else 2), 1)
    scale = float(np.sqrt(sse / dof))
    if resampled is None:
        fitted = d * n**-alpha + c
        resampled = _resample(groups, fitted, relative, dof, bootstrap, np.random.default_rng(seed))
    stars = np.atleast_2d(np.asarray(resampled, float))
    replicates = np.stack(_fit(n, weight, stars, D)[:3], axis=1)
    ci95 = _intervals(n, weight, mean, replicates, (alpha, c, d), sse, dof, (within / relative**2).sum(), D)
    reason = _why_not(n, weight, mean, d, sse, dof, (within / relative**2).sum(), ci95["alpha"], D)
    residual = float(np.sqrt((within.sum() + (count * (mean - d * n**-alpha - c) ** 2).sum()) / dof))
    residual = residual if model == "proportional" else scale
    said = reason or "α is determined by these sizes and seeds"
    return ScalingFit(
        float(alpha), float(c), float(d), ci95, not reason, said, residual, model, D is not None, replicates
    )


def advise(fit: ScalingFit, n: int, *, factor: int = 10, worth: float = 0.1) -> Advice:
    """Whether `factor` times more images than `n` would cut the error by at least the share `worth` of it.

    The action is "unknown" where α is not identified, however plausible the curve.
    """
    now, then = (float(v) for v in fit.predict([n, n * factor]))
    curves = _curves(fit.replicates, np.array([n, n * factor], float))
    low, high = np.quantile(curves[:, 0] - curves[:, 1], [0.025, 0.975])
    gain = now - then
    if not fit.identified:
        action = "unknown"
    elif gain >= worth * now and low > 0:
        action = "render more"
    else:
        action = "change the synthesis"
    floor = fit.C / now if now > 0 else 0.0
    return Advice(action, int(n), factor, now, then, gain, [float(low), float(high)], float(floor))


def _curves(replicates: F64, n: F64) -> F64:
    """(B, m) error of each replicate's curve at n (m,)."""
    alpha, c, d = (replicates[:, k, None] for k in range(3))
    return d * n[None] ** -alpha + c


def _checked(sizes: Sequence[float], errors: Sequence[ArrayLike]) -> tuple[F64, list[F64]]:
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
    return n[order], [groups[i] for i in order]


# ---- the fit itself, for many replicates at once ----


def _fit(n: F64, weight: F64, y: F64, fixed: float | None) -> tuple[F64, F64, F64, F64]:
    """α, C, D and weighted squared error, each (B,), for means y (B, S) at sizes n (S,)."""
    grid = _GRID[
        ::3
    ]  # a factor of 1.065 a step: the profile has one valley, which the golden section then follows down
    at_grid = np.stack([_given_alpha(n, weight, y, np.full(len(y), a), fixed)[2] for a in grid])  # (A, B)
    best = at_grid.argmin(axis=0)
    low = np.log(grid[np.maximum(best - 1, 0)])
    high = np.log(grid[np.minimum(best + 1, len(grid) - 1)])
    alpha = np.exp(_golden(lambda t: _given_alpha(n, weight, y, np.exp(t), fixed)[2], low, high))
    # The search cannot end on a bound exactly; there the bound itself is the answer.
    alpha = np.where(at_grid.min(axis=0) <= _given_alpha(n, weight, y, alpha, fixed)[2], grid[best], alpha)
    d, c, sse = _given_alpha(n, weight, y, alpha, fixed)
    return alpha, c, d, sse


def _golden(function: Callable[[F64], F64], low: F64, high: F64, steps: int = 44) -> F64:
    """Golden-section minimum of `function` in [low, high], elementwise."""
    ratio = (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(steps):
        left = at_a < at_b
        low, high = np.where(left, low, a), np.where(left, b, high)
        new = np.where(left, high - ratio * (high - low), low + ratio * (high - low))
        value = function(new)
        a, b, at_a, at_b = (
            np.where(left, new, b),
            np.where(left, a, new),
            np.where(left, value, at_b),
            np.where(left, at_a, value),
        )
    return (low + high) / 2


def _given_alpha(n: F64, weight: F64, y: F64, alpha: F64, fixed: float | None) -> tuple[F64, F64, F64]:
    """Best D, C and squared error, each (B,), for α (B,): least squares in a box, so inside or on an edge."""
    reference = np.exp(np.log(n).mean())
    x = (n / reference) ** -alpha[:, None]  # (B, S); D here is D·reference^-α
    unit = reference**-alpha

    def cost(d: F64, c: F64) -> F64:
        return (weight * (y - d[:, None] * x - c[:, None]) ** 2).sum(axis=1)

    total = weight.sum()
    if fixed is not None:
        d = np.broadcast_to(fixed * unit, alpha.shape)
        c = np.clip((weight * (y - d[:, None] * x)).sum(axis=1) / total, 0, 1)
        return d / unit, c, cost(d, c)
    mx, my = (x * weight).sum(axis=1) / total, (y * weight).sum(axis=1) / total
    sxx = (weight * (x - mx[:, None]) ** 2).sum(axis=1)
    d = (weight * (x - mx[:, None]) * (y - my[:, None])).sum(axis=1) / sxx
    c = my - d * mx
    inside = (d >= 0) & (c >= 0) & (c <= 1)
    if not inside.all():
        edge_d, edge_c = _on_edge(weight, x, y, cost)
        d, c = np.where(inside, d, edge_d), np.where(inside, c, edge_c)
    return d / unit, c, cost(d, c)


def _on_edge(weight: F64, x: F64, y: F64, cost: Callable[[F64, F64], F64]) -> tuple[F64, F64]:
    """Best D, C, each (B,), on C = 0, C = 1 or D = 0: the answer where the box cuts off the free minimum."""
    xx, xy, sx = ((weight * v).sum(axis=1) for v in (x * x, x * y, x))
    middle = np.clip((weight * y).sum(axis=1) / weight.sum(), 0, 1)
    zero, one = np.zeros_like(xx), np.ones_like(xx)
    d = np.stack([np.maximum(xy / xx, 0), np.maximum((xy - sx) / xx, 0), zero])
    c = np.stack([zero, one, middle])
    edge, column = (
        np.stack([cost(*pair) for pair in zip(d, c, strict=True)]).argmin(axis=0),
        np.arange(len(xx)),
    )
    return d[edge, column], c[edge, column]


# ---- noise, intervals, identification ----


def _relative_sd(mean: F64) -> F64:
    floor = max(float(mean.max()) * 1e-3, 1e-12)
    relative = np.maximum(mean, floor)
    return relative / np.exp(np.log(relative).mean())


def _chosen_noise(n: F64, mean: F64, count: F64, within: F64, fixed: float | None, noise: str) -> str:
    if noise in ("constant", "proportional"):
        return noise
    if noise != "auto":
        raise DataError(f"scaling fit: expected noise 'auto', 'constant' or 'proportional', got {noise!r}")
    likelihood = []
    for relative in (np.ones(len(n)), _relative_sd(mean)):
        sse = _fit(n, count / relative**2, mean[None], fixed)[3][0] + (within / relative**2).sum()
        # Gaussian log likelihood with the scale profiled out; exact data would send both to infinity.
        likelihood.append(-0.5 * count.sum() * np.log(max(sse, 1e-18)) - (count * np.log(relative)).sum())
    return "proportional" if likelihood[1] > likelihood[0] else "constant"


def _resample(
    groups: list[F64], fitted: F64, relative: F64, dof: int, replicates: int, rng: np.random.Generator
) -> F64:
    """(B, S) means: seeds drawn within each size, or residuals from the curve where a size has one seed only.

    Deviations are stretched by √(k/(k−1)), or √(N/dof) for residuals, because k values scatter less around
    their own mean than around the true one.
    """
    if min(len(g) for g in groups) >= 2:
        columns = []
        for g in groups:
            drawn = g[rng.integers(0, len(g), (replicates, len(g)))].mean(axis=1)
            columns.append(g.mean() + (drawn - g.mean()) * np.sqrt(len(g) / (len(g) - 1)))
        return np.stack(columns, axis=1)
    residuals = np.concatenate([(g - f) / r for g, f, r in zip(groups, fitted, relative, strict=True)])
    residuals = residuals * np.sqrt(len(residuals) / dof)
    columns = [
        f + r * residuals[rng.integers(0, len(residuals), (replicates, len(g)))].mean(axis=1)
        for g, f, r in zip(groups, fitted, relative, strict=True)
    ]
    return np.stack(columns, axis=1)


def _intervals(
    n: F64, weight: F64, mean: F64, replicates: F64, best: tuple[float, float, float], sse: float, dof: int,
    within: float, fixed: float | None,
) -> dict[str, list[float]]:  # fmt: skip
    """95 % intervals of alpha, C and D: hull of bootstrap percentiles and profile likelihood."""
    profile = _profile_intervals(n, weight, mean, sse, dof, within, fixed)
    out = {}
    for k, name in enumerate(("alpha", "C", "D")):
        low, high = np.quantile(replicates[:, k], [0.025, 0.975])
        ends = [low, high, best[k], *profile[name]]
        out[name] = [float(min(ends)), float(max(ends))]
    return out


def _profile_intervals(
    n: F64, weight: F64, mean: F64, sse: float, dof: int, within: float, fixed: float | None
) -> dict[str, list[float]]:
    """{θ: SSE(θ) ≤ SSE_min (1 + F(1, dof; .95)/dof)} with the other parameters at their best.

    The set is traced on a grid of α with, at each α, the ellipse of (D, C) cut by the same level: its extent
    along C and D follows in closed form, so no second search is needed. Empty ends fall back to the minimum
    in the caller.
    """
    from scipy.stats import f as f_distribution

    level = sse * (1 + f_distribution.ppf(0.95, 1, dof) / dof)
    y = np.repeat(mean[None], len(_GRID), axis=0)
    d, c, at = _given_alpha(n, weight, y, _GRID, fixed)
    slack = level - (at + within)
    inside = slack >= 0
    if not inside.any():
        return {"alpha": [], "C": [], "D": []}
    x = n ** -_GRID[:, None]
    sw, sx, sxx = weight.sum(), (weight * x).sum(axis=1), (weight * x * x).sum(axis=1)
    slack = np.maximum(slack, 0)
    determinant = np.maximum(sxx * sw - sx**2, 1e-300)
    wide_c = np.sqrt(slack / sw) if fixed is not None else np.sqrt(slack * sxx / determinant)
    wide_d = np.zeros_like(c) if fixed is not None else np.sqrt(slack * sw / determinant)
    return {
        "alpha": _crossing(_GRID, level - (at + within)),
        "C": [float(max((c - wide_c)[inside].min(), 0)), float(min((c + wide_c)[inside].max(), 1))],
        "D": [float(max((d - wide_d)[inside].min(), 0)), float((d + wide_d)[inside].max())],
    }


def _crossing(grid: F64, slack: F64) -> list[float]:
    """Ends of {slack ≥ 0} on the grid, each moved to the zero between two grid points by interpolation."""
    inside = np.flatnonzero(slack >= 0)
    ends = []
    for index, step in ((inside[0], -1), (inside[-1], 1)):
        value, outside = grid[index], index + step
        if 0 <= outside < len(grid):
            value += (grid[outside] - value) * slack[index] / (slack[index] - slack[outside])
        ends.append(float(value))
    return ends


def _why_not(
    n: F64, weight: F64, mean: F64, d: float, sse: float, dof: int, within: float, alpha: list[float],
    fixed: float | None,
) -> str:  # fmt: skip
    """Why α must not be quoted, in words; empty where it may."""
    from scipy.stats import f as f_distribution

    if len(n) < MIN_SIZES:
        return f"{len(n)} sizes are too few to tell α from C; at least {MIN_SIZES} are needed"
    constant = np.clip((weight * mean).sum() / weight.sum(), 0, 1)
    flat = float((weight * (mean - constant) ** 2).sum()) + within
    extra = 2 if fixed is None else 1
    scatter = max(sse / dof, 1e-18)
    if d <= 0 or (flat - sse) / extra / scatter < f_distribution.ppf(0.95, extra, dof):
        return "the error does not fall with the number of images beyond the noise between seeds"
    low, high = alpha
    if low <= ALPHA_BOUNDS[0] * 1.02 or high >= ALPHA_BOUNDS[1] * 0.98:
        return (
            f"the interval of α, {low:.2f} to {high:.2f}, reaches the bound of the search: add sizes or seeds"
        )
    if high / low > MAX_RATIO:
        return f"the interval of α, {low:.2f} to {high:.2f}, is wider than ×{MAX_RATIO:g}: add sizes or seeds"
    return ""
