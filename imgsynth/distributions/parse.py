"""From YAML nodes to distributions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from imgsynth.color import is_hex, parse_color
from imgsynth.distributions.base import Distribution, DistributionError, finite, finite_vector, shown, unit
from imgsynth.distributions.discrete import Bernoulli, Choice, Integer, Mixture
from imgsynth.distributions.expression import Expression
from imgsynth.distributions.pose import (
    AxisRotation,
    ConeRotation,
    EulerRotation,
    Hsv,
    Quaternion,
    Rgb,
    UniformRotation,
)
from imgsynth.distributions.scalar import Beta, Constant, LogUniform, Normal, Uniform
from imgsynth.distributions.spatial import Ball, Box, Cap, Direction, Disc, Vector

MAX_DEPTH = 16


def parse(node: Any, expect: str | None = None, _depth: int = 0) -> Distribution:
    """The distribution that a YAML node stands for; a Distribution stands for itself.

    Args:
        node: a bare number, bool, text or list (constants), or a mapping of one key, the kind: ``{uniform:
        [0, 1]}``. expect: a kind of value that unlocks its short forms: ``color`` (``red``), ``direction``
        (``[0, 0, 1]``),
            ``rotation`` (``uniform``, ``{axis: ..., angle_deg: ...}``); ``text`` keeps ``#ffffff`` a text.

    Raises:
        DistributionError: says what was expected, what came, and the nearest valid kind.
    """
    if _depth > MAX_DEPTH:
        raise DistributionError(f"expected at most {MAX_DEPTH} levels of nesting")
    if isinstance(node, Distribution):
        return node
    if isinstance(node, np.ndarray):
        node = node.tolist()
    if isinstance(node, list | tuple):
        if expect == "direction":
            return Direction(unit(node, "a direction"))
        return Vector(tuple(parse(item, "number", _depth + 1) for item in node))
    if isinstance(node, Mapping):
        return _parse_mapping(node, expect, _depth)
    if isinstance(node, str):
        return _parse_text(node, expect)
    if isinstance(node, bool | int | float | np.generic):
        return Constant(node)  # type: ignore[arg-type]
    raise DistributionError(f"expected a value or a distribution, got {shown(node)}")


def _parse_text(text: str, expect: str | None) -> Distribution:
    if expect == "color" or (expect is None and is_hex(text)):
        return _color(text)
    if expect == "rotation" and text in ("uniform", "identity"):
        return _rotation(text, 0)
    return Constant(text)


def _color(text: str) -> Rgb:
    try:
        r, g, b = parse_color(text)
    except ValueError as error:
        raise DistributionError(str(error)) from None
    return Rgb((Constant(r), Constant(g), Constant(b)))


def _parse_mapping(node: Mapping[Any, Any], expect: str | None, depth: int) -> Distribution:
    if expect == "rotation" and node.keys() & {"axis", "angle_deg", "cone", "euler_deg", "quaternion"}:
        return _rotation(node, depth)
    if len(node) != 1:
        raise DistributionError(f"expected one kind such as {{uniform: [0, 1]}}, got {shown(node)}")
    ((kind, argument),) = node.items()
    if kind not in _PARSERS:
        near = difflib.get_close_matches(str(kind), _PARSERS, 1, 0.5)
        hint = f" (did you mean '{near[0]}'?)" if near else f"; the kinds are {', '.join(_PARSERS)}"
        raise DistributionError(f"expected a kind of distribution, got '{kind}'{hint}")
    if kind == "choice" and expect in ("color", "direction", "rotation"):
        return _choice_of(argument, expect, depth)
    if kind == "mixture":
        return _mixture(argument, expect, depth)
    return _PARSERS[kind](argument, depth + 1)


def _keys(
    node: object, kind: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`node` as a mapping with exactly these keys."""
    form = "{" + ", ".join([*required, *(f"{key}?" for key in optional)]) + "}"
    if not isinstance(node, Mapping):
        raise DistributionError(f"expected {kind}: {form}, got {shown(node)}")
    for key in node:
        if key not in required + optional:
            near = difflib.get_close_matches(str(key), required + optional, 1, 0.5)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise DistributionError(f"expected {kind}: {form}, got the key '{key}'{hint}")
    for key in required:
        if key not in node:
            raise DistributionError(f"expected {kind}: {form}, got no '{key}'")
    return dict(node)


def _pair(node: object, kind: str, law: Callable[[Any, Any], Distribution]) -> Distribution:
    if not isinstance(node, list | tuple) or len(node) != 2:
        raise DistributionError(f"expected {kind}: [low, high], got {shown(node)}")
    return law(node[0], node[1])


def _normal(node: Any, depth: int) -> Distribution:
    if isinstance(node, list | tuple) and len(node) == 2:
        return Normal(node[0], node[1])
    form = _keys(node, "normal", ("mean", "sd"), ("low", "high"))
    return Normal(
        form.pop("mean"), form.pop("sd"), **{k: finite(v, f"normal's {k}") for k, v in form.items()}
    )


def _beta(node: Any, depth: int) -> Distribution:
    return Beta(**_keys(node, "beta", ("a", "b"), ("low", "high")))


