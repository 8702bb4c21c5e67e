"""Solvers and guidance against closed forms: Gaussian data, whose probability flow is known exactly."""

import math

import numpy as np
import pytest
import torch
from closed_forms_diffusion import Embedded, Mixture
from scipy.stats import kstest, norm

from imgsynth.diffusion.guidance import Annealing, Guidance, annealed, guided
from imgsynth.diffusion.solvers import (
    SCHEDULES,
    SOLVERS,
    adams,
    dpmpp_2m,
    euler,
    evaluations,
    heun,
    karras,
    logarithmic,
    straight,
)
from imgsynth.errors import ModelError

MEAN, SPREAD, START = 0.3, 0.5, 10.0


def gaussian(x, sigma):
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact(x, begin, end):
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + end**2) / (SPREAD**2 + begin**2))


def error(solver, steps):
    x = torch.linspace(-20, 20, 9, dtype=torch.float64)
    sigmas = logarithmic(steps + 1, 0.2, START)[:-1]  # stop above 0, where all is still smooth
    return float((solver(gaussian, x, sigmas) - exact(x, START, 0.2)).abs().max())


@pytest.mark.parametrize(
    ("solver", "order", "steps"),
    [
        (euler, 1, 160),
        (heun, 2, 160),
        (dpmpp_2m, 2, 320),
        (lambda *a: adams(*a, order=2), 2, 1280),  # the corrector's error is of another sign: slow to show
        (adams, 3, 160),
    ],
    ids=["euler", "heun", "dpmpp_2m", "adams2", "adams3"],
)
def test_solvers_converge_with_their_order(solver, order, steps):
    coarse, fine = error(solver, steps), error(solver, 2 * steps)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert coarse < {1: 1.0, 2: 1.0, 3: 10.0}[order] / steps**order * 20


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_estimate_is_met_exactly(solver):
    x = torch.tensor([3.0, -7.0], dtype=torch.float64)
    found = SOLVERS[solver](lambda x, s: torch.full_like(x, 0.25), x, karras(6, 0.05, 5.0))
    np.testing.assert_allclose(found, 0.25, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_as_many_evaluations_as_said(solver, steps):
    asked = []
    SOLVERS[solver](lambda x, s: asked.append(s) or x * 0, torch.zeros(1), karras(steps, 0.1, 3.0))
    assert len(asked) == evaluations(solver, steps)
    assert asked[0] == pytest.approx(3.0) and all(0 < s <= 3.0 * 1.0000001 for s in asked)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gaussian_comes_out_as_itself(solver):
    start = torch.from_numpy(np.random.default_rng(0).standard_normal(4000)) * 20
    found = SOLVERS[solver](gaussian, start, karras(60, 0.002, 20.0)).numpy()
    assert kstest((found - MEAN) / SPREAD, "norm").pvalue > 0.01


def test_2m_takes_the_midpoint_of_two_estimates():
    """Its second step by hand, from the published update with h and r."""
    sigmas, x = [8.0, 3.0, 1.0], torch.tensor([5.0], dtype=torch.float64)
    first = 3 / 8 * x - (3 / 8 - 1) * gaussian(x, 8.0)
    r = math.log(8 / 3) / math.log(3)
    mixed = (1 + 1 / (2 * r)) * gaussian(first, 3.0) - 1 / (2 * r) * gaussian(x, 8.0)
    np.testing.assert_allclose(dpmpp_2m(gaussian, x, sigmas), 1 / 3 * first - (1 / 3 - 1) * mixed)


def test_churn_adds_what_it_takes_away():
    """With noise put in at every step the marginal stays the data's own."""
    generator = torch.Generator().manual_seed(1)
    start = 20 * torch.randn(20000, generator=generator, dtype=torch.float64)
    fresh = lambda k: torch.randn(20000, generator=generator, dtype=torch.float64)  # noqa: E731
    sigmas = karras(40, 0.002, 20.0)
    found = heun(gaussian, start, sigmas, churn=20.0, fresh=fresh)
    assert found.mean() == pytest.approx(MEAN, abs=0.02) and found.std() == pytest.approx(SPREAD, abs=0.02)
    plain = heun(gaussian, start, sigmas)
    assert np.corrcoef(start, plain)[0, 1] > 0.999 > 0.9 > np.corrcoef(start, found)[0, 1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fall_from_high_to_low_and_then_to_zero(schedule):
    for steps in (1, 2, 7):
        sigmas = SCHEDULES[schedule](steps, 0.05, 12.0)
        assert len(sigmas) == steps + 1 and sigmas[0] == pytest.approx(12) and sigmas[-1] == 0
        assert np.all(np.diff(sigmas) < 0) and (steps == 1 or sigmas[-2] == pytest.approx(0.05))
    assert np.ptp(np.diff(np.array(karras(8, 0.01, 50)[:-1]) ** (1 / 7))) < 1e-12
    assert np.ptp(np.diff(np.log(logarithmic(8, 0.01, 50)[:-1]))) < 1e-12
    s = np.array(straight(8, 0.01, 50)[:-1])
    assert np.ptp(np.diff(s / (1 + s))) < 1e-12


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0], [1.0, 2.0], [1.0, -0.5], []])
def test_levels_that_do_not_fall_are_refused(sigmas):
    with pytest.raises(ModelError, match="falling"):
        euler(gaussian, torch.zeros(1), sigmas)


