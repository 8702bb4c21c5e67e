"""Triangle meshes from OBJ, PLY, STL and GLB files, read by trimesh, with what a hostile file could do fenced
off.

A file may name others (materials, textures, buffers) only inside its own folder; nothing is fetched from a
network; sizes are limited before and after parsing.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, U8, Meshes
from imgsynth.color import srgb_to_linear
from imgsynth.errors import DataError
from imgsynth.shapes.surface import box_projection, creased_normals, face_normals, is_closed, volume

SUFFIXES = (".obj", ".ply", ".stl", ".glb")
MAX_FACES = 1_000_000
MAX_BYTES = 256 * 2**20
_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) with y up → z up


@dataclass(frozen=True)
class MeshFile:
    """One mesh and, by slot, the base-colour texture (h, w, 4) and linear RGB (3,) that its file gives."""

    meshes: Meshes  # m = 1
    textures: tuple[U8 | None, ...]
    colors: tuple[F64 | None, ...]

    @property
    def texture(self) -> U8 | None:
        """Texture of slot 0."""
        return self.textures[0]

    @property
    def color(self) -> F64 | None:
        """Colour of slot 0."""
        return self.colors[0]


@dataclass
class _Part:
    """What one node of the file's scene contributes."""

    vertices: F64  # (v, 3)
    faces: I64  # (f, 3)
    normals: F64 | None  # (v, 3)
    uv: F64 | None  # (v, 2)
    visual: Any


def load_mesh(
    path: str | Path,
    *,
    scale: float = 1.0,
    up_axis: str = "z",
    max_faces: int = MAX_FACES,
    max_bytes: int = MAX_BYTES,
) -> MeshFile:
    """Read a mesh file as one mesh (m = 1), the nodes of its scene joined, one slot per material.

    Args:
        path: .obj, .ply, .stl or .glb.
        scale: metres per unit of the file.
        up_axis: "z", or "y" for files whose y points up (most GLB); they are turned to z up.
        max_faces: limit on triangles.
        max_bytes: limit on each file.

    Missing normals are made: smooth, with creases where faces meet at more than 40°. Missing uv are projected
    along the axis each face looks along most, 1 unit of uv to the longest side. Vertex colours are averaged
    to one. A closed mesh that is inside out is turned; one that is not closed becomes two-sided. Triangles
    without area are dropped.

    Raises:
        DataError: missing or unreadable file, another kind, nothing in it, too large, or a reference that
            leaves its folder.
    """
    path = Path(path)
    if up_axis not in ("y", "z"):
        raise DataError(f"{path}: up_axis: expected 'y' or 'z', got {up_axis!r}")
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"{path}: scale: expected a number above 0, got {scale}")
    parts = _parts(path, _parse(path, max_faces, max_bytes), max_faces)
    turn = (_Y_UP if up_axis == "y" else np.eye(3)) * scale
    for part in parts:
        part.vertices = part.vertices @ turn.T
        part.normals = None if part.normals is None else part.normals @ (turn / scale).T
    slots, keys = _slots(parts)
    meshes = _join(path, parts, slots, tuple(keys))
    looks = [_look(path, part.visual) for part in (parts[slots.index(s)] for s in range(len(keys)))]
    return MeshFile(meshes, tuple(texture for texture, _ in looks), tuple(color for _, color in looks))


class _Folder:
    """Gives trimesh the files beside the mesh, and no others; remembers what it refused."""

    def __init__(self, home: Path, max_bytes: int):
        self.home, self.max_bytes = home.resolve(), max_bytes
        self.refused: list[str] = []

    def get(self, name: str) -> bytes:
        name = str(name).strip()
        target = (self.home / name.replace("\\", "/")).resolve()
        if not target.is_relative_to(self.home):
            return self._refuse(f"names {name!r}, which lies outside its folder")
        if not target.is_file():
            return self._refuse(f"names {name!r}, which is not there")
        if target.stat().st_size > self.max_bytes:
            return self._refuse(f"names {name!r}, which has more than {self.max_bytes} bytes")
        return target.read_bytes()

    def _refuse(self, why: str) -> bytes:
        self.refused.append(why)
        raise ValueError(why)

    def __getitem__(self, name: str) -> bytes:
        return self.get(name)

    def keys(self) -> list[str]:
        return []

    def namespaced(self, namespace: str) -> _Folder:
        return self


