"""From a scene's shape entry and its sampled values to meshes: which function, which arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, U8, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapespec import MeshSpec, PlateSpec, ShapeSpec

Read = Callable[[str], NDArray[Any]]


@dataclass(frozen=True)
class Built:
    """Meshes for m rows: row r shows meshes[mesh[r]]. A mesh file may bring a texture and a colour for each
    slot.
    """

    meshes: Meshes
    mesh: NDArray[np.intp]
    textures: tuple[U8 | None, ...] = ()
    colors: tuple[F64 | None, ...] = ()  # linear RGB


def build(shape: ShapeSpec, read: Read, m: int, folder: Path | None, path: str) -> Built:
    """Build the meshes of m rows; rows with equal parameters share one mesh.

    Raises:
        SceneError: parameters the shape cannot take.
        DataError: a mesh file that is missing or cannot be read.
    """
    kind = shape.kind
    try:
        if kind == "mesh":
            assert shape.mesh is not None
            return _from_file(shape.mesh, m, folder)
        return _from_parameters(kind, shape, read, m)
    except SceneError as error:
        raise SceneError(error.message, path=f"{path}.shape.{kind}") from None


def _from_parameters(kind: str, shape: ShapeSpec, read: Read, m: int) -> Built:
    names = [name for name, info in type(getattr(shape, kind)).model_fields.items() if name != "outline"]
    values = {name: read(f"{kind}.{name}") for name in names}
    keep, mesh = _distinct(list(values.values()), m)
    chosen = {name: value[keep] for name, value in values.items()}
    return Built(_shape(kind, shape, chosen), mesh)


def _distinct(values: list[NDArray[Any]], m: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to build, and which of them each row shows."""
    if m == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    table = np.concatenate([_codes(v).reshape(m, -1) for v in values], 1) if values else np.zeros((m, 1))
    _, keep, mesh = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return keep, mesh.reshape(m)


def _codes(value: NDArray[Any]) -> F64:
    if value.dtype.kind in "OUS":
        return np.unique(value.astype(str), return_inverse=True)[1].astype(np.float64)
    return value.astype(np.float64)


def _shape(kind: str, shape: ShapeSpec, p: dict[str, NDArray[Any]]) -> Meshes:
    from imgsynth.shapes import plates, solids

    if kind == "strokes":
        from imgsynth.shapes.strokes import strokes

        return strokes(**p)
    if kind == "dice":
        from imgsynth.shapes.dice import dice

        return dice(p.pop("size"), **p)  # type: ignore[arg-type]
    if kind == "plate":
        assert isinstance(shape.plate, PlateSpec)
        return plates.plate(np.asarray(shape.plate.outline, np.float64), p["thickness"])
    functions: dict[str, Callable[..., Meshes]] = {
        "sphere": solids.sphere, "box": solids.box, "rounded_box": solids.rounded_box,
        "cylinder": solids.cylinder, "disc": plates.disc, "quad": plates.quad,
    }  # fmt: skip
    return functions[kind](**p)


def _from_file(spec: MeshSpec, m: int, folder: Path | None) -> Built:
    from imgsynth.shapes.meshfile import load_mesh

    loaded = load_mesh((folder or Path()) / spec.file, scale=spec.unit, up_axis=spec.up_axis)
    return Built(loaded.meshes, np.zeros(m, np.intp), loaded.textures, loaded.colors)
