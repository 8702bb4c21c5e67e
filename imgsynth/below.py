"""The files below a folder that a user names: in a fixed order, and none from anywhere else."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from imgsynth.errors import DataError

MAX_ENTRIES = 400_000
"""Entries that are looked through, whatever they are."""


def files_below(folder: Path, suffixes: Collection[str]) -> list[str]:
    """The files of a folder and its sub-folders whose names end in one of `suffixes` (lower case, with the
    dot), by their names below it (with /), sorted by code points, so the same on every machine.

    Hidden ones (or in hidden folders) and links that lead out of the folder are left out.

    Raises:
        DataError: no such folder, a file instead of one, or more than `MAX_ENTRIES` entries.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder" if not folder.exists() else f"{folder}: expected a folder, got a file"
        )
    home, names = folder.resolve(), []
    for k, path in enumerate(folder.rglob("*")):
        if k >= MAX_ENTRIES:
            raise DataError(f"{folder}: expected a folder of at most {MAX_ENTRIES} files")
        name = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in name.parts):
            continue
        if path.is_file() and path.resolve().is_relative_to(home):
            names.append(name.as_posix())
    return sorted(names)
