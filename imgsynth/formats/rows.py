"""What several formats write, frame by frame: visible, labelled instances, and cameras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError

_COLUMNS = [
    "id",
    "class_id",
    "class",
    "area_visible",
    "box_visible",
    "visible_fraction",
    "truncated_fraction",
]


def visible_rows(dataset: Dataset, *more: str) -> Iterator[list[dict[str, Any]]]:
    """For each frame its labelled instances with a visible pixel, by id; `more` names further columns."""
    for i in range(len(dataset)):
        rows = dataset.instances_of(i).select([*_COLUMNS, *more]).to_pylist()
        yield [row for row in rows if row["class_id"] > 0 and row["area_visible"] > 0]


def pinhole_cameras(dataset: Dataset) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """K (3, 3) and `world_from_camera` (4, 4) of each frame. Raises DataError where they have a lens, or
    the images come from no camera.
    """
    if "lens" in dataset.frames.column_names:
        raise DataError(f"{dataset.root}: its cameras have a lens, which this format cannot say")
    k, pose = (dataset.frames.column(name).to_pylist() for name in ("K", "world_from_camera"))
    if not np.isfinite(k).all():
        raise DataError(f"{dataset.root}: its images come from no camera, and this format wants one")
    return [
        (np.reshape(a, (3, 3)).astype(np.float64), np.reshape(b, (4, 4)).astype(np.float64))
        for a, b in zip(k, pose, strict=True)
    ]
