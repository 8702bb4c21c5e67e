"""Figures of the analyses, in the manner of `report.figures`: SVG data URIs, same numbers, same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from imgsynth.report.figures import GRID, INK, SOFT, STYLE, cut, figure_of, svg

MARK = "#c4501b"


class Effect(NamedTuple):
    """A labelled value with its interval; `sure` ones are drawn in colour."""

    label: str
    value: float
    low: float
    high: float
    sure: bool = True


def effects_plot(
    effects: Sequence[Effect],
    label: str,
    *,
    zero: bool = True,
    mark: float | None = None,
    scale: float = 100.0,
    width: float = 6.0,
) -> str:
    """A row an effect, its interval as a bar, with a line at 0, or a dashed one at `mark`."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure, axes = figure_of(width, 0.9 + 0.34 * len(effects))
        if mark is not None:
            axes.axvline(scale * mark, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        elif zero:
            axes.axvline(0, color=INK, linewidth=0.9)
        for row, e in enumerate(effects):
            color = MARK if e.sure else SOFT
            ends = [scale * e.low, scale * e.high]
            axes.plot(ends, [row, row], color=color, linewidth=2.2, solid_capstyle="round")
            axes.plot([scale * e.value], [row], "o", color=color, ms=6.5, mec="white", mew=1)
        axes.set_yticks(range(len(effects)), [_tail(e.label, round(5 * width)) for e in effects], color=INK)
        axes.set_ylim(len(effects) - 0.4, -0.6)
        _finish(axes, label, "", "x")
        return svg(figure)


def curve_plot(
    x: Sequence[float],
    effects: Sequence[Effect],
    labels: tuple[str, str],
    *,
    mark: float | None = None,
    size: tuple[float, float] = (6.0, 3.4),
    scale: float = 100.0,
) -> str:
    """Values with intervals against a number; `mark` draws a line at one x."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure, axes = figure_of(*size)
        value, low, high = (
            scale * np.array([getattr(e, k) for e in effects]) for k in ("value", "low", "high")
        )
        if mark is not None:
            axes.axvline(mark, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.fill_between(x, low, high, color=MARK, alpha=0.12, linewidth=0)
        axes.errorbar(
            x, value, np.abs([value - low, high - value]), fmt="o-", color=MARK, ms=5.5, mec="white", lw=1.6
        )
        _finish(axes, *labels, "both")
        return svg(figure)


def bins_plot(bins: Sequence[dict[str, Any]]) -> str:
    """Share of mistakes by bin: along the values of a number, or a row a category."""
    effects = [Effect(b["label"], b["error"], b["ci95"][0], b["ci95"][1]) for b in bins]
    if bins[0]["low"] is None:
        return effects_plot(effects, "mistakes, %", zero=False, width=4.2)
    middles = [(b["low"] + b["high"]) / 2 for b in bins]
    return curve_plot(middles, effects, ("value", "mistakes, %"), size=(4.2, 2.7))


def trials_plot(scores: Sequence[float], label: str, *, scale: float = 100.0) -> str:
    """Scores of trials in their order as dots, and the best so far as a line."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure, axes = figure_of(6.0, 3.2)
        y = scale * np.asarray(scores, float)
        axes.plot(range(len(y)), np.maximum.accumulate(y), color=MARK, linewidth=1.6, drawstyle="steps-post")
        axes.plot(range(len(y)), y, "o", color=SOFT, ms=4, alpha=0.7)
        axes.plot([0], y[:1], "D", color=INK, ms=6, label="as written")
        axes.legend(frameon=False, loc="lower right")
        axes.locator_params(axis="x", integer=True)
        _finish(axes, "trial", label, "both")
        return svg(figure)


def pairs_plot(effects: Sequence[Effect], limits: Sequence[float], label: str) -> str:
    """A row a figure: its distance as a bar, and how far chance alone takes it as a tick."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure, axes = figure_of(6.0, 0.9 + 0.32 * len(effects))
        colors = [MARK if e.sure else SOFT for e in effects]
        rows = range(len(effects))
        axes.barh(rows, [e.value for e in effects], color=colors, height=0.55)
        axes.plot(
            limits, rows, "|", color=INK, ms=14, mew=1.6, label="what halves of the real set differ by (95 %)"
        )
        axes.set_yticks(rows, [e.label for e in effects], color=INK)
        axes.set_ylim(len(effects) - 0.4, -0.6)
        figure.legend(frameon=False, loc="outside upper center", fontsize=10)
        _finish(axes, label, "", "x")
        return svg(figure)


def law_plot(sizes: Sequence[float], errors: Sequence[Sequence[float]], band: dict[str, list[float]]) -> str:
    """Errors against number of images on logarithmic axes: trainings as dots, the law with its band."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure, axes = figure_of(6.0, 3.6)
        n, seen = np.array(band["n"]), np.array(band["n"]) <= sizes[-1] * 1.0001
        curve, low, high = (100 * np.maximum(band[k], 1e-5) for k in ("error", "low", "high"))
        axes.fill_between(n, low, high, color=MARK, alpha=0.13, linewidth=0)
        axes.plot(n[seen], curve[seen], color=MARK, linewidth=1.8)
        axes.plot(n[~seen], curve[~seen], color=MARK, linewidth=1.6, linestyle=(0, (2, 2)))
        for size, group in zip(sizes, errors, strict=True):
            axes.plot([size] * len(group), 100 * np.maximum(group, 1e-5), "o", color=INK, ms=4, alpha=0.6)
        shown = np.concatenate([curve, *(100 * np.maximum(e, 1e-5) for e in errors)])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(shown.min() * 0.7, shown.max() * 1.3)
        _plain_ticks(axes)
        _finish(axes, "images", "error, %", "both")
        return svg(figure)


def _plain_ticks(axes: Any) -> None:
    """Ticks of logarithmic axes at round numbers, written out in full."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(LogLocator(base=10, subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())


def _finish(axes: Any, x: str, y: str, grid: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if not y:
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)


def _tail(path: str, width: int) -> str:
    """A path that is too long keeps its end, which tells leaves apart."""
    if len(path) <= width:
        return path
    return "…" + path[1 - width :] if "." in path else cut(path, width)
