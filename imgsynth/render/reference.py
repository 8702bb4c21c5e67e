"""What the reference renderers share: what they refuse, what lies behind everything, how masks are packed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, InstanceTable, SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.frame import AmodalMasks
from imgsynth.render import amodal
from imgsynth.render.projection import projected_boxes

Mask = NDArray[np.bool_]
RENDERED = frozenset(("albedo",))
"""Outputs that only a renderer can make; the others are worked out from depth and poses, whoever drew."""


def refuse_unknown(batch: SceneBatch, name: str, drawn: dict[str, set[str]]) -> None:
    """Refuse a batch that asks for what a renderer does not draw.

    Args:
        batch: the frames.
        name: the renderer's, for the message.
        drawn: fields that it draws, by part of the batch ("" is the batch itself). Any other optional field
            must be absent: None, empty, zero, or -1 for a texture.

    Raises:
        ImgsynthError: some other field is in use.
    """
    for part, known in drawn.items():
        holder = getattr(batch, part) if part else batch
        for field in fields(holder):
            if field.name not in known and _in_use(getattr(holder, field.name)):
                where = f"{part}.{field.name}" if part else field.name
                raise ImgsynthError(
                    f"--renderer {name} does not draw {where.replace('_', ' ')}, which this scene uses; "
                    "--renderer raster does"
                )


def _in_use(value: Any) -> bool:
    """Whether an optional field asks for anything; single numbers only tune what other fields ask for."""
    if value is None or isinstance(value, int | float | str):
        return False
    if isinstance(value, np.ndarray):
        return bool(value.size) and bool(np.any(value != (-1 if (value == -1).any() else 0)))
    if hasattr(value, "__len__"):
        return bool(len(value))
    return bool(np.any(getattr(value, "kind", True)))  # kind 0 of a lens is a pinhole


def refuse_outputs(batch: SceneBatch, name: str, made: frozenset[str]) -> None:
    """Refuse a batch that asks for maps beside depth, normals and ids that a renderer does not make.

    Raises:
        ImgsynthError: it asks for some other map of a surface or of motion.
    """
    if missing := [o for o in batch.outputs if o in RENDERED - made]:
        raise ImgsynthError(
            f"--renderer {name} makes no {missing[0]} (outputs: {', '.join(batch.outputs)}); "
            "--renderer raster does"
        )


def without_objects(batch: SceneBatch) -> SceneBatch:
    """The same frames with nothing in them but light and background."""
    table = {f.name: getattr(batch.instances, f.name)[:0] for f in fields(InstanceTable)}
    ground = replace(batch.ground, present=np.zeros(len(batch), bool))
    return replace(batch, instances=InstanceTable(**table), ground=ground)


def backdrops(batch: SceneBatch, samples: int) -> F32:
    """(n, H·k, W·k, 3) radiance of each frame's background at its colour samples, as the raster renderer
    draws it: a picture behind the scene, so there is nothing in it for a reference to check.
    """
    from imgsynth.render.raster import RasterRenderer

    return RasterRenderer().render(without_objects(batch), samples).color


def frame_seed(batch: SceneBatch, frame: int) -> int:
    """32 bits for a frame's light paths, from what the frame is: its number, its camera and its size."""
    camera = batch.cameras
    data = [batch.indices[frame], camera.world_from_camera[frame], camera.k[frame], batch.size]
    return zlib.crc32(b"".join(np.ascontiguousarray(d, np.float64).tobytes() for d in data))


def bilinear(image: NDArray[np.floating], uv: NDArray[np.floating]) -> F64:
    """(…,) value of an image (h, w) at (…, 2) points in its widths and heights, v downwards, repeated."""
    h, w = image.shape
    x, y = uv[..., 0] * w - 0.5, uv[..., 1] * h - 0.5
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - i, y - j
    top = image[j % h, i % w] * (1 - fx) + image[j % h, (i + 1) % w] * fx
    low = image[(j + 1) % h, i % w] * (1 - fx) + image[(j + 1) % h, (i + 1) % w] * fx
    out: F64 = top * (1 - fy) + low * fy
    return out


@dataclass(frozen=True)
class Cells:
    """A regular grid over the image plane: cell (i, j) is sampled in its middle.

    The middle is (x + (j + ½)·step, y + (i + ½)·step) in pixels of the output image.
    """

    x: float
    y: float
    step: float
    width: int
    height: int

    @staticmethod
    def of_image(size: tuple[int, int], k: int = 1) -> Cells:
        """k × k cells of each pixel."""
        return Cells(0.0, 0.0, 1.0 / k, size[1] * k, size[0] * k)

    def intrinsics(self, k: F64) -> F64:
        """`k` in units of cells."""
        out = k.copy()
        out[0] = (k[0] - self.x * k[2]) / self.step
        out[1] = (k[1] - self.y * k[2]) / self.step
        return out

    def points(self) -> F64:
        """(height, width, 2) image points in pixels."""
        x = self.x + (np.arange(self.width) + 0.5) * self.step
        y = self.y + (np.arange(self.height) + 0.5) * self.step
        return np.stack(np.meshgrid(x, y), -1)


@dataclass(frozen=True)
class Silhouettes:
    """Amodal masks, the areas of whole silhouettes, and boxes, as `Buffers` holds them."""

    masks: AmodalMasks
    total: F64
    boxes: F64


def silhouettes(batch: SceneBatch, hit: Callable[[int, Cells], Mask]) -> Silhouettes:
    """Amodal masks of all instances from `hit(row, cells)`: where the object alone is seen.

    Inside the frame cells are pixels; the part outside is sampled by every s-th pixel, s whole and such that
    the grid has at most `amodal.GRID` cells a side.
    """
    boxes = projected_boxes(batch)
    window, start = amodal.windows(boxes, batch.size)
    data = np.zeros(int(start[-1]), np.uint8)
    total = np.zeros(len(boxes))
    over = amodal.crossing(boxes, batch.size)
    for row, (x0, y0, x1, y1) in enumerate(window.tolist()):
        if x1 > x0:
            mask = hit(row, Cells(x0, y0, 1.0, x1 - x0, y1 - y0))
            data[start[row] : start[row + 1]] = mask.reshape(-1)
            total[row] = mask.sum()
        if over[row]:
            total[row] += _outside(boxes[row], batch.size, partial(hit, row))
    return Silhouettes(AmodalMasks(window, start, data), total, boxes)


def _outside(box: F64, size: tuple[int, int], hit: Callable[[Cells], Mask]) -> float:
    low = np.floor(box[:2])
    span = np.ceil(box[2:]) - low
    step = float(max(1.0, np.ceil(span.max() / amodal.GRID)))
    width, height = (int(v) for v in np.ceil(span / step))
    cells = Cells(float(low[0]), float(low[1]), step, width, height)
    at = cells.points()
    inside = np.all((at > 0) & (at < np.array([size[1], size[0]])), axis=-1)
    return float((hit(cells) & ~inside).sum() * step * step)
