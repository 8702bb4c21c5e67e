"""Cameras: where they stand, and how a framing changes what they see."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth.batch import F64, Cameras, InstanceTable, Materials, MeshPool, TexturePool
from imgsynth.plan import Reader
from imgsynth.render.outlines import Outlines
from imgsynth.scene import CameraSpec, FramingSpec


def orbit_cameras(spec: CameraSpec, size: tuple[int, int], read: Reader) -> Cameras:
    """Cameras on a sphere about their targets, rolled about the view; never degenerate, not even overhead."""
    azimuth, elevation, roll = (
        np.radians(read(f"{name}_deg").astype(np.float64)) for name in ("azimuth", "elevation", "roll")
    )
    outward = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    # The tangent of rising elevation: "up" that never degenerates, not even straight above.
    up = np.stack(
        [-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation)], -1
    )
    right = np.cross(-outward, up)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    right, up = c * right + s * up, c * up - s * right
    pose = np.tile(np.eye(4), (len(azimuth), 1, 1))
    pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2] = right, -up, -outward
    pose[:, :3, 3] = read("target") + outward * read("distance")[:, None]
    return Cameras(geometry.intrinsics(read("fov_deg"), size), pose, read("near").astype(np.float64))


def framed(
    cameras: Cameras,
    spec: FramingSpec,
    read: Reader,
    size: tuple[int, int],
    meshes: MeshPool,
    instances: InstanceTable,
    materials: Materials,
    textures: TexturePool,
) -> Cameras:
    """Cameras whose intrinsics put the labelled objects' projected box where the framing wants it.

    Of a flat sheet that its texture cuts out, the box is that of what is left. A lens's picture is framed as
    it is bent.
    """
    low, high = _projected_box(cameras, meshes, instances, materials, textures)
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(low).all(1) & (high > low).all(1))
    low, high = np.where(seen[:, None], low, 0.0), np.where(seen[:, None], high, np.array(size[::-1], float))
    free = 1.0 - 2.0 * np.stack([read("margin_x"), read("margin_y")], -1)
    target = np.array(size[::-1], np.float64) * np.maximum(free, 1e-3)
    gain = target / np.maximum(high - low, 1e-9)
    if spec.fit == "contain":
        gain = np.repeat(gain.min(1, keepdims=True), 2, 1)
    else:
        most = gain.min(1, keepdims=True) * np.maximum(read("max_aspect"), 1.0)[:, None]
        gain = np.minimum(gain, most)
    shift = np.stack([read("shift_x"), read("shift_y")], -1)
    offset = np.array(size[::-1]) * (0.5 + shift) - gain * (low + high) / 2
    crop = np.zeros_like(cameras.k)
    crop[:, 0, 0], crop[:, 1, 1], crop[:, 0, 2], crop[:, 1, 2] = (
        gain[:, 0],
        gain[:, 1],
        offset[:, 0],
        offset[:, 1],
    )
    crop[:, 2, 2] = 1.0
    return replace(cameras, k=np.where(seen[:, None, None], crop @ cameras.k, cameras.k))


def _projected_box(
    cameras: Cameras,
    meshes: MeshPool,
    instances: InstanceTable,
    materials: Materials,
    textures: TexturePool,
) -> tuple[F64, F64]:
    """(n, 2) lowest and highest pixel coordinates over the labelled objects' vertices used by their faces."""
    n = len(cameras.k)
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    rows = np.flatnonzero(instances.class_id > 0)
    camera_from_world = geometry.rigid_inverse(cameras.world_from_camera)
    outlines = _Outlines(meshes, materials, textures)
    points = [outlines.points(int(instances.mesh[r]), int(instances.materials[r, 0])) for r in rows]
    if cameras.lens is not None:
        return _bent_box(cameras, meshes, instances, rows, points)
    counts = np.array([len(p) for p in points], np.int64)
    for a in range(0, len(rows), step := max(1, (1 << 20) // max(1, int(counts.max(initial=1))))):
        part, count = rows[a : a + step], counts[a : a + step]
        owner = np.repeat(np.arange(len(part)), count)
        vertex = np.concatenate(points[a : a + step])
        frame = instances.frame[part]
        matrix = cameras.k[frame] @ (camera_from_world[frame] @ instances.world_from_object[part])[:, :3]
        matrix[:, :, :3] *= instances.scale[part][:, None, :]
        clip = np.einsum("vrc,vc->vr", matrix[owner][:, :, :3], vertex) + matrix[owner][:, :, 3]
        front = clip[:, 2] > cameras.near[frame][owner]
        pixel = clip[front, :2] / clip[front, 2:]
        np.minimum.at(low, frame[owner][front], pixel)
        np.maximum.at(high, frame[owner][front], pixel)
    return low, high


def _bent_box(
    cameras: Cameras,
    meshes: MeshPool,
    instances: InstanceTable,
    rows: NDArray[np.intp],
    points: list[NDArray[np.floating]],
) -> tuple[F64, F64]:
    """`_projected_box` through lenses: edges are curves, so a box is that of its objects' edges, or, of a
    sheet's cut-out, of the polygon around what is left.
    """
    n = len(cameras.k)
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    outlines = Outlines(cameras, instances.frame[rows].astype(np.int64))
    camera_from_world = geometry.rigid_inverse(cameras.world_from_camera)
    for k, r in enumerate(rows):
        mesh = instances.mesh[r]
        a, b = meshes.vertex_start[mesh : mesh + 2]
        pose = camera_from_world[instances.frame[r]] @ instances.world_from_object[r]
        at = (points[k].astype(np.float64) * instances.scale[r]) @ pose[:3, :3].T + pose[:3, 3]
        if len(points[k]) == b - a and np.shares_memory(points[k], meshes.vertices):
            faces = meshes.faces[meshes.face_start[mesh] : meshes.face_start[mesh + 1]]
            edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
            edges = np.unique(np.sort(edges, axis=1), axis=0)
        else:
            corner = np.arange(len(at))
            edges = np.stack([corner, np.roll(corner, -1)], 1)
        outlines.mesh(np.full(len(at), k), at, edges)
    frame = instances.frame[rows]
    np.fmin.at(low, frame, outlines.box[:, :2])
    np.fmax.at(high, frame, outlines.box[:, 2:])
    return low, high


class _Outlines:
    """The points that span an object: its vertices, or what a texture leaves of a sheet that it cuts out."""

    def __init__(self, meshes: MeshPool, materials: Materials, textures: TexturePool) -> None:
        self.meshes, self.materials, self.textures = meshes, materials, textures
        self._hulls: dict[tuple[int, float], F64] = {}
        self._points: dict[tuple[bytes, bytes, int, float], NDArray[np.floating]] = {}

    def points(self, mesh: int, material: int) -> NDArray[np.floating]:
        """(p, 3) in the object's frame, before its scale."""
        span = slice(self.meshes.vertex_start[mesh], self.meshes.vertex_start[mesh + 1])
        vertices = self.meshes.vertices[span]
        if material < 0 or self.materials.texture[material] < 0 or self.materials.alpha_cutoff[material] <= 0:
            return vertices
        uv, texture = self.meshes.uv[span], int(self.materials.texture[material])
        if np.any(self.materials.uv_scale[material] != 1) or np.any(vertices[:, 2] != 0):
            return vertices
        key = (vertices.tobytes(), uv.tobytes(), texture, float(self.materials.alpha_cutoff[material]))
        if key not in self._points:  # sheets of one kind are many
            self._points[key] = self._left(vertices, uv.astype(np.float64), *key[2:])
        return self._points[key]

    def _left(
        self, vertices: NDArray[np.floating], uv: F64, texture: int, cutoff: float
    ) -> NDArray[np.floating]:
        if np.ptp(uv, axis=0).min() <= 0:
            return vertices
        plane = np.concatenate([uv, np.ones((len(uv), 1))], 1)
        to_point = np.linalg.pinv(plane) @ vertices
        if np.abs(plane @ to_point - vertices).max() > 1e-5 * np.abs(vertices).max():
            return vertices  # the texture does not lie on it evenly
        hull = self._hull(texture, cutoff)
        inside = np.clip(hull, uv.min(axis=0), uv.max(axis=0))
        return vertices if len(hull) == 0 else np.concatenate([inside, np.ones((len(hull), 1))], 1) @ to_point

    def _hull(self, texture: int, cutoff: float) -> F64:
        """uv (p, 2) of the convex hull of a texture's texels that are there; none where nothing is."""
        if (texture, cutoff) not in self._hulls:
            level = self.textures.first_level[texture]
            height, width = self.textures.level_size[level]
            start = self.textures.level_start[level]
            alpha = self.textures.texels[start : start + height * width, 3].reshape(height, width)
            there = alpha >= 255 * cutoff
            line = np.flatnonzero(there.any(axis=1))
            if len(line):
                first = there[line].argmax(axis=1)
                last = width - there[line, ::-1].argmax(axis=1)
                x, y = np.concatenate([first, last]), np.concatenate([line, line])
                # The corners of the outermost texels of each line; v runs up.
                corners = np.stack([np.concatenate([x, x]), np.concatenate([y, y + 1])], 1)
                around = cv2.convexHull(corners.astype(np.int32))[:, 0]
                hull = around / np.array([width, height]) * [1, -1] + [0, 1]
            else:
                hull = np.zeros((0, 2))
            self._hulls[texture, cutoff] = hull
        return self._hulls[texture, cutoff]
