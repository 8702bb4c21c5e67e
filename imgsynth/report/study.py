"""A study's report: the verdict in words made from the numbers, figures, pictures, how to run it again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError
from imgsynth.report import curve_figures, figures, words
from imgsynth.report.words import count, interval, number, percent, points, verdict

__all__ = ["Drawn", "Mistake", "Pictures", "render_report", "verdict", "write_report"]

STRIP = 8  # pictures of a class and set
MOST_CLASSES = 16  # shown as pictures
MOST_PAIRS = 8
SORT_FROM = 20  # so many classes are sorted by score, fewer keep their order
CLASSIFY = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "worst_class": "worst class",
    "ece": "calibration error",
}


@dataclass(frozen=True)
class Mistake:
    """A real test image that models of one arm got wrong; `text` in place of true → predicted."""

    image: U8  # (h, w, C)
    true: str
    predicted: str  # most frequent wrong answer
    wrong: int  # of how many seeds it was wrong
    seeds: int
    text: str = ""


@dataclass(frozen=True)
class Drawn:
    """A photograph with its labels drawn on."""

    image: U8  # (h, w, 3)
    caption: str


@dataclass(frozen=True)
class Pictures:
    """What a report shows besides numbers: sets of small images that share their classes, or drawn ones."""

    synthetic: LabelledImages | None = None
    real: LabelledImages | None = None
    mistakes: Sequence[Mistake] = ()
    mistakes_arm: str = "synthetic"
    drawn: Mapping[str, Sequence[Drawn]] = field(default_factory=dict)  # by title


def write_report(results: Mapping[str, Any], pictures: Pictures | None, out: str | Path) -> None:
    """Write one self-contained HTML page.

    Args:
        results: as `imgsynth.study.run` lays out results.json.
        pictures: or None, for a report without them.
        out: the file.

    Raises:
        DataError: results without a real test set, without an interval, or without a word on what grounds
            the labels: such a report would persuade more than it knows.
        ImgsynthError: the file cannot be written.
    """
    out = Path(out)
    text = render_report(results, pictures)
    with disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        replace(out, text.encode(), draft=out.with_name(f".{out.name}.{os.getpid()}.tmp"))


def render_report(results: Mapping[str, Any], pictures: Pictures | None = None) -> str:
    """The page as text; the same results and pictures give the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    refuse_unfounded(results)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, points=points, interval=interval, number=number, count=count)
    environment.globals.update(points=points, number=number, color=figures.arm_color)
    arm = pictures.mistakes_arm if pictures else next(iter(results["arms"]))
    return environment.get_template("study.html.j2").render(
        r=results,
        what=results["what"],
        sentences=verdict(results),
        grounding=_grounding(results["what"]["grounding"]),
        training=_training_images(results),
        spec_text=_spec_text(results["what"]["study"]),
        **_arms_context(results),
        **_curves_context(results),
        **_classes_context(results),
        pairs=confused_pairs(results, arm),
        pairs_arm=arm,
        **_pictures_context(results, pictures),
    )


def refuse_unfounded(results: Mapping[str, Any]) -> None:
    """Refuse results that lack a real test set, an interval, or the grounding of labels (Abdel-Azim et al.
    2026, arXiv 2603.05396: a report is a gate).

    Raises:
        DataError: saying which.
    """
    what = results["what"]
    if not what.get("images", {}).get("real test"):
        raise DataError("report: no real test set; figures on synthetic images say nothing of real ones")
    for arm, scores in results["arms"].items():
        score = scores.get(words.headline(results), {})
        ends = score.get("ci95")
        if not ends or any(v is None for v in ends):
            raise DataError(f"report: the arm {arm} has no interval; a figure without one is not shown")
    for name in what["images"]:
        if not what.get("grounding", {}).get(name):
            raise DataError(f"report: nothing says what grounds the labels of the {name} images")


def what_classes(results: Mapping[str, Any]) -> list[str]:
    """Class names of a study's results."""
    return list(results["what"]["classes"])


# ---- what each part of the page is given ----


def _arms_context(results: Mapping[str, Any]) -> dict[str, Any]:
    arms, what = results["arms"], results["what"]
    transfer = results.get("transfer", {})
    differences = []
    for key, value in results.get("paired", {}).items():
        for sign, said, form in (("_minus_", "−", points), ("_over_", "÷", percent)):
            if sign in key:
                differences.append((key.replace(sign, f" {said} "), value, form))
    differences.sort(key=lambda row: "÷" in row[0])
    reading = next((t["reading"] for k, t in transfer.items() if k != "TRTS" and t.get("reading")), "")
    name = words.score_name(results)
    return {
        "arms": arms,
        "headline": words.headline(results),
        "score": name,
        "scores": what.get("scores", CLASSIFY),
        "narrow": (words.headline(results), "worst_class"),  # what a telephone shows
        "kinds": {arm.partition(":")[0] for arm in arms},
        "differences": differences,
        "trts": transfer.get("TRTS"),
        "reading": reading,
        "chosen": results.get("chosen", {}),
        "arms_figure": figures.arms_plot(arms, words.headline(results), name),
    }


def _curves_context(results: Mapping[str, Any]) -> dict[str, Any]:
    scaling, real, worth = (results.get(key) for key in ("scaling", "real_curve", "worth"))
    surface = results.get("surface")
    return {
        "scaling": scaling,
        "scaling_figure": curve_figures.scaling_plot(scaling) if scaling else None,
        "worth": worth,
        "real_curve": real,
        "worth_figure": curve_figures.worth_plot(real, worth, surface) if worth and real else None,
        "surface": surface,
        "surface_figure": curve_figures.surface_plot(surface) if surface else None,
        "nets": results.get("nets"),
    }


