"""Objects by their own positions, kept apart where asked: a place that is taken is drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import seeding
from imgsynth.batch import F64
from imgsynth.layout import view
from imgsynth.layout.order import labelled
from imgsynth.layout.stage import Group, Rows, Stage

# The positions (k, 3) of one slot in some frames, from the values of the leaves that they come from.
_Where = Callable[[int, Rows, Sequence[NDArray[Any]]], F64]


def scattered(stage: Stage, group: Group, base: F64 | None) -> F64:
    """(n, slots, 3) positions of the group's objects; sets `group.keep` where objects must keep apart."""
    active = stage.draws.active(group.name)
    reach, ball = np.zeros(active.shape), np.zeros(active.shape)
    reach[group.frame, group.slot] = group.extents.radius
    ball[group.frame, group.slot] = group.extents.ball
    if group.spec.place.flying is not None:
        active = active & _room(stage, group, ball)
    leaves, where = _law(stage, group, base, ball)
    tables = [stage.draws[path] for path in leaves]
    every = np.arange(len(stage))
    slots = stage.draws.slots[group.name]
    position = np.zeros((len(stage), slots, 3))
    for slot in range(slots):
        position[:, slot] = where(slot, every, [t[:, slot] for t in tables])
    group.keep = active[group.frame, group.slot]
    if group.spec.place.apart is None:
        return position
    flat = group.spec.place.layout not in ("in_view", "flying")

    def redraw(slot: int, attempt: int, frames: Rows) -> F64 | None:
        fresh = [_again(stage, path, slot, attempt, frames) for path in leaves]
        if all(value is None for value in fresh):
            return None
        values = [t[frames, slot] if v is None else v for t, v in zip(tables, fresh, strict=True)]
        return where(slot, frames, values)

    gap = stage.draws[f"{group.path}.place.apart"]
    settled = stage.floor.settle(position, reach, ball, gap, active, redraw, flat=flat)
    group.keep = settled[group.frame, group.slot]
    return position


def _room(stage: Stage, group: Group, ball: F64) -> NDArray[np.bool_]:
    """(n, slots) whether a flying object has room; the report counts those without."""
    assert stage.cameras is not None
    read, size = stage.read(group, "place.flying"), stage.plan.spec.image.size
    pixel = np.stack([read("x") * size[1], read("y") * size[0]], -1)
    slant = np.ones(ball.shape)
    slant[group.frame, group.slot] = view.rays(stage.cameras, group.frame, pixel)[:, 2]
    margin = ball + stage.table(group, "place.flying.clearance")
    room = _nearest(stage)[:, None] - margin >= (stage.cameras.near[:, None] + margin) / slant
    without = (stage.draws.active(group.name) & ~room).sum(1).astype(np.int32)
    stage.report["no_room"] = stage.report.get("no_room", np.zeros(len(stage), np.int32)) + without
    return np.asarray(room)


def _nearest(stage: Stage) -> F64:
    """(n,) distance from the camera to the ball round the nearest labelled object."""
    assert stage.cameras is not None
    eye = stage.cameras.world_from_camera[:, :3, 3]
    out = np.full(len(stage), np.inf)
    for name in labelled(stage.plan.spec):
        group = stage.groups[name]
        away = np.linalg.norm(group.pose[:, :3, 3] - eye[group.frame], axis=1) - group.extents.ball
        np.minimum.at(out, group.frame[group.keep], away[group.keep])
    return np.where(np.isfinite(out), out, stage.draws["camera.distance"])


def _law(stage: Stage, group: Group, base: F64 | None, ball: F64) -> tuple[list[str], _Where]:
    """The leaves that positions come from, and how; `ball` (n, slots) is the objects' reach."""
    path = f"{group.path}.place"
    if group.spec.place.in_view is not None:
        return [f"{path}.in_view.{name}" for name in ("x", "y", "distance")], _seen(stage)
    if group.spec.place.flying is not None:
        return [f"{path}.flying.{name}" for name in ("x", "y", "depth")], _between(stage, group, ball)

    def shifted(slot: int, frames: Rows, values: Sequence[NDArray[Any]]) -> F64:
        own = values[0].astype(np.float64)
        return own if base is None else base[frames, slot] + own

    return [f"{path}.position"], shifted


def _seen(stage: Stage) -> _Where:
    cameras, size = stage.cameras, stage.plan.spec.image.size
    assert cameras is not None

    def seen(slot: int, frames: Rows, values: Sequence[NDArray[Any]]) -> F64:
        pixel = np.stack([values[0] * size[1], values[1] * size[0]], -1)
        return view.in_view(cameras, frames, pixel, values[2])

    return seen


def _between(stage: Stage, group: Group, ball: F64) -> _Where:
    cameras, size, far = stage.cameras, stage.plan.spec.image.size, _nearest(stage)
    clear = stage.table(group, "place.flying.clearance")
    assert cameras is not None

    def between(slot: int, frames: Rows, values: Sequence[NDArray[Any]]) -> F64:
        pixel = np.stack([values[0] * size[1], values[1] * size[0]], -1)
        margin = ball[frames, slot] + clear[frames, slot]
        # The near plane is farther along a slanting ray.
        start = (cameras.near[frames] + margin) / view.rays(cameras, frames, pixel)[:, 2]
        stop = far[frames] - margin
        away = start + values[2] * np.maximum(stop - start, 0.0)
        return view.in_view(cameras, frames, pixel, np.maximum(np.minimum(away, stop), 0.0))

    return between


def _again(stage: Stage, path: str, slot: int, attempt: int, frames: Rows) -> NDArray[Any] | None:
    """Other values of a leaf, for a further attempt; None where it is not random."""
    leaf, draws = stage.plan.leaves[path], stage.draws
    law = stage.plan.overrides.get((path, slot), leaf.distribution)
    if law.dims == 0 or law.names:
        return None
    name = f"{leaf.names()[slot]}~{attempt}"
    uniform = seeding.uniforms(draws.seed, [name], draws.indices[frames], law.dims)
    return np.asarray(law.ppf(uniform[:, 0]), np.float64)
