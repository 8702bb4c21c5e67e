"""Labels checked against the masks they came from, and against each other.

What is stored twice must agree, what follows from something else must follow: boxes are the bounds of masks,
areas their counts, RLE texts their pixels, and so on. Decoding is apart from the encoding that wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imgsynth.batch import I32
from imgsynth.dataset import manifest, rle
from imgsynth.dataset.coco import annotation_id, coco_keypoints
from imgsynth.dataset.manifest import frame_file
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.tables import GROUNDING, INSTANCE_COLUMNS, KEYPOINT_COLUMNS
from imgsynth.errors import DataError

SHOWN = 20  # problems that a report spells out


@dataclass
class Report:
    """What `verify` found: the first problems in words, how many there are, and what was looked at."""

    problems: list[str] = field(default_factory=list)
    count: int = 0
    checked: dict[str, int] = field(default_factory=dict)  # files, frames, instances, annotations

    @property
    def ok(self) -> bool:
        """Whether nothing is off."""
        return self.count == 0

    def __str__(self) -> str:
        done = ", ".join(f"{n} {what}" for what, n in self.checked.items())
        if self.ok:
            return f"ok: {done}"
        more = [f"… and {self.count - len(self.problems)} more"] if self.count > len(self.problems) else []
        found = f"{self.count} problem{'s' if self.count != 1 else ''}; checked {done or 'nothing'}"
        return "\n".join([*self.problems, *more, found])

    def add(self, problem: str) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)

    def tally(self, what: str, n: int = 1) -> None:
        """Count what was looked at."""
        self.checked[what] = self.checked.get(what, 0) + n


def instance_rows(dataset: Dataset, report: Report) -> dict[str, Any] | None:
    """The columns of `instances.parquet`, and `start`: where each frame's rows begin."""
    header = dataset.header
    try:
        table = dataset.instances
        missing = [name for name in INSTANCE_COLUMNS if name not in table.column_names]
        if missing:
            raise DataError(f"{manifest.INSTANCES}: has no column {missing[0]!r}")
        rows: dict[str, Any] = {}
        more = [name for name in KEYPOINT_COLUMNS if name in table.column_names]
        for name in (*INSTANCE_COLUMNS, *more):
            column = table.column(name).combine_chunks()
            if isinstance(column, pa.FixedSizeListArray):
                rows[name] = column.flatten().to_numpy().reshape(-1, column.type.list_size)
            elif pa.types.is_string(column.type) or pa.types.is_list(column.type):
                rows[name] = column.to_pylist()
            else:
                rows[name] = column.to_numpy(zero_copy_only=False)
        key = rows["frame"] * 2**17 + rows["id"]
        if (np.diff(key) <= 0).any():
            raise DataError(f"{manifest.INSTANCES}: not sorted by frame and id, or an instance stands twice")
        stray = (rows["frame"] < header.start) | (rows["frame"] > header.indices[-1])
        if stray.any():
            raise DataError(f"{manifest.INSTANCES}: frame {rows['frame'][stray][0]} is not in the dataset")
        rows["start"] = np.searchsorted(rows["frame"], np.arange(header.start, header.indices[-1] + 2))
        rows["first"] = header.start
    except (DataError, ValueError, TypeError, pa.ArrowException) as e:
        report.add(str(e))
        return None
    _check_numbers(rows, dataset, report)
    return rows


def _check_numbers(rows: dict[str, Any], dataset: Dataset, report: Report) -> None:
    """What follows from the columns alone: classes, fractions, order."""
    names = [None, *dataset.classes]
    classes = rows["class_id"]
    known = (classes >= 0) & (classes < len(names))
    _blame(rows, ~known, "class_id is of no class", report)
    wrong = [k and names[c] != n for k, c, n in zip(known, classes, rows["class"], strict=True)]
    _blame(rows, np.array(wrong, bool), "class is not the name of class_id", report)
    visible, amodal = rows["area_visible"], rows["area_amodal"]
    ratio = np.where(amodal > 0, visible / np.maximum(amodal, 1), 0.0)
    off = ~(abs(rows["visible_fraction"] - ratio) <= 1e-9)
    _blame(rows, off, "visible_fraction is not area_visible / area_amodal", report)
    for name in ("visible_fraction", "truncated_fraction", "confidence"):
        fine = (rows[name] >= 0) & (rows[name] <= 1)
        if name == "confidence":  # what is not exact may not have been measured
            fine |= np.isnan(rows[name]) & (np.array(rows["grounding"], object) != GROUNDING)
        _blame(rows, ~fine, f"{name} is not in 0..1", report)
    box = rows["box_amodal"]
    _blame(rows, ~((box[:, :2] <= box[:, 2:]).all(axis=1)), "box_amodal is inside out", report)
    if dataset.header.keypoints and "keypoints" not in rows:
        report.add(f"{manifest.INSTANCES}: has no column 'keypoints'")
    elif "keypoints" in rows:
        wrong = [not _placed(n, t, dataset.size) for n, t in zip(*_keypoints(rows), strict=True)]
        _blame(rows, np.array(wrong, bool), "keypoints are not where their visibility says", report)


def _keypoints(rows: dict[str, Any]) -> tuple[list[list[str]], list[list[float]]]:
    return rows["keypoint_names"], rows["keypoints"]


