"""Training of a classifier: a fixed number of optimiser steps, seeded throughout, resumable to the bit.

Every random choice of step t comes from a generator seeded by a hash of (seed, purpose, t), so a run that is
cut short and resumed sees the same batches in the same order as one that was not, and no generator's state
needs saving.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError
from imgsynth.learn.classify import (
    Classifier,
    ClassifierConfig,
    normalized,
    seeded,
    to_tensor,
    warmup_cosine,
    write_atomically,
)
from imgsynth.learn.nets import build_net, input_channels, load_weights

Progress = Callable[[int, int, float], None]  # (steps done, steps in all, loss)

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
    chances = _chances(weights, len(data))
    with threads(config.threads), seeded(_hash(seed, "weights")):
        net = build_net(config.net, size, fitted.channels, len(data.classes), config.width, config.dropout)
        if config.weights is not None:
            load_weights(net, Path(config.weights))
        net = net.to(memory_format=torch.channels_last)
        print_ = _fingerprint(data, config, seed, chances, precision)
        loss = _run(
            net, fitted, config, seed, chances, precision, progress, checkpoint, checkpoint_every, print_
        )
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
    checkpoint: Path | None,
    every: int,
    fingerprint: str,
) -> float:
    """The optimiser steps; returns the last loss."""
    optimiser = _optimiser(net, config)
    done, loss = 0, math.nan
    if checkpoint is not None and checkpoint.exists():
        done, loss = _read_checkpoint(checkpoint, net, optimiser, fingerprint)
    images, labels = to_tensor(data.images), torch.from_numpy(np.ascontiguousarray(data.labels))
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    net.train()
    for step, rows in zip(
        range(done, config.steps), _batches(len(data), config, seed, chances, done), strict=False
    ):
        for group in optimiser.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps, config.warmup)
        torch.manual_seed(
            _hash(seed, "dropout", step)
        )  # within `seeded`: the caller's generator is untouched
        x = normalized(images[rows])
        if config.augment:
            x = augment(x, _generator(seed, "augment", step))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(x.contiguous(memory_format=torch.channels_last))
        objective = criterion(logits.float(), labels[rows])
        optimiser.zero_grad(set_to_none=True)
        objective.backward()
        optimiser.step()
        loss = float(objective.detach())
        if not math.isfinite(loss):
            raise ModelError(
                f"training diverged: loss {loss} at step {step + 1}; try a smaller lr than {config.lr:g}"
            )
        if checkpoint is not None and ((step + 1) % every == 0 or step + 1 == config.steps):
            _write_checkpoint(checkpoint, net, optimiser, step + 1, loss, fingerprint)
        if progress is not None:
            progress(step + 1, config.steps, loss)
    return loss


def resolve_precision(precision: str, size: tuple[int, int]) -> str:
    """fp32 or bf16 for `auto`: bf16 on images of 16 pixels or more where the CPU has bf16 instructions.

    Measured (one busy core of a Xeon with AMX, channels-last, batch 64 to 128): a step at 8×8 takes 0.8 to
    1.3 times as long in bf16 as in fp32, at 32×32 0.3 to 0.65 times; a whole training on 32×32 signs 0.65 to
    1.0 times, at the same accuracy within the spread of seeds (.815 and .811, 4 seeds of 300 steps).
    """
    if precision != "auto":
        return precision
    return "bf16" if min(size) >= 16 and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


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


def _optimiser(net: nn.Module, config: ClassifierConfig) -> torch.optim.AdamW:
    """AdamW; no decay on biases and norms (vectors)."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def _batches(
    n: int, config: ClassifierConfig, seed: int, chances: Tensor | None, start: int
) -> Iterator[Tensor]:
    """Rows of each batch from step `start`: from endless shuffled epochs, or drawn by `chances`."""
    step, epoch, order = start, -1, torch.empty(0, dtype=torch.int64)
    while True:
        if chances is not None:
            generator = _generator(seed, "rows", step)
            yield torch.multinomial(chances, config.batch, replacement=True, generator=generator)
        else:
            parts, at, wanted = [], step * config.batch, config.batch
            while wanted:
                if at // n != epoch:
                    epoch = at // n
                    order = torch.randperm(n, generator=_generator(seed, "epoch", epoch))
                part = order[at % n : at % n + wanted]
                parts.append(part)
                at, wanted = at + len(part), wanted - len(part)
            yield torch.cat(parts)
        step += 1


def _chances(weights: ArrayLike | None, n: int) -> Tensor | None:
    if weights is None:
        return None
    w = np.asarray(weights, np.float64)
    if w.shape != (n,) or not np.all(np.isfinite(w)) or np.any(w < 0) or w.sum() <= 0:
        raise DataError(f"sampling weights: expected {n} numbers ≥ 0, not all 0, got shape {w.shape}")
    if n >= 2**24:
        raise DataError(f"sampling weights: at most {2**24 - 1} images can be weighted, got {n}")
    return torch.from_numpy(w / w.sum())


def _hash(seed: int, purpose: str, step: int = 0) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=7).digest(), "big")


def _generator(seed: int, purpose: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(_hash(seed, purpose, step))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch use `n` threads for a while: the number decides the order of sums, and so the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fingerprint(
    data: LabelledImages, config: ClassifierConfig, seed: int, chances: Tensor | None, precision: str
) -> str:
    """What makes two runs the same run."""
    chance_bytes = b"" if chances is None else chances.numpy().tobytes()
    parts = {
        "config": {**asdict(config), "precision": precision},
        "seed": seed,
        "data": data.digest(),
        "weights": hashlib.sha256(chance_bytes).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _write_checkpoint(
    path: Path, net: nn.Module, optimiser: torch.optim.Optimizer, step: int, loss: float, fingerprint: str
) -> None:
    from safetensors.torch import save

    tensors = {f"net.{name}": t.detach().contiguous() for name, t in net.state_dict().items()}
    for k, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{k}.{name}": t.contiguous() for name, t in state.items()}
    meta = {"step": str(step), "loss": float(loss).hex(), "fingerprint": fingerprint}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors, meta))
    except OSError as e:
        raise ModelError(f"{path}: the checkpoint cannot be written: {e}") from e


def _read_checkpoint(
    path: Path, net: nn.Module, optimiser: torch.optim.Optimizer, fingerprint: str
) -> tuple[int, float]:
    """Put the state back; returns (steps done, last loss)."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if meta.get("fingerprint") != fingerprint:
            raise ModelError(
                f"{path}: the checkpoint is of another run (data, seed or settings); delete it to start anew"
            )
        net.load_state_dict({k.removeprefix("net."): t for k, t in tensors.items() if k.startswith("net.")})
        whole = optimiser.state_dict()
        whole["state"] = {}
        parameters = [p.detach() for group in optimiser.param_groups for p in group["params"]]
        for name, t in tensors.items():
            if name.startswith("optimiser."):
                _, k, what = name.split(".")
                # The fused step walks raw memory: moments must lie as their weights do (channels-last).
                p = parameters[int(k)]
                t = torch.empty_like(p).copy_(t) if t.shape == p.shape else t
                whole["state"].setdefault(int(k), {})[what] = t
        optimiser.load_state_dict(whole)
        return int(meta["step"]), float.fromhex(meta["loss"])
    except ModelError:
        raise
    except Exception as e:  # safetensors and torch raise many kinds for damaged files
        raise ModelError(f"{path}: not a readable checkpoint ({e}); delete it to start anew") from e
