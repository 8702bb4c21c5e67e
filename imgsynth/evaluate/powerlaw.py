"""Bounded least squares of D·n^-α + C for many curves at once.

For a fixed α the model is linear in D and C, so the fit is a 2-variable least squares in a box inside a
one-dimensional search over α (variable projection, Golub & Pereyra 1973), done for all rows of an array.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgsynth.batch import F64

ALPHA_BOUNDS = (0.02, 3.0)
ALPHA_GRID: F64 = np.geomspace(*ALPHA_BOUNDS, 241)
_AT_ONCE = 500_000  # numbers, above which the grid is gone through one α at a time


def fit_rows(n: F64, weight: F64, y: F64, fixed: float | None) -> tuple[F64, F64, F64, F64]:
    """α, C, D and weighted squared error, each (B,), for means y (B, S) at sizes n (S,)."""
    grid = ALPHA_GRID[::3]  # ×1.065 a step; the profile has one valley, which the golden section follows down
    rows = np.tile(y, (len(grid), 1)) if y.size * len(grid) < _AT_ONCE else None
    if rows is not None:
        at_grid = given_alpha(n, weight, rows, np.repeat(grid, len(y)), fixed)[2].reshape(len(grid), len(y))
    else:
        at_grid = np.stack([given_alpha(n, weight, y, np.full(len(y), a), fixed)[2] for a in grid])
    best = at_grid.argmin(axis=0)
    low = np.log(grid[np.maximum(best - 1, 0)])
    high = np.log(grid[np.minimum(best + 1, len(grid) - 1)])
    alpha = np.exp(_golden(lambda t: given_alpha(n, weight, y, np.exp(t), fixed)[2], low, high))
    # The search cannot end on a bound exactly; there the bound itself is the answer.
    alpha = np.where(at_grid.min(axis=0) <= given_alpha(n, weight, y, alpha, fixed)[2], grid[best], alpha)
    d, c, sse = given_alpha(n, weight, y, alpha, fixed)
    return alpha, c, d, sse


def _golden(function: Callable[[F64], F64], low: F64, high: F64, steps: int = 34) -> F64:
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


def given_alpha(n: F64, weight: F64, y: F64, alpha: F64, fixed: float | None) -> tuple[F64, F64, F64]:
    """Best D, C and squared error, each (B,), for α (B,): least squares in a box, so inside or on an edge."""
    reference = np.exp(np.log(n).mean())
    x = (n / reference) ** -alpha[:, None]  # (B, S); D here is D·reference^-α
    unit = reference**-alpha

    def cost(d: F64, c: F64) -> F64:
        return np.asarray((y - d[:, None] * x - c[:, None]) ** 2 @ weight)

    total = weight.sum()
    if fixed is not None:
        d = np.broadcast_to(fixed * unit, alpha.shape)
        c = np.clip((y - d[:, None] * x) @ weight / total, 0, 1)
        return d / unit, c, cost(d, c)
    mx, my = x @ weight / total, y @ weight / total
    sxx = (x - mx[:, None]) ** 2 @ weight
    d = ((x - mx[:, None]) * (y - my[:, None])) @ weight / sxx
    c = my - d * mx
    inside = (d >= 0) & (c >= 0) & (c <= 1)
    if not inside.all():
        edge_d, edge_c = _on_edge(weight, x, y, cost)
        d, c = np.where(inside, d, edge_d), np.where(inside, c, edge_c)
    return d / unit, c, cost(d, c)


def _on_edge(weight: F64, x: F64, y: F64, cost: Callable[[F64, F64], F64]) -> tuple[F64, F64]:
    """Best D, C, each (B,), on C = 0, C = 1 or D = 0: the answer where the box cuts off the free minimum."""
    xx, xy, sx = (v @ weight for v in (x * x, x * y, x))
    middle = np.clip(y @ weight / weight.sum(), 0, 1)
    zero, one = np.zeros_like(xx), np.ones_like(xx)
    d = np.stack([np.maximum(xy / xx, 0), np.maximum((xy - sx) / xx, 0), zero])
    c = np.stack([zero, one, middle])
    edge, column = (
        np.stack([cost(*pair) for pair in zip(d, c, strict=True)]).argmin(axis=0),
        np.arange(len(xx)),
    )
    return d[edge, column], c[edge, column]
