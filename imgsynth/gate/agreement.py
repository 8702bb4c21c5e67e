"""Whether others agree with a sample's label: classifiers that never saw what the sample may be a copy of.

Real training images are dealt to k folds, groups whole, and k classifiers each learn from all folds but
one. A sample is judged by the classifier that has not seen the fold of its parent, or, where no parent is
known, of the real image nearest to it: a memorized image is then judged as if new. None of them is the
model that will be trained on the samples (selecting by that one's own confidence would only teach it what it
knows).

What a classifier says of the fold it has not seen calibrates it: a temperature for each, and for each class
the confidence below which only a stated share of right labels falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F32, F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.split import split
from imgsynth.errors import DataError
from imgsynth.gate.calibration import (
    Reliability,
    conformal_threshold,
    fit_temperature,
    label_confidence,
    reliability,
    softmax,
)

if TYPE_CHECKING:
    from imgsynth.learn.classify import Classifier

FOLDS = 3
FALSE_DROP = 0.02
MOST_CALIBRATING = 6000  # real images of each fold that calibrate its judge
BATCH = 64  # images a call of a judge, always

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Agreement:
    """Judges of labels, one a fold, with what calibrates them."""

    judges: tuple[Classifier, ...]
    classes: tuple[str, ...]
    fold: I64  # (m,) fold of each training image: the judge of that number has not seen it
    temperatures: tuple[float, ...]
    thresholds: F64  # (K,) confidence of each class below which a label is dropped
    false_drop: float
    trust: float | None  # share of labels that are right beforehand (calibration.label_confidence)
    calibration: Reliability  # of the answers on folds not seen, after the temperatures
    accuracy: float  # of the same answers
    record: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def fit(
        training: LabelledImages,
        *,
        folds: int = FOLDS,
        steps: int | None = None,
        false_drop: float = FALSE_DROP,
        trust: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Agreement:
        """Train the judges on real images and calibrate each on the fold it has not seen.

        Args:
            training: real images; groups (tracks) stay in one fold.
            folds: how many, at least 2.
            steps: optimiser steps of each judge; None: the learner's own.
            false_drop: share of right labels that may be dropped, in each class that has images enough.
            trust: share of the samples' labels that are right before they are looked at; None: labels count
                for nothing, and the confidence is the judge's alone.
            seed: of folds and judges.
            progress: called after every step with (steps done, steps in all, loss), over all judges.

        Raises:
            DataError: fewer than 2 folds, or a class that some judge would never see.
        """
        fold = deal(training, folds, seed)
        judges = []
        config = _config(len(training.classes), steps)
        for k in range(folds):
            judges.append(_train(training.subset(fold != k), config, seed, k, folds, progress))
        logits, labels, of = [], [], []
        rng = np.random.Generator(np.random.Philox(key=seed))
        for k, judge in enumerate(judges):
            rows = np.sort(rng.permutation(np.flatnonzero(fold == k))[:MOST_CALIBRATING])
            logits.append(_logits(judge, training.images[rows]))
            labels.append(training.labels[rows])
            of.append(rows)
        temperatures = tuple(fit_temperature(z, y) for z, y in zip(logits, labels, strict=True))
        p = np.concatenate([softmax(z, t) for z, t in zip(logits, temperatures, strict=True)])
        y = np.concatenate(labels)
        right = p.argmax(axis=1) == y
        groups = None if training.groups is None else training.groups[np.concatenate(of)]
        confidence = label_confidence(p, y, trust)
        return Agreement(
            tuple(judges),
            training.classes,
            fold,
            temperatures,
            class_thresholds(confidence, y, len(training.classes), false_drop),
            false_drop,
            trust,
            reliability(p.max(axis=1), right, groups, seed=seed),
            float(right.mean()),
            {
                "seed": seed,
                "images": len(training),
                "digest": training.digest(),
                "steps": judges[0].config.steps,
            },
        )

    def judge(self, images: U8, labels: I64, fold: ArrayLike) -> tuple[F64, NDArray[np.bool_]]:
        """Calibrated confidence (n,) of each label, and whether it is enough, (n,) bool.

        Args:
            images: (n, H, W, C) uint8.
            labels: (n,) index into `classes`.
            fold: (n,) whose judge to ask: the fold that holds the sample's parent or nearest real image.
        """
        p = self.probabilities(images, fold)
        confidence = label_confidence(p, labels, self.trust)
        return confidence, confidence >= self.thresholds[labels]

    def probabilities(self, images: U8, fold: ArrayLike) -> F64:
        """Calibrated class probabilities (n, K), each by the judge of its fold (n,)."""
        of = np.asarray(fold)
        p = np.zeros((len(images), len(self.classes)))
        for k, judge in enumerate(self.judges):
            rows = np.flatnonzero(of == k)
            p[rows] = softmax(_logits(judge, images[rows]), self.temperatures[k])
        return p

    def to_record(self) -> dict[str, Any]:
        """How labels were judged, as plain JSON values."""
        return {
            "folds": len(self.judges),
            **self.record,
            "temperatures": list(self.temperatures),
            "accuracy_out_of_fold": self.accuracy,
            "calibration_out_of_fold": self.calibration.to_json(),
            "false_drop": self.false_drop,
            "trust": self.trust,
            "thresholds": dict(zip(self.classes, _finite(self.thresholds), strict=True)),
        }


def deal(training: LabelledImages, folds: int, seed: int = 0) -> I64:
    """Fold (n,) of each image: stratified by class, groups whole.

    Raises:
        DataError: fewer than 2 folds, or a class that stands in one fold only: its judge never saw it.
    """
    if folds < 2:
        raise DataError(f"{training.name}: expected at least 2 folds, got {folds}")
    parts = split(training.labels, training.groups, {str(k): 1 / folds for k in range(folds)}, seed)
    fold = np.zeros(len(training), np.int64)
    for k in range(folds):
        fold[parts[str(k)]] = k
    for c, name in enumerate(training.classes):
        held = np.unique(fold[training.labels == c])
        if len(held) == 1:
            raise DataError(
                f"{training.name}: class {name!r} falls into one fold of {folds}; out-of-fold judgement "
                "needs two images (of different groups) of every class"
            )
    return fold


def class_thresholds(confidence: ArrayLike, labels: ArrayLike, classes: int, share: float) -> F64:
    """Confidence (K,) of each class below which the share of right labels falls (`conformal_threshold`).

    A class of fewer than 1/share − 1 images has no quantile of its own: such classes share one of all of them
    together, and −inf (nothing is dropped) where even they are too few.
    """
    c, y = np.asarray(confidence, np.float64), np.asarray(labels)
    out = np.array([conformal_threshold(c[y == k], share) for k in range(classes)])
    scarce = np.flatnonzero(~np.isfinite(out))
    out[scarce] = conformal_threshold(c[np.isin(y, scarce)], share)
    return out


def _config(classes: int, steps: int | None) -> Any:
    from imgsynth.learn.classify import ClassifierConfig, suited

    settings = suited(classes)
    return ClassifierConfig.of(settings if steps is None else {**settings, "steps": steps})


def _train(
    data: LabelledImages, config: Any, seed: int, number: int, of: int, progress: Progress | None
) -> Classifier:
    from imgsynth.learn.trainer import train_classifier
    from imgsynth.seeding import derive

    def told(done: int, steps: int, loss: float) -> None:
        if progress is not None:
            progress(number * steps + done, of * steps, loss)

    return train_classifier(data, config, seed=derive(seed, f"gate.judge.{number}"), progress=told)


def _logits(judge: Classifier, images: U8) -> F32:
    """Logits (n, K), always computed in batches of one size: the last is filled up, so that an image meets
    the same kernels whatever it is judged with.
    """
    n = len(images)
    if n == 0:
        return np.zeros((0, len(judge.classes)), np.float32)
    filled = np.concatenate([images, np.repeat(images[:1], -n % BATCH, axis=0)])
    return judge.logits(filled, BATCH)[:n]


def _finite(values: F64) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
