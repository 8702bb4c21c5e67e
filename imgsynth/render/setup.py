"""Host side of the renderer, in numpy: matrices, ranges and tables for a run of frames, with no loop over frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.render.projection import spans


@dataclass(frozen=True)
class Run:
    """Frames [lo, hi) of a batch and their instances [first, last): what one round of launches draws."""

    batch: SceneBatch
    lo: int
    hi: int

    @property
    def frames(self) -> int:
        """How many frames."""
        return self.hi - self.lo

    @property
    def rows(self) -> slice:
        """Their rows in the batch's InstanceTable."""
        first, last = np.searchsorted(self.batch.instances.frame, [self.lo, self.hi])
        return slice(int(first), int(last))


Arrays = dict[str, NDArray[Any]]


def row_tables(run: Run) -> Arrays:
    """Per-row fields of `arrays.Geometry`: R instances, then a row for each frame's ground."""
    batch, n = run.batch, run.frames
    table, pool, materials = batch.instances, batch.meshes, batch.materials
    mesh, frame = table.mesh[run.rows], table.frame[run.rows] - run.lo
    vertices = np.diff(pool.vertex_start)[mesh]
    triangles = np.diff(pool.face_start)[mesh]
    before = np.cumsum(triangles) - triangles
    first_row = np.searchsorted(frame, np.arange(n + 1))
    start = np.append(before, 0)[first_row[:-1]]
    slots = table.materials[run.rows]
    ground = np.full((n, max(slots.shape[1], 1)), -1, np.int32)
    ground[:, 0] = batch.ground.material[run.lo : run.hi]
    used = (
        np.concatenate([slots.reshape(len(mesh), -1), ground[:, : slots.shape[1]]]) if slots.size else ground
    )
    cut = np.append((materials.alpha_cutoff > 0) & (materials.texture >= 0), False)
    scale = table.scale[run.rows]
    if not np.all(scale):
        bad = table.path[run.rows][np.flatnonzero(~np.all(scale, axis=1))[0]]
        raise ImgsynthError(
            f"{bad}: scale: expected no zero, got {scale[~np.all(scale, axis=1)][0].tolist()}"
        )
    near = batch.cameras.near[run.lo : run.hi]
    return {
        "first_vertex": _with_ground(pool.vertex_start[mesh], n),
        "first_face": _with_ground(pool.face_start[mesh], n),
        "first_out": _with_ground(np.cumsum(vertices) - vertices, n),
        "first_id": _with_ground(before - start[frame], n),
        "near": np.concatenate([near[frame], near]),
        "flip": np.concatenate([np.sign(np.prod(scale, axis=1)), np.ones(n)]),
        "two_sided": _with_ground(pool.two_sided[mesh], n),
        "cutout": np.any(cut[used], axis=1).astype(np.int32),
        "materials": np.ascontiguousarray(used, np.int32),
        "ids": _with_ground(table.id[run.rows], n),
        "first_row": first_row.astype(np.int32),
        "vertices": vertices.astype(np.int64),
        "triangles": triangles.astype(np.int64),
        "row_frame": frame.astype(np.int64),
    }


def _with_ground(values: NDArray[Any], n: int) -> NDArray[np.int32]:
    return np.concatenate([values, np.zeros(n, values.dtype)]).astype(np.int32)


