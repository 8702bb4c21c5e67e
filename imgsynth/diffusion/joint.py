"""Masks as analog bits, so that they can be sampled together with the image; and back to labels.

A pixel's class id and instance id are written in binary, each bit as −1 or 1 in a channel of its own (Chen,
Zhang and Hinton, "Analog bits", 2023, §2), noised and denoised like colour. Read back, a bit is the sign of
its channel, and how far from 0 the channel is says how sure of it the model was.

Ids within a frame are canonical: objects are numbered by the place of their first visible pixel, row by row,
so that equal label maps have equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I32
from imgsynth.errors import DataError


@dataclass(frozen=True)
class MaskCoding:
    """How many classes and instances a frame's bits tell apart.

    Args:
        classes: K; class ids 1 … K, 0 = background.
        instances: most objects in a frame; 0 codes the class only, and connected components of one class
            count as objects.

    Raises:
        DataError: on construction, no class, or more than 16 bits.
    """

    classes: int
    instances: int = 0

    def __post_init__(self) -> None:
        if self.classes < 1 or self.instances < 0 or self.bits > 16:
            raise DataError(
                f"mask coding: expected 1 class or more and at most 16 bits, got {self.classes} classes and "
                f"{self.instances} instances ({self.bits} bits)"
            )

    @staticmethod
    def of(classes: int, bits: int) -> MaskCoding:
        """The coding of a model with so many classes and mask bits: what the classes leave is for instances.

        Raises:
            DataError: fewer bits than the classes need.
        """
        spare = bits - classes.bit_length()
        if spare < 0:
            raise DataError(f"{bits} mask bits are too few for {classes} classes, which need {bits - spare}")
        return MaskCoding(classes, 2**spare - 1)

    @property
    def class_bits(self) -> int:
        """Bits of a class id."""
        return self.classes.bit_length()

    @property
    def bits(self) -> int:
        """Bits in all: the class's, then the instance's, each lowest first."""
        return self.class_bits + self.instances.bit_length()

    def encode(self, semantic: I32, instance: I32) -> F32:
        """Analog bits (n, bits, H, W), −1 or 1, of class ids and instance ids (n, H, W).

        Raises:
            DataError: a class or more objects than there are codes for.
        """
        if semantic.max(initial=0) > self.classes or semantic.min(initial=0) < 0:
            raise DataError(f"class ids: expected 0 to {self.classes}, got {semantic.max()}")
        codes = [semantic >> k for k in range(self.class_bits)]
        if self.instances:
            ids = canonical(np.where(semantic > 0, instance, 0))
            if ids.max(initial=0) > self.instances:
                raise DataError(
                    f"{ids.max()} labelled objects in a frame, the coding has room for {self.instances}"
                )
            codes += [ids >> k for k in range(self.bits - self.class_bits)]
        return (2 * (np.stack(codes, axis=1) & 1) - 1).astype(np.float32)

    def decode(self, bits: F32, margins: F32 | None = None, cleanup: Cleanup | None = None) -> JointLabels:
        """Objects of analog bits (n, bits, H, W): hard masks, classes and confidences.

        `margins`, of the same shape, are what confidences are read from (default: `bits` themselves). A pixel
        is an object's where both its ids are in range; the class of an object is that of most of its pixels.
        What `cleanup` refuses becomes background.

        Raises:
            DataError: another number of bits.
        """
        if bits.ndim != 4 or bits.shape[1] != self.bits:
            raise DataError(f"analog bits: expected (n, {self.bits}, H, W), got {bits.shape}")
        sure = pixel_confidence(bits, bits if margins is None else margins)
        semantic = _number(bits[:, : self.class_bits])
        semantic[semantic > self.classes] = 0
        if self.instances:
            ids = _number(bits[:, self.class_bits :])
            ids[(ids > self.instances) | (semantic == 0)] = 0
            semantic[ids == 0] = 0
        else:
            ids = np.zeros_like(semantic)
        return _objects(semantic, ids, sure, cleanup or Cleanup(), components=not self.instances)


@dataclass(frozen=True)
class Cleanup:
    """Which connected components (8 neighbours) of an object's pixels stay: those of at least `pixels` and of
    at least `share` of its largest one. The rest becomes background.
    """

    pixels: int = 4
    share: float = 0.1


@dataclass(frozen=True)
class JointLabels:
    """`m` objects in n frames. Ids count from 1 in each frame, rows are sorted by frame and id."""

    instance: I32  # (n, H, W) ids, 0 = background
    semantic: I32  # (n, H, W) class ids
    frame: I32  # (m,) position in the batch
    id: I32  # (m,)
    class_id: I32  # (m,)
    confidence: F64  # (m,) mean over the object's pixels of the chance that all their bits are right
    pixel_confidence: F32  # (n, H, W)
    removed: I32  # (n,) pixels that were cleaned away


def canonical(instance: I32) -> I32:
    """Ids (n, H, W) numbered anew from 1 by the place of each one's first pixel, row by row."""
    out = np.zeros_like(instance)
    for k, ids in enumerate(instance):
        found, first, place = np.unique(ids, return_index=True, return_inverse=True)
        rank = np.zeros(len(found), np.int32)
        objects = np.flatnonzero(found != 0)
        rank[objects[np.argsort(first[objects])]] = np.arange(1, len(objects) + 1)
        out[k] = rank[place].reshape(ids.shape)
    return out


