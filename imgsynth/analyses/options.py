"""Options that the analyses share, and what each does at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from imgsynth.console import print_json, say

RealOption = Annotated[
    str,
    typer.Option(
        "--real",
        metavar="DATA",
        help="Real validation images (DATA#validation). Test splits are refused: ranges are chosen by these.",
    ),
]
OutOption = Annotated[
    Path, typer.Option("-o", "--out", help="Folder for frames, trainings, results.json and report.html.")
]
MaybeOutOption = Annotated[
    Path | None, typer.Option("-o", "--out", help="Folder for results.json and report.html (default: none).")
]
CountOption = Annotated[int, typer.Option("--count", min=1, help="Frames rendered of each variant.")]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Optimiser steps a training (default: the learner's own)."),
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each variant.")]
TaskOption = Annotated[
    str, typer.Option("--task", metavar="classify|detect|segment", help="What to learn from the images.")
]
NetOption = Annotated[
    str | None, typer.Option("--net", help="The learner's net (default: the task's compact one).")
]
ApartOption = Annotated[
    list[str],
    typer.Option(
        "--apart",
        metavar="DATA",
        help="Your test set: refused where --real shares an image or track with it.",
    ),
]
VaryOption = Annotated[
    list[str],
    typer.Option("--vary", metavar="PATH", help="A leaf or branch of the scene; repeatable."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes (default: one per core); figures do not change."),
]
BootstrapOption = Annotated[
    int, typer.Option("--bootstrap", min=100, help="Bootstrap replicates for the intervals.")
]


def finish(
    results: dict[str, Any],
    sentences: list[str],
    page: Callable[[], Any],
    out: Path | None,
    as_json: bool,
    lines: list[str] | None = None,
) -> None:
    """Write results.json and report.html to `out`, then print JSON, or lines and the verdict."""
    results["verdict"] = sentences
    if out is not None:
        from imgsynth.dataset.disk import disk_errors, replace
        from imgsynth.report.analysis import write_page

        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
            replace(out / "results.json", (text + "\n").encode())
        write_page(page(), out / "report.html")
    if as_json:
        print_json(results)
        return
    for line in [*(lines or []), *sentences]:
        print(line)
    for note in results.get("notes", []):
        say(f"note: {note}")
    if out is not None:
        print(f"{out / 'results.json'}\n{out / 'report.html'}")


def shown(command: str, *parts: Any) -> str:
    """The command to run again: names with values, flags with lists; what is None or empty is left out."""
    import shlex

    words = ["imgsynth", "evaluate", command]
    for part in parts:
        if isinstance(part, tuple):
            name, value = part
            for one in value if isinstance(value, list | tuple) else [value]:
                if one is not None and one is not False:
                    words += [name, str(one)]
        else:
            words.append(str(part))
    return shlex.join(words)
