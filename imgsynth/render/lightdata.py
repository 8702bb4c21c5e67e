"""Host side of `lighting`, in numpy: lamps, occluders and frames for its kernels."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, RECTANGLE, SPOT, SceneBatch
from imgsynth.render.arrays import pack
from imgsynth.render.lampmaps import by_map
from imgsynth.render.lightarrays import FrameLight, Lamp, Lighting, Occluder
from imgsynth.render.memory import Memory
from imgsynth.render.projection import camera_from_object
from imgsynth.render.setup import Run
from imgsynth.render.shadows import Shadows

MOST_MAPS = 64
"""Environment maps that a renderer keeps filtered."""


def needs(batch: SceneBatch) -> bool:
    """Whether any frame has more light than a point-like sun and ambient radiance."""
    lights = batch.lights
    lamps = lights.lamps is not None and len(lights.lamps) > 0
    around = lights.environments is not None and bool((lights.environments.index >= 0).any())
    return (
        lamps or around or any(a is not None and bool(a.any()) for a in (lights.occlusion, lights.sun_radius))
    )


class Maps:
    """The filtered environment maps of the last batches, by content: a file is filtered once a process."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._held: OrderedDict[bytes, list[F32]] = OrderedDict()
        self._shades: Any = None

    def put(self, out: Any, batch: SceneBatch) -> None:
        """Hand the maps of a batch to its `Lighting`."""
        from imgsynth.render.environment import filtered_levels, reflectances

        around = batch.lights.environments
        if around is None:
            return
        texels, levels, start = [], [], 0
        for image in around.maps:
            key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            if key not in self._held:
                self._held[key] = filtered_levels(self.memory, image)
                if len(self._held) > MOST_MAPS:
                    self._held.popitem(last=False)
            else:
                self._held.move_to_end(key)
            for level in self._held[key]:
                texels.append(level.reshape(-1, 3))
                levels.append((start, *level.shape[:2]))
                start += len(texels[-1])
        if self._shades is None:
            self._shades = self.memory.up(reflectances(), wp.vec2)
        out.environments = self.memory.up(np.concatenate(texels), wp.vec3)
        out.levels = self.memory.up(np.array(levels, np.int32), wp.vec3i)
        out.shades = self._shades


def ray_meshes(memory: Memory, batch: SceneBatch, geo: Any) -> list[Any]:
    """A wp.Mesh for each mesh of the pool, with its bounding-volume tree."""
    pool, out = batch.meshes, []
    for k in range(len(pool.face_start) - 1):
        a, b = pool.vertex_start[k : k + 2]
        c, d = pool.face_start[k : k + 2]
        corners = memory.up(pool.faces[c:d].reshape(-1), wp.int32)
        out.append(wp.Mesh(points=geo.vertices[int(a) : int(b)], indices=corners))
    return out


def bounding_spheres(batch: SceneBatch) -> F64:
    """(M, 4) centre and radius of each mesh: its box's middle, and the farthest vertex from there."""
    pool = batch.meshes
    out = np.zeros((len(pool.vertex_start) - 1, 4))
    for k in range(len(out)):
        points = pool.vertices[pool.vertex_start[k] : pool.vertex_start[k + 1]].astype(np.float64)
        if len(points):
            out[k, :3] = (points.min(0) + points.max(0)) / 2
            out[k, 3] = np.sqrt(((points - out[k, :3]) ** 2).sum(1).max())
    return out


def _rays(batch: SceneBatch) -> bool:
    """Whether anything of a batch's light is found by rays, or a lamp is a rectangle."""
    lights = batch.lights
    lamps = lights.lamps
    if lights.occlusion is not None and lights.occlusion.any():
        return True
    if lights.sun_radius is not None and np.any(lights.shadows & (lights.sun_radius > 0)):
        return True
    return lamps is not None and bool(np.any(lamps.shadows & ~by_map(lamps) | (lamps.kind == RECTANGLE)))


def lamp_maps(batch: SceneBatch) -> float:
    """About how many shadow maps the lamps of a frame have."""
    lamps = batch.lights.lamps
    if lamps is None:
        return 0.0
    each = np.where(lamps.kind == SPOT, 1.0, 3.0)
    return float(each[by_map(lamps)].sum() / max(len(batch), 1))


@dataclass(frozen=True)
class Occluders:
    """What all runs of a batch share: a `Lighting` with its environment maps, and what casts shadows."""

    lighting: Any
    rays: bool  # whether any are cast
    meshes: list[Any]  # that they meet
    spheres: F64  # (M, 4) centres and radii that bound the meshes


def begin(memory: Memory, maps: Maps, batch: SceneBatch, geo: Any) -> Occluders:
    """What all runs of a batch share."""
    out: Any = Lighting()
    out.samples = batch.lights.samples
    maps.put(out, batch)
    rays = _rays(batch)
    meshes = ray_meshes(memory, batch, geo) if rays else []
    return Occluders(out, rays, meshes, bounding_spheres(batch))


