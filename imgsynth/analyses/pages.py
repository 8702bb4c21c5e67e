"""The pages of experiments on a scene: results as sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgsynth.distributions.base import shown
from imgsynth.report.analysis import Grid, Page, Picture, Row, Section, heads
from imgsynth.report.plots import Effect, curve_plot, effects_plot, trials_plot
from imgsynth.report.words import interval, percent, points

Results = Mapping[str, Any]


def page(overline: str, title: str, said: Sequence[str], sections: Sequence[Section], r: Results) -> Page:
    """A page of results, whose `what` tells what was run."""
    what = dict(r["what"])
    command = what.pop("command")
    facts = [
        (name.replace("_", " "), _fact(value)) for name, value in what.items() if value not in (None, "")
    ]
    facts += [("note", note) for note in r.get("notes", [])]
    return Page(overline, title, said, sections, command, facts, r)


def ablate(r: Results, said: Sequence[str]) -> Page:
    """`evaluate ablate`."""
    done, score = "frozen" if r["factor"] == 0 else f"scaled by {r['factor']:g}", r["headline"]
    effects, rows = [], []
    for row in r["randomizers"]:
        d, sure = row["difference"], row["difference"]["q"] <= r["fdr"]
        effects.append(_effect(row["path"], d, sure))
        cells = [row["path"], percent(row["score"]["mean"]), points(d["mean"]), interval(d["ci95"], points)]
        rows.append(Row([*cells, f"{d['p']:.2g}", f"{d['q']:.2g}", str(len(row["leaves"]))], faint=not sure))
    picture = Picture(
        effects_plot(effects, f"change of real {score}, points"),
        f"Change of real {score} with each randomizer {done}; the numbers are in the table below.",
        f"Each randomizer {done}, all other draws as they were. Grey: not sure at a false discovery rate of "
        f"{100 * r['fdr']:.3g} %.",
    )
    written = r["as_written"]
    table = Grid(
        heads("randomizer", f"{score}|nw", "change|n", "95 % interval|n", "p|nw", "q|n", "leaves|nw"), rows
    )
    section = Section(
        "Randomizer by randomizer",
        figures=[picture],
        table=table,
        note=f"As written the scene reaches {percent(written['mean'])} {interval(written['ci95'])}. "
        "Differences are paired over real images and training seeds.",
    )
    return page("Which randomizers matter", r["what"]["scene"], said, [section], r)


def knob(r: Results, said: Sequence[str]) -> Page:
    """`evaluate knob`."""
    effects, rows = [], []
    for p in r["points"]:
        effects.append(_effect(f"{p['epsilon']:g}", p["score"]))
        d = p.get("difference")
        gap = ["–", "–"] if d is None else [points(d["mean"]), interval(d["ci95"], points)]
        cells = [f"{p['epsilon']:g}", percent(p["score"]["mean"]), interval(p["score"]["ci95"]), *gap]
        rows.append(Row([*cells, f"{100 * p['best_share']:.0f} %"], faint=p["best_share"] < 0.05))
    name = r["headline"]
    picture = Picture(
        curve_plot(
            [p["epsilon"] for p in r["points"]],
            effects,
            ("ε: 0 frozen, 1 as written", f"real {name}, %"),
            mark=1.0,
        ),
        f"Real {name} against ε; the numbers are in the table below.",
        "95 % intervals over images and seeds. All points share both, so differences are surer.",
    )
    titles = heads("ε", f"{name}|n", "95 % interval|nw", "against ε = 1|n", "95 % interval|n", "best in|n")
    sections = [
        Section("Real score against ε", figures=[picture], table=Grid(titles, rows)),
        Section("Leaves that ε moves", text=", ".join(r["leaves"])),
    ]
    return page("The implausibility knob", r["what"]["scene"], said, sections, r)


def tune(r: Results, said: Sequence[str]) -> Page:
    """`evaluate tune`."""
    report, own, learner = r["reporting"], r["choosing"], r["objective"] == "learner"
    gain = report["difference"]
    judged = [percent(report[k]["mean"]) for k in ("as_written", "tuned")]
    cells = [*judged, points(gain["mean"]), interval(gain["ci95"], points)]
    rows = [Row(["judging", str(report["images"]), *cells])]
    if learner:
        scores = [percent(own["as_written"]), percent(own["tuned"])]
        cells = [*scores, points(own["tuned"] - own["as_written"]), "chose it"]
        rows.append(Row(["choosing", str(own["images"]), *cells], faint=True))
    label = f"real {r['headline']} (choosing half), %" if learner else "likeness of statistics (0 is equal)"
    picture = Picture(
        trials_plot([t["score"] for t in r["trials"]], label, scale=100.0 if learner else 1.0),
        "Score of each trial, and the best so far.",
        f"{len(r['trials'])} trials, the first the scene as written.",
    )
    titles = heads("half", "real images|nw", "as written|n", "tuned|n", "difference|n", "95 % interval|n")
    worth = Section(
        "What it is worth",
        figures=[picture],
        table=Grid(titles, rows),
        note="The half that chose flatters its choice. The half that judges was opened once.",
    )
    moves = []
    for m in r["moved"]:
        share = "–" if m["importance"] is None else f"{100 * m['importance']:.0f} %"
        moves.append(Row([m["path"], shown(m["from"]), shown(m["to"]), share]))
    moved = Section(
        "What moved",
        table=Grid(heads("leaf", "from", "to", "importance|n"), moves),
        note="Importance: share of the score's variance over the trials (fANOVA). The lines for --set are in "
        "tuned.txt.",
    )
    return page("Ranges tuned to real images", r["what"]["scene"], said, [worth, moved], r)


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items() if v is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _effect(label: str, figure: Mapping[str, Any], sure: bool = True) -> Effect:
    low, high = figure["ci95"]
    return Effect(label, figure["mean"], low, high, sure)
