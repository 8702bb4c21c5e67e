"""What makes an image itself, whatever its flip, small shift, brightness and contrast; and distances between.

An image's window is its middle, averaged over 2 × 2 pixels where it is large enough, as luma and two halved
colour differences. Its *mark* is the window without its mean, seen along the first principal components of
real images (which leave most of noise and JPEG out) and brought to length 1. An image is compared with
another's mark in every small shift of its own window and in both reflections, and the least distance counts:
√(2 − 2ρ) with ρ the correlation, so 0 is the same picture and 1.41 an unrelated one. Windows lie inside the
frame, so a shift invents no border.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F32, I64, U8
from imgsynth.dataset.labelled import recolor, resize
from imgsynth.errors import DataError

WORK_SIDE = 32  # larger images are brought to this side first
SHIFT_SHARE = 14  # shifts up to 1/14 of the side are seen: 2 px of 28 and 32
POOL_FROM = 20  # windows of this side and more are averaged over 2 × 2 pixels
CHROMA = 0.5  # weight of colour differences: JPEG keeps them badly, noise drowns grey alone
COMPONENTS = 24
BASIS_IMAGES = 5000
CHUNK = 2048  # images whose windows are held at once
FLAT = 1e-3  # of full contrast, root mean square: a window that varies less is blank
ROWS, COLUMNS = 8, 1024  # of a block of similarities: 50 variants of 8 × 1024 stay in the L2 cache
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Neighbours(NamedTuple):
    """The nearest of a reference to each image, nearest first; columns beyond it are inf and −1."""

    distance: F32  # (n, k)
    row: I64  # (n, k) of the reference


@dataclass(frozen=True)
class Form:
    """Size and channels at which images of one kind are compared.

    Raises:
        DataError: on construction, for less than 6 pixels a side.
    """

    size: tuple[int, int]  # (height, width) of the images
    channels: int  # 1 or 3

    def __post_init__(self) -> None:
        if min(self.work) < 6 or self.channels not in (1, 3):
            raise DataError(
                f"comparing images: expected at least 6 pixels a side and 1 or 3 channels, got "
                f"{self.size[0]} × {self.size[1]}, {self.channels} channels"
            )

    @property
    def work(self) -> tuple[int, int]:
        """(height, width) after shrinking."""
        scale = min(1.0, WORK_SIDE / max(self.size))
        return max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))

    @property
    def margin(self) -> int:
        """Largest shift, in pixels of the shrunk image."""
        return max(1, round(min(self.work) / SHIFT_SHARE))

    @property
    def shifts(self) -> list[tuple[int, int]]:
        """All shifts (down, right) that are tried, no shift first."""
        m = self.margin
        steps = [(y, x) for y in range(-m, m + 1) for x in range(-m, m + 1)]
        return sorted(steps, key=lambda s: (s[0] ** 2 + s[1] ** 2, s))

    def windows(self, images: U8) -> F32:
        """The window of each image (n, H, W, C) uint8 without its mean, (n, d).

        Raises:
            DataError: images of another size.
        """
        return self._window(self._worked(images), (0, 0))

    def variants(self, images: U8) -> list[F32]:
        """Windows (n, d) in both reflections and all shifts; the first is `windows`."""
        work = self._worked(images)
        return [self._window(side, shift) for side in (work, work[:, :, ::-1]) for shift in self.shifts]

    def _worked(self, images: U8) -> F32:
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1:3] != self.size:
            raise DataError(
                f"comparing images: expected uint8 (n, {self.size[0]}, {self.size[1]}, 1 or 3), "
                f"got {images.dtype} {images.shape}"
            )
        work = recolor(resize(images, self.work), self.channels).astype(np.float32) / 255
        if self.channels == 1:
            return np.asarray(work, np.float32)
        luma = np.asarray(work @ _LUMA, np.float32)
        differences = CHROMA * (work[..., [0, 2]] - luma[..., None])
        return np.asarray(np.concatenate([luma[..., None], differences], axis=3), np.float32)

    def _window(self, work: F32, shift: tuple[int, int]) -> F32:
        m, (dy, dx) = self.margin, shift
        height, width = work.shape[1] - 2 * m, work.shape[2] - 2 * m
        part = work[:, m + dy : m + dy + height, m + dx : m + dx + width]
        if min(height, width) >= POOL_FROM:
            part = part[:, : height // 2 * 2, : width // 2 * 2]
            rows = part[:, ::2] + part[:, 1::2]
            part = np.asarray((rows[:, :, ::2] + rows[:, :, 1::2]) / 4, np.float32)
        flat = part - part.mean(axis=(1, 2), keepdims=True)
        return np.asarray(flat.reshape(len(flat), math.prod(flat.shape[1:])), np.float32)


@dataclass(frozen=True)
class Look:
    """How images of one form are compared: its principal components (d, K)."""

    form: Form
    components: F32

    @staticmethod
    def fit(images: U8, seed: int = 0) -> Look:
        """Learn the components from real images (n, H, W, C) uint8; of more than 5,000, from 5,000 of them.

        Raises:
            DataError: fewer than 2 images, or too small ones.
        """
        images = np.asarray(images)
        if images.ndim != 4 or len(images) < 2:
            raise DataError(f"comparing images: expected at least 2 images (n, H, W, C), got {images.shape}")
        form = Form((images.shape[1], images.shape[2]), images.shape[3])
        if len(images) > BASIS_IMAGES:
            rng = np.random.Generator(np.random.Philox(key=seed))
            images = images[np.sort(rng.choice(len(images), BASIS_IMAGES, replace=False))]
        unit = _unit(form.windows(images), form)
        _, vectors = np.linalg.eigh(unit.T.astype(np.float64) @ unit)
        return Look(form, np.ascontiguousarray(vectors[:, ::-1][:, :COMPONENTS], np.float32))

    def marks(self, images: U8) -> F32:
        """Marks (n, K) of length 1; 0 for a blank image, which is near to nothing."""
        parts = [images[i : i + CHUNK] for i in range(0, max(1, len(images)), CHUNK)]
        return np.concatenate([self._marks(self.form.windows(part)) for part in parts])

    def views(self, images: U8) -> F32:
        """Marks (v, n, K) of each image in both reflections and all shifts; the first are `marks`."""
        return np.stack([self._marks(window) for window in self.form.variants(images)])

    def _marks(self, windows: F32) -> F32:
        # Row by row the same sum whatever the other rows are: einsum, not a blocked matrix product.
        return _unit(np.einsum("nd,dk->nk", windows, self.components), self.form)

    def nearest(
        self,
        images: U8,
        marks: F32,
        k: int = 1,
        *,
        own: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Neighbours:
        """The k nearest of `marks` (m, K) to each image: all pairs are measured, 6 ms an image at m = 60,000.

        Args:
            images: (n, H, W, C) uint8.
            marks: of the reference (`Look.marks`).
            k: how many.
            own: (n,) group of each image; references of the same group do not count.
            groups: (m,) group of each reference, with `own`.
            progress: called with (images done, images in all).
        """
        n, m, k = len(images), len(marks), max(1, k)
        distance, row = np.full((n, k), np.inf, np.float32), np.full((n, k), -1, np.int64)
        held = min(k, m)
        mine, theirs = (None, None) if own is None else (np.asarray(own), np.asarray(groups))
        for start in range(0, n if m else 0, ROWS):
            stop = min(n, start + ROWS)
            similar = similarities(self.views(images[start:stop]), marks)
            if mine is not None:
                similar[mine[start:stop, None] == theirs] = -np.inf
            best = np.argpartition(-similar, held - 1, axis=1)[:, :held]
            value = np.take_along_axis(similar, best, axis=1)
            order = np.lexsort((best, -value), axis=1)
            value = np.take_along_axis(value, order, axis=1)
            distance[start:stop, :held] = distance_of(value)
            row[start:stop, :held] = np.where(np.isfinite(value), np.take_along_axis(best, order, axis=1), -1)
            if progress is not None:
                progress(stop, n)
        return Neighbours(distance, row)


def similarities(views: F32, marks: F32) -> F32:
    """Greatest correlation (n, m) of any view (v, n, K) of an image with each mark (m, K)."""
    v, n, width = views.shape
    flat = views.reshape(v * n, width)
    out = np.empty((n, len(marks)), np.float32)
    for start in range(0, len(marks), COLUMNS):
        part = marks[start : start + COLUMNS]
        (flat @ part.T).reshape(v, n, len(part)).max(axis=0, out=out[:, start : start + COLUMNS])
    return out


def distance_of(similarity: ArrayLike) -> F32:
    """√(2 − 2ρ); inf where ρ is −inf. Single precision resolves it to about 0.0005."""
    return np.asarray(np.sqrt(np.maximum(2 - 2 * np.asarray(similarity, np.float32), 0)), np.float32)


def _unit(vectors: F32, form: Form) -> F32:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    pixels = form.work[0] * form.work[1] / (4 if min(form.work) - 2 * form.margin >= POOL_FROM else 1)
    blank = length < FLAT * np.sqrt(pixels)
    return np.asarray(np.where(blank[:, None], 0, vectors / np.maximum(length, 1e-12)[:, None]), np.float32)
