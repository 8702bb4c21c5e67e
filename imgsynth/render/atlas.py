"""Room in one picture for every triangle of a part, so that each of its points has a texel of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgsynth.batch import F64, I32, I64
from imgsynth.render.finisher import Patch
from imgsynth.render.projection import spans

MOST_CELL = 512  # texels along a leg of a triangle
MOST_TEXELS = 3_000_000  # of a part


@dataclass(frozen=True)
class Atlas:
    """Cells of triangles in a picture of `size` (height, width), in texels.

    Triangle t has its corner `corner[t]` (0, 1 or 2 of its face) at `origin[t]` (x, y), the next corner of
    the face `legs[t, 1]` texels below, the last one `legs[t, 0]` to the right; a texel of border all around.
    So texture coordinates run the right way round, seen from outside.
    """

    size: tuple[int, int]
    corner: I32
    origin: I64
    legs: I64

    def uv(self) -> F64:
        """(t, 3, 2) texture coordinates of the corners, in the order of the faces, v downwards."""
        place = np.zeros((len(self.corner), 3, 2))
        rows = np.arange(len(self.corner))
        for turn, away in enumerate(((0, 0), (0, 1), (1, 0))):
            place[rows, (self.corner + turn) % 3] = self.origin + self.legs * np.array(away)
        out: F64 = place / np.array(self.size[::-1])
        return out

    def texels(self) -> tuple[I64, I64, F64]:
        """Triangle (n,), offset in the picture (n,) and place (n, 2) along the legs of each texel that a
        bilinear look at the triangle may read.
        """
        cells = (self.legs[:, 0] + 2) * (self.legs[:, 1] + 2)
        triangle, number = spans(cells)
        wide = (self.legs[:, 0] + 2)[triangle]
        at = np.stack([number % wide, number // wide], 1) - 1
        share = (at + 0.5) / self.legs[triangle]
        keep = share.sum(1) <= 1 + (1 / self.legs[triangle]).sum(1) + 1e-9
        triangle, at, share = triangle[keep], at[keep], share[keep]
        place = self.origin[triangle] + at
        return triangle, place[:, 1] * self.size[1] + place[:, 0], share


def atlas(corners: F64, seen: F64) -> Atlas:
    """Room for triangles.

    Args:
        corners: (t, 3, 3) their corners.
        seen: (t, 3) texels wanted along the sides opposite to each corner.
    """
    sides = np.linalg.norm(np.roll(corners, -1, 1) - np.roll(corners, -2, 1), axis=2)
    corner = np.argmax(sides, axis=1)  # the widest angle is the cell's right one
    rows = np.arange(len(corner))
    legs = np.stack([seen[rows, (corner + 1) % 3], seen[rows, (corner + 2) % 3]], 1)
    legs = np.clip(legs, 1, MOST_CELL)
    wanted = ((legs[:, 0] + 2) * (legs[:, 1] + 2)).sum()
    if wanted > MOST_TEXELS:
        legs = legs * np.sqrt(MOST_TEXELS / wanted)
    whole = np.maximum(np.ceil(legs), 1).astype(np.int64)
    origin, size = _shelves(whole + 2)
    return Atlas(size, corner.astype(np.int32), origin + 1, whole)


def _shelves(cells: I64) -> tuple[I64, tuple[int, int]]:
    """Upper left corners (t, 2) of cells (width, height) set side by side on shelves; the picture's size."""
    width = int(max(cells[:, 0].max(), np.ceil(np.sqrt(cells.prod(1).sum() * 1.05))))
    order = np.argsort(-cells[:, 1], kind="stable")
    out = np.zeros_like(cells)
    x = y = tall = 0
    for t, (w, h) in zip(order.tolist(), cells[order].tolist(), strict=True):
        if x + w > width:
            x, y, tall = 0, y + tall, 0
        out[t] = x, y
        x, tall = x + w, max(tall, h)
    return out, (y + tall, width)


def patch_of(layout: Atlas, points: F64, uv: F64, faces: I32) -> tuple[Patch, I64, I64, F64]:
    """Surface points of an atlas's texels.

    Args:
        layout: of the triangles.
        points: (v, 3) in the object's frame, its scale applied.
        uv: (v, 2) texture coordinates of the mesh.
        faces: (t, 3).

    Returns:
        Patch, the triangle (n,) and the offset (n,) of each texel, and its corners' weights (n, 3) in the
        order of the face.
    """
    triangle, offset, share = layout.texels()
    rows = np.arange(len(faces))
    order = [faces[rows, (layout.corner + i) % 3] for i in range(3)]
    right, down = share[:, :1], share[:, 1:]

    def spread(values: F64) -> tuple[F64, F64, F64]:
        a, b, c = (values[o] for o in order)
        x, y = (c - a) / layout.legs[:, :1], (b - a) / layout.legs[:, 1:]
        along = a[triangle] + (c - a)[triangle] * right + (b - a)[triangle] * down
        return along, x[triangle], y[triangle]

    across = np.cross(points[order[1]] - points[order[0]], points[order[2]] - points[order[0]])
    patch = Patch(*spread(points), across[triangle], *spread(uv))
    weights = np.zeros((len(triangle), 3))
    for turn, weight in enumerate((1 - right - down, down, right)):
        np.put_along_axis(weights, ((layout.corner + turn) % 3)[triangle][:, None], weight, 1)
    return patch, triangle, offset, weights


def laid(layout: Atlas, offset: I64, values: F64) -> F64:
    """A picture (h, w, …) of values (n, …) at texels; 1 × 1 where they are all the same."""
    if np.ptp(values, axis=0).max(initial=0.0) <= 1e-6:
        return values[:1].reshape(1, 1, *values.shape[1:])
    out = np.zeros((layout.size[0] * layout.size[1], *values.shape[1:]))
    out[offset] = values
    return out.reshape(*layout.size, *values.shape[1:])
