"""The two-dimensional law: error against synthetic images n and real images s, L = δ(γ + n^-α)·s^-β.

Mikami et al. 2021 (arXiv 2108.11018): n images of synthetic pre-training, s real ones of fine-tuning, α the
rate at which rendering pays, β that at which labelling does, γ the transfer gap. At fixed s it is D·n^-α + C
with D = δs^-β and C = δγs^-β. For fixed α and β the law is linear in δ and δγ (both ≥ 0), so the fit is a
search in two dimensions only (variable projection), done for all bootstrap replicates at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.surfacefit import ALPHA_BOUNDS, BETA_BOUNDS, PARAMETERS, fit_surfaces, profiles
from imgsynth.evaluate.uncertainty import MAX_RATIO, misfit_p, relative_sd, resample_means

MIN_SIZES = 4  # different n, and different s less one


@dataclass(frozen=True)
class Exchange:
    """Synthetic images that equal one more real one: None where no number of them does (or none is known).

    `value` stands at (n, s), with its 95 % interval.
    """

    n: float
    s: float
    value: float | None
    lo: float | None
    hi: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return asdict(self)


@dataclass(frozen=True)
class SurfaceFit:
    """A fitted law L(n, s) = δ(γ + n^-α)·s^-β.

    `floor` is δγ, which stays finite where δ is 0 and γ, the gap relative to what rendering gives, infinite.
    `ci95` holds for each parameter the hull of the bootstrap percentile interval and the profile-likelihood
    interval. `unidentified` says for each parameter that must not be quoted why; `identified` is true where
    there is none. `misfit` is the p-value of the law against the scatter of the seeds.
    """

    alpha: float
    beta: float
    gamma: float
    delta: float
    floor: float
    ci95: dict[str, list[float]]
    unidentified: dict[str, str]
    residual_sd: float
    noise: str
    misfit: float | None = None
    replicates: F64 = field(
        default_factory=lambda: np.zeros((0, 4)), repr=False, compare=False
    )  # (B, 4): α, β, δγ, δ

    @property
    def identified(self) -> bool:
        """Whether every parameter may be quoted."""
        return not self.unidentified

    def predict(self, n: ArrayLike, s: ArrayLike) -> F64:
        """Error at `n` synthetic and `s` real images (any shapes that broadcast)."""
        x, r = np.asarray(n, float), np.asarray(s, float)
        return np.asarray((self.floor + self.delta * x**-self.alpha) * r**-self.beta)

    def band(self, n: ArrayLike, s: ArrayLike, level: float = 0.95) -> tuple[F64, F64]:
        """Pointwise bootstrap interval of the surface at `n`, `s`: two arrays of their broadcast shape."""
        x, r = np.broadcast_arrays(np.asarray(n, float), np.asarray(s, float))
        a, b, f, d = (self.replicates[:, k].reshape(-1, *[1] * x.ndim) for k in range(4))
        tail = (1 - level) / 2
        low, high = np.quantile((f + d * x[None] ** -a) * r[None] ** -b, [tail, 1 - tail], axis=0)
        return low, high

    def exchange(self, n: float, s: float) -> Exchange:
        """−∂L/∂s over −∂L/∂n at (n, s): β n (1 + γ n^α) / (α s), with its bootstrap interval."""
        _positive(n, s)
        return _exchange(_rate(self._point, n, s)[0], _rate(self.replicates, n, s), n, s)

    def more_synthetic(self, n: float, s: float, real: float = 1.0) -> Exchange:
        """Synthetic images beyond n that lower the error as much as `real` more real ones than s do.

        The exact finite exchange: (γ + n'^-α) = (γ + n^-α)((s + real)/s)^-β solved for n' − n. None where the
        gap γ stands before it.
        """
        _positive(n, s, real)
        return _exchange(_more(self._point, n, s, real)[0], _more(self.replicates, n, s, real), n, s)

    @property
    def _point(self) -> F64:
        return np.array([[self.alpha, self.beta, self.floor, self.delta]])

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json, without the replicates."""
        out = {k: v for k, v in asdict(self).items() if k != "replicates"}
        ends = {k: [v if np.isfinite(v) else None for v in ends] for k, ends in self.ci95.items()}
        gamma = self.gamma if np.isfinite(self.gamma) else None
        return {**out, "gamma": gamma, "ci95": ends, "identified": self.identified}


def fit_surface(
    n: Sequence[float],
    s: Sequence[float],
    errors: Sequence[ArrayLike],
    *,
    noise: str = "auto",
    resampled: ArrayLike | None = None,
    bootstrap: int = 300,
    seed: int = 0,
) -> SurfaceFit:
    """Fit L(n, s) by bounded least squares: α in [.02, 3], β in [0, 3], γ ≥ 0, δ ≥ 0.

    Args:
        n: (S,) synthetic images of each cell, > 0 (n = 0 is outside the law, as in the source).
        s: (S,) real images of each cell, > 0.
        errors: for each cell the errors of its seeds; ragged is fine.
        noise: "constant", "proportional" to the error, or "auto": the likelier.
        resampled: (B, S) mean errors of replicates made by the caller; the default resamples seeds within
            cells, or residuals where a cell has a single seed.
        bootstrap: how many replicates the default makes.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than five cells, fewer than two different n or s, a cell twice, sizes not above 0, an
            empty or non-finite group.
    """
    x, r, groups = _checked(n, s, errors)
    mean = np.array([g.mean() for g in groups])
    count = np.array([len(g) for g in groups], float)
    squares = np.array([((g - g.mean()) ** 2).sum() for g in groups])
    model = _noise(x, r, mean, count, squares, noise)
    relative = np.ones(len(x)) if model == "constant" else relative_sd(mean)
    weight, within = count / relative**2, float((squares / relative**2).sum())
    best, between = (v[0] for v in fit_surfaces(x, r, weight, mean[None]))
    alpha, beta, floor, delta = (float(v) for v in best)
    fitted = (floor + delta * x**-alpha) * r**-beta
    dof = max(int(count.sum()) - 4, 1)
    if resampled is None:
        stars = resample_means(groups, fitted, relative, dof, bootstrap, np.random.default_rng(seed))
    else:
        stars = np.atleast_2d(np.asarray(resampled, float))
    replicates = fit_surfaces(x, r, weight, stars)[0]
    limits = profiles(x, r, weight, mean, best, float(between), float(between) + within, dof)
    ci95 = {}
    point, of_replicates = _named(best[None]), _named(replicates)
    for name in PARAMETERS:
        low, high = np.quantile(of_replicates[name], [0.025, 0.975], method="inverted_cdf")
        ends = [float(low), float(high), float(point[name][0]), *limits[name]]
        ci95[name] = [min(ends), max(ends)]
    return SurfaceFit(
        alpha,
        beta,
        float(point["gamma"][0]),
        delta,
        floor,
        ci95=ci95,
        unidentified=_why_not(x, r, delta, ci95),
        residual_sd=float(np.sqrt((squares.sum() + (count * (mean - fitted) ** 2).sum()) / dof)),
        noise=model,
        misfit=misfit_p(mean, fitted, weight, count, within, 4),
        replicates=replicates,
    )


def _checked(
    n: Sequence[float], s: Sequence[float], errors: Sequence[ArrayLike]
) -> tuple[F64, F64, list[F64]]:
    x, r = np.asarray(n, float), np.asarray(s, float)
    groups = [np.atleast_1d(np.asarray(g, float)).ravel() for g in errors]
    if x.ndim != 1 or x.shape != r.shape or len(x) != len(groups):
        raise DataError(
            f"surface fit: expected n, s and errors for each cell, got {x.size}, {r.size} and {len(groups)}"
        )
    if len(x) < 5 or min(len(np.unique(x)), len(np.unique(r))) < 2:
        raise DataError(
            f"surface fit: expected 5 or more cells with different n and different s, got {len(x)} cells, "
            f"{len(np.unique(x))} n and {len(np.unique(r))} s"
        )
    if not (np.isfinite(x).all() and np.isfinite(r).all() and (x > 0).all() and (r > 0).all()):
        raise DataError("surface fit: expected n and s above 0 (no synthetic images is outside the law)")
    if len(set(zip(x.tolist(), r.tolist(), strict=True))) < len(x):
        raise DataError("surface fit: a cell (n, s) stands there twice; put its seeds into one group")
    for a, b, group in zip(x, r, groups, strict=True):
        if not group.size or not np.isfinite(group).all():
            raise DataError(f"surface fit: the errors at n {a:g}, s {b:g} are empty or not finite")
    return x, r, groups


def _noise(n: F64, s: F64, mean: F64, count: F64, squares: F64, noise: str) -> str:
    if noise in ("constant", "proportional"):
        return noise
    if noise != "auto":
        raise DataError(f"surface fit: expected noise 'auto', 'constant' or 'proportional', got {noise!r}")
    likelihood = []
    for relative in (np.ones(len(n)), relative_sd(mean)):
        sse = fit_surfaces(n, s, count / relative**2, mean[None])[1][0] + (squares / relative**2).sum()
        likelihood.append(-0.5 * count.sum() * np.log(max(sse, 1e-18)) - (count * np.log(relative)).sum())
    return "proportional" if likelihood[1] > likelihood[0] else "constant"


def _why_not(n: F64, s: F64, delta: float, ci95: dict[str, list[float]]) -> dict[str, str]:
    """Which parameters must not be quoted, and why."""
    out = {}
    for name, bounds, sizes, least in (
        ("alpha", ALPHA_BOUNDS, n, MIN_SIZES),
        ("beta", BETA_BOUNDS, s, MIN_SIZES - 1),
    ):
        low, high = ci95[name]
        found = len(np.unique(sizes))
        said = f"its interval, {low:.2f} to {high:.2f},"
        if found < least:
            kind = "synthetic" if name == "alpha" else "real"
            out[name] = f"{found} numbers of {kind} images are too few; {least} are needed"
        elif low <= bounds[0] + 0.02 * bounds[0] + 1e-6 or high >= bounds[1] * 0.98:
            out[name] = f"{said} reaches the bound of the search: add sizes or seeds"
        elif high / low > MAX_RATIO:
            out[name] = f"{said} is wider than ×{MAX_RATIO:g}: add sizes or seeds"
    if delta <= 0:
        out["alpha"] = "the error does not fall with the number of synthetic images"
    if "alpha" in out:  # γ is what is left of n^-α, δ its scale: without α both are loose
        out.setdefault("gamma", "α is not determined, and γ hangs on it")
        out.setdefault("delta", "α is not determined, and δ hangs on it")
    if "beta" in out:
        out.setdefault("delta", "β is not determined, and δ hangs on it")
    return out


def _named(rows: F64) -> dict[str, F64]:
    """Columns (B,) of rows (α, β, δγ, δ) by the names of the law's parameters."""
    a, b, f, d = rows.T
    with np.errstate(divide="ignore", invalid="ignore"):
        gamma = np.where(d > 0, f / d, np.inf)
    return {"alpha": a, "beta": b, "gamma": gamma, "delta": d}


def _positive(n: float, s: float, real: float = 1.0) -> None:
    if not (n > 0 and s > 0 and real > 0):
        raise DataError(f"exchange: expected n, s and real images above 0, got {n:g}, {s:g} and {real:g}")


def _rate(rows: F64, n: float, s: float) -> F64:
    a, b, f, d = rows.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(d > 0, b * n * (f * n**a + d) / (a * d * s), np.inf)


def _more(rows: F64, n: float, s: float, real: float) -> F64:
    a, b, g, d = _named(rows).values()
    with np.errstate(invalid="ignore"):
        rest = (g + n**-a) * ((s + real) / s) ** -b - g
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where((d > 0) & (rest > 0), np.where(rest > 0, rest, 1.0) ** (-1 / a) - n, np.inf)


def _exchange(value: float, stars: F64, n: float, s: float) -> Exchange:
    low, high = np.quantile(stars, [0.025, 0.975], method="inverted_cdf")
    ends = [float(value), float(min(low, value)), float(max(high, value))]
    return Exchange(float(n), float(s), *(v if np.isfinite(v) else None for v in ends))
