"""The figures of a study's report, as data URIs: SVG by matplotlib for curves, PNG for pictures.

Figures are small on purpose (about 500 px wide with 11-point text): scaled down to a telephone their text can
still be read. The same numbers give the same bytes: no date, fixed ids.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset.labelled import resize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#22262b", "#667079", "#e3e6e8"
ARM_COLOR = {
    "real": "#22262b",
    "synthetic": "#c4501b",
    "both": "#1f66a8",
    "finetune": "#2d7d46",
    "mix": "#8a4fa0",
}
ARM_MARKER = {"real": "o", "synthetic": "s", "both": "D", "finetune": "^", "mix": "P"}
CELL = 64  # larger images are shown at this height
STYLE: Any = {
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


def arm_color(arm: str) -> str:
    """The colour of an arm; that of one generator is of its kind's colour, lighter or darker by its name."""
    kind, _, source = arm.partition(":")
    base = ARM_COLOR[kind]
    if not source or source == "mix":
        return base if not source else ARM_COLOR["mix"]
    step = zlib.crc32(source.encode()) % 5 - 2 or 3
    parts = [int(base[k : k + 2], 16) for k in (1, 3, 5)]
    moved = [round(v + (255 - v) * 0.17 * step if step > 0 else v * (1 + 0.2 * step)) for v in parts]
    return "#" + "".join(f"{v:02x}" for v in moved)


def arm_marker(arm: str) -> str:
    """The marker of an arm."""
    return ARM_MARKER[arm.partition(":")[0]]


def figure_of(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def svg(figure: Figure) -> str:
    """A figure as an SVG data URI, the same bytes for the same figure."""
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


def jpeg(image: U8) -> str:
    """A photograph (h, w, 3) as a JPEG data URI."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "jpeg", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


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


def arms_plot(arms: Mapping[str, Any], headline: str = "accuracy", name: str = "accuracy") -> str:
    """The headline score of each arm with its interval, seeds as small marks."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure, axes = figure_of(5.4, 0.55 + 0.42 * len(arms))
        for row, (arm, scores) in enumerate(arms.items()):
            score = scores[headline]
            low, high = (100 * v for v in score["ci95"])
            color = arm_color(arm)
            axes.plot([low, high], [row, row], color=color, linewidth=2.4, solid_capstyle="round")
            axes.plot(
                [100 * v for v in score["per_seed"]],
                [row + 0.24] * score["seeds"],
                "|",
                color=color,
                ms=6,
            )
            axes.plot([100 * score["mean"]], [row], arm_marker(arm), color=color, ms=7, mec="white", mew=1)
        axes.set_yticks(range(len(arms)), [cut(arm) for arm in arms], color=INK)
        axes.set_ylim(len(arms) - 0.4, -0.5)
        axes.set_xlabel(f"{name} on real test images, %")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return svg(figure)


def classes_plot(
    arms: Mapping[str, Any], order: Sequence[int], headline: str = "accuracy", name: str = "accuracy"
) -> str:
    """The headline of each class (rows, in `order`), a mark an arm, with the interval of each."""
    entries = {arm: [_known(scores["per_class"][c], headline) for c in order] for arm, scores in arms.items()}
    names = [entry["class"] for entry in next(iter(arms.values()))["per_class"]]
    return _rows_plot(entries, [names[c] for c in order], f"{name} of the class on real test images, %")


def deltas_plot(deltas: Mapping[str, Any], order: Sequence[str]) -> str:
    """Arm − real of each class (rows, in `order`), with intervals; filled where the difference is there."""
    entries = {}
    for arm, rows in deltas.items():
        by_name = {row["class"]: row for row in rows}
        entries[arm] = [
            None
            if name not in by_name
            else (by_name[name]["delta"], by_name[name]["ci95"], by_name[name]["significant"])
            for name in order
        ]
    return _rows_plot(entries, list(order), "difference to real images alone, points", zero=True)


def _known(entry: Mapping[str, Any], headline: str) -> tuple[float, list[float], bool] | None:
    return None if entry[headline] is None else (entry[headline], entry["ci95"], True)


def _rows_plot(
    entries: Mapping[str, Sequence[tuple[float, list[float], bool] | None]],
    names: Sequence[str],
    label: str,
    zero: bool = False,
) -> str:
    """A row a name, a mark an arm: (value, interval, whether filled)."""
    import matplotlib as mpl

    spread = min(0.22, 0.7 / max(len(entries), 1)) if len(entries) > 1 else 0.0
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(5.4, 0.9 + max(0.36, min(0.14 * len(entries) + 0.08, 0.7)) * len(names))
        if zero:
            axes.axvline(0, color=SOFT, linewidth=1)
        for k, (arm, rows) in enumerate(entries.items()):
            color, offset = arm_color(arm), (k - (len(entries) - 1) / 2) * spread
            axes.plot([], [], arm_marker(arm), color=color, ms=5, mec="white", mew=0.7, label=cut(arm))
            for row, entry in enumerate(rows):
                if entry is None:
                    continue
                value, (low, high), filled = entry
                axes.plot([100 * low, 100 * high], [row + offset] * 2, color=color, linewidth=1.4, alpha=0.5)
                face, edge, width = (color, "white", 0.7) if filled else ("white", color, 1.2)
                axes.plot(100 * value, row + offset, arm_marker(arm), ms=5, mfc=face, mec=edge, mew=width)
        axes.set_yticks(range(len(names)), [cut(name) for name in names], color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(frameon=False, ncols=3, loc="outside upper center", fontsize=10, handletextpad=0.2)
        return svg(figure)


def cut(name: str, width: int = 22) -> str:
    """A name that is not longer than that."""
    return name if len(name) <= width else name[: width - 1] + "…"