def pixel_confidence(bits: F32, margins: F32) -> F32:
    """(n, H, W) chance that all bits of a pixel are right: the product of (1 ± m) / 2, as E[bit] = 2p − 1.

    The sign is that of `bits` (n, b, H, W), the size m that of `margins`: one of the other sign speaks
    against the bit.
    """
    signed = np.clip(np.where(bits > 0, margins, -margins), -1, 1)
    return np.prod((1 + signed) / 2, axis=1, dtype=np.float32)


def _number(bits: F32) -> I32:
    """(n, H, W) of analog bits (n, b, H, W), lowest first."""
    weights = (1 << np.arange(bits.shape[1], dtype=np.int32))[:, None, None]
    return ((bits > 0) * weights).sum(axis=1, dtype=np.int32)


def _objects(semantic: I32, ids: I32, sure: F32, cleanup: Cleanup, components: bool) -> JointLabels:
    instance = np.zeros_like(semantic)
    rows: list[tuple[int, int, int, float]] = []
    removed = np.zeros(len(semantic), np.int32)
    for n in range(len(semantic)):
        masks = _components(semantic[n], cleanup) if components else _numbered(ids[n], cleanup)
        masks.sort(key=lambda mask: int(np.argmax(mask)))
        for k, mask in enumerate(masks, 1):
            classes = np.bincount(semantic[n][mask])
            instance[n][mask] = k
            rows.append((n, k, int(classes.argmax()), float(sure[n][mask].mean(dtype=np.float64))))
        removed[n] = ((semantic[n] > 0) & (instance[n] == 0)).sum()
    table = np.array(rows, np.float64).reshape(-1, 4)
    frame, ident, class_id = (table[:, j].astype(np.int32) for j in range(3))
    semantic = _painted(instance, frame, ident, class_id)
    return JointLabels(instance, semantic, frame, ident, class_id, table[:, 3], sure, removed)


def _painted(instance: I32, frame: I32, ident: I32, class_id: I32) -> I32:
    """Class maps of instance maps."""
    of = np.zeros((len(instance), int(ident.max(initial=0)) + 1), np.int32)
    of[frame, ident] = class_id
    return of[np.arange(len(instance))[:, None, None], instance]


def _numbered(ids: I32, cleanup: Cleanup) -> list[NDArray[np.bool_]]:
    """The mask of each id, without the components that are refused; ids with nothing left are left out."""
    out = []
    for value in np.unique(ids[ids > 0]):
        count, places = cv2.connectedComponents((ids == value).astype(np.uint8), connectivity=8)
        sizes = np.bincount(places.ravel(), minlength=count)[1:]
        kept = (sizes >= cleanup.pixels) & (sizes >= cleanup.share * sizes.max())
        mask = np.concatenate([[False], kept])[places]
        if mask.any():
            out.append(mask)
    return out


def _components(semantic: I32, cleanup: Cleanup) -> list[NDArray[np.bool_]]:
    """Each component of each class is an object of its own, where it is large enough."""
    out = []
    for value in np.unique(semantic[semantic > 0]):
        count, places = cv2.connectedComponents((semantic == value).astype(np.uint8), connectivity=8)
        sizes = np.bincount(places.ravel(), minlength=count)
        large = [
            k for k in range(1, count) if sizes[k] >= max(cleanup.pixels, cleanup.share * sizes[1:].max())
        ]
        out += [places == k for k in large]
    return out
