"""Per-class differences between two arms, tested all at once with control of the false discovery rate.

With 43 classes the smallest p must get under 0.05/43 ≈ 0.001 to count at all when it is alone; a percentile
bootstrap of 2,000 resamples cannot say less than 0.001, so it would find next to nothing. The tests here are
of Student's kind, whose p has no such floor. What remains is a floor that is real: where only m groups of
images differ between the arms, no test by signs can get below 2^(1−m), and neither may these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64
from imgsynth.errors import DataError


@dataclass(frozen=True)
class ClassDelta:
    """One class: `delta` a − b with its 95 % interval, p, q (Benjamini–Hochberg) and whether q ≤ the rate.

    `p` and `q` are None where the class has no two groups of images to test with.
    """

    name: str
    delta: float
    ci95: list[float]
    p: float | None
    q: float | None
    significant: bool
    n: int

    def to_json(self) -> dict[str, Any]:
        """`{"class", "delta", "ci95", "p", "q", "significant", "n"}`."""
        out = asdict(self)
        return {"class": out.pop("name"), **out}


def benjamini_hochberg(p: ArrayLike) -> F64:
    """Adjusted p-values q (m,): rejecting where q ≤ r keeps the false discovery rate at or under r.

    Benjamini & Hochberg 1995: q_(i) = min over j ≥ i of m·p_(j)/j; nan stays nan and is not counted.

    Raises:
        DataError: a p outside [0, 1].
    """
    values = np.atleast_1d(np.asarray(p, float))
    known = np.isfinite(values)
    v = values[known]
    if values.ndim != 1 or np.any((v < 0) | (v > 1)):
        raise DataError("false discovery rate: expected p-values (m,) in [0, 1]")
    order = np.argsort(v, kind="stable")
    scaled = v[order] * (len(v) / np.arange(1, len(v) + 1))
    q = np.full(values.shape, np.nan)
    adjusted = np.empty(len(v))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    q[known] = adjusted
    return q


def per_class_delta(
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    groups: ArrayLike | None = None,
    *,
    rate: float = 0.05,
) -> list[ClassDelta]:
    """Mean of a − b in each class that has images, over images (or groups) and seeds, with FDR control.

    The variance of a class's Δ is that of two crossed random effects, images and seeds, their interaction
    counted once; Student's t with Satterthwaite's degrees of freedom.

    Args:
        a: (n, K) what each image counts (1 right, 0 wrong) in each run of one arm, or (n,).
        b: (n, K') the same of the other, on the same images.
        labels: (n,) true classes, indices into `classes`.
        classes: (C,) names.
        groups: (n,) what images must not be parted from.
        rate: wanted false discovery rate.

    Raises:
        DataError: shapes that do not fit, values not finite.
    """
    x, y = (_columns(v) for v in (a, b))
    of = np.asarray(labels)
    if len(x) != len(y) or of.shape != (len(x),):
        raise DataError(
            f"per-class difference: the same images on both sides expected, got {len(x)} and {len(y)}, "
            f"labels {of.shape}"
        )
    members = np.arange(len(x)) if groups is None else np.asarray(groups)
    if members.shape != (len(x),):
        raise DataError(f"per-class difference: expected {len(x)} groups, got shape {members.shape}")
    tests = []
    for c, name in enumerate(classes):
        rows = np.flatnonzero(of == c)
        if len(rows):
            tests.append((name, len(rows), *_test(x[rows], y[rows], members[rows])))
    return _controlled(tests, rate)


def delta_rows(
    classes: Sequence[str],
    delta: ArrayLike,
    replicates: ArrayLike,
    counts: ArrayLike,
    *,
    freedom: float = np.inf,
    rate: float = 0.05,
) -> list[ClassDelta]:
    """The same for a score that is no mean over images (AP50 by class), from bootstrap replicates.

    p is that of Student's t for Δ over the replicates' standard deviation, not their share beyond 0, which
    2,000 replicates cannot resolve.

    Args:
        classes: (C,) names.
        delta: (C,) differences of the seeds' mean scores.
        replicates: (B, C) the same for each replicate, paired (one draw of images for both arms).
        counts: (C,) how many images (groups) hold the class; under 2 there is no test.
        freedom: degrees of freedom, scalar or (C,).
        rate: wanted false discovery rate.
    """
    from scipy.stats import t

    d, stars, n = np.asarray(delta, float), np.asarray(replicates, float), np.asarray(counts)
    if stars.ndim != 2 or d.shape != (len(classes),) or stars.shape[1:] != d.shape or n.shape != d.shape:
        raise DataError(
            f"per-class difference: expected {len(classes)} differences, counts and columns of replicates, "
            f"got {d.shape}, {n.shape} and {stars.shape}"
        )
    tests = []
    for c, nu in enumerate(np.broadcast_to(freedom, d.shape)):
        if not np.isfinite(d[c]):
            continue
        se = float(np.nanstd(stars[:, c], ddof=1)) if np.isfinite(stars[:, c]).sum() > 1 else 0.0
        dof = min(float(nu), max(float(n[c]) - 1, 0.0))
        if dof <= 0:
            tests.append((classes[c], int(n[c]), float(d[c]), [-1.0, 1.0], np.nan))
            continue
        floor = 2.0 ** (1 - min(float(n[c]), 1000))
        p = 1.0 if d[c] == 0 else max(floor, 2 * t.sf(abs(d[c]) / se, dof) if se > 0 else 0.0)
        tests.append(
            (classes[c], int(n[c]), float(d[c]), _around(float(d[c]), se * t.ppf(0.975, dof)), min(p, 1.0))
        )
    return _controlled(tests, rate)


def _columns(values: ArrayLike) -> F64:
    v = np.asarray(values, float)
    v = v[:, None] if v.ndim == 1 else v
    if v.ndim != 2 or not v.size or not np.isfinite(v).all():
        raise DataError(
            f"per-class difference: expected finite values (n,) or (n, runs), got shape {v.shape}"
        )
    return v


def _test(a: F64, b: F64, groups: Any) -> tuple[float, list[float], float]:
    """Δ, its interval and p for the images of one class."""
    from scipy.stats import t

    names, of = np.unique(groups, return_inverse=True)
    delta = float(a.mean() - b.mean())
    units = len(names)
    if units < 2:
        return delta, [-1.0, 1.0], np.nan
    sums = np.bincount(of.ravel(), a.mean(axis=1) - b.mean(axis=1), units)
    size = np.bincount(of.ravel(), minlength=units)
    stray = (sums - delta * size) / len(a)
    of_images = units / (units - 1) * float(np.sum(stray**2))
    parts = [_of_seeds(v, of.ravel(), units, size) for v in (a, b)]
    of_seeds = sum(p[0] for p in parts)
    # Both hold the interaction of images and seeds once; the sum holds it twice.
    variance = max(of_images + of_seeds - sum(p[1] for p in parts), of_images, of_seeds)
    differing = int(np.count_nonzero(np.abs(sums) > 1e-12))
    if delta == 0 or differing == 0:
        p = 1.0
    else:
        p = 2.0 ** (1 - min(differing, 1000))
    if variance <= 0:
        return delta, _around(delta, 0.0), p
    of_arms = sum(q[0] ** 2 / q[2] for q in parts if q[2] > 0)
    freedom = (of_images + of_seeds) ** 2 / (of_images**2 / (units - 1) + of_arms)
    se = float(np.sqrt(variance))
    p = max(p, float(2 * t.sf(abs(delta) / se, freedom)))
    return delta, _around(delta, se * float(t.ppf(0.975, freedom))), min(p, 1.0)


def _of_seeds(v: F64, of: Any, units: int, size: Any) -> tuple[float, float, int]:
    """Variance of an arm's mean by its seeds, what of it is interaction with images, and its freedom."""
    runs = v.shape[1]
    if runs < 2:
        return 0.0, 0.0, 0
    of_seeds = float(np.var(v.mean(axis=0), ddof=1)) / runs
    sums = np.stack([np.bincount(of, column, units) for column in v.T], axis=1)
    excess = sums - sums.mean(axis=1, keepdims=True) - (v.mean(axis=0) - v.mean()) * size[:, None]
    interaction = float(np.sum(excess**2)) / ((runs - 1) * (units - 1)) * units / runs / len(v) ** 2
    return of_seeds, min(interaction, of_seeds), runs - 1


def _around(delta: float, half: float) -> list[float]:
    return [float(max(delta - half, -1)), float(min(delta + half, 1))]


def _controlled(tests: Sequence[tuple[str, int, float, list[float], float]], rate: float) -> list[ClassDelta]:
    if not tests:
        return []
    q = benjamini_hochberg([row[4] for row in tests])
    return [
        ClassDelta(
            name,
            delta,
            ci95,
            None if np.isnan(p) else float(p),
            None if np.isnan(adjusted) else float(adjusted),
            bool(adjusted <= rate),
            n,
        )
        for (name, n, delta, ci95, p), adjusted in zip(tests, q, strict=True)
    ]
