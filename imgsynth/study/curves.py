"""The curves of results.json: how the error falls with synthetic images, with real ones, and with both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from imgsynth.evaluate.scaling import advise, fit_scaling
from imgsynth.study.measure import resample_headline
from imgsynth.study.resample import SHARE, Resampler, interval
from imgsynth.study.task import Table

FIT_REPLICATES = 1000
_STREAM = 100  # of the seeds' draws; further curves further on


def scaling(
    arm: str,
    curve: Mapping[int, Sequence[Table]],
    draw: Resampler,
    *,
    D: float | None = None,
    stream: int = 0,
) -> dict[str, Any]:
    """Error by number of images: means with intervals, the fitted law, its band and what it advises."""
    sizes = sorted(curve)
    right, right_star = resample_headline([curve[n] for n in sizes], draw, _STREAM + stream)
    per_seed, stars = [1 - r for r in right], 1 - right_star
    fit = fit_scaling(sizes, per_seed, D=D, resampled=stars[:FIT_REPLICATES])
    grid = np.geomspace(sizes[0], sizes[-1] * 10, 61)
    low, high = fit.band(grid)
    return {
        "arm": arm,
        "sizes": sizes,
        "error": [float(e.mean()) for e in per_seed],
        "ci95": [
            interval(stars[:, k], [e], draw.units, point=float(e.mean()), box=SHARE)
            for k, e in enumerate(per_seed)
        ],
        "errors_per_seed": [[float(v) for v in e] for e in per_seed],
        "fit": fit.to_json(),
        "band": {
            "n": grid.tolist(),
            "error": fit.predict(grid).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
        },
        "advice": asdict(advise(fit, sizes[-1])),
    }
