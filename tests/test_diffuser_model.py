"""The small diffusion model: its one form for flow and v, its folder, hostile folders."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.objectives import TIMES, drawn_sigma, loss_weight, scales, sigma_of_time, target
from imgsynth.errors import ModelError

torch.set_num_threads(1)
TINY = DiffuserConfig(size=(8, 8), channels=1, classes=("a", "b"), widths=(8, 16), blocks=1, attention=4)
OBJECTIVES = st.sampled_from(["flow", "v"])
LEVELS = st.floats(1e-3, 1e3)


def of(objective, sigma_data=0.5):
    return replace(TINY, objective=objective, sigma_data=sigma_data)


@settings(max_examples=40, deadline=None)
@given(OBJECTIVES, LEVELS, st.floats(0.1, 3))
def test_the_exact_answer_gives_back_the_clean_image(objective, sigma, spread):
    config = of(objective, spread)
    clean = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(1, 1, 2, 3)
    noisy = clean + sigma * torch.cos(torch.arange(6.0, dtype=torch.float64)).reshape(1, 1, 2, 3)
    level = torch.tensor([sigma], dtype=torch.float64)
    s = scales(config, level)
    back = s.c_skip * noisy + s.c_out * target(config, clean, noisy, level)
    torch.testing.assert_close(back, clean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sigma_of_time(config, s.time), level, rtol=1e-6, atol=0)
    assert 0 < float(s.time) < TIMES


@settings(max_examples=40, deadline=None)
@given(LEVELS, st.floats(0, 6.3))
def test_flow_is_the_velocity_along_the_straight_line(sigma, phase):
    clean = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    noise = torch.full((1, 1, 1, 1), phase, dtype=torch.float64).cos()
    level = torch.tensor([sigma], dtype=torch.float64)
    t = sigma / (1 + sigma)
    s = scales(of("flow"), level)
    noisy = clean + sigma * noise
    torch.testing.assert_close(s.c_in * noisy, (1 - t) * clean + t * noise)
    torch.testing.assert_close(target(of("flow"), clean, noisy, level), noise - clean, rtol=1e-6, atol=1e-9)
    assert float(s.time) == pytest.approx(TIMES * t)


@settings(max_examples=40, deadline=None)
@given(LEVELS, st.floats(0, 6.3))
def test_v_is_the_velocity_along_the_circle(sigma, phase):
    # With unit spread: ᾱ = 1/(1 + σ²), x_t = √ᾱ x₀ + √(1-ᾱ) ε, v = √ᾱ ε - √(1-ᾱ) x₀ (Salimans and Ho, 2022).
    clean = torch.full((1, 1, 1, 1), -0.4, dtype=torch.float64)
    noise = torch.full((1, 1, 1, 1), phase, dtype=torch.float64).sin()
    level = torch.tensor([sigma], dtype=torch.float64)
    kept = 1 / (1 + level**2)
    noisy = clean + sigma * noise
    s = scales(of("v", 1.0), level)
    torch.testing.assert_close(s.c_in * noisy, kept.sqrt() * clean + (1 - kept).sqrt() * noise)
    v = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    torch.testing.assert_close(target(of("v", 1.0), clean, noisy, level), v, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("objective", ["flow", "v"])
def test_the_best_denoiser_of_gaussian_pixels_has_the_smallest_loss(objective):
    """Of data N(0, s²) the best D is x̃·s²/(s²+σ²); no other linear one has a smaller weighted loss."""
    spread, generator = 0.5, torch.Generator().manual_seed(0)
    config = of(objective, spread)
    n = 200_000
    clean = spread * torch.randn((n, 1, 1, 1), generator=generator, dtype=torch.float64)
    noise = torch.randn((n, 1, 1, 1), generator=generator, dtype=torch.float64)
    for sigma in (0.1, 0.5, 3.0):
        level = torch.full((n,), sigma, dtype=torch.float64)
        noisy = clean + sigma * noise
        s = scales(config, level.reshape(-1, 1, 1, 1))
        wanted = target(config, clean, noisy, level)

        def loss(gain, s=s, noisy=noisy, wanted=wanted):
            said = (gain * noisy - s.c_skip * noisy) / s.c_out
            return float(((said - wanted) ** 2).mean())

        best = spread**2 / (spread**2 + sigma**2)
        left = spread**2 * sigma**2 / (spread**2 + sigma**2)  # E (x₀ - D)²
        assert loss(best) * float(s.c_out[0] ** 2) == pytest.approx(left, rel=0.02)
        assert loss(best) < min(loss(best * 1.05), loss(best * 0.95))


def test_levels_follow_their_law():
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    logit = drawn_sigma(of("flow"), u, -0.3, 1.2).log()  # log σ = logit t
    assert float(logit.mean()) == pytest.approx(-0.3, abs=1e-3)
    assert float(logit.std()) == pytest.approx(1.2, abs=2e-3)
    sigma = drawn_sigma(of("v"), u, 0, 1)
    torch.testing.assert_close(scales(of("v"), sigma).time, TIMES * u)


def test_min_snr_weight():
    sigma = torch.tensor([0.05, 0.5, 5.0], dtype=torch.float64)  # SNR 100, 1, 0.01
    torch.testing.assert_close(
        loss_weight(of("v"), sigma, 5.0), torch.tensor([5 / 101, 1 / 2, 0.01 / 1.01], dtype=torch.float64)
    )
    assert torch.equal(loss_weight(of("flow"), sigma, 5.0), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("size", "channels", "bits", "given_planes", "patch"),
    [((7, 5), 1, 0, 2, 1), ((11, 13), 3, 2, 0, 2), ((10, 4), 1, 1, 1, 3)],
)
def test_any_size_goes_in_and_comes_out(size, channels, bits, given_planes, patch):
    config = DiffuserConfig(
        size=size, channels=channels, classes=("a", "b"), mask_bits=bits, layout_channels=given_planes,
        widths=(8, 8), blocks=1, attention=0, patch=patch,
    )  # fmt: skip
    model = Diffuser.new(config, 0)
    x = torch.zeros(2, model.planes, *size)
    layout = torch.zeros(2, given_planes, *size) if given_planes else None
    with torch.no_grad():
        out = model.denoise(x, torch.tensor([0.5]), torch.tensor([0, 2]), layout)
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert bool(out.isfinite().all())


def test_class_layout_and_level_all_tell():
    model = Diffuser.new(replace(TINY, layout_channels=1), 3)
    x = torch.ones(1, 1, 8, 8)
    layout = torch.zeros(1, 1, 8, 8)

    def at(sigma=1.0, label=0, plane=layout):
        with torch.no_grad():
            return model.denoise(x, torch.tensor([sigma]), torch.tensor([label]), plane)

    assert not torch.equal(at(), at(label=1))
    assert not torch.equal(at(), at(plane=layout + 1))
    assert not torch.equal(at(), at(sigma=2.0))
    with torch.no_grad():
        assert torch.equal(model.denoise(x, torch.tensor([1.0]), None, layout), at(label=2))  # K: of no class
        torch.testing.assert_close(
            model.denoise(x, torch.tensor([1e-6]), None, layout), x, rtol=0, atol=1e-4
        )  # no noise: what came


def test_new_depends_on_config_and_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = Diffuser.new(TINY, 1).hash()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert Diffuser.new(TINY, 1).hash() == one != Diffuser.new(TINY, 2).hash()


def test_a_folder_brings_back_the_same_model(tmp_path):
    guide = Diffuser.new(TINY, 8)
    model = Diffuser(Diffuser.new(TINY, 7).net.eval(), TINY, {"generation": 1}, guide)
    model.save(tmp_path / "m")
    again = Diffuser.load(tmp_path / "m")
    assert (again.hash(), again.guide.hash()) == (model.hash(), guide.hash())
    assert (again.config, again.record, again.classes) == (TINY, {"generation": 1}, ("a", "b"))
    x, sigma, labels = torch.ones(2, 1, 8, 8), torch.tensor([0.3, 2.0]), torch.tensor([1, 2])
    with torch.no_grad():
        assert torch.equal(again.denoise(x, sigma, labels), model.denoise(x, sigma, labels))
    files = {f.relative_to(tmp_path / "m").as_posix() for f in (tmp_path / "m").rglob("*") if f.is_file()}
    weights = "diffusion_pytorch_model.safetensors"
    assert files == {
        "imgsynth.json", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        f"unet/{weights}", "guide/config.json", f"guide/{weights}",
    }  # fmt: skip
    first = {f: (tmp_path / "m" / f).read_bytes() for f in files}
    again.save(tmp_path / "n")
    assert {f: (tmp_path / "n" / f).read_bytes() for f in files} == first
    Diffuser(again.net, TINY).save(tmp_path / "n")  # over it, without a guide
    assert Diffuser.load(tmp_path / "n").guide is None
    assert not (tmp_path / "n" / "guide").exists()


@pytest.mark.parametrize("objective", ["flow", "v"])
def test_diffusers_opens_the_folder_and_its_scheduler_keeps_our_clock(tmp_path, objective):
    from diffusers import UNet2DModel

    from imgsynth.diffusion.pipeline import DiffuserPipeline

    model = Diffuser.new(replace(TINY, objective=objective, patch=2), 0)
    model.save(tmp_path)
    net = UNet2DModel.from_pretrained(tmp_path / "unet")
    assert Diffuser(net, model.config).hash() == model.hash()
    pipeline = DiffuserPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(10)
    if objective == "flow":
        t = scheduler.timesteps / TIMES
        torch.testing.assert_close(scheduler.sigmas[:-1], t)
    else:
        k = scheduler.timesteps
        kept = scheduler.alphas_cumprod[k]
        ratio = torch.sqrt((1 - kept) / kept)[kept > 1e-3]
        ours = sigma_of_time(model.config, k[kept > 1e-3].double()) / model.config.sigma_data
        torch.testing.assert_close(ratio.double(), ours, rtol=1e-2, atol=1e-3)
    images = pipeline([0, 1, 2], 3, generator=torch.Generator().manual_seed(0), output_type="np").images
    assert images.shape == (3, 8, 8, 1)
    again = pipeline([0, 1, 2], 3, 1.0, torch.Generator().manual_seed(0), "np").images
    assert (images == again).all()


def spoil(folder, **changes):
    path = folder / "imgsynth.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "imgsynth.json").unlink(), "it has no imgsynth.json"),
        (lambda f: (f / "imgsynth.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "imgsynth.json").write_text("[" * 100_000), "not readable as JSON"),
        (lambda f: (f / "imgsynth.json").write_text("[]"), "not the record"),
        (lambda f: spoil(f, format=99), "format 99"),
        (lambda f: spoil(f, config={"size": [8, 8]}), "channels is missing"),
        (lambda f: spoil(f, config={"width": 3}), "unknown setting 'width'; did you mean 'widths'"),
        (lambda f: spoil(f, config=[]), "config: expected an object"),
        (lambda f: spoil(f, sha256={}), "SHA-256 differs"),
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"), "SHA-256 differs"),
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "cannot be read"),
        (
            lambda f: spoil(
                f, config=json.loads((f / "imgsynth.json").read_text())["config"] | {"blocks": 2}
            ),
            "does not describe its weights",
        ),
    ],
)
def test_what_is_not_a_model_is_refused_in_one_line(tmp_path, harm, said):
    Diffuser.new(TINY, 0).save(tmp_path)
    harm(tmp_path)
    with pytest.raises(ModelError) as error:
        Diffuser.load(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": (8,)}, "size: expected 2 whole numbers"),
        ({"size": (8, 10**9)}, "size: expected 2 whole numbers"),
        ({"size": 8}, "size: expected two whole numbers"),
        ({"channels": 2}, "channels: expected 1 or 3"),
        ({"classes": ()}, "classes: expected 1 to"),
        ({"classes": ("a", "a")}, "every name once"),
        ({"widths": (12,)}, "multiples of 8"),
        ({"widths": (10**6,)}, "widths"),
        ({"objective": "epsilon"}, "objective: expected flow or v"),
        ({"mask_bits": -1}, "mask_bits"),
        ({"bit_scale": 0.0}, "bit_scale"),
        ({"blocks": True}, "blocks"),
        ({"sigma_data": float("nan")}, "sigma_data"),
    ],
)
def test_a_wrong_setting_is_said(change, said):
    with pytest.raises(ModelError, match=said):
        replace(TINY, **change)


def test_wrong_shapes_are_said():
    model = Diffuser.new(TINY, 0)
    with pytest.raises(ModelError, match=r"expected \(n, 1, 8, 8\), got \(1, 3, 8, 8\)"):
        model.denoise(torch.zeros(1, 3, 8, 8), torch.ones(1))
    with pytest.raises(ModelError, match="takes 0 planes of layout, got 2"):
        model.denoise(torch.zeros(1, 1, 8, 8), torch.ones(1), None, torch.zeros(1, 2, 8, 8))
