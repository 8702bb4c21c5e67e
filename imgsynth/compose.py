"""From sampled values to the arrays a renderer takes: the objects of each frame, and what is around them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import layout, placement
from imgsynth.batch import F64, Cameras, InstanceTable, Meshes, MeshPool, SceneBatch
from imgsynth.cameras import checked, placed_cameras
from imgsynth.errors import SceneError
from imgsynth.exposures import exposure
from imgsynth.matter import MaterialTable, TextureTable, asset
from imgsynth.named_points import labelled_keypoints, pooled_keypoints
from imgsynth.plan import Draws, Plan, Reader
from imgsynth.scene import ObjectSpec, SceneSpec
from imgsynth.shapes.build import Built, build
from imgsynth.surroundings import backgrounds, ground, lights
from imgsynth.viewing import framed

Rows = NDArray[np.intp]


@dataclass
class _Group:
    """The objects of one group that found a place and show meshes of one topology, by frame and slot; `order`
    is the group's place in the scene.
    """

    name: str
    order: int
    frame: Rows
    slot: Rows
    meshes: Meshes
    mesh: Rows
    pose: F64
    scale: F64
    class_id: NDArray[np.int32]
    materials: NDArray[np.int32]
    keypoints: tuple[str, ...]


def compose(plan: Plan, draws: Draws, *, folder: Path | None = None) -> SceneBatch:
    """The scene batch for sampled values. `folder` is where relative asset paths start.

    Raises:
        SceneError: a value that the scene cannot take (an unknown class name, a shape without the named part
            or direction), or an asset that is missing or cannot be read.
    """
    spec, n = plan.spec, len(draws.indices)
    every = np.arange(n)
    textures = TextureTable(folder or Path())
    materials = MaterialTable(textures)
    shaped = {name: _shaped(draws, name, obj, folder) for name, obj in spec.objects.items()}
    stage = layout.Stage(plan, draws, shaped, placement.Floor(n))
    for name in layout.order(spec):
        if name == layout.CAMERA:
            stage.cameras = _cameras(stage)
        else:
            layout.place(stage, name)
    groups = [
        posed
        for order, group in enumerate(shaped.values())
        for posed in _finished(stage, order, group, materials, textures)
    ]
    meshes, instances = _pool(spec, groups)
    cameras = stage.cameras
    assert cameras is not None
    floor_plane = ground(plan, draws, materials)
    behind = backgrounds(spec.background, Reader(draws, "background", every), textures, spec.image.size)
    table, pool = materials.table(), textures.pool()
    if spec.camera.framing is not None:
        read = Reader(draws, "camera.framing", every)
        cameras = framed(
            cameras, spec.camera.framing, read, spec.image.size, meshes, instances, table, pool
        )  # fmt: skip
    cameras = checked(cameras, spec.image.size, draws.indices)
    light = lights(plan, draws, folder or Path())
    return SceneBatch(
        draws.indices, spec.image.size, spec.classes, cameras, light, floor_plane, behind,
        table, pool, meshes, instances, spec.outputs, stage.report,
        exposure(plan, draws, cameras, instances, shaped),
    )  # fmt: skip


def _cameras(stage: layout.Stage) -> Cameras:
    """The cameras; moved along with the middle of the group that they look at, where they do."""
    spec, every = stage.plan.spec, np.arange(len(stage))
    cameras = placed_cameras(spec.camera, spec.image.size, Reader(stage.draws, "camera", every))
    if spec.camera.look_at is None:
        return cameras
    pose = cameras.world_from_camera.copy()
    pose[:, :3, 3] += stage.middle(spec.camera.look_at)[0]
    return replace(cameras, world_from_camera=pose)


def _shaped(draws: Draws, name: str, obj: ObjectSpec, folder: Path | None) -> layout.Group:
    """A group's objects, shaped and turned, at the origin."""
    path = f"objects.{name}"
    frame, slot = np.nonzero(draws.active(name))
    read = Reader(draws, path, frame, slot)
    with asset(f"{path}.shape.{obj.shape.kind}"):
        built = build(obj.shape, read.at("shape"), len(frame), folder, path)
    scale = read("scale").astype(np.float64)
    turn = placement.orientation(
        read("place.rotation") if obj.place.rotation else None,
        _directions(built, read("place.up"), path) if obj.place.up else None,
        read("place.yaw_deg"),
    )
    pose = np.tile(np.eye(4), (len(frame), 1, 1))
    pose[:, :3, :3] = turn
    extents = placement.Extents(*np.zeros((4, len(frame))))
    for b in built:
        for whole, part in zip(
            extents, placement.extents(b.meshes, b.mesh, turn[b.rows], scale[b.rows]), strict=True
        ):
            whole[b.rows] = part
    keep = np.ones(len(frame), bool)
    return layout.Group(name, obj, frame, slot, built, scale, pose, extents, keep)


