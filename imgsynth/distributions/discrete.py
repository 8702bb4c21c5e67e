"""Laws over finitely many values, and mixtures: choice, integer, bernoulli, mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgsynth.distributions.base import Distribution, DistributionError, Env, finite, lead, plain, shown
from imgsynth.distributions.scalar import kind_of, number_or_fail


@dataclass(frozen=True)
class Choice(Distribution):
    """One of `values` (all numbers, all bools, all texts, or vectors of one length), by weight."""

    values: tuple[Any, ...]
    weights: tuple[float, ...] = ()  # normalized; () becomes equal ones

    def __post_init__(self) -> None:
        values = tuple(_choice_value(v) for v in self.values)
        if not values:
            raise DistributionError("expected at least one value for choice, got none")
        shapes = {(_choice_kind(v), np.shape(v)) for v in values}
        if len(shapes) > 1:
            raise DistributionError(f"expected choice values of one type and length, got {shown(values)}")
        object.__setattr__(self, "values", values)
        object.__setattr__(
            self, "weights", normalized(self.weights or (1,) * len(values), len(values), "choice")
        )

    @property
    def kind(self) -> str:  # type: ignore[override]
        """number, boolean, text or vector."""
        return _choice_kind(self.values[0])

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """() or (k,)."""
        return np.shape(self.values[0]) if self.kind == "vector" else ()

    @property
    def integral(self) -> bool:
        """Whether all values are whole numbers."""
        return self.kind == "number" and all(float(v) == int(v) for v in self.values)

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Values in the order given, each on a share of [0, 1] as long as its weight."""
        return np.array(self.values)[pick(u[..., 0], self.weights)]

    def support(self) -> tuple[Any, ...]:
        """(lowest, highest) of those with weight; all of them for booleans and text."""
        possible = [v for v, w in zip(self.values, self.weights, strict=True) if w > 0]
        if self.kind in ("boolean", "text"):
            return tuple(possible)
        low, high = np.min(possible, axis=0), np.max(possible, axis=0)
        return (low, high) if self.kind == "vector" else (low.item(), high.item())

    def mean(self) -> Any:
        """Weighted mean; texts have none."""
        if self.kind == "text":
            number_or_fail(self.values[0])
        total = np.tensordot(self.weights, np.array(self.values, float), axes=1)
        return total if self.kind == "vector" else float(total)

    def to_yaml(self) -> Any:
        """{choice: [...]}, or {choice: {values: [...], weights: [...]}}."""
        values = [list(v) if isinstance(v, tuple) else v for v in self.values]
        if self.weights == normalized((1,) * len(values), len(values), "choice"):
            return {"choice": values}
        return {"choice": {"values": values, "weights": [plain(w) for w in self.weights]}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.kind, self.values, self.weights


def _choice_kind(value: Any) -> str:
    return "vector" if isinstance(value, tuple) else kind_of(value)


def _choice_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(finite(v, "a choice value") for v in value)
    if isinstance(value, bool | str):
        return value
    if isinstance(value, dict | Distribution):
        raise DistributionError(
            f"expected bare values in choice (for laws, write mixture), got {shown(value)}"
        )
    number = finite(value, "a choice value")
    return value if isinstance(value, int) and abs(value) < 1 << 53 else number


def normalized(weights: object, count: int, what: str) -> tuple[float, ...]:
    """Weights scaled to sum 1.

    Raises:
        DistributionError: a wrong number of them, a negative one, or all zero.
    """
    if not isinstance(weights, list | tuple) or len(weights) != count:
        raise DistributionError(f"expected {count} weights for {what}, got {shown(weights)}")
    numbers = [finite(w, f"a weight of {what}") for w in weights]
    if min(numbers) < 0 or max(numbers) == 0:
        raise DistributionError(f"expected weights >= 0 with a positive sum for {what}, got {shown(weights)}")
    scaled = [w / max(numbers) for w in numbers]
    total = sum(scaled)
    # Already normalized weights stay as they are, to the bit: YAML round trips rely on it.
    if abs(sum(numbers) - 1) < 1e-12:
        return tuple(numbers)
    return tuple(w / total for w in scaled)


def pick(u: NDArray[np.float64], weights: tuple[float, ...]) -> NDArray[np.intp]:
    """Index of the share of [0, 1] that u falls into; never one of weight 0."""
    edges = np.cumsum(weights)
    last = max(i for i, w in enumerate(weights) if w > 0)
    first = min(i for i, w in enumerate(weights) if w > 0)
    return np.clip(np.searchsorted(edges / edges[-1], u, side="right"), first, last)


@dataclass(frozen=True)
class Integer(Distribution):
    """Each whole number from `low` to `high`, both included, equally often."""

    low: int
    high: int

    kind: ClassVar[str] = "number"
    event_shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        for field in ("low", "high"):
            value = finite(getattr(self, field), f"integer's {field}")
            if value != int(value) or abs(value) >= 1 << 53:
                raise DistributionError(f"expected whole numbers for integer: [low, high], got {value:g}")
            object.__setattr__(self, field, int(value))
        if self.low > self.high:
            raise DistributionError(
                f"expected integer: [low, high] with low <= high, got [{self.low}, {self.high}]"
            )

    @property
    def integral(self) -> bool:
        """Always."""
        return True

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Low + ⌊u (high - low + 1)⌋, int64."""
        step = np.floor(u[..., 0] * (self.high - self.low + 1)).astype(np.int64)
        return np.clip(self.low + step, self.low, self.high)

    def support(self) -> tuple[int, int]:
        """(low, high)."""
        return self.low, self.high

    def mean(self) -> float:
        """Midpoint."""
        return (self.low + self.high) / 2

    def to_yaml(self) -> Any:
        """{integer: [low, high]}."""
        return {"integer": [self.low, self.high]}


@dataclass(frozen=True)
class Bernoulli(Distribution):
    """True with probability `p`."""

    p: float

    kind: ClassVar[str] = "boolean"
    event_shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", finite(self.p, "bernoulli"))
        if not 0 <= self.p <= 1:
            raise DistributionError(f"expected a probability within [0, 1] for bernoulli, got {self.p:g}")

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """True where u > 1 - p: false comes first, so the median is true where p > 0.5."""
        return u[..., 0] > 1 - self.p

    def support(self) -> tuple[bool, ...]:
        """The possible values."""
        return tuple(v for v, w in ((False, 1 - self.p), (True, self.p)) if w > 0)

    def mean(self) -> float:
        """The probability."""
        return self.p

    def to_yaml(self) -> Any:
        """{bernoulli: p}."""
        return {"bernoulli": plain(self.p)}


@dataclass(frozen=True)
class Mixture(Distribution):
    """One of several laws by weight; the first uniform picks it, the others feed it."""

    components: tuple[Distribution, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.components:
            raise DistributionError("expected at least one component for mixture, got none")
        known = [c for c in self.components if c.kind != "reference"]
        if len({(c.kind, c.event_shape) for c in known}) > 1:
            raise DistributionError(
                "expected components of one kind for mixture, got "
                + ", ".join(c.kind for c in self.components)
            )
        count = len(self.components)
        object.__setattr__(self, "weights", normalized(self.weights or (1,) * count, count, "mixture"))

    def _model(self) -> Distribution:
        return next((c for c in self.components if c.kind != "reference"), self.components[0])

    @property
    def kind(self) -> str:  # type: ignore[override]
        """That of the components."""
        return self._model().kind

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """That of the components."""
        return self._model().event_shape

    @property
    def dims(self) -> int:
        """One to pick, and as many as the hungriest component takes."""
        return 1 + max(c.dims for c in self.components)

    @property
    def integral(self) -> bool:
        """Whether all components are."""
        return all(c.integral for c in self.components)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all components."""
        return tuple(sorted({name for c in self.components for name in c.names}))

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Component by u[..., 0], its sample by the rest."""
        chosen = pick(u[..., 0], self.weights)
        parts = [c.ppf(u[..., 1 : 1 + c.dims], env) for c in self.components]
        shape = lead(u) + self.event_shape
        mask = chosen.reshape(chosen.shape + (1,) * len(self.event_shape))
        out = np.broadcast_to(parts[0], shape)
        for i, part in enumerate(parts[1:], 1):
            out = np.where(mask == i, part, out)
        return out

    def support(self) -> tuple[Any, ...]:
        """Hull of the components' with weight, or all their values."""
        used = [c for c, w in zip(self.components, self.weights, strict=True) if w > 0]
        parts = [c.support() for c in used if c.kind != "reference" or self.kind not in ("boolean", "text")]
        if self.kind in ("boolean", "text"):
            return tuple(dict.fromkeys(v for part in parts for v in part))
        low, high = np.min([p[0] for p in parts], axis=0), np.max([p[1] for p in parts], axis=0)
        return (low, high) if self.event_shape else (low.item(), high.item())

    def mean(self) -> Any:
        """Weighted mean of the components'."""
        return sum(w * c.mean() for w, c in zip(self.weights, self.components, strict=True))

    def to_yaml(self) -> Any:
        """{mixture: [{weight, of}, ...]}."""
        pairs = zip(self.weights, self.components, strict=True)
        return {"mixture": [{"weight": plain(w), "of": c.to_yaml()} for w, c in pairs]}
