"""The scene spec: a tree of frozen values whose leaves may be distributions.

The same types serve YAML (`imgsynth.scenefile`) and Python: every leaf accepts what YAML would hold (a
number, a list, ``{"uniform": [0, 1]}``) or a `Distribution`. Lengths in metres, angles in degrees, colours in
sRGB, sizes (height, width).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from imgsynth.backdropspec import (  # noqa: F401 (handed on)
    BackgroundSpec,
    GradientSpec,
    PhotosSpec,
    ScreenNoiseSpec,
)
from imgsynth.cameraspec import EffectSpec, IntrinsicsSpec, LensSpec, PoseSpec  # noqa: F401
from imgsynth.distributions import Distribution, number
from imgsynth.layoutspec import PhysicsSpec, PlaceSpec, RulesSpec
from imgsynth.leaves import Count, Fraction, Name, Number, Point, Positive, leaf
from imgsynth.lightspec import LightSpec
from imgsynth.materialspec import MaterialSpec
from imgsynth.motionspec import ExposureSpec, MotionSpec
from imgsynth.sensorspec import SensorSpec
from imgsynth.shapespec import ShapeSpec
from imgsynth.yamlfile import Spec, nearest


class ImageSpec(Spec):
    """The picture: (height, width) in pixels, and 3 channels (RGB) or 1 (grey)."""

    size: tuple[Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]] = (256, 256)
    channels: Literal[1, 3] = 3


class FramingSpec(Spec):
    """Crop so that the labelled objects' projected box fills the image, as size-normalising scanners do.

    `stretch` fills both axes, each with a scale of its own; `contain` keeps the aspect and centres the box.
    `margin` is left free on each side as a fraction of the image (`margin_x`, `margin_y`). With `stretch`,
    `max_aspect` bounds how much more one axis may be magnified than the other. The intrinsics say what was
    done, so every label stays exact.
    """

    fit: Literal["stretch", "contain"] = "contain"
    margin_x: Fraction = leaf(0.0)
    margin_y: Fraction = leaf(0.0)
    shift_x: Number = leaf(0.0)
    shift_y: Number = leaf(0.0)
    max_aspect: Positive = leaf(1e6)


class CameraSpec(Spec):
    """A camera that orbits `target`: azimuth counter-clockwise from +x, elevation above the horizon, roll
    about the view; a pinhole unless a `lens` is given. `look_at` names a group: the target is then counted
    from the middle of its objects.

    `fov_deg` is the vertical field that the picture shows, through the lens too. `intrinsics` stand instead
    of it, `pose` instead of the orbit.
    """

    fov_deg: Annotated[Distribution, number(gt=0, lt=175)] = leaf(45.0)
    target: Point = leaf([0.0, 0.0, 0.0])
    distance: Positive = leaf(1.0)
    azimuth_deg: Number = leaf(-90.0)
    elevation_deg: Annotated[Distribution, number(ge=-90, le=90)] = leaf(45.0)
    roll_deg: Number = leaf(0.0)
    near: Positive = leaf(0.01)
    look_at: str | None = None
    intrinsics: IntrinsicsSpec | None = None
    pose: PoseSpec | None = None
    lens: LensSpec | None = None
    framing: FramingSpec | None = None
    motion: MotionSpec | None = None
    exposure: ExposureSpec | None = None

    @model_validator(mode="after")
    def _said_once(self) -> CameraSpec:
        orbit = ("target", "distance", "azimuth_deg", "elevation_deg", "roll_deg", "look_at")
        for given, others in (("intrinsics", ("fov_deg",)), ("pose", orbit)):
            twice = [name for name in others if name in self.model_fields_set]
            if getattr(self, given) is not None and twice:
                raise ValueError(f"{given} stands instead of {twice[0]}: expected one of them, got both")
        return self


class GroundSpec(Spec):
    """An infinite floor z = height; texture uv = world xy in metres."""

    height: Number = leaf(0.0)
    material: MaterialSpec = Field(default_factory=MaterialSpec)


def _distinct(names: Any) -> Any:
    twice = [name for name in names if names.count(name) > 1] if isinstance(names, tuple) else []
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice")
    return names


class ObjectSpec(Spec):
    """A group of like objects: how many, what, where, of which class (none: an occluder or a prop).

    `class_from: up` reads the class off the pose instead: it is the shape's direction named like a class that
    points most nearly up; with `camera`, most nearly to the camera.

    `parts` gives the shape's further material slots theirs; a part without one takes that of the part before
    it. What a mesh file says of its materials holds until `material` or `parts` say otherwise, key by key.
    `keypoints` names those of the shape's keypoints that are labelled, in this order, or `all`.
    """

    count: Count = leaf(1)
    class_: Name | None = Field(default=None, alias="class")
    class_from: Literal["up", "camera"] | None = None
    shape: ShapeSpec
    scale: Positive = leaf(1.0)
    place: PlaceSpec = Field(default_factory=PlaceSpec)
    motion: MotionSpec | None = None
    material: MaterialSpec = Field(default_factory=MaterialSpec)
    parts: dict[str, MaterialSpec] = {}
    keypoints: Annotated[tuple[str, ...] | Literal["all"], AfterValidator(_distinct)] = ()

    @property
    def labelled(self) -> bool:
        """Whether its objects have a class."""
        assets = self.shape.assets
        by_asset = assets is not None and assets.classes is not None
        return by_asset or self.class_ is not None or self.class_from is not None

    @model_validator(mode="after")
    def _one_class(self) -> ObjectSpec:
        given = [name for name, said in (("class", self.class_), ("class_from", self.class_from)) if said]
        if self.shape.assets is not None and self.shape.assets.classes is not None:
            given.append("shape.assets.classes")
        if len(given) > 1:
            raise ValueError(f"expected one thing to name the class, got {' and '.join(given)}")
        return self


def _perfect_square(samples: int) -> int:
    root = round(samples**0.5)
    if root * root != samples or not 1 <= root <= 8:
        raise ValueError(f"expected 1, 4, 9, 16, 25, 36, 49 or 64 (a k×k grid), got {samples}")
    return samples


class RendererSpec(Spec):
    """Colour samples a pixel (k×k grid), and how many cells a pixel's side is textured and lit in.

    Labels are always sampled at the pixel's centre. A `detail` above 1 is for a sensor finer than the picture
    (`sensor.native_px`). `paths` and `max_depth` are for the path-traced references (`--renderer mitsuba`):
    light paths a pixel, and most segments of one (2 is direct light only). What moves or is out of focus is
    the mean of `pictures` pictures at least, of one sample a pixel each; a rolling shutter exposes
    `readout_lines` lines at once, 1 being exact.
    """

    samples: Annotated[int, AfterValidator(_perfect_square)] = 4
    detail: Annotated[int, Field(ge=1, le=8)] = 1
    paths: Annotated[int, Field(ge=1, le=65536)] = 64
    max_depth: Annotated[int, Field(ge=1, le=64)] = 6
    pictures: Annotated[int, Field(ge=1, le=4096)] = 16
    readout_lines: Annotated[int, Field(ge=1, le=8192)] = 4

    @model_validator(mode="after")
    def _divides(self) -> RendererSpec:
        root = round(self.samples**0.5)
        if root % self.detail:
            raise ValueError(f"detail: expected a divisor of {root}, the samples' root, got {self.detail}")
        return self


def _unique(classes: Any) -> Any:
    if isinstance(classes, list | tuple):
        bad = [c for c in classes if not isinstance(c, str)]
        if bad:
            raise ValueError(f"expected class names as text (quote numbers), got {bad[0]!r}")
        if len(set(classes)) != len(classes):
            raise ValueError("a class name stands twice")
    return classes


Output = Literal[
    "depth",
    "distance",
    "normal",
    "albedo",
    "nocs",
    "flow_forward",
    "flow_backward",
    "panoptic",
    "semantic",
]  # files of a frame beside its image and its mask; what each holds: imgsynth.dataset.codec


class SceneSpec(Spec):
    """A scene: everything that a frame depends on beside (seed, index).

    `variables` are free leaves for expressions to share. `freeze` lists leaves or whole branches held at
    their median; `slots` overrides single leaves of repeated groups (``objects.die[3].scale``). Both are what
    ``--freeze`` and ``--set`` write.
    """

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9_\-]+$")]
    description: str = ""
    classes: Annotated[tuple[str, ...], BeforeValidator(_unique)] = ()
    image: ImageSpec = Field(default_factory=ImageSpec)
    camera: CameraSpec = Field(default_factory=CameraSpec)
    light: LightSpec = Field(default_factory=LightSpec)
    background: BackgroundSpec = Field(
        default_factory=lambda: BackgroundSpec.model_validate({"flat": "#808080"})
    )
    ground: GroundSpec | None = None
    objects: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ObjectSpec] = {}
    variables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Number] = {}
    physics: PhysicsSpec = Field(default_factory=PhysicsSpec)
    rules: RulesSpec | None = None
    sensor: SensorSpec = Field(default_factory=SensorSpec)
    renderer: RendererSpec = Field(default_factory=RendererSpec)
    outputs: Annotated[tuple[Output, ...], AfterValidator(_distinct)] = ()
    licences: dict[str, str] = {}
    freeze: tuple[str, ...] = ()
    slots: dict[str, Any] = {}

    @model_validator(mode="after")
    def _ruled_groups(self) -> SceneSpec:
        for name in self.rules.groups if self.rules else ():
            if name not in self.objects or not self.objects[name].labelled:
                names = [k for k, obj in self.objects.items() if obj.labelled]
                raise ValueError(f"rules.groups: {name!r} is no group with a class{nearest(name, names)}")
        return self

    def canonical(self) -> dict[str, Any]:
        """The spec as plain data, defaults left out: what the manifest stores, and what makes it again."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def digest(self) -> str:
        """SHA-256 of the whole spec, defaults included, so that a changed default changes it too."""
        full = self.model_dump(mode="json", by_alias=True)
        for word in ("description", "licences"):
            full.pop(word)
        return hashlib.sha256(json.dumps(full, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
