"""From predictions on the test images to figures with intervals.

Every interval is that of a hierarchical bootstrap: a replicate draws seeds anew and test images anew (whole
groups, where the images come in groups), the same images for every arm and size, so differences between arms
are paired. Of k units each replicate draws k − 1: then the bootstrap variance of a mean is unbiased, also for
three seeds, where drawing k would give two thirds. The percentiles are moved out by t/z with the degrees of
freedom of both sources of variance (Satterthwaite's formula), since both seeds and groups may be few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.evaluate.scaling import advise, fit_scaling
from imgsynth.study.spec import StudySpec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ECE_BINS = 15
SCORES = ("accuracy", "balanced_accuracy", "worst_class", "ece")
_CHUNK = 100  # replicates at once, which bounds memory to _CHUNK × images


class Resampler:
    """Draws of test images and of seeds for `replicates` bootstrap replicates, the same for all that is
    measured.

    Args:
        groups: (n,) what to draw whole, or None for single images.
    """

    def __init__(self, n: int, groups: NDArray[Any] | None, replicates: int, seed: int = 0):
        # One group alone says nothing of how groups differ; then single images are all there is to draw.
        names, row = np.unique(np.zeros(n) if groups is None else groups, return_inverse=True)
        self._row = np.arange(n) if len(names) < 2 else row.ravel()
        self.units = int(self._row.max()) + 1
        self.replicates = replicates
        self._seed = seed
        self._unit_weight = _draw(np.random.default_rng([seed, 0]), self.units, replicates)

    def chunks(self) -> list[slice]:
        """Slices of replicates to work through."""
        return [slice(a, min(a + _CHUNK, self.replicates)) for a in range(0, self.replicates, _CHUNK)]

    def images(self, chunk: slice) -> F32:
        """(b, n) how often each test image is drawn."""
        return self._unit_weight[chunk][:, self._row]

    def seeds(self, count: int, stream: int) -> F32:
        """(B, count) how often each seed is drawn, adding up to 1; another `stream`, another draw."""
        weight = _draw(np.random.default_rng([self._seed, 1 + stream]), count, self.replicates)
        return weight / weight.sum(axis=1, keepdims=True)


def _draw(rng: np.random.Generator, units: int, replicates: int) -> F32:
    take = max(units - 1, 1)
    return rng.multinomial(take, np.full(units, 1 / units), size=replicates).astype(np.float32)


def scores(probabilities: F32, labels: I64, weights: F32) -> dict[str, F64]:
    """Every score of each weighting and seed.

    Args:
        probabilities: (K, n, C) for K seeds.
        labels: (n,).
        weights: (b, n) of the images.

    Returns:
        accuracy, balanced_accuracy, worst_class, ece: (b, K); per_class: (b, K, C), nan where a class is not
        drawn.
    """
    classes = probabilities.shape[2]
    member = np.eye(classes, dtype=np.float32)[labels]
    total = weights.sum(axis=1)
    in_class = weights @ member
    kept: dict[str, list[F64]] = {name: [] for name in (*SCORES, "per_class")}
    for p in probabilities:
        correct = (p.argmax(axis=1) == labels).astype(np.float32)
        right = weights @ (member * correct[:, None])
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = (right / in_class).astype(np.float64)
        kept["per_class"].append(recall)
        kept["accuracy"].append(right.sum(axis=1, dtype=np.float64) / total)
        kept["balanced_accuracy"].append(np.nanmean(recall, axis=1))
        kept["worst_class"].append(np.nanmin(recall, axis=1))
        kept["ece"].append(_ece(p, correct, weights) / total)
    return {name: np.stack(values, axis=1) for name, values in kept.items()}


def _ece(p: F32, correct: F32, weights: F32) -> F64:
    """(b,) Σ over 15 equal bins of |Σ w (confidence − correct)|: the calibration error times Σ w."""
    confidence = p.max(axis=1)
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    excess = np.zeros((len(p), ECE_BINS), np.float32)
    excess[np.arange(len(p)), bins] = confidence - correct
    return np.abs(weights @ excess).sum(axis=1, dtype=np.float64)


def interval(
    star: NDArray[Any], per_seed: Sequence[F64], units: int, *, point: float, box: tuple[float, float]
) -> list[float]:
    """95 % interval from replicates `star` (B,) of an estimate `point`, inside `box`.

    Args:
        per_seed: the seeds' values of each arm that enters; their scatter is their part of it.
        units: test units (images or groups) that the replicates drew from.
    """
    from scipy.stats import norm, t

    low, high = np.nanquantile(star, [0.025, 0.975])
    total = float(np.nanvar(star))
    of_seeds = sum(float(np.var(v, ddof=1)) / len(v) for v in per_seed if len(v) > 1)
    if total > 0:
        of_seeds = min(of_seeds, total)
        seeds_dof = max(sum(len(v) - 1 for v in per_seed), 1)
        dof = total**2 / (of_seeds**2 / seeds_dof + (total - of_seeds) ** 2 / max(units - 1, 1))
        stretch = float(t.ppf(0.975, dof) / norm.ppf(0.975))
        low, high = point + stretch * (low - point), point + stretch * (high - point)
    return [float(max(min(low, point), box[0])), float(min(max(high, point), box[1]))]


_SHARE, _DIFFERENCE, _RATIO = (0.0, 1.0), (-1.0, 1.0), (0.0, np.inf)


def measure(
    spec: StudySpec,
    arms: Mapping[str, F32],
    curve: Mapping[int, F32],
    labels: I64,
    groups: NDArray[Any] | None,
    classes: Sequence[str],
) -> dict[str, Any]:
    """`arms`, `paired` and (where there is a curve) `scaling` of results.json.

    Args:
        arms: arm → probabilities (K, n, C) on the test images.
        curve: size → probabilities (K, n, C).
        labels: (n,) true classes.
        groups: (n,) or None.
        classes: (C,) names.
    """
    draw = Resampler(len(labels), groups, spec.bootstrap)
    everything = np.ones((1, len(labels)), np.float32)
    point = {arm: scores(p, labels, everything) for arm, p in arms.items()}
    stars = _replicates(arms, labels, draw)
    out: dict[str, Any] = {"arms": {}, "paired": {}}
    for arm, p in arms.items():
        out["arms"][arm] = _arm(p, labels, classes, point[arm], stars[arm], draw.units)
    for a, b in (("both", "real"), ("synthetic", "real"), ("both", "synthetic")):
        if a in arms and b in arms:
            out["paired"][f"{a}_minus_{b}"] = _compared(
                np.subtract, _DIFFERENCE, point, stars, (a, b), draw.units
            )
    if "synthetic" in arms and "real" in arms:
        pair = ("synthetic", "real")
        out["paired"]["synthetic_over_real"] = _compared(np.divide, _RATIO, point, stars, pair, draw.units)
    if curve:
        out["scaling"] = _scaling(spec, curve, labels, draw)
    return out


def _replicates(arms: Mapping[str, F32], labels: I64, draw: Resampler) -> dict[str, dict[str, F64]]:
    """arm → score → (B,) or, per class, (B, C): averaged over the seeds drawn."""
    seeds = {arm: draw.seeds(len(p), k) for k, (arm, p) in enumerate(arms.items())}
    parts: dict[str, list[dict[str, F64]]] = {arm: [] for arm in arms}
    for chunk in draw.chunks():
        weights = draw.images(chunk)
        for arm, p in arms.items():
            at = scores(p, labels, weights)
            parts[arm].append(
                {name: np.einsum("bk,bk...->b...", seeds[arm][chunk], v) for name, v in at.items()}
            )
    return {arm: {n: np.concatenate([d[n] for d in rows]) for n in rows[0]} for arm, rows in parts.items()}


def _arm(
    p: F32, labels: I64, classes: Sequence[str], point: dict[str, F64], star: dict[str, F64], units: int
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in SCORES:
        per_seed = point[name][0]
        mean = float(per_seed.mean())
        out[name] = {
            "mean": mean,
            "ci95": interval(star[name], [per_seed], units, point=mean, box=_SHARE),
            "seeds": len(p),
            "n": len(labels),
            "per_seed": [float(v) for v in per_seed],
        }
    count = np.bincount(labels, minlength=len(classes))
    out["per_class"] = []
    for c, name in enumerate(classes):
        entry: dict[str, Any] = {"class": name, "n": int(count[c]), "accuracy": None, "ci95": None}
        if count[c]:
            of_class = point["per_class"][0, :, c]
            mean = float(of_class.mean())
            ends = interval(star["per_class"][:, c], [of_class], units, point=mean, box=_SHARE)
            entry.update(accuracy=mean, ci95=ends)
        out["per_class"].append(entry)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for one in p:
        np.add.at(confusion, (labels, one.argmax(axis=1)), 1)
    out["confusion"] = confusion.tolist()
    return out


def _compared(
    how: Callable[[F64, F64], F64],
    box: tuple[float, float],
    point: Mapping[str, dict[str, F64]],
    star: Mapping[str, dict[str, F64]],
    pair: tuple[str, str],
    units: int,
) -> dict[str, Any]:
    """Accuracy of two arms compared by `how`: their difference or ratio, over the same test images."""
    a, b = (point[arm]["accuracy"][0] for arm in pair)
    mean = float(how(a.mean(), b.mean()))
    stars = how(*(star[arm]["accuracy"] for arm in pair))
    return {"mean": mean, "ci95": interval(stars, [a, b], units, point=mean, box=box)}


def _scaling(spec: StudySpec, curve: Mapping[int, F32], labels: I64, draw: Resampler) -> dict[str, Any]:
    assert spec.scaling is not None
    sizes = sorted(curve)
    wrong = [(curve[n].argmax(axis=2) != labels).astype(np.float32) for n in sizes]  # (K, n) each
    stars = np.empty((draw.replicates, len(sizes)))
    seeds = [draw.seeds(len(w), 100 + k) for k, w in enumerate(wrong)]
    for chunk in draw.chunks():
        weights = draw.images(chunk)
        total = weights.sum(axis=1)
        for k, w in enumerate(wrong):
            stars[chunk, k] = (seeds[k][chunk] * (weights @ w.T)).sum(axis=1) / total
    per_seed = [w.mean(axis=1, dtype=np.float64) for w in wrong]
    fit = fit_scaling(sizes, per_seed, D=spec.scaling.D, resampled=stars[:1000])
    advice = advise(fit, sizes[-1])
    grid = np.geomspace(sizes[0], sizes[-1] * 10, 61)
    low, high = fit.band(grid)
    return {
        "arm": spec.scaling.arm,
        "sizes": sizes,
        "error": [float(e.mean()) for e in per_seed],
        "ci95": [
            interval(stars[:, k], [e], draw.units, point=float(e.mean()), box=_SHARE)
            for k, e in enumerate(per_seed)
        ],
        "errors_per_seed": [[float(v) for v in e] for e in per_seed],
        "fit": fit.to_json(),
        "band": {
            "n": grid.tolist(),
            "error": fit.predict(grid).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
        },
        "advice": asdict(advice),
    }
