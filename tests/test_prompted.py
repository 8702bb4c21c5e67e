"""Prompts to a dataset: a pipeline whose attention was planted, so that the truth is known, and the whole way."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.verify import verify
from imgsynth.diffusion.heat import IGNORE, HeatMasks, MaskSettings
from imgsynth.diffusion.pipelines import Drawing, load_pipeline
from imgsynth.diffusion.prompted import Asked, by_attention, draw_labelled, prompt_dataset
from imgsynth.errors import ImgsynthError

torch.set_num_threads(1)
warnings.filterwarnings("ignore", message=".*not initialized.*")
SIZE, GRID = (32, 48), (16, 24)
PROMPT = "a dog and a cat"
WORDS = {"hound": "dog", "puss": "cat"}
SETTINGS = MaskSettings(power=0, min_area=0.005)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompted") / "sd"
    tiny.stable_diffusion(folder)
    return folder


@pytest.fixture(scope="module")
def planted(checkpoint):
    """A pipeline that looks at "dog" where its first latent is positive, at "cat" where its second is.

    Residual branches are silent, so the first transformer sees the latents as they are; the net predicts no
    noise, so they stay as they were planted.
    """
    pipe = load_pipeline(str(checkpoint))
    unet, first = pipe.net, "down_blocks.0"
    u, v = (torch.tensor(pattern * 4, dtype=torch.float32) for pattern in ([1, -1, 1, -1], [1, 1, -1, -1]))
    block = unet.get_submodule(first)
    layer = block.attentions[0].transformer_blocks[0]
    ids = pipe.tokenizers[0](
        PROMPT, padding="max_length", max_length=tiny.LENGTH, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.startswith(("conv_in.", "conv_out.")) or (
                name.startswith(first) and ("conv2" in name or "to_out" in name)
            ):
                weight.zero_()
        unet.conv_in.weight[:, 0, 1, 1], unet.conv_in.weight[:, 1, 1, 1] = u, v
        block.attentions[0].proj_in.weight.copy_(
            torch.eye(16).reshape(block.attentions[0].proj_in.weight.shape)
        )
        block.attentions[0].proj_in.bias.zero_()
        text = pipe.pipe.text_encoder(ids)[0][
            0
        ]  # (tokens, 32): find what tells dog (2) and cat (5) from the rest
        wanted = torch.zeros(tiny.LENGTH, 2)
        wanted[2, 0] = wanted[5, 1] = 1.0
        found = torch.linalg.lstsq(text, wanted).solution
        layer.attn2.to_q.weight.zero_()
        layer.attn2.to_k.weight.zero_()
        for head in (0, 8):
            layer.attn2.to_q.weight[head], layer.attn2.to_q.weight[head + 1] = u / 16, v / 16
            layer.attn2.to_k.weight[head : head + 2] = 20 * found.T
    return pipe


def regions(kind):
    y, x = np.mgrid[: GRID[0], : GRID[1]]
    dog = (y - 7.5) ** 2 + (x - 6.5) ** 2 < 20
    cat = (abs(y - 8) < 5) & (abs(x - 17) < 4)
    return dog, cat if kind == "both" else np.zeros(GRID, bool)


def plant(pipe, monkeypatch, kinds):
    """Latents that are ±1 by region, in place of noise."""
    left = list(kinds)

    def latents(batch, channels, height, width, dtype, device, generator, *_):
        out = torch.zeros(batch, channels, height // 2, width // 2, dtype=dtype)
        for k in range(batch):
            for c, region in enumerate(regions(left.pop(0))):
                out[k, c] = torch.from_numpy(np.where(region, 1.0, -1.0)).to(dtype)
        return out

    monkeypatch.setattr(pipe.pipe, "prepare_latents", latents)


def test_masks_are_where_the_network_was_made_to_look(planted, monkeypatch):
    plant(planted, monkeypatch, ["both", "dog only"])
    asked = Asked((PROMPT,), WORDS, layers=("down_blocks.*",))
    images, found = draw_labelled(
        planted, asked, seed=0, indices=np.arange(2), size=SIZE, drawing=Drawing(steps=2), masks=SETTINGS
    )
    assert images.shape == (2, *SIZE, 3) and found.present.tolist() == [[True, True], [True, False]]
    for i, kind in enumerate(("both", "dog only")):
        for k, region in enumerate(regions(kind)):
            truth = np.kron(region, np.ones((2, 2), bool))
            mask, sure = found.semantic[i] == k + 1, found.semantic[i] != IGNORE
            if not truth.any():
                assert not mask.any() and found.confidence[i, k] == 0
                continue
            assert (mask & truth & sure).sum() / ((mask | truth) & sure).sum() > 0.9
            assert found.confidence[i, k] > 0.8


def test_the_planted_probability_has_a_closed_form(planted, monkeypatch):
    """q·k/√8 is 20·c/√8 at dog's token where c, the latent after LayerNorm, is 1/√2 or −1/√2; 0 at the others."""
    from imgsynth.diffusion.attention import capture

    plant(planted, monkeypatch, ["both"])
    with capture(planted.net, [[(2,), (5,)]], layers=["down_blocks.*.attn2"]) as taken:
        planted.pipe([PROMPT], height=32, width=48, num_inference_steps=1, output_type="latent")
    dog, cat = regions("both")
    nowhere = ~dog & ~cat
    score = 20 / 8**0.5 / 2**0.5
    inside = np.exp(score) / (np.exp(score) + np.exp(-score) + tiny.LENGTH - 2)
    outside = np.exp(-score) / (2 * np.exp(-score) + tiny.LENGTH - 2)
    got = taken.cross[GRID][0, 0]
    # where dog is and cat is not the two latents cancel on half of the channels: u − v has norm √2 of one
    assert abs(got[nowhere].mean() - outside) < 0.02 and abs(got[dog].mean() - inside) < 0.2
    assert got[dog].min() > 20 * got[~dog].max()


