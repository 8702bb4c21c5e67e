"""Frames of a finished dataset with other pictures: the labels of a render, for what was painted over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imgsynth.batch import U8, Cameras, Lens
from imgsynth.dataset import rle
from imgsynth.dataset.panoptic import STEP
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.tables import LENSES, is_leaf
from imgsynth.frame import AmodalMasks, Buffers, FrameBatch, InstanceKeypoints, Instances

LOST = {"albedo", "flow_forward", "flow_backward"}
"""Outputs that a picture painted over a render does not inherit: its paint and its next frame are its own."""


def inherited_outputs(dataset: Dataset) -> tuple[Any, ...]:
    """Outputs of the dataset that hold for a repainted picture too."""
    return tuple(name for name in dataset.header.outputs if name not in LOST)


def inherited_frames(
    dataset: Dataset,
    positions: Sequence[int],
    images: U8,
    indices: NDArray[np.int64],
    confidence: Mapping[tuple[int, int], float],
) -> FrameBatch:
    """Frames at `positions` of a dataset as frames `indices` of another, showing `images` (n, H, W, C).

    Labels, cameras, poses and sampled values are the render's; `confidence` of (position, instance id) is
    what a check says of that object, NaN where it has nothing to say. The column `parent.frame` names the
    render.
    """
    n, size = len(positions), dataset.size
    tables = [dataset.instances_of(p) for p in positions]
    counts = [len(t) for t in tables]
    rows = pa.concat_tables(tables).combine_chunks() if tables else dataset.instances.slice(0, 0)
    sure = [
        confidence.get((p, i), np.nan)
        for p, t in zip(positions, tables, strict=True)
        for i in t.column("id").to_pylist()
    ]
    instances = _instances(rows, np.repeat(np.arange(n), counts).astype(np.int32), np.array(sure, np.float64))
    frames = dataset.frames.take(pa.array(list(positions)))
    values, active = _values(frames)
    values["parent.frame"] = frames.column("index").to_numpy()
    active["parent.frame"] = np.ones(n, bool)
    maps = {
        k: np.stack([getattr(dataset, k)(p) for p in positions]) for k in _MAPS if k in dataset.header.kinds
    }
    instance = np.stack([dataset.instance_mask(p) for p in positions])
    far = np.full((n, *size), np.inf, np.float32)
    if "panoptic" in dataset.header.kinds and "depth" not in maps:  # what is hit stands there
        seen = np.stack([dataset.panoptic(p) for p in positions]) != 2 * STEP
        far = np.where(seen, np.float32(1), far)
    buffers = Buffers(
        color=np.broadcast_to(np.float32(0), (n, *size, 3)), supersample=1, depth=maps.get("depth", far),
        normal=maps.get("normal", np.broadcast_to(np.float32(0), (n, *size, 3))), instance=instance,
        amodal=_amodal(rows.column("rle_amodal").to_pylist(), size),
        amodal_total=instances.area_amodal.astype(np.float64),
    )  # fmt: skip
    return FrameBatch(
        indices=np.asarray(indices, np.int64), size=size, classes=dataset.classes, images=images,
        buffers=buffers, semantic=np.stack([dataset.semantic_mask(p) for p in positions]),
        cameras=_cameras(frames), instances=instances, values=values, active=active,
        report={c: frames.column(c).to_numpy() for c in _REPORTS if c in frames.column_names},
        distance=maps.get("distance"), nocs=maps.get("nocs"),
    )  # fmt: skip


_MAPS = ("depth", "normal", "distance", "nocs")
_REPORTS = ("no_room", "fell_away", "still_moving")  # what placing had to say of a frame


def _instances(rows: pa.Table, frame: NDArray[np.int32], confidence: NDArray[np.float64]) -> Instances:
    m = len(rows)

    def plain(name: str) -> Any:
        return rows.column(name).to_numpy()

    def lists(name: str, *shape: int) -> Any:
        return _flat(rows.column(name)).reshape(m, *shape)

    return Instances(
        frame=frame, id=plain("id"), class_id=plain("class_id"),
        path=np.array(rows.column("path").to_pylist(), object),
        group=np.array(rows.column("group").to_pylist(), object),
        box_visible=lists("box_visible", 4), box_amodal=lists("box_amodal", 4),
        area_visible=plain("area_visible"), area_amodal=plain("area_amodal"),
        visible_fraction=plain("visible_fraction"), truncated_fraction=plain("truncated_fraction"),
        world_from_object=lists("world_from_object", 4, 4),
        camera_from_object=lists("camera_from_object", 4, 4),
        box3d_center=lists("box3d_center", 3), box3d_size=lists("box3d_size", 3),
        keypoints=_keypoints(rows), grounding=np.array(["inherited"] * m, object), confidence=confidence,
    )  # fmt: skip


def _keypoints(rows: pa.Table) -> InstanceKeypoints | None:
    if "keypoints" not in rows.column_names:
        return None
    names = rows.column("keypoint_names").to_pylist()
    triples = np.array([v for row in rows.column("keypoints").to_pylist() for v in row], np.float64).reshape(
        -1, 3
    )
    points = np.array([v for row in rows.column("keypoints_object").to_pylist() for v in row], np.float64)
    return InstanceKeypoints(
        start=np.cumsum([0, *(len(n) for n in names)]).astype(np.int64),
        name=np.array([n for row in names for n in row], object),
        point=points.reshape(-1, 3),
        xy=triples[:, :2],
        visibility=triples[:, 2].astype(np.uint8),
    )


def _amodal(texts: Sequence[str], size: tuple[int, int]) -> AmodalMasks:
    windows, data = np.zeros((len(texts), 4), np.int32), []
    for k, text in enumerate(texts):
        mask = rle.decode(text, size)
        y, x = np.nonzero(mask)
        if len(y):
            windows[k] = x.min(), y.min(), x.max() + 1, y.max() + 1
        x0, y0, x1, y1 = windows[k]
        data.append(mask[y0:y1, x0:x1].astype(np.uint8).ravel())
    start = np.cumsum([0, *(len(d) for d in data)]).astype(np.int64)
    return AmodalMasks(windows, start, np.concatenate([np.zeros(0, np.uint8), *data]))


def _cameras(frames: pa.Table) -> Cameras:
    n = len(frames)
    lens = None
    if "lens" in frames.column_names:
        kinds = np.array([LENSES.index(name) for name in frames.column("lens").to_pylist()], np.int32)
        lens = Lens(kinds, _flat(frames.column("lens_coefficients")).reshape(n, 8))
    k, world = (_flat(frames.column(c)).reshape(n, s, s) for c, s in (("K", 3), ("world_from_camera", 4)))
    return Cameras(k, world, np.full(n, np.nan), lens)


def _values(frames: pa.Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sampled values by leaf, and where each is there."""
    values: dict[str, Any] = {}
    active: dict[str, Any] = {}
    for field in frames.schema:
        if not is_leaf(field):
            continue
        column = frames.column(field.name).combine_chunks()
        active[field.name] = np.array(column.is_valid().to_pylist(), bool)
        if pa.types.is_fixed_size_list(field.type):
            width = field.type.list_size
            kind = field.type.value_type.to_pandas_dtype()
            flat = np.array([[0] * width if v is None else v for v in column.to_pylist()], kind)
            shape = (field.metadata or {}).get(b"shape")
            each = tuple(int(s) for s in shape.decode().split(",")) if shape else (width,)
            values[field.name] = flat.reshape(len(frames), *each)
        elif pa.types.is_string(field.type):
            values[field.name] = np.array([v or "" for v in column.to_pylist()], object)
        else:
            filled = column.fill_null(False if pa.types.is_boolean(field.type) else 0)
            values[field.name] = filled.to_numpy(zero_copy_only=False)
    return values, active


def _flat(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
