"""Detection and segmentation as a study's tasks: photographs of any sizes that stay on disk, boxes, AP50."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I64
from imgsynth.dataset.annotated import AnnotatedImages, Detections, concat_annotated
from imgsynth.study.task import ClassPair

BOXES = MappingProxyType(
    {"AP50": "AP50", "AP": "AP", "AP75": "AP75", "worst_class": "worst class", "AR_100": "recall"}
)
MASKS = MappingProxyType(
    {
        "mask_AP50": "mask AP50",
        "mask_AP": "mask AP",
        "worst_class": "worst class",
        "AP50": "box AP50",
        "mIoU": "mIoU",
        "PQ": "panoptic quality",
    }
)


class Detect:
    """The task `detect`, or `segment`: the same with masks."""

    held_out = 200  # photographs take long

    def __init__(self, masks: bool = False):
        self.masks = masks
        self.name = "segment" if masks else "detect"
        self.headline = "mask_AP50" if masks else "AP50"

    @property
    def scores(self) -> Mapping[str, str]:
        """Score → what to call it."""
        return MASKS if self.masks else BOXES

    def load(self, spec: str) -> AnnotatedImages:
        """Read DATA; images stay where they are."""
        from imgsynth.dataset.annotated_sources import load_annotated

        return load_annotated(spec, masks=self.masks)

    def conform(self, data: AnnotatedImages, model: AnnotatedImages) -> tuple[AnnotatedImages, str]:
        """The classes of `model`; images keep their sizes, for the learner takes any."""
        return data.aligned(model.classes), ""

    def form(self, data: AnnotatedImages) -> dict[str, Any]:
        """The middle one of the image sizes, and the number of objects."""
        middle = np.median(data.sizes, axis=0).astype(int).tolist()
        return {"image_size": middle, "channels": 3, "objects": int((~data.ignored).sum())}

    def fingerprints(self, data: AnnotatedImages) -> list[str]:
        """A hash of each image's decoded pixels."""
        return data.image_digests()

    def strata(self, data: AnnotatedImages) -> I64:
        """The rarest class that each image shows."""
        return data.main_class()

    def join(self, a: AnnotatedImages, b: AnnotatedImages) -> AnnotatedImages:
        """`a` followed by `b`."""
        return concat_annotated(a, b)

    def pool(self, folder: Path, name: str, data: AnnotatedImages) -> Held:
        """The labels go to the workers, the images they read where they lie."""
        return Held(data, data.digest())

    def pack(self, predictions: Detections) -> dict[str, NDArray[Any]]:
        """Plain arrays; the texts of masks one after the other, with their lengths."""
        arrays: dict[str, NDArray[Any]] = {
            "images": np.array(predictions.images),
            "owner": predictions.owner,
            "boxes": predictions.boxes,
            "labels": predictions.labels,
            "scores": predictions.scores,
            "classes": np.array(predictions.classes, dtype=str),
        }
        if predictions.masks is not None:
            texts = [str(text).encode() for text in predictions.masks]
            arrays["mask_lengths"] = np.array([len(text) for text in texts], np.int64)
            arrays["mask_texts"] = np.frombuffer(b"".join(texts), np.uint8)
        return arrays

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> Detections:
        """What `pack` took apart."""
        masks = None
        if "mask_lengths" in arrays:
            text, ends = arrays["mask_texts"].tobytes(), np.cumsum(arrays["mask_lengths"])
            masks = np.empty(len(ends), object)
            masks[:] = [
                text[end - length : end].decode("ascii")
                for end, length in zip(ends, arrays["mask_lengths"], strict=True)
            ]
        return Detections(
            images=int(arrays["images"]),
            owner=arrays["owner"],
            boxes=arrays["boxes"],
            labels=arrays["labels"],
            scores=arrays["scores"],
            masks=masks,
            classes=tuple(str(c) for c in arrays["classes"]),
        )

    def table(self, predictions: Detections, data: AnnotatedImages) -> Found:
        """What was found beside what is there, matched once."""
        from imgsynth.evaluate.detection import DetectionTable

        return Found(DetectionTable.of(predictions, data, masks=self.masks), self)

    def extras(self, predictions: Sequence[Detections], data: AnnotatedImages) -> dict[str, Any]:
        """Nothing."""
        return {}

    def chance(self, data: AnnotatedImages) -> float:
        """A score that a guess may well have."""
        return 0.01

    def deltas(
        self, a: Sequence[Found], b: Sequence[Found], data: AnnotatedImages, measured: ClassPair
    ) -> list[Any]:
        """Headline of each class in arm a less that in arm b, by the replicates' spread."""
        from imgsynth.evaluate.worth import delta_rows

        shown = np.zeros((len(data), len(data.classes)), bool)
        shown[data.owner[~data.ignored], data.labels[~data.ignored]] = True
        _, unit = np.unique(np.arange(len(data)) if data.groups is None else data.groups, return_inverse=True)
        units = [len(np.unique(unit[column])) for column in shown.T]
        freedom: Any = measured.freedom  # one a class
        return delta_rows(data.classes, measured.delta, measured.star, units, freedom=freedom)


@dataclass(frozen=True)
class Held:
    """A set that goes to the workers as it is: labels in memory, images on disk."""

    data: AnnotatedImages
    digest: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.data.classes

    def read(self) -> AnnotatedImages:
        """The set."""
        return self.data


class Found:
    """A `DetectionTable` under the names of the study."""

    def __init__(self, table: Any, task: Detect):
        self._table, self._task = table, task

    def figures(self, weights: F32) -> dict[str, NDArray[Any]]:
        """Every score of the task, (b,), and the headline of each class as `per_class` (b, K)."""
        held = self._table.figures(weights)
        of_class: F64 = held[f"per_class_{self._task.headline}"]
        known = np.where(np.isnan(of_class), np.inf, of_class).min(axis=1)
        out = {name: held[name] for name in self._task.scores if name in held}
        return {**out, "worst_class": np.where(np.isinf(known), np.nan, known), "per_class": of_class}

    def headline(self, weights: F32) -> NDArray[Any]:
        """The headline alone, (b,)."""
        part = self._table.masks if self._task.masks else self._table.boxes
        out: NDArray[Any] = part.figures(np.asarray(weights, float))["AP50"]
        return out
