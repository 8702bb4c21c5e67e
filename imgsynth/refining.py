"""`imgsynth diffuse refine` and `calibrate`: a model held against renders, whose labels are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imgsynth.console import Bar, JsonOption, print_json, say
from imgsynth.errors import ImgsynthError


def refine(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A rendered dataset.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The dataset folder to make.")],
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", help="Stable Diffusion 1.5 or XL: a folder of diffusers, or a hub id."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Instead: a small model of `diffuse train --layout`, which follows the labels."
        ),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option("--prompt", help="What the pictures show; {classes} stands for the frame's classes."),
    ] = "a photo of {classes}",
    negative: Annotated[str, typer.Option("--negative", help="What to draw away from.")] = "",
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="How far a picture may leave the render: 0 not at all, 1 wholly (default: .4; a model's 1).",
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            metavar="depth|normal|edges|canny|semantic",
            help="The guide, made from the render's exact labels.",
        ),
    ] = None,
    controlnet: Annotated[
        str | None, typer.Option("--controlnet", help="Folder or hub id of a ControlNet for that guide.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", help="Of a T2I-Adapter: draws from noise, by the guide alone."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of the sampler (default: 25; 10 with --model).")
    ] = None,
    guidance: Annotated[float, typer.Option("--guidance", help="How strongly the prompt is heard.")] = 7.5,
    side: Annotated[
        int | None,
        typer.Option("--side", min=8, help="Shorter side at work (default: what it was trained for)."),
    ] = None,
    edges: Annotated[
        float, typer.Option("--edges", help="Drop frames whose outlines agree less than this with labels.")
    ] = 0.6,
    masks: Annotated[
        float,
        typer.Option(
            "--masks",
            help="Drop frames whose objects agree less than this, by colour or a model's judge.",
        ),
    ] = 0.6,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**64 - 1, help="Frame i draws from (seed, i).")
    ] = 0,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to draw.")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Paint over a rendered dataset: the pictures are a model's, the labels stay the render's.

    Each picture is checked against its labels by means that know nothing of the generator
    (docs/attention.md); frames that drifted are dropped and counted in dataset.json.

    Try: imgsynth diffuse refine renders --pipeline sd15 --controlnet sd15-depth --control depth -o refined
    """
    if (pipeline is None) == (model is None):
        raise ImgsynthError("say what paints: --pipeline CHECKPOINT, or --model of `diffuse train --layout`")
    from imgsynth.diffusion.drift import DriftSettings
    from imgsynth.diffusion.large import refine_with_model, refine_with_pipeline
    from imgsynth.diffusion.painters import Painting

    common: dict[str, Any] = {
        "limits": DriftSettings(edges, masks), "seed": seed, "device": device, "resume": resume,
    }  # fmt: skip
    with Bar("painting", "frames") as bar:
        if model is not None:
            if controlnet or adapter or control or side:
                raise ImgsynthError("--controlnet, --adapter, --control and --side belong to --pipeline")
            made = refine_with_model(
                dataset, out, model=model, strength=1.0 if strength is None else strength,
                sampling={} if steps is None else {"steps": steps}, progress=bar, **common,
            )  # fmt: skip
        else:
            assert pipeline is not None
            made = refine_with_pipeline(
                dataset, out, source=pipeline, controlnet=controlnet, adapter=adapter,
                painting=Painting(prompt, negative, control, side=side),
                drawing={
                    "steps": steps or 25, "guidance": guidance,
                    "strength": 0.4 if strength is None else strength,
                },
                progress=bar, **common,
            )  # fmt: skip
    if as_json:
        return print_json(made)
    why = ", ".join(f"{count} by {reason}" for reason, count in made["dropped"].items())
    return say(f"{made['frames']} of {made['drawn']} frames in {made['dataset']}; drifted: {why}")


def calibrate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A folder of `diffuse train` with --joint or --layout; it is added to."
        ),
    ],
    renders: Annotated[
        Path,
        typer.Argument(
            metavar="RENDERS",
            help="A rendered dataset of the same scene, best one that the model did not learn from.",
        ),
    ],
    n: Annotated[int, typer.Option("-n", min=200, help="Pictures to judge.")] = 2000,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps of the judge.")] = 1500,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the judge and the pictures.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to draw.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure what a model's masks are worth, and make its confidences mean what they say.

    A segmenter learns from renders and never sees the model: the judge. Where it finds in the model's
    pictures what the masks say, they are right. The share at each confidence goes into the model's record,
    and `sample` and `refine` give calibrated confidences from then on. The error that is shown is of other
    pictures than the calibration was fitted on.

    Try: imgsynth diffuse calibrate toys-model other-toys
    """
    from imgsynth.diffusion.calibrate import calibrate_model
    from imgsynth.learn.semantic import SegmenterConfig

    with Bar("judge", "steps") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.say(what)
            bar(done, total)

        made: dict[str, Any] = calibrate_model(
            model,
            renders,
            n=n,
            judge=SegmenterConfig(steps=steps),
            seed=seed,
            device=device,
            progress=progress,
        )
    if as_json:
        return print_json({"model": str(model), **made})
    ece = made["ece"]
    return say(
        f"{made['frames']} pictures: masks and judge agree with a mean IoU of {made['miou']:.3f} (on "
        f"renders the judge has {made['judge_miou']:.3f}); of {made['objects']} objects "
        f"{made['objects_right']:.1%} are right; confidence is off by {ece['mean']:.3f} "
        f"[{ece['ci95'][0]:.3f}, {ece['ci95'][1]:.3f}], before calibration by {made['ece_raw']['mean']:.3f}"
    )