def _parse(path: Path, max_faces: int, max_bytes: int) -> Any:
    """The file as a trimesh scene."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected a mesh file ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    size = path.stat().st_size
    if not 0 < size <= max_bytes:
        raise DataError(f"{path}: expected 1 to {max_bytes} bytes, got {size}")
    data = path.read_bytes()
    if path.suffix.lower() == ".glb":
        _check_glb(path, data, 20 * max_faces)
    import trimesh

    folder = _Folder(path.parent, max_bytes)
    resolver: Any = folder
    try:
        scene = trimesh.load_scene(
            io.BytesIO(data),
            file_type=path.suffix.lower()[1:],
            resolver=resolver,
            process=False,
            allow_remote=False,
        )
    except Exception as error:  # trimesh's parsers raise whatever a broken file makes them stumble over
        if not folder.refused:
            raise DataError(f"{path}: cannot be read as a mesh ({type(error).__name__}: {error})") from None
    if folder.refused:
        raise DataError(f"{path}: {folder.refused[0]}")
    return scene


def _check_glb(path: Path, data: bytes, max_count: int) -> None:
    """Refuse accessors that would grow far beyond the file (one without a buffer is zeros of any length)."""
    try:
        magic, _, _, length, kind = struct.unpack_from("<4sIII4s", data)
        tree = json.loads(data[20 : 20 + length]) if (magic, kind) == (b"glTF", b"JSON") else None
        counts = [int(accessor["count"]) for accessor in tree.get("accessors", [])] if tree else []
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        tree = None
    if tree is None:
        raise DataError(f"{path}: expected a GLB file (binary glTF 2.0)")
    if any(count < 0 for count in counts) or sum(counts) > max_count:
        raise DataError(f"{path}: expected at most {max_count} values in its accessors, got {sum(counts)}")


def _parts(path: Path, scene: Any, max_faces: int) -> list[_Part]:
    nodes = [scene.graph[node] for node in sorted(scene.graph.nodes_geometry)]
    drawn = [(pose, scene.geometry[name]) for pose, name in nodes if hasattr(scene.geometry[name], "faces")]
    total = sum(len(mesh.faces) for _, mesh in drawn)
    if total == 0:
        raise DataError(f"{path}: expected triangles, found none")
    if total > max_faces:
        raise DataError(f"{path}: expected at most {max_faces} triangles, got {total}")
    return [_part(path, np.asarray(pose, np.float64), mesh) for pose, mesh in drawn if len(mesh.faces)]


def _part(path: Path, pose: F64, mesh: Any) -> _Part:
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise DataError(f"{path}: a face names vertex {faces.max()} of {len(vertices)}")
    vertices = vertices @ pose[:3, :3].T + pose[:3, 3]
    if not np.isfinite(vertices[np.unique(faces)]).all():
        raise DataError(f"{path}: expected finite vertices")
    normals = np.asarray(mesh.vertex_normals, np.float64) if "vertex_normals" in mesh._cache else None
    if normals is not None:
        normals = normals @ np.linalg.pinv(pose[:3, :3])
    if np.linalg.det(pose[:3, :3]) < 0:
        faces = faces[:, ::-1]
    uv = getattr(mesh.visual, "uv", None)
    usable = uv is not None and np.shape(uv) == (len(vertices), 2) and np.isfinite(uv).all()
    return _Part(vertices, faces, normals, np.asarray(uv, np.float64) if usable else None, mesh.visual)


def _slots(parts: list[_Part]) -> tuple[list[int], dict[str, None]]:
    """Each part's slot, and slot names in order; parts with the same material object share one."""
    seen: dict[int, int] = {}
    names: dict[str, None] = {}
    slots = []
    for part in parts:
        material = getattr(part.visual, "material", None)
        key = 0 if material is None else id(material)
        if key not in seen:
            seen[key] = len(seen)
            name = str(getattr(material, "name", None) or f"part{len(names)}") if names else "main"
            names[name if name not in names else f"{name}_{len(names)}"] = None
        slots.append(seen[key])
    return slots, names


