import json
from dataclasses import replace

import numpy as np
import pytest

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate.bootstrap import bootstrap_mean, paired_difference, percentile_shares, resample_counts
from imgsynth.evaluate.score import score_classifier, score_probabilities
from imgsynth.evaluate.unknown import negative_energy, score_unknown


def covered(draw, truth, trials=400, **how):
    """Share of intervals that hold the truth, and their mean width."""
    rng = np.random.default_rng(1)
    found = [bootstrap_mean(*draw(rng), resamples=400, seed=t, **how) for t in range(trials)]
    return np.mean([lo <= truth <= hi for _, lo, hi in found]), np.mean([hi - lo for _, lo, hi in found])


# Of 400 intervals that cover 95 %, the share has a standard deviation of 1.1 %.


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_a_normal_mean_cover(method):
    share, width = covered(lambda rng: (rng.normal(3, 2, 60), None), 3.0, method=method)
    assert 0.91 <= share <= 0.98
    assert width == pytest.approx(2 * 1.96 * 2 / np.sqrt(60), rel=0.08)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_a_rate_cover(method):
    share, _ = covered(lambda rng: ((rng.random(200) < 0.9).astype(float), None), 0.9, method=method)
    assert 0.90 <= share <= 0.98


def test_bca_leans_with_the_skew():
    x = np.random.default_rng(0).exponential(1, 40)
    plain, bca = bootstrap_mean(x, resamples=4000), bootstrap_mean(x, resamples=4000, method="bca")
    assert bca.hi > plain.hi and bca.lo > plain.lo


def grouped(rng, groups=30, each=20, between=1.0):
    effect = rng.normal(0, between, groups)
    values = np.repeat(effect, each) + rng.normal(0, 1, groups * each)
    return values, np.repeat(np.arange(groups), each)


def test_grouped_values_need_the_cluster_bootstrap():
    right, wide = covered(grouped, 0.0)
    wrong, narrow = covered(lambda rng: (grouped(rng)[0], None), 0.0)
    assert 0.91 <= right <= 0.98
    assert wrong < 0.6
    # Design effect (Kish): variance grows by 1 + (each − 1)·ρ, ρ = ½.
    assert wide / narrow == pytest.approx(np.sqrt(1 + 19 * 0.5), rel=0.1)


def test_six_groups_are_covered_too():
    share, _ = covered(lambda rng: grouped(rng, groups=6), 0.0)
    assert 0.92 <= share <= 0.985


def test_percentiles_expand_over_few_units_only():
    assert percentile_shares(10**6, 0.95)[0] == pytest.approx(0.025, rel=1e-4)
    low, high = percentile_shares(6, 0.95)
    assert low + high == 1 and low == pytest.approx(0.00243, abs=2e-5)  # Φ(−2.5706·√1.2)


def test_independent_groups_of_one_change_nothing():
    x = np.random.default_rng(0).normal(size=50)
    assert bootstrap_mean(x, np.arange(50), seed=4) == bootstrap_mean(x, seed=4)
    assert bootstrap_mean(x, seed=4) != bootstrap_mean(x, seed=5)


def test_runs_are_resampled_as_well_as_images():
    def draw(rng, runs=5):
        return rng.normal(0, 1, (80, 1)) * 0.3 + rng.normal(0, 0.3, (1, runs)) + rng.normal(
            0, 1, (80, runs)
        ), None

    share, wide = covered(draw, 0.0)
    flat, narrow = covered(lambda rng: (draw(rng)[0].mean(axis=1), None), 0.0)
    # Images alone: sd √(.3² + 1/5)/√80 = .060; with the runs' .3/√5: .147. So ±1.96·.060 covers 58 %.
    assert flat == pytest.approx(0.58, abs=0.06) and wide > 2 * narrow
    assert 0.93 <= share <= 0.99


def test_one_run_as_a_column_is_the_same_as_none():
    x = np.random.default_rng(0).normal(size=(50, 1))
    assert bootstrap_mean(x, seed=4) == bootstrap_mean(x[:, 0], seed=4)


