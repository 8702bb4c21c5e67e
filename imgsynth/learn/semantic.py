"""A semantic segmenter for small images: the class of every pixel, from a compact U-shaped network.

It is what images whose masks were generated are checked with: trained on renders, it has never seen the
generator, so where it and a generated mask agree, the picture shows what the mask says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgsynth.batch import F32, U8
from imgsynth.errors import DataError, ModelError
from imgsynth.learn.classify import normalized, to_tensor
from imgsynth.learn.loop import (
    Checkpoint,
    Progress,
    batches,
    fingerprint_of,
    generator_of,
    optimise,
    resolve_precision,
    seed_of,
    threads,
)
from imgsynth.learn.settings import check_names, check_ranges
from imgsynth.learn.store import fits_record, read_record, read_tensors, save_model, seeded

TASK = "semantic"


@dataclass(frozen=True)
class SegmenterConfig:
    """How to train; the defaults suit images of 32 pixels on two cores.

    Raises:
        ModelError: on construction, for a value out of range.
    """

    width: int = 24  # channels at full size; twice and four times that at half and quarter size
    steps: int = 1500
    batch: int = 64
    lr: float = 3e-3  # at its peak; AdamW, linear warm-up, then half a cosine to 0
    weight_decay: float = 0.02
    warmup: float = 0.1  # share of the steps
    flips: bool = True  # mirror images left to right, half of the time
    precision: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "width": (4, 512),
            "steps": (1, 10**8),
            "batch": (2, 65536),
            "lr": (1e-9, 1e3),
            "weight_decay": (0, 10),
            "warmup": (0, 1),
            "threads": (1, 1024),
        }
        check_ranges("segmenter", self, ranges, ("width", "steps", "batch", "threads"))
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ModelError(f"segmenter: precision: expected auto, bf16 or fp32, got {self.precision!r}")

    @staticmethod
    def of(values: Mapping[str, Any]) -> SegmenterConfig:
        """A configuration from plain values, as a file holds them.

        Raises:
            ModelError: an unknown name (with the nearest known one) or a value out of range.
        """
        check_names("segmenter", values, list(SegmenterConfig.__dataclass_fields__))
        return SegmenterConfig(**values)


class PixelNet(nn.Module):
    """Three sizes (1, ½, ¼), two 3×3 convolutions at each on the way down and one on the way up (Ronneberger
    et al., "U-Net", 2015), batch norm, ReLU.
    """

    def __init__(self, channels: int, outputs: int, width: int):
        super().__init__()
        w = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList(
            [
                nn.Sequential(_conv(channels, w[0]), _conv(w[0], w[0])),
                nn.Sequential(nn.MaxPool2d(2), _conv(w[0], w[1]), _conv(w[1], w[1])),
                nn.Sequential(nn.MaxPool2d(2), _conv(w[1], w[2]), _conv(w[2], w[2])),
            ]
        )
        self.up = nn.ModuleList([_conv(w[2] + w[1], w[1]), _conv(w[1] + w[0], w[0])])
        self.head = nn.Conv2d(w[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, outputs, H, W) of images (n, channels, H, W)."""
        held = []
        for stage in self.down:
            x = stage(x)
            held.append(x)
        for stage, beside in zip(self.up, held[-2::-1], strict=True):
            x = nn.functional.interpolate(x, size=beside.shape[-2:], mode="nearest")
            x = stage(torch.cat([x, beside], dim=1))
        out: Tensor = self.head(x)
        return out


