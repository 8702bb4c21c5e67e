"""The study: strict files, refusals, equal figures for any number of workers, resuming, intervals."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from study_for_tests import CLASSES, CentroidLearner, blobs, run, save, study_dict, write

import imgsynth
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ImgsynthError, SceneError
from imgsynth.evaluate.scaling import fit_scaling
from imgsynth.study import StudySpec, load_study, run_study
from imgsynth.study.cells import Cell, Part
from imgsynth.study.classify import Answers, Classify, Mapped
from imgsynth.study.measure import arm_figures, paired, resample
from imgsynth.study.resample import Resampler
from imgsynth.study.sets import nested_rows
from imgsynth.study.spec import shown_source


@pytest.fixture
def real_report():
    """Asked for by the tests that look at the page; it takes a second."""


@pytest.fixture(autouse=True)
def _no_report(request, monkeypatch):
    if "real_report" not in request.fixturenames:
        monkeypatch.setattr("imgsynth.study.run.write_report", lambda *_: None)


@pytest.fixture
def folder(tmp_path):
    save(blobs(90, 1), tmp_path / "train.npz")
    save(blobs(60, 2), tmp_path / "validation.npz")
    save(blobs(240, 3), tmp_path / "test.npz")
    save(blobs(300, 4, shift=1.0), tmp_path / "synthetic.npz")
    return tmp_path


# ---- the whole run ----


def test_results_have_the_contract_and_match_the_files(folder, real_report):
    write(folder)
    results = run(folder)
    assert json.loads((folder / "out/results.json").read_text()) == json.loads(json.dumps(results))
    assert list(results["arms"]) == ["real", "synthetic", "both"]
    for arm in results["arms"].values():
        accuracy = arm["accuracy"]
        low, high = accuracy["ci95"]
        assert low <= accuracy["mean"] <= high and high - low < 0.25
        assert accuracy["seeds"] == 3 and accuracy["n"] == 240 and len(accuracy["per_seed"]) == 3
        assert accuracy["mean"] == pytest.approx(np.mean(accuracy["per_seed"]))
        confusion = np.array(arm["confusion"])
        assert confusion.sum() == 3 * 240
        assert np.trace(confusion) / 720 == pytest.approx(accuracy["mean"])
        assert [c["class"] for c in arm["per_class"]] == list(CLASSES)
        assert arm["balanced_accuracy"]["mean"] == pytest.approx(
            np.mean([c["accuracy"] for c in arm["per_class"]])
        )
        assert arm["worst_class"]["mean"] <= arm["balanced_accuracy"]["mean"]
        assert 0 <= arm["ece"]["mean"] <= 1
    scaling = results["scaling"]
    assert scaling["sizes"] == [6, 18, 48, 120, 300]
    assert len(scaling["error"]) == 5 and [len(e) for e in scaling["errors_per_seed"]] == [3] * 5
    assert set(scaling["fit"]) >= {"alpha", "C", "D", "ci95", "identified", "reason"}
    assert scaling["error"][-1] == pytest.approx(1 - results["arms"]["synthetic"]["accuracy"]["mean"])
    assert scaling["fit"]["alpha"] == fit_scaling(scaling["sizes"], scaling["errors_per_seed"]).alpha
    gain = results["paired"]["both_minus_real"]
    by_arm = {a: results["arms"][a]["accuracy"]["mean"] for a in results["arms"]}
    assert gain["mean"] == pytest.approx(by_arm["both"] - by_arm["real"])
    assert results["what"]["images"] == {
        "synthetic": 300,
        "real train": 90,
        "real validation": 60,
        "real test": 240,
    }
    assert (folder / "out/report.html").read_text().startswith("<!doctype html>")
    assert not (folder / "out/work").exists()


def test_figures_do_not_depend_on_the_number_of_workers_nor_on_the_folder(folder, real_report):
    write(folder)
    run(folder, "one", workers=1)
    run(folder, "two", workers=2)
    for name in ("results.json", "report.html"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_cells_are_trained_once_and_shared_between_arm_and_curve(folder):
    write(folder)
    log = folder / "log"
    run(folder, learner=CentroidLearner(log))
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 3 * 3 + 5 * 3 - 3  # the largest size is the synthetic arm itself
    run(folder, learner=CentroidLearner(log))
    assert len(log.read_text().splitlines()) == len(lines)  # all cached


def test_stopped_and_started_again_it_goes_on(folder):
    write(folder)
    log = folder / "log"
    with pytest.raises(KeyboardInterrupt):
        run(folder, learner=CentroidLearner(log, stop_after=5))
    assert not (folder / "out/results.json").exists()
    assert len(list((folder / "out/cells").glob("*.json"))) == 5
    log.write_text("")
    run(folder, learner=CentroidLearner(log))
    assert len(log.read_text().splitlines()) == 21 - 5
    run(folder, "fresh")
    assert (folder / "out/results.json").read_bytes() == (folder / "fresh/results.json").read_bytes()


def test_a_damaged_record_is_trained_again(folder):
    write(folder)
    run(folder)
    before = (folder / "out/results.json").read_bytes()
    record = next((folder / "out/cells").glob("*.json"))
    record.write_text(record.read_text()[:20])
    log = folder / "log"
    run(folder, learner=CentroidLearner(log))
    assert len(log.read_text().splitlines()) == 1
    assert (folder / "out/results.json").read_bytes() == before


def test_damaged_predictions_say_what_to_do(folder):
    write(folder)
    run(folder)
    next((folder / "out/cells").glob("*.npz")).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="delete the file"):
        run(folder)


def test_a_worker_s_error_reaches_the_caller(folder):
    write(folder)
    with pytest.raises(DataError, match="this learner refuses"):
        run(folder, learner=RefusingLearner(), workers=2)
    assert not (folder / "out/results.json").exists()


class RefusingLearner(CentroidLearner):
    def train(self, data, seed, weights, progress, checkpoint, start):
        raise DataError("this learner refuses")


def sleep_for_ever(progress):
    progress(0, 1)
    time.sleep(600)


def test_workers_end_when_the_study_is_killed(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import multiprocessing, threading, time\n"
        "from imgsynth.study.workers import Crew\n"
        "from test_study import sleep_for_ever\n"
        "if __name__ == '__main__':\n"
        "    with Crew(2, 2) as crew:\n"
        "        job = lambda: crew.run(sleep_for_ever, [(), ()], lambda done: None)\n"
        "        threading.Thread(target=job, daemon=True).start()\n"
        "        while len(multiprocessing.active_children()) < 2: time.sleep(0.05)\n"
        "        print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "        time.sleep(600)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(Path(imgsynth.__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    time.sleep(1)  # past the start of the workers, else they fail for another reason
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while any(running(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(running(pid) for pid in children)


def running(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_test_images_are_scored_after_all_training(folder):
    write(folder)
    log = folder / "order"
    run(folder, learner=OrderedLearner(log))
    order = log.read_text().split()
    assert order.index("test") > max(i for i, word in enumerate(order) if word == "train")


class OrderedLearner(CentroidLearner):
    def train(self, data, seed, weights, progress, checkpoint, start):
        with self.log.open("a") as file:
            file.write("train ")
        return CentroidLearner().train(data, seed, weights, progress, checkpoint, start)

    def predict(self, model, images):
        with self.log.open("a") as file:
            file.write("test " if len(images) == 240 else "validation ")
        return super().predict(model, images)


def test_looks_at_the_test_images_are_counted_by_study(folder, real_report):
    write(folder)
    assert run(folder)["what"]["test_looks"] == 1
    assert run(folder)["what"]["test_looks"] == 1  # the same study again is no new look
    write(folder, first_seed=5)
    assert run(folder)["what"]["test_looks"] == 2
    assert "but 1 other study had been scored" in (folder / "out/report.html").read_text()


def test_real_share_weighs_the_draws(folder):
    write(folder, both={"real_share": 0.5}, scaling=None)
    log = folder / "log"
    results = run(folder, learner=CentroidLearner(log))
    weighted = [line for line in log.read_text().splitlines() if line.endswith("True")]
    assert len(weighted) == 3 and all("390" in line for line in weighted)
    assert "scaling" not in results
    pool = Mapped(Path("x"), "d", CLASSES)
    parts = (Part(pool, np.arange(10), 0.5), Part(pool, np.arange(30), 0.5))
    cell = Cell("both", "net", 30, 0, parts, "{}")
    assert cell.weights()[:10].sum() == pytest.approx(cell.weights()[10:].sum())


def test_synthetic_images_come_from_the_renderer(folder):
    calls = []

    def render(scene, n, out, *, seed, workers, resume, progress, **options):
        calls.append((scene, n, seed, resume, options))
        progress(n, n)
        out.mkdir(parents=True, exist_ok=True)
        save(blobs(n, seed, shift=1.0), out / "set.npz")
        return out / "set.npz"

    write(folder, synthetic={"scene": "blobs", "count": 300, "seed": 4, "set": ["a=1"]})
    results = run(folder, render=render)
    assert calls == [("blobs", 300, 4, True, {"sets": ("a=1",)})]
    save(blobs(300, 4, shift=1.0), folder / "synthetic.npz")
    write(folder)
    assert run(folder, "other")["arms"] == results["arms"]


def test_the_real_classifier_runs_and_resumes(folder):
    """A few steps of the real learner, in spawned processes; the same bytes as in this one."""
    learner = {"steps": 4, "width": 4, "batch": 8}
    write(folder, learner=learner, scaling=None, seeds=2, arms=["real", "synthetic"])
    a = run_study(folder / "study.yaml", folder / "a", workers=2, quiet=True)
    b = run_study(folder / "study.yaml", folder / "b", workers=1, quiet=True)
    assert a == b
    assert a["what"]["steps"] == 4 and a["what"]["learner"]["width"] == 4


# ---- refusals: one line that says where ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, r"study\.yaml:\d+: seeds: expected at least 2 seeds"),
        ({"scaling": {"sizes": [10, 20]}}, r"scaling\.sizes: expected at least 3 sizes"),
        ({"scaling": {"sizes": [10, 20, 20]}}, "different sizes"),
        (
            {"scaling": {"sizes": [10, 20, 301]}},
            r"scaling\.sizes\[2\]: size 301 is larger than synthetic\.npz, .* 300",
        ),
        ({"scaling": {"arm": "real", "sizes": [10, 20, 91]}}, r"size 91 is larger than train\.npz, .* 90"),
        ({"arms": ["real", "synth"]}, r"did you mean 'synthetic'"),
        ({"arms": []}, "expected different arms"),
        ({"sceds": 3}, r"study\.yaml:\d+: sceds: unknown key.*'seeds'"),
        ({"synthetic": {"scene": "digits"}}, "count is missing"),
        ({"synthetic": {"scene": "digits", "count": 3, "data": "x"}}, "expected either scene and count"),
        ({"synthetic": {"data": "synthetic.npz", "seed": 3}}, "seed belongs to a scene"),
        ({"both": {"real_share": 1.5}}, r"both\.real_share"),
        ({"arms": ["real"], "both": {"real_share": 0.5}}, "both is not among the arms"),
        ({"task": "detcet"}, "task"),
        ({"real": {"train": "train.npz", "validation": "validation.npz"}}, r"real\.test: is missing"),
        ({"synthetic": {"data": "nowhere.npz"}}, r"synthetic\.data: nowhere\.npz: no such file"),
    ],
)
def test_bad_studies_are_refused_in_one_line(folder, changes, message):
    write(folder, **changes)
    with pytest.raises(SceneError, match=message) as caught:
        run(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (folder / "out/cells").exists()


def test_unknown_learner_setting_names_the_nearest(folder):
    write(folder, learner={"step": 5})
    with pytest.raises(
        SceneError, match=r"study\.yaml:\d+: learner\.step: unknown key; did you mean 'steps'"
    ):
        run_study(folder / "study.yaml", folder / "out", quiet=True)
    write(folder, learner={"steps": -5})
    with pytest.raises(SceneError, match=r"learner\.steps: .*expected a whole number"):
        run_study(folder / "study.yaml", folder / "out", quiet=True)


@pytest.mark.parametrize("where", ["train", "synthetic", "validation"])
def test_test_images_among_the_training_images_are_refused(folder, where):
    test, data = blobs(240, 3), blobs(90, 8)
    data.images[17] = test.images[5]
    save(data, folder / f"{where}.npz")
    write(folder, scaling=None)
    with pytest.raises(
        SceneError, match=rf"leak: 1 of 90 images of {where}\.npz .*test\.npz \(row 17 is row 5 there\)"
    ):
        run(folder)


def test_validation_images_among_the_training_images_are_refused(folder):
    save(blobs(60, 1), folder / "validation.npz")
    rows = blobs(90, 1).subset(np.arange(60))
    save(rows, folder / "validation.npz")
    write(folder)
    with pytest.raises(SceneError, match=r"real\.validation: leak: 60 of 90"):
        run(folder)


@pytest.mark.parametrize("where", ["synthetic", "test"])
def test_classes_must_agree_by_name(folder, where):
    save(blobs(60, 6, classes=("ant", "bee", "cow")), folder / f"{where}.npz")
    write(folder, scaling=None)
    with pytest.raises(SceneError, match=rf"classes do not agree by name: {where}\.npz has 'cow'"):
        run(folder)


def test_classes_are_matched_by_name_not_by_number(folder):
    write(folder)
    expected = run(folder)["arms"]["synthetic"]["accuracy"]
    data = blobs(300, 4, shift=1.0)
    turned = LabelledImages(data.images, 2 - data.labels, CLASSES[::-1], None, "x")
    save(turned, folder / "synthetic.npz")
    assert run(folder, "turned")["arms"]["synthetic"]["accuracy"] == expected


def test_other_sizes_are_brought_to_the_real_form_and_noted(folder):
    data = blobs(300, 4)
    big = LabelledImages(
        np.repeat(data.images.repeat(2, 1).repeat(2, 2), 3, 3), data.labels, CLASSES, None, "x"
    )
    save(big, folder / "synthetic.npz")
    write(folder)
    results = run(folder)
    assert any("8×8 RGB brought to 4×4 grey" in note for note in results["what"]["notes"])


def test_paths_start_at_the_study_file(folder, monkeypatch):
    write(folder)
    monkeypatch.chdir(folder.parent)
    study = load_study(folder)
    assert study.locate("train.npz#train") == str(folder / "train.npz") + "#train"
    assert study.locate("sklearn:digits:test") == "sklearn:digits:test"
    assert study.locate("torchvision:MNIST:out:test") == "torchvision:MNIST:out:test"
    (folder / "out").mkdir()
    assert study.locate("torchvision:MNIST:out:test") == f"torchvision:MNIST:{folder / 'out'}:test"
    assert study.locate("digits") == "digits"


def test_shipped_studies_go_by_name(tmp_path, monkeypatch):
    """Also beside an output folder of the same name, and whatever the place of installation."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    study = load_study("digits")
    assert study.spec.name == "digits" and shown_source(study) == "digits"
    assert shown_source(load_study(study.folder / "study.yaml")) == "digits"
    assert study.locate(study.spec.synthetic.scene) == "digits"
    (tmp_path / "digits" / "study.yaml").write_text(yaml.safe_dump(study_dict()))
    assert load_study("digits").spec.name == "blobs"
    assert shown_source(load_study("digits")) == "digits/study.yaml"
    with pytest.raises(SceneError, match=r"nowhere.*no such file"):
        load_study("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match=r"empty/study\.yaml: no such file"):
        load_study("empty")


# ---- cells ----


def test_keys_change_with_everything_that_decides_the_weights():
    pool, other = Mapped(Path("a"), "d1", CLASSES), Mapped(Path("a"), "d2", CLASSES)
    rows = np.arange(6)
    cell = Cell("real", "net", 6, 0, (Part(pool, rows),), "{}")
    changed = [
        replace(cell, seed=1),
        replace(cell, settings='{"steps": 2}'),
        replace(cell, parts=(Part(other, rows),)),
        replace(cell, parts=(Part(pool, rows[:5]),)),
        replace(cell, parts=(Part(replace(pool, classes=CLASSES[::-1]), rows),)),
        replace(cell, parts=(Part(pool, rows), Part(other, rows))),
        replace(cell, parts=(Part(pool, rows, 0.5), Part(other, rows, 0.5))),
        replace(cell, parts=(Part(other, rows), Part(pool, rows))),
        replace(cell, start=cell),
        replace(cell, start=replace(cell, seed=1)),
    ]
    assert len({cell.key(), *(c.key() for c in changed)}) == 11
    # What it is called, and where it lies, change nothing.
    moved = replace(cell, arm="x", net="y", size=3, parts=(Part(replace(pool, path=Path("b")), rows),))
    assert moved.key() == cell.key()


def test_subsets_are_nested_and_the_whole_is_the_same_for_any_seed():
    data = blobs(300, 4)
    task = Classify()
    small, large = nested_rows(task, data, 30, 1), nested_rows(task, data, 120, 1)
    assert set(small) < set(large)
    assert np.all(np.bincount(data.labels[small]) == 10)
    assert not np.array_equal(nested_rows(task, data, 30, 2), small)
    assert np.array_equal(nested_rows(task, data, 300, 1), nested_rows(task, data, None, 2))


# ---- measuring ----


def probabilities(correct, labels, classes=3):
    """(K, n, C) with the right answer where `correct` (K, n), else the next class."""
    said = np.where(correct, labels, (labels + 1) % classes)
    return np.eye(classes, dtype=np.float32)[said] * 0.8 + np.float32(0.2 / 3)


def scores(probabilities, labels, weights):
    """Of the first seed."""
    return Answers(probabilities[0], labels).figures(weights)


def measure(spec, arms, labels, groups, classes=CLASSES):
    draw = Resampler(len(labels), groups, spec.bootstrap)
    measured = resample(Classify(), {a: [Answers(p, labels) for p in k] for a, k in arms.items()}, draw)
    counts = np.bincount(labels, minlength=len(classes))
    figures = {a: arm_figures(Classify(), a, measured, classes, counts, len(labels)) for a in arms}
    return {"arms": figures, "paired": paired(measured)}


def test_scores_of_a_known_table():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    correct = np.array([[1, 1, 1, 0, 1, 0, 1, 1]], bool)
    got = scores(probabilities(correct, labels), labels, np.ones((1, 8), np.float32))
    assert got["accuracy"][0] == pytest.approx(6 / 8)
    assert got["per_class"][0] == pytest.approx([3 / 4, 1 / 2, 1])
    assert got["balanced_accuracy"][0] == pytest.approx(0.75)
    assert got["worst_class"][0] == pytest.approx(0.5)
    confidence = 0.8 + 0.2 / 3
    assert got["ece"][0] == pytest.approx(abs(confidence - 6 / 8), abs=1e-6)
    # Weights are repeats: twice the last image is a table with one more row.
    weights = np.ones((1, 8), np.float32)
    weights[0, 3] = 2
    again = np.append(np.arange(8), 3)
    longer = scores(
        probabilities(correct[:, again], labels[again]), labels[again], np.ones((1, 9), np.float32)
    )
    weighted = scores(probabilities(correct, labels), labels, weights)
    for name in got:
        assert weighted[name] == pytest.approx(longer[name], abs=1e-6)


def test_bootstrap_variance_of_a_mean_is_unbiased_for_few_units():
    """Drawing k − 1 of k units: E[variance] is s²/k, for three seeds too."""
    values = np.array([0.9, 0.95, 0.92])
    drawn = Resampler(5, None, 200_000).seeds(3, 0) @ values
    assert drawn.mean() == pytest.approx(values.mean(), abs=2e-4)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)


