"""Figures of a study's curves: errors against images, real ones, synthetic ones and both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsynth.report.figures import GRID, INK, SOFT, STYLE, arm_color, arm_marker, cut, figure_of, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST = 1e-5  # an error of 0 has no place on a logarithmic axis
_DOTTED, _DASHED = (0, (2, 2)), (0, (5, 3))


def scaling_plot(scaling: Mapping[str, Any]) -> str:
    """Error against number of images, logarithmic: seeds, means with intervals, law, band, C as a floor."""
    import matplotlib as mpl

    sizes, fit, band = np.array(scaling["sizes"]), scaling["fit"], scaling["band"]
    color = arm_color(scaling["arm"])
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(5.4, 3.7)
        n, curve = np.array(band["n"]), 100 * np.array(band["error"])
        seen = n <= sizes[-1] * 1.0001
        low, high = (100 * np.maximum(band[k], LEAST) for k in ("low", "high"))
        axes.fill_between(n, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(n[seen], curve[seen], color=color, linewidth=1.8, label="fitted law")
        axes.plot(n[~seen], curve[~seen], color=color, linewidth=1.6, linestyle=_DOTTED, label="extrapolated")
        if fit["identified"] and fit["C"] > 0.05 * curve.min() / 100:
            axes.axhline(100 * fit["C"], color=SOFT, linewidth=1, linestyle=_DASHED, label="transfer gap C")
        held = scaling.get("holdout")
        if held is not None:
            ends = [100 * max(v, LEAST) for v in held["interval"]]
            axes.plot([held["n"]] * 2, ends, color=SOFT, linewidth=5, alpha=0.35, solid_capstyle="butt")
        for size, errors in zip(sizes, scaling["errors_per_seed"], strict=True):
            axes.plot(
                [size] * len(errors),
                100 * np.maximum(errors, LEAST),
                ".",
                color=color,
                alpha=0.45,
                ms=5,
            )
        shown = _means(axes, sizes, scaling, color, arm_marker(scaling["arm"]))
        _logarithmic(axes, np.concatenate([shown, curve]))
        axes.set_xlabel("training images" if scaling["arm"] == "real" else "synthetic training images")
        axes.set_ylabel("error on real test images, %")
        axes.legend(frameon=False, fontsize=10, loc="upper right")
        return svg(figure)


def worth_plot(real: Mapping[str, Any], worth: Mapping[str, Any], surface: Mapping[str, Any] | None) -> str:
    """The real-only curve, and where other arms' errors meet it: how many real images they stand for."""
    import matplotlib as mpl

    sizes = np.array(real["sizes"])
    color = arm_color("real")
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(5.4, 3.9)
        if real["fit"]["identified"]:
            n = np.array(real["band"]["n"])
            seen = n <= sizes[-1] * 1.0001
            low, high = (100 * np.maximum(np.array(real["band"][k])[seen], LEAST) for k in ("low", "high"))
            axes.fill_between(n[seen], low, high, color=color, alpha=0.1, linewidth=0)
            axes.plot(n[seen], 100 * np.array(real["band"]["error"])[seen], color=color, linewidth=1.6)
        else:
            axes.plot(sizes, 100 * np.maximum(real["error"], LEAST), color=color, linewidth=1.6)
        shown = [_means(axes, sizes, real, color, arm_marker("real"), label="real images alone")]
        for arm, entry in worth.items():
            if entry["n_real"] == 0:
                shown.append(_reading(axes, arm, entry, sizes))
        if surface is not None:
            shown.append(_mixed(axes, surface))
        _logarithmic(axes, np.concatenate(shown))
        axes.set_xlabel("real training images")
        axes.set_ylabel("error on real test images, %")
        axes.legend(frameon=False, fontsize=10, loc="upper right")
        return svg(figure)


def _reading(axes: Axes, arm: str, entry: Mapping[str, Any], sizes: Any) -> Any:
    """A level, drawn to the real-only curve and down from there."""
    color, level = arm_color(arm), 100 * max(entry["error"], LEAST)
    effective = entry["effective"]
    at = float(np.clip(effective["value"], sizes[0], sizes[-1]))
    axes.plot([sizes[0], at], [level] * 2, color=color, linewidth=1.6, label=f"{cut(arm, 18)} alone")
    if effective["censored"]:
        axes.plot([at], [level], ">" if effective["censored"] == "at least" else "<", color=color, ms=8)
    else:
        axes.plot([at] * 2, [level, LEAST], color=color, linewidth=1.2, linestyle=_DASHED)
        axes.plot([at], [level], "o", mfc="white", mec=color, ms=7, mew=1.6)
    return np.array([level])


