"""Studies with planted effects: what synthetic images are worth, mixtures, fine-tuning, nets, choices; misuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from study_for_tests import CLASSES, CentroidLearner, blobs, run, save, write

import imgsynth
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import SceneError
from imgsynth.study import load_study
from imgsynth.study.classify import Classify
from imgsynth.study.plan import Maker, plan_cells
from imgsynth.study.sets import Sets
from imgsynth.study.spec_arms import arm_of
from imgsynth.study.worth import rank_agreement

PER_REAL = 10  # synthetic images that stand for one real image, by the planted law


@pytest.fixture(autouse=True)
def _no_report(request, monkeypatch):
    if "real_report" not in request.fixturenames:
        monkeypatch.setattr("imgsynth.study.run.write_report", lambda *_: None)


@pytest.fixture
def real_report():
    """Asked for by the tests that look at the page."""


# ---- a learner whose error is a known law of the images it saw ----


def coded(n, kind, start=0):
    """Images 2×2 that say all there is to know: label, kind (0 real, 1 synthetic), number."""
    i = np.arange(start, start + n)
    labels = i % 3
    images = np.stack([labels, np.full(n, kind), i // 256, i % 256], axis=1).reshape(n, 2, 2, 1)
    return LabelledImages(images.astype(np.uint8), labels.astype(np.int64), CLASSES, None, "coded")


def planted_error(real, synthetic, pretrained=0):
    """.8·s^-.4 + .05 of s effective real images."""
    s = real + synthetic / PER_REAL + pretrained / PER_REAL
    return 0.8 * s**-0.4 + 0.05


@dataclass(frozen=True)
class Known:
    """A model that errs on a share of the images, spread evenly over them."""

    error: float
    seed: int
    seen: tuple[int, int]

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "known.json").write_text(json.dumps([self.error, self.seed, *self.seen]))


@dataclass(frozen=True)
class LawLearner:
    """Trains nothing: counts the images and says the law's error, with a little noise by seed."""

    steps: int = 100
    threads: int = 1
    noise: float = 0.002
    best_share: float = 0.0  # where a share of real images is asked for, the best one
    edge: float = 0.0  # of the net
    bonus: float = 0.0

    def describe(self):
        return {"steps": self.steps, "noise": self.noise, "best": self.best_share, "edge": self.edge}

    def phase(self, steps, changes):
        return replace(self, steps=steps, **changes)

    def train(self, data, seed, weights, progress, checkpoint, start):
        kind = data.images[:, 0, 1, 0]
        real, synthetic = int((kind == 0).sum()), int((kind == 1).sum())
        before = (0, 0) if start is None else self.load(start).seen
        error = planted_error(real + before[0], synthetic + before[1]) - self.edge
        if weights is not None:
            share = weights[kind == 0].sum() / weights.sum()
            error += 0.2 * abs(share - self.best_share)
        rng = np.random.default_rng([seed, real, synthetic])
        progress(self.steps, self.steps, 0.0)
        return Known(float(error + rng.normal(0, self.noise)), seed, (real, synthetic))

    def load(self, path):
        error, seed, real, synthetic = json.loads((path / "known.json").read_text())
        return Known(error, seed, (real, synthetic))

    def predict(self, model, images):
        labels = images[:, 0, 0, 0].astype(int)
        number = images[:, 1, 0, 0].astype(int) * 256 + images[:, 1, 1, 0]
        wrong = (number * 0.6180339887 + 0.1 * model.seed) % 1 < model.error
        said = np.where(wrong, (labels + 1) % 3, labels)
        return np.eye(3, dtype=np.float32)[said] * 0.9 + np.float32(0.1 / 3)


@pytest.fixture
def coded_folder(tmp_path):
    save(coded(400, 0), tmp_path / "train.npz")
    save(coded(60, 0, 1000), tmp_path / "validation.npz")
    save(coded(2000, 0, 2000), tmp_path / "test.npz")
    save(coded(3000, 1, 5000), tmp_path / "synthetic.npz")
    return tmp_path


