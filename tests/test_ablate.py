"""Paired ablation and the knob: planted effects found, nulls left alone, pairing to the byte, resuming."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted import PlantedLearner, real_images, scene, setting

from imgsynth.errors import DataError, ImgsynthError, SceneError
from imgsynth.probe import bench
from imgsynth.probe.ablate import ablate, verdict
from imgsynth.probe.bench import halves, training_seeds
from imgsynth.probe.compare import best_shares, figures, paired, scored
from imgsynth.probe.knob import knob
from imgsynth.probe.knob import verdict as knob_verdict
from imgsynth.study.classify import Classify
from imgsynth.study.resample import Resampler

# ---- the statistics ----


class Right:
    """A table of right (1) and wrong (0) answers."""

    def __init__(self, right):
        self.right = right.astype(np.float32)

    def headline(self, weights):
        return (weights @ self.right).astype(float) / weights.sum(axis=1)


def trainings(rng, hard, luck, effect):
    """Answers of three models: images are hard for all, seeds lucky with some; `effect` more are right."""
    noise = rng.normal(0, 0.1, luck.shape)
    return [Right(hard + own + one < 0.8 + 3 * effect) for own, one in zip(luck, noise, strict=True)]


def world(seed, n=1000, seeds=3):
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1, n)
    luck = [rng.normal(0, 0.5, (seeds, n)) + rng.normal(0, 0.1, (seeds, 1)) for _ in range(2)]
    return rng, hard, luck


def unpaired(a, b, n, seed):
    """The same figures of two experiments that share neither seeds nor the draw of images."""
    of = [scored(figures(t, draw), draw) for t, draw in ((a, Resampler(n, None, 300, seed)),
                                                         (b, Resampler(n, None, 300, seed + 1)))]  # fmt: skip
    half = np.hypot(*((s["ci95"][1] - s["ci95"][0]) / 2 for s in of))
    gap = of[0]["mean"] - of[1]["mean"]
    return gap - half, gap + half


def rates(effect, repeats=24):
    """Share of experiments that find a difference: paired, and unpaired at the same cost."""
    hits = np.zeros((repeats, 2))
    gaps = []
    for k in range(repeats):
        rng, hard, (luck, other) = world(k)
        base, better = trainings(rng, hard, luck, 0.0), trainings(rng, hard, luck, effect)
        draw = Resampler(len(hard), None, 300, k)
        found = paired(figures(better, draw), figures(base, draw), draw)
        gaps.append(found["mean"])
        hits[k, 0] = found["ci95"][0] > 0 or found["ci95"][1] < 0
        low, high = unpaired(trainings(rng, hard, other, effect), base, len(hard), 2 * k)
        hits[k, 1] = low > 0 or high < 0
    return hits.mean(axis=0), float(np.mean(gaps))


def test_paired_finds_two_points_that_unpaired_misses_at_the_same_cost():
    (with_pairs, without), gap = rates(0.0256)
    assert gap == pytest.approx(0.02, abs=0.003)
    assert with_pairs >= 0.8
    assert without <= 0.2


def test_paired_finds_nothing_where_nothing_is():
    (with_pairs, _), gap = rates(0.0)
    assert abs(gap) < 0.002
    assert with_pairs <= 0.13  # 3 of 24; 5 % nominal


def test_interval_and_p_agree_and_equal_models_differ_by_nothing():
    rng, hard, (luck, _) = world(3)
    draw = Resampler(len(hard), None, 500)
    a, b = (figures(trainings(rng, hard, luck, e), draw) for e in (0.1, 0.0))
    found, same = paired(a, b, draw), paired(a, a, draw)
    assert found["p"] < 0.01 and found["ci95"][0] > 0
    assert same == {"mean": 0.0, "ci95": [0.0, 0.0], "p": 1.0, "per_seed": [0.0, 0.0, 0.0]}
    shares = best_shares({"a": a, "b": b}, draw)
    assert shares["a"] > 0.95 and sum(shares.values()) == pytest.approx(1)


# ---- the whole run ----


def test_planted_randomizer_is_found_and_the_others_are_not(tmp_path):
    real = real_images(tmp_path / "real.npz", 600)
    log = tmp_path / "log"
    options = {"replicates": 500}
    learner = PlantedLearner(costs=0.02, log=log)
    results = ablate(scene(), real, tmp_path / "out", setting(learner), **options)
    rows = {row["path"]: row["difference"] for row in results["randomizers"]}
    assert set(rows) == {"light", "objects.thing.place", "objects.thing.material"}
    assert rows["light"]["mean"] == pytest.approx(-0.02, abs=0.004)
    assert rows["light"]["q"] < 0.05 and rows["light"]["ci95"][1] < 0
    assert rows["objects.thing.place"]["mean"] == rows["objects.thing.material"]["mean"] == 0
    gap = f"{100 * rows['light']['mean']:.1f}".replace("-", "−")
    assert verdict(results) == [f"Freezing costs real accuracy: light ({gap} points)."]
    json.dumps(results, allow_nan=False)
    # Neither place nor roughness shows in the pictures, so these variants share the trainings of the scene.
    assert len(log.read_text().split()) == 6
    assert ablate(scene(), real, tmp_path / "out", setting(learner), **options) == results
    assert len(log.read_text().split()) == 6  # again: nothing is trained
    _all_other_values_are_equal(tmp_path / "out")


def _all_other_values_are_equal(out):
    tables = [pq.read_table(p / "frames.parquet") for p in sorted((out / "variants").iterdir())]
    assert len(tables) == 4
    varying = {
        name for table in tables for name in table.column_names if name.startswith(("light", "objects"))
    }
    assert len(varying) == 4
    for name in varying:
        held = [table.column(name).to_pylist() for table in tables if name in table.column_names]
        assert len(held) >= 3 and all(values == held[0] for values in held)


def test_widening_and_what_it_leaves_alone(tmp_path):
    real = real_images(tmp_path / "real.npz", 60)
    results = ablate(
        scene(), real, tmp_path / "out", setting(PlantedLearner()), paths=["light"], factor=2, replicates=200
    )
    assert results["randomizers"][0]["difference"]["mean"] == 0
    assert "scaling by 2" in verdict(results)[0]


def test_knob_finds_the_best_width(tmp_path):
    real = real_images(tmp_path / "real.npz", 300)
    learner = PlantedLearner(costs=0.2)
    results = knob(scene(), real, tmp_path / "out", setting(learner), epsilons=[0, 2], replicates=300)
    scores = {p["epsilon"]: p for p in results["points"]}
    assert list(scores) == [0, 1, 2] and "difference" not in scores[1]
    assert scores[0]["difference"]["mean"] == pytest.approx(-0.2, abs=0.03)
    assert scores[0]["difference"]["q"] < 0.05 and scores[0]["best_share"] == 0
    assert results["best"] == 1
    assert "ε = 1" in knob_verdict(results)[0]
    with pytest.raises(ImgsynthError, match="--epsilon"):
        knob(scene(), real, tmp_path / "out", setting(learner), epsilons=[1])


# ---- refusals ----


def test_test_images_are_refused(tmp_path):
    real = real_images(tmp_path / "real.npz", 60, tracks=3)
    task = Classify()
    data = task.load(real)
    for spec, said in (
        ("signs#test", "is a test split"),
        ("sklearn:digits:test", "is a test split"),
        ("sklearn:digits", "holds the test split"),
        ("torchvision:MNIST:x:all", "holds the test split"),
    ):
        with pytest.raises(DataError, match=said):
            bench.real_images(task, spec)
    assert len(bench.real_images(task, real)) == 60
    some = data.subset(np.arange(3))
    np.savez(
        tmp_path / "some.npz", images=some.images, labels=np.arange(3), classes=np.array(["x", "y", "z"])
    )
    with pytest.raises(DataError, match="3 of its images are also in"):
        bench.real_images(task, real, [str(tmp_path / "some.npz")])
    other = real_images(tmp_path / "other.npz", 60, seed=9, tracks=3)
    with pytest.raises(DataError, match="20 of its groups"):
        bench.real_images(task, real, [other])
    with pytest.raises(DataError, match="also in"):
        ablate(scene(), real, tmp_path / "out", setting(PlantedLearner()), apart=[real])
    assert not (tmp_path / "out").exists()


def test_bad_use_is_said(tmp_path):
    real = real_images(tmp_path / "real.npz", 60)
    with pytest.raises(ImgsynthError, match="leaves the scene as written"):
        ablate(scene(), real, tmp_path, setting(PlantedLearner()), factor=1)
    with pytest.raises(SceneError, match="names nothing that varies"):
        ablate(scene(), real, tmp_path, setting(PlantedLearner()), paths=["lihgt"])
    with pytest.raises(ImgsynthError, match="at least 2"):
        training_seeds(1)
    np.savez(
        tmp_path / "three.npz", images=np.zeros((6, 8, 8), np.uint8), labels=np.arange(6) % 3,
        classes=np.array(["a", "b", "c"]),
    )  # fmt: skip
    with pytest.raises(DataError, match="classes do not agree by name"):
        ablate(scene(), str(tmp_path / "three.npz"), tmp_path / "out", setting(PlantedLearner()))


def test_models_that_learned_nothing_are_said(tmp_path):
    real = real_images(tmp_path / "real.npz", 100)
    results = ablate(
        scene(), real, tmp_path / "out", setting(PlantedLearner(wanted=0.0)), paths=["light"], replicates=200
    )
    assert "hardly more than chance" in results["notes"][-1]


def test_halves_keep_groups_whole(tmp_path):
    data = Classify().load(real_images(tmp_path / "real.npz", 60, tracks=3))
    a, b = halves(Classify(), data)
    assert len(a) + len(b) == 60 and abs(len(a) - len(b)) <= 6
    assert not set(a.groups.tolist()) & set(b.groups.tolist())


@pytest.mark.slow
def test_on_real_handwriting_the_style_of_strokes_matters_and_the_light_does_not(tmp_path):
    from imgsynth import scenefile
    from imgsynth.probe.learner import learner_of

    use = setting(learner_of("classify", steps=150), count=500)
    paths = ["light", "objects.digit.shape.strokes.style"]
    results = ablate(
        scenefile.load("digits"), "sklearn:digits#validation", tmp_path, use, paths=paths, replicates=500
    )
    rows = {row["path"]: row["difference"] for row in results["randomizers"]}
    assert rows["light"]["ci95"] == [0, 0]  # the scanner's bitmap forgets it, to the byte
    assert rows[paths[1]]["mean"] < -0.04 and rows[paths[1]]["q"] < 0.05
