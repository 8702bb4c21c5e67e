"""`imgsynth augment`: the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsynth.console import JsonOption, print_json

Data = "DATA"


def augment(
    real: Annotated[
        str,
        typer.Argument(
            metavar="REAL",
            help="Real images with a class each, as for `learn`: an ImageFolder, GTSRB's folders, an .npz, "
            "torchvision:NAME:ROOT[:SPLIT], …; #train takes a part.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the mixed set, results.json, report.html.")
    ],
    scenes: Annotated[
        list[str],
        typer.Option(
            "--scene", metavar="SCENE", help="A scene whose frames show one class each; repeatable."
        ),
    ] = [],  # noqa: B006
    models: Annotated[
        list[str],
        typer.Option(
            "--model", metavar="MODEL", help="A class-conditional model of `diffuse train`; repeatable."
        ),
    ] = [],  # noqa: B006
    validation: Annotated[
        str | None,
        typer.Option("--validation", metavar=Data, help="What decides (default: split off REAL, by group)."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", metavar=Data, help="What judges, once (default: split off REAL, by group)."),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, help="Generated images at most (default: as many as real ones)."),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=10, help="Rounds in which the budget doubles.")
    ] = 3,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help="Optimiser steps of every training (default: the learner's own)."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Trainings of each arm that are compared.")
    ] = 3,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the split and of what is generated.")
    ] = 0,
    floor: Annotated[
        float,
        typer.Option(
            "--real-floor", min=0, max=1, help="Least share of real images in what is drawn of a class."
        ),
    ] = 0.25,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate/--no-gate",
            help="Drop samples of models whose label judges doubt, copies and repetitions.",
        ),
    ] = True,
    long_tail: Annotated[
        float | None,
        typer.Option(
            "--long-tail",
            metavar="FACTOR",
            min=1,
            help="For benchmarks: first cut the training images to an exponential tail of this imbalance.",
        ),
    ] = None,
    ceiling: Annotated[
        bool,
        typer.Option(
            "--ceiling",
            help="With --long-tail: train on what was cut away, too: the most that a generator could add.",
        ),
    ] = False,
    learner: Annotated[
        list[str],
        typer.Option(
            "--learner",
            metavar="KEY=VALUE",
            help="A setting of the classifier, as a study's `learner` has them (net, width, batch, lr, …).",
        ),
    ] = [],  # noqa: B006
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (default: one per core).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder that is not empty; finished work is kept.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add generated images to scarce classes, and say whether it beats plain augmentation.

    Validation images decide how many images of which class are generated, in rounds. Then the mixed set is
    compared, on test images that nothing was chosen by, with plain training, oversampling + RandAugment,
    logit adjustment and CutMix: three settings each, the same optimiser steps, several seeds, intervals
    paired over images. Writes mixed.npz (images, labels, weights, source: DATA of `learn`) with its record
    mixed.json, the model that validation prefers, results.json and report.html. Without a generator only
    the plain remedies are measured, and real.npz is what a generator may be trained on.
    """
    from imgsynth.augment.options import Options
    from imgsynth.augment.run import augment as run

    options = Options(
        real=real, out=out, scenes=tuple(scenes), models=tuple(models), validation=validation, test=test,
        budget=budget, rounds=rounds, steps=steps, seeds=seeds, seed=seed, floor=floor, gate=gate,
        long_tail=long_tail, ceiling=ceiling, learner=tuple(learner), workers=workers, resume=resume,
        command=_command(sys.argv),
    )  # fmt: skip
    results = run(options)
    if as_json:
        return print_json(results)
    for entry in results["arms"].values():
        score = entry["balanced_accuracy"]
        low, high = score["ci95"]
        print(
            f"{entry['title']:28} balanced accuracy {score['mean']:.4f}  [{low:.4f}, {high:.4f}]  "
            f"worst class {entry['worst_class']['mean']:.4f}  {entry['setting']['said']}"
        )
    print(results["verdict"]["sentence"])
    if results["ceiling"] is not None:
        print(results["ceiling"]["sentence"])
    print("\n".join(str(out / name) for name in ("mixed.npz", "results.json", "report.html")))
    return None


def _command(argv: list[str]) -> str:
    import shlex

    return shlex.join(["imgsynth", *argv[1:]])