def test_resample_counts_are_multinomial():
    counts = np.concatenate(list(resample_counts(50, 20_000, 0)))
    assert counts.shape == (20_000, 50) and np.all(counts.sum(axis=1) == 50)
    # Variance of a count 50·(1/50)(49/50), covariance −1/50.
    cov = np.cov(counts[:, :2].T)
    assert cov[0, 0] == pytest.approx(0.98, abs=0.04) and cov[0, 1] == pytest.approx(-0.02, abs=0.03)


def test_pairing_sees_what_two_intervals_do_not():
    rng = np.random.default_rng(2)
    hard = rng.random(900)
    a = (hard < 0.90 + 0.02).astype(float)
    b = (hard < 0.90).astype(float)
    d = paired_difference(a, b)
    assert d.value == pytest.approx((a - b).mean()) and d.lo > 0 and d.p < 0.01
    assert bootstrap_mean(a).lo < bootstrap_mean(b).hi
    assert paired_difference(b, a).hi < 0


def test_no_difference_has_uniform_p():
    rng = np.random.default_rng(3)
    p = np.array([paired_difference(*rng.normal(size=(2, 60)), resamples=400, seed=t).p for t in range(400)])
    assert abs(np.mean(p < 0.1) - 0.1) < 0.05 and abs(np.mean(p < 0.5) - 0.5) < 0.08
    assert paired_difference(np.ones(9), np.ones(9)).p == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_mean([]),
        lambda: bootstrap_mean([1.0, np.nan]),
        lambda: bootstrap_mean([1.0, 2.0], [1]),
        lambda: bootstrap_mean([1.0, 2.0], method="other"),
        lambda: bootstrap_mean([1.0, 2.0], resamples=0),
        lambda: paired_difference([1.0], [1.0, 2.0]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(DataError):
        call()


# Scores


def probabilities(guess, k, confidence):
    p = np.full((len(guess), k), 0.0)
    p += ((1 - np.asarray(confidence)) / (k - 1))[:, None]
    p[np.arange(len(guess)), guess] = confidence
    return p


def test_figures_of_a_worked_example():
    y = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    guess = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    score = score_probabilities(probabilities(guess, 3, [0.9] * 4 + [0.6] * 4), y, ("a", "b", "c"))
    assert score.accuracy.value == 6 / 8
    assert score.per_class == {"a": 0.75, "b": 1.0, "c": 0.5}
    assert score.balanced_accuracy.value == pytest.approx(0.75) and score.worst_class_accuracy.value == 0.5
    assert score.confusion.tolist() == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    # Two bins hold four each: |.9 − ¾| and |.6 − ¾|.
    assert score.ece.value == pytest.approx(0.15)
    assert score.correct.tolist() == (y == guess).tolist()


def test_ece_of_calibrated_answers_is_small_and_of_boasting_ones_large():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20_000)
    y = np.zeros(20_000, int)
    guess = np.where(rng.random(20_000) < confidence, 0, 1)
    good = score_probabilities(probabilities(guess, 2, confidence), y, ("a", "b"), bootstrap=200)
    boast = score_probabilities(probabilities(guess, 2, np.ones(20_000)), y, ("a", "b"), bootstrap=200)
    assert good.ece.value < 0.015
    assert boast.ece.value == pytest.approx(0.25, abs=0.01) and boast.ece.lo < 0.25 < boast.ece.hi


def test_accuracy_interval_is_that_of_the_bootstrap_of_means():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    guess = np.where(rng.random(400) < 0.85, y, (y + 1) % 3)
    score = score_probabilities(probabilities(guess, 3, np.full(400, 0.8)), y, ("a", "b", "c"), seed=5)
    assert score.accuracy == pytest.approx(bootstrap_mean((y == guess).astype(float), seed=5))
    for e in (score.accuracy, score.balanced_accuracy, score.worst_class_accuracy):
        assert e.lo < e.value < e.hi


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(25), 20)
    y = rng.integers(0, 2, 500)
    right = rng.random(500) < np.repeat(rng.uniform(0.5, 1, 25), 20)
    p = probabilities(np.where(right, y, 1 - y), 2, np.full(500, 0.9))
    alone, together = (score_probabilities(p, y, ("a", "b"), g) for g in (None, group))
    assert (alone.units, together.units) == (500, 25)
    assert together.accuracy.hi - together.accuracy.lo > 1.3 * (alone.accuracy.hi - alone.accuracy.lo)
    single = score_probabilities(p, y, ("a", "b"), np.zeros(500))
    assert single.accuracy == alone.accuracy and single.units == 500


