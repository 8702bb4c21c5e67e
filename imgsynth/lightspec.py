"""What a scene file says of light; `imgsynth.surroundings` makes it the lights of a batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imgsynth.distributions import Distribution, direction, number
from imgsynth.leaves import (
    PICK,
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
    is π⁻¹ bright). It fills a disc of `radius_deg` (seen from the earth 0.27; more is a hazy sky), which
    softens its shadows and widens its highlights.
    """

    azimuth_deg: Number = leaf({"uniform": [0, 360]})
    elevation_deg: Annotated[Distribution, number(ge=-90, le=90)] = leaf({"uniform": [25, 80]})
    irradiance: NonNegative = leaf(2.0)
    color: Color = leaf("white")
    shadows: Flag = leaf(True)
    radius_deg: Annotated[Distribution, number(ge=0, le=20)] = leaf(0.0)


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

    Its shadows are found by a shadow map (`map`: hard, whatever the radius, and cheap) or by rays (`rays`:
    soft where the lamp has a size); by default by maps for points and spots of radius 0, else by rays.
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
    shadows_by: Literal["auto", "map", "rays"] = "auto"

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
        if self.shadows_by == "map" and self.kind == "rectangle":
            raise ValueError("shadows_by: a rectangle's shadows are soft: expected auto or rays, got map")
        return self


class EnvironmentSpec(Spec):
    """Light from a photograph of all around: an equirectangular .hdr or .exr `image`, or one picked from a
    `folder`, relative to the scene file.

    Turned by `rotation_deg` counter-clockwise about +z, its radiance multiplied by `intensity`; seen as the
    background where `visible`. Its sun, where it has one, is the scene's sun unless that gives one.
    """

    image: str | None = None
    folder: str | None = None
    pick: Fraction = leaf(0.5)
    rotation_deg: Number = leaf({"uniform": [0, 360]})
    intensity: NonNegative = leaf(1.0)
    visible: Flag = leaf(True)

    @model_validator(mode="before")
    @classmethod
    def _picks(cls, data: Any) -> Any:
        return {"pick": PICK, **data} if isinstance(data, dict) and data.get("folder") is not None else data

    @model_validator(mode="after")
    def _one(self) -> EnvironmentSpec:
        exactly_one(self, ("image", "folder"))
        return self


class SkySpec(Spec):
    """A clear sky by Preetham, Shirley and Smits (1999), about the scene's sun: `irradiance` is what it gives
    level ground (luminance), `turbidity` 2 (clear) to 10 (hazy), `ground` the colour of what lies below the
    horizon, as sky and sun light it. Seen as the background where `visible`.
    """

    irradiance: NonNegative = leaf(0.6)
    turbidity: Annotated[Distribution, number(ge=2, le=10)] = leaf(3.0)
    ground: Color = leaf("#808070")
    visible: Flag = leaf(True)


class LightSpec(Spec):
    """All light of a scene: sun, ambient radiance, lamps, and an environment map or a sky.

    `occlusion` holds back light from around where objects or the ground stand before it, 0 (not at all) to 1
    (wholly). `samples` shadow rays a pixel go to each lamp and sun that has a size, and around for the
    occlusion; their pattern comes from `seed`. A scene with an environment has the sun and the ambient
    radiance that it gives, by default none.
    """

    sun: SunSpec | None = Field(default_factory=SunSpec)
    ambient: AmbientSpec = Field(default_factory=AmbientSpec)
    lamps: dict[LampName, LampSpec] = {}
    environment: EnvironmentSpec | None = None
    sky: SkySpec | None = None
    occlusion: Fraction = leaf(0.0)
    samples: Annotated[int, Field(ge=1, le=256)] = 16
    seed: Seed = leaf(0)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        around = {"ambient": {"radiance": 0}}
        if data.get("environment") is not None:
            data = {"sun": None, **around, **data}
        elif data.get("sky") is not None:
            data = {**around, **data}
        # Drawn only where rays are cast.
        return {"seed": SEED, **data} if _casts_rays(data) else data

    @model_validator(mode="after")
    def _agrees(self) -> LightSpec:
        if self.sky is not None and self.environment is not None:
            raise ValueError("expected environment or sky, got both")
        if self.sky is not None and self.sun is None:
            raise ValueError("a sky stands about the sun: expected light.sun beside light.sky")
        return self


def _casts_rays(data: dict[str, Any]) -> bool:
    sun = data.get("sun")
    soft = isinstance(sun, dict) and sun.get("radius_deg", 0) != 0
    if data.get("sun") is None and isinstance(data.get("environment"), dict):
        soft = True  # its own sun may be wide
    return bool(data.get("lamps")) or data.get("occlusion", 0) != 0 or soft
