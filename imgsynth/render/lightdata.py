"""Host side of `lighting`, in numpy: lamps, occluders and frames for its kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.batch import F64, RECTANGLE, SceneBatch
from imgsynth.render.arrays import pack
from imgsynth.render.lightarrays import FrameLight, Lamp, Lighting, Occluder
from imgsynth.render.memory import Memory
from imgsynth.render.projection import camera_from_object
from imgsynth.render.setup import Run


def needs_lamps(batch: SceneBatch) -> bool:
    """Whether any frame has a lamp."""
    return batch.lights.lamps is not None and len(batch.lights.lamps) > 0


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


def lighting(memory: Memory, run: Run, meshes: list[Any], spheres: F64) -> Any:
    """The `Lighting` of a run of frames."""
    lights, up = run.batch.lights, memory.up
    out: Any = Lighting()
    out.samples = lights.samples
    lamps = lights.lamps
    frame = np.zeros(0, np.int32) if lamps is None else lamps.frame
    first, last = np.searchsorted(frame, [run.lo, run.hi])
    edges = np.searchsorted(frame[first:last], np.arange(run.lo, run.hi + 1))
    if lamps is not None and last > first:
        out.lamps = up(pack(Lamp, **_lamp_fields(run, slice(int(first), int(last)))), Lamp)
    out.frames = up(pack(FrameLight, **_frame_fields(run, edges)), FrameLight)
    if run.rows.stop > run.rows.start:
        out.occluders = up(pack(Occluder, **_occluder_fields(run, meshes, spheres)), Occluder)
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


def _frame_fields(run: Run, edges: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    batch, part = run.batch, slice(run.lo, run.hi)
    pose, ground = batch.cameras.world_from_camera[part], batch.ground
    seed = batch.lights.seed
    return {
        "first_lamp": edges[:-1],
        "last_lamp": edges[1:],
        "seed": np.zeros(run.frames, np.uint32) if seed is None else seed[part],
        "up": pose[:, 2, :3],
        "eye_height": pose[:, 2, 3] - ground.height[part].astype(np.float64),
        "ground": ground.present[part] & (ground.material[part] >= 0),
    }


def _occluder_fields(run: Run, meshes: list[Any], spheres: F64) -> dict[str, NDArray[Any]]:
    table, rows = run.batch.instances, run.rows
    pose, scale, mesh = camera_from_object(run.batch)[rows], table.scale[rows], table.mesh[rows]
    turn, place, sphere = pose[:, :3, :3], pose[:, :3, 3], spheres[mesh]
    matrix = np.swapaxes(turn, 1, 2) / scale[:, :, None]
    return {
        "mesh": np.array([m.id for m in meshes], np.uint64)[mesh],
        "matrix": matrix,
        "origin": -np.einsum("nij,nj->ni", matrix, place),
        "center": np.einsum("nij,nj->ni", turn, sphere[:, :3] * scale) + place,
        "radius": sphere[:, 3] * np.abs(scale).max(axis=1) * (1 + 1e-5),
    }
