"""Random-weight pipelines of a few thousand weights, built here and saved to disk: nothing is downloaded."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch

WORDS = ("a", "photo", "of", "and", "dog", "cat", "gir", "affe", "red", "the", "on", "grass")
LENGTH = 16  # tokens that the text encoders read


@cache
def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's byte-pair encoding with a handful of merged words; every other word falls into letters."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(f"{c}</w>" for c in letters)]
    merges: list[str] = []
    for word in WORDS:
        end = "" if word == "gir" else "</w>"  # "giraffe" is two tokens: gir, affe</w>
        parts = [*word[:-1], word[-1] + end]
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            if merge not in merges:
                merges.append(merge)
                vocabulary.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
    names = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    return {name: k for k, name in enumerate(names)}, merges


def tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)


def text_encoder(projected: bool = False, hidden: int = 32):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary, _ = _vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=hidden, intermediate_size=37, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=32,
        bos_token_id=vocabulary["<|startoftext|>"], eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def unet(xl: bool = False, **settings):
    from diffusers import UNet2DConditionModel

    common = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 16, "in_channels": 4,
        "out_channels": 4, "norm_num_groups": 4,
    }  # fmt: skip
    if xl:
        common |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (2, 4), "transformer_layers_per_block": (1, 2), "cross_attention_dim": 64,
            "use_linear_projection": True, "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80,
        }  # fmt: skip
    else:
        common |= {
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "attention_head_dim": 2, "cross_attention_dim": 32,
        }  # fmt: skip
    return UNet2DConditionModel(**common | settings)


def scheduler():
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def stable_diffusion(folder: Path, seed: int = 0, **settings):
    """An SD 1.5 pipeline saved in `folder`."""
    from diffusers import StableDiffusionPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = StableDiffusionPipeline(
            vae=vae(), text_encoder=text_encoder(), tokenizer=tokenizer(folder / "tokenizer"),
            unet=unet(**settings), scheduler=scheduler(), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipe.save_pretrained(folder)
    return pipe


def stable_diffusion_xl(folder: Path, seed: int = 0):
    """An SDXL pipeline saved in `folder`."""
    from diffusers import StableDiffusionXLPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = StableDiffusionXLPipeline(
            vae=vae(), text_encoder=text_encoder(), text_encoder_2=text_encoder(projected=True),
            tokenizer=tokenizer(folder / "tokenizer"), tokenizer_2=tokenizer(folder / "tokenizer_2"),
            unet=unet(xl=True), scheduler=scheduler(), add_watermarker=False,
        )  # fmt: skip
    pipe.save_pretrained(folder)
    return pipe


def controlnet(folder: Path, family: str = "sd", seed: int = 1):
    """A ControlNet for one of the pipelines above, saved in `folder`; its last layers are not zero."""
    from diffusers import ControlNetModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet(xl=family == "sdxl"), conditioning_embedding_out_channels=(4, 8))
        for name, weight in net.named_parameters():
            if "controlnet_" in name:
                torch.nn.init.normal_(weight, std=0.3)
    net.save_pretrained(folder)
    return folder


def adapter(folder: Path, family: str = "sd", channels: int = 3, seed: int = 2):
    """A T2I-Adapter for one of the pipelines above, saved in `folder`."""
    from diffusers import T2IAdapter

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "sdxl":
            kind, widths, factor = "full_adapter_xl", [16, 32, 32, 32], 4
        else:
            kind, widths, factor = "full_adapter", [16, 32], 2
        net = T2IAdapter(
            in_channels=channels,
            channels=widths,
            num_res_blocks=1,
            downscale_factor=factor,
            adapter_type=kind,
        )
    net.save_pretrained(folder)
    return folder
