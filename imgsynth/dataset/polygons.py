"""Polygons as masks: a pixel is inside where its centre is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.dataset import rle
from imgsynth.errors import DataError

MAX_CROSSINGS = 50_000_000  # of edges with pixel rows: bounds the memory that one hostile polygon can take


def polygon_text(polygons: Sequence[F64], size: tuple[int, int]) -> str:
    """COCO's run-length text of the union of polygons (k, 2) of corners (x, y) in a (height, width) frame."""
    mask, corner = fill(polygons, size)
    return rle.encode(mask, corner, size)


def fill(polygons: Sequence[F64], size: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """The pixels whose centre any of the polygons winds around (winding number other than 0).

    So a path along pixel edges gives those pixels exactly; lines of no width and doubled parts change
    nothing; a path that goes around its hole the other way leaves the hole open.

    Returns:
        The mask of a window (h, w), which holds all of it, and the window's top left pixel (x, y).

    Raises:
        DataError: a polygon with more crossings than any drawn object has.
    """
    height, width = size
    corners = np.concatenate(list(polygons))
    limit = np.array([width, height])
    low = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
    w, h = (int(v) for v in high - low)
    out = np.zeros((h, w), bool)
    for polygon in polygons:
        out |= _wound(polygon - low, h, w)
    return out, (int(low[0]), int(low[1]))


def _wound(polygon: F64, h: int, w: int) -> NDArray[np.bool_]:
    (px, py), (qx, qy) = polygon.T, np.roll(polygon, -1, axis=0).T
    # An edge crosses the centre line y = row + ½ of rows first … last - 1.
    first = np.clip(np.ceil(np.minimum(py, qy) - 0.5), 0, h).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(py, qy) - 0.5), 0, h).astype(np.int64)
    rows = last - first
    if rows.sum() > MAX_CROSSINGS:
        raise DataError(f"a polygon with {len(polygon)} corners that crosses {rows.sum()} pixel rows")
    edge = np.repeat(np.arange(len(polygon)), rows)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows)
    x = px[edge] + (row + 0.5 - py[edge]) * (qx[edge] - px[edge]) / (qy[edge] - py[edge])
    column = np.clip(np.ceil(x - 0.5), 0, w).astype(np.int64)
    turns = np.zeros((h, w + 1), np.int32)
    np.add.at(turns, (row, column), np.where(qy > py, 1, -1)[edge])
    return np.asarray(np.cumsum(turns, axis=1)[:, :w] != 0)
