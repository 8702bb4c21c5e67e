"""Samples of a diffusion model: each a function of (weights, settings, label, seed, index) and nothing else.

A sample's noise is a hash of (seed, index, attempt), so no generator is shared. Networks run on batches of
one fixed size (the last one filled up), on one thread: convolutions choose their order of sums by the shape
of the batch, and with the shape held a sample's bits depend neither on its neighbours nor on its place
(measured for fp32 and bf16 on x86 with AMX; tests/test_sampling.py holds it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from imgsynth import seeding
from imgsynth.batch import F32, I64, U8
from imgsynth.diffusion.guidance import Annealing, Denoiser, Guidance, annealed, guided
from imgsynth.diffusion.objectives import BLIND
from imgsynth.diffusion.solvers import SCHEDULES, SOLVERS, Denoise, heun
from imgsynth.errors import ModelError

BATCH = 64  # samples a call of the network, always; half of that costs a third more a sample at 8 px


class Model(Protocol):
    """What is sampled: `diffusion.model.Diffuser`, or any closed form of the same shape."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        ...

    @property
    def channels(self) -> int:
        """Of the image, 1 or 3."""
        ...

    @property
    def planes(self) -> int:
        """Of what is denoised: the image's channels, then analog bits of a mask."""
        ...

    @property
    def bit_scale(self) -> float:
        """Size of such a bit in what is denoised."""
        ...

    @property
    def denoise(self) -> Denoiser:
        """The network in EDM's form."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampler; docs/diffusion.md says what the defaults were chosen by.

    `steps` of `solver` from σ `high` to `low` and then 0 on `schedule`; `churn` is EDM's S_churn (heun only).
    With mask bits, `margin_sigma` is the noise at which bits are asked for once more, to see how sure they
    are; of a model that learned to read masks from pictures, `read_sigma` is the picture's.

    Raises:
        ModelError: on construction, naming the setting that is out of range.
    """

    steps: int = 8
    solver: str = "dpmpp_2m"
    schedule: str = "straight"
    high: float = 80.0
    low: float = 0.05
    guidance: Guidance = field(default_factory=Guidance)
    cads: Annealing | None = None
    churn: float = 0.0
    margin_sigma: float = 0.3
    read_sigma: float = 0.1

    def __post_init__(self) -> None:
        for what, name, known in (
            ("solver", self.solver, SOLVERS), ("schedule", self.schedule, SCHEDULES),
        ):  # fmt: skip
            if name not in known:
                raise ModelError(f"{what}: expected one of {', '.join(known)}, got {name!r}")
        if not 1 <= self.steps <= 1000:
            raise ModelError(f"steps: expected 1 to 1000, got {self.steps}")
        if not 0 < self.low < self.high < math.inf:
            raise ModelError(f"noise levels: expected 0 < low < high, got {self.low} and {self.high}")
        if not 0 <= self.churn < math.inf or (self.churn and self.solver != "heun"):
            raise ModelError(f"churn: expected a number from 0, and the solver heun; got {self.churn}")
        for name in ("margin_sigma", "read_sigma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ModelError(
                    f"{name.replace('_', ' ')}: expected a number above 0, got {getattr(self, name)}"
                )

    @property
    def sigmas(self) -> list[float]:
        """The noise levels, `steps` + 1, falling to 0."""
        return SCHEDULES[self.schedule](self.steps, self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; an interval without an upper end has null there."""
        low, high = self.guidance.interval
        guidance = {
            "weight": self.guidance.weight,
            "interval": [low, None if math.isinf(high) else high],
            "reference": self.guidance.reference,
        }
        cads = None
        if self.cads is not None:
            c = self.cads
            cads = {"scale": c.scale, "full": c.full, "none": c.none, "mix": c.mix}
        plain = {
            name: getattr(self, name) for name in ("steps", "solver", "schedule", "high", "low", "churn")
        }
        return plain | {
            "guidance": guidance,
            "cads": cads,
            "margin_sigma": self.margin_sigma,
            "read_sigma": self.read_sigma,
        }


@dataclass(frozen=True)
class Samples:
    """`n` samples: images as a file holds them, and what a label can be read from."""

    indices: I64  # (n,) sample numbers
    attempts: I64  # (n,) 0 as first drawn
    labels: I64  # (n,) what was asked for, 0 … K − 1; K = no class
    images: U8  # (n, H, W, C)
    bits: F32 | None = None  # (n, b, H, W) analog bits of the mask
    margins: F32 | None = None  # (n, b, H, W) the bits estimated again from a noised sample

    def __len__(self) -> int:
        return len(self.indices)

    def taken(self, rows: Any) -> Samples:
        """Those at `rows` (numbers or a mask), in that order."""

        def part(values: Any) -> Any:
            return None if values is None else values[rows]

        return Samples(**{f.name: part(getattr(self, f.name)) for f in fields(self)})


def sample(
    model: Model,
    labels: I64,
    *,
    seed: int,
    indices: I64,
    attempts: I64 | None = None,
    settings: Sampling | None = None,
    guide_model: Model | None = None,
    layout: F32 | None = None,
    source: U8 | None = None,
    device: str = "cpu",
    batch: int = BATCH,
) -> Samples:
    """Samples `indices` (n,) of `labels` (n,), 0 … K − 1, or K for none; `attempts` (n,) draw them anew.

    `layout` (n, L, H, W) goes to the network as it is. With `source` (n, H, W, C) uint8 sampling starts from
    those images under noise of the first level, and not from noise alone (Meng et al., "SDEdit", 2022, §3):
    the lower `settings.high`, the more of them stays. Memory is bounded by `batch`, the number of samples a
    call of the network, which is part of what decides the bits.

    Raises:
        ModelError: arrays that do not fit, a label out of range, a setting that the model cannot follow.
    """
    settings = settings or Sampling()
    labels, indices = np.asarray(labels, np.int64), np.asarray(indices, np.int64)
    attempts = np.zeros(len(indices), np.int64) if attempts is None else np.asarray(attempts, np.int64)
    _check(model, labels, indices, attempts, settings, guide_model, layout)
    _check_source(model, source, len(indices))
    parts = []
    with _one_thread(device), torch.inference_mode():
        for rows, fill in _batches(len(indices), batch):
            at = np.concatenate([rows, np.repeat(rows[-1:], fill)])
            draw = _Draw(model, guide_model, settings, seed, indices[at], attempts[at], labels[at], device)
            maps = None if layout is None else torch.from_numpy(np.ascontiguousarray(layout[at])).to(device)
            values, margins = draw.run(maps, None if source is None else source[at])
            parts.append((values[: len(rows)], margins if margins is None else margins[: len(rows)]))
    return _finished(model, indices, attempts, labels, parts)


@dataclass(frozen=True)
class _Draw:
    """One call's worth of samples, exactly a batch."""

    model: Model
    guide: Model | None
    settings: Sampling
    seed: int
    indices: I64
    attempts: I64
    labels: I64
    device: str

    def run(self, layout: Tensor | None, source: U8 | None = None) -> tuple[F32, F32 | None]:
        """x₀ (n, C, H, W), and with mask bits their estimates from the sample noised again."""
        model, settings = self.model, self.settings
        sigmas, labels = settings.sigmas, torch.from_numpy(self.labels).to(self.device)
        shape = (model.planes, *model.size)
        denoise = guided(
            model.denoise, labels, len(model.classes), settings.guidance,
            guide=None if self.guide is None else self.guide.denoise, layout=layout,
        )  # fmt: skip
        x = sigmas[0] * self.noise("start", shape)
        if source is not None:
            x = x + torch.from_numpy(source.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).to(x)
        with self.annealing() as tell:
            x = self.solve(tell(denoise), x, sigmas, shape)
        if model.planes == model.channels:
            return x.float().cpu().numpy(), None
        level, c = settings.margin_sigma, model.channels
        if getattr(model, "reads", False):
            return self.read(x, labels, layout)
        again = denoise(x + level * self.noise("margin", shape), level)
        return x.float().cpu().numpy(), again[:, c:].float().cpu().numpy()

    def read(self, x: Tensor, labels: Tensor, layout: Tensor | None) -> tuple[F32, F32]:
        """x₀ with its bits read once more, from the finished picture alone, and those bits.

        The network is shown the picture under a little noise, and pure noise where the bits were: what it
        then expects of a bit is 2p − 1, p the chance of 1. So bits that were settled before the picture was
        follow what became of it, and their size says how sure that is.
        """
        c, model, level = self.model.channels, self.model, self.settings.read_sigma
        noise = self.noise("margin", tuple(x.shape[1:]))
        shown = torch.cat([x[:, :c].clamp(-1, 1) + level * noise[:, :c], BLIND * noise[:, c:]], dim=1)
        told = torch.full((len(x),), level, device=x.device)
        bits = model.denoise(shown, told, labels, layout, blind=True)[:, c:]  # type: ignore[call-arg]
        return torch.cat([x[:, :c], bits], dim=1).float().cpu().numpy(), bits.float().cpu().numpy()

    def solve(self, denoise: Denoise, x: Tensor, sigmas: list[float], shape: tuple[int, ...]) -> Tensor:
        if self.settings.churn == 0:
            return SOLVERS[self.settings.solver](denoise, x, sigmas)
        return heun(
            denoise, x, sigmas, churn=self.settings.churn, fresh=lambda k: self.noise(f"churn/{k}", shape)
        )

    @contextmanager
    def annealing(self) -> Iterator[Callable[[Denoise], Denoise]]:
        """Within, the condition is annealed where that was asked for; gives what a denoiser is to be wrapped
        in, so that the hook on the embedding knows σ.
        """
        cads = self.settings.cads
        if cads is None:
            yield lambda denoise: denoise
            return
        module, level = embedding_of(self.model), [math.inf]
        noise = self.noise("cads", (module.embedding_dim,))

        def telling(denoise: Denoise) -> Denoise:
            def told(x: Tensor, sigma: float) -> Tensor:
                level[0] = sigma
                return denoise(x, sigma)

            return told

        with annealed(module, len(self.model.classes), cads, noise, lambda: level[0]):
            yield telling

    def noise(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers (n, *shape), each row of its own (seed, index, attempt)."""
        return torch.from_numpy(normals(self.seed, purpose, self.indices, self.attempts, shape)).to(
            self.device
        )


def normals(seed: int, purpose: str, indices: I64, attempts: I64, shape: tuple[int, ...]) -> F32:
    """Standard normals (n, *shape) float32, row i a hash of (seed, purpose, indices[i], attempts[i])."""
    out = np.empty((len(indices), *shape), np.float32)
    for attempt in np.unique(attempts):
        rows = attempts == attempt
        out[rows] = ndtri(seeding.noise(seed, f"diffusion.{purpose}.{attempt}", indices[rows], shape))
    return out


def embedding_of(model: Any) -> nn.Embedding:
    """The table of class embeddings that a model looks labels up in.

    Raises:
        ModelError: it has none.
    """
    module = getattr(getattr(model, "net", model), "class_embedding", None)
    if not isinstance(module, nn.Embedding):
        raise ModelError("cads: this model has no table of class embeddings to anneal")
    return module


def _batches(n: int, batch: int) -> Iterator[tuple[Any, int]]:
    """Rows of each call, and how many it lacks to be full."""
    for first in range(0, n, batch):
        rows = np.arange(first, min(first + batch, n))
        yield rows, batch - len(rows)


def _check_source(model: Model, source: U8 | None, n: int) -> None:
    if source is None:
        return
    if model.planes != model.channels:
        raise ModelError("a model that samples masks cannot start from images, which have no bits")
    wanted = (n, *model.size, model.channels)
    if source.dtype != np.uint8 or source.shape != wanted:
        raise ModelError(f"source: expected uint8 {wanted}, got {source.dtype} {source.shape}")


def _one_thread(device: str) -> Any:
    from imgsynth.learn.loop import threads

    return threads(1) if device == "cpu" else nullcontext()


def _finished(model: Model, indices: I64, attempts: I64, labels: I64, parts: list[Any]) -> Samples:
    empty = np.zeros((0, model.planes, *model.size), np.float32)
    values, c = np.concatenate([empty, *(v for v, _ in parts)]), model.channels
    colour = values[:, :c].transpose(0, 2, 3, 1)
    images = np.clip(np.rint((colour + 1) * 127.5), 0, 255).astype(np.uint8)
    if model.planes == c:
        return Samples(indices, attempts, labels, images)
    bits, margins = values[:, c:], np.concatenate([empty[:, c:], *(m for _, m in parts)])
    bits, margins = (np.divide(part, model.bit_scale, dtype=np.float32) for part in (bits, margins))
    return Samples(indices, attempts, labels, images, np.ascontiguousarray(bits), margins)


def _check(
    model: Model, labels: I64, indices: I64, attempts: I64, settings: Sampling,
    guide: Model | None, layout: F32 | None,
) -> None:  # fmt: skip
    n = len(indices)
    if indices.shape != (n,) or labels.shape != (n,) or attempts.shape != (n,):
        raise ModelError(
            f"expected labels and attempts for {n} indices, got {labels.shape}, {attempts.shape}"
        )
    if n and (indices.min() < 0 or attempts.min() < 0):
        raise ModelError("sample numbers and attempts count from 0")
    if n and (labels.min() < 0 or labels.max() > len(model.classes)):
        k = len(model.classes)
        raise ModelError(
            f"labels: expected 0 to {k - 1}, or {k} for none, got {labels.min()} to {labels.max()}"
        )
    if guide is not None and (guide.planes, guide.size, guide.classes) != (
        model.planes, model.size, model.classes,
    ):  # fmt: skip
        raise ModelError("the guide is a model of other images or classes; autoguidance needs the same")
    if settings.cads is not None:
        embedding_of(model)
    if layout is not None and (len(layout) != n or layout.shape[-2:] != tuple(model.size)):
        raise ModelError(f"layout: expected ({n}, L, {model.size[0]}, {model.size[1]}), got {layout.shape}")
