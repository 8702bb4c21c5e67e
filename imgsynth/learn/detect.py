"""A trained detector, of boxes or of masks: its configuration, prediction, and its form on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from imgsynth.dataset.annotated import Detections, Images
from imgsynth.errors import ModelError
from imgsynth.learn.centre import STRIDE, CentreNet
from imgsynth.learn.settings import check_names, check_ranges
from imgsynth.learn.store import fits_record, read_record, read_tensors, save_model, seeded
from imgsynth.learn.torchvision_detect import PREFIX, TorchvisionDetector

MAX_SIDE = 4096  # of the working size
# Where masks are learnt objects are often long: crops that hold them whole, fewer at once, more gently.
FOR_MASKS = {"crop": 256, "batch": 8, "lr": 1.2e-3, "steps": 1800}


@dataclass(frozen=True)
class DetectorConfig:
    """How to train; the same for every arm of a study. The defaults suit photographs and two cores; `of` has
    others for masks (`FOR_MASKS`).

    Training always takes `steps` optimiser steps of `batch` crops of `crop`² pixels, however many images
    there are: arms of different sizes are compared at equal compute.

    Raises:
        ModelError: on construction, for a value out of range.
    """

    net: str = "compact"  # or torchvision:NAME
    masks: bool = False  # instance segmentation
    width: int = 24  # channels of the compact net's first stage
    steps: int = 3000
    batch: int = 16
    lr: float = 2e-3  # at its peak; AdamW, linear warm-up, then half a cosine to 0
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the steps
    clip: float = 5.0  # largest norm of the gradient
    precision: str = "auto"  # fp32, bf16, or auto: bf16 where the CPU has it
    threads: int | None = (
        None  # of torch, in training; None: all cores, four at most. The same number, the same bits
    )
    crop: int = 192  # side of the training crops in working pixels, a multiple of 32
    side: int | None = None  # images are brought to side² pixels; None: so that objects measure `object_px`
    object_px: int = 48  # typical side of an object, if `side` does not say
    scale: float = 0.3  # crops.Augment
    flip: bool = True
    turn: bool = True
    color: float = 0.3
    score_floor: float = 0.05  # what scores less is not reported
    most: int = 200  # objects reported an image
    overlap: float = (
        0.6  # IoU of boxes, or shared part of the smaller mask, above which the lesser score goes
    )
    weights: str | None = None  # file or model folder to start from

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "width": (4, 512),
            "steps": (1, 10**8),
            "batch": (1, 4096),
            "lr": (1e-9, 1e3),
            "weight_decay": (0, 10),
            "warmup": (0, 1),
            "clip": (1e-6, 1e9),
            "crop": (64, 2048),
            "object_px": (4, 1024),
            "scale": (0, 2),
            "color": (0, 1),
            "score_floor": (0, 1),
            "most": (1, 10_000),
            "overlap": (0, 1),
        }
        optional: dict[str, tuple[float, float]] = {"threads": (1, 1024), "side": (32, MAX_SIDE)}
        ranges |= {k: v for k, v in optional.items() if getattr(self, k) is not None}
        whole = ("width", "steps", "batch", "threads", "crop", "side", "object_px", "most")
        check_ranges("detector", self, ranges, whole)
        if self.crop % 32:
            raise ModelError(f"detector: crop: expected a multiple of 32, got {self.crop}")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ModelError(f"detector: precision: expected auto, bf16 or fp32, got {self.precision!r}")
        for name in ("masks", "flip", "turn"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"detector: {name}: expected true or false, got {getattr(self, name)!r}")
        if not isinstance(self.net, str) or not isinstance(self.weights, str | None):
            raise ModelError("detector: net and weights: expected text")

    @staticmethod
    def of(values: Mapping[str, Any]) -> DetectorConfig:
        """A configuration from plain values, as a file holds them; with masks, what is not said is as in
        `FOR_MASKS` (for the compact net).

        Raises:
            ModelError: an unknown name (with the nearest known one) or a value out of range.
        """
        check_names("detector", values, [f.name for f in fields(DetectorConfig)])
        suited = (
            FOR_MASKS if values.get("masks") is True and values.get("net", "compact") == "compact" else {}
        )
        return DetectorConfig(**{**suited, **values})


@dataclass(frozen=True)
class Detector:
    """A trained network with all that is needed to use it and to say where it came from."""

    net: CentreNet | TorchvisionDetector
    config: DetectorConfig
    classes: tuple[str, ...]
    side: int  # images are brought to side² pixels
    unit: float  # typical side of an object in working pixels
    record: Mapping[str, Any] = field(default_factory=dict)  # seed, data names and digests, final loss …

    @property
    def task(self) -> str:
        """`detect` (boxes) or `segment` (boxes and masks)."""
        return "segment" if self.config.masks else "detect"

    def predict(self, images: Images, *, progress: Callable[[int, int], None] | None = None) -> Detections:
        """Objects found in images of any sizes; boxes and masks in their own pixels.

        Args:
            images: read one at a time.
            progress: called after each with (done, in all).

        Raises:
            DataError: an image that cannot be read.
        """
        from imgsynth.learn.find import find

        return find(self, images, progress)

    def save(self, folder: str | Path) -> None:
        """Write the model's folder (`store.save_model`).

        Raises:
            ModelError: if it cannot be written.
        """
        about = {
            "classes": list(self.classes),
            "side": self.side,
            "unit": self.unit,
            "config": asdict(self.config),
            "record": dict(self.record),
        }
        save_model(folder, self.net, self.task, about)

    @staticmethod
    def load(folder: str | Path) -> Detector:
        """Read what `save` wrote.

        Raises:
            ModelError: missing, damaged, or not a detector; saying what to do about it.
        """
        record = read_record(folder, ("detect", "segment"))
        tensors = read_tensors(folder, record)
        with fits_record(folder):
            config = DetectorConfig.of(record["config"])
            classes = tuple(str(c) for c in record["classes"])
            side, unit = int(record["side"]), float(record["unit"])
            if not classes or not 32 <= side <= MAX_SIDE or not 0 < unit <= MAX_SIDE:
                raise ValueError(f"{len(classes)} classes, side {side}, unit {unit}")
            with seeded(0):
                net = build_detector(config, len(classes), unit)
            net.load_state_dict(tensors)
        net.eval()
        net = net.to(memory_format=torch.channels_last)
        return Detector(net, config, classes, side, unit, record.get("record", {}))


def build_detector(config: DetectorConfig, classes: int, unit: float) -> CentreNet | TorchvisionDetector:
    """A network with freshly drawn weights (from torch's global generator: seed it first).

    Raises:
        ModelError: an unknown name.
    """
    if config.net == "compact":
        return CentreNet(classes, config.width, config.masks, unit / 2 / STRIDE)
    if config.net.startswith(PREFIX):
        name = config.net.removeprefix(PREFIX)
        return TorchvisionDetector(name, classes, config.masks, config.score_floor, config.most)
    raise ModelError(
        "net: expected `compact` or `torchvision:NAME` (such as torchvision:fasterrcnn_resnet50_fpn), "
        f"got {config.net!r}"
    )