def _finished(
    stage: layout.Stage, order: int, group: layout.Group, materials: MaterialTable, textures: TextureTable
) -> list[_Group]:
    """A placed group's objects with their classes and materials, without those that found no place."""
    posed = []
    for b in group.built:
        mesh, rows = b.mesh[group.keep[b.rows]], b.rows[group.keep[b.rows]]
        frame, slot = group.frame[rows], group.slot[rows]
        kept = Reader(stage.draws, group.path, frame, slot)
        slots = _slot_materials(group.spec, b, kept, materials, textures, group.path)
        posed.append(_Group(
            group.name, order, frame, slot, b.meshes, mesh, group.pose[rows],
            np.repeat(group.scale[rows, None], 3, 1), _classes(stage, group, b, kept, mesh, rows), slots,
            labelled_keypoints(group.spec, b.meshes, group.path),
        ))  # fmt: skip
    return posed


def _classes(
    stage: layout.Stage, group: layout.Group, built: Built, read: Reader, mesh: Rows, rows: Rows
) -> NDArray[np.int32]:
    """(k,) classes of the rows that show `built`, 0 where they have none."""
    classes = stage.plan.spec.classes
    if group.spec.class_ is not None:
        return _class_ids(classes, read("class"), f"{group.path}.class")
    if group.spec.class_from is not None:
        return _class_by_pose(stage, group, built.meshes, mesh, rows)
    if built.class_name is not None:
        names = np.full(len(rows), built.class_name)
        return _class_ids(classes, names, f"{group.path}.shape.assets.classes")
    return np.zeros(len(rows), np.int32)


def _class_by_pose(
    stage: layout.Stage, group: layout.Group, meshes: Meshes, mesh: Rows, rows: Rows
) -> NDArray[np.int32]:
    """(k,) the class named like the direction that points most nearly up, or to the camera."""
    classes = stage.plan.spec.classes
    named = [name for name in meshes.directions if name in classes]
    if not named:
        known = ", ".join(meshes.directions) or "none"
        raise SceneError(
            f"none of the shape's directions ({known}) is among the scene's classes ({', '.join(classes)})",
            path=f"{group.path}.class_from",
        )
    pose, towards = group.pose[rows], np.tile([0.0, 0.0, 1.0], (len(rows), 1))
    if group.spec.class_from == "camera":
        assert stage.cameras is not None
        towards = stage.cameras.world_from_camera[group.frame[rows], :3, 3] - pose[:, :3, 3]
    own = np.einsum("mij,mi->mj", pose[:, :3, :3], towards)  # seen from the object
    directions = [np.asarray(meshes.directions[name], np.float64) for name in named]
    cosine = np.stack([(own * (d if d.ndim == 1 else d[mesh])).sum(1) for d in directions], 1)
    return np.array([classes.index(name) + 1 for name in named], np.int32)[cosine.argmax(1)]


def _slot_materials(
    obj: ObjectSpec, built: Built, read: Reader, materials: MaterialTable, textures: TextureTable, path: str
) -> NDArray[np.int32]:
    slot_names = built.meshes.slot_names
    if unknown := [p for p in obj.parts if p not in slot_names]:
        raise SceneError(
            f"the shape has no part {unknown[0]!r} (it has {', '.join(slot_names)})", path=f"{path}.parts"
        )
    columns: list[NDArray[np.int32]] = []
    for k, part in enumerate(slot_names):
        own = built.materials[k] if built.materials else None
        if part in obj.parts or k == 0 or own is not None:
            spec, where = (
                (obj.parts[part], f"parts.{part}") if part in obj.parts else (obj.material, "material")
            )
            with asset(f"{path}.{where}.texture"):
                columns.append(materials.add(spec, read.at(where), len(read.frame), own=own))
        else:
            columns.append(columns[-1])
    return np.stack(columns, 1)


