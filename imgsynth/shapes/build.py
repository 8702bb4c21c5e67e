"""From a scene's shape entry and its sampled values to meshes: which function, which arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import assetset
from imgsynth.batch import F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.shapespec import AssetsSpec, MeshReading, PlateSpec, ShapeSpec
from imgsynth.yamlfile import nearest

Read = Callable[[str], NDArray[Any]]


@dataclass(frozen=True)
class Built:
    """Meshes of one topology, for some rows of a group: row rows[r] shows meshes[mesh[r]]. A mesh file may
    bring a material for each slot; one of an asset set may name its class.
    """

    meshes: Meshes
    mesh: NDArray[np.intp]
    rows: NDArray[np.intp]
    materials: tuple[FileMaterial, ...] = ()
    class_name: str | None = None


def build(shape: ShapeSpec, read: Read, m: int, folder: Path | None, path: str) -> tuple[Built, ...]:
    """Build the meshes of m rows; rows with equal parameters share one mesh. Together they hold each row
    once.

    Raises:
        SceneError: parameters the shape cannot take.
        DataError: a mesh file that is missing or cannot be read.
    """
    kind = shape.kind
    try:
        if shape.mesh is not None:
            file = Path(shape.mesh.file)
            return (_from_file(shape.mesh, folder or Path(), file, file.parent, np.arange(m)),)
        if shape.assets is not None:
            return _from_assets(shape.assets, read("assets.pick").astype(str), folder or Path())
        if shape.primitive is not None:
            return _primitives(read("primitive.kind").astype(str), read("primitive.size"))
        return (_from_parameters(kind, shape, read, m),)
    except SceneError as error:
        if error.file is not None:  # a sheet beside a mesh: its own line says more
            raise
        raise SceneError(error.message, path=f"{path}.shape.{kind}") from None


def _from_parameters(kind: str, shape: ShapeSpec, read: Read, m: int) -> Built:
    names = [name for name, info in type(getattr(shape, kind)).model_fields.items() if name != "outline"]
    values = {name: read(f"{kind}.{name}") for name in names}
    keep, mesh = _distinct(list(values.values()), m)
    chosen = {name: value[keep] for name, value in values.items()}
    return Built(_shape(kind, shape, chosen), mesh, np.arange(m))


def _primitives(kinds: NDArray[np.str_], size: F64) -> tuple[Built, ...]:
    """One Built for each kind that some row has; a block for none."""
    from imgsynth.shapes import solids

    wide, high = size[:, 0] / 2, size[:, 2]
    makers: dict[str, Callable[[NDArray[np.intp]], Meshes]] = {
        "ball": lambda rows: solids.sphere(wide[rows]),
        "block": lambda rows: solids.box(size[rows]),
        "cylinder": lambda rows: solids.cylinder(wide[rows], high[rows]),
        "cone": lambda rows: solids.cone(wide[rows], high[rows]),
        "capsule": lambda rows: solids.capsule(wide[rows], np.maximum(high - 2 * wide, 0.0)[rows]),
    }
    built = []
    for kind in np.unique(kinds).tolist() or ["block"]:
        rows = np.flatnonzero(kinds == kind)
        built.append(Built(makers[kind](rows), np.arange(len(rows)), rows))
    return tuple(built)


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


def _from_assets(spec: AssetsSpec, picks: NDArray[np.str_], folder: Path) -> tuple[Built, ...]:
    """One Built for each asset that some row picks, by name; for none, the first that could be picked."""
    home, allowed = Path(spec.folder), set() if spec.listed else set(assetset.part(spec, folder))
    names, which = np.unique(picks, return_inverse=True)
    if len(names) == 0:
        possible: Any = spec.pick.support() if spec.pick is not None and not spec.pick.names else ()
        names = np.array([*possible, *assetset.part(spec, folder)][:1])
    built = []
    for k, name in enumerate(names.tolist()):
        if not spec.listed and name not in allowed:
            raise SceneError(f"pick: no asset {name!r}{nearest(name, sorted(allowed))}")
        one = _from_file(spec, folder, home / name, home, np.flatnonzero(which == k))
        if spec.classes is not None:
            one = replace(one, class_name=assetset.class_of(name, spec.classes))
        built.append(one)
    return tuple(built)


def _from_file(spec: MeshReading, folder: Path, file: Path, home: Path, rows: NDArray[np.intp]) -> Built:
    """One mesh for all `rows`; `file`, and `home` whose sheets hold, are relative to `folder`."""
    from imgsynth.shapes.meshfile import load_mesh

    sheet = assetset.sheet(folder / file, folder / home)
    loaded = load_mesh(
        folder / file,
        **assetset.reading(spec, sheet),
        keypoints=sheet.keypoints,
        max_triangles=spec.max_triangles,
        max_bytes=spec.max_mb * 2**20,
        texture_px=spec.texture_px,
    )
    own = loaded.materials if spec.materials == "file" else ()
    return Built(loaded.meshes, np.zeros(len(rows), np.intp), rows, own)
