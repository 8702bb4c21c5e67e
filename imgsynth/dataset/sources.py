"""Where classification data comes from: the DATA argument of the command line, read into `LabelledImages`.

DATA is one of

    PATH                            a dataset of imgsynth (a folder with dataset.json)
    PATH                            an image folder: a folder of images for each class
    PATH                            images with GTSRB's table of their classes (`sign_tables`), as its
                                    official test set has them: the folder, one above it, or the .csv file
    PATH.npz                        `images` uint8 (n, H, W) or (n, H, W, 1 or 3), `labels` whole numbers
                                    (n,), and, where wanted, `classes` (K,) names, `groups` (n,) and
                                    `weights` (n,) numbers ≥ 0, how often `learn` draws a row; read without
                                    pickle. Without `classes` they are called by their numbers
    sklearn:digits[:SPLIT]          1,797 real digits 8×8; SPLIT: train, validation, test or all (default)
    torchvision:NAME:ROOT[:SPLIT]   MNIST, FashionMNIST, USPS, CIFAR10, SVHN or GTSRB as torchvision keeps
                                    them, never downloaded; SPLIT: train (default), test or all

Any of them may end in `#train`, `#validation` or `#test`: that part of the fixed split of
`imgsynth.dataset.split` (70/15/15 %, seed 0, by group where there are groups). So `signs#train` and
`signs#validation` never share an image or a track.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.labelled import LabelledImages, check_memory, concat
from imgsynth.dataset.split import digits_blocks, digits_split, split
from imgsynth.errors import DataError

__all__ = ["LabelledImages", "concat", "load", "load_for"]

MAX_CLASSES = 100_000
MAYBE = ("classes", "groups", "weights")  # arrays that an .npz file need not have
PARTS = ("train", "validation", "test")
TASKS = ("classify", "detect", "segment")


def load(spec: str) -> LabelledImages:
    """Read DATA (see the module's text).

    Raises:
        DataError: anything missing, unknown, unreadable or out of range, saying what was expected and where.
    """
    source, part = fragment(spec)
    if source.startswith("sklearn:"):
        if part is not None and source == "sklearn:digits":
            return _digits(f"{source}:{part}")  # the set has a split of its own, by writer
        data = _digits(source)
    elif source.startswith("torchvision:"):
        from imgsynth.dataset.torchvision_sets import load_torchvision

        data = load_torchvision(source)
    else:
        data = _path(Path(source).expanduser())
    if part is None:
        return data
    rows = split(data.labels, data.groups, names=None if data.names is None else list(data.names))[part]
    if len(rows) == 0:
        raise DataError(f"{spec}: no image falls into the part {part!r} of {len(data)}")
    return data.subset(rows, name=f"{data.name}#{part}")


@overload
def load_for(task: Literal["classify"], spec: str) -> LabelledImages: ...
@overload
def load_for(task: Literal["detect", "segment"], spec: str) -> AnnotatedImages: ...
@overload
def load_for(task: str, spec: str) -> LabelledImages | AnnotatedImages: ...
def load_for(task: str, spec: str) -> LabelledImages | AnnotatedImages:
    """Read DATA for a task: `classify` (this module), `detect` (boxes) or `segment` (boxes and masks; both
    `imgsynth.dataset.annotated_sources`).

    Raises:
        DataError: an unknown task, or data that cannot be read for it.
    """
    from imgsynth.dataset.annotated_sources import load_annotated

    if task not in TASKS:
        raise DataError(f"expected the task {', '.join(TASKS)}, got {task!r}")
    return load(spec) if task == "classify" else load_annotated(spec, masks=task == "segment")


def fragment(spec: str) -> tuple[str, str | None]:
    """DATA without its part, and the part (train, validation, test) or None.

    Raises:
        DataError: a part of another name.
    """
    source, mark, part = spec.rpartition("#")
    if mark and part in PARTS:
        return source, part
    if mark and source and not Path(spec).expanduser().exists() and Path(source).expanduser().exists():
        raise DataError(f"{spec}: unknown part {part!r}; expected #{', #'.join(PARTS)}")
    return spec, None


def _path(path: Path) -> LabelledImages:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return _file(path)
    from imgsynth.dataset.folders import load_folder
    from imgsynth.dataset.sign_tables import find_table, from_tables
    from imgsynth.dataset.writer import unfinished

    # An unfinished dataset goes the same way, whose reader says so: its images/ and masks/ are no classes.
    if (path / "dataset.json").is_file() or unfinished(path):
        return _dataset(path)
    training = next((p for p in (path / "Training", path / "GTSRB" / "Training") if p.is_dir()), None)
    found = find_table(path)
    if found and training:
        raise DataError(f"{path}: holds GTSRB's training and test set; name one: {training}, or {found[1]}")
    if found:
        return from_tables([found], found[1], _called(path))
    return load_folder(path)


def _file(path: Path) -> LabelledImages:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _npz(path)
    if suffix == ".csv":
        from imgsynth.dataset.sign_tables import load_table

        return load_table(path, _called(path))
    if suffix in (".json", ".yaml", ".yml", ".xml"):
        raise DataError(
            f"{path}: expected a .npz file or a folder; boxes and masks (COCO, YOLO) are read by "
            "--task detect or --task segment"
        )
    raise DataError(f"{path}: expected a .npz file or a folder, got a {path.suffix or 'plain'} file")


def _called(path: Path) -> str:
    whole = path.resolve()
    return f"{whole.parent.name}/{whole.name}"


def _dataset(path: Path) -> LabelledImages:
    """A dataset that imgsynth wrote, as classification data (see `Dataset.labels` for what a frame shows)."""
    from imgsynth.dataset.reader import Dataset

    dataset = Dataset(path)
    if len(dataset) == 0:
        raise DataError(f"{path}: the dataset holds no frames")
    height, width = dataset.size
    check_memory(path, (len(dataset), height, width, dataset.header.channels))
    labels = np.asarray(dataset.labels(), np.int64)
    return LabelledImages(dataset.images(), labels, tuple(dataset.classes), None, path.resolve().name)


def _npz(path: Path) -> LabelledImages:
    images, labels, classes, groups, weights = _npz_arrays(path)
    if images.ndim == 3:
        images = images[..., None]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
        raise DataError(
            f"{path}: images: expected uint8 (n, H, W) or (n, H, W, 1 or 3), "
            f"got {images.dtype} {images.shape}"
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: labels: expected {len(images)} whole numbers, got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() > 2**31:
        raise DataError(f"{path}: labels: expected numbers from 0, got {labels.min()} to {labels.max()}")
    if classes is None:
        present, labels = np.unique(labels, return_inverse=True)
        names = tuple(str(v) for v in present)
        if len(names) > MAX_CLASSES:
            raise DataError(f"{path}: labels: {len(names)} different classes; at most {MAX_CLASSES} are read")
    else:
        if classes.ndim != 1 or classes.dtype.kind != "U":
            raise DataError(f"{path}: classes: expected names (K,), got {classes.dtype} {classes.shape}")
        names = tuple(str(c) for c in classes)
    if weights is not None:
        weights = _weights(path, weights, len(images))
    data = LabelledImages(images, labels.astype(np.int64), names, groups, _called(path), weights=weights)
    empty = [c for c, n in zip(data.classes, data.counts(), strict=True) if n == 0]
    if empty:
        raise DataError(f"{path}: class {empty[0]!r} has no image ({len(empty)} such classes)")
    return data


def _weights(path: Path, weights: Any, n: int) -> NDArray[np.float64]:
    if weights.shape != (n,) or weights.dtype.kind not in "fiu":
        raise DataError(f"{path}: weights: expected {n} numbers, got {weights.dtype} {weights.shape}")
    if not np.all(np.isfinite(weights)) or weights.min() < 0 or weights.sum() <= 0:
        raise DataError(f"{path}: weights: expected numbers ≥ 0, not all 0")
    return np.asarray(weights, np.float64)


def _npz_arrays(path: Path) -> tuple[Any, ...]:
    """`images`, `labels`, and the arrays of `MAYBE` (or None), checked before they are unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            for name in ("images", "labels"):
                if f"{name}.npy" not in members:
                    held = ", ".join(sorted(m.removesuffix(".npy") for m in members)[:8]) or "nothing"
                    raise DataError(f"{path}: expected arrays `images` and `labels`, found {held}")
            wanted = [m for m in ("images", "labels", *MAYBE) if f"{m}.npy" in members]
            for name in wanted:
                with archive.open(f"{name}.npy") as member:
                    _check_header(path, name, member)
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(arrays[m] if m in wanted else None for m in ("images", "labels", *MAYBE))
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{path}: not a readable .npz file: {e}") from e


def _check_header(path: Path, name: str, member: IO[bytes]) -> None:
    """Refuse what would not fit in memory or would need pickle, from the .npy header alone."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.hasobject:
        raise DataError(f"{path}: {name}: holds Python objects, which are not read; expected plain numbers")
    check_memory(path, shape, dtype.itemsize)


def _digits(spec: str) -> LabelledImages:
    """scikit-learn's digits, counts 0…16 as grey 0…255; groups are the 13 blocks (`split.digits_blocks`)."""
    name, _, part = spec.removeprefix("sklearn:").partition(":")
    if name != "digits" or part not in ("", "all", *PARTS):
        raise DataError(f"{spec}: expected sklearn:digits[:train|validation|test|all]")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    groups = digits_blocks(len(images))
    classes = tuple(str(d) for d in range(10))
    data = LabelledImages(images, bunch.target.astype(np.int64), classes, groups, "sklearn:digits")
    return (
        data.subset(digits_split(len(images))[part], name=spec) if part in PARTS else replace(data, name=spec)
    )
