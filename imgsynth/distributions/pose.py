"""Laws of colours (sRGB triples in 0..1) and rotations (unit quaternions w, x, y, z with w ≥ 0)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgsynth.color import hsv_to_rgb, to_hex
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
from imgsynth.distributions.scalar import Constant
from imgsynth.distributions.spatial import Cap, components_ppf, plains, require_numbers
from imgsynth.geometry import (
    quat_between,
    quat_canonical,
    quat_from_axis_angle,
    quat_from_euler,
    quat_multiply,
)

_Z = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class _Three(Distribution):
    """Three scalar laws behind one value."""

    components: tuple[Distribution, Distribution, Distribution]

    def __post_init__(self) -> None:
        if len(self.components) != 3:
            raise DistributionError(f"expected three components, got {len(self.components)}")
        require_numbers(self.components, f"a {self.kind}")

    @property
    def dims(self) -> int:
        """Sum over the components."""
        return sum(c.dims for c in self.components)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all components."""
        return tuple(sorted({name for c in self.components for name in c.names}))

    def _within(self, i: int, low: float, high: float, what: str) -> None:
        a, b = self.components[i].support()
        if self.components[i].kind != "reference" and not low <= a <= b <= high:
            raise DistributionError(f"expected {what} within [{low:g}, {high:g}], got [{a:g}, {b:g}]")


@dataclass(frozen=True)
class Rgb(_Three):
    """Independent sRGB channels in 0..1."""

    kind: ClassVar[str] = "color"
    event_shape: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for i, channel in enumerate(("red", "green", "blue")):
            self._within(i, 0, 1, channel)

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Channels in turn; what an expression yields is clipped."""
        return np.clip(components_ppf(self.components, u, env), 0, 1)

    def support(self) -> tuple[Any, ...]:
        """Channel by channel."""
        bounds = np.clip(np.array([c.support() for c in self.components], float), 0, 1)
        return bounds[:, 0], bounds[:, 1]

    def mean(self) -> Any:
        """Channel by channel."""
        return np.array([c.mean() for c in self.components], float)

    def to_yaml(self) -> Any:
        """#rrggbb where exact, else {rgb: [r, g, b]}."""
        if all(isinstance(c, Constant) for c in self.components):
            code = to_hex(tuple(float(c.support()[0]) for c in self.components))  # type: ignore[arg-type]
            if code:
                return code
        return {"rgb": [c.to_yaml() for c in self.components]}


@dataclass(frozen=True)
class Hsv(_Three):
    """Independent hue (degrees, any turn), saturation and value (0..1), as sRGB."""

    kind: ClassVar[str] = "color"
    event_shape: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within(1, 0, 1, "saturation")
        self._within(2, 0, 1, "value")

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Hue, saturation and value in turn, converted to RGB."""
        hsv = components_ppf(self.components, u, env)
        hsv[..., 1:] = np.clip(hsv[..., 1:], 0, 1)
        return hsv_to_rgb(hsv)

    def support(self) -> tuple[Any, ...]:
        """The lowest and highest that any hue allows: value · (1 - saturation), and value."""
        (_, _), (_, s1), (v0, v1) = (np.clip(c.support(), 0, 1) for c in self.components)
        return np.full(3, v0 * (1 - s1)), np.full(3, v1)

    def to_yaml(self) -> Any:
        """{hsv: [h, s, v]}."""
        return {"hsv": [c.to_yaml() for c in self.components]}


@dataclass(frozen=True)
class _Rotation(Distribution):
    kind: ClassVar[str] = "rotation"
    event_shape: ClassVar[tuple[int, ...]] = (4,)

    def support(self) -> tuple[Any, ...]:
        """Bounds of any unit quaternion with w ≥ 0."""
        return np.array([0.0, -1, -1, -1]), np.ones(4)


@dataclass(frozen=True)
class UniformRotation(_Rotation):
    """Uniform on SO(3)."""

    @property
    def dims(self) -> int:
        """Three."""
        return 3

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Shoemake, "Uniform random rotations", Graphics Gems III (1992), p. 129, with w ≥ 0."""
        a, b = np.sqrt(1 - u[..., 0]), np.sqrt(u[..., 0])
        s, t = 2 * math.pi * u[..., 1], 2 * math.pi * u[..., 2]
        return quat_canonical(np.stack([b * np.cos(t), a * np.sin(s), a * np.cos(s), b * np.sin(t)], axis=-1))

    def mean(self) -> Any:
        """E w = 4 / 3π; the rest averages out."""
        return np.array([4 / (3 * math.pi), 0.0, 0.0, 0.0])

    def to_yaml(self) -> Any:
        """{rotation: uniform}."""
        return {"rotation": "uniform"}