def test_planted_worth_in_real_images_is_found(coded_folder):
    """3,000 synthetic images stand for 300 real ones; added to s real ones they add 300 too, where the curve
    reaches that far."""
    write(
        coded_folder,
        arms=["real", "synthetic"],
        scaling=None,
        real_sizes=[10, 25, 60, 150, 0.8],
        surface={"arm": "both", "sizes": [100, 300, 1000, 3000]},
    )
    results = run(coded_folder, learner=LawLearner(noise=0.0005))
    assert results["real_curve"]["sizes"] == [10, 25, 60, 150, 320, 400]
    assert results["real_curve"]["fit"]["alpha"] == pytest.approx(0.4, abs=0.1)
    worth = results["worth"]["synthetic"]
    assert worth["effective"]["value"] == pytest.approx(300, rel=0.15)
    assert worth["effective"]["lo"] <= 300 <= (worth["effective"]["hi"] or np.inf)
    assert worth["exchange"]["value"] == pytest.approx(PER_REAL, rel=0.15)
    cells = {(c["n_synthetic"], c["n_real"]): c["effective"] for c in results["surface"]["cells"]}
    assert len(cells) == 4 * 6
    for (n, s), effective in cells.items():
        if s + n / PER_REAL <= 330:
            assert effective["value"] == pytest.approx(n / PER_REAL, rel=0.3, abs=8), (n, s)
        if s + n / PER_REAL > 500:
            assert effective["censored"] == "at least", (n, s)
    assert results["surface"]["fit"] is not None


def test_planted_rate_gap_and_held_out_size_are_found(coded_folder):
    write(
        coded_folder, arms=["real", "synthetic"], scaling={"sizes": [20, 60, 180, 540, 1200, 3000]}, seeds=4
    )
    scaling = run(coded_folder, learner=LawLearner())["scaling"]
    low, high = scaling["fit"]["ci95"]["alpha"]
    assert low <= 0.4 <= high
    low, high = scaling["fit"]["ci95"]["C"]
    assert low <= 0.05 <= high
    assert scaling["holdout"]["n"] == 3000 and scaling["holdout"]["passed"]
    assert scaling["advice"]["flips_at"] == scaling["fit"]["flips_at"]


def test_fine_tuning_takes_as_many_steps_and_starts_from_the_synthetic_model(coded_folder):
    write(
        coded_folder,
        arms=["real", "synthetic", "finetune"],
        finetune={"pretrain": 0.3, "learner": {"noise": 0.0}},
        scaling=None,
        real_sizes=[20, 100, 200],
        surface={"arm": "finetune", "sizes": [300, 3000]},
    )
    results = run(coded_folder, learner=LawLearner())
    records = [json.loads(p.read_text()) for p in (coded_folder / "out/cells").glob("*.json")]
    steps = {(r["arm"], r["learner"]["steps"]) for r in records}
    assert steps == {("real", 100), ("synthetic", 100), ("pretrain", 30), ("finetune", 70)}
    # 3 seeds × (300 or 3,000 images): shared by every number of real images, and by the arm itself.
    assert sum(r["arm"] == "pretrain" for r in records) == 6
    arm = results["arms"]["finetune"]
    assert arm["images"] == {"real": 400, "synthetic": 3000}
    assert 1 - arm["accuracy"]["mean"] == pytest.approx(planted_error(400, 3000), abs=0.01)
    assert results["surface"]["fit"] is None and "too few" in results["surface"]["reason"]


def test_the_share_of_real_images_is_chosen_on_the_validation_images(coded_folder):
    write(coded_folder, both={"real_share": [0.2, 0.5, 0.8]}, scaling=None)
    results = run(coded_folder, learner=LawLearner(best_share=0.5))
    assert results["chosen"]["both"]["real_share"] == 0.5
    scores = [c["validation_accuracy"] for c in results["chosen"]["both"]["candidates"]]
    assert np.argmax(scores) == 1
    # The test images were shown to the chosen one only.
    scored = {p.name.split(".")[0] for p in (coded_folder / "out/cells").glob("*.*.npz")}
    trained = {p.stem for p in (coded_folder / "out/cells").glob("*.json")}
    assert len(trained) == 3 + 3 + 9 and len(scored) == 9
    assert results["verdict"]["mixed"] == "both"
    # As if it had been given.
    write(coded_folder, both={"real_share": 0.5}, scaling=None)
    given = run(coded_folder, "given", learner=LawLearner(best_share=0.5))
    assert given["arms"] == results["arms"]


