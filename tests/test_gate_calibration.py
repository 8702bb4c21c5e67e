"""Calibration against planted truth: confidences that lie by a known amount, noise of a known share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from imgsynth.errors import DataError
from imgsynth.evaluate.score import score_probabilities
from imgsynth.gate.calibration import (
    conformal_threshold,
    fit_isotonic,
    fit_temperature,
    fit_trust,
    label_confidence,
    reliability,
    softmax,
    wilson,
)


def drawn(n, k=5, temperature=1.0, seed=0):
    """Logits whose softmax at `temperature` is the law that drew the labels."""
    rng = np.random.default_rng(seed)
    z = 2.5 * rng.standard_normal((n, k))
    p = softmax(z, temperature)
    return z, (p.cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)


def test_ece_is_that_of_score_and_covers_the_truth():
    z, y = drawn(3000)
    p = softmax(z, 0.5)  # overconfident
    found = reliability(p.max(axis=1), p.argmax(axis=1) == y)
    as_scored = score_probabilities(p, y, "abcde", bootstrap=50).ece.value
    assert found.ece.value == pytest.approx(as_scored, abs=1e-12)
    assert found.ece.lo < found.ece.value < found.ece.hi
    many, right = drawn(400_000, seed=1)
    sharp = softmax(many, 0.5)
    truth = reliability(sharp.max(axis=1), sharp.argmax(axis=1) == right, bootstrap=2).ece.value
    assert found.ece.lo < truth < found.ece.hi


def test_what_is_calibrated_is_called_so_and_chance_alone_is_taken_out():
    gaps = []
    for seed in range(20):
        z, y = drawn(500, seed=seed)
        p = softmax(z)
        gaps.append(reliability(p.max(axis=1), p.argmax(axis=1) == y, bootstrap=2, seed=seed))
    plain, debiased = (np.mean([getattr(g, f) for g in gaps]) for f in ("worst", "ece_debiased"))
    ece = np.mean([g.ece.value for g in gaps])
    assert debiased < 0.6 * ece < ece <= plain


def test_bins_hold_every_answer_once():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(500), [0.0, 1.0, 1 / 15, 0.2]])
    right = rng.random(len(p)) < p
    for equal in ("width", "mass"):
        found = reliability(p, right, equal=equal, bootstrap=2)
        assert sum(b.n for b in found.bins) == len(p)
        assert all(b.low <= b.confidence <= b.high for b in found.bins if b.n)
        assert all(b.accuracy_lo <= b.accuracy <= b.accuracy_hi for b in found.bins if b.n)
    assert {b.n for b in found.bins} <= {33, 34}  # 504 answers in 15 bins of equal mass
    assert found.brier == pytest.approx(brier_score_loss(right, p))
    assert all(b["n"] for b in found.to_json()["bins"])


@pytest.mark.parametrize("planted", [0.4, 1.0, 3.0])
def test_temperature_is_recovered(planted):
    z, y = drawn(20_000, temperature=planted, seed=3)
    assert fit_temperature(z, y) == pytest.approx(planted, rel=0.05)


def test_isotonic_undoes_a_planted_distortion_on_data_it_has_not_seen():
    rng = np.random.default_rng(0)
    said = rng.random(8000)
    right = rng.random(8000) < said**2  # overconfident everywhere
    half = slice(0, 4000), slice(4000, None)
    mapped = fit_isotonic(said[half[0]], right[half[0]])
    before = reliability(said[half[1]], right[half[1]], bootstrap=2).ece.value
    after = reliability(mapped(said[half[1]]), right[half[1]], bootstrap=2).ece.value
    assert before > 0.14 and after < 0.03
    grid = np.linspace(0, 1, 101)
    assert np.all(np.diff(mapped(grid)) >= 0)
    assert np.abs(mapped(grid) - grid**2)[5:96].max() < 0.07


def test_isotonic_is_scikit_learns_where_runs_are_single_answers():
    rng = np.random.default_rng(1)
    x, y = np.sort(rng.random(200)), rng.random(200) < 0.5
    ours = fit_isotonic(x, y, least=1)
    theirs = IsotonicRegression(increasing=True).fit(x, y)
    pooled = np.unique(np.round(theirs.predict(x), 9))
    assert np.allclose(np.round(ours.y, 9), pooled)


def test_confidence_of_labels_is_calibrated_under_planted_noise():
    rng = np.random.default_rng(2)
    z, y = drawn(20_000, k=10, seed=4)
    p = softmax(z)
    noisy = np.where(rng.random(len(y)) < 0.2, (y + rng.integers(1, 10, len(y))) % 10, y)
    right = noisy == y
    trust = fit_trust(p, noisy)
    assert trust == pytest.approx(0.8, abs=0.01)
    found = {
        t: reliability(label_confidence(p, noisy, t), right, bootstrap=2).ece.value for t in (trust, None)
    }
    assert found[trust] < 0.01 < 0.05 < found[None]


def test_a_trust_of_chance_is_none_at_all():
    p = softmax(np.random.default_rng(0).standard_normal((50, 4)))
    y = np.arange(50) % 4
    assert np.allclose(label_confidence(p, y, 0.25), label_confidence(p, y))
    assert np.all(label_confidence(p, y, 1.0) == 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.floats(0.001, 0.4), st.integers(0, 2**32))
def test_conformal_threshold_keeps_its_promise(n, share, seed):
    v = np.random.default_rng(seed).standard_normal(n + 1)
    # Over all choices of which of n + 1 values is the new one, at most `share` fall below the others' quantile.
    below = sum(v[i] < conformal_threshold(np.delete(v, i), share) for i in range(n + 1))
    assert below <= share * (n + 1) + 1e-9


def test_wilson_covers():
    rng = np.random.default_rng(0)
    for rate, n in ((0.01, 200), (0.3, 40)):
        lo, hi = wilson(rng.binomial(n, rate, 5000), n)
        assert 0.93 < np.mean((lo <= rate) & (rate <= hi)) < 0.985
    assert wilson(0, 0) == (0, 1)


def test_nonsense_is_refused():
    for call, said in (
        (lambda: reliability([], []), "calibration"),
        (lambda: reliability([1.2], [True]), "in \\[0, 1\\]"),
        (lambda: reliability([0.2], [True], equal="size"), "width or mass"),
        (lambda: fit_temperature(np.full((2, 2), np.nan), [0, 1]), "finite"),
        (lambda: label_confidence(np.ones((2, 2)), [0, 1], 1.5), "trust"),
    ):
        with pytest.raises(DataError, match=said):
            call()


def test_equal_confidences_are_one_knot():
    """Nine tenths say 1: whatever order their answers come in, the map has one value there, their share."""
    rng = np.random.default_rng(0)
    confidence = np.where(np.arange(2000) % 10 > 0, 1.0, rng.uniform(0, 0.9, 2000))
    right = np.where(
        confidence == 1, np.arange(2000) > 700, rng.random(2000) < 0.2
    )  # wrong first, right later
    found = fit_isotonic(confidence, right)
    assert (np.diff(found.x) > 0).all() and (np.diff(found.y) >= 0).all()
    assert found.x[-1] == pytest.approx(1, abs=1e-9)
    assert found.y[-1] == pytest.approx(right[confidence == 1].mean(), abs=0.02)