def _classes_context(results: Mapping[str, Any]) -> dict[str, Any]:
    arms, deltas = results["arms"], results.get("class_delta", {})
    key, name = words.headline(results), words.score_name(results)
    order, classes = _order(arms, key), what_classes(results)
    rows = {arm: {row["class"]: row for row in of_arm} for arm, of_arm in deltas.items()}
    return {
        "order": order,
        "classes_figure": figures.classes_plot(arms, order, key, name),
        "deltas": deltas,
        "deltas_figure": figures.deltas_plot(deltas, [classes[c] for c in order]) if deltas else None,
        "delta_of": lambda arm, name: rows[arm].get(name),
        "found_classes": _found_classes(deltas),
    }


def _found_classes(deltas: Mapping[str, Any]) -> str:
    """Which classes each arm helps and which it harms, as far as the tests can tell."""
    said, silent = [], []
    for arm, rows in deltas.items():
        found = sorted((row for row in rows if row["significant"]), key=lambda row: -abs(row["delta"]))
        parts = []
        for verb, sign in (("better at", 1), ("worse at", -1)):
            names = [row["class"] for row in found if row["delta"] * sign > 0]
            if names:
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                parts.append(f"{verb} {', '.join(names[:6])}{more}")
        if parts:
            said.append(f"Against real images, {arm} is {'; '.join(parts)}.")
        else:
            silent.append(arm)
    if silent:
        said.append(f"At no class can these be told from real images: {', '.join(silent)}.")
    return " ".join(said)


def _pictures_context(results: Mapping[str, Any], pictures: Pictures | None) -> dict[str, Any]:
    drawn, mistakes = {}, []
    if pictures:
        drawn = {
            title: [(figures.jpeg(one.image), one.caption) for one in rows]
            for title, rows in pictures.drawn.items()
        }
        show = figures.jpeg if drawn else figures.png
        mistakes = [(show(m.image), m) for m in pictures.mistakes]
    small = bool(pictures and pictures.real and pictures.real.size[0] < figures.CELL)
    return {
        "strips": _strips(pictures) if pictures else [],
        "hidden_classes": max(0, len(what_classes(results)) - MOST_CLASSES),
        "drawn": drawn,
        "mistakes": mistakes,
        "pixelated": small,
    }


# ---- tables and pictures ----


def confused_pairs(results: Mapping[str, Any], arm: str) -> list[dict[str, Any]]:
    """An arm's most frequent confusions: true, predicted, count (over seeds), share of the true class."""
    if "confusion" not in results["arms"][arm]:
        return []
    confusion = np.array(results["arms"][arm]["confusion"])
    classes = what_classes(results)
    total = confusion.sum(axis=1)
    wrong = confusion - np.diag(np.diag(confusion))
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = []
    for true, guess in zip(*np.unravel_index(ranked, wrong.shape), strict=True):
        if wrong[true, guess]:
            share = float(wrong[true, guess] / total[true])
            pairs.append(
                {
                    "true": classes[true],
                    "predicted": classes[guess],
                    "count": int(wrong[true, guess]),
                    "share": share,
                }
            )
    return pairs


def _order(arms: Mapping[str, Any], key: str) -> list[int]:
    """Rows of the class plot: as they are, or worst first where there are many."""
    entries = (arms.get("synthetic") or next(iter(arms.values())))["per_class"]
    order = list(range(len(entries)))
    if len(order) >= SORT_FROM:
        order.sort(key=lambda c: (entries[c][key] is None, entries[c][key] or 0.0))
    return order


def _strips(pictures: Pictures) -> list[dict[str, str]]:
    """A row of synthetic and one of real pictures a class, evenly spaced through each set, so not picked."""
    if pictures.real is None or pictures.synthetic is None:
        return []
    classes = pictures.real.classes
    shown = np.unique(np.linspace(0, len(classes) - 1, min(len(classes), MOST_CLASSES)).round().astype(int))
    rows = []
    for c in shown:
        row = {"class": classes[c]}
        for kind, data in (("synthetic", pictures.synthetic), ("real", pictures.real)):
            of_class = np.flatnonzero(data.labels == c)
            some = (
                of_class[np.unique(np.linspace(0, len(of_class) - 1, STRIP).round().astype(int))]
                if len(of_class)
                else of_class
            )
            row[kind] = figures.strip(data.images[some], STRIP) if len(some) else ""
        rows.append(row)
    return rows


def _training_images(results: Mapping[str, Any]) -> dict[str, str]:
    """What each arm has seen, in words."""
    images, out = results["what"]["images"], {}
    total = {"real": images.get("real train", 0), "synthetic": images.get("synthetic", 0)}
    for arm, scores in results["arms"].items():
        kind = arm.partition(":")[0]
        seen = scores.get("images") or {
            "real": total["real"] if kind != "synthetic" else 0,
            "synthetic": total["synthetic"] if kind != "real" else 0,
        }
        parts = [f"{seen[k]:,} {k}" for k in ("real", "synthetic") if seen[k]]
        out[arm] = " → ".join(reversed(parts)) if kind == "finetune" else " + ".join(parts)
    return out


def _grounding(said: Mapping[str, str]) -> str:
    """What grounds the labels of each set, equal ones together."""
    of: dict[str, list[str]] = {}
    for name, text in said.items():
        of.setdefault(text, []).append(name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in of.items())


def _spec_text(study: Mapping[str, Any]) -> str:
    import yaml

    kept = {k: v for k, v in study.items() if v not in (None, {}, [], "")}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, default_flow_style=None, width=88)
