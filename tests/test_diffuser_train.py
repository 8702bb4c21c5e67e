"""Training a small diffusion model: what a step sees, the average, resuming to the bit, and that it learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import draw, header
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.dataset import Dataset, commit, create, write_part
from imgsynth.diffusion import ema, train
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.data import DiffusionData
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.objectives import scales, target
from imgsynth.diffusion.settings import PRESETS, DiffusionTraining, suited
from imgsynth.errors import DataError, ImgsynthError, ModelError

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
QUICK = DiffusionTraining(steps=6, batch=4, threads=1, guide_at=0.5)
CONFIG = DiffuserConfig(size=(8, 8), channels=1, classes=("a", "b"), widths=(8, 16), blocks=1, attention=4)


def some(n=12, classes=("a", "b"), **more):
    images = RNG.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    return DiffusionData(images, np.arange(n) % len(classes), classes, "some", **more)


DATA = some()


class Stop(Exception):
    pass


def stop_at(step):
    def progress(done, total, loss, images):
        assert (total, images) == (QUICK.steps, done * QUICK.batch)
        if done == step:
            raise Stop

    return progress


@pytest.mark.parametrize("cut", [2, 3, 5])  # before, at and after the step that keeps the guide
def test_killed_and_resumed_ends_in_the_same_bits(tmp_path, cut):
    whole = train.train(DATA, CONFIG, QUICK, seed=1)
    file = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        train.train(DATA, CONFIG, QUICK, seed=1, checkpoint=file, checkpoint_every=cut, progress=stop_at(cut))
    resumed = train.train(DATA, CONFIG, QUICK, seed=1, checkpoint=file, checkpoint_every=cut)
    assert resumed.hash() == whole.hash()
    assert resumed.guide.hash() == whole.guide.hash() != whole.hash()
    assert resumed.record == whole.record


def test_a_checkpoint_of_another_run_or_damaged_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    train.train(DATA, CONFIG, replace(QUICK, steps=1), seed=1, checkpoint=file)
    for other in ({"seed": 2}, {"weights": np.arange(12)}):
        with pytest.raises(ModelError, match="another run"):
            train.train(DATA, CONFIG, replace(QUICK, steps=1), checkpoint=file, **{"seed": 1, **other})
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ModelError, match="not a readable checkpoint") as error:
        train.train(DATA, CONFIG, replace(QUICK, steps=1), seed=1, checkpoint=file)
    assert "\n" not in str(error.value)


def run(data=DATA, config=CONFIG, seed=0, **changes):
    """The one object that draws a step's batch."""
    model = Diffuser.new(config, 0)
    place = train._accelerator("cpu")
    return train._Run(data, model, replace(QUICK, **changes), seed, None, place, None)


def test_labels_are_dropped_one_by_one_at_the_rate():
    n, rate, steps = 500, 0.1, 40
    given = torch.arange(n) % 2
    draws = torch.stack(
        [train.dropped(given, rate, 2, train.generator_of(3, "label", step)) for step in range(steps)]
    )
    gone = draws == 2
    assert bool((draws[~gone] == given.expand(steps, n)[~gone]).all())
    share = float(gone.double().mean())
    assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / (n * steps))
    # By sample, not by batch: the count of a step is binomial.
    spread = float(gone.double().sum(1).var()) / (n * rate * (1 - rate))
    assert 0.4 < spread < 2.0
    assert torch.equal(draws[7], train.dropped(given, rate, 2, train.generator_of(3, "label", 7)))
    assert not torch.equal(draws[7], draws[8])


