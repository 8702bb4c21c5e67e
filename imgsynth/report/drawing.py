"""Labels and finds drawn on photographs: boxes with names, masks tinted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import U8
from imgsynth.report.sheet import class_color

WIDTH = 480  # pixels that a picture is brought to

Color = tuple[int, int, int]
RIGHT, WRONG, MISSED = (70, 200, 90), (235, 60, 50), (250, 205, 40)


@dataclass(frozen=True)
class Mark:
    """One box to draw: xyxy in pixels of the image, its text, its colour, and its mask (H, W) or None."""

    box: Sequence[float]
    text: str
    color: Color
    mask: NDArray[np.bool_] | None = None


def marked(image: U8, marks: Sequence[Mark]) -> U8:
    """An image (H, W, 3), brought to `WIDTH`, with marks drawn on."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    scale = WIDTH / width
    tinted = image.copy()
    for mark in marks:
        if mark.mask is not None:
            tinted[mark.mask] = (0.55 * tinted[mark.mask] + 0.45 * np.array(mark.color)).astype(np.uint8)
    size = (WIDTH, max(1, round(height * scale)))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    canvas = Image.fromarray(tinted).resize(size, how)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for mark in marks:
        x0, y0, x1, y1 = (float(v) * scale for v in mark.box)
        pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=mark.color, width=2)
        if mark.text:
            _, _, right, bottom = pen.textbbox((0, 0), mark.text, font=font)
            left = min(max(0.0, x0), max(size[0] - right - 4, 0))
            above = y0 - bottom - 3 if y0 - bottom - 3 >= 0 else min(y1, size[1] - bottom - 3)
            pen.rectangle((left, above, left + right + 3, above + bottom + 2), fill=mark.color)
            pen.text((left + 2, above), mark.text, fill=(0, 0, 0), font=font)
    return np.asarray(canvas)


def labelled(data: Any, i: int) -> U8:
    """Image i of `AnnotatedImages` with the labels that count drawn on, each class in its colour."""
    rows = data.objects(i)
    marks = [
        Mark(
            data.boxes[j],
            data.classes[data.labels[j]] if len(data.classes) > 1 else "",
            class_color(int(data.labels[j]) + 1),
            data.mask(j) if data.masks is not None and data.masks[j] else None,
        )
        for j in range(rows.start, rows.stop)
        if not data.ignored[j]
    ]
    return marked(data.image(i), marks)
