"""Where keypoints fall in the image, and whether they are seen.

A keypoint is *in the frame* if it lies before the near plane and its pixel, the one that holds it, is one of
the image's. It is then *visible* unless

- another thing (an object or the ground) that the pixel's centre shows lies nearer by more than the
  *tolerance* d/f · (½ + min(tan θ, 10)): half the width of a pixel at that thing's depth d, and what the
  depth of a plane turned away by θ changes across one; f is the focal length in pixels. So a point that
  touches what lies under it stays visible, and one just behind an edge is judged by the pixel's centre; or
- its own object hides it: a triangle of its mesh is crossed by the line of sight at more than a thousandth of
  the object's diagonal before the point. This is worked out exactly and takes no part in pixels; parts that
  a texture cuts out count as there.

Under a rolling shutter each keypoint is where it is when the line that it falls on is exposed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth import lens
from imgsynth.batch import F64, I32, I64, Cameras, SceneBatch
from imgsynth.frame import HIDDEN, VISIBLE, Buffers, InstanceKeypoints
from imgsynth.render.motion import seen_at
from imgsynth.render.projection import spans

MOST_SLOPE = 10.0
OWN_TOLERANCE = 1e-3  # share of the object's diagonal
_ON_EDGE = 1e-9
ROUNDS = 6  # a keypoint's line and its time depend on one another


def locate(batch: SceneBatch, buffers: Buffers, camera_from_object: F64) -> InstanceKeypoints | None:
    """The keypoints of all instances, or None where the batch has none."""
    table, given = batch.instances, batch.meshes.keypoints
    if given is None:
        return None
    first = given.start[table.mesh]
    counts = given.start[table.mesh.astype(np.int64) + 1] - first
    row, local = spans(counts)
    source = first[row] + local
    point = given.position[source].astype(np.float64) * table.scale[row]
    frame = table.frame[row]
    pose, seconds = camera_from_object[row], np.zeros(len(row))
    seen_from = np.einsum("pij,pj->pi", pose[:, :3, :3], point) + pose[:, :3, 3]
    xy = project(batch.cameras, frame, seen_from)
    if buffers.line_time is not None and buffers.line_time.any():
        seen_from, xy, seconds, pose = _rolled(batch, buffers.line_time, row, point, xy)
    height, width = batch.size
    with np.errstate(invalid="ignore"):
        inside = np.all((xy >= 0) & (xy < [width, height]), axis=1)
    visibility = np.where(inside, VISIBLE, 0).astype(np.uint8)
    visibility[inside] -= _behind_others(
        batch, buffers, table.frame[row[inside]], table.id[row[inside]], xy[inside], seen_from[inside]
    )
    _hide_behind_own(batch, pose, row, seconds, point, seen_from[:, 2], visibility)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return InstanceKeypoints(start, given.name[source], point, xy, visibility)


def _rolled(batch: SceneBatch, line_time: F64, row: I64, point: F64, xy: F64) -> tuple[F64, F64, F64, F64]:
    """Where keypoints (P, 3) of instances `row` are when the line that each falls on is exposed: in the
    camera, in pixels, the time (P,), the instance's pose then (P, 4, 4). Outside the frame the border's.

    Args:
        batch: the frames.
        line_time: (n, H) seconds of their lines.
        row: (P,) instances.
        point: (P, 3) in their frames, scaled.
        xy: (P, 2) pixels at time 0, to start from.
    """
    frame, height = batch.instances.frame[row], batch.size[0]
    for _ in range(ROUNDS):
        line = np.clip(np.nan_to_num(xy[:, 1], nan=height / 2), 0, height - 1).astype(np.int64)
        seconds = line_time[frame, line]
        pose = seen_at(batch, row, seconds)
        seen_from = np.einsum("pij,pj->pi", pose[:, :3, :3], point) + pose[:, :3, 3]
        xy = project(batch.cameras, frame, seen_from)
    return seen_from, xy, seconds, pose


def project(cameras: Cameras, frame: I32, points: F64) -> F64:
    """(P, 2) pixels of points (P, 3) in the cameras of their frames (P,); NaN behind the near plane and where
    the lens does not see.
    """
    glass = cameras.lens
    n = len(cameras.k)
    if glass is None:
        kind, coefficients = np.full(n, lens.PINHOLE), np.zeros((n, 8))
    else:
        kind, coefficients = glass.kind, glass.coefficients
    field = np.array([lens.reach(int(k), c) for k, c in zip(kind, coefficients, strict=True)])
    xy = lens.project(kind[frame], coefficients[frame], cameras.k[frame], points, field[frame])
    xy[points[:, 2] < cameras.near[frame]] = np.nan
    return xy


def _behind_others(
    batch: SceneBatch, buffers: Buffers, frame: I32, ident: I32, xy: F64, points: F64
) -> NDArray[np.bool_]:
    """(P,) whether what the pixel's centre shows is of another thing and nearer than the tolerance allows."""
    x, y = xy.astype(np.int64).T
    depth = buffers.depth[frame, y, x].astype(np.float64)
    normal = buffers.normal[frame, y, x].astype(np.float64)
    k = batch.cameras.k[frame]
    focal = np.sqrt(k[:, 0, 0] * k[:, 1, 1])
    ray = points / points[:, 2:]
    cosine = np.abs((normal * ray).sum(1)) / np.linalg.norm(ray, axis=1)
    slope = np.sqrt(np.maximum(1 - cosine**2, 0)) / np.maximum(cosine, 1e-9)
    with np.errstate(invalid="ignore"):
        nearer = points[:, 2] > depth * (1 + (0.5 + np.minimum(slope, MOST_SLOPE)) / focal)
    return np.asarray(nearer & (buffers.instance[frame, y, x] != ident))


