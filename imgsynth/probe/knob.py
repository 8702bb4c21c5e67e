"""The implausibility knob: real score against how far the ranges of a scene are pulled in or pushed out.

Data need not look real to teach (Alrashedy et al. 2023, Offenhuber 2025): past what is plausible a model may
meet the real world as one more variation. ε scales the spread of the chosen leaves about their medians: at 0
all are frozen, at 1 they are as written, beyond 1 they leave what the scene's author thought plausible.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgsynth.errors import ImgsynthError
from imgsynth.evaluate.perclass import benjamini_hochberg
from imgsynth.probe.bench import Bench, Setting, learned_little, real_images
from imgsynth.probe.compare import best_shares, figures, paired, scored
from imgsynth.scenefile import Scene
from imgsynth.study.progress import Bars
from imgsynth.study.resample import Resampler
from imgsynth.widen import branches, chosen_leaves, widened

EPSILONS = (0.0, 0.5, 1.0, 1.5, 2.0)


def knob(
    scene: Scene,
    real: str,
    out: Path,
    setting: Setting,
    *,
    paths: Sequence[str] = (),
    epsilons: Sequence[float] = EPSILONS,
    apart: Sequence[str] = (),
    replicates: int = 2000,
    bars: Bars | None = None,
) -> dict[str, Any]:
    """Score the scene at every ε on real images; 1 is always among them.

    All have the same frames and training seeds, so differences from ε = 1 are paired. `best` is the ε with
    the highest score; `best_share` of each says in which share of bootstrap replicates it is the best, which
    is how sure that choice is.

    Args:
        scene: the scene.
        real: DATA of real validation images.
        out: folder for frames, trainings and results.
        setting: what is the same for every ε.
        paths: leaves or branches that ε moves (default: all that vary).
        epsilons: the values of ε.
        apart: DATA that `real` must share no image with (the test set).
        replicates: bootstrap replicates.
        bars: progress.

    Raises:
        ImgsynthError: no ε but 1, a path that names nothing, test images, classes that differ.
    """
    wanted = sorted({1.0, *(float(e) for e in epsilons)})
    if len(wanted) < 2:
        raise ImgsynthError("--epsilon: expected at least one value other than 1")
    plan = scene.plan()
    names = list(dict.fromkeys(paths)) or branches(plan)
    if not names:
        raise ImgsynthError(f"{scene.spec.name}: nothing varies in this scene, so there is no knob to turn")
    variants = {f"ε {e:g}": widened(scene.spec, names, e) for e in wanted}
    data = real_images(setting.task, real, apart)
    with bars or Bars(quiet=True) as shown:
        tables = Bench(scene, data, setting, out, shown).tables(variants)
    draw = Resampler(len(data), data.groups, replicates)
    of = {e: figures(models, draw) for e, models in zip(wanted, tables.values(), strict=True)}
    shares = best_shares(of, draw)
    points: list[dict[str, Any]] = []
    for e in wanted:
        point: dict[str, Any] = {"epsilon": e, "score": scored(of[e], draw), "best_share": shares[e]}
        if e != 1:
            point["difference"] = paired(of[e], of[1.0], draw)
        points.append(point)
    tested = [point["difference"] for point in points if "difference" in point]
    for row, q in zip(tested, benjamini_hochberg([row["p"] for row in tested]), strict=True):
        row["q"] = float(q)
    best = max(points, key=lambda point: (point["score"]["mean"], -abs(point["epsilon"] - 1)))
    return {
        "analysis": "knob",
        "headline": setting.task.headline,
        "leaves": chosen_leaves(plan, names),
        "points": points,
        "best": best["epsilon"],
        "notes": learned_little(setting.task, data, max(point["score"]["mean"] for point in points)),
    }


def verdict(results: dict[str, Any]) -> list[str]:
    """In words: which ε is best, how sure that is, and what widening does."""
    best = next(point for point in results["points"] if point["epsilon"] == results["best"])
    share, name = best["best_share"], results["headline"]
    said = [f"Real {name} is highest at ε = {best['epsilon']:g}, in {100 * share:.0f} % of the replicates."]
    if best["epsilon"] == 1:
        said.append("The scene as written is as good as any other width tried.")
    else:
        gain = best["difference"]
        sure = gain["ci95"][0] > 0 and gain["q"] <= 0.05
        size = f"{100 * gain['mean']:+.1f} points".replace("-", "−")
        told = "a difference these images can tell" if sure else "which these images cannot tell from none"
        said.append(f"Against the scene as written that is {size}, {told}.")
    return said
