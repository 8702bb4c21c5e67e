"""The gate as a whole on real digits with planted faults, and the guard against self-consuming loops."""

import json

import numpy as np
import pytest

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.sources import load
from imgsynth.errors import DataError
from imgsynth.gate.agreement import Agreement, class_thresholds, deal
from imgsynth.gate.calibration import label_confidence, reliability
from imgsynth.gate.guard import (
    SelfConsumption,
    Source,
    check_mix,
    generation_after,
    generation_of,
    sources_of,
)
from imgsynth.gate.judge import REASONS, Gate, GateConfig

STEPS = 70


@pytest.fixture(scope="module")
def parts():
    data = load("sklearn:digits")
    block = data.groups.astype(int)
    # Blocks stand for writers here as everywhere; a fold holds whole blocks.
    return [data.subset(np.isin(block, b)) for b in ([0, 1, 2, 4, 6, 7, 8, 9], [3, 5, 11], [10, 12])]


@pytest.fixture(scope="module")
def gate(parts):
    return Gate.fit(parts[0], parts[1], GateConfig(steps=STEPS), seed=1)


@pytest.fixture(scope="module")
def batch(parts):
    """Fresh real digits as samples, with planted faults: (images, labels, what is wrong)."""
    train, _, fresh = parts
    rng = np.random.default_rng(0)
    images, labels, wrong = fresh.images.copy(), fresh.labels.copy(), np.full(len(fresh), "", object)
    turn = rng.permutation(len(fresh))
    lied, copied, repeated = turn[:30], turn[30:60], np.sort(turn[60:85])
    labels[lied] = (labels[lied] + rng.integers(1, 10, 30)) % 10
    rows = rng.choice(len(train), 30, replace=False)
    images[copied], labels[copied] = train.images[rows], train.labels[rows]
    innocent = np.setdiff1d(np.arange(len(fresh)), turn[:85])[:25]
    images[repeated] = np.clip(
        images[innocent].astype(int) + rng.integers(-3, 4, images[innocent].shape), 0, 255
    )
    labels[repeated] = labels[innocent]
    wrong[lied], wrong[copied] = "label", "copy"
    wrong[np.maximum(repeated, innocent)] = "duplicate"  # the later of the two
    return images, labels, wrong


def test_planted_faults_are_dropped_for_their_reason(gate, batch):
    images, labels, wrong = batch
    verdicts, _ = gate.judge(images, labels)
    assert np.array_equal(verdicts.keep, verdicts.reasons == "")
    for reason in REASONS:
        assert np.mean(verdicts.reasons[wrong == reason] == reason) >= (0.8 if reason == "duplicate" else 0.9)
        assert np.mean(~verdicts.keep[wrong == reason]) >= 0.9
    assert np.mean(verdicts.keep[wrong == ""]) > 0.85  # another writer's hand: stricter than stated
    counts = verdicts.counts()
    assert counts["judged"] == len(images) == counts["kept"] + sum(counts[r] for r in REASONS)
    assert all(v.shape == (len(images),) and v.dtype == np.float64 for v in verdicts.scores.values())


def test_verdicts_do_not_depend_on_shards(gate, batch):
    images, labels, _ = batch
    whole, marks = gate.judge(images, labels)
    seen, reasons, confidence = None, [], []
    for rows in np.split(np.arange(len(images)), [7, 8, 100]):
        part, seen = gate.judge(images[rows], labels[rows], earlier=seen)
        reasons.append(part.reasons)
        confidence.append(part.scores["confidence"])
        assert np.allclose(seen, gate.marks(images[: rows[-1] + 1][np.concatenate(reasons) == ""]), atol=1e-6)
    assert np.array_equal(np.concatenate(reasons), whole.reasons)
    assert np.allclose(np.concatenate(confidence), whole.scores["confidence"], atol=1e-6)
    assert np.allclose(seen, marks, atol=1e-6)


def test_confidence_of_labels_is_calibrated_on_hands_never_seen(gate, parts):
    fresh = parts[2]
    rng = np.random.default_rng(3)
    lied = rng.random(len(fresh)) < 0.3
    labels = np.where(lied, (fresh.labels + rng.integers(1, 10, len(fresh))) % 10, fresh.labels)
    confidence = gate.judge(fresh.images, labels)[0].scores["confidence"]
    assert reliability(confidence, ~lied).ece.value < 0.05
    assert gate.agreement.calibration.ece.value < 0.05 and gate.agreement.accuracy > 0.85


