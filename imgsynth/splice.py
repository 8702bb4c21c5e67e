"""Frames of one batch chosen, and batches joined: arrays by frame, by instance, or packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgsynth.frame import AmodalMasks, FrameBatch, InstanceKeypoints, Instances

T = TypeVar("T")
Rows = NDArray[np.intp]

# What has a row an instance among what else has one a frame.
_BY_INSTANCE = {"amodal_total", "boxes"}


def taken(batch: FrameBatch, positions: Rows) -> FrameBatch:
    """The frames at `positions` of a batch, in that order, as a batch of its own."""
    place = np.full(len(batch), -1, np.int32)
    place[positions] = np.arange(len(positions))
    where = place[batch.instances.frame]
    rows = np.flatnonzero(where >= 0)
    rows = rows[np.argsort(where[rows], kind="stable")]
    out = _chosen(batch, np.asarray(positions), rows)
    return replace(out, instances=replace(out.instances, frame=where[rows]))


def joined(parts: Sequence[FrameBatch]) -> FrameBatch:
    """All frames of several batches of one scene, one batch after the other."""
    shift = np.cumsum([0, *(len(part) for part in parts)])
    moved = [
        replace(part, instances=replace(part.instances, frame=part.instances.frame + np.int32(by)))
        for part, by in zip(parts, shift, strict=False)
    ]
    return _end_to_end(moved)


def _chosen(value: T, frames: Rows, instances: Rows) -> T:
    """A struct of arrays with the chosen rows only."""
    changes: dict[str, Any] = {}
    for item in fields(value):  # type: ignore[arg-type]
        field = getattr(value, item.name)
        if isinstance(field, Instances):
            changes[item.name] = _rows(field, instances)
        elif isinstance(field, AmodalMasks):
            start, packed = _packed(field.start, instances)
            changes[item.name] = AmodalMasks(field.window[instances], start, field.data[packed])
        elif is_dataclass(field):
            changes[item.name] = _chosen(field, frames, instances)
        elif isinstance(field, Mapping):
            changes[item.name] = {key: array[frames] for key, array in field.items()}
        elif isinstance(field, np.ndarray):
            changes[item.name] = field[instances if item.name in _BY_INSTANCE else frames]
    return replace(value, **changes)  # type: ignore[type-var]


def _rows(value: Instances, instances: Rows) -> Instances:
    changes: dict[str, Any] = {}
    for item in fields(value):
        field = getattr(value, item.name)
        if isinstance(field, InstanceKeypoints):
            start, packed = _packed(field.start, instances)
            columns = {f.name: getattr(field, f.name)[packed] for f in fields(field) if f.name != "start"}
            changes[item.name] = InstanceKeypoints(start=start, **columns)
        elif isinstance(field, np.ndarray):
            changes[item.name] = field[instances]
    return replace(value, **changes)


def _packed(start: NDArray[np.int64], rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where chosen rows start when packed anew, and which of the packed entries stay."""
    count = np.diff(start)[rows]
    fresh = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return fresh, np.arange(fresh[-1]) - np.repeat(fresh[:-1] - start[rows], count)


def _end_to_end(values: Sequence[T]) -> T:
    changes: dict[str, Any] = {}
    for item in fields(values[0]):  # type: ignore[arg-type]
        parts = [getattr(value, item.name) for value in values]
        first = next((part for part in parts if part is not None), None)
        if item.name == "start" and first is not None:
            shift = np.cumsum([0, *(part[-1] for part in parts)])
            moved = [part[:-1] + by for part, by in zip(parts, shift, strict=False)]
            changes["start"] = np.concatenate([*moved, shift[-1:]]).astype(first.dtype)
        elif isinstance(first, InstanceKeypoints):  # a part without any has none at all
            empty = {f.name: getattr(first, f.name)[:0] for f in fields(first)}
            changes[item.name] = _end_to_end(
                [
                    part or replace(first, **{**empty, "start": np.zeros(len(value.frame) + 1, np.int64)})  # type: ignore[attr-defined]
                    for part, value in zip(parts, values, strict=True)
                ]
            )
        elif is_dataclass(first):
            changes[item.name] = _end_to_end(parts)
        elif isinstance(first, Mapping):
            changes[item.name] = {key: np.concatenate([part[key] for part in parts]) for key in first}
        elif isinstance(first, np.ndarray):
            changes[item.name] = np.concatenate(parts)
    return replace(values[0], **changes)  # type: ignore[type-var]
