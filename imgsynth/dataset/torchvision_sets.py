"""Data sets in the layouts that torchvision keeps them in; read from disk, never downloaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from imgsynth.dataset import idx
from imgsynth.dataset.labelled import LabelledImages, concat
from imgsynth.dataset.sign_tables import INNER, TEST_TABLE, find_table, from_tables
from imgsynth.errors import DataError

SETS = ("MNIST", "FashionMNIST", "USPS", "CIFAR10", "SVHN", "GTSRB")
SPLITS = ("train", "test", "all")


def load_torchvision(spec: str) -> LabelledImages:
    """Read `torchvision:NAME:ROOT[:SPLIT]`.

    Raises:
        DataError: an unknown name, or nothing of that layout under ROOT (saying what was looked for).
    """
    name, _, rest = spec.removeprefix("torchvision:").partition(":")
    root, mark, part = rest.rpartition(":")
    if not mark or part not in SPLITS:
        root, part = rest, "train"
    known = {n.lower(): n for n in SETS}
    if name.lower() not in known or not root:
        raise DataError(
            f"{spec}: expected torchvision:NAME:ROOT[:train|test|all], NAME one of {', '.join(SETS)}"
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{spec}: no such folder: {folder}")
    name = known[name.lower()]
    read = partial(load_gtsrb, folder) if name == "GTSRB" else partial(_load_torchvision_class, name, folder)
    if part == "all":
        return concat(read("train"), read("test"), name=f"torchvision:{name}:all")
    return read(part)


def load_gtsrb(root: Path, part: str) -> LabelledImages:
    """German traffic signs (Stallkamp et al. 2012) from the official files. `part` is train or test.

    Train: class folders 00000 … 00042, each with GT-000NN.csv (`;` between columns); groups `class_track`,
    30 frames of one sign a track, which must never be parted. Test: GT-final_test.csv in or above
    Final_Test/Images; no tracks are known. Classes are called by their folder, 00000 … 00042.
    """
    bases = [root / "gtsrb", root / "gtsrb" / "GTSRB", root / "GTSRB", root]
    if part == "test":
        found = next((f for b in bases if b.is_dir() and (f := find_table(b))), None)
        if found is None:
            inner = ", ".join(f"{i or '.'}" for i in INNER)
            raise DataError(
                f"torchvision:GTSRB:{root}:test: not found; looked for {TEST_TABLE} and images in {root} and "
                f"its folders gtsrb and GTSRB ({inner})"
            )
        table, images = found
        return from_tables([(table, images)], images, "torchvision:GTSRB:test", tracks=False)
    folders = [b / "GTSRB" / "Training" for b in bases] + [b / "Training" for b in bases] + [root]
    held = [f for f in folders if (f / "00000" / "GT-00000.csv").is_file()]
    home = _first(held or [f / "00000" / "GT-00000.csv" for f in folders], f"torchvision:GTSRB:{root}:train")
    classes = sorted(p for p in home.iterdir() if p.is_dir() and len(p.name) == 5 and p.name.isdigit())
    tables_of = [(p / f"GT-{p.name}.csv", p) for p in classes]
    return from_tables(tables_of, home, "torchvision:GTSRB:train", tracks=True)


def _first(candidates: list[Path], spec: str) -> Path:
    for path in candidates:
        if path.exists():
            return path
    looked = ", ".join(str(p) for p in dict.fromkeys(candidates))
    raise DataError(f"{spec}: not found; looked for {looked}")


def _load_torchvision_class(name: str, root: Path, part: str) -> LabelledImages:
    """One of torchvision's own data set classes, with `download=False`; MNIST's and FashionMNIST's files may
    also lie in `root` itself, as they are distributed (Debian's dataset-fashion-mnist has them so).
    """
    from torchvision import datasets

    kind = getattr(datasets, name)
    if name in ("MNIST", "FashionMNIST") and (found := idx.files(root, part)):
        classes = tuple(kind.classes) if name == "FashionMNIST" else tuple(str(d) for d in range(10))
        return idx.labelled(*found, classes, f"torchvision:{name}:{part}")
    try:
        made = kind(root, split=part) if name == "SVHN" else kind(root, train=part == "train")
    except (RuntimeError, OSError, ValueError, EOFError) as e:
        raise DataError(f"torchvision:{name}:{root}:{part}: not found as torchvision keeps it: {e}") from e
    images = np.asarray(made.data)
    labels = np.asarray(made.labels if name == "SVHN" else made.targets, np.int64)
    if name == "SVHN":
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 3:
        images = images[..., None]
    classes = tuple(made.classes) if name in ("FashionMNIST", "CIFAR10") else tuple(str(d) for d in range(10))
    images = np.ascontiguousarray(images, np.uint8)
    return LabelledImages(images, labels, classes, None, f"torchvision:{name}:{part}")
