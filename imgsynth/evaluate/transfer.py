"""TRTR, TSTR and TRTS: trained on real or synthetic images, tested on real or synthetic ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import Estimate
from imgsynth.evaluate.uncertainty import student_stretch

READINGS = {
    ("high", "high"): "both ways: the synthetic images are like the real ones and cover them",
    (
        "low",
        "high",
    ): "missing diversity: a learner of real images knows the synthetic ones, which do not cover the real",
    ("high", "low"): "wider than real: the synthetic images teach the real ones and hold harder ones besides",
    ("low", "low"): "another domain: neither way do the classes look alike",
}


@dataclass(frozen=True)
class Transfer:
    """TRTR, TSTR and TRTS in one: `gap` TRTR − TSTR, `relative` TSTR / TRTR, `reading` in words."""

    trtr: float
    tstr: float
    gap: Estimate
    relative: Estimate
    trts: float | None = None
    reading: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return {**asdict(self), "gap": self.gap.to_json(), "relative": self.relative.to_json()}


def transfer(
    trtr: ArrayLike,
    tstr: ArrayLike,
    trts: ArrayLike | None = None,
    *,
    replicates: Mapping[str, ArrayLike] | None = None,
    high: float = 0.9,
) -> Transfer:
    """Gap TRTR − TSTR, relative score TSTR / TRTR and what TRTS says besides.

    A way counts as high where its score is `high` × TRTR or more.

    Args:
        trtr: (K,) scores of seeds, trained on real, tested on real images.
        tstr: (K',) trained on synthetic, tested on real.
        trts: trained on real, tested on synthetic images.
        replicates: bootstrap replicates (B,) of the mean "trtr" and "tstr" over seeds and test images, row by
            row the same draw; without them the intervals know the seeds only (Welch's, at least two each).
        high: share of TRTR.

    Raises:
        DataError: no score, a score that is not finite or TRTR 0, one seed and no replicates.
    """
    real, synthetic = _scores("trtr", trtr), _scores("tstr", tstr)
    back = None if trts is None else _scores("trts", trts)
    a, b = float(real.mean()), float(synthetic.mean())
    if a <= 0:
        raise DataError("transfer: trained and tested on real images scores 0; nothing can be set against it")
    if replicates is not None:
        x, y = (np.asarray(replicates[k], float) for k in ("trtr", "tstr"))
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = _read(x - y, a - b, real, synthetic)
            ratio = _read(np.where(x > 0, y / x, np.nan), b / a, real / a * (b / a), synthetic / a)
    else:
        gap, ratio = _welch(real, synthetic)
    reading = ""
    if back is not None:
        ways = tuple("high" if v >= high * a else "low" for v in (b, float(back.mean())))
        reading = READINGS[ways[0], ways[1]]
    return Transfer(a, b, gap, ratio, None if back is None else float(back.mean()), reading)


def _scores(name: str, values: ArrayLike) -> F64:
    v = np.atleast_1d(np.asarray(values, float)).ravel()
    if not v.size or not np.isfinite(v).all():
        raise DataError(f"transfer: the scores of {name} are empty or not finite")
    return v


def _read(stars: F64, value: float, *per_seed: F64) -> Estimate:
    """Percentiles of replicates, moved out for few seeds (values of each arm, in the figure's own unit)."""
    parts = [(float(np.var(v, ddof=1)) / len(v), len(v) - 1) for v in per_seed if len(v) > 1]
    of_seeds, everything = sum(v for v, _ in parts), float(np.nanvar(stars))
    freedom = np.inf
    if of_seeds > 0 and everything > 0:
        freedom = of_seeds**2 / sum(v**2 / k for v, k in parts) / min(of_seeds / everything, 1.0) ** 2
    wide = student_stretch(freedom)
    lo, hi = (value + wide * (end - value) for end in np.nanquantile(stars, [0.025, 0.975]))
    return Estimate(value, float(min(lo, value)), float(max(hi, value)))


def _welch(real: F64, synthetic: F64) -> tuple[Estimate, Estimate]:
    """Gap by Welch's t, ratio by the same on logarithms (delta method)."""
    from scipy.stats import t

    if min(len(real), len(synthetic)) < 2:
        raise DataError("transfer: two or more seeds on both sides expected, or replicates")
    a, b = float(real.mean()), float(synthetic.mean())
    va, vb = (float(np.var(v, ddof=1)) / len(v) for v in (real, synthetic))

    def half(x: float, y: float) -> float:
        if x + y == 0:
            return 0.0
        freedom = (x + y) ** 2 / (x**2 / (len(real) - 1) + y**2 / (len(synthetic) - 1))
        return float(np.sqrt(x + y) * t.ppf(0.975, freedom))

    wide = half(va, vb)
    gap = Estimate(a - b, a - b - wide, a - b + wide)
    ratio = b / a
    if ratio == 0:
        return gap, Estimate(0.0, 0.0, wide / a)
    factor = float(np.exp(half(va / a**2, vb / b**2)))
    return gap, Estimate(ratio, ratio / factor, ratio * factor)
