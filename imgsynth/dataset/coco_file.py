"""COCO's "instances" files, as COCO, Roboflow, Label Studio, CVAT and this package write them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from imgsynth.batch import F64
from imgsynth.dataset import rle
from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.folders import has_images
from imgsynth.dataset.photos import Found, Photo, assemble, checked_box, inside, sized
from imgsynth.errors import DataError

MAX_BYTES = 1 << 30  # of JSON; COCO's own largest file has 450 MB
KEYS = ("images", "annotations", "categories")


def find_coco(folder: Path) -> Path | None:
    """The COCO file of a folder: annotations.json, _annotations.coco.json, or else the only JSON file in it
    or in annotations/ that has COCO's keys, or else, for a folder of images, the one beside it that is called
    like it (train.coco.json for train/); None where there is none.

    Raises:
        DataError: several.
    """
    for name in ("annotations.json", "_annotations.coco.json"):
        if (folder / name).is_file():
            return folder / name
    for inner, pattern in ((folder / "annotations", "instances_*.json"), (folder, "*.json")):
        files = sorted(p for p in inner.glob(pattern) if p.is_file()) if inner.is_dir() else []
        if len(files) > 1:
            files = [p for p in files[:32] if p.stat().st_size <= MAX_BYTES and _is_coco(p)]
        if len(files) > 1:
            names = ", ".join(p.name for p in files)
            raise DataError(f"{folder}: holds several COCO files ({names}); name the one to read")
        if files:
            return files[0]
    here = folder.resolve()
    named = [here.parent / f"{here.name}{ending}" for ending in (".coco.json", ".json")]
    named += [up / "annotations" / f"instances_{here.name}.json" for up in list(here.parents)[:2]]
    return next((p for p in named if has_images(folder) and p.is_file() and _is_coco(p)), None)


def read_coco(path: Path, name: str, *, masks: bool) -> AnnotatedImages:
    """One COCO file and its images (see `_bases` for where they may lie).

    Boxes become xyxy, polygons and run lengths (compressed or not) texts; `iscrowd` and `ignore` mean
    `ignored`. Classes stand in the order of the category ids; a category without objects that is only the
    supercategory of others (Roboflow's category 0) is left out.

    Raises:
        DataError: naming the file and the entry.
    """
    data = _parse(path)
    classes, label_of = _categories(data, path)
    photos = _photos(data, path)
    for k, entry in enumerate(data["annotations"]):
        where = f"{path}: annotation {entry.get('id', k) if isinstance(entry, dict) else k!r}"
        if not isinstance(entry, dict):
            raise DataError(f"{path}: annotations[{k}]: expected an object, got {type(entry).__name__}")
        photo = photos.get(_key(entry.get("image_id"), where))
        if photo is None:
            raise DataError(f"{where}: image_id {entry.get('image_id')!r} is no image of this file")
        label = label_of.get(_key(entry.get("category_id"), where))
        if label is None:
            raise DataError(f"{where}: category_id {entry.get('category_id')!r} is no category of this file")
        photo.objects.append(_object(entry, label, photo.size, where, masks))
    return assemble(list(photos.values()), classes, name, path, masks=masks)


def _object(entry: Mapping[str, Any], label: int, size: tuple[int, int], where: str, masks: bool) -> Found:
    x, y, w, h = _numbers(entry.get("bbox"), f"{where}: bbox", 4)
    box = checked_box((x, y, x + w, y + h), size, where)
    crowd = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
    text = _mask(entry.get("segmentation"), size, f"{where}: segmentation") if masks else ""
    return Found(label, box, text, crowd)


def _mask(shape: Any, size: tuple[int, int], where: str) -> str | tuple[F64, ...]:
    """The run-length text or the polygons of COCO's three ways to say a mask; "" where there is none."""
    if not shape:
        return ""
    height, width = size
    try:
        if isinstance(shape, dict):
            if shape.get("size") != [height, width]:
                raise DataError(
                    f"for a frame (height, width) {shape.get('size')}, the image is {[height, width]}"
                )
            counts = shape.get("counts")
            text = counts if isinstance(counts, str) else rle.encode_counts(counts if counts else [])
            runs = rle.decode_counts(text)
            if (runs < 0).any() or runs.sum() != height * width:
                raise DataError(f"runs fill {runs.sum()} pixels, the image has {height * width}")
            if not runs[1::2].any():
                raise DataError("a mask without a pixel")
            return text
        if not isinstance(shape, list):
            raise DataError(f"expected polygons or run lengths, got {type(shape).__name__}")
        return tuple(_polygon(p) for p in shape)
    except (DataError, ValueError, OverflowError) as e:
        raise DataError(f"{where}: {e}") from None


def _polygon(flat: Any) -> F64:
    if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2:
        raise DataError("expected polygons of at least three corners, x1, y1, x2, y2, …")
    return np.array(_numbers(flat, "polygon", len(flat)), np.float64).reshape(-1, 2)


def _numbers(values: Any, where: str, count: int) -> list[float]:
    good = isinstance(values, list) and len(values) == count
    if not good or not all(isinstance(v, int | float) and abs(v) < 1e9 for v in values):
        raise DataError(f"{where}: expected {count} finite numbers, got {json.dumps(values)[:80]}")
    return [float(v) for v in values]


def _categories(data: Mapping[str, Any], path: Path) -> tuple[list[str], dict[Any, int]]:
    names: dict[Any, str] = {}
    supers = set()
    for k, entry in enumerate(data["categories"]):
        where = f"{path}: categories[{k}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
            raise DataError(f"{where}: expected an object with id and name")
        ident = _key(entry.get("id"), where)
        if ident in names:
            raise DataError(f"{where}: id {ident!r} stands twice")
        names[ident] = entry["name"]
        supers.add(entry.get("supercategory") if isinstance(entry.get("supercategory"), str) else None)
    used = {
        a.get("category_id")
        for a in data["annotations"]
        if isinstance(a, dict) and _plain(a.get("category_id"))
    }
    kept = [i for i in names if i in used or names[i] not in supers]
    kept.sort(key=lambda i: (isinstance(i, str), i))
    return [names[i] for i in kept], {i: k for k, i in enumerate(kept)}


def _photos(data: Mapping[str, Any], path: Path) -> dict[Any, Photo]:
    photos: dict[Any, Photo] = {}
    seen: set[PurePosixPath] = set()
    bases = _bases(path)
    for k, entry in enumerate(data["images"]):
        where = f"{path}: images[{k}]"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected an object, got {type(entry).__name__}")
        ident = _key(entry.get("id"), where)
        file = inside(entry.get("file_name"), f"{where}: file_name")
        if ident in photos or file in seen:
            what = f"id {ident!r}" if ident in photos else f"file_name {file}"
            raise DataError(f"{where}: {what} stands twice")
        seen.add(file)
        found = _find(file, bases)
        if found is None:
            looked = ", ".join(str(b) for b in bases)
            raise DataError(f"{where}: no image file {file}; looked in {looked}")
        photos[ident] = Photo(found, file.as_posix(), sized(found, _declared(entry, where), where))
    return photos


def _declared(entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    if not height and not width:
        return None
    if not all(isinstance(v, int | float) and 0 < v < 1e9 and v == int(v) for v in (height, width)):
        raise DataError(
            f"{where}: height and width: expected whole numbers of pixels, got {height!r}, {width!r}"
        )
    return int(height or 0), int(width or 0)


def _bases(path: Path) -> list[Path]:
    """Where the images of a COCO file may lie, in the order in which they are tried: beside it, in images/,
    in a folder called like the file (train.coco.json, instances_train.json: train/), and the same one folder
    up.
    """
    split = path.name.split(".")[0].removeprefix("_").removeprefix("instances_").removesuffix("_annotations")
    here, up = path.parent, path.parent.parent
    inner = [PurePosixPath(p) for p in (".", "images", split, f"images/{split}", f"{split}/images")]
    bases = [here / p for p in inner] + ([up / p for p in inner] if here.name == "annotations" else [])
    return [b for b in dict.fromkeys(bases) if b.is_dir()]


def _find(file: PurePosixPath, bases: list[Path]) -> Path | None:
    for base in bases:
        if (base / file).is_file():
            bases.remove(base)  # where one is, the next one is most likely too
            bases.insert(0, base)
            return base / file
    return None


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB of JSON")
        data = json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror}") from None
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid JSON: {e}") from None
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in KEYS):
        raise DataError(f"{path}: not a COCO file: expected an object with lists {', '.join(KEYS)}")
    return data


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _is_coco(path: Path) -> bool:
    try:
        _parse(path)
    except DataError:
        return False
    return True


def _plain(ident: Any) -> bool:
    return isinstance(ident, int | str) or (isinstance(ident, float) and math.isfinite(ident))


def _key(ident: Any, where: str) -> Any:
    if not _plain(ident):
        raise DataError(f"{where}: expected an id (a number or a text), got {json.dumps(ident)[:60]}")
    return ident