def lighting(memory: Memory, run: Run, shared: Occluders, cast: Shadows) -> Any:
    """The `Lighting` of a run of frames, in what `begin` gave, with its shadow maps."""
    lights, up, out = run.batch.lights, memory.up, shared.lighting
    lamps = lights.lamps
    frame = np.zeros(0, np.int32) if lamps is None else lamps.frame
    first, last = np.searchsorted(frame, [run.lo, run.hi])
    edges = np.searchsorted(frame[first:last], np.arange(run.lo, run.hi + 1))
    if lamps is not None and last > first:
        held = _lamp_fields(run, slice(int(first), int(last)))
        starts = np.zeros(last - first + 1, np.int64) if cast.lamps is None else cast.lamps.first
        held |= {"first_map": starts[:-1], "last_map": starts[1:]}
        out.lamps = up(pack(Lamp, **held), Lamp)
    if cast.maps is not None:
        out.maps = cast.maps
    occluders = _occluder_fields(run, shared)
    out.frames = up(pack(FrameLight, **_frame_fields(run, edges, occluders)), FrameLight)
    if run.rows.stop > run.rows.start:
        out.occluders = up(pack(Occluder, **occluders), Occluder)
    return out


def _lamp_fields(run: Run, part: slice) -> dict[str, NDArray[Any]]:
    lamps = run.batch.lights.lamps
    assert lamps is not None
    pose = run.batch.cameras.world_from_camera[lamps.frame[part]]
    turn = pose[:, :3, :3]
    across, direction = lamps.across[part], lamps.direction[part]
    flat = (lamps.kind[part] == RECTANGLE)[:, None]

    def local(vector: F64) -> F64:
        return np.asarray(np.einsum("nji,nj->ni", turn, vector), np.float64)

    return {
        "kind": lamps.kind[part],
        "shadows": lamps.shadows[part],
        "position": local(lamps.position[part] - pose[:, :3, 3]),
        "direction": local(direction),
        "across": local(across),
        "upward": local(np.cross(direction, across)),
        "half": np.where(flat, lamps.size[part] / 2, lamps.size[part]),
        "cone": lamps.cone[part] / 2,
        "radiant": lamps.radiant[part],
    }


def _frame_fields(
    run: Run, edges: NDArray[np.intp], occluders: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    batch, part, n = run.batch, slice(run.lo, run.hi), run.frames
    pose, ground, lights = batch.cameras.world_from_camera[part], batch.ground, batch.lights
    seed = lights.seed
    # From the eye to the far side of the farthest object, twice: so from any point, past any other.
    far = np.full(n, 1.0)
    frame = batch.instances.frame[run.rows] - run.lo
    np.maximum.at(far, frame, np.linalg.norm(occluders["center"], axis=1) + occluders["radius"])

    def given(values: NDArray[Any] | None, otherwise: float) -> NDArray[Any]:
        return np.full(n, otherwise) if values is None else np.asarray(values[part])

    around = lights.environments
    turn = np.zeros(n) if around is None else around.turn[part]
    cos, sin, one = np.cos(turn), np.sin(turn), np.ones(n)
    # The world turned back by the map's own turn.
    back = np.stack([cos, sin, 0 * one, -sin, cos, 0 * one, 0 * one, 0 * one, one], 1).reshape(n, 3, 3)
    return {
        "far": 4 * far,
        "occlusion": given(lights.occlusion, 0.0),
        "sun_radius": np.tan(given(lights.sun_radius, 0.0)),
        "sun_shadows": lights.shadows[part],
        "environment": given(None if around is None else around.index, -1),
        "environment_scale": given(None if around is None else around.scale, 0.0),
        "visible": given(None if around is None else around.visible, 0),
        "map_from_camera": back @ pose[:, :3, :3],
        "first_lamp": edges[:-1],
        "last_lamp": edges[1:],
        "seed": np.zeros(run.frames, np.uint32) if seed is None else seed[part],
        "up": pose[:, 2, :3],
        "eye_height": pose[:, 2, 3] - ground.height[part].astype(np.float64),
        "ground": ground.present[part] & (ground.material[part] >= 0),
    }


def _occluder_fields(run: Run, shared: Occluders) -> dict[str, NDArray[Any]]:
    table, rows = run.batch.instances, run.rows
    pose, scale, mesh = camera_from_object(run.batch)[rows], table.scale[rows], table.mesh[rows]
    turn, place, sphere = pose[:, :3, :3], pose[:, :3, 3], shared.spheres[mesh]
    trees = np.array([m.id for m in shared.meshes], np.uint64)
    matrix = np.swapaxes(turn, 1, 2) / scale[:, :, None]
    return {
        "mesh": trees[mesh] if len(trees) else np.zeros(len(mesh), np.uint64),
        "matrix": matrix,
        "origin": -np.einsum("nij,nj->ni", matrix, place),
        "center": np.einsum("nij,nj->ni", turn, sphere[:, :3] * scale) + place,
        "radius": sphere[:, 3] * np.abs(scale).max(axis=1) * (1 + 1e-5),
    }