def _directions(built: tuple[Built, ...], names: NDArray[Any], path: str) -> F64:
    out = np.empty((len(names), 3))
    for b in built:
        wanted = names[b.rows].astype(str)
        for name in np.unique(wanted).tolist():
            if name not in b.meshes.directions:
                known = ", ".join(b.meshes.directions) or "none"
                raise SceneError(
                    f"the shape has no direction {name!r} (it has {known})", path=f"{path}.place.up"
                )
            here = wanted == name
            direction = np.asarray(b.meshes.directions[name], np.float64)
            out[b.rows[here]] = direction if direction.ndim == 1 else direction[b.mesh[here]]
    return out


def _class_ids(classes: tuple[str, ...], names: NDArray[Any], path: str) -> NDArray[np.int32]:
    lookup = {name: k + 1 for k, name in enumerate(classes)}
    distinct, where = np.unique(names.astype(str), return_inverse=True)
    if unknown := [name for name in distinct.tolist() if name not in lookup]:
        raise SceneError(f"{unknown[0]!r} is not among the scene's classes ({', '.join(classes)})", path=path)
    return np.array([lookup[name] for name in distinct] or [0], np.int32)[where]


def _pool(spec: SceneSpec, groups: list[_Group]) -> tuple[MeshPool, InstanceTable]:
    """All meshes end to end, and all instances sorted by frame."""
    parts = [g.meshes for g in groups]
    first = np.cumsum([0, *(len(p) for p in parts)])
    counts = [(len(p), p.vertices.shape[1], len(p.faces)) for p in parts]
    vertex_start = np.cumsum([0, *(v for m, v, _ in counts for _ in range(m))])
    face_start = np.cumsum([0, *(f for m, _, f in counts for _ in range(m))])

    def flat(name: str, width: int) -> NDArray[np.float32]:
        arrays = [
            np.broadcast_to(getattr(p, name), (len(p), p.vertices.shape[1], width)).reshape(-1, width)
            for p in parts
        ]
        return np.concatenate(arrays or [np.zeros((0, width))]).astype(np.float32, copy=False)

    faces = np.concatenate([np.zeros((0, 3), np.int32), *(np.tile(p.faces, (len(p), 1)) for p in parts)])
    slots = np.concatenate([np.zeros(0, np.int32), *(np.tile(p.slots, len(p)) for p in parts)])
    pool = MeshPool(
        flat("vertices", 3), flat("normals", 3), flat("uv", 2),
        faces.astype(np.int32, copy=False), slots.astype(np.int32, copy=False),
        vertex_start.astype(np.int64), face_start.astype(np.int64),
        np.array([p.two_sided for p in parts for _ in range(len(p))], bool),
        pooled_keypoints(spec, [(g.meshes, g.keypoints) for g in groups]),
    )  # fmt: skip
    empty = np.zeros((2, 0), np.intp)
    frame = np.concatenate([g.frame for g in groups] or [empty[0]]).astype(np.int32)
    place = np.concatenate([np.stack([np.full(len(g.slot), g.order), g.slot]) for g in groups] or [empty], 1)
    order = np.lexsort((place[1], place[0], frame))
    frame = frame[order]
    starts = np.searchsorted(frame, frame, side="left")
    width = max((g.materials.shape[1] for g in groups), default=1)
    padded = [
        np.pad(g.materials, ((0, 0), (0, width - g.materials.shape[1])), constant_values=-1) for g in groups
    ]

    def stacked(
        arrays: list[NDArray[Any]], shape: tuple[int, ...] = (), kind: Any = np.float64
    ) -> NDArray[Any]:
        return np.concatenate(arrays or [np.zeros((0, *shape))]).astype(kind, copy=False)[order]

    table = InstanceTable(
        frame,
        (np.arange(len(frame)) - starts + 1).astype(np.int32),
        stacked([g.class_id for g in groups], kind=np.int32),
        stacked([g.mesh + first[k] for k, g in enumerate(groups)], kind=np.int32),
        stacked(padded, (width,), np.int32),
        stacked([g.pose for g in groups], (4, 4)),
        stacked([g.scale for g in groups], (3,)),
        stacked([np.array([f"objects.{g.name}[{s}]" for s in g.slot], object) for g in groups], kind=object),
        stacked([np.full(len(g.slot), g.name, object) for g in groups], kind=object),
    )
    return pool, table
