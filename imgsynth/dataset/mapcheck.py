"""Label maps checked against each other: depth and distance, object coordinates, flow, classes, segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgsynth.batch import I32
from imgsynth.dataset import codec, manifest
from imgsynth.dataset.panoptic import STEP, describe
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.selfcheck import Report
from imgsynth.errors import DataError

_DECODERS = {
    "mask": codec.decode_mask,
    "depth": codec.decode_depth,
    "normal": codec.decode_normal,
    "distance": codec.decode_distance,
    "albedo": codec.decode_shares,
    "nocs": codec.decode_shares,
    "flow_forward": codec.decode_flow,
    "flow_backward": codec.decode_flow,
    "panoptic": codec.decode_segments,
    "semantic": codec.decode_mask,
}


def decode(kind: str, data: bytes, size: tuple[int, int], name: str) -> Any:
    """The label map that a file of this kind holds. Raises DataError where it is damaged."""
    return _DECODERS[kind](data, size, name)


def check_maps(index: int, maps: dict[str, Any], report: Report) -> None:
    """Check those maps of one frame that need no table."""
    for kind in ("depth", "distance"):
        if kind in maps and not (maps[kind] > 0).all():
            report.add(f"{manifest.frame_file(kind, index)}: holds NaN or what is not in front of the camera")
    if "depth" in maps and "distance" in maps:
        depth, distance = maps["depth"], maps["distance"]
        if (np.isfinite(depth) != np.isfinite(distance)).any() or (distance < depth * (1 - 1e-6)).any():
            report.add(f"frame {index}: its distance is less than its depth, or not finite where that is")
    if "nocs" in maps and "mask" in maps and maps["nocs"][maps["mask"] == 0].any():
        report.add(f"{manifest.frame_file('nocs', index)}: not 0 off objects")
    for kind in ("flow_forward", "flow_backward"):
        if kind in maps:
            flow, occluded = maps[kind]
            if not np.isfinite(flow[~occluded]).all():
                report.add(f"{manifest.frame_file(kind, index)}: not finite where it is not occluded")


def check_classes(
    index: int,
    maps: dict[str, Any],
    rows: dict[str, Any],
    segments: list[dict[str, Any]] | None,
    classes: int,
    report: Report,
) -> None:
    """Check one frame's semantic map and segments against its mask and the rows of `instances.parquet`."""
    first, last = rows["start"][index - rows["first"] : index - rows["first"] + 2]
    class_of = np.zeros(manifest.MAX_ID + 1, np.int32)
    class_of[rows["id"][first:last]] = rows["class_id"][first:last]
    mask: I32 = maps["mask"]
    semantic = class_of[mask]
    if "semantic" in maps and not np.array_equal(maps["semantic"], semantic):
        report.add(f"{manifest.frame_file('semantic', index)}: is not the classes of the frame's mask")
    if "panoptic" not in maps:
        return
    ids, name = maps["panoptic"], manifest.frame_file("panoptic", index)
    things = np.where(semantic > 0, mask, 0)
    stuff = np.isin(ids, (STEP, 2 * STEP))
    if not np.array_equal(np.where(stuff, 0, ids), things) or not np.array_equal(stuff, mask == 0):
        report.add(f"{name}: its things are not the labelled instances of the frame's mask")
    elif segments is not None and segments != describe(ids, semantic, classes):
        report.add(f"{manifest.PANOPTIC}: frame {index}: its segments are not those of {name}")


def segments_by_frame(dataset: Dataset, report: Report) -> dict[int, list[dict[str, Any]]]:
    """Frame index → `segments_info` of `panoptic.json`; reports a frame that has none."""
    name = manifest.PANOPTIC
    try:
        data = manifest.parse((dataset.root / name).read_bytes(), name)
        out = {a["image_id"]: a["segments_info"] for a in data["annotations"]}
        files = [(a["image_id"], f"panoptic/{a['file_name']}") for a in data["annotations"]]
    except FileNotFoundError:
        return {}
    except (DataError, KeyError, TypeError) as e:
        report.add(f"{name}: not COCO: {e}" if not isinstance(e, DataError) else str(e))
        return {}
    if files != [(i, manifest.frame_file("panoptic", i)) for i in dataset.header.indices]:
        report.add(f"{name}: its annotations are not those of the frames of the dataset")
    return out
