"""The command line: a thin door. Each command says what it does in --help, and imports what it needs when it
runs.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from imgsynth import analyses, diffusing
from imgsynth.augment.command import augment
from imgsynth.console import (
    Bar,
    DeviceOption,
    FreezeOption,
    JsonOption,
    RendererOption,
    SamplerOption,
    SceneArg,
    SeedOption,
    SetOption,
    print_json,
    sampler_named,
    say,
)
from imgsynth.errors import CheckFailed, ImgsynthError
from imgsynth.version import __version__

app = typer.Typer(
    name="imgsynth",
    help="Make labelled images whose labels come out of the generation, and measure on real photographs what "
    "they are worth.",
    epilog="Start with: imgsynth quickstart, imgsynth scenes, imgsynth show dice -o dice.png.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130


def _version(value: bool) -> None:
    if value:
        print(f"imgsynth {__version__}")
        raise typer.Exit


app.add_typer(analyses.app, name="evaluate")
app.add_typer(diffusing.app, name="diffuse")


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    import logging

    notes = logging.StreamHandler()  # what was repaired in a mesh file, on stderr
    notes.setFormatter(logging.Formatter("imgsynth: %(message)s"))
    logger = logging.getLogger("imgsynth.assets")
    logger.handlers, logger.propagate = [notes], False
    logger.setLevel(logging.INFO)


@app.command()
def quickstart(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for images, results.json and report.html.")
    ] = Path("quickstart"),
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (default: one per core).")
    ] = None,
) -> None:
    """The whole story on real handwriting: render digits, train on synthetic, real and both, test on real.

    Needs no network and under three minutes on two cores. Interrupted, it goes on where it stopped.
    """
    from imgsynth import scenefile

    study(scenefile.shipped()["digits"] / "study.yaml", out, workers, f"imgsynth quickstart -o {out}")


@app.command()
def scenes(as_json: JsonOption = False) -> None:
    """List the scenes that ship, a line each."""
    from imgsynth import scenefile

    rows = [(name, scenefile.load(folder).spec) for name, folder in scenefile.shipped().items()]
    if as_json:
        return print_json(
            [
                {
                    "name": n,
                    "description": s.description,
                    "classes": list(s.classes),
                    "size": list(s.image.size),
                }
                for n, s in rows
            ]
        )
    for name, spec in rows:
        print(
            f"{name:12} {spec.image.size[0]}×{spec.image.size[1]}  {len(spec.classes)} classes  "
            f"{spec.description}"
        )
    return None


@app.command()
def show(
    scene: SceneArg,
    out: Annotated[Path, typer.Option("-o", "--out", help="The PNG to write.")],
    n: Annotated[int, typer.Option("-n", min=1, max=1024, help="How many frames.")] = 16,
    seed: SeedOption = 0,
    start: Annotated[int, typer.Option("--start", min=0, help="First frame.")] = 0,
    sets: SetOption = [],  # noqa: B006
    freeze: FreezeOption = [],  # noqa: B006
    plain: Annotated[bool, typer.Option("--plain", help="Without the labels drawn on.")] = False,
    sampler: SamplerOption = "random",
    renderer: RendererOption = "raster",
) -> None:
    """Draw a contact sheet of a scene's first frames with their boxes, masks and classes."""
    from imgsynth import generate, scenefile
    from imgsynth.report.sheet import contact_sheet, save_png

    loaded = scenefile.load(scene, sets=sets, freeze=freeze)
    batch = generate.frames(
        loaded, seed, range(start, start + n), sampler=sampler_named(sampler), renderer=renderer
    )
    save_png(contact_sheet(batch, labels=not plain), out)
    say(f"{n} frames of {loaded.spec.name} in {out}")


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write (default: stdout).")] = None,
) -> None:
    """Print the JSON schema of scene files, for your editor."""
    from imgsynth import scenefile

    text = json.dumps(scenefile.schema(), indent=2)
    if out is None:
        print(text)
    else:
        from imgsynth.dataset.disk import disk_errors, replace

        with disk_errors(out, resumable=False):
            replace(out, (text + "\n").encode())


