"""What a network predicts, in one form: D(x̃; σ) = c_skip·x̃ + c_out·F(c_in·x̃, time), x̃ = x₀ + σε.

The form is that of Karras et al. 2022 ("Elucidating the design space of diffusion-based generative models",
arXiv 2206.00364, eq. 7). Both objectives fit it, so samplers, guidance and tests know σ and D alone:

- `flow` (Lipman et al. 2023, arXiv 2210.02747; Esser et al. 2024, arXiv 2403.03206): x_t = (1-t)x₀ + tε is
  x̃/(1+σ) with t = σ/(1+σ), and F = ε - x₀. Then c_in = c_skip = 1/(1+σ), c_out = -σ/(1+σ), time = t.
- `v` (Salimans and Ho 2022, arXiv 2202.00512), on data divided by its spread σ_d: the angle φ = atan(σ/σ_d),
  x_φ = cos φ·x₀/σ_d + sin φ·ε, F = cos φ·ε - sin φ·x₀/σ_d. Then c_in = 1/√(σ²+σ_d²), c_skip =
  σ_d²/(σ²+σ_d²), c_out = -σσ_d/√(σ²+σ_d²), time = 2φ/π (the cosine schedule of Nichol and Dhariwal 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from imgsynth.diffusion.config import DiffuserConfig

BLIND = 80.0  # σ of mask bits that say nothing: pure noise, as where sampling starts
TIMES = 1000  # the net's clock runs from 0 to this, as diffusers' schedulers count


@dataclass(frozen=True)
class Scales:
    """The factors of D(x̃; σ) at each σ, all shaped like σ; `time` counts from 0 (clean) to `TIMES`."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    time: Tensor


def scales(config: DiffuserConfig, sigma: Tensor) -> Scales:
    """The factors of the configuration's objective at noise levels σ ≥ 0 (any shape)."""
    if config.objective == "flow":
        near = 1 / (1 + sigma)
        return Scales(near, near, -sigma * near, TIMES * sigma * near)
    spread = config.sigma_data
    near = torch.rsqrt(sigma**2 + spread**2)
    time = TIMES * 2 / math.pi * torch.atan2(sigma, torch.full_like(sigma, spread))
    return Scales(near, (spread * near) ** 2, -sigma * spread * near, time)


def sigma_of_time(config: DiffuserConfig, time: Tensor) -> Tensor:
    """σ where the net's clock shows `time`, 0 ≤ time < `TIMES`: the inverse of `scales(…).time`."""
    t = time / TIMES
    if config.objective == "flow":
        return t / (1 - t)
    return config.sigma_data * torch.tan(t * (math.pi / 2))


def drawn_sigma(config: DiffuserConfig, u: Tensor, mean: float, spread: float) -> Tensor:
    """Noise levels to train on, from uniforms `u` in (0, 1).

    `flow`: t is logit-normal with that mean and spread (Esser et al. 2024, eq. 19). `v`: the angle is uniform
    (cosine schedule), whatever they are.
    """
    if config.objective == "flow":
        return torch.exp(mean + spread * torch.special.ndtri(u))  # logit t = log σ
    return config.sigma_data * torch.tan(u * (math.pi / 2))


def loss_weight(config: DiffuserConfig, sigma: Tensor, gamma: float) -> Tensor:
    """Weight of the squared error of F: 1 for `flow`; min(SNR, γ)/(SNR + 1) for `v`.

    Min-SNR for v-prediction: Hang et al. 2023 (arXiv 2303.09556, §3.4); SNR = (σ_d/σ)².
    """
    if config.objective == "flow":
        return torch.ones_like(sigma)
    snr = (config.sigma_data / sigma) ** 2
    return snr.clamp(max=gamma) / (snr + 1)


def target(config: DiffuserConfig, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    """What F should say: (x₀ - c_skip·x̃)/c_out, shaped like the images; σ > 0, (n,), or (n, C, 1, 1) where
    planes differ.
    """
    s = scales(config, sigma.reshape(-1, 1, 1, 1) if sigma.ndim == 1 else sigma)
    return (clean - s.c_skip * noisy) / s.c_out
