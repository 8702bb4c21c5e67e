"""COCO "instances": `images/` and `annotations.json`, as the dataset has them already.

Keeps boxes, masks, amodal boxes and masks and fractions of visible, labelled instances
(imgsynth.dataset.coco); loses depth, poses and sampled values. `file_name` is relative to the folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from imgsynth.dataset import manifest
from imgsynth.dataset.reader import Dataset


def write(dataset: Dataset, folder: Path) -> None:
    """Copy the images and the annotations."""
    copy_images(dataset, folder / "images")
    shutil.copyfile(dataset.root / manifest.COCO, folder / manifest.COCO)


def copy_images(dataset: Dataset, folder: Path) -> None:
    """Copy every image into `folder`, under its own name."""
    folder.mkdir(parents=True)
    for i in range(len(dataset)):
        source = dataset.path("image", i)
        shutil.copyfile(source, folder / source.name)
