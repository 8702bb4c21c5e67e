"""A compact network that finds objects by their centres, names them and cuts them out.

An encoder halves the image five times; a decoder adds the coarse levels onto the fine ones, down to a quarter
of the input's resolution. Every cell there says whether an object's centre is in it and how far its box
reaches (Zhou et al. 2019, "Objects as Points"; box distances as in Tian et al. 2019, "FCOS"). Classes and
masks are read only at the cells that matter: the class from the cell's neighbourhood, the mask by a tiny
convolutional network whose weights that neighbourhood gives (Tian et al. 2020, "CondInst").
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

STRIDE = 4  # pixels a cell
COARSEST = 32  # both sides of the input must be multiples of it
MASK_CHANNELS = 8
_LAYERS = ((MASK_CHANNELS + 2, MASK_CHANNELS), (MASK_CHANNELS, MASK_CHANNELS), (MASK_CHANNELS, 1))
CONTROLS = sum(made * (held + 1) for held, made in _LAYERS)  # weights and biases of one mask's network


class CentreNet(nn.Module):
    """See above. With the default width and six classes it has about a million weights.

    Args:
        classes: how many.
        width: channels of the first stage; the later ones have 2, 3, 5 and 5 times as many.
        masks: whether masks can be read.
        half: typical half side of an object in cells: where box distances start from.
    """

    def __init__(self, classes: int, width: int = 24, masks: bool = False, half: float = 4.0):
        super().__init__()
        stages = (width, 2 * width, 3 * width, 5 * width, 5 * width)
        neck = max(16, 8 * round(width / 3))
        self.stem = _conv(3, stages[0], 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(a, b, 3, 2), Residual(b)) for a, b in pairwise(stages)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(c, neck, 1) for c in stages[1:])
        self.merge = _conv(neck, neck, 3)
        self.centre = nn.Conv2d(neck, 1, 1)
        self.box = nn.Conv2d(neck, 4, 1)
        self.names = Reader(neck, classes) if classes > 1 else None
        self.controls = Reader(neck, CONTROLS) if masks else None
        self.canvas = (
            nn.Sequential(_conv(neck, neck // 2, 3), nn.Conv2d(neck // 2, MASK_CHANNELS, 1))
            if masks
            else None
        )
        nn.init.constant_(self.centre.bias, -math.log(99))  # type: ignore[arg-type]
        nn.init.constant_(self.box.bias, math.log(half))  # type: ignore[arg-type]
        nn.init.normal_(self.centre.weight, std=0.01)
        nn.init.normal_(self.box.weight, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Of images (n, 3, H, W): centre logits (n, h, w), log box distances in cells (n, 4, h, w: left, top,
        right, bottom), what classes and masks are read from (n, c, h, w), and the masks' canvas (n, 8, h, w).
        """
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        y = self.laterals[-1](levels[-1])
        for level, lateral in zip(levels[-2::-1], list(self.laterals)[-2::-1], strict=True):
            y = nnf.interpolate(y, scale_factor=2.0, mode="nearest") + lateral(level)
        neck = self.merge(y)
        canvas = None if self.canvas is None else self.canvas(neck).float()
        return self.centre(neck)[:, 0].float(), self.box(neck).float(), neck, canvas


class Residual(nn.Module):
    """x + two 3×3 convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = _conv(channels, channels, 3)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return torch.relu(x + self.second(self.first(x)))


class Reader(nn.Module):
    """Reads `outputs` numbers from the 3×3 neighbourhood of some cells only (a sparse convolution)."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        self.hidden = nn.Linear(9 * channels, 2 * channels)
        self.norm = nn.LayerNorm(2 * channels)
        self.out = nn.Linear(2 * channels, outputs)

    def forward(self, features: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """(k, outputs) at k cells (image, row, column) of features (n, c, h, w)."""
        padded = nnf.pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        step = torch.arange(3)
        rows = row[:, None, None] + step[None, :, None]
        columns = column[:, None, None] + step[None, None, :]
        patches = padded[image[:, None, None], rows, columns].flatten(1).float()
        out: Tensor = self.out(torch.relu(self.norm(self.hidden(patches))))
        return out


def draw_masks(canvas: Tensor, controls: Tensor, offset: Tensor) -> Tensor:
    """Mask logits (k, p) of k objects at p cells each.

    Args:
        canvas: (k, 8, p) what the canvas holds at those cells.
        controls: (k, CONTROLS) the weights of each object's own network.
        offset: (k, 2, p) where those cells lie from the object's centre (x, y), in typical object sides.
    """
    x, at = torch.cat([canvas, offset], dim=1), 0
    for held, made in _LAYERS:
        weight = controls[:, at : at + held * made].view(-1, made, held)
        bias = controls[:, at + held * made : at + held * made + made, None]
        x = torch.baddbmm(bias, weight, x)
        x = torch.relu(x) if made > 1 else x
        at += (held + 1) * made
    return x[:, 0]


def _conv(held: int, made: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(held, made, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(made), nn.ReLU(inplace=True))
