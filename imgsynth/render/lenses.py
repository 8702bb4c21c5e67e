"""Host side of lenses: the distinct lenses of a run of frames, and tables of what their samples see."""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth import lens as models
from imgsynth.batch import F64, I32, I64, Cameras
from imgsynth.render.arrays import Placement, pack
from imgsynth.render.bending import LensData, lay
from imgsynth.render.curved import Bent
from imgsynth.render.memory import Memory
from imgsynth.render.projection import spans


class Lenses:
    """The lenses of some frames.

    Attributes:
        of_frame: (n,) number of each frame's lens, -1 for a pinhole.
    """

    def __init__(self, memory: Memory, cameras: Cameras, frames: slice):
        self.memory = memory
        lens = cameras.lens
        n = frames.stop - frames.start
        self.of_frame: I32 = np.full(n, -1, np.int32)
        bent = np.zeros(n, bool) if lens is None else lens.kind[frames] != models.PINHOLE
        self.count = 0
        if lens is None or not bent.any():
            return
        here = np.flatnonzero(bent) + frames.start
        table = np.concatenate(
            [lens.kind[here, None], lens.coefficients[here], cameras.k[here].reshape(-1, 9)], 1
        )
        distinct, number = np.unique(table, axis=0, return_inverse=True)
        self.of_frame[bent] = number.reshape(-1)
        self.count = len(distinct)
        kind, c, k = distinct[:, 0].astype(np.int32), distinct[:, 1:9], distinct[:, 9:].reshape(-1, 3, 3)
        reach = np.array([models.reach(int(a), b) for a, b in zip(kind, c, strict=True)])
        bulge = [models.bulge(int(a), b, r) for a, b, r in zip(kind, c, reach, strict=True)]
        self.key = distinct.tobytes()
        self.data = memory.up(
            pack(LensData, kind=kind, c=c, reach=reach, k=k, inverse_k=np.linalg.inv(k)), LensData
        )
        self.bulge = memory.up(np.stack(bulge), wp.float64)

    def points(self, size: tuple[int, int], k: int) -> tuple[Any, F64]:
        """Straight points of k×k samples a pixel, lens after lens, and each lens's bounds (count, 4).

        The last two tables are kept: most scenes have one lens.
        """
        kept, key = self.memory.kept, ("lens", k, size, self.key)
        if key not in kept:
            for old in [o for o in kept if o[:2] == key[:2]]:
                del kept[old]
            samples = size[0] * size[1] * k * k
            every = np.arange(self.count)
            kept[key] = self._lay(
                every.astype(np.int32), base=every * samples, map=np.tile([k, 0.0, k, 0.0], (self.count, 1)),
                columns=np.full(self.count, size[1] * k), lines=np.full(self.count, size[0] * k),
            )  # fmt: skip
        found: tuple[Any, F64] = kept[key]
        return found

    def _lay(self, lens_of: I32, **places: Any) -> tuple[Any, F64]:
        lines = np.asarray(places["lines"], np.int64)
        total = int(np.max(places["base"] + lines * places["columns"], initial=1))
        points = self.memory.empty((total,), wp.vec2d)
        bounds = self.memory.up(np.tile([1e300, 1e300, -1e300, -1e300], (len(lens_of), 1)), wp.float64)
        items = np.stack(spans(lines), axis=1).astype(np.int32)
        up = self.memory.up
        if len(items):
            wp.launch(
                lay,
                dim=len(items),
                inputs=[
                    self.data, up(lens_of, wp.int32), up(pack(Placement, **places), Placement),
                    up(items, wp.vec2i), points, bounds,
                ],
                device=self.memory.device,
            )  # fmt: skip
        return points, self.memory.down(bounds)

    def samples(self, rows: I64, size: tuple[int, int], k: int) -> Any:
        """`Bent` of rows (R,), which are frames' numbers, for k×k samples a pixel."""
        lens_of = self.of_frame[rows]
        points, bounds = self.points(size, k)
        start = np.maximum(lens_of, 0).astype(np.int64) * (size[0] * size[1] * k * k)
        return self._bent(lens_of, start, bounds[np.maximum(lens_of, 0)], points)

    def grids(self, rows: I64, which: NDArray[np.bool_], places: dict[str, Any]) -> Any:
        """`Bent` of rows (R,), frames' numbers, for samples of their own `places`, laid out for some rows."""
        lens_of, some = self.of_frame[rows], np.flatnonzero(which)
        points, bounds = self._lay(lens_of[some], **{a: np.asarray(v)[some] for a, v in places.items()})
        every = np.zeros((len(rows), 4))
        every[some] = bounds
        return self._bent(lens_of, np.asarray(places["base"], np.int64), every, points)

    def _bent(self, lens_of: I32, start: I64, bounds: F64, points: Any) -> Any:
        bent: Any = Bent()
        bent.lenses, bent.bulge, bent.points = self.data, self.bulge, points
        bent.lens_of = self.memory.up(lens_of, wp.int32)
        bent.start = self.memory.up(start, wp.int64)
        bent.bounds = self.memory.up(bounds, wp.float64)
        return bent