def test_the_judge_has_not_seen_the_parent(gate, parts):
    train = parts[0]
    memorized, labels = train.images[:40], train.labels[:40]
    plain = gate.judge(memorized, labels)[0].scores["confidence"]
    told = gate.judge(memorized, labels, parents=np.arange(40))[0].scores["confidence"]
    assert np.array_equal(plain, told)  # the nearest real image is itself
    own = gate.agreement.fold[:40]
    expected = label_confidence(gate.agreement.probabilities(memorized, own), labels, gate.config.trust)
    assert np.allclose(plain, expected, atol=1e-9)
    others = label_confidence(gate.agreement.probabilities(memorized, (own + 1) % 3), labels, 0.9)
    assert others.mean() > expected.mean()  # who has seen an image is surer of it


def test_folds_never_part_a_group_and_every_judge_sees_every_class(parts):
    train = parts[0]
    fold = deal(train, 3, seed=4)
    assert all(len(np.unique(fold[train.groups == g])) == 1 for g in np.unique(train.groups))
    assert np.ptp(np.bincount(fold)) < 150
    one = LabelledImages(train.images[:9], np.r_[np.zeros(8, int), 1], ("a", "b"), None, "set")
    with pytest.raises(DataError, match="class 'b' falls into one fold"):
        deal(one, 3)


def test_thresholds_drop_what_is_stated_in_each_class():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], [5000, 500, 20, 25])
    c = rng.beta(np.array([8, 2, 4, 4])[y], 1)
    t = class_thresholds(c, y, 4, 0.05)
    assert np.mean(c[y == 0] < t[0]) == pytest.approx(0.05, abs=0.001)
    assert t[1] < t[0] and np.mean(c[y == 1] < t[1]) == pytest.approx(0.05, abs=0.003)
    assert np.all(t[2:] > 0) and np.mean(c[y >= 2] < np.r_[0, 0, t[2:]][y[y >= 2]]) <= 0.09
    assert np.all(class_thresholds(c[-40:], y[-40:], 4, 0.01) == -np.inf)


def test_without_held_out_images_nothing_is_said_of_copies(parts):
    train = parts[0]
    few = train.subset(np.arange(0, len(train), 3))
    gate = Gate.fit(few, None, GateConfig(steps=20, folds=2))
    verdicts, _ = gate.judge(few.images[:5], few.labels[:5])
    assert "copy" not in verdicts.scores and gate.record()["memorization"] is None
    assert np.all(verdicts.scores["to_training"] < 0.01)


def test_the_record_is_json_and_says_how(gate):
    record = json.loads(json.dumps(gate.record(), allow_nan=False))
    assert record["config"]["copy_false_alarm"] == 0.01
    assert (
        record["labels"]["folds"] == 3
        and 0 <= record["labels"]["calibration_out_of_fold"]["ece"]["mean"] < 0.1
    )
    assert record["memorization"]["training_images"] > 1000
    assert set(record["duplicates"]["thresholds"]) == set("0123456789")


def test_the_same_data_and_seed_give_the_same_gate(parts):
    few = parts[0].subset(np.arange(0, len(parts[0]), 4))
    a, b = (Agreement.fit(few, folds=2, steps=15, seed=3) for _ in range(2))
    p, q = (g.probabilities(few.images, g.fold) for g in (a, b))
    assert np.array_equal(p, q)
    assert not np.array_equal(
        p, Agreement.fit(few, folds=2, steps=15, seed=4).probabilities(few.images, a.fold)
    )


def test_bad_use_is_said(gate, parts):
    images, labels = parts[2].images[:3], parts[2].labels[:3]
    for call, said in (
        (lambda: gate.judge(images, [0, 1]), "expected 3 labels"),
        (lambda: gate.judge(images, [0, 1, 10]), "labels of 0 to 9"),
        (lambda: gate.judge(images.astype(float), labels), "expected images uint8"),
        (lambda: gate.judge(images, labels, parents=[10**6, 0, 0]), "rows of"),
        (lambda: GateConfig.of({"folds": 1}), "at least 2 folds"),
        (lambda: GateConfig.of({"fold": 3}), "did you mean folds"),
        (lambda: GateConfig(copy_false_alarm=1.0), "copy_false_alarm"),
    ):
        with pytest.raises(DataError, match=said):
            call()


