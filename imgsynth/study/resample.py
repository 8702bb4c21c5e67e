"""Bootstrap replicates of a study's figures, and the intervals read from them.

Every interval is that of a hierarchical bootstrap: a replicate draws seeds anew and test images anew (whole
groups, where the images come in groups), the same images for every arm and size, so differences between arms
are paired. Of k units each replicate draws k − 1: then the bootstrap variance of a mean is unbiased, also for
three seeds, where drawing k would give two thirds. The percentiles are moved out by t/z with the degrees of
freedom of both sources of variance (Satterthwaite's formula), since both seeds and groups may be few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64

_CHUNK = 100  # replicates at once, which bounds memory to _CHUNK × images
SHARE, DIFFERENCE, RATIO = (0.0, 1.0), (-1.0, 1.0), (0.0, np.inf)


class Resampler:
    """Draws of test images and of seeds for `replicates` bootstrap replicates, the same for all that is
    measured.

    Args:
        groups: (n,) what to draw whole, or None for single images.
    """

    def __init__(self, n: int, groups: NDArray[Any] | None, replicates: int, seed: int = 0):
        # One group alone says nothing of how groups differ; then single images are all there is to draw.
        names, row = np.unique(np.zeros(n) if groups is None else groups, return_inverse=True)
        self._row = np.arange(n) if len(names) < 2 else row.ravel()
        self.units = int(self._row.max()) + 1
        self.replicates = replicates
        self._seed = seed
        self._unit_weight = _draw(np.random.default_rng([seed, 0]), self.units, replicates)

    @property
    def everything(self) -> F32:
        """(1, n) every image once."""
        return np.ones((1, len(self._row)), np.float32)

    def chunks(self) -> list[slice]:
        """Slices of replicates to work through."""
        return [slice(a, min(a + _CHUNK, self.replicates)) for a in range(0, self.replicates, _CHUNK)]

    def images(self, chunk: slice) -> F32:
        """(b, n) how often each test image is drawn."""
        return self._unit_weight[chunk][:, self._row]

    def seeds(self, count: int, stream: int) -> F32:
        """(B, count) how often each seed is drawn, adding up to 1; another `stream`, another draw."""
        weight = _draw(np.random.default_rng([self._seed, 1 + stream]), count, self.replicates)
        return weight / weight.sum(axis=1, keepdims=True)


def _draw(rng: np.random.Generator, units: int, replicates: int) -> F32:
    take = max(units - 1, 1)
    return rng.multinomial(take, np.full(units, 1 / units), size=replicates).astype(np.float32)


def interval(
    star: NDArray[Any], per_seed: Sequence[F64], units: int, *, point: float, box: tuple[float, float]
) -> list[float]:
    """95 % interval from replicates `star` (B,) of an estimate `point`, inside `box`.

    Args:
        per_seed: the seeds' values of each arm that enters; their scatter is their part of it.
        units: test units (images or groups) that the replicates drew from.
    """
    low, high = np.nanquantile(star, [0.025, 0.975])
    wide = stretch(star, per_seed, units)
    if wide is not None:
        low, high = point + wide * (low - point), point + wide * (high - point)
    return [float(max(min(low, point), box[0])), float(min(max(high, point), box[1]))]


def stretch(star: NDArray[Any], per_seed: Sequence[F64], units: int) -> float | None:
    """t/z at 97.5 % for the replicates' degrees of freedom; None where they do not vary."""
    from scipy.stats import norm, t

    freedom = degrees_of_freedom(star, per_seed, units)
    return None if freedom is None else float(t.ppf(0.975, freedom) / norm.ppf(0.975))


def degrees_of_freedom(star: NDArray[Any], per_seed: Sequence[F64], units: int) -> float | None:
    """Satterthwaite's degrees of freedom of the two sources of variance; None without any variance."""
    total = float(np.nanvar(star))
    if total <= 0:
        return None
    of_seeds = sum(float(np.var(v, ddof=1)) / len(v) for v in per_seed if len(v) > 1)
    of_seeds = min(of_seeds, total)
    seeds_dof = max(sum(len(v) - 1 for v in per_seed), 1)
    return total**2 / (of_seeds**2 / seeds_dof + (total - of_seeds) ** 2 / max(units - 1, 1))


def p_value(star: NDArray[Any], per_seed: Sequence[F64], units: int, point: float) -> float:
    """Two-sided p of "no difference" for a difference `point` with replicates `star`, by Student's t."""
    from scipy.stats import t

    freedom, sd = degrees_of_freedom(star, per_seed, units), float(np.nanstd(star))
    if freedom is None:
        return 1.0 if point == 0 else 0.0
    return float(2 * t.sf(abs(point) / sd, freedom))
