"""Masks that are read from the finished picture, and trainings that go on from a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imgsynth.diffusion import train
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.data import DiffusionData
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.objectives import BLIND, scales
from imgsynth.diffusion.run import train_from
from imgsynth.diffusion.sample import Sampling, sample
from imgsynth.diffusion.settings import DiffusionTraining
from imgsynth.errors import ModelError

torch.set_num_threads(1)
CONFIG = DiffuserConfig(
    size=(8, 8), channels=1, classes=("a",), mask_bits=1, widths=(16, 32), blocks=1, attention=0
)
QUICK = DiffusionTraining(steps=4, batch=4, threads=1, guide_at=0)


def patches(n=256, seed=0):
    """Noise, brighter in one square of four pixels a side; the bit says where."""
    rng = np.random.default_rng(seed)
    bits = np.zeros((n, 8, 8, 1), np.uint8)
    for k, (y, x) in enumerate(rng.integers(0, 5, (n, 2))):
        bits[k, y : y + 4, x : x + 4] = 1
    images = (rng.integers(0, 60, bits.shape) + 180 * bits).astype(np.uint8)
    return DiffusionData(images, np.full(n, 1), ("a",), "patches", bits=bits)


DATA = patches()


def read(model, data, sigma=0.1, seed=3):
    """What a model reads from real pictures, where the bits are noise; (n, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.from_numpy(data.images.transpose(0, 3, 1, 2) / 127.5 - 1).float()
    noise = torch.randn((2, *clean.shape), generator=generator)
    x = torch.cat([clean + sigma * noise[0], BLIND * noise[1]], dim=1)
    with torch.no_grad():
        return model.denoise(x, torch.full((len(x),), sigma), None, None, blind=True)[:, 1:]


def test_planes_have_levels_of_their_own():
    """Hidden bits are scaled as at σ = 80, the picture as at its own, and the clock is the picture's."""
    model, seen = Diffuser.new(CONFIG, 1), {}
    sigma = torch.tensor([0.5, 2.0])
    level = model.levels(sigma, torch.tensor([True, False]))
    assert level[:, :, 0, 0].tolist() == [[0.5, BLIND], [2.0, 2.0]]
    x = torch.randn((2, 2, 8, 8), generator=torch.Generator().manual_seed(0))

    def predict(self, x, time, labels, layout=None):
        seen.update(x=x, time=time)
        return torch.zeros_like(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Diffuser, "predict", predict)
        told = model.denoise(x, sigma, blind=True)
    for plane, s in enumerate((sigma, torch.full((2,), BLIND))):
        factor = scales(CONFIG, s)
        torch.testing.assert_close(seen["x"][:, plane], x[:, plane] * factor.c_in[:, None, None])
        torch.testing.assert_close(told[:, plane], x[:, plane] * factor.c_skip[:, None, None])
    torch.testing.assert_close(seen["time"], scales(CONFIG, sigma).time)


def test_a_share_of_the_masks_is_hidden_behind_nearly_finished_pictures():
    def batch(blind):
        model, place = Diffuser.new(CONFIG, 0), train._accelerator("cpu")
        run = train._Run(DATA, model, replace(QUICK, blind=blind), 0, None, place, None)
        return run.batch(1, torch.arange(256))

    plain, some, all_of = batch(0), batch(0.25), batch(1)
    assert not plain.blind.any() and all_of.blind.all()
    assert 0.15 < float(some.blind.double().mean()) < 0.35
    assert float(all_of.sigma.max()) <= train.FAINT < float(plain.sigma.max())
    torch.testing.assert_close(some.sigma[~some.blind], plain.sigma[~some.blind])
    assert torch.equal(plain.noise, some.noise) and torch.equal(plain.clean, some.clean)


@pytest.mark.slow
def test_it_learns_to_read_and_samples_follow_their_pictures():
    settings = DiffusionTraining(steps=220, batch=32, lr=5e-3, threads=1, guide_at=0, blind=0.5)
    model = train.train(DATA, CONFIG, settings, seed=0)
    never = train.train(DATA, CONFIG, replace(settings, blind=0.0, steps=60), seed=0)
    others = patches(64, seed=1)
    truth = others.bits.transpose(0, 3, 1, 2)
    right = [((read(m, others).numpy() > 0) == truth).mean() for m in (model, never)]
    assert model.reads and not never.reads
    assert right[0] > 0.97 and right[0] > right[1] + 0.03
    drawn = sample(model, np.full(64, 1), seed=2, indices=np.arange(64), settings=Sampling(steps=4))
    bright = drawn.images[..., 0] > 120
    assert ((drawn.bits[:, 0] > 0) == bright).mean() > 0.97
    np.testing.assert_array_equal(drawn.bits, drawn.margins)
    # The picture itself is what it would have been.
    blind = replace(model, record={})
    assert not blind.reads
    same = sample(blind, np.full(64, 1), seed=2, indices=np.arange(64), settings=Sampling(steps=4))
    np.testing.assert_array_equal(same.images, drawn.images)


def test_training_goes_on_from_a_model(tmp_path):
    first = train.train(DATA, CONFIG, QUICK, seed=1)
    still = replace(QUICK, steps=1, lr=1e-9)
    same = train.train(DATA, CONFIG, still, seed=2, start=first)
    for a, b in zip(first.net.parameters(), same.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert same.record["parents"] == [{"kind": "model", "name": "of patches", "sha256": first.hash()}]
    older = replace(first, record={**first.record, "generation": 2, "licences": {"x": "MIT"}})
    grown = train.train(DATA, CONFIG, still, seed=2, start=older).record
    assert grown["generation"] == 2 and grown["licences"] == {"x": "MIT"}
    file = tmp_path / "state.safetensors"
    train.train(DATA, CONFIG, still, seed=2, start=first, checkpoint=file)
    with pytest.raises(ModelError, match="another run"):
        train.train(DATA, CONFIG, still, seed=2, checkpoint=file)
    with pytest.raises(ModelError, match="another network"):
        train.train(DATA, replace(CONFIG, widths=(16, 48)), QUICK, seed=1, start=first)
    other = train.train(
        DATA, replace(CONFIG, bit_scale=0.5), still, seed=2, start=first
    )  # may be learned anew
    assert other.config.bit_scale == 0.5


def test_the_command_keeps_the_network_it_starts_from(tmp_path):
    data = replace(DATA, bits=None)
    np.savez(tmp_path / "data.npz", images=data.images, labels=np.zeros(256, int), classes=np.array(["a"]))
    config = DiffuserConfig(size=(8, 8), channels=1, classes=("a",), widths=(8, 16), blocks=1, attention=0)
    Diffuser.new(config, 0, {"generation": 0}).save(tmp_path / "model")
    told = train_from(
        str(tmp_path / "data.npz"), out=tmp_path / "more", settings={"steps": 1, "batch": 4, "threads": 1},
        start=str(tmp_path / "model"),
    )  # fmt: skip
    assert Diffuser.load(tmp_path / "more").config == config
    half = train_from(
        str(tmp_path / "data.npz"), out=tmp_path / "half", settings={"steps": 1, "batch": 4, "threads": 1},
        start=str(tmp_path / "model"), compact=True,
    )  # fmt: skip
    model = Diffuser.load(tmp_path / "half")
    assert model.guide is None and model.hash() == half["weights"] != told["weights"]
    for a, b in zip(model.net.parameters(), Diffuser.load(tmp_path / "more").net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-6)

    def size(name):
        return sum(p.stat().st_size for p in (tmp_path / name).rglob("*.safetensors"))

    assert size("half") < 0.35 * size("more")
    assert told["parents"][0]["sha256"] == Diffuser.load(tmp_path / "model").hash()
