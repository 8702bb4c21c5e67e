"""The state of a training as one safetensors file that is there whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgsynth.dataset import disk
from imgsynth.errors import ModelError


@dataclass
class State:
    """What a training goes on from: everything else is a function of (data, settings, seed, step)."""

    net: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]  # of the weights, by name
    guide: dict[str, Tensor] | None = None  # the average as it was early on
    step: int = 0
    loss: float = 0.0  # smoothed


def write(path: Path, state: State, fingerprint: str) -> None:
    """Put the state on disk; a kill at any moment leaves the old file or the new one.

    Raises:
        ModelError: if the file cannot be written.
    """
    from safetensors.torch import save

    groups: dict[str, Any] = {"net": state.net.state_dict(), "average": state.average}
    if state.guide is not None:
        groups["guide"] = state.guide
    for k, moments in state.optimiser.state_dict()["state"].items():
        groups[f"optimiser.{k}"] = moments
    tensors = {
        f"{group}.{name}": t.detach().cpu().contiguous()
        for group, held in groups.items()
        for name, t in held.items()
    }
    meta = {"step": str(state.step), "loss": float(state.loss).hex(), "fingerprint": fingerprint}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.replace(path, save(tensors, meta))
    except OSError as e:
        raise ModelError(f"{path}: the checkpoint cannot be written: {e}") from e


def read(path: Path, state: State, fingerprint: str) -> None:
    """Put the state of a file back into `state`, in place.

    Raises:
        ModelError: a damaged file, or the checkpoint of another run.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if meta.get("fingerprint") != fingerprint:
            raise ModelError(
                f"{path}: the checkpoint is of another run (data, seed or settings); delete it to start anew"
            )
        state.net.load_state_dict(_group(tensors, "net."))
        for name, t in _group(tensors, "average.").items():
            state.average[name].copy_(t)
        guide = _group(tensors, "guide.")
        state.guide = {name: torch.empty_like(state.average[name]).copy_(t) for name, t in guide.items()}
        state.guide = state.guide or None
        _moments(state.optimiser, _group(tensors, "optimiser."))
        state.step, state.loss = int(meta["step"]), float.fromhex(meta["loss"])
    except ModelError:
        raise
    except Exception as e:  # safetensors and torch raise many kinds for damaged files
        said = " ".join(str(e).split())[:200]
        raise ModelError(f"{path}: not a readable checkpoint ({said}); delete it to start anew") from e


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _moments(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser its moments back, in memory as their weights lie (channels last)."""
    whole = optimiser.state_dict()
    whole["state"] = {}
    parameters = [p.detach() for group in optimiser.param_groups for p in group["params"]]
    for name, t in tensors.items():
        k, what = name.split(".")
        p = parameters[int(k)]
        fitted = torch.empty_like(p).copy_(t) if t.shape == p.shape else t
        whole["state"].setdefault(int(k), {})[what] = fitted
    optimiser.load_state_dict(whole)
