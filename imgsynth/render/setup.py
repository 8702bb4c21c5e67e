"""Host side of the renderer, in numpy: matrices, ranges and tables of a run of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, I64, SceneBatch
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


@dataclass(frozen=True)
class Tables:
    """Counts and offsets of a run's instances (R rows) and frames."""

    frame: I64  # (R,) from 0
    first_row: I64  # (n + 1,)
    vertices: I64  # (R,) counts
    triangles: I64  # (R,)
    slot_materials: NDArray[np.int32]  # (R + n, slots): the frames' grounds last


def tables(run: Run) -> Tables:
    """Counts and offsets of a run.

    Raises:
        ImgsynthError: an object is scaled by zero.
    """
    batch, n = run.batch, run.frames
    table, pool = batch.instances, batch.meshes
    scale = table.scale[run.rows]
    if not np.all(scale):
        bad = int(np.flatnonzero(~np.all(scale, axis=1))[0])
        raise ImgsynthError(
            f"{table.path[run.rows][bad]}: scale: expected no zero, got {scale[bad].tolist()}"
        )
    mesh, frame = table.mesh[run.rows], table.frame[run.rows] - run.lo
    slots = table.materials[run.rows]
    ground = np.full((n, slots.shape[1] or 1), -1, np.int32)
    ground[:, 0] = batch.ground.material[run.lo : run.hi]
    return Tables(
        frame=frame.astype(np.int64),
        first_row=np.searchsorted(frame, np.arange(n + 1)),
        vertices=np.diff(pool.vertex_start)[mesh],
        triangles=np.diff(pool.face_start)[mesh],
        slot_materials=np.concatenate([slots.reshape(-1, ground.shape[1]), ground]).astype(np.int32),
    )


def row_fields(run: Run, rows: Tables) -> Arrays:
    """Fields of `arrays.Row`: R instances, then a row for each frame's ground.

    With A = R·S the linear part of camera_from_object and K the intrinsics: vertices project by K·A, an image
    point q = (x, y, 1) looks along A⁻¹·K⁻¹·q from the eye -A⁻¹·t, both in the object's frame.
    """
    batch, n, frame = run.batch, run.frames, rows.frame
    table, pool = batch.instances, batch.meshes
    camera, eye, k = _cameras(run)
    inverse_k = np.linalg.inv(k)
    world, scale, mesh = table.world_from_object[run.rows], table.scale[run.rows], table.mesh[run.rows]
    turn = np.swapaxes(camera, 1, 2)[frame] @ world[:, :3, :3]
    shift = np.einsum("nji,nj->ni", camera[frame], world[:, :3, 3] - eye[frame])
    back = np.swapaxes(turn, 1, 2) / scale[:, :, None]  # A⁻¹
    light, center = light_frames(run)
    lit = np.concatenate([world[:, :3, 3] - center[frame], -center])
    owner = np.concatenate([frame, np.arange(n)])
    before = np.cumsum(rows.triangles) - rows.triangles
    first_of_frame = np.append(before, 0)[rows.first_row[:-1]]
    cut = np.append((batch.materials.alpha_cutoff > 0) & (batch.materials.texture >= 0), False)
    return {
        "first_vertex": _and_ground(pool.vertex_start[mesh], n),
        "first_face": _and_ground(pool.face_start[mesh], n),
        "first_out": _and_ground(np.cumsum(rows.vertices) - rows.vertices, n),
        "first_id": _and_ground(before - first_of_frame[frame], n),
        "two_sided": _and_ground(pool.two_sided[mesh], n),
        "cutout": np.any(cut[rows.slot_materials], axis=1),
        "id": _and_ground(table.id[run.rows], n),
        "near": batch.cameras.near[run.lo : run.hi][owner],
        "flip": np.concatenate([np.sign(np.prod(scale, axis=1)), np.ones(n)]),
        "linear": _and_ground(k[frame] @ (turn * scale[:, None, :]), n),
        "offset": _and_ground(np.einsum("nij,nj->ni", k[frame], shift), n),
        "ray": np.concatenate([back @ inverse_k[frame], camera @ inverse_k]),
        "origin": np.concatenate([-np.einsum("nij,nj->ni", back, shift), eye]),
        "light": np.concatenate([light[frame] @ (world[:, :3, :3] * scale[:, None, :]), light]),
        "light_offset": np.einsum("nij,nj->ni", light[owner], lit),
        "normal": np.concatenate([turn / scale[:, None, :], np.swapaxes(camera, 1, 2)]),
        "scale": np.concatenate([scale, np.ones((n, 3))]),
    }


