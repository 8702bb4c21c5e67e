"""What a scene file says of light; `imgsynth.surroundings` makes it the lights of a batch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from imgsynth.distributions import Distribution, direction, number
from imgsynth.leaves import (
    SEED,
    Color,
    Count,
    Flag,
    Fraction,
    NonNegative,
    Number,
    Point,
    Positive,
    Seed,
    exactly_one,
    leaf,
)
from imgsynth.yamlfile import Spec

Direction = Annotated[Distribution, direction()]
LampName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class SunSpec(Spec):
    """A sun: where it stands, the irradiance it gives a surface facing it (1 = white paper at full exposure
    is π⁻¹ bright).
    """

    azimuth_deg: Number = leaf({"uniform": [0, 360]})
    elevation_deg: Annotated[Distribution, number(ge=-90, le=90)] = leaf({"uniform": [25, 80]})
    irradiance: NonNegative = leaf(2.0)
    color: Color = leaf("white")
    shadows: Flag = leaf(True)


class AmbientSpec(Spec):
    """Light from everywhere: constant radiance."""

    radiance: NonNegative = leaf(0.4)
    color: Color = leaf("white")


class PointSpec(Spec):
    """A lamp that shines alike in all directions: `intensity` in W/sr. `radius` (metres) softens its shadows
    and widens its highlights.
    """

    intensity: NonNegative = leaf(1.0)
    radius: NonNegative = leaf(0.0)


class SpotSpec(Spec):
    """A lamp with a cone: `intensity` (W/sr) on its axis, none from the opening angle `cone_deg` (full) on;
    it falls off, linearly in the angle, over the outer share `soft` of the cone.
    """

    intensity: NonNegative = leaf(1.0)
    cone_deg: Annotated[Distribution, number(gt=0, lt=180)] = leaf(60.0)
    soft: Fraction = leaf(0.25)
    radius: NonNegative = leaf(0.0)


class RectangleSpec(Spec):
    """A shining rectangle, one-sided: `radiance` in W/(m²·sr), sides in metres, turned by `roll_deg` about
    its direction (at 0 its width is horizontal).
    """

    radiance: NonNegative = leaf(1.0)
    width: Positive = leaf(1.0)
    height: Positive = leaf(1.0)
    roll_deg: Number = leaf(0.0)


class LampSpec(Spec):
    """A group of like lamps: one of `point`, `spot`, `rectangle`; how many, where, and where they shine.

    A lamp shines towards `target` or along `direction` (straight down where neither is given; a point lamp
    shines everywhere). `power` (watts, over all directions) may stand for its intensity or radiance. Lamps
    are not seen themselves.
    """

    point: PointSpec | None = None
    spot: SpotSpec | None = None
    rectangle: RectangleSpec | None = None
    count: Count = leaf(1)
    position: Point = leaf([0.0, 0.0, 1.0])
    target: Point | None = None
    direction: Direction | None = None
    power: NonNegative | None = None
    color: Color = leaf("white")
    shadows: Flag = leaf(True)

    @property
    def kind(self) -> str:
        """Which of point, spot and rectangle it is."""
        return next(k for k in ("point", "spot", "rectangle") if getattr(self, k) is not None)

    @model_validator(mode="after")
    def _one(self) -> LampSpec:
        exactly_one(self, ("point", "spot", "rectangle"))
        if self.target is not None and self.direction is not None:
            raise ValueError("expected target or direction, got both")
        shape = getattr(self, self.kind)
        strength = "radiance" if self.kind == "rectangle" else "intensity"
        if self.power is not None and strength in shape.model_fields_set:
            raise ValueError(f"expected power or {self.kind}.{strength}, got both")
        return self


class LightSpec(Spec):
    """All light of a scene. `samples` shadow rays a pixel go to each lamp that has a size; their pattern
    comes from `seed`.
    """

    sun: SunSpec | None = Field(default_factory=SunSpec)
    ambient: AmbientSpec = Field(default_factory=AmbientSpec)
    lamps: dict[LampName, LampSpec] = {}
    samples: Annotated[int, Field(ge=1, le=256)] = 16
    seed: Seed = leaf(0)

    @model_validator(mode="before")
    @classmethod
    def _seeds(cls, data: Any) -> Any:
        soft = isinstance(data, dict) and data.get("lamps")
        return {"seed": SEED, **data} if soft else data
