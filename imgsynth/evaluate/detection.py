"""Scores of a detector on annotated images: COCO's AP and AR, mask AP, mIoU and PQ, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64, I64
from imgsynth.dataset.annotated import AnnotatedImages, Detections, Images
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate.bootstrap import Estimate, percentile_shares, resample_counts
from imgsynth.evaluate.matching import match
from imgsynth.evaluate.panoptic import PixelTable
from imgsynth.evaluate.precision import PrecisionTable

LEVEL = 0.95


class Finder(Protocol):
    """Anything that finds objects; `imgsynth.learn`'s Detector does."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names that `Detections.labels` index."""
        ...

    @property
    def task(self) -> str:
        """`detect`, or `segment` where it gives masks too."""
        ...

    def predict(self, images: Images, *, progress: Callable[[int, int], None] | None = None) -> Detections:
        """What is found in the images."""
        ...


@dataclass(frozen=True)
class DetectionTable:
    """What the figures of a detector are a function of: matched once, for any weights of the images."""

    boxes: PrecisionTable
    masks: PrecisionTable | None
    pixels: PixelTable | None
    classes: tuple[str, ...]
    objects: I64  # (n, K) true objects of each image and class that count
    groups: I64 | None  # (n,) what images belong together, numbered
    name: str

    @staticmethod
    def of(found: Detections, truth: AnnotatedImages, masks: bool = False) -> DetectionTable:
        """Match what was found with what is there; classes are matched by name, those of `found` lead.

        Raises:
            ModelError: the data has objects of a class that the model does not know.
            DataError: arrays that do not fit, or masks wanted where there are none.
        """
        try:
            truth = truth.aligned(found.classes)
        except DataError as e:
            raise ModelError(f"the model does not fit the data: {e}") from e
        _check(found, truth)
        matches = match(found, truth)
        return DetectionTable(
            boxes=PrecisionTable.of(matches),
            masks=PrecisionTable.of(match(found, truth, masks=True)) if masks else None,
            pixels=PixelTable.of(found, truth) if masks else None,
            classes=truth.classes,
            objects=matches.wanted[0],
            groups=None if truth.groups is None else np.unique(truth.groups, return_inverse=True)[1],
            name=truth.name,
        )

    def figures(self, weights: ArrayLike | None = None) -> dict[str, F64]:
        """Every figure under weights (b, n) of the images; (1, n) ones where none are given.

        `AP` (mean over overlaps .50:.05:.95), `AP50`, `AP75`, `AP_small`, `AP_medium`, `AP_large` (COCO's
        areas), `AR_1`, `AR_10`, `AR_100` (found objects looked at in an image and class), `AR_small` …, each
        (b,), and `per_class_AP`, `per_class_AP50`, (b, K). With masks the same after `mask_`
        (`per_class_mask_AP`), and `mIoU`, `PQ`, `SQ`, `RQ`, `per_class_IoU`, `per_class_PQ`. NaN where there
        is nothing to find. Means over classes are over those that the weighted images show.
        """
        n = len(self.objects)
        w = np.ones((1, n)) if weights is None else np.asarray(weights, float)
        if w.ndim != 2 or w.shape[1] != n or not np.all(np.isfinite(w)) or np.any(w < 0):
            raise DataError(f"{self.name}: weights: expected (b, {n}) numbers of at least 0, got {w.shape}")
        out = self.boxes.figures(w)
        if self.masks is not None and self.pixels is not None:
            for key, value in self.masks.figures(w).items():
                fore = "per_class_" if key.startswith("per_class_") else ""
                out[f"{fore}mask_{key.removeprefix(fore)}"] = value
            out |= self.pixels.figures(w)
        return out

    def units(self) -> I64:
        """(n,) which unit of resampling an image belongs to: its group where there are several, or itself."""
        alone = self.groups is None or len(np.unique(self.groups)) == 1
        return np.arange(len(self.objects)) if alone or self.groups is None else self.groups

    def resampled(self, bootstrap: int, seed: int) -> dict[str, F64]:
        """Figures of `bootstrap` resamples of the units; the same draws for every table on these images."""
        unit = self.units()
        counts = resample_counts(int(unit.max()) + 1, bootstrap, seed)
        parts = [self.figures(c[:, unit]) for c in counts]
        return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


