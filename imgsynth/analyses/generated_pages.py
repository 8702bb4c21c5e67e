"""The pages of memorization and distance."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from imgsynth.analyses.pages import Results, page
from imgsynth.batch import U8
from imgsynth.report.analysis import Grid, Page, Picture, Row, Section, heads
from imgsynth.report.words import interval, percent

FIGURES = {
    "fd": "Fréchet distance, n → ∞",
    "kid": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


def memorization(r: Results, said: Sequence[str], sheet: U8) -> Page:
    """`evaluate memorization`."""
    rows = [
        Row(
            [
                str(w["sample"]),
                str(w["training"]),
                f"{w['to_training']:.3f}",
                f"{w['to_held_out']:.3f}",
                f"{w['p']:.4f}",
            ],
            faint=not w["copy"],
        )
        for w in r["worst"]
    ]
    titles = heads("sample|n", "training image|n", "distance|n", "to held-out|n", "p|n")
    picture = Picture(
        _png(sheet),
        "The most suspicious samples, each above its nearest training image.",
        "Each sample above its nearest training image, the most suspicious first. A red edge: flagged.",
    )
    note = (
        "Distance: 0 the same picture, whatever its reflection, small shift, brightness and contrast; 1.41 "
        "an unrelated one. p: how often an innocent image is as suspicious. Grey: not flagged."
    )
    section = Section("The worst pairs", figures=[picture], table=Grid(titles, rows), note=note)
    return page("Are samples copies of training images?", r["what"]["samples"], said, [section], r)


def memorization_sentences(r: Results) -> list[str]:
    """How many copies, and how many repeats, in words."""
    flagged = f"{r['flagged']:,} of {r['images']:,} samples are flagged as copies"
    alarms = f"{100 * r['false_alarm']:g} % would be by chance"
    if r["p_of_chance"] > 0.01:
        said = f"{flagged}, no more than chance explains ({alarms}): no sign of memorization."
    else:
        copies = r["copies"]
        said = (
            f"{flagged} ({alarms}): {percent(copies['mean'])} {interval(copies['ci95'])} are copies of "
            "training images, beyond false alarms."
        )
    repeats = r["near_duplicate_share"]
    return [
        said,
        f"{r['near_duplicates']:,} repeat an earlier sample, {percent(repeats['mean'])} "
        f"{interval(repeats['ci95'])}.",
    ]


def distance(r: Results, said: Sequence[str]) -> Page:
    """`evaluate distance`."""
    rows = []
    for key, label in FIGURES.items():
        rows.append(Row([label, f"{r[key]['mean']:.4f}", ends(r[key])]))
    rows.append(Row(["Fréchet distance as it stands", f"{r['fd_plain']:.4f}", "–"], faint=True))
    note = (
        f"Features: {r['features']} of a net ({r['net']}). Distances below 0 are chance around 0. Precision: "
        "samples that look real; recall and coverage: real images that samples look like; density: 1 where "
        "both agree. None of them says what the samples are worth as training data."
    )
    section = Section(
        "Figure by figure", table=Grid(heads("figure", "value|n", "95 % interval|n"), rows), note=note
    )
    title = f"{r['samples']['name']} and {r['real']['name']}"
    return page("How far are samples from real images?", title, said, [section], r)


def distance_sentences(r: Results) -> list[str]:
    """What the figures say, in words."""
    low, high = r["fd"]["ci95"]
    apart = (
        "cannot be told from that of two sets of one law"
        if low <= 0
        else f"is {r['fd']['mean']:.3g} [{low:.3g}, {high:.3g}]"
    )
    return [
        f"The Fréchet distance of {r['samples']['images']:,} samples to {r['real']['images']:,} real images "
        f"{apart}.",
        f"{percent(r['precision']['mean'])} of the samples lie among real images, and "
        f"{percent(r['recall']['mean'])} of the real images among samples.",
    ]


def ends(figure: Mapping[str, Any]) -> str:
    """An interval with four digits."""
    return "[{:.4f}, {:.4f}]".format(*figure["ci95"])


def _png(image: U8) -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
