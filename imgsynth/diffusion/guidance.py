"""What is done to a denoiser between the network and the solver: guidance, its interval, annealed conditions.

All of it is in EDM's form (`solvers`): D(x, σ) estimates x₀, and guidance extrapolates between two estimates,
D_w = D_ref + w (D − D_ref). Without guidance (w = 1), or outside of the interval, D_ref is never computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from imgsynth.errors import ModelError


class Denoiser(Protocol):
    """x̃ = x₀ + σ·ε (n, C, H, W), σ (n,), labels (n,) with K for "no class" → estimates of x₀."""

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor, layout: Tensor | None = None) -> Tensor:
        """The estimates, of x's shape."""
        ...


@dataclass(frozen=True)
class Guidance:
    """How strongly, between which noise levels, and away from what.

    `weight` w = 1 is none. `interval`: only where low < σ ≤ high (Kynkäänniemi et al., "Applying guidance in
    a limited interval improves sample and distribution quality", 2024, eq. 4). `reference` "null" is
    classifier-free guidance (Ho and Salimans 2022), away from the estimate without a class; "guide" is
    autoguidance (Karras et al., "Guiding a diffusion model with a bad version of itself", 2024, eq. 6), away
    from that of a weaker model with the same class.

    Raises:
        ModelError: on construction, a weight below 0 or not finite, an interval inside out.
    """

    weight: float = 1.0
    interval: tuple[float, float] = (0.0, math.inf)
    reference: str = "null"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ModelError(f"guidance: expected a weight of at least 0 (1 is none), got {self.weight}")
        low, high = self.interval
        if not 0 <= low < high:
            raise ModelError(f"guidance interval: expected 0 ≤ low < high (in σ), got {low} {high}")
        if self.reference not in ("null", "guide"):
            raise ModelError(f"guidance reference: expected null or guide, got {self.reference!r}")

    def acts(self, sigma: float) -> bool:
        """Whether it changes the estimate at a noise level."""
        return self.weight != 1 and self.interval[0] < sigma <= self.interval[1]


def guided(
    model: Denoiser,
    labels: Tensor,
    classes: int,
    guidance: Guidance,
    *,
    guide: Denoiser | None = None,
    layout: Tensor | None = None,
) -> Callable[[Tensor, float], Tensor]:
    """A denoiser of (x, σ) alone, for a solver: `labels` (n,) are held and guidance applied.

    Raises:
        ModelError: autoguidance without a guide.
    """
    if guidance.weight != 1 and guidance.reference == "guide" and guide is None:
        raise ModelError("autoguidance needs a second, weaker model of the same kind (guide_model)")

    def denoise(x: Tensor, sigma: float) -> Tensor:
        levels = torch.full((len(x),), sigma, dtype=torch.float32, device=x.device)
        found = model(x, levels, labels, layout)
        if not guidance.acts(sigma):
            return found
        if guidance.reference == "guide" and guide is not None:
            away = guide(x, levels, labels, layout)
        else:
            away = model(x, levels, torch.full_like(labels, classes), layout)
        return away + guidance.weight * (found - away)

    return denoise


@dataclass(frozen=True)
class Annealing:
    """CADS: noise in the condition that fades while the image forms (Sadat et al., "CADS: unleashing the
    diversity of diffusion models through condition-annealed sampling", 2023, eqs. 4 and 5).

    `scale` is the paper's s, `full` and `none` its τ1 and τ2 in the time t = σ / (1 + σ): the condition is
    whole for t ≤ `full` and gone for t ≥ `none`. `mix` is ψ, the share of the rescaled condition.
    """

    scale: float = 0.1
    full: float = 0.6
    none: float = 0.9
    mix: float = 1.0

    def __post_init__(self) -> None:
        if not (self.scale >= 0 and 0 <= self.full <= self.none <= 1 and 0 <= self.mix <= 1):
            raise ModelError(
                f"cads: expected a scale of at least 0, 0 ≤ τ1 ≤ τ2 ≤ 1 and 0 ≤ ψ ≤ 1, "
                f"got scale {self.scale}, τ1 {self.full}, τ2 {self.none}, ψ {self.mix}"
            )

    def share(self, sigma: float) -> float:
        """γ(t): how much of the condition is left at a noise level, 1 to 0."""
        t = sigma / (1 + sigma)
        if t <= self.full:
            return 1.0
        return 0.0 if t >= self.none else (self.none - t) / (self.none - self.full)

    def apply(self, condition: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """The condition (n, E) annealed with standard normal `noise` (n, E), and given back its own mean and
        deviation over E (by the share ψ).
        """
        gamma = self.share(sigma)
        noisy = math.sqrt(gamma) * condition + self.scale * math.sqrt(1 - gamma) * noise
        if self.mix == 0 or gamma == 1:
            return noisy
        spread, own = noisy.std(1, keepdim=True), condition.std(1, keepdim=True)
        scaled = (noisy - noisy.mean(1, keepdim=True)) / spread.clamp_min(1e-12) * own
        scaled = scaled + condition.mean(1, keepdim=True)
        return self.mix * scaled + (1 - self.mix) * noisy


@contextmanager
def annealed(
    embedding: nn.Module, classes: int, annealing: Annealing, noise: Tensor, sigma: Callable[[], float]
) -> Iterator[None]:
    """Within, what `embedding` makes of labels below `classes`, (n, E), is annealed with `noise` (n, E) at
    the noise level that `sigma` tells; "no class" stays what it is. Afterwards the module is as it was.
    """

    def hook(_module: nn.Module, inputs: Any, made: Tensor) -> Tensor:
        noisy = annealing.apply(made.float(), noise, sigma()).to(made.dtype)
        return torch.where((inputs[0] < classes)[:, None], noisy, made)

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