def solved(model, labels, guidance, start=30.0, guide=None, steps=400):
    x = start * torch.linspace(-2, 2, len(labels), dtype=torch.float64).reshape(-1, 1, 1, 1).expand(
        -1, 1, 4, 4
    )
    denoise = guided(model.denoise, labels, len(model.classes), guidance, guide=guide and guide.denoise)
    return x, heun(denoise, x, karras(steps, 1e-4, start))


def test_guidance_moves_the_mean_by_its_weight():
    """Equal spreads: the guided flow is that of a Gaussian with mean m₀ + w (m − m₀)."""
    model = Mixture((-0.5, 0.5), (0.3, 0.3), rest=(0.1, 0.3))
    for weight in (0.0, 1.0, 2.5):
        x, found = solved(model, torch.tensor([1, 1, 0, 0]), Guidance(weight))
        mean = 0.1 + weight * (torch.tensor([0.5, 0.5, -0.5, -0.5]) - 0.1)
        wanted = mean.reshape(-1, 1, 1, 1) + (x - mean.reshape(-1, 1, 1, 1)) * 0.3 / math.sqrt(0.09 + 900)
        np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_an_interval_guides_between_its_levels_only():
    """By hand in three pieces: plain above the interval, guided in it, plain below."""
    model = Mixture((0.5, 0.5), (0.3, 0.3), rest=(0.1, 0.3))
    low, high, weight = 0.2, 2.0, 3.0
    x, found = solved(model, torch.tensor([0, 1, 0]), Guidance(weight, (low, high)), steps=3000)

    def flow(x, mean, begin, end):
        return mean + (x - mean) * math.sqrt((0.09 + end**2) / (0.09 + begin**2))

    x = flow(x, 0.5, 30.0, high)
    x = flow(x, 0.1 + weight * 0.4, high, low)
    np.testing.assert_allclose(found, flow(x, 0.5, low, 0.0), atol=2e-3)


def test_outside_its_interval_guidance_costs_nothing():
    calls = []

    def model(x, sigma, labels, layout=None):
        calls.append((float(sigma[0]), int(labels[0])))
        return x * 0

    denoise = guided(model, torch.tensor([1]), 5, Guidance(2.0, (0.5, 3.0)))
    for sigma in (5.0, 3.0, 0.5, 0.1):
        denoise(torch.zeros(1, 1, 2, 2), sigma)
    assert calls == [(5.0, 1), (3.0, 1), (3.0, 5), (0.5, 1), (pytest.approx(0.1), 1)]  # low < σ ≤ high
    calls.clear()
    guided(model, torch.tensor([1]), 5, Guidance(1.0))(torch.zeros(1, 1, 2, 2), 1.0)
    assert len(calls) == 1


