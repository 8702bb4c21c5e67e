"""Points on an object's surface, by name or picked, and the axes that stand on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth.batch import F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.layout.stage import Rows


def named(meshes: Meshes, mesh: Rows, names: NDArray[Any], path: str) -> tuple[F64, F64, NDArray[np.bool_]]:
    """For rows that show meshes[mesh[r]]: the point (m, 3) of that name, the unit normal (m, 3) there, and
    whether it is on the surface (a keypoint is not: it has no normal). All in the object's frame, unscaled.

    Raises:
        SceneError: the shape has nothing of that name.
    """
    keypoints = meshes.keypoints
    point, normal = np.zeros((len(names), 3)), np.zeros((len(names), 3))
    surface = np.zeros(len(names), bool)
    for name in np.unique(names.astype(str)).tolist():
        here = np.flatnonzero(names.astype(str) == name)
        if name in keypoints:
            place = np.asarray(keypoints[name], np.float64)
            point[here] = place if place.ndim == 1 else place[mesh[here]]
        elif name in meshes.directions:
            direction = np.asarray(meshes.directions[name], np.float64)
            for k in np.unique(mesh[here]):
                rows = here[mesh[here] == k]
                along = direction if direction.ndim == 1 else direction[k]
                point[rows] = _exit(meshes, int(k), along)
                normal[rows] = along
            surface[here] = True
        else:
            known = ", ".join([*keypoints, *meshes.directions]) or "none"
            raise SceneError(f"the shape has no keypoint or direction {name!r} (it has {known})", path=path)
    return point, normal, surface


def _exit(meshes: Meshes, mesh: int, direction: F64) -> F64:
    """Where the ray from the middle of the mesh's bounds in `direction` leaves it for good; of an open shape
    that it misses, so far along it as the shape reaches (Möller and Trumbore 1997).
    """
    vertices = meshes.vertices[mesh].astype(np.float64)
    used = vertices[meshes.faces.ravel()]
    middle = (used.min(0) + used.max(0)) / 2
    a, b, c = (vertices[meshes.faces[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    across = np.cross(direction, e2)
    det = (e1 * across).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = middle - a
        u = (s * across).sum(1) / det
        q = np.cross(s, e1)
        v = (q @ direction) / det
        t = (e2 * q).sum(1) / det
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & np.isfinite(t) & (t >= -1e-12)
    reach = t[hit].max() if hit.any() else ((used - middle) @ direction).max()
    return np.asarray(middle + reach * direction)


def picked(meshes: Meshes, mesh: Rows, u: F64) -> tuple[F64, F64]:
    """Points (m, 3) spread evenly by area over the surface of meshes[mesh[r]] by `u` (m, 3) in 0..1, and the
    unit normals (m, 3) of their triangles. In the object's frame, unscaled.
    """
    point, normal = np.zeros((len(u), 3)), np.zeros((len(u), 3))
    for k in np.unique(mesh):
        rows = np.flatnonzero(mesh == k)
        corner = meshes.vertices[k].astype(np.float64)[meshes.faces]  # (f, 3, 3)
        cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        edges = np.cumsum(np.linalg.norm(cross, axis=1))
        face = np.minimum(np.searchsorted(edges, u[rows, 0] * edges[-1], side="right"), len(edges) - 1)
        root = np.sqrt(u[rows, 1:2])
        weights = np.concatenate([1 - root, root * (1 - u[rows, 2:]), root * u[rows, 2:]], 1)
        point[rows] = np.einsum("mk,mkc->mc", weights, corner[face])
        normal[rows] = geometry.normalize(cross[face])
    return point, normal


def axes(normal: F64) -> F64:
    """(m, 3, 3) rotations whose +z is `normal` (m, 3) and whose +x is as near to +x as can be (to +y where
    the normal is along x); the identity where the normal is zero.
    """
    flat = np.linalg.norm(normal, axis=1, keepdims=True) < 0.5
    z = np.where(flat, [0.0, 0.0, 1.0], normal)
    near = np.where(np.abs(z[:, :1]) > 0.999, [0.0, 1.0, 0.0], [1.0, 0.0, 0.0])
    x = geometry.normalize(near - (near * z).sum(1, keepdims=True) * z)
    return np.stack([x, np.cross(z, x), z], -1)
