"""What generated images are worth against each plain baseline, over the same test images, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from imgsynth.augment.arms import Balanced
from imgsynth.batch import F64, I64
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.study.measure import Measured, arm_figures, resample
from imgsynth.study.resample import DIFFERENCE, SHARE, Resampler, interval, p_value
from imgsynth.study.task import Table

SURE = 0.05  # p-value below which a difference is taken to be there
HURT = 0.005  # what majority classes may lose before it is said
Tables = Mapping[str, Sequence[Table]]


def tail(counts: I64) -> dict[str, I64]:
    """The third of the classes with most training images and the third with fewest (rows, ascending)."""
    n = np.asarray(counts)
    order = np.argsort(-n, kind="stable")
    third = max(1, len(n) // 3)
    return {"majority": np.sort(order[:third]), "minority": np.sort(order[-third:])}


def figures(arms: Tables, test: LabelledImages, counts: I64, replicates: int) -> dict[str, Any]:
    """`arms` and `deltas` of results.json.

    Args:
        arms: arm → answers of a model a seed; `generated` among them where there is such an arm.
        counts: (K,) real training images.
    """
    draw = Resampler(len(test), test.groups, replicates)
    measured = resample(Balanced(), arms, draw)
    thirds = tail(counts)
    out: dict[str, Any] = {"arms": {}, "deltas": {}}
    for arm in arms:
        entry = arm_figures(Balanced(), arm, measured, test.classes, test.counts(), len(test))
        for row in entry["per_class"]:
            row["recall"] = row.pop(Balanced.headline)
        for third, rows in thirds.items():
            point, star = _third(measured, arm, rows)
            mean = float(point.mean())
            ends = interval(star, [point], draw.units, point=mean, box=SHARE)
            entry[third] = {"mean": mean, "ci95": ends, "per_seed": point.tolist()}
        out["arms"][arm] = entry
    if "generated" in arms:
        out["deltas"] = {
            arm: _deltas(measured, arm, thirds, draw.units) for arm in arms if arm != "generated"
        }
    return out


def ceiling(
    results: Mapping[str, Any],
    arms: Tables,
    top: Sequence[Table],
    test: LabelledImages,
    counts: I64,
    replicates: int,
) -> dict[str, Any]:
    """`ceiling` of results.json: what trainings that had all real images reach, and how far that is above the
    baseline that does best on the test images, which is all that a generator could add.

    Args:
        results: `figures` of `arms`.
        arms: as for `figures`.
        top: the answers of those trainings.
    """
    best = strongest(results)
    found = figures({best: arms[best], "generated": top}, test, counts, replicates)
    delta = found["deltas"][best]
    score, above = found["arms"]["generated"]["balanced_accuracy"]["mean"], delta["balanced_accuracy"]
    sentence = f"The ceiling: with the images that were cut away, all of them real, it is {_percent(score)}, "
    sentence += f"{_points(above['mean'])} points {_ends(above)} against the best plain baseline."
    return {**found["arms"]["generated"], "against": best, "delta": delta, "sentence": sentence}


def _third(measured: Measured, arm: str, rows: I64) -> tuple[F64, F64]:
    """Mean recall of some classes: of each seed, and of each replicate (classes that it holds)."""
    with np.errstate(invalid="ignore"):
        return (
            np.nanmean(measured.point[arm]["per_class"][:, rows], axis=1),
            np.nanmean(measured.star[arm]["per_class"][:, rows], axis=1),
        )


def _deltas(measured: Measured, arm: str, thirds: Mapping[str, I64], units: int) -> dict[str, Any]:
    """Generated − `arm`: of balanced accuracy, accuracy, the worst class, the scarce and the common
    classes.
    """

    def score(name: str) -> Callable[[str], tuple[F64, F64]]:
        return lambda of: (measured.point[of][name], measured.star[of][name])

    parts: dict[str, Callable[[str], tuple[F64, F64]]] = {
        name: score(name) for name in ("balanced_accuracy", "accuracy", "worst_class")
    }
    for third, rows in thirds.items():
        parts[third] = lambda of, rows=rows: _third(measured, of, rows)  # type: ignore[misc]
    out = {}
    for name, of in parts.items():
        (a, a_star), (b, b_star) = of("generated"), of(arm)
        mean = float(a.mean() - b.mean())
        ends = interval(a_star - b_star, [a, b], units, point=mean, box=DIFFERENCE)
        out[name] = {"mean": mean, "ci95": ends, "p": p_value(a_star - b_star, [a, b], units, mean)}
    return out


def strongest(results: Mapping[str, Any], score: str = "balanced_accuracy") -> str:
    """The baseline that does best on the test images: a choice that can only be to its own favour."""
    arms = {arm: entry[score]["mean"] for arm, entry in results["arms"].items() if arm != "generated"}
    return max(arms, key=lambda arm: arms[arm])


def verdict(results: Mapping[str, Any], titles: Mapping[str, str], why_none: str) -> dict[str, Any]:
    """What to do, in a sentence, by the first rule that holds.

    1. no generator was given: the baselines are all there is;
    2. validation images gave generated ones no budget: plain augmentation wins;
    3. generated images beat every baseline beyond doubt (interval above 0 and p below 5 % each), and the
       majority classes lose at most half a point against the strongest: use them;
    4. the same, and the majority classes lose more: use them where scarce classes matter more;
    5. a baseline is ahead or level: plain augmentation wins;
    6. ahead of all, but not beyond doubt: undecided.
    """
    best = strongest(results)
    score = results["arms"][best]["balanced_accuracy"]["mean"]
    named = f"{titles[best]}, {_percent(score)} balanced accuracy"
    if "generated" not in results["arms"]:
        if not why_none:
            return _said("measured", 1, best, f"No generator was given; the best plain baseline is {named}.")
        return _said("plain augmentation wins", 2, best, f"Plain augmentation wins ({named}): {why_none}.")
    delta, common = (results["deltas"][best][k] for k in ("balanced_accuracy", "majority"))
    beyond = all(_sure(entry["balanced_accuracy"]) for entry in results["deltas"].values())
    by = f"{_points(delta['mean'])} points of balanced accuracy {_ends(delta)} "
    by += f"against the best plain baseline ({named})"
    rest = f"majority classes {_points(common['mean'])} {_ends(common)}"
    if delta["mean"] <= 0:
        return _said(
            "plain augmentation wins", 5, best, f"Plain augmentation wins: generated images {by}; {rest}."
        )
    if not beyond:
        text = f"Undecided: generated images {by}, and not beyond doubt against every baseline; {rest}."
        return _said("undecided", 6, best, text)
    if common["mean"] < -HURT:
        text = f"Generated images win at the majority's cost: {by}; {rest}."
        return _said("generated images win at the majority's cost", 4, best, text)
    return _said("generated images win", 3, best, f"Generated images win: {by}; {rest}.")


def _sure(delta: Mapping[str, Any]) -> bool:
    """Percentiles and Student's t must agree: over few groups either alone is easily a little too sure."""
    return bool(delta["ci95"][0] > 0 and delta["p"] < SURE)


def _said(action: str, rule: int, against: str, sentence: str) -> dict[str, Any]:
    return {"action": action, "rule": rule, "against": against, "sentence": sentence}


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _ends(delta: Mapping[str, Any]) -> str:
    return f"[{', '.join(_points(v) for v in delta['ci95'])}]"
