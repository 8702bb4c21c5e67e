"""KITTI's object form: `training/image_2`, `label_2` and `calib`, with 2-D and, where it can, 3-D boxes.

Class names are one word (spaces become underscores). A label's 2-D box is that of the whole object, cut at
the image's border; `truncated` the share of its silhouette outside; `occluded` 0, 1 or 2 where at least 95 %,
at least half, or less of the rest is seen.

KITTI turns 3-D boxes about the camera's y axis alone: an object none of whose axes lies within `LEVEL_DEG` of
that axis gets KITTI's values for "unknown" (-1, -1000, -10). Its height is along that axis, its length along
the one after it (x after z), and `location` is the middle of its bottom, in the camera's frame, metres.

All P matrices are [K | 0]; `Tr_velo_to_cam` takes the scene's own frame to the camera's. Loses masks, poses
of tilted objects and sampled values; holds no pictures of a lens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError
from imgsynth.formats.coco import copy_images
from imgsynth.formats.rows import pinhole_cameras, visible_rows

LEVEL_DEG = 1.0
_UNKNOWN = [-1.0, -1.0, -1.0, -1000.0, -1000.0, -1000.0]
_COLUMNS = ("box_amodal", "camera_from_object", "box3d_center", "box3d_size")


def write(dataset: Dataset, folder: Path) -> None:
    """One label and one calibration file a frame. Raises DataError at a lens, or classes alike as words."""
    words = {name: one_word(name) for name in dataset.classes}
    if twice := [name for name in words if [*words.values(), "DontCare"].count(words[name]) > 1]:
        raise DataError(f"class {twice[0]!r}: as one word it is {words[twice[0]]!r}, which is taken")
    root = folder / "training"
    copy_images(dataset, root / "image_2")
    for name in ("label_2", "calib"):
        (root / name).mkdir()
    cameras = pinhole_cameras(dataset)
    for i, rows in enumerate(visible_rows(dataset, *_COLUMNS)):
        name = f"{dataset.path('image', i).stem}.txt"
        lines = [f"{label_line(row, dataset.size)}\n" for row in rows]
        (root / "label_2" / name).write_text("".join(lines), encoding="utf-8")
        (root / "calib" / name).write_text(_calibration(*cameras[i]), encoding="utf-8")


def one_word(name: str) -> str:
    """A class name as KITTI's lines can hold it: its words joined by underscores."""
    return "_".join(name.split()) or "_"


def label_line(row: dict[str, Any], size: tuple[int, int]) -> str:
    """type, truncated, occluded, alpha, 2-D box, height, width, length, location, rotation_y."""
    limit = [size[1], size[0]] * 2
    box = np.clip(row["box_amodal"], 0, limit)
    seen = row["visible_fraction"]
    occluded = 0 if seen >= 0.95 else 1 if seen >= 0.5 else 2
    solid, turn = upright_box(
        np.reshape(row["camera_from_object"], (4, 4)),
        np.array(row["box3d_center"]),
        np.array(row["box3d_size"]),
    )
    alpha = -10.0 if solid is _UNKNOWN else _wrapped(turn - np.arctan2(solid[3], solid[5]))
    numbers = [*box, *solid, turn]
    text = " ".join(f"{v:.4f}" for v in numbers)
    return f"{one_word(row['class'])} {row['truncated_fraction']:.4f} {occluded} {alpha:.4f} {text}"


def upright_box(pose: NDArray[Any], center: NDArray[Any], size: NDArray[Any]) -> tuple[list[float], float]:
    """[height, width, length, x, y, z] and rotation_y of a box upright in the camera's frame, or unknown."""
    rotation = pose[:3, :3]
    up = int(np.argmax(np.abs(rotation[1])))
    if np.abs(rotation[1, up]) < np.cos(np.radians(LEVEL_DEG)):
        return _UNKNOWN, -10.0
    along, across = (up + 1) % 3, (up + 2) % 3
    middle = rotation @ center + pose[:3, 3]
    bottom = middle + np.array([0.0, size[up] / 2, 0.0])
    turn = np.arctan2(-rotation[2, along], rotation[0, along])
    return [float(v) for v in (size[up], size[across], size[along], *bottom)], float(turn)


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def _calibration(k: NDArray[Any], world_from_camera: NDArray[Any]) -> str:
    projection = np.c_[k, np.zeros(3)]
    rotation = world_from_camera[:3, :3].T
    to_camera = np.c_[rotation, -rotation @ world_from_camera[:3, 3]]
    entries = {f"P{i}": projection for i in range(4)}
    entries |= {"R0_rect": np.eye(3), "Tr_velo_to_cam": to_camera, "Tr_imu_to_velo": np.eye(3, 4)}
    return "".join(f"{name}: {' '.join(f'{v:.12e}' for v in m.ravel())}\n" for name, m in entries.items())
