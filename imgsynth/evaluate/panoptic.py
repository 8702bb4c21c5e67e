"""Pixel scores of found masks: intersection over union of classes (mIoU) and panoptic quality (PQ).

Both read one picture of what was found: objects above a score are laid down, the surest on top. For PQ an
object of which less than half is left in sight is dropped, as Kirillov et al. 2019 ("Panoptic segmentation",
CVPR, §7) do; for mIoU the pixels of a class are the union of its objects, whatever lies on them. Pixels that
only ignored objects cover count on neither side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.dataset import rle
from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.errors import DataError
from imgsynth.evaluate.matching import mask_texts

MIN_SCORE = 0.5  # found objects below are not there, for mIoU and PQ
IN_SIGHT = 0.5  # share of an object that others must leave free

Flat = NDArray[np.bool_]  # (H · W,) column by column
Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class PixelTable:
    """What mIoU and PQ are functions of, for each of n images and K classes."""

    shared: F64  # (n, K) pixels of the class on both sides
    either: F64  # (n, K) pixels of the class on one side at least
    overlap: F64  # (n, K) sum of the overlaps of matched objects
    matched: F64  # (n, K) true objects that were found
    spurious: F64  # (n, K) found objects that are not there
    missed: F64  # (n, K) true objects that were not found

    @staticmethod
    def of(found: Detections, truth: AnnotatedImages, *, min_score: float = MIN_SCORE) -> PixelTable:
        """Compare pixels, an image at a time.

        Raises:
            DataError: a mask that is not one, or no masks.
        """
        texts = mask_texts(found, truth)
        k = len(truth.classes)
        table = np.zeros((6, len(truth), k))
        kept = np.flatnonzero(found.scores >= min_score)
        kept = kept[np.lexsort((found.scores[kept], found.owner[kept]))]
        bounds = np.searchsorted(found.owner[kept], np.arange(len(truth) + 1))
        for i in range(len(truth)):
            size = (int(truth.sizes[i, 0]), int(truth.sizes[i, 1]))
            rows, ours = kept[bounds[i] : bounds[i + 1]], truth.objects(i)
            theirs = [_pixels(str(texts[j]), size, "a found mask") for j in rows]
            real = [_true_pixels(truth, j, size) for j in range(ours.start, ours.stop)]
            count = ~truth.ignored[ours]
            wanted = [p for p, counts in zip(real, count, strict=True) if counts]
            void = _covered([p for p, counts in zip(real, count, strict=True) if not counts], size)
            for pixels in wanted:
                void[pixels] = False
            sides = theirs, found.labels[rows], wanted, truth.labels[ours][count], void
            table[:2, i] = _class_pixels(*sides, size, k)
            table[2:, i] = _panoptic(*sides, size, k)
        return PixelTable(*table)

    def figures(self, weights: F64) -> dict[str, F64]:
        """mIoU, PQ, SQ, RQ, (b,) each, per_class_IoU and per_class_PQ (b, K), under weights (b, n).

        PQ is the sum of overlaps ÷ (TP + ½ FP + ½ FN) = SQ · RQ for each class (Kirillov et al. 2019, eq. 1
        and 2). Means are over the classes that either side has; the background is none.
        """
        shared, either, overlap, hit, spurious, missed = (
            weights @ c
            for c in (self.shared, self.either, self.overlap, self.matched, self.spurious, self.missed)
        )
        size = hit + spurious / 2 + missed / 2
        iou, pq = _ratio(shared, either), _ratio(overlap, size)
        # A class without a match has no overlap to average; Kirillov et al. count its SQ as 0.
        sq = np.where(size > 0, overlap / np.maximum(hit, 1e-300) * (hit > 0), np.nan)
        rq = _ratio(hit, size)
        return {"mIoU": _mean(iou), "PQ": _mean(pq), "SQ": _mean(sq), "RQ": _mean(rq),
                "per_class_IoU": iou, "per_class_PQ": pq}  # fmt: skip


def _class_pixels(
    theirs: list[I64], their_labels: I64, real: list[I64], our_labels: I64, void: Flat, size: Size, k: int
) -> F64:
    """Pixels of each class on both sides and on either, (2, K)."""
    out = np.zeros((2, k))
    for c in np.union1d(their_labels, our_labels):
        found = _covered([p for p, label in zip(theirs, their_labels, strict=True) if label == c], size)
        wanted = _covered([p for p, label in zip(real, our_labels, strict=True) if label == c], size)
        found &= ~void
        out[:, c] = np.count_nonzero(found & wanted), np.count_nonzero(found | wanted)
    return out


def _panoptic(
    theirs: list[I64], their_labels: I64, real: list[I64], our_labels: I64, void: Flat, size: Size, k: int
) -> F64:
    """Sum of overlaps, matched, spurious and missed objects of each class, (4, K)."""
    whole = np.array([len(p) for p in theirs], np.int64)
    left = np.bincount(_laid(theirs, size), minlength=len(theirs) + 1)[1:]
    kept = np.flatnonzero((whole > 0) & (left >= IN_SIGHT * whole))
    found, their_labels = _laid([theirs[j] for j in kept], size), their_labels[kept]
    # Of true objects that overlap the smaller lies on top.
    rank = np.argsort([-len(p) for p in real], kind="stable").astype(np.int64)
    wanted, our_labels = _laid([real[j] for j in rank], size), our_labels[rank]
    our_size = np.bincount(wanted, minlength=len(real) + 1)[1:]
    at = np.flatnonzero(found)
    columns = len(kept) + 1
    codes = np.where(void[at], len(real) + 1, wanted[at]) * columns + found[at]
    shared = np.bincount(codes, minlength=(len(real) + 2) * columns).reshape(-1, columns)[:, 1:]
    their_size, in_void, both = shared.sum(axis=0), shared[-1], shared[1:-1]
    union = our_size[:, None] + (their_size - in_void) - both
    overlap = both / np.maximum(union, 1) * (our_labels[:, None] == their_labels)
    true_row, found_row = np.nonzero(overlap > 0.5)  # at most one a row and column: no side overlaps itself
    spurious = in_void <= 0.5 * their_size
    spurious[found_row] = False
    missed = our_size > 0
    missed[true_row] = False
    return np.array(
        [
            np.bincount(our_labels[true_row], overlap[true_row, found_row], minlength=k),
            np.bincount(our_labels[true_row], minlength=k),
            np.bincount(their_labels[spurious], minlength=k),
            np.bincount(our_labels[missed], minlength=k),
        ]
    )


def _laid(masks: list[I64], size: Size) -> I64:
    """Which mask (from 1) is on top at each pixel, 0 where none is; later ones lie on earlier ones."""
    out = np.zeros(size[0] * size[1], np.int64)
    for j, pixels in enumerate(masks):
        out[pixels] = j + 1
    return out


def _covered(masks: list[I64], size: Size) -> Flat:
    out = np.zeros(size[0] * size[1], bool)
    for pixels in masks:
        out[pixels] = True
    return out


def _pixels(text: str, size: Size, what: str) -> I64:
    """The pixels of a mask, numbered column by column.

    Raises:
        DataError: the text is malformed or its runs do not fill the image.
    """
    try:
        counts = rle.decode_counts(text)
    except DataError as e:
        raise DataError(f"{what}: {e}") from e
    ends = np.cumsum(counts)
    if (counts < 0).any() or ends[-1] != size[0] * size[1]:
        raise DataError(f"{what}: RLE runs fill {ends[-1]} pixels, not {size[0] * size[1]}")
    length, stop = counts[1::2], ends[1::2]
    out: I64 = np.repeat(stop - np.cumsum(length), length) + np.arange(length.sum())
    return out


def _true_pixels(truth: AnnotatedImages, j: int, size: Size) -> I64:
    if truth.masks is not None and truth.masks[j]:
        return _pixels(str(truth.masks[j]), size, truth.name)
    return np.flatnonzero(truth.mask(j).T)


def _ratio(part: F64, whole: F64) -> F64:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: F64) -> F64:
    """Mean of each row over what is known, NaN where nothing is."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
