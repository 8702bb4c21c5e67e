"""Distances between sets against closed forms for Gaussians, and against laws that agree."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm

from imgsynth.dataset.sources import load
from imgsynth.errors import DataError
from imgsynth.gate.distances import (
    covered,
    frechet,
    frechet_distance,
    frechet_unbiased,
    kernel_distance,
)
from imgsynth.gate.features import compare, features
from imgsynth.learn.classify import ClassifierConfig
from imgsynth.learn.trainer import train_classifier


def normal(n, d=6, mean=0.0, scale=1.0, seed=0):
    return mean + scale * np.random.default_rng(seed).standard_normal((n, d))


def test_frechet_is_the_closed_form():
    rng = np.random.default_rng(0)
    for d in (1, 4, 9):
        a, b = (v @ v.T for v in rng.standard_normal((2, d, d)))
        m, v = rng.standard_normal((2, d))
        wanted = np.sum((m - v) ** 2) + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
        assert frechet(m, a, v, b) == pytest.approx(wanted, rel=1e-6)
    d = np.diag([4.0, 9, 0])
    e = np.diag([1.0, 1, 0])  # singular, commuting: Σ (√a − √b)²
    assert frechet(np.zeros(3), d, np.array([0, 0, 2.0]), e) == pytest.approx(1 + 4 + 4)
    assert frechet(np.ones(3), d, np.ones(3), d) == pytest.approx(0, abs=1e-9)


def test_the_extrapolation_is_unbiased_where_the_plain_distance_is_not():
    truth = 6 * 0.2**2 + 6 * (1.1 - 1) ** 2
    plain, free, held = [], [], 0
    for seed in range(30):
        x, y = normal(300, seed=seed), normal(300, mean=0.2, scale=1.1, seed=1000 + seed)
        found = frechet_unbiased(x, y, seed=seed)
        plain.append(frechet_distance(x, y))
        free.append(found.value)
        held += found.lo <= truth <= found.hi
    error = np.std(free) / np.sqrt(30)
    assert abs(np.mean(free) - truth) < 3 * error < abs(np.mean(plain) - truth)
    assert 25 <= held <= 30


def test_unequal_numbers_are_compared_at_equal_ones():
    x, y = normal(4000, seed=1), normal(400, seed=2)
    assert abs(frechet_unbiased(x, y).value) < 0.1
    assert frechet_unbiased(x, y, seed=3) == frechet_unbiased(x, y, seed=3)


@pytest.mark.slow
def test_kernel_distance_is_unbiased_and_has_its_closed_form():
    same = [kernel_distance(normal(200, seed=s), normal(260, seed=500 + s)).value for s in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40)
    # In one dimension MMD² of the kernel (xy + 1)³ is Σ C(3, i) (E x^i − E y^i)².
    x, y = normal(20_000, 1, seed=1), normal(20_000, 1, mean=0.3, seed=2)
    wanted = 3 * 0.3**2 + 3 * 0.09**2 + (0.3**3 + 3 * 0.3) ** 2
    found = kernel_distance(x, y)
    assert found.lo < wanted < found.hi and found.value == pytest.approx(wanted, rel=0.2)


def test_kernel_distance_is_the_plain_sum():
    x, y = normal(60, seed=1), normal(50, mean=0.5, seed=2)
    k = lambda a, b: (a @ b.T / 6 + 1) ** 3  # noqa: E731
    a, b = k(x, x), k(y, y)
    wanted = (a.sum() - np.trace(a)) / (60 * 59) + (b.sum() - np.trace(b)) / (50 * 49) - 2 * k(x, y).mean()
    assert kernel_distance(x, y).value == pytest.approx(wanted)


def test_kernel_intervals_cover():
    wanted = 3 * 0.3**2 + 3 * 0.09**2 + (0.3**3 + 3 * 0.3) ** 2
    held = 0
    for seed in range(60):
        found = kernel_distance(normal(400, 1, seed=seed), normal(400, 1, mean=0.3, seed=900 + seed))
        held += found.lo <= wanted <= found.hi
    assert 52 <= held <= 60


def test_coverage_of_equal_laws_lost_modes_and_strays():
    real, same = normal(800, 4, seed=1), normal(800, 4, seed=2)
    found = covered(same, real)
    assert found.precision.value > 0.9 and found.recall.value > 0.9
    assert found.density.lo < 1.05 and found.density.hi > 0.95
    # Naeem et al. 2020, eq. 9: expected coverage of equal laws is 1 − Π_{i<k} (n − i)/(2n − 1 − i) ≈ 1 − 2⁻ᵏ
    assert found.coverage.value == pytest.approx(1 - 0.5**5, abs=0.03)
    two = np.concatenate([normal(400, 4, seed=3), normal(400, 4, mean=12, seed=4)])
    one = covered(normal(800, 4, seed=5), two)
    assert one.precision.value > 0.9 and one.recall.value == pytest.approx(0.5, abs=0.06)
    assert one.coverage.value == pytest.approx(0.5, abs=0.06)
    strays = np.concatenate([normal(600, 4, seed=6), normal(200, 4, mean=40, seed=7)])
    stray = covered(strays, real)
    assert stray.precision.value == pytest.approx(0.75, abs=0.06) and stray.recall.value > 0.85
    assert stray.to_json()["density"]["mean"] < 0.85


def test_bad_features_are_refused():
    for call, said in (
        (lambda: frechet_distance(np.zeros((3, 2)), np.zeros((3, 4))), "expected finite features"),
        (lambda: frechet_distance(np.full((3, 2), np.nan), np.zeros((3, 2))), "finite"),
        (lambda: frechet_unbiased(normal(30, 6), normal(40, 6)), "at least 36 images"),
        (lambda: kernel_distance(normal(30, 6), normal(40, 6)), "at least 40 images a set"),
        (lambda: covered(normal(5, 6), normal(40, 6)), "more than 5"),
    ):
        with pytest.raises(DataError, match=said):
            call()


# ---- measured on a net ----


@pytest.fixture(scope="module")
def parts():
    data = load("sklearn:digits")
    block = data.groups.astype(int)
    return [data.subset(np.isin(block, b)) for b in ([0, 1, 2], [3, 4, 5, 6, 7], [8, 9, 10, 11, 12])]


def test_features_do_not_depend_on_company(parts):
    net = train_classifier(parts[0], ClassifierConfig(steps=10), seed=0)
    whole = features(net, parts[1].images)
    assert whole.shape == (len(parts[1]), 32)
    alone = np.concatenate([features(net, parts[1].images[i : i + 1]) for i in (0, 5, 300)])
    assert np.array_equal(alone, whole[[0, 5, 300]])
    logits = net.features(parts[1].images) @ net.net.head[-1].weight.detach().numpy().T
    assert np.allclose(
        logits + net.net.head[-1].bias.detach().numpy(), net.logits(parts[1].images), atol=1e-4
    )
    assert features(net, parts[1].images[:0]).shape == (0, 32)


@pytest.mark.slow
def test_distances_grow_as_samples_get_worse(parts):
    train, real, other = parts
    rng = np.random.default_rng(0)
    noisy = replace(
        other, images=np.clip(other.images + rng.normal(0, 60, other.images.shape), 0, 255).astype(np.uint8)
    )
    found = [compare(s, real, train=train, steps=60) for s in (other, noisy)]
    assert found[0].fd.hi < found[1].fd.lo and found[0].kid.value < found[1].kid.value
    assert found[0].covered.precision.value > found[1].covered.precision.value
    assert found[0].fd_plain > found[0].fd.value
    told = found[0].to_json()
    assert told["samples"]["images"] == len(other) and "trained on" in told["net"]


@pytest.mark.slow
def test_halves_of_the_real_set_serve_each_other(parts):
    _, real, other = parts
    found = compare(other, real, steps=30)
    assert found.images == (len(other), len(real)) and "one half" in found.net
    assert found == compare(other, real, steps=30)
