"""Classification as a study's task: images of one form in memory, probabilities, accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I64
from imgsynth.dataset.disk import disk_errors
from imgsynth.dataset.labelled import LabelledImages, concat
from imgsynth.study.task import ClassPair

ECE_BINS = 15


class Classify:
    """The task `classify`."""

    name = "classify"
    headline = "accuracy"
    held_out = 2000
    scores: Mapping[str, str] = MappingProxyType(
        {
            "accuracy": "accuracy",
            "balanced_accuracy": "balanced accuracy",
            "worst_class": "worst class",
            "ece": "calibration error",
        }
    )

    def load(self, spec: str) -> LabelledImages:
        """Read DATA."""
        from imgsynth.dataset.sources import load

        return load(spec)

    def conform(self, data: LabelledImages, model: LabelledImages) -> tuple[LabelledImages, str]:
        """The classes, size and channels of `model`."""
        note = ""
        if (data.size, data.channels) != (model.size, model.channels):
            note = f"{data.name}: {_form(data)} brought to {_form(model)}, the form of {model.name}"
        return data.aligned(model.classes).fitted(model.size, model.channels), note

    def form(self, data: LabelledImages) -> dict[str, Any]:
        """Size and channels of the images."""
        return {"image_size": list(data.size), "channels": data.channels}

    def fingerprints(self, data: LabelledImages) -> list[bytes]:
        """A hash of each image's pixels."""
        return [
            hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
            for image in data.images
        ]

    def strata(self, data: LabelledImages) -> I64:
        """The labels."""
        return data.labels

    def join(self, a: LabelledImages, b: LabelledImages) -> LabelledImages:
        """`a` followed by `b`."""
        return concat(a, b)

    def pool(self, folder: Path, name: str, data: LabelledImages) -> Mapped:
        """Images, labels and weights in files that workers map."""
        pool = Mapped(folder / name, data.digest(), data.classes, data.weights is not None)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{name}.images.npy", data.images)
            np.save(folder / f"{name}.labels.npy", data.labels)
            if data.weights is not None:
                np.save(folder / f"{name}.weights.npy", data.weights)
        return pool

    def pack(self, predictions: F32) -> dict[str, NDArray[Any]]:
        """Class probabilities (n, K)."""
        return {"probabilities": np.asarray(predictions, np.float32)}

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> F32:
        """Class probabilities (n, K)."""
        return arrays["probabilities"]

    def table(self, predictions: F32, data: LabelledImages) -> Answers:
        """Answers beside the labels."""
        return Answers(predictions, data.labels)

    def extras(self, predictions: Sequence[F32], data: LabelledImages) -> dict[str, Any]:
        """The confusion matrix, true × predicted, summed over seeds."""
        confusion = np.zeros((len(data.classes), len(data.classes)), np.int64)
        for one in predictions:
            np.add.at(confusion, (data.labels, one.argmax(axis=1)), 1)
        return {"confusion": confusion.tolist()}

    def chance(self, data: LabelledImages) -> float:
        """Accuracy of always naming the commonest class."""
        return float(data.counts().max() / len(data))

    def deltas(
        self, a: Sequence[Answers], b: Sequence[Answers], data: LabelledImages, measured: ClassPair
    ) -> list[Any]:
        """Accuracy of each class in arm a less that in arm b, over images (or groups) and seeds."""
        from imgsynth.evaluate.worth import per_class_delta

        right_a, right_b = (np.stack([table.correct for table in tables], axis=1) for tables in (a, b))
        return per_class_delta(right_a, right_b, data.labels, data.classes, data.groups)


@dataclass(frozen=True)
class Mapped:
    """Images on disk, mapped by every worker rather than sent to each."""

    path: Path
    digest: str
    classes: tuple[str, ...]
    weighted: bool = False  # whether its images have weights

    def read(self) -> LabelledImages:
        """The whole pool, mapped."""
        return _mapped(self.path, self.digest, self.classes, self.weighted)


@lru_cache(maxsize=8)
def _mapped(path: Path, digest: str, classes: tuple[str, ...], weighted: bool) -> LabelledImages:
    images = np.load(f"{path}.images.npy", mmap_mode="c")  # copy on write: torch warns of read-only arrays
    weights = np.load(f"{path}.weights.npy") if weighted else None
    return LabelledImages(images, np.load(f"{path}.labels.npy"), classes, None, path.name, weights=weights)


class Answers:
    """Class probabilities (n, K) beside the labels (n,), scored under weights of the images."""

    def __init__(self, probabilities: F32, labels: I64):
        self._p, self._labels = probabilities, labels
        self.correct = (probabilities.argmax(axis=1) == labels).astype(np.float32)

    def figures(self, weights: F32) -> dict[str, NDArray[Any]]:
        """accuracy, balanced_accuracy, worst_class, ece: (b,); per_class: (b, K), nan where none is drawn."""
        member = np.eye(self._p.shape[1], dtype=np.float32)[self._labels]
        total, in_class = weights.sum(axis=1), weights @ member
        right = weights @ (member * self.correct[:, None])
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = (right / in_class).astype(np.float64)
        return {
            "accuracy": right.sum(axis=1, dtype=np.float64) / total,
            "balanced_accuracy": np.nanmean(recall, axis=1),
            "worst_class": np.nanmin(recall, axis=1),
            "ece": _ece(self._p, self.correct, weights) / total,
            "per_class": recall,
        }

    def headline(self, weights: F32) -> NDArray[Any]:
        """Accuracy (b,)."""
        out: F64 = (weights @ self.correct).astype(np.float64) / weights.sum(axis=1, dtype=np.float64)
        return out


def _ece(p: F32, correct: F32, weights: F32) -> F64:
    """(b,) Σ over 15 equal bins of |Σ w (confidence − correct)|: the calibration error times Σ w."""
    confidence = p.max(axis=1)
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    excess = np.zeros((len(p), ECE_BINS), np.float32)
    excess[np.arange(len(p)), bins] = confidence - correct
    out: F64 = np.abs(weights @ excess).sum(axis=1, dtype=np.float64)
    return out


def _form(data: LabelledImages) -> str:
    return f"{data.size[0]}×{data.size[1]} {'grey' if data.channels == 1 else 'RGB'}"
