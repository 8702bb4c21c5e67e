"""An average of the weights over the training that warms up by itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def exponent(spread: float) -> float:
    """γ of the average ∝ t^γ whose weights have the standard deviation `spread`, as a share of the training.

    Karras et al. 2024 ("Analyzing and improving the training dynamics of diffusion models", arXiv 2312.02696,
    §3.1 and eq. 3): σ² = (γ+1)/((γ+2)²(γ+3)), solved for γ. 0 < spread ≤ 0.25.
    """
    wanted = spread**-2
    roots = np.roots([1, 7, 16 - wanted, 12 - wanted])
    return float(roots.real.max())


def decay(step: int, gamma: float) -> float:
    """How much of the average stays at `step` (from 1): (1 - 1/step)^(γ+1), 0 at the first."""
    return float((1 - 1 / step) ** (gamma + 1))


def update(average: list[Tensor], current: list[Tensor], step: int, gamma: float) -> None:
    """Move the average towards the weights after `step` (from 1) steps, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(average, current, 1 - decay(step, gamma))
