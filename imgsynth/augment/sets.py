"""The real images of an augmentation: what trains, what decides, what judges."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.leaks import shared_groups, shared_images
from imgsynth.dataset.longtail import long_tail
from imgsynth.dataset.sources import load
from imgsynth.dataset.split import FRACTIONS, split
from imgsynth.errors import DataError

REAL = "real"  # in the column `source` of a mixed set
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sets:
    """Three sets of real images with the classes and in the form of the first, none in two of them."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    notes: list[str] = field(default_factory=list)
    away: LabelledImages | None = None  # what a cut took from `train`: for the ceiling, and for nothing else

    def named(self) -> dict[str, LabelledImages]:
        """Set by what it is for."""
        return {part: getattr(self, part) for part in PARTS}


def gather(
    real: str,
    validation: str | None = None,
    test: str | None = None,
    *,
    cut: float | None = None,
    seed: int = 0,
) -> Sets:
    """Read REAL and what else is given; split off what is not, by class and by group.

    What is split off is the part that `DATA#validation` and `DATA#test` would be, with `seed` 0.

    Args:
        cut: cut the training images to a long tail of this factor (`long_tail`), for benchmarks.

    Raises:
        DataError: data that cannot be read, generated images among the real ones, classes that differ, an
            image or a group in two sets, a part without images.
    """
    data = _real(real)
    given = {"validation": validation, "test": test}
    sets: dict[str, LabelledImages] = {p: _real(spec) for p, spec in given.items() if spec is not None}
    absent = [part for part in given if part not in sets]
    if absent:
        shares = _shares(absent)
        names = None if data.names is None else list(data.names)
        rows = split(data.labels, data.groups, shares, seed, names)
        if empty := [part for part in shares if len(rows[part]) == 0]:
            raise DataError(
                f"{real}: too few images or groups to split off a {empty[0]} set; give one with --{empty[0]}"
            )
        sets |= {part: data.subset(rows[part], f"{data.name} ({part})") for part in absent}
        data = data.subset(rows["train"], f"{data.name} (train)")
    sets = {part: sets[part] for part in ("validation", "test")}
    notes = [d.notes for d in (data, *sets.values()) if d.notes]
    for part, other in sets.items():
        if (other.size, other.channels) != (data.size, data.channels):
            notes.append(f"{part}: {other.name} brought to the size and channels of {data.name}")
        sets[part] = other.aligned(data.classes).fitted(data.size, data.channels)
    _refuse_leaks({"train": data, **sets})
    away = None
    if cut is not None:
        stay = long_tail(data.labels, cut, seed, data.groups)
        notes.append(
            f"{data.name}: cut to a long tail of imbalance {cut:g}: {len(stay):,} of {len(data):,} images"
        )
        gone = np.setdiff1d(np.arange(len(data)), stay)
        away = data.subset(gone, f"{data.name} (cut away)") if len(gone) else None
        data = data.subset(stay)
    return Sets(data, sets["validation"], sets["test"], list(dict.fromkeys(notes)), away)


def _real(spec: str) -> LabelledImages:
    """DATA that holds no generated image: a generator fed with its own output forgets the world."""
    if holds_generated(Path(spec.partition("#")[0]).expanduser()):
        raise DataError(
            f"{spec}: holds generated images; REAL, --validation and --test are real images, and generators "
            "come with --scene and --model"
        )
    return replace(load(spec), name=spec)


def holds_generated(path: Path) -> bool:
    """Whether a DATA path says that there are generated images in it: a dataset of imgsynth, or an .npz whose
    `source` is not `real` everywhere.
    """
    if path.is_dir():
        return (path / "dataset.json").is_file()
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return "source" in arrays and bool((arrays["source"] != REAL).any())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # the reader of the data itself says what is wrong with it


def _shares(absent: list[str]) -> dict[str, float]:
    """Shares of the training part and of what is to be split off, in the proportion of the fixed split."""
    wanted = {part: FRACTIONS[part] for part in ("train", *absent)}
    whole = sum(wanted.values())
    return {part: share / whole for part, share in wanted.items()}


def _refuse_leaks(sets: Mapping[str, LabelledImages]) -> None:
    for a, b in (("test", "train"), ("test", "validation"), ("validation", "train")):
        held, other = sets[a], sets[b]
        if shared := shared_images(held, other):
            raise DataError(
                f"leak: {len({j for _, j in shared})} images of {other.name} ({b}) are also in {held.name} "
                f"({a}): row {shared[0][1]} is row {shared[0][0]} there"
            )
        if both := shared_groups(held, other):
            raise DataError(
                f"leak: {len(both)} groups (tracks), such as {both[0]!r}, are in {held.name} ({a}) and in "
                f"{other.name} ({b}); split by group, as DATA#train, DATA#validation and DATA#test do"
            )
