"""What a scene file says of where its objects are; `imgsynth.layout` makes poses of it.

Lengths in metres, angles in degrees. The leaves of `grid`, `ring` and `stack` have one value for the whole
group, all others one for each object.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from imgsynth.distributions import Distribution, integer, number, point, vector
from imgsynth.leaves import (
    Fraction,
    Name,
    NonNegative,
    Number,
    Point,
    Positive,
    Rotation,
    Shared,
    exactly_one,
    leaf,
)
from imgsynth.yamlfile import Spec

UNIT = {"uniform": [0, 1]}


class GridSpec(Shared):
    """Rows and columns about `center`, filled row by row from the far left (as seen from -y), turned by
    `yaw_deg`.

    `spacing` is from column to column and from row to row. Without `rows` there are as many as the objects
    need; objects for which `rows` leaves no cell are an error.
    """

    columns: Annotated[Distribution, integer(ge=1, le=4096)]
    rows: Annotated[Distribution, integer(ge=1, le=4096)] | None = None
    spacing: Annotated[Distribution, vector(2, gt=0)]
    center: Point = leaf([0.0, 0.0, 0.0])
    yaw_deg: Number = leaf(0.0)


class RingSpec(Shared):
    """Evenly round a circle about `center`, counter-clockwise from `phase_deg` (0 = +x).

    An `arc_deg` below 360 has an object at each of its ends. `facing` turns each object's +x outwards or
    inwards.
    """

    radius: NonNegative
    center: Point = leaf([0.0, 0.0, 0.0])
    phase_deg: Number = leaf(0.0)
    arc_deg: Annotated[Distribution, number(gt=0, le=360)] = leaf(360.0)
    facing: Literal["out", "in", "same"] = "same"


class StackSpec(Shared):
    """One on the other: each object's lowest point at the height of the highest point of the one below, plus
    `gap`.

    The lowest point of the first is at `center`, with `on_ground` so far above the ground.
    """

    center: Point = leaf([0.0, 0.0, 0.0])
    gap: Number = leaf(0.0)


class InViewSpec(Spec):
    """A pixel and a distance: the object's origin is seen at (x, y), fractions of the image's width and
    height from its upper left, `distance` from the camera.
    """

    x: Number = leaf(UNIT)
    y: Number = leaf(UNIT)
    distance: Positive


class AttachSpec(Spec):
    """On another object, following its pose.

    `at` names one of that shape's keypoints or directions (the point where the direction leaves it from its
    middle), `surface` picks a point evenly from its surface by three numbers in 0..1. There the object's +z
    points away from the surface, its +x along the other's +x as nearly as can be, and its lowest point
    touches; `offset` is in these axes. With neither, and at a keypoint, the axes are the other object's own.

    The k-th object goes to the k-th of the group (and round again), or to the one that `pick` in 0..1 picks.
    """

    to: str
    at: Name | None = None
    surface: Annotated[Distribution, vector(3, ge=0, le=1)] | None = None
    offset: Point = leaf([0.0, 0.0, 0.0])
    pick: Fraction | None = None

    @model_validator(mode="after")
    def _one_anchor(self) -> AttachSpec:
        if self.at is not None and self.surface is not None:
            raise ValueError("expected at or surface, got both")
        return self


class LookAtSpec(Spec):
    """Turns the object so that its +x points to a point, to the middle of a group's objects, or to the
    camera, its +z as nearly up as can be; `level` turns it about +z only.
    """

    point: Point | None = None
    group: str | None = None
    camera: Literal[True] | None = None
    level: bool = False

    @model_validator(mode="after")
    def _one(self) -> LookAtSpec:
        exactly_one(self, ("point", "group", "camera"))
        return self


class FlyingSpec(Spec):
    """Between the camera and the labelled objects: the object's origin is seen at (x, y) as with `in_view`,
    `depth` of the way from the camera to the nearest labelled object, `clearance` from both. Left out where
    there is no room. Where nothing is labelled, the camera's target stands in.
    """

    x: Number = leaf(UNIT)
    y: Number = leaf(UNIT)
    depth: Fraction = leaf(UNIT)
    clearance: NonNegative = leaf(0.0)


class OccludeSpec(Spec):
    """Between the camera and an object of the group `target`, so that it hides `share` of it.

    It stands `along` of the way to the target, on the side of its middle that `side_deg` says (0 = right,
    90 = below). The k-th object goes to the k-th of the group, or to the one that `pick` in 0..1 picks. Left
    out where there is no room.
    """

    target: str
    share: Fraction
    along: Annotated[Distribution, number(gt=0, lt=1)] = leaf({"uniform": [0.3, 0.8]})
    side_deg: Number = leaf({"uniform": [0, 360]})
    pick: Fraction | None = None


class DropSpec(Spec):
    """Falls from where it is placed and comes to rest on the ground and on the groups named in `onto`, with
    all other objects that are dropped. Needs the extra `physics`.

    An object starts as high above its place as it needs to be clear of what was placed before. It collides
    by its convex hull; the objects of `onto` stay, and collide by the hulls of their connected pieces.
    """

    onto: tuple[str, ...] = ()
    density: Positive = leaf(1000.0)
    friction: NonNegative = leaf(0.5)


class PhysicsSpec(Spec):
    """Where dropped objects fall: with `walls`, inside an invisible box of that size in x and y about
    `center`; for at most `time_s`.
    """

    walls: Annotated[Distribution, vector(2, gt=0)] | None = None
    center: Annotated[Distribution, point(2)] = leaf([0.0, 0.0])
    time_s: Annotated[Distribution, number(gt=0, le=60)] = leaf(5.0)


LAYOUTS = ("grid", "ring", "stack", "in_view", "attach", "flying", "occlude")
# What says itself where the object is, in all three dimensions.
_WHOLE = ("in_view", "attach", "flying", "occlude")
# What goes by what the camera sees.
IN_SPACE = ("in_view", "flying", "occlude")


class PlaceSpec(Spec):
    """Where an object is and how it is turned.

    The shape is first turned so that its named direction `up` points to +z, then by `rotation`, then by
    `yaw_deg` about +z. With `on_ground` its lowest point then touches the ground at position z above it.
    `apart` keeps this gap (metres, on the ground plan; between spheres round them for objects placed
    `in_view` or `flying`) to every object placed before; a place is drawn again up to 32 times, then the
    object is left out.

    At most one of `grid`, `ring`, `stack`, `in_view`, `attach`, `flying` and `occlude`; `position` is each
    object's own shift from its place in a grid, ring or stack. With `drop` it falls from there.
    """

    position: Point = leaf([0.0, 0.0, 0.0])
    rotation: Rotation | None = None
    up: Name | None = None
    yaw_deg: Number = leaf(0.0)
    on_ground: bool = False
    apart: NonNegative | None = None
    grid: GridSpec | None = None
    ring: RingSpec | None = None
    stack: StackSpec | None = None
    in_view: InViewSpec | None = None
    attach: AttachSpec | None = None
    flying: FlyingSpec | None = None
    occlude: OccludeSpec | None = None
    look_at: LookAtSpec | None = None
    drop: DropSpec | None = None

    @property
    def layout(self) -> str | None:
        """The name of the layout given, if one is."""
        return next((name for name in LAYOUTS if getattr(self, name) is not None), None)

    @model_validator(mode="after")
    def _agree(self) -> PlaceSpec:
        given = [name for name in LAYOUTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"expected at most one of {', '.join(LAYOUTS)}, got {' and '.join(given)}")
        kind = self.layout
        if kind in _WHOLE:
            moved = self.position.dims > 0 or self.position.names or np.any(self.position.median())
            if moved or self.on_ground:
                name = "position" if moved else "on_ground"
                raise ValueError(f"{name} does not go with {kind}, which says itself where the object is")
        if self.apart is not None and kind in ("stack", "attach", "occlude"):
            raise ValueError(f"apart does not go with {kind}, which leaves no choice of place")
        if self.drop is not None:
            given = [n for n in ("stack", "attach", "look_at", "on_ground", "apart") if getattr(self, n)]
            if given:
                raise ValueError(f"{given[0]} does not go with drop, after which the object lies as it falls")
        if self.look_at is not None:
            if kind in ("attach", "occlude"):
                raise ValueError(f"look_at does not go with {kind}, which goes by how the object is turned")
            if not self.look_at.level and (self.on_ground or kind == "stack"):
                raise ValueError(
                    "look_at tilts the object, so it cannot stand on what is below it; "
                    "say look_at: {level: true, …}"
                )
        return self


class RulesSpec(Spec):
    """What a frame must keep to; one that does not is drawn again, whole, in at most `tries` attempts in all.

    The rules are about labelled objects (of `groups` only, where given). Each that is at least partly within
    the picture must show `min_visible_fraction` of what is within and `min_area_px` pixels; of each no more
    than `max_truncated` may be outside; and the number of objects of which a pixel is visible must lie in
    `count_visible` = [least, most]. When the tries run out, the last is kept, or rendering stops with an
    error.
    """

    min_visible_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    min_area_px: Annotated[int, Field(ge=1)] | None = None
    max_truncated: Annotated[float, Field(ge=0, le=1)] | None = None
    count_visible: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    groups: tuple[str, ...] = ()
    tries: Annotated[int, Field(ge=1, le=1000)] = 20
    on_failure: Literal["keep", "error"] = "keep"

    @model_validator(mode="after")
    def _some(self) -> RulesSpec:
        names = ("min_visible_fraction", "min_area_px", "max_truncated", "count_visible")
        if all(getattr(self, name) is None for name in names):
            raise ValueError(f"expected at least one of {', '.join(names)}")
        if self.count_visible is not None and self.count_visible[0] > self.count_visible[1]:
            raise ValueError(f"count_visible: expected [least, most], got {list(self.count_visible)}")
        return self
