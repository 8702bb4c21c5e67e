"""What the centre-point network should say about a crop, cell by cell, and the losses that compare.

Centres are Gaussians on the grid of cells, as wide as the object (Zhou et al. 2019; the elliptic form of Liu
et al. 2020, "TTFNet"); boxes are asked of the cells near a centre, weighted by the same Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as nnf

from imgsynth.batch import F32, I64
from imgsynth.learn.centre import STRIDE

SPREAD = 0.54 / 6  # standard deviation of the Gaussian, per side of the box (TTFNet), at least the mean one
INSIDE = 0.05  # weight of a cell of an object's mask in learning its box, beside 1 at its centre
NEAR = 0.3  # height of the Gaussian from which a cell answers for the object


@dataclass(frozen=True)
class Truth:
    """The objects of one crop: boxes xyxy in its pixels, and whether each is only to be left alone."""

    boxes: F32  # (k, 4)
    labels: I64  # (k,)
    ignored: NDArray[np.bool_]  # (k,)
    masks: Sequence[F32 | None] | None = None  # coverage (h, w) by cell in [0, 1] of those that have masks


@dataclass(frozen=True)
class Targets:
    """Of a batch of n crops with k objects and c answering cells."""

    heat: Tensor  # (n, h, w) in [0, 1], 1 at a centre
    counts: Tensor  # (n, h, w) 0 where nothing may be said about centres (ignored objects)
    cell: Tensor  # (c, 3) image, row, column
    weight: Tensor  # (c,) adds up to 1 over an object
    box: Tensor  # (c, 4) distances to left, top, right, bottom in cells
    centre: Tensor  # (k, 3) image, row, column of each object's centre cell
    whole: Tensor  # (k, 4) box of each object, xyxy in cells
    label: Tensor  # (k,)
    drawn: Tensor  # (m,) which objects have masks
    masks: Tensor  # (m, h, w) their coverage


def targets_of(truths: Sequence[Truth], size: tuple[int, int]) -> Targets:
    """Targets for crops of `size` (height, width) pixels, multiples of the stride."""
    h, w = size[0] // STRIDE, size[1] // STRIDE
    heat = np.zeros((len(truths), h, w), np.float32)
    counts = np.ones((len(truths), h, w), np.float32)
    cells, weights, boxes, centres = [], [], [], []
    drawn, masks = [], [np.zeros((0, h, w), np.float32)]
    wholes, labels = [np.zeros((0, 4))], [np.zeros(0, np.int64)]
    for n, truth in enumerate(truths):
        owner, best = np.full((h, w), -1), np.zeros((h, w), np.float32)
        scaled = truth.boxes / STRIDE
        for x0, y0, x1, y1 in scaled[truth.ignored]:
            counts[n, _span(y0, y1, h), _span(x0, x1, w)] = 0
        for j in np.flatnonzero(~truth.ignored).tolist():
            x0, y0, x1, y1 = scaled[j]
            row, column = _cell((y0 + y1) / 2, h), _cell((x0 + x1) / 2, w)
            least = float(np.sqrt((x1 - x0) * (y1 - y0)))  # across a thin object a bell would be a needle
            bell = np.outer(_bell(h, row, max(y1 - y0, least)), _bell(w, column, max(x1 - x0, least)))
            np.maximum(heat[n], bell, out=heat[n])
            mine = (bell >= NEAR) & (bell > best)
            owner[mine], best[mine] = j, bell[mine]
            counts[n, row, column] = 1
            centres.append((n, row, column))
            mask = None if truth.masks is None else truth.masks[j]
            if mask is not None:
                # Few cells are near a centre; from all that see the object, extents are learnt much sooner.
                part = np.where((mask >= 0.5) & (best < INSIDE), np.float32(INSIDE), np.float32(0))
                owner[part > 0], best[part > 0] = j, part[part > 0]
                drawn.append(len(centres) - 1)
                masks.append(mask[None])
        rows, columns = np.nonzero(owner >= 0)
        mine = owner[rows, columns]
        share = best[rows, columns]
        total = np.bincount(mine, share, minlength=len(scaled))
        here = np.stack([columns + 0.5, rows + 0.5], 1)
        cells.append(np.stack([np.full(len(rows), n), rows, columns], 1))
        weights.append(share / total[mine])
        boxes.append(np.concatenate([here - scaled[mine, :2], scaled[mine, 2:] - here], 1))
        wholes.append(scaled[~truth.ignored])
        labels.append(truth.labels[~truth.ignored])
    counts[heat == 1] = 1
    return Targets(
        torch.from_numpy(heat),
        torch.from_numpy(counts),
        torch.from_numpy(np.concatenate(cells).astype(np.int64)),
        torch.from_numpy(np.concatenate(weights).astype(np.float32)),
        torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
        torch.from_numpy(np.array(centres, np.int64).reshape(-1, 3)),
        torch.from_numpy(np.concatenate(wholes).astype(np.float32)),
        torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        torch.tensor(drawn, dtype=torch.int64),
        torch.from_numpy(np.concatenate(masks)),
    )


def _bell(length: int, at: int, side: float) -> F32:
    sd = max(SPREAD * side, 0.4)
    return np.exp(-0.5 * ((np.arange(length) - at) / sd) ** 2).astype(np.float32)


def _cell(at: float, length: int) -> int:
    return min(max(int(at), 0), length - 1)


def _span(low: float, high: float, length: int) -> slice:
    return slice(max(int(np.floor(low)), 0), min(max(int(np.ceil(high)), 0), length))


def centre_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Penalty-reduced focal loss per object (Law & Deng 2018, eq. 1, with α = 2, β = 4)."""
    p = torch.sigmoid(logits)
    at = (targets.heat == 1).float()
    hit = at * (1 - p) ** 2 * nnf.logsigmoid(logits)
    quiet = (1 - at) * (1 - targets.heat) ** 4 * p**2 * nnf.logsigmoid(-logits)
    return -(targets.counts * (hit + quiet)).sum() / max(1, len(targets.centre))


def box_loss(distances: Tensor, targets: Targets) -> Tensor:
    """1 − GIoU (Rezatofighi et al. 2019) of predicted distances (c, 4) in cells, averaged over objects."""
    wanted = targets.box
    overlap = torch.minimum(distances, wanted)
    # A cell may lie outside its box, where a distance is negative: sides stay what they are.
    inner = (overlap[:, :2] + overlap[:, 2:]).clamp(min=0).prod(1)
    area = (distances[:, :2] + distances[:, 2:]).prod(1)
    true = (wanted[:, :2] + wanted[:, 2:]).prod(1)
    hull_sides = torch.maximum(distances, wanted)
    hull = (hull_sides[:, :2] + hull_sides[:, 2:]).prod(1).clamp(min=1e-6)
    union = (area + true - inner).clamp(min=1e-6)
    giou = inner / union - (hull - union) / hull
    return (targets.weight * (1 - giou)).sum() / max(1, len(targets.centre))


def mask_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    """Dice loss (Milletari et al. 2016) plus cross-entropy, of mask logits and coverage (k, p)."""
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * coverage).sum(1) + 1) / ((p**2).sum(1) + (coverage**2).sum(1) + 1)
    area = coverage.sum(1).clamp(min=4)
    # Cells far outside number many: the entropy counts by the object's area, not the crop's.
    entropy = nnf.binary_cross_entropy_with_logits(logits, coverage, reduction="none").sum(1) / (2 * area)
    return (dice + entropy.clamp(max=10)).mean()
