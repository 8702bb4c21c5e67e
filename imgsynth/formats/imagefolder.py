"""ImageFolder: `<class>/<frame>.png`, for classification; each frame must show exactly one labelled instance.

Every class has its folder, an empty one too, so that the class list is whole. Note that torchvision numbers
classes by their sorted names. Loses everything but the class.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError
from imgsynth.formats.rows import visible_rows

_FORBIDDEN = set('/\\:*?"<>|')


def write(dataset: Dataset, folder: Path) -> None:
    """Copy each image into its class. Raises DataError where a frame has no or several objects."""
    for name in dataset.classes:
        if name.startswith(".") or name != name.strip() or set(name) & _FORBIDDEN or not name.isprintable():
            raise DataError(f"class {name!r} cannot name a folder")
        (folder / name).mkdir()
    for i, rows in enumerate(visible_rows(dataset)):
        source = dataset.path("image", i)
        if len(rows) != 1:
            index = dataset.header.start + i
            shown = f"{dataset.root}: frame {index} shows {len(rows)} labelled instances"
            raise DataError(f"{shown}; imagefolder holds one a frame")
        shutil.copyfile(source, folder / rows[0]["class"] / source.name)
