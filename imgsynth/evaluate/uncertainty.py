"""How sure a fitted law is: the kind of noise, resampled means, profile-likelihood intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.powerlaw import ALPHA_BOUNDS, ALPHA_GRID, fit_rows, given_alpha

MIN_SIZES = 5
MAX_RATIO = 2.0


def relative_sd(mean: F64) -> F64:
    """Standard deviations (S,) of noise in proportion to the mean error, of geometric mean 1."""
    floor = max(float(mean.max()) * 1e-3, 1e-12)
    relative = np.maximum(mean, floor)
    return relative / np.exp(np.log(relative).mean())


def chosen_noise(n: F64, mean: F64, count: F64, within: F64, fixed: float | None, noise: str) -> str:
    """`constant` or `proportional`: as wished, or for `auto` the likelier.

    Raises:
        DataError: another wish.
    """
    if noise in ("constant", "proportional"):
        return noise
    if noise != "auto":
        raise DataError(f"scaling fit: expected noise 'auto', 'constant' or 'proportional', got {noise!r}")
    likelihood = []
    for relative in (np.ones(len(n)), relative_sd(mean)):
        sse = fit_rows(n, count / relative**2, mean[None], fixed)[3][0] + (within / relative**2).sum()
        # Gaussian log likelihood with the scale profiled out; exact data would send both to infinity.
        likelihood.append(-0.5 * count.sum() * np.log(max(sse, 1e-18)) - (count * np.log(relative)).sum())
    return "proportional" if likelihood[1] > likelihood[0] else "constant"


def resample_means(
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


def student_stretch(freedom: float, level: float = 0.95) -> float:
    """By how much an interval from normal tails must widen where its spread has `freedom` degrees: t/z."""
    from scipy.stats import norm, t

    share = 0.5 + level / 2
    return float(t.ppf(share, freedom) / norm.ppf(share)) if np.isfinite(freedom) else 1.0


def crossings(
    inside: Callable[[F64], NDArray[np.bool_]], at: float, low: float, high: float, logarithmic: bool
) -> list[float]:
    """Where `inside` ends below and above `at`, or the bounds: three grids, each in the gap of the last."""
    forward, back = (np.log, np.exp) if logarithmic else (np.positive, np.positive)
    centre = float(forward(np.clip(at, low, high)))
    inner, outer = np.full(2, centre), np.asarray(forward(np.array([low, high])), float)
    share = np.linspace(0, 1, 21)[1:] ** 2  # finer near the estimate, where the end mostly is
    for _ in range(3):
        points = inner + share[:, None] * (outer - inner)
        held = inside(np.asarray(back(points.ravel()))).reshape(points.shape)
        outside = np.where(held.all(axis=0), len(share), np.argmin(held, axis=0))
        bracket = np.vstack([inner, points, points[-1:]])
        side = np.arange(2)
        inner, outer = bracket[outside, side], bracket[outside + 1, side]
        share = np.linspace(0, 1, 21)[1:]
    return [float(v) for v in back(inner)]


def law_intervals(
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
    y = np.repeat(mean[None], len(ALPHA_GRID), axis=0)
    d, c, at = given_alpha(n, weight, y, ALPHA_GRID, fixed)
    slack = level - (at + within)
    inside = slack >= 0
    if not inside.any():
        return {"alpha": [], "C": [], "D": []}
    x = n ** -ALPHA_GRID[:, None]
    sw, sx, sxx = weight.sum(), (weight * x).sum(axis=1), (weight * x * x).sum(axis=1)
    slack = np.maximum(slack, 0)
    determinant = np.maximum(sxx * sw - sx**2, 1e-300)
    wide_c = np.sqrt(slack / sw) if fixed is not None else np.sqrt(slack * sxx / determinant)
    wide_d = np.zeros_like(c) if fixed is not None else np.sqrt(slack * sw / determinant)
    return {
        "alpha": _crossing(ALPHA_GRID, level - (at + within)),
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


def flip_interval(
    n: F64, weight: F64, mean: F64, replicates: F64, at: float, sse: float, dof: int, within: float,
    fixed: float | None, alphas: list[float],
) -> list[float | None]:  # fmt: skip
    """95 % interval of n* = (D/C)^(1/α), where rendering has no more to give than the gap has: hull as above.

    With D = C·n*^α the law is C·(1 + (n/n*)^-α), linear in C alone, so the profile over n* is a search over α
    only, inside α's own interval `alphas`. Ends beyond 1/1000 of the smallest size or a million times the
    largest are None.
    """
    from scipy.stats import f as f_distribution

    level = sse * (1 + f_distribution.ppf(0.95, 1, dof) / dof) - within
    low_end, high_end = n[0] * 1e-3, n[-1] * 1e6
    alpha = np.geomspace(alphas[0], alphas[1], 81)  # no other α is inside at any n*

    def inside(flips: F64) -> NDArray[np.bool_]:
        with np.errstate(over="ignore"):
            shape = 1 + np.exp(-alpha[:, None, None] * (np.log(n) - np.log(flips)[:, None]))  # (A, flips, S)
        if fixed is None:
            c = np.clip(shape @ (weight * mean) / (shape**2 @ weight), 0, 1)
        else:
            c = np.clip(fixed * flips[None] ** -alpha[:, None], 0, 1)
        cost = (mean - c[..., None] * shape) ** 2 @ weight
        return np.asarray(cost.min(axis=0) <= level)

    with np.errstate(divide="ignore", invalid="ignore"):  # an error of 0 lies at -inf
        profile = np.log(crossings(inside, at, low_end, high_end, True))
        stars = np.where(
            replicates[:, 1] > 0,
            (np.log(replicates[:, 2]) - np.log(replicates[:, 1])) / replicates[:, 0],
            np.inf,
        )
    low, high = np.quantile(stars, [0.025, 0.975], method="inverted_cdf")
    ends = [low, high, np.log(at) if at > 0 else -np.inf, *profile]
    first, last = min(ends), max(ends)
    return [
        None if first <= np.log(low_end) else float(np.exp(first)),
        None if last >= np.log(high_end) - 1e-9 else float(np.exp(last)),
    ]


def misfit_p(mean: F64, fitted: F64, weight: F64, count: F64, within: float, parameters: int) -> float | None:
    """p-value of "the means lie on the curve but for the scatter of the seeds": the lack-of-fit F test.

    None where no size has two seeds, or no size is left over to test with.
    """
    from scipy.stats import f as f_distribution

    between, pure = len(mean) - parameters, int(count.sum()) - len(mean)
    if between < 1 or pure < 1 or within <= 0:
        return None
    ratio = float((weight * (mean - fitted) ** 2).sum()) / between / (within / pure)
    return float(f_distribution.sf(ratio, between, pure))


def prediction_interval(
    n: F64, weight: F64, mean: F64, at: float, sse: float, dof: int, fixed: float | None
) -> tuple[float, float]:
    """95 % interval in [0, 1] of the mean error at the last of `n` (S,), foretold as `at` from the others.

    It holds the values y that, added to the means (S − 1,) as one more, raise the squared error of the best
    fit by no more than s²·F(1, dof; .95): the curve's uncertainty and the new mean's noise in one.
    """
    from scipy.stats import f as f_distribution

    level = sse / dof * f_distribution.ppf(0.95, 1, dof)
    base = fit_rows(n[:-1], weight[:-1], mean[None], fixed)[3][0]

    def inside(y: F64) -> NDArray[np.bool_]:
        rows = np.column_stack([np.repeat(mean[None], len(y), axis=0), y])
        return np.asarray(fit_rows(n, weight, rows, fixed)[3] - base <= level)

    outer = np.array([0.0, 1.0])
    far = inside(outer)
    inner = np.full(2, np.clip(at, 0, 1))
    for _ in range(20):
        middle = (inner + outer) / 2
        held = inside(middle)
        inner, outer = np.where(held, middle, inner), np.where(held | far, outer, middle)
    low, high = np.where(far, [0.0, 1.0], inner)
    return float(low), float(high)


def why_not(
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
