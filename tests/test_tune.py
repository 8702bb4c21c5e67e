"""Tuning: a planted optimum is found, a killed search goes on as if it had not been, the guard judges."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from planted import PlantedLearner, real_images, scene, setting

from imgsynth import scenefile
from imgsynth.errors import DataError, ImgsynthError, SceneError
from imgsynth.probe.search import Parameter, best, importances, search
from imgsynth.probe.tune import tune, tuned_leaves, verdict

pytest.importorskip("optuna")

PARAMETERS = {
    "a": Parameter(-1, 1, 0.0),
    "b": Parameter(0.25, 2.5, 1.0, log=True),
    "idle": Parameter(-1, 1, 0.0),
}


def cheap(v):
    return -((v["a"] - 0.4) ** 2) - 0.3 * math.log(v["b"] / 0.6) ** 2


def test_search_finds_a_planted_optimum_and_says_what_mattered():
    trials = search(PARAMETERS, cheap, trials=50, seed=1)
    assert trials[0].values == {"a": 0, "b": 1, "idle": 0}
    found = best(trials)
    assert found.values["a"] == pytest.approx(0.4, abs=0.12)
    assert found.values["b"] == pytest.approx(0.6, rel=0.2)
    shares = importances(PARAMETERS, trials)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] > shares["idle"] < 0.15
    assert importances(PARAMETERS, trials[:5]) is None


def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path):
    whole = search(PARAMETERS, cheap, trials=18, seed=3)
    log, count = tmp_path / "trials.jsonl", 0

    def killed(values):
        nonlocal count
        count += 1
        if count > 11:
            raise KeyboardInterrupt
        return cheap(values)

    with pytest.raises(KeyboardInterrupt):
        search(PARAMETERS, killed, trials=18, seed=3, log=log)
    with log.open("a") as file:
        file.write('{"trial": 11, "sc')  # cut off in the middle of a line
    assert search(PARAMETERS, cheap, trials=18, seed=3, log=log) == whole
    assert len(log.read_text().splitlines()) == 19
    before = log.read_bytes()
    assert search(PARAMETERS, None, trials=18, seed=3, log=log) == whole  # nothing left to evaluate
    assert log.read_bytes() == before


def test_a_log_of_something_else_is_refused(tmp_path):
    log = tmp_path / "trials.jsonl"
    search(PARAMETERS, cheap, trials=2, log=log, about="one")
    for options in ({"about": "two"}, {"about": "one", "seed": 1}):
        with pytest.raises(ImgsynthError, match="another tuning"):
            search(PARAMETERS, cheap, trials=2, log=log, **options)
    log.write_text(log.read_text().replace('"trial": 0', '"trial": 7'))
    with pytest.raises(ImgsynthError, match="not a readable log"):
        search(PARAMETERS, cheap, trials=2, log=log, about="one")
    with pytest.raises(ImgsynthError, match="finite number"):
        search(PARAMETERS, lambda _: math.nan, trials=1)


def test_without_optuna_it_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImgsynthError, match=r"pip install 'imgsynth\[tune\]'"):
        search(PARAMETERS, cheap, trials=1)


# ---- the whole run ----


def test_ranges_move_to_a_planted_optimum_and_the_other_half_confirms_it(tmp_path):
    real = real_images(tmp_path / "real.npz", 400, tracks=4)
    brightness = 225.0  # of the training images; the scene as written has about 185
    options = {"paths": ["light"], "trials": 20, "replicates": 300}
    use = setting(PlantedLearner(wanted=brightness), seeds=(0, 1))
    results = tune(scene(), real, tmp_path / "out", use, **options)
    report = results["reporting"]
    assert report["difference"]["ci95"][0] > 0
    assert report["difference"]["mean"] > 0.06
    assert results["choosing"]["images"] + report["images"] == 400
    assert results["choosing"]["tuned"] == max(t["score"] for t in results["trials"])
    (moved,) = results["moved"]
    low, high = moved["to"]["uniform"]
    assert moved["from"] == {"uniform": [0.2, 0.8]} and (low + high) / 2 > 0.6
    assert "gain real accuracy" in verdict(results)[0]
    lines = (tmp_path / "out/tuned.txt").read_text().splitlines()
    assert lines == results["sets"] and len(lines) == 1
    tuned = scenefile.load(tmp_path / "out/tuned.yaml").spec
    assert tuned == scenefile.load(scene(), sets=lines).spec
    assert not (tmp_path / "out/trial").exists()
    assert tune(scene(), real, tmp_path / "out", use, **options) == results  # from the log
    json.dumps(results, allow_nan=False)


def test_where_nothing_is_better_the_scene_stays(tmp_path):
    real = real_images(tmp_path / "real.npz", 80)
    results = tune(
        scene(), real, tmp_path / "out", setting(PlantedLearner(), seeds=(0, 1)),
        paths=["objects.thing.material.roughness"], trials=2, replicates=200,
    )  # fmt: skip
    assert results["sets"] == [] and (tmp_path / "out/tuned.txt").read_text() == ""
    assert results["reporting"]["difference"]["mean"] == 0
    assert "keep it" in verdict(results)[0]
    assert "few" in results["notes"][0]


def test_refusals(tmp_path):
    real = real_images(tmp_path / "real.npz", 80)
    use = setting(PlantedLearner(), seeds=(0, 1))
    with pytest.raises(DataError, match="is a test split"):
        tune(scene(), "sklearn:digits#test", tmp_path / "out", use)
    with pytest.raises(DataError, match="also in"):
        tune(scene(), real, tmp_path / "out", use, apart=[real])
    with pytest.raises(ImgsynthError, match="learner or statistics"):
        tune(scene(), real, tmp_path / "out", use, objective="luck")
    with pytest.raises(SceneError, match="no range of one number"):
        tune(scene(), real, tmp_path / "out", use, paths=["objects.thing.class"])
    assert not (tmp_path / "out").exists()
    assert tuned_leaves(scene(), []) == [
        "light.ambient.radiance", "objects.thing.place.yaw_deg", "objects.thing.material.roughness",
    ]  # fmt: skip


def test_statistics_as_the_objective(tmp_path):
    """Real images that are the scene's own, darker: the light is turned down."""
    from imgsynth import generate

    dark = scenefile.load(scene(), sets=["light.ambient.radiance={uniform: [0.05, 0.35]}"])
    frames = generate.frames(dark, 5, range(120))
    labels = np.array([frames.classes.index(v) for v in frames.values["objects.thing[0].class"]])
    np.savez(tmp_path / "real.npz", images=frames.images, labels=labels, classes=np.array(frames.classes))
    results = tune(
        scene(), str(tmp_path / "real.npz"), tmp_path / "out", setting(PlantedLearner(), seeds=(0, 1)),
        paths=["light"], objective="statistics", trials=14, replicates=200,
    )  # fmt: skip
    (moved,) = results["moved"]
    low, high = moved["to"]["uniform"]
    assert (low + high) / 2 < 0.35
    assert results["choosing"]["tuned"] > results["choosing"]["as_written"]
