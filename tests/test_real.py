"""The real image sets, read as they stand. Run with ``-m real``; IMGSYNTH_REAL says where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from imgsynth.dataset.annotated_sources import load_annotated
from imgsynth.dataset.sources import load
from imgsynth.dataset.split import split

REAL = Path(os.environ.get("IMGSYNTH_REAL", Path(__file__).parents[2] / "shared" / "real"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not REAL.is_dir(), reason=f"no real image sets at {REAL}")]


def test_gtsrb_has_its_tracks_and_no_split_cuts_one():
    data = load(f"torchvision:GTSRB:{REAL / 'gtsrb'}")
    assert (len(data.images), len(data.classes), data.images.shape[1:]) == (39_209, 43, (32, 32, 3))
    parts = split(data.labels, data.groups, {"train": 0.8, "validation": 0.2}, seed=0)
    tracks = {name: set(data.groups[index]) for name, index in parts.items()}
    assert not tracks["train"] & tracks["validation"]
    assert sum(len(index) for index in parts.values()) == len(data.images)


@pytest.mark.parametrize(("name", "n", "side"), [("mnist", 60_000, 28), ("usps", 7_291, 16)])
def test_npz_digits(name, n, side):
    data = load(str(REAL / name / "train.npz"))
    assert data.images.shape[:3] == (n, side, side)
    assert np.array_equal(np.unique(data.labels), np.arange(10))


@pytest.mark.parametrize(
    ("spec", "images", "objects", "classes", "masks"),
    [
        ("dice", 200, 1487, ("one", "two", "three", "four", "five", "six"), False),
        ("dice/train.coco.json", 200, 1487, ("one", "two", "three", "four", "five", "six"), False),
        ("playing_cards/train", 296, 527, ("ace", "jack", "king", "nine", "queen", "ten"), False),
        ("jenga/train", 130, 1119, ("0",), True),
    ],
)
def test_boxes_and_masks_as_people_publish_them(spec, images, objects, classes, masks):
    data = load_annotated(str(REAL / spec), masks=masks)
    assert (len(data), len(data.owner), data.classes, data.unnamed) == (images, objects, classes, masks)
    assert not data.ignored.any() and data.image(0).shape[:2] == tuple(data.sizes[0])
    parts = [load_annotated(f"{REAL / spec}#{p}", masks=masks) for p in ("train", "validation", "test")]
    assert sum(map(len, parts)) == images and min(map(len, parts)) > 0.1 * images
    assert all(p.counts().min() > 0 for p in parts)
    if masks:  # a polygon's pixels stay within half a pixel of its box
        for j in range(0, objects, 40):
            ys, xs = np.nonzero(data.mask(j))
            tight = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(tight - data.boxes[j]).max() <= 1.5