def test_nets_that_rank_alike_and_nets_that_do_not(coded_folder):
    nets = {"small": {}, "middle": {}, "large": {}}
    write(coded_folder, nets=nets, scaling=None, arms=["real", "synthetic"])
    learners = {"small": LawLearner(), "middle": LawLearner(edge=0.02), "large": LawLearner(edge=0.04)}
    results = run(coded_folder, learner=learners)
    assert list(results["nets"]["arms"]) == list(nets)
    assert results["nets"]["agreement"]["synthetic"] == {"pairs": 3, "agree": 3, "tau_b": pytest.approx(1)}
    assert results["nets"]["arms"]["small"]["real"]["mean"] == results["arms"]["real"]["accuracy"]["mean"]
    gain = results["nets"]["difference"]["large"]["synthetic"]
    assert gain["ci95"][0] <= gain["mean"] <= gain["ci95"][1]
    assert rank_agreement([1, 2, 3], [1, 3, 2]) == {"pairs": 3, "agree": 2, "tau_b": pytest.approx(1 / 3)}
    assert rank_agreement([1, 2], [2, 1]) == {"pairs": 1, "agree": 0, "tau_b": None}


def test_transfer_both_ways_and_a_class_that_suffers(coded_folder):
    write(coded_folder, scaling=None)
    results = run(coded_folder, learner=OneClassOff())
    assert results["transfer"]["TRTS"]["n"] == 1998 or results["transfer"]["TRTS"]["n"] == 2000
    figures = results["transfer"]["synthetic"]
    assert figures["gap"]["mean"] == pytest.approx(figures["trtr"] - figures["tstr"])
    assert figures["reading"]
    found = {row["class"]: row for row in results["class_delta"]["synthetic"]}
    assert found["bee"]["significant"] and found["bee"]["delta"] < -0.15
    assert not found["ant"]["significant"] and not found["cat"]["significant"]
    assert all(row["q"] >= row["p"] for rows in results["class_delta"].values() for row in rows)


@dataclass(frozen=True)
class OneClassOff(LawLearner):
    """Synthetic images teach the bee badly."""

    def predict(self, model, images):
        labels = images[:, 0, 0, 0].astype(int)
        number = images[:, 1, 0, 0].astype(int) * 256 + images[:, 1, 1, 0]
        error = 0.1 + 0.2 * ((labels == 1) & (model.seen[0] == 0))
        wrong = (number * 0.6180339887 + 0.1 * model.seed) % 1 < error
        return np.eye(3, dtype=np.float32)[np.where(wrong, (labels + 1) % 3, labels)]


def test_models_that_learned_nothing_are_no_ground_for_a_verdict(coded_folder):
    write(coded_folder, scaling=None)
    verdict = run(coded_folder, learner=Guesser())["verdict"]
    assert verdict["action"] == "undecided" and "a guess does too" in verdict["sentence"]


@dataclass(frozen=True)
class Guesser(LawLearner):
    def predict(self, model, images):
        return np.eye(3, dtype=np.float32)[np.zeros(len(images), int)]


# ---- several generators ----


@pytest.fixture
def folder(tmp_path):
    save(blobs(90, 1), tmp_path / "train.npz")
    save(blobs(60, 2), tmp_path / "validation.npz")
    save(blobs(240, 3), tmp_path / "test.npz")
    save(blobs(300, 4, shift=1.0), tmp_path / "near.npz")
    save(blobs(120, 5, shift=4.0), tmp_path / "far.npz")
    return tmp_path


TWO = {"near": {"data": "near.npz"}, "far": {"data": "far.npz"}}


def maker(folder, **changes):
    write(folder, scaling=None, **changes)
    study, task = load_study(folder), Classify()
    read = {
        name: task.load(str(folder / f"{name}.npz"))
        for name in ("train", "validation", "test", "near", "far")
    }
    synthetic = {name: read[name] for name in ("near", "far")}
    sets = Sets(read["train"], read["validation"], read["test"], synthetic)
    return Maker(study, task, sets, sets.pools(task, folder / "work"), {"net": CentroidLearner()})


def counts(cell):
    return {part.pool.path.name: (len(part.rows), part.share) for part in cell.parts}