def test_prompts_become_an_ordinary_dataset(planted, monkeypatch, tmp_path):
    asked = Asked((PROMPT, "a photo of a dog"), WORDS, layers=("down_blocks.*",))

    def make(name, **more):
        plant(planted, monkeypatch, ["both", "dog only", "dog only", "both"])
        return prompt_dataset(
            planted,
            asked,
            4,
            tmp_path / name,
            seed=3,
            size=SIZE,
            drawing=Drawing(steps=1),
            masks=SETTINGS,
            **more,
        )

    made = make("a")
    assert made["frames"] == 4 and made["grounding"] == "attention" and made["generation"] == 1
    assert verify(tmp_path / "a").ok, verify(tmp_path / "a")
    dataset = Dataset(tmp_path / "a")
    assert dataset.classes == ("hound", "puss") and dataset.header.outputs == ("semantic",)
    assert dataset.frames.column("prompt").to_pylist() == [PROMPT, "a photo of a dog"] * 2
    # frame 2 asks for a cat that is not there; frames 1 and 3 do not ask for one
    assert (
        dataset.frames.column("missing").to_pylist()[0] == 0
        and dataset.frames.column("missing").to_pylist()[2] == 1
    )
    assert dataset.frames.column("score_level.puss").to_pylist()[1] is None
    rows = dataset.instances.to_pylist()
    assert {r["grounding"] for r in rows} == {"attention"}
    assert all((r["confidence"] is None) == (r["class_id"] == 0) for r in rows)
    dog, _ = regions("both")
    mask = dataset.semantic_mask(0) == 1
    truth = np.kron(dog, np.ones((2, 2), bool))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    make("b")
    for name in ("dataset.json", "instances.parquet", "masks/000002.png", "images/000003.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_whatever_an_untrained_pipeline_draws_is_a_sound_dataset(checkpoint, tmp_path):
    pipe = load_pipeline(str(checkpoint))
    asked = Asked(
        ("a photo of a giraffe", "a dog on the grass"), {"giraffe": "giraffe", "dog": "dog"}, steps=(1, 1)
    )
    loose = MaskSettings(level=0.5, contrast=1.0)
    made = prompt_dataset(
        pipe, asked, 3, tmp_path / "out", seed=1, size=(16, 24), drawing=Drawing(steps=2), masks=loose
    )
    assert made["frames"] == 3 and verify(tmp_path / "out").ok
    dataset = Dataset(tmp_path / "out")
    assert dataset.header.parents[0]["sha256"] == pipe.sha256 and dataset.header.spec["diffusion"][
        "prompts"
    ] == list(asked.prompts)
    with pytest.raises(ImgsynthError, match="finished dataset already"):
        prompt_dataset(pipe, asked, 3, tmp_path / "out", seed=1, size=(16, 24))


def test_words_that_no_prompt_has_are_refused(checkpoint):
    pipe = load_pipeline(str(checkpoint))
    with pytest.raises(ImgsynthError, match="class bird: no prompt has the words 'robin'"):
        Asked((PROMPT,), {"bird": "robin"}).tokens(pipe.tokenizers)
    with pytest.raises(ImgsynthError, match="say what to draw"):
        Asked((), WORDS)


def test_pieces_become_instances_and_doubt_an_area_to_ignore():
    semantic = np.array([[[1, 0, 1, 2], [0, 0, 1, IGNORE]]], np.int32)
    found = HeatMasks(
        semantic,
        np.array([[True, True]]),
        *(np.ones((1, 2), np.float32),) * 2,
        np.array([[0.8, 0.5]], np.float32),
    )
    labels = by_attention(found, calibrate=lambda raw: raw / 2)
    assert labels.instance[0].tolist() == [[1, 0, 2, 3], [0, 0, 2, 4]]
    assert labels.class_id.tolist() == [1, 1, 2, 0] and labels.id.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(labels.confidence, [0.4, 0.4, 0.25, np.nan], atol=1e-6)
