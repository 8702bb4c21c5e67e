"""Training of a detector: a fixed number of optimiser steps on crops, seeded, resumable to the bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as nnf

from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.errors import DataError, ModelError
from imgsynth.learn.centre import STRIDE, CentreNet, draw_masks
from imgsynth.learn.classify import normalized, to_tensor
from imgsynth.learn.crops import Augment, Working, random_crop, working_size
from imgsynth.learn.detect import Detector, DetectorConfig, build_detector
from imgsynth.learn.loop import (
    Checkpoint,
    Progress,
    ahead,
    batches,
    chances_of,
    fingerprint_of,
    optimise,
    resolve_precision,
    seed_of,
    threads,
)
from imgsynth.learn.start import start_from
from imgsynth.learn.store import seeded
from imgsynth.learn.targets import Targets, Truth, box_loss, centre_loss, mask_loss, targets_of
from imgsynth.learn.torchvision_detect import TorchvisionDetector

ASTRAY = 0.06  # of the box's sides, standard deviation of its edges
FURTHER = 0.14  # the same where masks are drawn: they are to be found from poor boxes too
FAR = 0.01  # height of the centre Gaussians below which a place is background
DOUBT = 0.5  # weight of a look at background, beside one at an object
SMOOTHING = 0.05  # of class labels
MOST_MASKS = 96  # of a batch that a step learns from, chosen by chance
LARGEST_SIDE = 1600  # of the working size, if it is chosen here


def train_detector(
    data: AnnotatedImages,
    config: DetectorConfig | None = None,
    *,
    seed: int,
    weights: ArrayLike | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 200,
) -> Detector:
    """Train on `data`; the result depends on data, config and seed only.

    On one machine, at one number of threads, it does so to the bit. Photographs are decoded once and kept at
    the working size, up to 2 GiB of them.

    Args:
        data: the images with their boxes, and masks if the configuration asks for masks.
        config: how; the default suits photographs of small objects.
        seed: of the weights, the batches and the crops.
        weights: (n,) relative chance of each image, for instance to show scarce real images as often as
            plentiful synthetic ones; None: all alike. Besides, an image's chance grows with the square root
            of how many objects it has, since a crop shows but a part of a crowded one.
        progress: called after every step with (steps done, steps in all, loss).
        checkpoint: file that holds the state every `checkpoint_every` steps, and at the end. Where it exists,
            training goes on from it.
        checkpoint_every: steps between two writes of it.

    Raises:
        DataError: no object, no masks where they are wanted, an image that cannot be read, weights that do
            not fit.
        ModelError: an unknown net, a checkpoint of another run, a loss that is not finite.
    """
    config = config or DetectorConfig()
    _check(data, config)
    side, unit = working_side(data, config)
    count = config.threads or min(4, os.cpu_count() or 1)
    precision = _precision(config)
    chances = _image_chances(data, chances_of(weights, len(data)))
    with threads(count), seeded(seed_of(seed, "weights")):
        net = build_detector(config, len(data.classes), unit)
        left = None
        if config.weights is not None:
            left = start_from(net, Path(config.weights), data.classes)
        net = net.to(memory_format=torch.channels_last)
        digest = data.digest()
        kept = None
        if checkpoint is not None:
            settings = {**asdict(config), "precision": precision, "threads": count}
            kept = Checkpoint(checkpoint, checkpoint_every, fingerprint_of(settings, seed, digest, chances))
        loss = _run(net, Working(data, side), config, seed, chances, precision, unit, progress, kept)
    net.eval()
    record: dict[str, Any] = {
        "seed": seed,
        "data": {
            "name": data.name,
            "images": len(data),
            "objects": len(data.owner),
            "digest": digest,
            "weighted": weights is not None,
        },
        "side": side,
        "started_from": None if left is None else {"weights": config.weights, "left_as_drawn": left},
        "precision": precision,
        "threads": count,
        "torch": str(torch.__version__),
        "final_loss": loss,
    }
    return Detector(net, config, data.classes, side, unit, record)


def _image_chances(data: AnnotatedImages, weights: Tensor | None) -> Tensor:
    counts = np.bincount(data.owner[~data.ignored], minlength=len(data))
    chances = torch.from_numpy(np.sqrt(np.maximum(counts, 1.0)))
    if weights is not None:
        chances = chances * weights
    return chances / chances.sum()


def _precision(config: DetectorConfig) -> str:
    """fp32 or bf16; torchvision's networks hold parts that know no bf16."""
    if config.net == "compact":
        return resolve_precision(config.precision, (config.crop, config.crop))
    if config.precision == "bf16":
        raise ModelError(f"detector: precision: {config.net} trains in fp32 only")
    return "fp32"


def _check(data: AnnotatedImages, config: DetectorConfig) -> None:
    if len(data) == 0 or not np.any(~data.ignored):
        raise DataError(f"{data.name}: {len(data)} images, no object; training needs some")
    if config.masks and (data.masks is None or not any(data.masks)):
        raise DataError(f"{data.name}: has no masks; --task detect learns from boxes alone")


def working_side(data: AnnotatedImages, config: DetectorConfig) -> tuple[int, float]:
    """The side of the working size (its area's square root) and a typical object's side there.

    Images are not enlarged beyond the largest of them, and not beyond 1600² pixels.
    """
    sides = np.sqrt(data.sizes.prod(axis=1).astype(float))
    b = data.boxes[~data.ignored]
    share = np.sqrt(np.maximum(b[:, 2] - b[:, 0], 1) * np.maximum(b[:, 3] - b[:, 1], 1))
    share = float(np.median(share / sides[data.owner[~data.ignored]]))
    side = config.side or round(min(config.object_px / share, float(sides.max()), LARGEST_SIDE))
    side = max(side, 32)
    return side, share * side


