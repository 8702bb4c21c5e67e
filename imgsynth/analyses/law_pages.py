"""The pages of laws fitted to errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgsynth.analyses.pages import Results, page
from imgsynth.report.analysis import Grid, Page, Picture, Row, Section, heads
from imgsynth.report.plots import law_plot
from imgsynth.report.words import count, interval, percent


def scaling(r: Results, said: Sequence[str]) -> Page:
    """`evaluate scaling`, of one number or of two."""
    title = str(r["what"]["file"]).rpartition("/")[2]
    sections = _surface(r) if "surface" in r else _line(r)
    return page("Scaling law", title, said, sections, r)


def _line(r: Results) -> list[Section]:
    fit = r["fit"]
    why = {} if fit["identified"] else {"alpha": f"not identified: {fit['reason']}"}
    picture = Picture(
        law_plot(r["sizes"], r["errors"], r["band"]),
        "Error against number of images, with the fitted law",
        "Dots: trainings; the fitted law with its 95 % band, drawn on to ten times the images.",
    )
    rows = [
        Row([count(n), percent(_mean(e)), str(len(e))]) for n, e in zip(r["sizes"], r["errors"], strict=True)
    ]
    return [
        Section("error(n) = D·n^−α + C", figures=[picture], table=_fitted(fit, ("alpha", "C", "D"), why)),
        Section("Measured", table=Grid(heads("images n|n", "error|n", "seeds|n"), rows)),
    ]


def _surface(r: Results) -> list[Section]:
    why = {name: f"not identified: {reason}" for name, reason in r["surface"]["unidentified"].items()}
    rows = [
        Row([count(c["n"]), count(c["s"]), percent(_mean(c["errors"])), str(len(c["errors"]))])
        for c in r["cells"]
    ]
    table = _fitted(r["surface"], ("alpha", "beta", "gamma", "delta"), why)
    return [
        Section("L(n, s) = δ(γ + n^−α)·s^−β", table=table),
        Section("Measured", table=Grid(heads("synthetic n|n", "real s|n", "error|n", "seeds|n"), rows)),
    ]


def _fitted(fit: Any, names: Sequence[str], why: dict[str, str]) -> Grid:
    rows = []
    for name in names:
        ends = " to ".join("∞" if v is None else f"{v:.4g}" for v in fit["ci95"][name])
        value = "∞" if fit[name] is None else f"{fit[name]:.4g}"
        rows.append(Row([name, value, ends, why.get(name, "")], faint=name in why))
    return Grid(heads("parameter", "estimate|n", "95 % interval|n", ""), rows)


def scaling_sentences(r: Results) -> list[str]:
    """The advice, and the test of extrapolation, in words."""
    fit, advice, held = r["fit"], r["advice"], r["holdout"]
    if advice["action"] == "unknown":
        said = [f"Whether more images would help, these data do not say: {fit['reason']}."]
    else:
        fall = f"from {percent(advice['error_now'])} to {percent(advice['error_then'])}"
        said = [
            f"{advice['action'].capitalize()}: {advice['factor']} times more than {advice['n']:,} images "
            f"would bring the error {fall}; {percent(fit['C'])} would remain however many."
        ]
        if fit["flips_at"] is not None:
            said[0] += f" The advice flips at {count(fit['flips_at'])} images."
    if held is not None:
        verb = "foretell" if held["passed"] else "do not foretell"
        said.append(
            f"The smaller sizes {verb} the largest: {percent(held['predicted'])} "
            f"{interval(held['interval'])} predicted, {percent(held['observed'])} measured."
        )
    return said


def surface_sentences(r: Results) -> list[str]:
    """What one more real image is worth, in words."""
    e, unknown = r["exchange"], list(r["surface"]["unidentified"])
    where = f"At {count(e['n'])} synthetic and {count(e['s'])} real images"
    if unknown:
        them = "it" if len(unknown) == 1 else "them"
        return [f"Not determined by these sizes: {', '.join(unknown)}. Do not quote {them}."]
    if e["value"] is None:
        return [f"{where} no number of synthetic images stands for one more real one."]
    ends = f"[{'?' if e['lo'] is None else count(e['lo'])}, {count(e['hi'])}]"
    return [f"{where} one more real image is worth {count(e['value'])} synthetic ones {ends}."]


def worth(r: Results, said: Sequence[str]) -> Page:
    """`evaluate worth`."""
    rows = []
    for one in r["sets"]:
        rate = one["rate"]["value"]
        cells = [count(one["real"]), count(one["synthetic"]), percent(_mean(one["errors"]))]
        rows.append(Row([*cells, one["effective"]["words"], "–" if rate is None else f"{rate:,.1f}"]))
    curve = [Row([count(c["real"]), percent(_mean(c["errors"])), str(len(c["errors"]))]) for c in r["curve"]]
    titles = heads("real|n", "synthetic|n", "error|n", "worth", "synthetic per real|n")
    sections = [
        Section("What the synthetic images stand for", table=Grid(titles, rows)),
        Section("The real-only curve", table=Grid(heads("real images|n", "error|n", "seeds|n"), curve)),
    ]
    return page("Effective real images", str(r["what"]["file"]).rpartition("/")[2], said, sections, r)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
