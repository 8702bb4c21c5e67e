"""Training of a classifier: a fixed number of optimiser steps, seeded throughout, resumable to the bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError
from imgsynth.learn.classify import Classifier, ClassifierConfig, normalized, to_tensor
from imgsynth.learn.loop import (
    Checkpoint,
    Progress,
    batches,
    chances_of,
    fingerprint_of,
    generator_of,
    optimise,
    resolve_precision,
    seed_of,
    threads,
)
from imgsynth.learn.mixing import cutmix, log_prior, randaugment
from imgsynth.learn.nets import build_net, input_channels, load_weights
from imgsynth.learn.store import seeded

AFFINE_SD = 0.1  # of the map's entries: 10 % scale and shear, 0.1 rad, 5 % of the image's side


def train_classifier(
    data: LabelledImages,
    config: ClassifierConfig | None = None,
    *,
    seed: int,
    validation: LabelledImages | None = None,
    weights: ArrayLike | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
) -> Classifier:
    """Train on `data`; the result depends on data, config and seed only.

    On one machine, at one number of threads, it does so to the bit.

    Args:
        data: the images, all held in memory.
        config: how; the default suits small images.
        seed: of the weights, the batches and the augmentation.
        validation: if given, its accuracy after the last step goes into `record`. Nothing is chosen by it.
        weights: (n,) relative chance of each row to be drawn (with replacement), for instance to show scarce
            real images as often as plentiful synthetic ones; None: every row once an epoch.
        progress: called after every step with (steps done, steps in all, loss).
        checkpoint: file that holds the state every `checkpoint_every` steps, and at the end. Where it exists,
            training goes on from it.
        checkpoint_every: steps between two writes of it.

    Raises:
        DataError: no image, weights that do not fit, a validation class that is unknown.
        ModelError: an unknown net, weights that do not fit it, a checkpoint of another run, a loss that is
            not finite.
    """
    config = config or ClassifierConfig()
    if len(data) == 0 or len(data.classes) < 2:
        raise DataError(
            f"{data.name}: {len(data)} images of {len(data.classes)} classes; training needs images of ≥ 2"
        )
    size = data.size if config.image_size is None else (config.image_size, config.image_size)
    fitted = data.fitted(size, input_channels(config.net, data.channels))
    precision = resolve_precision(config.precision, size)
    chances = chances_of(weights, len(data))
    with threads(config.threads), seeded(seed_of(seed, "weights")):
        net = build_net(config.net, size, fitted.channels, len(data.classes), config.width, config.dropout)
        if config.weights is not None:
            load_weights(net, Path(config.weights))
        net = net.to(memory_format=torch.channels_last)
        kept = None
        if checkpoint is not None:
            settings = {**asdict(config), "precision": precision}
            kept = Checkpoint(
                checkpoint, checkpoint_every, fingerprint_of(settings, seed, data.digest(), chances)
            )
        loss = _run(net, fitted, config, seed, chances, precision, progress, kept)
        net.eval()
        record: dict[str, Any] = {
            "seed": seed,
            "data": {
                "name": data.name,
                "images": len(data),
                "digest": data.digest(),
                "weighted": chances is not None,
            },
            "precision": precision,
            "torch": str(torch.__version__),
            "final_loss": loss,
        }
        model = Classifier(net, config, data.classes, size, fitted.channels, record)
        if validation is not None:
            target = validation.aligned(data.classes)
            hits = model.predict(target.images).argmax(axis=1) == target.labels
            record["validation"] = {
                "name": target.name,
                "images": len(target),
                "accuracy": float(hits.mean()),
            }
    return model


def _run(
    net: nn.Module,
    data: LabelledImages,
    config: ClassifierConfig,
    seed: int,
    chances: Tensor | None,
    precision: str,
    progress: Progress | None,
    checkpoint: Checkpoint | None,
) -> float:
    """The optimiser steps; returns the last loss."""
    images, labels = to_tensor(data.images), torch.from_numpy(np.ascontiguousarray(data.labels))
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    prior = config.logit_adjustment * log_prior(labels, len(data.classes), chances)

    def objective(step: int, rows: Tensor) -> Tensor:
        # Dropout draws from the global generator; within `seeded`, so the caller's is untouched.
        torch.manual_seed(seed_of(seed, "dropout", step))
        shown, y = images[rows], labels[rows]
        if config.randaugment:
            shown = randaugment(shown, config.randaugment, generator_of(seed, "randaugment", step))
        x = normalized(shown)
        if config.augment:
            x = augment(x, generator_of(seed, "augment", step))
        partner, own = None, 1.0
        if config.cutmix:
            draw = generator_of(seed, "cutmix", step)
            if float(torch.rand((), generator=draw)) < config.cutmix:
                x, partner, own = cutmix(x, draw)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(x.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        if config.logit_adjustment:
            logits = logits + prior
        loss: Tensor = criterion(logits, y)
        return loss if partner is None else own * loss + (1 - own) * criterion(logits, y[partner])

    return optimise(
        net,
        config,
        lambda start: batches(len(data), config, seed, chances, start),
        objective,
        progress=progress,
        checkpoint=checkpoint,
    )


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """A small random affine map of each image (n, C, H, W), sampled bilinearly; outside, its border goes on.

    Each of the six numbers of the map (in units of half the image) strays from the identity with standard
    deviation `AFFINE_SD`.
    """
    n = x.shape[0]
    stray = AFFINE_SD * torch.randn((n, 2, 3), generator=generator)
    theta = stray + torch.eye(2, 3)
    grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