@app.command()
def render(
    scene: SceneArg,
    n: Annotated[int, typer.Option("-n", min=1, help="How many frames.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The dataset folder to make.")],
    seed: SeedOption = 0,
    start: Annotated[
        int, typer.Option("--start", min=0, help="First frame: frames start … start + n - 1.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (default: one per core).")
    ] = None,
    device: DeviceOption = "cpu",
    renderer: RendererOption = "raster",
    sampler: SamplerOption = "random",
    sets: SetOption = [],  # noqa: B006
    freeze: FreezeOption = [],  # noqa: B006
    formats: Annotated[
        list[str],
        typer.Option("--format", help="Also export to OUT-FORMAT; repeatable (coco is always written)."),
    ] = [],  # noqa: B006
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Render labelled images into a dataset folder.

    Writes images/, masks/ (16-bit instance ids), frames.parquet (every sampled value), instances.parquet,
    annotations.json (COCO) and, last, dataset.json. The files' bytes do not depend on the number of workers.
    """
    from imgsynth import formats as export_formats
    from imgsynth import generate
    from imgsynth.dataset.manifest import MANIFEST, Manifest
    from imgsynth.render import known

    known(renderer)
    for name in formats:
        export_formats.exporter(name)
    with Bar("rendering", "frames") as bar:
        root = generate.render(
            scene, n, out, seed=seed, start=start, workers=workers, sampler=sampler_named(sampler),
            device=device, renderer=renderer, sets=sets, freeze=freeze, resume=resume, progress=bar,
        )  # fmt: skip
    for name in (f for f in formats if f != "coco"):
        _export(root, name, root.with_name(f"{root.name}-{name}"))
    rules = Manifest.loads((root / MANIFEST).read_bytes(), root / MANIFEST).rules
    if as_json:
        counts = {} if rules is None else {"rules": rules}
        print_json({"dataset": str(root), "frames": n, "start": start, "seed": seed, **counts})
    else:
        say(f"{n} frames in {root}")
        if rules is not None:
            broken = f"{rules['broken']} break the rules still" if rules["broken"] else "all keep the rules"
            say(f"{rules['drawn_again']} drawn again, {rules['draws'] / n:.3g} draws a frame; {broken}")


@app.command()
def export(
    dataset: Annotated[Path, typer.Argument(help="A dataset that `render` made.")],
    fmt: Annotated[str, typer.Option("--format", help="coco, yolo, voc, kitti, bop, imagefolder, …")],
    out: Annotated[Path, typer.Option("-o", "--out", help="An empty or new folder.")],
) -> None:
    """Write a dataset in another tool's format."""
    _export(dataset, fmt, out)
    say(f"{fmt} in {out}")


@app.command()
def verify(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder.")],
    as_json: JsonOption = False,
) -> None:
    """Check a dataset: every file's hash, and that boxes, areas, masks and tables agree. Exit 1 where
    anything is off.
    """
    from imgsynth.dataset.verify import verify as check

    report = check(dataset)
    if as_json:
        print_json(
            {"ok": report.ok, "problems": report.problems, "count": report.count, "checked": report.checked}
        )
    else:
        print(f"{dataset}: {report}")
    if not report.ok:
        raise CheckFailed(f"{dataset}: {report.count} problem{'s' if report.count != 1 else ''}")


def _export(dataset: Path, fmt: str, out: Path) -> None:
    from imgsynth import formats
    from imgsynth.dataset.reader import Dataset

    formats.exporter(fmt)
    formats.export(Dataset(dataset), fmt, out)


@app.command()
def assets(
    path: Annotated[Path, typer.Argument(help="A mesh file, or a folder of them.")],
    test_share: Annotated[
        float, typer.Option("--test-share", min=0, max=1, help="Share of the assets kept for testing.")
    ] = 0.2,
    as_json: JsonOption = False,
) -> None:
    """Say what mesh files hold and what had to be repaired: size, triangles, materials, keypoints. Exit 1
    where one cannot be used.
    """
    import logging

    from imgsynth.assetlist import inventory

    logging.getLogger("imgsynth.assets").setLevel(logging.WARNING)  # the list says it all
    found = inventory(path, test_share)
    broken = [asset.name for asset in found if asset.error]
    if as_json:
        print_json([asset.to_json() for asset in found])
    else:
        print("\n".join(line for asset in found for line in asset.lines()))
    if broken:
        raise CheckFailed(f"{path}: {len(broken)} of {len(found)} meshes cannot be used")


@app.command()
def learn(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA…",
            help="An imgsynth dataset, an ImageFolder, GTSRB's folders, an .npz (images, labels), "
            "sklearn:digits[:SPLIT] or torchvision:NAME:ROOT[:SPLIT]; to detect or segment: an imgsynth "
            "dataset, COCO, YOLO or VOC. #train, #validation or #test at the end takes a part. Several are "
            "joined.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the model (safetensors).")],
    task: Annotated[
        str, typer.Option("--task", metavar="classify|detect|segment", help="What to learn.")
    ] = "classify",
    net: Annotated[str, typer.Option("--net", help="compact, or torchvision:NAME.")] = "compact",
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps (default: the learner's own).")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the weights and the batches.")
    ] = 0,
    weights: Annotated[Path | None, typer.Option("--weights", help="Start from these weights.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the same command.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on synthetic or real images: a classifier, a detector of boxes, or one of masks.

    The default nets are compact and made for two cores; torchvision's come by name. Interrupted, go on with
    --resume.
    """
    from imgsynth.learn.run import learn as train

    with Bar("training", "steps") as bar:
        model = train(
            data,
            task=task,
            out=out,
            net=net,
            steps=steps,
            seed=seed,
            weights=weights,
            resume=resume,
            progress=bar,
        )
    if as_json:
        print_json({"model": str(out), **model})
    else:
        say(f"model in {out}")


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model that `learn` made.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="What to test on; as for `learn`.")],
    unknown: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Images of none of the classifier's classes: adds how well its confidence tells them apart.",
        ),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=100, help="Bootstrap replicates for the intervals.")
    ] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Score a model on data it has not seen, with 95 % bootstrap intervals.

    A classifier: accuracy, balanced and worst-class accuracy, calibration. A detector: COCO's AP, AP50 and
    the rest, by class and size; with masks also mask AP, mIoU and PQ. Where images come in tracks, whole
    tracks are resampled.
    """
    from imgsynth.evaluate.run import score as scored

    with Bar("looking", "images") as bar:
        result = scored(model, data, unknown=unknown, bootstrap=bootstrap, progress=bar)
    if as_json:
        return print_json(result)
    for name, value in _figures(result):
        low, high = value["ci95"]
        print(f"{name:30} {value['mean']:.4f}  [{low:.4f}, {high:.4f}]")
    return None


def _figures(result: Any, of: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure with an interval, and where it stands in the result."""
    if isinstance(result, dict):
        if "ci95" in result:
            yield of, result
        else:
            for name, value in result.items():
                yield from _figures(value, f"{of} {name}".strip())


@app.command(name="study")
def study_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.yaml", help="A study file; scenes/digits/study.yaml is one.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for results.json and report.html.")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (default: one per core).")
    ] = None,
) -> None:
    """Measure what synthetic images are worth: arms × sizes × seeds, tested on real images. Resumes where it
    stopped.
    """
    study(file, out, workers)


def study(file: Path, out: Path, workers: int | None, command: str | None = None) -> None:
    """Run a study, then say its figures in a few lines."""
    from imgsynth.study import run_study

    results = run_study(file, out, workers=workers, command=command)
    for arm, scores in results["arms"].items():
        score = scores[results["headline"]]
        low, high = score["ci95"]
        print(
            f"{arm:12} {results['headline']} {score['mean']:.4f}  [{low:.4f}, {high:.4f}]  "
            f"{score['seeds']} seeds, {score['n']} real test images"
        )
    print(f"{results['verdict']['sentence']}\n{out / 'results.json'}\n{out / 'report.html'}")


app.command()(augment)


def main() -> NoReturn:
    """The console script: every foreseen error is one line and an exit code, never a traceback."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
    except ImgsynthError as error:
        code = _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail(
            "interrupted; what was finished stays: run it again (render, learn: with --resume) to go on",
            INTERRUPTED,
        )
    except MemoryError as error:
        code = _fail(f"not enough memory: {error or 'images or batch too large'}", 2)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        code = _fail(error.format_message() + hint, 2)
    except OSError as error:
        if error.errno not in _USERS_OWN:
            raise
        code = _fail(f"{error.filename or 'output'}: {error.strerror}", 2)
    sys.exit(code if isinstance(code, int) else 0)


# What a disk or a path does to us rather than what we did wrong: a line, not a traceback.
_USERS_OWN = {
    getattr(errno, name)
    for name in (
        "ENOSPC",
        "EDQUOT",
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOTDIR",
        "EISDIR",
        "ENOENT",
        "EEXIST",
        "ENAMETOOLONG",
    )
}


def _fail(message: str, code: int) -> int:
    print(f"imgsynth: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
