"""How far samples lie from real images: Fréchet distance, kernel distance, and what each set covers.

All work on features (n, D) of two sets. None of them says what samples are worth as training data: the
accuracies of BigGAN and VQ-VAE-2 stand in another order than their distances (Ravuri and Vinyals 2019); train
on them to know. Fréchet and kernel distance are free of the bias that the plain ones have at finite n, with
intervals of a grouped jackknife.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, I64
from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import Estimate, bootstrap_mean
from imgsynth.evaluate.uncertainty import student_stretch

GROUPS = 20  # of the jackknife
MOST_PARTS = 4  # FD∞ is read off sets of 1, ½, ⅓ and ¼ of the size
LEAST_PER_DIMENSION = 3  # images a dimension in the smallest of them
MOST_KERNEL, MOST_NEIGHBOURS = 5000, 5000  # larger sets are thinned: all pairs are measured
NEIGHBOURS = 5


@dataclass(frozen=True)
class Covered:
    """How two sets overlap (Kynkäänniemi et al. 2019; Naeem et al. 2020). Intervals are over images, not over
    which of them mark out the other set.

    `precision`: samples within reach of a real image, `recall`: real images within reach of a sample, reach
    being the distance to the k-th neighbour in the own set. `density`: how many real images reach a sample,
    over k (1 where the laws agree); `coverage`: real images with a sample in their reach.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            name: getattr(self, name).to_json() for name in ("precision", "recall", "density", "coverage")
        }


