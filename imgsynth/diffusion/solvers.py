"""Few-step solvers of the probability-flow ODE, in EDM's form: x = x₀ + σ·ε, dx/dσ = (x − D(x, σ)) / σ.

A solver is a free function of a denoiser, a start x at `sigmas[0]`, and the falling noise levels that it
steps through; it gives back x at `sigmas[-1]`, which may be 0 (there the last step is the denoiser's own
estimate). `denoise(x, sigma)` takes one number for all of the batch. Flow matching and variance-preserving
models need no solvers of their own: with x̃ = x_t / α_t and σ = σ_t / α_t they are of this form, and the
exponential integrators below do not change under that scaling.

EDM is Karras et al., "Elucidating the design space of diffusion-based generative models" (2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from imgsynth.errors import ModelError

Denoise = Callable[[Tensor, float], Tensor]  # (n, C, H, W) at a noise level → estimates of x₀
Fresh = Callable[[int], Tensor]  # step → standard normal noise of x's shape, each sample's own
Solver = Callable[[Denoise, Tensor, Sequence[float]], Tensor]


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """`steps` + 1 noise levels from `high` to `low`, then 0: evenly spaced in σ^(1/ρ) (EDM, eq. 5).

    `steps` counts the steps, the last of which goes from `low` to 0.
    """
    if steps == 1:
        return [high, 0.0]
    top, bottom = high ** (1 / rho), low ** (1 / rho)
    return [(top + i / (steps - 1) * (bottom - top)) ** rho for i in range(steps)] + [0.0]


def logarithmic(steps: int, low: float, high: float) -> list[float]:
    """As `karras` for ρ → ∞: evenly spaced in log σ, which is half the log signal-to-noise ratio (Lu et al.,
    "DPM-Solver", 2022, §3.4).
    """
    if steps == 1:
        return [high, 0.0]
    return [high * (low / high) ** (i / (steps - 1)) for i in range(steps)] + [0.0]


def straight(steps: int, low: float, high: float) -> list[float]:
    """As `karras`, evenly spaced in the time of flow matching, t = σ / (1 + σ) (Lipman et al., "Flow matching
    for generative modeling", 2023, with x_t = (1 − t) x₀ + t ε).
    """
    if steps == 1:
        return [high, 0.0]
    top, bottom = high / (1 + high), low / (1 + low)
    times = [top + i / (steps - 1) * (bottom - top) for i in range(steps)]
    return [t / (1 - t) for t in times] + [0.0]


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Euler's method, one evaluation a step (EDM, algorithm 1 without its correction; DDIM's step, Song et
    al. 2021, eq. 13).
    """
    for now, then in _steps(sigmas):
        x = _ddim(x, denoise(x, now), now, then)
    return x


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    churn: float = 0.0,
    churn_interval: tuple[float, float] = (0.05, 50.0),
    fresh: Fresh | None = None,
) -> Tensor:
    """Heun's second-order method, two evaluations a step but the last (EDM, algorithm 1); with `churn` > 0
    stochastic (EDM, algorithm 2, S_noise 1), which takes its noise from `fresh`.
    """
    steps = len(sigmas) - 1
    for k, (now, then) in enumerate(_steps(sigmas)):
        if churn > 0 and fresh is not None and churn_interval[0] <= now <= churn_interval[1]:
            raised = now * (1 + min(churn / steps, math.sqrt(2) - 1))
            x = x + math.sqrt(raised**2 - now**2) * fresh(k)
            now = raised
        slope = (x - denoise(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = 0.5 * (slope + (ahead - denoise(ahead, then)) / then)
            ahead = x + (then - now) * slope
        x = ahead
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """DPM-Solver++(2M), one evaluation a step (Lu et al., "DPM-Solver++", 2022, algorithm 2), λ = −log σ."""
    before: Tensor | None = None
    last = 0.0
    for now, then in _steps(sigmas):
        found = denoise(x, now)
        if then == 0:
            return found
        width = math.log(now / then)
        estimate = found
        if before is not None:
            r = last / width
            estimate = (1 + 0.5 / r) * found - 0.5 / r * before
        x = then / now * x - math.expm1(-width) * estimate
        before, last = found, width
    return x


def adams(denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, order: int = 3) -> Tensor:
    """A predictor and corrector of up to `order`, one evaluation a step: x₀ is the polynomial in λ = −log σ
    through the last estimates, and what the step needs of it is integrated exactly.

    The predictor is the exponential Adams-Bashforth rule, the corrector Adams-Moulton's with the estimate
    that the next step needs in any case (as UniPC has it, Zhao et al. 2023, algorithms 5 to 8; the
    coefficients are those of SA-Solver without noise, Xue et al. 2023, eqs. 14 and 17).
    """
    times: list[float] = []
    held: list[Tensor] = []
    start, begun = x, 0.0
    for now, then in _steps(sigmas):
        found, here = denoise(x, now), -math.log(now)
        if then == 0:
            return found
        times, held = [*times, here][-order:], [*held, found][-order:]
        if len(held) > 1:  # correct this step's start with what was found there
            x = _integrated(start, begun, here, times, held)
        start, begun = x, here
        x = _integrated(start, begun, -math.log(then), times, held)
    return x


def _steps(sigmas: Sequence[float]) -> pairwise[tuple[float, float]]:
    """(from, to) of each step. Raises ModelError unless the levels fall, all but the last above 0."""
    if len(sigmas) < 2 or any(b >= a for a, b in pairwise(sigmas)) or sigmas[-1] < 0:
        raise ModelError(f"noise levels: expected at least two, falling, none below 0; got {list(sigmas)}")
    return pairwise(sigmas)


def _ddim(x: Tensor, found: Tensor, now: float, then: float) -> Tensor:
    return found + then / now * (x - found) if then > 0 else found


def _integrated(
    x: Tensor, begin: float, end: float, times: Sequence[float], held: Sequence[Tensor]
) -> Tensor:
    """x from λ `begin` to `end` where x₀ is the polynomial through `held` at `times`: the exact solution
    e^(begin − end) x + ∫ e^(λ − end) x₀(λ) dλ.
    """
    out = math.exp(begin - end) * x
    for weight, estimate in zip(_weights(begin, end, times), held, strict=True):
        out = out + weight * estimate
    return out


def _weights(begin: float, end: float, times: Sequence[float]) -> list[float]:
    """∫ e^(λ − end) L_j(λ) dλ from `begin` to `end` for each Lagrange polynomial L_j on `times`."""
    moments = [-math.expm1(begin - end)]  # ∫ e^(λ − end) (λ − end)^k dλ, by parts
    for k in range(1, len(times)):
        moments.append(-((begin - end) ** k) * math.exp(begin - end) - k * moments[-1])
    powers = torch.tensor([[(t - end) ** k for t in times] for k in range(len(times))], dtype=torch.float64)
    weights: list[float] = torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()
    return weights


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m, "adams": adams}
SCHEDULES: dict[str, Callable[[int, float, float], list[float]]] = {
    "karras": karras, "logarithmic": logarithmic, "straight": straight,
}  # fmt: skip


def evaluations(solver: str, steps: int) -> int:
    """How often a solver asks the denoiser on its way to σ = 0."""
    return 2 * steps - 1 if solver == "heun" else steps