@dataclass(frozen=True)
class Quaternion(_Rotation):
    """Always the same rotation; normalized, w ≥ 0."""

    value: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        q = finite_vector(self.value, "quaternion", 4)
        if math.hypot(*q) < 1e-12:
            raise DistributionError("expected a quaternion of non-zero length, got zeros")
        if abs(math.hypot(*q) - 1) > 1e-12 or q[0] < 0:
            q = tuple(quat_canonical(q).tolist())
        object.__setattr__(self, "value", q)

    @property
    def dims(self) -> int:
        """None."""
        return 0

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """The quaternion, repeated."""
        return np.broadcast_to(np.array(self.value), (*lead(u), 4)).copy()

    def support(self) -> tuple[Any, ...]:
        """(value, value)."""
        return np.array(self.value), np.array(self.value)

    def mean(self) -> Any:
        """The value."""
        return np.array(self.value)

    def to_yaml(self) -> Any:
        """{rotation: identity} or {rotation: {quaternion: [w, x, y, z]}}."""
        if self.value == (1.0, 0.0, 0.0, 0.0):
            return {"rotation": "identity"}
        return {"rotation": {"quaternion": plains(self.value)}}


@dataclass(frozen=True)
class AxisRotation(_Rotation):
    """By a random angle about a fixed axis."""

    angle_deg: Distribution
    axis: tuple[float, float, float] = _Z

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", unit(self.axis, "axis"))
        require_numbers((self.angle_deg,), "angle_deg")

    @property
    def dims(self) -> int:
        """Those of the angle."""
        return self.angle_deg.dims

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the angle."""
        return self.angle_deg.names

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """cos(a/2), axis · sin(a/2)."""
        angle = np.broadcast_to(self.angle_deg.ppf(u, env), lead(u))
        return quat_canonical(quat_from_axis_angle(self.axis, angle))

    def to_yaml(self) -> Any:
        """{rotation: {axis, angle_deg}}."""
        return {"rotation": {"axis": plains(self.axis), "angle_deg": self.angle_deg.to_yaml()}}


@dataclass(frozen=True)
class ConeRotation(_Rotation):
    """Tilts `axis` to a direction uniform (by area) within `angle_deg` of it, the shortest way.

    With `twist`, turns by a uniform angle about the axis first.
    """

    angle_deg: float
    axis: tuple[float, float, float] = _Z
    twist: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", unit(self.axis, "axis"))
        object.__setattr__(self, "angle_deg", finite(self.angle_deg, "cone's angle_deg"))
        if not 0 <= self.angle_deg <= 180:
            raise DistributionError(f"expected a cone's angle_deg within [0, 180], got {self.angle_deg:g}")
        if not isinstance(self.twist, bool):
            raise DistributionError(f"expected true or false for twist, got {self.twist}")

    @property
    def dims(self) -> int:
        """Two for the tilt, one for the twist."""
        return 3 if self.twist else 2

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Tilt ∘ twist."""
        tilted = Cap(self.axis, self.angle_deg).ppf(u[..., :2])
        tilt = quat_between(self.axis, tilted)
        if not self.twist:
            return tilt
        return quat_canonical(quat_multiply(tilt, quat_from_axis_angle(self.axis, 360 * u[..., 2])))

    def to_yaml(self) -> Any:
        """{rotation: {cone: {axis, angle_deg, twist?}}}."""
        cone: dict[str, Any] = {"axis": plains(self.axis), "angle_deg": plain(self.angle_deg)}
        return {"rotation": {"cone": cone | ({"twist": True} if self.twist else {})}}


@dataclass(frozen=True)
class EulerRotation(_Rotation, _Three):
    """About the fixed axes x, then y, then z, in degrees: R = Rz Ry Rx."""

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Angles in turn, then the quaternion."""
        return quat_canonical(quat_from_euler(components_ppf(self.components, u, env)))

    def to_yaml(self) -> Any:
        """{rotation: {euler_deg: [rx, ry, rz]}}."""
        return {"rotation": {"euler_deg": [c.to_yaml() for c in self.components]}}
