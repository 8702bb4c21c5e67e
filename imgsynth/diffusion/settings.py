"""How a diffusion model is trained, and which network suits a size: presets made for two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.errors import ModelError
from imgsynth.learn.settings import check_names, check_ranges

BIT_SCALE = 0.3  # of mask bits: with it their spread within an image is near that of the pixels
# Name → channels of the two levels, residual blocks of a level.
PRESETS: Mapping[str, tuple[tuple[int, ...], int]] = {
    "tiny": ((32, 64), 1),
    "slim": ((64, 64), 1),
    "small": ((64, 128), 1),
    "large": ((128, 256), 2),
}


@dataclass(frozen=True)
class DiffusionTraining:
    """How to train: fixed optimiser steps of AdamW with warm-up and half a cosine, gradients clipped.

    Raises:
        ModelError: on construction, for a value out of range.
    """

    steps: int = 6000
    batch: int = 128
    lr: float = 1e-3  # at its peak
    weight_decay: float = 0.0
    warmup: float = 0.05  # share of the steps
    clip: float = 1.0  # largest norm of the gradient
    label_dropout: float = 0.1  # chance, an image, to be shown without its class
    ema: float = 0.1  # spread of the average of weights, as a share of the training (`ema.exponent`)
    guide_at: float = 0.25  # share of the steps after which the average is kept for autoguidance; 0: none
    min_snr: float = 5.0  # γ of the min-SNR weight; only with the objective v
    level_mean: float = 0.0  # of log σ, the logit of flow's t; only with the objective flow
    level_spread: float = 1.0
    blind: float = 0.0  # share of images whose mask bits are pure noise: the mask is read from the picture
    cbdm: float = 0.0  # weight of the class-balancing term (`train.class_balancing`); 1 is its paper's
    flips: bool = False  # mirror every other image; only where left and right do not matter
    precision: str = "auto"  # fp32, bf16, or auto: bf16 where it is faster
    threads: int = 2  # of torch; the same number gives the same bits

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "steps": (1, 10**9),
            "batch": (1, 65536),
            "lr": (1e-9, 1),
            "weight_decay": (0, 10),
            "warmup": (0, 1),
            "clip": (1e-6, 1e6),
            "label_dropout": (0, 1),
            "ema": (0, 0.25),
            "guide_at": (0, 1),
            "min_snr": (1e-3, 1e6),
            "level_mean": (-10, 10),
            "level_spread": (0.01, 10),
            "blind": (0, 1),
            "cbdm": (0, 1e3),
            "threads": (1, 1024),
        }
        check_ranges("diffusion training", self, ranges, ("steps", "batch", "threads"))
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ModelError(
                f"diffusion training: precision: expected auto, bf16 or fp32, got {self.precision!r}"
            )
        if not isinstance(self.flips, bool):
            raise ModelError(f"diffusion training: flips: expected true or false, got {self.flips!r}")

    @staticmethod
    def of(values: Mapping[str, Any]) -> DiffusionTraining:
        """Settings from plain values, as a file holds them.

        Raises:
            ModelError: an unknown name (with the nearest known one) or a value out of range.
        """
        check_names("diffusion training", values, [f.name for f in fields(DiffusionTraining)])
        return DiffusionTraining(**values)


def suited(
    size: tuple[int, int], channels: int, classes: tuple[str, ...], preset: str = "small", **more: Any
) -> DiffuserConfig:
    """The configuration of a preset for images of that size; `more` are further fields of the configuration.

    Two levels, the patch chosen so that the first works on maps of at most 16 pixels: 8 px → 8 and 4, 28 px →
    14 and 7, 32 px → 16 and 8, 64 px → 16 and 8.

    Raises:
        ModelError: an unknown preset, or a value out of range.
    """
    check_names("preset", [preset], list(PRESETS))
    widths, blocks = PRESETS[preset]
    patch = 1
    while max(size) > 16 * patch:
        patch *= 2
    values = {"widths": widths, "blocks": blocks, "patch": patch, **more}
    return DiffuserConfig(size=size, channels=channels, classes=classes, **values)
