"""What every distribution is: an immutable value that maps uniforms to samples by an inverse CDF."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgsynth.errors import ImgsynthError
from imgsynth.sobol import sobol_uniforms

Env = Mapping[str, NDArray[Any]]

# What a sample is. A number may be integral; "reference" is an expression, whose kind is known only when
# sampled.
KINDS = ("number", "boolean", "text", "color", "direction", "rotation", "vector", "reference")


class DistributionError(ImgsynthError, ValueError):
    """A distribution that is not one: says what was expected, what came, and the nearest valid name."""


class Distribution(ABC):
    """A law of one leaf. Subclasses are frozen dataclasses, hence equal by value, hashable and printable."""

    kind: ClassVar[str]
    event_shape: ClassVar[tuple[int, ...]] = ()

    @property
    def dims(self) -> int:
        """Uniforms that one sample consumes."""
        return 1

    @property
    def integral(self) -> bool:
        """Whether every sample is a whole number."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """Other leaves that the expressions inside refer to, sorted; () for most."""
        return ()

    @abstractmethod
    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """Samples (..., *event_shape) at uniforms u (..., dims); `env` gives the values of `names`."""

    @abstractmethod
    def support(self) -> tuple[Any, ...]:
        """(lowest, highest) value, arrays for vectors; all possible values for booleans and text."""

    @abstractmethod
    def to_yaml(self) -> Any:
        """The YAML form: ``parse(d.to_yaml(), d.kind) == d``."""

    def median(self) -> Any:
        """The sample at u = 0.5, as a Python scalar or an array: what freezing a leaf leaves of it."""
        value = self.ppf(np.full(self.dims, 0.5))
        return value.item() if value.ndim == 0 else value

    def mean(self) -> Any:
        """Expected sample, component by component; by 2^16 Sobol points where there is no closed form."""
        u = sobol_uniforms(0, ["mean"], np.arange(1 << 16), self.dims)[:, 0]
        return self.ppf(u).mean(axis=0)


def lead(u: NDArray[np.float64]) -> tuple[int, ...]:
    """Batch shape of uniforms (..., dims)."""
    return u.shape[:-1]


def finite(value: object, what: str) -> float:
    """`value` as a float.

    Raises:
        DistributionError: not a number, a bool, NaN or infinite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DistributionError(f"expected a number for {what}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DistributionError(f"expected a finite number for {what}, got {shown(value)}")
    return number


def finite_vector(value: object, what: str, length: int | tuple[int, ...]) -> tuple[float, ...]:
    """`value` as a tuple of floats of the length (or one of the lengths) asked for.

    Raises:
        DistributionError: not such a list.
    """
    lengths = (length,) if isinstance(length, int) else length
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple) or len(value) not in lengths:
        raise DistributionError(
            f"expected {' or '.join(map(str, lengths))} numbers for {what}, got {shown(value)}"
        )
    return tuple(finite(v, what) for v in value)


def unit(value: object, what: str) -> tuple[float, float, float]:
    """`value` as a unit 3-vector.

    Raises:
        DistributionError: not three numbers, or all zero.
    """
    x, y, z = finite_vector(value, what, 3)
    length = math.hypot(x, y, z)
    if length < 1e-12:
        raise DistributionError(f"expected a vector of non-zero length for {what}, got {shown(value)}")
    return (x, y, z) if abs(length - 1) < 1e-12 else (x / length, y / length, z / length)


def plain(value: float) -> float | int:
    """1.0 as 1, so that YAML reads as a person would write it."""
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def shown(node: object) -> str:
    """A YAML node on one short line, as a user would write it."""
    if isinstance(node, Mapping):
        text = "{" + ", ".join(f"{k}: {shown(v)}" for k, v in node.items()) + "}"
    elif isinstance(node, list | tuple):
        text = "[" + ", ".join(shown(v) for v in node) + "]"
    elif isinstance(node, bool) or node is None:
        text = {True: "true", False: "false", None: "null"}[node]
    elif isinstance(node, Distribution):
        text = shown(node.to_yaml())
    else:
        text = node if isinstance(node, str) else repr(node)
    return text if len(text) <= 80 else text[:77] + "..."
