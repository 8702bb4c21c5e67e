"""The two-dimensional law recovers what was planted, and says what it cannot know."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.errors import DataError
from imgsynth.evaluate.surface import fit_surface
from imgsynth.evaluate.surfacefit import fit_surfaces

N, S = (v.ravel() for v in np.meshgrid(np.geomspace(100, 25_600, 5), np.geomspace(20, 1280, 4)))
TRUTH = {"alpha": 0.45, "beta": 0.3, "gamma": 0.08, "delta": 1.6}


def law(n, s, alpha, beta, gamma, delta):
    return delta * (gamma + n**-alpha) * s**-beta


def noisy(seed, truth=TRUTH, seeds=3, sd=0.03, n=N, s=S):
    rng = np.random.default_rng(seed)
    mean = law(n, s, **truth)
    return mean[:, None] * (1 + rng.normal(0, sd, (len(n), seeds)))


@settings(max_examples=6, deadline=None)
@given(
    alpha=st.floats(0.15, 1.2),
    beta=st.floats(0.05, 1.0),
    gamma=st.floats(0.0, 0.3),
    delta=st.floats(0.2, 4.0),
)
def test_exact_surfaces_are_recovered(alpha, beta, gamma, delta):
    y = law(N, S, alpha, beta, gamma, delta)
    (found,), (cost,) = fit_surfaces(N, S, np.ones(len(N)), y[None])
    assert cost < 1e-10 * (y**2).sum()
    assert found == pytest.approx([alpha, beta, gamma * delta, delta], rel=2e-3, abs=2e-5)


def test_planted_values_come_back_from_noise():
    fits = [fit_surface(N, S, noisy(k), bootstrap=60) for k in range(3)]
    for name, tolerance in (("alpha", 0.03), ("beta", 0.006), ("gamma", 0.012), ("delta", 0.25)):
        assert abs(np.median([getattr(f, name) for f in fits]) - TRUTH[name]) < tolerance, name
    assert all(f.identified and f.noise == "proportional" and f.misfit > 1e-4 for f in fits)
    assert np.median([f.residual_sd for f in fits]) == pytest.approx(
        0.03 * law(N, S, **TRUTH).mean(), rel=0.5
    )


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    fits = [fit_surface(N, S, noisy(k), noise="proportional", bootstrap=150) for k in range(200)]
    for name, truth in TRUTH.items():
        share = np.mean([f.ci95[name][0] <= truth <= f.ci95[name][1] for f in fits])
        assert 0.90 <= share <= 0.99, name
    rate = TRUTH["beta"] * 6400 * (1 + TRUTH["gamma"] * 6400 ** TRUTH["alpha"]) / (TRUTH["alpha"] * 320)
    exchanges = [f.exchange(6400, 320) for f in fits]
    assert 0.87 <= np.mean([e.lo <= rate <= e.hi for e in exchanges]) <= 0.99


def test_search_finds_what_a_general_optimizer_finds():
    from scipy.optimize import least_squares

    y = noisy(3).mean(axis=1)
    (found,), (cost,) = fit_surfaces(N, S, np.ones(len(N)), y[None])

    def residuals(p):
        return (p[2] + p[3] * N ** -p[0]) * S ** -p[1] - y

    start = [0.45, 0.3, 0.128, 1.6]
    other = least_squares(
        residuals, start, bounds=([0.02, 0, 0, 0], [3, 3, 9, 99]), x_scale=start, xtol=1e-14
    )
    assert cost <= 2 * other.cost * (1 + 1e-7)
    assert found == pytest.approx(other.x, rel=1e-3)


def test_exchange_is_the_ratio_of_slopes():
    fit = fit_surface(N, S, noisy(1), bootstrap=40)
    n, s, h = 6400.0, 320.0, 1e-3
    by_s = (fit.predict(n, s + h * s) - fit.predict(n, s - h * s)) / (2 * h * s)
    by_n = (fit.predict(n + h * n, s) - fit.predict(n - h * n, s)) / (2 * h * n)
    rate = fit.exchange(n, s)
    assert rate.value == pytest.approx(by_s / by_n, rel=1e-4)
    assert rate.lo <= rate.value <= rate.hi
    more = fit.more_synthetic(n, s, 20)
    assert fit.predict(n + more.value, s) == pytest.approx(fit.predict(n, s + 20), rel=1e-9)
    assert fit.more_synthetic(n, s, 0.01).value == pytest.approx(rate.value * 0.01, rel=1e-3)


def test_gap_can_stand_before_any_number_of_images():
    fit = fit_surface(N, S, noisy(1, {**TRUTH, "gamma": 0.5}), bootstrap=40)
    blocked = fit.more_synthetic(25_600, 20, 200)
    assert blocked.value is None and blocked.hi is None


def test_one_number_of_real_images_is_no_surface_and_three_synthetic_sizes_do_not_tell_alpha():
    keep = N > 1000
    fit = fit_surface(N[keep], S[keep], noisy(2)[keep], bootstrap=40)
    assert not fit.identified and "too few" in fit.unidentified["alpha"] and "gamma" in fit.unidentified
    assert "beta" not in fit.unidentified
    assert fit.beta == pytest.approx(0.3, abs=0.02)


def test_no_effect_of_synthetic_images_is_flagged_and_can_be_written():
    rng = np.random.default_rng(5)
    errors = 0.5 * S[:, None] ** -0.3 * (1 + rng.normal(0, 0.02, (len(S), 3)))
    fit = fit_surface(N, S, errors, bootstrap=60)
    assert "alpha" in fit.unidentified and "gamma" in fit.unidentified
    assert fit.beta == pytest.approx(0.3, abs=0.02)
    assert np.isfinite(fit.predict(N, S)).all()
    json.loads(json.dumps(fit.to_json(), allow_nan=False))


def test_no_effect_of_real_images_reaches_the_bound_of_beta():
    fit = fit_surface(N, S, noisy(4, {**TRUTH, "beta": 0.0}), bootstrap=60)
    assert "bound" in fit.unidentified["beta"] and "alpha" not in fit.unidentified


def test_order_of_cells_does_not_matter_and_the_seed_repeats():
    errors = noisy(6)
    fit = fit_surface(N, S, errors, bootstrap=30)
    assert fit == fit_surface(N, S, errors, bootstrap=30)
    back = fit_surface(N[::-1], S[::-1], errors[::-1], bootstrap=30)
    assert back.alpha == pytest.approx(fit.alpha, rel=1e-6) and back.beta == pytest.approx(fit.beta, rel=1e-6)
    low, high = fit.band([100, 1000], 50)
    assert np.all(low <= fit.predict([100, 1000], 50)) and np.all(fit.predict([100, 1000], 50) <= high)


@pytest.mark.parametrize(
    ("n", "s", "message"),
    [
        ([1, 2, 3], [1, 2, 3], "5 or more cells"),
        ([1, 2, 3, 4, 5], [7] * 5, "1 s"),
        ([0, 1, 2, 3, 4], [1, 2, 3, 4, 5], "above 0"),
        ([1, 1, 2, 3, 4], [2, 2, 3, 4, 5], "twice"),
        ([1, 2, 3, 4], [2, 2, 3, 4, 5], "each cell"),
    ],
)
def test_bad_input_is_refused(n, s, message):
    with pytest.raises(DataError, match=message):
        fit_surface(n, s, [[0.1, 0.2]] * len(n))
