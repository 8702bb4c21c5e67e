"""Bounded least squares of δ(γ + n^-α)·s^-β for many surfaces at once, and its profiles.

One of the four parameters may be held at a value, each row its own: that is all a profile likelihood needs.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.evaluate.powerlaw import ALPHA_BOUNDS
from imgsynth.evaluate.uncertainty import crossings

BETA_BOUNDS = (0.0, 3.0)
PARAMETERS = ("alpha", "beta", "gamma", "delta")
_LOG_ALPHA = (float(np.log(ALPHA_BOUNDS[0])), float(np.log(ALPHA_BOUNDS[1])))
_STEPS = 16


def fit_surfaces(n: F64, s: F64, weight: F64, y: F64, held: tuple[str, F64] | None = None) -> tuple[F64, F64]:
    """(α, β, δγ, δ) (B, 4) and weighted squared error (B,) for means y (B, S) of cells n, s, weight (S,).

    Args:
        n: synthetic images.
        s: real images.
        weight: of the squares.
        y: means.
        held: a parameter's name and its value (B,) in each row.
    """
    # Sizes relative to their geometric mean keep δ and δγ of the errors' own size while α and β are sought.
    x, r = np.log(n) - np.log(n).mean(), np.log(s) - np.log(s).mean()
    held_name, held_at = held if held is not None else ("", np.zeros(len(y)))
    solve = _Linear(x, r, weight, y, np.log(n).mean(), np.log(s).mean(), held_name, held_at)
    log_alpha, beta = _start(solve, held_name, held_at)
    log_alpha, beta, cost = _descend(solve, log_alpha, beta, (held_name != "alpha", held_name != "beta"))
    floor, delta = solve.linear(log_alpha, beta)
    return np.stack([np.exp(log_alpha), beta, floor, delta], axis=1), cost


def _start(solve: _Linear, held: str, at: F64) -> tuple[F64, F64]:
    """Best node of a coarse grid, each row its own."""
    rows = len(solve.y)
    alphas = np.log(at)[None] if held == "alpha" else np.linspace(*_LOG_ALPHA, 15)[:, None] + np.zeros(rows)
    betas = at[None] if held == "beta" else np.linspace(*BETA_BOUNDS, 16)[:, None] + np.zeros(rows)
    best_a, best_b, best = alphas[0], betas[0], np.full(rows, np.inf)
    for a in alphas:
        cost = np.stack([solve.cost(a, b) for b in betas])
        least = cost.argmin(axis=0)
        found = np.take_along_axis(cost, least[None], 0)[0]
        better = found < best
        b = np.take_along_axis(betas, least[None], 0)[0]
        best_a, best_b = np.where(better, a, best_a), np.where(better, b, best_b)
        best = np.where(better, found, best)
    return best_a, best_b


def _descend(solve: _Linear, a: F64, b: F64, free: tuple[bool, bool]) -> tuple[F64, F64, F64]:
    """Minimum over log α and β: Newton steps on a window of nine points that shrinks, the best of all kept.

    Where the nine points are no valley (or the step leads nowhere better) the window moves to its best point.
    """
    wide_a, wide_b = (np.full(len(a), w * f) for w, f in zip((0.3, 0.15), free, strict=True))
    cost = solve.cost(a, b)
    for _ in range(_STEPS):
        grid = np.empty((3, 3, len(a)))
        at_a = np.clip(np.stack([a - wide_a, a, a + wide_a]), *_LOG_ALPHA) if free[0] else np.stack([a] * 3)
        at_b = np.clip(np.stack([b - wide_b, b, b + wide_b]), *BETA_BOUNDS) if free[1] else np.stack([b] * 3)
        for i in range(3):
            for j in range(3):
                same = (i == 1 or not free[0]) and (j == 1 or not free[1])
                grid[i, j] = cost if same else solve.cost(at_a[i], at_b[j])
        step_a, step_b = _newton(grid, wide_a, wide_b)
        new_a = np.clip(a + step_a, *_LOG_ALPHA) if free[0] else a
        new_b = np.clip(b + step_b, *BETA_BOUNDS) if free[1] else b
        new_cost = solve.cost(new_a, new_b)
        flat = grid.reshape(9, -1)
        least = flat.argmin(axis=0)
        lowest = np.take_along_axis(flat, least[None], 0)[0]
        by_newton = new_cost <= lowest
        rows = np.arange(len(a))
        moved = ~by_newton & (lowest < cost)
        a = np.where(by_newton, new_a, np.where(moved, at_a[least // 3, rows], a))
        b = np.where(by_newton, new_b, np.where(moved, at_b[least % 3, rows], b))
        cost = np.where(by_newton, new_cost, np.where(moved, lowest, cost))
        far = (np.abs(step_a) > wide_a) | (np.abs(step_b) > wide_b)
        shrink = np.where(by_newton & far | moved, 1.0, np.where(by_newton, 0.3, 0.5))
        wide_a, wide_b = (
            np.maximum(wide_a * shrink, 1e-6 * free[0]),
            np.maximum(wide_b * shrink, 1e-6 * free[1]),
        )
    return a, b, cost


def _newton(grid: F64, wide_a: F64, wide_b: F64) -> tuple[F64, F64]:
    """Step to the minimum of the quadratic through nine points (3, 3, B), at most three windows long."""
    ga, gb = (grid[2, 1] - grid[0, 1]) / 2, (grid[1, 2] - grid[1, 0]) / 2
    haa = grid[2, 1] - 2 * grid[1, 1] + grid[0, 1]
    hbb = grid[1, 2] - 2 * grid[1, 1] + grid[1, 0]
    hab = (grid[2, 2] - grid[2, 0] - grid[0, 2] + grid[0, 0]) / 4
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = haa * hbb - hab**2
        valley = (haa > 0) & (hbb > 0) & (determinant > 0)
        a = np.where(valley, (hab * gb - hbb * ga) / determinant, np.where(haa > 0, -ga / haa, -np.sign(ga)))
        b = np.where(valley, (hab * ga - haa * gb) / determinant, np.where(hbb > 0, -gb / hbb, -np.sign(gb)))
    return np.clip(np.nan_to_num(a), -3, 3) * wide_a, np.clip(np.nan_to_num(b), -3, 3) * wide_b


class _Linear:
    """Best δ and δγ for given α and β, one row a surface."""

    def __init__(self, x: F64, r: F64, weight: F64, y: F64, x0: float, r0: float, held: str, at: F64):
        self.x, self.r, self.weight, self.y = x, r, weight, y
        self.x0, self.r0, self.held, self.at = x0, r0, held, at
        self.yy = (weight * y * y).sum(axis=1)

    def _solved(self, log_alpha: F64, beta: F64) -> tuple[F64, F64, F64]:
        """A, D of y = A·r^-β + D·x^-α·r^-β in relative sizes, and the squared error."""
        alpha = np.exp(log_alpha)
        u = np.exp(-beta[:, None] * self.r)
        v = u * np.exp(-alpha[:, None] * self.x)
        wu, wv = self.weight * u, self.weight * v
        uu, uv, vv = (wu * u).sum(1), (wu * v).sum(1), (wv * v).sum(1)
        uy, vy = (wu * self.y).sum(1), (wv * self.y).sum(1)
        if self.held == "gamma":
            ratio = self.at * np.exp(np.minimum(alpha * self.x0, 600))  # A/D
            d = np.maximum((vy + ratio * uy) / (vv + 2 * ratio * uv + ratio**2 * uu), 0)
            a = ratio * d
        elif self.held == "delta":
            d = self.at * np.exp(np.clip(-alpha * self.x0 - beta * self.r0, -600, 600))
            a = np.maximum((uy - d * uv) / uu, 0)
        else:
            determinant = np.maximum(uu * vv - uv**2, 1e-300)
            a, d = (uy * vv - vy * uv) / determinant, (vy * uu - uy * uv) / determinant
            inside = (a >= 0) & (d >= 0)
            only_a, only_d = np.maximum(uy / uu, 0), np.maximum(vy / vv, 0)
            flat = only_a * uy >= only_d * vy  # the one that explains more
            a = np.where(inside, a, np.where(flat, only_a, 0))
            d = np.where(inside, d, np.where(flat, 0, only_d))
        error = self.weight * (self.y - a[:, None] * u - d[:, None] * v) ** 2
        return a, d, error.sum(axis=1)

    def cost(self, log_alpha: F64, beta: F64) -> F64:
        return self._solved(log_alpha, beta)[2]

    def linear(self, log_alpha: F64, beta: F64) -> tuple[F64, F64]:
        """δγ and δ in true sizes."""
        a, d, _ = self._solved(log_alpha, beta)
        alpha = np.exp(log_alpha)
        return a * np.exp(beta * self.r0), d * np.exp(alpha * self.x0 + beta * self.r0)


def profiles(
    n: F64, s: F64, weight: F64, mean: F64, best: F64, between: float, sse: float, dof: int
) -> dict[str, list[float]]:
    """{θ: SSE(θ) ≤ SSE_min (1 + F(1, dof; .95)/dof)} for each parameter, the others at their best.

    Each end is sought by bisection between the estimate and a bound; where the bound itself lies inside, the
    bound is the end (infinity for γ and δ).
    """
    from scipy.stats import f as f_distribution

    slack = sse / dof * f_distribution.ppf(0.95, 1, dof)

    def inside(name: str, at: F64) -> NDArray[np.bool_]:
        rows = np.repeat(mean[None], len(at), axis=0)
        return np.asarray(fit_surfaces(n, s, weight, rows, (name, at))[1] - between <= slack)

    out: dict[str, list[float]] = {}
    if best[3] <= 0:  # the errors do not depend on n: nothing but β is known
        out = {"alpha": list(ALPHA_BOUNDS), "gamma": [0.0, np.inf], "delta": [0.0, np.inf]}
    for name, at in zip(PARAMETERS, (best[0], best[1], best[2] / max(best[3], 1e-300), best[3]), strict=True):
        if name in out:
            continue
        if name == "alpha":
            low, high, logarithmic = *ALPHA_BOUNDS, True
        elif name == "beta":
            low, high, logarithmic = *BETA_BOUNDS, False
        else:
            scale = at if at > 0 else 1e-3
            low, high, logarithmic = scale * 1e-4, scale * 1e4, True
        ends = crossings(partial(inside, name), at, low, high, logarithmic)
        if name in ("gamma", "delta"):
            ends = [0.0 if ends[0] <= low * 1.01 else ends[0], np.inf if ends[1] >= high * 0.99 else ends[1]]
        out[name] = ends
    return out
