"""Image folders: a folder for each class (ImageFolder), and GTSRB's folders with their track names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import U8
from imgsynth.dataset.labelled import LabelledImages, check_memory, recolor, resize
from imgsynth.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".pbm", ".webp", ".tif", ".tiff"})
# Pillow goes by content, not by name, and for some kinds starts other programs (Ghostscript for EPS).
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF")
MAX_PIXELS = 64_000_000  # of one file
MAX_SIDE = 64  # images of many sizes are stretched to at most this
MIN_SIDE = 8
MARKS = {
    "COCO": ("annotations.json", "*.coco.json", "annotations/instances_*.json"),
    "YOLO": ("data.yaml", "data.yml", "dataset.yaml"),
    "VOC": ("Annotations", "*.xml"),
}
TRACK = re.compile(r"^(\d{5})_\d{5}$")  # GTSRB: track_frame


def load_folder(root: Path, name: str | None = None) -> LabelledImages:
    """A folder with a folder of images for each class; classes and files in the order of their names.

    Images of one size stay as they are. Images of many sizes are stretched to one square: the median of their
    shorter sides, rounded to a multiple of 8 and kept within 8 … 64 (`notes` says so). All grey: one channel;
    else RGB. Names of the form 00012_00007 (GTSRB's track_frame) give groups `class_track`.

    Raises:
        DataError: another kind of data set, no class folders, a class without an image, an image that cannot
            be read (named).
    """
    _refuse_detection(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        loose = " (it holds images, but nothing says their classes)" if has_images(root) else ""
        raise DataError(
            f"{root}: not a known data set: expected dataset.json (imgsynth), one folder of images a class, "
            f"or images and GTSRB's table of classes{loose}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for k, folder in enumerate(folders):
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise DataError(
                f"{folder}: class {folder.name!r} has no image ({', '.join(sorted(SUFFIXES))}); "
                f"{root} was read as a folder of images for each class"
            )
        files += found
        labels += [k] * len(found)
    tracks = [TRACK.match(p.stem) for p in files]
    groups = None
    if all(tracks):
        groups = np.array([f"{p.parent.name}_{p.stem[:5]}" for p in files])
    return from_files(files, labels, [f.name for f in folders], groups, name or root.name, root)


def _refuse_detection(root: Path) -> None:
    """Say which task reads a set of boxes or masks."""
    kind = detection_kind(root)
    if kind:
        tasks = "--task detect" if kind == "VOC" else "--task detect or --task segment"
        raise DataError(
            f"{root}: looks like {kind}: boxes, not a class an image, so not for --task classify; "
            f"{tasks} reads it"
        )


def detection_kind(root: Path) -> str:
    """COCO, YOLO or VOC where a folder holds files of that kind, else ""."""
    for kind, marks in MARKS.items():
        for mark in marks:
            if next(root.glob(mark), None) is not None:
                return kind
    return "YOLO" if (root / "images").is_dir() and (root / "labels").is_dir() else ""


def has_images(folder: Path) -> bool:
    """Whether image files lie in a folder."""
    return any(p.suffix.lower() in SUFFIXES for p in folder.iterdir())


def from_files(
    files: Sequence[Path],
    labels: Sequence[int],
    classes: Sequence[str],
    groups: NDArray[Any] | None,
    name: str,
    root: Path,
) -> LabelledImages:
    """Read the images of a list of files and bring them to one size and one number of channels.

    Raises:
        DataError: an image that cannot be read, or that is too large.
    """
    size, notes = _common_size(files)
    check_memory(root, (len(files), *size, 3))
    images = [_fit(read_image(path), size) for path in files]
    channels = max(image.shape[2] for image in images)
    return LabelledImages(
        images=np.stack([recolor(image[None], channels)[0] for image in images]),
        labels=np.asarray(labels, np.int64),
        classes=tuple(classes),
        groups=groups,
        name=name,
        names=np.array([p.relative_to(root).as_posix() for p in files]),
        notes=notes,
    )


def read_image(path: Path) -> U8:
    """One file as (H, W, 1 or 3) uint8, turned as its EXIF says; 16-bit grey is cut to 8, transparency lies
    on black.

    Raises:
        DataError: naming the file.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as opened:
            _check_pixels(path, opened.size)
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                return (np.asarray(image, np.uint16) >> 8).astype(np.uint8)[..., None]
            if image.mode in ("1", "L", "I", "F"):
                return np.asarray(image.convert("L"), np.uint8)[..., None]
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
            return np.asarray(image.convert("RGB"), np.uint8)
    except DataError:
        raise
    except Exception as e:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{path}: not a readable image: {e}") from e


def image_size(path: Path) -> tuple[tuple[int, int], bool]:
    """The (height, width) that `read_image` will give, from the file's header alone, and whether its EXIF
    entry turns it by a quarter (so that width and height are stored the other way round).

    Raises:
        DataError: naming the file.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as opened:
            _check_pixels(path, opened.size)
            # Pillow would decode a whole PNG in search of an EXIF entry behind the pixels.
            bare = opened.format == "PNG" and not {"exif", "Raw profile type exif"} & set(opened.info)
            turned = not bare and opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = opened.size[::-1] if turned else opened.size
    except DataError:
        raise
    except Exception as e:  # Pillow's readers raise nearly anything on a damaged file
        raise DataError(f"{path}: not a readable image: {e}") from e
    return (height, width), turned


def _common_size(files: Sequence[Path]) -> tuple[tuple[int, int], str]:
    """The size that all images get, from the files' headers, and a note where that means a resize."""
    sizes = np.array([image_size(path)[0] for path in files], np.int64)
    if np.all(sizes == sizes[0]):
        return (int(sizes[0, 0]), int(sizes[0, 1])), ""
    median = float(np.median(sizes.min(axis=1)))
    side = int(np.clip(8 * round(median / 8), MIN_SIDE, MAX_SIDE))
    low, high = int(sizes.min()), int(sizes.max())
    return (side, side), f"stretched to {side}×{side} by area averaging from sides of {low} to {high} pixels"


def _check_pixels(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{path}: {size[0]}×{size[1]} pixels; at most {MAX_PIXELS // 10**6} million are read")


def _fit(image: U8, size: tuple[int, int]) -> U8:
    return resize(image[None], size)[0]
