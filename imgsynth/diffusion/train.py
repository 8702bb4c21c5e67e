"""Training of a small diffusion model: fixed optimiser steps, seeded throughout, resumable to the bit.

Every random choice of step t (rows, noise, levels, dropped labels) comes from a generator seeded by a hash of
(seed, purpose, t), so a checkpoint holds weights, their average and the optimiser's moments, and no
generator. On one machine, at one number of threads, a run that was killed and resumed ends in the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imgsynth.diffusion import checkpoint as kept
from imgsynth.diffusion import ema
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.data import DiffusionData
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.objectives import TIMES, drawn_sigma, loss_weight, scales, target
from imgsynth.diffusion.settings import DiffusionTraining
from imgsynth.errors import DataError, ModelError
from imgsynth.learn.loop import (
    batches,
    chances_of,
    fingerprint_of,
    generator_of,
    resolve_precision,
    seed_of,
    threads,
    warmup_cosine,
)

Progress = Callable[[int, int, float, int], None]  # (steps done, steps in all, smoothed loss, images seen)
SMOOTHING = 0.98  # of the loss that is shown
FAINT = 0.25  # σ of a picture that a mask is to be read from, at most: as good as finished


@dataclass(frozen=True)
class Batch:
    """What one step learns from, on the device."""

    clean: Tensor  # (n, planes, H, W) float32 in [-1, 1]
    labels: Tensor  # (n,) long; K where the class was dropped or there is none
    layout: Tensor | None  # (n, L, H, W)
    noise: Tensor  # like clean
    sigma: Tensor  # (n,)
    other: Tensor  # (n,) long: a class drawn evenly, K where `labels` is
    blind: Tensor  # (n,) bool: where mask bits are pure noise, whatever `sigma`


def train(
    data: DiffusionData,
    config: DiffuserConfig,
    settings: DiffusionTraining | None = None,
    *,
    seed: int,
    weights: ArrayLike | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 250,
    device: str | None = "cpu",
    start: Diffuser | None = None,
) -> Diffuser:
    """Train a model on `data`; the result depends on data, config, settings and seed only.

    Args:
        data: images, and mask bits or a layout as the configuration says.
        config: the network.
        settings: how; the default suits 28 px on two cores.
        seed: of the weights and of every draw.
        weights: (n,) relative chance of each image to be drawn (`DiffusionData.balanced`); None: every image
            once an epoch.
        progress: called after every step with (steps done, steps in all, smoothed loss, images seen).
        checkpoint: file that holds the state every `checkpoint_every` steps and at the end. Where it exists,
            training goes on from it.
        start: a model of the same configuration whose weights are gone on from, in place of random ones.
        device: where; None takes the GPU where there is one (accelerate decides).

    Returns:
        The averaged weights; `guide` is the average as it was after `guide_at` of the steps.

    Raises:
        DataError: data that does not fit the configuration.
        ModelError: a checkpoint of another run, a loss that is not finite.
    """
    settings = settings or DiffusionTraining()
    _check(data, config)
    if settings.flips and data.bits is not None:
        raise ModelError("flips: a mirrored mask would number its objects anew; leave them off")
    chances = chances_of(weights, len(data))
    precision = settings.precision
    if precision == "auto":
        precision = resolve_precision("auto", config.size)
    digest = data.digest()
    plain: dict[str, Any] = {
        "config": config.plain(), "training": {**asdict(settings), "precision": precision},
    }  # fmt: skip
    if start is not None:
        if replace(start.config, bit_scale=config.bit_scale) != config:
            raise ModelError("the model to start from has another network: its size, classes, bits or preset")
        plain["start"] = start.hash()
    with threads(settings.threads):
        place = _accelerator(device)
        model = Diffuser.new(config, seed_of(seed, "weights"))
        if start is not None:
            model.net.load_state_dict(start.net.state_dict())
        net, optimiser = place.prepare(model.net.train(), _optimiser(model.net, settings))
        model = Diffuser(net, config, precision=precision)
        average = {name: p.detach().clone() for name, p in net.named_parameters()}
        state = kept.State(net, optimiser, average)
        fingerprint = fingerprint_of(plain, seed, digest, chances)
        if checkpoint is not None and checkpoint.exists():
            kept.read(checkpoint, state, fingerprint)
        run = _Run(data, model, settings, seed, chances, place, state)
        for step in run.steps():
            last = step == settings.steps
            if checkpoint is not None and (step % checkpoint_every == 0 or last):
                kept.write(checkpoint, state, fingerprint)
            if progress is not None:
                progress(step, settings.steps, state.loss, step * settings.batch)
    record = {
        "seed": seed,
        "data": {
            "name": data.name, "images": len(data), "digest": digest, "layout": list(data.layout_names),
            "weighted": chances is not None, "classed": data.classed,
        },
        "training": plain["training"],
        "steps": settings.steps,
        "images_seen": settings.steps * settings.batch,
        "loss": state.loss,
        "generation": data.generation if start is None else max(data.generation, generation_of(start)),
        "parents": [*data.parents, *([] if start is None else [parent_of(start)])],
        "licences": dict(data.licences) | ({} if start is None else dict(start.record.get("licences", {}))),
        "torch": str(torch.__version__),
    }  # fmt: skip
    guide = None if state.guide is None else _averaged(net, config, record, state.guide, None)
    return _averaged(net, config, record, state.average, guide)


def generation_of(model: Diffuser) -> int:
    """How often generated images went into what a model learned from: 0 = never."""
    return int(model.record.get("generation", 0))


def parent_of(model: Diffuser) -> dict[str, str]:
    """A model as a parent, for the record."""
    name = str(dict(model.record.get("data", {})).get("name", ""))
    return {"kind": "model", "name": f"of {name}" if name else "model", "sha256": model.hash()}


@dataclass
class _Run:
    """One training, from the state it is given."""

    data: DiffusionData
    model: Diffuser
    settings: DiffusionTraining
    seed: int
    chances: Tensor | None
    place: Any  # accelerate's Accelerator
    state: kept.State

    def steps(self) -> Iterator[int]:
        """Take the steps that are left; gives the number of steps done after each."""
        settings, state = self.settings, self.state
        gamma = ema.exponent(settings.ema) if settings.ema > 0 else None
        current = [p.detach() for p in self.model.net.parameters()]
        rows = batches(len(self.data), settings, self.seed, self.chances, state.step)
        for step in range(state.step, settings.steps):
            for group in state.optimiser.param_groups:
                group["lr"] = settings.lr * warmup_cosine(step, settings.steps, settings.warmup)
            loss = self.loss(self.batch(step, next(rows)))
            state.optimiser.zero_grad(set_to_none=True)
            self.place.backward(loss)
            self.place.clip_grad_norm_(self.model.net.parameters(), settings.clip)
            state.optimiser.step()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ModelError(
                    f"training diverged: loss {value} at step {step + 1}; try a smaller lr than "
                    f"{settings.lr:g}"
                )
            share = max(1 - SMOOTHING, 1 / (step + 1))
            state.loss += share * (value - state.loss)
            state.step = step + 1
            if gamma is None:
                torch._foreach_copy_(list(state.average.values()), current)
            else:
                ema.update(list(state.average.values()), current, state.step, gamma)
            if state.step == math.ceil(settings.guide_at * settings.steps) and settings.guide_at > 0:
                state.guide = {name: t.clone() for name, t in state.average.items()}
            yield state.step

    def batch(self, step: int, rows: Tensor) -> Batch:
        """The images `rows` with their draws of this step."""
        data, settings, seed = self.data, self.settings, self.seed
        n, null = len(rows), self.model.null
        at = rows.numpy()
        parts = [data.images[at] / 127.5 - 1]
        if data.bits is not None:
            parts.append(self.model.config.bit_scale * (2.0 * data.bits[at] - 1))
        clean = torch.cat([torch.from_numpy(p).float() for p in parts], dim=3).permute(0, 3, 1, 2)
        layout = None
        if data.layout is not None:
            layout = torch.from_numpy(data.layout[at] / 127.5 - 1).float().permute(0, 3, 1, 2)
        if settings.flips:
            turned = torch.rand(n, generator=generator_of(seed, "flip", step)) < 0.5
            clean[turned] = clean[turned].flip(3)
            if layout is not None:
                layout[turned] = layout[turned].flip(3)
        given = torch.from_numpy(data.labels[at])
        labels = dropped(given, settings.label_dropout, null, generator_of(seed, "label", step))
        noise = torch.randn(clean.shape, generator=generator_of(seed, "noise", step))
        sigma = drawn_sigma(
            self.model.config, spread_uniforms(n, generator_of(seed, "level", step)),
            settings.level_mean, settings.level_spread,
        )  # fmt: skip
        blind = torch.zeros(n, dtype=torch.bool)
        if data.bits is not None:
            blind, faint = torch.rand(2, n, generator=generator_of(seed, "blind", step))
            blind = blind < settings.blind
            sigma = torch.where(blind, FAINT * faint.to(sigma).clamp(min=1e-3), sigma)
        other = torch.randint(0, null, (n,), generator=generator_of(seed, "other", step))
        other = torch.where(labels == null, labels, other)
        device = self.place.device
        tensors = (clean, labels, noise, sigma.float(), other, blind)
        clean, labels, noise, sigma, other, blind = (t.to(device) for t in tensors)
        layout = None if layout is None else layout.to(device)
        return Batch(clean, labels, layout, noise, sigma, other, blind)

    def loss(self, batch: Batch) -> Tensor:
        """The weighted squared error of what the net predicts, and the class-balancing term."""
        config = self.model.config
        level = self.model.levels(batch.sigma, batch.blind)
        noisy = batch.clean + level * batch.noise
        time, scaled = scales(config, batch.sigma).time, noisy * scales(config, level).c_in
        said = self.model.predict(scaled, time, batch.labels, batch.layout)
        error = (said - target(config, batch.clean, noisy, level)).square().mean(dim=(1, 2, 3))
        total = (loss_weight(config, batch.sigma, self.settings.min_snr) * error).mean()
        if self.settings.cbdm:
            other = self.model.predict(scaled, time, batch.other, batch.layout)
            total = total + self.settings.cbdm * class_balancing(said, other, time)
        return total


def dropped(labels: Tensor, rate: float, null: int, generator: torch.Generator) -> Tensor:
    """Labels (n,) of which each, by a draw of its own, becomes `null` with chance `rate`."""
    return torch.where(torch.rand(len(labels), generator=generator) < rate, null, labels)


def spread_uniforms(n: int, generator: torch.Generator) -> Tensor:
    """n uniforms in (0, 1), one in each n-th of it, float64: the levels of a batch cover the range evenly.

    Kingma et al. 2021 ("Variational diffusion models", arXiv 2107.00630, app. I.1) share one offset; here
    each has its own.
    """
    inside = torch.rand(n, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return (torch.arange(n, dtype=torch.float64) + inside) / n


def class_balancing(said: Tensor, other: Tensor, time: Tensor) -> Tensor:
    """The term that draws predictions for a class and for one drawn evenly together, mostly at high noise.

    Qin et al. 2023 ("Class-balancing diffusion models", arXiv 2305.00562, §3.2): t/T (‖F(y) - sg F(y')‖² +
    ¼ ‖sg F(y) - F(y')‖²), here with the clock of the net for t/T.

    Args:
        said: (n, C, H, W) predictions for the images' own classes.
        other: (n, C, H, W) the same for classes y' drawn evenly.
        time: (n,) the net's clock, 0 to `objectives.TIMES`.
    """
    pull = (said - other.detach()).square().mean(dim=(1, 2, 3))
    commit = (said.detach() - other).square().mean(dim=(1, 2, 3))
    return (time / TIMES * (pull + commit / 4)).mean()


def _check(data: DiffusionData, config: DiffuserConfig) -> None:
    """The data is what the configuration was made for."""
    for what, came, wanted in (
        ("size", data.size, config.size),
        ("image channels", data.images.shape[3], config.channels),
        ("classes", data.classes, config.classes),
        ("mask bits", data.mask_bits, config.mask_bits),
        ("planes of layout", data.layout_channels, config.layout_channels),
    ):
        if came != wanted:
            raise DataError(f"{data.name}: {what}: the model is of {wanted!r:.80}, the data of {came!r:.80}")


def _accelerator(device: str | None) -> Any:
    """accelerate's word on where to train: the CPU where that was asked for, else the best there is."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # It remembers the first device and precision of the process; ours are this training's own.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision="no")


def _optimiser(net: nn.Module, settings: DiffusionTraining) -> torch.optim.AdamW:
    """AdamW; no decay on biases and norms (vectors)."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def _averaged(
    net: nn.Module, config: DiffuserConfig, record: dict[str, Any], weights: dict[str, Tensor],
    guide: Diffuser | None,
) -> Diffuser:  # fmt: skip
    """A model of its own with these weights, on the CPU, ready to sample."""
    own: Any = copy.deepcopy(net).cpu()
    with torch.no_grad():
        for name, p in own.named_parameters():
            p.copy_(weights[name])
    return Diffuser(own.eval().requires_grad_(False), config, record, guide)