def test_a_mixture_keeps_its_shares_at_every_size(folder):
    make = maker(
        folder,
        synthetic=TWO,
        arms=["real", "mix", "both:mix", "synthetic:far", "synthetic"],
        mix={"shares": {"near": 3, "far": 1}},
    )
    whole = make.cell(arm_of("mix"), "net", 0)
    assert counts(whole) == {"synthetic-near": (300, 0.75), "synthetic-far": (120, 0.25)}
    weights = whole.weights()
    assert weights[:300].sum() == pytest.approx(0.75) and weights[300:].sum() == pytest.approx(0.25)
    small, large = (make.cell(arm_of("mix"), "net", 0, synthetic=n) for n in (10, 100))
    assert counts(large) == {"synthetic-near": (75, 0.75), "synthetic-far": (25, 0.25)}
    for a, b in zip(small.parts, large.parts, strict=True):
        assert set(a.rows) < set(b.rows)
    both = counts(make.cell(arm_of("both:mix"), "net", 0))
    assert both["real-train"] == (90, pytest.approx(90 / 510))
    assert both["synthetic-near"][1] == pytest.approx(0.75 * 420 / 510)
    half = replace(make, shares={"both:mix": 0.5}).cell(arm_of("both:mix"), "net", 0)
    assert counts(half)["real-train"][1] == 0.5 and counts(half)["synthetic-far"][1] == pytest.approx(0.125)
    assert counts(make.cell(arm_of("synthetic:far"), "net", 0)) == {"synthetic-far": (120, None)}
    together = make.cell(arm_of("synthetic"), "net", 0)
    assert counts(together) == {"synthetic-near": (300, None), "synthetic-far": (120, None)}
    assert together.weights() is None
    with pytest.raises(
        SceneError, match=r"size 500 is larger than .*near.*300 images, of which it would take 375"
    ):
        make.check(arm_of("mix"), ("scaling", "sizes", 0), synthetic=500)


def test_generators_are_told_apart(folder, real_report):
    write(
        folder,
        synthetic=TWO,
        arms=["real", "synthetic:near", "synthetic:far", "mix", "both:near"],
        mix={"shares": {"near": 1, "far": 1}},
        scaling={"arm": "synthetic:near", "sizes": [6, 30, 120]},
    )
    results = run(folder)
    score = {arm: s["accuracy"]["mean"] for arm, s in results["arms"].items()}
    assert score["synthetic:far"] < score["synthetic:near"] - 0.03
    assert set(results["what"]["images"]) >= {"synthetic near", "synthetic far", "real test"}
    assert results["paired"]["synthetic:far_minus_real"]["mean"] < 0
    assert results["verdict"]["mixed"] == "both:near"
    page = (folder / "out/report.html").read_text()
    assert "synthetic:near" in page and "mix − real" in page


def test_each_generator_has_a_folder_of_its_own(folder):
    made = []

    def render(scene, n, out, *, seed, workers, resume, progress, **options):
        made.append((scene, out.name))
        out.mkdir(parents=True, exist_ok=True)
        save(blobs(n, seed, shift=1.0), out / "set.npz")
        return out / "set.npz"

    sources = {name: {"scene": name, "count": 60, "seed": k + 10} for k, name in enumerate(("a", "b"))}
    write(folder, synthetic=sources, arms=["real", "synthetic"], scaling=None)
    results = run(folder, render=render)
    assert made == [("a", "synthetic-a"), ("b", "synthetic-b")]
    assert results["what"]["grounding"]["synthetic a"].startswith("render-exact")