@dataclass(frozen=True)
class DetectionScore:
    """How well a detector does on a data set. Figures as in `DetectionTable.figures`; intervals are 95 %."""

    name: str
    task: str
    n: int
    units: int  # what was resampled: images, or groups where the data has them
    objects: dict[str, int]  # objects that count of each class
    figures: dict[str, Estimate | None]  # None where there is nothing to find
    per_class: dict[str, dict[str, Estimate | None]]  # of each class that has objects
    table: DetectionTable

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: {"AP": {"mean", "ci95"} or null, …, "per_class": {name: {"n", "AP", …}}, …}."""
        return {
            "task": self.task,
            "data": self.name,
            "n": self.n,
            "objects": sum(self.objects.values()),
            "resampled": {"units": self.units, "of": "images" if self.units == self.n else "groups"},
            **{key: _json(value) for key, value in self.figures.items()},
            "per_class": {
                name: {"n": self.objects[name], **{key: _json(value) for key, value in row.items()}}
                for name, row in self.per_class.items()
            },
            "classes": list(self.table.classes),
        }


def score_detector(
    model: Finder,
    data: AnnotatedImages,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionScore:
    """Score `model` on `data`; its masks too where it gives and the data has them.

    Raises:
        ModelError: the data has objects of a class that the model does not know.
        DataError: no images, or no objects.
    """
    try:
        data.aligned(model.classes)  # before the long part
    except DataError as e:
        raise ModelError(f"the model does not fit the data: {e}") from e
    _check_some(data)
    found = model.predict(data.images, progress=progress)
    masks = model.task == "segment" and data.masks is not None
    return score_detections(found, data, masks=masks, bootstrap=bootstrap, seed=seed)


def score_detections(
    found: Detections, truth: AnnotatedImages, *, masks: bool = False, bootstrap: int = 1000, seed: int = 0
) -> DetectionScore:
    """Score what was found in the images of `truth`.

    Raises:
        ModelError: the data has objects of a class that the model does not know.
        DataError: no images, no objects, arrays that do not fit, or masks wanted where there are none.
    """
    _check_some(truth)
    table = DetectionTable.of(found, truth, masks)
    value = {key: v[0] for key, v in table.figures().items()}
    draws = table.resampled(bootstrap, seed)
    units = int(table.units().max()) + 1
    held = table.objects.sum(axis=0)
    per_class: dict[str, dict[str, Estimate | None]] = {}
    for k, name in enumerate(table.classes):
        if held[k]:
            showing = len(np.unique(table.units()[table.objects[:, k] > 0]))
            per_class[name] = {
                key.removeprefix("per_class_"): estimate_from(v[k], draws[key][:, k], showing)
                for key, v in value.items()
                if key.startswith("per_class_")
            }
    return DetectionScore(
        name=truth.name,
        task="segment" if masks else "detect",
        n=len(truth),
        units=units,
        objects={name: int(m) for name, m in zip(table.classes, held, strict=True) if m},
        figures={
            key: estimate_from(v, draws[key], units)
            for key, v in value.items()
            if not key.startswith("per_class_")
        },
        per_class=per_class,
        table=table,
    )


def estimate_from(value: float, draws: F64, units: int) -> Estimate | None:
    """A figure with its interval over `units`; None where it is not known.

    Percentiles of the resamples, moved so that their mean is the figure. AP leans up where objects are few
    (its precision is a maximum), and a resample leans as much again: unmoved percentiles of AP75 with 20
    objects a class hardly reach down to the figure itself. The interval is for the figure on other test sets
    of this size, which is what published figures are, and not for the limit of ever more images.

    Where no resample can fall below 1, the lower end is that of a rate seen as `units` of `units` (Clopper &
    Pearson 1934): the next unit may be a faulty one.
    """
    if np.isnan(value):
        return None
    known = draws[~np.isnan(draws)]
    lo, hi = (value, value)
    if len(known):
        lo, hi = np.quantile(known, percentile_shares(units, LEVEL)) - known.mean() + value
    if value == 1 and known.min(initial=1) == 1:
        lo = ((1 - LEVEL) / 2) ** (1 / units)
    return Estimate(float(value), float(max(0, min(lo, value))), float(min(1, max(hi, value))))


def _json(value: Estimate | None) -> dict[str, object] | None:
    return None if value is None else value.to_json()


def _check_some(truth: AnnotatedImages) -> None:
    if not len(truth) or not np.any(~truth.ignored):
        raise DataError(
            f"{truth.name}: nothing to score on: {len(truth)} images without an object that counts"
        )


def _check(found: Detections, truth: AnnotatedImages) -> None:
    """Refuse found objects that cannot be of these images."""
    k = len(found.owner)
    shapes = {"boxes": (k, 4), "labels": (k,), "scores": (k,)} | (
        {} if found.masks is None else {"masks": (k,)}
    )
    for what, shape in shapes.items():
        if getattr(found, what).shape != shape:
            raise DataError(f"found {what}: expected shape {shape}, got {getattr(found, what).shape}")
    if found.images != len(truth):
        raise DataError(f"{truth.name}: {len(truth)} images, but {found.images} were looked at")
    if k and not (found.owner.min() >= 0 and found.owner.max() < len(truth)):
        raise DataError(f"found owner: expected image numbers from 0 to {len(truth) - 1}")
    if k and not (found.labels.min() >= 0 and found.labels.max() < len(found.classes)):
        raise DataError(f"found labels: expected 0 to {len(found.classes) - 1}")
    if not (np.all(np.isfinite(found.boxes)) and np.all(np.isfinite(found.scores))):
        raise DataError("found boxes and scores: expected finite numbers")