def _join(path: Path, parts: list[_Part], slots: list[int], names: tuple[str, ...]) -> Meshes:
    counts = [len(p.vertices) for p in parts]
    start = np.cumsum([0, *counts])
    vertices = np.concatenate([p.vertices for p in parts])
    faces = np.concatenate([p.faces + s for p, s in zip(parts, start, strict=False)])
    slot = np.repeat(slots, [len(p.faces) for p in parts]).astype(np.int32)
    area = np.linalg.norm(face_normals(vertices, faces), axis=1)
    keep = area > 1e-12 * max(float(np.ptp(vertices[faces.ravel()], axis=0).max()), 1e-30) ** 2
    if not keep.any():
        raise DataError(f"{path}: expected triangles with an area, found only degenerate ones")
    faces, slot = faces[keep], slot[keep]
    position = np.unique(vertices + 0.0, axis=0, return_inverse=True)[1].ravel()
    closed = is_closed(position[faces])
    inside_out = closed and volume(vertices, faces) < 0
    if inside_out:
        faces = faces[:, ::-1]
    made = creased_normals(vertices, faces, position)
    given = _per_vertex([p.normals for p in parts], counts, 3)[faces]
    given = -given if inside_out else given
    normals = np.where(np.isnan(given), made, given)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(length > 1e-6, normals / np.maximum(length, 1e-6), made)
    uv = _per_vertex([p.uv for p in parts], counts, 2)[faces]
    uv = np.where(np.isnan(uv), box_projection(vertices, faces), uv)
    return _welded(vertices, faces, normals, uv, slot, names, not closed)


def _welded(
    vertices: F64,
    faces: I64,
    normals: F64,
    uv: F64,
    slot: NDArray[np.int32],
    names: tuple[str, ...],
    two_sided: bool,
) -> Meshes:
    """Corners (f, 3, ·) that agree in everything become one vertex."""
    corners = np.concatenate([vertices[faces], normals, uv], -1).reshape(-1, 8).astype(np.float32)
    unique, index = np.unique(corners + np.float32(0), axis=0, return_inverse=True)
    return Meshes(
        vertices=np.ascontiguousarray(unique[None, :, :3]),
        normals=np.ascontiguousarray(unique[None, :, 3:6]),
        uv=np.ascontiguousarray(unique[:, 6:]),
        faces=index.reshape(-1, 3).astype(np.int32),
        slots=slot,
        slot_names=names,
        two_sided=two_sided,
    )


def _per_vertex(values: list[F64 | None], counts: list[int], width: int) -> F64:
    """(V, width) over all parts, NaN where a part has none."""
    filled = [np.full((n, width), np.nan) if v is None else v for v, n in zip(values, counts, strict=True)]
    return np.concatenate(filled)


def _look(path: Path, visual: Any) -> tuple[U8 | None, F64 | None]:
    """Base-colour texture and colour of a part. glTF factors are linear (§3.9.2); OBJ's Kd and vertex colours
    are
    taken as sRGB."""
    material = getattr(visual, "material", None)
    if material is None:
        colors = getattr(visual, "vertex_colors", None) if getattr(visual, "defined", False) else None
        return None, None if colors is None else srgb_to_linear(np.asarray(colors)[:, :3] / 255).mean(0)
    if hasattr(material, "baseColorTexture"):
        factor = material.baseColorFactor
        linear = None if factor is None else np.asarray(factor, np.float64)[:3] / 255
        return _texture(path, material.baseColorTexture), linear
    return _texture(path, material.image), np.asarray(srgb_to_linear(np.asarray(material.diffuse)[:3] / 255))


def _texture(path: Path, image: Any) -> U8 | None:
    from imgsynth.textures.files import FORMATS, MAX_PIXELS

    if image is None:
        return None
    if image.format not in FORMATS or image.width * image.height > MAX_PIXELS:
        raise DataError(f"{path}: expected a texture of at most {MAX_PIXELS} pixels in {', '.join(FORMATS)}")
    try:
        return np.array(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: broken texture ({error})") from None
