"""From sampled values to the arrays a renderer takes: shapes, poses, cameras, light, matter, backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry, placement, seeding
from imgsynth.batch import (
    F64,
    FLAT,
    GRADIENT,
    NOISE,
    PHOTO,
    Backgrounds,
    Cameras,
    Ground,
    InstanceTable,
    Lights,
    Meshes,
    MeshPool,
    SceneBatch,
)
from imgsynth.color import srgb_to_linear
from imgsynth.errors import DataError, SceneError
from imgsynth.matter import MaterialTable, TextureTable
from imgsynth.plan import Draws, Plan
from imgsynth.scene import BackgroundSpec, CameraSpec, FramingSpec, ObjectSpec, PhotosSpec
from imgsynth.shapes.build import Built, build

Rows = NDArray[np.intp]


@contextmanager
def _asset(path: str) -> Iterator[None]:
    """Say of an asset that cannot be read where the scene asks for it."""
    try:
        yield
    except DataError as error:
        raise SceneError(str(error), path=path) from None


@dataclass(frozen=True)
class Reader:
    """The values below one path, for chosen rows: (frame,) rows of frame leaves, (frame, slot) rows of a
    group's.
    """

    draws: Draws
    prefix: str
    frame: Rows
    slot: Rows | None = None

    def __call__(self, path: str) -> NDArray[Any]:
        """(m, ...) the values of a leaf below."""
        values = self.draws[f"{self.prefix}.{path}"]
        return values[self.frame] if self.slot is None else values[self.frame, self.slot]

    def at(self, path: str) -> Reader:
        """The reader of a branch."""
        return replace(self, prefix=f"{self.prefix}.{path}")


@dataclass
class _Group:
    """One object group, posed: rows are its active (frame, slot) pairs in that order."""

    name: str
    frame: Rows
    slot: Rows
    meshes: Meshes
    mesh: Rows
    pose: F64
    scale: F64
    class_id: NDArray[np.int32]
    materials: NDArray[np.int32]


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
    floor = placement.Floor(n)
    groups = [
        _group(plan, draws, name, obj, floor, materials, textures, folder)
        for name, obj in spec.objects.items()
    ]
    meshes, instances = _pool(groups)
    cameras = _cameras(spec.camera, spec.image.size, Reader(draws, "camera", every))
    if spec.camera.framing is not None:
        cameras = _framed(
            cameras,
            spec.camera.framing,
            Reader(draws, "camera.framing", every),
            spec.image.size,
            meshes,
            instances,
        )
    ground = _ground(plan, draws, materials)
    backgrounds = _backgrounds(spec.background, Reader(draws, "background", every), textures, spec.image.size)
    return SceneBatch(
        draws.indices, spec.image.size, spec.classes, cameras, _lights(plan, draws), ground, backgrounds,
        materials.table(), textures.pool(), meshes, instances,
    )  # fmt: skip


def _group(
    plan: Plan,
    draws: Draws,
    name: str,
    obj: ObjectSpec,
    floor: placement.Floor,
    materials: MaterialTable,
    textures: TextureTable,
    folder: Path | None,
) -> _Group:
    path, active = f"objects.{name}", draws.active(name)
    frame, slot = np.nonzero(active)
    read = Reader(draws, path, frame, slot)
    with _asset(f"{path}.shape.mesh.file"):
        built = build(obj.shape, read.at("shape"), len(frame), folder, path)
    scale = read("scale").astype(np.float64)
    turn = placement.orientation(
        read("place.rotation") if obj.place.rotation else None,
        _directions(built.meshes, built.mesh, read("place.up"), path) if obj.place.up else None,
        read("place.yaw_deg"),
    )
    low, radius = placement.extents(built.meshes, built.mesh, turn, scale)
    position = draws[f"{path}.place.position"].astype(np.float64).copy()
    if obj.place.apart is not None:
        reach = np.zeros(active.shape)
        reach[frame, slot] = radius
        redraw = _redraw(plan, draws, f"{path}.place.position")
        keep = floor.settle(position, reach, draws[f"{path}.place.apart"], active, redraw)[frame, slot]
    else:
        keep = np.ones(len(frame), bool)
    pose = np.tile(np.eye(4), (len(frame), 1, 1))
    pose[:, :3, :3], pose[:, :3, 3] = turn, position[frame, slot]
    if obj.place.on_ground:
        height = draws["ground.height"][frame] if plan.spec.ground else 0.0
        pose[:, 2, 3] += height - low
    class_id = (
        _class_ids(plan.spec.classes, read("class"), path) if obj.class_ else np.zeros(len(frame), np.int32)
    )
    kept = Reader(draws, path, frame[keep], slot[keep])
    slots = _slot_materials(obj, built, kept, materials, textures, path)
    return _Group(
        name, frame[keep], slot[keep], built.meshes, built.mesh[keep], pose[keep],
        np.repeat(scale[keep, None], 3, 1), class_id[keep], slots,
    )  # fmt: skip


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
        image = built.textures[k] if built.textures else None
        # A mesh file's own colours hold until the scene says otherwise.
        color = built.colors[k] if built.colors and "material" not in obj.model_fields_set else None
        if part in obj.parts:
            with _asset(f"{path}.parts.{part}.texture"):
                columns.append(materials.add(obj.parts[part], read.at(f"parts.{part}"), len(read.frame)))
        elif k == 0 or image is not None or color is not None:
            texture = None if image is None else textures.image(image)
            with _asset(f"{path}.material.texture"):
                own = materials.add(
                    obj.material, read.at("material"), len(read.frame), texture=texture, color=color
                )
            columns.append(own)
        else:
            columns.append(columns[-1])
    return np.stack(columns, 1)


def _directions(meshes: Meshes, mesh: Rows, names: NDArray[Any], path: str) -> F64:
    out = np.empty((len(names), 3))
    for name in np.unique(names.astype(str)).tolist():
        if name not in meshes.directions:
            known = ", ".join(meshes.directions) or "none"
            raise SceneError(f"the shape has no direction {name!r} (it has {known})", path=f"{path}.place.up")
        here = names.astype(str) == name
        direction = np.asarray(meshes.directions[name], np.float64)
        out[here] = direction if direction.ndim == 1 else direction[mesh[here]]
    return out


def _class_ids(classes: tuple[str, ...], names: NDArray[Any], path: str) -> NDArray[np.int32]:
    lookup = {name: k + 1 for k, name in enumerate(classes)}
    distinct, where = np.unique(names.astype(str), return_inverse=True)
    if unknown := [name for name in distinct.tolist() if name not in lookup]:
        raise SceneError(
            f"{unknown[0]!r} is not among the scene's classes ({', '.join(classes)})", path=f"{path}.class"
        )
    return np.array([lookup[name] for name in distinct] or [0], np.int32)[where]


def _redraw(plan: Plan, draws: Draws, path: str) -> Any:
    leaf = plan.leaves[path]

    def redraw(slot: int, attempt: int, frames: Rows) -> F64 | None:
        if leaf.distribution.dims == 0:
            return None
        name = f"{leaf.names()[slot]}~{attempt}"
        uniform = seeding.uniforms(draws.seed, [name], draws.indices[frames], leaf.distribution.dims)
        return np.asarray(leaf.distribution.ppf(uniform[:, 0]), np.float64)

    return redraw


def _pool(groups: list[_Group]) -> tuple[MeshPool, InstanceTable]:
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
    )  # fmt: skip
    frame = np.concatenate([g.frame for g in groups] or [np.zeros(0, np.intp)]).astype(np.int32)
    order = np.argsort(frame, kind="stable")
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


def _cameras(spec: CameraSpec, size: tuple[int, int], read: Reader) -> Cameras:
    azimuth, elevation, roll = (
        np.radians(read(f"{name}_deg").astype(np.float64)) for name in ("azimuth", "elevation", "roll")
    )
    outward = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    # The tangent of rising elevation: "up" that never degenerates, not even straight above.
    up = np.stack(
        [-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation)], -1
    )
    right = np.cross(-outward, up)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    right, up = c * right + s * up, c * up - s * right
    pose = np.tile(np.eye(4), (len(azimuth), 1, 1))
    pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2] = right, -up, -outward
    pose[:, :3, 3] = read("target") + outward * read("distance")[:, None]
    return Cameras(geometry.intrinsics(read("fov_deg"), size), pose, read("near").astype(np.float64))


def _framed(
    cameras: Cameras,
    spec: FramingSpec,
    read: Reader,
    size: tuple[int, int],
    meshes: MeshPool,
    instances: InstanceTable,
) -> Cameras:
    """Cameras whose intrinsics put the labelled objects' projected box where the framing wants it."""
    low, high = _projected_box(cameras, meshes, instances, len(cameras.k))
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(low).all(1) & (high > low).all(1))
    low, high = np.where(seen[:, None], low, 0.0), np.where(seen[:, None], high, np.array(size[::-1], float))
    free = 1.0 - 2.0 * np.stack([read("margin_x"), read("margin_y")], -1)
    target = np.array(size[::-1], np.float64) * np.maximum(free, 1e-3)
    gain = target / np.maximum(high - low, 1e-9)
    if spec.fit == "contain":
        gain = np.repeat(gain.min(1, keepdims=True), 2, 1)
    else:
        most = gain.min(1, keepdims=True) * np.maximum(read("max_aspect"), 1.0)[:, None]
        gain = np.minimum(gain, most)
    shift = np.stack([read("shift_x"), read("shift_y")], -1)
    offset = np.array(size[::-1]) * (0.5 + shift) - gain * (low + high) / 2
    crop = np.zeros_like(cameras.k)
    crop[:, 0, 0], crop[:, 1, 1], crop[:, 0, 2], crop[:, 1, 2] = (
        gain[:, 0],
        gain[:, 1],
        offset[:, 0],
        offset[:, 1],
    )
    crop[:, 2, 2] = 1.0
    return replace(cameras, k=np.where(seen[:, None, None], crop @ cameras.k, cameras.k))


