"""Augmentation of scarce classes, on sets where what generated images are worth is known."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.augment import budget, measure, mix
from imgsynth.augment.arms import BASELINES, CEILING, Setting, chances, generated, real_share
from imgsynth.augment.options import Options
from imgsynth.augment.rounds import split_evenly
from imgsynth.augment.run import augment
from imgsynth.augment.sets import gather
from imgsynth.dataset.labelled import LabelledImages, concat
from imgsynth.dataset.sources import load
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.study.cells import Cell, Part
from imgsynth.study.classify import Classify

CLASSES = ("ant", "bee", "cat", "dog")


# ---- a world of four kinds, each with three poses; scarce classes have been seen in one pose only ----

POSES = np.random.default_rng(5).uniform(50, 200, (4, 3, 4, 4, 1))


def animals(labels, poses, seed, name="animals", groups=None):
    rng = np.random.default_rng(seed)
    images = POSES[labels, poses] + rng.normal(0, 22, (len(labels), 4, 4, 1))
    return LabelledImages(np.clip(images, 0, 255).astype(np.uint8), labels, CLASSES, groups, name)


def save(data, path, **extra):
    given = {} if data.groups is None else {"groups": data.groups}
    np.savez(path, images=data.images, labels=data.labels, classes=np.array(data.classes), **given, **extra)
    return str(path)


def world(folder):
    """train (imbalance 50, the scarce classes in pose 0 only), validation, test."""
    labels = np.repeat(np.arange(4), [200, 60, 8, 4])
    rng = np.random.default_rng(1)
    poses = np.where(labels >= 2, 0, rng.integers(0, 3, len(labels)))
    even = np.arange(240) % 4
    return {
        "real": save(animals(labels, poses, 1), folder / "train.npz"),
        "validation": save(animals(even, np.arange(240) // 4 % 3, 2), folder / "validation.npz"),
        "test": save(animals(even, np.arange(240) // 4 % 3, 3), folder / "test.npz"),
    }


@dataclass
class Nearest:
    """The label of the nearest of the training images that were drawn."""

    images: np.ndarray
    labels: np.ndarray

    def predict(self, images):
        flat = images.reshape(len(images), -1).astype(float)
        said = self.labels[((flat[:, None] - self.images[None]) ** 2).sum(-1).argmin(1)]
        return np.eye(len(CLASSES), dtype=np.float32)[said]

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "nearest.npz", images=self.images, labels=self.labels)


@dataclass(frozen=True)
class NearestLearner:
    """Remembers `steps` images drawn by their weights. Settings count nothing but for the log of what was asked."""

    steps: int = 120
    changes: tuple = ()
    log: Path | None = None
    threads: int = 1

    def describe(self):
        return {"steps": self.steps, "lr": 1.0, **dict(self.changes)}

    def phase(self, steps, changes):
        return replace(self, steps=steps, changes=tuple(sorted(changes.items())))

    def train(self, data, seed, weights, progress, checkpoint, start):
        p = np.ones(len(data)) if weights is None else weights
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps([seed, self.describe(), len(data), float(p.max() / p.sum())]) + "\n")
        rows = np.random.default_rng(seed).choice(len(data), self.steps, p=p / p.sum())
        return Nearest(data.images[rows].reshape(self.steps, -1).astype(float), data.labels[rows])

    def load(self, path):
        with np.load(path / "nearest.npz") as arrays:
            return Nearest(arrays["images"], arrays["labels"])

    def predict(self, model, images):
        return model.predict(np.asarray(images))


@dataclass
class Maker:
    """Makes animals in all poses where `true`, and others than were asked for where not."""

    name: str
    true: bool = True
    able: tuple = CLASSES

    def classes(self):
        return self.able

    def images(self, wanted, sets, tell):
        labels = np.repeat(np.arange(4), wanted)
        order = np.concatenate([np.arange(n) for n in wanted])
        shown = labels if self.true else (labels + 1 + order % 3) % 4
        made = animals(shown, order % 3, 9)
        return replace(made, labels=labels, name=self.name)

    def record(self):
        return {"kind": "toy", "generation": 1, "parents": ["p"]}


def run(folder, out="out", sources=(), learner=None, **changes):
    data = world(folder)
    options = Options(out=folder / out, workers=1, seeds=3, **{**data, **changes})
    return augment(options, learner=learner or NearestLearner(), sources=sources, quiet=True)


@pytest.fixture(scope="module")
def won(tmp_path_factory):
    folder = tmp_path_factory.mktemp("won")
    return folder, run(folder, sources=[Maker("perfect")])


def test_a_perfect_generator_wins_and_the_verdict_says_so(won):
    _, r = won
    assert (r["verdict"]["action"], r["verdict"]["rule"]) == ("generated images win", 3)
    assert set(r["deltas"]) == {arm.name for arm in BASELINES}
    for entry in r["deltas"].values():
        assert entry["balanced_accuracy"]["ci95"][0] > 0.05 and entry["balanced_accuracy"]["p"] < 0.01
    made = np.array(r["budget"]["per_class"])
    assert made[0] == 0 and made[2] > 0 and made[3] > 0  # the largest class needs none
    assert r["preferred"] == "generated"
    assert r["what"]["imbalance"] == 50 and r["what"]["test_looks"] == 1
    assert r["what"]["majority"] == ["ant"] and r["what"]["minority"] == ["dog"]


def test_the_mixed_set_is_what_the_budget_says_and_learn_reads_it(won):
    folder, r = won
    data = load(str(folder / "out" / "mixed.npz"))
    with np.load(folder / "out" / "mixed.npz") as arrays:
        source = arrays["source"]
    real = source == "real"
    assert set(source[~real]) == {"perfect"}
    assert np.bincount(data.labels[real], minlength=4).tolist() == [200, 60, 8, 4] == r["what"]["counts"]
    assert np.bincount(data.labels[~real], minlength=4).tolist() == r["budget"]["per_class"]
    assert data.weights.mean() == pytest.approx(1)
    of_class = [data.weights[data.labels == c].sum() for c in range(4)]
    alike = r["mixed"]["training"]["balanced"]
    assert np.allclose(of_class, of_class[0] if alike else np.bincount(data.labels))
    record = json.loads((folder / "out" / "mixed.json").read_text())
    assert record == r["mixed"] and record["generation"] == 1 and "p" in record["parents"]
    for row in record["per_class"]:
        least = record["training"]["real_share"]
        c = CLASSES.index(row["class"])
        share = data.weights[real & (data.labels == c)].sum() / of_class[c]
        assert (
            row["real_share"] == pytest.approx(share)
            and share >= min(least, 1) - 1e-9 >= record["floor"] - 1e-9
        )
    assert Path(folder / "out" / "model" / "nearest.npz").is_file()
    with pytest.raises(DataError, match="holds generated images"):
        gather(str(folder / "out" / "mixed.npz"))
    own = load(str(folder / "out" / "real.npz"))  # what a generator may be trained on
    assert np.array_equal(own.images, load(str(folder / "train.npz")).images)


def test_a_generator_of_wrong_images_gets_no_budget_and_plain_augmentation_wins(tmp_path):
    r = run(tmp_path, sources=[Maker("garbage", true=False)])
    assert r["budget"]["images"] == 0 and r["budget"]["per_class"] == [0] * 4
    assert [one["kept"] for one in r["budget"]["rounds"]] == [True, False]
    assert (r["verdict"]["action"], r["verdict"]["rule"]) == ("plain augmentation wins", 2)
    assert r["verdict"]["sentence"].startswith("Plain augmentation wins")
    assert "generated" not in r["arms"] and r["deltas"] == {}
    with np.load(tmp_path / "out" / "mixed.npz") as arrays:
        assert set(arrays["source"]) == {"real"}


def test_of_two_generators_the_good_one_is_taken(tmp_path):
    r = run(tmp_path, sources=[Maker("garbage", true=False), Maker("perfect")])
    assert r["budget"]["sources"] == ["perfect"] and r["verdict"]["rule"] == 3
    first = [one["sources"] for one in r["budget"]["rounds"] if one["round"] == 1]
    assert first == [["garbage"], ["perfect"], ["garbage", "perfect"]]


def test_a_generator_makes_only_what_it_can(tmp_path):
    r = run(tmp_path, sources=[Maker("dogs", able=("dog", "elk"))], budget=50)
    assert np.flatnonzero(r["budget"]["per_class"]).tolist() == [3] and r["budget"]["images"] <= 50
    with pytest.raises(ImgsynthError, match="makes none of the classes, by name: it has 'elk' …"):
        run(tmp_path, "other", sources=[Maker("elks", able=("elk",))])


def test_without_a_generator_the_baselines_are_measured(tmp_path):
    r = run(tmp_path)
    assert r["verdict"]["action"] == "measured" and r["budget"] is None
    assert set(r["arms"]) == {"plain", "oversampling", "logit_adjustment", "cutmix"}


def test_the_ceiling_is_what_all_real_images_reach(tmp_path):
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(4), 200)
    full = save(animals(labels, rng.integers(0, 3, len(labels)), 4), tmp_path / "full.npz")
    log = tmp_path / "log"
    asked = {"real": full, "long_tail": 100.0, "ceiling": True}
    r = run(tmp_path, learner=NearestLearner(log=log), **asked)
    top, best = r["ceiling"], r["arms"][r["ceiling"]["against"]]
    assert r["what"]["counts"] == [200, 43, 9, 2]
    assert top["against"] == r["verdict"]["against"] and set(r["arms"]) == {arm.name for arm in BASELINES}
    above = top["delta"]["balanced_accuracy"]
    assert above["mean"] == pytest.approx(
        top["balanced_accuracy"]["mean"] - best["balanced_accuracy"]["mean"]
    )
    assert above["ci95"][0] > 0  # two dogs in two poses are fewer than two hundred in three
    assert top["sentence"] in (tmp_path / "out" / "report.html").read_text()
    seen = {json.loads(line)[2] for line in log.read_text().splitlines()}
    assert seen == {254, 800}
    assert [s["said"] for s in top["settings"]] == [s.said for s in CEILING.settings]
    with np.load(tmp_path / "out" / "mixed.npz") as arrays:
        assert len(arrays["labels"]) == 254  # and none of them is handed out
    assert r["preferred"] in r["arms"]
    assert run(tmp_path, "plain", real=full, long_tail=100.0)["ceiling"] is None


def test_every_arm_gets_as_many_settings_steps_and_seeds(tmp_path):
    log = tmp_path / "log"
    run(tmp_path, sources=[Maker("perfect")], learner=NearestLearner(log=log))
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({json.dumps(one) for one in asked}) == len(asked)  # nothing is trained twice
    assert {one[1]["steps"] for one in asked} == {120, 60}
    arms = [*BASELINES, generated(0.25)]
    assert {len(arm.settings) for arm in arms} == {3}
    full = [one for one in asked if one[1]["steps"] == 120]
    assert len(full) == sum(len(arm.settings) for arm in arms) + 2 * len(
        arms
    )  # tuned with seed 0, then 1 and 2


def test_killed_and_resumed_it_ends_the_same(tmp_path, won):
    class Killed(Exception):
        pass

    @dataclass(frozen=True)
    class Dying(NearestLearner):
        def train(self, data, seed, weights, progress, checkpoint, start):
            if self.log.exists() and self.log.stat().st_size > 1500:
                raise Killed
            return super().train(data, seed, weights, progress, checkpoint, start)

    log = tmp_path / "log"
    with pytest.raises(Killed):
        run(tmp_path, sources=[Maker("perfect")], learner=Dying(log=log))
    with pytest.raises(ImgsynthError, match="--resume"):
        run(tmp_path, sources=[Maker("perfect")])
    before = len(log.read_text().splitlines())
    assert before > 3
    r = run(tmp_path, sources=[Maker("perfect")], learner=NearestLearner(log=log), resume=True)
    folder, whole = won
    for one in (r, whole):  # but for where it lies and how it was called
        one["what"] = {k: v for k, v in one["what"].items() if k not in ("data", "options", "command")}
    assert r == whole
    assert (tmp_path / "out" / "mixed.npz").read_bytes() == (folder / "out" / "mixed.npz").read_bytes()
    assert not (tmp_path / "out" / "work").exists()
    assert len(set(log.read_text().splitlines())) == len(log.read_text().splitlines())


def test_the_report_shows_the_verdict_and_asks_nobody(won):
    folder, r = won
    page = (folder / "out" / "report.html").read_text()
    assert r["verdict"]["sentence"].split(":")[0] in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    for title in ("Arms", "What generated images add", "How the budget was decided", "Class by class"):
        assert title in page


# ---- the sets ----


def test_validation_and_test_are_split_off_by_group_and_class(tmp_path):
    labels = np.repeat(np.arange(4), 40)
    data = animals(labels, np.arange(160) % 3, 0, groups=np.array([f"t{i // 4}" for i in range(160)]))
    sets = gather(save(data, tmp_path / "a.npz"))
    tracks = [set(one.groups) for one in sets.named().values()]
    assert not (tracks[0] & tracks[1] or tracks[0] & tracks[2] or tracks[1] & tracks[2])
    assert sum(len(one) for one in sets.named().values()) == 160
    assert all((one.counts() > 0).all() for one in sets.named().values())
    part = load(f"{tmp_path / 'a.npz'}#test")
    assert np.array_equal(part.images, sets.test.images)  # the same part as everywhere
    cut = gather(str(tmp_path / "a.npz"), cut=10)
    assert cut.train.counts().max() == 10 * cut.train.counts().min() or cut.train.counts().min() == 3
    assert np.array_equal(cut.test.images, sets.test.images) and "long tail" in cut.notes[-1]


def test_leaks_between_the_sets_are_refused(tmp_path):
    even = np.arange(40) % 4
    a, b = (
        animals(even, even % 3, seed, groups=np.array([f"{seed}/{i // 4}" for i in range(40)]))
        for seed in (0, 1)
    )
    paths = {name: save(data, tmp_path / f"{name}.npz") for name, data in (("a", a), ("b", b))}
    both = save(concat(a.subset([5]), b), tmp_path / "both.npz")
    with pytest.raises(
        DataError,
        match=r"leak: 1 images of .*a.npz \(train\) are also in .*both.npz \(test\): row 5 is row 0",
    ):
        gather(paths["a"], paths["b"], both)
    other = save(replace(animals(even, even % 3, 7), groups=a.groups), tmp_path / "c.npz")
    with pytest.raises(DataError, match=r"leak: 10 groups \(tracks\), such as '0/0', are in"):
        gather(paths["a"], paths["b"], other)
    with pytest.raises(DataError, match="class 'cow'"):
        gather(
            paths["a"], paths["b"], save(replace(b, classes=("ant", "bee", "cat", "cow")), tmp_path / "d.npz")
        )


# ---- arithmetic ----


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 90)), min_size=1, max_size=8), st.integers(0, 300))
def test_allocation_spends_the_budget_within_the_caps(rows, total):
    wanted, most = (np.array(v) for v in zip(*rows, strict=True))
    out = budget.allocate(total, wanted, most)
    assert (out >= 0).all() and (out <= np.where(wanted > 0, most, 0)).all()
    assert out.sum() == min(total, most[wanted > 0].sum())


def test_allocation_is_proportional_and_passes_on_what_is_full():
    assert budget.allocate(100, [3, 1, 0], [1000, 1000, 1000]).tolist() == [75, 25, 0]
    assert budget.allocate(100, [3, 1, 1], [20, 1000, 1000]).tolist() == [20, 40, 40]
    assert budget.allocate(7, [1, 1, 1], [9, 9, 9]).tolist() == [3, 2, 2]
    assert budget.totals(100, 3) == [25, 50, 100] and budget.totals(0, 3) == []


def test_a_class_hardly_seen_is_drawn_to_what_such_classes_reach():
    counts = np.array([1000, 1000, 100, 100, 10, 10])
    recall = budget.shrunk_recall([95, 93, 80, 78, 1, 0], [100, 100, 100, 100, 1, 0], counts)
    assert np.allclose(recall[:2], [0.95, 0.93], atol=0.02)
    assert 0.5 < recall[4] < 0.9 and 0.5 < recall[5] < 0.8  # one lucky image, and none at all
    assert recall[4] >= recall[5]
    hardly = budget.need(recall, counts)
    assert hardly[0] == hardly[1] == 0 and hardly[5] > hardly[2] > 0
    assert (budget.shrunk_recall([0, 0], [0, 0], [5, 1]) == 0.5).all()


def test_real_images_keep_their_floor():
    assert real_share(10, 0, 0.25) == 1 and real_share(0, 10, 0.25) == 0
    assert real_share(90, 10, 0.25) == 0.9 and real_share(1, 99, 0.25) == 0.25
    labels, real = np.array([0, 0, 0, 1, 1]), np.array([True, True, False, True, False])
    w = chances(labels, real, Setting("", balanced=True, real=0.5))
    assert w.sum() == pytest.approx(5) and w[:3].sum() == pytest.approx(w[3:].sum())
    assert w[3] == pytest.approx(w[4])
    assert all(s.real >= 0.6 for s in generated(0.6).settings)
    said = mix.per_class(("a", "b"), labels, real, w)
    assert said[1] == {"class": "b", "real": 1, "generated": 1, "real_share": 0.5}
    w = chances(labels, real, Setting("", real=0.8))  # classes as they are: 3 and 2 rows
    assert (
        w[:3].sum() == pytest.approx(3) and w[:2].sum() == pytest.approx(2.4) and w[3] == pytest.approx(1.6)
    )
    assert np.allclose(chances(labels, np.ones(5, bool), Setting("")), 1)


def test_images_are_shared_out_among_those_who_can_make_them():
    able = [np.array([1, 1, 0], bool), np.array([1, 0, 0], bool), np.array([1, 1, 1], bool)]
    parts = split_evenly(np.array([10, 5, 3]), able, (0, 1, 2))
    assert [p.tolist() for p in parts] == [[4, 3, 0], [3, 0, 0], [3, 2, 3]]


@pytest.mark.parametrize(
    ("delta", "others", "common", "rule"),
    [
        ((0.05, 0.02, 0.08), (0.06, 0.03, 0.09), 0.0, 3),
        ((0.05, 0.02, 0.08), (0.06, 0.03, 0.09), -0.01, 4),
        ((-0.01, -0.03, 0.01), (0.06, 0.03, 0.09), 0.0, 5),
        ((0.01, -0.01, 0.03), (0.06, 0.03, 0.09), 0.0, 6),
        ((0.05, 0.02, 0.08), (0.06, -0.01, 0.13), 0.0, 6),  # not beyond doubt against one of them
    ],
)
def test_the_verdict_follows_its_rules(delta, others, common, rule):
    def figure(mean, low, high):
        return {"mean": mean, "ci95": [low, high], "p": 0.01 if low > 0 else 0.5}

    results = {
        "arms": {k: {"balanced_accuracy": {"mean": v}} for k, v in {"plain": 0.7, "cutmix": 0.8, "generated": 0.85}.items()},
        "deltas": {
            "cutmix": {"balanced_accuracy": figure(*delta), "majority": figure(common, common - 0.1, common + 0.1)},
            "plain": {"balanced_accuracy": figure(*others), "majority": figure(0, 0, 0)},
        },
    }  # fmt: skip
    said = measure.verdict(results, {"cutmix": "CutMix", "plain": "plain"}, "")
    assert said["rule"] == rule
    if rule == 3:  # and t must agree with the percentiles
        results["deltas"]["plain"]["balanced_accuracy"]["p"] = 0.07
        assert measure.verdict(results, {"cutmix": "CutMix", "plain": "plain"}, "")["rule"] == 6
    assert said["against"] == "cutmix"
    assert ("Plain augmentation wins" in said["sentence"]) == (rule == 5)


def test_the_tail_is_a_third_on_either_side():
    thirds = measure.tail(np.array([5, 900, 80, 3, 700, 20]))
    assert thirds["majority"].tolist() == [1, 4] and thirds["minority"].tolist() == [0, 3]


# ---- weights in data ----


def test_weights_travel_with_the_rows_and_into_the_training(tmp_path):
    data = animals(np.arange(8) % 4, np.zeros(8, int), 0)
    path = save(data, tmp_path / "w.npz", weights=np.arange(8.0))
    loaded = load(path)
    assert loaded.subset([3, 1]).weights.tolist() == [3, 1] and loaded.digest() != data.digest()
    both = concat(data, loaded)
    assert np.allclose(both.weights[:8], 1) and np.allclose(both.weights[8:], np.arange(8) / 3.5)
    for wrong, said in (
        (np.arange(7.0), "expected 8 numbers"),
        (-np.arange(8.0), "≥ 0"),
        (np.array(["a"] * 8), "numbers"),
    ):
        with pytest.raises(DataError, match=said):
            load(save(data, tmp_path / "x.npz", weights=wrong))


def test_a_study_draws_by_the_weights_of_its_data(tmp_path):
    data = animals(np.arange(8) % 4, np.zeros(8, int), 0)
    plain = Classify().pool(tmp_path, "plain", data)
    weighted = Classify().pool(tmp_path, "weighted", replace(data, weights=np.arange(8.0)))
    rows = np.array([1, 2, 5])
    assert Cell("real", "default", 3, 0, (Part(plain, rows),), "{}").weights() is None
    alone = Cell("real", "default", 3, 0, (Part(weighted, rows),), "{}").weights()
    assert np.allclose(alone / alone.sum(), [1 / 8, 2 / 8, 5 / 8])
    shared = Cell(
        "both", "default", 3, 0, (Part(weighted, rows, 0.25), Part(plain, rows, 0.75)), "{}"
    ).weights()
    assert np.allclose(shared, [1 / 32, 2 / 32, 5 / 32, 0.25, 0.25, 0.25])
    again = Classify().pool(tmp_path, "weighted", data)  # an old file of weights does not stay
    assert again.read().weights is None


def test_learn_draws_by_the_weights_of_its_data(tmp_path):
    from imgsynth.learn.run import learn

    data = animals(np.arange(8) % 4, np.zeros(8, int), 0)
    for name, extra in (("plain", {}), ("weighted", {"weights": np.arange(8.0)})):
        record = learn([save(data, tmp_path / f"{name}.npz", **extra)], out=tmp_path / name, steps=2)
        assert record["data"]["weighted"] == bool(extra)


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.npz"], "nowhere.npz: no such file or folder"),
        (["train.npz", "--scene", "no_such_scene"], "no_such_scene"),
        (["train.npz", "--seeds", "1"], "--seeds: expected at least 2"),
        (["train.npz", "--ceiling"], "--ceiling: is of the images that --long-tail cuts away"),
        (["train.npz", "--learner", "widht=8"], "--learner: unknown setting 'widht'; did you mean 'width'?"),
        (["train.npz", "--test", "train.npz", "--validation", "validation.npz"], "leak"),
    ],
)
def test_bad_use_is_one_line_and_leaves_nothing(tmp_path, arguments, said):
    world(tmp_path)
    command = [sys.executable, "-m", "imgsynth.cli", "augment", *arguments, "-o", "out"]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": root, "PATH": ""}
    )
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()
