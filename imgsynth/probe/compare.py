"""Paired comparison of variants: the same real images, the same training seeds on both sides.

A replicate draws images (whole groups, where there are groups) and seeds anew, the same for both sides, so
what the two share, hard images and lucky seeds, cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsynth.batch import F64
from imgsynth.study.resample import DIFFERENCE, SHARE, Resampler, interval, p_value
from imgsynth.study.task import Table


@dataclass(frozen=True)
class Figures:
    """Headline score of a variant: of each seed (K,), and of each replicate and seed (B, K)."""

    per_seed: F64
    star: F64


def figures(tables: Sequence[Table], draw: Resampler) -> Figures:
    """Score the models of a variant on everything and on every replicate's images."""
    per_seed = np.array([float(table.headline(draw.everything)[0]) for table in tables])
    star = np.empty((draw.replicates, len(tables)))
    for chunk in draw.chunks():
        weights = draw.images(chunk)
        star[chunk] = np.stack([table.headline(weights) for table in tables], axis=1)
    return Figures(per_seed, star)


def scored(of: Figures, draw: Resampler) -> dict[str, Any]:
    """`{"mean", "ci95", "per_seed"}` of one variant."""
    star = (draw.seeds(len(of.per_seed), 0) * of.star).sum(axis=1)
    mean = float(of.per_seed.mean())
    ends = interval(star, [of.per_seed], draw.units, point=mean, box=SHARE)
    return {"mean": mean, "ci95": ends, "per_seed": of.per_seed.tolist()}


def paired(a: Figures, b: Figures, draw: Resampler) -> dict[str, Any]:
    """`{"mean", "ci95", "p", "per_seed"}` of a − b over the same images and seeds."""
    gaps = a.per_seed - b.per_seed
    star = (draw.seeds(len(gaps), 0) * (a.star - b.star)).sum(axis=1)
    mean = float(gaps.mean())
    return {
        "mean": mean,
        "ci95": interval(star, [gaps], draw.units, point=mean, box=DIFFERENCE),
        "p": p_value(star, [gaps], draw.units, mean),
        "per_seed": gaps.tolist(),
    }


def best_shares(all_figures: Mapping[Any, Figures], draw: Resampler) -> dict[Any, float]:
    """In which share of the replicates each variant scores best."""
    seeds = draw.seeds(len(next(iter(all_figures.values())).per_seed), 0)
    stars = np.stack([(seeds * f.star).sum(axis=1) for f in all_figures.values()], axis=1)
    best = stars >= stars.max(axis=1, keepdims=True) - 1e-12
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return dict(zip(all_figures, shares.tolist(), strict=True))
