"""What the training of every learner shares: fixed optimiser steps, seeds, batches, checkpoints.

Every random choice of step t comes from a generator seeded by a hash of (seed, purpose, t), so a run that is
cut short and resumed sees the same batches in the same order as one that was not, and no generator's state
needs saving.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imgsynth.dataset import disk
from imgsynth.errors import DataError, ModelError

Batch = TypeVar("Batch")
Progress = Callable[[int, int, float], None]  # (steps done, steps in all, loss)


class Steps(Protocol):
    """The part of a learner's configuration that the loop needs."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        ...

    @property
    def batch(self) -> int:
        """Images a step."""
        ...

    @property
    def lr(self) -> float:
        """Learning rate at its peak."""
        ...

    @property
    def weight_decay(self) -> float:
        """AdamW's, of weights but not biases and norms."""
        ...

    @property
    def warmup(self) -> float:
        """Share of the steps in which the rate rises."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept, and of which training it is."""

    path: Path
    every: int  # steps between two writes
    fingerprint: str


def optimise(
    net: nn.Module,
    config: Steps,
    feed: Callable[[int], Iterator[Batch]],
    objective: Callable[[int, Batch], Tensor],
    *,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    clip: float | None = None,
) -> float:
    """Take the optimiser steps (AdamW, warm-up, cosine), from the checkpoint on where there is one.

    Args:
        net: what is trained, in place.
        config: steps, batch, lr, weight_decay, warmup.
        feed: what each step learns from, from a given step on.
        objective: loss (a scalar) of a step on its batch.
        progress: called after every step with (steps done, steps in all, loss).
        checkpoint: written every so many steps and at the end.
        clip: largest norm of the gradient, None for any.

    Returns:
        The last loss.

    Raises:
        ModelError: a loss that is not finite, a checkpoint of another run.
    """
    optimiser = _optimiser(net, config)
    done, loss = 0, math.nan
    if checkpoint is not None and checkpoint.path.exists():
        done, loss = _read_checkpoint(checkpoint.path, net, optimiser, checkpoint.fingerprint)
    net.train()
    for step, batch in zip(range(done, config.steps), feed(done), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps, config.warmup)
        value = objective(step, batch)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimiser.step()
        loss = float(value.detach())
        if not math.isfinite(loss):
            raise ModelError(
                f"training diverged: loss {loss} at step {step + 1}; try a smaller lr than {config.lr:g}"
            )
        if checkpoint is not None and ((step + 1) % checkpoint.every == 0 or step + 1 == config.steps):
            _write_checkpoint(checkpoint.path, net, optimiser, step + 1, loss, checkpoint.fingerprint)
        if progress is not None:
            progress(step + 1, config.steps, loss)
    return loss


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at `step` (from 0): up over `warmup`·steps, then half a cosine to 0."""
    rise = max(1.0, warmup * steps)
    if step + 1 < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step + 1 - rise) / max(1.0, steps - rise + 1))))


def ahead(source: Iterator[Batch], depth: int = 2) -> Iterator[Batch]:
    """The same items in the same order, made by another thread while the ones before are worked on."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, source, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, source, end))
            yield cast(Batch, item)


def batches(n: int, config: Steps, seed: int, chances: Tensor | None, start: int) -> Iterator[Tensor]:
    """Rows of each batch from step `start`: from endless shuffled epochs, or drawn by `chances`."""
    step, epoch, order = start, -1, torch.empty(0, dtype=torch.int64)
    while True:
        if chances is not None:
            generator = generator_of(seed, "rows", step)
            yield torch.multinomial(chances, config.batch, replacement=True, generator=generator)
        else:
            parts, at, wanted = [], step * config.batch, config.batch
            while wanted:
                if at // n != epoch:
                    epoch = at // n
                    order = torch.randperm(n, generator=generator_of(seed, "epoch", epoch))
                part = order[at % n : at % n + wanted]
                parts.append(part)
                at, wanted = at + len(part), wanted - len(part)
            yield torch.cat(parts)
        step += 1


def chances_of(weights: ArrayLike | None, n: int) -> Tensor | None:
    """Chance (n,) of each row from relative sampling weights; None where all are alike.

    Raises:
        DataError: weights that do not fit.
    """
    if weights is None:
        return None
    w = np.asarray(weights, np.float64)
    if w.shape != (n,) or not np.all(np.isfinite(w)) or np.any(w < 0) or w.sum() <= 0:
        raise DataError(f"sampling weights: expected {n} numbers ≥ 0, not all 0, got shape {w.shape}")
    if n >= 2**24:
        raise DataError(f"sampling weights: at most {2**24 - 1} images can be weighted, got {n}")
    return torch.from_numpy(w / w.sum())


def seed_of(seed: int, purpose: str, step: int = 0) -> int:
    """The seed of one purpose at one step of the run with `seed`."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=7).digest(), "big")


def generator_of(seed: int, purpose: str, step: int) -> torch.Generator:
    """A generator that starts from `seed_of`."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, step))


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


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch use `n` threads for a while: the number decides the order of sums, and so the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _optimiser(net: nn.Module, config: Steps) -> torch.optim.AdamW:
    """AdamW; no decay on biases and norms (vectors)."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def fingerprint_of(config: Mapping[str, Any], seed: int, data: str, chances: Tensor | None) -> str:
    """What makes two runs the same run: settings, seed, the data's digest, sampling weights."""
    parts = {
        "config": dict(config),
        "seed": seed,
        "data": data,
        "weights": hashlib.sha256(b"" if chances is None else chances.numpy().tobytes()).hexdigest(),
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
        disk.replace(path, save(tensors, meta))
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
