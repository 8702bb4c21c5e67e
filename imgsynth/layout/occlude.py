"""Objects placed before another so that they hide a wanted share of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth.batch import F64
from imgsynth.layout.stage import Group, Stage

_CELLS = 96  # of the raster that a silhouette is measured on, along its longer side
_HALVINGS = 14


def occlude(stage: Stage, group: Group) -> None:
    """Place a group's objects between the camera and the objects that they hide; those without room, or
    without a target, are left out and counted in `stage.report`.

    An object slides sideways from the middle of its target's outline until its own convex outline covers the
    wanted share; where it is too small to, it stays in the middle. Found by bisection, by the shapes alone:
    what else stands about, and holes in textures, do not count.
    """
    spec, read, cameras = group.spec.place.occlude, stage.read(group, "place.occlude"), stage.cameras
    assert spec is not None
    assert cameras is not None
    target = stage.groups[spec.target]
    partner = stage.partner(group, spec.target, None if spec.pick is None else read("pick"))
    share, along = read("share"), read("along")
    side = np.radians(read("side_deg").astype(np.float64))
    view = geometry.rigid_inverse(cameras.world_from_camera)
    for row in range(len(group.frame)):
        frame, other = int(group.frame[row]), int(partner[row])
        group.keep[row] = False
        if other < 0:
            continue
        vertices, faces = target.mesh(other)
        theirs = geometry.transform(view[frame] @ target.pose[other], vertices)
        used = theirs[np.unique(faces)]
        ball, near = float(group.extents.ball[row]), float(cameras.near[frame])
        depth = float(along[row]) * float(used[:, 2].mean())
        if used[:, 2].min() <= near or not near + ball < depth < used[:, 2].min() - ball:
            continue
        own, own_faces = group.mesh(row)
        ours = own[np.unique(own_faces)] @ (view[frame, :3, :3] @ group.pose[row, :3, :3]).T
        samples = silhouette(theirs[:, :2] / theirs[:, 2:], faces)
        middle, way = samples.mean(0), np.array([np.cos(side[row]), np.sin(side[row])])
        shift = _slide(samples - middle, ours, middle, depth, way, float(share[row]))
        place = np.append((middle + shift * way) * depth, depth)
        group.pose[row, :3, 3] = geometry.transform(cameras.world_from_camera[frame], place[None])[0]
        group.keep[row] = True
    left = np.bincount(group.frame[~group.keep], minlength=len(stage)).astype(np.int32)
    stage.report["no_room"] = stage.report.get("no_room", np.zeros(len(stage), np.int32)) + left


def silhouette(points: F64, faces: NDArray[np.integer]) -> F64:
    """Points (s, 2) spread evenly over what a mesh covers whose vertices are projected to `points` (v, 2)."""
    used = points[np.unique(faces)]
    low, span = used.min(0), max(float(np.ptp(used, axis=0).max()), 1e-12)
    mask = np.zeros((_CELLS, _CELLS), np.uint8)
    corners = np.round(((points - low) / span * (_CELLS - 1)) * 16).astype(np.int32)
    for triangle in corners[faces]:
        cv2.fillConvexPoly(mask, triangle, 1, cv2.LINE_8, 4)
    y, x = np.nonzero(mask)
    return low + np.stack([x, y], -1) * (span / (_CELLS - 1))


def covered(samples: F64, outline: F64) -> float:
    """The share of the points (s, 2) inside the convex hull of `outline` (v, 2)."""
    around = cv2.convexHull(outline.astype(np.float32))[:, 0].astype(np.float64)
    edge = np.roll(around, -1, 0) - around
    gap = samples[:, None] - around
    side = edge[:, 0] * gap[..., 1] - edge[:, 1] * gap[..., 0]
    return float(((side >= 0).all(1) | (side <= 0).all(1)).mean())


def _slide(samples: F64, ours: F64, middle: F64, depth: float, way: F64, share: float) -> float:
    """How far to go from the middle so that the share is covered: 0 where even there it is not."""

    def cover(shift: float) -> float:
        place = np.append((middle + shift * way) * depth, depth)
        points = ours + place
        return covered(samples, points[:, :2] / points[:, 2:] - middle)

    if cover(0.0) <= share:
        return 0.0
    reach = np.linalg.norm(samples, axis=1).max() + np.linalg.norm(ours, axis=1).max() / depth
    low, high = 0.0, 2.0 * float(reach)
    for _ in range(_HALVINGS):
        half = (low + high) / 2
        low, high = (half, high) if cover(half) > share else (low, half)
    return (low + high) / 2
