"""Reading YAML from strangers: safe, bounded, and with the line of every value kept for the error message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from imgsynth.errors import SceneError

MAX_BYTES = 4 << 20
MAX_NODES = 200_000

Key = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)


class Spec(BaseModel):
    """Base of everything read from a file: frozen, and an unknown key is an error that names the nearest
    valid one.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            if isinstance(data, cls):
                return data
            raise PydanticCustomError(
                "not_a_mapping",
                "expected {expected}, got {got}",
                {"expected": f"a mapping with keys {_listed(cls._names())}", "got": shown(data)},
            )
        for key in data:
            if key not in cls._names() and key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key {shown}{hint}",
                    {"key": key, "shown": repr(key), "hint": nearest(str(key), cls._names())},
                )
        return data

    @classmethod
    def _names(cls) -> list[str]:
        return [info.alias or name for name, info in cls.model_fields.items()]


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the 1-based line of each value by its path of keys."""

    data: Any
    file: Path | None = None
    lines: Mapping[Key, int] = field(default_factory=dict)

    def line(self, key: Key) -> int | None:
        """The line of the value at `key`, or of the nearest enclosing value that the file has."""
        for stop in range(len(key), -1, -1):
            if key[:stop] in self.lines:
                return self.lines[key[:stop]]
        return None

    def error(self, message: str, key: Key = ()) -> SceneError:
        """A SceneError located at `key`."""
        return SceneError(message, file=self.file, line=self.line(key), path=dotted(key))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number (YAML 1.1 wants 1.0e-3) and yes/no/on/off are words."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag
        not in (
            "tag:yaml.org,2002:bool",
            "tag:yaml.org,2002:float",
            "tag:yaml.org,2002:timestamp",
            "tag:yaml.org,2002:int",
        )
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|nan))$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: str | Path) -> Document:
    """Read a YAML file into plain data with line numbers.

    Raises:
        SceneError: no such file, too large, not UTF-8, not YAML, a duplicate key, or aliases that explode.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SceneError(
                f"is larger than {MAX_BYTES >> 20} MiB; a scene or study file is text", file=path
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SceneError("no such file", file=path) from None
    except UnicodeDecodeError as error:
        raise SceneError(f"is not UTF-8 text (byte {error.start})", file=path) from None
    except OSError as error:
        raise SceneError(f"cannot be read: {error.strerror}", file=path) from None
    return parse_yaml(text, path)


def parse_yaml(text: str, file: Path | None = None) -> Document:
    """`read_yaml` for text at hand."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        place = text.count("\n", 0, error.position) + 1
        raise SceneError(
            f"not valid YAML: a control character, {error.character:#04x}", file=file, line=place
        ) from None
    try:
        node = loader.get_single_node()
        lines: dict[Key, int] = {}
        data = None if node is None else _construct(loader, node, (), lines, [0], file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise SceneError(f"not valid YAML: {error.problem or error.context}", file=file, line=line) from None
    except yaml.YAMLError as error:
        raise SceneError(f"not valid YAML: {str(error).splitlines()[0]}", file=file) from None
    except RecursionError:
        raise SceneError("is nested too deeply", file=file) from None
    finally:
        loader.dispose()
    return Document(data, file, lines)


def _construct(
    loader: _Loader, node: yaml.Node, key: Key, lines: dict[Key, int], count: list[int], file: Path | None
) -> Any:
    count[0] += 1
    line = node.start_mark.line + 1
    if count[0] > MAX_NODES:
        raise SceneError(f"has more than {MAX_NODES} values (aliases count each time)", file=file, line=line)
    lines.setdefault(key, line)
    if isinstance(node, yaml.MappingNode):
        out: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            name = loader.construct_object(key_node)
            if not isinstance(name, str | int):
                raise SceneError(
                    "a key must be plain text", file=file, line=key_node.start_mark.line + 1, path=dotted(key)
                )
            if name in out:
                raise SceneError(
                    f"key {name!r} stands twice",
                    file=file,
                    line=key_node.start_mark.line + 1,
                    path=dotted(key),
                )
            lines[(*key, name)] = key_node.start_mark.line + 1
            out[name] = _construct(loader, value_node, (*key, name), lines, count, file)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*key, i), lines, count, file) for i, item in enumerate(node.value)]
    return loader.construct_object(node)


def validate(model: type[ModelT], document: Document, *, source: str = "") -> ModelT:
    """The document as a validated model, or one SceneError for its first mistake, in file order."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(document, item) for item in error.errors(include_url=False)]
        problems.sort(key=lambda p: (p[1] is None, p[1] or 0))
        message, line, path = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SceneError(message + more, file=document.file or source or None, line=line, path=path) from None


def _problem(document: Document, item: Any) -> tuple[str, int | None, str]:
    key = _document_key(document.data, item["loc"])
    kind, context = item["type"], item.get("ctx", {})
    if kind == "unknown_key":
        key = (*key, context["key"])
        message = f"unknown key{context['hint']}"
    elif kind == "missing":
        message = "is missing"
        key = (*key, item["loc"][-1]) if not key or key[-1] != item["loc"][-1] else key
    elif kind == "value_error":
        message = str(context.get("error", item["msg"]))
    elif kind in ("not_a_mapping",) or kind not in _PYDANTIC_WORDS:
        message = (
            item["msg"]
            if kind == "not_a_mapping"
            else f"{_lower(item['msg'])}, got {shown(item.get('input'))}"
        )
    else:
        message = f"expected {_PYDANTIC_WORDS[kind]}, got {shown(item.get('input'))}"
    return message, document.line(key), dotted(key)


_PYDANTIC_WORDS = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "float_parsing": "a number", "string_type": "text",
    "bool_type": "true or false",     "bool_parsing": "true or false",
    "dict_type": "a mapping", "list_type": "a list", "tuple_type": "a list",
}  # fmt: skip


def _document_key(data: Any, location: Iterable[str | int]) -> Key:
    """The part of pydantic's location that the document has; union tags and validator names drop out."""
    key: list[str | int] = []
    for part in location:
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        ):
            key.append(part)
            data = data[part]  # type: ignore[index]
    return tuple(key)


def dotted(key: Iterable[str | int]) -> str:
    """`objects.die[3].radius` for ('objects', 'die', 3, 'radius')."""
    out = ""
    for part in key:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'? (valid: …)` for the end of an error message."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (valid: {_listed(names)})"


def shown(value: Any) -> str:
    """A value as a user would recognize it, cut to one short line."""
    text = (
        yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
        if isinstance(value, dict | list | str | int | float | bool | type(None))
        else repr(value)
    )
    return text if len(text) <= 80 else text[:77] + "…"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:24]) + (", …" if len(names) > 24 else "")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
