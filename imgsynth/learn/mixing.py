"""Stronger plain training, against which generated images have to show themselves: RandAugment, CutMix, logit
adjustment. Every draw comes from the generator that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

TOP = 30.0  # the largest magnitude of RandAugment
OPERATIONS = 2  # of RandAugment on each image
LUMA = (0.299, 0.587, 0.114)


def randaugment(images: Tensor, magnitude: float, generator: torch.Generator) -> Tensor:
    """Two operations of fourteen on each image (n, C, H, W) uint8, drawn uniformly, at one magnitude 0 … 30.

    Cubuk et al. 2020, "RandAugment" (arXiv 1909.13719), with the ranges of its appendix; signs are drawn.
    What an affine map brings in from outside is the border going on, as in `trainer.augment`.
    """
    strength = magnitude / TOP
    for _ in range(OPERATIONS):
        chosen = torch.randint(len(_OPERATIONS), (len(images),), generator=generator)
        sign = 2.0 * torch.randint(2, (len(images),), generator=generator) - 1
        out = images.clone()
        for k, operation in enumerate(_OPERATIONS):
            rows = torch.nonzero(chosen == k).ravel()
            if len(rows):
                out[rows] = operation(images[rows], strength * sign[rows])
        images = out
    return images


def cutmix(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Each image (n, C, H, W) with a box of another in it: the images, the partners' rows, the share that is
    still its own.

    Yun et al. 2019, "CutMix" (arXiv 1905.04899), eq. 2 with α = 1: one box for the whole batch, its area
    uniform, its centre anywhere, cut off at the border.
    """
    height, width = x.shape[2:]
    draw = torch.rand(3, generator=generator).tolist()
    side = math.sqrt(1 - draw[0])
    top, bottom = _ends(draw[1], side, height)
    left, right = _ends(draw[2], side, width)
    partner = torch.randperm(len(x), generator=generator)
    out = x.clone()
    out[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    return out, partner, 1 - (bottom - top) * (right - left) / (height * width)


def log_prior(labels: Tensor, classes: int, chances: Tensor | None) -> Tensor:
    """Logarithm (K,) of how often training draws each class; a class without images counts half an image."""
    weights = torch.ones(len(labels), dtype=torch.float64) if chances is None else chances * len(labels)
    drawn = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, weights.double())
    return torch.log(drawn.clamp_min(0.5) / len(labels)).float()


def _ends(centre: float, side: float, length: int) -> tuple[int, int]:
    low = round(centre * length - side * length / 2)
    return max(low, 0), min(low + round(side * length), length)


# ---- the operations of RandAugment: (n, C, H, W) uint8 and a signed strength (n,) in -1 … 1 ----

_Operation = Callable[[Tensor, Tensor], Tensor]


def _same(x: Tensor, s: Tensor) -> Tensor:
    return x


def _pixels(x: Tensor) -> Tensor:
    return x.round_().clamp_(0, 255).to(torch.uint8)


def _affine(at: tuple[int, int], most: float) -> _Operation:
    """One entry of the 2×3 map moved by up to `most`, in units of half the image."""

    def moved(x: Tensor, s: Tensor) -> Tensor:
        theta = torch.eye(2, 3).repeat(len(x), 1, 1)
        theta[:, at[0], at[1]] += most * s
        return _mapped(x, theta)

    return moved


def _rotate(x: Tensor, s: Tensor) -> Tensor:
    angle = math.radians(30) * s
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle)
    theta[:, 0, 1], theta[:, 1, 0] = -torch.sin(angle), torch.sin(angle)
    return _mapped(x, theta)


def _mapped(x: Tensor, theta: Tensor) -> Tensor:
    grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return _pixels(nn.functional.grid_sample(x.float(), grid, padding_mode="border", align_corners=False))


def _between(other: Callable[[Tensor], Tensor]) -> _Operation:
    """Away from, or towards, another version of the image by up to 0.9."""

    def blended(x: Tensor, s: Tensor) -> Tensor:
        pixels = x.float()
        base = other(pixels)
        return _pixels(base + (1 + 0.9 * s)[:, None, None, None] * (pixels - base))

    return blended


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True).expand_as(x)


def _smooth(x: Tensor) -> Tensor:
    kernel = torch.ones(3, 3)
    kernel[1, 1] = 5
    kernel = (kernel / 13).repeat(x.shape[1], 1, 1, 1)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, kernel, groups=x.shape[1])


def _posterize(x: Tensor, s: Tensor) -> Tensor:
    kept = 8 - torch.round(4 * s.abs()).long()  # bits
    mask = 256 - (1 << (8 - kept))
    return (x.long() & mask[:, None, None, None]).to(torch.uint8)


def _solarize(x: Tensor, s: Tensor) -> Tensor:
    threshold = 255 * (1 - s.abs())[:, None, None, None]
    return torch.where(x.float() >= threshold, 255 - x, x)


def _autocontrast(x: Tensor, s: Tensor) -> Tensor:
    pixels = x.float()
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    spread = torch.where(high > low, high - low, 255.0)
    return _pixels(255 * (pixels - torch.where(high > low, low, 0.0)) / spread)


def _equalize(x: Tensor, s: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    out: Tensor = equalize(x.contiguous())
    return out


_OPERATIONS: tuple[_Operation, ...] = (
    _same,
    _autocontrast,
    _equalize,
    _rotate,
    _solarize,
    _posterize,
    _affine((0, 1), 0.3),  # shear
    _affine((1, 0), 0.3),
    _affine((0, 2), 2 * 150 / 331),  # translation
    _affine((1, 2), 2 * 150 / 331),
    _between(torch.zeros_like),  # brightness
    _between(lambda x: _grey(x).mean((1, 2, 3), keepdim=True)),  # contrast
    _between(_grey),  # colour
    _between(_smooth),  # sharpness
)
