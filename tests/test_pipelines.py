"""Pipelines of random weights, saved and loaded by path: every task of both families, and hostile folders."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

from imgsynth.diffusion.pipelines import Drawing, load_pipeline, noise_of
from imgsynth.errors import ImgsynthError, ModelError

torch.set_num_threads(1)
warnings.filterwarnings("ignore", message=".*not initialized.*")
FAST = Drawing(steps=2, guidance=4.0)
PROMPTS = ["a photo of a dog", "a giraffe", "the cat on the grass"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    tiny.stable_diffusion(root / "sd")
    tiny.stable_diffusion_xl(root / "sdxl")
    for family in ("sd", "sdxl"):
        tiny.controlnet(root / f"{family}-controlnet", family)
        tiny.adapter(root / f"{family}-adapter", family)
    tiny.adapter(root / "sd-grey", channels=1)
    return root


@pytest.fixture(scope="module")
def text(folder):
    return load_pipeline(str(folder / "sd"))


def inputs(pipe, n=1, size=(16, 24)):
    rng = np.random.default_rng(3)
    given = {"size": size, "settings": FAST, "seed": 7, "indices": range(n)}
    if pipe.task == "image":
        given["images"] = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
        given["settings"] = Drawing(steps=4, strength=0.5)
    if pipe.extra:
        given["controls"] = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    return PROMPTS[:n], given


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("task, extra", [("text", ""), ("image", ""), ("text", "controlnet"), ("image", "controlnet"), ("text", "adapter")])  # fmt: skip
def test_every_task_of_both_families(folder, family, task, extra):
    more = {extra: str(folder / f"{family}-{extra}")} if extra else {}
    pipe = load_pipeline(str(folder / family), task=task, **more)
    assert (pipe.family, pipe.task, pipe.extra, pipe.multiple, pipe.side) == (family, task, extra, 4, 32)
    assert len(pipe.tokenizers) == (2 if family == "sdxl" else 1)
    prompts, given = inputs(pipe)
    image = pipe.draw(prompts, **given)
    assert image.shape == (1, 16, 24, 3) and image.dtype == np.uint8 and image.std() > 1
    turned = {**given, "controls": 255 - given["controls"]} if extra else {**given, "seed": 8}
    assert not np.array_equal(image, pipe.draw(prompts, **turned))  # the guide is heard, or the seed


def test_a_guide_at_scale_0_is_not_heard(folder):
    pipe = load_pipeline(str(folder / "sd"), controlnet=str(folder / "sd-controlnet"))
    prompts, given = inputs(pipe)
    given["settings"] = Drawing(steps=1, control=0.0)
    turned = {**given, "controls": 255 - given["controls"]}
    assert np.array_equal(pipe.draw(prompts, **given), pipe.draw(prompts, **turned))


def test_the_same_call_as_diffusers_own(folder, text):
    from diffusers import StableDiffusionPipeline

    theirs = StableDiffusionPipeline.from_pretrained(folder / "sd", safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    want = theirs(
        PROMPTS[:1], height=32, width=48, num_inference_steps=2, guidance_scale=4.0, negative_prompt=[""],
        generator=noise_of(7, 5), output_type="pil",
    ).images[0]  # fmt: skip
    got = text.draw(PROMPTS[:1], seed=7, indices=[5], size=(32, 48), settings=FAST)
    assert np.abs(got[0].astype(int) - np.asarray(want)).max() <= 1


def test_a_sample_does_not_depend_on_its_neighbours(text):
    def draw(prompts, indices, batch):
        settings = Drawing(steps=1, batch=batch)
        return text.draw(prompts, seed=1, indices=indices, size=(16, 16), settings=settings)

    one, two = draw(PROMPTS, [4, 5, 6], 1), draw(PROMPTS, [4, 5, 6], 2)
    assert np.array_equal(draw(PROMPTS[1:2], [5], 1)[0], one[1])
    assert np.array_equal(draw(PROMPTS[1:2], [5], 2)[0], two[1])  # second of its pair before, first now
    assert np.array_equal(draw(PROMPTS[2:], [6], 2)[0], two[2])
    assert np.abs(one.astype(int) - two).max() <= 1  # another batch size sums in another order


def test_strength_bounds_how_far_a_picture_moves(folder):
    """The more noise is put on it, the farther it is from the picture that went through the VAE."""
    pipe = load_pipeline(str(folder / "sd"), task="image")
    prompts, given = inputs(pipe)
    moved = [
        pipe.draw(prompts, **{**given, "settings": Drawing(steps=10, strength=s)}).astype(float)
        for s in (0.1, 0.5, 1)
    ]
    start = pipe.draw(prompts, **{**given, "settings": Drawing(steps=1000, strength=0.001)}).astype(float)
    distance = [np.abs(m - start).mean() for m in moved]
    assert distance[0] < distance[1] < distance[2]


def test_grey_adapters_are_given_grey(folder):
    pipe = load_pipeline(str(folder / "sd"), adapter=str(folder / "sd-grey"))
    assert pipe.control_channels == 1
    prompts, given = inputs(pipe)
    assert pipe.draw(prompts, **given).shape == (1, 16, 24, 3)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"size": (30, 32)}, "multiples of 4"),
        ({"indices": [1, 2]}, "an index for each of 1"),
        ({"images": np.zeros((1, 16, 24, 3), np.uint8)}, "takes no images"),
        ({"controls": np.zeros((1, 16, 24, 3), np.uint8)}, "takes no controls"),
    ],
)
def test_what_does_not_fit_is_refused(text, change, said):
    prompts, given = inputs(text)
    with pytest.raises(ImgsynthError, match=said):
        text.draw(prompts, **{**given, **change})


def test_pictures_that_do_not_fit_are_refused(folder):
    pipe = load_pipeline(str(folder / "sd"), task="image")
    prompts, given = inputs(pipe)
    with pytest.raises(ImgsynthError, match=r"images: expected uint8 \(1, 16, 24, 3\), got float64"):
        pipe.draw(prompts, **{**given, "images": np.zeros((1, 16, 24, 3))})
    with pytest.raises(ImgsynthError, match="leaves none; take at least 10 steps"):
        pipe.draw(prompts, **{**given, "settings": Drawing(steps=4, strength=0.1)})
    with pytest.raises(ImgsynthError, match="guidance: expected 1 to 100, got 0"):
        Drawing(guidance=0)


def test_loading_says_what_is_wrong(folder, tmp_path):
    for source in (
        str(tmp_path / "none"),
        "../none",
        "one/two/three",
        str(folder / "sd" / "model_index.json"),
    ):
        with pytest.raises(ModelError, match="no such folder, and not a hub id"):
            load_pipeline(source)
    with pytest.raises(ModelError, match=r"not a pipeline of diffusers: it has no model_index.json"):
        load_pipeline(str(tmp_path))
    with pytest.raises(ModelError, match=r"not a network of diffusers: it has no config.json"):
        load_pipeline(str(folder / "sd"), controlnet=str(tmp_path))
    with pytest.raises(ModelError, match="got both"):
        load_pipeline(str(folder / "sd"), controlnet="a", adapter="b")
    with pytest.raises(ModelError, match="take a ControlNet"):
        load_pipeline(str(folder / "sd"), task="image", adapter=str(folder / "sd-adapter"))
    with pytest.raises(ModelError, match="precision: expected auto"):
        load_pipeline(str(folder / "sd"), precision="fp8")
    with pytest.raises(ModelError, match="device 'nowhere'"):
        load_pipeline(str(folder / "sd"), device="nowhere")


def _copy(folder, tmp_path):
    target = tmp_path / "copy"
    shutil.copytree(folder / "sd", target)
    return target


def test_pickles_and_foreign_code_are_refused(folder, tmp_path):
    copy = _copy(folder, tmp_path)
    unet = copy / "unet"
    torch.save({}, unet / "diffusion_pytorch_model.bin")
    load_pipeline(str(copy))  # safetensors stand beside it: the pickle is left alone
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model.bin: a pickle, which could run anything"):
        load_pipeline(str(copy))
    index = json.loads((copy / "model_index.json").read_text())

    def refused(change, said):
        (copy / "model_index.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(ModelError, match=said):
            load_pipeline(str(copy))

    refused({"unet": ["mine", "UNet"]}, "its unet is built by 'mine'")
    refused({"_class_name": "FluxPipeline"}, "a FluxPipeline; expected one of")
    refused({"_class_name": ["mine", "MyPipeline"]}, "expected one of")
    (copy / "model_index.json").write_text("{" * 10)
    with pytest.raises(ModelError, match="not readable as JSON"):
        load_pipeline(str(copy))
    (copy / "model_index.json").write_text("[]")
    with pytest.raises(ModelError, match="expected a JSON object, got a list"):
        load_pipeline(str(copy))
    (copy / "model_index.json").write_text(" " * (2 << 20))
    with pytest.raises(ModelError, match="larger than"):
        load_pipeline(str(copy))


def test_damaged_weights_are_one_line(folder, tmp_path):
    copy = _copy(folder, tmp_path)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match="cannot be opened as StableDiffusionPipeline: ") as caught:
        load_pipeline(str(copy))
    assert "\n" not in str(caught.value)


def test_the_digest_is_of_all_weights(folder, tmp_path, text):
    from imgsynth.diffusion.checkpoints import weights_digest

    copy = _copy(folder, tmp_path)
    assert load_pipeline(str(copy)).sha256 == text.sha256
    guided = load_pipeline(str(copy), controlnet=str(folder / "sd-controlnet"))
    assert guided.sha256 != text.sha256
    tiny.stable_diffusion(copy, seed=5)
    assert load_pipeline(str(copy)).sha256 != text.sha256 and weights_digest(tmp_path / "sub") != text.sha256
