"""YOLO's label files (Ultralytics' layout): a line an object, `class x y w h` or `class x1 y1 x2 y2 x3 y3 …`,
in fractions of the image as it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.folders import SUFFIXES
from imgsynth.dataset.photos import (
    MAX_CLASSES,
    Found,
    Photo,
    assemble,
    checked_box,
    image_files,
    inside,
    sized,
)
from imgsynth.errors import DataError, SceneError
from imgsynth.yamlfile import read_yaml

MAX_BYTES = 16 << 20  # of one label file
SHEETS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
KEYS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
NOT_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt", "readme.txt", "notes.txt"}


def find_yolo(folder: Path) -> Path | None:
    """data.yaml of a folder, or the folder itself where it has images/ and labels/, or images with label
    files beside them; None where it is no YOLO set.
    """
    for name in SHEETS:
        if (folder / name).is_file():
            return folder / name
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return folder
    texts = {p.stem for p in folder.glob("*.txt") if p.name.lower() not in NOT_LABELS}
    return folder if texts and any(p.stem in texts for p in image_files(folder)) else None


@dataclass(frozen=True)
class YoloSet:
    """Which images there are: folders or files by part ("" where the set has no parts), and the class
    names."""

    root: Path
    parts: dict[str, list[Path]]
    classes: tuple[str, ...] | None


def open_yolo(place: Path) -> YoloSet:
    """What a data.yaml, or a folder of images and labels, says of its parts and classes.

    Raises:
        DataError: it is unreadable, or names what is not there.
    """
    if place.is_dir():
        images = place / "images"
        home = images if images.is_dir() else place
        inner = {p: next((d for k in keys if (d := home / k).is_dir()), None) for p, keys in KEYS.items()}
        parts = {p: [d] for p, d in inner.items() if d is not None and image_files(d)}
        return YoloSet(place, {"": [home]} if image_files(home) or not parts else parts, _names_near(place))
    data = _sheet(place)
    parts = {}
    for part, keys in KEYS.items():
        entry = next((data[k] for k in keys if data.get(k)), None)
        if entry is not None:
            entries = entry if isinstance(entry, list) else [entry]
            parts[part] = [_place(e, data.get("path"), place) for e in entries]
    if not parts:
        images = place.parent / "images"
        if not images.is_dir():
            raise DataError(f"{place}: expected train and val, the folders of images")
        parts = {"": [images]}
    return YoloSet(place.parent, parts, _names(data.get("names"), place))


def own_split(found: YoloSet) -> bool:
    """Whether the set names other images for validation than for training."""
    train, validation = found.parts.get("train"), found.parts.get("validation")
    return train is not None and validation is not None and train != validation


def read_yolo(found: YoloSet, name: str, *, part: str | None = None, masks: bool) -> AnnotatedImages:
    """The images of one part, or of all, with what their label files say.

    A label file stands in labels/ where its image stands in images/, or beside it; an image without one
    shows no object. Polygons give boxes and masks, boxes only boxes. Without class names classes are called
    by their numbers (`unnamed`).

    Raises:
        DataError: naming the file and its line.
    """
    if part is not None and part not in found.parts:
        raise DataError(f"{found.root}: its own split has no part {part!r}, only {', '.join(found.parts)}")
    places = found.parts[part] if part is not None else [p for one in found.parts.values() for p in one]
    files = [f for place in dict.fromkeys(places) for f in _images(place)]
    photos, labelled = [], 0
    for file in dict.fromkeys(files):
        shown = file.relative_to(found.root) if file.is_relative_to(found.root) else Path(file.name)
        labels = label_file(file)
        photo = Photo(file, shown.as_posix(), sized(file, None, str(file)))
        if labels.is_file():
            labelled += 1
            photo.objects += _read(labels, photo.size, found.classes, masks)
        photos.append(photo)
    if photos and not labelled:
        raise DataError(
            f"{found.root}: none of its {len(photos)} images has a label file such as {label_file(files[0])}"
        )
    _refuse_orphans(files)
    top = max((one.label for photo in photos for one in photo.objects), default=-1)
    classes = found.classes or tuple(str(k) for k in range(top + 1))
    return assemble(photos, classes, name, found.root, masks=masks, unnamed=found.classes is None)


def label_file(image: Path) -> Path:
    """Where the labels of an image stand: the last folder called images becomes labels; else beside it."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    if not Path(*parts).is_dir():  # a flat set that lies somewhere below a folder called images
        parts = list(image.parent.parts)
    return Path(*parts, f"{image.stem}.txt")


