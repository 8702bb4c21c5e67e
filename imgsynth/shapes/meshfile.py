"""Triangle meshes from OBJ, PLY, STL, GLB and glTF files, with what a hostile file could do fenced off.

A file may name others (materials, textures, buffers) only inside its own folder; nothing is fetched from a
network; sizes are limited before and after parsing. Meshes are kept between batches while their files stay as
they are.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, Meshes
from imgsynth.errors import DataError
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.shapes.gltf import read_gltf
from imgsynth.shapes.meshrepair import Joined, joined
from imgsynth.shapes.meshsource import Home, Source, checked
from imgsynth.shapes.objfile import read_obj
from imgsynth.shapes.plystl import read_ply, read_stl
from imgsynth.shapes.surface import distinct_rows, face_normals
from imgsynth.shapes.vertexcolors import painted
from imgsynth.shapespec import UNITS

MAX_TRIANGLES = 1_000_000
MAX_BYTES = 256 * 2**20
CACHE_BYTES = 1 << 30
_READERS = {".obj": read_obj, ".ply": read_ply, ".stl": read_stl, ".glb": read_gltf, ".gltf": read_gltf}
_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) with y up → z up
_log = logging.getLogger("imgsynth.assets")


@dataclass(frozen=True)
class MeshFile:
    """One mesh, the materials of its slots, what was repaired or left out of the file, and whether its
    surface is closed.
    """

    meshes: Meshes  # m = 1
    materials: tuple[FileMaterial, ...]  # by slot
    notes: tuple[str, ...]
    closed: bool


def load_mesh(
    path: str | Path,
    *,
    unit: float | str | None = None,
    size_m: float | None = None,
    up_axis: str | None = None,
    center: str | None = None,
    keypoints: Mapping[str, Sequence[float]] | None = None,
    max_triangles: int = MAX_TRIANGLES,
    max_bytes: int = MAX_BYTES,
    texture_px: int = 2048,
) -> MeshFile:
    """Read a mesh file as one mesh (m = 1), the nodes of its scene joined, one slot per material.

    Args:
        path: .obj, .ply, .stl, .glb or .gltf.
        unit: what 1 stands for in the file: metres, or m, cm, mm, inch, ft.
        size_m: instead of a unit, the length that the largest side of the bounding box gets, metres.
        up_axis: the file's axis that points up, turned to z: y for glTF if nothing is said, else z.
        center: where the origin goes: origin (where it is), bottom (middle of the bounding box's underside),
            box (its middle), centroid (centre of mass; of an open surface, of its area).
        keypoints: names and places in the file's own coordinates, in addition to the file's own.
        max_triangles: limit on triangles.
        max_bytes: limit on each file.
        texture_px: textures are halved until no side is longer.

    Repairs are kept in `notes`, and logged once to `imgsynth.assets` (INFO where they change what one sees,
    else DEBUG): missing normals are made (smooth, with creases where faces meet at more than 40°) and so are
    missing uv, vertex colours become a texture, triangles without area are dropped, winding is made
    consistent and outward, open surfaces become two-sided.

    Raises:
        DataError: missing or unreadable file, another kind, nothing in it, too large, or a reference that
            leaves its folder.
    """
    path = Path(path)
    scale = UNITS.get(unit, 0.0) if isinstance(unit, str) else 1.0 if unit is None else float(unit)
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"{path}: unit: expected {', '.join(UNITS)} or a number above 0, got {unit!r}")
    if size_m is not None and (unit is not None or not (np.isfinite(size_m) and size_m > 0)):
        raise DataError(f"{path}: size_m: expected a length above 0, and no unit beside it")
    if up_axis not in ("y", "z", None):
        raise DataError(f"{path}: up_axis: expected 'y' or 'z', got {up_axis!r}")
    if center not in ("origin", "bottom", "box", "centroid", None):
        raise DataError(f"{path}: center: expected origin, bottom, box or centroid, got {center!r}")
    points = {name: tuple(float(x) for x in point) for name, point in (keypoints or {}).items()}
    options = (scale, size_m, up_axis, center, tuple(points.items()), max_triangles, max_bytes, texture_px)
    if (held := _CACHE.get(path, options)) is not None:
        return held
    home = Home(path, max_triangles, max_bytes, texture_px)
    source = _read(home)
    for name, point in points.items():
        source.keypoints[name] = np.array(point)
    if up_axis is None:
        up_axis = "y" if path.suffix.lower() in (".glb", ".gltf") else "z"
    loaded = _made(home, source, _Y_UP if up_axis == "y" else np.eye(3), scale, size_m, center or "origin")
    for note, loud in source.notes.items():
        _log.log(logging.INFO if loud else logging.DEBUG, "%s: %s", path, note)
    _CACHE.put(path, options, home.used, loaded)
    return loaded


def _read(home: Home) -> Source:
    reader = _READERS.get(home.path.suffix.lower())
    if reader is None:
        raise home.fail(f"expected a mesh file ({', '.join(_READERS)})")
    try:
        return checked(home, reader(home, home.own()))
    except OSError as error:
        raise home.fail(f"cannot be read: {error.strerror}") from None


def _made(home: Home, source: Source, turn: F64, scale: float, size_m: float | None, center: str) -> MeshFile:
    for part in source.parts:
        part.vertices = part.vertices @ (turn * scale).T
        part.normals = None if part.normals is None else part.normals @ turn.T
    mesh = joined(source, str(home.path))
    points = {name: point @ (turn * scale).T for name, point in source.keypoints.items()}
    used = mesh.vertices[np.unique(mesh.faces)]
    factor = 1.0 if size_m is None else size_m / max(float(np.ptp(used, axis=0).max()), 1e-30)
    origin = _origin(mesh, used, center)
    place = {name: ((point - origin) * factor).astype(np.float32) for name, point in points.items()}
    mesh.vertices = (mesh.vertices - origin) * factor
    _remark(source, mesh, size_m)
    slots, materials = _slots(source)
    materials = _paint(home, source, mesh, slots, materials)
    if bare := int(mesh.bare.sum()):
        textured = any(materials[k].texture is not None for k in np.unique(slots[mesh.part[mesh.bare]]))
        which = "no" if mesh.bare.all() else f"{bare} of {len(mesh.bare)} triangles without"
        source.note(f"{which} texture coordinates: projected along the sides of its box", loud=textured)
    cut = any(m.two_sided and m.alpha_cutoff for m in materials)
    meshes = _welded(mesh, slots[mesh.part], tuple(m.name for m in materials), cut or not mesh.closed)
    return MeshFile(replace(meshes, keypoints=place), materials, tuple(source.notes), mesh.closed)


def _origin(mesh: Joined, used: F64, center: str) -> F64:
    low, high = used.min(0), used.max(0)
    middle: F64 = (low + high) / 2
    if center == "bottom":
        return np.append(middle[:2], low[2])
    if center == "centroid":
        corner = mesh.vertices[mesh.faces] - middle
        normal = face_normals(mesh.vertices, mesh.faces)
        if mesh.closed:  # tetrahedra to the middle
            weight, centre = (corner[:, 0] * normal).sum(1), corner.sum(1) / 4
        else:
            weight, centre = np.linalg.norm(normal, axis=1), corner.sum(1) / 3
        if abs(weight.sum()) > 1e-12 * np.abs(weight).sum():
            return middle + (weight[:, None] * centre).sum(0) / weight.sum()
    return middle if center in ("box", "centroid") else np.zeros(3)


def _remark(source: Source, mesh: Joined, size_m: float | None) -> None:
    """Sizes and places that are seldom meant."""
    used = mesh.vertices[mesh.faces.ravel()]
    size, reach = float(np.ptp(used, axis=0).max()), float(np.abs(used).max())
    if size_m is None and not 1e-3 <= size <= 100:
        source.note(f"is {size:.3g} m long: say its unit (mm, cm, inch, ft …) or size_m if that is not meant")
    if reach > 1000 * size:
        source.note(f"lies {reach / size:.0f} times its size from its origin: center brings it near")


def _slots(source: Source) -> tuple[NDArray[np.int32], tuple[FileMaterial, ...]]:
    """Each part's slot, and the slots' materials with names of their own, in the file's order."""
    places: dict[int, int] = {}
    materials: list[FileMaterial] = []
    taken: set[str] = set()
    for part in source.parts:
        key = id(part.material)
        if key not in places:
            places[key] = len(materials)
            material = part.material or FileMaterial()
            name = next(n for n in _names(material.name) if n not in taken)
            taken.add(name)
            materials.append(replace(material, name=name))
    slots = np.array([places[id(part.material)] for part in source.parts], np.int32)
    return slots, tuple(materials)


def _names(name: str) -> Any:
    yield name
    yield from (f"{name}_{k}" for k in range(2, 1 << 20))


def _paint(
    home: Home, source: Source, mesh: Joined, slots: NDArray[np.int32], materials: tuple[FileMaterial, ...]
) -> tuple[FileMaterial, ...]:
    """Vertex colours as textures; where there is a texture too, as their mean."""
    out = list(materials)
    start = np.cumsum([0, *(len(p.vertices) for p in source.parts)])
    colors = np.ones((start[-1], 3))
    for k, part in enumerate(source.parts):
        if part.colors is not None:
            colors[start[k] : start[k + 1]] = part.colors
    for slot in range(len(materials)):
        mine = [p for p, s in zip(source.parts, slots, strict=True) if s == slot]
        if all(p.colors is None for p in mine):
            continue
        faces = np.flatnonzero(slots[mesh.part] == slot)
        corner = colors[mesh.faces[faces]]
        factor = np.ones(3) if materials[slot].color is None else materials[slot].color
        if np.ptp(corner.reshape(-1, 3), axis=0).max(initial=0) < 1e-3 or materials[slot].texture is not None:
            if materials[slot].texture is not None:
                source.note("vertex colours beside a texture become one colour, their mean")
            out[slot] = replace(out[slot], color=factor * corner.mean((0, 1)))
            continue
        image, uv = painted(mesh.vertices[mesh.faces[faces]], corner)
        mesh.uv[faces], mesh.bare[faces] = uv, False
        large = replace(home, texture_px=1 << 30)  # not to be halved: its texels are the vertices
        out[slot] = replace(out[slot], color=factor, texture=large.chain(image))
        source.note("vertex colours become a texture of 2 × 2 texels a triangle", loud=False)
    return tuple(out)


def _welded(mesh: Joined, slot: NDArray[np.int32], names: tuple[str, ...], two_sided: bool) -> Meshes:
    """Corners that agree in everything become one vertex."""
    corners = np.concatenate([mesh.vertices[mesh.faces], mesh.normals, mesh.uv], -1)
    rows = corners.reshape(-1, 8).astype(np.float32) + np.float32(0)
    first, index = distinct_rows(rows)
    unique = rows[first]
    return Meshes(
        vertices=np.ascontiguousarray(unique[None, :, :3]),
        normals=np.ascontiguousarray(unique[None, :, 3:6]),
        uv=np.ascontiguousarray(unique[:, 6:]),
        faces=index.reshape(-1, 3).astype(np.int32),
        slots=slot.astype(np.int32),
        slot_names=names,
        two_sided=two_sided,
    )


class _Cache:
    """Meshes as read, by file and options, while their files keep time and size; bounded by bytes."""

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self._entries: OrderedDict[Any, tuple[dict[Path, tuple[int, int]], MeshFile, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, options: Any) -> MeshFile | None:
        with self._lock:
            found = self._entries.get((path, options))
            if found is None:
                return None
            try:
                same = all((p.stat().st_mtime_ns, p.stat().st_size) == was for p, was in found[0].items())
            except OSError:
                same = False
            if not same:
                self.held -= self._entries.pop((path, options))[2]
                return None
            self._entries.move_to_end((path, options))
            return found[1]

    def put(self, path: Path, options: Any, files: dict[Path, tuple[int, int]], value: MeshFile) -> None:
        m, chains = value.meshes, [chain for material in value.materials for chain in material.chains]
        weight = sum(a.nbytes for a in (m.vertices, m.normals, m.uv, m.faces, m.slots))
        weight += sum(level.nbytes for chain in chains for level in chain)
        with self._lock:
            if weight > self.limit or (path, options) in self._entries:
                return
            self._entries[path, options] = (dict(files), value, weight)
            self.held += weight
            while self.held > self.limit:
                self.held -= self._entries.popitem(last=False)[1][2]


_CACHE = _Cache(CACHE_BYTES)
