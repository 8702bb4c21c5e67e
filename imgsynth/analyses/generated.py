"""Analyses of generated images: are they copies, how far are they from real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgsynth.analyses.options import MaybeOutOption, finish, shown
from imgsynth.console import Bar, JsonOption, SeedOption

SamplesArg = Annotated[
    str,
    typer.Argument(metavar="SAMPLES", help="Generated DATA: a dataset of `diffuse sample`, or any other."),
]


def memorization(
    samples: SamplesArg,
    train: Annotated[
        str, typer.Argument(metavar="TRAIN", help="DATA that the generator was trained on, all of it.")
    ],
    held_out: Annotated[
        str,
        typer.Option(
            "--held-out", metavar="DATA", help="Real DATA of the same kind that it never saw: the control."
        ),
    ],
    out: MaybeOutOption = None,
    false_alarm: Annotated[
        float,
        typer.Option(
            "--false-alarm", min=0.001, max=0.2, help="Share of innocent samples that may be flagged."
        ),
    ] = 0.01,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Does a generator hand out its training images? Copies, also flipped, shifted or noisy, and their share.

    Each sample's distance to its nearest training image is set against its distance to the nearest held-out
    ones. Held-out images themselves say how small that ratio gets for the innocent: a sample below that is
    flagged. Being near to a training image alone proves nothing, as in a dense part of the data everything is
    near to something. Samples that repeat one another are counted as well. With -o also a sheet of the worst
    pairs, to look at.
    """
    from imgsynth.analyses import generated_pages as pages
    from imgsynth.dataset.sources import load
    from imgsynth.gate import report
    from imgsynth.report.sheet import save_png
    from imgsynth.version import __version__

    made, trained, held = load(samples), load(train), load(held_out)
    with Bar("comparing", "images") as bar:
        found = report.memorization(made, trained, held, false_alarm=false_alarm, seed=seed, progress=bar)
    results = {"analysis": "memorization", **found.to_json()}
    results["what"] = {
        "samples": made.name,
        "training": f"{trained.name} ({len(trained)} images)",
        "held_out": f"{held.name} ({len(held)} images)",
        "imgsynth": __version__,
        "command": shown(
            "memorization", samples, train, ("--held-out", held_out), ("-o", out),
            ("--false-alarm", false_alarm), ("--seed", seed),
        ),
    }  # fmt: skip
    said = pages.memorization_sentences(results)
    fitted = made.fitted(trained.size, trained.channels).images
    sheet = report.worst_pairs(found, fitted, trained.images)
    lines = [
        f"sample {w['sample']:6d}  training {w['training']:6d}  {w['to_training']:.3f} against "
        f"{w['to_held_out']:.3f}  p {w['p']:.4f}{'  *' if w['copy'] else ''}"
        for w in results["worst"][:10]
    ]
    finish(results, said, lambda: pages.memorization(results, said, sheet), out, as_json, lines)
    if out is not None:
        save_png(sheet, out / "pairs.png")
        if not as_json:
            print(out / "pairs.png")


def distance(
    samples: SamplesArg,
    real: Annotated[
        str, typer.Argument(metavar="REAL", help="Real DATA; not what the generator was trained on.")
    ],
    net: Annotated[
        Path | None,
        typer.Option("--net", help="A classifier that `learn` made, not on REAL, whose features measure."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option("--train", metavar="DATA", help="Real DATA to train the measuring net on; not REAL."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Optimiser steps of that net (default: the learner's own)."),
    ] = None,
    out: MaybeOutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """How far do samples lie from real images? Fréchet and kernel distance, precision, recall, coverage.

    Measured on features of a small net that learned real images other than those compared: a --net, one
    trained on --train, or, without either, on each half of REAL for the other half. Fréchet distance is
    extrapolated to endless samples and the kernel distance is unbiased, so numbers of images do not decide;
    both have intervals. Compare figures of one net only, and do not read them as worth: for that train on
    the samples and `score` on real images.
    """
    from imgsynth.analyses import generated_pages as pages
    from imgsynth.dataset.sources import load
    from imgsynth.errors import ImgsynthError
    from imgsynth.gate.features import compare
    from imgsynth.learn.classify import Classifier
    from imgsynth.version import __version__

    if net is not None and train is not None:
        raise ImgsynthError("expected --net or --train, not both")
    measuring = None if net is None else Classifier.load(net)
    with Bar("training", "steps") as bar:
        found = compare(
            load(samples), load(real), net=measuring, train=None if train is None else load(train),
            steps=steps, seed=seed, progress=bar,
        )  # fmt: skip
    results = {"analysis": "distance", **found.to_json()}
    results["what"] = {
        "imgsynth": __version__,
        "command": shown(
            "distance", samples, real, ("--net", net), ("--train", train), ("--steps", steps), ("-o", out),
            ("--seed", seed),
        ),
    }  # fmt: skip
    said = pages.distance_sentences(results)
    lines = [
        f"{label:<28}{results[key]['mean']:>9.4f}  {pages.ends(results[key])}"
        for key, label in pages.FIGURES.items()
    ]
    finish(results, said, lambda: pages.distance(results, said), out, as_json, lines)
