"""scripts/proof/utility.py: gaps against planted ones, cells that are found again, a fixed tenth."""

import importlib.util
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "scripts" / "proof" / "utility.py"


@pytest.fixture(scope="module")
def utility():
    spec = importlib.util.spec_from_file_location("utility", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(**settings):
    return Namespace(**{"train": "sklearn:digits", "test": "tenth", "samples": [], "limit": None, **settings})


def test_the_gap_is_that_of_the_same_images_and_seeds(utility):
    rng = np.random.default_rng(0)
    real = rng.random((2000, 5)) < 0.95
    worse = real & (rng.random(real.shape) < 0.96)
    distances = {
        "good": {"fd": {"mean": 2.0}, "kid": {"mean": 0.1}},
        "bad": {"fd": {"mean": 1.0}, "kid": {"mean": 0.1}},
    }
    found = utility.report({"real": real, "good": real, "bad": worse}, distances, None, 0.01)
    arms = found["arms"]
    assert arms["good"]["gap"]["mean"] == 0 and arms["good"]["within_goal"]["surely"]
    low, high = arms["bad"]["gap"]["ci95"]
    assert low < 0.95 * 0.04 < high and not arms["bad"]["within_goal"]["mean"]
    assert (found["best_first_by_gap"], found["fd_ranks_utility"]) == (["good", "bad"], False)
    assert "another order" in utility.lines(found)[-1]


def test_the_tenth_is_fixed_and_apart(utility):
    train, test, _ = utility.sets(told(train="sklearn:digits:train"))
    again = utility.sets(told(train="sklearn:digits:train"))
    assert (train.digest(), test.digest()) == (again[0].digest(), again[1].digest())
    assert not set(train.groups) & set(test.groups) and len(test) > 50


def test_trainings_are_kept_and_found_again(utility, tmp_path, monkeypatch, capsys):
    trained = []

    class Model:
        def predict(self, images):
            return np.eye(10)[np.zeros(len(images), int)]

    def train_classifier(data, config, *, seed, **_):
        trained.append((data.name, seed))
        return Model()

    monkeypatch.setattr(utility, "train_classifier", train_classifier)
    monkeypatch.setattr(utility, "distance_of", lambda *_: {"fd": {"mean": 0.0}, "kid": {"mean": 0.0}})
    arguments = ["--train", "sklearn:digits:train", "--test", "sklearn:digits:test", "--samples",
                 "sklearn:digits:validation", "-o", str(tmp_path), "--seeds", "2", "--steps", "7"]  # fmt: skip
    utility.main([*arguments, "--share", "0/2"])
    assert len(trained) == 2 and not (tmp_path / "results.json").exists()
    utility.main(arguments)
    utility.main(arguments)
    assert len(trained) == 4 and len(set(trained)) == 4
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["arms"]["sklearn:digits:validation"]["gap"]["mean"] == 0
    assert results["what"]["config"]["steps"] == 7
    assert capsys.readouterr().out.startswith("arm")
