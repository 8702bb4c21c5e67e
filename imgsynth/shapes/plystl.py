"""PLY and STL files."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.color import srgb_to_linear
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.shapes.meshsource import Home, Part, Source, rows_or_none
from imgsynth.shapes.surface import distinct_rows

_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_TEXTURE = re.compile(rb"^comment\s+texturefile\s+(.+)$", re.IGNORECASE | re.MULTILINE)


def read_stl(home: Home, data: bytes) -> Source:
    """Read an .stl file, binary or text; its normals are left aside, since the winding says the same.

    Raises:
        DataError: neither, or truncated.
    """
    count = int.from_bytes(data[80:84], "little")
    expected = 84 + count * _FACET.itemsize
    if len(data) >= 84 and len(data) == expected:
        if count > home.max_triangles:
            raise home.too_many(count)
        corners = np.frombuffer(data, _FACET, count, 84)["corners"].reshape(-1, 3).astype(np.float64)
    elif data.lstrip()[:5].lower() == b"solid":
        corners = _text_stl(home, data)
    elif len(data) >= 84:
        raise home.fail(
            f"not an STL file, or truncated: {count} triangles take {expected} bytes, it has {len(data)}"
        )
    else:
        raise home.fail("not an STL file: shorter than its header")
    # Corners that agree are one vertex: STL has no other way to say so.
    first, index = distinct_rows(corners + 0.0)
    return Source([Part(corners[first], index.reshape(-1, 3).astype(np.int64))])


def _text_stl(home: Home, data: bytes) -> F64:
    words = data.lower().split()
    if b"endsolid" not in words[1:]:
        raise home.fail("the file is truncated: no endsolid")
    at = np.flatnonzero(np.array(words) == b"vertex")
    try:
        flat = [words[k + j] for k in at for j in (1, 2, 3)]
        corners = np.array(flat, dtype="S40").astype(np.float64).reshape(-1, 3)
    except (ValueError, IndexError):
        raise home.fail("expected three numbers after each 'vertex'") from None
    if len(corners) % 3 or len(corners) != 3 * words.count(b"endfacet"):
        raise home.fail("broken STL file: expected three vertices a facet")
    return corners


def read_ply(home: Home, data: bytes) -> Source:
    """Read a .ply file, text or binary, with normals, texture coordinates and vertex or face colours (sRGB).

    Raises:
        DataError: broken or truncated.
    """
    import trimesh
    from trimesh.exchange.ply import load_ply

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said: dict[str, Any] = load_ply(io.BytesIO(data), skip_materials=True)
            if said.get("faces") is None:
                return Source()
            faces = np.asarray(said["faces"], np.int64)
            if faces.ndim == 2 and faces.shape[1] == 4:
                faces = np.asarray(trimesh.geometry.triangulate_quads(faces), np.int64)
            faces = faces.reshape(-1, 3)
            vertices = np.asarray(said["vertices"], np.float64).reshape(-1, 3)
            count = len(vertices)
            uv = rows_or_none(getattr(said.get("visual"), "uv", None), count, 2)
            normals = rows_or_none(said.get("vertex_normals"), count, 3)
            face_colors = _rgb(said.get("face_colors"), len(faces))
            colors = _rgb(said.get("vertex_colors"), count)
    except Exception as error:  # its parsers raise whatever a broken file makes them stumble over
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise home.fail(f"cannot be read as a PLY file: broken or truncated ({why})") from None
    material = None
    if found := _TEXTURE.search(data[:65536].partition(b"end_header")[0]):
        name = found[1].decode("utf-8", "replace").strip()
        material = FileMaterial(texture=home.file_texture(name))
    part = Part(vertices, faces, normals, uv, colors, material)
    if face_colors is not None and faces.size and faces.min() >= 0 and faces.max() < count:
        apart = np.arange(3 * len(faces)).reshape(-1, 3)  # a vertex may have many colours
        part = Part(vertices[faces].reshape(-1, 3), apart, colors=np.repeat(face_colors, 3, axis=0))
    return Source([part])


def _rgb(colors: Any, count: int) -> F64 | None:
    values: NDArray[Any] = np.zeros((0, 0)) if colors is None else np.asarray(colors)
    if values.ndim != 2 or len(values) != count or values.shape[1] < 3 or count == 0:
        return None
    rgb = values[:, :3].astype(np.float64) / (1.0 if values.dtype.kind == "f" else np.iinfo(values.dtype).max)
    return np.asarray(srgb_to_linear(np.clip(np.nan_to_num(rgb), 0, 1)), np.float64)
