"""The report of an augmentation: the verdict, the arms, the budget, the classes, and what was generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.augment.mix import Generated
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.report.analysis import Grid, Page, Picture, Row, Section, heads, write_page
from imgsynth.report.figures import strip
from imgsynth.report.plots import Effect, curve_plot, effects_plot
from imgsynth.report.words import interval, percent, points

Results = Mapping[str, Any]
SHOWN_CLASSES, SHOWN_IMAGES = 8, 12
SCORES = {
    "balanced_accuracy": "balanced accuracy",
    "worst_class": "worst class",
    "minority": "scarce third",
    "majority": "common third",
}


def write_report(results: Results, train: LabelledImages, made: Generated | None, out: Path) -> None:
    """Write the page, whole or not at all."""
    what = results["what"]
    sections = [_arms(results)]
    if results["deltas"]:
        sections.append(_deltas(results))
    if results["budget"] is not None:
        sections.append(_rounds(results))
    sections.append(_classes(results))
    if made is not None:
        sections.append(_pictures(results, train, made))
    facts = [
        (
            "images",
            ", ".join(f"{count:,} {part} ({what['data'][part]})" for part, count in what["images"].items()),
        ),
        ("imbalance", f"{what['imbalance']:.4g}"),
        ("generators", ", ".join(what["generators"]) or "none"),
        ("steps", f"{what['steps']:,} for every training"),
        (
            "test images opened",
            f"{what['test_looks']} time{'s' if what['test_looks'] != 1 else ''} in this folder",
        ),
        *(("note", note) for note in what["notes"]),
    ]
    said = [results["verdict"]["sentence"], _added(results)]
    if results["ceiling"] is not None:
        said.append(results["ceiling"]["sentence"])
    title = what["data"]["train"]
    page = Page("Scarce classes", title, said, sections, what["command"], facts, results)
    write_page(page, out)


def _added(r: Results) -> str:
    budget = r["budget"]
    if budget is None:
        return "Plain remedies only: give --scene or --model to measure what generated images add."
    if not budget["images"]:
        return "No generated image is in the training set."
    count = sum(n > 0 for n in budget["per_class"])
    return (
        f"{budget['images']:,} generated images for {count} of {len(budget['per_class'])} classes join "
        f"{r['what']['images']['train']:,} real ones ({', '.join(budget['sources'])}): {budget['reason']}."
    )


def _arms(r: Results) -> Section:
    rows = []
    ceiling = [] if r["ceiling"] is None else [r["ceiling"]]
    for entry in (*r["arms"].values(), *ceiling):
        balanced = entry["balanced_accuracy"]
        scores = [percent(entry[score]["mean"]) for score in SCORES]
        rows.append(
            Row(
                [
                    entry["title"],
                    scores[0],
                    interval(balanced["ci95"]),
                    *scores[1:],
                    entry["setting"]["said"],
                ],
                faint=entry in ceiling,
            )
        )
    first, *others = (f"{name}|n" for name in SCORES.values())
    seeds = len(next(iter(r["arms"].values()))["balanced_accuracy"]["per_seed"])
    return Section(
        "Arms",
        table=Grid(heads("arm", first, "95 %|nw", *others, "setting|w"), rows),
        note=f"Mean of {seeds} seeds on the same test images. Of the three settings of every arm validation "
        "images chose. All trainings take the same optimiser steps.",
    )


def _deltas(r: Results) -> Section:
    effects, rows = [], []
    for arm, entry in r["deltas"].items():
        title, delta = r["arms"][arm]["title"], entry["balanced_accuracy"]
        low, high = delta["ci95"]
        effects.append(Effect(title, delta["mean"], low, high, low > 0 or high < 0))
        cells = [title]
        for score in SCORES:
            cells += [points(entry[score]["mean"]), interval(entry[score]["ci95"], points)]
        rows.append(Row(cells, faint=arm != r["verdict"]["against"]))
    columns = ["generated images less"]
    for name in SCORES.values():
        columns += [f"{name}|n", "95 %|nw"]
    picture = Picture(
        effects_plot(effects, "difference of balanced accuracy, points"),
        "Balanced accuracy with generated images less that of each baseline; the numbers are in the table.",
    )
    return Section(
        "What generated images add",
        figures=[picture],
        table=Grid(heads(*columns), rows),
        note="Points; paired over test images (whole groups where there are any) and seeds. In full ink: the "
        "baseline that does best on the test images.",
    )


def _rounds(r: Results) -> Section:
    rounds = r["budget"]["rounds"]
    rows = []
    for one in rounds:
        gain = one["gain"]
        rows.append(
            Row(
                [
                    str(one["round"]), ", ".join(one["sources"]) or "real images only", f"{one['images']:,}",
                    percent(one["balanced_accuracy"]),
                    "" if gain is None else f"{points(gain['mean'])} ± {100 * gain['standard_error']:.1f}",
                    "kept" if one["kept"] else "not kept",
                ],
                faint=not one["kept"],
            )
        )  # fmt: skip
    titles = heads("round", "from", "generated|n", "validation|n", "gain ± standard error|n", "")
    kept = [one for one in rounds if one["kept"]]
    figures = []
    if len(kept) > 1:
        values = [one["balanced_accuracy"] for one in kept]
        errors = [(one["gain"] or {"standard_error": 0})["standard_error"] for one in kept]
        effects = [Effect("", v, v - e, v + e) for v, e in zip(values, errors, strict=True)]
        labels = ("generated images", "balanced accuracy, validation, %")
        figures = [
            Picture(
                curve_plot([one["images"] for one in kept], effects, labels),
                "Balanced accuracy on validation images by generated images; the numbers are in the table.",
                "Bands: one standard error of the gain.",
            )
        ]
    return Section(
        "How the budget was decided",
        f"It ended because {r['budget']['reason']}.",
        figures,
        Grid(titles, rows),
    )


def _classes(r: Results) -> Section:
    what, against = r["what"], r["verdict"]["against"]
    arms = [against] + (["generated"] if "generated" in r["arms"] else [])
    made = (r["budget"] or {}).get("per_class") or [0] * len(what["counts"])
    rows = []
    for c in np.argsort(what["counts"], kind="stable"):
        recalls = [r["arms"][arm]["per_class"][c]["recall"] for arm in arms]
        cells = [what["classes"][c], f"{what['counts'][c]:,}", f"{made[c]:,}", *(percent(v) for v in recalls)]
        if len(arms) == 2:
            known = None not in recalls
            cells.append(points(recalls[1] - recalls[0]) if known else "–")
        rows.append(Row(cells, faint=not made[c]))
    titles = ["class", "real|n", "generated|n", f"{r['arms'][against]['title']}|n"]
    titles += ["generated images|n", "change|n"] if len(arms) == 2 else []
    return Section(
        "Class by class", table=Grid(heads(*titles), rows), note="Scarcest first; recall on the test images."
    )


def _pictures(r: Results, train: LabelledImages, made: Generated) -> Section:
    """The scarcest classes that images were generated for: real ones, and generated ones of each source."""
    order = np.argsort(r["what"]["counts"], kind="stable")
    scarce = [int(c) for c in order if r["budget"]["per_class"][c]][:SHOWN_CLASSES]
    figures = []
    for c in scarce:
        sets = [("real", train.images[train.labels == c])]
        for name in dict.fromkeys(made.source.tolist()):
            rows = (made.data.labels == c) & (made.source == name)
            sets.append((name, made.data.images[rows]))
        for name, images in sets:
            if len(images):
                figures.append(_strip(train.classes[c], name, images))
    return Section("Images of the scarcest classes", figures=figures, wide=False)


def _strip(klass: str, name: str, images: Any) -> Picture:
    rows = np.unique(np.linspace(0, len(images) - 1, SHOWN_IMAGES).round().astype(int))
    shown: Sequence[Any] = images[rows]
    text = f"{klass}: {name}"
    return Picture(strip(np.asarray(shown), SHOWN_IMAGES), text, text)
