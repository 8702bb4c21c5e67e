"""The figures of a study's report, as data URIs: SVG by matplotlib for curves, PNG for pictures.

Figures are small on purpose (about 500 px wide with 11-point text): scaled down to a telephone their text can
still be read. The same numbers give the same bytes: no date, fixed ids.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset.labelled import resize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#22262b", "#667079", "#e3e6e8"
ARM_COLOR = {"real": "#22262b", "synthetic": "#c4501b", "both": "#1f66a8"}
ARM_MARKER = {"real": "o", "synthetic": "s", "both": "D"}
CELL = 64  # larger images are shown at this height
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "imgsynth",
    "svg.fonttype": "path",
}


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text[text.index("<svg") :]  # without the XML prologue and its address of a DTD
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def png(image: U8) -> str:
    """An image (h, w, 1 or 3) as a PNG data URI."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(out, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def strip(images: U8, slots: int) -> str:
    """Images (n, h, w, C) in one row of `slots` places, as a PNG data URI."""
    if images.shape[1] > CELL:
        images = resize(images, (CELL, max(1, round(CELL * images.shape[2] / images.shape[1]))))
    n, height, width, channels = images.shape
    gap = max(1, height // 12)
    row = np.full((height, slots * (width + gap) - gap, channels), 255, np.uint8)
    for k in range(n):
        row[:, k * (width + gap) : k * (width + gap) + width] = images[k]
    return png(row)


def arms_plot(arms: Mapping[str, Any]) -> str:
    """Accuracy of each arm with its interval, seeds as small marks."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure, axes = _figure(5.4, 0.55 + 0.42 * len(arms))
        for row, (arm, scores) in enumerate(arms.items()):
            accuracy = scores["accuracy"]
            low, high = (100 * v for v in accuracy["ci95"])
            color = ARM_COLOR[arm]
            axes.plot([low, high], [row, row], color=color, linewidth=2.4, solid_capstyle="round")
            axes.plot(
                [100 * v for v in accuracy["per_seed"]],
                [row + 0.24] * accuracy["seeds"],
                "|",
                color=color,
                ms=6,
            )
            axes.plot([100 * accuracy["mean"]], [row], ARM_MARKER[arm], color=color, ms=7, mec="white", mew=1)
        axes.set_yticks(range(len(arms)), list(arms), color=INK)
        axes.set_ylim(len(arms) - 0.4, -0.5)
        axes.set_xlabel("accuracy on real test images, %")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def scaling_plot(scaling: Mapping[str, Any]) -> str:
    """Error against number of images, logarithmic: seeds, means with intervals, law, band, C as a floor."""
    import matplotlib as mpl

    sizes, fit, band = np.array(scaling["sizes"]), scaling["fit"], scaling["band"]
    color = ARM_COLOR[scaling["arm"]]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(5.4, 3.7)
        n, curve = np.array(band["n"]), 100 * np.array(band["error"])
        seen = n <= sizes[-1] * 1.0001
        low, high = (100 * np.maximum(band[k], 1e-5) for k in ("low", "high"))
        axes.fill_between(n, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(n[seen], curve[seen], color=color, linewidth=1.8, label="fitted law")
        axes.plot(
            n[~seen], curve[~seen], color=color, linewidth=1.6, linestyle=(0, (2, 2)), label="extrapolated"
        )
        if fit["identified"] and fit["C"] > 0.05 * curve.min() / 100:
            axes.axhline(
                100 * fit["C"], color=SOFT, linewidth=1, linestyle=(0, (5, 3)), label="transfer gap C"
            )
        for size, errors in zip(sizes, scaling["errors_per_seed"], strict=True):
            axes.plot(
                [size] * len(errors), [100 * max(e, 1e-5) for e in errors], ".", color=color, alpha=0.45, ms=5
            )
        means = 100 * np.maximum(scaling["error"], 1e-5)
        ends = 100 * np.maximum(np.array(scaling["ci95"]), 1e-5)
        reach = np.abs(np.stack([means - ends[:, 0], ends[:, 1] - means])).clip(0)
        axes.errorbar(
            sizes,
            means,
            reach,
            fmt=ARM_MARKER[scaling["arm"]],
            color=color,
            ms=6,
            mec="white",
            elinewidth=1.4,
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        shown = np.concatenate([means, ends[:, 1], curve])
        axes.set_ylim(shown.min() * 0.6, min(shown.max() * 1.25, 110))
        _plain_ticks(axes)
        axes.set_xlabel("training images" if scaling["arm"] == "real" else "synthetic training images")
        axes.set_ylabel("error on real test images, %")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=10, loc="upper right")
        return _svg(figure)


def _plain_ticks(axes: Axes) -> None:
    """Logarithmic ticks at powers of ten, and between them as the range allows, written out in full."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    fine = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 6 else (1.0, 2.0, 5.0)
    for axis, steps in ((axes.xaxis, (1.0,)), (axes.yaxis, fine)):
        axis.set_major_locator(LogLocator(base=10, subs=steps))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())


def classes_plot(arms: Mapping[str, Any], order: Sequence[int]) -> str:
    """Accuracy of each class (rows, in `order`), a mark an arm, with the interval of each."""
    import matplotlib as mpl

    names = [entry["class"] for entry in next(iter(arms.values()))["per_class"]]
    spread = 0.22 if len(arms) > 1 else 0.0
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(5.4, 0.9 + 0.36 * len(order))
        for k, (arm, scores) in enumerate(arms.items()):
            color, offset = ARM_COLOR[arm], (k - (len(arms) - 1) / 2) * spread
            for row, c in enumerate(order):
                entry = scores["per_class"][c]
                if entry["accuracy"] is None:
                    continue
                low, high = (100 * v for v in entry["ci95"])
                axes.plot([low, high], [row + offset] * 2, color=color, linewidth=1.4, alpha=0.5)
                label = arm if row == 0 else None
                axes.plot(
                    100 * entry["accuracy"],
                    row + offset,
                    ARM_MARKER[arm],
                    color=color,
                    ms=5,
                    mec="white",
                    mew=0.7,
                    label=label,
                )
        axes.set_yticks(range(len(order)), [_cut(names[c]) for c in order], color=INK)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlabel("accuracy of the class on real test images, %")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(frameon=False, ncols=3, loc="outside upper center", fontsize=10, handletextpad=0.2)
        return _svg(figure)


def _cut(name: str, width: int = 22) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