# ---- misuse: one line, at its place, before anything is trained ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"real_sizes": [10, 20]}, r"study\.yaml:\d+: real_sizes: expected at least 3 sizes to fit a curve"),
        ({"real_sizes": [10, 20, 1.5]}, "fractions above 0 up to 1.0"),
        ({"real_sizes": [10, 20, 91]}, r"real_sizes\[2\]: size 91 is larger than train\.npz, .* 90"),
        ({"real_sizes": [9, 0.1, 30]}, r"real_sizes\[1\]: 0\.1 is 9 images, which another size is too"),
        ({"surface": {"sizes": [5, 10, 20]}}, "surface needs real_sizes"),
        (
            {"surface": {"sizes": [5, 10, 999]}, "real_sizes": [5, 9, 30]},
            r"surface\.sizes\[2\]: size 999 is larger",
        ),
        ({"surface": {"arm": "real", "sizes": [5]}, "real_sizes": [5, 9, 30]}, r"surface\.arm: .*both or finetune"),
        ({"arms": ["real", "synthetic:nera"]}, r"arms\[1\]: no generator .*'nera'; did you mean 'near'"),
        ({"arms": ["real", "mix"]}, r"arms\[1\]: mix needs mix"),
        ({"arms": ["real", "real:near"]}, r"arms\[1\]: expected real or KIND:GENERATOR"),
        ({"mix": {"shares": {"near": 1}}}, r"mix\.shares: expected the shares of at least 2"),
        ({"mix": {"shares": {"near": 1, "afr": 1}}}, r"mix\.shares\.afr: no generator .*'far'"),
        ({"both": {"real_share": [0.5]}}, "several different ones to choose from"),
        ({"both": {"real_share": [0.5, 1.5]}}, r"both\.real_share"),
        ({"finetune": {"pretrain": 0.5}}, "the arm finetune is not among the arms"),
        ({"finetune": {"pretrain": 1.0}, "arms": ["real", "finetune"]}, r"finetune\.pretrain"),
        ({"nets": ["a", "a"]}, "expected different nets"),
        ({"synthetic": {"real": {"data": "near.npz"}, "far": {"data": "far.npz"}}}, "name of a generator"),
        ({"synthetic": {"near": {"data": "near.npz"}, "far": {"data": "no.npz"}}}, r"synthetic\.far\.data: no\.npz"),
        ({"synthetic": {"near": {"data": "near.npz", "zap": 1}}}, r"synthetic\.near\.zap: unknown key"),
        ({"scaling": {"arm": "synthetic:x", "sizes": [5, 9, 20]}}, r"scaling\.arm: no generator is called 'x'"),
    ],
)  # fmt: skip
def test_misuse_is_one_line(folder, changes, message):
    write(folder, **{"synthetic": TWO, "scaling": None, **changes})
    with pytest.raises(SceneError, match=message) as caught:
        run(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "out/cells").exists()


def test_unfit_settings_of_a_net_or_of_fine_tuning_stand_where_they_are(folder):
    from imgsynth.study import run_study

    for changes, message in (
        ({"nets": {"a": {"stpes": 3}}}, r"nets\.a\.stpes: unknown key; did you mean 'steps'"),
        (
            {"finetune": {"learner": {"lr": -1}}, "arms": ["finetune"]},
            r"finetune\.learner\.lr: expected a number",
        ),
        ({"learner": {"masks": True}}, r"learner\.masks: unknown key"),
        (
            {"learner": {"masks": True}, "task": "detect"},
            r"learner\.masks: masks are what task: segment is for",
        ),
    ):
        write(folder, **{"synthetic": TWO, "scaling": None, **changes})
        with pytest.raises(SceneError, match=message):
            run_study(folder / "study.yaml", folder / "out", quiet=True)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_track_cut_in_two_is_refused(folder, part):
    """Other frames of one sign on both sides: no image is shared, and yet it leaks."""
    for name, first in (("train", 0), (part, 25)):
        data = blobs(90, 1 if name == "train" else 7)
        groups = np.array([f"t{first + i // 3}" for i in range(90)])
        np.savez(
            folder / f"{name}.npz",
            images=data.images,
            labels=data.labels,
            classes=np.array(CLASSES),
            groups=groups,
        )
    write(folder, synthetic=TWO, scaling=None)
    with pytest.raises(SceneError, match=rf"real\.{part}: leak: 5 tracks .*'t25'.*split by group"):
        run(folder)


def test_synthetic_images_that_are_test_images_are_refused_in_any_generator(folder):
    data = blobs(120, 5, shift=4.0)
    data.images[7] = blobs(240, 3).images[100]
    save(data, folder / "far.npz")
    write(folder, synthetic=TWO, scaling=None)
    with pytest.raises(SceneError, match=r"real\.test: leak: 1 of 120 images of far\.npz"):
        run(folder)


# ---- killed and started again ----


