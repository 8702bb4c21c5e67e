"""Boxes of whole objects seen through a lens: their straight edges are curves in the picture, in numpy.

An object's image is bounded by its corners, by the curves between them, and, where it reaches out of the
lens's field, by the field's rim. Curves are followed in `PIECES` steps, with a parabola through the outermost
three points: good to a hundredth of a pixel for all but edges that span the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth import lens as models
from imgsynth.batch import F64, I32, I64, Cameras

PIECES = 24
RIM = 720
"""Points of the field's rim that are looked at where an object reaches over it."""
_CHUNK = 1 << 16  # edges followed at once


class Outlines:
    """Grows boxes of rows, each seen by one camera, by points and edges given in its camera's frame.

    Args:
        cameras: with lenses.
        frame: (R,) camera of each row.
    """

    def __init__(self, cameras: Cameras, frame: I64):
        assert cameras.lens is not None
        number, self.lens = np.unique(frame, return_inverse=True)
        self.kind: I32 = cameras.lens.kind[number]
        self.c, self.k, self.near = cameras.lens.coefficients[number], cameras.k[number], cameras.near[number]
        known: dict[tuple[int, bytes], float] = {}
        for kind, c in zip(self.kind.tolist(), self.c, strict=True):
            if (kind, c.tobytes()) not in known:
                known[kind, c.tobytes()] = models.reach(kind, c)
        self.reach = np.array(
            [known[a, b.tobytes()] for a, b in zip(self.kind.tolist(), self.c, strict=True)]
        )
        self.box: F64 = np.full((len(frame), 4), np.nan)

    def pixels(self, row: I64, straight: F64) -> F64:
        """(m, 2) pixels of straight points of rows."""
        lens = self.lens[row]
        return models.pixels(self.k[lens], models.bend(self.kind[lens], self.c[lens], straight))

    def inside(self, row: I64, points: F64) -> NDArray[np.bool_]:
        """Which camera-frame points (m, 3) of rows lie before the near plane and in the field."""
        lens = self.lens[row]
        radius = np.linalg.norm(points[:, :2], axis=1)
        return np.asarray((points[:, 2] >= self.near[lens]) & (radius <= self.reach[lens] * points[:, 2]))

    def grow(self, row: I64, xy: F64) -> None:
        """Enlarge boxes so that they hold pixels (m, 2)."""
        for column, (values, reduce) in enumerate(
            [(xy[:, 0], np.fmin), (xy[:, 1], np.fmin), (xy[:, 0], np.fmax), (xy[:, 1], np.fmax)]
        ):
            reduce.at(self.box[:, column], row, values)

    def corners(self, row: I64, points: F64) -> None:
        """Take in vertices (m, 3), those that are seen."""
        seen = self.inside(row, points)
        self.grow(row[seen], self.pixels(row[seen], points[seen, :2] / points[seen, 2:]))

    def mesh(self, row: I64, points: F64, edges: I64) -> None:
        """Take in vertices (v, 3) of rows (v,), and the edges (m, 2) between them."""
        self.corners(row, points)
        seen = self.inside(row, points)
        straight = np.zeros((len(points), 2))
        straight[seen] = points[seen, :2] / points[seen, 2:]
        xy = self.pixels(row, straight)
        whole = seen[edges[:, 0]] & seen[edges[:, 1]]
        cut = edges[~whole]
        if len(cut):
            self.edges(row[cut[:, 0]], points[cut[:, 0]], points[cut[:, 1]])
        i, j = edges[whole, 0], edges[whole, 1]
        far = np.flatnonzero(self._may_stick_out(row[i], straight[i], straight[j], xy[i], xy[j]))
        i, j = i[far], j[far]
        for k in range(0, len(far), _CHUNK):
            part = slice(k, k + _CHUNK)
            self._follow(row[i[part]], straight[i[part]], straight[j[part]])

    def edges(self, row: I64, a: F64, b: F64) -> None:
        """Take in edges a → b (m, 3), after the corners: cut to what is seen, followed where they matter."""
        whole = self.inside(row, a) & self.inside(row, b)
        cut = np.flatnonzero(~whole)
        if len(cut):
            start, stop = self._seen_part(row[cut], a[cut], b[cut])
            some = stop > start
            cut, start, stop = cut[some], start[some], stop[some]
            d = b[cut] - a[cut]
            a, b = a.copy(), b.copy()
            a[cut], b[cut] = a[cut] + start[:, None] * d, a[cut] + stop[:, None] * d
            self.grow(row[cut], self.pixels(row[cut], a[cut, :2] / a[cut, 2:]))
            self.grow(row[cut], self.pixels(row[cut], b[cut, :2] / b[cut, 2:]))
            whole[cut] = True
        keep = np.flatnonzero(whole)
        row, p, q = row[keep], a[keep, :2] / a[keep, 2:], b[keep, :2] / b[keep, 2:]
        far = np.flatnonzero(self._may_stick_out(row, p, q, self.pixels(row, p), self.pixels(row, q)))
        for i in range(0, len(far), _CHUNK):
            part = far[i : i + _CHUNK]
            self._follow(row[part], p[part], q[part])

    def _seen_part(self, row: I64, a: F64, b: F64) -> tuple[F64, F64]:
        """Where along a → b (0 to 1) lies what is before the near plane and in the field: both are convex."""
        lens, d = self.lens[row], b - a
        near, square = self.near[lens], self.reach[lens] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (near - a[:, 2]) / d[:, 2]
        rising = d[:, 2] > 0
        low = np.where(rising, np.maximum(t, 0.0), 0.0)
        high = np.where(d[:, 2] < 0, np.minimum(t, 1.0), 1.0)
        high = np.where((d[:, 2] == 0) & (a[:, 2] < near), -1.0, high)
        # In the field: (x² + y²) - reach² z² ≤ 0 along the edge, a quadratic in t; z > 0 is seen to above.
        qa = d[:, 0] ** 2 + d[:, 1] ** 2 - square * d[:, 2] ** 2
        qb = a[:, 0] * d[:, 0] + a[:, 1] * d[:, 1] - square * a[:, 2] * d[:, 2]
        qc = a[:, 0] ** 2 + a[:, 1] ** 2 - square * a[:, 2] ** 2
        root = qb * qb - qa * qc
        with np.errstate(divide="ignore", invalid="ignore"):
            s = np.sqrt(np.maximum(root, 0.0))
            one, two = (-qb - s) / qa, (-qb + s) / qa
            one, two = np.where(qa == 0, -qc / (2 * qb), one), np.where(qa == 0, -qc / (2 * qb), two)
        first, last = np.minimum(one, two), np.maximum(one, two)
        # qa > 0: between the roots. qa < 0: outside of them, on the side where z > 0.
        between = qa > 0
        forward = np.where(between, False, d[:, 2] > 0)
        low = np.where(between, np.maximum(low, first), np.where(forward, np.maximum(low, last), low))
        high = np.where(between, np.minimum(high, last), np.where(forward, high, np.minimum(high, first)))
        high = np.where(between & (root < 0), -1.0, high)
        return np.nan_to_num(low, nan=1.0), np.nan_to_num(high, nan=0.0)

    def _may_stick_out(self, row: I64, p: F64, q: F64, start: F64, stop: F64) -> NDArray[np.bool_]:
        """Which edges' curves may leave their row's box: by the bound on how far they bulge.

        `start` and `stop` are the pixels of their ends p and q.
        """
        lens = self.lens[row]
        out = np.zeros(len(row), bool)
        for number in np.unique(lens):
            here = np.flatnonzero(lens == number)
            reach = self.reach[number]
            table = models.bulge(int(self.kind[number]), self.c[number], reach)
            radius = np.maximum(np.linalg.norm(p[here], axis=1), np.linalg.norm(q[here], axis=1))
            step = np.minimum(np.ceil(radius / reach * models.STEPS).astype(int), models.STEPS)
            bulge = np.sum((p[here] - q[here]) ** 2, axis=1) / 8 * table[step]
            over = bulge[:, None] * np.abs(self.k[number, :2, :2]).sum(1) - 1e-6
            box = self.box[row[here]]
            out[here] = np.any(np.minimum(start[here], stop[here]) - over < box[:, :2], axis=1)
            out[here] |= np.any(np.maximum(start[here], stop[here]) + over > box[:, 2:], axis=1)
        return out

    def _follow(self, row: I64, p: F64, q: F64) -> None:
        t = np.linspace(0.0, 1.0, PIECES + 1)[:, None, None]
        xy = self.pixels(np.tile(row, PIECES + 1), (p + t * (q - p)).reshape(-1, 2)).reshape(
            PIECES + 1, -1, 2
        )
        self.grow(np.tile(row, PIECES + 1), xy.reshape(-1, 2))
        for sign in (1, -1):
            v = sign * xy
            top = np.clip(v.argmax(axis=0), 1, PIECES - 1)
            left, mid, right = (np.take_along_axis(v, top[None] + o, 0)[0] for o in (-1, 0, 1))
            bend = 2 * mid - left - right
            peak = mid + (right - left) ** 2 / (8 * np.where(bend > 0, bend, np.inf))
            self.grow(row, sign * np.where((mid >= left) & (mid >= right), peak, mid))

    def rims(self, row: I64, corners: F64) -> None:
        """Take in the field's rim where triangles (m, 3, 3) of rows cover it, before the near plane."""
        angle = np.linspace(0.0, 2 * np.pi, RIM, endpoint=False)
        for r in np.unique(row):
            number = self.lens[r]
            if not np.isfinite(self.reach[number]):
                continue
            at = self.reach[number] * np.stack([np.cos(angle), np.sin(angle)], -1)
            ray = np.concatenate([at, np.ones((RIM, 1))], 1)
            mine = corners[row == r]
            a, b, c = mine[:, 0], mine[:, 1], mine[:, 2]
            sides = [ray @ np.cross(u, v).T for u, v in ((a, b), (b, c), (c, a))]
            within = np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)
            plane = np.cross(b - a, c - a)
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = np.einsum("fi,fi->f", plane, a) / (ray @ plane.T)
            hit = np.any(within & (depth >= self.near[number]) & np.isfinite(depth), axis=1)
            many = np.full(int(hit.sum()), r)
            self.grow(many, self.pixels(many, at[hit]))
