"""`panoptic.json` and the segments of `panoptic/*.png`, in COCO's panoptic form.

Things are the labelled instances: a segment's id is the instance's id, its category the class id. Stuff is
the ground and what is seen where nothing is hit: categories C + 1 and C + 2 after C classes, segments 65536
and 131072. Unlabelled objects are void (0). `file_name` of a segmentation is relative to the folder
`panoptic`, of an image to the dataset's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import I32
from imgsynth.dataset.manifest import KINDS, Header, dumps, frame_file
from imgsynth.frame import FrameBatch

STUFF = ("ground", "background")
STEP = 65536  # stuff k (from 1) has segment id k · STEP, above all instance ids
CLOSING = "]}\n"


def segments(batch: FrameBatch, k: int) -> I32:
    """(H, W) segment ids of batch position k."""
    ids = batch.buffers.instance[k]
    hit = np.isfinite(batch.buffers.depth[k])
    stuff = np.where(hit, STEP, 2 * STEP)
    return np.where(ids == 0, stuff, np.where(batch.semantic[k] > 0, ids, 0)).astype(np.int32)


def annotation_lines(batch: FrameBatch) -> list[str]:
    """One JSON object a frame: its file, and its segments by id."""
    out = []
    for k, index in enumerate(batch.indices.tolist()):
        ids = segments(batch, k)
        found = describe(ids, batch.semantic[k], len(batch.classes))
        name = frame_file("panoptic", index).removeprefix(f"{KINDS['panoptic'][0]}/")
        out.append(dumps({"image_id": index, "file_name": name, "segments_info": found}))
    return out


def describe(ids: I32, semantic: I32, classes: int) -> list[dict[str, Any]]:
    """`segments_info` of a frame: id, category, pixels and tight box (x, y, width, height), by id."""
    out = []
    for ident in np.unique(ids).tolist():
        if ident == 0:
            continue
        mask = ids == ident
        category = int(semantic[mask][0]) if ident < STEP else classes + ident // STEP
        out.append({"id": ident, "category_id": category, "iscrowd": 0, **_extent(mask)})
    return out


def _extent(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {"area": int(mask.sum()), "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]}


def opening(header: Header) -> Iterator[str]:
    """The text before the annotations."""
    info = {"description": header.name, "version": header.versions.get("imgsynth", "")}
    named = [(name, 1) for name in header.classes] + [(name, 0) for name in STUFF]
    categories = [
        {"id": k, "name": name, "supercategory": "", "isthing": thing}
        for k, (name, thing) in enumerate(named, 1)
    ]
    yield f'{{"info":{dumps(info)},\n"categories":{dumps(categories)},\n"images":[\n'
    height, width = header.size
    for index in header.indices:
        comma = "" if index == header.start else ",\n"
        name = frame_file("image", index)
        yield f'{comma}{{"id":{index},"file_name":"{name}","height":{height},"width":{width}}}'
    yield '],\n"annotations":[\n'
