"""YOLO (Ultralytics' layout): `images/`, `labels/*.txt` and `data.yaml`.

A line of a label file is a class (0 = the first) and, as fractions of the image's width and height, either
the centre and size of the visible box, or the corners of a polygon. Frames without objects have an empty
file. The whole set is named as both `train` and `val`, since the format asks for both: split it before you
trust a score.

Polygons follow the edges of the visible mask's pixels exactly. What a polygon cannot say is lost: holes are
filled, and the pieces of an object in several pieces are tied together by lines of no width, there and back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.rle import decode
from imgsynth.formats.coco import copy_images
from imgsynth.formats.rows import visible_rows


def write_boxes(dataset: Dataset, folder: Path) -> None:
    """Detection labels: class, x centre, y centre, width, height."""

    def numbers(row: dict[str, Any]) -> NDArray[np.float64]:
        x0, y0, x1, y1 = row["box_visible"]
        return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])

    _write(dataset, folder, numbers)


def write_polygons(dataset: Dataset, folder: Path) -> None:
    """Segmentation labels: class, x1, y1, x2, y2, …"""
    _write(
        dataset, folder, lambda row: polygon(decode(row["rle_visible"], dataset.size)).ravel(), "rle_visible"
    )


def polygon(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(k, 2) corners (x, y) of the outline of a mask, in pixels, along the edges of its pixels.

    Several pieces (4-connected) are joined into one closed path that returns to each piece's first corner.
    """
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    outlines = [_outline(pieces == k) for k in range(1, count)]
    path = outlines[0]
    for outline in outlines[1:]:
        path = np.concatenate([path, path[:1], outline, outline[:1], path[:1]])
    return path


def _outline(piece: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(k, 2) corners of the outer boundary of one 4-connected piece, walked with the piece on the right."""
    grid = np.pad(piece, 1)
    y, x = divmod(
        int(np.argmax(grid)), grid.shape[1]
    )  # the first pixel of the first row: its top left is a corner
    start = (x, y)
    corners, at, (dx, dy) = [start], (x + 1, y), (1, 0)
    while at != start:
        px, py = at
        ahead_left = grid[py + (dy - dx - 1) // 2, px + (dx + dy - 1) // 2]
        ahead_right = grid[py + (dy + dx - 1) // 2, px + (dx - dy - 1) // 2]
        if not ahead_right:
            turn = (-dy, dx)
        elif ahead_left:
            turn = (dy, -dx)
        else:
            turn = (dx, dy)
        if turn != (dx, dy):
            corners.append(at)
        dx, dy = turn
        at = (px + dx, py + dy)
    return np.array(corners, np.float64) - 1


def _write(
    dataset: Dataset, folder: Path, numbers: Callable[[dict[str, Any]], NDArray[np.float64]], *columns: str
) -> None:
    copy_images(dataset, folder / "images")
    (folder / "labels").mkdir()
    height, width = dataset.size
    for i, rows in enumerate(visible_rows(dataset, *columns)):
        lines = []
        for row in rows:
            values = numbers(row).reshape(-1, 2) / (width, height)
            lines.append(" ".join([str(row["class_id"] - 1), *(f"{v:.9g}" for v in values.ravel())]) + "\n")
        name = dataset.path("image", i).stem
        (folder / "labels" / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    # No "path": without it the readers of this file take its own folder.
    data = {"train": "images", "val": "images", "names": dict(enumerate(dataset.classes))}
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
