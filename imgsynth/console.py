"""What the commands share: options that mean the same everywhere, the progress bar, where output goes."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from imgsynth.errors import ImgsynthError

SceneArg = Annotated[
    str, typer.Argument(metavar="SCENE", help="A shipped scene's name, a scene folder, or a scene.yaml.")
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=2**64 - 1, help="Frame i depends on (scene, seed, i) and nothing else."
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Replace a value of the scene (VALUE is YAML); repeatable."
    ),
]
FreezeOption = Annotated[
    list[str],
    typer.Option("--freeze", metavar="PATH", help="Hold a leaf or a branch at its median; repeatable."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
SamplerOption = Annotated[
    str, typer.Option("--sampler", metavar="random|sobol", help="iid numbers, or scrambled Sobol points.")
]
RendererOption = Annotated[
    str,
    typer.Option(
        "--renderer",
        metavar="raster|mitsuba|cycles",
        help="Which renderer: our own, or a path-traced reference (docs/renderers.md).",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to render.")]


class Bar:
    """A progress bar on stderr, called with (done, total)."""

    def __init__(self, what: str, unit: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(what, total=None)

    def __call__(self, done: int, total: int, *_: Any) -> None:
        """Draw `done` of `total`; the bar appears with the first call."""
        self._bar.start()  # only now: an error before the work deserves no bar
        self._bar.update(self._task, completed=done, total=total)

    def say(self, what: str) -> None:
        """Change what stands before the bar."""
        self._bar.update(self._task, description=what)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:  # stopping one that never started prints an empty line
            self._bar.stop()


def sampler_named(name: str) -> Any:
    """The sampler of that name.

    Raises:
        ImgsynthError: there is none.
    """
    if name not in ("random", "sobol"):
        raise ImgsynthError(f"--sampler: expected random or sobol, got {name!r}")
    return name


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr)


def print_json(data: Any) -> None:
    """The one JSON document of --json, on stdout."""
    print(json.dumps(data, indent=2, sort_keys=False))
