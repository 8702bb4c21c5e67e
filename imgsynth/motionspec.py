"""What moves, and how a camera's shutter and lens see it: the spec's part of time."""

from __future__ import annotations

from pydantic import model_validator

from imgsynth.leaves import NonNegative, Point, Positive, leaf
from imgsynth.yamlfile import Spec


class MotionSpec(Spec):
    """A constant motion: `velocity` in metres a second, `spin_deg` in degrees a second about the axis that
    the three numbers point along, through the thing's own origin. An object's are along the world's axes, a
    camera's along its own: right, down, forward.
    """

    velocity: Point = leaf([0.0, 0.0, 0.0])
    spin_deg: Point = leaf([0.0, 0.0, 0.0])


class ExposureSpec(Spec):
    """How long and through what the camera looks.

    The scene's poses are those at the middle of the shutter, which is open for `shutter_s`. With `readout_s`
    the lines are exposed one after another, the first half of it before the middle line and the last half
    after. A lens is wide open by `aperture_m` (the diameter of its entrance pupil) or at `f_number`, on a
    sensor of that height; it is focused on a plane `focus_m` before the camera, or through the origin of the
    first object of the group `focus_on` that is in the frame and before the camera, or else through the
    camera's target. `interval_s` lies between this frame and the next or the last one, for optical flow.
    """

    shutter_s: NonNegative = leaf(0.0)
    readout_s: NonNegative = leaf(0.0)
    interval_s: Positive = leaf(1 / 30)
    aperture_m: NonNegative | None = None
    f_number: Positive | None = None
    sensor_height_m: Positive = leaf(0.024)
    focus_m: Positive | None = None
    focus_on: str | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> ExposureSpec:
        for a, b in (("aperture_m", "f_number"), ("focus_m", "focus_on")):
            if getattr(self, a) is not None and getattr(self, b) is not None:
                raise ValueError(f"expected one of {a} and {b}, got both")
        return self
