"""Distance, object coordinates, segments and their files: against poses, geometry and each other."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO
from test_generate import SMALL

from imgsynth import generate, scenefile
from imgsynth.dataset import codec, panoptic
from imgsynth.dataset.mapcheck import check_maps
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.selfcheck import Report
from imgsynth.dataset.verify import verify
from imgsynth.errors import DataError, SceneError
from imgsynth.render.raster import RasterRenderer

CUBES = "[left_front_bottom, right_back_top]"
SETS = [
    "outputs=[depth,distance,nocs,panoptic,semantic]",
    f"objects.cube.keypoints={CUBES}",
    "objects.prop.keypoints=all",
    "objects.cube.count=2",
]
COUNT = 8


@pytest.fixture(scope="module")
def frames():
    return generate.frames(scenefile.load(SMALL, sets=SETS), 4, range(COUNT))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return generate.render(
        SMALL, COUNT, tmp_path_factory.mktemp("maps") / "set", seed=4, workers=1, sets=SETS
    )


def rays(frames, i: int) -> np.ndarray:
    """(H, W, 3) rays of pixel centres by solving with K, in the camera's frame, z = 1."""
    height, width = frames.size
    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return np.linalg.solve(frames.cameras.k[i], pixels).T.reshape(height, width, 3)


def test_distance_is_the_length_of_the_ray_to_what_is_seen(frames) -> None:
    for i in range(COUNT):
        depth = frames.buffers.depth[i].astype(np.float64)
        expected = np.linalg.norm(rays(frames, i), axis=-1) * depth
        np.testing.assert_allclose(frames.distance[i], expected, rtol=2e-7)


def test_object_coordinates_are_on_the_surface_and_project_to_their_pixels(frames) -> None:
    rows, balls, cubes = frames.instances, 0, 0
    for k in range(len(rows)):
        i = rows.frame[k]
        mask = frames.buffers.instance[i] == rows.id[k]
        if not mask.any():
            continue
        local = (frames.nocs[i][mask] - 0.5) * rows.box3d_size[k] + rows.box3d_center[k]
        # Back into the image, by matrices of 4×4.
        m = np.linalg.inv(frames.cameras.world_from_camera[i]) @ rows.world_from_object[k]
        camera = (m @ np.c_[local, np.ones(len(local))].T).T[:, :3]
        pixel = camera @ frames.cameras.k[i].T
        y, x = np.nonzero(mask)
        np.testing.assert_allclose(pixel[:, :2] / pixel[:, 2:], np.c_[x, y] + 0.5, atol=1e-3)
        np.testing.assert_allclose(camera[:, 2], frames.buffers.depth[i][mask], rtol=1e-5)
        if rows.group[k] == "cube":
            cubes += 1
            np.testing.assert_allclose(np.abs(frames.nocs[i][mask] - 0.5).max(1), 0.5, atol=1e-4)
        if rows.group[k] == "ball":
            balls += 1
            radius = np.linalg.norm(frames.nocs[i][mask] - 0.5, axis=1)
            assert (radius <= 0.5 + 1e-5).all() and (radius > 0.5 * 0.97).all()  # facets of a sphere
    assert balls > 5 and cubes > 5
    assert not frames.nocs[frames.buffers.instance == 0].any()


def test_a_flat_object_has_a_half_along_the_axis_it_does_not_reach() -> None:
    spec = SMALL.model_copy(update={"objects": {}})
    scene = scenefile.load(
        spec, sets=["outputs=[nocs]", "objects.sheet={shape: {quad: {width: 1, height: 1}}}"]
    )
    made = generate.frames(scene, 0, [0])
    shown = made.nocs[0][made.buffers.instance[0] == 1]
    assert len(shown) > 20 and (shown[:, 2] == 0.5).all() and np.ptp(shown[:, 0]) > 0.1


def test_files_read_back_and_the_dataset_is_sound(made, frames) -> None:
    report = verify(made)
    assert report.ok, report.problems
    data = Dataset(made)
    for i in range(COUNT):
        np.testing.assert_array_equal(data.distance(i), frames.distance[i])
        np.testing.assert_allclose(data.nocs(i), frames.nocs[i], atol=8e-6)
        np.testing.assert_array_equal(data.panoptic(i), panoptic.segments(frames, i))
        semantic = codec.decode_mask(data.path("semantic", i).read_bytes(), data.size, "semantic")
        np.testing.assert_array_equal(semantic, frames.semantic[i])
        np.testing.assert_array_equal(data.semantic_mask(i), frames.semantic[i])
    labels = data.header.labels
    assert set(SETS[0][9:-1].split(",")) | {"mask", "keypoints"} <= set(labels)
    assert all(entry["grounding"] == "render-exact" for entry in labels.values())


