"""Triangles over a grid of vertices, which lathes, rounded boxes and dice are made of."""

from __future__ import annotations

import numpy as np

from imgsynth.batch import I64


def grid_faces(rows_: int, columns_: int) -> I64:
    """Two counter-clockwise triangles for each cell of a grid of rows_ × columns_ vertices, rows going up:
    (f, 3).
    """
    i = np.arange(rows_ * columns_).reshape(rows_, columns_)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