def test_groups_are_drawn_whole():
    groups = np.array(["a", "a", "b", "b", "b", "c"])
    draw = Resampler(6, groups, 50)
    weights = np.concatenate([draw.images(chunk) for chunk in draw.chunks()])
    assert draw.units == 3 and weights.shape == (50, 6)
    assert np.array_equal(weights[:, 0], weights[:, 1]) and np.array_equal(weights[:, 2], weights[:, 4])
    assert np.all(weights[:, 0] + weights[:, 2] + weights[:, 5] == 2)


def spec(**changes):
    return StudySpec.model_validate(study_dict(scaling=None, **changes))


def simulated(rng, n, rates, seed_sd):
    """Arms that answer an image right with a chance of the image's own, and seeds of their own quality."""
    hardness = rng.normal(0, 1, n)
    out = {}
    for arm, rate in rates.items():
        level = rate + rng.normal(0, seed_sd, 3)
        chance = 1 / (1 + np.exp(-(level[:, None] + hardness[None])))
        out[arm] = rng.random((3, n)) < chance
    return out


def test_intervals_cover_population_accuracy():
    """Seeds and images both vary; 95 % intervals must hold the value over all of both about as often."""
    rates, seed_sd, hits, paired = {"real": 1.6, "both": 1.9}, 0.15, [], []
    big = np.random.default_rng(0)
    truth = {
        a: np.mean(1 / (1 + np.exp(-(r + big.normal(0, np.hypot(1, seed_sd), 400_000)))))
        for a, r in rates.items()
    }
    for repeat in range(60):
        rng = np.random.default_rng(repeat + 1)
        labels = rng.integers(0, 3, 300)
        correct = simulated(rng, 300, rates, seed_sd)
        got = measure(
            spec(arms=["real", "both"], bootstrap=300),
            {arm: probabilities(c, labels) for arm, c in correct.items()},
            labels, None,
        )  # fmt: skip
        low, high = got["arms"]["real"]["accuracy"]["ci95"]
        hits.append(low <= truth["real"] <= high)
        low, high = got["paired"]["both_minus_real"]["ci95"]
        paired.append(low <= truth["both"] - truth["real"] <= high)
    assert np.mean(hits) >= 0.85 and np.mean(paired) >= 0.85  # P(< 51 of 60 | 95 %) < 0.2 %


