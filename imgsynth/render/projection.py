"""Where whole objects fall in the image, in plain float64 numpy: exact boxes, also across the near plane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imgsynth.batch import F64, I64, SceneBatch
from imgsynth.lens import PINHOLE
from imgsynth.render.outlines import Outlines


def camera_from_object(batch: SceneBatch) -> F64:
    """(I, 4, 4) rigid poses of all instances in their frame's camera (scale left out)."""
    pose = batch.cameras.world_from_camera[batch.instances.frame]
    rotation, origin = pose[:, :3, :3], pose[:, :3, 3]
    out = np.zeros((len(pose), 4, 4))
    world = batch.instances.world_from_object
    out[:, :3, :3] = np.swapaxes(rotation, 1, 2) @ world[:, :3, :3]
    out[:, :3, 3] = np.einsum("nji,nj->ni", rotation, world[:, :3, 3] - origin)
    out[:, 3, 3] = 1.0
    return out


def spans(counts: I64) -> tuple[I64, I64]:
    """Rows and positions of ragged lists end to end: `counts` [2, 1] gives [0, 0, 1], [0, 1, 0]."""
    rows = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return rows, np.arange(len(rows)) - starts[rows]


def projected_boxes(batch: SceneBatch, rows: I64 | None = None) -> F64:
    """(R, 4) xyxy bounds in pixels of the part of each object before the near plane, also outside the frame.

    Vertices project by K·[R|t]; where an edge of a triangle crosses the near plane its crossing point counts
    too, so that the box is that of the clipped object. NaN where nothing lies before the near plane. Under a
    lens the same holds of what lies in its field, and edges are followed along their curves.

    Args:
        batch: the frames.
        rows: instances to look at; all by default.
    """
    table, pool = batch.instances, batch.meshes
    rows = np.arange(len(table)) if rows is None else np.asarray(rows)
    if not len(rows):
        return np.zeros((0, 4))
    lens = batch.cameras.lens
    if lens is not None and (bent := lens.kind[table.frame[rows]] != PINHOLE).any():
        box = np.full((len(rows), 4), np.nan)
        box[~bent] = projected_boxes(_unbent(batch), rows[~bent])
        box[bent] = _bent_boxes(batch, rows[bent])
        return box
    pose = camera_from_object(batch)[rows]
    linear = pose[:, :3, :3] * table.scale[rows][:, None, :]
    mesh, frame = table.mesh[rows].astype(np.int64), table.frame[rows]
    near, k = batch.cameras.near[frame], batch.cameras.k[frame]

    counts = pool.vertex_start[mesh + 1] - pool.vertex_start[mesh]
    row, local = spans(counts)
    vertex = pool.vertices[pool.vertex_start[mesh][row] + local].astype(np.float64)
    points = np.einsum("vij,vj->vi", linear[row], vertex) + pose[row, :3, 3]
    front = points[:, 2] >= near[row]
    box = np.full((len(rows), 4), np.nan)
    _grow(box, row[front], points[front], k)

    crossing = np.zeros(len(rows), bool)
    crossing[row[~front]] = True
    if crossing.any():
        first = np.cumsum(counts) - counts
        owner, edges = _edges(batch, mesh, first, np.flatnonzero(crossing))
        a, b = points[edges[:, 0]], points[edges[:, 1]]
        cut = (a[:, 2] >= near[owner]) != (b[:, 2] >= near[owner])
        a, b, owner = a[cut], b[cut], owner[cut]
        t = (near[owner] - a[:, 2]) / (b[:, 2] - a[:, 2])
        _grow(box, owner, a + t[:, None] * (b - a), k)
    return box


def _unbent(batch: SceneBatch) -> SceneBatch:
    return replace(batch, cameras=replace(batch.cameras, lens=None))


def _bent_boxes(batch: SceneBatch, rows: I64) -> F64:
    """(R, 4) boxes of rows that a lens bends."""
    table, pool = batch.instances, batch.meshes
    pose = camera_from_object(batch)[rows]
    linear = pose[:, :3, :3] * table.scale[rows][:, None, :]
    mesh = table.mesh[rows].astype(np.int64)
    counts = pool.vertex_start[mesh + 1] - pool.vertex_start[mesh]
    row, local = spans(counts)
    vertex = pool.vertices[pool.vertex_start[mesh][row] + local].astype(np.float64)
    points = np.einsum("vij,vj->vi", linear[row], vertex) + pose[row, :3, 3]
    outlines = Outlines(batch.cameras, table.frame[rows].astype(np.int64))
    owner, edges = _edges(batch, mesh, np.cumsum(counts) - counts, np.arange(len(rows)))
    outlines.mesh(row, points, edges)
    over = np.zeros(len(rows), bool)
    over[row[~outlines.inside(row, points)]] = True
    if over.any():
        outlines.edges(*_near_cuts(outlines.near, outlines.lens, owner, points[edges]))
        reaching = over[owner].reshape(-1, 3)[:, 0]
        outlines.rims(owner[::3][reaching], points[edges[:, 0].reshape(-1, 3)[reaching]])
    return outlines.box


def _near_cuts(near: F64, camera: I64, owner: I64, edges: F64) -> tuple[I64, F64, F64]:
    """Where triangles cross the near plane: row, and both ends, of the segment that each is cut along.

    `edges` (3f, 2, 3) are those of triangle after triangle.
    """
    plane = near[camera[owner]]
    a, b = edges[:, 0], edges[:, 1]
    through = ((a[:, 2] >= plane) != (b[:, 2] >= plane)).reshape(-1, 3)
    cut = np.repeat(through.sum(axis=1) == 2, 3) & through.reshape(-1)
    a, b, z = a[cut], b[cut], plane[cut]
    at = a + ((z - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None] * (b - a)
    at[:, 2] = z
    return owner[cut][::2], at[::2], at[1::2]


def _edges(batch: SceneBatch, mesh: I64, first: I64, rows: I64) -> tuple[I64, I64]:
    """Owner row and the two (row-offset) vertices of every triangle edge of `rows`."""
    pool = batch.meshes
    start = pool.face_start[mesh[rows]]
    owner, local = spans(pool.face_start[mesh[rows] + 1] - start)
    faces = pool.faces[start[owner] + local].astype(np.int64) + first[rows[owner]][:, None]
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    return np.repeat(rows[owner], 3), edges


def _grow(box: F64, row: I64, points: F64, k: F64) -> None:
    """Enlarge `box` so that it holds the projections of `points`, each owned by a `row`."""
    if not len(row):
        return
    homogeneous = np.einsum("vij,vj->vi", k[row], points)
    xy = homogeneous[:, :2] / homogeneous[:, 2:]
    for column, (values, reduce) in enumerate(
        [(xy[:, 0], np.fmin), (xy[:, 1], np.fmin), (xy[:, 0], np.fmax), (xy[:, 1], np.fmax)]
    ):
        reduce.at(box[:, column], row, values)
