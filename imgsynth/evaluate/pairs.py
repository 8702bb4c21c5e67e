"""Two detectors on the same images: the difference of every figure, with its interval and p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import Difference, percentile_shares, resample_counts
from imgsynth.evaluate.detection import LEVEL, DetectionTable


@dataclass(frozen=True)
class DetectionDifference:
    """a − b. None where a figure is not known."""

    figures: dict[str, Difference | None]  # "AP", "AP50", …
    per_class: dict[str, dict[str, Difference | None]]  # of each class that has objects: "AP", "AP50", …

    def to_json(self) -> dict[str, Any]:
        """{"AP": {"mean", "ci95", "p"} or null, …, "per_class": {name: {"AP", "AP50", …}}}."""
        return {
            **{key: _json(d) for key, d in self.figures.items()},
            "per_class": {
                name: {key: _json(d) for key, d in row.items()} for name, row in self.per_class.items()
            },
        }


def paired_detections(
    a: DetectionTable | Sequence[DetectionTable],
    b: DetectionTable | Sequence[DetectionTable],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> DetectionDifference:
    """Difference of the mean figures of two models, or of several trainings (seeds) of each, in pairs.

    Images (or groups) are resampled for both sides together, and so are the runs where there are several
    (the pigeonhole bootstrap, as in `bootstrap`). p is twice the smaller share of the resampled differences,
    centred on the observed one, on either side of 0, one added above and below.

    Raises:
        DataError: tables that are not on the same images and classes, or unequal numbers of runs.
    """
    ours = [a] if isinstance(a, DetectionTable) else list(a)
    theirs = [b] if isinstance(b, DetectionTable) else list(b)
    _check(ours, theirs)
    units = int(ours[0].units().max()) + 1
    runs = len(ours)
    value = _differences([x.figures() for x in ours], [x.figures() for x in theirs], None)
    # A seed of its own, so that the draws of images are the same whatever the number of runs.
    drawn = list(resample_counts(runs, bootstrap, seed + (1 << 64))) if runs > 1 else None
    draws = _differences(
        [x.resampled(bootstrap, seed) for x in ours],
        [x.resampled(bootstrap, seed) for x in theirs],
        None if drawn is None else np.concatenate(drawn),
    )
    made = {key: _difference(v[0], draws[key], units) for key, v in value.items() if v.ndim == 1}
    held = ours[0].objects.sum(axis=0)
    per_class = {
        name: {
            key.removeprefix("per_class_"): _difference(v[0, k], draws[key][:, k], units)
            for key, v in value.items()
            if v.ndim == 2
        }
        for k, name in enumerate(ours[0].classes)
        if held[k]
    }
    return DetectionDifference(made, per_class)


def _differences(
    ours: list[dict[str, F64]], theirs: list[dict[str, F64]], runs: F64 | None
) -> dict[str, F64]:
    """Mean over the runs (weighted by `runs` (b, r) where given) of the differences of each figure."""
    out = {}
    for key in ours[0].keys() & theirs[0].keys():
        each = np.stack([x[key] - y[key] for x, y in zip(ours, theirs, strict=True)], axis=1)
        share = np.full((1, len(ours)), 1 / len(ours)) if runs is None else runs / runs.sum(axis=1)[:, None]
        out[key] = np.einsum("br...,br->b...", each, np.broadcast_to(share, each.shape[:2]))
    return dict(sorted(out.items()))


def _difference(value: float, draws: F64, units: int) -> Difference | None:
    known = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(known):
        return None
    known = known - known.mean() + value
    lo, hi = np.quantile(known, percentile_shares(units, LEVEL))
    if np.ptp(known) < 1e-12:  # the centring leaves rounding of a difference that never changes
        known = np.full(len(known), value)
    below, above = np.count_nonzero(known <= 0), np.count_nonzero(known >= 0)
    p = min(1.0, 2 * (1 + min(below, above)) / (len(known) + 1))
    return Difference(float(value), float(min(lo, value)), float(max(hi, value)), p)


def _check(ours: list[DetectionTable], theirs: list[DetectionTable]) -> None:
    if not ours or len(ours) != len(theirs):
        raise DataError(f"paired difference: as many runs on both sides, got {len(ours)} and {len(theirs)}")
    first = ours[0]
    for other in [*ours, *theirs]:
        same = first.classes == other.classes and np.array_equal(first.objects, other.objects)
        groups = np.array_equal(first.units(), other.units())
        if not (same and groups):
            raise DataError(
                f"paired difference: the same images and classes on both sides expected, got {first.name} "
                f"({len(first.objects)} images) and {other.name} ({len(other.objects)})"
            )


def _json(value: Difference | None) -> dict[str, object] | None:
    return None if value is None else value.to_json()