def test_faultless_answers_still_have_an_interval():
    y = np.arange(60) % 3
    score = score_probabilities(probabilities(y, 3, np.full(60, 0.99)), y, ("a", "b", "c"))
    assert score.accuracy.hi == 1 and score.accuracy.lo == pytest.approx(0.025 ** (1 / 60))
    assert score.worst_class_accuracy.lo == pytest.approx(0.025 ** (1 / 20))


class Fixed:
    def __init__(self, classes, p):
        self.classes, self.p = classes, p

    def predict(self, images):
        return self.p[images[:, 0, 0, 0]]


def data_of(labels, classes):
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    return LabelledImages(images, np.asarray(labels), classes, None, "photos")


def test_classes_are_matched_by_name():
    model = Fixed(("dog", "cat", "eel"), np.eye(3)[[0, 1, 1, 2]])
    score = score_classifier(model, data_of([1, 0, 1, 0], ("cat", "dog")))
    assert score.correct.tolist() == [True, True, False, False]
    assert score.per_class == {"dog": 0.5, "cat": 0.5} and score.confusion[1].tolist() == [0, 1, 1]
    with pytest.raises(ModelError, match="photos: class 'elk' is not among dog, cat, eel"):
        score_classifier(model, data_of([0, 1, 0, 1], ("cat", "elk")))
    # A class without an image asks for nothing.
    assert score_classifier(model, data_of([0, 0], ("cat", "elk"))).n == 2


def test_json_is_whole_and_plain():
    model = Fixed(("a", "b"), np.eye(2)[[0, 1, 1, 0]])
    score = score_classifier(model, data_of([0, 1, 0, 1], ("a", "b")), bootstrap=50)
    back = json.loads(json.dumps(score.to_json(), allow_nan=False))
    assert back["n"] == 4 and back["data"] == "photos" and back["accuracy"]["mean"] == 0.5
    assert len(back["accuracy"]["ci95"]) == 2 and back["confusion"] == [[1, 1], [1, 1]]
    assert back["resampled"] == {"units": 4, "of": "images"}
    assert (
        score_classifier(model, data_of([0, 1, 0, 1], ("a", "b")), bootstrap=50).to_json() == score.to_json()
    )


def test_probabilities_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="finite probabilities"):
        score_probabilities(np.ones((3, 2)), [0, 1], ("a", "b"))
    with pytest.raises(DataError, match="finite probabilities"):
        score_probabilities(np.full((2, 2), np.nan), [0, 1], ("a", "b"))
    with pytest.raises(DataError, match="finite probabilities"):
        score_probabilities(np.zeros((0, 2)), [], ("a", "b"))


# Attributes and unknown classes


