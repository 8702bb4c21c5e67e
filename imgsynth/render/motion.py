"""Where everything is at another time than the frame's own: poses in closed form, in float64 numpy.

Time 0 is the frame's, to which the batch's poses belong. With v, ω an object's velocity and spin and p, R
its pose, it is at time t at p + v·t, turned by exp(ω·t)·R; a camera with pose T and twist ξ in its own axes
stands at T·exp(ξ·t). What is attached to another stays where it is in the other's frame. Of an image read out
line by line the line at height y (pixels) of H is exposed about the time (y/H − ½) · readout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth import geometry, lens
from imgsynth.batch import F64, I64, Exposure, SceneBatch
from imgsynth.render.projection import camera_from_object


@dataclass(frozen=True)
class Camera:
    """One frame's camera, from pixels to rays and back, through its lens."""

    k: F64
    kind: int
    coefficients: F64
    field: float

    @staticmethod
    def of(batch: SceneBatch, frame: int) -> Camera:
        """That of a frame."""
        k, bent = batch.cameras.k[frame], batch.cameras.lens
        if bent is None or bent.kind[frame] == lens.PINHOLE:
            return Camera(k, lens.PINHOLE, np.zeros(8), np.inf)
        kind, coefficients = int(bent.kind[frame]), bent.coefficients[frame]
        return Camera(k, kind, coefficients, lens.reach(kind, coefficients))

    def look(self, xy: F64) -> F64:
        """x and y (m, 2) at depth 1 of the rays that pixels (m, 2) see."""
        return lens.straighten(self.kind, self.coefficients, lens.normalized(self.k, xy), self.field)

    def project(self, points: F64) -> F64:
        """Pixels (m, 2) of points (m, 3) in the camera's axes; NaN where they are behind it or outside the
        lens's field.
        """
        return lens.project(self.kind, self.coefficients, self.k, points, self.field)


def moving(batch: SceneBatch) -> NDArray[np.bool_]:
    """(n,) the frames in which the camera or an object moves."""
    exposure = batch.exposure
    if exposure is None:
        return np.zeros(len(batch), bool)
    out: NDArray[np.bool_] = np.any(exposure.camera_velocity, axis=1) | np.any(
        exposure.camera_spin_deg, axis=1
    )
    objects = np.any(exposure.velocity, axis=1) | np.any(exposure.spin_deg, axis=1)
    out[batch.instances.frame[objects]] = True
    return out


def line_time(exposure: Exposure, y: ArrayLike, height: int, frame: I64 | slice = slice(None)) -> F64:
    """Seconds about which what falls on image height `y` (n, ...) is exposed, in frames `frame` (n,)."""
    y = np.asarray(y, np.float64)
    readout = exposure.readout[frame]
    return (y / height - 0.5) * readout.reshape(-1, *[1] * (y.ndim - 1))


def cameras_at(batch: SceneBatch, seconds: F64) -> F64:
    """`world_from_camera` (n, 4, 4) of all frames at times `seconds` (n,)."""
    pose, exposure = batch.cameras.world_from_camera, batch.exposure
    if exposure is None:
        return pose
    t = seconds[:, None]
    moved = pose @ geometry.screw(exposure.camera_velocity * t, exposure.camera_spin_deg * t)
    still = ~np.any(exposure.camera_velocity * t, axis=1) & ~np.any(exposure.camera_spin_deg * t, axis=1)
    return np.where(still[:, None, None], pose, moved)


def objects_at(batch: SceneBatch, seconds: F64) -> F64:
    """`world_from_object` (I, 4, 4) of all instances at times `seconds` (n,) of their frames."""
    pose, exposure = batch.instances.world_from_object, batch.exposure
    if exposure is None or not len(pose):
        return pose
    t = seconds[batch.instances.frame][:, None]
    out = pose.copy()
    out[:, :3, 3] += exposure.velocity * t
    turning = np.flatnonzero(np.any(exposure.spin_deg * t, axis=1))
    out[turning, :3, :3] = geometry.turned((exposure.spin_deg * t)[turning]) @ pose[turning, :3, :3]
    if exposure.carrier is not None:
        led = np.flatnonzero(exposure.carrier != np.arange(len(pose)))
        lead = exposure.carrier[led]
        out[led] = out[lead] @ geometry.rigid_inverse(pose[lead]) @ pose[led]
    return out


def at(batch: SceneBatch, seconds: F64) -> SceneBatch:
    """The batch with everything where it is at times `seconds` (n,)."""
    return replace(
        batch,
        cameras=replace(batch.cameras, world_from_camera=cameras_at(batch, seconds)),
        instances=replace(batch.instances, world_from_object=objects_at(batch, seconds)),
    )


def carried(batch: SceneBatch, frame: I64, row: I64, start: F64, end: F64) -> F64:
    """Transforms (m, 4, 4) of points in the camera's axes at time `start` (m,) to where they are in its axes
    at time `end` (m,), seconds.

    Args:
        batch: with an exposure.
        frame: (m,) positions in the batch.
        row: (m,) the instances that the points move with; -1 = the world's own.
        start: the times that the points are given at.
        end: the times asked for.
    """
    exposure = batch.exposure
    assert exposure is not None
    base = batch.cameras.world_from_camera[frame]
    twist = exposure.camera_velocity[frame], exposure.camera_spin_deg[frame]
    before = base @ geometry.screw(*(v * start[:, None] for v in twist))
    after = base @ geometry.screw(*(v * end[:, None] for v in twist))
    world = np.tile(np.eye(4), (len(frame), 1, 1))
    own = np.flatnonzero(row >= 0)
    if len(own):
        which = row[own] if exposure.carrier is None else exposure.carrier[row[own]]
        place, velocity = batch.instances.world_from_object[which, :3, 3], exposure.velocity[which]
        turn = geometry.turned(exposure.spin_deg[which] * (end - start)[own, None])
        from_start = place + velocity * start[own, None]
        world[own, :3, :3] = turn
        world[own, :3, 3] = place + velocity * end[own, None] - np.einsum("nij,nj->ni", turn, from_start)
    return geometry.rigid_inverse(after) @ world @ before


def seen_at(batch: SceneBatch, row: I64, seconds: F64) -> F64:
    """(m, 4, 4) poses of instances `row` (m,) in their cameras at times `seconds` (m,)."""
    frame = batch.instances.frame[row].astype(np.int64)
    pose = camera_from_object(batch)[row]
    late = np.flatnonzero(seconds)
    if len(late):
        start = np.zeros(len(late))
        pose[late] = carried(batch, frame[late], row[late], start, seconds[late]) @ pose[late]
    return pose