def _placed(names: list[str], triples: list[float], size: tuple[int, int]) -> bool:
    """Whether there is a triple for each name, and it is seen or hidden only in the frame."""
    points = np.array(triples, np.float64)
    if len(points) != 3 * len(names):
        return False
    x, y, seen = points.reshape(-1, 3).T
    inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    return bool((np.isin(seen, (0, 1, 2)) & (inside == (seen > 0))).all())


def _blame(rows: dict[str, Any], bad: NDArray[np.bool_], what: str, report: Report) -> None:
    for k in np.flatnonzero(bad):
        report.add(f"{_where(rows, int(k))}: {what}")


def _where(rows: dict[str, Any], k: int) -> str:
    return f"frame {rows['frame'][k]}, instance {rows['id'][k]} ({rows['path'][k]})"


def check_labels(index: int, mask: I32, rows: dict[str, Any], report: Report) -> None:
    """Check the rows of one frame against its instance mask."""
    first, last = rows["start"][index - rows["first"] : index - rows["first"] + 2]
    report.tally("instances", int(last - first))
    strangers = np.setdiff1d(mask, np.append(rows["id"][first:last], 0))
    if len(strangers):
        report.add(f"frame {index}: its mask shows instance {strangers[0]}, which has no row")
    for k in range(first, last):
        seen = mask == rows["id"][k]
        where = _where(rows, k)
        area = rows["area_visible"][k]
        if seen.sum() != area:
            report.add(f"{where}: area_visible is {area}, its mask has {seen.sum()} pixels")
        if not np.array_equal(rows["box_visible"][k], _bounds(seen)):
            box = rows["box_visible"][k].tolist()
            report.add(f"{where}: box_visible is {box}, its mask has {_bounds(seen).tolist()}")
        try:
            visible = rle.decode(rows["rle_visible"][k], mask.shape)
            whole = rle.decode(rows["rle_amodal"][k], mask.shape)
        except (DataError, AttributeError) as e:
            report.add(f"{where}: {e}")
            continue
        if not np.array_equal(visible, seen):
            report.add(f"{where}: rle_visible is not its mask")
        if (seen & ~whole).any():
            report.add(f"{where}: {(seen & ~whole).sum()} visible pixels are not in the amodal mask")
        if whole.sum() != rows["area_amodal"][k]:
            report.add(f"{where}: area_amodal is {rows['area_amodal'][k]}, rle_amodal has {whole.sum()}")


def _bounds(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(4,) xyxy of a mask, half-open; zeros where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4, np.int64)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check_annotations(dataset: Dataset, rows: dict[str, Any], report: Report) -> None:
    """Check that `annotations.json` has the instances of `instances.parquet`, with the same numbers."""
    name = manifest.COCO
    try:
        data = manifest.parse((dataset.root / name).read_bytes(), name)
        images, annotations, categories = (data[k] for k in ("images", "annotations", "categories"))
        named = [(c["id"], c["name"]) for c in categories]
        files = [(i["id"], i["file_name"], (i["height"], i["width"])) for i in images]
        entries = {a["id"]: a for a in annotations}
    except FileNotFoundError:
        return
    except (DataError, KeyError, TypeError) as e:
        report.add(f"{name}: not COCO: {e}" if not isinstance(e, DataError) else str(e))
        return
    if named != list(enumerate(dataset.classes, 1)):
        report.add(f"{name}: its categories are not the classes of the dataset")
    if files != [(i, frame_file("image", i), dataset.size) for i in dataset.header.indices]:
        report.add(f"{name}: its images are not those of the dataset")
    if len(entries) != len(annotations):
        report.add(f"{name}: an annotation id stands twice")
    report.tally("annotations", len(annotations))
    for k in np.flatnonzero((rows["class_id"] > 0) & (rows["area_visible"] > 0)).tolist():
        entry = entries.pop(annotation_id(int(rows["frame"][k]), int(rows["id"][k])), None)
        if entry is None:
            report.add(f"{name}: {_where(rows, k)}: has no annotation")
            continue
        for key, value in _expected(rows, k, dataset).items():
            if entry.get(key) != value:
                where = f"annotation {entry['id']}: {_where(rows, k)}"
                report.add(f"{name}: {where}: {key} is {entry.get(key)!r}, expected {value!r}")
    for ident in entries:
        report.add(f"{name}: annotation {ident} is of no visible, labelled instance")


def _expected(rows: dict[str, Any], k: int, dataset: Dataset) -> dict[str, Any]:
    size = dataset.size
    names = dataset.header.keypoints.get(rows["class"][k])
    points: dict[str, Any] = {}
    if names is not None and "keypoints" in rows:
        values, count = coco_keypoints(names, rows["keypoint_names"][k], rows["keypoints"][k])
        points = {"keypoints": values, "num_keypoints": count}

    def xywh(box: NDArray[np.float64]) -> list[float]:
        return [float(v) for v in (*box[:2], *(box[2:] - box[:2]))]

    return {
        "image_id": rows["frame"][k],
        "category_id": rows["class_id"][k],
        "instance_id": rows["id"][k],
        "iscrowd": 0,
        "bbox": xywh(rows["box_visible"][k]),
        "area": rows["area_visible"][k],
        "segmentation": {"size": list(size), "counts": rows["rle_visible"][k]},
        "visible_fraction": rows["visible_fraction"][k],
        "truncated_fraction": rows["truncated_fraction"][k],
        "amodal_bbox": xywh(rows["box_amodal"][k]),
        "amodal_segmentation": {"size": list(size), "counts": rows["rle_amodal"][k]},
        **points,
    }
