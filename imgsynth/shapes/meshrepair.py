"""From the parts of a mesh file to one sound mesh; every repair leaves a note."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, I64
from imgsynth.errors import DataError
from imgsynth.shapes.meshsource import Source
from imgsynth.shapes.surface import (
    box_projection,
    creased_normals,
    distinct_rows,
    face_normals,
    is_closed,
)
from imgsynth.shapes.winding import consistent, outward


@dataclass
class Joined:
    """All parts as one triangle soup: values at corners, and the part of each face."""

    vertices: F64  # (v, 3)
    faces: I64  # (f, 3)
    normals: F64  # (f, 3, 3) unit
    uv: F64  # (f, 3, 2)
    part: I32  # (f,)
    closed: bool
    bare: NDArray[np.bool_]  # (f,) without texture coordinates in the file


def joined(source: Source, where: str) -> Joined:
    """One mesh of the source's parts, with normals and texture coordinates at every corner.

    Triangles without area and repeated ones are dropped. Where neighbours wind against each other they are
    turned alike, and a closed surface that is inside out is turned. What is still open is for two-sided use.

    Raises:
        DataError: nothing with an area is left.
    """
    parts = source.parts
    start = np.cumsum([0, *(len(p.vertices) for p in parts)])
    vertices = np.concatenate([p.vertices for p in parts])
    faces = np.concatenate([p.faces + s for p, s in zip(parts, start, strict=False)])
    part = np.repeat(np.arange(len(parts)), [len(p.faces) for p in parts]).astype(np.int32)
    position = _positions(vertices)
    keep = _with_area(vertices, faces)
    if not keep.any():
        raise DataError(f"{where}: expected triangles with an area, found only degenerate ones")
    if dropped := int((~keep).sum()):
        source.note(f"{_count(dropped, 'triangle')} without area dropped")
    twice = _repeated(position[faces]) & keep
    if twice.any():
        source.note(f"{_count(int(twice.sum()), 'triangle')} that stood twice dropped")
    keep &= ~twice
    faces, part = faces[keep], part[keep]
    unused = len(vertices) - len(np.unique(faces))
    if unused:
        source.note(f"{_count(unused, 'vertex', 'vertices')} that no triangle uses dropped", loud=False)
    given = _per_vertex([p.normals for p in parts], start, 3)
    faces, turned = _wound(vertices, faces, position, given, source)
    closed = is_closed(position[faces])
    if not closed:
        source.note("not closed: drawn from both sides", loud=False)
    made = creased_normals(vertices, faces, position)
    normals = given[faces]
    normals[turned] *= -1
    normals = np.where(np.isfinite(normals), normals, made)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(length > 1e-6, normals / np.maximum(length, 1e-6), made)
    uv = _per_vertex([p.uv for p in parts], start, 2)[faces]
    bare = np.isnan(uv.reshape(-1, 6).sum(1))
    if bare.any():
        uv[bare] = box_projection(vertices, faces)[bare]
    return Joined(vertices, faces, normals, uv, part, closed, bare)


def _positions(vertices: F64) -> NDArray[np.intp]:
    """(v,) a number for each distinct place."""
    return distinct_rows(vertices + 0.0)[1]


def _with_area(vertices: F64, faces: I64) -> NDArray[np.bool_]:
    area = np.linalg.norm(face_normals(vertices, faces), axis=1)
    span = max(float(np.ptp(vertices[faces.ravel()], axis=0).max()), 1e-30)
    return area > 1e-12 * span**2


def _repeated(corners: I64) -> NDArray[np.bool_]:
    """(f,) whether an earlier face has the same corners in the same turn."""
    first = np.argmin(corners, axis=1)
    turn = (first[:, None] + np.arange(3)) % 3
    out = np.ones(len(corners), bool)
    out[distinct_rows(np.take_along_axis(corners, turn, 1))[0]] = False
    return out


def _wound(
    vertices: F64, faces: I64, position: NDArray[np.intp], normals: F64, source: Source
) -> tuple[I64, NDArray[np.bool_]]:
    """Faces that wind alike and outwards, and those of them (f,) whose given normals must turn, too: those of
    a surface whose normals agree with the winding that was.
    """
    against, component, manifold = consistent(position[faces])
    if against.any():
        source.note(f"{_count(int(against.sum()), 'triangle')} turned to wind as their neighbours do")
    out = np.where(against[:, None], faces[:, ::-1], faces)
    inside_out = outward(vertices, out, component, manifold)
    if inside_out.any():
        source.note(f"inside out: {_count(int(inside_out.sum()), 'triangle')} turned")
    out = np.where(inside_out[:, None], out[:, ::-1], out)
    given = normals[out].mean(1)
    along = (given * face_normals(vertices, out)).sum(1)
    return out, np.nan_to_num(along) < 0


def _per_vertex(values: list[F64 | None], start: NDArray[np.intp], width: int) -> F64:
    """(V, width) over all parts, NaN where a part has none."""
    counts = np.diff(start)
    filled = [np.full((n, width), np.nan) if v is None else v for v, n in zip(values, counts, strict=True)]
    return np.concatenate(filled)


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