def _hide_behind_own(
    batch: SceneBatch, pose: F64, row: I64, seconds: F64, point: F64, z: F64, visibility: NDArray[np.uint8]
) -> None:
    """Set to HIDDEN what its own mesh hides, one instance and moment at a time."""
    pool, table = batch.meshes, batch.instances
    todo = np.flatnonzero(visibility == VISIBLE)
    _, group = np.unique(np.stack([row[todo], seconds[todo]]), axis=1, return_inverse=True)
    for g in range(group.max(initial=-1) + 1):
        here = todo[group == g]
        k = int(row[here[0]])
        mesh = int(table.mesh[k])
        vertices = pool.vertices[pool.vertex_start[mesh] : pool.vertex_start[mesh + 1]] * table.scale[k]
        faces = pool.faces[pool.face_start[mesh] : pool.face_start[mesh + 1]]
        eye = -pose[here[0], :3, :3].T @ pose[here[0], :3, 3]
        closest = batch.cameras.near[table.frame[k]] / z[here]
        hidden = hidden_by_mesh(eye, point[here], vertices, faces, closest, bool(pool.two_sided[mesh]))
        visibility[here[hidden]] = HIDDEN


def hidden_by_mesh(
    eye: F64, points: F64, vertices: F64, faces: I32, closest: F64, two_sided: bool
) -> NDArray[np.bool_]:
    """(K,) whether a triangle is crossed on the way from `eye` (3,) to points (K, 3), before the tolerance.

    Triangles are intersected as by Möller and Trumbore ("Fast, minimum storage ray/triangle intersection",
    Journal of Graphics Tools 2(1), 1997); what is drawn from one side only hides from that side. Crossings at
    less than the share `closest` (K,) of the way, before the near plane, don't count.
    """
    corners, way = vertices - eye, points - eye
    hidden = np.zeros(len(points), bool)
    which, face = _candidates(corners, way, faces)
    a, b, c = (corners[faces[face, i]] for i in range(3))
    d, ab, ac = way[which], b - a, c - a
    p = np.cross(d, ac)
    determinant = (ab * p).sum(1)
    reach = 1 - OWN_TOLERANCE * np.linalg.norm(np.ptp(vertices, axis=0)) / np.linalg.norm(way, axis=1)
    inverse = 1.0 / np.where(determinant == 0, np.nan, determinant)  # seen edge on, a triangle hides nothing
    u = -(a * p).sum(1) * inverse
    q = np.cross(-a, ab)
    v, t = (d * q).sum(1) * inverse, (ac * q).sum(1) * inverse
    crossed = (u >= -_ON_EDGE) & (v >= -_ON_EDGE) & (u + v <= 1 + _ON_EDGE)
    crossed &= (t < reach[which]) & (t >= closest[which]) & (two_sided | (determinant > 0))
    hidden[which[crossed]] = True
    return hidden


def _candidates(corners: F64, way: F64, faces: I32) -> tuple[I64, I64]:
    """Pairs (point, face) of lines of sight and triangles whose bounds, seen from the eye, hold them."""
    forward = corners.mean(0)
    basis = np.linalg.svd(forward[None])[2]  # the first row along `forward`, or against it
    basis *= 1.0 if basis[0] @ forward > 0 else -1.0
    seen, aim = corners @ basis.T, way @ basis.T
    if min(seen[:, 0].min(), aim[:, 0].min()) <= 1e-6 * np.abs(seen).max():  # the eye is amid the object
        every, face = np.indices((len(way), len(faces))).reshape(2, -1)
        return every, face
    flat, mark = seen[:, 1:] / seen[:, :1], aim[:, 1:] / aim[:, :1]
    triangles = flat[faces]
    margin = 1e-9
    low, high = triangles.min(1) - margin, triangles.max(1) + margin
    held = np.all((mark[:, None] >= low) & (mark[:, None] <= high), axis=-1)
    which, face = np.nonzero(held)
    return which.astype(np.int64), face.astype(np.int64)
