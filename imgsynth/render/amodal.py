"""Where amodal masks live: windows inside the frame, and coarse grids for what lies outside, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, I64

GRID = 256
"""Most cells along a side of an off-screen silhouette."""


def windows(box: F64, size: tuple[int, int]) -> tuple[I32, I64]:
    """In-frame windows (I, 4) of projected boxes, and the offsets (I + 1,) of their bytes laid end to end."""
    height, width = size
    seen = np.where(np.isfinite(box), box, 0.0)
    low, high = np.floor(seen[:, :2]), np.ceil(seen[:, 2:])
    limit = np.array([width, height])
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    empty = np.any(high <= low, axis=1) | ~np.isfinite(box[:, 0])
    window = np.concatenate([low, high], axis=1).astype(np.int32)
    window[empty] = 0
    return window, offsets((window[:, 2] - window[:, 0]).astype(np.int64) * (window[:, 3] - window[:, 1]))


def offsets(counts: I64) -> I64:
    """[0, c0, c0 + c1, …]."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def crossing(box: F64, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(I,) whether a projected box reaches over the frame's border (its pixel centres, strictly)."""
    height, width = size
    with np.errstate(invalid="ignore"):
        out = (box[:, 0] < -0.5) | (box[:, 1] < -0.5) | (box[:, 2] > width + 0.5) | (box[:, 3] > height + 0.5)
    return out & np.isfinite(box[:, 0])


class Grids:
    """Off-screen grids of some objects: every s-th pixel centre of the infinite image, at most GRID a side.

    Cells are whole multiples of a pixel, s = 1 for boxes up to GRID pixels, and then areas are exact
    pixel counts.

    Attributes:
        stride: (I, 2) pixels between samples.
        extent: (I, 2) columns and rows; 0 where the object needs none.
        affine: (I, 4) the rasterizer's map.
        frame: (I, 4) cells that sample the frame itself, half-open.
        start: (I + 1,) offsets.
    """

    def __init__(self, box: F64, rows: NDArray[np.bool_], size: tuple[int, int]):
        safe = np.where(rows[:, None], box, 0.0)
        low = np.floor(safe[:, :2])
        span = np.ceil(safe[:, 2:]) - low
        self.stride = np.maximum(np.ceil(span / GRID), 1.0)
        # Samples sit at low + s·(j + ½) rounded down to a pixel centre: a stride's middle pixel.
        middle = np.floor((self.stride - 1) / 2)
        self.extent = np.where(rows[:, None], np.ceil(span / self.stride), 0).astype(np.int32)
        a = 1.0 / self.stride
        b = 0.5 - a * (low + middle + 0.5)
        self.affine = np.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1]], axis=1)
        limit = np.array([size[1], size[0]], np.float64)
        first = np.ceil((0 - low - middle) / self.stride)
        last = np.ceil((limit - low - middle) / self.stride)
        bound = self.extent.astype(np.float64)
        self.frame = np.concatenate([np.clip(first, 0, bound), np.clip(last, 0, bound)], axis=1).astype(
            np.int32
        )
        self.start = offsets(self.extent[:, 0].astype(np.int64) * self.extent[:, 1])

    def areas(self, marks: NDArray[np.uint8]) -> F64:
        """(I,) area outside the frame in pixels², from the marked cells."""
        area: F64 = counts(marks, self.start).astype(np.float64) * self.stride[:, 0] * self.stride[:, 1]
        return area


def counts(marks: NDArray[np.uint8], start: I64) -> I64:
    """(I,) sums of the 0/1 bytes of each window."""
    if not len(start) - 1:
        return np.zeros(0, np.int64)
    total = np.zeros(len(start) - 1, np.int64)
    filled = np.flatnonzero(np.diff(start))
    if len(filled):
        total[filled] = np.add.reduceat(marks[: start[-1]], start[filled], dtype=np.int64)
    return total
