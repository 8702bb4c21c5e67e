"""Per-class tests: the false discovery rate is kept, planted effects are found, few images prove little."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import paired_difference
from imgsynth.evaluate.worth import benjamini_hochberg, delta_rows, per_class_delta

CLASSES = [f"sign {k}" for k in range(43)]


def runs(rng, labels, recall, groups=None, seeds=3):
    """(n, seeds) right or wrong: easy and hard images shared by both arms, tracks alike, seeds a little apart."""
    hardness = rng.normal(0, 0.7, len(labels))
    if groups is not None:
        hardness = hardness + rng.normal(0, 0.7, groups.max() + 1)[groups]

    def arm(shift):
        logit = np.log(recall / (1 - recall))[labels] - hardness + shift[labels]
        of_seed = rng.normal(0, 0.15, (len(recall), seeds))[labels]
        return (
            rng.uniform(size=(len(labels), seeds)) < 1 / (1 + np.exp(-(logit[:, None] + of_seed)))
        ).astype(float)

    return arm


# ---- Benjamini–Hochberg ----


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_q_is_that_of_scipy_and_keeps_the_order(p):
    q = benjamini_hochberg(p)
    assert q == pytest.approx(false_discovery_control(p), abs=1e-12)
    assert np.all(q >= np.asarray(p) - 1e-15) and np.all(q <= 1)
    assert np.all(np.diff(q[np.argsort(p, kind="stable")]) >= 0)


def test_unknown_p_are_left_out_of_the_count():
    q = benjamini_hochberg([0.01, np.nan, 0.5])
    assert q[0] == pytest.approx(0.02) and np.isnan(q[1]) and q[2] == 0.5
    with pytest.raises(DataError, match="p-values"):
        benjamini_hochberg([0.1, 1.2])


# ---- differences ----


@pytest.mark.parametrize("tracks", [False, True])
def test_false_discoveries_are_rare_where_nothing_differs(tracks):
    rng = np.random.default_rng(0)
    any_found, p = [], []
    for _ in range(60):
        labels = np.repeat(np.arange(43), 60)
        groups = np.arange(len(labels)) // 6 if tracks else None
        arm = runs(rng, labels, np.full(43, 0.9), groups)
        rows = per_class_delta(arm(np.zeros(43)), arm(np.zeros(43)), labels, CLASSES, groups)
        any_found.append(any(r.significant for r in rows))
        p += [r.p for r in rows]
    assert (
        np.mean(any_found) <= 0.12
    )  # FDR .05 under the null is the chance of any; P(> 7 of 60 | .05) < 1.5 %
    assert np.mean(np.array(p) < 0.05) <= 0.06


def test_planted_differences_are_found_and_the_false_ones_are_few():
    rng = np.random.default_rng(1)
    shift = np.zeros(43)
    shift[:8] = 1.5  # recall .85 → about .95
    labels = np.repeat(np.arange(43), 90)
    groups = np.arange(len(labels)) // 3
    found, false = [], []
    for _ in range(25):
        arm = runs(rng, labels, np.full(43, 0.85), groups)
        rows = per_class_delta(arm(shift), arm(np.zeros(43)), labels, CLASSES, groups)
        hit = np.array([r.significant for r in rows])
        found.append(hit[:8].mean())
        false.append(hit[8:].sum() / max(hit.sum(), 1))
    assert np.mean(found) >= 0.55  # .65 over 100 such studies
    assert np.mean(false) <= 0.06


def test_percentile_bootstrap_could_not_have_told():
    """Why not shares of resamples: the least p of 2,000 is 0.001, and one class of 43 needs under 0.0012."""
    rng = np.random.default_rng(2)
    right = rng.uniform(size=(200, 3)) < 0.95
    wrong = rng.uniform(size=(200, 3)) < 0.6
    assert paired_difference(right, wrong).p == pytest.approx(0.001, rel=0.01)
    labels = np.zeros(200, int)
    assert per_class_delta(right, wrong, labels, ["a"])[0].p < 1e-5


def test_intervals_cover():
    rng = np.random.default_rng(3)
    labels = np.zeros(120, int)
    groups = np.arange(120) // 4
    true, covered = [], []
    many = runs(
        np.random.default_rng(9), np.zeros(20_000, int), np.array([0.8]), np.arange(20_000) // 4, seeds=60
    )
    expected = many(np.array([1.0])).mean() - many(np.array([0.0])).mean()
    for _ in range(300):
        arm = runs(rng, labels, np.array([0.8]), groups)
        row = per_class_delta(arm(np.array([1.0])), arm(np.array([0.0])), labels, ["a"], groups)[0]
        covered.append(row.ci95[0] <= expected <= row.ci95[1])
        true.append(row.delta)
    assert np.mean(true) == pytest.approx(expected, abs=0.01)
    assert 0.92 <= np.mean(covered) <= 0.995


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 4))
def test_exchange_of_arms_turns_the_sign_and_order_does_not_matter(seed, n, seeds):
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(size=(n, seeds)) < 0.7 for _ in range(2))
    labels, groups = rng.integers(0, 3, n), rng.integers(0, 12, n)
    rows = per_class_delta(a, b, labels, ["x", "y", "z"], groups)
    back = per_class_delta(b, a, labels, ["x", "y", "z"], groups)
    order = rng.permutation(n)
    mixed = per_class_delta(a[order], b[order], labels[order], ["x", "y", "z"], groups[order])
    for one, two, three in zip(rows, back, mixed, strict=True):
        assert one.delta == -two.delta or one.delta == pytest.approx(-two.delta)
        assert one.delta == pytest.approx(three.delta, abs=1e-12)
        if one.p is None:
            assert two.p is None and one.q is None and not one.significant
        else:
            assert one.p == pytest.approx(two.p, rel=1e-6) and one.p == pytest.approx(three.p, rel=1e-6)
            assert 0 <= one.p <= one.q <= 1
            assert one.ci95[0] <= one.delta <= one.ci95[1]


def test_few_differing_images_prove_no_more_than_their_signs():
    """Five images of a hundred, all one way: 2·2^-5, however small the spread of the others makes the t."""
    a, b = np.ones((100, 1)), np.ones((100, 1))
    b[:5] = 0
    row = per_class_delta(a, b, np.zeros(100, int), ["a"])[0]
    assert row.p == pytest.approx(2 * 2**-5)
    three = per_class_delta(np.ones(3), np.zeros(3), np.zeros(3, int), ["a"])[0]
    assert three.p == 0.25 and not three.significant
    same = per_class_delta(a, a, np.zeros(100, int), ["a"])[0]
    assert same.p == 1 and same.delta == 0


def test_one_image_or_one_track_is_no_test():
    rows = per_class_delta([1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1], ["a", "b", "c"], [5, 6, 6, 6])
    assert [r.name for r in rows] == ["a", "b"]  # nothing to say of a class without images
    assert all(r.p is None and r.q is None and not r.significant and r.ci95 == [-1, 1] for r in rows)
    json.loads(json.dumps([r.to_json() for r in rows], allow_nan=False))
    assert rows[0].to_json()["class"] == "a"


def test_replicates_give_the_same_answer_where_both_apply():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(43), 80)
    arm = runs(rng, labels, np.full(43, 0.85))
    shift = np.where(np.arange(43) < 6, 1.5, 0.0)
    a, b = arm(shift), arm(np.zeros(43))
    rows = per_class_delta(a, b, labels, CLASSES)
    d = a.mean(axis=1) - b.mean(axis=1)
    member = np.eye(43)[labels]
    weight = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=1000)
    stars = (weight * d) @ member / (weight @ member)
    other = delta_rows(CLASSES, [r.delta for r in rows], stars, np.full(43, 80))
    same = [r.significant == o.significant for r, o in zip(rows, other, strict=True)]
    assert np.mean(same) >= 0.93 and sum(o.significant for o in other[:6]) >= 4
    wide = [(o.ci95[1] - o.ci95[0]) / (r.ci95[1] - r.ci95[0]) for r, o in zip(rows, other, strict=True)]
    assert 0.75 < np.median(wide) <= 1.05  # these replicates hold the images fixed to these seeds
    nothing = delta_rows(["a", "b"], [0.5, np.nan], np.full((5, 2), 0.5), [1, 9])
    assert len(nothing) == 1 and nothing[0].p is None


@pytest.mark.parametrize(
    ("a", "b", "labels", "groups", "message"),
    [
        ([1, 0], [1], [0, 0], None, "same images"),
        ([1, 0], [1, 0], [0], None, "same images"),
        ([1, np.nan], [1, 0], [0, 0], None, "finite"),
        ([1, 0], [1, 0], [0, 0], [1], "2 groups"),
    ],
)
def test_bad_input_is_refused(a, b, labels, groups, message):
    with pytest.raises(DataError, match=message):
        per_class_delta(a, b, labels, ["x"], groups)
