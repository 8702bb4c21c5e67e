"""Contact sheets: frames with their labels drawn on, because a wrong label is visible at a glance."""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imgsynth.batch import U8
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.frame import VISIBLE, Frame, FrameBatch

CELL = 160  # a tiny image is enlarged to at least this height
GAP = 4
WIDEST = 1600


def contact_sheet(batch: FrameBatch, *, labels: bool = True, columns: int | None = None) -> U8:
    """All frames of a batch in a grid, (height, width, 3): masks tinted and outlined, visible boxes solid,
    classes written; keypoints as discs, as rings where hidden.
    """
    cells = [draw_frame(frame, labels=labels) for frame in batch]
    return grid(cells, columns)


def grid(cells: Sequence[U8], columns: int | None = None, *, gap: int = GAP, paper: int = 255) -> U8:
    """Equally sized (h, w, 3) pictures in a grid, as near to a wide page as they go."""
    height, width = cells[0].shape[:2]
    if columns is None:
        columns = max(
            1,
            min(
                len(cells), round(math.sqrt(len(cells) * height / width * 1.6)), WIDEST // (width + gap) or 1
            ),
        )
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), paper, np.uint8)
    for k, cell in enumerate(cells):
        y, x = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        sheet[y : y + height, x : x + width] = cell
    return sheet


def draw_frame(frame: Frame, *, labels: bool = True) -> U8:
    """One frame, enlarged by a whole factor where it is small, with its labels drawn on."""
    image = np.repeat(frame.image, 3, -1) if frame.image.shape[-1] == 1 else frame.image
    zoom = max(1, -(-CELL // image.shape[0]))
    big = enlarge(image, zoom)
    if not labels:
        return big
    instances = frame.batch.instances
    mask = np.repeat(np.repeat(frame.instance, zoom, 0), zoom, 1)
    for row in frame.rows:
        if instances.class_id[row] > 0:
            _tint(big, mask == instances.id[row], class_color(int(instances.class_id[row])))
    canvas = Image.fromarray(big)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(10, big.shape[0] // 18))
    for row in frame.rows:
        class_id = int(instances.class_id[row])
        if class_id == 0 or instances.area_visible[row] == 0:
            continue
        color = class_color(class_id)
        x0, y0, x1, y1 = (float(v) * zoom for v in instances.box_visible[row])
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color)
        text = frame.batch.classes[class_id - 1]
        box = pen.textbbox((0, 0), text, font=font)
        at = (min(max(0.0, x0), big.shape[1] - box[2] - 2), max(0.0, y0 - box[3] - 2))
        pen.rectangle((at[0], at[1], at[0] + box[2] + 2, at[1] + box[3] + 2), fill=color)
        pen.text((at[0] + 1, at[1]), text, fill=(0, 0, 0), font=font)
    _dot(pen, frame, zoom, max(2.0, big.shape[0] / 90))
    return np.asarray(canvas)


def _dot(pen: ImageDraw.ImageDraw, frame: Frame, zoom: int, radius: float) -> None:
    """Draw the labelled objects' keypoints: discs where they are visible, rings where hidden."""
    instances = frame.batch.instances
    points = instances.keypoints
    if points is None:
        return
    for row in frame.rows:
        if instances.class_id[row] == 0:
            continue
        color = class_color(int(instances.class_id[row]))
        for k in range(int(points.start[row]), int(points.start[row + 1])):
            if points.visibility[k] == 0:
                continue
            x, y = (float(v) * zoom for v in points.xy[k])
            seen = points.visibility[k] == VISIBLE
            for r, shade in ((radius + 1, (0, 0, 0)), (radius, color)):
                box = (x - r, y - r, x + r, y + r)
                pen.ellipse(box, fill=shade if seen else None, outline=shade, width=1)


def enlarge(image: U8, zoom: int) -> U8:
    """Whole-number enlargement that shows pixels as pixels."""
    return np.ascontiguousarray(np.repeat(np.repeat(image, zoom, 0), zoom, 1))


def class_color(class_id: int) -> tuple[int, int, int]:
    """A bright colour for each class id, far from its neighbours' (golden-ratio hues)."""
    r, g, b = colorsys.hsv_to_rgb(class_id * 0.61803398875 % 1.0, 0.75, 1.0)
    return round(r * 255), round(g * 255), round(b * 255)


def save_png(image: U8, path: str | Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    path = Path(path)
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG")
    with disk_errors(path, resumable=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data.getvalue())


def _tint(image: U8, mask: NDArray[np.bool_], color: tuple[int, int, int]) -> None:
    """Tint inside the mask a little, and its inner border fully."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    image[mask] = (image[mask] * 0.75 + np.array(color) * 0.25).astype(np.uint8)
    image[mask & ~inner] = color
