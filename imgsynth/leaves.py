"""The kinds of leaves that scenes are made of, as pydantic field types."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from imgsynth.distributions import Distribution, boolean, color, integer, number, point, rotation, text
from imgsynth.yamlfile import Spec

Number = Annotated[Distribution, number()]
Positive = Annotated[Distribution, number(gt=0)]
NonNegative = Annotated[Distribution, number(ge=0)]
Fraction = Annotated[Distribution, number(ge=0, le=1)]
Count = Annotated[Distribution, integer(ge=0, le=4096)]
Seed = Annotated[Distribution, integer(ge=0, le=2**32 - 1)]
Flag = Annotated[Distribution, boolean()]
Name = Annotated[Distribution, text()]
Color = Annotated[Distribution, color()]
Point = Annotated[Distribution, point(3)]
Rotation = Annotated[Distribution, rotation()]

SEED: dict[str, Any] = {"integer": [0, 2**32 - 1]}
# Drawn only where there is a choice: a leaf without effect would be a column without meaning.
PICK: dict[str, Any] = {"uniform": [0, 1]}


class Shared(Spec):
    """Base of what a group has as a whole: its leaves have one value a frame, not one an object."""


def leaf(default: Any) -> Any:
    """A field whose default is written as in YAML."""
    return Field(default=default, validate_default=True)


def exactly_one(spec: Spec, names: tuple[str, ...]) -> None:
    """Raise a ValueError unless exactly one of the named fields is given."""
    given = [n for n in names if getattr(spec, n) is not None]
    if len(given) != 1:
        got = "none" if not given else " and ".join(given)
        raise ValueError(f"expected exactly one of {', '.join(names)}, got {got}")
