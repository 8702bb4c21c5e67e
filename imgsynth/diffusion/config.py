"""What decides the network of a small diffusion model: its images, its classes, its levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from imgsynth.errors import ModelError
from imgsynth.learn.settings import check_names, check_ranges

OBJECTIVES = ("flow", "v")
MAX_SIDE = 256
MAX_CLASSES = 10_000
MAX_PLANES = 64  # mask bits, or planes of layout
MAX_WIDTH = 2048


@dataclass(frozen=True)
class DiffuserConfig:
    """The network and what it predicts.

    Images are cut into squares of `patch` pixels that become channels (space to depth), so that the costly
    first level works on a small map; a side that the levels do not divide is padded inside with zeros.

    Raises:
        ModelError: on construction, for a value out of range.
    """

    size: tuple[int, int]  # (height, width) of the images
    channels: int  # 1 (grey) or 3 (RGB)
    classes: tuple[str, ...]
    mask_bits: int = 0  # planes of analog bits, -1 or 1, that are denoised together with the image
    bit_scale: float = 1.0  # what they are times while they are denoised: less settles them later than shapes
    layout_channels: int = 0  # planes in [-1, 1] that are given, not denoised
    widths: tuple[int, ...] = (64, 128)  # channels of each level; each has half the side of the one before
    blocks: int = 2  # residual blocks of a level
    attention: int = 8  # largest side of a map that attends to itself (0: none)
    patch: int = 1  # side of the squares that become channels
    dropout: float = 0.0  # in the residual blocks
    objective: str = "flow"  # what the net predicts: "flow" (velocity of flow matching) or "v"
    sigma_data: float = 0.5  # spread of the data, which scales the input where the objective is "v"

    def __post_init__(self) -> None:
        for name, kind in (("size", "two whole numbers"), ("classes", "names"), ("widths", "whole numbers")):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)):
                raise ModelError(f"diffuser: {name}: expected {kind}, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        self._whole("size", self.size, 2, 4, MAX_SIDE)
        self._whole("widths", self.widths, None, 8, MAX_WIDTH)
        if not 1 <= len(self.widths) <= 6 or any(w % 8 for w in self.widths):
            raise ModelError(f"diffuser: widths: expected 1 to 6 multiples of 8, got {self.widths}")
        if not 1 <= len(self.classes) <= MAX_CLASSES or not all(isinstance(c, str) for c in self.classes):
            raise ModelError(
                f"diffuser: classes: expected 1 to {MAX_CLASSES} names, got {self.classes!r:.80}"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ModelError("diffuser: classes: expected every name once")
        ranges: dict[str, tuple[float, float]] = {
            "mask_bits": (0, MAX_PLANES),
            "bit_scale": (0.01, 10),
            "layout_channels": (0, MAX_PLANES),
            "blocks": (1, 8),
            "attention": (0, 64),
            "patch": (1, 16),
            "dropout": (0, 0.9),
            "sigma_data": (1e-3, 100),
        }
        whole = ("mask_bits", "layout_channels", "blocks", "attention", "patch")
        check_ranges("diffuser", self, ranges, whole)
        if isinstance(self.channels, bool) or self.channels not in (1, 3):
            raise ModelError(f"diffuser: channels: expected 1 or 3, got {self.channels!r}")
        if self.objective not in OBJECTIVES:
            raise ModelError(
                f"diffuser: objective: expected {' or '.join(OBJECTIVES)}, got {self.objective!r}"
            )

    @staticmethod
    def of(values: Mapping[str, Any]) -> DiffuserConfig:
        """A configuration from plain values, as a file holds them.

        Raises:
            ModelError: an unknown or missing name, or a value out of range.
        """
        check_names("diffuser", values, [f.name for f in fields(DiffuserConfig)])
        missing = [name for name in ("size", "channels", "classes") if name not in values]
        if missing:
            raise ModelError(f"diffuser: {missing[0]} is missing")
        return DiffuserConfig(**values)

    def plain(self) -> dict[str, Any]:
        """The configuration as JSON holds it; `of` reads it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def planes(self) -> int:
        """What is denoised: image channels and mask bits."""
        return self.channels + self.mask_bits

    @property
    def inner_size(self) -> tuple[int, int]:
        """(height, width) of the first level's map, after padding and cutting into patches."""
        unit = self.patch * 2 ** (len(self.widths) - 1)
        height, width = (unit * math.ceil(side / unit) // self.patch for side in self.size)
        return height, width

    def _whole(self, name: str, values: Any, count: int | None, low: int, high: int) -> None:
        """Refuse `values` that are not so many whole numbers of that range."""
        fits = all(isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in values)
        if not fits or (count is not None and len(values) != count):
            many = "" if count is None else f"{count} "
            raise ModelError(
                f"diffuser: {name}: expected {many}whole numbers from {low} to {high}, got {values!r}"
            )
