"""A trained image classifier: its configuration, prediction, and its form on disk (never pickle)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
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
from imgsynth.version import __version__

FORMAT = 1
PIXEL_MEAN, PIXEL_STD = (
    0.5,
    0.25,
)  # of pixels in 0..1; the same whatever the data, so that only the data differs
WEIGHTS, RECORD = "model.safetensors", "model.json"


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
        }
        if self.image_size is not None:
            ranges["image_size"] = (4, 1024)
        whole = {"width", "steps", "batch", "threads", "image_size"}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            kinds = (int,) if name in whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                kind = "a whole number" if name in whole else "a number"
                raise ModelError(
                    f"classifier: {name}: expected {kind} from {low:g} to {high:g}, got {value!r}"
                )
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
        known = [f.name for f in fields(ClassifierConfig)]
        for name in values:
            if name not in known:
                import difflib

                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
                raise ModelError(f"classifier: unknown setting {name!r}{hint}")
        return ClassifierConfig(**values)


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
                made.append(torch.softmax(self.net(normalized(to_tensor(part))).float(), dim=1).numpy())
        return np.concatenate(made)

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors, then model.json, which holds its SHA-256 (so a half-written model is never
        loaded).

        Raises:
            ModelError: if the folder cannot be written.
        """
        from safetensors.torch import save as to_bytes

        folder = Path(folder)
        data = to_bytes({name: t.contiguous() for name, t in self.net.state_dict().items()})
        record = {
            "format": FORMAT,
            "imgsynth": __version__,
            "task": "classify",
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
            "weights_sha256": hashlib.sha256(data).hexdigest(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The old record goes first, so that no record ever stands beside weights that are not its own.
            (folder / RECORD).unlink(missing_ok=True)
            write_atomically(folder / WEIGHTS, data)
            write_atomically(
                folder / RECORD, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
            )
        except OSError as e:
            raise ModelError(f"{folder}: the model cannot be written: {e}") from e

    @staticmethod
    def load(folder: str | Path) -> Classifier:
        """Read what `save` wrote.

        Raises:
            ModelError: missing, damaged, or not a classifier; saying what to do about it.
        """
        from safetensors.torch import load as from_bytes

        folder = Path(folder)
        record = _read_record(folder)
        try:
            data = (folder / WEIGHTS).read_bytes()
        except OSError as e:
            raise ModelError(f"{folder}: {WEIGHTS} cannot be read ({e}); train the model again") from e
        if hashlib.sha256(data).hexdigest() != record.get("weights_sha256"):
            raise ModelError(
                f"{folder}: {WEIGHTS} is not the file that {RECORD} describes (its SHA-256 differs); "
                "copy the folder again or train the model again"
            )
        try:
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
            net.load_state_dict(from_bytes(data))
        except ModelError:
            raise
        except Exception as e:  # whatever a record that another program wrote may hold
            raise ModelError(
                f"{folder}: {RECORD} does not describe its weights ({e}); train the model again"
            ) from e
        net.eval()
        net = net.to(memory_format=torch.channels_last)
        return Classifier(net, config, classes, (height, width), channels, record.get("record", {}))


def _read_record(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; `imgsynth learn … -o {folder}` makes one")
    path = folder / RECORD
    if not path.is_file():
        raise ModelError(
            f"{folder}: not a model: it has no {RECORD} (written last; the training may have been cut short)"
        )
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise ModelError(f"{path}: not readable as JSON: {e}") from e
    if not isinstance(record, dict) or record.get("task") != "classify":
        raise ModelError(f"{path}: not the record of a classifier of imgsynth")
    if record.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {record.get('format')!r} of imgsynth {record.get('imgsynth', '?')}; "
            f"this version ({__version__}) reads format {FORMAT}"
        )
    return record


def to_tensor(images: U8) -> Tensor:
    """Images (n, H, W, C) as a uint8 tensor (n, C, H, W), channels-last in memory as they already are."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def normalized(images: Tensor) -> Tensor:
    """uint8 or float (0..255) pixels as the network takes them: (x/255 − mean)/std."""
    return images.float().mul_(1 / (255 * PIXEL_STD)).sub_(PIXEL_MEAN / PIXEL_STD)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's global generator counts from `seed`; afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or wholly the new one."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at `step` (from 0): up over `warmup`·steps, then half a cosine to 0."""
    rise = max(1.0, warmup * steps)
    if step + 1 < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step + 1 - rise) / max(1.0, steps - rise + 1))))
