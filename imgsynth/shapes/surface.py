"""What a triangle soup lacks: whether it is closed, its volume, normals with creases, texture coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64

CREASE_DEG = 40.0


def face_normals(vertices: F64, faces: I64) -> F64:
    """Normals (f, 3) of triangles, as long as twice their area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def volume(vertices: F64, faces: I64) -> float:
    """Enclosed volume by the divergence theorem; negative where the mesh is inside out."""
    centred = vertices - vertices[faces.ravel()].mean(0)
    return float((centred[faces[:, 0]] * face_normals(centred, faces)).sum() / 6)


def is_closed(faces: I64) -> bool:
    """Whether each edge, by position, is walked once each way."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    forward = edges[np.lexsort(edges.T)]
    backward = edges[:, ::-1][np.lexsort(edges[:, ::-1].T)]
    once = (forward[1:] != forward[:-1]).any(1).all()
    return bool(once and (forward == backward).all())


def distinct_rows(rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first of each kind of row (k,), in lexicographic order, and which kind each row is (n,): np.unique
    along an axis, column by column, which takes a quarter of the time.
    """
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    kind = np.empty(len(rows), np.intp)
    kind[order] = np.cumsum(new) - 1
    return order[new], kind


def creased_normals(vertices: F64, faces: I64, position: NDArray[np.intp]) -> F64:
    """(f, 3, 3): area-weighted mean of the faces round a corner that connect to its own without a crease."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    raw = face_normals(vertices, faces)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    corners = position[faces]
    edge = np.sort(corners[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    face = np.repeat(np.arange(len(faces)), 3)
    order = np.lexsort(edge.T)
    same = (edge[order][1:] == edge[order][:-1]).all(1)
    a, b = face[order][:-1][same], face[order][1:][same]
    smooth = (unit[a] * unit[b]).sum(1) > np.cos(np.radians(CREASE_DEG))
    links = coo_array((smooth[smooth].astype(np.int8), (a[smooth], b[smooth])), shape=(len(faces),) * 2)
    group = connected_components(links, directed=False)[1]
    key = np.stack([corners.ravel(), np.repeat(group, 3)], 1)
    index = distinct_rows(key)[1]
    total = np.zeros((int(index.max()) + 1, 3))
    np.add.at(total, index, np.repeat(raw, 3, axis=0))
    summed = total[index].reshape(-1, 3, 3)
    length = np.linalg.norm(summed, axis=-1, keepdims=True)
    return np.where(length > 1e-12 * np.abs(raw).max(), summed / np.maximum(length, 1e-300), unit[:, None])


def box_projection(vertices: F64, faces: I64) -> F64:
    """(f, 3, 2) along the axis each face looks along most, upright on the walls as the sides of a box."""
    low, span = vertices[faces.ravel()].min(0), np.ptp(vertices[faces.ravel()], axis=0).max()
    unit = (vertices[faces] - low) / span
    axis = np.abs(face_normals(vertices, faces)).argmax(1)
    across, up = np.array([1, 0, 0])[axis], np.array([2, 2, 1])[axis]
    return np.stack([np.take_along_axis(unit, k[:, None, None], 2)[..., 0] for k in (across, up)], -1)