@dataclass(frozen=True)
class SlowLearner(CentroidLearner):
    def train(self, data, seed, weights, progress, checkpoint, start):
        time.sleep(0.3)
        return super().train(data, seed, weights, progress, checkpoint, start)


EVERYTHING = {
    "synthetic": TWO,
    "arms": ["real", "synthetic", "both", "finetune", "mix"],
    "mix": {"shares": {"near": 2, "far": 1}},
    "both": {"real_share": [0.3, 0.7]},
    "seeds": 2,
    "bootstrap": 100,
    "scaling": {"sizes": [6, 18, 48]},
    "real_sizes": [9, 30, 60],
    "surface": {"sizes": [20, 200]},
}


def test_killed_in_the_middle_and_started_again_it_ends_with_the_same_bytes(folder, real_report):
    write(folder, **EVERYTHING)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_study_arms import SlowLearner, run\n"
        "if __name__ == '__main__':\n"
        f"    run(Path({str(folder)!r}), learner=SlowLearner(), workers=1)\n"
    )
    (folder / "killed.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(Path(imgsynth.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, str(folder / "killed.py")], env=env)
    deadline = time.monotonic() + 60
    while len(list((folder / "out/cells").glob("*.json"))) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "out/cells").glob("*.json")}
    assert 7 <= len(before) < 30 and not (folder / "out/results.json").exists()
    run(folder)
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "out/cells").glob("*.json")}
    assert all(after[name] == when for name, when in before.items())  # none was trained twice
    run(folder, "fresh")
    for name in ("results.json", "report.html"):
        assert (folder / "out" / name).read_bytes() == (folder / "fresh" / name).read_bytes()


def test_equal_cells_are_one(folder):
    make = maker(folder, synthetic=TWO, arms=["real", "synthetic"], real_sizes=[10, 30, 1.0], mix=None)
    plan = plan_cells(make)
    assert [c.key() for c in plan.real_curve[90]] == [c.key() for c in plan.headline["real"]]
    assert len(plan.cells) == 3 * 2 + 2 * 3 and plan.starts == []


def test_a_diffusion_model_is_a_generator_of_a_study(tmp_path, monkeypatch):
    from imgsynth.study.grounding import grounding
    from imgsynth.study.progress import Bars
    from imgsynth.study.sets import gather

    file = tmp_path / "study.yaml"
    file.write_text(
        "name: s\ndescription: d\ntask: classify\n"
        "synthetic: {strokes: {scene: digits, count: 20}, diffusion: {model: digits, count: 20, seed: 2}}\n"
        'real: {train: "sklearn:digits:train", validation: "sklearn:digits:validation", test: "sklearn:digits:test"}\n'
        'arms: [real, "synthetic:diffusion"]\n'
    )
    study = load_study(file)
    with Bars() as bars:
        sets = gather(study, Classify(), tmp_path / "out", None, 1, bars)
        again = gather(study, Classify(), tmp_path / "out", None, 1, bars)
    drawn = sets.synthetic["diffusion"]
    assert len(drawn) == 20 and drawn.size == (8, 8) and drawn.counts().tolist() == [2] * 10
    np.testing.assert_array_equal(again.synthetic["diffusion"].images, drawn.images)
    said = grounding(study, sets)
    assert said["synthetic diffusion"] == "what the generator was asked for, not checked"
    for bad, match in (
        ("model: digits, count: 3, sampler: sobol", "sampler belongs to a scene"),
        ("model: digits", "count is missing"),
        ("model: digits, scene: digits, count: 3", "expected either"),
    ):
        file.write_text(
            "name: s\ndescription: d\ntask: classify\nsynthetic: {" + bad + "}\n"
            'real: {train: "sklearn:digits:train", validation: "sklearn:digits:validation", test: "sklearn:digits:test"}\n'
            "arms: [real]\n"
        )
        with pytest.raises(SceneError, match=match):
            load_study(file)
    text = file.read_text().replace("{model: digits, scene: digits, count: 3}", "{model: digitz, count: 3}")
    file.write_text(text)
    with Bars() as bars, pytest.raises(SceneError, match=r"study.yaml:4.*no shipped model 'digitz'"):
        gather(load_study(file), Classify(), tmp_path / "none", None, 1, bars)
