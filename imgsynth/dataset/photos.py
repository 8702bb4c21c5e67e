"""What the readers of COCO, YOLO and VOC share: files of images, objects as they are found, and one struct of
both. Nothing here decodes an image: sizes come from headers, pixels when asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, U8
from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.folders import SUFFIXES, TRACK, image_size, read_image
from imgsynth.dataset.polygons import polygon_texts
from imgsynth.errors import DataError

MAX_CLASSES = 10_000
MAX_OBJECTS = 20_000_000
BURST_SECONDS = 3
ROBOFLOW = re.compile(r"^(.+)\.rf\.[0-9A-Za-z]+$")  # every augmented copy of one photo: NAME_jpg.rf.HASH
TIMESTAMP = re.compile(r"(?<!\d)((?:19|20)\d{2})(\d{2})(\d{2})[_-]?(\d{2})(\d{2})(\d{2})")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FileImages:
    """Image files, read when asked for."""

    paths: tuple[Path, ...]
    sizes: I64  # (n, 2) as their headers said

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> U8:
        image = read_image(self.paths[i])
        if image.shape[:2] != tuple(self.sizes[i]):
            height, width = self.sizes[i]
            raise DataError(
                f"{self.paths[i]}: expected {width}×{height} pixels as its header said, "
                f"got {image.shape[1]}×{image.shape[0]}"
            )
        return image


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a file has it, checked."""

    label: int
    box: Box  # xyxy within the image
    mask: str | tuple[F64, ...] = ""  # COCO's run-length text, or polygons; "": none
    ignored: bool = False


@dataclass
class Photo:
    """An image file and the objects in it."""

    path: Path
    name: str  # relative to the set, with forward slashes
    size: tuple[int, int]
    objects: list[Found] = field(default_factory=list)