def blocks(counts: I64, keep: NDArray[np.bool_], size: int) -> NDArray[np.int32]:
    """Work items (row, first, last): the ranges [0, counts[row]) of all kept rows in pieces of at most `size`."""
    row, piece = spans(np.where(keep, -(-counts // size), 0))
    first = piece * size
    return np.stack([row, first, np.minimum(first + size, counts[row])], axis=1).astype(np.int32)


def views(run: Run, frame: I64) -> Arrays:
    """Per-row and per-frame matrices of `arrays.View`, and the projections' `linear` and `offset`.

    With A = R·S the linear part of camera_from_object and K the intrinsics: vertices project by K·A, an image point
    q = (x, y, 1) looks along A⁻¹·K⁻¹·q from the eye -A⁻¹·t, both in the object's frame.
    """
    batch, lo, hi = run.batch, run.lo, run.hi
    table, cameras = batch.instances, batch.cameras
    pose, k = cameras.world_from_camera[lo:hi], cameras.k[lo:hi]
    camera, eye = pose[:, :3, :3], pose[:, :3, 3]
    inverse_k = np.linalg.inv(k)
    world = table.world_from_object[run.rows]
    scale = table.scale[run.rows]
    turn = np.swapaxes(camera, 1, 2)[frame] @ world[:, :3, :3]
    shift = np.einsum("nji,nj->ni", camera[frame], world[:, :3, 3] - eye[frame])
    back = np.swapaxes(turn, 1, 2) / scale[:, :, None]  # A⁻¹
    light, center = light_frames(run)
    ray = camera @ inverse_k
    return {
        "linear": k[frame] @ (turn * scale[:, None, :]),
        "offset": np.einsum("nij,nj->ni", k[frame], shift),
        "origin": np.concatenate([-np.einsum("nij,nj->ni", back, shift), eye]),
        "ray": np.concatenate([back @ inverse_k[frame], ray]),
        "normal": np.concatenate([turn / scale[:, None, :], np.swapaxes(camera, 1, 2)]).astype(np.float32),
        "light": np.concatenate([light[frame] @ (world[:, :3, :3] * scale[:, None, :]), light]),
        "light_offset": np.concatenate(
            [
                np.einsum("nij,nj->ni", light[frame], world[:, :3, 3] - center[frame]),
                -np.einsum("nij,nj->ni", light, center),
            ]
        ),
        "camera_ray": inverse_k.astype(np.float32),
        "light_from_camera": (light @ camera).astype(np.float32),
        "sun": np.einsum("nji,nj->ni", camera, batch.lights.sun_direction[lo:hi]).astype(np.float32),
        **_ground(run, ray, eye),
    }


def _ground(run: Run, ray: F64, eye: F64) -> Arrays:
    """Inverse depth of each frame's ground plane as a linear function of the image point."""
    ground, lo, hi = run.batch.ground, run.lo, run.hi
    height = ground.height[lo:hi].astype(np.float64)
    drop = height - eye[:, 2]
    present = ground.present[lo:hi] & (drop != 0) & (ground.material[lo:hi] >= 0)
    plane = np.where(present[:, None], ray[:, 2] / np.where(drop == 0, 1.0, drop)[:, None], 0.0)
    return {"ground": plane, "ground_height": height}


def light_frames(run: Run) -> tuple[F64, F64]:
    """(n, 3, 3) rows x, y and height towards the sun of each frame's light space, and its origin (n, 3).

    Looking from the sun, x × y points away from it as in any camera's frame, so winding means the same. The origin is
    the middle of the objects: far from the world's origin single precision still tells heights apart.
    """
    lo, hi = run.lo, run.hi
    sun = run.batch.lights.sun_direction[lo:hi].astype(np.float64)
    length = np.linalg.norm(sun, axis=1, keepdims=True)
    sun = np.where(length > 0, sun / np.where(length > 0, length, 1.0), np.array([0.0, 0.0, 1.0]))
    axis = np.where(np.abs(sun[:, 2:]) < 0.9, np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    x = np.cross(axis, sun)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.cross(-sun, x)
    frame = run.batch.instances.frame[run.rows] - lo
    count = np.maximum(np.bincount(frame, minlength=hi - lo), 1)[:, None]
    place = run.batch.instances.world_from_object[run.rows][:, :3, 3]
    center = np.stack([np.bincount(frame, place[:, i], minlength=hi - lo) for i in range(3)], axis=1) / count
    return np.stack([x, y, sun], axis=1), center


def shadow_maps(run: Run, frame: I64, box: F64, size: int) -> tuple[Arrays, Arrays]:
    """Frames' shadow maps fitted to their casters: (per-row target fields, per-frame view fields).

    Args:
        run: the frames.
        frame: (R,) frame of each row, from 0.
        box: (R, 4) bounds of each row in light space, metres.
        size: texels along each side of a map.
    """
    n, lights = run.frames, run.batch.lights
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    np.minimum.at(low, frame, box[:, :2])
    np.maximum.at(high, frame, box[:, 2:])
    on = lights.shadows[run.lo : run.hi] & np.any(lights.sun_irradiance[run.lo : run.hi] > 0, axis=1)
    on &= np.all(np.isfinite(low), axis=1)
    low, high = np.where(on[:, None], low, 0.0), np.where(on[:, None], high, 1.0)
    # Half a texel's margin all around, so that the outermost casters still cover texel centres.
    extent = np.maximum(high - low, 1e-9)
    a = (size - 1.0) / np.maximum(extent, 1e-3 * extent.max(axis=1, keepdims=True))
    b = 0.5 * size - a * 0.5 * (low + high)
    affine = np.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1]], axis=1)
    base = np.where(on, (np.cumsum(on) - 1) * (size * size), -1).astype(np.int64)
    rows = {
        "map": affine[frame],
        "base": base[frame],
        "extent": np.full((len(frame), 2), size, np.int32),
    }
    return rows, {"shadow_map": affine.astype(np.float32), "shadow_base": base}
