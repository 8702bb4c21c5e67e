"""Analyses of images and models: errors, statistics, corruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgsynth.analyses.options import BootstrapOption, MaybeOutOption, finish, shown
from imgsynth.console import Bar, JsonOption, SeedOption

MOST_LINES = 20


def errors(
    model: Annotated[Path, typer.Argument(help="A model that `learn` made.")],
    dataset: Annotated[
        Path,
        typer.Argument(help="A dataset that `render` made; not the frames that the model was trained on."),
    ],
    out: MaybeOutOption = None,
    fdr: Annotated[
        float, typer.Option("--fdr", min=0.001, max=0.5, help="False discovery rate of what is called sure.")
    ] = 0.05,
    confident: Annotated[
        float, typer.Option("--confident", min=0, max=1, help="Least score at which a detector's box counts.")
    ] = 0.3,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Which sampled values go with a model's mistakes.

    Every leaf of the scene stands in frames.parquet. Each is tested against the mistakes (of a classifier:
    the frame's; of a detector: the share of a frame's objects missed, and each object by its own slot's
    values), all at once with the false discovery rate controlled. `effect` is the share of the mistakes'
    variance that a leaf explains. Leaves were drawn independently, so what goes with mistakes causes them:
    narrow its range, or render more of where it is hard. Render the frames with another --seed than the
    training set's.
    """
    from imgsynth.analyses import image_pages as pages
    from imgsynth.dataset.reader import Dataset
    from imgsynth.evaluate.errors import explain, worst_region
    from imgsynth.evaluate.mistakes import mistakes
    from imgsynth.learn.models import load_model
    from imgsynth.version import __version__

    data = Dataset(dataset)
    tables, lines, said = [], [], []
    for rows in mistakes(load_model(model), data, confident=confident):
        found = explain(rows.columns, rows.wrong, seed=seed)
        region = worst_region(rows.columns, rows.wrong, seed=seed)
        sure = [f for f in found if f.q <= fdr]
        tables.append(
            {
                "of": rows.of,
                "n": len(rows.wrong),
                "error": float(rows.wrong.mean()),
                "findings": [{**f.to_json(), "sure": f.q <= fdr} for f in found],
                "worst_region": None if region is None else region.to_json(),
            }
        )
        lines.append(f"{len(rows.wrong)} {rows.of}, mistakes {rows.wrong.mean():.2%}")
        for f in found[:MOST_LINES]:
            trend = "" if f.correlation is None else f"  trend {f.correlation:+.2f}"
            lines.append(
                f"{'*' if f.q <= fdr else ' '} {f.name:50} effect {f.effect:.3f}  q {f.q:.4f}{trend}"
            )
        said.append(pages.errors_sentence(rows.of, [f.name for f in sure], len(found), fdr))
        if region is not None:
            said.append(pages.region_sentence(rows.of, region.to_json()))
    results = {
        "analysis": "errors",
        "fdr": fdr,
        "tables": tables,
        "what": {
            "model": str(model),
            "dataset": str(dataset),
            "frames": len(data),
            "scene": data.header.name,
            "imgsynth": __version__,
            "command": shown("errors", model, dataset, ("-o", out), ("--fdr", fdr), ("--seed", seed)),
        },
    }
    finish(results, said, lambda: pages.errors(results, said), out, as_json, lines)


def statistics(
    synthetic: Annotated[
        str, typer.Argument(metavar="SYN", help="Synthetic DATA, images with a class each.")
    ],
    real: Annotated[str, typer.Argument(metavar="REAL", help="Real DATA: training or validation images.")],
    out: MaybeOutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Do synthetic images look like real ones? Light, contrast, sharpness and colour, compared in a second.

    Finds at once what hours of training would. Each figure is compared at the real set's mix of classes; a
    difference counts where it is greater than what two random halves of the real set differ by.
    """
    from imgsynth.analyses import image_pages as pages
    from imgsynth.dataset.sources import load
    from imgsynth.evaluate.statistics import statistics as compare
    from imgsynth.version import __version__

    compared = compare(load(synthetic), load(real), seed=seed)
    results = {"analysis": "statistics", **compared.to_json()}
    results["what"] = {
        "imgsynth": __version__,
        "command": shown("statistics", synthetic, real, ("-o", out), ("--seed", seed)),
    }
    said = pages.statistics_sentences(results)
    finish(results, said, lambda: pages.statistics(results, said), out, as_json, compared.text().splitlines())


def corruptions(
    model: Annotated[Path, typer.Argument(help="A model that `learn` made.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Real images; as for `score`.")],
    out: MaybeOutOption = None,
    name: Annotated[
        list[str], typer.Option("--corruption", help="One of the 15; repeatable (default: all).")
    ] = [],  # noqa: B006
    severity: Annotated[
        list[int], typer.Option("--severity", min=1, max=5, help="1 to 5; repeatable (default: all).")
    ] = [],  # noqa: B006
    bootstrap: BootstrapOption = 1000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """How much noise, blur, weather and compression a model bears: ImageNet-C's 15 corruptions.

    mPC is the mean score over corruptions and their 5 severities, rPC its share of the score on clean images.
    A model that does well on clean photographs and badly here leans on what a poor camera or bad weather
    takes away; randomize that in the scene (sensor, light).
    """
    from imgsynth.analyses import image_pages as pages
    from imgsynth.dataset.sources import load_for
    from imgsynth.evaluate.corruptions import score_corrupted
    from imgsynth.evaluate.imagenet_c import CORRUPTIONS, SEVERITIES
    from imgsynth.learn.models import load_model
    from imgsynth.report.words import interval, percent
    from imgsynth.version import __version__

    loaded = load_model(model)
    held = load_for(getattr(loaded, "task", "classify"), data)
    with Bar("corrupting", "cells") as bar:
        scored = score_corrupted(
            loaded,
            held,
            corruptions=name or tuple(CORRUPTIONS),
            severities=severity or SEVERITIES,
            bootstrap=bootstrap,
            seed=seed,
            progress=bar,
        )
    command = shown(
        "corruptions", model, data, ("-o", out), ("--corruption", name), ("--severity", severity),
        ("--bootstrap", bootstrap), ("--seed", seed),
    )  # fmt: skip
    what = {
        "model": str(model),
        "data": data,
        "images": len(held),
        "imgsynth": __version__,
        "command": command,
    }
    results = {"analysis": "corruptions", **scored, "what": what}
    said = pages.corruptions_sentences(results)
    lines = [
        f"{name:20} {percent(f['mean']):>7}  {interval(f['ci95'])}"
        for name, f in scored["corruptions"].items()
    ]
    finish(results, said, lambda: pages.corruptions(results, said), out, as_json, lines)