def frechet(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Squared Fréchet distance of two Gaussians: |μ − ν|² + tr(A + B − 2(A½BA½)½) (Dowson and Landau 1982).

    The root's trace is the sum of the singular values of A½B½, so no root of a product that is not symmetric
    is taken, and covariances may be singular.
    """
    difference = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    a, b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    cross = np.linalg.svd(_root(a) @ _root(b), compute_uv=False).sum()
    return float(difference @ difference + np.trace(a) + np.trace(b) - 2 * cross)


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """`frechet` of the moments of features a (n, D) and b (m, D): FID, with its upward bias at finite n.

    Raises:
        DataError: features that do not fit each other.
    """
    x, y = _features(a, b)
    return frechet(x.mean(axis=0), np.cov(x, rowvar=False), y.mean(axis=0), np.cov(y, rowvar=False))


def frechet_unbiased(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> Estimate:
    """The Fréchet distance that endless samples would have, with a 95 % interval; may be below 0 by chance.

    FD of n samples is too large by about c/n (Chong and Forsyth 2020, "Effectively unbiased FID"). Both sets,
    brought to the same n, are cut into k = 1 … 4 disjoint parts; the mean FD of the parts is a line in k, and
    its value at 0 the estimate.

    Raises:
        DataError: features that do not fit, or fewer than 6 images a dimension.
    """
    x, y = _features(a, b)
    n, d = min(len(x), len(y)), x.shape[1]
    if n < 2 * LEAST_PER_DIMENSION * d:
        raise DataError(
            f"Fréchet distance of {d} features: expected at least {2 * LEAST_PER_DIMENSION * d} images in "
            f"either set, got {len(x)} and {len(y)}"
        )
    x, y = _thinned(x, n, seed), _thinned(y, n, seed + 1)
    parts = min(MOST_PARTS, n // (LEAST_PER_DIMENSION * d))

    def at_infinity(keep: NDArray[np.bool_]) -> float:
        u, v = x[keep], y[keep]
        counts = np.arange(1, parts + 1)
        found = [np.mean([frechet_distance(u[p::k], v[p::k]) for p in range(k)]) for k in counts]
        return float(np.polyfit(counts, found, 1)[1])

    return _jackknife(at_infinity, n)


def kernel_distance(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> Estimate:
    """KID: the squared maximum mean discrepancy under the kernel (x·y/D + 1)³, unbiased (Bińkowski et al.
    2018, eq. 4; Gretton et al. 2012, eq. 3), with a 95 % interval. May be below 0 by chance.

    Raises:
        DataError: features that do not fit, or fewer than 40 images in a set.
    """
    x, y = _features(a, b)
    if min(len(x), len(y)) < 2 * GROUPS:
        raise DataError(
            f"kernel distance: at least {2 * GROUPS} images a set expected, got {len(x)} and {len(y)}"
        )
    x, y = (_thinned(v, min(len(v), MOST_KERNEL), seed + k) for k, v in enumerate((x, y)))
    aa, bb = (_blocks(v, v, diagonal=False) for v in (x, y))
    ab = _blocks(x, y)
    sizes = [np.bincount(np.arange(len(v)) % GROUPS, minlength=GROUPS) for v in (x, y)]

    def discrepancy(keep: NDArray[np.bool_]) -> float:
        n, m = (int(size[keep].sum()) for size in sizes)
        inner = [block[np.ix_(keep, keep)].sum() for block in (aa, bb, ab)]
        return float(inner[0] / (n * (n - 1)) + inner[1] / (m * (m - 1)) - 2 * inner[2] / (n * m))

    return _jackknife(discrepancy, GROUPS)


def covered(samples: ArrayLike, real: ArrayLike, *, k: int = NEIGHBOURS, seed: int = 0) -> Covered:
    """Precision, recall, density and coverage of samples (n, D) against real features (m, D), equally many.

    Raises:
        DataError: features that do not fit, or not more than k images in a set.
    """
    x, y = _features(samples, real)
    n = min(len(x), len(y), MOST_NEIGHBOURS)
    if n <= k:
        raise DataError(f"coverage: expected more than {k} images a set, got {len(x)} and {len(y)}")
    x, y = _thinned(x, n, seed), _thinned(y, n, seed + 1)
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    apart = _squared(x, y)  # (samples, real)
    inside = apart <= reach_y
    values = (
        inside.any(axis=1),
        (apart <= reach_x[:, None]).any(axis=0),
        inside.sum(axis=1) / k,
        inside.any(axis=0),
    )
    return Covered(*(bootstrap_mean(v.astype(np.float64), seed=seed) for v in values))


def _root(cov: F64) -> F64:
    values, vectors = np.linalg.eigh(cov)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _features(a: ArrayLike, b: ArrayLike) -> tuple[F64, F64]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    fit = x.ndim == y.ndim == 2 and x.shape[1] == y.shape[1] and min(len(x), len(y)) >= 2
    if not fit or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(
            f"distances: expected finite features (n ≥ 2, D), (m ≥ 2, D), got {x.shape}, {y.shape}"
        )
    return x, y


def _thinned(x: F64, n: int, seed: int) -> F64:
    """n rows in random order."""
    return x[np.random.Generator(np.random.Philox(key=seed)).permutation(len(x))[:n]]


def _jackknife(figure: Callable[[NDArray[np.bool_]], float], n: int) -> Estimate:
    """A figure of n units with its 95 % interval, by leaving out one of 20 groups at a time (Shao and Tu
    1995, § 2.3), with Student's quantile.
    """
    group = np.arange(n) % GROUPS
    value = figure(np.ones(n, bool))
    left = np.array([figure(group != g) for g in range(GROUPS)])
    error = np.sqrt((GROUPS - 1) / GROUPS * np.sum((left - left.mean()) ** 2))
    half = 1.959964 * student_stretch(GROUPS - 1) * error
    return Estimate(value, float(value - half), float(value + half))


def _blocks(x: F64, y: F64, *, diagonal: bool = True) -> F64:
    """Kernel sums (20, 20) between the groups of two sets, without an image's kernel with itself."""
    kernel = (x @ y.T / x.shape[1] + 1) ** 3
    if not diagonal:
        np.fill_diagonal(kernel, 0)
    return _summed(_summed(kernel, np.arange(len(x)) % GROUPS).T, np.arange(len(y)) % GROUPS).T


def _summed(rows: F64, group: I64) -> F64:
    out = np.zeros((GROUPS, rows.shape[1]))
    for g in range(GROUPS):
        out[g] = rows[group == g].sum(axis=0)
    return out


def _squared(x: F64, y: F64) -> F64:
    return np.asarray(np.maximum((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T, 0))


def _reach(x: F64, k: int) -> F64:
    """Squared distance (n,) to the k-th neighbour in the own set."""
    apart = _squared(x, x)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(np.partition(apart, k - 1, axis=1)[:, k - 1])
