"""The light of a frame as Mitsuba emitters, in scaled camera coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, RECTANGLE, SPOT
from imgsynth.render.around import around, at_edges, looking, map_from_camera
from imgsynth.render.parts import FrameParts

FARAWAY = 1e7  # units from the eye to a sun that is a disc: beyond the ground's rim
LOCAL = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""From a map's frame (z up, the middle along +x) to that of Mitsuba's maps (y up, the middle along +z)."""


def emitters(mi: Any, scene: FrameParts) -> dict[str, Any]:
    """All light of a frame that is no object's."""
    return {**_around(mi, scene), **_sun(mi, scene), **_lamps(mi, scene)}


def rgb(value: NDArray[np.floating]) -> dict[str, Any]:
    """Three numbers as Mitsuba takes them: no colour's limits."""
    return {"type": "rgb", "value": [float(v) for v in value]}


def _around(mi: Any, scene: FrameParts) -> dict[str, Any]:
    image = around(scene.batch, scene.frame)
    if not np.any(image > 0):
        return {}
    if len(image) == 1:
        return {"around": {"type": "constant", "radiance": rgb(image[0, 0])}}
    pose = np.eye(4)
    pose[:3, :3] = map_from_camera(scene.batch, scene.frame).T @ LOCAL.T
    return {"around": {"type": "envmap", "bitmap": mi.Bitmap(at_edges(image)),
                       "to_world": mi.ScalarTransform4f(pose)}}  # fmt: skip


def _sun(mi: Any, scene: FrameParts) -> dict[str, Any]:
    """A direction, or a disc far away: it hides what lies behind it, so it shines with that too."""
    lights, f = scene.batch.lights, scene.frame
    irradiance = lights.sun_irradiance[f].astype(np.float64)
    if not np.any(irradiance > 0):
        return {}
    toward = scene.camera_from_world[:3, :3] @ lights.sun_direction[f].astype(np.float64)
    radius = 0.0 if lights.sun_radius is None else float(lights.sun_radius[f])
    if radius <= 0:
        return {"sun": {"type": "directional", "direction": (-toward).tolist(),
                        "irradiance": rgb(irradiance)}}  # fmt: skip
    behind = looking(around(scene.batch, f), map_from_camera(scene.batch, f) @ toward)
    pose = np.eye(4)
    pose[:3, :3] = facing(-toward) * [FARAWAY * np.tan(radius), FARAWAY * np.tan(radius), 1.0]
    pose[:3, 3] = toward * FARAWAY
    return {"sun": {"type": "disk", "to_world": mi.ScalarTransform4f(pose), "bsdf": {"type": "null"},
                    "emitter": {"type": "area", "radiance": rgb(
                        irradiance / (np.pi * np.sin(radius) ** 2) + behind)}}}  # fmt: skip


def facing(direction: F64) -> F64:
    """(3, 3) a rotation whose third column is a unit vector."""
    side = np.cross([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0], direction)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(direction, side), direction], 1)


def _lamps(mi: Any, scene: FrameParts) -> dict[str, Any]:
    """Lamps; those with an extent are shapes, which the camera does not see."""
    lamps = scene.batch.lights.lamps
    out: dict[str, Any] = {}
    rows = np.flatnonzero(lamps.frame == scene.frame) if lamps is not None else np.zeros(0, int)
    for n, i in enumerate(rows):
        assert lamps is not None
        turn, shift = scene.camera_from_world[:3, :3], scene.camera_from_world[:3, 3]
        at = (turn @ lamps.position[i] + shift) * scene.unit
        along, across = turn @ lamps.direction[i], turn @ lamps.across[i]
        radiant, size = lamps.radiant[i].astype(np.float64), lamps.size[i] * scene.unit
        pose = np.eye(4)
        pose[:3, 3] = at
        transform = mi.ScalarTransform4f
        if lamps.kind[i] == RECTANGLE:
            pose[:3, 0], pose[:3, 1] = across * size[0] / 2, np.cross(along, across) * size[1] / 2
            pose[:3, 2] = along
            lamp = {"type": "rectangle", "to_world": transform(pose), "bsdf": {"type": "null"},
                    "emitter": {"type": "area", "radiance": rgb(radiant)}}  # fmt: skip
        elif lamps.kind[i] == SPOT:
            pose[:3, 0], pose[:3, 1], pose[:3, 2] = across, np.cross(along, across), along
            beam, cutoff = np.degrees(lamps.cone[i].astype(np.float64)) / 2
            lamp = {"type": "spot", "to_world": transform(pose), "cutoff_angle": float(cutoff),
                    "beam_width": float(min(beam, cutoff * (1 - 1e-6))),
                    "intensity": rgb(radiant * scene.unit**2)}  # fmt: skip
        elif size[0] > 0:
            lamp = {"type": "sphere", "center": at.tolist(), "radius": float(size[0]),
                    "bsdf": {"type": "null"}, "emitter": {"type": "area", "radiance": rgb(
                        radiant * scene.unit**2 / (np.pi * size[0] ** 2))}}  # fmt: skip
        else:
            lamp = {"type": "point", "position": at.tolist(), "intensity": rgb(radiant * scene.unit**2)}
        out[f"lamp{n}"] = lamp
    return out
