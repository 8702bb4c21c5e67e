"""Crops to train a detector on: photographs brought to a working size, turned, scaled and recoloured at
random, with their boxes and masks carried through the same map.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from imgsynth.batch import F32, F64, U8
from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.learn.targets import Truth

CACHE_BYTES = 2 << 30  # of decoded photographs; what does not fit is read anew each time
FOCUS = 0.75  # share of the crops that are laid over an object; the others lie anywhere
KEPT, GONE = 0.5, 0.05  # part of a box left in a crop: above, a truth; between, left alone; below, nothing
BEYOND = 16  # pixels that a crop may reach over the image's edge, as what is asked later does
GREY = 127  # beyond the image's edge


@dataclass(frozen=True)
class Augment:
    """How far crops stray from the photographs."""

    scale: float = 0.3  # sizes are multiplied by e^u, u uniform in ±scale
    flip: bool = True  # left and right are exchanged in half of the crops
    turn: bool = True  # by any angle where all objects have masks, else by 0, 90, 180 or 270 degrees
    color: float = 0.3  # strength of changes in brightness, contrast, colour; 0 for none


@dataclass
class Working:
    """Images at the working size: area `side`² pixels each, the proportions kept. Kept in memory up to a
    limit.
    """

    data: AnnotatedImages
    side: int
    _held: dict[int, U8] = field(default_factory=dict)
    _masks: dict[int, tuple[U8, int, int]] = field(default_factory=dict)
    _hulls: dict[int, list[F64] | None] = field(default_factory=dict)
    _bytes: int = 0

    def scale(self, i: int) -> F64:
        """Working pixels per stored pixel, (y, x)."""
        size = self.data.sizes[i]
        return np.array(working_size((int(size[0]), int(size[1])), self.side)) / size

    def image(self, i: int) -> U8:
        """Image i at the working size, (h, w, 3)."""
        made = self._held.get(i)
        if made is None:
            pixels = self.data.image(i)
            made = shrink(pixels, working_size((pixels.shape[0], pixels.shape[1]), self.side))
            if self._bytes + made.nbytes <= CACHE_BYTES:
                self._held[i] = made
                self._bytes += made.nbytes
        return made

    def boxes(self, i: int) -> F64:
        """Boxes of image i in working pixels."""
        return self.data.boxes[self.data.objects(i)] * np.tile(self.scale(i)[::-1], 2)

    def mask(self, j: int) -> tuple[U8, int, int]:
        """Mask of object j, 0 or 255 by stored pixel: a window of it, and where that begins (x, y)."""
        made = self._masks.get(j)
        if made is None:
            whole = self.data.mask(j).view(np.uint8)
            x, y, w, h = cv2.boundingRect(whole)
            made = (whole[y : y + h, x : x + w] * np.uint8(255), x, y)
            if self._bytes + made[0].nbytes <= CACHE_BYTES:
                self._masks[j] = made
                self._bytes += made[0].nbytes
        return made

    def hulls(self, i: int) -> list[F64] | None:
        """The convex hull of each object of image i, (p, 2) xy in working pixels: what boxes under any turn
        follow from. None unless all of them have masks.
        """
        if i not in self._hulls:
            rows, have = self.data.objects(i), self.data.masks
            whole = have is not None and all(have[j] for j in range(rows.start, rows.stop))
            made = (
                [self._hull(j) * self.scale(i)[::-1] for j in range(rows.start, rows.stop)] if whole else []
            )
            self._hulls[i] = made if whole and all(len(h) for h in made) else None
        return self._hulls[i]

    def _hull(self, j: int) -> F64:
        window, x, y = self.mask(j)
        seen = cv2.findNonZero(window)
        if seen is None:
            return np.zeros((0, 2))
        hull = cv2.convexHull(seen).reshape(-1, 2).astype(float)
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)  # of a pixel
        return (hull[:, None] + corners + np.array([x, y])).reshape(-1, 2)


def working_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of about side² pixels in the proportions of `size`."""
    scale = side / float(np.sqrt(size[0] * size[1]))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrink(image: U8, size: tuple[int, int]) -> U8:
    """The image resized to (height, width): area averages where it shrinks, bilinear where it grows."""
    if image.shape[:2] == size:
        return image
    how = cv2.INTER_AREA if size[0] * size[1] < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    out: U8 = cv2.resize(image, size[::-1], interpolation=how).astype(np.uint8, copy=False)
    return out


def random_crop(
    working: Working, i: int, size: int, augment: Augment, rng: np.random.Generator, cell: int | None = None
) -> tuple[U8, Truth]:
    """A crop (size, size, 3) of image i and what is in it; masks by cells of `cell` pixels, if given."""
    image, boxes = working.image(i), working.boxes(i)
    rows = working.data.objects(i)
    hulls = working.hulls(i) if cell is not None and augment.turn else None
    matrix = _map_to_crop(image.shape[:2], boxes, size, augment, rng, hulls is not None)
    pixels = warp(image, matrix, (size, size), GREY)
    if augment.color > 0:
        pixels = recolored(pixels, augment.color, rng)
    moved = map_boxes(boxes, matrix) if hulls is None else boxes_of(hulls, matrix)
    clipped = np.clip(moved, 0, size)
    part = _area(clipped) / np.maximum(_area(moved), 1e-9)
    near = (part > GONE) & (_area(clipped) > 0)
    ignored = working.data.ignored[rows] | (part < KEPT)
    drawn = None
    if cell is not None:
        stored = matrix.copy()
        stored[:, :2] *= working.scale(i)[::-1]
        have = working.data.masks
        drawn = [
            None if have is None or not have[j] else _mask_cells(working.mask(j), stored, size, cell)
            for j in rows.start + np.flatnonzero(near)
        ]
    truth = Truth(clipped[near].astype(np.float32), working.data.labels[rows][near], ignored[near], drawn)
    return pixels, truth


