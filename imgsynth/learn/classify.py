"""A trained image classifier: its configuration, prediction, and its form on disk (never pickle)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgsynth.batch import F32, U8
from imgsynth.dataset.labelled import recolor, resize
from imgsynth.errors import ModelError
from imgsynth.learn.nets import build_net
from imgsynth.learn.settings import check_names, check_ranges
from imgsynth.learn.store import fits_record, read_record, read_tensors, save_model, seeded

PIXEL_MEAN, PIXEL_STD = (
    0.5,
    0.25,
)  # of pixels in 0..1; the same whatever the data, so that only the data differs


@dataclass(frozen=True)
class ClassifierConfig:
    """How to train; the same for every arm of a study. The defaults suit small images and two cores.

    Training always takes `steps` optimiser steps of `batch` images, however many images there are: arms of
    different sizes are compared at equal compute.

    Raises:
        ModelError: on construction, for a value out of range.
    """

    net: str = "compact"  # or torchvision:NAME
    width: int = 16  # channels of the compact net's first stage
    steps: int = 600
    batch: int = 64
    lr: float = 4e-3  # at its peak; AdamW, linear warm-up, then half a cosine to 0
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps
    label_smoothing: float = 0.05
    dropout: float = 0.0  # before the read-out (compact net)
    augment: bool = True  # small random affine maps (trainer.augment)
    precision: str = "auto"  # fp32, bf16, or auto: bf16 where it is faster (trainer.resolve_precision)
    threads: int = 1  # of torch; the same number gives the same bits
    image_size: int | None = None  # train on squares of this side; None: the data's size
    weights: str | None = None  # file to start from (.safetensors or .pth)
    randaugment: float = 0.0  # magnitude, 0 to 30; 0: none (mixing.randaugment)
    cutmix: float = 0.0  # share of the batches that are mixed (mixing.cutmix)
    logit_adjustment: float = 0.0  # τ of Menon et al. 2021, eq. 10: logits + τ log prior, in training

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "width": (1, 1024),
            "steps": (1, 10**8),
            "batch": (2, 65536),
            "lr": (1e-9, 1e3),
            "weight_decay": (0, 10),
            "warmup": (0, 1),
            "label_smoothing": (0, 0.99),
            "dropout": (0, 0.99),
            "threads": (1, 1024),
            "randaugment": (0, 30),
            "cutmix": (0, 1),
            "logit_adjustment": (0, 10),
        }
        if self.image_size is not None:
            ranges["image_size"] = (4, 1024)
        whole = ("width", "steps", "batch", "threads", "image_size")
        check_ranges("classifier", self, ranges, whole)
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ModelError(f"classifier: precision: expected auto, bf16 or fp32, got {self.precision!r}")
        if not isinstance(self.augment, bool):
            raise ModelError(f"classifier: augment: expected true or false, got {self.augment!r}")
        if not isinstance(self.net, str) or not isinstance(self.weights, str | None):
            raise ModelError("classifier: net and weights: expected text")

    @staticmethod
    def of(values: Mapping[str, Any]) -> ClassifierConfig:
        """A configuration from plain values, as a file holds them.

        Raises:
            ModelError: an unknown name (with the nearest known one) or a value out of range.
        """
        check_names("classifier", values, [f.name for f in fields(ClassifierConfig)])
        return ClassifierConfig(**values)


def suited(classes: int) -> dict[str, Any]:
    """Settings of `ClassifierConfig` for this many classes, for where nobody says: none up to 12 classes.

    Beyond, 50 steps a class and a wider net at a lower rate. Measured on 43 classes of rendered signs, tested
    on GTSRB's validation tracks, 2,000 steps: width 16 at 4e-3 .905, width 24 at 3e-3 .925 (1.6 × the time).
    """
    return {} if classes <= 12 else {"steps": 50 * classes, "width": 24, "lr": 3e-3}


@dataclass(frozen=True)
class Classifier:
    """A trained network with all that is needed to use it and to say where it came from."""

    net: nn.Module
    config: ClassifierConfig
    classes: tuple[str, ...]
    size: tuple[int, int]  # (height, width) it was trained at
    channels: int  # 1 or 3
    record: Mapping[str, Any] = field(
        default_factory=dict
    )  # seed, data names and digests, precision, final loss …

    def predict(self, images: U8, batch: int = 512) -> F32:
        """Class probabilities (n, K) of images (n, H, W, 1 or 3) uint8, which are brought to the trained size
        and channels.

        Raises:
            ModelError: for anything but such an array.
        """
        return torch.softmax(torch.from_numpy(self.logits(images, batch)), dim=1).numpy()

    def logits(self, images: U8, batch: int = 512) -> F32:
        """The net's outputs (n, K) before the softmax, for images as in `predict`: what energy scores need.

        Raises:
            ModelError: as `predict`.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
            raise ModelError(
                f"predict: expected images uint8 (n, H, W, 1 or 3), got {images.dtype} {images.shape}"
            )
        if len(images) == 0:
            return np.zeros((0, len(self.classes)), np.float32)
        self.net.eval()
        made: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                part = recolor(resize(images[start : start + batch], self.size), self.channels)
                made.append(self.net(normalized(to_tensor(part))).float().numpy())
        return np.concatenate(made)

    def features(self, images: U8, batch: int = 256) -> F32:
        """What the net reads its answer from (n, D): the input of its last linear layer, for images as in
        `predict`.

        Every call of the net has `batch` images, the last one filled up, so an image meets the same kernels
        whatever it stands with.

        Raises:
            ModelError: as `predict`.
        """
        held: list[Tensor] = []
        last = [m for m in self.net.modules() if isinstance(m, nn.Linear)][-1]
        images = np.asarray(images)
        hook = last.register_forward_pre_hook(lambda _, given: held.append(given[0].detach().float()))
        try:
            filled = np.concatenate([images, np.repeat(images[:1], -len(images) % batch, axis=0)])
            self.logits(filled, batch)
        finally:
            hook.remove()
        if not held:
            return np.zeros((0, last.in_features), np.float32)
        return np.concatenate([part.numpy() for part in held])[: len(images)]

    def save(self, folder: str | Path) -> None:
        """Write the model's folder (`store.save_model`).

        Raises:
            ModelError: if it cannot be written.
        """
        about = {
            "classes": list(self.classes),
            "size": list(self.size),
            "channels": self.channels,
            "preprocessing": {
                "resize": "area (shrinking) or bilinear",
                "mean": PIXEL_MEAN,
                "std": PIXEL_STD,
            },
            "config": asdict(self.config),
            "record": dict(self.record),
        }
        save_model(folder, self.net, "classify", about)

    @staticmethod
    def load(folder: str | Path) -> Classifier:
        """Read what `save` wrote.

        Raises:
            ModelError: missing, damaged, or not a classifier; saying what to do about it.
        """
        record = read_record(folder, ("classify",))
        tensors = read_tensors(folder, record)
        with fits_record(folder):
            config = ClassifierConfig.of(record["config"])
            classes = tuple(str(c) for c in record["classes"])
            height, width = (int(v) for v in record["size"])
            channels = int(record["channels"])
            if (
                not classes
                or channels not in (1, 3)
                or not 1 <= min(height, width) <= max(height, width) <= 4096
            ):
                raise ValueError(f"{len(classes)} classes, {height}×{width}, {channels} channels")
            with seeded(0):
                net = build_net(
                    config.net, (height, width), channels, len(classes), config.width, config.dropout
                )
            net.load_state_dict(tensors)
        net.eval()
        net = net.to(memory_format=torch.channels_last)
        return Classifier(net, config, classes, (height, width), channels, record.get("record", {}))


def to_tensor(images: U8) -> Tensor:
    """Images (n, H, W, C) as a uint8 tensor (n, C, H, W), channels-last in memory as they already are."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def normalized(images: Tensor) -> Tensor:
    """uint8 or float (0..255) pixels as the network takes them: (x/255 − mean)/std."""
    return images.float().mul_(1 / (255 * PIXEL_STD)).sub_(PIXEL_MEAN / PIXEL_STD)
