"""Laws of one number: constant, uniform, log-uniform, normal (truncatable), beta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, log_ndtr, ndtri, ndtri_exp

from imgsynth.distributions.base import Distribution, DistributionError, Env, finite, lead, plain, shown


@dataclass(frozen=True)
class Constant(Distribution):
    """Always `value`: a number (an int stays whole), a bool or a text."""

    value: float | int | bool | str

    event_shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        value = self.value.item() if isinstance(self.value, np.generic) else self.value
        if not isinstance(value, bool | str):
            number = finite(value, "a constant")
            if not isinstance(value, int) or abs(value) >= 1 << 53:
                value = number
        object.__setattr__(self, "value", value)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """number, boolean or text."""
        return kind_of(self.value)

    @property
    def dims(self) -> int:
        """None."""
        return 0

    @property
    def integral(self) -> bool:
        """Whether the number is whole."""
        return self.kind == "number" and float(self.value) == int(self.value)

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """The value, repeated."""
        return np.full(lead(u), self.value)

    def support(self) -> tuple[Any, ...]:
        """(value, value) of a number, else (value,)."""
        return (self.value, self.value) if self.kind == "number" else (self.value,)

    def mean(self) -> Any:
        """The value; a text has none."""
        return number_or_fail(self.value)

    def to_yaml(self) -> Any:
        """The bare value."""
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and (self.kind, self.value) == (other.kind, other.value)

    def __hash__(self) -> int:
        return hash((self.kind, self.value))


def kind_of(value: object) -> str:
    """Kind of a bare scalar."""
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def number_or_fail(value: object) -> float:
    """A number or bool as a float, for means; a text has none."""
    if isinstance(value, str):
        raise DistributionError("a text has no mean")
    return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Interval(Distribution):
    """A law between `low` and `high`."""

    low: float
    high: float

    kind: ClassVar[str] = "number"
    event_shape: ClassVar[tuple[int, ...]] = ()
    _name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in ("low", "high"):
            object.__setattr__(self, field, finite(getattr(self, field), f"{self._name}'s {field}"))
        if self.low > self.high:
            raise DistributionError(
                f"expected {self._name}: [low, high] with low <= high, got {shown([self.low, self.high])}"
            )

    def support(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high

    def to_yaml(self) -> Any:
        """{name: [low, high]}."""
        return {self._name: [plain(self.low), plain(self.high)]}


@dataclass(frozen=True)
class Uniform(_Interval):
    """Uniform between `low` and `high`."""

    _name: ClassVar[str] = "uniform"

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Low + u (high - low), without overflow."""
        return np.clip(self.low * (1 - u[..., 0]) + self.high * u[..., 0], self.low, self.high)

    def mean(self) -> float:
        """Midpoint."""
        return self.low / 2 + self.high / 2


