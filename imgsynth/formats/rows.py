"""The instances that a format of visible, labelled objects writes, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imgsynth.dataset.reader import Dataset

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