def test_a_batch_is_a_function_of_seed_and_step():
    rows = torch.tensor([3, 1, 8])
    one, again, later, other = run().batch(5, rows), run().batch(5, rows), run().batch(6, rows), None
    other = run(seed=1).batch(5, rows)
    for name in ("clean", "labels", "noise", "sigma", "other"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    for batch in (later, other):
        assert not torch.equal(one.noise, batch.noise)
        assert not torch.equal(one.sigma, batch.sigma)
    np.testing.assert_array_equal(
        np.rint((one.clean[0, 0].numpy() + 1) * 127.5), DATA.images[3, :, :, 0].astype(float)
    )
    assert float(one.noise.std()) == pytest.approx(1, abs=0.2)


def test_bits_are_as_large_as_the_model_has_them():
    bits = RNG.integers(0, 2, (12, 8, 8, 2), dtype=np.uint8)
    data, rows = some(bits=bits), torch.arange(12)
    whole = run(data, replace(CONFIG, mask_bits=2)).batch(3, rows)
    small = run(data, replace(CONFIG, mask_bits=2, bit_scale=0.25)).batch(3, rows)
    assert torch.equal(small.clean[:, :1], whole.clean[:, :1])
    assert torch.equal(4 * small.clean[:, 1:], whole.clean[:, 1:])


def test_bits_and_layout_go_along_and_flips_turn_all():
    bits = RNG.integers(0, 2, (12, 8, 8, 2), dtype=np.uint8)
    layout = RNG.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    data, rows = some(bits=bits, layout=layout), torch.arange(12)
    config = replace(CONFIG, mask_bits=2, layout_channels=1)
    batch = run(data, config).batch(0, rows)
    assert batch.clean.shape == (12, 3, 8, 8)
    np.testing.assert_array_equal(batch.clean[:, 1:].numpy(), bits.transpose(0, 3, 1, 2) * 2.0 - 1)
    np.testing.assert_allclose(
        batch.layout.numpy(), layout.transpose(0, 3, 1, 2) / 127.5 - 1, rtol=0, atol=1e-6
    )
    flat = replace(data, bits=None)
    turned = run(flat, replace(config, mask_bits=0), flips=True).batch(0, rows)
    for k in range(12):
        mirrored = torch.equal(turned.clean[k, 0], batch.clean[k, 0].flip(1))
        assert mirrored != torch.equal(turned.clean[k, 0], batch.clean[k, 0])
        assert mirrored == torch.equal(turned.layout[k, 0], batch.layout[k, 0].flip(1))
    with pytest.raises(ModelError, match="flips"):
        train.train(data, config, replace(QUICK, flips=True), seed=0)


@given(st.integers(1, 300), st.integers(0, 2**30))
@settings(max_examples=30, deadline=None)
def test_levels_cover_the_range_one_in_each_part(n, seed):
    u = train.spread_uniforms(n, torch.Generator().manual_seed(seed))
    assert bool(((u > 0) & (u < 1)).all())
    assert torch.equal((u * n).floor().long(), torch.arange(n))


@pytest.mark.parametrize("objective", ["flow", "v"])
def test_the_loss_of_the_exact_answer_is_nothing_and_of_zero_its_energy(objective, monkeypatch):
    config = replace(CONFIG, objective=objective)
    of = run(config=config, min_snr=1e6)
    batch = of.batch(0, torch.arange(4))
    noisy = batch.clean + batch.sigma.reshape(-1, 1, 1, 1) * batch.noise
    exact = target(config, batch.clean, noisy, batch.sigma)
    monkeypatch.setattr(Diffuser, "predict", lambda self, x, time, labels, layout=None: exact)
    assert float(of.loss(batch)) == 0
    seen = {}

    def nothing(self, x, time, labels, layout=None):
        seen.update(x=x, time=time)
        return torch.zeros_like(exact)

    monkeypatch.setattr(Diffuser, "predict", nothing)
    snr = (config.sigma_data / batch.sigma) ** 2
    weight = torch.ones(4) if objective == "flow" else snr / (snr + 1)
    energy = exact.square().mean(dim=(1, 2, 3))
    assert float(of.loss(batch)) == pytest.approx(float((weight * energy).mean()), rel=1e-5)
    s = scales(config, batch.sigma)
    torch.testing.assert_close(seen["x"], noisy * s.c_in.reshape(-1, 1, 1, 1))
    torch.testing.assert_close(seen["time"], s.time)


def test_class_balancing_term():
    said = torch.full((2, 1, 1, 1), 3.0, requires_grad=True)
    other = torch.full((2, 1, 1, 1), 1.0, requires_grad=True)
    time = torch.tensor([1000.0, 500.0])
    value = train.class_balancing(said, other, time)
    assert value.item() == pytest.approx(5 / 4 * 4 * (1 + 0.5) / 2)
    value.backward()
    # d/dF of t/T·(F - F')²/n, and a quarter of it, the other way, for F'.
    assert said.grad.flatten().tolist() == pytest.approx([2.0, 1.0])
    assert other.grad.flatten().tolist() == pytest.approx([-0.5, -0.25])


@pytest.mark.slow
def test_class_balancing_leaves_what_has_no_class():
    data = replace(DATA, labels=np.full(12, 2))
    batch = run(data, label_dropout=0.0).batch(0, torch.arange(12))
    assert batch.other.tolist() == [2] * 12
    batch = run(label_dropout=0.5).batch(0, torch.arange(12))
    assert torch.equal(batch.other == 2, batch.labels == 2)


@pytest.mark.parametrize("spread", [0.05, 0.1, 0.2])
def test_the_average_is_the_power_law_that_it_claims(spread):
    gamma = ema.exponent(spread)
    assert (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) == pytest.approx(spread**2)
    steps = 4000
    weight = np.ones(steps)  # of each step in the end
    for step in range(1, steps + 1):
        weight[step - 1] = 1 - ema.decay(step, gamma)
        weight[: step - 1] *= ema.decay(step, gamma)
    assert weight.sum() == pytest.approx(1)
    at = (np.arange(steps) + 1) / steps
    mean = (weight * at).sum()
    assert mean == pytest.approx((gamma + 1) / (gamma + 2), abs=2e-3)
    assert np.sqrt((weight * (at - mean) ** 2).sum()) == pytest.approx(spread, rel=0.02)


def test_the_average_starts_at_the_first_weights_and_follows():
    average, gamma = [torch.tensor([100.0])], ema.exponent(0.1)
    ema.update(average, [torch.tensor([1.0])], 1, gamma)
    assert average[0].item() == 1.0  # nothing is left of the start
    ema.update(average, [torch.tensor([3.0])], 2, gamma)
    kept = 0.5 ** (gamma + 1)
    assert average[0].item() == pytest.approx(kept * 1 + (1 - kept) * 3)


def test_without_an_average_the_last_weights_are_kept(monkeypatch):
    seen = []
    original = train._averaged
    monkeypatch.setattr(
        train,
        "_averaged",
        lambda net, *rest: (seen.append(Diffuser(net, CONFIG).hash()), original(net, *rest))[1],
    )
    model = train.train(DATA, CONFIG, replace(QUICK, ema=0.0, guide_at=0.0), seed=0)
    assert model.hash() == seen[-1]
    assert model.guide is None


def test_balanced_chances():
    data = replace(DATA, labels=np.array([0] * 9 + [1] * 3))
    assert data.balanced(0) is None
    for strength, ratio in ((1.0, 1.0), (0.5, np.sqrt(9 / 3))):
        chance = data.balanced(strength)
        assert chance[:9].sum() / chance[9:].sum() == pytest.approx(ratio)


@pytest.mark.slow
def test_a_tiny_net_learns_which_half_is_bright():
    """Class a is bright above, class b below, at a level of its own for each image: pure noise denoised once
    gives the mean of the class (the best denoiser's answer at high σ), and far fewer errors than before.
    """
    rng = np.random.default_rng(1)
    labels = np.arange(256) % 2
    images = np.zeros((256, 8, 8, 1), np.uint8)
    level = rng.integers(160, 256, 256)
    for k in range(256):
        images[k, 4 * labels[k] : 4 * labels[k] + 4] = level[k]
    data = DiffusionData(images, labels, ("a", "b"), "halves")
    model = train.train(
        data, CONFIG, DiffusionTraining(steps=200, batch=32, lr=5e-3, threads=1, guide_at=0), seed=0
    )
    noise = torch.randn((64, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    asked = torch.arange(64) % 2
    with torch.no_grad():
        said = model.denoise(40.0 * noise, torch.tensor([40.0]), asked).numpy()[:, 0]
    for c in (0, 1):
        mean = images[labels == c].mean(axis=0)[:, :, 0] / 127.5 - 1
        assert np.abs(said[asked.numpy() == c].mean(axis=0) - mean).mean() < 0.15
    assert model.record["loss"] < 0.25


def test_data_that_does_not_fit_is_said():
    for change, said in (
        ({"classes": ("a", "b", "c")}, "classes"),
        ({"size": (8, 9)}, "size"),
        ({"mask_bits": 1}, "mask bits"),
        ({"layout_channels": 1}, "planes of layout"),
        ({"channels": 3}, "image channels"),
    ):
        with pytest.raises(DataError, match=said):
            train.train(DATA, replace(CONFIG, **change), QUICK, seed=0)
    for change, said in (
        ({"images": DATA.images.astype(np.float32)}, "images: expected uint8"),
        ({"labels": np.full(12, 3)}, "labels: expected 0 to 2"),
        ({"bits": np.full((12, 8, 8, 1), 2, np.uint8)}, "bits: expected 0 or 1"),
        ({"layout": np.zeros((12, 8, 7, 1), np.uint8)}, "layout: expected"),
    ):
        with pytest.raises(DataError, match=said):
            replace(DATA, **change)


def test_settings_and_presets():
    with pytest.raises(ModelError, match="unknown setting 'step'; did you mean 'steps'"):
        DiffusionTraining.of({"step": 3})
    with pytest.raises(ModelError, match="label_dropout: expected a number from 0 to 1"):
        DiffusionTraining(label_dropout=2)
    with pytest.raises(ModelError, match="did you mean 'small'"):
        suited((8, 8), 1, ("a",), "smal")
    for side, inner in ((8, 8), (16, 16), (28, 14), (32, 16), (64, 16)):
        for preset in PRESETS:
            assert suited((side, side), 3, ("a",), preset).inner_size == (inner, inner)


def drawn_dataset(folder, **changes):
    head = header(count=6, outputs=(), **changes)
    for part in create(folder, head):
        write_part(
            folder, head, part, draw(range(part.start, part.start + part.count), head.size, head.channels)
        )
    commit(folder, head)
    return Dataset(folder)


@pytest.mark.parametrize("joint", ["semantic", "instance"])
def test_masks_of_a_dataset_become_bits_and_come_back(tmp_path, joint):
    from imgsynth.diffusion.joint import Cleanup, MaskCoding

    dataset = drawn_dataset(tmp_path / "d", generation=2)
    data = DiffusionData.read(str(tmp_path / "d"), joint=joint)
    assert (data.generation, data.parents, data.classes) == (2, ("d" * 64,), dataset.classes)
    assert data.licences == {"wood.png": "CC0-1.0"}
    assert data.labels.tolist() == [3] * 6  # several classes a frame: of none
    assert not data.classed
    coding = MaskCoding.of(3, data.mask_bits)
    assert (coding.instances > 0) == (joint == "instance")
    back = coding.decode(data.bits.transpose(0, 3, 1, 2) * 2.0 - 1, cleanup=Cleanup(1, 0.0))
    for k in range(6):
        np.testing.assert_array_equal(data.images[k], dataset.image(k))
        np.testing.assert_array_equal(back.semantic[k], dataset.semantic_mask(k))
        if joint == "instance":
            ids = np.where(dataset.semantic_mask(k) > 0, dataset.instance_mask(k), 0)
            pairs = {(int(a), int(b)) for a, b in zip(ids.ravel(), back.instance[k].ravel(), strict=True)}
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    with pytest.raises(DataError, match="cannot be taken"):
        DiffusionData.read(f"{tmp_path / 'd'}#train", joint=joint)


def cli(args):
    from typer.testing import CliRunner

    from imgsynth.cli import app

    return CliRunner().invoke(app, ["diffuse", "train", *args])


def test_the_command_sets_how_large_bits_are(tmp_path):
    drawn_dataset(tmp_path / "d")
    args = [
        str(tmp_path / "d"), "--steps", "1", "--batch", "2", "--preset", "tiny", "--threads", "1",
        "--joint", "semantic",
    ]  # fmt: skip
    for name, told, wanted in (
        ("a", ["--objective", "v"], 0.3), ("b", ["--bit-scale", "0.5"], 0.5), ("c", ["--from", tmp_path / "b"], 0.5),
        ("e", ["--from", tmp_path / "b", "--bit-scale", "0.4"], 0.4),
    ):  # fmt: skip
        done = cli([*args, "-o", str(tmp_path / name), *map(str, told)])
        assert done.exit_code == 0, done.output
        assert Diffuser.load(tmp_path / name).config.bit_scale == wanted
    data = DiffusionData.read(str(tmp_path / "d"), joint="semantic")
    # sigma_data is the spread of what is denoised
    planes = [data.images / 127.5 - 1, 0.3 * (2.0 * data.bits - 1)]
    total = sum(p.var() * p.shape[3] for p in planes) / sum(p.shape[3] for p in planes)
    assert Diffuser.load(tmp_path / "a").config.sigma_data == pytest.approx(total**0.5, abs=1e-4)
    for wrong, what in (
        ([*args, "--bit-scale", "0"], "bit_scale"),
        ([*args[:-2], "--bit-scale", "1"], "--joint"),
    ):
        failed = cli([*wrong, "-o", str(tmp_path / "n")])
        assert isinstance(failed.exception, ImgsynthError)
        assert what in str(failed.exception)
    assert not (tmp_path / "n").exists()


def test_the_command_trains_saves_and_says_so(tmp_path):
    np.savez(tmp_path / "d.npz", images=DATA.images, labels=DATA.labels)
    args = [
        str(tmp_path / "d.npz"), "-o", str(tmp_path / "m"), "--steps", "2", "--batch", "2", "--preset", "tiny",
        "--balance", "1", "--objective", "v", "--threads", "1", "--json",
    ]  # fmt: skip
    done = cli(args)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    model = Diffuser.load(tmp_path / "m")
    assert said["weights"] == model.hash()
    assert said["images_seen"] == 4
    assert model.classes == ("0", "1")
    assert model.record["data"]["digest"] == said["data"]["digest"]
    assert (model.record["generation"], model.record["parents"]) == (0, [])
    assert not (tmp_path / "m" / "checkpoint.safetensors").exists()
    spread = np.std(DATA.images / 127.5 - 1)
    assert model.config.sigma_data == pytest.approx(spread, abs=1e-4)
    for wrong, what in (
        (args, "is not empty"),
        ([*args, "--resume"], "has no checkpoint.safetensors"),
        ([*args[:2], str(tmp_path / "n"), "--joint", "boxes"], "expected semantic or instance"),
        ([*args[:2], str(tmp_path / "n"), "--joint", "semantic"], "dataset of imgsynth"),
        ([*args[:2], str(tmp_path / "n"), "--balance", "2"], "from 0 to 1"),
        ([*args[:2], str(tmp_path / "n"), "--lr", "0"], "lr: expected"),
        ([*args[:2], str(tmp_path / "n"), "--objective", "v", "--level-mean", "-1"], "of the objective flow"),
    ):
        failed = cli(wrong)
        assert isinstance(failed.exception, ImgsynthError)
        assert what in str(failed.exception)
    assert not (tmp_path / "n").exists()


@pytest.mark.slow
def test_killed_by_the_system_and_resumed(tmp_path):
    """SIGKILL after the first checkpoint, in the middle of whatever it does then."""
    import os
    import signal
    import subprocess
    import sys

    np.savez(tmp_path / "d.npz", images=DATA.images, labels=DATA.labels)

    def command(out, *more):
        return [
            sys.executable, "-m", "imgsynth.cli", "diffuse", "train", str(tmp_path / "d.npz"), "-o", str(out),
            "--steps", "600", "--batch", "2", "--preset", "tiny", "--threads", "1", *more,
        ]  # fmt: skip

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "cut"), stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "cut" / "checkpoint.safetensors").exists():
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "imgsynth.json").exists()
    subprocess.run(command(tmp_path / "cut", "--resume"), check=True, capture_output=True)
    whole, cut = (Diffuser.load(tmp_path / name) for name in ("whole", "cut"))
    assert cut.hash() == whole.hash()
    assert cut.guide.hash() == whole.guide.hash()