@dataclass(frozen=True)
class LogUniform(_Interval):
    """Uniform in the logarithm; 0 < low."""

    _name: ClassVar[str] = "log_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise DistributionError(
                f"expected log_uniform: [low, high] with low > 0, got low {plain(self.low)}"
            )

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """low^(1-u) · high^u."""
        logs = math.log(self.low) * (1 - u[..., 0]) + math.log(self.high) * u[..., 0]
        return np.clip(np.exp(logs), self.low, self.high)

    def mean(self) -> float:
        """(high - low) / log(high / low)."""
        ratio = math.log(self.high) - math.log(self.low)
        return self.low if ratio == 0 else self.low * math.expm1(ratio) / ratio


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal of mean `center` and standard deviation `sd`, truncated to [low, high] where given."""

    center: float
    sd: float
    low: float = -math.inf
    high: float = math.inf

    kind: ClassVar[str] = "number"
    event_shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        for field, what in (("center", "mean"), ("sd", "sd"), ("low", "low"), ("high", "high")):
            value = getattr(self, field)
            if not (field in ("low", "high") and value in (-math.inf, math.inf)):
                object.__setattr__(self, field, finite(value, f"normal's {what}"))
        if self.sd <= 0:
            raise DistributionError(f"expected a normal with sd > 0, got sd {plain(self.sd)}")
        if not self.low < self.high:
            raise DistributionError(
                f"expected a normal with low < high, got low {self.low:g}, high {self.high:g}"
            )

    def _bounds(self) -> tuple[bool, float, float]:
        """(flipped?, α, β): standardized bounds, mirrored where both lie in the upper, inaccurate tail."""
        alpha, beta = (self.low - self.center) / self.sd, (self.high - self.center) / self.sd
        return (True, -beta, -alpha) if alpha > 0 else (False, alpha, beta)

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Inverse of the (truncated) CDF, in log probabilities so that far tails keep their precision."""
        p = u[..., 0]
        if math.isinf(self.low) and math.isinf(self.high):
            return self.center + self.sd * ndtri(p)
        flipped, alpha, beta = self._bounds()
        if flipped:
            p = 1 - p
        with np.errstate(divide="ignore"):  # log 0 = -inf is the right limit
            log_p = np.logaddexp(np.log1p(-p) + log_ndtr(alpha), np.log(p) + log_ndtr(beta))
        z = ndtri_exp(np.minimum(log_p, 0.0))
        return np.clip(self.center + self.sd * (-z if flipped else z), self.low, self.high)

    def support(self) -> tuple[float, float]:
        """(low, high), infinite where not truncated."""
        return self.low, self.high

    def mean(self) -> float:
        """Mean + sd (φ(α) - φ(β)) / (Φ(β) - Φ(α)), in logarithms."""
        flipped, alpha, beta = self._bounds()
        log_a, log_b = float(log_ndtr(alpha)), float(log_ndtr(beta))
        if log_a >= log_b:  # an interval too short or too far out to resolve
            return self.low / 2 + self.high / 2
        log_z = log_b + math.log1p(-math.exp(log_a - log_b))
        log_phi = [-t * t / 2 - math.log(2 * math.pi) / 2 for t in (alpha, beta)]
        shift = math.exp(log_phi[0] - log_z) - math.exp(log_phi[1] - log_z)
        return min(max(self.center + self.sd * (-shift if flipped else shift), self.low), self.high)

    def to_yaml(self) -> Any:
        """{normal: {mean, sd, low?, high?}}."""
        out = {"mean": plain(self.center), "sd": plain(self.sd)}
        out |= {k: plain(v) for k, v in (("low", self.low), ("high", self.high)) if math.isfinite(v)}
        return {"normal": out}


@dataclass(frozen=True)
class Beta(Distribution):
    """Beta(a, b) stretched to [low, high]."""

    a: float
    b: float
    low: float = 0.0
    high: float = 1.0

    kind: ClassVar[str] = "number"
    event_shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        for field in ("a", "b", "low", "high"):
            object.__setattr__(self, field, finite(getattr(self, field), f"beta's {field}"))
        if self.a <= 0 or self.b <= 0:
            raise DistributionError(f"expected a beta with a > 0 and b > 0, got a {self.a:g}, b {self.b:g}")
        if self.low > self.high:
            raise DistributionError(
                f"expected a beta with low <= high, got low {self.low:g}, high {self.high:g}"
            )

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Inverse regularized incomplete beta function."""
        p = betaincinv(self.a, self.b, u[..., 0])
        return np.clip(self.low * (1 - p) + self.high * p, self.low, self.high)

    def support(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high

    def mean(self) -> float:
        """Low + (high - low) a / (a + b)."""
        return self.low + (self.high - self.low) * self.a / (self.a + self.b)

    def to_yaml(self) -> Any:
        """{beta: {a, b, low?, high?}}."""
        out = {"a": plain(self.a), "b": plain(self.b)}
        if (self.low, self.high) != (0.0, 1.0):
            out |= {"low": plain(self.low), "high": plain(self.high)}
        return {"beta": out}