def _read(file: Path, size: tuple[int, int], classes: tuple[str, ...] | None, masks: bool) -> list[Found]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MiB")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{file}: cannot be read: {e}") from None
    limit = MAX_CLASSES if classes is None else len(classes)
    return [
        _line(line.split(), size, limit, f"{file}:{number}", masks)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _line(words: Sequence[str], size: tuple[int, int], limit: int, where: str, masks: bool) -> Found:
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise DataError(
            f"{where}: expected a class and 4 numbers (a box) or at least 3 corners (a polygon), "
            f"got {len(words)} words"
        )
    try:
        values = np.array([float(w) for w in words])
    except ValueError:
        raise DataError(f"{where}: expected numbers, got {' '.join(words)[:60]!r}") from None
    label, values = values[0], values[1:]
    if not (label == np.floor(label) and 0 <= label < limit):
        raise DataError(f"{where}: expected a class from 0 to {limit - 1}, got {words[0]}")
    if not np.all(np.abs(values - 0.5) <= 1):
        raise DataError(f"{where}: expected fractions of the image, 0 to 1, got {' '.join(words[1:5])} …")
    scale = np.array([size[1], size[0]], float)
    if len(values) == 4:
        center, half = values[:2] * scale, values[2:] * scale / 2
        return Found(int(label), checked_box((*(center - half), *(center + half)), size, where))
    corners = values.reshape(-1, 2) * scale
    box = checked_box((*corners.min(axis=0), *corners.max(axis=0)), size, where)
    return Found(int(label), box, (corners,) if masks else "")


def _images(place: Path) -> list[Path]:
    """The images that a folder holds or a list file names."""
    if place.is_dir():
        files = image_files(place)
        if not files:
            nested = [p for p in sorted(place.iterdir()) if p.is_dir() and not p.name.startswith(".")]
            files = [f for p in nested for f in image_files(p)]
        return files
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{place}: cannot be read: {e}") from None
    named = [
        (n, inside(line.strip(), f"{place}:{n}")) for n, line in enumerate(lines, start=1) if line.strip()
    ]
    files = [place.parent / file for _, file in named]
    for (number, file), path in zip(named, files, strict=True):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise DataError(f"{place}:{number}: no image file {file}")
    return files


def _refuse_orphans(files: Sequence[Path]) -> None:
    """A label file whose image is gone means that the set is not whole."""
    for folder in dict.fromkeys(f.parent for f in files):
        labels = label_file(folder / "x.jpg").parent
        if labels == folder or not labels.is_dir():
            continue  # beside the images any other text may lie
        known = {f.stem for f in image_files(folder)}
        texts = [p for p in sorted(labels.glob("*.txt")) if p.name.lower() not in NOT_LABELS]
        orphans = [p for p in texts if p.stem not in known]
        if orphans:
            raise DataError(f"{orphans[0]}: labels without an image ({len(orphans)} such files)")


def _sheet(path: Path) -> dict[str, Any]:
    try:
        data = read_yaml(path).data
    except SceneError as e:
        raise DataError(str(e)) from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected train, val and names, got no mapping")
    return data


def _place(entry: Any, base: Any, sheet: Path) -> Path:
    """A folder or list that data.yaml names, inside the set. Roboflow writes ../train/images for
    train/images, and `path` is often a folder of another machine, so both are tried without them.
    """
    if not isinstance(entry, str) or not entry.strip():
        raise DataError(f"{sheet}: expected folders of images, got {entry!r}")
    text = PurePosixPath(entry.replace("\\", "/"))
    if isinstance(base, str) and text.is_relative_to(base):
        text = text.relative_to(base)
    while text.parts and text.parts[0] in ("..", "."):
        text = PurePosixPath(*text.parts[1:])
    file = inside(text.as_posix(), str(sheet)) if text.parts else PurePosixPath(".")
    starts = [sheet.parent]
    if (
        isinstance(base, str)
        and not PurePosixPath(base).is_absolute()
        and ".." not in PurePosixPath(base).parts
    ):
        starts.insert(0, sheet.parent / base)
    for start in starts:
        if (start / file).exists():
            return start / file
    raise DataError(f"{sheet}: names {entry!r}, but there is no {sheet.parent / file}")


def _names_near(folder: Path) -> tuple[str, ...] | None:
    """Class names from a data.yaml or classes.txt in the folder, in its labels/, or up to two folders
    above."""
    for home in (folder, folder / "labels", *list(folder.resolve().parents)[:2]):
        for name in SHEETS:
            if (home / name).is_file() and (names := _sheet(home / name).get("names")) is not None:
                return _names(names, home / name)
        file = home / "classes.txt"
        if file.is_file():
            try:
                lines = file.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as e:
                raise DataError(f"{file}: cannot be read: {e}") from None
            return _names([line.strip() for line in lines if line.strip()], file)
    return None


def _names(names: Any, where: Path) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(
                f"{where}: names: expected the numbers 0 to {len(names) - 1}, got {list(names)[:8]}"
            )
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str | int | float) for n in names):
        raise DataError(f"{where}: names: expected a list of class names, got {names!r}"[:200])
    if len(names) > MAX_CLASSES:
        raise DataError(f"{where}: {len(names)} classes; at most {MAX_CLASSES} are read")
    return tuple(str(n) for n in names)
