"""The shadow maps of a run of frames: one a frame for its sun, and those of its lamps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from imgsynth.batch import F64, I32, I64
from imgsynth.render import lampmaps, setup
from imgsynth.render.arrays import Geometry, Row, pack
from imgsynth.render.lightarrays import LampMap
from imgsynth.render.passes import Passes
from imgsynth.render.shadowmap import TILE, tile_heights
from imgsynth.render.visibility import SHADOW


@dataclass(frozen=True)
class _Lamps:
    """The lamps' maps, their casters as rows of a geometry of their own, and these projected."""

    maps: lampmaps.LampMaps
    geo: Any
    projected: Any
    scale: F64  # (Q, 4)
    base: I64  # (Q,)
    size: I32  # (Q,)


@dataclass(frozen=True)
class Shadows:
    """What shading reads of the shadow maps, beside the maps themselves in its `View`."""

    sun: setup.Arrays  # fields of `FrameData`
    lamps: lampmaps.LampMaps | None = None
    maps: Any = None  # LampMap by map


def draw(
    passes: Passes,
    run: setup.Run,
    tables: setup.Tables,
    fields: setup.Arrays,
    geo: Any,
    view: Any,
    spheres: F64 | None,
) -> Shadows:
    """Draw the shadow maps of a run into its `view`.

    Args:
        passes: of the device.
        run: the frames.
        tables: of the run.
        fields: of its `arrays.Row`s.
        geo: its geometry.
        view: with `shadow_size` texels a side of each map.
        spheres: (M, 4) bounds of the meshes; None where the batch has no lamps.
    """
    mem, size, lights = passes.memory, view.shadow_size, run.batch.lights
    sun, count = None, len(tables.frame)
    out: setup.Arrays = {"shadow_base": np.full(run.frames, -1)}
    texels = [0, 0]  # of maps of their own, of cubes
    if count and lights.shadows[run.lo : run.hi].any():
        projected, box, _ = passes.project(geo, tables.vertices, False, "lit")
        places, out = setup.shadow_maps(run, tables.frame, box, size)
        texels[0] = int((out["shadow_base"] >= 0).sum()) * size**2
        sun = projected, places
    lamps = None
    if count and spheres is not None and lampmaps.mapped(run).any():
        lamps = _lamps(passes, run, tables, fields, geo, size, texels[0], spheres)
        for k in range(2):
            texels[k] += int((lamps.size[(lamps.base >= 0) & (lamps.maps.cube == k)] ** 2).sum())
    view.heights = mem.scratch("heights", sum(texels), wp.float32, -np.inf)
    view.tiles = mem.scratch("tiles", sum(texels) // int(TILE) ** 2, wp.float32)
    if sun is not None:
        target = passes.target(SHADOW, False, **sun[1])
        target.height = view.heights
        passes.rasterize(geo, target, tables.triangles, sun[1]["base"] >= 0, sun[0])
    if lamps is not None:
        which = lamps.maps.map
        sides = lamps.size[which]
        places = {"map": lamps.scale[which], "base": lamps.base[which], "columns": sides, "lines": sides}
        target = passes.target(SHADOW, True, **places)
        target.height = view.heights
        triangles = tables.triangles[lamps.maps.row]
        passes.rasterize(lamps.geo, target, triangles, places["base"] >= 0, lamps.projected)
    for part, sides, start in zip(texels, (size, lampmaps.cube_size(size)), (0, texels[0]), strict=True):
        inputs = [view.heights, sides, start, view.tiles]
        passes.launch(tile_heights, part // int(TILE) ** 2, inputs)
    if lamps is None:
        return Shadows(out)
    axes = {name: lamps.maps.turn[:, i] for i, name in enumerate(("right", "down", "forward"))}
    camera = run.batch.cameras.world_from_camera[run.lo : run.hi, :3, :3]
    axes = {name: np.einsum("nji,nj->ni", camera[lamps.maps.frame], a) for name, a in axes.items()}
    maps = pack(LampMap, **axes, scale=lamps.scale, base=lamps.base, size=lamps.size)
    return Shadows(out, lamps.maps, mem.up(maps, LampMap))


def _lamps(
    passes: Passes,
    run: setup.Run,
    tables: setup.Tables,
    fields: setup.Arrays,
    geo: Any,
    size: int,
    before: int,
    spheres: F64,
) -> _Lamps:
    """Aim the lamps' maps and project their casters; `before` texels stand before theirs."""
    mem = passes.memory
    maps = lampmaps.aim(run, tables, spheres)
    own: Any = Geometry()
    for name in Geometry.__annotations__:
        setattr(own, name, getattr(geo, name))
    rows = lampmaps.caster_fields(run, tables, maps, fields)
    own.rows = mem.up(pack(Row, **rows), Row)
    own.slot_materials = mem.up(tables.slot_materials[maps.row], wp.int32)
    projected, box, behind = passes.project(own, tables.vertices[maps.row], True, "lamplit")
    return _Lamps(maps, own, projected, *lampmaps.fitted(maps, box, behind != 0, size, before))
