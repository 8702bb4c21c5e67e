"""Captured attention against what reaches torch's own attention; nothing of the network is left changed."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

from imgsynth.diffusion.attention import attention_layers, capture
from imgsynth.diffusion.projections import RULES
from imgsynth.diffusion.words import check_length, word_tokens
from imgsynth.errors import ImgsynthError, ModelError

torch.set_num_threads(1)
PROMPTS = ["a photo of a giraffe", "a dog and a cat on the grass"]


@pytest.fixture(scope="module")
def pipes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    pair = {"sd": tiny.stable_diffusion(folder / "sd"), "sdxl": tiny.stable_diffusion_xl(folder / "sdxl")}
    for pipe in pair.values():
        pipe.set_progress_bar_config(disable=True)
    return pair


def draw(pipe, prompts=PROMPTS, size=(32, 48), steps=2, guidance=5.0):
    generators = [torch.Generator().manual_seed(k) for k in range(len(prompts))]
    return pipe(
        prompts, height=size[0], width=size[1], num_inference_steps=steps, guidance_scale=guidance,
        generator=generators, output_type="np",
    ).images  # fmt: skip


@contextmanager
def overheard(net, monkeypatch):
    """Layer → what reached scaled_dot_product_attention at each call: queries, keys, mask (float64)."""
    heard: dict[str, list] = {}
    now: list[str] = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def listening(query, key, value, attn_mask=None, *rest, **more):
        if now:
            mask = None if attn_mask is None else attn_mask.double()
            heard.setdefault(now[-1], []).append((query.double(), key.double(), mask))
        return plain(query, key, value, attn_mask, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", listening)
    handles = []
    for name in attention_layers(net):
        module = net.get_submodule(name)
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: now.append(name)))
        handles.append(module.register_forward_hook(lambda *_: now.pop() and None))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
        monkeypatch.undo()


def plain_softmax(calls, rows):
    """Mean over calls and heads of softmax(QKᵀ/√d + mask), (n, pixels, keys), in float64."""
    out = 0
    for query, key, mask in calls:
        scores = query[rows] @ key[rows].transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + mask[rows]
        out = out + scores.softmax(-1).mean(1)
    return (out / len(calls)).numpy()


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_equals_a_plain_softmax_of_every_layer(pipes, family, monkeypatch):
    pipe, tokens = pipes[family], [[(5, 6), (2,)], [(2,), (5, 8)]]
    names = attention_layers(pipe.unet)
    assert len(names) == (8 if family == "sd" else 16)
    with overheard(pipe.unet, monkeypatch) as heard, ExitStack() as stack:  # captures may be nested
        each = {n: stack.enter_context(capture(pipe.unet, tokens, layers=[n])) for n in names}
        draw(pipe)
    for name, taken in each.items():
        grid = taken.layers[name]
        assert (
            grid == ((16, 24) if family == "sd" and "mid" not in name else (8, 12)) and taken.evaluations == 2
        )
        want = plain_softmax(heard[name], rows=slice(2, 4))  # the guided half
        if name.endswith("attn1"):
            assert not taken.cross
            np.testing.assert_allclose(taken.own[grid], want, atol=1e-6)
            continue
        assert not taken.own
        for i in range(2):
            for k in range(2):
                expected = want[i][:, list(tokens[i][k])].sum(1).reshape(grid)
                np.testing.assert_allclose(taken.cross[grid][i, k], expected, atol=1e-6)
                assert expected.std() > 0


def test_layers_and_steps_are_averaged(pipes, monkeypatch):
    unet, tokens = pipes["sd"].unet, [[(1,)], [(3,)]]
    layers = ["up_blocks.*.attn2", "down_blocks.*.attn2"]
    with overheard(unet, monkeypatch) as heard, capture(unet, tokens, layers=layers, steps={1, 3}) as taken:
        draw(pipes["sd"], steps=4)
    assert taken.evaluations == 2 and len(taken.layers) == 3 and set(taken.cross) == {(16, 24)}
    looks = [plain_softmax([heard[n][s] for s in (1, 3)], slice(2, 4)) for n in taken.layers]
    want = np.mean(looks, axis=0)
    np.testing.assert_allclose(taken.cross[16, 24][1, 0], want[1][:, 3].reshape(16, 24), atol=1e-6)


def test_without_guidance_and_with_words_a_prompt_lacks(pipes, monkeypatch):
    unet = pipes["sd"].unet
    with overheard(unet, monkeypatch) as heard, capture(unet, [[(1,), ()], [(), (4,)]]) as taken:
        draw(pipes["sd"], guidance=1.0)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    want = plain_softmax(heard[name], slice(0, 2))
    np.testing.assert_allclose(taken.cross[8, 12][0, 0], want[0][:, 1].reshape(8, 12), atol=1e-6)
    assert not taken.cross[8, 12][0, 1].any() and not taken.cross[8, 12][1, 0].any()


def test_all_tokens_together_make_one_and_large_maps_are_left_out(pipes):
    with capture(pipes["sd"].unet, [[range(tiny.LENGTH)]] * 2, own_pixels=100) as taken:
        draw(pipes["sd"])
    for maps in taken.cross.values():
        np.testing.assert_allclose(maps, 1, atol=1e-5)
    assert set(taken.own) == {(8, 12)}  # 16 × 24 is larger than asked for
    np.testing.assert_allclose(taken.own[8, 12].sum(-1), 1, atol=1e-5)


def _state(net):
    hooks = [
        (name, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._forward_hooks_with_kwargs),
         len(m._forward_pre_hooks_with_kwargs), type(getattr(m, "processor", None)), m.__dict__.keys() - set())
        for name, m in net.named_modules()
    ]  # fmt: skip
    return hooks, {k: v.clone() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_network_is_bit_identical_afterwards(pipes, family):
    pipe = pipes[family]
    before, image = _state(pipe.unet), draw(pipe)
    with capture(pipe.unet, [[(1,)], [(2,)]]):
        during = draw(pipe)
    after = _state(pipe.unet)
    assert before[0] == after[0] and all(h[1] == h[2] == 0 for h in after[0])
    assert all(torch.equal(before[1][k], after[1][k]) for k in before[1])
    assert np.array_equal(image, during) and np.array_equal(image, draw(pipe))


def test_hooks_go_when_something_fails(pipes):
    unet = pipes["sd"].unet
    before = _state(unet)[0]
    with pytest.raises(RuntimeError, match="in the middle"), capture(unet, [[(1,)]] * 2):
        raise RuntimeError("in the middle")
    with pytest.raises(ModelError, match="batch of 4 for 3 images"), capture(unet, [[(1,)]] * 3):
        draw(pipes["sd"])
    with (
        pytest.raises(ModelError, match="token 40 is asked for, the text has 16"),
        capture(unet, [[(40,)]] * 2),
    ):
        draw(pipes["sd"])
    assert _state(unet)[0] == before


def test_refuses_what_it_would_get_wrong():
    unet = tiny.unet()
    with pytest.raises(ModelError, match="is called"), capture(unet, [[()]], layers=["middle.*"]):
        pass
    name = attention_layers(unet)[0]
    unet.get_submodule(name).processor = object()
    with pytest.raises(ModelError, match="attention of object is not known"), capture(unet, [[()]]):
        pass
    with capture(unet, [[()]], layers=["mid_block.*"]):
        pass
    with pytest.raises(ModelError, match="as many words"), capture(tiny.unet(), [[()], [(), ()]]):
        pass
    unet = tiny.unet()
    unet.fuse_qkv_projections()
    with pytest.raises(ModelError, match=r"at once.*unfuse_qkv_projections"), capture(unet, [[()]]):
        pass


def test_the_older_processor_uses_the_layers_own_scale(pipes):
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(0)
    unet, name = tiny.unet(), "mid_block.attentions.0.transformer_blocks.0.attn2"
    unet.set_attn_processor(AttnProcessor())
    layer, seen = unet.get_submodule(name), []
    layer.scale = 0.9
    plain = layer.get_attention_scores
    layer.get_attention_scores = lambda *args: seen.append(plain(*args)) or seen[-1]
    with torch.no_grad(), capture(unet, [[(3,)]], layers=[name]) as taken:
        unet(torch.randn(1, 4, 8, 20), 10, torch.randn(1, 16, 32))
    want = seen[0].mean(0)[:, 3].reshape(4, 10)
    np.testing.assert_allclose(taken.cross[4, 10][0, 0], want.numpy(), atol=1e-6)


def _pixart():
    from diffusers import PixArtTransformer2DModel

    net = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, cross_attention_dim=16,
        sample_size=16, patch_size=2, caption_channels=12, use_additional_conditions=False,
    )  # fmt: skip
    keep = torch.ones(2, 7, dtype=torch.long)
    keep[0, 4:] = 0
    inputs = {"encoder_hidden_states": torch.randn(2, 7, 12), "timestep": torch.tensor([3, 3]),
              "encoder_attention_mask": keep}  # fmt: skip
    return net, inputs, 0


def _hunyuan():
    from diffusers import HunyuanDiT2DModel
    from diffusers.models.embeddings import get_2d_rotary_pos_embed

    net = HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=16, num_layers=2,
        hidden_size=16, cross_attention_dim=12, cross_attention_dim_t5=16, pooled_projection_dim=8, text_len=5,
        text_len_t5=4,
    )  # fmt: skip
    rotary = get_2d_rotary_pos_embed(8, ((0, 0), (4, 7)), (4, 7), output_type="pt")
    inputs = {
        "timestep": torch.tensor([3.0, 3.0]), "encoder_hidden_states": torch.randn(2, 5, 12),
        "text_embedding_mask": torch.ones(2, 5), "encoder_hidden_states_t5": torch.randn(2, 4, 16),
        "text_embedding_mask_t5": torch.ones(2, 4), "image_meta_size": torch.ones(2, 6),
        "style": torch.zeros(2, dtype=torch.long), "image_rotary_emb": rotary,
    }  # fmt: skip
    return net, inputs, 0


def _sd3():
    from diffusers import SD3Transformer2DModel

    net = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=8, out_channels=4,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    inputs = {"encoder_hidden_states": torch.randn(2, 7, 12), "pooled_projections": torch.randn(2, 8),
              "timestep": torch.tensor([3, 3])}  # fmt: skip
    return net, inputs, 28


def _flux():
    from diffusers import FluxTransformer2DModel

    net = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=12, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(7), indexing="ij")
    ids = torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3)
    inputs = {"encoder_hidden_states": torch.randn(2, 7, 12), "pooled_projections": torch.randn(2, 8),
              "timestep": torch.tensor([0.3, 0.3]), "img_ids": ids.float(), "txt_ids": torch.zeros(7, 3)}  # fmt: skip
    return net, inputs, 0


@pytest.mark.parametrize("make", [_pixart, _hunyuan, _sd3, _flux], ids=lambda f: f.__name__[1:])
def test_transformers_with_masks_normalized_keys_and_rotary_positions(make, monkeypatch):
    torch.manual_seed(1)
    net, inputs, first = make()
    for module in net.modules():  # norms that scale, so that leaving one out would show
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            torch.nn.init.uniform_(module.weight, 0.3, 2.0)
    pattern = "transformer_blocks.*" if make is _flux else "*"
    names = [n for n in attention_layers(net) if pattern == "*" or not n.startswith("single")]
    x = torch.randn(2, 28, 4) if make is _flux else torch.randn(2, 4, 8, 14)
    for name in names:
        with (
            torch.no_grad(), overheard(net.eval(), monkeypatch) as heard,
            capture(net, [[(0, 2)], [(3,)]], layers=[name]) as taken,
        ):  # fmt: skip
            net(hidden_states=x, **inputs)
        (query, key, mask), *_ = heard[name]
        if make is _flux:  # its backend lines heads up after places or before, as torch is called
            assert query.shape[1] == 2
        pixels = slice(7, None) if make is _flux else slice(0, 28)
        want = plain_softmax([(query[:, :, pixels], key, mask)], slice(0, 2))
        assert taken.layers[name] == (4, 7)
        if taken.cross:
            for i, places in enumerate([(0, 2), (3,)]):
                expected = want[i][:, [first + p for p in places]].sum(1).reshape(4, 7)
                np.testing.assert_allclose(taken.cross[4, 7][i, 0], expected, atol=1e-6)
        own = want if not taken.cross else want[..., slice(0, 28) if make is not _flux else pixels]
        if taken.own:
            np.testing.assert_allclose(taken.own[4, 7], own / own.sum(-1, keepdims=True), atol=1e-6)
        assert taken.cross or taken.own
    assert {type(net.get_submodule(n).processor).__name__ for n in names} <= set(RULES)


def test_layers_that_mix_text_into_the_image_are_refused_when_they_run():
    torch.manual_seed(0)
    net, inputs, _ = _flux()
    with (
        torch.no_grad(),
        pytest.raises(ModelError, match="leave it out of layers"),
        capture(net, [[(0,)]] * 2),
    ):
        net(hidden_states=torch.randn(2, 28, 4), **inputs)


def test_words_are_found_whole_in_any_case_and_every_time(tmp_path):
    tokenizer = tiny.tokenizer(tmp_path)

    def find(prompt, word):
        return word_tokens([tokenizer, tokenizer], prompt, word)

    assert find("a photo of a giraffe", "giraffe") == (5, 6)
    assert find("a Dog and a  dog", "dog") == (2, 5)
    assert find("a photo of a dog", "photo  of") == (2, 3)
    assert find("a dogs and a cat", "dog") == () == find("a photo", "cat")
    assert find("concat and a cat", "cat") == (len(tokenizer("concat and a").input_ids) - 1,)
    for prompt, word in [("the cat's dog", "cat"), ("dog,cat", "dog"), ("a red-cat", "cat")]:
        ids, places = tokenizer(prompt).input_ids, find(prompt, word)
        assert tokenizer.decode([ids[p] for p in places]).strip() == word
    with pytest.raises(ImgsynthError, match="empty"):
        find("a dog", " ")


def test_prompts_that_would_be_cut_off_are_refused(tmp_path):
    tokenizer = tiny.tokenizer(tmp_path)
    fits = " ".join(["a"] * (tiny.LENGTH - 3) + ["dog"])
    check_length([tokenizer], fits)
    with pytest.raises(
        ImgsynthError, match=f"{tiny.LENGTH + 1} tokens with its ends, the text encoder reads 16"
    ):
        word_tokens([tokenizer], f"a {fits}", "dog")

    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="Slow does not say where"):
        word_tokens([Slow()], "a dog", "dog")


warnings.filterwarnings("ignore", message=".*not initialized.*")
