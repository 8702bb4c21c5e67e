"""Folders of mesh files: what is in them, which of it is for training and which for testing, who owns it, and
what a sheet beside a mesh says of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from imgsynth.below import files_below
from imgsynth.distributions import parse
from imgsynth.errors import DataError, SceneError
from imgsynth.scene import ObjectSpec, SceneSpec
from imgsynth.shapespec import Above, AssetsSpec, Center, MeshReading, Unit, UpAxis
from imgsynth.yamlfile import Spec, nearest, read_yaml, validate

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf")
MAX_ASSETS = 20_000
SHEET = "asset.yaml"
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Place = tuple[_Number, _Number, _Number]


class AssetSheet(Spec):
    """`asset.yaml` of a folder: what holds of every mesh in it, and below it, unless the scene or a sheet
    further down says otherwise. Keypoints are in the mesh file's own coordinates and unit.
    """

    licence: str | None = None
    source: str | None = None
    unit: Unit = None
    size_m: Above | None = None
    up_axis: UpAxis | None = None
    center: Center | None = None
    keypoints: dict[str, _Place] = {}


class KeypointSheet(Spec):
    """`NAME.keypoints.yaml` beside NAME.obj, NAME.glb …: its keypoints, in its coordinates and unit."""

    keypoints: dict[str, _Place]


def sheet(file: Path, home: Path) -> AssetSheet:
    """What the sheets from `home` down to the mesh file's folder say of it; the nearest word counts.

    Raises:
        SceneError: a sheet that is not one, with its file and line.
    """
    said = _read(home / SHEET)
    for folder in reversed([p for p in file.parents if p != home and p.is_relative_to(home)]):
        said |= _read(folder / SHEET)
    beside = file.with_name(f"{file.name.rpartition('.')[0]}.keypoints.yaml")
    if beside.is_file():
        said["keypoints"] = validate(KeypointSheet, read_yaml(beside)).keypoints
    return AssetSheet.model_validate(said)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    given = validate(AssetSheet, read_yaml(path))
    return {name: getattr(given, name) for name in given.model_fields_set}


def licence(folder: Path) -> str | None:
    """The folder's licence: what its asset.yaml says, or the first line of its LICENSE file."""
    if said := _read(folder / SHEET).get("licence"):
        return str(said)
    for name in LICENCES:
        if (folder / name).is_file():
            with open(folder / name, encoding="utf-8", errors="replace") as file:
                text = file.read(4096)
            first = next((line.strip(" \t#*") for line in text.splitlines() if line.strip(" \t#*")), "")
            return "".join(c for c in first if c.isprintable())[:100] or None
    return None


def is_test(name: str, share: float) -> bool:
    """Whether the asset of that name (below its folder, with /) is among the `share` kept for testing.

    What stands before the first dot of a file's name decides, so `mug.a.glb` goes with `mug.b.glb`; a larger
    share only moves assets from training to testing.
    """
    parent, slash, last = name.rpartition("/")
    key = f"{parent}{slash}{last.partition('.')[0]}"
    code = hashlib.sha256(f"imgsynth asset {key}".encode()).digest()
    return int.from_bytes(code[:8], "big") < share * 2**64


def find(folder: Path) -> list[str]:
    """The mesh files of a folder and its sub-folders, by their names below it (with /), sorted.

    Hidden ones and links that lead out of the folder are left out.

    Raises:
        SceneError: no such folder, none in it, or too many.
    """
    try:
        names = files_below(folder, SUFFIXES)
    except DataError as error:
        raise SceneError(str(error)) from None
    if not names:
        raise SceneError(f"{folder}: expected at least one mesh file ({', '.join(SUFFIXES)}), found none")
    if len(names) > MAX_ASSETS:
        raise SceneError(f"{folder}: expected at most {MAX_ASSETS} mesh files, found {len(names)}")
    return names


def part(spec: AssetsSpec, folder: Path) -> list[str]:
    """The names of the assets of the part that `spec` asks for.

    Raises:
        SceneError: as `find`, or nothing in that part.
    """
    names = find(folder / spec.folder)
    if spec.split != "all":
        kept = [name for name in names if is_test(name, spec.test_share) == (spec.split == "test")]
        if not kept:
            raise SceneError(
                f"none of the {len(names)} assets of {folder / spec.folder} is in the {spec.split} part "
                f"(test_share {spec.test_share:g}): change test_share, or add assets"
            )
        names = kept
    return names


