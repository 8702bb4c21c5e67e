"""The spec of a camera's lens, of intrinsics and a pose given as such, and of effects by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from imgsynth.distributions import Distribution, vector
from imgsynth.leaves import Number, Point, Positive, exactly_one, leaf
from imgsynth.yamlfile import Spec


class BrownConradySpec(Spec):
    """Coefficients of OpenCV's `calibrateCamera`; k4 to k6 are those of its rational model."""

    k1: Number = leaf(0.0)
    k2: Number = leaf(0.0)
    p1: Number = leaf(0.0)
    p2: Number = leaf(0.0)
    k3: Number = leaf(0.0)
    k4: Number = leaf(0.0)
    k5: Number = leaf(0.0)
    k6: Number = leaf(0.0)


class FisheyeSpec(Spec):
    """Kannala–Brandt coefficients of OpenCV's `fisheye`; all 0 is the equidistant fisheye."""

    k1: Number = leaf(0.0)
    k2: Number = leaf(0.0)
    k3: Number = leaf(0.0)
    k4: Number = leaf(0.0)


class LensSpec(Spec):
    """Exactly one way in which a lens bends the picture; labels are those of the bent picture, exactly."""

    brown_conrady: BrownConradySpec | None = None
    fisheye: FisheyeSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> LensSpec:
        exactly_one(self, tuple(type(self).model_fields))
        return self


class IntrinsicsSpec(Spec):
    """Focal lengths and principal point instead of `fov_deg`; fy as fx and the image's centre by default.

    In `pixels` of the image, or in `fractions` (x of its width, y of its height). `pixel_centers: integer` is
    for numbers from OpenCV, where the first pixel's centre is (0, 0): here it is (0.5, 0.5).
    """

    fx: Positive
    fy: Positive | None = None
    cx: Number | None = None
    cy: Number | None = None
    units: Literal["pixels", "fractions"] = "pixels"
    pixel_centers: Literal["half", "integer"] = "half"


class LookAtSpec(Spec):
    """A camera at `position` that looks at `target`, +z of the world upwards, rolled about the view."""

    position: Point
    target: Point = leaf([0.0, 0.0, 0.0])
    roll_deg: Number = leaf(0.0)


class OpenCVPoseSpec(Spec):
    """Rotation vector (radians) and translation that take world points to the camera, as `solvePnP` gives."""

    rvec: Point
    tvec: Point


def _flat(node: Any) -> Any:
    """A matrix written as 3 or 4 rows of 4, as 12 numbers."""
    rows = isinstance(node, list | tuple) and len(node) in (3, 4)
    if rows and all(isinstance(row, list | tuple) and len(row) == 4 for row in node):
        if len(node) == 4 and list(node[3]) != [0, 0, 0, 1]:
            raise ValueError(f"expected a last row of [0, 0, 0, 1], got {list(node[3])}")
        return [v for row in node[:3] for v in row]
    return node


class PoseSpec(Spec):
    """Exactly one way to say where the camera is: instead of the orbit about `target`.

    `matrix` is world_from_camera with OpenCV axes (x right, y down, z forward), 3 or 4 rows of 4 numbers, or
    12 numbers row by row.
    """

    look_at: LookAtSpec | None = None
    opencv: OpenCVPoseSpec | None = None
    matrix: Annotated[Distribution, vector(12), BeforeValidator(_flat)] | None = None

    @model_validator(mode="after")
    def _one(self) -> PoseSpec:
        exactly_one(self, tuple(type(self).model_fields))
        return self


class EffectSpec(Spec):
    """An albumentations transform by its name, with its own options, applied with probability `p`.

    Its options stand beside `name` and `p`, as in {name: RandomFog, p: 0.5, alpha_coef: 0.1}.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=60)]
    p: Annotated[float, Field(ge=0, le=1)] = 1.0
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        own = {k: v for k, v in data.items() if k in ("name", "p", "options")}
        beside = {k: v for k, v in data.items() if k not in own}
        given = own.get("options", {})
        if not isinstance(given, dict):
            return data
        return {**own, "options": {**given, **beside}}
