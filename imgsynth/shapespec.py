"""What a scene file says of a shape; `imgsynth.shapes.build` makes meshes of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from imgsynth.distributions import Distribution, number, text, vector
from imgsynth.leaves import Flag, Fraction, Name, NonNegative, Number, Positive, exactly_one, leaf
from imgsynth.yamlfile import Spec


class SphereSpec(Spec):
    """A ball."""

    radius: Positive


class BoxSpec(Spec):
    """A cuboid with sharp edges, size (x, y, z)."""

    size: Annotated[Distribution, vector(3, gt=0)]


class RoundedBoxSpec(Spec):
    """A cuboid whose edges and corners are rounded with `radius` (at most half the smallest side)."""

    size: Annotated[Distribution, vector(3, gt=0)]
    radius: Positive


class CylinderSpec(Spec):
    """A solid cylinder standing along z."""

    radius: Positive
    height: Positive


class DiscSpec(Spec):
    """A flat disc facing +z."""

    radius: Positive


class QuadSpec(Spec):
    """A textured rectangle facing +z."""

    width: Positive
    height: Positive


class PlateSpec(Spec):
    """A polygon plate: a simple outline (counter-clockwise, metres) facing +z, flat or extruded downwards."""

    outline: tuple[tuple[float, float], ...]
    thickness: NonNegative = leaf(0.0)

    @field_validator("outline")
    @classmethod
    def _polygon(cls, outline: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        if len(outline) < 3:
            raise ValueError(f"expected at least 3 corners, got {len(outline)}")
        return outline


UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "ft": 0.3048}


def _unit(unit: float | str | None) -> float | str | None:
    if unit is not None and unit not in UNITS and not (isinstance(unit, float) and 0 < unit < float("inf")):
        raise ValueError(f"expected {', '.join(UNITS)} or a number of metres above 0, got {unit!r}")
    return unit


Unit = Annotated[float | str | None, AfterValidator(_unit)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
UpAxis = Literal["y", "z"]
Center = Literal["origin", "bottom", "box", "centroid"]


class MeshReading(Spec):
    """How mesh files are read: see docs/assets.md.

    `unit` is what 1 stands for in the file (metres if nothing says otherwise), or `size_m` the length of the
    largest side. `up_axis` is y for glTF and z for the others. `center` moves the origin: `origin` is the
    file's own, `bottom` the middle of the bounding box's underside, `box` its middle, `centroid` the centre
    of mass. With `materials: scene` the file's own are not looked at. Textures are halved until no side is
    longer than `texture_px`.
    """

    unit: Unit = None
    size_m: Above | None = None
    up_axis: UpAxis | None = None
    center: Center | None = None
    materials: Literal["file", "scene"] = "file"
    texture_px: Annotated[int, Field(ge=1, le=16384)] = 2048
    max_triangles: Annotated[int, Field(ge=1)] = 1_000_000
    max_mb: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _one_size(self) -> MeshReading:
        if self.unit is not None and self.size_m is not None:
            raise ValueError("unit and size_m both set the size: give one of them")
        return self


class MeshSpec(MeshReading):
    """A triangle mesh from a file (OBJ, PLY, STL, GLB, glTF), relative to the scene file."""

    file: str


class AssetsSpec(MeshReading):
    """One mesh file of a folder for each object, from the folder's train part, its test part or all of it.

    The parts are told apart by a hash of the file's name, so a file stays where it is when others come.
    `pick` is the name of the file below the folder; where it is left out it becomes, when the scene is
    loaded, a choice of all files of the part: each as often (`balance: assets`), each sub-folder as often
    (`folders`), or sub-folders by weight (a mapping). `classes` names the object's class after the sub-folder
    (`folder`) or the file (`file`).
    """

    folder: str
    split: Literal["train", "test", "all"] = "all"
    test_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    balance: Literal["assets", "folders"] | dict[str, Annotated[float, Field(ge=0)]] = "assets"
    classes: Literal["folder", "file"] | None = None
    pick: Name | None = None
    listed: bool = False  # whether `pick` was filled in when the scene was loaded


class DiceSpec(Spec):
    """A six-sided die with pips; lengths of pips and corners are fractions of `size`. See
    `imgsynth.shapes.dice`.
    """

    size: Positive = leaf(0.016)
    corner_radius: Annotated[Distribution, number(gt=0, lt=0.5)] = leaf(0.12)
    pip_radius: Annotated[Distribution, number(gt=0, lt=0.25)] = leaf(0.095)
    pip_depth: Annotated[Distribution, number(ge=0, lt=0.25)] = leaf(0.03)
    pip_spread: Annotated[Distribution, number(gt=0, lt=0.5)] = leaf(0.25)
    one_scale: Annotated[Distribution, number(gt=0, le=2.5)] = leaf(1.0)
    right_handed: Flag = leaf(True)
    turn_two: Flag = leaf(False)
    turn_three: Flag = leaf(False)
    turn_six: Flag = leaf(False)


class StrokesSpec(Spec):
    """A handwritten glyph as ribbons of ink in the plane z = 0. See `imgsynth.shapes.strokes`."""

    glyph: Name
    style: Fraction = leaf({"uniform": [0, 1]})
    height: Positive = leaf(1.0)
    width: Positive = leaf(0.1)
    aspect: Positive = leaf(1.0)
    slant_deg: Annotated[Distribution, number(gt=-80, lt=80)] = leaf(0.0)
    rotation_deg: Number = leaf(0.0)
    wobble: Annotated[Distribution, vector(32)] = leaf(0.0)
    warp: Annotated[Distribution, vector(8)] = leaf(0.0)
    shift: Annotated[Distribution, vector(8)] = leaf(0.0)
    overshoot: Annotated[Distribution, vector(2)] = leaf(0.0)
    taper: Fraction = leaf(0.0)
    pressure: Annotated[Distribution, vector(2)] = leaf(0.0)
    box_aspect: NonNegative = leaf(0.0)
    equalize: Fraction = leaf(0.0)
    straighten: Fraction = leaf(0.0)


class PrimitiveSpec(Spec):
    """A plain solid of a kind that may differ from object to object. `size` is (x, y, z); what is round takes
    its diameter from x, what stands its height from z (a capsule at least its diameter).
    """

    kind: Annotated[Distribution, text(("ball", "block", "cylinder", "cone", "capsule"))] = leaf(
        {"choice": ["ball", "block", "cylinder", "cone", "capsule"]}
    )
    size: Annotated[Distribution, vector(3, gt=0)]


class ShapeSpec(Spec):
    """Exactly one shape."""

    sphere: SphereSpec | None = None
    box: BoxSpec | None = None
    rounded_box: RoundedBoxSpec | None = None
    cylinder: CylinderSpec | None = None
    disc: DiscSpec | None = None
    quad: QuadSpec | None = None
    plate: PlateSpec | None = None
    primitive: PrimitiveSpec | None = None
    mesh: MeshSpec | None = None
    assets: AssetsSpec | None = None
    dice: DiceSpec | None = None
    strokes: StrokesSpec | None = None

    @property
    def kind(self) -> str:
        """The name of the shape given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one(self) -> ShapeSpec:
        exactly_one(self, tuple(type(self).model_fields))
        return self
