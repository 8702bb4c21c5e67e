"""A model's mistakes on a rendered dataset, beside every value that was sampled for its frames.

For a classifier a row is a frame, wrong or right. For a detector there are two tables: frames, with the share
of their objects that were missed, beside what the whole frame shares; and objects, missed or not, beside the
values of their own slot and what the renderer knows of them (size, visible fraction).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.tables import is_leaf
from imgsynth.errors import DataError, ModelError
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec

OVERLAP, CONFIDENT = 0.5, 0.3  # an object is found by a box of its class, this sure, that overlaps this much
_SLOT = re.compile(r"^objects\.(\w+)\[(\d+)\]\.(.+)$")
_PARTS = {"color": ("hue_deg", "saturation", "value"), "rotation": ("w", "x", "y", "z"), "direction": "xyz"}


@dataclass(frozen=True)
class Mistakes:
    """Rows (frames or objects): share of mistakes (n,), and columns of values (n,) by name."""

    of: str  # frames or objects
    wrong: F64
    columns: Mapping[str, NDArray[Any]]


def mistakes(model: Any, dataset: Dataset, *, confident: float = CONFIDENT) -> list[Mistakes]:
    """Score `model` on a dataset of imgsynth, row by row.

    Args:
        model: a classifier, or a detector (with `task` "detect" or "segment").
        dataset: rendered frames that it was not trained on.
        confident: least score at which a detector's box counts.

    Raises:
        DataError: no frames, or frames that do not suit the task.
        ModelError: the model does not know the dataset's classes.
    """
    if len(dataset) == 0:
        raise DataError(f"{dataset.root}: the dataset holds no frames")
    if getattr(model, "task", "classify") == "classify":
        return [_classified(model, dataset)]
    return _detected(model, dataset, confident)


def _classified(model: Any, dataset: Dataset) -> Mistakes:
    labels = np.asarray(dataset.labels())
    unknown = sorted({dataset.classes[k] for k in np.unique(labels)} - set(model.classes))
    if unknown:
        raise ModelError(f"the model does not fit the data: it knows no class {unknown[0]!r}")
    said = np.asarray(model.predict(dataset.images())).argmax(axis=1)
    names, known = np.array(dataset.classes), np.array(model.classes)
    wrong = (known[said] != names[labels]).astype(float)
    columns = {**frame_columns(dataset), **_measured(dataset, _first_instances(dataset))}
    return Mistakes("frames", wrong, _with_class(columns, names[labels]))


def _detected(model: Any, dataset: Dataset, confident: float) -> list[Mistakes]:
    rows = dataset.instances
    class_id, area = (rows.column(c).to_numpy() for c in ("class_id", "area_visible"))
    chosen = np.flatnonzero((class_id > 0) & (area > 0))
    if not len(chosen):
        raise DataError(f"{dataset.root}: no labelled object is visible in any frame")
    frame = rows.column("frame").to_numpy()[chosen] - dataset.header.start
    boxes = np.asarray(rows.column("box_visible").combine_chunks().flatten()).reshape(-1, 4)[chosen]
    names = np.array(dataset.classes)[class_id[chosen] - 1]
    found = model.predict(_Frames(dataset))
    missed = _missed(found, frame, boxes, names, confident)
    count = np.bincount(frame, minlength=len(dataset))
    some = np.flatnonzero(count)
    share = np.bincount(frame, missed, len(dataset))[some] / count[some]
    shared = {k: v[some] for k, v in frame_columns(dataset, slots=False).items()}
    own = {**_slot_columns(dataset, chosen, frame), **_measured(dataset, chosen)}
    return [
        Mistakes("frames", share, {**shared, "objects in the frame": count[some].astype(float)}),
        Mistakes("objects", missed, _with_class(own, names)),
    ]


def _with_class(columns: dict[str, NDArray[Any]], names: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The columns and the class; those that only repeat the class are left out."""
    kept = {k: v for k, v in columns.items() if v.dtype.kind == "f" or not np.array_equal(v, names)}
    return {**kept, "class": names}


class _Frames:
    """Frames of a dataset as RGB images, read one by one."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: int) -> Any:
        image = self._dataset.image(i)
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _missed(found: Any, frame: Any, boxes: Any, names: Any, confident: float) -> F64:
    """(m,) 1 where no sure box of the object's class overlaps it; surer boxes choose their object first."""
    missed = np.ones(len(frame))
    labels = np.array(found.classes)[found.labels] if len(found.labels) else np.empty(0, str)
    for k in np.argsort(-found.scores, kind="stable"):
        if found.scores[k] < confident:
            break
        rows = np.flatnonzero((frame == found.owner[k]) & (names == labels[k]) & (missed > 0))
        if len(rows):
            overlap = _overlap(found.boxes[k], boxes[rows])
            best = int(overlap.argmax())
            if overlap[best] >= OVERLAP:
                missed[rows[best]] = 0.0
    return missed