def _weighted(node: Any) -> tuple[list[Any], tuple[float, ...]]:
    """Values and weights of the three forms of choice; no weights means equal ones."""
    if isinstance(node, list | tuple):
        return list(node), ()
    if isinstance(node, Mapping) and "values" in node:
        form = _keys(node, "choice", ("values",), ("weights",))
        values, weights = form["values"], form.get("weights", ())
        if not isinstance(values, list | tuple) or not isinstance(weights, list | tuple):
            raise DistributionError(f"expected choice: {{values: [...], weights: [...]}}, got {shown(node)}")
        if "weights" in form and len(weights) != len(values):
            raise DistributionError(f"expected {len(values)} weights for choice, got {len(weights)}")
        return list(values), tuple(weights)
    if isinstance(node, Mapping) and node:
        return list(node), tuple(node.values())
    raise DistributionError(f"expected choice: [value, ...] or {{value: weight, ...}}, got {shown(node)}")


def _choice(node: Any, depth: int) -> Distribution:
    values, weights = _weighted(node)
    return Choice(tuple(values), weights)


def _choice_of(node: Any, expect: str, depth: int) -> Distribution:
    """A choice of colours, directions or rotations is a mixture of constants."""
    values, weights = _weighted(node)
    if not values:
        raise DistributionError("expected at least one value for choice, got none")
    return Mixture(tuple(parse(v, expect, depth + 1) for v in values), weights)


def _mixture(node: Any, expect: str | None, depth: int) -> Distribution:
    if not isinstance(node, list | tuple):
        raise DistributionError(f"expected mixture: [{{weight, of}}, ...], got {shown(node)}")
    forms = [_keys(item, "mixture's items", ("of",), ("weight",)) for item in node]
    parts = tuple(parse(form["of"], expect, depth + 1) for form in forms)
    return Mixture(parts, tuple(form.get("weight", 1) for form in forms))


def _three(node: Any, kind: str, depth: int) -> tuple[Distribution, Distribution, Distribution]:
    if not isinstance(node, list | tuple) or len(node) != 3:
        raise DistributionError(f"expected {kind} of three numbers or distributions, got {shown(node)}")
    a, b, c = (parse(item, "number", depth) for item in node)
    return a, b, c


def _sphere(node: Any, depth: int) -> Distribution:
    _keys(node if node is not None else {}, "sphere", ())
    return Cap()


def _hemisphere(node: Any, depth: int) -> Distribution:
    axis = _keys(node if node is not None else {}, "hemisphere", (), ("axis",)).get("axis", (0, 0, 1))
    return Cap(axis, 90.0)


def _cap(node: Any, depth: int) -> Distribution:
    form = _keys(node, "cap", ("angle_deg",), ("axis",))
    angle = form["angle_deg"]
    inner, outer = finite_vector(angle, "angle_deg", 2) if isinstance(angle, list | tuple) else (0.0, angle)
    return Cap(form.get("axis", (0, 0, 1)), outer, inner)


def _rotation(node: Any, depth: int) -> Distribution:
    if node == "uniform":
        return UniformRotation()
    if node == "identity":
        return Quaternion()
    if isinstance(node, Mapping) and len(node) == 1:
        ((key, argument),) = node.items()
        if key == "cone":
            form = _keys(argument, "cone", ("angle_deg",), ("axis", "twist"))
            return ConeRotation(form["angle_deg"], form.get("axis", (0, 0, 1)), form.get("twist", False))
        if key == "euler_deg":
            return EulerRotation(_three(argument, "euler_deg", depth + 1))
        if key == "quaternion":
            return Quaternion(argument)
    if isinstance(node, Mapping) and node.keys() & {"axis", "angle_deg"}:
        form = _keys(node, "rotation", ("angle_deg",), ("axis",))
        return AxisRotation(parse(form["angle_deg"], "number", depth + 1), form.get("axis", (0, 0, 1)))
    forms = "uniform, identity, {axis, angle_deg}, {cone: ...}, {euler_deg: [...]} or {quaternion: [...]}"
    raise DistributionError(f"expected rotation: {forms}, got {shown(node)}")


def _box(node: Any, depth: int) -> Distribution:
    return Box(**_keys(node, "box", ("low", "high")))


def _disc(node: Any, depth: int) -> Distribution:
    return Disc(**_keys(node, "disc", ("radius",), ("center",)))


def _ball(node: Any, depth: int) -> Distribution:
    return Ball(**_keys(node, "ball", ("radius",), ("center",)))


_PARSERS: dict[str, Callable[[Any, int], Distribution]] = {
    "uniform": lambda node, depth: _pair(node, "uniform", Uniform),
    "log_uniform": lambda node, depth: _pair(node, "log_uniform", LogUniform),
    "normal": _normal,
    "beta": _beta,
    "choice": _choice,
    "integer": lambda node, depth: _pair(node, "integer", Integer),
    "bernoulli": lambda node, depth: Bernoulli(node),
    "mixture": lambda node, depth: _mixture(node, None, depth),
    "rgb": lambda node, depth: Rgb(_three(node, "rgb", depth)),
    "hsv": lambda node, depth: Hsv(_three(node, "hsv", depth)),
    "direction": lambda node, depth: Direction(unit(node, "direction")),
    "sphere": _sphere,
    "hemisphere": _hemisphere,
    "cap": _cap,
    "rotation": _rotation,
    "box": _box,
    "disc": _disc,
    "ball": _ball,
    "expr": lambda node, depth: Expression(node),
}
FORMS = tuple(_PARSERS)