def test_intervals_hold_over_six_groups():
    """Six writers, each with a level of his own: plain percentiles would hold the truth in 86 % of cases."""
    sd, hits = 0.5, []
    level = np.random.default_rng(1).normal(1.5, np.hypot(sd, 0.15), 400_000)
    truth = np.mean(1 / (1 + np.exp(-level)))
    for repeat in range(120):
        rng = np.random.default_rng(repeat)
        groups = np.repeat(np.arange(6), 50)
        chance = 1.5 + rng.normal(0, sd, 6)[groups][None] + rng.normal(0, 0.15, 3)[:, None]
        correct = rng.random((3, 300)) < 1 / (1 + np.exp(-chance))
        labels = rng.integers(0, 3, 300)
        arms = {"real": probabilities(correct, labels)}
        low, high = measure(spec(arms=["real"], bootstrap=200), arms, labels, groups)["arms"]["real"][
            "accuracy"
        ]["ci95"]
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.89  # P(< 107 of 120 | 95 %) < 1 %


def test_one_group_is_as_none():
    labels = np.arange(60) % 3
    arms = {"real": probabilities(np.random.default_rng(0).random((3, 60)) < 0.8, labels)}
    none, one = (measure(spec(arms=["real"]), arms, labels, g) for g in (None, np.zeros(60)))
    assert none == one


