"""Experiments on a scene against real validation images: ablate, knob, tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsynth.analyses.options import (
    ApartOption,
    BootstrapOption,
    CountOption,
    NetOption,
    OutOption,
    RealOption,
    SeedsOption,
    StepsOption,
    TaskOption,
    VaryOption,
    WorkersOption,
    finish,
    shown,
)
from imgsynth.console import FreezeOption, JsonOption, SceneArg, SeedOption, SetOption

if TYPE_CHECKING:
    from imgsynth.probe.bench import Setting
    from imgsynth.scenefile import Scene


def ablate(
    scene: SceneArg,
    real: RealOption,
    out: OutOption,
    vary: VaryOption = [],  # noqa: B006
    factor: Annotated[
        float, typer.Option("--factor", min=0, help="0 freezes at the median, 2 doubles the spread about it.")
    ] = 0.0,
    count: CountOption = 1000,
    steps: StepsOption = None,
    seeds: SeedsOption = 3,
    task: TaskOption = "classify",
    net: NetOption = None,
    apart: ApartOption = [],  # noqa: B006
    seed: SeedOption = 0,
    sets: SetOption = [],  # noqa: B006
    freeze: FreezeOption = [],  # noqa: B006
    workers: WorkersOption = None,
    bootstrap: BootstrapOption = 2000,
    as_json: JsonOption = False,
) -> None:
    """Which randomizers matter: freeze (or widen) one at a time and see what real images say.

    All other draws stay as they are, and so do training seeds and batches, so each difference is paired: far
    fewer images and trainings tell an effect than two independent experiments need. One variant more than
    --vary names is rendered and trained (--seeds times each); by default every top branch that varies, such
    as light or sensor. q is p adjusted for the false discovery rate over the randomizers. Interrupted, the
    same command goes on.
    """
    from imgsynth.analyses import pages
    from imgsynth.probe.ablate import ablate as run
    from imgsynth.probe.ablate import verdict
    from imgsynth.report.words import points
    from imgsynth.study.progress import Bars

    loaded, setting = _prepare(scene, sets, freeze, task, net, steps, seeds, count, seed, workers)
    command = shown(
        "ablate", scene, ("--real", real), ("-o", out), ("--vary", vary), ("--factor", factor),
        ("--count", count), ("--steps", steps), ("--seeds", seeds), ("--task", task), ("--net", net),
        ("--apart", apart), ("--seed", seed), ("--set", sets), ("--freeze", freeze),
    )  # fmt: skip
    results = run(
        loaded,
        real,
        out,
        setting,
        paths=vary,
        factor=factor,
        apart=apart,
        replicates=bootstrap,
        bars=Bars(),
    )
    results["what"] = _what(loaded, real, setting, command)
    said = verdict(results)
    lines = [f"as written: {results['headline']} {results['as_written']['mean']:.4f}"]
    for row in results["randomizers"]:
        d = row["difference"]
        low, high = d["ci95"]
        lines.append(
            f"{row['path']:44} {points(d['mean']):>6} points  [{points(low)}, {points(high)}]  q {d['q']:.3f}"
        )
    finish(results, said, lambda: pages.ablate(results, said), out, as_json, lines)


def knob(
    scene: SceneArg,
    real: RealOption,
    out: OutOption,
    vary: VaryOption = [],  # noqa: B006
    epsilon: Annotated[
        list[float],
        typer.Option(
            "--epsilon", min=0, help="A width to try; repeatable (default: 0 0.5 1 1.5 2; 1 is always tried)."
        ),
    ] = [],  # noqa: B006
    count: CountOption = 1000,
    steps: StepsOption = None,
    seeds: SeedsOption = 3,
    task: TaskOption = "classify",
    net: NetOption = None,
    apart: ApartOption = [],  # noqa: B006
    seed: SeedOption = 0,
    sets: SetOption = [],  # noqa: B006
    freeze: FreezeOption = [],  # noqa: B006
    workers: WorkersOption = None,
    bootstrap: BootstrapOption = 2000,
    as_json: JsonOption = False,
) -> None:
    """The implausibility knob: real score against ε, how far the scene's ranges are pulled in or pushed out.

    ε scales the spread of all leaves (or of --vary) about their medians: 0 freezes them, 1 is the scene as
    written, more is beyond what its author thought plausible, which can teach better. Differences from ε = 1
    are paired. Interrupted, the same command goes on.
    """
    from imgsynth.analyses import pages
    from imgsynth.probe.knob import EPSILONS, verdict
    from imgsynth.probe.knob import knob as run
    from imgsynth.study.progress import Bars

    loaded, setting = _prepare(scene, sets, freeze, task, net, steps, seeds, count, seed, workers)
    command = shown(
        "knob", scene, ("--real", real), ("-o", out), ("--vary", vary), ("--epsilon", epsilon),
        ("--count", count), ("--steps", steps), ("--seeds", seeds), ("--task", task), ("--net", net),
        ("--apart", apart), ("--seed", seed), ("--set", sets), ("--freeze", freeze),
    )  # fmt: skip
    results = run(
        loaded, real, out, setting,
        paths=vary, epsilons=epsilon or EPSILONS, apart=apart, replicates=bootstrap, bars=Bars(),
    )  # fmt: skip
    results["what"] = _what(loaded, real, setting, command)
    said = verdict(results)
    lines = []
    for point in results["points"]:
        low, high = point["score"]["ci95"]
        lines.append(
            f"ε {point['epsilon']:<6g} {results['headline']} {point['score']['mean']:.4f}  "
            f"[{low:.4f}, {high:.4f}]  best in {100 * point['best_share']:.0f} %"
        )
    finish(results, said, lambda: pages.knob(results, said), out, as_json, lines)


def tune(
    scene: SceneArg,
    real: RealOption,
    out: OutOption,
    vary: VaryOption = [],  # noqa: B006
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Variants tried, the scene as written first.")
    ] = 40,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="learner|statistics",
            help="Score of trained models, or how near simple image statistics come (quick and rough).",
        ),
    ] = "learner",
    count: CountOption = 1000,
    steps: StepsOption = 300,
    seeds: SeedsOption = 2,
    task: TaskOption = "classify",
    net: NetOption = None,
    apart: ApartOption = [],  # noqa: B006
    seed: SeedOption = 0,
    sets: SetOption = [],  # noqa: B006
    freeze: FreezeOption = [],  # noqa: B006
    workers: WorkersOption = None,
    bootstrap: BootstrapOption = 2000,
    as_json: JsonOption = False,
) -> None:
    """Fit a scene's ranges to real validation images, and say what that is worth on images it has not seen.

    Each range of --vary (default: every leaf of one number) may shift and widen. Half of the real images,
    whole tracks together, choose; the other half judges the choice against the scene as written, with fresh
    training seeds. Test splits are refused. Writes tuned.txt (lines for --set), tuned.yaml, trials.jsonl
    (from which an interrupted search goes on), results.json and report.html. Needs Optuna: pip install
    'imgsynth[tune]'.
    """
    from imgsynth.analyses import pages
    from imgsynth.probe.tune import tune as run
    from imgsynth.probe.tune import verdict
    from imgsynth.study.progress import Bars

    loaded, setting = _prepare(scene, sets, freeze, task, net, steps, seeds, count, seed, workers)
    command = shown(
        "tune", scene, ("--real", real), ("-o", out), ("--vary", vary), ("--trials", trials),
        ("--objective", objective), ("--count", count), ("--steps", steps), ("--seeds", seeds),
        ("--task", task), ("--net", net), ("--apart", apart), ("--seed", seed), ("--set", sets),
        ("--freeze", freeze),
    )  # fmt: skip
    results = run(
        loaded, real, out, setting,
        paths=vary, objective=objective, trials=trials, seed=seed, apart=apart, replicates=bootstrap,
        bars=Bars(),
    )  # fmt: skip
    results["what"] = _what(loaded, real, setting, command)
    said = verdict(results)
    lines = [f"{row['path']:44} {_flat(row['from'])} → {_flat(row['to'])}" for row in results["moved"]]
    finish(results, said, lambda: pages.tune(results, said), out, as_json, lines)
    if not as_json:
        print(f"{out / 'tuned.txt'}\n{out / 'tuned.yaml'}")


def _prepare(
    scene: str, sets: list[str], freeze: list[str], task: str, net: str | None, steps: int | None,
    seeds: int, count: int, seed: int, workers: int | None,
) -> tuple[Scene, Setting]:  # fmt: skip
    from imgsynth import scenefile
    from imgsynth.probe.bench import Setting, training_seeds
    from imgsynth.probe.learner import learner_of
    from imgsynth.study.tasks import task_of

    loaded = scenefile.load(scene, sets=sets, freeze=freeze)
    learner = learner_of(task, net=net, steps=steps)
    setting = Setting(task_of(task), learner, count, seed, training_seeds(seeds), workers)
    return loaded, setting


def _what(scene: Scene, real: str, setting: Setting, command: str) -> dict[str, Any]:
    from imgsynth.version import __version__

    return {
        "scene": scene.spec.name,
        "scene_digest": scene.spec.digest(),
        "real": real,
        "task": setting.task.name,
        "frames": setting.count,
        "frames_seed": setting.seed,
        "training_seeds": list(setting.seeds),
        "learner": setting.learner.describe(),
        "imgsynth": __version__,
        "command": command,
    }


def _flat(value: Any) -> str:
    from imgsynth.distributions.base import shown as on_a_line

    return on_a_line(value)