def _map_to_crop(
    shape: tuple[int, ...], boxes: F64, size: int, augment: Augment, rng: np.random.Generator, free: bool
) -> F64:
    """The map (2, 3) from the image's continuous coordinates to the crop's."""
    height, width = shape[:2]
    u = rng.uniform(-1, 1, 5)
    focus, which, turn, flip = rng.random(), rng.random(), rng.integers(4), rng.random() < 0.5
    scale = float(np.exp(u[0] * augment.scale))
    reach = size / scale / 2  # half the crop's side in image pixels
    room = np.maximum(np.array([width, height]) / 2 - reach, 0) + BEYOND
    centre = np.array([width, height]) / 2 + u[1:3] * room
    if len(boxes) and focus < FOCUS:
        x0, y0, x1, y1 = boxes[int(which * len(boxes))]
        stray = np.maximum(reach - np.array([x1 - x0, y1 - y0]) / 2, 0.2 * reach)
        at = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + u[3:5] * stray
        middle = np.array([width, height]) / 2
        centre = np.clip(at, middle - room, middle + room)
    a = np.eye(2)
    if augment.turn:
        c, s = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(turn)]
        if free:
            angle = rng.uniform(0, 2 * np.pi)
            c, s = float(np.cos(angle)), float(np.sin(angle))
        a = np.array([[c, -s], [s, c]])
    if augment.flip and flip:
        a = np.array([[-1.0, 0], [0, 1]]) @ a
    a = a * scale
    return np.concatenate([a, (size / 2 - a @ centre)[:, None]], axis=1)


def warp(image: U8, matrix: F64, size: tuple[int, int], fill: int) -> U8:
    """The image under a map of continuous coordinates (pixel (0, 0) covers [0, 1)²), bilinear."""
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    out: U8 = cv2.warpAffine(
        image,
        shifted,
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    ).astype(np.uint8, copy=False)
    return out


def map_boxes(boxes: F64, matrix: F64) -> F64:
    """Boxes under a map that turns by multiples of 90 degrees, scales and mirrors."""
    a = np.abs(matrix[:, :2])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 @ a.T
    return np.concatenate([middle - half, middle + half], axis=1)


def boxes_of(hulls: list[F64], matrix: F64) -> F64:
    """Boxes (k, 4) of convex hulls (p, 2) under any affine map."""
    moved = [h @ matrix[:, :2].T + matrix[:, 2] for h in hulls]
    return np.array([[*m.min(axis=0), *m.max(axis=0)] for m in moved]).reshape(-1, 4)


def _area(boxes: F64) -> F64:
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def _mask_cells(mask: tuple[U8, int, int], matrix: F64, size: int, cell: int) -> F32:
    """Coverage (h, w) of an object by cell of the crop."""
    window, x, y = mask
    out = np.zeros((size // cell, size // cell), np.float32)
    if not window.size:
        return out
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * window.shape[1::-1] + (x, y)
    x0, y0, x1, y1 = boxes_of([corners], matrix)[0] / cell
    c0, r0 = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    c1, r1 = min(int(np.ceil(x1)), out.shape[1]), min(int(np.ceil(y1)), out.shape[0])
    if c0 >= c1 or r0 >= r1:
        return out
    local = matrix.copy()
    local[:, 2] += matrix[:, :2] @ (x, y) - np.array([c0, r0]) * cell
    fine = warp(window, local, ((r1 - r0) * cell, (c1 - c0) * cell), 0)
    out[r0:r1, c0:c1] = shrink(fine, (r1 - r0, c1 - c0)) / np.float32(255)
    return out


def recolored(image: U8, strength: float, rng: np.random.Generator) -> U8:
    """Gain, gamma, a cast of each channel, saturation, and at times blur or noise, all by chance."""
    u = rng.uniform(-strength, strength, 6)
    blur, noise = rng.random(2)
    keep = np.exp(u[5])  # of the distance from grey
    mix = (np.full((3, 3), (1 - keep) / 3) + keep * np.eye(3)).astype(np.float32)
    table = np.linspace(0, 1, 256)[:, None] ** np.exp(u[0]) * np.exp(u[1] + 0.4 * u[2:5])
    lut = np.clip(table * 255 + 0.5, 0, 255).astype(np.uint8)
    out = cv2.transform(cv2.LUT(image, lut[None]), mix)
    if noise < 0.3:
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(40 * strength * noise)
        out = cv2.add(out, grain, dtype=cv2.CV_8U)
    if blur < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), 0.5 + 3 * blur)
    done: U8 = out.astype(np.uint8, copy=False)
    return done
