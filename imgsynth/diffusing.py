"""`imgsynth diffuse …`: train a small diffusion model, and draw labelled images from it.

What holds a model against renders (`refine`, `calibrate`) stands in `imgsynth.refining`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imgsynth.console import Bar, JsonOption, print_json, say
from imgsynth.errors import ImgsynthError
from imgsynth.refining import calibrate, refine

app = typer.Typer(
    help="Labelled images out of noise: train a small diffusion model on labelled images, sample from it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Images with a class each, as for `learn`: an imgsynth dataset, an ImageFolder, an .npz "
            "(images, labels), sklearn:digits[:SPLIT], torchvision:NAME:ROOT[:SPLIT]; #train, #validation or "
            "#test at the end takes a part. With --joint or --layout: an imgsynth dataset.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the model (a diffusers pipeline).")],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")] = 4000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images a step.")] = 128,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate at its peak.")] = 1e-3,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="tiny|slim|small|large",
            help="Network: 0.8, 1.3, 3 or 17 million weights; the first three suit two cores.",
        ),
    ] = "small",
    objective: Annotated[
        str,
        typer.Option(
            "--objective", metavar="flow|v", help="Flow matching, or v-prediction with min-SNR weights."
        ),
    ] = "flow",
    joint: Annotated[
        str | None,
        typer.Option(
            "--joint",
            metavar="semantic|instance",
            help="Denoise the mask together with the image, so that both are sampled: class ids, or class "
            "and object ids.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            metavar="semantic,edges,depth,normal",
            help="Learn to draw an image into such maps of a rendered dataset; `refine` gives it new ones.",
        ),
    ] = None,
    bit_scale: Annotated[
        float | None,
        typer.Option(
            "--bit-scale",
            help="With --joint: size of a mask bit beside pixels from -1 to 1; the smaller, the later the "
            "mask is settled (default: .3).",
        ),
    ] = None,
    level_mean: Annotated[
        float,
        typer.Option(
            "--level-mean",
            help="With flow: log σ of the noise that training sees most; -1 for images of low contrast.",
        ),
    ] = 0.0,
    label_dropout: Annotated[
        float, typer.Option("--label-dropout", help="Share of images shown without their class.")
    ] = 0.1,
    balance: Annotated[
        float,
        typer.Option(
            "--balance",
            help="For long tails: 0 draws classes as they come, 1 all equally often; .5 is between.",
        ),
    ] = 0.0,
    cbdm: Annotated[
        float,
        typer.Option(
            "--cbdm",
            help="For long tails: weight of the class-balancing term of Qin et al. 2023 (1 is theirs; twice "
            "the time).",
        ),
    ] = 0.0,
    blind: Annotated[
        float,
        typer.Option(
            "--blind",
            help="With --joint: share of images whose mask is hidden, so that the model learns to read it "
            "from the picture; samples' masks are then read so at the end.",
        ),
    ] = 0.0,
    flips: Annotated[
        bool,
        typer.Option("--flips", help="Mirror half of the images; only where left and right mean nothing."),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Go on from the weights of this model (fine-tuning); same network.",
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="Save 16-bit weights and no early self: a quarter of the size."),
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the weights and of every draw.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to train.")] = "cpu",
    real_floor: Annotated[
        float,
        typer.Option(
            "--real-floor", min=0, max=1, help="Least share of images that no model made (docs/gate.md)."
        ),
    ] = 0.5,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Of torch; the same number gives the same bits.")
    ] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the same command.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a small diffusion model that draws images of a class (8 to 64 pixels), from nothing.

    The folder that it writes opens with diffusers, too, and keeps an early state of the weights for
    autoguidance. Killed at any moment, it goes on with --resume and ends in the same weights.

    Try: imgsynth diffuse train sklearn:digits#train -o digits-model --steps 2000

    Never train on the images that you will test on: take #train, or :train.
    """
    from imgsynth.diffusion.run import train_from

    settings = {
        "steps": steps, "batch": batch, "lr": lr, "label_dropout": label_dropout, "cbdm": cbdm,
        "flips": flips, "threads": threads, "blind": blind,
        "level_mean": level_mean,
    }  # fmt: skip
    with Bar("training", "steps") as bar:

        def progress(done: int, total: int, loss: float, images: int) -> None:
            bar.say(f"training: loss {loss:.4f}, {images:,} images")
            bar(done, total)

        result: dict[str, Any] = train_from(
            data, out=out, settings=settings, preset=preset, objective=objective, joint=joint, layout=layout,
            bit_scale=bit_scale, balance=balance, seed=seed, resume=resume, device=device, start=start,
            compact=compact, real_floor=real_floor, progress=progress,
        )  # fmt: skip
    for warning in result["mix"]["warnings"]:
        say(f"warning: {warning}")
    if as_json:
        return print_json({"model": str(out), **result})
    return say(
        f"model in {out}: {result['parameters'] / 1e6:.2g} million weights, {result['images_seen']:,} images "
        f"seen, loss {result['loss']:.4f}"
    )


