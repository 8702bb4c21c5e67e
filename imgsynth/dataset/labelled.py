"""Classification data in memory: images of one size, a class each, and what is known of their origin."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import I64, U8
from imgsynth.errors import DataError

MAX_BYTES = 8 << 30  # of decoded pixels: more belongs on disk, not in memory


@dataclass(frozen=True)
class LabelledImages:
    """`n` images of one size with a class each.

    Raises:
        DataError: on construction, where the arrays do not fit each other.
    """

    images: U8  # (n, H, W, C), C = 1 or 3
    labels: I64  # (n,) index into classes
    classes: tuple[str, ...]
    groups: NDArray[Any] | None  # (n,) track, writer block or source id; images of one group are near-copies
    name: str  # what to call it in a report
    names: NDArray[Any] | None = None  # (n,) file names, where there are files
    notes: str = ""  # what was done on loading ("resized …")
    weights: NDArray[np.float64] | None = None  # (n,) relative chance that training draws a row

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise DataError(
                f"{self.name}: images: expected uint8 (n, height, width, 1 or 3), "
                f"got {images.dtype} {images.shape}"
            )
        for what, column in (
            ("labels", labels), ("groups", self.groups), ("names", self.names), ("weights", self.weights),
        ):  # fmt: skip
            if column is not None and column.shape != (len(images),):
                raise DataError(f"{self.name}: {what}: expected shape ({len(images)},), got {column.shape}")
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"{self.name}: labels: expected whole numbers, got {labels.dtype}")
        if len(set(self.classes)) != len(self.classes):
            twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
            raise DataError(f"{self.name}: classes: every name once, but {twice[0]!r} stands twice")
        outside = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        if len(outside):
            raise DataError(
                f"{self.name}: labels: expected 0 to {len(self.classes) - 1}, "
                f"got {labels[outside[0]]} at row {outside[0]} ({len(outside)} such rows)"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return int(self.images.shape[3])

    def counts(self) -> I64:
        """Images of each class, (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def subset(self, index: ArrayLike, name: str | None = None) -> LabelledImages:
        """The rows `index` (numbers or a mask), in that order; all classes stay."""
        i = np.asarray(index)
        return replace(
            self,
            images=self.images[i],
            labels=self.labels[i],
            groups=None if self.groups is None else self.groups[i],
            names=None if self.names is None else self.names[i],
            name=name or self.name,
            weights=None if self.weights is None else self.weights[i],
        )

    def take(self, n: int, seed: int) -> LabelledImages:
        """`n` rows drawn at random, stratified by class and nested: `take(m)` is the first m rows of
        `take(n)`, m ≤ n.

        Each class is shuffled, then the classes are merged so that any leading part holds them in proportion
        (within one image a class). Single images are drawn, not groups.

        Raises:
            DataError: if there are fewer than n rows, or n < 1.
        """
        if not 1 <= n <= len(self):
            raise DataError(f"{self.name}: {n} images wanted, it has {len(self)}")
        return self.subset(nested_order(self.labels, seed)[:n])

    def digest(self) -> str:
        """SHA-256 (hex) of images, labels, class names and groups, and of the weights where there are any."""
        h = hashlib.sha256()
        groups = [] if self.groups is None else [str(g) for g in self.groups.tolist()]
        h.update(repr((self.images.shape, self.classes, groups)).encode())
        h.update(np.ascontiguousarray(self.labels, "<i8").tobytes())
        h.update(np.ascontiguousarray(self.images).tobytes())
        if self.weights is not None:
            h.update(np.ascontiguousarray(self.weights, "<f8").tobytes())
        return h.hexdigest()

    def fitted(self, size: tuple[int, int], channels: int) -> LabelledImages:
        """The same data at another (height, width) and number of channels (see `resize` and `recolor`)."""
        if (size, channels) == (self.size, self.channels):
            return self
        return replace(self, images=recolor(resize(self.images, size), channels))

    def aligned(self, classes: Sequence[str]) -> LabelledImages:
        """The same rows with labels counted in `classes`, matched by name.

        Raises:
            DataError: if a class with images is not among them.
        """
        position = {c: k for k, c in enumerate(classes)}
        missing = [c for c, n in zip(self.classes, self.counts(), strict=True) if n and c not in position]
        if missing:
            raise DataError(
                f"{self.name}: class {missing[0]!r} is not among {', '.join(classes)}; the class names of "
                "the two sets must agree"
            )
        lookup = np.array([position.get(c, -1) for c in self.classes], np.int64)
        return replace(self, labels=lookup[self.labels], classes=tuple(classes))


def check_memory(path: Path, shape: Sequence[int], itemsize: int = 1) -> None:
    """Refuse an array that is too large to hold, before it is made.

    Raises:
        DataError: for more than `MAX_BYTES`.
    """
    n = itemsize * math.prod(int(side) for side in shape)
    if n > MAX_BYTES:
        raise DataError(
            f"{path}: {n / 2**30:.0f} GiB of data {tuple(shape)}; at most {MAX_BYTES >> 30} GiB are read"
        )


def nested_order(labels: ArrayLike, seed: int) -> I64:
    """A random order (n,) of the rows, any leading part of which holds the classes in proportion."""
    y = np.asarray(labels)
    rng = np.random.Generator(np.random.Philox(key=seed))
    shuffled = rng.permutation(len(y))
    # Row of rank r in its class of m images stands at quantile (r + ½)/m; ties break by the shuffle.
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    counts = np.unique(y, return_counts=True)[1]
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    quantile = np.empty(len(y))
    quantile[by_class] = (rank + 0.5) / np.repeat(counts, counts)
    return shuffled[np.argsort(quantile[shuffled], kind="stable")].astype(np.int64)


def concat(a: LabelledImages, b: LabelledImages, name: str | None = None) -> LabelledImages:
    """`a` followed by `b`, classes matched by name (those that only `b` has come last), groups kept apart.

    `a` sets the form: `b` is brought to its size and channels. Groups of the two never merge, even where they
    are called the same; where only one has groups, each row of the other is a group of its own.
    """
    classes = a.classes + tuple(c for c in b.classes if c not in a.classes)
    a, b = a.aligned(classes), b.aligned(classes).fitted(a.size, a.channels)
    groups = None
    if a.groups is not None or b.groups is not None:
        groups = np.concatenate([_tagged("a", a), _tagged("b", b)])
    names = None
    if a.names is not None and b.names is not None:
        names = np.concatenate([a.names, b.names])
    weights = None
    if a.weights is not None or b.weights is not None:
        weights = np.concatenate([_relative(a), _relative(b)])
    return LabelledImages(
        images=np.concatenate([a.images, b.images]),
        labels=np.concatenate([a.labels, b.labels]),
        classes=classes,
        groups=groups,
        name=name or f"{a.name} + {b.name}",
        names=names,
        notes="; ".join(note for note in (a.notes, b.notes) if note),
        weights=weights,
    )


def _relative(data: LabelledImages) -> NDArray[np.float64]:
    if data.weights is None or not data.weights.sum() > 0:
        return np.ones(len(data))
    return data.weights * (len(data) / data.weights.sum())


def _tagged(tag: str, data: LabelledImages) -> NDArray[np.str_]:
    ids: Sequence[Any] = range(len(data)) if data.groups is None else data.groups.tolist()
    return np.array([f"{tag}/{g}" for g in ids], dtype=str)


def resize(images: U8, size: tuple[int, int]) -> U8:
    """Images (n, H, W, C) stretched to `size`: area averages where they shrink, else bilinear."""
    import cv2

    if images.shape[1:3] == size:
        return images
    shrinks = images.shape[1] >= size[0] and images.shape[2] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for i, image in enumerate(images):
        out[i] = cv2.resize(image, (size[1], size[0]), interpolation=how).reshape(*size, images.shape[3])
    return out


def recolor(images: U8, channels: int) -> U8:
    """Images (n, H, W, 1 or 3) as grey (luma of ITU-R BT.601, as JPEG has it) or RGB (grey thrice)."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    luma = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(luma)[..., None].astype(np.uint8)
