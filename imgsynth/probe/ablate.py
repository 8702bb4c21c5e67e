"""Which randomizers matter: freeze or widen one at a time, all other draws held fixed, and see what real
images say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgsynth.errors import ImgsynthError
from imgsynth.evaluate.perclass import benjamini_hochberg
from imgsynth.probe.bench import Bench, Setting, learned_little, real_images
from imgsynth.probe.compare import figures, paired, scored
from imgsynth.scenefile import Scene
from imgsynth.study.progress import Bars
from imgsynth.study.resample import Resampler
from imgsynth.widen import branches, chosen_leaves, widened

WRITTEN = "as written"
FDR = 0.05


def ablate(
    scene: Scene,
    real: str,
    out: Path,
    setting: Setting,
    *,
    paths: Sequence[str] = (),
    factor: float = 0.0,
    apart: Sequence[str] = (),
    replicates: int = 2000,
    bars: Bars | None = None,
) -> dict[str, Any]:
    """Score the scene as written and with each of `paths` scaled by `factor` (0: frozen), on real images.

    Every variant has the same frames (seed, indices), so the same values of all other leaves, and its models
    the same initial weights and batch order. Differences are variant − as written, paired over real images
    and training seeds; q controls the false discovery rate over the randomizers.

    Args:
        scene: the scene.
        real: DATA of real validation images.
        out: folder for frames, trainings and results.
        setting: what is the same for every variant.
        paths: leaves or branches (default: each top branch that varies).
        factor: see `imgsynth.widen`.
        apart: DATA that `real` must share no image with (the test set).
        replicates: bootstrap replicates.
        bars: progress.

    Raises:
        ImgsynthError: a factor of 1, a path that names nothing, test images, classes that differ.
    """
    if factor == 1:
        raise ImgsynthError("--factor: 1 leaves the scene as written; give 0 to freeze or e.g. 2 to widen")
    plan = scene.plan()
    names = list(dict.fromkeys(paths)) or branches(plan)
    if not names:
        raise ImgsynthError(f"{scene.spec.name}: nothing varies in this scene, so nothing can be ablated")
    variants = {name: widened(scene.spec, [name], factor) for name in names}
    task = setting.task
    data = real_images(task, real, apart)
    same = [name for name, spec in variants.items() if spec == scene.spec]
    tried = {WRITTEN: scene.spec, **{k: v for k, v in variants.items() if k not in same}}
    with bars or Bars(quiet=True) as shown:
        tables = Bench(scene, data, setting, out, shown).tables(tried)
    draw = Resampler(len(data), data.groups, replicates)
    base = figures(tables.pop(WRITTEN), draw)
    rows: list[dict[str, Any]] = []
    for name, models in tables.items():
        of = figures(models, draw)
        rows.append(
            {
                "path": name,
                "leaves": chosen_leaves(plan, [name]),
                "score": scored(of, draw),
                "difference": paired(of, base, draw),
            }
        )
    for row, q in zip(rows, benjamini_hochberg([r["difference"]["p"] for r in rows]), strict=True):
        row["difference"]["q"] = float(q)
    rows.sort(key=lambda row: (row["difference"]["mean"], row["path"]))
    written = scored(base, draw)
    notes = [f"{name}: factor {factor:g} changes nothing there, so it was left out" for name in same]
    return {
        "analysis": "ablate",
        "headline": task.headline,
        "factor": factor,
        "as_written": written,
        "randomizers": rows,
        "fdr": FDR,
        "notes": notes + learned_little(task, data, written["mean"]),
    }


def verdict(results: dict[str, Any]) -> list[str]:
    """In words: which randomizers matter at the false discovery rate."""
    done = "freezing" if results["factor"] == 0 else f"scaling by {results['factor']:g}"
    sure = [row for row in results["randomizers"] if row["difference"]["q"] <= results["fdr"]]
    worse = [row for row in sure if row["difference"]["mean"] < 0]
    better = [row for row in sure if row["difference"]["mean"] > 0]
    said = []
    if not results["randomizers"]:
        return ["Nothing was changed, so nothing can be said."]
    if worse:
        said.append(f"{done.capitalize()} costs real {results['headline']}: {_listed(worse)}.")
    if better:
        said.append(f"{done.capitalize()} gains real {results['headline']}: {_listed(better)}.")
    if not sure:
        widest = max(max(abs(v) for v in row["difference"]["ci95"]) for row in results["randomizers"])
        said.append(
            f"No effect of {done} stands at a false discovery rate of {100 * results['fdr']:.3g} %; effects "
            f"beyond {100 * widest:.1f} points are ruled out. More images or seeds would tell smaller ones."
        )
    return said


def _listed(rows: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{row['path']} ({100 * row['difference']['mean']:+.1f} points)".replace("-", "−")
        for row in sorted(rows, key=lambda row: -abs(row["difference"]["mean"]))
    )