@app.command()
def sample(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A folder that `diffuse train` made, or a shipped model's name; with --prompt a Stable "
            "Diffusion 1.5 or XL pipeline: a folder of diffusers or a hub id.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The dataset folder to make.")],
    n: Annotated[int | None, typer.Option("-n", min=1, help="How many images in all.")] = None,
    per_class: Annotated[
        int | None, typer.Option("--per-class", min=1, help="How many of each class, in place of -n.")
    ] = None,
    classes: Annotated[
        list[str],
        typer.Option(
            "--class",
            metavar="NAME",
            help="Only this class; repeatable (default: all). With --prompt NAME=WORDS: label what these "
            "words of the prompt drew.",
        ),
    ] = [],  # noqa: B006
    prompts: Annotated[
        list[str],
        typer.Option("--prompt", help="Draw this text; repeatable, in turn. Labels come from attention."),
    ] = [],  # noqa: B006
    negative: Annotated[str, typer.Option("--negative", help="With --prompt: what to draw away from.")] = "",
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="With --prompt: pixels (default: the pipeline's own)."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Steps of the solver (default: 8; with masks 16).")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option("--solver", metavar="euler|heun|dpmpp_2m|adams", help="How a step is taken."),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            metavar="straight|karras|logarithmic",
            help="How steps lie among noise levels (default: straight; with masks karras, finer at the end).",
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(
            "--low", metavar="SIGMA", help="Last noise level before 0 (default: .05); less keeps finer grain."
        ),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0, help="Weight of guidance (1: none).")
    ] = None,
    interval: Annotated[
        tuple[float, float] | None,
        typer.Option("--interval", metavar="LOW HIGH", help="Guide only at noise levels σ of this interval."),
    ] = None,
    autoguide: Annotated[
        bool,
        typer.Option("--autoguide", help="Guide away from the model's own earlier self, not from no class."),
    ] = False,
    cads: Annotated[
        bool, typer.Option("--cads", help="Noise in the class while the image forms: more variety (CADS).")
    ] = False,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, max=2**64 - 1, help="Image i depends on (model, settings, seed, i)."),
    ] = 0,
    start: Annotated[
        int, typer.Option("--start", min=0, help="First image: images start … start + n - 1.")
    ] = 0,
    gate: Annotated[
        str | None,
        typer.Option(
            "--gate",
            metavar="DATA",
            help="Drop samples whose label is doubted, that copy or that repeat, as judges say that learn "
            "from DATA, the model's own training images.",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out",
            metavar="DATA",
            help="Real images the model never saw: without them copies are not sought.",
        ),
    ] = None,
    keep_share: Annotated[
        float, typer.Option("--keep-share", help="Keep this share of the samples, the surest of each class.")
    ] = 1.0,
    device: Annotated[
        str, typer.Option("--device", metavar="cpu|cuda", help="Where to run the network.")
    ] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sample a diffusion model into a labelled dataset.

    The dataset is an ordinary one: verify, learn, score, export and study take it. Each image is a function
    of (model, settings, class, seed, index), whatever the run it is drawn in. What the gate drops is drawn
    again; dataset.json counts what was dropped and why.

    With --prompt a large text-to-image pipeline draws, and masks come from where it looked at the words:
    imgsynth diffuse sample stable-diffusion -n 8 --prompt "a dog on the grass" --class dog=dog -o dogs
    """
    if prompts:
        theirs = {
            "--per-class": per_class, "--solver": solver, "--schedule": schedule, "--low": low,
            "--interval": interval, "--autoguide": autoguide, "--cads": cads, "--gate": gate,
            "--held-out": held_out,
        }  # fmt: skip
        _prompted(
            model, out, n, prompts, classes, negative, size, {"steps": steps, "guidance": guidance}, seed,
            start, device, resume, as_json, [name for name, value in theirs.items() if value],
        )  # fmt: skip
        return None
    if negative or size:
        raise ImgsynthError("--negative and --size belong to text-to-image: say --prompt TEXT")
    from imgsynth.diffusion.sampled import GateRequest, sample_dataset

    given = {
        "steps": steps,
        "solver": solver,
        "schedule": schedule,
        "low": low,
        "guidance": guidance,
        "interval": interval,
        "cads": cads or None,
    }
    if gate is None and (held_out is not None or keep_share != 1):
        raise ImgsynthError("--held-out and --keep-share belong to a gate: say --gate DATA")
    with Bar("judges", "steps") as judging, Bar("sampling", "images") as bar:
        made = sample_dataset(
            model, out, n=n, per_class=per_class, classes=classes,
            sampling={name: value for name, value in given.items() if value is not None},
            autoguide=autoguide, seed=seed, start=start,
            gate=None if gate is None else GateRequest(gate, held_out, keep_share=keep_share),
            device=device, resume=resume, progress=bar, judging=judging,
        )  # fmt: skip
    if as_json:
        return print_json(made)
    say(f"{made['frames']} images in {made['dataset']}")
    if "filters" in made:
        counts = made["filters"]
        why = ", ".join(f"{n} {reason}" for reason, n in counts.items() if reason != "drawn" and n)
        say(f"{counts['drawn']} drawn; dropped: {why or 'none'}")
    return None


def _prompted(
    source: str,
    out: Path,
    n: int | None,
    prompts: list[str],
    classes: list[str],
    negative: str,
    size: str | None,
    drawing: dict[str, Any],
    seed: int,
    start: int,
    device: str,
    resume: bool,
    as_json: bool,
    foreign: list[str],
) -> None:
    """`sample --prompt`: another generator behind the same door."""
    from imgsynth.diffusion.large import sample_prompts

    if foreign:
        raise ImgsynthError(f"{foreign[0]} is of small models; it means nothing with --prompt")
    if n is None:
        raise ImgsynthError("say how many: -n N images in all")
    with Bar("drawing", "images") as bar:
        made = sample_prompts(
            source, out, n=n, prompts=prompts, classes=classes, negative=negative, size=size,
            drawing={name: value for name, value in drawing.items() if value is not None}, seed=seed,
            start=start, device=device, resume=resume, progress=bar,
        )  # fmt: skip
    if as_json:
        return print_json(made)
    shown = ", ".join(f"{count} show {name}" for name, count in made["frames_with"].items())
    return say(
        f"{made['frames']} images in {made['dataset']}: {shown}; {made['missing']} times a thing that was "
        "asked for is missing"
    )


app.command()(refine)
app.command()(calibrate)
