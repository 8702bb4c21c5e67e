"""Laws of directions (unit 3-vectors) and of points, and products of independent numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgsynth.distributions.base import (
    Distribution,
    DistributionError,
    Env,
    finite,
    finite_vector,
    lead,
    plain,
    unit,
)
from imgsynth.geometry import quat_between, rotate

_TURN = 2 * math.pi


def plains(values: tuple[float, ...]) -> list[float | int]:
    """A vector as YAML."""
    return [plain(v) for v in values]


def components_ppf(parts: tuple[Distribution, ...], u: NDArray[np.float64], env: Env | None) -> NDArray[Any]:
    """Samples of scalar laws side by side, (..., k) float64; each takes its own uniforms in turn."""
    columns, start = [], 0
    for part in parts:
        values = part.ppf(u[..., start : start + part.dims], env)
        columns.append(np.broadcast_to(values.astype(np.float64), lead(u)))
        start += part.dims
    return np.stack(columns, axis=-1)


def require_numbers(parts: tuple[Distribution, ...], what: str) -> None:
    """Raise unless every part is a law of one number (or an expression)."""
    for part in parts:
        if part.kind not in ("number", "reference"):
            raise DistributionError(f"expected numbers or laws of numbers in {what}, got a {part.kind}")


@dataclass(frozen=True)
class Vector(Distribution):
    """Independent numbers side by side."""

    components: tuple[Distribution, ...]

    kind: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        if not self.components:
            raise DistributionError("expected at least one component in a vector, got none")
        require_numbers(self.components, "a vector")

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(k,)."""
        return (len(self.components),)

    @property
    def dims(self) -> int:
        """Sum over the components."""
        return sum(c.dims for c in self.components)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all components."""
        return tuple(sorted({name for c in self.components for name in c.names}))

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Components in turn."""
        return components_ppf(self.components, u, env)

    def support(self) -> tuple[Any, ...]:
        """Componentwise."""
        bounds = np.array([c.support() for c in self.components], float)
        return bounds[:, 0], bounds[:, 1]

    def mean(self) -> Any:
        """Componentwise."""
        return np.array([c.mean() for c in self.components], float)

    def to_yaml(self) -> Any:
        """[component, ...]."""
        return [c.to_yaml() for c in self.components]


@dataclass(frozen=True)
class Direction(Distribution):
    """Always the same unit vector; `axis` is normalized."""

    axis: tuple[float, float, float]

    kind: ClassVar[str] = "direction"
    event_shape: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", unit(self.axis, "a direction"))

    @property
    def dims(self) -> int:
        """None."""
        return 0

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """The axis, repeated."""
        return np.broadcast_to(np.array(self.axis), (*lead(u), 3)).copy()

    def support(self) -> tuple[Any, ...]:
        """(axis, axis)."""
        return np.array(self.axis), np.array(self.axis)

    def mean(self) -> Any:
        """The axis."""
        return np.array(self.axis)

    def to_yaml(self) -> Any:
        """{direction: [x, y, z]}."""
        return {"direction": plains(self.axis)}


