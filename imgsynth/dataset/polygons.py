"""Polygons as run-length masks, straight from their corners: no mask is ever drawn.

A pixel is inside where its centre is. COCO's run lengths go down the columns, so the line through the centres
of each column is cut by the edges, and the cuts are the ends of the runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgsynth.batch import F64, I64
from imgsynth.dataset import rle
from imgsynth.errors import DataError

MAX_CROSSINGS = 20_000_000  # of edges with columns: bounds the memory that one hostile image can take

Polygons = Sequence[F64]  # of one object, (k, 2) corners (x, y) each


def polygon_texts(objects: Sequence[Polygons], size: tuple[int, int]) -> list[str]:
    """COCO's run-length text of each object of a (height, width) image: the pixels whose centre any of its
    polygons winds around (winding number other than 0); "" where there is none.

    So a path along pixel edges gives those pixels exactly; lines of no width and doubled parts change
    nothing; a path that goes around its hole the other way leaves the hole open.

    Raises:
        DataError: more edges than any drawn objects have.
    """
    height, width = size
    first, stop, polygon = _runs([corners for one in objects for corners in one], height, width)
    owner = np.repeat(np.arange(len(objects)), [len(one) for one in objects])[polygon]
    row, first, stop = _united(owner, first, stop, height * width)
    texts = rle.from_runs(row, first, stop, len(objects), height * width).tolist()
    held = np.bincount(row, minlength=len(objects))
    return [text if n else "" for text, n in zip(texts, held, strict=True)]


def _runs(polygons: Polygons, height: int, width: int) -> tuple[I64, I64, I64]:
    """Runs [first, stop) in column-major pixels, and the polygon of each, in order."""
    px, py = np.concatenate([*polygons, np.zeros((0, 2))]).T
    qx, qy = np.concatenate([*(np.roll(p, -1, axis=0) for p in polygons), np.zeros((0, 2))]).T
    owner = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])
    # An edge cuts the centre lines x = column + ½ of columns low … high - 1.
    low = np.clip(np.ceil(np.minimum(px, qx) - 0.5), 0, width).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(px, qx) - 0.5), 0, width).astype(np.int64)
    cuts = high - low
    if cuts.sum() > MAX_CROSSINGS:
        raise DataError(f"polygons whose edges cross {cuts.sum()} columns; at most {MAX_CROSSINGS} are read")
    edge = np.repeat(np.arange(len(px)), cuts)
    column = low[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    slope = (qy - py)[edge] / (qx - px)[edge]
    y = py[edge] + (column + 0.5 - px[edge]) * slope
    line = owner[edge] * width + column
    place = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    order = np.argsort(line * (height + 1) + place, kind="stable")
    winding = np.cumsum(np.where(qx > px, 1, -1)[edge][order])  # back at 0 where a line ends
    before = np.append(0, winding[:-1])
    opens, closes = order[(winding != 0) & (before == 0)], order[(winding == 0) & (before != 0)]
    first, stop = column[opens] * height + place[opens], column[closes] * height + place[closes]
    held = first < stop
    return first[held], stop[held], owner[edge][opens][held]


def _united(owner: I64, first: I64, stop: I64, pixels: int) -> tuple[I64, I64, I64]:
    """The union of each owner's runs: those that overlap or touch become one."""
    base = owner * (pixels + 1)  # so that runs of two owners never touch
    order = np.argsort(base + first, kind="stable")
    first, stop = (base + first)[order], (base + stop)[order]
    reach = np.maximum.accumulate(stop)
    new = np.append(True, first[1:] > reach[:-1])[: len(first)]
    last = np.append(new[1:], True)[: len(first)]
    row = first[new] // (pixels + 1)
    return row, first[new] - row * (pixels + 1), reach[last] - row * (pixels + 1)
