"""The whole chain: a frame's bytes depend on (spec, seed, index) alone, and what is on disk agrees with itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imgsynth import generate, scenefile
from imgsynth.dataset import writer
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.verify import verify
from imgsynth.errors import ImgsynthError
from imgsynth.scene import SceneSpec

SMALL = SceneSpec.model_validate({
    "name": "small",
    "classes": ["ball", "cube"],
    "image": {"size": [40, 56]},
    "outputs": ["depth", "normal"],
    "ground": {"material": {"color": {"hsv": [{"uniform": [0, 360]}, 0.5, 0.8]}}},
    "camera": {"distance": {"uniform": [1, 2]}, "azimuth_deg": {"uniform": [0, 360]}},
    "objects": {
        "ball": {"count": {"integer": [1, 4]}, "class": "ball", "shape": {"sphere": {"radius": {"uniform": [0.05, 0.15]}}},
                 "place": {"position": {"box": {"low": [-0.5, -0.5, 0], "high": [0.5, 0.5, 0.1]}}}},
        "cube": {"count": {"integer": [0, 2]}, "class": "cube", "shape": {"box": {"size": {"uniform": [0.1, 0.3]}}},
                 "place": {"position": {"box": {"low": [-0.5, -0.5, 0], "high": [0.5, 0.5, 0]}}, "rotation": "uniform", "on_ground": True}},
        "prop": {"shape": {"cylinder": {"radius": 0.1, "height": 0.4}}},
    },
    "sensor": {"read_noise": 0.01, "shot_noise": 0.0002, "jpeg_quality": {"integer": [70, 95]}, "blur_px": {"uniform": [0, 1]}},
})  # fmt: skip


MANY = generate.part_size(SMALL)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate.render(SMALL, 24, tmp_path_factory.mktemp("made") / "set", seed=4, workers=1)


def test_dataset_is_sound_and_reads_back(made):
    report = verify(made)
    assert report.ok, report.problems
    data = Dataset(made)
    batch = generate.frames(scenefile.load(SMALL), 4, range(24))
    for i in range(24):
        np.testing.assert_array_equal(data.image(i), batch.images[i])
        np.testing.assert_array_equal(data.instance_mask(i), batch.buffers.instance[i])
    assert data.frames.num_rows == 24
    assert data.instances.num_rows == len(batch.instances)


def test_the_same_bytes_for_any_number_of_workers_and_parts(made, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "MOST_FRAMES_PER_PART", 7)
    two = generate.render(SMALL, 24, tmp_path / "two", seed=4, workers=2)
    a, b = tree(made), tree(two)
    assert a.keys() == b.keys()
    differs = [name for name in a if a[name] != b[name]]
    assert differs == ["dataset.json"]  # it lists the parts
    first, second = (json.loads(t["dataset.json"]) for t in (a, b))
    assert (first.pop("part_size"), second.pop("part_size")) == (MANY, 7)
    assert (len(first.pop("parts")), len(second.pop("parts"))) == (1, 4)
    assert first.pop("sha256") != second.pop("sha256")
    assert first == second


def test_frames_alone_are_the_same_frames(made, tmp_path):
    alone = generate.render(SMALL, 3, tmp_path / "alone", seed=4, start=5, workers=1)
    a, b = tree(made), tree(alone)
    for name in (n for n in b if n.startswith(("images/", "masks/", "depth/", "normals/"))):
        assert a[name] == b[name], name
    assert sum(n.startswith("images/") for n in b) == 3
    whole, part = Dataset(made), Dataset(alone)
    assert whole.frames.slice(5, 3).equals(part.frames)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_as_written_is_perfect_against_itself(made, kind, capsys):
    coco = COCO(str(made / "annotations.json"))
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) > 30
    assert not any(a["iscrowd"] for a in annotations)
    for a in annotations:
        x, y, w, h = a["bbox"]
        rows, columns = np.nonzero(coco.annToMask(a))
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert a["area"] == len(rows)
    found = coco.loadRes(
        [
            {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 1.0}
            for a in annotations
        ]
    )
    scorer = COCOeval(coco, found, kind)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] == 1.0


def test_every_sampled_value_is_in_the_table(made):
    table = Dataset(made).frames
    plan = scenefile.load(SMALL).plan()
    draws = plan.sample(4, range(24))
    names = {name for leaf in plan.varying for name in leaf.names()}
    assert names <= set(table.column_names)
    radius = table["objects.ball[3].shape.sphere.radius"].to_pylist()
    for i, value in enumerate(radius):
        if draws.counts["ball"][i] > 3:
            assert value == draws["objects.ball.shape.sphere.radius"][i, 3]
        else:
            assert value is None


def test_resume_after_a_crash_gives_the_bytes_of_an_uninterrupted_run(made, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "MOST_FRAMES_PER_PART", 5)
    whole = generate.render(SMALL, 24, tmp_path / "whole", seed=4, workers=1)
    real, calls = writer.write_part, []

    def dies_at_the_third(root, header, part, batch):
        calls.append(part)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(root, header, part, batch)

    monkeypatch.setattr(writer, "write_part", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        generate.render(SMALL, 24, tmp_path / "cut", seed=4, workers=1)
    assert not (tmp_path / "cut" / "dataset.json").exists()
    monkeypatch.setattr(writer, "write_part", real)
    with pytest.raises(ImgsynthError, match="resume"):
        generate.render(SMALL, 24, tmp_path / "cut", seed=4, workers=1)
    seen = []
    generate.render(
        SMALL,
        24,
        tmp_path / "cut",
        seed=4,
        workers=1,
        resume=True,
        progress=lambda done, total: seen.append(done),
    )
    assert seen[0] == 10  # two parts of five were there
    assert tree(tmp_path / "cut") == tree(whole)


def test_a_bad_scene_value_fails_before_any_file(tmp_path):
    with pytest.raises(
        ImgsynthError, match=r"objects.cube.shape.box.size: expected .* but the expression gives"
    ):
        generate.render(
            SMALL,
            5,
            tmp_path / "bad",
            sets=["objects.cube.count=1", "objects.cube.shape.box.size=[{expr: 0 - scale}, 1, 1]"],
        )
    assert not (tmp_path / "bad").exists()
