"""A frame of a `SceneBatch` as the reference renderers draw it: triangles in the camera's frame, by material.

Everything is in OpenCV camera axes with the eye at the origin, and scaled by a power of two so that the
objects lie about ten units away: Mitsuba moves the start of a shadow ray by 1e-4 of (1 + distance).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, SceneBatch
from imgsynth.errors import ImgsynthError

DISTANCE = 10.0  # units from the eye to the objects
SINK = 4e-6  # share of that distance by which the ground lies lower: what lies on it is seen on it
RINGS = (3.0, 100.0, 1e4)  # half sides of the ground's squares, in distances from eye to objects
TILE = 0.5  # of its distance: the largest square of a ground that is tiled
MOST_SPLITS = 20


@dataclass(frozen=True)
class Part:
    """Triangles of one instance (or the ground, row -1) and one material, in scaled camera coordinates.

    `uv` is in repeats of the texture, v growing downwards, as textures are stored. A material with a normal
    map has the triangles on which it lies `mirrored`, seen from outside, in a part of their own.
    """

    row: int
    material: int
    two_sided: bool
    vertices: F64
    normals: F64
    uv: F64
    faces: I32
    points: F64  # (v, 3) metres in the object's frame, its scale applied; of the ground: world
    texcoords: F64  # (v, 2) as the mesh has them, v upwards
    mirrored: bool = False


@dataclass
class FrameParts:
    """One frame's parts.

    Args:
        batch: the frames.
        frame: which of them.
    """

    batch: SceneBatch
    frame: int

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """The frame's rows in the InstanceTable."""
        return np.flatnonzero(self.batch.instances.frame == self.frame)

    @cached_property
    def unit(self) -> float:
        """Units in a metre, a power of two."""
        distance = self._reach
        return float(2.0 ** np.round(np.log2(DISTANCE / distance)))

    @cached_property
    def _reach(self) -> float:
        """Metres from the eye to the objects, or else to the ground, or else 1."""
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        table = self.batch.instances
        if len(self.rows):
            near = float(self.batch.cameras.near[self.frame])
            away = np.linalg.norm(table.world_from_object[self.rows, :3, 3] - eye, axis=1)
            return max(float(np.median(away)), near)
        if self.batch.ground.present[self.frame]:
            return max(abs(float(eye[2]) - float(self.batch.ground.height[self.frame])), 1e-3)
        return 1.0

    @cached_property
    def camera_from_world(self) -> F64:
        """(4, 4), metres."""
        return np.linalg.inv(self.batch.cameras.world_from_camera[self.frame])

    @cached_property
    def parts(self) -> list[Part]:
        """All parts of the frame, the ground last."""
        found = [part for row in self.rows for part in self._instance(int(row))]
        if self.batch.ground.present[self.frame] and self.batch.ground.material[self.frame] >= 0:
            found.append(self._ground())
        return found

    def _instance(self, row: int) -> list[Part]:
        batch, pool = self.batch, self.batch.meshes
        table = batch.instances
        mesh = int(table.mesh[row])
        a, b = pool.vertex_start[mesh : mesh + 2]
        f, g = pool.face_start[mesh : mesh + 2]
        pose = self.camera_from_world @ table.world_from_object[row]
        scale = table.scale[row]
        if not np.all(scale):
            raise ImgsynthError(f"{table.path[row]}: scale: expected no zero, got {scale.tolist()}")
        points = pool.vertices[a:b] * scale
        vertices = (points @ pose[:3, :3].T + pose[:3, 3]) * self.unit
        normals = (pool.normals[a:b] / scale) @ pose[:3, :3].T
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        faces = pool.faces[f:g]
        if np.prod(scale) < 0:
            faces = faces[:, ::-1]
        slots = pool.slots[f:g]
        out = []
        for slot in np.unique(slots):
            material = int(table.materials[row, slot])
            own = pool.uv[a:b].astype(np.float64)
            uv = self._repeats(material, own)
            whole = faces[slots == slot]
            for mirrored, some in self._hands(material, vertices, normals, uv, whole):
                used, local = np.unique(some, return_inverse=True)
                out.append(
                    Part(row, material, bool(pool.two_sided[mesh]), vertices[used], normals[used], uv[used],
                         local.reshape(-1, 3).astype(np.int32), points[used].astype(np.float64), own[used],
                         mirrored)
                )  # fmt: skip
        return out

    def _hands(
        self, material: int, vertices: F64, normals: F64, uv: F64, faces: I32
    ) -> list[tuple[bool, I32]]:
        """Faces whose texture is seen the right way round from outside, and those on which it is mirrored."""
        if material < 0 or self.batch.materials.normal_texture[material] < 0:
            return [(False, faces)]
        a, b, c = (vertices[faces[:, i]] for i in range(3))
        outside = np.einsum("fc,fc->f", np.cross(b - a, c - a), normals[faces].sum(1)) >= 0
        (du, dv), (eu, ev) = (np.moveaxis(uv[faces[:, i]] - uv[faces[:, 0]], 1, 0) for i in (1, 2))
        mirrored = (du * ev - dv * eu > 0) == outside  # v grows downwards
        return [(hand, faces[mirrored == hand]) for hand in (False, True) if np.any(mirrored == hand)]

    def _repeats(self, material: int, uv: NDArray[np.floating]) -> F64:
        scale = self.batch.materials.uv_scale[material] if material >= 0 else np.ones(2)
        at = uv.astype(np.float64) * scale
        return np.stack([at[:, 0], 1.0 - at[:, 1]], 1)

    def _ground(self) -> Part:
        """Nested squares, small ones near the middle, so that single precision tells texels apart."""
        middle, reach = self._stage
        side = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
        xy = np.concatenate([middle + r * reach * side for r in RINGS])
        faces = [(0, 1, 2), (0, 2, 3)]
        for ring in range(1, len(RINGS)):
            inner, outer = 4 * (ring - 1), 4 * ring
            for i in range(4):
                j = (i + 1) % 4
                faces += [(outer + i, outer + j, inner + j), (outer + i, inner + j, inner + i)]
        return self._on_ground(xy, np.array(faces, np.int32))

    def tiled_ground(self) -> Part:
        """The same ground in squares no larger than half their distance from the eye."""
        middle, reach = self._stage
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        above = abs(eye[2] - float(self.batch.ground.height[self.frame]))
        done, squares = [], np.array([[*(middle - RINGS[-1] * reach), 2 * RINGS[-1] * reach]])
        quarters = np.array([(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)])
        for _ in range(MOST_SPLITS):
            low, size = squares[:, :2], squares[:, 2:]
            beside = np.maximum(np.maximum(low - eye[:2], eye[:2] - low - size), 0)
            away = np.hypot(np.linalg.norm(beside, axis=1), above)
            wide = squares[:, 2] > TILE * np.maximum(away, 1e-6 * reach)
            done.append(squares[~wide])
            low = (low[wide, None] + quarters * size[wide, None]).reshape(-1, 2)
            squares = np.concatenate([low, np.repeat(size[wide] / 2, 4, 0)], 1)
        found = np.concatenate([*done, squares])
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
        xy = (found[:, None, :2] + corners * found[:, None, 2:]).reshape(-1, 2)
        first = 4 * np.arange(len(found))[:, None, None]
        faces = first + np.array([(0, 1, 2), (0, 2, 3)])
        return self._on_ground(xy, faces.reshape(-1, 3).astype(np.int32))

    @property
    def _stage(self) -> tuple[F64, float]:
        """The middle (2,) of the objects, or the place below the eye, and how far the eye is, metres."""
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        places = self.batch.instances.world_from_object[self.rows, :2, 3]
        middle: F64 = np.round(places.mean(0) if len(places) else eye[:2])
        return middle, max(self._reach, abs(eye[2] - float(self.batch.ground.height[self.frame])))

    def _on_ground(self, xy: F64, faces: I32) -> Part:
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        height = float(self.batch.ground.height[self.frame])
        points = np.concatenate([xy, np.full((len(xy), 1), height)], 1)
        sunk = points - [0.0, 0.0, np.copysign(SINK * self._reach, eye[2] - height)]
        turn, shift = self.camera_from_world[:3, :3], self.camera_from_world[:3, 3]
        material = int(self.batch.ground.material[self.frame])
        return Part(
            -1, material, True, (sunk @ turn.T + shift) * self.unit, np.tile(turn[:, 2], (len(xy), 1)),
            self._repeats(material, xy), faces, points, xy,
        )  # fmt: skip