def test_pairing_narrows_the_difference():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 400)
    easy = rng.random(400) < 0.8
    a = np.repeat(easy[None], 3, 0)
    b = a.copy()
    b[:, :40] = True
    arms = {"real": probabilities(a, labels), "both": probabilities(b, labels)}
    got = measure(spec(arms=["real", "both"]), arms, labels, None)
    low, high = got["paired"]["both_minus_real"]["ci95"]
    low_arm, high_arm = got["arms"]["real"]["accuracy"]["ci95"]
    assert 0 < low < high and high - low < (high_arm - low_arm) / 2


def test_a_class_without_test_images_has_no_accuracy():
    labels = np.array([0, 1] * 20)
    got = measure(
        spec(arms=["real"]),
        {"real": probabilities(np.ones((2, 40), bool), labels)},
        labels,
        None,
    )
    assert got["arms"]["real"]["per_class"][2]["accuracy"] is None
    assert got["arms"]["real"]["balanced_accuracy"]["mean"] == 1
    json.dumps(got, allow_nan=False)


def test_importing_the_study_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, imgsynth.study; print([m for m in ('torch', 'warp', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_full_disk_is_one_line(folder, monkeypatch):
    write(folder)

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("imgsynth.study.classify.np.save", full)
    with pytest.raises(ImgsynthError, match="the disk is full"):
        run(folder)
