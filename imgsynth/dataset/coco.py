"""`annotations.json`: the labelled, visible instances as COCO's "instances" form has them.

Beyond COCO's keys an annotation carries `instance_id`, `visible_fraction`, `truncated_fraction`,
`amodal_bbox` and `amodal_segmentation`; `iscrowd` is always 0, as every mask is of one object. Category ids
are class ids (from 1), image ids are frame indices, and an annotation's id is ``index · 65536 + instance
id``: a frame's annotations are the same bytes in every dataset that holds the frame. `file_name` is
relative to the dataset's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from imgsynth.dataset.manifest import Header, dumps, frame_file


def annotation_lines(rows: pa.Table, size: tuple[int, int]) -> list[str]:
    """One JSON object a row of `instances.parquet` that is labelled and visible, in the rows' order."""
    column = {name: rows.column(name).to_pylist() for name in rows.column_names if "object" not in name}
    shape = f'"size":[{size[0]},{size[1]}]'
    lines = []
    for k, area in enumerate(column["area_visible"]):
        if column["class_id"][k] == 0 or area == 0:
            continue
        frame, ident = column["frame"][k], column["id"][k]
        lines.append(
            f'{{"id":{annotation_id(frame, ident)},"image_id":{frame},'
            f'"category_id":{column["class_id"][k]},'
            f'"bbox":{_xywh(column["box_visible"][k])},"area":{area},"iscrowd":0,'
            f'"segmentation":{{{shape},"counts":{json.dumps(column["rle_visible"][k])}}},"instance_id":{ident},'
            f'"visible_fraction":{column["visible_fraction"][k]!r},'
            f'"truncated_fraction":{column["truncated_fraction"][k]!r},'
            f'"amodal_bbox":{_xywh(column["box_amodal"][k])},'
            f'"amodal_segmentation":{{{shape},"counts":{json.dumps(column["rle_amodal"][k])}}}}}'
        )
    return lines


def annotation_id(frame: int, instance: int) -> int:
    """The annotation id of an instance: unique, positive, and a function of the frame alone."""
    return frame * 65536 + instance


def opening(header: Header) -> Iterator[str]:
    """The text before the annotations."""
    info = {"description": header.name, "version": header.versions.get("imgsynth", "")}
    licences = [
        {"id": k, "name": name, "url": ""} for k, name in enumerate(sorted(set(header.licences.values())), 1)
    ]
    categories = [{"id": k, "name": name, "supercategory": ""} for k, name in enumerate(header.classes, 1)]
    yield f'{{"info":{dumps(info)},\n"licenses":{dumps(licences)},\n"categories":{dumps(categories)},\n'
    yield '"images":[\n'
    height, width = header.size
    for index in header.indices:
        comma = "" if index == header.start else ",\n"
        name = frame_file("image", index)
        yield f'{comma}{{"id":{index},"file_name":"{name}","height":{height},"width":{width}}}'
    yield '],\n"annotations":[\n'


CLOSING = "]}\n"
SEPARATOR = ",\n"


def _xywh(box: list[float]) -> str:
    x0, y0, x1, y1 = box
    return f"[{x0!r},{y0!r},{x1 - x0!r},{y1 - y0!r}]"
