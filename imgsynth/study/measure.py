"""From answers on the test images to the arms of results.json: scores with intervals, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.study.resample import DIFFERENCE, RATIO, SHARE, Resampler, interval
from imgsynth.study.spec_arms import arm_of
from imgsynth.study.task import Table, Task

Tables = Mapping[str, Sequence[Table]]  # arm → a table a seed


@dataclass(frozen=True)
class Measured:
    """Every figure of every arm: as it is, and in each bootstrap replicate."""

    point: Mapping[str, Mapping[str, F64]]  # arm → score → (K,) or, per class, (K, C)
    star: Mapping[str, Mapping[str, F64]]  # arm → score → (B,) or (B, C), averaged over the seeds drawn
    draw: Resampler
    headline: str

    def of(self, arm: str) -> tuple[F64, F64]:
        """Headline of an arm: of each seed (K,), and of each replicate (B,)."""
        return self.point[arm][self.headline], self.star[arm][self.headline]


def resample(task: Task, arms: Tables, draw: Resampler, *, stream: int = 0) -> Measured:
    """Score all arms on everything and on every replicate; `stream` keeps the seeds' draws apart."""
    point = {}
    for arm, tables in arms.items():
        at = [table.figures(draw.everything) for table in tables]
        point[arm] = {name: np.stack([one[name][0] for one in at]) for name in at[0]}
    seeds = {arm: draw.seeds(len(tables), stream + k) for k, (arm, tables) in enumerate(arms.items())}
    parts: dict[str, list[dict[str, F64]]] = {arm: [] for arm in arms}
    for chunk in draw.chunks():
        weights = draw.images(chunk)
        for arm, tables in arms.items():
            drawn = [table.figures(weights) for table in tables]
            parts[arm].append(
                {
                    name: np.einsum(
                        "bk,bk...->b...", seeds[arm][chunk], np.stack([one[name] for one in drawn], axis=1)
                    )
                    for name in drawn[0]
                }
            )
    star = {arm: {n: np.concatenate([d[n] for d in rows]) for n in rows[0]} for arm, rows in parts.items()}
    return Measured(point, star, draw, task.headline)


def resample_headline(
    groups: Sequence[Sequence[Table]], draw: Resampler, stream: int
) -> tuple[list[F64], F64]:
    """Headline of each group of tables: of each seed [(K,)], and of each replicate (B, groups)."""
    point = [np.array([float(table.headline(draw.everything)[0]) for table in tables]) for tables in groups]
    stars = np.empty((draw.replicates, len(groups)))
    seeds = [draw.seeds(len(tables), stream + k) for k, tables in enumerate(groups)]
    for chunk in draw.chunks():
        weights = draw.images(chunk)
        for k, tables in enumerate(groups):
            drawn = np.stack([table.headline(weights) for table in tables], axis=1)
            stars[chunk, k] = (seeds[k][chunk] * drawn).sum(axis=1)
    return point, stars


def arm_figures(
    task: Task, arm: str, measured: Measured, classes: Sequence[str], counts: I64, n: int
) -> dict[str, Any]:
    """One arm of results.json, all scores and classes."""
    point, star, units = measured.point[arm], measured.star[arm], measured.draw.units
    out: dict[str, Any] = {}
    for name in task.scores:
        per_seed = point[name]
        mean = float(per_seed.mean())
        known = bool(np.isfinite(mean))
        out[name] = {
            "mean": mean if known else None,
            "ci95": interval(star[name], [per_seed], units, point=mean, box=SHARE) if known else None,
            "seeds": len(per_seed),
            "n": n,
            "per_seed": [float(v) if np.isfinite(v) else None for v in per_seed],
        }
    out["per_class"] = []
    for c, name in enumerate(classes):
        entry: dict[str, Any] = {"class": name, "n": int(counts[c]), task.headline: None, "ci95": None}
        of_class = point["per_class"][:, c]
        if counts[c] and np.isfinite(of_class).all():
            mean = float(of_class.mean())
            ends = interval(star["per_class"][:, c], [of_class], units, point=mean, box=SHARE)
            entry.update({task.headline: mean, "ci95": ends})
        out["per_class"].append(entry)
    return out


def paired(measured: Measured) -> dict[str, Any]:
    """`A_minus_B` and `synthetic_over_real` of results.json: over the same test images."""
    arms, out = list(measured.point), {}
    pairs = [(a, "real") for a in arms if a != "real"] + [("both", "synthetic")]
    pairs.sort(key=lambda pair: pair != ("both", "real"))
    for a, b in pairs:
        if a in arms and b in arms:
            out[f"{a}_minus_{b}"] = compared(np.subtract, DIFFERENCE, measured, (a, b))
    for a in arms:
        if "real" in arms and arm_of(a).kind == "synthetic" and measured.of("real")[0].mean() > 0:
            out[f"{a}_over_real"] = compared(np.divide, RATIO, measured, (a, "real"))
    return out


def compared(
    how: Callable[[F64, F64], F64], box: tuple[float, float], measured: Measured, pair: tuple[str, str]
) -> dict[str, Any]:
    """Headline of two arms compared by `how`: their difference or ratio, over the same test images."""
    (a, a_star), (b, b_star) = (measured.of(arm) for arm in pair)
    mean = float(how(a.mean(), b.mean()))
    with np.errstate(divide="ignore", invalid="ignore"):
        stars: NDArray[Any] = how(a_star, b_star)
    stars = np.where(np.isfinite(stars), stars, np.nan)
    return {"mean": mean, "ci95": interval(stars, [a, b], measured.draw.units, point=mean, box=box)}
