"""Where the objects of a frame are: one function a layout, each over all rows of a group.

`order` says in which order; `place` places one group, given those before it.
"""

from __future__ import annotations

import numpy as np

from imgsynth.batch import F64
from imgsynth.errors import SceneError
from imgsynth.layout import arrange, surface, view
from imgsynth.layout.drop import drop
from imgsynth.layout.occlude import occlude
from imgsynth.layout.order import CAMERA, order
from imgsynth.layout.scatter import scattered
from imgsynth.layout.stage import Group, Stage
from imgsynth.placement import turn_z

__all__ = ["CAMERA", "Group", "Stage", "order", "place"]


def place(stage: Stage, name: str) -> None:
    """Give the group its poses, and say which of its objects found a place.

    Raises:
        SceneError: a layout that has no room for its objects, or names a part that the shape lacks.
    """
    group = stage.groups[name]
    if group.spec.place.attach is not None:
        _attach(stage, group)
    elif group.spec.place.occlude is not None:
        occlude(stage, group)
    else:
        base = _base(stage, group)
        position = scattered(stage, group, base)
        group.pose[:, :3, 3] = position[group.frame, group.slot]
        _stand(stage, group)
        _look(stage, group)
    stage.placed.add(name)
    if group.spec.place.drop is not None:
        dropped = [k for k, other in stage.groups.items() if other.spec.place.drop is not None]
        if stage.placed.issuperset(dropped):
            drop(stage, dropped)


def _base(stage: Stage, group: Group) -> F64 | None:
    """(n, slots, 3) where the layout puts each object before its own shift; None: nowhere in particular."""
    place, slots = group.spec.place, stage.draws.slots[group.name]
    if place.grid is not None:
        return _grid(stage, group, slots)
    if place.ring is not None:
        read = stage.shared(group, "place.ring")
        count = stage.draws.counts[group.name]
        spots, azimuth = arrange.ring(read("radius"), read("phase_deg"), read("arc_deg"), count, slots)
        if place.ring.facing != "same":
            turn = azimuth[group.frame, group.slot] + (180.0 if place.ring.facing == "in" else 0.0)
            group.pose[:, :3, :3] = turn_z(turn) @ group.pose[:, :3, :3]
        return np.asarray(spots + read("center")[:, None])
    if place.stack is not None:
        return _stack(stage, group, slots)
    return None


def _grid(stage: Stage, group: Group, slots: int) -> F64:
    assert group.spec.place.grid is not None
    read, count = stage.shared(group, "place.grid"), stage.draws.counts[group.name]
    columns = read("columns").astype(np.float64)
    rows = np.maximum(np.ceil(count / columns), 1.0)
    if group.spec.place.grid.rows is not None:
        rows = read("rows").astype(np.float64)
        if (bad := np.flatnonzero(count > rows * columns)).size:
            k = bad[0]
            raise SceneError(
                f"{int(rows[k])} × {int(columns[k])} cells are too few for the {count[k]} objects of frame "
                f"{stage.draws.indices[k]}",
                path=f"{group.path}.place.grid.rows",
            )
    spots = arrange.grid(columns, rows, read("spacing"), read("yaw_deg"), slots)
    return np.asarray(spots + read("center")[:, None])


def _stack(stage: Stage, group: Group, slots: int) -> F64:
    read = stage.shared(group, "place.stack")
    active = stage.draws.active(group.name)
    height = np.zeros(active.shape)
    height[group.frame, group.slot] = group.extents.high - group.extents.low
    shift = stage.table(group, "place.position")[..., 2]
    base = np.repeat(read("center")[:, None].astype(np.float64), slots, 1)
    base[..., 2] += arrange.stack(height, shift, read("gap"), active)
    return base


def _stand(stage: Stage, group: Group) -> None:
    """Bring lowest points to where origins are: above the ground, or in a stack."""
    place = group.spec.place
    if place.on_ground or place.stack is not None:
        height = stage.ground(group.frame) if place.on_ground else 0.0
        group.pose[:, 2, 3] += height - group.extents.low


def _look(stage: Stage, group: Group) -> None:
    look = group.spec.place.look_at
    if look is None:
        return
    origin, here = group.pose[:, :3, 3], np.ones(len(group.frame), bool)
    if look.point is not None:
        target = stage.read(group, "place.look_at")("point").astype(np.float64)
    elif look.group is not None:
        middle, some = stage.middle(look.group)
        target, here = middle[group.frame], some[group.frame]
    else:
        assert stage.cameras is not None
        target = stage.cameras.world_from_camera[group.frame, :3, 3]
    turned = view.facing(origin, target, look.level) @ group.pose[:, :3, :3]
    group.pose[here, :3, :3] = turned[here]


def _attach(stage: Stage, group: Group) -> None:
    spec, read = group.spec.place.attach, stage.read(group, "place.attach")
    assert spec is not None
    other = stage.groups[spec.to]
    row = stage.partner(group, spec.to, None if spec.pick is None else read("pick"))
    group.keep = row >= 0
    group.on = row = np.maximum(row, 0)
    if len(other.frame) == 0:
        return
    m = len(group.frame)
    point, normal, touch = np.zeros((m, 3)), np.zeros((m, 3)), np.zeros(m, bool)
    for where, meshes, mesh in other.pieces(row):
        if spec.at is not None:
            point[where], normal[where], touch[where] = surface.named(
                meshes, mesh, read("at")[where], f"{group.path}.place.attach.at"
            )
        elif spec.surface is not None:
            point[where], normal[where] = surface.picked(meshes, mesh, read("surface")[where])
            touch[where] = True
    axes = surface.axes(normal)
    lift = np.zeros((m, 3))
    lift[:, 2] = np.where(touch, -group.extents.low, 0.0)
    inside = point * other.scale[row, None] + np.einsum("mij,mj->mi", axes, read("offset") + lift)
    parent = other.pose[row]
    group.pose[:, :3, 3] = np.einsum("mij,mj->mi", parent[:, :3, :3], inside) + parent[:, :3, 3]
    group.pose[:, :3, :3] = parent[:, :3, :3] @ axes @ group.pose[:, :3, :3]