def checked_box(box: Sequence[float], size: tuple[int, int], where: str) -> Box:
    """The xyxy box, clipped to the image.

    Raises:
        DataError: not finite, empty, inverted, or wholly outside; `where` says which.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    shown = f"({x0:g}, {y0:g}) to ({x1:g}, {y1:g})"
    if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
        raise DataError(f"{where}: a box from {shown}: expected finite numbers")
    if x1 <= x0 or y1 <= y0:
        raise DataError(f"{where}: an empty or inverted box, {shown}")
    height, width = size
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise DataError(f"{where}: a box from {shown} lies outside the image of {width}×{height} pixels")
    return inside


def sized(path: Path, declared: tuple[int, int] | None, where: str) -> tuple[int, int]:
    """(height, width) of an image file as it will be read, which must be what the annotations were made for.

    An EXIF entry that mirrors, or turns by 180°, leaves the size and cannot be noticed: labels are taken to
    be for the image as it is shown.

    Raises:
        DataError: the file is unreadable or of another size than `declared`.
    """
    size, turned = image_size(path)
    if declared is not None and declared != size:
        said = f"{where}: says {declared[1]}×{declared[0]} pixels"
        if turned and declared == size[::-1]:
            raise DataError(
                f"{said}, so its labels are for the image as stored, but the EXIF entry of {path} turns it "
                f"to {size[1]}×{size[0]}; save the image without that entry, or label it as it is shown"
            )
        raise DataError(f"{said}, but {path} has {size[1]}×{size[0]}")
    return size


def inside(name: Any, where: str) -> PurePosixPath:
    """A file name from a file, as a relative path that stays in its folder.

    Raises:
        DataError: empty, absolute, or leading out.
    """
    text = name.replace("\\", "/") if isinstance(name, str) else ""
    path = PurePosixPath(text)
    bad = not text or text != text.strip() or "\0" in text or ":" in text.split("/")[0]
    if bad or path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise DataError(f"{where}: expected the name of a file within the data set, got {name!r}")
    return path


def assemble(
    photos: Sequence[Photo],
    classes: Sequence[str],
    name: str,
    where: Path,
    *,
    masks: bool,
    unnamed: bool = False,
    notes: str = "",
) -> AnnotatedImages:
    """The set as one struct; masks are kept where `masks` asks for them.

    Raises:
        DataError: no image, no object, too many of them or of classes, or masks wanted where there are none.
    """
    if not photos:
        raise DataError(f"{where}: no image")
    found = [one for photo in photos for one in photo.objects]
    if not found:
        raise DataError(f"{where}: {len(photos)} images and not one object")
    for what, count, limit in (("objects", len(found), MAX_OBJECTS), ("classes", len(classes), MAX_CLASSES)):
        if count > limit:
            raise DataError(f"{where}: {count} {what}; at most {limit} are read")
    texts, tiny, said = _masks(photos, where) if masks else (None, np.zeros(len(found), bool), "")
    sizes = np.array([photo.size for photo in photos], np.int64)
    return AnnotatedImages(
        images=FileImages(tuple(photo.path for photo in photos), sizes),
        sizes=sizes,
        owner=np.repeat(np.arange(len(photos)), [len(photo.objects) for photo in photos]).astype(np.int64),
        boxes=np.array([one.box for one in found], np.float64).reshape(-1, 4),
        labels=np.array([one.label for one in found], np.int64),
        masks=texts,
        ignored=np.array([one.ignored for one in found], bool) | tiny,
        classes=tuple(classes),
        groups=groups_of([photo.name for photo in photos]),
        names=np.array([photo.name for photo in photos]),
        name=name,
        notes="; ".join(note for note in (notes, said) if note),
        unnamed=unnamed,
    )


def _masks(photos: Sequence[Photo], where: Path) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """The texts (m,), which objects are too small to hold the centre of a pixel (m,), and what to say."""
    texts: list[str] = []
    bare: list[bool] = []
    for photo in photos:
        bare += [not one.mask for one in photo.objects]
        drawn = [one.mask for one in photo.objects if isinstance(one.mask, tuple)]
        try:
            made = iter(polygon_texts(drawn, photo.size))
        except DataError as e:
            raise DataError(f"{photo.path}: {e}") from None
        texts += [next(made) if isinstance(one.mask, tuple) else one.mask for one in photo.objects]
    if all(bare):
        raise DataError(
            f"{where}: has boxes but no masks (polygons or run lengths), which this task learns and scores; "
            "--task detect reads it"
        )
    tiny = np.array([not text and not b for text, b in zip(texts, bare, strict=True)], bool)
    said = [
        f"{sum(bare)} of {len(texts)} objects have no mask: their boxes are filled" if any(bare) else "",
        f"{tiny.sum()} objects smaller than a pixel are ignored" if tiny.any() else "",
    ]
    return np.array(texts, object), tiny, "; ".join(s for s in said if s)


def groups_of(names: Sequence[str]) -> NDArray[Any] | None:
    """(n,) which images are near-copies of each other, as far as their file names say; None where none are.

    Three namings say so. `NAME_jpg.rf.HASH`: Roboflow's augmented copies of one photo. `00012_00007`: frame 7
    of track 12. A time to the second (IMG_20230907_111645): photos that follow each other within 3 seconds
    are a burst; nobody rearranges a scene and frames it anew in that time, and a group too large costs only
    the evenness of a split.
    """
    stems = [PurePosixPath(name).stem for name in names]
    folders = [PurePosixPath(name).parent.as_posix() for name in names]
    track = [TRACK.match(stem) for stem in stems]
    if all(track):
        return np.array(
            [f"{f}/{t[1]}" if f != "." else t[1] for f, t in zip(folders, track, strict=True) if t]
        )
    copies = [ROBOFLOW.match(stem) for stem in stems]
    sources = [found[1] if found else stem for found, stem in zip(copies, stems, strict=True)]
    groups = np.array(_bursts(sources))
    return groups if len(set(groups)) < len(groups) or any(copies) else None


def _bursts(stems: Sequence[str]) -> list[str]:
    times = sorted((t, stem) for stem in set(stems) if (t := _seconds(stem)) is not None)
    first: dict[str, str] = {}
    for k, (t, stem) in enumerate(times):
        follows = k > 0 and t - times[k - 1][0] <= BURST_SECONDS
        first[stem] = first[times[k - 1][1]] if follows else stem
    return [first.get(stem, stem) for stem in stems]


def _seconds(stem: str) -> int | None:
    found = TIMESTAMP.search(stem)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(v) for v in found.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    # Months of 31 days keep the order; a burst over the end of a shorter one is not seen.
    return ((year * 372 + month * 31 + day) * 24 + hour) * 3600 + minute * 60 + second


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
