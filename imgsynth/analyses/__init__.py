"""`imgsynth evaluate NAME …`: one analysis each, for when a study's figures raise a question."""

from __future__ import annotations

import typer

from imgsynth.analyses import generated, images, laws, scenes

app = typer.Typer(
    help="One analysis of a scene, of images or of a study's figures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for command in (
    scenes.ablate, scenes.knob, scenes.tune,
    images.errors, images.statistics, images.corruptions,
    generated.memorization, generated.distance,
    laws.scaling, laws.worth,
):  # fmt: skip
    app.command()(command)
