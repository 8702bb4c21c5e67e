"""Mitsuba 3 as a renderer: light by path tracing, labels by its own rays through pixel centres.

An independent reference for the raster renderer, and a photoreal tier. It shares with it the `SceneBatch`,
the picture behind everything, and nothing else. What differs on purpose: light travels on from surface to
surface, glowing materials light the scene, and the sun always casts shadows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imgsynth.batch import F32, SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.frame import Buffers
from imgsynth.render.dress import Dresser
from imgsynth.render.mitsuba_rays import base_color, facing, trace
from imgsynth.render.mitsuba_scene import FrameScene, engine
from imgsynth.render.mitsuba_sensor import sensor
from imgsynth.render.reference import (
    Cells,
    Mask,
    backdrops,
    frame_seed,
    refuse_outputs,
    refuse_unknown,
    silhouettes,
)

DRAWN = {
    "": {"indices", "size", "classes", "cameras", "lights", "ground", "backgrounds", "materials", "textures",
         "meshes", "instances", "outputs", "report"},
    "cameras": {"k", "world_from_camera", "near", "lens"},
    "lights": {"sun_direction", "sun_irradiance", "sun_radius", "ambient", "shadows", "lamps", "samples",
               "seed", "occlusion", "environments"},

    "materials": {"base_color", "metallic", "roughness", "emission", "texture", "uv_scale", "alpha_cutoff",
                  "normal_texture", "normal_scale", "surface_texture", "emission_texture", "clearcoat",
                  "clearcoat_roughness", "pattern", "patterns", "layer_range", "layers"},

}  # fmt: skip


class MitsubaRenderer:
    """Renders batches by path tracing (`scalar_rgb`, one thread: use processes).

    Args:
        paths: light paths a pixel; rounded up to a multiple of the colour samples asked for.
        max_depth: most segments of a path: 1 what glows, 2 direct light, 3 one bounce, …

    Raises:
        ImgsynthError: Mitsuba is not installed, or an argument is out of range.
    """

    def __init__(self, paths: int = 64, max_depth: int = 6):
        if paths < 1 or max_depth < 1:
            raise ImgsynthError(f"expected paths ≥ 1 and max_depth ≥ 1, got {paths} and {max_depth}")
        self.mi = engine()
        self.paths, self.max_depth = paths, max_depth

    def accepts(self, batch: SceneBatch) -> None:
        """Refuse what cannot be drawn. Raises ImgsynthError."""
        refuse_unknown(batch, "mitsuba", DRAWN)
        refuse_outputs(batch, "mitsuba", frozenset(("albedo",)))

    def render(self, batch: SceneBatch, samples: int = 1, detail: int = 1) -> Buffers:
        """Draw all frames; see `Renderer.render`. `detail` is met anyway: each sample is lit by itself.

        Raises:
            ImgsynthError: the batch uses what this renderer does not draw.
        """
        k = math.isqrt(max(samples, 0))
        if k * k != samples or not 1 <= k <= 8:
            raise ImgsynthError(f"samples: expected a perfect square from 1 to 64, got {samples}")
        self.accepts(batch)
        n, (h, w) = len(batch), batch.size
        color = backdrops(batch, samples)
        depth = np.full((n, h, w), np.inf, np.float32)
        normal = np.zeros((n, h, w, 3), np.float32)
        instance = np.zeros((n, h, w), np.int32)
        albedo = np.zeros((n, h, w, 3), np.float32) if "albedo" in batch.outputs else None
        bsdfs: dict[Any, Any] = {}
        dresser = Dresser(batch)
        scenes = [FrameScene(batch, f, self.mi, dresser, bsdfs) for f in range(n)]
        for f, scene in enumerate(scenes):
            if not scene.parts:
                continue
            color[f] = self._color(scene, Cells.of_image(batch.size, k), color[f])
            hits = trace(scene, Cells.of_image(batch.size))
            hit = hits.part >= 0
            depth[f][hit] = hits.position[..., 2][hit] / scene.unit
            normal[f] = facing(scene, hits)
            ids = np.array([*(batch.instances.id[p.row] if p.row >= 0 else 0 for p in scene.parts), 0])
            instance[f] = ids[hits.part]
            if albedo is not None:
                albedo[f] = base_color(scene, hits)

        def alone(row: int, cells: Cells) -> Mask:
            return trace(scenes[int(batch.instances.frame[row])], cells, row).part >= 0

        shapes = silhouettes(batch, alone)
        return Buffers(color, k, depth, normal, instance, shapes.masks, shapes.total, shapes.boxes, albedo)

    def _color(self, scene: FrameScene, cells: Cells, behind: F32) -> F32:
        """(H·k, W·k, 3) radiance: paths through the frame, over what lies behind it.

        Light adds up: what parts shine with is drawn apart, as Mitsuba would hide it with all other emitters
        that the camera must not see.
        """
        batch, f = scene.batch, scene.frame
        each = max(1, -(-self.paths * batch.size[0] * batch.size[1] // (cells.width * cells.height)))
        near = float(batch.cameras.near[f]) * scene.unit
        film = sensor(self.mi, batch.cameras, f, cells, near, each, False)
        seed = frame_seed(batch, f)
        # Paths of one segment see no light but what glows; Mitsuba takes them to see nothing at all.
        lit = self._paths(scene.lit(), film, max(self.max_depth, 2), True, seed)
        out = lit[..., :3] * (self.max_depth > 1) + (1.0 - lit[..., 3:]) * behind
        if scene.glows:
            out = out + self._paths(scene.aglow(), film, self.max_depth, False, seed)[..., :3]
        return out.astype(np.float32)

    def _paths(self, scene: Any, film: Any, max_depth: int, hide: bool, seed: int) -> F32:
        """RGBA of a render; emitters seen directly are left out where `hide`."""
        path = {"type": "path", "max_depth": max_depth, "rr_depth": 1000, "hide_emitters": hide,
                "block_size": 32}  # fmt: skip
        image = self.mi.render(scene, integrator=self.mi.load_dict(path), sensor=film, seed=seed, spp=0)
        return np.array(image, np.float32)
