"""GTSRB's tables (Stallkamp et al. 2012): a folder of images and a csv with `;` that says each one's class.

The official test set is laid out so: GTSRB/Final_Test/Images/00000.ppm … and, in a download of its own,
GT-final_test.csv, which people put in the same folder or in one above it.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.dataset.folders import TRACK, from_files, has_images
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError

TEST_TABLE = "GT-final_test.csv"
COLUMNS = {"Filename", "ClassId"}
INNER = ("", "Images", "Final_Test/Images", "GTSRB/Final_Test/Images")
MAX_CLASS = 99_999
MAX_BYTES = 256 << 20


def find_table(folder: Path) -> tuple[Path, Path] | None:
    """The csv and the folder of images that belong together at `folder`: the images' folder itself, or one
    above it up to GTSRB's root; None where there are none.

    The csv is looked for among the images, then beside their folder and up to three folders above it
    (there only under its official name, `GT-final_test.csv`).

    Raises:
        DataError: the only table is GTSRB's list of test images without classes, or there are several.
    """
    for images in dict.fromkeys(folder / inner for inner in INNER):
        if not images.is_dir() or not has_images(images):
            continue
        for home in (images, *list(images.resolve().parents)[:3]):
            if (home / TEST_TABLE).is_file() and _lists(home / TEST_TABLE, images):
                return home / TEST_TABLE, images
        tables = [p for p in sorted(images.glob("*.csv")) if p.is_file() and _columns(p) >= COLUMNS]
        if len(tables) > 1:
            names = ", ".join(p.name for p in tables)
            raise DataError(f"{images}: several tables ({names}); name the one to read")
        if tables:
            return tables[0], images
        bare = sorted(images.glob("GT-*.csv"))
        if bare:
            raise DataError(
                f"{bare[0]}: has no column ClassId (GTSRB publishes the classes of its test set apart); put "
                f"{TEST_TABLE} beside it"
            )
    return None


def load_table(table: Path, name: str) -> LabelledImages:
    """The images that a csv lists: beside it, or in Images/ or Final_Test/Images/ below.

    Raises:
        DataError: it has no columns Filename and ClassId, or its images are not there.
    """
    if not _columns(table) >= COLUMNS:
        raise DataError(
            f"{table}: expected a table with `;` between columns Filename and ClassId, got "
            f"{'; '.join(sorted(_columns(table)))[:80] or 'nothing'}"
        )
    places = [table.parent / inner for inner in (*INNER, table.stem)]
    images = next((p for p in places if p.is_dir() and has_images(p)), None)
    if images is None:
        raise DataError(f"{table}: no images; looked in {', '.join(str(p) for p in places)}")
    return from_tables([(table, images)], images, name)


def from_tables(
    tables: list[tuple[Path, Path]], root: Path, name: str, *, tracks: bool | None = None
) -> LabelledImages:
    """The images of (csv, folder) pairs as one set; classes are called 00000 … by their ClassId.

    Groups are `class_track` where names are `track_frame`. `tracks`: all names must be; False: there are
    none; None: there are where all names are.

    Raises:
        DataError: naming the table and its line, or an image that cannot be read.
    """
    files: list[Path] = []
    ids: list[int] = []
    found: list[str | None] = []
    for table, folder in tables:
        for line, row in enumerate(_rows(table), start=2):
            file, c, track = _entry(row, table, line)
            if tracks and track is None:
                raise DataError(
                    f"{table}:{line}: expected a name like 00012_00007.ppm (track_frame), got {file!r}"
                )
            files.append(folder / file)
            ids.append(c)
            found.append(track)
    if not files:
        raise DataError(f"{tables[0][0]}: no row")
    seen: set[Path] = set()
    for path in files:
        if path in seen:
            raise DataError(f"{tables[0][0]}: {path.name} stands twice")
        seen.add(path)
    grouped = all(t is not None for t in found) if tracks is None else tracks
    present, labels = np.unique(ids, return_inverse=True)
    groups = np.array([f"{c:05d}_{t}" for c, t in zip(ids, found, strict=True)]) if grouped else None
    return from_files(files, labels.tolist(), [f"{c:05d}" for c in present], groups, name, root)


def _entry(row: dict[str, Any], table: Path, line: int) -> tuple[str, int, str | None]:
    """File name, class number and track of a row."""
    try:
        file, c = row["Filename"], int(row["ClassId"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{table}:{line}: expected columns Filename and ClassId (a number)") from None
    if not file or Path(file).name != file or "\\" in file or "\0" in file or not 0 <= c <= MAX_CLASS:
        raise DataError(f"{table}:{line}: not a file name and a class: {file!r}, {c}")
    track = TRACK.match(Path(file).stem)
    return file, c, track[1] if track else None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, delimiter=";"))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path}: not a readable table: {e}") from e


def _lists(table: Path, images: Path) -> bool:
    """Whether the first file that a table names is in the folder: a class folder of the training set, say,
    lies below the table of the test set too.
    """
    try:
        with table.open(encoding="utf-8-sig") as file:
            head, first = (file.readline(10_000).strip().split(";") for _ in range(2))
        name = dict(zip(head, first, strict=False)).get("Filename", "")
    except (OSError, UnicodeDecodeError):
        return True  # its reader says what is wrong
    return not name or "/" in name or "\0" in name or (images / name).is_file()


def _columns(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return set(file.readline(10_000).strip().split(";"))
    except (OSError, UnicodeDecodeError):
        return set()