def _overlap(box: Any, others: Any) -> F64:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inside = np.clip(sides, 0, None).prod(axis=1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(inside / np.maximum(areas - inside, 1e-9), float)


# ---- values ----


def frame_columns(dataset: Dataset, *, slots: bool = True) -> dict[str, NDArray[Any]]:
    """Every sampled value, one column a number or category: vectors by component, colours as hue, saturation
    and value. Without `slots` only what a whole frame shares.
    """
    kinds = _kinds(dataset)
    out: dict[str, NDArray[Any]] = {}
    for field in dataset.frames.schema:
        if is_leaf(field) and (slots or not _SLOT.match(field.name)):
            match = _SLOT.match(field.name)
            template = f"objects.{match[1]}.{match[3]}" if match else field.name
            out.update(_columns(field.name, dataset.frames.column(field.name), kinds.get(template, "")))
    return out


def _columns(name: str, column: Any, kind: str) -> dict[str, NDArray[Any]]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
        table = np.full((len(array), width), np.nan)
        known = np.asarray(array.is_valid())
        if known.any():
            table[known] = np.asarray(array.drop_null().flatten(), float).reshape(-1, width)
        if kind == "color" and width == 3:
            table[known] = _hsv(table[known])
        parts = _PARTS.get(kind, tuple(str(i) for i in range(width)))
        dotted = kind in _PARTS
        return {f"{name}.{p}" if dotted else f"{name}[{p}]": table[:, i] for i, p in enumerate(parts)}
    if pa.types.is_boolean(array.type):
        return {name: np.array([None if v is None else str(v).lower() for v in array.to_pylist()], object)}
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return {name: np.array([np.nan if v is None else v for v in array.to_pylist()], float)}
    return {name: np.array(array.to_pylist(), object)}


def _hsv(rgb: F64) -> F64:
    """Hue in degrees, saturation, value (n, 3) of colours (n, 3) in 0..1; hue 0 where there is none."""
    value, least = rgb.max(axis=1), rgb.min(axis=1)
    chroma = value - least
    safe = np.where(chroma > 0, chroma, 1.0)
    r, g, b = rgb.T
    sixth = np.select(
        [chroma == 0, value == r, value == g],
        [0 * r, ((g - b) / safe) % 6, (b - r) / safe + 2],
        (r - g) / safe + 4,
    )
    return np.stack(
        [60 * sixth, np.where(value > 0, chroma / np.where(value > 0, value, 1), 0), value], axis=1
    )


def _kinds(dataset: Dataset) -> dict[str, str]:
    """Kind of value of each leaf, by its path without slots; none where the spec is of another version."""
    try:
        plan = Plan(SceneSpec.model_validate(dataset.header.spec))
    except ValueError:
        return {}
    return {path: leaf.distribution.kind for path, leaf in plan.leaves.items()}


def _slot_columns(dataset: Dataset, chosen: Any, frame: Any) -> dict[str, NDArray[Any]]:
    """Values of each object's own slot: `objects.die.scale` for the object at objects.die[3]."""
    path = np.array(dataset.instances.column("path").to_pylist(), object)[chosen]
    out: dict[str, NDArray[Any]] = {}
    for name, values in frame_columns(dataset).items():
        match = _SLOT.match(name)
        if not match:
            continue
        here = path == f"objects.{match[1]}[{match[2]}]"
        if here.any():
            template = f"objects.{match[1]}.{match[3]}"
            if template not in out:
                missing = np.nan if values.dtype.kind == "f" else None
                out[template] = np.full(len(path), missing, values.dtype)
            out[template][here] = values[frame[here]]
    return out


def _first_instances(dataset: Dataset) -> Any:
    """Row of the first visible labelled instance of each frame."""
    frame, class_id, area = (
        dataset.instances.column(c).to_numpy() for c in ("frame", "class_id", "area_visible")
    )
    rows = np.flatnonzero((class_id > 0) & (area > 0))
    return rows[np.unique(frame[rows], return_index=True)[1]]


def _measured(dataset: Dataset, rows: Any) -> dict[str, NDArray[Any]]:
    """What the renderer knows of the objects: not sampled, but worked out from what was."""
    names = ("area_visible", "visible_fraction", "truncated_fraction")
    return {f"seen: {n}": dataset.instances.column(n).to_numpy()[rows].astype(float) for n in names}
