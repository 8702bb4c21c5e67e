"""Launching the vertex stage and the visibility kernel: what passes of cameras and lights are drawn with."""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.render import setup
from imgsynth.render.arrays import Placement, Target, pack
from imgsynth.render.curved import rasterize_bent
from imgsynth.render.memory import Memory
from imgsynth.render.visibility import project, rasterize

BLOCK = 64
"""Triangles (or vertices) that one CPU work item walks through; a GPU gets one each."""


class Passes:
    """Launches on one device."""

    def __init__(self, memory: Memory):
        self.memory = memory
        self.block = BLOCK if memory.cpu else 1

    def launch(self, kernel: Any, count: int, inputs: list[Any]) -> None:
        """Run a kernel over `count` items, if there are any."""
        if count:
            wp.launch(kernel, dim=count, inputs=inputs, device=self.memory.device)

    def project(
        self, geo: Any, counts: I64, perspective: bool, name: str
    ) -> tuple[Any, F64, NDArray[np.int32]]:
        """Projected vertices of `geo.rows`, in scratch under a name; (R, 4) bounds; (R,) flags of rows with
        vertices before the near plane. `counts` (R,) says how many vertices each row has.
        """
        mem = self.memory
        projected = mem.scratch(name, int(counts.sum()), wp.vec3d)
        box = mem.up(np.tile(np.array([1e300, 1e300, -1e300, -1e300]), (len(counts), 1)), wp.float64)
        behind = mem.up(np.zeros(len(counts), np.int32), wp.int32)
        items = setup.blocks(counts, np.ones(len(counts), bool), self.block)
        inputs = [geo, mem.up(items, wp.vec3i), int(perspective), projected, box, behind]
        self.launch(project, len(items), inputs)
        return projected, mem.down(box), mem.down(behind)

    def target(self, mode: int, perspective: bool, **places: Any) -> Any:
        """A target of a pass, its arrays still empty; `places` are fields of `Placement` by row."""
        target: Any = Target()
        target.mode, target.perspective = mode, int(perspective)
        target.places = self.memory.up(pack(Placement, **places), Placement)
        return target

    def rasterize(
        self, geo: Any, target: Any, triangles: I64, keep: NDArray[np.bool_], projected: Any, bent: Any = None
    ) -> None:
        """Draw the rows of `geo` to `keep`, of so many triangles each, into a target: straight, or through
        their lenses.
        """
        items = self.memory.up(setup.blocks(triangles, keep, self.block), wp.vec3i)
        if bent is None:
            self.launch(rasterize, len(items), [geo, target, items, projected])
        else:
            self.launch(rasterize_bent, len(items), [geo, target, bent, items, projected])
