"""What moves in each frame, and how it is exposed: the spec's `motion` and `exposure` as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, Cameras, Exposure, InstanceTable
from imgsynth.errors import SceneError
from imgsynth.layout import Group
from imgsynth.motionspec import ExposureSpec
from imgsynth.plan import Draws, Plan, Reader
from imgsynth.scene import SceneSpec
from imgsynth.yamlfile import nearest


def exposure(
    plan: Plan, draws: Draws, cameras: Cameras, instances: InstanceTable, groups: Mapping[str, Group]
) -> Exposure | None:
    """The exposure of each frame; None where nothing moves, no flow is asked for and the
    scene's camera says nothing of it. `groups` are the scene's, placed.

    Raises:
        SceneError: the camera is to focus on what is not there, or has an open lens that bends.
    """
    spec = plan.spec
    given, motion = spec.camera.exposure, spec.camera.motion
    moving = [name for name, obj in spec.objects.items() if obj.motion is not None]
    asked = any(name.startswith("flow_") for name in spec.outputs)
    if given is None and motion is None and not moving and not asked:
        return None
    n = len(draws.indices)
    read = Reader(draws, "camera", np.arange(n))
    velocity, spin = np.zeros((2, len(instances), 3))
    for name in moving:
        rows = np.flatnonzero(instances.group == name)
        slot = np.array([int(path[path.rindex("[") + 1 : -1]) for path in instances.path[rows]], np.intp)
        own = Reader(draws, f"objects.{name}.motion", instances.frame[rows].astype(np.intp), slot)
        velocity[rows], spin[rows] = own("velocity"), own("spin_deg")
    radius = _aperture(given, read, cameras, spec.image.size, spec.camera.intrinsics is not None)
    if cameras.lens is not None and np.any(radius > 0):
        raise SceneError(
            "expected a pinhole: depth of field through a camera.lens that bends is not drawn; leave out "
            "the lens or the aperture",
            path="camera.exposure",
        )
    still = np.zeros((n, 3))

    def timing(name: str, default: float) -> F64:
        return np.full(n, default) if given is None else read(f"exposure.{name}").astype(np.float64)

    return Exposure(
        shutter=timing("shutter_s", 0.0),
        readout=timing("readout_s", 0.0),
        interval=timing("interval_s", 1 / 30),
        aperture_radius=radius,
        focus=_focus(plan, given, read, cameras, instances),
        camera_velocity=still if motion is None else read("motion.velocity").astype(np.float64),
        camera_spin_deg=still if motion is None else read("motion.spin_deg").astype(np.float64),
        velocity=velocity,
        spin_deg=spin,
        carrier=_carriers(spec, instances, groups) if moving else None,
    )


def _carriers(spec: SceneSpec, instances: InstanceTable, groups: Mapping[str, Group]) -> I64 | None:
    """(I,) whose motion each instance follows: its own where it has some, or is attached to nothing, else
    that of what it is attached to, and so on. None where all follow their own.
    """
    row_of: dict[tuple[int, str], int] = dict(
        zip(
            zip(instances.frame.tolist(), instances.path.tolist(), strict=True),
            range(len(instances)),
            strict=True,
        )
    )
    out = np.arange(len(instances))
    for name, group in groups.items():
        attach = group.spec.place.attach
        if attach is None or group.on is None or spec.objects[name].motion is not None:
            continue
        other = groups[attach.to]
        for k in np.flatnonzero(group.keep):
            own = row_of[int(group.frame[k]), f"objects.{name}[{group.slot[k]}]"]
            parent = int(group.on[k])
            out[own] = row_of[int(other.frame[parent]), f"objects.{attach.to}[{other.slot[parent]}]"]
    while not np.array_equal(out, out[out]):  # from what carries to what carries that
        out = out[out]
    return None if np.array_equal(out, np.arange(len(out))) else out


def _aperture(
    given: ExposureSpec | None, read: Reader, cameras: Cameras, size: tuple[int, int], measured: bool
) -> F64:
    """Radii (n,) of the entrance pupils: half the focal length by the f-number.

    The focal length is that of K where the scene gives its intrinsics, else of `fov_deg`: a framing crops the
    picture and leaves the lens as it is.
    """
    if given is not None and given.aperture_m is not None:
        return read("exposure.aperture_m").astype(np.float64) / 2
    if given is None or given.f_number is None:
        return np.zeros(len(cameras.k))
    heights = 0.5 / np.tan(np.radians(read("fov_deg").astype(np.float64)) / 2)
    if measured:
        heights = cameras.k[:, 1, 1] / size[0]
    focal: F64 = read("exposure.sensor_height_m") * heights
    return focal / read("exposure.f_number") / 2


def _focus(
    plan: Plan, given: ExposureSpec | None, read: Reader, cameras: Cameras, instances: InstanceTable
) -> F64:
    """Depths (n,) of the planes in focus."""
    if given is not None and given.focus_m is not None:
        return read("exposure.focus_m").astype(np.float64)
    open_lens = given is not None and (given.aperture_m is not None or given.f_number is not None)
    if plan.spec.camera.pose is not None and open_lens and given is not None and given.focus_on is None:
        raise SceneError(
            "a camera with a pose has no target: expected focus_m or focus_on", path="camera.exposure"
        )
    depth = read("distance").astype(np.float64).copy()
    if given is None or given.focus_on is None:
        return depth
    if given.focus_on not in plan.spec.objects:
        raise SceneError(
            f"{given.focus_on!r} is no group of objects{nearest(given.focus_on, plan.spec.objects)}",
            path="camera.exposure.focus_on",
        )
    rows: NDArray[np.intp] = np.flatnonzero(instances.group == given.focus_on)
    frame = instances.frame[rows]
    pose = cameras.world_from_camera[frame]
    away = np.einsum("ni,ni->n", pose[:, :3, 2], instances.world_from_object[rows, :3, 3] - pose[:, :3, 3])
    before = away > cameras.near[frame]
    first, where = np.unique(frame[before], return_index=True)
    depth[first] = away[before][where]
    return depth
