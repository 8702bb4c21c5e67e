"""Samples are a function of (model, settings, label, seed, index): alone, in any batch, drawn again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from closed_forms_diffusion import Embedded, Mixture
from scipy.stats import kstest

from imgsynth.diffusion.guidance import Annealing, Guidance
from imgsynth.diffusion.sample import BATCH, Sampling, normals, sample
from imgsynth.errors import ModelError

MODEL = Mixture()
QUICK = Sampling(steps=6, schedule="karras", low=0.02)


def drawn(model=MODEL, indices=range(10), labels=None, seed=3, settings=QUICK, **more):
    indices = np.array(indices)
    labels = indices % 2 if labels is None else np.array(labels)
    return sample(model, labels, seed=seed, indices=indices, settings=settings, **more)


def test_noise_is_standard_normal_and_each_samples_own():
    indices, first = np.arange(50), np.zeros(50, np.int64)
    noise = normals(1, "start", indices, first, (1, 20, 20))
    assert noise.dtype == np.float32
    assert kstest(noise.ravel(), "norm").pvalue > 0.01
    for other in (
        normals(2, "start", indices, first, (1, 20, 20)),
        normals(1, "churn/0", indices, first, (1, 20, 20)),
        normals(1, "start", indices, first + 1, (1, 20, 20)),
        normals(1, "start", indices + 50, first, (1, 20, 20)),
    ):
        assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.03
    mixed = normals(1, "start", indices[[7, 3]], np.array([1, 0]), (1, 20, 20))
    np.testing.assert_array_equal(mixed[1], noise[3])
    np.testing.assert_array_equal(mixed[0], normals(1, "start", indices, first + 1, (1, 20, 20))[7])


def test_samples_have_the_law_of_their_class():
    model = Mixture((-0.5, 0.4), (0.1, 0.2), size=(8, 8))
    found = drawn(model, range(64), settings=Sampling(steps=20, schedule="karras", low=0.02))
    assert found.images.shape == (64, 8, 8, 1) and found.images.dtype == np.uint8
    values = found.images / 127.5 - 1
    for label, (mean, spread) in enumerate([(-0.5, 0.1), (0.4, 0.2)]):
        part = values[found.labels == label].ravel()
        part = (part - mean) / spread + np.random.default_rng(0).uniform(
            -0.5, 0.5, part.size
        ) / 127.5 / spread
        assert kstest(part, "norm").pvalue > 0.005


SETTINGS = [
    QUICK,
    Sampling(steps=5, solver="heun", churn=8.0),
    Sampling(steps=5, guidance=Guidance(2.0, (0.3, 5.0))),
    Sampling(steps=4, solver="adams", guidance=Guidance(1.5, reference="guide")),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "churn", "guidance", "autoguidance"])
def test_a_sample_is_the_same_alone_in_any_batch_and_order(settings):
    guide = Mixture(spreads=(0.3, 0.5)) if settings.guidance.reference == "guide" else None
    whole = drawn(indices=range(100), settings=settings, guide_model=guide)
    for rows in ([0], [99, 3, 41], list(range(40, 100))):
        part = drawn(indices=rows, settings=settings, guide_model=guide)
        np.testing.assert_array_equal(part.images, whole.images[rows])
    again = sample(
        MODEL, whole.labels[:3], seed=3, indices=np.arange(3), attempts=np.array([0, 1, 0]), settings=settings,
        guide_model=guide,
    )  # fmt: skip
    same = (again.images == whole.images[:3]).all(axis=(1, 2, 3))
    assert same.tolist() == [True, False, True]


def test_an_extra_setting_changes_what_it_should():
    model = Mixture((-0.2, 0.2), (0.2, 0.2), rest=(0.0, 0.2))
    plain = drawn(model)
    assert (drawn(model, seed=4).images != plain.images).any()
    guided = drawn(model, settings=replace(QUICK, guidance=Guidance(2.0)))
    shift = (guided.images.astype(float) - plain.images).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shift, np.tile([-25.5, 25.5], 5), atol=4)  # twice as far from "no class"
    off = drawn(model, settings=replace(QUICK, guidance=Guidance(1.0)))
    np.testing.assert_array_equal(off.images, plain.images)


def test_cads_spreads_the_samples_and_leaves_the_model_alone():
    model = Embedded(classes=3)
    labels = np.ones(64, np.int64)
    settings = Sampling(steps=12, schedule="karras", high=20.0, low=0.02)
    plain = drawn(model, range(64), labels, settings=settings).images.astype(float)
    noisy = drawn(
        model, range(64), labels, settings=replace(settings, cads=Annealing(scale=2.0, full=0.02, none=0.5))
    ).images.astype(float)
    assert noisy.mean(axis=(1, 2, 3)).std() > 1.5 * plain.mean(axis=(1, 2, 3)).std()
    off = drawn(
        model,
        range(64),
        labels,
        settings=replace(settings, cads=Annealing(scale=0.0, mix=0.0, none=1.0, full=1.0)),
    )
    np.testing.assert_array_equal(off.images, plain)
    assert not model.class_embedding._forward_hooks
    with pytest.raises(ModelError, match="cads"):
        drawn(settings=replace(QUICK, cads=Annealing()))


def test_mask_bits_come_apart_from_the_image():
    model = Mixture(size=(6, 6), planes=3)
    found = drawn(model)
    assert found.images.shape == (10, 6, 6, 1)
    assert found.bits.shape == found.margins.shape == (10, 2, 6, 6)
    assert np.corrcoef(found.bits.ravel(), found.margins.ravel())[0, 1] > 0.5
    part = found.taken([4, 2])
    assert part.indices.tolist() == [4, 2] and part.margins.shape[0] == 2
    np.testing.assert_array_equal(drawn(model, [4]).margins[0], found.margins[4])
    smaller = drawn(replace(model, bit_scale=0.25))  # the same planes, of which a quarter is a bit
    np.testing.assert_array_equal(smaller.images, found.images)
    for name in ("bits", "margins"):
        assert getattr(smaller, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(smaller, name), 4 * getattr(found, name))


def test_the_network_sees_batches_of_one_size_only():
    sizes = []

    class Watched(Mixture):
        def denoise(self, x, sigma, labels, layout=None):
            sizes.append((len(x), torch.get_num_threads()))
            return super().denoise(x, sigma, labels, layout)

    drawn(Watched(), range(100), settings=Sampling(steps=2))
    assert set(sizes) == {(BATCH, 1)} and len(sizes) == 4


def test_a_layout_goes_to_the_network_row_by_row():
    class Laid(Mixture):
        def denoise(self, x, sigma, labels, layout=None):
            return layout[:, :1]

    maps = np.linspace(-1, 1, 40, dtype=np.float32).reshape(40, 1, 1, 1) * np.ones((1, 1, 4, 4), np.float32)
    found = drawn(Laid(), range(40), settings=Sampling(steps=1), layout=maps)
    np.testing.assert_array_equal(found.images[..., 0], np.rint((maps[:, 0] + 1) * 127.5).astype(np.uint8))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"steps": 0}, "steps"), ({"solver": "magic"}, "solver: expected one of euler"), ({"schedule": "x"}, "schedule"),
        ({"low": 5.0, "high": 1.0}, "noise levels"), ({"churn": 3.0}, "churn"), ({"margin_sigma": 0.0}, "margin"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(bad, said):
    with pytest.raises(ModelError, match=said):
        Sampling(**bad)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="expected labels"):
        drawn(labels=[0])
    with pytest.raises(ModelError, match="labels: expected 0 to 1, or 2 for none"):
        drawn(indices=[0], labels=[3])
    with pytest.raises(ModelError, match="count from 0"):
        drawn(indices=[-1], labels=[0])
    with pytest.raises(ModelError, match="layout"):
        drawn(layout=np.zeros((3, 1, 4, 4), np.float32))
    with pytest.raises(ModelError, match="guide"):
        drawn(guide_model=Mixture(size=(8, 8)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("patch", [1, 2])
def test_a_real_network_gives_the_same_bits_in_any_batch(precision, patch):
    """What is promised of convolutions: held batch size and one thread make neighbours and place harmless."""
    from imgsynth.diffusion.config import DiffuserConfig
    from imgsynth.diffusion.model import Diffuser

    config = DiffuserConfig(
        size=(16, 16),
        channels=1,
        classes=("a", "b", "c"),
        mask_bits=1,
        widths=(16, 32),
        blocks=1,
        patch=patch,
    )
    model = replace(Diffuser.new(config, seed=5), precision=precision)
    with torch.no_grad():
        for p in model.net.parameters():  # a fresh net's last layers are zero, which would hide its bits
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    settings = Sampling(steps=2, guidance=Guidance(1.5), cads=Annealing())
    whole = drawn(model, range(66), np.arange(66) % 3, settings=settings)
    assert len(np.unique(whole.images.reshape(66, -1), axis=0)) == 66
    for rows in ([65], [11, 2]):
        part = drawn(model, rows, np.array(rows) % 3, settings=settings)
        np.testing.assert_array_equal(part.images, whole.images[rows])
        np.testing.assert_array_equal(part.bits, whole.bits[rows])
        np.testing.assert_array_equal(part.margins, whole.margins[rows])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(drawn(model, [65], [2], settings=settings).bits, whole.bits[[65]])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
