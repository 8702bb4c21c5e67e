"""The curves of results.json: how the error falls with synthetic images, with real ones, and with both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imgsynth.batch import F64
from imgsynth.evaluate.scaling import advise, fit_scaling, holdout
from imgsynth.evaluate.surface import fit_surface
from imgsynth.evaluate.worth import effective_real_images, exchange_rate
from imgsynth.study.measure import resample_headline
from imgsynth.study.resample import SHARE, Resampler, interval
from imgsynth.study.task import Table

FIT_REPLICATES = 1000
MIN_FIT = 3
SURFACE_REPLICATES = 300
_STREAM, _REAL_STREAM, _SURFACE_STREAM = 100, 200, 1000  # of the seeds' draws


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
    right, right_star = resample_headline(
        [curve[n] for n in sizes], draw, _REAL_STREAM if arm == "real" else _STREAM
    )
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
        "advice": advise(fit, sizes[-1]).to_json(),
        "holdout": holdout(sizes, per_seed, D=D, bootstrap=100).to_json() if len(sizes) > MIN_FIT else None,
    }


class RealCurve:
    """Error of models trained on so many real images alone: what synthetic images are priced by."""

    def __init__(self, curve: Mapping[int, Sequence[Table]], draw: Resampler):
        self.sizes = sorted(curve)
        right, star = resample_headline([curve[n] for n in self.sizes], draw, _REAL_STREAM)
        self.errors, self.star = [1 - r for r in right], 1 - star

    def worth(self, score: F64, star: F64, n_real: int, n_synthetic: int) -> dict[str, Any]:
        """Effective real images and exchange rate of models that score so, seen `n_real` real images."""
        effective = effective_real_images(
            self.sizes, self.errors, n_real, 1 - score, resampled=(self.star, 1 - star)
        )
        return {
            "n_real": n_real,
            "n_synthetic": n_synthetic,
            "error": float(1 - score.mean()),
            "effective": effective.to_json(),
            "exchange": exchange_rate(effective, n_synthetic).to_json(),
        }


def surface(
    arm: str, grid: Mapping[tuple[int, int], Sequence[Table]], real: RealCurve, draw: Resampler
) -> dict[str, Any]:
    """Error at each number of synthetic and of real images, what each cell is worth, and the law of both."""
    cells = sorted(grid)
    right, star = resample_headline([grid[cell] for cell in cells], draw, _SURFACE_STREAM)
    per_seed = [1 - r for r in right]
    out: dict[str, Any] = {
        "arm": arm,
        "sizes": sorted({n for n, _ in cells}),
        "real_sizes": sorted({s for _, s in cells}),
        "cells": [],
        "fit": None,
        "reason": "",
    }
    for k, (n, s) in enumerate(cells):
        error = float(per_seed[k].mean())
        out["cells"].append(
            {
                **real.worth(right[k], star[:, k], s, n),
                "ci95": interval(1 - star[:, k], [per_seed[k]], draw.units, point=error, box=SHARE),
                "errors_per_seed": per_seed[k].tolist(),
            }
        )
    if min(len(out["sizes"]), len(out["real_sizes"])) < MIN_FIT:
        out["reason"] = f"too few numbers of synthetic images ({len(out['sizes'])}) to fit it to"
        return out
    rendered, shown = np.array(cells, float).T
    fit = fit_surface(rendered.tolist(), shown.tolist(), per_seed, resampled=(1 - star)[:SURFACE_REPLICATES])
    most = float(rendered.max()), float(shown.max())
    fine_n = np.geomspace(rendered.min(), rendered.max(), 41)
    out["fit"] = {
        **fit.to_json(),
        "curves": {
            "s": out["real_sizes"],
            "n": fine_n.tolist(),
            "error": fit.predict(fine_n[None], np.array(out["real_sizes"])[:, None]).tolist(),
        },
        "exchange": fit.exchange(*most).to_json(),
        "more_synthetic": fit.more_synthetic(*most, most[1]).to_json(),
    }
    return out