def test_the_same_bytes_in_other_parts(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(generate, "PIXELS_PER_PART", 3 * 40 * 56 * 5)
    other = generate.render(SMALL, COUNT, tmp_path / "set", seed=4, workers=1, sets=SETS)
    for file in made.rglob("*"):
        if file.is_file() and file.name != "dataset.json":
            assert file.read_bytes() == (other / file.relative_to(made)).read_bytes(), file.name


def test_segments_have_the_areas_and_boxes_of_instances_and_stuff_fills_the_rest(made) -> None:
    data, told = Dataset(made), json.loads((made / "panoptic.json").read_text())
    kinds = [(c["name"], c["isthing"]) for c in told["categories"]]
    assert kinds == [("ball", 1), ("cube", 1), ("ground", 0), ("background", 0)]
    for i, entry in enumerate(told["annotations"]):
        rows = data.instances_of(i).to_pylist()
        things = {s["id"]: s for s in entry["segments_info"] if s["id"] <= 65535}
        assert set(things) == {r["id"] for r in rows if r["class_id"] and r["area_visible"]}
        for row in rows:
            if row["id"] in things:
                segment, (x0, y0, x1, y1) = things[row["id"]], row["box_visible"]
                assert segment["area"] == row["area_visible"]
                assert segment["category_id"] == row["class_id"]
                assert segment["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        props = sum(r["area_visible"] for r in rows if not r["class_id"])
        assert sum(s["area"] for s in entry["segments_info"]) == 40 * 56 - props
        ground = next((s["area"] for s in entry["segments_info"] if s["category_id"] == 3), 0)
        hit = np.isfinite(data.depth(i)) & (data.instance_mask(i) == 0)
        assert ground == hit.sum()
    assert any(len(a["segments_info"]) > 3 for a in told["annotations"])


def test_keypoints_stand_in_the_table_and_in_coco(made, frames) -> None:
    coco = COCO(str(made / "annotations.json"))
    assert coco.cats[2]["keypoints"] == ["left_front_bottom", "right_back_top"]
    assert "keypoints" not in coco.cats[1]
    table = pq.read_table(made / "instances.parquet").to_pydict()
    points = frames.instances.keypoints
    seen = 0
    for k in range(len(table["id"])):
        here = slice(points.start[k], points.start[k + 1])
        np.testing.assert_array_equal(np.reshape(table["keypoints"][k], (-1, 3))[:, :2], points.xy[here])
        expected = {"ball": [], "cube": ["left_front_bottom", "right_back_top"], "prop": ["top", "bottom"]}
        assert table["keypoint_names"][k] == expected[table["group"][k]]
        entry = coco.anns.get(table["frame"][k] * 65536 + table["id"][k])
        if entry is None or table["group"][k] != "cube":
            assert entry is None or "keypoints" not in entry
            continue
        seen += 1
        triples = np.reshape(entry["keypoints"], (2, 3))
        np.testing.assert_array_equal(triples[:, 2], points.visibility[here])
        assert entry["num_keypoints"] == (triples[:, 2] > 0).sum()
        assert not triples[triples[:, 2] == 0].any()
        np.testing.assert_array_equal(triples[triples[:, 2] > 0, :2], points.xy[here][triples[:, 2] > 0])
    assert seen > 5


def test_a_scene_without_new_labels_says_nothing_of_them(tmp_path) -> None:
    root = generate.render(SMALL, 2, tmp_path / "set", workers=1)
    told = json.loads((root / "dataset.json").read_text())
    assert "keypoints" not in told and not (root / "panoptic.json").exists()
    assert "keypoints" not in pq.read_schema(root / "instances.parquet").names


def test_verify_finds_a_damaged_map_and_a_lost_segment(made, tmp_path) -> None:
    root = shutil.copytree(made, tmp_path / "set")
    nocs = Dataset(root).nocs(1)
    nocs[0, 0] = 1.0
    (root / "nocs/000001.png").write_bytes(codec.encode_shares(nocs))
    told = json.loads((root / "panoptic.json").read_text())
    told["annotations"][2]["segments_info"].pop()
    (root / "panoptic.json").write_text(json.dumps(told))
    ids = Dataset(root).panoptic(3)
    (root / "panoptic/000003.png").write_bytes(codec.encode_segments(np.where(ids == 65536, 0, ids)))
    text = str(verify(root))
    assert "nocs/000001.png: SHA-256" in text
    assert "panoptic.json: frame 2: its segments are not those" in text
    assert "panoptic/000003.png: its things are not" in text


def test_maps_that_contradict_each_other_are_found() -> None:
    depth = np.full((2, 3), 2.0, np.float32)
    flow = np.zeros((2, 3, 2), np.float32)
    sound = {"depth": depth, "distance": depth * 1.1, "mask": np.eye(2, 3, dtype=np.int32)}
    sound |= {"nocs": np.eye(2, 3)[..., None] * np.ones(3), "flow_forward": (flow, np.zeros((2, 3), bool))}
    report = Report()
    check_maps(0, sound, report)
    assert report.ok
    for change in (
        {"distance": depth * 0.9},
        {"distance": np.where(np.eye(2, 3) > 0, np.inf, depth)},
        {"depth": -depth},
        {"depth": depth * np.nan},
        {"nocs": np.ones((2, 3, 3))},
        {"flow_forward": (flow * np.nan, np.zeros((2, 3), bool))},
    ):
        report = Report()
        check_maps(0, sound | change, report)
        assert not report.ok, change


def test_flow_and_shares_survive_their_files_and_damage_is_said() -> None:
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 50, (7, 5, 2)).astype(np.float32)
    flow[0, 0] = np.nan
    occluded = rng.random((7, 5)) < 0.5
    data = codec.encode_flow(flow, occluded)
    back, hidden = codec.decode_flow(data, (7, 5), "x")
    np.testing.assert_array_equal(back, flow)
    np.testing.assert_array_equal(hidden, occluded)
    assert data == codec.encode_flow(flow, occluded)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert sorted(archive) == ["flow", "occluded"]
    with pytest.raises(DataError, match="x: not a flow file"):
        codec.decode_flow(data, (5, 7), "x")
    ids = rng.integers(0, 2**24, (4, 6)).astype(np.int32)
    np.testing.assert_array_equal(codec.decode_segments(codec.encode_segments(ids), (4, 6), "x"), ids)
    shares = rng.random((4, 6, 3)).astype(np.float32)
    back = codec.decode_shares(codec.encode_shares(shares), (4, 6), "x")
    np.testing.assert_allclose(back, shares, atol=8e-6)


def test_an_output_that_the_renderer_does_not_make_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
) -> None:
    class Bare(RasterRenderer):
        def render(self, batch, samples=1, detail=1):
            return replace(super().render(batch, samples, detail), albedo=None)

    monkeypatch.setattr(generate, "_renderer", lambda *_: Bare())
    with pytest.raises(SceneError, match="outputs: this renderer gives no albedo"):
        generate.render(SMALL, 2, tmp_path / "set", sets=["outputs=[albedo]"])
    assert not (tmp_path / "set").exists()


