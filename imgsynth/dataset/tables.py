"""The rows of `frames.parquet` and `instances.parquet`, and how fragments of them become one file.

`frames.parquet`, a row a frame: `index`, `seed`, `K` and `world_from_camera` (row-major), `sha256_<kind>`
of each of its files, then every leaf of the scene by its path, sorted (`is_leaf` tells them apart). A
vector is a fixed-size list (matrices flattened row by row, their shape in the column's metadata); null
where the leaf's slot is not in the frame. Where the scene has rules, `attempt` says how often the frame was
drawn again and `obeys_rules` whether it keeps them; where objects are dropped, `fell_away` and `still_moving`
count those left out for it and those not at rest, and `no_room` those left out of what flies or occludes.
Frames of a generator with filters have `dropped_<reason>`, how many draws of the frame were dropped for it,
and `score_<name>`, what the filters measured of the one that was kept (null where nothing was).

`instances.parquet`, a row an instance, unlabelled (class_id 0) and invisible ones too: see
`INSTANCE_COLUMNS`.

Row groups have a fixed number of rows, and each is written from contiguous memory, so the bytes don't
depend on the parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imgsynth.dataset import rle
from imgsynth.dataset.manifest import Header
from imgsynth.errors import DataError
from imgsynth.frame import FrameBatch, InstanceKeypoints

FRAME_ROWS, INSTANCE_ROWS = 8192, 32768  # a row group
GROUNDING = "render-exact"
DROPPED, SCORE = "dropped_", "score_"  # how columns of `frames.parquet` begin that filters fill
_LEAF = "leaf"  # metadata key of the columns that hold sampled values

INSTANCE_COLUMNS: dict[str, str] = {
    "frame": "frame index",
    "id": "instance id within the frame, as in its mask",
    "class_id": "1.. into the classes; 0 = unlabelled",
    "class": "its name, null where unlabelled",
    "path": "the object's place in the scene, objects.die[3]",
    "group": "the group it belongs to, die",
    "box_visible": "xyxy half-open pixels, tight on the visible mask; zeros where nothing is visible",
    "box_amodal": "xyxy of the whole object, also outside the frame",
    "area_visible": "pixels",
    "area_amodal": "pixels inside the frame",
    "visible_fraction": "area_visible / area_amodal",
    "truncated_fraction": "share of the whole silhouette outside the frame",
    "world_from_object": "4×4 pose, row by row",
    "camera_from_object": "4×4 pose, row by row",
    "box3d_center": "object frame, metres",
    "box3d_size": "object frame, metres",
    "rle_visible": "COCO's compressed RLE of the visible mask",
    "rle_amodal": "of the in-frame amodal mask",
    "grounding": "what the labels rest on",
    "confidence": "1 where they are exact, null where nothing measured it",
}

LENSES = ("pinhole", "brown_conrady", "fisheye")
"""Column `lens` of scenes with one; `lens_coefficients` are eight numbers in OpenCV's order."""
# Further columns of datasets whose scenes name keypoints.
KEYPOINT_COLUMNS: dict[str, str] = {
    "keypoint_names": "of the object's keypoints",
    "keypoints": "x, y, visibility of each: pixels, also outside the frame (NaN behind the camera); "
    "0 not in the frame, 1 in it and hidden, 2 visible",
    "keypoints_object": "x, y, z of each: object frame, metres",
}


def frames_table(header: Header, batch: FrameBatch, digests: Mapping[str, Sequence[bytes]]) -> pa.Table:
    """A row a frame of the batch; `digests` holds the SHA-256 of each frame's file by kind."""
    n = len(batch)
    columns: dict[str, tuple[pa.Array, dict[str, str] | None]] = {
        "index": (pa.array(batch.indices, pa.int64()), None),
        "seed": (pa.array(np.full(n, header.seed), _seed_type(header.seed)), None),
        "K": (_lists(batch.cameras.k.astype(np.float64)), {"shape": "3,3"}),
        "world_from_camera": (_lists(batch.cameras.world_from_camera.astype(np.float64)), {"shape": "4,4"}),
    }
    for name, count in batch.report.items():
        columns[name] = (pa.array(count, pa.int32()), None)
    if batch.cameras.lens is not None:
        names = pa.array([LENSES[kind] for kind in batch.cameras.lens.kind.tolist()], pa.string())
        columns["lens"] = (names, None)
        columns["lens_coefficients"] = (_lists(batch.cameras.lens.coefficients.astype(np.float64)), None)
    if batch.attempt is not None and batch.obeys is not None:
        columns["attempt"] = (pa.array(batch.attempt, pa.int32()), None)
        columns["obeys_rules"] = (pa.array(batch.obeys, pa.bool_()), None)
    for name, score in batch.scores.items():
        columns[f"{SCORE}{name}"] = (_measured(score), None)
    for kind in header.kinds:
        columns[f"sha256_{kind}"] = (pa.array(digests[kind], pa.binary(32)), None)
    for path in sorted(batch.values, key=_natural):
        if path in columns:
            raise DataError(f"a scene's leaf may not be called {path!r}: frames.parquet has such a column")
        values = np.asarray(batch.values[path])
        active = np.asarray(batch.active[path], bool) if path in batch.active else np.ones(n, bool)
        if len(values) != n or len(active) != n:
            raise DataError(f"{path}: expected a value for each of {n} frames, got {len(values)}")
        shape = {"shape": ",".join(map(str, values.shape[1:]))} if values.ndim > 2 else {}
        columns[path] = (_column(values, active), {_LEAF: "1", **shape})
    schema = pa.schema([pa.field(k, a.type, metadata=m) for k, (a, m) in columns.items()])
    return pa.Table.from_arrays([a for a, _ in columns.values()], schema=schema)


