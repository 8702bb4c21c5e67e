"""The gate on real image sets with planted faults (`-m real`); scripts/proof/gate.py prints the same at length."""

import importlib.util
import os
from pathlib import Path

import pytest

from imgsynth.dataset.sources import load

FILE = Path(__file__).parents[1] / "scripts" / "proof" / "gate.py"
REAL = Path(os.environ.get("IMGSYNTH_REAL", Path(__file__).parents[2] / "shared" / "real"))
FASHION = Path("/usr/share/datasets/fashion-mnist")
SETS = {
    "mnist": (REAL / "mnist", f"{REAL / 'mnist' / 'train.npz'}"),
    "gtsrb": (REAL / "gtsrb", f"torchvision:GTSRB:{REAL / 'gtsrb'}"),
    "fashion": (FASHION, f"torchvision:FashionMNIST:{FASHION}"),
}
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def proof():
    spec = importlib.util.spec_from_file_location("proof_of_the_gate", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=SETS)
def parts(request, proof):
    folder, spec = SETS[request.param]
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}")
    return request.param, proof.cut(load(spec))


def test_planted_copies_are_found_at_one_false_alarm_in_a_hundred(proof, parts):
    name, sets = parts
    found = proof.copies(sets, 200)
    assert found["false alarms"]["ci95"][0] <= 0.01
    for kind in ("exact", "flip", "shift", "contrast", "noise4", "jpeg80"):
        assert found[kind]["mean"] >= 0.95, kind
    # Dark, low-contrast crops drown in more noise than this: docs/gate.md has the figures.
    assert found["flip+shift+noise4+jpeg80"]["mean"] >= (0.9 if name == "gtsrb" else 0.95)


def test_repeats_are_dropped_and_originals_stay(proof, parts):
    found = proof.duplicates(parts[1], 200)
    assert found["repeats dropped"]["mean"] >= 0.9
    assert found["fresh images dropped"]["mean"] <= 0.03


@pytest.mark.slow
def test_labels_are_judged_and_confidence_is_calibrated(proof, parts):
    found = proof.labels(parts[1])
    assert found["wrong labels dropped"]["mean"] >= 0.85
    assert found["right labels dropped"]["ci95"][0] <= 0.02
    assert found["ECE of answers"]["mean"] <= 0.05 and found["ECE of labels, trust fitted"]["mean"] <= 0.05
