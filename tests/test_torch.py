"""Frames as tensors: the same as on disk, each once whatever the workers, resumable, and enough to train on."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_generate import SMALL
from torch.utils.data import DataLoader

from imgsynth import generate, scenefile
from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.torch import GROUP, RenderedDataset, detection_batch

DETECT = ("image", "boxes", "labels", "masks")


def indices(items) -> list[int]:
    return [i for item in items for i in np.atleast_1d(item["index"]).tolist()]


def test_frames_are_those_that_render_writes(tmp_path) -> None:
    data = Dataset(generate.render(SMALL, 5, tmp_path / "set", seed=4, start=2, workers=1))
    wanted = (*DETECT, "amodal", "instance", "semantic", "depth", "normal")
    samples = list(RenderedDataset(SMALL, seed=4, start=2, count=5, outputs=wanted))
    assert indices(samples) == [2, 3, 4, 5, 6]
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), data.image(i))
        np.testing.assert_array_equal(sample["instance"], data.instance_mask(i))
        np.testing.assert_array_equal(sample["semantic"], data.semantic_mask(i))
        np.testing.assert_array_equal(sample["depth"], data.depth(i))
        rows = [r for r in data.instances_of(i).to_pylist() if r["class_id"] and r["area_visible"]]
        np.testing.assert_array_equal(
            sample["boxes"], np.float32([r["box_visible"] for r in rows]).reshape(-1, 4)
        )
        assert sample["labels"].tolist() == [r["class_id"] for r in rows]
        whole = dict(zip(data.instances_of(i)["id"].to_pylist(), data.amodal_masks(i), strict=True))
        for row, mask, amodal in zip(rows, sample["masks"], sample["amodal"], strict=True):
            np.testing.assert_array_equal(mask, data.instance_mask(i) == row["id"])
            np.testing.assert_array_equal(amodal, whole[row["id"]])


def test_batches_share_the_memory_of_the_frames() -> None:
    made = generate.frames(scenefile.load(SMALL), 0, range(3))
    from imgsynth.torch import stacked

    batch = stacked(made, ("image", "depth", "boxes"))
    assert batch["image"].shape == (3, 3, 40, 56)
    assert batch["image"].data_ptr() == made.images.ctypes.data
    assert batch["depth"].data_ptr() == made.buffers.depth.ctypes.data
    assert [len(b) for b in batch["boxes"]] == [
        len(s["boxes"]) for s in RenderedDataset(SMALL, count=3, outputs=("boxes",))
    ]


def test_epochs_hold_fresh_frames_and_a_pass_can_be_repeated() -> None:
    data = RenderedDataset(SMALL, count=5, start=10, batch=2, outputs=("image",))
    assert len(data) == 3
    assert indices(data) == indices(data) == [10, 11, 12, 13, 14]
    data.set_epoch(2)
    assert indices(data) == [20, 21, 22, 23, 24]
    endless = RenderedDataset(SMALL, outputs=("labels",))
    first = iter(endless)
    assert [next(first)["index"] for _ in range(GROUP + 2)] == list(range(GROUP + 2))
    with pytest.raises(TypeError, match="no length"):
        len(endless)
    with pytest.raises(ImgsynthError, match="with a count"):
        endless.set_epoch(1)


@pytest.mark.parametrize("batch", [None, 3])
def test_a_pass_goes_on_where_it_stopped(batch) -> None:
    data = RenderedDataset(SMALL, count=20, batch=batch, outputs=("image",))
    whole = list(data)
    steps = iter(data)
    for _ in range(4):
        next(steps)
    state = pickle.loads(pickle.dumps(data.state_dict()))
    other = RenderedDataset(SMALL, count=20, batch=batch, outputs=("image",))
    other.load_state_dict(state)
    rest = list(other)
    assert indices(rest) == indices(whole)[len(indices(whole[:4])) :]
    assert torch.equal(rest[0]["image"], whole[4]["image"])
    assert indices(other) == list(range(20)), "the pass after it is a whole one"


def test_workers_give_each_frame_once_and_hear_of_epochs() -> None:
    data = RenderedDataset(SMALL, count=23, batch=4, outputs=("image", "boxes"))
    alone = list(data)
    loader = DataLoader(
        data, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context="fork"
    )
    together = list(loader)
    assert indices(together) == list(range(23)), "in order"
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(alone, together, strict=True))
    data.set_epoch(1)
    assert indices(loader) == list(range(23, 46))


@pytest.mark.slow
def test_spawned_workers_give_the_same() -> None:
    data = RenderedDataset(SMALL, count=40, outputs=DETECT)
    loader = DataLoader(
        data, batch_size=4, num_workers=2, collate_fn=detection_batch, multiprocessing_context="spawn"
    )
    seen = [target["image_id"] for _, targets in loader for target in targets]
    assert sorted(seen) == list(range(40)) and len(seen) == 40


def test_shares_of_any_number_of_workers_are_a_partition() -> None:
    for batch, count, workers, first in [(None, 50, 3, 0), (7, 50, 4, 5), (1, 3, 5, 0)]:
        data = RenderedDataset(SMALL, count=count, batch=batch)
        data._first = first
        dealt = [p for w in range(workers) for group in data._groups(w, workers) for p in group]
        assert sorted(dealt) == list(range(first, count))


def test_one_class_and_keypoints() -> None:
    sets = [
        "objects.cube.count=0",
        "objects.ball.count=1",
        "objects.ball.keypoints=[top]",
        "objects.prop.count=0",
    ]
    data = RenderedDataset(SMALL, count=6, outputs=("class", "keypoints", "boxes"), batch=6, sets=sets)
    (sample,) = data
    assert sample["class"] == [0] * 6 and data.classes == ("ball", "cube")
    for points, boxes in zip(sample["keypoints"], sample["boxes"], strict=True):
        x, y, seen = points[0, 0].tolist()
        x0, y0, x1, y1 = boxes[0].tolist()
        assert seen == 0 or (x0 - 1 <= x <= x1 + 1 and y0 - 1 <= y <= y1 + 1)
    mixed = RenderedDataset(SMALL, count=20, outputs=("class",), sets=["objects.cube.count=2"])
    with pytest.raises(DataError, match="shows 2"):
        list(mixed)


def test_bad_use_is_said() -> None:
    with pytest.raises(ImgsynthError, match=r"expected some of image, .*got 'picture'"):
        RenderedDataset(SMALL, outputs=("picture",))
    with pytest.raises(ImgsynthError, match="count=0"):
        RenderedDataset(SMALL, count=0)
    with pytest.raises(DataError, match="the scene names none"):
        next(iter(RenderedDataset(SMALL, outputs=("keypoints",))))


def test_the_documented_example_trains(tmp_path) -> None:
    text = (Path(__file__).parents[1] / "docs/labels.md").read_text()
    (example,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "RenderedDataset(" in b)
    names: dict[str, object] = {}
    exec(example, names)
    losses = names["losses"]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
