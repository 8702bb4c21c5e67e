"""Which sampled values go with mistakes: every leaf tested at once, with control of false discoveries.

The values of a rendered dataset were drawn independently of each other, so a leaf that goes with mistakes is
a cause of them and not a bystander. For a number two tests share one p (the smaller, doubled): Spearman's
rank correlation with the mistakes, and a comparison of bins of equal size, which also sees mistakes at both
ends. For a category there is the latter alone. Over all columns q holds Benjamini and Hochberg's false
discovery rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, I64
from imgsynth.errors import DataError
from imgsynth.evaluate.perclass import benjamini_hochberg
from imgsynth.seeding import derive

MOST_BINS = 8
FEW = 5  # expected mistakes a bin for χ² to hold (Cochran 1954); with fewer, permutations say
PERMUTATIONS = 2000
Z = 1.959964


@dataclass(frozen=True)
class Bin:
    """Rows with near values: the range (or category), how many, share of mistakes with 95 % interval."""

    label: str
    low: float | None
    high: float | None
    n: int
    error: float
    ci95: list[float]


@dataclass(frozen=True)
class Finding:
    """One column. `effect` is the share of the mistakes' variance that its bins explain (ω², 0 to 1);
    `correlation` Spearman's, positive where larger values go with more mistakes, None for categories.
    """

    name: str
    kind: str  # number or category
    n: int
    effect: float
    correlation: float | None
    p: float
    q: float
    bins: list[Bin]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def explain(columns: Mapping[str, ArrayLike], mistakes: ArrayLike, *, seed: int = 0) -> list[Finding]:
    """Test every column against the mistakes; the surest first.

    Args:
        columns: name → (n,) numbers (nan where there is none), or texts and booleans (None or "" for none).
        mistakes: (n,) 0 or 1, or a share of mistakes in each row.
        seed: of the permutations.

    Raises:
        DataError: columns of another length, mistakes outside [0, 1], or none to explain.
    """
    y = np.asarray(mistakes, float)
    if y.ndim != 1 or not len(y) or not np.all((y >= 0) & (y <= 1)):
        raise DataError(f"mistakes: expected (n,) shares in [0, 1], got shape {y.shape}")
    if np.ptp(y) == 0:
        what = "no mistake" if y[0] == 0 else "nothing but mistakes"
        raise DataError(
            f"there is {what} in {len(y)} rows, so nothing to explain; use frames that the model finds "
            "harder or easier (another --seed than those it was trained on)"
        )
    found = []
    for name, column in columns.items():
        values = np.asarray(column)
        if values.shape != y.shape:
            raise DataError(f"{name}: expected {len(y)} values, one a row, got shape {values.shape}")
        tested = _test(name, values, y, seed)
        if tested is not None:
            found.append(tested)
    q = benjamini_hochberg([f.p for f in found])
    found = [Finding(**{**vars(f), "q": float(v)}) for f, v in zip(found, q, strict=True)]
    return sorted(found, key=lambda f: (f.q, f.p, -f.effect, f.name))


def _test(name: str, values: NDArray[Any], y: F64, seed: int) -> Finding | None:
    """The finding of one column with q still to come; None where it does not vary or is hardly there."""
    number = values.dtype.kind in "iuf"
    known = np.isfinite(values.astype(float)) if number else np.array([v not in (None, "") for v in values])
    values, y = values[known], y[known]
    if len(y) < 2 * FEW or np.ptp(y) == 0 or len(np.unique(values if number else values.astype(str))) < 2:
        return None
    if number:
        of, bins = _number_bins(values.astype(float), y)
    else:
        of, bins = _category_bins(values.astype(str), y)
    if len(bins) < 2:
        return None
    p, effect = _between(of, y, derive(seed, name))
    correlation = None
    if number:
        from scipy.stats import spearmanr

        test = spearmanr(values.astype(float), y)
        correlation, p = float(test.statistic), min(1.0, 2 * min(p, float(test.pvalue)))
    kind = "number" if number else "category"
    return Finding(name, kind, len(y), effect, correlation, p, np.nan, bins)


def _number_bins(values: F64, y: F64) -> tuple[I64, list[Bin]]:
    """Bins of equal size, so many that each can expect `FEW` mistakes and as many right answers."""
    distinct = np.unique(values)
    rare = min(y.sum(), (1 - y).sum())
    count = int(np.clip(rare // FEW, 2, MOST_BINS))
    if len(distinct) <= count:
        edges = distinct[1:]
    else:
        edges = np.unique(np.quantile(values, np.arange(1, count) / count))
        edges = edges[edges > distinct[0]]
    of = np.searchsorted(edges, values, side="right")
    names, of = np.unique(of, return_inverse=True)
    bins = []
    for k in range(len(names)):
        inside = values[of == k]
        low, high = float(inside.min()), float(inside.max())
        label = f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"
        bins.append(_bin(label, low, high, y[of == k]))
    return of.astype(np.int64), bins


def _category_bins(values: NDArray[Any], y: F64) -> tuple[I64, list[Bin]]:
    names, of = np.unique(values, return_inverse=True)
    return of.astype(np.int64), [_bin(str(v), None, None, y[of == k]) for k, v in enumerate(names)]


def _bin(label: str, low: float | None, high: float | None, y: F64) -> Bin:
    return Bin(label, low, high, len(y), float(y.mean()), share_interval(y))


def share_interval(y: F64) -> list[float]:
    """95 % interval of a mean of shares: Wilson's (1927) score interval, its n counting for as many yes-or-no
    answers as the scatter of `y` amounts to.
    """
    n, p = len(y), float(y.mean())
    spread = float(y.var(ddof=1)) if n > 1 else 0.0
    worth = n * p * (1 - p) / spread if spread > 0 else n  # n itself for 0s and 1s
    worth = float(np.clip(worth, n * 0.5, n * 4))
    middle, half = p + Z**2 / (2 * worth), Z * np.sqrt(p * (1 - p) / worth + Z**2 / (4 * worth**2))
    ends = [(middle - half) / (1 + Z**2 / worth), (middle + half) / (1 + Z**2 / worth)]
    return [float(max(0.0, min(ends[0], p))), float(min(1.0, max(ends[1], p)))]


def _between(of: I64, y: F64, seed: int) -> tuple[float, float]:
    """(p, ω²) of a difference between bins: (n − 1)·SSB/SST is χ² of k − 1 degrees of freedom."""
    counts = np.bincount(of).astype(float)
    n, k = len(y), len(counts)
    centred = y - y.mean()
    total = float(centred @ centred)

    def within(sums: NDArray[Any]) -> NDArray[Any]:
        out: NDArray[Any] = (sums**2 / counts).sum(axis=-1)
        return out

    between = float(within(np.bincount(of, centred, k)))
    noise = (total - between) / max(n - k, 1)
    effect = float(np.clip((between - (k - 1) * noise) / (total + noise), 0, 1))
    if (counts * min(y.mean(), 1 - y.mean())).min() >= FEW:
        from scipy.stats import chi2

        return float(chi2.sf((n - 1) * between / total, k - 1)), effect
    rng = np.random.Generator(np.random.Philox(key=seed))
    as_large = sum(
        within(np.bincount(of, rng.permutation(centred), k)) >= between * (1 - 1e-12)
        for _ in range(PERMUTATIONS)
    )
    return float((1 + as_large) / (1 + PERMUTATIONS)), effect


# ---- where mistakes gather ----


@dataclass(frozen=True)
class Region:
    """A part of the rows, in words, and its share of mistakes against the rest; measured on rows that did not
    choose it.
    """

    where: list[str]
    share: float  # of the rows
    error: float
    ci95: list[float]
    elsewhere: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def worst_region(columns: Mapping[str, ArrayLike], mistakes: ArrayLike, *, seed: int = 0) -> Region | None:
    """The leaf of a small tree (three questions) with most mistakes: values that hurt together.

    One half of the rows grows the tree, the other measures its leaf. None where the other half does not see
    more mistakes there than elsewhere.
    """
    from sklearn.tree import DecisionTreeRegressor

    y = np.asarray(mistakes, float)
    names, table = _encoded(columns)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(y))
    grow, check = order[::2], order[1::2]
    if not names or len(grow) < 40 or np.ptp(y[grow]) == 0:
        return None
    least = max(20, len(grow) // 30)
    tree = DecisionTreeRegressor(max_depth=3, min_samples_leaf=least, random_state=0)
    tree.fit(table[grow], y[grow])
    value = tree.tree_.value[:, 0, 0]
    leaves = np.flatnonzero(tree.tree_.children_left < 0)
    worst = int(leaves[np.argmax(value[leaves])])
    inside = tree.apply(table[check]) == worst
    if worst == 0 or not 0 < inside.sum() < len(check):
        return None
    ends = share_interval(y[check][inside])
    elsewhere = float(y[check][~inside].mean())
    if ends[0] <= elsewhere:
        return None
    error = float(y[check][inside].mean())
    return Region(_questions(tree.tree_, worst, names), float(inside.mean()), error, ends, elsewhere)


def _encoded(columns: Mapping[str, ArrayLike]) -> tuple[list[tuple[str, str | None]], NDArray[np.float32]]:
    """A table for the tree: numbers (their median where missing), and a column for each common category."""
    names: list[tuple[str, str | None]] = []
    out = []
    for name, column in columns.items():
        values = np.asarray(column)
        if values.dtype.kind in "iuf":
            numbers = values.astype(float)
            known = np.isfinite(numbers)
            if known.any():
                names.append((name, None))
                out.append(np.where(known, numbers, np.median(numbers[known])))
        else:
            texts = values.astype(str)
            kinds, counts = np.unique(texts, return_counts=True)
            for kind in kinds[np.argsort(-counts, kind="stable")][:50]:
                names.append((name, str(kind)))
                out.append((texts == kind).astype(float))
    return names, np.stack(out, axis=1).astype(np.float32) if out else np.empty((0, 0), np.float32)


def _questions(tree: Any, leaf: int, names: list[tuple[str, str | None]]) -> list[str]:
    """The way from the root to a leaf, in words; of two bounds of one side the tighter."""
    parent: dict[int, tuple[int, bool]] = {}
    for i in range(tree.node_count):
        for child, left in ((tree.children_left[i], True), (tree.children_right[i], False)):
            parent[int(child)] = (i, left)
    said: dict[tuple[Any, ...], str] = {}
    node = leaf
    while node in parent:
        node, left = parent[node]
        name, kind = names[tree.feature[node]]
        if kind is not None:
            said.setdefault((name, kind), f"{name} {'is not' if left else 'is'} {kind}")
        else:
            sign = "≤" if left else ">"
            said.setdefault((name, sign), f"{name} {sign} {tree.threshold[node]:.4g}")
    return list(said.values())[::-1]
