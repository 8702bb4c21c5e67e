"""Pascal VOC: `JPEGImages/` (PNGs, so nothing is lost), `Annotations/*.xml`, `ImageSets/Main/trainval.txt`.

Boxes are VOC's: whole pixels counted from 1, both ends inside. `occluded` is 1 where more than 5 % of the
in-frame object is hidden, `truncated` where more than 15 % of its silhouette lies outside the frame (the
thresholds of VOC's annotation guidelines); `difficult` is 0. Loses masks, amodal boxes and the fractions
themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from imgsynth.dataset.reader import Dataset
from imgsynth.formats.coco import copy_images
from imgsynth.formats.rows import visible_rows

OCCLUDED, TRUNCATED = 0.05, 0.15


def write(dataset: Dataset, folder: Path) -> None:
    """One XML file a frame, and the list of all frames."""
    copy_images(dataset, folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    names = []
    for i, rows in enumerate(visible_rows(dataset)):
        image = dataset.path("image", i)
        tree = ElementTree.ElementTree(_annotation(dataset, image.name, rows))
        ElementTree.indent(tree)
        tree.write(folder / "Annotations" / f"{image.stem}.xml", encoding="utf-8", xml_declaration=False)
        names.append(image.stem)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _annotation(dataset: Dataset, file_name: str, rows: list[dict[str, Any]]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _fill(root, {"folder": "JPEGImages", "filename": file_name})
    _fill(ElementTree.SubElement(root, "source"), {"database": dataset.header.name})
    height, width = dataset.size
    size = {"width": width, "height": height, "depth": dataset.header.channels}
    _fill(ElementTree.SubElement(root, "size"), size)
    _fill(root, {"segmented": 0})
    for row in rows:
        item = ElementTree.SubElement(root, "object")
        _fill(item, {"name": row["class"], "pose": "Unspecified"})
        _fill(item, {"truncated": int(row["truncated_fraction"] > TRUNCATED), "difficult": 0})
        _fill(item, {"occluded": int(row["visible_fraction"] < 1 - OCCLUDED)})
        x0, y0, x1, y1 = (int(v) for v in row["box_visible"])
        box = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
        _fill(ElementTree.SubElement(item, "bndbox"), box)
    return root


def _fill(parent: ElementTree.Element, values: dict[str, Any]) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)
