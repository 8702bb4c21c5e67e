"""BOP's form for 6-D poses: one scene `train/000000` with `rgb`, `mask`, `mask_visib` and, where the dataset
has it, `depth`; `scene_gt.json`, `scene_gt_info.json`, `scene_camera.json`.

`obj_id` is the class id; poses take the object's frame to the camera's, millimetres, the instance's scale
left out. Rows are the labelled objects of which a pixel would lie in the frame. Depth is 16 bit along camera
z, in units of the frame's `depth_scale` (millimetres; the finest of 0.1, 1, 10 … that holds the farthest), 0
where nothing is hit. Writes no models: the meshes are the scene's own. Holds no pictures of a lens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.dataset import codec, manifest
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.rle import decode
from imgsynth.formats.coco import copy_images
from imgsynth.formats.rows import pinhole_cameras

MOST = 65535


def write(dataset: Dataset, folder: Path) -> None:
    """Copy the images, write masks and depth, and the three tables. Raises DataError at a lens."""
    root = folder / "train" / "000000"
    copy_images(dataset, root / "rgb")
    with_depth = "depth" in dataset.header.kinds
    for name in ("mask", "mask_visib", *(["depth"] if with_depth else [])):
        (root / name).mkdir()
    tables: dict[str, dict[str, Any]] = {"scene_gt": {}, "scene_gt_info": {}, "scene_camera": {}}
    cameras = pinhole_cameras(dataset)
    for i in range(len(dataset)):
        key, stem = str(dataset.header.start + i), dataset.path("image", i).stem
        rows = [r for r in dataset.instances_of(i).to_pylist() if r["class_id"] > 0 and r["area_amodal"] > 0]
        tables["scene_gt"][key] = [_pose(row) for row in rows]
        tables["scene_gt_info"][key] = [_extent(row) for row in rows]
        camera = _camera(*cameras[i])
        if with_depth:
            levels, camera["depth_scale"] = scaled_depth(dataset.depth(i))
            (root / "depth" / f"{stem}.png").write_bytes(codec.encode_mask(levels))
        tables["scene_camera"][key] = camera
        for k, row in enumerate(rows):
            for name, column in (("mask", "rle_amodal"), ("mask_visib", "rle_visible")):
                mask = decode(row[column], dataset.size).astype(np.uint8) * 255
                (root / name / f"{stem}_{k:06d}.png").write_bytes(codec.encode_image(mask[:, :, None]))
    for name, table in tables.items():
        (root / f"{name}.json").write_text(manifest.dumps(table, indent=1) + "\n", encoding="utf-8")


def scaled_depth(depth: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float]:
    """16-bit levels of a depth map in metres, and the millimetres of a level."""
    millimetres = np.where(np.isfinite(depth), depth.astype(np.float64) * 1000, 0.0)
    scale = 0.1
    while millimetres.max(initial=0.0) / scale > MOST:
        scale = round(scale * 10, 1)
    return np.rint(millimetres / scale).astype(np.uint16), scale


def _pose(row: dict[str, Any]) -> dict[str, Any]:
    pose = np.reshape(row["camera_from_object"], (4, 4))
    place = [float(v) for v in pose[:3, 3] * 1000]
    turn = [float(v) for v in pose[:3, :3].ravel()]
    return {"cam_R_m2c": turn, "cam_t_m2c": place, "obj_id": row["class_id"]}


def _extent(row: dict[str, Any]) -> dict[str, Any]:
    def xywh(box: list[float], grow: bool) -> list[int]:
        low, high = np.array(box[:2]), np.array(box[2:])
        low, high = (np.floor(low), np.ceil(high)) if grow else (low, high)
        return [int(v) for v in (*low, *(high - low))]

    whole = round(row["area_amodal"] / max(1.0 - row["truncated_fraction"], 1e-9))
    return {
        "bbox_obj": xywh(row["box_amodal"], True),
        "bbox_visib": xywh(row["box_visible"], False) if row["area_visible"] else [-1, -1, -1, -1],
        "px_count_all": whole,
        "px_count_valid": row["area_amodal"],
        "px_count_visib": row["area_visible"],
        "visib_fract": row["area_visible"] / max(whole, 1),
    }


def _camera(k: NDArray[Any], pose: NDArray[Any]) -> dict[str, Any]:
    rotation = pose[:3, :3].T
    return {
        "cam_K": [float(v) for v in k.ravel()],
        "cam_R_w2c": [float(v) for v in rotation.ravel()],
        "cam_t_w2c": [float(v) for v in -rotation @ pose[:3, 3] * 1000],
    }
