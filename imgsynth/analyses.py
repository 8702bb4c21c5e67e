"""`imgsynth evaluate NAME …`: one analysis each, for when a study's figures raise a question."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="One analysis of synthetic images, real images or a study.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
