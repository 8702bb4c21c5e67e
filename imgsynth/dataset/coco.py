"""`annotations.json`: the labelled, visible instances as COCO's "instances" form has them.

Beyond COCO's keys an annotation carries `instance_id`, `visible_fraction`, `truncated_fraction`,
`amodal_bbox` and `amodal_segmentation`; `iscrowd` is always 0, as every mask is of one object. Category ids
are class ids (from 1), image ids are frame indices, and an annotation's id is ``index · 65536 + instance
id``: a frame's annotations are the same bytes in every dataset that holds the frame. `file_name` is
relative to the dataset's folder. Where a class has keypoints its category names them, and its annotations
have `keypoints` in that order (0, 0, 0 where not in the frame) and `num_keypoints`, those in the frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from imgsynth.dataset.manifest import Header, dumps, frame_file


def annotation_lines(
    rows: pa.Table, size: tuple[int, int], keypoints: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """One JSON object a row of `instances.parquet` that is labelled and visible, in the rows' order.

    `keypoints` gives those of each class that has any.
    """
    column = {name: rows.column(name).to_pylist() for name in rows.column_names if "_object" not in name}
    shape = f'"size":[{size[0]},{size[1]}]'
    lines = []
    for k, area in enumerate(column["area_visible"]):
        if column["class_id"][k] == 0 or area == 0:
            continue
        frame, ident = column["frame"][k], column["id"][k]
        names = (keypoints or {}).get(column["class"][k])
        points = (
            "" if names is None else _keypoints(names, column["keypoint_names"][k], column["keypoints"][k])
        )
        lines.append(
            f'{{"id":{annotation_id(frame, ident)},"image_id":{frame},'
            f'"category_id":{column["class_id"][k]},'
            f'"bbox":{_xywh(column["box_visible"][k])},"area":{area},"iscrowd":0,'
            f'"segmentation":{{{shape},"counts":{json.dumps(column["rle_visible"][k])}}},"instance_id":{ident},'
            f'"visible_fraction":{column["visible_fraction"][k]!r},'
            f'"truncated_fraction":{column["truncated_fraction"][k]!r},'
            f'"amodal_bbox":{_xywh(column["box_amodal"][k])},'
            f'"amodal_segmentation":{{{shape},"counts":{json.dumps(column["rle_amodal"][k])}}}{points}}}'
        )
    return lines


def _keypoints(names: Sequence[str], have: Sequence[str], triples: Sequence[float]) -> str:
    values, count = coco_keypoints(names, have, triples)
    return f',"keypoints":{json.dumps(values)},"num_keypoints":{count}'


def coco_keypoints(
    names: Sequence[str], have: Sequence[str], triples: Sequence[float]
) -> tuple[list[float | int], int]:
    """COCO's (x, y, v) of the keypoints `names`, and how many have v > 0, from a row's `keypoint_names` and
    `keypoints`.
    """
    out: list[float | int] = []
    for name in names:
        k = have.index(name) if name in have else -1
        seen = int(triples[3 * k + 2]) if k >= 0 else 0
        out += [triples[3 * k], triples[3 * k + 1], seen] if seen else [0, 0, 0]
    return out, sum(v > 0 for v in out[2::3])


def annotation_id(frame: int, instance: int) -> int:
    """The annotation id of an instance: unique, positive, and a function of the frame alone."""
    return frame * 65536 + instance


def opening(header: Header) -> Iterator[str]:
    """The text before the annotations."""
    info = {"description": header.name, "version": header.versions.get("imgsynth", "")}
    licences = [
        {"id": k, "name": name, "url": ""} for k, name in enumerate(sorted(set(header.licences.values())), 1)
    ]
    categories = [
        {"id": k, "name": name, "supercategory": "", **_points_of(header, name)}
        for k, name in enumerate(header.classes, 1)
    ]
    yield f'{{"info":{dumps(info)},\n"licenses":{dumps(licences)},\n"categories":{dumps(categories)},\n'
    yield '"images":[\n'
    height, width = header.size
    for index in header.indices:
        comma = "" if index == header.start else ",\n"
        name = frame_file("image", index)
        yield f'{comma}{{"id":{index},"file_name":"{name}","height":{height},"width":{width}}}'
    yield '],\n"annotations":[\n'


def _points_of(header: Header, name: str) -> dict[str, list[str]]:
    names = header.keypoints.get(name)
    return {} if names is None else {"keypoints": list(names), "skeleton": []}


CLOSING = "]}\n"
SEPARATOR = ",\n"


def _xywh(box: list[float]) -> str:
    x0, y0, x1, y1 = box
    return f"[{x0!r},{y0!r},{x1 - x0!r},{y1 - y0!r}]"
