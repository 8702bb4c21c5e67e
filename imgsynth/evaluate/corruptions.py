"""Scores of a classifier or detector on corrupted images: mPC, and rPC, its share of the clean score.

The mean performance under corruption of Michaelis et al. 2019 ("Benchmarking robustness in object detection:
autonomous driving when winter is coming", eq. 1 and 2): the mean over corruptions and severities of accuracy,
or of AP. The corruptions are those of `imagenet_c`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, U8
from imgsynth.dataset.annotated import AnnotatedImages, Images
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate.bootstrap import resample_counts, sum_by_group
from imgsynth.evaluate.detection import DetectionTable, Finder, estimate_from
from imgsynth.evaluate.imagenet_c import CORRUPTIONS, SEVERITIES, CorruptedImages, corrupt
from imgsynth.evaluate.score import Predictor

Cell = tuple[str, int] | None  # corruption and severity; None: clean
Progress = Callable[[int, int], None]  # cells done, of how many


def score_corrupted(
    model: Predictor | Finder,
    data: LabelledImages | AnnotatedImages,
    *,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a model on the images of `data` under every corruption and severity; labels stay.

    Returns plain JSON values: `clean`, `mPC`, `rPC` (mPC ÷ clean), and in `corruptions` the mean of each over
    the severities and its figure at each of `severities`, all {"mean", "ci95"}. `figure` says of what:
    accuracy, AP, or mask_AP where the model and the data have masks. The same resamples of images (or
    groups) serve all cells, so the interval of rPC is that of a paired ratio. The intervals do not cover
    other draws of the corruptions.

    Raises:
        ModelError: the data has a class that the model does not know, or is not what the model is for.
        DataError: no images or objects, an unknown corruption or severity, or images smaller than 2 × 2.
    """
    if not corruptions or not severities:
        raise DataError("expected at least one corruption and one severity")
    for name in corruptions:
        for severity in severities:
            corrupt(np.zeros((2, 2, 1), np.uint8), name, severity)  # refuses what it does not know
    cells: list[Cell] = [None, *((name, s) for name in corruptions for s in severities)]
    task = getattr(model, "task", "classify")
    if isinstance(data, AnnotatedImages):
        if task == "classify":
            raise ModelError(f"{data.name} has boxes, but the model classifies whole images")
        figure, units, made = _detection_cells(model, data, cells, bootstrap, seed)  # type: ignore[arg-type]
    else:
        if task != "classify":
            raise ModelError(f"{data.name} has a class an image, but the model finds objects")
        figure, units, made = _class_cells(model, data, cells, bootstrap, seed)  # type: ignore[arg-type]
    rows = []
    for done, row in enumerate(made, 1):
        rows.append(row)
        if progress is not None:
            progress(done, len(cells))
    table = np.array(rows)  # (cells, 1 + bootstrap): the figure, then its resamples
    of = table[1:].reshape(len(corruptions), len(severities), -1)
    mean = table[1:].mean(axis=0)
    share = np.divide(mean, table[0], out=np.full(len(mean), np.nan), where=table[0] > 0)
    return {
        "task": "classify" if figure == "accuracy" else "segment" if figure == "mask_AP" else "detect",
        "data": data.name,
        "n": len(data),
        "resampled": {"units": units, "of": "images" if units == len(data) else "groups"},
        "figure": figure,
        "clean": _json(table[0], units),
        "mPC": _json(mean, units),
        "rPC": _json(share, units),
        "corruptions": {
            name: _json(rows.mean(axis=0), units)
            | {"severities": {str(s): _json(row, units) for s, row in zip(severities, rows, strict=True)}}
            for name, rows in zip(corruptions, of, strict=True)
        },
    }


def _class_cells(
    model: Predictor, data: LabelledImages, cells: Sequence[Cell], bootstrap: int, seed: int
) -> tuple[str, int, Iterator[F64]]:
    try:
        target = data.aligned(model.classes)
    except DataError as e:
        raise ModelError(f"the model does not fit the data: {e}") from e
    if not len(target):
        raise DataError(f"{data.name}: no images to score on")
    sizes = sum_by_group(np.ones((len(target), 1)), target.groups)
    counts = np.concatenate([np.ones((1, len(sizes))), *resample_counts(len(sizes), bootstrap, seed)])
    shown = counts @ sizes

    def rows() -> Iterator[F64]:
        for cell in cells:
            images = target.images if cell is None else _corrupted(target.images, *cell, seed)
            right = model.predict(images).argmax(axis=1) == target.labels
            sums = sum_by_group(right[:, None].astype(np.float64), target.groups)
            yield ((counts @ sums) / shown)[:, 0]

    return "accuracy", len(sizes), rows()


def _corrupted(images: U8, name: str, severity: int, seed: int) -> U8:
    return np.stack([corrupt(x, name, severity, seed=seed, number=i) for i, x in enumerate(images)])


def _detection_cells(
    model: Finder, data: AnnotatedImages, cells: Sequence[Cell], bootstrap: int, seed: int
) -> tuple[str, int, Iterator[F64]]:
    if not np.any(~data.ignored):
        raise DataError(f"{data.name}: nothing to score on: no object that counts")
    try:
        data.aligned(model.classes)
    except DataError as e:
        raise ModelError(f"the model does not fit the data: {e}") from e
    masks = model.task == "segment" and data.masks is not None
    figure = "mask_AP" if masks else "AP"

    def rows() -> Iterator[F64]:
        for cell in cells:
            images: Images = data.images if cell is None else CorruptedImages(data.images, *cell, seed)
            table = DetectionTable.of(model.predict(images), data, masks)
            yield np.concatenate([table.figures()[figure], table.resampled(bootstrap, seed)[figure]])

    groups: NDArray[Any] | None = data.groups
    units = len(np.unique(groups)) if groups is not None and len(np.unique(groups)) > 1 else len(data)
    return figure, units, rows()


def _json(row: F64, units: int) -> dict[str, Any]:
    """A figure and its interval from the figure followed by its resamples; null where it is not known."""
    estimate = estimate_from(float(row[0]), row[1:], units)
    return {"mean": None, "ci95": None} if estimate is None else estimate.to_json()
