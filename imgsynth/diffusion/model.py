"""A small diffusion model: a diffusers UNet, what it predicts, its classes, and its folder on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.objectives import BLIND, scales
from imgsynth.errors import ModelError
from imgsynth.learn.loop import resolve_precision
from imgsynth.learn.store import seeded

if TYPE_CHECKING:
    from diffusers import UNet2DModel

GROUP = 16  # channels of a group of the norms, at least: narrower ones take torch's slow path on CPUs
HEAD = 32  # channels of an attention head


@dataclass(frozen=True)
class Diffuser:
    """A network with all that is needed to sample from it and to say where it came from.

    What it denoises has `planes` = image channels + mask bits planes: pixels in [-1, 1], bits ±`bit_scale`.
    """

    net: UNet2DModel
    config: DiffuserConfig
    record: Mapping[str, Any] = field(default_factory=dict)  # data and its digest, seed, steps, generation …
    guide: Diffuser | None = None  # an earlier self, for autoguidance
    precision: str = "auto"  # fp32, bf16, or auto: bf16 where it is faster

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the label K = len(classes) stands for none of them."""
        return self.config.classes

    @property
    def null(self) -> int:
        """The label that stands for no class."""
        return len(self.config.classes)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.config.size

    @property
    def channels(self) -> int:
        """Image channels, 1 or 3, without mask bits."""
        return self.config.channels

    @property
    def planes(self) -> int:
        """Planes of what `denoise` takes and gives: image channels, then mask bits."""
        return self.config.planes

    @property
    def bit_scale(self) -> float:
        """Size of a mask bit in what `denoise` takes and gives."""
        return self.config.bit_scale

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.conv_in.weight.device

    @staticmethod
    def new(config: DiffuserConfig, seed: int, record: Mapping[str, Any] | None = None) -> Diffuser:
        """A model with random weights that depend on (config, seed) alone."""
        with seeded(seed):
            return Diffuser(build_net(config), config, record or {})

    @property
    def reads(self) -> bool:
        """Whether it learned to read a mask from a picture (`DiffusionTraining.blind`), as `read` does."""
        return self.config.mask_bits > 0 and float(dict(self.record.get("training", {})).get("blind", 0)) > 0

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        labels: Tensor | None = None,
        layout: Tensor | None = None,
        blind: bool = False,
    ) -> Tensor:
        """The estimate of x₀ from x̃ = x₀ + σε.

        Args:
            x: (n, planes, H, W) float32.
            sigma: (n,) or (1,) noise levels, ≥ 0.
            labels: (n,) long, a class or `null`; None: all `null`.
            layout: (n, layout_channels, H, W) float32 in [-1, 1], where the model was trained with one.
            blind: whether the mask bits' planes have noise of σ = `BLIND` in place of `sigma`, and so say
                nothing: the estimates of the bits are then what the picture alone tells of them.

        Returns:
            (n, planes, H, W) float32.

        Raises:
            ModelError: shapes that are not the model's.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != (self.planes, *self.size):
            raise ModelError(
                f"denoise: expected (n, {self.planes}, {self.size[0]}, {self.size[1]}), got {tuple(x.shape)}"
            )
        if labels is None:
            labels = torch.full((len(x),), self.null, dtype=torch.int64, device=x.device)
        sigma = sigma.to(x).expand(len(x))
        time = scales(self.config, sigma).time  # the net's clock is the picture's
        s = scales(self.config, self.levels(sigma, torch.full(sigma.shape, blind, device=x.device)))
        out = self.predict(x * s.c_in, time, labels, layout)
        return s.c_skip * x + s.c_out * out

    def levels(self, sigma: Tensor, blind: Tensor) -> Tensor:
        """Noise level of each plane, (n, planes, 1, 1): `sigma` (n,), but `BLIND` of mask bits where `blind`
        (n,) bool.
        """
        if not self.config.mask_bits:
            return sigma.reshape(-1, 1, 1, 1)
        bits = torch.where(blind, BLIND, sigma)[:, None].expand(-1, self.config.mask_bits)
        return torch.cat([sigma[:, None].expand(-1, self.channels), bits], dim=1)[:, :, None, None]

    def predict(self, x: Tensor, time: Tensor, labels: Tensor, layout: Tensor | None = None) -> Tensor:
        """F of `objectives`: what the net says of scaled input at its clock's time, (n, planes, H, W)."""
        given = self.config.layout_channels
        if (layout is None) != (given == 0) or (layout is not None and layout.shape[1] != given):
            came = "none" if layout is None else f"{layout.shape[1]}"
            raise ModelError(f"denoise: the model takes {given} planes of layout, got {came}")
        if layout is not None:
            x = torch.cat([x, layout.to(x)], dim=1)
        inner, patch = self.config.inner_size, self.config.patch
        height, width = self.size
        x = nnf.pad(x, (0, inner[1] * patch - width, 0, inner[0] * patch - height))
        x = nnf.pixel_unshuffle(x, patch).contiguous(memory_format=torch.channels_last)
        with self.casting(x.device):
            out = self.net(x, time, class_labels=labels, return_dict=False)[0]
        return nnf.pixel_shuffle(out.float(), patch)[:, :, :height, :width]

    def casting(self, device: torch.device) -> torch.autocast:
        """bf16 for the products of matrices, where the precision is bf16 or `auto` finds it the faster."""
        precision = self.precision
        if precision == "auto":
            on_gpu = device.type == "cuda"
            precision = "bf16" if on_gpu else resolve_precision("auto", self.size)
        return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def to(self, device: str | torch.device) -> Diffuser:
        """The same model with its weights (and its guide's) on `device`; moves them in place."""
        self.net.to(device)
        if self.guide is not None:
            self.guide.to(device)
        return self

    def hash(self) -> str:
        """SHA-256 (hex) of the weights: names, shapes, types and bytes, in the order of the names."""
        h = hashlib.sha256()
        for name, tensor in sorted(self.net.state_dict().items()):
            h.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            h.update(tensor.detach().cpu().numpy().tobytes())  # in C order, however they lie in memory
        return h.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write a diffusers pipeline folder and imgsynth.json (see `store.save`)."""
        from imgsynth.diffusion.store import save

        save(self, Path(folder))

    @staticmethod
    def load(folder: str | Path) -> Diffuser:
        """The model of a folder that `save` wrote (see `store.load`)."""
        from imgsynth.diffusion.store import load

        return load(Path(folder))


def build_net(config: DiffuserConfig) -> UNet2DModel:
    """The UNet of a configuration, its weights drawn from torch's global generator, channels last.

    Two choices are for speed on CPUs with AMX (scripts/bench/diffuser_step.py): groups of at least 16
    channels, as narrower ones take torch's slow path, and attention as plain products of matrices, as its
    fused one is slow backwards.
    """
    from diffusers import UNet2DModel
    from diffusers.models.attention_processor import Attention, AttnProcessor

    height, width = config.inner_size
    attends = [min(height, width) >> k <= config.attention for k in range(len(config.widths))]
    area = config.patch**2
    net = UNet2DModel(
        sample_size=(height, width),
        in_channels=(config.planes + config.layout_channels) * area,
        out_channels=config.planes * area,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        add_attention=attends[-1],
        attention_head_dim=min(HEAD, *config.widths),
        norm_num_groups=max(1, math.gcd(*config.widths) // GROUP),
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=len(config.classes) + 1,
        dropout=config.dropout,
    )
    for module in net.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    return net.to(memory_format=torch.channels_last)
