"""KITTI and BOP files, read by their own rules, put boxes and poses where the labels are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_generate import SMALL

from imgsynth import generate
from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError
from imgsynth.formats import export
from imgsynth.formats.bop import scaled_depth

LEVEL = ["objects.cube.count=2", "objects.cube.place.rotation=null", "camera.elevation_deg=0"]
LEVEL += ["objects.cube.place.yaw_deg={uniform: [0, 360]}", "camera.target=[0, 0, 0.1]", "camera.distance=2"]


@pytest.fixture(scope="module")
def level(tmp_path_factory) -> Dataset:
    root = tmp_path_factory.mktemp("level") / "set"
    return Dataset(generate.render(SMALL, 12, root, seed=1, start=3, workers=1, sets=LEVEL))


def corners(height, width, length, place, turn) -> np.ndarray:
    """KITTI's 3-D box as its development kit builds it: (8, 3) in the camera's frame."""
    x = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    y = np.array([0, 0, 0, 0, -1, -1, -1, -1]) * height
    z = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * width / 2
    c, s = np.cos(turn), np.sin(turn)
    return (np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ [x, y, z]).T + place


def kitti(root: Path, name: str):
    lines = [line.split() for line in (root / "training/label_2" / f"{name}.txt").read_text().splitlines()]
    calib = dict(
        line.split(": ") for line in (root / "training/calib" / f"{name}.txt").read_text().splitlines()
    )
    return lines, {k: np.array(v.split(), float).reshape(3, -1) for k, v in calib.items()}


def test_kitti_boxes_have_the_corners_of_the_objects(level, tmp_path) -> None:
    export(level, "kitti", tmp_path / "kitti")
    solid = 0
    for i in range(len(level)):
        name = f"{3 + i:06d}"
        lines, calib = kitti(tmp_path / "kitti", name)
        rows = [r for r in level.instances_of(i).to_pylist() if r["class_id"] and r["area_visible"]]
        assert [line[0] for line in lines] == [r["class"] for r in rows]
        assert (tmp_path / "kitti/training/image_2" / f"{name}.png").is_file()
        for line, row in zip(lines, rows, strict=True):
            alpha, *box = (float(v) for v in line[3:8])
            np.testing.assert_allclose(box, np.clip(row["box_amodal"], 0, [56, 40] * 2), atol=1e-4)
            np.testing.assert_allclose(float(line[1]), row["truncated_fraction"], atol=1e-4)
            h, w, length, x, y, z, turn = (float(v) for v in line[8:])
            if row["class"] != "cube":
                continue
            solid += 1
            got = corners(h, w, length, [x, y, z], turn)
            pose = np.reshape(row["camera_from_object"], (4, 4))
            signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
            local = row["box3d_center"] + signs * np.array(row["box3d_size"]) / 2
            expected = local @ pose[:3, :3].T + pose[:3, 3]
            gap = np.linalg.norm(got[:, None] - expected, axis=-1)
            assert gap.min(0).max() < 5e-4 and gap.min(1).max() < 5e-4
            assert np.isclose(np.cos(alpha), np.cos(turn - np.arctan2(x, z)), atol=1e-3)
            # A box's corners are the object's own: their projection has its amodal box.
            pixel = np.c_[got, np.ones(8)] @ calib["P2"].T
            pixel = pixel[:, :2] / pixel[:, 2:]
            np.testing.assert_allclose([*pixel.min(0), *pixel.max(0)], row["box_amodal"], atol=0.05)
            world = np.reshape(row["world_from_object"], (4, 4))[:3, 3]
            np.testing.assert_allclose(calib["Tr_velo_to_cam"] @ [*world, 1], pose[:3, 3], atol=1e-9)
    assert solid > 10


def test_kitti_says_unknown_of_tilted_boxes_and_refuses_classes_alike_as_words(tmp_path) -> None:
    root = generate.render(
        SMALL, 3, tmp_path / "set", workers=1, sets=["objects.cube.count=2", "camera.elevation_deg=40"]
    )
    export(Dataset(root), "kitti", tmp_path / "kitti")
    lines = [line for i in range(3) for line in kitti(tmp_path / "kitti", f"{i:06d}")[0]]
    assert lines
    for line in lines:
        assert [float(v) for v in (line[3], *line[8:])] == [-10, -1, -1, -1, -1000, -1000, -1000, -10]
    spaced = SMALL.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    spaced |= {"classes": ["the ball", "the_ball", "cube"]}
    spaced["objects"]["ball"]["class"] = "the ball"
    root = generate.render(type(SMALL).model_validate(spaced), 1, tmp_path / "spaced", workers=1)
    with pytest.raises(DataError, match="class 'the ball': as one word it is 'the_ball', which is taken"):
        export(Dataset(root), "kitti", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_bop_poses_masks_and_depth_agree_with_each_other(level, tmp_path) -> None:
    export(level, "bop", tmp_path / "bop")
    root = tmp_path / "bop/train/000000"
    poses, info, cameras = (
        json.loads((root / f"{name}.json").read_text())
        for name in ("scene_gt", "scene_gt_info", "scene_camera")
    )
    assert list(poses) == sorted(map(str, range(3, 15)))
    seen = 0
    for i in range(len(level)):
        key, stem = str(3 + i), f"{3 + i:06d}"
        camera = cameras[key]
        depth = cv2.imread(str(root / "depth" / f"{stem}.png"), cv2.IMREAD_UNCHANGED) * camera["depth_scale"]
        hit = np.isfinite(level.depth(i))
        np.testing.assert_allclose(depth[hit], level.depth(i)[hit] * 1000, atol=camera["depth_scale"] * 0.51)
        assert not depth[~hit].any()
        for k, (pose, extent) in enumerate(zip(poses[key], info[key], strict=True)):
            whole, visible = (
                cv2.imread(str(root / name / f"{stem}_{k:06d}.png"), cv2.IMREAD_UNCHANGED)
                for name in ("mask", "mask_visib")
            )
            assert set(np.unique(whole)) <= {0, 255} and not ((visible > 0) & (whole == 0)).any()
            assert extent["px_count_visib"] == (visible > 0).sum()
            assert extent["px_count_valid"] == (whole > 0).sum() <= extent["px_count_all"]
            assert 0 <= extent["visib_fract"] <= 1
            if not visible.any():
                assert extent["bbox_visib"] == [-1] * 4
                continue
            seen += 1
            y, x = np.nonzero(visible)
            assert extent["bbox_visib"] == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
            # The model's centre, put in place by the pose, projects into its whole box.
            point = np.reshape(camera["cam_K"], (3, 3)) @ pose["cam_t_m2c"]
            bx, by, bw, bh = extent["bbox_obj"]
            assert bx <= point[0] / point[2] <= bx + bw and by <= point[1] / point[2] <= by + bh
    assert seen > 20


def test_depth_takes_the_finest_scale_that_holds_it() -> None:
    for far, scale in [(6.0, 0.1), (6.6, 1.0), (80.0, 10.0)]:
        levels, got = scaled_depth(np.array([[far, np.inf]], np.float32))
        assert got == scale and levels[0, 1] == 0
        assert abs(levels[0, 0] * scale - far * 1000) <= scale / 2 + 1e-3
