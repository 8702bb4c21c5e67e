"""A study's report: the verdict in words made from the numbers, figures, pictures, how to run it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.report import figures

STRIP = 8  # pictures of a class and set
MOST_CLASSES = 16  # shown as pictures
MOST_PAIRS = 8
SORT_FROM = 20  # so many classes are sorted by score, fewer keep their order


@dataclass(frozen=True)
class Mistake:
    """A real test image that models of one arm got wrong."""

    image: U8  # (h, w, C)
    true: str
    predicted: str  # most frequent wrong answer
    wrong: int  # of how many seeds it was wrong
    seeds: int


@dataclass(frozen=True)
class Pictures:
    """What a report shows besides numbers. Sets share their classes."""

    synthetic: LabelledImages
    real: LabelledImages
    mistakes: list[Mistake]
    mistakes_arm: str = "synthetic"


def write_report(results: Mapping[str, Any], pictures: Pictures | None, out: str | Path) -> None:
    """Write one self-contained HTML page.

    Args:
        results: as `imgsynth.study.run` lays out results.json.
        pictures: or None, for a report without them.
        out: the file.

    Raises:
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

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, points=points, interval=interval, number=number)
    environment.globals.update(points=points, number=number)
    arms, scaling = results["arms"], results.get("scaling")
    order = _order(arms)
    return environment.get_template("study.html.j2").render(
        r=results,
        what=results["what"],
        arms=arms,
        paired=results.get("paired", {}),
        scaling=scaling,
        sentences=verdict(results),
        arms_figure=figures.arms_plot(arms),
        scaling_figure=figures.scaling_plot(scaling) if scaling else None,
        classes_figure=figures.classes_plot(arms, order),
        order=order,
        pairs=confused_pairs(results, pictures.mistakes_arm if pictures else next(iter(arms))),
        pairs_arm=pictures.mistakes_arm if pictures else next(iter(arms)),
        strips=_strips(pictures) if pictures else [],
        hidden_classes=max(0, len(what_classes(results)) - MOST_CLASSES),
        mistakes=[(figures.png(m.image), m) for m in pictures.mistakes] if pictures else [],
        pixelated=bool(pictures and pictures.real.size[0] < figures.CELL),
        training=_training_images(results),
        spec_text=_spec_text(results["what"]["study"]),
    )


def what_classes(results: Mapping[str, Any]) -> list[str]:
    """Class names of a study's results."""
    return list(results["what"]["classes"])


# ---- the verdict ----


def verdict(results: Mapping[str, Any]) -> list[str]:
    """Up to three sentences: what synthetic images alone reach, what they add, what the scaling law says."""
    said = [_reaches(results), _adds(results), _advises(results)]
    return [sentence for sentence in said if sentence]


def _reaches(results: Mapping[str, Any]) -> str:
    arms = results["arms"]
    arm = "synthetic" if "synthetic" in arms else next(iter(arms))
    accuracy = arms[arm]["accuracy"]
    source = {
        "synthetic": "synthetic images alone",
        "real": "real images alone",
        "both": "both kinds of images",
    }[arm]
    right = f"{percent(accuracy['mean'])} of {accuracy['n']:,} real test images right"
    sentence = f"Trained on {source}, the classifier gets {right}"
    ratio = results.get("paired", {}).get("synthetic_over_real")
    if ratio is None:
        return sentence + "."
    real = arms["real"]["accuracy"]["mean"]
    count = results["what"]["images"].get("real train")
    whom = f"training on {count:,} real images" if count else "training on real images"
    return f"{sentence}: {percent(ratio['mean'])} of the {percent(real)} that {whom} reaches."


def _adds(results: Mapping[str, Any]) -> str:
    gain = results.get("paired", {}).get("both_minus_real")
    if gain is None:
        return ""
    low, high = gain["ci95"]
    size = f"{points(gain['mean'])} points {interval(gain['ci95'], points)}"
    adding = "Adding the synthetic to the real images"
    if low > 0:
        return f"{adding} gains {size}."
    if high < 0:
        return f"{adding} costs accuracy: {size}."
    return f"{adding} changes accuracy by {size}: this test cannot tell that from none."


def _advises(results: Mapping[str, Any]) -> str:
    scaling = results.get("scaling")
    if scaling is None:
        return ""
    fit, advice = scaling["fit"], scaling["advice"]
    kind = "real" if scaling["arm"] == "real" else "synthetic"
    fall = f"from {percent(advice['error_now'])} to {percent(advice['error_then'])}"
    then = f"{advice['factor']} times as many {kind} images would bring the error {fall}"
    floor = f"{percent(fit['C'])} {interval(fit['ci95']['C'], percent)} would remain however many"
    if advice["action"] == "render more":
        verb = "Gather" if kind == "real" else "Render"
        return f"{verb} more: by the fitted law {then}; {floor}."
    if advice["action"] == "change the synthesis":
        todo = (
            "Change the synthesis rather than render more"
            if kind == "synthetic"
            else "More images will not do"
        )
        return f"{todo}: by the fitted law {then}, for {floor}."
    why = f"the scaling law is not identified, since {fit['reason']}"
    return f"Whether more images would help, these data do not say: {why}."


# ---- numbers as text ----


def percent(value: float) -> str:
    """.9512 → "95.1 %"."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """Difference of shares in points, signed: .0123 → "+1.2"."""
    return f"{100 * value:+.1f}".replace("-", "−")


def number(value: float) -> str:
    """Two significant digits; thousands in full."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.2g}'):,.0f}"
    return f"{value:#.2g}".removesuffix(".").replace("-", "−")


def interval(ends: list[float], form: Any = percent) -> str:
    """Two ends in brackets; a unit stands once."""
    low, high = (form(v) for v in ends)
    return f"[{low.removesuffix(' %')}, {high}]"


# ---- tables and pictures ----


def confused_pairs(results: Mapping[str, Any], arm: str) -> list[dict[str, Any]]:
    """An arm's most frequent confusions: true, predicted, count (over seeds), share of the true class."""
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


def _order(arms: Mapping[str, Any]) -> list[int]:
    """Rows of the class plot: as they are, or worst first where there are many."""
    entries = (arms.get("synthetic") or next(iter(arms.values())))["per_class"]
    order = list(range(len(entries)))
    if len(order) >= SORT_FROM:
        order.sort(key=lambda c: (entries[c]["accuracy"] is None, entries[c]["accuracy"] or 0.0))
    return order


def _strips(pictures: Pictures) -> list[dict[str, str]]:
    """A row of synthetic and one of real pictures a class, evenly spaced through each set, so not picked."""
    classes = pictures.real.classes
    shown = np.unique(np.linspace(0, len(classes) - 1, min(len(classes), MOST_CLASSES)).round().astype(int))
    rows = []
    for c in shown:
        row = {"class": classes[c]}
        for kind in ("synthetic", "real"):
            data: LabelledImages = getattr(pictures, kind)
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
    images = results["what"]["images"]
    real, synthetic = images.get("real train", 0), images.get("synthetic", 0)
    return {
        "real": f"{real:,} real",
        "synthetic": f"{synthetic:,} synthetic",
        "both": f"{real:,} real + {synthetic:,} synthetic",
    }


def _spec_text(study: Mapping[str, Any]) -> str:
    import yaml

    kept = {k: v for k, v in study.items() if v not in (None, {}, [], "")}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, default_flow_style=None, width=88)
