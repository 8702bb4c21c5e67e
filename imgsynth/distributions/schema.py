"""JSON schema of the YAML forms of a distribution, for editors."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_PAIR: Schema = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_AXIS: Schema = {"type": "array", "items": _NUMBER, "minItems": 3, "maxItems": 3}
_POINT: Schema = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 3}
_ANY_NUMBER: Schema = {"type": ["number", "object"]}  # a number, or a law of one
_ANGLE: Schema = {"anyOf": [_NUMBER, _PAIR]}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _tuple(item: Schema, length: int) -> Schema:
    return {"type": "array", "items": item, "minItems": length, "maxItems": length}


def _choice(item: Schema) -> Schema:
    weights = {"type": "array", "items": {"type": "number", "minimum": 0}}
    values = {"type": "array", "items": item, "minItems": 1}
    weighted = {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": 0},
        "minProperties": 1,
    }
    return _object(
        {"choice": {"anyOf": [values, _object({"values": values}, {"weights": weights}), weighted]}}
    )


def _mixture() -> Schema:
    item = _object(
        {"of": {"description": "any form that the field itself takes"}},
        {"weight": {"type": "number", "minimum": 0}},
    )
    return _object({"mixture": {"type": "array", "items": item, "minItems": 1}})


def _number_laws(item: Schema) -> list[Schema]:
    pair = _tuple(item, 2)
    normal = _object({"mean": _NUMBER, "sd": _NUMBER}, {"low": _NUMBER, "high": _NUMBER})
    laws = [_object({"integer": _tuple({"type": "integer"}, 2)})]
    if item["type"] == "number":
        laws += [_object({"uniform": pair}), _object({"log_uniform": pair})]
        laws += [_object({"normal": {"anyOf": [normal, _PAIR]}})]
        laws += [_object({"beta": _object({"a": _NUMBER, "b": _NUMBER}, {"low": _NUMBER, "high": _NUMBER})})]
    return laws


def _rotation_forms() -> list[Schema]:
    cone = _object({"angle_deg": _NUMBER}, {"axis": _AXIS, "twist": {"type": "boolean"}})
    forms: list[Schema] = [
        {"enum": ["uniform", "identity"]},
        _object({"angle_deg": _ANY_NUMBER}, {"axis": _AXIS}),
        _object({"cone": cone}),
        _object({"euler_deg": _tuple(_ANY_NUMBER, 3)}),
        _object({"quaternion": _tuple(_NUMBER, 4)}),
    ]
    return [*forms, _object({"rotation": {"anyOf": list(forms)}})]


def _direction_forms() -> list[Schema]:
    return [
        _AXIS,
        _object({"direction": _AXIS}),
        _object({"sphere": _object({})}),
        _object({"hemisphere": _object({}, {"axis": _AXIS})}),
        _object({"cap": _object({"angle_deg": _ANGLE}, {"axis": _AXIS})}),
    ]


def _vector_forms(item: Schema, length: int) -> list[Schema]:
    forms = [_tuple({"anyOf": [item, {"type": "object"}]}, length), _choice(_tuple(item, length))]
    forms += [item, *_number_laws(item), _choice(item)]  # one law for all components
    if length in (2, 3):
        forms += [_object({"box": _object({"low": _POINT, "high": _POINT})})]
        forms += [_object({"disc": _object({"radius": _NUMBER}, {"center": _POINT})})]
    if length == 3:
        forms += [_object({"ball": _object({"radius": _NUMBER}, {"center": _POINT})})]
    return forms


def _color_forms() -> list[Schema]:
    return [
        {"type": "string", "description": "#rrggbb or a name like red"},
        _object({"rgb": _tuple(_ANY_NUMBER, 3)}),
        _object({"hsv": _tuple(_ANY_NUMBER, 3)}),
        _choice({"type": ["string", "object"]}),
    ]


def _forms(kind: str, item: Schema, length: int | None) -> list[Schema]:
    if kind == "number":
        return [item, *_number_laws(item), _choice(item)]
    if kind == "boolean":
        return [item, _object({"bernoulli": {"type": "number", "minimum": 0, "maximum": 1}}), _choice(item)]
    if kind == "color":
        return _color_forms()
    if kind == "direction":
        return [*_direction_forms(), _choice({"type": ["array", "object"]})]
    if kind == "rotation":
        return [*_rotation_forms(), _choice({"type": ["string", "object"]})]
    if kind == "vector":
        return _vector_forms(item, length or 3)
    return [item, _choice(item)]


def field_schema(kind: str, item: Schema, length: int | None) -> Schema:
    """{anyOf: [...]} of all forms that a field of `kind` takes; `item` is the schema of one bare value."""
    return {"anyOf": [*_forms(kind, item, length), _mixture(), _object({"expr": {"type": "string"}})]}
