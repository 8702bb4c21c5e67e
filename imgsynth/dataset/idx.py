"""IDX files, in which MNIST and its likes are distributed: a header of sizes, then plain bytes; gzip or not.

The format (LeCun et al., "The MNIST database"): two zero bytes, a type (8: unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit number, then the values in C order.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset.labelled import LabelledImages, check_memory
from imgsynth.errors import DataError

_BYTES = 0x08
_STEMS = {"train": "train", "test": "t10k"}


def files(root: Path, part: str) -> tuple[Path, Path] | None:
    """The files of images and labels of a part (train or test) that lie in `root`, or None."""
    found = []
    for what in ("images-idx3", "labels-idx1"):
        names = [f"{_STEMS[part]}-{what}-ubyte{ending}" for ending in ("", ".gz")]
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found[0], found[1]


def read(path: Path) -> U8:
    """The array of an IDX file of unsigned bytes.

    Raises:
        DataError: damaged, cut short, too large, or of another type.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            zeros, kind, dims = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != _BYTES or not 1 <= dims <= 4:
                raise DataError(f"{path}: not an IDX file of unsigned bytes")
            shape = struct.unpack(f">{dims}I", file.read(4 * dims))
            check_memory(path, shape)
            size = int(np.prod(shape, dtype=np.int64))
            data = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error) as e:
        raise DataError(f"{path}: not a readable IDX file: {e}") from e
    if len(data) != size:
        came = "more" if len(data) > size else f"{len(data)}"
        raise DataError(f"{path}: expected {size} bytes of values, got {came}")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def labelled(images: Path, labels: Path, classes: tuple[str, ...], name: str) -> LabelledImages:
    """Classification data of a file of images and one of labels.

    Raises:
        DataError: files that cannot be read, or do not hold images and their labels.
    """
    pixels, numbers = read(images), read(labels)
    if pixels.ndim != 3 or numbers.ndim != 1 or len(pixels) != len(numbers):
        raise DataError(f"{images}: {pixels.shape} images do not fit {numbers.shape} labels in {labels}")
    return LabelledImages(pixels[..., None], numbers.astype(np.int64), classes, None, name)