def _run(
    net: CentreNet | TorchvisionDetector,
    working: Working,
    config: DetectorConfig,
    seed: int,
    chances: Tensor,
    precision: str,
    unit: float,
    progress: Progress | None,
    checkpoint: Checkpoint | None,
) -> float:
    """The optimiser steps; returns the last loss."""
    augment = Augment(config.scale, config.flip, config.turn, config.color)
    compact = isinstance(net, CentreNet)
    size = crop_size(working, None if not compact and net.whole else config.crop)
    cell = (STRIDE if compact else 1) if config.masks else None

    def crops(start: int) -> Iterator[Crops]:
        for step, rows in enumerate(batches(len(working.data), config, seed, chances, start), start):
            rng = np.random.default_rng(seed_of(seed, "crops", step))
            made = [random_crop(working, int(i), size, augment, rng, cell) for i in rows]
            truths = [truth for _, truth in made]
            targets = targets_of(truths, (size, size)) if compact else None
            yield Crops(to_tensor(np.stack([image for image, _ in made])), truths, targets, rng)

    def objective(step: int, batch: Crops) -> Tensor:
        torch.manual_seed(seed_of(seed, "net", step))  # torchvision's samplers draw from it
        if isinstance(net, TorchvisionDetector):
            return net.loss(batch.pixels.float() / 255, batch.truths)
        assert batch.targets is not None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return losses(net, normalized(batch.pixels), batch.targets, unit, batch.rng)

    return optimise(
        net,
        config,
        lambda start: ahead(crops(start)),
        objective,
        progress=progress,
        checkpoint=checkpoint,
        clip=config.clip,
    )


@dataclass(frozen=True)
class Crops:
    """What one step learns from."""

    pixels: Tensor  # (n, 3, side, side) uint8
    truths: list[Truth]
    targets: Targets | None  # None for torchvision's nets, which make their own
    rng: np.random.Generator  # of the step's further choices


def crop_size(working: Working, wanted: int | None) -> int:
    """Side of the crops: as wanted, or what holds every image whole if that is less."""
    sizes = np.unique(working.data.sizes, axis=0)
    largest = max(max(working_size((int(h), int(w)), working.side)) for h, w in sizes)
    return min(wanted or largest + 31, -(-largest // 32) * 32)


def losses(net: CentreNet, x: Tensor, targets: Targets, unit: float, rng: np.random.Generator) -> Tensor:
    """The sum that training lessens on crops `x` (n, 3, H, W): centres, boxes, classes, masks."""
    logits, distances, view, canvas = net(x.contiguous(memory_format=torch.channels_last))
    loss = centre_loss(logits, targets)
    if len(targets.cell):
        image, row, column = targets.cell.T
        reach = torch.exp(distances[image, :, row, column].clamp(max=10))
        loss = loss + 2 * box_loss(reach, targets)
    k = len(targets.centre)
    wrong, looks = _mistaken(logits.detach(), distances.detach(), targets)
    astray = ASTRAY if canvas is None else FURTHER
    looks = torch.cat([targets.whole + _jitter(targets.whole, astray, rng), looks])
    names, controls = net.reader(x, view, torch.cat([targets.centre[:, 0], wrong]), looks)
    label = torch.cat([targets.label + 1, torch.zeros_like(wrong)])
    each = nnf.cross_entropy(names, label, label_smoothing=SMOOTHING, reduction="none")
    loss = loss + (each[:k].sum() + DOUBT * each[k:].sum()) / max(1.0, k + DOUBT * len(wrong))
    if controls is not None and canvas is not None and len(targets.drawn):
        some = torch.from_numpy(rng.permutation(len(targets.drawn))[:MOST_MASKS])
        at = targets.centre[targets.drawn[some]]
        height, width = canvas.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        offset = torch.stack([columns - at[:, 2, None, None], rows - at[:, 1, None, None]], dim=1)
        with torch.autocast("cpu", enabled=False):
            drawn = draw_masks(
                canvas[at[:, 0]].flatten(2),
                controls[targets.drawn[some]],
                offset.float().flatten(2) * (STRIDE / unit),
            )
        loss = loss + mask_loss(drawn, targets.masks[some].flatten(1))
    return loss


def _mistaken(logits: Tensor, distances: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The places without an object that look most like one: image (j,) and box (j, 4: xyxy in cells)."""
    away = (targets.heat < FAR) & (targets.counts > 0)
    doubtful = logits.masked_fill(~away, -torch.inf)
    doubtful = doubtful.masked_fill(doubtful < nnf.max_pool2d(doubtful, 3, 1, 1), -torch.inf)
    j = min(2 * len(logits), int(torch.isfinite(doubtful).sum()))
    at = doubtful.flatten().topk(j).indices
    height, width = logits.shape[1:]
    image, row, column = at // (height * width), at // width % height, at % width
    reach = torch.exp(distances[image, :, row, column].clamp(max=10))
    here = torch.stack([column, row], dim=1) + 0.5
    boxes = torch.cat([here - reach[:, :2], here + reach[:, 2:]], dim=1)
    return image, boxes.clamp(-width, 2 * width)


def _jitter(boxes: Tensor, astray: float, rng: np.random.Generator) -> Tensor:
    """What to add to boxes (k, 4) so that they err as found ones do."""
    side = torch.cat([boxes[:, 2:] - boxes[:, :2]] * 2, dim=1)
    return torch.from_numpy(rng.normal(0, astray, tuple(boxes.shape)).astype(np.float32)) * side
