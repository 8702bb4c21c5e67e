"""Effective real images, exchange rates and transfer figures: planted values, coverage, what cannot be said."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from imgsynth.errors import DataError
from imgsynth.evaluate.curves import LearningCurve, isotonic_falling
from imgsynth.evaluate.worth import Effective, effective_real_images, exchange_rate, transfer

SIZES = np.geomspace(50, 5000, 7)


def law(n):
    return 3 * np.asarray(n, float) ** -0.6 + 0.02


def s_shaped(n):
    """No power law: the error falls late, around 500 images."""
    return 0.1 + 0.7 / (1 + (np.asarray(n, float) / 500) ** 1.5)


def study(truth, total, seed, *, sd=0.04, seeds=3, sizes=SIZES):
    rng = np.random.default_rng(seed)
    real = [truth(n) * (1 + rng.normal(0, sd, seeds)) for n in sizes]
    return real, truth(total) * (1 + rng.normal(0, sd, seeds))


# ---- the curve ----


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(0, 99))
def test_isotonic_rows_fall_and_are_nearest(values, seed):
    from scipy.optimize import isotonic_regression

    weight = np.random.default_rng(seed).uniform(0.5, 3, len(values))
    found = isotonic_falling(np.array([values]), weight)[0]
    assert np.all(np.diff(found) <= 1e-12)
    expected = isotonic_regression(values, weights=weight, increasing=False).x
    assert found == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.001, 0.3), min_size=3, max_size=4), st.floats(0.01, 0.99))
def test_inverse_of_the_interpolated_curve_is_its_inverse(falls, share):
    sizes = 40 * 2.0 ** np.arange(len(falls))
    errors = 1 - np.cumsum(falls) / 2
    curve = LearningCurve(sizes, errors[:, None])
    assert curve.kind == "interpolation"  # under five sizes there is no law
    level = errors[-1] + share * (errors[0] - errors[-1])
    n = curve.inverse(level)[0]
    assert sizes[0] <= n <= sizes[-1]
    at = PchipInterpolator(np.log(sizes), errors)(np.log(n))
    assert at == pytest.approx(level, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.02, 0.5), st.floats(0.0, 0.3))
def test_a_better_score_is_never_worth_fewer_images(seed, error, more):
    rng = np.random.default_rng(seed)
    sizes = np.array([30, 100, 300, 1000])
    curve = LearningCurve(sizes, law(sizes)[:, None] * (1 + rng.normal(0, 0.3, (4, 2))))
    better, worse = curve.inverse([error, error + more])
    assert better >= worse


def test_curve_is_a_law_only_where_that_fits():
    rng = np.random.default_rng(0)
    assert LearningCurve(SIZES, law(SIZES)[:, None] * (1 + rng.normal(0, 0.02, (7, 3)))).kind == "law"
    bent = LearningCurve(SIZES, s_shaped(SIZES)[:, None] * (1 + rng.normal(0, 0.02, (7, 3))))
    assert bent.kind == "interpolation" and ("bends" in bent.why or "α" in bent.why)
    assert LearningCurve([10, 100], [[0.5, 0.4], [0.2, 0.1]]).why.startswith("2 sizes")


def test_flat_stretch_is_read_in_its_middle():
    curve = LearningCurve([10, 100, 1000, 10_000], [[0.5], [0.2], [0.2], [0.1]])
    assert curve.inverse(0.2)[0] == pytest.approx(np.sqrt(100 * 1000), rel=1e-6)


# ---- effective real images ----


@pytest.mark.parametrize(("n_real", "total"), [(0, 900), (200, 900), (200, 3000), (700, 500)])
def test_planted_number_is_found(n_real, total):
    found = [
        effective_real_images(SIZES, *_at(study(law, total, k), n_real), bootstrap=200) for k in range(9)
    ]
    values = np.array([e.value + n_real for e in found])
    assert np.median(values) == pytest.approx(total, rel=0.1)
    assert all(e.lo <= e.value <= (np.inf if e.hi is None else e.hi) for e in found)
    assert all(e.curve == "law" and not e.censored for e in found)


def _at(parts, n_real):
    real, mixed = parts
    return real, n_real, mixed


def test_without_a_law_the_interpolated_curve_finds_it():
    found = [
        effective_real_images(SIZES, *_at(study(s_shaped, 800, k, sd=0.02), 100), bootstrap=200)
        for k in range(9)
    ]
    assert {e.curve for e in found} == {"interpolation"}
    assert np.median([e.value for e in found]) == pytest.approx(700, rel=0.12)


@pytest.mark.parametrize(
    ("truth", "sd", "count"),
    [
        (law, 0.04, 30),
        (s_shaped, 0.02, 30),
        pytest.param(law, 0.04, 300, marks=pytest.mark.slow),
        pytest.param(s_shaped, 0.02, 300, marks=pytest.mark.slow),
    ],
)
def test_intervals_cover_the_truth_as_often_as_they_say(truth, sd, count):
    covered = []
    for k in range(count):
        e = effective_real_images(SIZES, *_at(study(truth, 800, k, sd=sd), 100), bootstrap=300, seed=k)
        covered.append(e.lo <= 700 <= (np.inf if e.hi is None else e.hi))
    assert np.mean(covered) >= (0.9 if count > 100 else 25 / 30)  # P(under 25 of 30 | .95) < .5 %


def test_beyond_the_largest_size_only_a_bound_is_said():
    real, mixed = study(law, 20_000, 1)
    e = effective_real_images(SIZES, real, 300, mixed)
    assert e.censored == "at least" and e.value == 4700 and e.hi is None
    assert e.words == "at least 4,700 real images"
    assert e.extrapolated is None or e.extrapolated > 4700  # a guess, kept apart
    near = effective_real_images(SIZES, *_at(study(law, 4800, 3), 300))
    assert near.hi is None  # an interval that reaches the end is open there


def test_worse_than_the_smallest_size_is_at_most_that():
    real, mixed = study(law, 10, 1)
    e = effective_real_images(SIZES, real, 0, mixed)
    assert e.censored == "at most" and e.value == 50 and e.lo == 0
    json.loads(json.dumps(e.to_json(), allow_nan=False))


def test_callers_replicates_take_the_test_images_in():
    real, mixed = study(law, 900, 2, sd=0.01)
    rng = np.random.default_rng(0)
    means = np.array([r.mean() for r in real])
    shared = rng.normal(0, 0.01, (500, 1))  # other test images move all arms alike
    own = rng.normal(0, 0.01, (500, 8))
    paired = effective_real_images(
        SIZES, real, 0, mixed, resampled=(means + shared, mixed.mean() + shared[:, 0])
    )
    apart = effective_real_images(
        SIZES, real, 0, mixed, resampled=(means + own[:, :7], mixed.mean() + own[:, 7])
    )
    assert paired.value == apart.value
    assert apart.hi - apart.lo > 1.3 * (paired.hi - paired.lo)
    back = effective_real_images(
        SIZES[::-1], real[::-1], 0, mixed, resampled=((means + own[:, :7])[:, ::-1], mixed.mean() + own[:, 7])
    )
    assert (back.lo, back.hi) == (apart.lo, apart.hi)


def test_intervals_from_callers_replicates_cover_with_three_seeds_and_shared_images():
    """As a study makes them: of k seeds k − 1 are drawn, the test images move all cells alike."""
    covered = []
    for k in range(60):
        rng = np.random.default_rng([7, k])
        shared = rng.normal(0, 0.01)
        cells = [law(n) * (1 + rng.normal(0, 0.04, 3)) + shared * law(n) / 0.1 for n in (*SIZES, 800)]
        picks = rng.multinomial(2, [1 / 3] * 3, size=(8, 400)) / 2
        stars = np.stack([pick @ cell for pick, cell in zip(picks, cells, strict=True)], axis=1)
        stars = stars + rng.normal(0, 0.01, (400, 1)) * law([*SIZES, 800]) / 0.1
        e = effective_real_images(SIZES, cells[:-1], 100, cells[-1], resampled=(stars[:, :-1], stars[:, -1]))
        covered.append(e.lo <= 700 <= (np.inf if e.hi is None else e.hi))
    assert np.mean(covered) >= 51 / 60  # P(under 51 of 60 | .95) < .3 %


def test_seed_repeats_and_order_of_sizes_does_not_matter():
    real, mixed = study(law, 900, 5)
    one = effective_real_images(SIZES, real, 100, mixed, seed=3)
    assert one == effective_real_images(SIZES, real, 100, mixed, seed=3)
    assert one == effective_real_images(SIZES[::-1], real[::-1], 100, mixed, seed=3)


@pytest.mark.parametrize(
    ("sizes", "errors", "n_real", "mixed", "message"),
    [
        ([10], [[0.1, 0.2]], 0, [0.1], "two or more"),
        ([10, 10], [[0.1, 0.2]] * 2, 0, [0.1], "different sizes"),
        ([10, 20], [[0.2], [0.1]], 0, [0.15], "two or more seeds"),
        ([10, 20], [[0.2, 0.3], [0.1, np.nan]], 0, [0.1], "not finite"),
        ([10, 20], [[0.2, 0.3], [0.1, 0.1]], 0, [], "mixed arm"),
        ([10, 20], [[0.2, 0.3], [0.1, 0.1]], -1, [0.1], "n_real"),
    ],
)
def test_bad_input_is_refused(sizes, errors, n_real, mixed, message):
    with pytest.raises(DataError, match=message):
        effective_real_images(sizes, errors, n_real, mixed)


# ---- exchange rate ----


def test_exchange_rate_is_turned_over_with_its_interval():
    e = Effective(500.0, 250.0, 1000.0, "", 100, "law", "")
    assert exchange_rate(e, 5000) == type(exchange_rate(e, 5000))(10.0, 5.0, 20.0, "")
    open_end = exchange_rate(Effective(500.0, -20.0, None, "", 100, "law", ""), 5000)
    assert open_end.lo == 0 and open_end.hi is None and open_end.value == 10
    harm = exchange_rate(Effective(-50.0, -80.0, -10.0, "", 100, "law", ""), 5000)
    assert harm.value is None and harm.lo is None and harm.hi is None
    assert exchange_rate(Effective(500.0, 500.0, None, "at least", 0, "law", ""), 5000).censored == "at most"
    with pytest.raises(DataError, match="1 or more"):
        exchange_rate(e, 0)


# ---- transfer ----


def test_gap_and_relative_score():
    t = transfer([0.98, 0.96, 0.97], [0.93, 0.95, 0.94], [0.96, 0.97, 0.98])
    assert t.gap.value == pytest.approx(0.03) and t.relative.value == pytest.approx(0.94 / 0.97)
    assert t.gap.lo < 0.03 < t.gap.hi and t.relative.lo < t.relative.value < t.relative.hi
    assert t.reading.startswith("both ways")
    json.loads(json.dumps(t.to_json(), allow_nan=False))


@pytest.mark.parametrize(
    ("tstr", "trts", "reading"),
    [
        (0.9, 0.9, "both ways"),
        (0.5, 0.9, "missing diversity"),
        (0.9, 0.5, "wider"),
        (0.5, 0.5, "another domain"),
    ],
)
def test_reading_of_trts(tstr, trts, reading):
    assert transfer([0.92, 0.93], [tstr, tstr], [trts, trts]).reading.startswith(reading)


def test_transfer_intervals_cover():
    rng = np.random.default_rng(0)
    gaps, ratios = [], []
    for _ in range(400):
        t = transfer(0.9 + 0.02 * rng.normal(size=3), 0.7 + 0.04 * rng.normal(size=3))
        gaps.append(t.gap.lo <= 0.2 <= t.gap.hi)
        ratios.append(t.relative.lo <= 7 / 9 <= t.relative.hi)
    assert 0.92 <= np.mean(gaps) <= 0.99 and 0.92 <= np.mean(ratios) <= 0.99


def test_transfer_intervals_from_replicates_cover_with_three_seeds():
    gaps, ratios = [], []
    for k in range(200):
        rng = np.random.default_rng([8, k])
        a, b = 0.9 + 0.02 * rng.normal(size=3), 0.7 + 0.03 * rng.normal(size=3)
        shared = rng.normal(0, 0.02, 401)  # the test images, the same for both
        draws = rng.multinomial(2, [1 / 3] * 3, size=(2, 400)) / 2
        t = transfer(
            a + shared[0],
            b + shared[0],
            replicates={"trtr": draws[0] @ a + shared[1:], "tstr": draws[1] @ b + shared[1:]},
        )
        gaps.append(t.gap.lo <= 0.2 <= t.gap.hi)
        ratios.append(t.relative.lo <= 7 / 9 <= t.relative.hi)
    assert np.mean(gaps) >= 0.90 and np.mean(ratios) >= 0.90


def test_transfer_takes_replicates_and_refuses_a_single_seed_without():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, 800)
    t = transfer([0.9], [0.8], replicates={"trtr": 0.9 + shared, "tstr": 0.8 + shared})
    assert t.gap.hi - t.gap.lo < 1e-9 and t.relative.hi > t.relative.value
    with pytest.raises(DataError, match="two or more seeds"):
        transfer([0.9], [0.8])
    with pytest.raises(DataError, match="scores 0"):
        transfer([0.0, 0.0], [0.8, 0.8])
    with pytest.raises(DataError, match="trts"):
        transfer([0.9, 0.9], [0.8, 0.8], [np.nan])