def instances_table(batch: FrameBatch) -> pa.Table:
    """A row an instance, by frame and id, with the RLE of both masks. Refuses an id that has no row."""
    rows = batch.instances
    frame = rows.frame.astype(np.int64)
    if (np.diff(frame * 2**20 + rows.id) <= 0).any():
        raise DataError("instances must be sorted by frame and id, each id once")
    names = np.array([None, *batch.classes], object)
    visible = rle.encode_instances(batch.buffers.instance, rows.frame, rows.id)
    amodal = rle.encode_amodal(batch.buffers.amodal, batch.size)
    columns = {
        "frame": pa.array(batch.indices[frame], pa.int64()),
        "id": pa.array(rows.id, pa.int32()),
        "class_id": pa.array(rows.class_id, pa.int32()),
        "class": pa.array(names[rows.class_id], pa.string()),
        "path": pa.array(rows.path, pa.string()),
        "group": pa.array(rows.group, pa.string()),
        "box_visible": _lists(rows.box_visible),
        "box_amodal": _lists(rows.box_amodal),
        "area_visible": pa.array(rows.area_visible, pa.int64()),
        "area_amodal": pa.array(rows.area_amodal, pa.int64()),
        "visible_fraction": pa.array(rows.visible_fraction, pa.float64()),
        "truncated_fraction": pa.array(rows.truncated_fraction, pa.float64()),
        "world_from_object": _lists(rows.world_from_object),
        "camera_from_object": _lists(rows.camera_from_object),
        "box3d_center": _lists(rows.box3d_center),
        "box3d_size": _lists(rows.box3d_size),
        "rle_visible": _texts(visible),
        "rle_amodal": _texts(amodal),
        "grounding": pa.array(
            [GROUNDING] * len(rows) if rows.grounding is None else rows.grounding, pa.string()
        ),
        "confidence": _measured(np.ones(len(rows)) if rows.confidence is None else rows.confidence),
    }
    assert list(columns) == list(INSTANCE_COLUMNS)
    if rows.keypoints is not None:
        columns |= _keypoint_columns(rows.keypoints)
    return pa.table(columns)


def rule_counts(paths: Sequence[Path]) -> dict[str, int] | None:
    """Over all fragments of `frames.parquet`: frames drawn again, frames drawn in all, and frames that break
    the scene's rules nevertheless; None where it has none.
    """
    again = drawn = broken = 0
    for path in paths:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            if "attempt" not in table.column_names:
                return None
            attempt = table.column("attempt").to_numpy()
            again, drawn = again + int((attempt > 0).sum()), drawn + int((attempt + 1).sum())
            broken += len(table) - int(pa.compute.sum(table.column("obeys_rules")).as_py())
    return {"drawn_again": again, "draws": drawn, "broken": broken}


def drop_counts(paths: Sequence[Path]) -> dict[str, int] | None:
    """Over all fragments of `frames.parquet`: draws in all (`drawn`), and those dropped for each reason; None
    where nothing filtered them.
    """
    counts: dict[str, int] = {}
    for path in paths:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            for name in (c for c in table.column_names if c.startswith(DROPPED)):
                lost = int(pa.compute.sum(table.column(name)).as_py() or 0)
                counts[name.removeprefix(DROPPED)] = counts.get(name.removeprefix(DROPPED), 0) + lost
            counts["drawn"] = counts.get("drawn", 0) + len(table)
    if len(counts) == 1:
        return None
    return {"drawn": sum(counts.values())} | {k: counts[k] for k in sorted(counts) if k != "drawn"}


