"""What two sets share: the same pixels whatever the file, the same track wherever it is read from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsynth.dataset.annotated_sources import load_annotated
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.leaks import shared_groups, shared_images
from imgsynth.dataset.sources import load
from imgsynth.errors import DataError


def pixels(n: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 9, 7, channels), dtype=np.uint8)


def made(images: np.ndarray, groups=None, name: str = "made") -> LabelledImages:
    return LabelledImages(images, np.arange(len(images)) % 2, ("a", "b"), groups, name)


def coco(root: Path, images: np.ndarray, ending: str = "png") -> Path:
    root.mkdir()
    entries = []
    for k, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(root / f"{root.name}{k}.{ending}")
        entries.append({"id": k, "file_name": f"{root.name}{k}.{ending}", "width": 7, "height": 9})
    boxes = [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 1, 3, 3]} for k in range(len(images))]
    sheet = {"images": entries, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    (root / "a.json").write_text(json.dumps(sheet))
    return root


def test_the_same_pixels_are_found_in_other_files_of_other_formats(tmp_path):
    one = pixels(6)
    other = np.concatenate([pixels(3, seed=1), one[[4, 1]]])
    a = load_annotated(str(coco(tmp_path / "first", one)))
    b = load_annotated(str(coco(tmp_path / "second", other, "bmp")))
    assert sorted(shared_images(a, b)) == [(1, 4), (4, 3)]
    assert sorted(shared_images(b, a)) == [(3, 4), (4, 1)]
    assert sorted(shared_images(made(one), b)) == [(1, 4), (4, 3)]
    assert shared_images(a, load_annotated(str(coco(tmp_path / "third", pixels(4, 2))))) == []


def test_one_changed_pixel_and_another_shape_are_other_images():
    one = pixels(3)
    changed = one.copy()
    changed[:, 4, 4, 1] ^= 1
    assert shared_images(made(one), made(changed)) == []
    assert shared_images(made(one), made(one.reshape(3, 7, 9, 3))) == []


def test_grey_is_compared_as_rgb(tmp_path):
    grey = pixels(4, channels=1)
    rgb = np.repeat(grey, 3, axis=3)
    wanted = [(i, i) for i in range(4)]
    assert shared_images(made(grey), made(rgb)) == wanted
    assert shared_images(load_annotated(str(coco(tmp_path / "grey", grey))), made(rgb)) == wanted


def test_an_image_that_stands_twice_is_paired_each_time():
    one = pixels(2)
    assert sorted(shared_images(made(one[[0, 1, 0]]), made(one[[0]]))) == [(0, 0), (2, 0)]


def test_groups_of_one_set_meet_wherever_they_are_read_from(tmp_path):
    for place, tracks in (("first", (0, 1, 2)), ("second", (2, 3))):
        for t in tracks:
            for f in range(2):
                path = tmp_path / place / "00007" / f"{t:05d}_{f:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels(1, seed=10 * t + f)[0]).save(path)
    a, b = load(str(tmp_path / "first")), load(str(tmp_path / "second"))
    assert shared_groups(a, b) == ["00007_00002"] and len(shared_images(a, b)) == 2
    parts = [load(f"{tmp_path / 'first'}#{p}") for p in ("train", "validation")]
    assert shared_groups(*parts) == [] and shared_images(*parts) == []


def test_numbers_and_texts_are_the_same_group_and_digits_are_their_own():
    one, two = pixels(4), pixels(4, seed=1)
    a, b = made(one, np.array([0, 0, 1, 2])), made(two, np.array(["2", "0", "x", "x"]))
    assert shared_groups(a, b) == ["0", "2"]
    assert shared_groups(a, made(two)) == []
    digits = made(two, np.array([0, 0, 1, 1]), name="sklearn:digits#train")
    assert shared_groups(a, digits) == [] and shared_groups(digits, digits) == ["0", "1"]


def test_an_unreadable_image_is_named(tmp_path):
    data = load_annotated(str(coco(tmp_path / "first", pixels(2))))
    (tmp_path / "first" / "first1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"first1\.png: not a readable image"):
        shared_images(data, data)
