"""A compact network that finds objects by their centres, names them and cuts them out.

An encoder halves the image five times; a decoder adds the coarse levels onto the fine ones, down to a quarter
of the input's resolution. Every cell there says whether an object's centre is in it and how far its box
reaches (Zhou et al. 2019, "Objects as Points"; box distances as in Tian et al. 2019, "FCOS"). Classes and
masks are read only from the boxes: each is looked at closely, which gives the class, and the weights
of a tiny convolutional network that draws the mask (Tian et al. 2020, "CondInst").
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from torchvision.ops import roi_align

STRIDE = 4  # pixels a cell
COARSEST = 32  # both sides of the input must be multiples of it
MASK_CHANNELS = 8
_LAYERS = ((MASK_CHANNELS + 2, MASK_CHANNELS), (MASK_CHANNELS, MASK_CHANNELS), (MASK_CHANNELS, 1))
REACH = 1.25  # how much larger than the box the looked-at region is
CONTROLS = sum(made * (held + 1) for held, made in _LAYERS)  # weights and biases of one mask's network


class CentreNet(nn.Module):
    """See above. With the default width and six classes it has about a million weights.

    Args:
        classes: how many.
        width: channels of the first stage; the later ones have 2, 3, 5 and 4 times as many.
        masks: whether masks can be read.
        half: typical half side of an object in cells: where box distances start from.
    """

    def __init__(self, classes: int, width: int = 24, masks: bool = False, half: float = 4.0):
        super().__init__()
        stages = (width, 2 * width, 3 * width, 5 * width, 4 * width)
        neck = max(16, 8 * round(width / 3))
        self.stem = _conv(3, stages[0], 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(a, b, 3, 2), Residual(b)) for a, b in pairwise(stages)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(c, neck, 1) for c in stages[1:])
        # What a coarse level says of a long object is blurred by its cells: sharpened on the way.
        self.smooth = nn.ModuleList(_conv(neck, neck, 3) for _ in range(len(stages) - 3))
        self.merge = _conv(neck, neck, 3)
        self.centre = nn.Conv2d(neck, 1, 1)
        self.box = nn.Conv2d(neck, 4, 1)
        self.view = nn.Conv2d(neck, neck // 2, 1)
        self.reader = Reader(neck // 2, max(8, 2 * width // 3), classes, masks)
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
        """Of images (n, 3, H, W): centre logits (n, h, w), log box distances in cells (n, 4, h, w: left,
        top, right, bottom), what the reader looks at (n, c, h, w), the masks' canvas (n, 8, h, w).
        """
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        y = self.laterals[-1](levels[-1])
        blends = [*self.smooth, self.merge]
        for level, lateral, blend in zip(levels[-2::-1], list(self.laterals)[-2::-1], blends, strict=True):
            y = blend(nnf.interpolate(y, scale_factor=2.0, mode="bilinear") + lateral(level))
        neck = y
        canvas = None if self.canvas is None else self.canvas(neck).float()
        return self.centre(neck)[:, 0].float(), self.box(neck).float(), self.view(neck).float(), canvas


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
    """Looks at each box closely, whatever its size, and says what class it is, or that it is nothing, and, by
    the weights of a tiny network, how its mask is drawn.

    A window around the box is sampled twice (RoIAlign of He et al. 2017, "Mask R-CNN"): 32×32 of the image
    itself, for detail that a quarter of the resolution has lost, and 8×8 of the network's features, for what
    is around it. To read so costs little, since objects cover little of a picture.
    """

    def __init__(self, channels: int, width: int, classes: int, masks: bool):
        super().__init__()
        self.close = nn.Sequential(
            _conv(3, width, 3),
            nn.MaxPool2d(2),
            _conv(width, 2 * width, 3),
            _conv(2 * width, 2 * width, 3),
            nn.MaxPool2d(2),
        )
        self.both = nn.Sequential(
            _conv(2 * width + channels, 4 * width, 3), _conv(4 * width, 4 * width, 3), nn.MaxPool2d(2)
        )
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * width, 8 * width), nn.LayerNorm(8 * width), nn.ReLU()
        )
        self.names = nn.Linear(8 * width, 1 + classes)
        self.controls = nn.Linear(8 * width, CONTROLS) if masks else None

    def forward(
        self, pixels: Tensor, view: Tensor, image: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of nothing and the classes (k, 1 + K) and mask controls (k, CONTROLS) of k boxes.

        Args:
            pixels: the batch (n, 3, H, W).
            view: its features (n, c, h, w).
            image: (k,) which image a box is in.
            boxes: (k, 4) xyxy in cells.
        """
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (REACH / 2)
        places = torch.cat([image[:, None].float(), middle - half, middle + half], dim=1)
        near = roi_align(pixels, places, 32, spatial_scale=STRIDE, aligned=True)
        wide = roi_align(view, places, 8, sampling_ratio=2, aligned=True)
        x = self.close(near.contiguous(memory_format=torch.channels_last))
        x = self.hidden(self.both(torch.cat([x, wide.to(x.dtype)], dim=1))).float()
        names = self.names(x).float()
        controls = None if self.controls is None else self.controls(x).float()
        return names, controls


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