@dataclass(frozen=True)
class Segmenter:
    """A trained network with all that is needed to use it. Output 0 is background, k is `classes[k - 1]`."""

    net: PixelNet
    config: SegmenterConfig
    classes: tuple[str, ...]
    channels: int
    record: Mapping[str, Any] = field(default_factory=dict)

    def chances(self, images: U8, batch: int = 64) -> F32:
        """Chances (n, K + 1, H, W) of each pixel's classes, for images (n, H, W, C) uint8.

        Networks run on batches of one size, the last one filled up, so an image's figures do not depend on
        its neighbours.

        Raises:
            ModelError: for anything but such an array.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels:
            raise ModelError(
                f"segmenter: expected uint8 (n, H, W, {self.channels}), got {images.dtype} {images.shape}"
            )
        precision = resolve_precision(self.config.precision, images.shape[1:3])
        out = np.empty((len(images), len(self.classes) + 1, *images.shape[1:3]), np.float32)
        self.net.eval()
        with threads(self.config.threads), torch.inference_mode():
            for start in range(0, len(images), batch):
                rows = np.arange(start, min(start + batch, len(images)))
                at = np.concatenate([rows, np.repeat(rows[-1:], batch - len(rows))])
                x = normalized(to_tensor(images[at])).contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    logits = self.net(x)
                out[rows] = torch.softmax(logits.float(), dim=1)[: len(rows)].numpy()
        return out

    def predict(self, images: U8) -> U8:
        """Class ids (n, H, W), 0 = background, of images as in `chances`."""
        parts = [self.chances(images[k : k + 1024]).argmax(axis=1) for k in range(0, len(images), 1024)]
        return np.concatenate([np.zeros((0, *images.shape[1:3]), np.uint8), *parts]).astype(np.uint8)

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and model.json. Raises ModelError if the folder cannot be written."""
        about = {
            "config": asdict(self.config),
            "classes": list(self.classes),
            "channels": self.channels,
            "record": dict(self.record),
        }
        save_model(folder, self.net, TASK, about)

    @staticmethod
    def load(folder: str | Path) -> Segmenter:
        """The model of a folder that `save` wrote.

        Raises:
            ModelError: missing, damaged, or of another kind.
        """
        record = read_record(folder, (TASK,))
        with fits_record(folder):
            config = SegmenterConfig.of(record["config"])
            classes, channels = tuple(str(c) for c in record["classes"]), int(record["channels"])
            net = PixelNet(channels, len(classes) + 1, config.width)
            net.load_state_dict(read_tensors(folder, record))
        return Segmenter(net, config, classes, channels, record["record"])


def train_segmenter(
    images: U8,
    semantic: NDArray[np.integer[Any]],
    classes: tuple[str, ...],
    config: SegmenterConfig | None = None,
    *,
    seed: int,
    digest: str = "",
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Segmenter:
    """Train on images (n, H, W, C) uint8 and class ids (n, H, W), 0 = background; the result depends on them,
    config and seed only.

    `digest` says which data it was, for the record and for the checkpoint (written every 250 steps).

    Raises:
        DataError: arrays that do not fit each other.
        ModelError: a checkpoint of another run, a loss that is not finite.
    """
    config = config or SegmenterConfig()
    if len(images) == 0 or semantic.shape != images.shape[:3] or semantic.max() > len(classes):
        raise DataError(
            f"segmenter: expected class ids 0 to {len(classes)} of shape {images.shape[:3]}, "
            f"got {semantic.shape}"
        )
    precision = resolve_precision(config.precision, images.shape[1:3])
    pixels, truth = to_tensor(images), torch.from_numpy(semantic.astype(np.uint8))
    with threads(config.threads), seeded(seed_of(seed, "weights")):
        net = PixelNet(images.shape[3], len(classes) + 1, config.width).to(memory_format=torch.channels_last)
        kept = None
        if checkpoint is not None:
            plain = {**asdict(config), "precision": precision, "classes": list(classes)}
            kept = Checkpoint(checkpoint, 250, fingerprint_of(plain, seed, digest, None))

        def objective(step: int, rows: Tensor) -> Tensor:
            x, y = normalized(pixels[rows]), truth[rows].long()
            if config.flips:
                turned = torch.rand(len(rows), generator=generator_of(seed, "flip", step)) < 0.5
                x[turned], y[turned] = x[turned].flip(3), y[turned].flip(2)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = net(x.contiguous(memory_format=torch.channels_last))
            return nn.functional.cross_entropy(logits.float(), y)

        loss = optimise(
            net,
            config,
            lambda start: batches(len(images), config, seed, None, start),
            objective,
            progress=progress,
            checkpoint=kept,
        )
        net.eval()
    record = {"seed": seed, "images": len(images), "digest": digest, "final_loss": loss}
    return Segmenter(net, config, classes, int(images.shape[3]), record)


def _conv(held: int, made: int) -> nn.Sequential:
    conv = nn.Conv2d(held, made, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(made), nn.ReLU(inplace=True))


def mean_iou(found: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], classes: int) -> F32:
    """IoU of each class id 0 … `classes`, background among them, over all pixels of all images; NaN for a
    class that neither shows (Everingham et al., "The Pascal VOC challenge: a retrospective", 2015, §4.2).
    """
    hits = np.array([((found == k) & (truth == k)).sum() for k in range(classes + 1)], np.float64)
    either = np.array([((found == k) | (truth == k)).sum() for k in range(classes + 1)], np.float64)
    with np.errstate(invalid="ignore"):
        return (hits / either).astype(np.float32)
