"""Pydantic fields that hold distributions: what a field accepts, and its JSON schema.

Usage, in a model::

    class Ball(BaseModel):
        radius: Annotated[Distribution, number(gt=0)] = Constant(0.1)
        paint: Annotated[Distribution, color()]

or once for many, as an alias: ``Positive = Annotated[Distribution, number(gt=0)]``. A field takes the YAML
form or a Distribution, checks its kind and that its *support* keeps the bounds, and is dumped as its YAML
form. Expressions are let through: what they yield can be checked only when sampled, by `check`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from imgsynth.distributions.base import Distribution, DistributionError, plain, shown
from imgsynth.distributions.parse import parse
from imgsynth.distributions.scalar import Constant
from imgsynth.distributions.schema import field_schema
from imgsynth.distributions.spatial import Vector

_EXAMPLES = {
    "color": "a colour such as red, '#ff8000', {rgb: [1, 0.5, 0]} or {hsv: [{uniform: [0, 60]}, 1, 1]}",
    "direction": "a direction such as [0, 0, 1] or {cap: {axis: [0, 0, 1], angle_deg: 30}}",
    "rotation": "a rotation such as uniform or {axis: [0, 0, 1], angle_deg: 90}",
}


_UNIT = re.compile(r"^[-+0-9.eE]+ ?(?:nm|um|µm|mm|cm|dm|m|km|in|inch|ft|px|deg|°|rad|%)$")


@dataclass(frozen=True)
class Field:
    """What a field accepts: a kind of value, its length, its bounds, its choices."""

    kind: str
    integral: bool = False
    length: int | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[str, ...] | None = None

    def parse(self, node: Any) -> Distribution:
        """The distribution of a YAML node, if the field accepts it.

        Raises:
            DistributionError: says what the field expected, and what came.
        """
        law = parse(node, self.kind)
        if law.kind == "reference":
            return law
        if self.kind == "vector" and law.kind == "number" and self.length is not None:
            law = Vector((law,) * self.length)  # one law for all components, drawn independently
        if law.kind != self.kind or (self.integral and not law.integral) or not self._fits(law.event_shape):
            raise DistributionError(f"expected {self.describe()}, got {shown(node)}{self._hint(law)}")
        if self.kind == "text":
            bad = [v for v in law.support() if self.choices and v not in self.choices]
        elif self.kind in ("number", "vector"):
            bad = [] if self._inside(*law.support()) else [law]
        else:
            bad = []
        if bad:
            raise DistributionError(f"expected {self.describe()}, got {shown(node)}")
        return law

    def check(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which rows of sampled `values` (n, ...) the field accepts: for what an expression yielded.

        Raises:
            DistributionError: values of another type or shape.
        """
        kinds = {"text": "UO", "boolean": "b"}.get(self.kind, "iuf")
        shape = {"color": (3,), "direction": (3,), "rotation": (4,), "vector": (self.length,)}.get(
            self.kind, ()
        )
        if values.dtype.kind not in kinds or values.shape[1:] != shape:
            raise DistributionError(
                f"expected {self.describe()}, got {values.dtype} of shape {values.shape[1:]}"
            )
        if self.kind == "text":
            return np.isin(values, self.choices) if self.choices else np.ones(len(values), bool)
        if self.kind == "boolean":
            return np.ones(len(values), bool)
        good = np.isfinite(values)
        good &= (values >= self._low()) if self.gt is None else (values > self.gt)
        good &= (values <= self._high()) if self.lt is None else (values < self.lt)
        if self.integral:
            good &= values == np.round(values)
        return good.reshape(len(values), -1).all(axis=1)

    def describe(self) -> str:
        """The field in words: "a number or distribution within [0, 1]"."""
        if self.kind in _EXAMPLES:
            return _EXAMPLES[self.kind]
        what = {"boolean": "true, false", "vector": f"{self.length} numbers"}.get(self.kind, f"a {self.kind}")
        if self.integral:
            what = "a whole number"
        if self.choices:
            what = "one of " + ", ".join(self.choices)
        return f"{what} or {'' if what.startswith('a ') else 'a '}distribution{self._range()}"

    def _range(self) -> str:
        low = self.ge if self.ge is not None else self.gt
        high = self.le if self.le is not None else self.lt
        if low is None and high is None:
            return ""
        if high is None:
            return f" {'>=' if self.ge is not None else '>'} {plain(low or 0)}"
        if low is None:
            return f" {'<=' if self.le is not None else '<'} {plain(high)}"
        left, right = "[" if self.ge is not None else "(", "]" if self.le is not None else ")"
        return f" within {left}{plain(low)}, {plain(high)}{right}"

    def _hint(self, law: Distribution) -> str:
        if self.kind in ("number", "vector") and isinstance(law, Constant) and _UNIT.match(str(law.value)):
            return " (write a bare number: lengths are metres, angles degrees, shares 0 to 1)"
        return f", a {law.kind}" if law.kind != self.kind else ""

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return self.kind != "vector" or shape == (self.length,)

    def _low(self) -> float:
        return -np.inf if self.ge is None else self.ge

    def _high(self) -> float:
        return np.inf if self.le is None else self.le

    def _inside(self, low: Any, high: Any) -> bool:
        """Whether a support keeps the bounds; what an expression decides (NaN) does not break them."""
        below = np.less(low, self._low()) if self.gt is None else np.less_equal(low, self.gt)
        above = np.greater(high, self._high()) if self.lt is None else np.greater_equal(high, self.lt)
        return not (np.any(below) or np.any(above))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda law: law.to_yaml()),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"description": self.describe()} | field_schema(self.kind, self._item_schema(), self.length)

    def _item_schema(self) -> dict[str, Any]:
        """Schema of one bare value."""
        if self.kind == "text":
            return {"enum": list(self.choices)} if self.choices else {"type": "string"}
        if self.kind == "boolean":
            return {"type": "boolean"}
        bounds = {
            "minimum": self.ge,
            "exclusiveMinimum": self.gt,
            "maximum": self.le,
            "exclusiveMaximum": self.lt,
        }
        return {"type": "integer" if self.integral else "number"} | {
            key: plain(v) for key, v in bounds.items() if v is not None
        }


def number(
    *, ge: float | None = None, gt: float | None = None, le: float | None = None, lt: float | None = None
) -> Field:
    """A number, with bounds on its support."""
    return Field("number", ge=ge, gt=gt, le=le, lt=lt)


def integer(*, ge: int | None = None, le: int | None = None) -> Field:
    """A whole number, with bounds on its support."""
    return Field("number", integral=True, ge=ge, le=le)


def boolean() -> Field:
    """True or false."""
    return Field("boolean")


def text(choices: tuple[str, ...] | None = None) -> Field:
    """A text, perhaps out of `choices`."""
    return Field("text", choices=choices)


def color() -> Field:
    """An sRGB triple in 0..1."""
    return Field("color")


def direction() -> Field:
    """A unit 3-vector."""
    return Field("direction")


def rotation() -> Field:
    """A unit quaternion w, x, y, z."""
    return Field("rotation")


def point(k: int = 3) -> Field:
    """A point in the plane (k = 2) or in space (k = 3), metres."""
    return Field("vector", length=k)


def vector(
    k: int,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Field:
    """`k` numbers, with bounds on the support of each."""
    return Field("vector", length=k, ge=ge, gt=gt, le=le, lt=lt)