def test_worst_group_is_the_least_accurate_value_of_the_attribute():
    y = np.arange(300) % 2
    weather = np.where(np.arange(300) < 200, "sun", "fog")
    guess = np.where((weather == "fog") & (np.arange(300) % 5 == 0), 1 - y, y)
    p = probabilities(guess, 2, np.full(300, 0.9))
    score = score_probabilities(p, y, ("a", "b"), attribute=weather)
    assert score.per_group == {"fog": 0.8, "sun": 1.0}
    assert score.worst_group_accuracy.value == 0.8
    # The binomial interval of 100 images: ± 1.96 · √(.8 · .2 / 100).
    assert score.worst_group_accuracy.lo == pytest.approx(0.8 - 0.078, abs=0.02)
    assert score.worst_group_accuracy.hi == pytest.approx(0.8 + 0.078, abs=0.02)
    back = json.loads(json.dumps(score.to_json(), allow_nan=False))
    assert back["worst_group_accuracy"]["mean"] == 0.8 and back["per_group"]["sun"] == 1
    tracks = score_probabilities(p, y, ("a", "b"), np.arange(300) // 10, attribute=weather)
    assert tracks.worst_group_accuracy.value == 0.8 and tracks.units == 30
    perfect = score_probabilities(probabilities(y, 2, np.full(300, 0.9)), y, ("a", "b"), attribute=weather)
    assert perfect.worst_group_accuracy == (1, pytest.approx(0.025 ** (1 / 100)), 1)
    plain = score_probabilities(p, y, ("a", "b"))
    assert plain.worst_group_accuracy is None and "per_group" not in plain.to_json()
    with pytest.raises(DataError, match="attribute: expected 300"):
        score_probabilities(p, y, ("a", "b"), attribute=weather[:-1])


def test_auroc_and_fpr95_of_worked_examples():
    score = score_unknown([3, 4, 5, 6], [1, 2, 3, 7], bootstrap=100)
    # Pairs won: 4 · 2 + (½ + 3) + 0 of 16; the lowest known confidence lets 3 and 7 through.
    assert score.auroc.value == pytest.approx(11.5 / 16) and score.fpr95.value == pytest.approx(2 / 4)
    apart = score_unknown([2, 3], [0, 1], bootstrap=50)
    assert apart.auroc.value == 1 and apart.fpr95.value == 0
    assert score_unknown(np.arange(100), [4.5, 5.5, 50], bootstrap=50).fpr95.value == pytest.approx(2 / 3)


def test_auroc_agrees_with_scikit_learn_and_its_interval_covers():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    truth = 0.8556  # Φ(1.5 / √2) for two unit normals 1.5 apart
    hits = {"auroc": 0, "fpr95": 0}
    fpr = 0.5575  # Φ(1.645 − 1.5)
    for s in range(100):
        known, unknown = rng.normal(1.5, 1, 120), rng.normal(0, 1, 80)
        score = score_unknown(known, unknown, bootstrap=300, seed=s)
        y = np.repeat([1, 0], [120, 80])
        assert score.auroc.value == pytest.approx(roc_auc_score(y, np.concatenate([known, unknown])))
        hits["auroc"] += score.auroc.lo <= truth <= score.auroc.hi
        hits["fpr95"] += score.fpr95.lo <= fpr <= score.fpr95.hi
    assert 88 <= hits["auroc"] <= 100 and 88 <= hits["fpr95"] <= 100
    groups = np.repeat(np.arange(12), 10)
    near = np.repeat(rng.normal(1.5, 1, 12), 10)
    wide, narrow = (score_unknown(near, rng.normal(0, 1, 80), g, bootstrap=300).auroc for g in (groups, None))
    assert wide.hi - wide.lo > 1.5 * (narrow.hi - narrow.lo)


class WithLogits(Fixed):
    def logits(self, images):
        return 5 * self.predict(images)


def test_unknown_classes_are_told_by_confidence():
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    strangers = data_of([0, 0], ("eel",))
    strangers = replace(strangers, images=strangers.images + 2)
    for kind in (Fixed, WithLogits):
        score = score_classifier(
            kind(("a", "b"), p), data_of([0, 1], ("a", "b")), unknown=strangers, bootstrap=40
        )
        kinds = ["max_probability"] + ["energy"] * (kind is WithLogits)
        assert list(score.unknown) == kinds and score.unknown["max_probability"].auroc.value == 1
        assert score.accuracy.value == 1
        back = json.loads(json.dumps(score.to_json(), allow_nan=False))
        assert back["unknown"]["max_probability"]["fpr95"]["mean"] == 0
    with pytest.raises(DataError, match="class 'a', which the model knows"):
        score_classifier(Fixed(("a", "b"), p), data_of([0], ("a",)), unknown=data_of([0], ("a",)))
    with pytest.raises(DataError, match="known images: expected finite"):
        score_unknown([], [1.0])


def test_energy_is_the_log_of_the_sum():
    assert negative_energy([[0, 0], [1000, 1000]]) == pytest.approx(np.log(2) + np.array([0, 1000]))
