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

from imgsynth.cameraspec import EffectSpec, IntrinsicsSpec, LensSpec, PoseSpec
from imgsynth.distributions import (
    Distribution,
    integer,
    number,
    vector,
)
from imgsynth.layoutspec import PhysicsSpec, PlaceSpec, RulesSpec
from imgsynth.leaves import (
    PICK,
    SEED,
    Color,
    Count,
    Flag,
    Fraction,
    Name,
    NonNegative,
    Number,
    Point,
    Positive,
    Seed,
    leaf,
)
from imgsynth.lightspec import LightSpec
from imgsynth.materialspec import MaterialSpec
from imgsynth.motionspec import ExposureSpec, MotionSpec
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


class GradientSpec(Spec):
    """Two colours, top to bottom."""

    top: Color
    bottom: Color


class ScreenNoiseSpec(Spec):
    """Smooth noise between two colours, `scale` cells across the image."""

    a: Color
    b: Color
    scale: Positive = leaf(8.0)
    seed: Seed = leaf(SEED)


class PhotosSpec(Spec):
    """A random crop of a random photograph from a folder (relative to the scene file)."""

    folder: str
    pick: Fraction = leaf({"uniform": [0, 1]})
    crop: Annotated[Distribution, number(gt=0, le=1)] = leaf({"uniform": [0.5, 1.0]})
    x: Fraction = leaf({"uniform": [0, 1]})
    y: Fraction = leaf({"uniform": [0, 1]})
    brightness: NonNegative = leaf(1.0)


class BackgroundSpec(Spec):
    """What is seen where nothing is hit; where several kinds are given, a frame picks one by `weights`."""

    flat: Color | None = None
    gradient: GradientSpec | None = None
    noise: ScreenNoiseSpec | None = None
    photos: PhotosSpec | None = None
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    pick: Fraction = leaf(0.5)

    @model_validator(mode="before")
    @classmethod
    def _picks(cls, data: Any) -> Any:
        kinds = [
            k
            for k in ("flat", "gradient", "noise", "photos")
            if isinstance(data, dict) and data.get(k) is not None
        ]
        return {"pick": PICK, **data} if len(kinds) > 1 else data

    @property
    def kinds(self) -> dict[str, float]:
        """The kinds given and their normalized weights, in a fixed order."""
        given = {
            k: self.weights.get(k, 1.0)
            for k in ("flat", "gradient", "noise", "photos")
            if getattr(self, k) is not None
        }
        total = sum(given.values())
        return {k: w / total for k, w in given.items()}

    @model_validator(mode="after")
    def _weighted(self) -> BackgroundSpec:
        given = [k for k in ("flat", "gradient", "noise", "photos") if getattr(self, k) is not None]
        if not given:
            raise ValueError("expected at least one of flat, gradient, noise, photos")
        if unknown := [k for k in self.weights if k not in given]:
            raise ValueError(
                f"weights names {unknown[0]!r}, which is not among the given kinds ({', '.join(given)})"
            )
        if sum(self.weights.get(k, 1.0) for k in given) <= 0:
            raise ValueError("weights sum to zero")
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


class SensorSpec(Spec):
    """From radiance to the file's bytes; see `imgsynth.sensor` for the order and the laws of each step.

    With `native_px` the camera's own picture is that wide, and lengths in pixels count its pixels, until
    `native_resize` brings it to the image's size (`linear` as OpenCV does, without averaging, or `area`).
    """

    sample_blur_px: NonNegative = leaf(0.0)
    sample_noise: NonNegative = leaf(0.0)
    binarize: Flag = leaf(False)
    threshold_bias: Number = leaf(0.0)
    native_px: Annotated[Distribution, number(ge=0, le=8192)] = leaf(0)
    veil: Fraction = leaf(0.0)
    auto_exposure: Fraction = leaf(0.0)
    exposure_ev: Number = leaf(0.0)
    white_balance: Annotated[Distribution, vector(3, gt=0)] = leaf([1.0, 1.0, 1.0])
    saturation: NonNegative = leaf(1.0)
    chromatic: Annotated[Distribution, vector(2, gt=-0.2, lt=0.2)] = leaf([0.0, 0.0])
    blur_px: NonNegative = leaf(0.0)
    motion_px: NonNegative = leaf(0.0)
    motion_deg: Number = leaf(0.0)
    vignetting: Annotated[Distribution, number(ge=0, lt=1)] = leaf(0.0)
    vignette_terms: Annotated[Distribution, vector(3)] = leaf([0.0, 0.0, 0.0])
    shot_noise: NonNegative = leaf(0.0)
    read_noise: NonNegative = leaf(0.0)
    mosaic: Annotated[Distribution, integer(ge=0, le=4)] = leaf(0)
    contrast: Positive = leaf(1.0)
    black_level: Fraction = leaf(0.0)
    filmic: Fraction = leaf(0.0)
    sharpen: NonNegative = leaf(0.0)
    jpeg_quality: Annotated[Distribution, integer(ge=0, le=100)] = leaf(0)
    tone: Literal["srgb", "linear"] = "srgb"
    invert: bool = False
    native_resize: Literal["linear", "area"] = "linear"
    effects: tuple[EffectSpec, ...] = ()


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