def _mixed(axes: Axes, surface: Mapping[str, Any]) -> Any:
    """The arm of both kinds at its most synthetic images, with arrows to the real-only curve."""
    most = surface["sizes"][-1]
    cells = [cell for cell in surface["cells"] if cell["n_synthetic"] == most]
    color = arm_color(surface["arm"])
    x = [cell["n_real"] for cell in cells]
    y = [100 * max(cell["error"], LEAST) for cell in cells]
    label = f"{cut(surface['arm'], 14)}, with {most:,} synthetic"
    axes.plot(
        x, y, arm_marker(surface["arm"]) + "-", color=color, ms=5, mec="white", linewidth=1.4, label=label
    )
    for cell, level in zip(cells, y, strict=True):
        effective = cell["effective"]
        if effective["value"] > 0:
            to = cell["n_real"] + effective["value"]
            arrow = {"arrowstyle": "->", "color": color, "linewidth": 1.1, "linestyle": "dotted"}
            axes.annotate("", (to, level), (cell["n_real"], level), arrowprops=arrow)
    return np.array(y)


def surface_plot(surface: Mapping[str, Any]) -> str:
    """Error against synthetic images, a line for each number of real ones; the law where it is fitted."""
    import matplotlib as mpl

    shades = np.linspace(0.3, 1.0, len(surface["real_sizes"]))
    base = np.array(mpl.colors.to_rgb(arm_color(surface["arm"])))
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(5.4, 3.7)
        shown = []
        for k, (s, shade) in enumerate(zip(surface["real_sizes"], shades, strict=True)):
            color = tuple(1 - shade * (1 - base))
            cells = [cell for cell in surface["cells"] if cell["n_real"] == s]
            x = np.array([cell["n_synthetic"] for cell in cells])
            held = {"error": [c["error"] for c in cells], "ci95": [c["ci95"] for c in cells]}
            shown.append(_means(axes, x, held, color, "o", label=f"{s:,} real"))
            if surface["fit"] is not None:
                curves = surface["fit"]["curves"]
                line = 100 * np.maximum(curves["error"][k], LEAST)
                axes.plot(curves["n"], line, color=color, linewidth=1.5)
                shown.append(line)
            else:
                axes.plot(x, 100 * np.maximum(held["error"], LEAST), color=color, linewidth=1.2)
        _logarithmic(axes, np.concatenate(shown))
        axes.set_xlabel("synthetic training images")
        axes.set_ylabel("error on real test images, %")
        figure.legend(
            frameon=False,
            ncols=4,
            loc="outside upper center",
            fontsize=10,
            handletextpad=0.1,
            columnspacing=0.9,
        )
        return svg(figure)


def _means(
    axes: Axes, sizes: Any, held: Mapping[str, Any], color: Any, marker: str, label: str | None = None
) -> Any:
    """Means with their intervals; returns what of them must be seen."""
    means = 100 * np.maximum(held["error"], LEAST)
    ends = 100 * np.maximum(np.array(held["ci95"]), LEAST)
    reach = np.abs(np.stack([means - ends[:, 0], ends[:, 1] - means])).clip(0)
    axes.errorbar(
        sizes, means, reach, fmt=marker, color=color, ms=6, mec="white", elinewidth=1.4, label=label
    )
    return np.concatenate([means, ends[:, 1]])


def _logarithmic(axes: Axes, shown: Any) -> None:
    """Both axes logarithmic, around what must be seen; ticks at round numbers, written out in full."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = shown[shown > 150 * LEAST] if (shown > 150 * LEAST).any() else shown
    axes.set_ylim(shown.min() * 0.6, min(shown.max() * 1.25, 110))
    low, high = axes.get_ylim()
    fine = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 6 else (1.0, 2.0, 5.0)
    left, right = axes.get_xlim()
    wide = (1.0,) if right / left > 100 else (1.0, 2.0, 5.0)
    for axis, steps in ((axes.xaxis, wide), (axes.yaxis, fine)):
        axis.set_major_locator(LogLocator(base=10, subs=steps))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, which="both")
