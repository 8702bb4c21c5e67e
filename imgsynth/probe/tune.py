"""The ranges of a scene fitted to real validation images, never to test images.

Each range of numbers has two parameters: a shift, in half-widths of the range as written, and a factor of its
width. One half of the real images (whole groups) chooses; the other half, which no trial has seen, says what
the choice is worth against the scene as written, with fresh training seeds. That guard is the result; the
score on the choosing half is what a search of many trials makes of luck.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from imgsynth.dataset.disk import disk_errors
from imgsynth.dataset.disk import replace as put
from imgsynth.distributions import Distribution
from imgsynth.errors import ImgsynthError, SceneError
from imgsynth.probe.bench import Bench, Setting, halves, learned_little, real_images
from imgsynth.probe.compare import figures, paired, scored
from imgsynth.probe.search import Parameter, Values, best, importances, search
from imgsynth.scene import SceneSpec
from imgsynth.scenefile import Scene
from imgsynth.study.progress import Bars
from imgsynth.study.resample import Resampler
from imgsynth.widen import as_sets, moved, tunable

WRITTEN, TUNED = "as written", "tuned"
FRESH = 1000  # added to the training seeds for the final comparison
SHIFT, FACTOR = Parameter(-1.0, 1.0, 0.0), Parameter(0.25, 2.5, 1.0, log=True)
OBJECTIVES = ("learner", "statistics")


def tune(
    scene: Scene,
    real: str,
    out: Path,
    setting: Setting,
    *,
    paths: Sequence[str] = (),
    objective: str = "learner",
    trials: int = 40,
    seed: int = 0,
    apart: Sequence[str] = (),
    replicates: int = 2000,
    bars: Bars | None = None,
) -> dict[str, Any]:
    """Search the ranges of leaves for the best real score; killed, it goes on from its log of trials.

    Writes `trials.jsonl`, `tuned.txt` (``PATH=VALUE`` lines for ``--set``), `tuned.yaml` (the scene).

    Args:
        scene: the scene.
        real: DATA of real validation images.
        out: folder for frames, trainings and results.
        setting: how each trial renders and trains; every trial uses all its training seeds.
        paths: leaves or branches (default: every range of one number).
        objective: `learner` (score of trained models) or `statistics` (how near the images' simple statistics
            come to the real ones', quick and rough).
        trials: how many, the scene as written among them.
        seed: of the search.
        apart: DATA that `real` must share no image with (the test set).
        replicates: bootstrap replicates of the final comparison.
        bars: progress.

    Raises:
        ImgsynthError: no Optuna, nothing to tune, test images, classes that differ, a log of another tuning.
    """
    if objective not in OBJECTIVES:
        raise ImgsynthError(f"--objective: expected {' or '.join(OBJECTIVES)}, got {objective!r}")
    leaves = tuned_leaves(scene, paths)
    data = real_images(setting.task, real, apart)
    choosing, reporting = halves(setting.task, data)
    score = _objective(objective, scene, choosing, setting, out / "trial")
    fresh = replace(setting, seeds=tuple(FRESH + s for s in setting.seeds))
    with bars or Bars(quiet=True) as show:
        done = search(
            parameters(leaves),
            lambda values: score(_spec(scene, values)),
            trials=trials,
            seed=seed,
            log=out / "trials.jsonl",
            about=_about(scene, real, objective, setting),
            progress=show.counter("tune", "trials"),
        )
        shutil.rmtree(out / "trial", ignore_errors=True)
        chosen = best(done)
        tuned = _spec(scene, chosen.values)
        tables = Bench(scene, reporting, fresh, out, show).tables({WRITTEN: scene.spec, TUNED: tuned})
    draw = Resampler(len(reporting), reporting.groups, replicates)
    written, after = (figures(tables[name], draw) for name in (WRITTEN, TUNED))
    write_tuned(scene, tuned, out)
    return {
        "analysis": "tune",
        "headline": setting.task.headline,
        "objective": objective,
        "trials": [{"score": t.score, "values": t.values} for t in done],
        "choosing": {"images": len(choosing), "as_written": done[0].score, "tuned": chosen.score},
        "reporting": {
            "images": len(reporting),
            "as_written": scored(written, draw),
            "tuned": scored(after, draw),
            "difference": paired(after, written, draw),
        },
        "moved": _moves(scene, tuned, leaves, importances(parameters(leaves), done)),
        "sets": as_sets(scene.spec, tuned),
        "notes": _notes(leaves, trials) + learned_little(setting.task, data, float(after.per_seed.mean())),
    }


def tuned_leaves(scene: Scene, paths: Sequence[str]) -> list[str]:
    """The ranges at or below `paths`, all of them by default.

    Raises:
        SceneError: a path with none.
    """
    valid = tunable(scene.plan())
    if not paths:
        if not valid:
            raise SceneError(f"{scene.spec.name}: no leaf has a range of one number, so nothing can be tuned")
        return valid
    out: dict[str, None] = {}
    for path in paths:
        below = [p for p in valid if p == path or p.startswith(path + ".")]
        if not below:
            from imgsynth.yamlfile import nearest

            raise SceneError(f"--vary {path}: no range of one number there{nearest(path, valid)}")
        out.update(dict.fromkeys(below))
    return list(out)


def parameters(leaves: Sequence[str]) -> dict[str, Parameter]:
    """Two parameters a leaf: `PATH shift` and `PATH factor`."""
    return {f"{leaf} {what}": p for leaf in leaves for what, p in (("shift", SHIFT), ("factor", FACTOR))}


def _spec(scene: Scene, values: Values) -> SceneSpec:
    leaves = {name.rpartition(" ")[0] for name in values}
    return moved(scene.spec, {p: (values[f"{p} shift"], values[f"{p} factor"]) for p in sorted(leaves)})


def _objective(
    name: str, scene: Scene, choosing: Any, setting: Setting, folder: Path
) -> Callable[[SceneSpec], float]:
    quiet = Bars(quiet=True)

    def learner(spec: SceneSpec) -> float:
        draw = Resampler(len(choosing), choosing.groups, 1)
        tables = Bench(scene, choosing, setting, folder, quiet).tables({"trial": spec})["trial"]
        value = float(figures(tables, draw).per_seed.mean())
        shutil.rmtree(folder, ignore_errors=True)  # the log holds what a trial leaves
        return value

    def statistics(spec: SceneSpec) -> float:
        from imgsynth.evaluate.statistics import statistics as compare

        made = Bench(scene, choosing, setting, folder, quiet).images("trial", spec)
        gaps = compare(made, choosing, halves=2).gaps
        shutil.rmtree(folder, ignore_errors=True)
        return -sum(gap.distance for gap in gaps) / len(gaps)

    if name == "statistics" and setting.task.name != "classify":
        raise ImgsynthError("--objective statistics: compares images of one class each; use learner here")
    return learner if name == "learner" else statistics


def _about(scene: Scene, real: str, objective: str, setting: Setting) -> dict[str, Any]:
    """All that a trial's score depends on, beside its values."""
    return {
        "scene": scene.spec.digest(),
        "real": real,
        "objective": objective,
        "task": setting.task.name,
        "learner": setting.learner.describe(),
        "count": setting.count,
        "frames_seed": setting.seed,
        "training_seeds": list(setting.seeds),
    }


def _moves(
    scene: Scene, tuned: SceneSpec, leaves: Sequence[str], shares: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    before, after = scene.plan().leaves, Scene(tuned, scene.folder).plan().leaves
    rows = []
    for leaf in leaves:
        share = None if shares is None else shares[f"{leaf} shift"] + shares[f"{leaf} factor"]
        laws: list[Distribution] = [plan[leaf].distribution for plan in (before, after)]
        rows.append({"path": leaf, "from": laws[0].to_yaml(), "to": laws[1].to_yaml(), "importance": share})
    return sorted(rows, key=lambda row: (-(row["importance"] or 0.0), row["path"]))


def _notes(leaves: Sequence[str], trials: int) -> list[str]:
    if trials < 4 * len(leaves):
        return [
            f"{trials} trials for {2 * len(leaves)} parameters are few: name the leaves that matter with "
            "--vary (evaluate ablate and errors find them), or give more --trials"
        ]
    return []


def write_tuned(scene: Scene, tuned: SceneSpec, out: Path) -> None:
    """`tuned.txt`, lines for --set, and `tuned.yaml`, the scene, to be put beside its assets."""
    lines = as_sets(scene.spec, tuned)
    text = yaml.safe_dump(tuned.canonical(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        put(out / "tuned.txt", "".join(f"{line}\n" for line in lines).encode())
        put(out / "tuned.yaml", text.encode())


def verdict(results: dict[str, Any]) -> list[str]:
    """In words: what the other half of the real images says of the tuned ranges."""
    report, name = results["reporting"], results["headline"]
    if not results["sets"]:
        return [f"None of {len(results['trials'])} trials did better than the scene as written: keep it."]
    gain, (low, high) = report["difference"]["mean"], report["difference"]["ci95"]
    size = f"{100 * gain:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]".replace("-", "−")
    tested = f"on {report['images']} real images that chose nothing"
    if low > 0:
        said = f"The tuned ranges gain real {name}: {size}, {tested}."
    elif high < 0:
        said = f"The tuned ranges cost real {name}: {size}, {tested}. Keep the scene as written."
    else:
        said = f"The tuned ranges change real {name} by {size}, {tested}, which cannot be told from none."
    chosen = results["choosing"]
    if results["objective"] == "learner":
        own = 100 * (chosen["tuned"] - chosen["as_written"])
        said += f" The half that chose them shows {own:+.1f}.".replace("-", "−")
    return [said]