def test_autoguidance_narrows_by_the_ratio_of_spreads():
    """A guide of the same mean and a wider spread g: what comes out has the spread s (s / g)^(w − 1)."""
    model, guide = Mixture((0.2, 0.4), (0.2, 0.2)), Mixture((0.2, 0.4), (0.5, 0.5))
    weight = 1.7
    guidance = Guidance(weight, reference="guide")
    x, found = solved(model, torch.tensor([0, 1, 0]), guidance, guide=guide)
    mean = torch.tensor([0.2, 0.4, 0.2]).reshape(-1, 1, 1, 1)
    whole = (0.04 + 900) ** (weight / 2) * (0.25 + 900) ** ((1 - weight) / 2)
    wanted = mean + (x - mean) * 0.2**weight * 0.5 ** (1 - weight) / whole
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    with pytest.raises(ModelError, match="guide_model"):
        solved(model, torch.tensor([0]), guidance)


@pytest.mark.parametrize(
    "bad",
    [
        {"weight": -1.0},
        {"weight": math.nan},
        {"interval": (2.0, 1.0)},
        {"interval": (-1.0, 1.0)},
        {"reference": "x"},
    ],
)
def test_guidance_refuses_what_makes_no_sense(bad):
    with pytest.raises(ModelError, match="guidance"):
        Guidance(**bad)


def test_cads_keeps_fades_and_drops_the_condition():
    cads = Annealing(scale=0.1, full=0.6, none=0.9)
    at = lambda t: cads.share(t / (1 - t))  # noqa: E731
    assert [at(t) for t in (0.2, 0.6, 0.75, 0.9, 0.99)] == pytest.approx([1, 1, 0.5, 0, 0])
    condition = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(cads.apply(condition, noise, 1.0), condition)
    gone = Annealing(mix=0.0).apply(condition, noise, 99.0)
    np.testing.assert_allclose(gone, 0.1 * noise, rtol=1e-6)
    half = Annealing(mix=0.0).apply(condition, noise, 3.0)
    np.testing.assert_allclose(half, math.sqrt(0.5) * (condition + 0.1 * noise), rtol=1e-5)
    scaled = cads.apply(condition, noise, 99.0)
    np.testing.assert_allclose(scaled.mean(1), condition.mean(1), atol=1e-6)
    np.testing.assert_allclose(scaled.std(1), condition.std(1), rtol=1e-5)
    assert np.corrcoef(scaled[0], noise[0])[0, 1] == pytest.approx(1, abs=1e-6)
    with pytest.raises(ModelError, match="cads"):
        Annealing(full=0.9, none=0.5)


def test_cads_touches_classes_only_and_leaves_the_model_as_it_was():
    model = Embedded(classes=3)
    x, labels = torch.zeros(2, 1, 4, 4), torch.tensor([2, 3])
    before = model.denoise(x, torch.full((2,), 5.0), labels)
    noise = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    with annealed(model.class_embedding, 3, Annealing(scale=1.0), noise, lambda: 50.0):
        during = model.denoise(x, torch.full((2,), 5.0), labels)
        with pytest.raises(RuntimeError), annealed(model.class_embedding, 3, Annealing(), noise, lambda: 1.0):
            raise RuntimeError
    after = model.denoise(x, torch.full((2,), 5.0), labels)
    assert torch.equal(before, after) and not model.class_embedding._forward_hooks
    assert not torch.allclose(before[0], during[0]) and torch.equal(before[1], during[1])


def test_a_mixture_comes_out_with_its_parts():
    """Unconditional sampling of an actual mixture: shares and shapes of both humps."""
    means, spread = torch.tensor([-1.0, 0.8], dtype=torch.float64), 0.15
    shares = torch.tensor([0.3, 0.7], dtype=torch.float64)

    def denoise(x, sigma):
        variance = spread**2 + sigma**2
        logits = shares.log() - (x[:, None] - means) ** 2 / (2 * variance)
        parts = (spread**2 * x[:, None] + sigma**2 * means) / variance
        return (logits.softmax(1) * parts).sum(1)

    rng = np.random.default_rng(3)
    start = torch.from_numpy(rng.standard_normal(6000)) * 40
    for name, steps in (("heun", 40), ("dpmpp_2m", 80), ("adams", 80)):
        found = SOLVERS[name](denoise, start, karras(steps, 0.002, 40.0)).numpy()
        law = lambda v: 0.3 * norm.cdf(v, -1, spread) + 0.7 * norm.cdf(v, 0.8, spread)  # noqa: E731
        assert kstest(found, law).pvalue > 0.005, name
