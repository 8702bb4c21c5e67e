"""Scores of a classifier on labelled images, with 95 % bootstrap intervals over images or groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate.bootstrap import Estimate, percentile_shares, resample_counts, sum_by_group
from imgsynth.evaluate.unknown import UnknownScore, max_probability, negative_energy, score_unknown

ECE_BINS = 15
LEVEL = 0.95


class Predictor(Protocol):
    """Anything that gives class probabilities; `imgsynth.learn.classify.Classifier` does."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the columns of `predict`."""
        ...

    def predict(self, images: U8) -> NDArray[Any]:
        """Probabilities (n, K) of images (n, H, W, C)."""
        ...


@dataclass(frozen=True)
class Score:
    """How well a classifier does on a data set. Intervals are 95 %.

    `balanced_accuracy` is the mean, `worst_class_accuracy` the least of the accuracies of the classes that
    have images. `ece` is the expected calibration error in 15 bins of equal width (Guo et al. 2017, eq. 3).
    The bootstrap distributions of the least and of ece lean down and up respectively (a minimum and a sum of
    absolute values of noisy figures), and so do their intervals.
    """

    name: str
    n: int
    units: int  # what was resampled: images, or groups where the data has them
    classes: tuple[str, ...]
    accuracy: Estimate
    balanced_accuracy: Estimate
    worst_class_accuracy: Estimate
    ece: Estimate
    per_class: dict[str, float]  # accuracy of each class that has images
    confusion: I64  # (K, K) rows: true class, columns: predicted
    correct: NDArray[np.bool_]  # (n,) for paired comparison of models (bootstrap.paired_difference)
    worst_group_accuracy: Estimate | None = (
        None  # least accuracy of a value of the attribute, where one is given
    )
    per_group: dict[str, float] = field(default_factory=dict)  # accuracy of each value of the attribute
    unknown: dict[str, UnknownScore] = field(default_factory=dict)  # by kind of confidence, where asked for

    def to_json(self) -> dict[str, Any]:
        """Everything but `correct`, as plain JSON values; attributes and unknown classes where they are."""
        out = {
            "data": self.name,
            "n": self.n,
            "resampled": {"units": self.units, "of": "images" if self.units == self.n else "groups"},
            "accuracy": self.accuracy.to_json(),
            "balanced_accuracy": self.balanced_accuracy.to_json(),
            "worst_class_accuracy": self.worst_class_accuracy.to_json(),
            "ece": self.ece.to_json(),
            "per_class": self.per_class,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
        }
        if self.worst_group_accuracy is not None:
            out |= {
                "worst_group_accuracy": self.worst_group_accuracy.to_json(),
                "per_group": self.per_group,
            }
        if self.unknown:
            out["unknown"] = {kind: score.to_json() for kind, score in self.unknown.items()}
        return out


