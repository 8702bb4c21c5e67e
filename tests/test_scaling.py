"""The scaling fit recovers laws it is given, covers them with its intervals, and says when it cannot."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.errors import DataError
from imgsynth.evaluate.scaling import ALPHA_BOUNDS, advise, fit_scaling, holdout

NINE = np.round(np.geomspace(250, 64_000, 9))
SEVEN = 1000 * 2.0 ** np.arange(7)


def law(sizes, alpha, c, d):
    return d * np.asarray(sizes, float) ** -alpha + c


def simulate(sizes, seeds, alpha, c, d, sd, replications, proportional=False, **options):
    rng = np.random.default_rng(7)
    fits = []
    for r in range(replications):
        mean = law(sizes, alpha, c, d)[:, None]
        noise = rng.normal(0, sd, (len(sizes), seeds)) * (mean if proportional else 1)
        fits.append(fit_scaling(sizes, mean + noise, seed=r, **options))
    return fits


def covers(fits, name, truth):
    return np.mean([f.ci95[name][0] <= truth <= f.ci95[name][1] for f in fits])


def test_nine_sizes_and_three_seeds_recover_the_law():
    fits = simulate(NINE, 3, 0.4, 0.8, 3.0, 0.002, 24)
    assert abs(np.median([f.alpha for f in fits]) - 0.4) < 0.02
    assert abs(np.median([f.C for f in fits]) - 0.8) < 0.005
    assert abs(np.median([f.D for f in fits]) - 3.0) < 0.3
    assert all(f.identified for f in fits)
    assert covers(fits, "alpha", 0.4) >= 20 / 24  # P(fewer than 20 of 24 | 95 %) < 0.5 %
    widths = [f.ci95["alpha"][1] - f.ci95["alpha"][0] for f in fits]
    assert 0.015 < np.median(widths) < 0.04  # methods.md: 5–95 % of α is .39–.41


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "seeds", "truth", "sd", "proportional"),
    [
        (NINE, 3, (0.4, 0.8, 3.0), 0.002, False),
        (SEVEN, 3, (0.4, 0.8, 0.48), 0.002, False),
        (np.geomspace(50, 5000, 7), 3, (0.6, 0.04, 3.0), 0.06, True),
    ],
)
def test_intervals_cover_the_truth_as_often_as_they_say(sizes, seeds, truth, sd, proportional):
    fits = simulate(sizes, seeds, *truth, sd, 200, proportional)
    for name, value in zip(("alpha", "C", "D"), truth, strict=True):
        assert 0.90 <= covers(fits, name, value) <= 0.99, name
    flips = (truth[2] / truth[1]) ** (1 / truth[0])
    ends = [[low or 0, np.inf if high is None else high] for low, high in (f.flips_ci95 for f in fits)]
    assert np.mean([low <= flips <= high for low, high in ends]) >= 0.88  # P(under 176 of 200 | .95) < .01 %


def test_seven_sizes_with_free_d_do_not_identify_alpha():
    fits = simulate(SEVEN, 1, 0.4, 0.8, 0.48, 0.002, 20)
    assert np.mean([f.identified for f in fits]) <= 0.15
    assert np.mean([f.identified for f in simulate(SEVEN, 3, 0.4, 0.8, 0.48, 0.002, 20)]) <= 0.15
    unidentified = [f for f in fits if not f.identified]
    assert all("α" in f.reason or "does not fall" in f.reason for f in unidentified)
    low, high = np.quantile([f.alpha for f in fits], [0.05, 0.95])
    assert high / low > 2.5  # and rightly so: the estimates themselves scatter that much


def test_seven_sizes_with_known_d_identify_it():
    fits = simulate(SEVEN, 3, 0.4, 0.8, 0.48, 0.002, 20, D=0.48)
    assert np.mean([f.identified for f in fits]) >= 0.9
    assert abs(np.median([f.alpha for f in fits]) - 0.4) < 0.02
    assert all(pytest.approx(0.48, rel=1e-9) == f.D and f.fixed_D for f in fits)


def test_flat_curve_is_flagged():
    fits = simulate(NINE, 3, 0.4, 0.3, 0.0, 0.002, 20)
    assert sum(f.identified for f in fits) == 0
    assert sum("does not fall" in f.reason for f in fits) >= 17


def test_rising_curve_is_flagged():
    fit = fit_scaling(NINE, [[0.2 + 0.01 * k] for k in range(9)])
    assert not fit.identified and "does not fall" in fit.reason
    assert fit.D == 0


@settings(max_examples=15, deadline=None)
@given(
    alpha=st.floats(0.1, 1.5),
    c=st.floats(0.0, 0.9),
    d=st.floats(0.5, 5.0),
)
def test_exact_data_are_recovered(alpha, c, d):
    fit = fit_scaling(NINE, law(NINE, alpha, c, d)[:, None], bootstrap=8)
    assert fit.alpha == pytest.approx(alpha, rel=1e-4)
    assert pytest.approx(c, abs=1e-5) == fit.C
    assert pytest.approx(d, rel=1e-3) == fit.D
    assert fit.identified
    assert fit.residual_sd < 1e-6
    assert np.allclose(fit.predict(NINE), law(NINE, alpha, c, d), rtol=1e-5)


def test_bounds_hold():
    steep = fit_scaling(NINE, law(NINE, 0.2, -0.4, 3.0)[:, None], noise="constant")
    assert steep.C == 0 and steep.D > 0
    fit = fit_scaling([10, 100, 1000, 10_000, 100_000], [[0.9], [0.1], [0.1], [0.1], [0.1]])
    assert not fit.identified and "bound" in fit.reason
    assert fit.ci95["alpha"][1] <= ALPHA_BOUNDS[1]


def test_too_few_sizes_are_fitted_but_not_identified():
    sizes = NINE[::3][:3]
    fit = fit_scaling(sizes, law(sizes, 0.4, 0.1, 3.0)[:, None])
    assert not fit.identified and "3 sizes" in fit.reason
    assert fit.alpha == pytest.approx(0.4, rel=1e-3)


def test_noise_model_is_chosen_by_the_scatter():
    proportional = simulate(np.geomspace(50, 5000, 7), 3, 0.6, 0.04, 3.0, 0.05, 16, proportional=True)
    assert np.mean([f.noise == "proportional" for f in proportional]) >= 0.7
    constant = simulate(np.geomspace(50, 5000, 7), 3, 0.6, 0.04, 3.0, 0.01, 16)
    assert np.mean([f.noise == "constant" for f in constant]) >= 0.9
    assert np.median([f.residual_sd for f in constant]) == pytest.approx(0.01, rel=0.15)


def test_common_error_of_the_test_images_widens_the_interval_of_c():
    """Seeds share the test images: resampling those moves the whole curve, which seeds alone cannot show."""
    rng = np.random.default_rng(0)
    errors = law(NINE, 0.4, 0.2, 3.0)[:, None] + rng.normal(0, 0.001, (9, 3))
    alone = fit_scaling(NINE, errors)
    shifted = np.mean(errors, axis=1) + rng.normal(0, 0.01, (400, 1))
    shared = fit_scaling(NINE, errors, resampled=shifted)
    assert shared.alpha == alone.alpha
    assert shared.ci95["C"][1] - shared.ci95["C"][0] > 3 * (alone.ci95["C"][1] - alone.ci95["C"][0])


def test_order_of_sizes_does_not_matter_and_seed_repeats():
    errors = law(NINE, 0.4, 0.2, 3.0)[:, None] + np.random.default_rng(0).normal(0, 0.002, (9, 3))
    forward = fit_scaling(NINE, errors)
    assert forward == fit_scaling(NINE, errors)
    backward = fit_scaling(NINE[::-1], errors[::-1], bootstrap=400)
    assert backward.alpha == forward.alpha


def test_band_and_advice():
    rng = np.random.default_rng(3)
    still_falling = fit_scaling(NINE, law(NINE, 0.4, 0.02, 3.0)[:, None] + rng.normal(0, 0.001, (9, 3)))
    low, high = still_falling.band(NINE)
    assert np.all(low <= still_falling.predict(NINE)) and np.all(still_falling.predict(NINE) <= high)
    assert still_falling.flips_at > NINE[-1]
    advice = advise(still_falling, int(NINE[-1]))
    assert advice.action == "render more"
    assert advice.gain == pytest.approx(advice.error_now - advice.error_then)
    assert advice.gain_ci95[0] <= advice.gain <= advice.gain_ci95[1]
    at_floor = fit_scaling(NINE, law(NINE, 0.9, 0.3, 30.0)[:, None] + rng.normal(0, 0.001, (9, 3)))
    assert advise(at_floor, int(NINE[-1])).action == "change the synthesis"
    assert advise(at_floor, int(NINE[-1])).floor > 0.99
    flat = fit_scaling(NINE, 0.3 + rng.normal(0, 0.01, (9, 3)))
    assert advise(flat, int(NINE[-1])).action == "unknown"


# ---- where it flips ----


@settings(max_examples=15, deadline=None)
@given(alpha=st.floats(0.2, 1.2), c=st.floats(0.02, 0.6), d=st.floats(0.5, 5.0))
def test_flip_is_where_both_parts_are_equal(alpha, c, d):
    fit = fit_scaling(NINE, law(NINE, alpha, c, d)[:, None], bootstrap=8)
    assert fit.flips_at == pytest.approx((d / c) ** (1 / alpha), rel=0.02)
    assert fit.D * fit.flips_at**-fit.alpha == pytest.approx(fit.C, rel=1e-9)
    assert (fit.predict(fit.flips_at) / fit.C) == pytest.approx(2)


def test_advice_flips_there_and_is_sure_away_from_it():
    rng = np.random.default_rng(1)
    fit = fit_scaling(NINE, law(NINE, 0.5, 0.05, 3.0)[:, None] + rng.normal(0, 0.001, (9, 3)))  # n* = 3600
    low, high = fit.flips_ci95
    assert low < 3600 < high and high / low < 2
    below, above = advise(fit, int(fit.flips_at * 0.99)), advise(fit, int(fit.flips_at * 1.01) + 1)
    assert (below.action, above.action) == ("render more", "change the synthesis")
    assert not below.certain and not above.certain
    assert advise(fit, int(low / 2)).certain and advise(fit, int(high * 2)).certain
    assert advise(fit, 3600).flips_at == fit.flips_at
    json.loads(json.dumps(advise(fit, 3600).to_json(), allow_nan=False))
    json.loads(json.dumps(fit.to_json(), allow_nan=False))


def test_no_gap_never_flips():
    rng = np.random.default_rng(2)
    fit = fit_scaling(NINE, law(NINE, 0.5, 0.0, 3.0)[:, None] + rng.normal(0, 0.0005, (9, 3)))
    assert fit.flips_ci95[1] is None and fit.flips_ci95[0] > NINE[-1]
    assert advise(fit, int(NINE[-1])).action == "render more"


def test_slow_fall_is_not_worth_rendering():
    sizes = np.geomspace(10, 1e6, 11)
    fit = fit_scaling(sizes, law(sizes, 0.04, 0.0, 0.9)[:, None], bootstrap=8)
    said = advise(fit, int(1e6))
    assert not fit.identified or said.action == "change the synthesis"


# ---- extrapolation ----


def test_held_out_largest_size_is_foretold():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(24):
        errors = law(NINE, 0.4, 0.2, 3.0)[:, None] + rng.normal(0, 0.003, (9, 3))
        test = holdout(NINE, errors)
        inside.append(test.passed)
        assert test.n == NINE[-1] and test.observed == pytest.approx(errors[-1].mean())
        assert test.interval[0] <= test.predicted <= test.interval[1]
    assert np.mean(inside) >= 20 / 24  # P(fewer than 20 of 24 | 95 %) < 0.5 %
    assert test.interval[1] - test.interval[0] < 0.02


def test_held_out_size_shows_a_curve_that_is_no_such_law():
    rng = np.random.default_rng(0)
    floor = np.maximum(law(NINE, 0.4, 0.0, 3.0), 0.045)  # falls as a law but for the last size
    broken = holdout(NINE, floor[:, None] + rng.normal(0, 0.0005, (9, 3)))
    assert not broken.passed and broken.predicted < broken.observed
    json.loads(json.dumps(broken.to_json(), allow_nan=False))
    relative = law(NINE, 0.4, 0.05, 3.0)[:, None] * (1 + rng.normal(0, 0.02, (9, 3)))
    assert holdout(NINE[::-1], relative[::-1], noise="proportional").passed
    with pytest.raises(DataError, match="at least 4 sizes"):
        holdout([1, 2, 3], [[0.3], [0.2], [0.1]])


def test_misfit_is_seen_where_seeds_say_so():
    rng = np.random.default_rng(0)
    fine = [
        fit_scaling(NINE, law(NINE, 0.4, 0.2, 3.0)[:, None] + rng.normal(0, 0.003, (9, 3))) for _ in range(20)
    ]
    assert np.mean([f.misfit < 0.05 for f in fine]) <= 0.25 and np.mean([f.misfit > 0.5 for f in fine]) >= 0.2
    bent = 0.1 + 0.7 / (1 + (NINE / 2000) ** 2)
    assert fit_scaling(NINE, bent[:, None] + rng.normal(0, 0.003, (9, 3))).misfit < 1e-6
    assert fit_scaling(NINE, bent[:, None]).misfit is None


def test_callers_replicates_follow_the_order_of_the_sizes():
    errors = law(NINE, 0.4, 0.2, 3.0)[:, None] + np.random.default_rng(0).normal(0, 0.002, (9, 3))
    stars = errors.mean(axis=1) + np.random.default_rng(1).normal(0, 0.002, (100, 9))
    forward = fit_scaling(NINE, errors, resampled=stars)
    assert fit_scaling(NINE[::-1], errors[::-1], resampled=stars[:, ::-1]).ci95 == forward.ci95


@pytest.mark.parametrize(
    ("sizes", "errors", "message"),
    [
        ([1, 2], [[0.1], [0.2]], "at least 3 sizes"),
        ([1, 2, 2], [[0.1]] * 3, "different sizes"),
        ([0, 1, 2], [[0.1]] * 3, "above 0"),
        ([1, 2, 3], [[0.1], [], [0.2]], "at size 2"),
        ([1, 2, 3], [[0.1], [np.nan], [0.2]], "not finite"),
        ([1, 2, 3], [[0.1], [0.2]], "3 sizes and 2 groups"),
    ],
)
def test_bad_input_is_refused(sizes, errors, message):
    with pytest.raises(DataError, match=message):
        fit_scaling(sizes, errors)
