"""The pages of errors, statistics and corruptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgsynth.analyses.pages import Results, page
from imgsynth.report.analysis import Grid, Page, Picture, Row, Section, heads
from imgsynth.report.plots import Effect, bins_plot, effects_plot, pairs_plot
from imgsynth.report.words import interval, percent

MOST_PLOTS, MOST_ROWS = 12, 60


def errors(r: Results, said: Sequence[str]) -> Page:
    """`evaluate errors`."""
    sections = [_errors_of(table) for table in r["tables"]]
    return page("Which values go with mistakes", r["what"]["scene"], said, sections, r)


def _errors_of(table: Mapping[str, Any]) -> Section:
    found, rows = table["findings"], []
    for f in found[:MOST_ROWS]:
        ends = sorted(f["bins"], key=lambda b: b["error"])
        trend = "–" if f["correlation"] is None else _signed(f["correlation"])
        least, most = (f"{percent(b['error'])} at {b['label']}" for b in (ends[0], ends[-1]))
        cells = [f["name"], f"{f['effect']:.3f}", f"{f['q']:.2g}", trend, least, most]
        rows.append(Row(cells, faint=not f["sure"]))
    first = [f for f in found if f["sure"]][:MOST_PLOTS] or found[:3]
    pictures = [
        Picture(bins_plot(f["bins"]), f"Mistakes against {f['name']}", f"{f['name']}, q {f['q']:.2g}")
        for f in first
    ]
    note = (
        "Effect: share of the mistakes' variance that the value explains. Trend: rank correlation, above 0 "
        "where larger values go with more mistakes. Bars are 95 % intervals; grey is not sure."
    )
    if len(found) > MOST_ROWS:
        note += f" {len(found) - MOST_ROWS} more values are in results.json."
    return Section(
        f"{table['n']:,} {table['of']}, {percent(table['error'])} mistakes",
        figures=pictures,
        table=Grid(heads("value", "effect|n", "q|n", "trend|nw", "fewest mistakes|w", "most mistakes"), rows),
        note=note,
        wide=False,
    )


def errors_sentence(of: str, sure: Sequence[str], tested: int, fdr: float) -> str:
    """What of the tested values goes with mistakes, in words."""
    if not sure:
        rate = f"{100 * fdr:.3g} %"
        return f"None of {tested} values goes with mistakes of {of} at a false discovery rate of {rate}."
    listed = ", ".join(sure[:5]) + (f" and {len(sure) - 5} more" if len(sure) > 5 else "")
    return (
        f"Of {tested} values {len(sure)} go{'es' if len(sure) == 1 else ''} with mistakes of {of}: {listed}."
    )


def region_sentence(of: str, region: Mapping[str, Any]) -> str:
    """Where mistakes gather, in words."""
    return (
        f"Mistakes gather where {' and '.join(region['where'])}: {percent(region['error'])} "
        f"{interval(region['ci95'])} of these {of} ({100 * region['share']:.0f} % of all), "
        f"{percent(region['elsewhere'])} elsewhere."
    )


def statistics(r: Results, said: Sequence[str]) -> Page:
    """`evaluate statistics`."""
    gaps, rows = r["figures"], []
    for g in gaps:
        looks = [f"{g[f'{who}_mean']:.3f} ± {g[f'{who}_sd']:.3f}" for who in ("real", "synthetic")]
        cells = [g["figure"], *looks, _signed(g["shift"]), f"{g['distance']:.3f}", g["advice"] or "–"]
        rows.append(Row(cells, faint=not g["differs"]))
    effects = [Effect(g["figure"], g["distance"], 0, 0, g["differs"]) for g in gaps]
    picture = Picture(
        pairs_plot(effects, [g["null_distance"] for g in gaps], "Kolmogorov–Smirnov distance"),
        "How far each figure's distribution lies from the real one; the numbers are in the table below.",
    )
    titles = heads("figure", "real|nw", "synthetic|nw", "shift (sd)|n", "distance|n", "advice")
    sections = [Section("Figure by figure", figures=[picture], table=Grid(titles, rows))]
    if r["classes"]:
        rows = [
            Row([c["class_name"], c["figure"], _signed(c["shift"]), _signed(c["z"])]) for c in r["classes"]
        ]
        table = Grid(heads("class", "figure", "shift (sd)|n", "z|n"), rows)
        sections.append(Section("Classes that stand out", table=table))
    title = f"{r['synthetic']['name']} and {r['real']['name']}"
    return page("Do synthetic images look like real ones?", title, said, sections, r)


def statistics_sentences(r: Results) -> list[str]:
    """What differs most, in words."""
    off = [g for g in r["figures"] if g["differs"]]
    if not off:
        return ["No figure differs by more than two halves of the real set do."]
    named = ", ".join(f"{g['figure']} ({g['distance']:.2f})" for g in off[:4])
    return [
        f"{len(off)} of {len(r['figures'])} figures differ by more than halves of the real set do, most "
        f"of all {named}."
    ]


def corruptions(r: Results, said: Sequence[str]) -> Page:
    """`evaluate corruptions`."""
    kinds = sorted(r["corruptions"].items(), key=lambda item: item[1]["mean"] or 0.0)
    levels = list(kinds[0][1]["severities"])
    effects, rows = [], []
    for name, f in kinds:
        if f["mean"] is not None:
            low, high = f["ci95"]
            effects.append(Effect(name.replace("_", " "), f["mean"], low, high))
        cells = [name.replace("_", " "), percent(f["mean"]), interval(f["ci95"])]
        rows.append(Row([*cells, *(percent(f["severities"][s]["mean"]) for s in levels)]))
    picture = Picture(
        effects_plot(effects, f"{r['figure']}, mean over severities, %", mark=r["clean"]["mean"]),
        f"{r['figure']} under each corruption; the numbers are in the table below.",
        "Worst first, with 95 % intervals. The dashed line is the score on clean images.",
    )
    titles = heads("corruption", "mean|n", "95 % interval|nw", *(f"severity {s}|nw" for s in levels))
    section = Section("Corruption by corruption", figures=[picture], table=Grid(titles, rows))
    return page("What the model bears", r["data"], said, [section], r)


def corruptions_sentences(r: Results) -> list[str]:
    """mPC, and what hurts most, in words."""
    clean, mean, share = percent(r["clean"]["mean"]), percent(r["mPC"]["mean"]), r["rPC"]
    kept = "" if share["mean"] is None else f", {percent(share['mean'])} {interval(share['ci95'])} of it"
    worst = min(r["corruptions"].items(), key=lambda item: item[1]["mean"] or 0.0)
    return [
        f"On clean images {r['figure']} is {clean}, under corruption {mean}{kept}.",
        f"Worst is {worst[0].replace('_', ' ')} with {percent(worst[1]['mean'])}.",
    ]


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
