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

Masks = NDArray[np.bool_]


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
            theirs = _stack([_decode(str(texts[j]), size) for j in rows], size)
            real = _stack([truth.mask(j) for j in range(ours.start, ours.stop)], size)
            count = ~truth.ignored[ours]
            void: Masks = np.any(real[~count], axis=0) & ~np.any(real[count], axis=0)
            their_labels, our_labels = found.labels[rows], truth.labels[ours][count]
            table[:2, i] = _class_pixels(theirs, their_labels, real[count], our_labels, void, k)
            table[2:, i] = _panoptic(theirs, their_labels, real[count], our_labels, void, k)
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


def _class_pixels(theirs: Masks, their_labels: I64, real: Masks, our_labels: I64, void: Masks, k: int) -> F64:
    """Pixels of each class on both sides and on either, (2, K)."""
    out = np.zeros((2, k))
    for c in np.union1d(their_labels, our_labels):
        found = theirs[their_labels == c].any(axis=0) & ~void
        wanted = real[our_labels == c].any(axis=0)
        out[:, c] = np.count_nonzero(found & wanted), np.count_nonzero(found | wanted)
    return out


def _panoptic(theirs: Masks, their_labels: I64, real: Masks, our_labels: I64, void: Masks, k: int) -> F64:
    """Sum of overlaps, matched, spurious and missed objects of each class, (4, K)."""
    whole = theirs.sum(axis=(1, 2))
    below = _laid(theirs)
    left = np.bincount(below.ravel(), minlength=len(theirs) + 1)[1:]
    theirs_kept = (whole > 0) & (left >= IN_SIGHT * whole)
    found = _laid(theirs[theirs_kept])
    # Of true objects that overlap the smaller lies on top.
    rank = np.argsort(-real.sum(axis=(1, 2)), kind="stable")
    wanted, our_labels = _laid(real[rank]), our_labels[rank]
    their_labels = their_labels[theirs_kept]
    columns = len(their_labels) + 1
    codes = (np.where(void, len(our_labels) + 1, wanted) * columns + found).ravel()
    shared = np.bincount(codes, minlength=(len(our_labels) + 2) * columns).reshape(-1, columns)
    in_void = shared[-1, 1:]
    their_size, our_size = shared[:, 1:].sum(axis=0), shared[:-1].sum(axis=1)[1:]
    both = shared[1:-1, 1:]
    union = our_size[:, None] + (their_size - in_void) - both
    overlap = both / np.maximum(union, 1) * (our_labels[:, None] == their_labels)
    true_row, found_row = np.nonzero(
        overlap > 0.5
    )  # at most one a row and column: neither side overlaps itself
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


def _laid(masks: Masks) -> NDArray[np.int64]:
    """Which mask (from 1) is on top at each pixel, 0 where none is; later ones lie on earlier ones."""
    out = np.zeros(masks.shape[1:], np.int64)
    for j, mask in enumerate(masks):
        out[mask] = j + 1
    return out


def _stack(masks: list[Masks], size: tuple[int, int]) -> Masks:
    return np.array(masks) if masks else np.zeros((0, *size), bool)


def _decode(text: str, size: tuple[int, int]) -> Masks:
    try:
        return rle.decode(text, size)
    except DataError as e:
        raise DataError(f"a found mask: {e}") from e


def _ratio(part: F64, whole: F64) -> F64:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: F64) -> F64:
    """Mean of each row over what is known, NaN where nothing is."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