def _projected_box(cameras: Cameras, meshes: MeshPool, instances: InstanceTable, n: int) -> tuple[F64, F64]:
    """(n, 2) lowest and highest pixel coordinates over the labelled objects' vertices used by their faces."""
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    rows = np.flatnonzero(instances.class_id > 0)
    camera_from_world = geometry.rigid_inverse(cameras.world_from_camera)
    counts = np.diff(meshes.vertex_start)[instances.mesh[rows]]
    for a in range(0, len(rows), step := max(1, (1 << 20) // max(1, int(counts.max(initial=1))))):
        part, count = rows[a : a + step], counts[a : a + step]
        owner = np.repeat(np.arange(len(part)), count)
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        vertex = meshes.vertices[meshes.vertex_start[instances.mesh[part]][owner] + inside]
        frame = instances.frame[part]
        matrix = cameras.k[frame] @ (camera_from_world[frame] @ instances.world_from_object[part])[:, :3]
        matrix[:, :, :3] *= instances.scale[part][:, None, :]
        clip = np.einsum("vrc,vc->vr", matrix[owner][:, :, :3], vertex) + matrix[owner][:, :, 3]
        front = clip[:, 2] > cameras.near[frame][owner]
        pixel = clip[front, :2] / clip[front, 2:]
        np.minimum.at(low, frame[owner][front], pixel)
        np.maximum.at(high, frame[owner][front], pixel)
    return low, high


def _lights(plan: Plan, draws: Draws) -> Lights:
    n = len(draws.indices)
    read = Reader(draws, "light", np.arange(n))
    ambient = read("ambient.radiance")[:, None] * srgb_to_linear(read("ambient.color"))
    direction, irradiance, shadows = np.tile([0.0, 0.0, 1.0], (n, 1)), np.zeros((n, 3)), np.zeros(n, bool)
    if plan.spec.light.sun is not None:
        azimuth, elevation = (
            np.radians(read(f"sun.{a}_deg").astype(np.float64)) for a in ("azimuth", "elevation")
        )
        direction = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
        )
        irradiance = read("sun.irradiance")[:, None] * srgb_to_linear(read("sun.color"))
        shadows = read("sun.shadows").astype(bool)
    return Lights(
        direction.astype(np.float32), irradiance.astype(np.float32), ambient.astype(np.float32), shadows
    )


def _ground(plan: Plan, draws: Draws, materials: MaterialTable) -> Ground:
    n = len(draws.indices)
    if plan.spec.ground is None:
        return Ground(np.zeros(n, bool), np.zeros(n, np.float32), np.zeros(n, np.int32))
    read = Reader(draws, "ground", np.arange(n))
    with _asset("ground.material.texture"):
        material = materials.add(plan.spec.ground.material, read.at("material"), n)
    return Ground(np.ones(n, bool), read("height").astype(np.float32), material)


def _backgrounds(
    spec: BackgroundSpec, read: Reader, textures: TextureTable, size: tuple[int, int]
) -> Backgrounds:
    n = len(read.frame)
    kinds = spec.kinds
    edges = np.cumsum(list(kinds.values()))[:-1]
    chosen = np.array(list(kinds), object)[np.searchsorted(edges, read("pick"), side="right")]
    code = {"flat": FLAT, "gradient": GRADIENT, "noise": NOISE, "photos": PHOTO}
    kind = np.array([code[c] for c in chosen], np.int32)
    a, b = np.zeros((n, 3)), np.zeros((n, 3))
    scale, seed = np.ones(n), np.zeros(n, np.uint32)
    texture, window = np.full(n, -1, np.int32), np.tile([0.0, 0.0, 1.0, 1.0], (n, 1))
    for name, first, second in (
        ("flat", "flat", "flat"),
        ("gradient", "gradient.top", "gradient.bottom"),
        ("noise", "noise.a", "noise.b"),
    ):
        if name in kinds:
            here = np.asarray(chosen == name, bool)
            a[here], b[here] = srgb_to_linear(read(first)[here]), srgb_to_linear(read(second)[here])
    if spec.noise is not None:
        scale, seed = read("noise.scale"), read("noise.seed").astype(np.uint32)
    if spec.photos is not None:
        here = np.asarray(chosen == "photos", bool)
        a[here] = read("photos.brightness")[here, None]
        with _asset("background.photos.folder"):
            texture[here], window[here] = _photo_windows(
                spec.photos, replace(read.at("photos"), frame=read.frame[here]), textures, size
            )
    f32 = np.float32
    return Backgrounds(
        kind, a.astype(f32), b.astype(f32), scale.astype(f32), seed, texture, window.astype(f32)
    )


def _photo_windows(
    spec: PhotosSpec, read: Reader, textures: TextureTable, size: tuple[int, int]
) -> tuple[NDArray[np.int32], F64]:
    """A crop of the frame's own aspect from each picked photograph."""
    index = textures.pick(spec.folder, read("pick"))
    photo = textures.sizes(index)
    aspect = (size[1] / size[0]) / (photo[:, 1] / photo[:, 0])  # > 1: the frame is wider than the photograph
    part = read("crop")[:, None] * np.stack([np.minimum(1.0, aspect), np.minimum(1.0, 1.0 / aspect)], -1)
    start = np.stack([read("x"), read("y")], -1) * (1.0 - part)
    return index, np.concatenate([start, start + part], 1)