@dataclass(frozen=True)
class Cap(Distribution):
    """Uniform by area between the angles `inner_deg` and `outer_deg` from `axis`.

    A sphere is 0 to 180, a hemisphere 0 to 90, anything else a cap or a ring.
    """

    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    outer_deg: float = 180.0
    inner_deg: float = 0.0

    kind: ClassVar[str] = "direction"
    event_shape: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", unit(self.axis, "axis"))
        for field in ("inner_deg", "outer_deg"):
            object.__setattr__(self, field, finite(getattr(self, field), "angle_deg"))
        if not 0 <= self.inner_deg <= self.outer_deg <= 180:
            got = f"{self.inner_deg:g} and {self.outer_deg:g}"
            raise DistributionError(f"expected 0 <= inner <= outer <= 180 for angle_deg, got {got}")

    @property
    def dims(self) -> int:
        """Height and azimuth."""
        return 2

    def _heights(self) -> tuple[float, float]:
        return math.cos(math.radians(self.outer_deg)), math.cos(math.radians(self.inner_deg))

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Archimedes: the height along the axis is uniform. u[0] = 0 is the inner rim."""
        low, high = self._heights()
        z = np.clip(high * (1 - u[..., 0]) + low * u[..., 0], low, high)
        r, phi = np.sqrt(np.maximum(1 - z * z, 0)), _TURN * u[..., 1]
        local = np.stack([r * np.cos(phi), r * np.sin(phi), z], axis=-1)
        return local if self.axis == (0.0, 0.0, 1.0) else rotate(quat_between([0, 0, 1], self.axis), local)

    def support(self) -> tuple[Any, ...]:
        """Bounding box: along an axis at angle t from ours, the ring reaches furthest where nearest t."""
        bounds = []
        for c in self.axis:
            t = math.degrees(math.acos(max(-1.0, min(1.0, c))))
            away = [min(max(a, self.inner_deg), self.outer_deg) - a for a in (t, 180 - t)]
            bounds.append([-math.cos(math.radians(away[1])), math.cos(math.radians(away[0]))])
        return np.array(bounds)[:, 0], np.array(bounds)[:, 1]

    def mean(self) -> Any:
        """Axis times the mean height."""
        return np.array(self.axis) * sum(self._heights()) / 2

    def to_yaml(self) -> Any:
        """{sphere: {}}, {hemisphere: {axis}} or {cap: {axis, angle_deg}}."""
        default = (0.0, 0.0, 1.0)
        if (self.inner_deg, self.outer_deg) == (0.0, 180.0) and self.axis == default:
            return {"sphere": {}}
        if (self.inner_deg, self.outer_deg) == (0.0, 90.0):
            return {"hemisphere": {"axis": plains(self.axis)}}
        angle = plain(self.outer_deg) if self.inner_deg == 0 else plains((self.inner_deg, self.outer_deg))
        return {"cap": {"axis": plains(self.axis), "angle_deg": angle}}


@dataclass(frozen=True)
class Box(Distribution):
    """Uniform in the axis-aligned box from corner `low` to corner `high`, 2-D or 3-D."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    kind: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", finite_vector(self.low, "box's low", (2, 3)))
        object.__setattr__(self, "high", finite_vector(self.high, "box's high", len(self.low)))
        if any(a > b for a, b in zip(self.low, self.high, strict=True)):
            raise DistributionError(
                f"expected a box with low <= high, got {plains(self.low)}, {plains(self.high)}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(2,) or (3,)."""
        return (len(self.low),)

    @property
    def dims(self) -> int:
        """One for each axis."""
        return len(self.low)

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Each axis on its own."""
        low, high = np.array(self.low), np.array(self.high)
        return np.clip(low * (1 - u) + high * u, low, high)

    def support(self) -> tuple[Any, ...]:
        """The corners."""
        return np.array(self.low), np.array(self.high)

    def mean(self) -> Any:
        """The centre."""
        return (np.array(self.low) + np.array(self.high)) / 2

    def to_yaml(self) -> Any:
        """{box: {low, high}}."""
        return {"box": {"low": plains(self.low), "high": plains(self.high)}}


@dataclass(frozen=True)
class _Round(Distribution):
    radius: float
    center: tuple[float, ...]

    kind: ClassVar[str] = "vector"
    _name: ClassVar[str] = ""
    _lengths: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", finite(self.radius, f"{self._name}'s radius"))
        object.__setattr__(
            self, "center", finite_vector(self.center, f"{self._name}'s center", self._lengths)
        )
        if self.radius < 0:
            raise DistributionError(f"expected a {self._name} with radius >= 0, got {self.radius:g}")

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(2,) or (3,)."""
        return (len(self.center),)

    def mean(self) -> Any:
        """The centre."""
        return np.array(self.center)

    def to_yaml(self) -> Any:
        """{name: {radius, center}}."""
        return {self._name: {"radius": plain(self.radius), "center": plains(self.center)}}


@dataclass(frozen=True)
class Disc(_Round):
    """Uniform in a disc parallel to the xy plane; in 3-D where the centre is."""

    center: tuple[float, ...] = (0.0, 0.0)
    _name: ClassVar[str] = "disc"
    _lengths: ClassVar[tuple[int, ...]] = (2, 3)

    @property
    def dims(self) -> int:
        """Radius and angle."""
        return 2

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Polar: r = R √u."""
        r, phi = self.radius * np.sqrt(u[..., 0]), _TURN * u[..., 1]
        offset = np.stack([r * np.cos(phi), r * np.sin(phi), np.zeros_like(r)][: len(self.center)], axis=-1)
        return np.array(self.center) + offset

    def support(self) -> tuple[Any, ...]:
        """Bounding box."""
        reach = np.array([self.radius, self.radius, 0.0][: len(self.center)])
        return np.array(self.center) - reach, np.array(self.center) + reach


@dataclass(frozen=True)
class Ball(_Round):
    """Uniform in a ball."""

    center: tuple[float, ...] = (0.0, 0.0, 0.0)
    _name: ClassVar[str] = "ball"
    _lengths: ClassVar[tuple[int, ...]] = (3,)

    @property
    def dims(self) -> int:
        """Radius, height and azimuth."""
        return 3

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """A direction of the sphere times R ∛u."""
        r = self.radius * np.cbrt(u[..., :1])
        return np.array(self.center) + r * Cap().ppf(u[..., 1:])

    def support(self) -> tuple[Any, ...]:
        """Bounding box."""
        return np.array(self.center) - self.radius, np.array(self.center) + self.radius
