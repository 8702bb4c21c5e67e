"""Detection and segmentation data: images of any sizes, the objects in each, and what a model found there.

Images stay where they are and are read one at a time (photographs are large); boxes, classes and masks are
held in memory as one struct of arrays over all objects. Boxes are xyxy, half-open pixels; masks are COCO's
run-length texts (`imgsynth.dataset.rle`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, I64, U8
from imgsynth.dataset import rle
from imgsynth.errors import DataError


class Images(Protocol):
    """A list of images that are read when asked for. Picklable, so that worker processes can read too."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, i: int) -> U8:
        """Image i, (H, W, 1 or 3) uint8.

        Raises:
            DataError: it cannot be read (naming the file).
        """
        ...


@dataclass(frozen=True)
class AnnotatedImages:
    """`n` images with `m` objects.

    Raises:
        DataError: on construction, where the arrays do not fit each other.
    """

    images: Images
    sizes: I64  # (n, 2) height, width
    owner: I64  # (m,) which image an object is in, ascending
    boxes: F64  # (m, 4) xyxy, half-open pixels, within the image
    labels: I64  # (m,) index into classes
    masks: NDArray[Any] | None  # (m,) COCO run-length texts, "" where an object has none; None: no masks
    ignored: NDArray[np.bool_]  # (m,) crowds and difficult objects: finding them is neither right nor wrong
    classes: tuple[str, ...]
    groups: NDArray[Any] | None  # (n,) track or source; images of one group are near-copies
    names: NDArray[Any]  # (n,) file names, or what else tells images apart
    name: str  # what to call it in a report
    notes: str = ""  # what was done on loading
    unnamed: bool = False  # the classes are only numbers ("0", "1", …), as YOLO files without names have them

    def __post_init__(self) -> None:
        n, m = len(self.images), len(self.owner)
        wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
            "sizes": (self.sizes, (n, 2)),
            "names": (self.names, (n,)),
            "groups": (self.groups, (n,)),
            "boxes": (self.boxes, (m, 4)),
            "labels": (self.labels, (m,)),
            "ignored": (self.ignored, (m,)),
            "masks": (self.masks, (m,)),
        }
        for what, (column, shape) in wanted.items():
            if column is not None and column.shape != shape:
                raise DataError(f"{self.name}: {what}: expected shape {shape}, got {column.shape}")
        if m and (np.any(np.diff(self.owner) < 0) or self.owner[0] < 0 or self.owner[-1] >= n):
            raise DataError(f"{self.name}: owner: expected ascending image numbers below {n}")
        outside = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(outside):
            raise DataError(
                f"{self.name}: labels: expected 0 to {len(self.classes) - 1}, "
                f"got {self.labels[outside[0]]} at object {outside[0]}"
            )
        if len(set(self.classes)) != len(self.classes):
            twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
            raise DataError(f"{self.name}: classes: every name once, but {twice[0]!r} stands twice")
        if not np.all(np.isfinite(self.boxes)):
            raise DataError(f"{self.name}: boxes: expected finite numbers")

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> U8:
        """Image i as RGB, (H, W, 3) uint8."""
        pixels = self.images[i]
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels

    def objects(self, i: int) -> slice:
        """The rows of image i's objects."""
        first, last = np.searchsorted(self.owner, [i, i + 1])
        return slice(int(first), int(last))

    def mask(self, j: int) -> NDArray[np.bool_]:
        """Mask (H, W) of object j; its filled box where it has none."""
        height, width = (int(v) for v in self.sizes[self.owner[j]])
        if self.masks is not None and self.masks[j]:
            return rle.decode(str(self.masks[j]), (height, width))
        out = np.zeros((height, width), bool)
        x0, y0, x1, y1 = np.rint(self.boxes[j]).astype(int)
        out[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
        return out

    def counts(self) -> I64:
        """Objects of each class that count, (K,)."""
        return np.bincount(self.labels[~self.ignored], minlength=len(self.classes)).astype(np.int64)

    def main_class(self) -> I64:
        """(n,) the rarest class that each image shows, K where it shows none: what splits and subsets are
        stratified by.
        """
        rarity = np.argsort(np.argsort(-self.counts(), kind="stable"), kind="stable")
        best = np.full(len(self), -1)
        np.maximum.at(best, self.owner, rarity[self.labels])
        of_rank = np.append(np.argsort(rarity), len(self.classes))
        out: I64 = of_rank[best].astype(np.int64)
        return out

    def subset(self, index: ArrayLike, name: str | None = None) -> AnnotatedImages:
        """The images `index` (numbers or a mask), in that order, with their objects; all classes stay."""
        i = np.arange(len(self))[np.asarray(index)]
        starts = np.searchsorted(self.owner, i)
        counts = np.searchsorted(self.owner, i, side="right") - starts
        rows = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return replace(
            self,
            images=Picked(self.images, i),
            sizes=self.sizes[i],
            owner=np.repeat(np.arange(len(i)), counts).astype(np.int64),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks[rows],
            ignored=self.ignored[rows],
            groups=None if self.groups is None else self.groups[i],
            names=self.names[i],
            name=name or self.name,
        )

    def aligned(self, classes: Sequence[str]) -> AnnotatedImages:
        """The same with labels counted in `classes`, matched by name; by position where this set has no names
        (`unnamed`) and its numbers are not among `classes`.

        Raises:
            DataError: if a class with objects is not among them.
        """
        own = self.classes
        held = np.bincount(self.labels, minlength=len(own))
        used = [c for c, n in zip(own, held, strict=True) if n]
        if self.unnamed and not set(used) <= set(classes):
            if len(own) > len(classes):
                raise DataError(
                    f"{self.name}: has {len(own)} classes without names, which do not fit "
                    f"{', '.join(classes)}; say their names in a data.yaml beside or above the labels"
                )
            own = tuple(classes[: len(own)])
            used = [own[k] for k in np.flatnonzero(held)]
        position = {c: k for k, c in enumerate(classes)}
        missing = [c for c in used if c not in position]
        if missing:
            cure = "the class names of the two sets must agree"
            if classes and all(c.isdigit() for c in classes):
                cure = "numbers are what classes without names are called: name them in a data.yaml"
            raise DataError(f"{self.name}: class {missing[0]!r} is not among {', '.join(classes)}; {cure}")
        lookup = np.array([position.get(c, -1) for c in own], np.int64)
        labels = lookup[self.labels] if len(self.labels) else self.labels
        return replace(self, labels=labels, classes=tuple(classes), unnamed=False)

    def image_digests(self) -> list[str]:
        """A hash of each image's decoded pixels, (n,): what tells that two images are the same."""
        return [pixel_digest(self.image(i)) for i in range(len(self))]

    def digest(self) -> str:
        """SHA-256 (hex) of pixels, boxes, labels, masks, class names and groups. Reads every image."""
        h = hashlib.sha256()
        groups = [] if self.groups is None else [str(g) for g in self.groups.tolist()]
        h.update(repr((self.sizes.tolist(), self.classes, groups)).encode())
        for column in (self.owner, self.labels, self.ignored):
            h.update(np.ascontiguousarray(column, "<i8").tobytes())
        h.update(np.ascontiguousarray(self.boxes, "<f8").tobytes())
        h.update(repr([] if self.masks is None else [str(t) for t in self.masks]).encode())
        for one in self.image_digests():
            h.update(one.encode())
        return h.hexdigest()


@dataclass(frozen=True)
class Picked:
    """Some images of a list, in an order of their own."""

    images: Images
    index: I64

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> U8:
        return self.images[int(self.index[i])]


@dataclass(frozen=True)
class Joined:
    """Two lists of images, one after the other."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, i: int) -> U8:
        return self.first[i] if i < len(self.first) else self.second[i - len(self.first)]


def concat_annotated(a: AnnotatedImages, b: AnnotatedImages, name: str | None = None) -> AnnotatedImages:
    """`a` followed by `b`, classes matched by name (those that only `b` has come last), groups kept apart.

    Objects of a set without masks have the text "" where the other set has masks. Where one set has no class
    names (`unnamed`), its numbers are positions in the other's classes.
    """
    classes = a.classes + tuple(c for c in b.classes if c not in a.classes)
    unnamed = a.unnamed and b.unnamed
    if a.unnamed != b.unnamed:  # the numbers of one stand for the names of the other
        classes = b.classes if a.unnamed else a.classes
    a, b = a.aligned(classes), b.aligned(classes)
    groups = None
    if a.groups is not None or b.groups is not None:
        tagged = [
            f"{tag}/{g}"
            for tag, part in (("a", a), ("b", b))
            for g in (range(len(part)) if part.groups is None else part.groups.tolist())
        ]
        groups = np.array(tagged, dtype=str)
    masks = None
    if a.masks is not None or b.masks is not None:
        masks = np.concatenate(
            [np.full(len(p.owner), "", object) if p.masks is None else p.masks for p in (a, b)]
        )
    return AnnotatedImages(
        images=Joined(a.images, b.images),
        sizes=np.concatenate([a.sizes, b.sizes]),
        owner=np.concatenate([a.owner, b.owner + len(a)]),
        boxes=np.concatenate([a.boxes, b.boxes]),
        labels=np.concatenate([a.labels, b.labels]),
        masks=masks,
        ignored=np.concatenate([a.ignored, b.ignored]),
        classes=classes,
        groups=groups,
        names=np.concatenate([a.names, b.names]),
        name=name or f"{a.name} + {b.name}",
        notes="; ".join(note for note in (a.notes, b.notes) if note),
        unnamed=unnamed,
    )


@dataclass(frozen=True)
class Detections:
    """What a model found in `n` images: `k` objects, in any order."""

    images: int  # n
    owner: I64  # (k,) which image
    boxes: F64  # (k, 4) xyxy, half-open pixels of the image as it is stored
    labels: I64  # (k,) index into classes
    scores: F64  # (k,) confidence in [0, 1]
    masks: NDArray[Any] | None  # (k,) COCO run-length texts; None: boxes only
    classes: tuple[str, ...]


def pixel_digest(image: U8) -> str:
    """Hash (32 hex digits) of an image's pixels and shape: whatever file they came from."""
    h = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    h.update(np.ascontiguousarray(image).tobytes())
    return h.hexdigest()