def test_no_sample_is_no_trouble(gate):
    verdicts, seen = gate.judge(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, int))
    assert len(verdicts.keep) == 0 and len(seen) == 0 and verdicts.counts()["judged"] == 0


# ---- the guard ----


def test_generations_count_up():
    assert (generation_after([]), generation_after([0, 0]), generation_after([0, 2, 1])) == (1, 1, 3)
    with pytest.raises(DataError, match="at least 0"):
        generation_after([-1])


def test_the_floor_holds():
    real, made = Source("photos", 600), Source("samples", 400, generation=1)
    mix = check_mix([real, made])
    assert (mix.real_share, mix.generation) == (0.6, 1) and "40.0 %" in mix.warnings[0]
    assert check_mix([real, Source("renders", 10**6)]).warnings == ()
    assert len(check_mix([Source("p", 55), Source("s", 45, 1)]).warnings) == 2
    with pytest.raises(SelfConsumption, match=r"training: 37\.5 % .* at least 50 % .* fewer of samples"):
        check_mix([Source("photos", 600), Source("samples", 1000, generation=1)])
    assert check_mix([Source("photos", 1, 0, 3.0), Source("samples", 10**6, 1, 1.0)]).real_share == 0.75
    with pytest.raises(SelfConsumption, match=r"late is of generation 2.* at most generation 1"):
        check_mix([real, Source("late", 1, generation=2)])
    assert check_mix([real, Source("late", 1, generation=2)], most=2).generation == 2
    assert check_mix([made], floor=0.0).real_share == 0


def test_the_guard_refuses_nonsense():
    for sources, said in (
        ([], "images, weights"),
        ([Source("a", 0)], "not all 0"),
        ([Source("a", 1, weight=1.0), Source("b", 1)], "a weight for every source or for none"),
        ([Source("a", 1, generation=-1)], "at least 0"),
    ):
        with pytest.raises(DataError, match=said):
            check_mix(sources)
    with pytest.raises(DataError, match="floor"):
        check_mix([Source("a", 1)], floor=1.5)


def test_generation_of_data(tmp_path):
    assert generation_of("sklearn:digits:train") == 0
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8), labels=[0, 1])
    assert generation_of(str(tmp_path / "a.npz#train")) == 0


def test_a_mixed_file_says_what_it_is_made_of(tmp_path):
    file = tmp_path / "mixed.npz"
    arrays = {"images": np.zeros((6, 8, 8), np.uint8), "labels": [0, 1] * 3}
    np.savez(file, **arrays, source=["real"] * 2 + ["diffusion"] * 3 + ["scene"], weights=[2, 2, 1, 1, 1, 1])
    (tmp_path / "mixed.json").write_text(
        json.dumps({"sources": {"diffusion": {"generation": 1}, "scene": {"generation": 0}}})
    )
    found = sources_of(str(file), 6)
    assert {(s.name[-7:-1], s.images, s.generation, s.weight) for s in found} == {
        ("fusion", 3, 1, 3.0), ("(scene", 1, 0, 1.0), (" (real", 2, 0, 4.0),
    }  # fmt: skip
    assert check_mix(found).real_share == 5 / 8 and generation_of(str(file)) == 1
    (tmp_path / "mixed.json").unlink()  # without its record every source but `real` counts as a model's
    with pytest.raises(SelfConsumption, match="50 % are needed"):
        check_mix([*sources_of(str(file), 6), Source("more", 9, 1, 9.0)])
    assert check_mix(sources_of(str(file), 6)).real_share == 0.5
    (tmp_path / "mixed.json").write_text("{")
    with pytest.raises(DataError, match=r"mixed\.json beside it"):
        sources_of(str(file), 6)


def test_diffuse_train_does_not_feed_on_samples_alone(tmp_path):
    from imgsynth.diffusion.run import train_from

    file = tmp_path / "made.npz"
    np.savez(file, images=np.zeros((6, 8, 8), np.uint8), labels=[0, 1] * 3, source=["diffusion"] * 6)
    with pytest.raises(SelfConsumption, match=r"diffuse train: 0\.0 % of the images are real") as error:
        train_from(str(file), out=tmp_path / "model", settings={})
    assert not (tmp_path / "model").exists() and error.value.exit_code == 2
