"""The default renderer: a visibility buffer and deferred shading in Warp, a batch of frames per launch.

What it promises beside the `Renderer` protocol:

- Labels do not depend on `samples`: with more than one colour sample a pixel they come from a pass of their own.
- A frame's bytes do not depend on its batch; depth ties go to the instance and triangle that come first.
- Closed meshes are culled by winding, so a closed object cut by the near plane shows no inside; two-sided ones
  show both sides. A one-sided open mesh casts shadows only with faces turned from the sun.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.batch import F64, SceneBatch
from imgsynth.color import srgb_to_linear
from imgsynth.errors import ImgsynthError
from imgsynth.frame import AmodalMasks, Buffers
from imgsynth.render import amodal, setup
from imgsynth.render.arrays import Geometry, Target, View
from imgsynth.render.memory import Memory
from imgsynth.render.projection import projected_boxes
from imgsynth.render.shading import shade
from imgsynth.render.visibility import COLOR, LABEL, SHADOW, SILHOUETTE, project, rasterize

BLOCK = 64
"""Triangles (or vertices) that one CPU work item walks through; a GPU gets one each."""
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass
class _Out:
    """Output arrays of a whole batch; rounds fill slices."""

    color: Any
    depth: Any
    normal: Any
    instance: Any


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
        self.shadow_size = shadow_size
        self.scratch_bytes = scratch_bytes
        self.stages: dict[str, float] = {}
        self.profile = False

    def render(self, batch: SceneBatch, samples: int = 1) -> Buffers:
        """Draw all frames; see `Renderer.render`."""
        k = math.isqrt(max(samples, 0))
        if k * k != samples or not 1 <= k <= 8:
            raise ImgsynthError(f"samples: expected a perfect square from 1 to 64, got {samples}")
        n, (height, width) = len(batch), batch.size
        mem = self.memory
        out = _Out(
            mem.empty((n * height * k * width * k,), wp.vec3),
            mem.empty((n * height * width,), wp.float32),
            mem.empty((n * height * width,), wp.vec3),
            mem.empty((n * height * width,), wp.int32),
        )
        shadow = self._shadow_size(batch)
        meshes = self._geometry(batch)
        per_frame = self._frame_bytes(batch, k, shadow)
        step = max(1, int(self.scratch_bytes // per_frame))
        rounds = [
            _Round(self, setup.Run(batch, lo, min(lo + step, n)), meshes, out, k, shadow).draw()
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
        )

    def _shadow_size(self, batch: SceneBatch) -> int:
        if self.shadow_size is not None:
            return self.shadow_size
        return int(np.clip(2 ** math.ceil(math.log2(2 * max(batch.size))), 64, 512))

    def _frame_bytes(self, batch: SceneBatch, k: int, shadow: int) -> float:
        pixels = batch.size[0] * batch.size[1]
        faces = np.diff(batch.meshes.face_start)[batch.instances.mesh].sum() / max(len(batch), 1)
        return float(
            pixels * 8 * (k * k + (k > 1))
            + 4 * shadow * shadow * bool(batch.lights.shadows.any())
            + 30 * faces
        )

    def _geometry(self, batch: SceneBatch) -> dict[str, Any]:
        """Fields of `Geometry` that all rounds of a batch share."""
        up, pool, mat, tex = self.memory.up, batch.meshes, batch.materials, batch.textures
        return {
            "vertices": up(pool.vertices, wp.vec3),
            "normals": up(pool.normals, wp.vec3),
            "uv": up(pool.uv, wp.vec2),
            "faces": up(pool.faces, wp.vec3i),
            "slots": up(pool.slots, wp.int32),
            "base_color": up(mat.base_color, wp.vec3),
            "emission": up(mat.emission, wp.vec3),
            "metallic": up(mat.metallic, wp.float32),
            "roughness": up(mat.roughness, wp.float32),
            "texture": up(mat.texture, wp.int32),
            "uv_scale": up(mat.uv_scale, wp.vec2),
            "alpha_cutoff": up(mat.alpha_cutoff, wp.float32),
            "texels": up(np.ascontiguousarray(tex.texels).view("<u4").reshape(-1), wp.uint32),
            "first_level": up(tex.first_level, wp.int32),
            "level_start": up(tex.level_start, wp.int64),
            "level_size": up(tex.level_size, wp.vec2i),
            "srgb": up(srgb_to_linear(np.arange(256) / 255.0).astype(np.float32), wp.float32),
        }


class _Round:
    """One run of frames through all stages."""

    def __init__(
        self, renderer: RasterRenderer, run: setup.Run, meshes: dict[str, Any], out: _Out, k: int, shadow: int
    ):  # fmt: skip
        self.renderer, self.mem, self.run, self.out, self.k, self.shadow = (
            renderer, renderer.memory, run, out, k, shadow,
        )  # fmt: skip
        self.size = run.batch.size
        self.tables = setup.row_tables(run)
        self.count = len(self.tables["row_frame"])
        self.frame = self.tables["row_frame"]
        self.matrices = setup.views(run, self.frame)
        self.block = BLOCK if self.mem.cpu else 1
        self.geo = self._geometry(meshes)
        self.linear = self.mem.up(self.matrices["linear"], wp.mat33d)
        self.offset = self.mem.up(self.matrices["offset"], wp.vec3d)
        self._clock = time.perf_counter()

    def draw(self) -> _Round:
        """Run the stages; results are in `box`, `window`, `sizes`, `marks`, `total` and the output arrays."""
        self._stage("setup")
        self.box = self._project_camera()
        self.window, start = amodal.windows(self.box, self.size)
        self.sizes = np.diff(start)
        self._stage("vertex")
        view_light = self._shadows()
        self._stage("shadow")
        view = self._view(view_light)
        keys, marks = self._visibility(LABEL, 1, start)
        self._stage("visibility")
        view.keys, view.samples = keys, 1
        self._shade(view, 2 if self.k == 1 else 1)
        self._stage("shading" if self.k == 1 else "labels")
        self.marks = self.mem.down(marks, int(start[-1])).copy()
        self.total = amodal.counts(self.marks, start) + self._outside()
        self._stage("amodal")
        if self.k > 1:
            view.keys, view.samples = self._visibility(COLOR, self.k, start)[0], self.k
            self._stage("visibility")
            self._shade(view, 0)
            self._stage("shading")
        return self

    def _stage(self, name: str) -> None:
        if not self.renderer.profile:
            return
        wp.synchronize_device(self.mem.device)
        now = time.perf_counter()
        self.renderer.stages[name] = self.renderer.stages.get(name, 0.0) + now - self._clock
        self._clock = now

    def _geometry(self, meshes: dict[str, Any]) -> Any:
        geo: Any = Geometry()
        up, tables = self.mem.up, self.tables
        for name, array in meshes.items():
            setattr(geo, name, array)
        for name in (
            "first_vertex",
            "first_face",
            "first_out",
            "first_id",
            "two_sided",
            "cutout",
            "materials",
        ):
            setattr(geo, name, up(tables[name], wp.int32))
        geo.near = up(tables["near"], wp.float64)
        geo.flip = up(tables["flip"], wp.float64)
        return geo

    def _project(
        self, linear: Any, offset: Any, perspective: int, name: str
    ) -> tuple[Any, F64, NDArray[np.int32]]:
        """Projected vertices, (R, 4) bounds and (R,) flags of rows with vertices before the near plane."""
        mem, counts = self.mem, self.tables["vertices"]
        projected = mem.scratch(name, int(counts.sum()), wp.vec3d)
        box = np.tile(np.array([1e300, 1e300, -1e300, -1e300]), (self.count, 1))
        bounds, behind = mem.up(box, wp.float64), mem.up(np.zeros(self.count, np.int32), wp.int32)
        items = setup.blocks(counts, np.ones(self.count, bool), self.block)
        self._launch(
            project, len(items), [self.geo, mem.up(items, wp.vec3i), linear, offset, perspective, projected, bounds, behind]
        )  # fmt: skip
        return projected, mem.down(bounds), mem.down(behind)

    def _project_camera(self) -> F64:
        """(R, 4) exact projected boxes, NaN where nothing lies before the near plane."""
        self.projected, box, behind = self._project(self.linear, self.offset, 1, "projected")
        cut = np.flatnonzero(behind)
        if len(cut):
            box[cut] = projected_boxes(self.run.batch, cut + self.run.rows.start)
        return box

    def _launch(self, kernel: Any, count: int, inputs: list[Any]) -> None:
        if count:
            wp.launch(kernel, dim=count, inputs=inputs, device=self.mem.device)

    def _rasterize(
        self, target: Any, keep: NDArray[np.bool_], projected: Any, linear: Any, offset: Any
    ) -> None:
        items = setup.blocks(self.tables["triangles"], keep, self.block)
        inputs = [self.geo, target, self.mem.up(items, wp.vec3i), projected, linear, offset]
        self._launch(rasterize, len(items), inputs)

    def _target(self, mode: int, affine: F64, base: Any, extent: Any) -> Any:
        target: Any = Target()
        up = self.mem.up
        target.mode, target.perspective = mode, int(mode != SHADOW)
        target.map = up(affine, wp.vec4d)
        target.base = up(base, wp.int64)
        target.extent = up(extent, wp.vec2i)
        return target

    def _visibility(self, mode: int, k: int, start: Any) -> tuple[Any, Any]:
        """Keys of k×k samples a pixel and, for LABEL, the amodal windows' bytes."""
        height, width = self.size
        samples = height * width * k * k
        affine = np.tile(np.array([k, 0.0, k, 0.0], np.float64), (self.count, 1))
        extent = np.tile(np.array([width * k, height * k], np.int32), (self.count, 1))
        target = self._target(mode, affine, self.frame * samples, extent)
        target.keys = self.mem.scratch(f"keys{mode}", self.run.frames * samples, wp.uint64, EMPTY)
        target.marks = self.mem.scratch("marks", int(start[-1]) if mode == LABEL else 0, wp.uint8, 0)
        target.window = self.mem.up(self.window, wp.vec4i)
        target.window_start = self.mem.up(start[:-1], wp.int64)
        seen = self.sizes > 0
        self._rasterize(target, seen, self.projected, self.linear, self.offset)
        return target.keys, target.marks

    def _outside(self) -> F64:
        """(R,) area of each silhouette outside the frame, pixels²."""
        rows = amodal.crossing(self.box, self.size)
        if not rows.any():
            return np.zeros(self.count)
        grids = amodal.Grids(self.box, rows, self.size)
        target = self._target(SILHOUETTE, grids.affine, grids.start[:-1], grids.extent)
        target.marks = self.mem.scratch("outside", int(grids.start[-1]), wp.uint8, 0)
        target.window = self.mem.up(grids.frame, wp.vec4i)
        self._rasterize(target, rows, self.projected, self.linear, self.offset)
        return grids.areas(self.mem.down(target.marks))

    def _shadows(self) -> dict[str, Any]:
        """Fields of `View` about shadow maps."""
        mem, rows = self.mem, self.count
        light = mem.up(self.matrices["light"], wp.mat33d)
        offset = mem.up(self.matrices["light_offset"], wp.vec3d)
        fields: dict[str, Any] = {
            "light": light,
            "light_offset": offset,
            "height": mem.scratch("height", 0, wp.float32),
        }
        lights = self.run.batch.lights
        if not rows or not lights.shadows[self.run.lo : self.run.hi].any():
            frames = self.run.frames
            view = {
                "shadow_map": np.ones((frames, 4), np.float32),
                "shadow_base": np.full(frames, -1, np.int64),
            }
        else:
            projected, box, _ = self._project(light, offset, 0, "lit")
            to, view = setup.shadow_maps(self.run, self.frame, box, self.shadow)
            target = self._target(SHADOW, to["map"], to["base"], to["extent"])
            texels = int((view["shadow_base"] >= 0).sum()) * self.shadow**2
            target.height = fields["height"] = mem.scratch("height", texels, wp.float32, -np.inf)
            self._rasterize(target, to["base"] >= 0, projected, light, offset)
        fields["shadow_map"] = mem.up(view["shadow_map"], wp.vec4)
        fields["shadow_base"] = mem.up(view["shadow_base"], wp.int64)
        return fields

    def _view(self, light: dict[str, Any]) -> Any:
        view: Any = View()
        up, m, part = self.mem.up, self.matrices, slice(self.run.lo, self.run.hi)
        height, width = self.size
        view.size, view.rows, view.shadow_size = wp.vec2i(width, height), self.count, self.shadow
        lights, back = self.run.batch.lights, self.run.batch.backgrounds
        for name, value in light.items():
            setattr(view, name, value)
        view.first_row = up(self.tables["first_row"], wp.int32)
        for name, dtype in (
            ("origin", wp.vec3d), ("ray", wp.mat33d), ("normal", wp.mat33), ("camera_ray", wp.mat33), ("sun", wp.vec3),
            ("light_from_camera", wp.mat33), ("ground", wp.vec3d), ("ground_height", wp.float64),
        ):  # fmt: skip
            setattr(view, name, up(m[name], dtype))
        view.inverse_near = up((1.0 / self.run.batch.cameras.near[part]).astype(np.float32), wp.float32)
        view.irradiance = up(lights.sun_irradiance[part], wp.vec3)
        view.ambient = up(lights.ambient[part], wp.vec3)
        view.background = up(back.kind[part], wp.int32)
        view.color_a = up(back.color_a[part], wp.vec3)
        view.color_b = up(back.color_b[part], wp.vec3)
        view.noise_scale = up(back.scale[part], wp.float32)
        view.noise_seed = up(back.seed[part], wp.uint32)
        view.photo = up(back.texture[part], wp.int32)
        view.photo_window = up(back.window[part], wp.vec4)
        return view

    def _shade(self, view: Any, labels: int) -> None:
        """Launch shading: colour only (0), labels only (1), both (2)."""
        height, width = self.size
        pixels, first = self.run.frames * height * width, self.run.lo * height * width
        span = width if self.mem.cpu else 1
        k2 = self.k * self.k
        color = self.out.color[first * k2 : (first + pixels) * k2]
        depth, normal, ids = (
            a[first : first + pixels] for a in (self.out.depth, self.out.normal, self.out.instance)
        )
        table = self.mem.up(self.tables["ids"], wp.int32)
        self._launch(shade, pixels // span, [self.geo, view, labels, color, depth, normal, ids, table, span])
