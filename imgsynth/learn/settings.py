"""What the configurations of all learners check in the same words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgsynth.errors import ModelError


def check_ranges(
    learner: str, config: Any, ranges: Mapping[str, tuple[float, float]], whole: Sequence[str]
) -> None:
    """Each named field of `config` is a number within its range, those in `whole` a whole one.

    Raises:
        ModelError: naming the first that is not.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        kinds = (int,) if name in whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if name in whole else "a number"
            raise ModelError(f"{learner}: {name}: expected {kind} from {low:g} to {high:g}, got {value!r}")


def check_names(learner: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Every given setting is a known one.

    Raises:
        ModelError: an unknown name, with the nearest known one.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise ModelError(f"{learner}: unknown setting {name!r}{hint}")
