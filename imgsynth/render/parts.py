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
        vertices = ((pool.vertices[a:b] * scale) @ pose[:3, :3].T + pose[:3, 3]) * self.unit
        normals = (pool.normals[a:b] / scale) @ pose[:3, :3].T
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        faces = pool.faces[f:g]
        if np.prod(scale) < 0:
            faces = faces[:, ::-1]
        slots = pool.slots[f:g]
        out = []
        for slot in np.unique(slots):
            material = int(table.materials[row, slot])
            uv = self._repeats(material, pool.uv[a:b])
            whole = faces[slots == slot]
            for mirrored, some in self._hands(material, vertices, normals, uv, whole):
                used, local = np.unique(some, return_inverse=True)
                out.append(
                    Part(row, material, bool(pool.two_sided[mesh]), vertices[used], normals[used], uv[used],
                         local.reshape(-1, 3).astype(np.int32), mirrored)
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
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        height = float(self.batch.ground.height[self.frame])
        places = self.batch.instances.world_from_object[self.rows, :2, 3]
        middle = np.round(places.mean(0) if len(places) else eye[:2])
        side = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
        reach = max(self._reach, abs(eye[2] - height))
        xy = np.concatenate([middle + r * reach * side for r in RINGS])
        faces = [(0, 1, 2), (0, 2, 3)]
        for ring in range(1, len(RINGS)):
            inner, outer = 4 * (ring - 1), 4 * ring
            for i in range(4):
                j = (i + 1) % 4
                faces += [(outer + i, outer + j, inner + j), (outer + i, inner + j, inner + i)]
        world = np.concatenate([xy, np.full((len(xy), 1), height)], 1)
        world[:, 2] -= np.copysign(SINK * self._reach, eye[2] - height)
        turn, shift = self.camera_from_world[:3, :3], self.camera_from_world[:3, 3]
        material = int(self.batch.ground.material[self.frame])
        return Part(
            -1, material, True, (world @ turn.T + shift) * self.unit, np.tile(turn[:, 2], (len(xy), 1)),
            self._repeats(material, xy), np.array(faces, np.int32),
        )  # fmt: skip
