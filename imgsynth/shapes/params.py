"""Checking and broadcasting the parameters of shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64
from imgsynth.errors import SceneError


def columns(**named: ArrayLike) -> tuple[F64, ...]:
    """Broadcast scalars and (m,) arrays to float64 arrays of one common length m ≥ 0.

    Raises:
        SceneError: an array that is not one-dimensional, lengths that differ, or a value that is not finite.
    """
    arrays = {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in named.items()}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise SceneError(f"{name}: expected a number or an array (m,), got shape {array.shape}")
        require(np.isfinite(array), array, name, "a finite number")
    lengths = {name: len(array) for name, array in arrays.items()}
    m = common_length(lengths)
    return tuple(np.broadcast_to(array, (m,)) for array in arrays.values())


def common_length(lengths: Mapping[str, int]) -> int:
    """The number of meshes that parameters of these lengths describe, where 1 stands for any number.

    Raises:
        SceneError: lengths that differ.
    """
    others = {n for n in lengths.values() if n != 1}
    if len(others) > 1:
        raise SceneError(f"expected parameters of one length, got {dict(lengths)}")
    return others.pop() if others else 1


def rows(value: ArrayLike, width: int, name: str) -> F64:
    """A (width,) or (m, width) parameter as finite float64 (m, width).

    Raises:
        SceneError: any other shape, or a value that is not finite.
    """
    array = np.atleast_2d(np.asarray(value, np.float64))
    if array.ndim != 2 or array.shape[1] != width:
        raise SceneError(f"{name}: expected {width} numbers or an array (m, {width}), got {array.shape}")
    require(np.isfinite(array).all(1), array, name, "finite numbers")
    return array


def require(good: NDArray[np.bool_] | np.bool_, value: F64, name: str, expected: str) -> None:
    """Raise a SceneError naming the first mesh where `good` (m,) is False."""
    if not np.all(good):
        k = int(np.argmin(good))
        shown = ", ".join(f"{v:g}" for v in np.atleast_1d(value[k]))
        raise SceneError(f"{name}: expected {expected}, got {shown} (mesh {k} of {len(value)})")


def at_least(segments: int, least: int, name: str = "segments") -> int:
    """A static segment count, checked.

    Raises:
        SceneError: fewer than `least`, or more than 4096.
    """
    if not least <= segments <= 4096:
        raise SceneError(f"{name}: expected {least} to 4096, got {segments}")
    return segments