def _keypoint_columns(points: InstanceKeypoints) -> dict[str, pa.Array]:
    """`KEYPOINT_COLUMNS`: lists of as many entries as an instance has keypoints, or three times that."""
    start = points.start.astype(np.int32)
    triples = np.concatenate([points.xy, points.visibility[:, None]], 1)
    columns = {
        "keypoint_names": pa.ListArray.from_arrays(start, pa.array(points.name, pa.string())),
        "keypoints": pa.ListArray.from_arrays(3 * start, pa.array(triples.ravel(), pa.float64())),
        "keypoints_object": pa.ListArray.from_arrays(3 * start, pa.array(points.point.ravel(), pa.float64())),
    }
    assert list(columns) == list(KEYPOINT_COLUMNS)
    return columns


def write_fragment(path: Path, table: pa.Table) -> None:
    """An uncompressed Arrow file, quick to write and to read back."""
    with open(path, "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)


def merge_fragments(paths: Sequence[Path], out: IO[bytes], rows: int) -> int:
    """Write the fragments' rows, in order, as one parquet file of `rows` rows a group; returns their number.

    Memory holds one row group and one fragment, however many there are.
    """
    schema = _common_schema(paths)
    total = 0
    with pq.ParquetWriter(out, schema, compression="zstd", write_page_index=False) as writer:
        for group in _regroup((_read_fragment(p, schema) for p in paths), rows):
            writer.write_table(group, row_group_size=rows)
            total += len(group)
    return total


def _regroup(tables: Iterable[pa.Table], rows: int) -> Iterable[pa.Table]:
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += len(table)
        if held >= rows:
            whole = pa.concat_tables(waiting)
            full = held - held % rows
            for first in range(0, full, rows):
                yield whole.slice(first, rows).combine_chunks()
            waiting, held = [whole.slice(full)], held - full
    if held:
        yield pa.concat_tables(waiting).combine_chunks()


def _common_schema(paths: Sequence[Path]) -> pa.Schema:
    """The union of the fragments' columns, ordered as one fragment with all of them would be."""
    schemas: list[pa.Schema] = []
    for path in paths:
        with pa.memory_map(str(path)) as source:
            schema = pa.ipc.open_file(source).schema
        if schema not in schemas:
            schemas.append(schema)
    if len(schemas) == 1:
        return schemas[0]
    try:
        union = pa.unify_schemas(schemas)
    except pa.ArrowInvalid as e:
        raise DataError(f"the parts disagree on a column's type: {e}") from None
    leaves = [f for f in union if is_leaf(f)]
    return pa.schema([f for f in union if not is_leaf(f)] + sorted(leaves, key=lambda f: _natural(f.name)))


def is_leaf(field: pa.Field) -> bool:
    """Whether a column of `frames.parquet` holds a sampled value, not bookkeeping."""
    return bool(field.metadata) and _LEAF.encode() in field.metadata


def _read_fragment(path: Path, schema: pa.Schema) -> pa.Table:
    with open(path, "rb") as file:
        table = pa.ipc.open_file(file).read_all()
    if table.schema == schema:
        return table
    arrays = [
        table.column(f.name) if f.name in table.column_names else pa.nulls(len(table), f.type) for f in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: NDArray[Any], active: NDArray[np.bool_]) -> pa.Array:
    if values.ndim > 1:
        return _lists(values, ~active)
    if values.dtype.kind in "OU":
        return pa.array([str(v) if a else None for v, a in zip(values, active, strict=True)], pa.string())
    return pa.array(values, mask=~active)


def _lists(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """(n, …) → fixed-size lists, row by row."""
    flat = np.ascontiguousarray(values).reshape(-1)
    mask = None if missing is None else pa.array(missing)
    items = pa.array(flat, type=pa.from_numpy_dtype(flat.dtype))
    return pa.FixedSizeListArray.from_arrays(items, int(np.prod(values.shape[1:])), mask=mask)


def _measured(values: NDArray[np.float64]) -> pa.Array:
    """Numbers, null where NaN."""
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def _texts(texts: rle.RleTexts) -> pa.Array:
    offsets = texts.start.astype(np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(texts.data))


def _seed_type(seed: int) -> pa.DataType:
    if not -(2**63) <= seed < 2**64:
        raise DataError(f"seed {seed} does not fit 64 bits")
    return pa.uint64() if seed >= 2**63 else pa.int64()


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort key that puts die[2] before die[10]."""
    return [(int(t), "") if t.isdigit() else (-1, t) for t in re.split(r"(\d+)", path)]
