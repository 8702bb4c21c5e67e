"""Datasets in the forms that other tools read.

A format is a function `write(dataset, folder)` that fills an empty folder; `EXPORTERS` names them. Each is
lossy in its own way, and its module says how. Images are copied, never linked: a tool that edits its copy
harms no dataset.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from imgsynth.dataset.disk import disk_errors
from imgsynth.dataset.reader import Dataset
from imgsynth.errors import ImgsynthError
from imgsynth.formats import bop, coco, imagefolder, kitti, voc, yolo

Exporter = Callable[[Dataset, Path], None]

EXPORTERS: dict[str, Exporter] = {
    "coco": coco.write,
    "yolo": yolo.write_boxes,
    "yolo-seg": yolo.write_polygons,
    "voc": voc.write,
    "kitti": kitti.write,
    "bop": bop.write,
    "imagefolder": imagefolder.write,
}


def exporter(name: str) -> Exporter:
    """The exporter of that name. Raises ImgsynthError with the nearest and all valid names."""
    if name not in EXPORTERS:
        near = difflib.get_close_matches(name.lower(), EXPORTERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ImgsynthError(f"unknown format {name!r}: {hint}Formats: {', '.join(EXPORTERS)}")
    return EXPORTERS[name]


def export(dataset: Dataset, fmt: str, out: Path | str) -> None:
    """Write the dataset in format `fmt` to the new or empty folder `out`, whole or not at all.

    Raises:
        ImgsynthError: the format is unknown or cannot hold this dataset, or `out` is not empty or not
        writable.
    """
    write, out = exporter(fmt), Path(out)
    with disk_errors(out, resumable=False):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ImgsynthError(f"{out}: expected a new or empty folder to export to")
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = out.with_name(f".{out.name}.{os.getpid()}.partial")
        draft.mkdir()
        try:
            write(dataset, draft)
            os.replace(draft, out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