def class_of(name: str, by: Literal["folder", "file"]) -> str:
    """The class that an asset's name gives: its top sub-folder, or its file's name up to the first dot.

    Raises:
        SceneError: `folder`, and the asset is in none.
    """
    if by == "file":
        return name.rpartition("/")[2].partition(".")[0]
    if "/" not in name:
        raise SceneError(f"classes: folder: {name!r} is in no sub-folder that could name its class")
    return name.partition("/")[0]


def law(spec: AssetsSpec, folder: Path) -> Any:
    """The choice of assets, as YAML would hold it, that stands in for a `pick` left out.

    Raises:
        SceneError: as `part`, or weights that name no sub-folder.
    """
    names = part(spec, folder)
    if spec.balance == "assets":
        return {"choice": names}
    groups = [name.rpartition("/")[0].partition("/")[0] for name in names]
    sizes = {group: groups.count(group) for group in dict.fromkeys(groups)}
    shares = dict.fromkeys(sizes, 1.0) if isinstance(spec.balance, str) else spec.balance
    if unknown := [group for group in shares if group not in sizes]:
        raise SceneError(f"balance names {unknown[0]!r}, which is no sub-folder{nearest(unknown[0], sizes)}")
    weights = [shares.get(group, 0.0) / sizes[group] for group in groups]
    if sum(weights) <= 0:
        raise SceneError("balance: the weights sum to zero")
    return {"choice": {"values": names, "weights": weights}}


def resolved(spec: SceneSpec, folder: Path) -> SceneSpec:
    """The scene with each pick of an asset set that was left out filled in, and with the assets' licences.

    Raises:
        SceneError: a folder, sheet or pick that is wrong, with the path of the object.
    """
    objects: dict[str, ObjectSpec] = {}
    licences: dict[str, str] = {}
    for name, obj in spec.objects.items():
        path, shape = f"objects.{name}.shape", obj.shape
        home = (
            shape.assets.folder if shape.assets else str(Path(shape.mesh.file).parent) if shape.mesh else None
        )
        if home is None:
            continue
        if home not in spec.licences and (said := licence(folder / home)):
            licences[home] = said
        if shape.assets is None:
            continue
        try:
            assets = _picked(shape.assets, folder)
        except SceneError as error:
            raise SceneError(str(error), path=f"{path}.assets") from None
        if assets is not shape.assets:
            objects[name] = obj.model_copy(update={"shape": shape.model_copy(update={"assets": assets})})
    if not objects and not licences:
        return spec
    return spec.model_copy(
        update={"objects": {**spec.objects, **objects}, "licences": {**spec.licences, **licences}}
    )


def _picked(spec: AssetsSpec, folder: Path) -> AssetsSpec:
    if spec.pick is None:
        return spec.model_copy(update={"pick": parse(law(spec, folder), "text"), "listed": True})
    if not spec.listed and spec.pick.kind == "text" and not spec.pick.names:
        known = part(spec, folder)
        possible: Any = spec.pick.support()
        if unknown := [name for name in possible if name not in set(known)]:
            where = "" if spec.split == "all" else f" the {spec.split} part of"
            raise SceneError(
                f"pick: {unknown[0]!r} is not in{where} {folder / spec.folder}{nearest(unknown[0], known)}"
            )
    return spec


def relisted(data: Any, sets: Iterable[str]) -> Any:
    """A loaded scene's data without the filled-in picks of those asset sets that `sets` change."""
    if not isinstance(data, dict) or not isinstance(data.get("objects"), dict):
        return data
    touched = {s.split(".")[1] for s in sets if s.startswith("objects.") and ".shape.assets." in s}
    objects = dict(data["objects"])
    for name in touched & set(objects):
        shape = objects[name].get("shape", {})
        if shape.get("assets", {}).get("listed"):
            kept = {k: v for k, v in shape["assets"].items() if k not in ("pick", "listed")}
            objects[name] = {**objects[name], "shape": {**shape, "assets": kept}}
    return {**data, "objects": objects}


def reading(spec: MeshReading, said: AssetSheet) -> dict[str, Any]:
    """Unit, size, axis and centre to read a mesh with: the scene's word, then the sheet's, or None."""
    out: dict[str, Any] = {}
    sized = spec.unit is not None or spec.size_m is not None
    for name in ("unit", "size_m", "up_axis", "center"):
        own = getattr(spec, name)
        out[name] = getattr(said, name) if own is None and not (sized and name in ("unit", "size_m")) else own
    return out