def test_through_a_lens_opencv_puts_object_coordinates_and_keypoints_where_they_are() -> None:
    lens = "camera.lens={brown_conrady: {k1: -0.25, k2: 0.05, p1: 0.003}}"
    sets = ["outputs=[distance,nocs]", "objects.cube.keypoints=all", "objects.cube.count=2", lens]
    made = generate.frames(scenefile.load(SMALL, sets=sets), 4, range(4))
    rows, points, pixels = made.instances, made.instances.keypoints, 0
    for k in range(len(rows)):
        i, pose = rows.frame[k], rows.camera_from_object[k]
        y, x = np.nonzero(made.buffers.instance[i] == rows.id[k])
        shares = made.nocs[i, y, x]
        camera = ((shares - 0.5) * rows.box3d_size[k] + rows.box3d_center[k]) @ pose[:3, :3].T + pose[:3, 3]
        seen = slice(points.start[k], points.start[k + 1])
        marks = points.point[seen] @ pose[:3, :3].T + pose[:3, 3]
        inside = points.visibility[seen] > 0
        wanted = np.concatenate([np.c_[x, y] + 0.5, points.xy[seen][inside]])
        if not len(wanted):
            continue
        pixels += len(wanted)
        places, glass = np.concatenate([camera, marks[inside]]), made.cameras.lens.coefficients[i]
        found = cv2.projectPoints(places, np.zeros(3), np.zeros(3), made.cameras.k[i], glass)[0][:, 0]
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        np.testing.assert_allclose(made.distance[i, y, x], np.linalg.norm(camera, axis=1), rtol=1e-5)
    assert pixels > 1000