def score_classifier(
    model: Predictor,
    data: LabelledImages,
    *,
    attribute: ArrayLike | None = None,
    unknown: LabelledImages | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Score:
    """Score `model` on `data`, classes matched by name.

    `attribute` (n,) sorts the images by what should make no difference (weather, camera, class × background):
    then the worst accuracy of a value is told. `unknown` are images of classes that the model does not know,
    whatever their labels: then it is told how well confidence gives them away, by the largest probability
    and, where the model has `logits`, by energy.

    Images of classes that the model has and the data lacks do no harm; answers with such a class count as
    wrong.

    Raises:
        ModelError: the data has images of a class that the model does not know.
        DataError: no images, an attribute of another length, or unknown images of a class that it does know.
    """
    try:
        target = data.aligned(model.classes)
    except DataError as e:
        raise ModelError(f"the model does not fit the data: {e}") from e
    if unknown is not None:
        _check_unknown(model, unknown)
    probabilities = model.predict(target.images)
    score = score_probabilities(
        probabilities,
        target.labels,
        model.classes,
        target.groups,
        attribute=attribute,
        bootstrap=bootstrap,
        seed=seed,
        name=data.name,
    )
    if unknown is None:
        return score
    confidences = {
        "max_probability": [max_probability(p) for p in (probabilities, model.predict(unknown.images))]
    }
    if hasattr(model, "logits"):
        confidences["energy"] = [negative_energy(model.logits(d.images)) for d in (target, unknown)]
    return replace(
        score,
        unknown={
            kind: score_unknown(a, b, target.groups, unknown.groups, bootstrap=bootstrap, seed=seed)
            for kind, (a, b) in confidences.items()
        },
    )


def score_probabilities(
    probabilities: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    groups: ArrayLike | None = None,
    *,
    attribute: ArrayLike | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
    name: str = "",
) -> Score:
    """Score class probabilities (n, K) against labels (n,).

    Raises:
        DataError: no images, or shapes that do not fit.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, np.int64)
    k = len(classes)
    if len(y) == 0 or p.shape != (len(y), k) or not np.all(np.isfinite(p)):
        raise DataError(
            f"{name}: expected finite probabilities (n ≥ 1, {k}), got {p.shape} for {len(y)} labels"
        )
    guess = p.argmax(axis=1)
    correct = guess == y
    sums = sum_by_group(_features(y, k, correct, p.max(axis=1)), groups)
    value = _figures(sums.sum(axis=0)[None], k)[0]
    draws = np.concatenate(
        [_figures(counts @ sums, k) for counts in resample_counts(len(sums), bootstrap, seed)]
    )
    lo, hi = np.nanquantile(draws, percentile_shares(len(sums), LEVEL), axis=0)
    held = np.bincount(y, minlength=k)
    if correct.all():
        # No resample of faultless answers has a fault, which would say [1, 1]. The exact bound of Clopper &
        # Pearson (1934) knows better; it counts images, groups or not.
        lo[:3] = [_faultless_bound(m) for m in (len(y), len(y), held[held > 0].min())]
    estimates = [Estimate(float(v), float(a), float(b)) for v, a, b in zip(value, lo, hi, strict=True)]
    of_group, worst = _worst_group(correct, attribute, groups, bootstrap, seed)
    confusion = np.bincount(y * k + guess, minlength=k * k).reshape(k, k).astype(np.int64)
    return Score(
        name=name,
        n=len(y),
        units=len(sums),
        classes=tuple(classes),
        accuracy=estimates[0],
        balanced_accuracy=estimates[1],
        worst_class_accuracy=estimates[2],
        ece=estimates[3],
        per_class={c: float(confusion[i, i] / held[i]) for i, c in enumerate(classes) if held[i]},
        confusion=confusion,
        correct=correct,
        worst_group_accuracy=worst,
        per_group=of_group,
    )


def _worst_group(
    correct: NDArray[np.bool_],
    attribute: ArrayLike | None,
    groups: ArrayLike | None,
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, float], Estimate | None]:
    """Accuracy of each value of the attribute, and the least of them with its interval.

    A value that a resample lacks does not count in it.
    """
    if attribute is None:
        return {}, None
    column = np.asarray(attribute)
    if column.shape != correct.shape:
        raise DataError(f"attribute: expected {len(correct)}, one an image, got shape {column.shape}")
    names, at = np.unique(column.astype(str), return_inverse=True)
    rows, g = np.arange(len(at)), len(names)
    sums = np.zeros((len(at), 2 * g + ECE_BINS))
    sums[rows, at], sums[rows, g + at] = 1, correct
    sums = sum_by_group(sums, groups)
    draws = np.concatenate([_figures(c @ sums, g)[:, 2] for c in resample_counts(len(sums), bootstrap, seed)])
    held, right = sums[:, :g].sum(axis=0), sums[:, g : 2 * g].sum(axis=0)
    lo, hi = np.quantile(draws, percentile_shares(len(sums), LEVEL))
    if correct.all():
        lo = _faultless_bound(int(held.min()))
    worst = float(np.min(right / held))
    shares = {str(name): float(r / h) for name, r, h in zip(names, right, held, strict=True)}
    return shares, Estimate(worst, float(min(lo, worst)), float(max(hi, worst)))


def _check_unknown(model: Predictor, unknown: LabelledImages) -> None:
    known = [c for c, n in zip(unknown.classes, unknown.counts(), strict=True) if n and c in model.classes]
    if not len(unknown) or known:
        what = f"class {known[0]!r}, which the model knows" if known else "no images"
        raise DataError(f"{unknown.name}: images of unknown classes expected, but it has {what}")


def _features(y: I64, k: int, correct: NDArray[np.bool_], confidence: F64) -> F64:
    """What each image adds to the sums that every figure is a function of: (n, 2k + ECE_BINS).

    Columns: images of each class, right answers of each class, and (confidence − right) in each confidence
        bin.
    """
    rows = np.arange(len(y))
    out = np.zeros((len(y), 2 * k + ECE_BINS))
    out[rows, y] = 1
    out[rows, k + y] = correct
    # Bins (b/15, (b+1)/15], as in Guo et al.
    bins = np.clip(np.ceil(confidence * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(np.int64)
    out[rows, 2 * k + bins] = confidence - correct
    return out


def _figures(sums: F64, k: int) -> F64:
    """Accuracy, balanced accuracy, worst class accuracy and ECE (b, 4) from sums (b, 2k + ECE_BINS)."""
    held, right, gaps = sums[:, :k], sums[:, k : 2 * k], sums[:, 2 * k :]
    n = held.sum(axis=1)
    per_class = np.where(held > 0, right / np.maximum(held, 1), np.nan)
    return np.column_stack(
        [
            right.sum(axis=1) / n,
            np.nanmean(per_class, axis=1),
            np.nanmin(per_class, axis=1),
            np.abs(gaps).sum(axis=1) / n,
        ]
    )


def _faultless_bound(n: int) -> float:
    """Lower 95 % bound (two-sided) of a rate seen as n of n."""
    return float(((1 - LEVEL) / 2) ** (1 / n))
