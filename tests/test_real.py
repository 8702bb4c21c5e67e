"""The real image sets, read as they stand. Run with ``-m real``; IMGSYNTH_REAL says where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

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