def frame_fields(run: Run, rows: Tables, lens: I32) -> Arrays:
    """Fields of `arrays.FrameData`, all but the shadow map's; `lens` (n,) is -1 for pinholes."""
    batch, part = run.batch, slice(run.lo, run.hi)
    lights, back, ground = batch.lights, batch.backgrounds, batch.ground
    camera, eye, k = _cameras(run)
    inverse_k = np.linalg.inv(k)
    light, center = light_frames(run)
    height = ground.height[part].astype(np.float64)
    drop = height - eye[:, 2]
    present = ground.present[part] & (drop != 0) & (ground.material[part] >= 0)
    # Along the ray of depth 1 the plane lies at depth drop / (ray · z): its inverse is linear in the image
    # point.
    plane = (camera @ inverse_k)[:, 2] / np.where(drop == 0, 1.0, drop)[:, None]
    return {
        "ground": np.where(present[:, None], plane, 0.0),
        "ground_height": height,
        "number": np.arange(run.frames),
        "first_row": rows.first_row[:-1],
        "last_row": rows.first_row[1:],
        "inverse_near": 1.0 / batch.cameras.near[part],
        "camera_ray": inverse_k,
        "light_from_camera": light @ camera,
        "light_eye": np.einsum("nij,nj->ni", light, eye - center),
        "sun": np.einsum("nji,nj->ni", camera, lights.sun_direction[part]),
        "irradiance": lights.sun_irradiance[part],
        "ambient": lights.ambient[part],
        "lens": lens,
        "background": back.kind[part],
        "picture": np.tile(np.eye(3), (run.frames, 1, 1))
        if back.to_picture is None
        else back.to_picture[part],
        "picture_size": np.tile((back.picture_size or batch.size)[::-1], (run.frames, 1)),
        "photo": back.texture[part],
        "noise_seed": back.seed[part],
        "noise_scale": back.scale[part],
        "color_a": back.color_a[part],
        "color_b": back.color_b[part],
        "photo_window": back.window[part],
    }


def _cameras(run: Run) -> tuple[F64, F64, F64]:
    """Rotations (n, 3, 3) and positions (n, 3) of the cameras in the world, and intrinsics (n, 3, 3)."""
    pose = run.batch.cameras.world_from_camera[run.lo : run.hi]
    return pose[:, :3, :3], pose[:, :3, 3], run.batch.cameras.k[run.lo : run.hi]


def _and_ground(values: NDArray[Any], n: int) -> NDArray[Any]:
    return np.concatenate([values, np.zeros((n, *values.shape[1:]), values.dtype)])


def blocks(counts: I64, keep: NDArray[np.bool_], size: int) -> NDArray[np.int32]:
    """Work items (row, first, last): the ranges [0, counts[row]) of kept rows, at most `size` long."""
    row, piece = spans(np.where(keep, -(-counts // size), 0))
    first = piece * size
    return np.stack([row, first, np.minimum(first + size, counts[row])], axis=1).astype(np.int32)


def light_frames(run: Run) -> tuple[F64, F64]:
    """(n, 3, 3) rows x, y and height towards the sun of each frame's light space, and its origin (n, 3).

    Looking from the sun, x × y points away from it as in any camera's frame, so winding means the same. The
    origin is the middle of the objects: far from the world's origin single precision still tells heights
    apart.
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
    """Frames' shadow maps fitted to their casters: fields of `arrays.Placement`, and of `arrays.FrameData`.

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
    if lights.sun_radius is not None:  # a disc's shadows are found by rays
        on &= lights.sun_radius[run.lo : run.hi] == 0
    low, high = np.where(on[:, None], low, 0.0), np.where(on[:, None], high, 1.0)
    # Half a texel's margin all around, so that the outermost casters still cover texel centres.
    extent = np.maximum(high - low, 1e-9)
    a = (size - 1.0) / np.maximum(extent, 1e-3 * extent.max(axis=1, keepdims=True))
    b = 0.5 * size - a * 0.5 * (low + high)
    affine = np.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1]], axis=1)
    base = np.where(on, (np.cumsum(on) - 1) * (size * size), -1).astype(np.int64)
    sides = np.full(len(frame), size)
    places = {"map": affine[frame], "base": base[frame], "columns": sides, "lines": sides}
    return places, {"shadow_map": affine, "shadow_base": base, "texel": 1.0 / a}
