"""The default renderer: a visibility buffer and deferred shading in Warp, a batch of frames per launch.

What it promises beside the `Renderer` protocol:

- Labels do not depend on `samples`: with more than one a pixel they come from a pass of their own.
- A frame's bytes do not depend on its batch; depth ties go to the instance and triangle that come first.
- Closed meshes are culled by winding, so one cut by the near plane shows no inside; two-sided ones show
  both sides. Shadows are cast by faces turned from the sun, so an open mesh should be two-sided.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.frame import AmodalMasks, Buffers
from imgsynth.render import amodal, finishes, lightdata, setup, shadows
from imgsynth.render.arrays import FrameData, Geometry, Row, View, pack
from imgsynth.render.finish import plain_matter, rich_matter
from imgsynth.render.lenses import Lenses
from imgsynth.render.memory import Memory
from imgsynth.render.passes import Passes
from imgsynth.render.projection import projected_boxes
from imgsynth.render.shading import BOTH, COLORS, LABELS, backdrop, shade_kernel, sunlit
from imgsynth.render.visibility import COLOR, LABEL, SILHOUETTE

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass
class _Out:
    """Output arrays of a whole batch; rounds fill slices."""

    color: Any
    depth: Any
    normal: Any
    instance: Any
    albedo: Any  # None where not asked for


class RasterRenderer:
    """Renders batches on one device.

    Args:
        device: "cpu", "cuda" or "cuda:1".
        shadow_size: texels a side of each frame's shadow map; by default twice the image, 64 to 512.
        scratch_bytes: working memory to aim at; frames are drawn in rounds of so many as fit.

    Raises:
        ImgsynthError: no such device.
    """

    def __init__(self, device: str = "cpu", shadow_size: int | None = None, scratch_bytes: int = 48 << 20):
        self.memory = Memory(device)
        self.maps = lightdata.Maps(self.memory)
        self.shadow_size = shadow_size
        self.scratch_bytes = scratch_bytes
        self.stages: dict[str, float] = {}
        self.profile = False

    def render(self, batch: SceneBatch, samples: int = 1, detail: int = 1) -> Buffers:
        """Draw all frames; see `Renderer.render`."""
        k = math.isqrt(max(samples, 0))
        if k * k != samples or not 1 <= k <= 8:
            raise ImgsynthError(f"samples: expected a perfect square from 1 to 64, got {samples}")
        if detail < 1 or k % detail:
            raise ImgsynthError(f"detail: expected a divisor of {k}, the samples' root, got {detail}")
        n, (height, width) = len(batch), batch.size
        mem = self.memory
        out = _Out(
            mem.empty((n * height * k * width * k,), wp.vec3),
            mem.empty((n * height * width,), wp.float32),
            mem.empty((n * height * width,), wp.vec3),
            mem.empty((n * height * width,), wp.int32),
            mem.empty((n * height * width,), wp.vec3) if "albedo" in batch.outputs else None,
        )
        shadow = self._shadow_size(batch)
        meshes = self._geometry(batch)
        lit = lightdata.needs(batch)
        occluders = lightdata.begin(mem, self.maps, batch, meshes) if lit else None
        per_frame = self._frame_bytes(batch, k, shadow)
        step = max(1, int(self.scratch_bytes // per_frame))
        rounds = [
            _Round(
                self, setup.Run(batch, lo, min(lo + step, n)), meshes, out, (k, detail), shadow, occluders
            ).draw()
            for lo in range(0, n, step)
        ]
        size = np.concatenate([r.sizes for r in rounds]) if rounds else np.zeros(0, np.int64)
        return Buffers(
            color=mem.down(out.color).reshape(n, height * k, width * k, 3),
            supersample=k,
            depth=mem.down(out.depth).reshape(n, height, width),
            normal=mem.down(out.normal).reshape(n, height, width, 3),
            instance=mem.down(out.instance).reshape(n, height, width),
            amodal=AmodalMasks(
                window=np.concatenate([r.window for r in rounds]) if rounds else np.zeros((0, 4), np.int32),
                start=amodal.offsets(size),
                data=np.concatenate([r.marks for r in rounds]) if rounds else np.zeros(0, np.uint8),
            ),
            amodal_total=np.concatenate([r.total for r in rounds]) if rounds else np.zeros(0),
            boxes=np.concatenate([r.box for r in rounds]) if rounds else np.zeros((0, 4)),
            albedo=None if out.albedo is None else mem.down(out.albedo).reshape(n, height, width, 3),
        )

    def _shadow_size(self, batch: SceneBatch) -> int:
        if self.shadow_size is not None:
            return self.shadow_size
        return int(np.clip(2 ** math.ceil(math.log2(2 * max(batch.size))), 64, 512))

    def _frame_bytes(self, batch: SceneBatch, k: int, shadow: int) -> float:
        pixels = batch.size[0] * batch.size[1]
        faces = np.diff(batch.meshes.face_start)[batch.instances.mesh].sum() / max(len(batch), 1)
        return float(
            pixels * (8 if batch.cameras.lens is None else 24) * (k * k + (k > 1))
            + 4 * shadow * shadow * (bool(batch.lights.shadows.any()) + lightdata.lamp_maps(batch))
            + 30 * faces
        )

    def _geometry(self, batch: SceneBatch) -> Any:
        """Meshes, materials and textures of a batch, which all its rounds share."""
        up, pool, mat = self.memory.up, batch.meshes, batch.materials
        geo: Any = Geometry()
        geo.vertices = up(pool.vertices, wp.vec3)
        geo.normals = up(pool.normals, wp.vec3)
        geo.uv = up(pool.uv, wp.vec2)
        geo.faces = up(pool.faces, wp.vec3i)
        geo.slots = up(pool.slots, wp.int32)
        finishes.upload(self.memory, geo, mat)
        finishes.upload_textures(self.memory, geo, batch.textures)
        return geo


class _Round:
    """One run of frames through all stages."""

    def __init__(
        self,
        renderer: RasterRenderer,
        run: setup.Run,
        geo: Any,
        out: _Out,
        grid: tuple[int, int],
        shadow: int,
        occluders: lightdata.Occluders | None,
    ):
        self.occluders = occluders
        self.clock = time.perf_counter()
        self.renderer, self.mem, self.run, self.out = renderer, renderer.memory, run, out
        self.k, self.detail = grid
        self.shadow, self.size = shadow, run.batch.size
        self.passes = Passes(self.mem)
        self.tables = setup.tables(run)
        self.frame = self.tables.frame
        self.count = len(self.frame)
        self.lenses = Lenses(self.mem, run.batch.cameras, slice(run.lo, run.hi))
        self.bent = self.lenses.of_frame[self.frame] >= 0  # rows
        self.geo = geo
        self.fields = setup.row_fields(run, self.tables)
        geo.rows = self.mem.up(pack(Row, **self.fields), Row)
        geo.slot_materials = self.mem.up(self.tables.slot_materials, wp.int32)

    def draw(self) -> _Round:
        """Run the stages; results are in `box`, `window`, `sizes`, `marks`, `total` and the output arrays."""
        self._stage("setup")
        self.box = self._project_camera()
        self.window, start = amodal.windows(self.box, self.size)
        self.sizes = np.diff(start)
        self._stage("vertex")
        view = self._view()
        self._stage("shadow")
        view.keys, marks = self._visibility(LABEL, 1, start)
        self._stage("visibility")
        self._shade(view, 1, 1, BOTH if self.k == 1 else LABELS)
        self._stage("shading" if self.k == 1 else "labels")
        self.marks = self.mem.down(marks, int(start[-1])).copy()
        self.total = amodal.counts(self.marks, start) + self._outside()
        self._stage("amodal")
        if self.k > 1:
            view.keys, _ = self._visibility(COLOR, self.k, start)
            self._stage("visibility")
            self._shade(view, self.k // self.detail, self.detail, COLORS)
            self._stage("shading")
        return self

    def _stage(self, name: str) -> None:
        if not self.renderer.profile:
            return
        wp.synchronize_device(self.mem.device)
        now = time.perf_counter()
        self.renderer.stages[name] = self.renderer.stages.get(name, 0.0) + now - self.clock
        self.clock = now

    def _project_camera(self) -> F64:
        """(R, 4) exact projected boxes, NaN where nothing lies before the near plane."""
        self.projected, box, behind = self.passes.project(self.geo, self.tables.vertices, True, "projected")
        cut = np.flatnonzero((behind != 0) | self.bent)
        if len(cut):
            box[cut] = projected_boxes(self.run.batch, cut + self.run.rows.start)
        return box

    def _rasterize(self, target: Any, keep: NDArray[np.bool_], bent: Any = None) -> None:
        """Draw rows as the camera sees them into a target: straight, or through their lenses."""
        self.passes.rasterize(self.geo, target, self.tables.triangles, keep, self.projected, bent)

    def _visibility(self, mode: int, k: int, start: I64) -> tuple[Any, Any]:
        """Keys of k×k samples a pixel and, for LABEL, the amodal windows' bytes."""
        height, width = self.size
        samples = height * width * k * k
        target = self.passes.target(
            mode,
            True,
            base=self.frame * samples,
            map=np.tile([k, 0.0, k, 0.0], (self.count, 1)),
            columns=np.full(self.count, width * k),
            lines=np.full(self.count, height * k),
            window=self.window,
            window_start=start[:-1],
        )
        target.keys = self.mem.scratch(f"keys{mode}", self.run.frames * samples, wp.uint64, EMPTY)
        target.marks = self.mem.scratch("marks", int(start[-1]) if mode == LABEL else 0, wp.uint8, 0)
        self._rasterize(target, (self.sizes > 0) & ~self.bent)
        if self.lenses.count:
            bent = self.lenses.samples(self.frame, self.size, k)
            self._rasterize(target, (self.sizes > 0) & self.bent, bent)
        return target.keys, target.marks

    def _outside(self) -> F64:
        """(R,) area of each silhouette outside the frame, pixels²."""
        rows = amodal.crossing(self.box, self.size)
        if not rows.any():
            return np.zeros(self.count)
        grids = amodal.Grids(self.box, rows, self.size)
        places = {
            "base": grids.start[:-1],
            "map": grids.affine,
            "columns": grids.extent[:, 0],
            "lines": grids.extent[:, 1],
            "window": grids.frame,
        }
        target = self.passes.target(SILHOUETTE, True, **places)
        target.marks = self.mem.scratch("outside", int(grids.start[-1]), wp.uint8, 0)
        self._rasterize(target, rows & ~self.bent)
        if np.any(rows & self.bent):
            bent = self.lenses.grids(self.frame, rows & self.bent, places)
            self._rasterize(target, rows & self.bent, bent)
        return grids.areas(self.mem.down(target.marks))

    def _view(self) -> Any:
        """What shading reads, shadow maps included."""
        view: Any = View()
        view.height, view.width = self.size
        view.rows, view.shadow_size = self.count, self.shadow
        spheres = None if self.occluders is None else self.occluders.spheres
        cast = shadows.draw(self.passes, self.run, self.tables, self.fields, self.geo, view, spheres)
        fields = setup.frame_fields(self.run, self.tables, self.lenses.of_frame)
        view.frames = self.mem.up(pack(FrameData, **fields, **cast.sun), FrameData)
        self.lighting, self.behind = sunlit, backdrop
        if self.occluders is not None:
            from imgsynth.render.lighting import lit, lit_by_maps, surroundings

            self.lighting, self.behind = lit if self.occluders.rays else lit_by_maps, surroundings
            view.lighting = lightdata.lighting(self.mem, self.run, self.occluders, cast)
        return view

    def _shade(self, view: Any, samples: int, detail: int, fills: int) -> None:
        """Launch shading: COLORS, LABELS or BOTH."""
        height, width = self.size
        view.samples, view.detail = samples, detail
        view.per_frame = height * width * (samples * detail) ** 2
        if self.lenses.count:
            view.points, _ = self.lenses.points(self.size, samples * detail)
        else:
            view.points = self.mem.scratch("points", 0, wp.vec2d)
        pixels, first = self.run.frames * height * width, self.run.lo * height * width
        span = width * detail if self.mem.cpu else 1
        k2 = self.k * self.k
        color = self.out.color[first * k2 : (first + pixels) * k2]
        maps = (a[first : first + pixels] for a in (self.out.depth, self.out.normal, self.out.instance))
        cells = pixels * detail * detail
        base = self.out.albedo
        albedo = color[:0] if base is None else base[first : first + pixels]
        materials = self.run.batch.materials
        kernel = shade_kernel(
            fills,
            samples > 1,
            *(self.lighting, plain_matter if materials.plain else rich_matter),
            base is not None and fills != COLORS,
            bool(np.any(materials.clearcoat > 0)),
            self.behind,
            self.lenses.count > 0,
        )
        self.passes.launch(kernel, cells // span, [self.geo, view, color, *maps, albedo, span])
