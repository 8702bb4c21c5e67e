"""Which found object is which true one: COCO's greedy matching, for all images, thresholds and sizes at once.

Within an image and class, found objects choose in the order of their scores; each takes the free true object
that it overlaps most, if by enough (Lin et al. 2014; the rules are pycocotools', which a test holds equal).
A step here is one rank: the r-th best object of every image and class chooses at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.dataset import rle
from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.errors import DataError

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of overlap
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}  # pixels, both ends included, as in COCO
MAX_FOUND = 100  # of one image and class, the best scored
_PAIRS = 2_000_000  # held at once

Bools = NDArray[np.bool_]
Overlaps = Callable[[slice, slice], F64]  # rows of found, rows of truth -> (d, g)


@dataclass(frozen=True)
class Matches:
    """The found objects that are looked at, k of them in the order of image, class and falling score.

    `hit` says that it is a right answer, `skipped` that it is neither right nor wrong (an ignored object was
    found, or nothing and it has another size), for A areas and T thresholds.
    """

    image: I64  # (k,)
    label: I64  # (k,)
    score: F64  # (k,)
    rank: I64  # (k,) within its image and class, from 0
    hit: Bools  # (A, T, k)
    skipped: Bools  # (A, T, k)
    wanted: I64  # (A, n, K) true objects that count


@dataclass(frozen=True)
class _Side:
    """Objects of one side in the order of image and class, and, on the found side, of falling score."""

    key: I64  # image · K + class
    boxes: F64
    area: F64
    crowd: Bools
    rle: list[dict[str, Any]] | None


def match(found: Detections, truth: AnnotatedImages, *, masks: bool = False) -> Matches:
    """Match what was found with what is there, by boxes or by masks.

    Classes of both must be the same, in the same order. True objects that are `ignored` are COCO's crowds:
    any number of found objects may match one, and overlap with it is the share of the found object inside.
    The area of a true object is that of its mask where it has one, as in COCO.

    Raises:
        DataError: a mask that is not one, or no masks.
    """
    k = len(truth.classes)
    key = found.owner * k + found.labels
    order = np.lexsort((-found.scores, key))
    rank = ranks(key[order])
    order, rank = order[rank < MAX_FOUND], rank[rank < MAX_FOUND]
    key = key[order]
    boxes = found.boxes[order]
    theirs = mask_texts(found, truth)[order] if masks else None
    ours_order = np.argsort(truth.owner * k + truth.labels, kind="stable")
    ours = truth_side(truth, ours_order, masks=masks)
    sizes = truth.sizes[found.owner[order]]
    coded = None if theirs is None else [coco_rle(str(t), s) for t, s in zip(theirs, sizes, strict=True)]
    area = box_area(boxes) if coded is None else mask_area(coded)
    side = _Side(key, boxes, area, np.zeros(len(key), bool), coded)
    outside = np.array([(ours.area < lo) | (ours.area > hi) for lo, hi in AREAS.values()])
    ignored = outside.reshape(len(AREAS), -1) | ours.crowd
    hit, lost = _choose(side, ours, rank, ignored)
    other_size = np.array([(area < lo) | (area > hi) for lo, hi in AREAS.values()]).reshape(len(AREAS), 1, -1)
    wanted = np.array([np.bincount(ours.key[~row], minlength=len(truth) * k) for row in ignored])
    return Matches(
        image=found.owner[order],
        label=found.labels[order],
        score=found.scores[order],
        rank=rank,
        hit=hit,
        skipped=lost | (~hit & other_size),
        wanted=wanted.reshape(len(AREAS), len(truth), k).astype(np.int64),
    )


def _choose(found: _Side, truth: _Side, rank: I64, ignored: Bools) -> tuple[Bools, Bools]:
    """Who got a true object that counts, and who one that does not: (A, T, k) each."""
    shape = (len(AREAS), len(THRESHOLDS))
    hit, lost = (np.zeros((*shape, len(found.key)), bool) for _ in range(2))
    taken = np.zeros((*shape, len(truth.key)), bool)
    f, g, overlap = _pairs(found, truth)
    order = np.lexsort((g, overlap, f, rank[f]))
    f, g, overlap = f[order], g[order], overlap[order]
    bounds = np.searchsorted(rank[f], np.arange(rank.max(initial=-1) + 2))
    enough = overlap >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    for lo, hi in pairwise(bounds.tolist()):
        if lo == hi:
            continue
        who, what = f[lo:hi], g[lo:hi]
        first = np.flatnonzero(np.diff(who, prepend=-1))
        open_ = enough[:, lo:hi] & (~taken[:, :, what] | truth.crowd[what])
        # Rising overlap within each chooser, so the last open one is the best; one that counts beats one
        # that does not.
        place = np.arange(hi - lo) + (hi - lo) * ~ignored[:, None, what]
        best = np.maximum.reduceat(np.where(open_, place, -1), first, axis=2)
        a, t, c = np.nonzero(best >= 0)
        got = what[best[a, t, c] % (hi - lo)]
        taken[a, t, got] = True
        counts = ~ignored[a, got]
        hit[a, t, who[first][c]] = counts
        lost[a, t, who[first][c]] = ~counts
    return hit, lost


def _pairs(found: _Side, truth: _Side) -> tuple[I64, I64, F64]:
    """Found and true objects of one image and class that overlap enough for the lowest threshold."""
    overlaps = _mask_overlaps if found.rle is not None else _box_overlaps
    kept = [(f[o >= THRESHOLDS[0]], g[o >= THRESHOLDS[0]], o[o >= THRESHOLDS[0]])
            for f, g, o in overlaps(found, truth)]  # fmt: skip
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    f, g, o = (np.concatenate(column) for column in zip(*kept, strict=True))
    return f, g, o


def _box_overlaps(found: _Side, truth: _Side) -> Iterator[tuple[I64, I64, F64]]:
    start = np.searchsorted(truth.key, found.key)
    count = np.searchsorted(truth.key, found.key, side="right") - start
    total = np.cumsum(count)
    ends = np.searchsorted(total, np.arange(_PAIRS, total[-1] if len(total) else 0, _PAIRS), side="left") + 1
    bounds = np.unique(np.concatenate([[0], ends, [len(count)]]))
    for lo, hi in pairwise(bounds.tolist()):
        n = count[lo:hi]
        f = np.repeat(np.arange(lo, hi), n)
        g = np.repeat(start[lo:hi] - np.cumsum(n) + n, n) + np.arange(n.sum())
        yield f, g, box_overlap(found.boxes[f], truth.boxes[g], truth.crowd[g])


def _mask_overlaps(found: _Side, truth: _Side) -> Iterator[tuple[I64, I64, F64]]:
    assert found.rle is not None and truth.rle is not None
    for key in np.intersect1d(found.key, truth.key):
        f = np.arange(*np.searchsorted(found.key, [key, key + 1]))
        g = np.arange(*np.searchsorted(truth.key, [key, key + 1]))
        crowd = truth.crowd[g].astype(np.uint8)
        o = pycocotools.mask.iou([found.rle[i] for i in f], [truth.rle[i] for i in g], crowd)
        yield np.repeat(f, len(g)), np.tile(g, len(f)), np.asarray(o, float).ravel()


def box_overlap(a: F64, b: F64, crowd: Bools) -> F64:
    """Intersection over union of boxes (p, 4) and (p, 4); over the area of `a` alone where b is a crowd."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=1)
    whole = np.where(crowd, box_area(a), box_area(a) + box_area(b) - inside)
    out: F64 = np.divide(inside, whole, out=np.zeros(len(a)), where=inside > 0)
    return out


def box_area(boxes: F64) -> F64:
    """Area (n,) of boxes (n, 4) xyxy, 0 where there is none."""
    area: F64 = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return area


def ranks(key: I64) -> I64:
    """Place of each row among those of its key, from 0; rows of one key stand together."""
    first = np.flatnonzero(np.diff(key, prepend=-1))
    out: I64 = np.arange(len(key)) - np.repeat(first, np.diff(first, append=len(key)))
    return out


def truth_side(truth: AnnotatedImages, order: I64, *, masks: bool) -> _Side:
    """The true objects in an order, with their areas, and masks where they are what is compared."""
    boxes = truth.boxes[order]
    area = box_area(boxes)
    coded = None
    if truth.masks is not None:
        texts, sizes = truth.masks[order], truth.sizes[truth.owner[order]]
        has = np.flatnonzero([bool(t) for t in texts])
        some = [coco_rle(str(texts[j]), sizes[j]) for j in has]
        area[has] = mask_area(some)
        if masks:
            for j in [j for j, text in enumerate(texts) if not text]:
                filled = np.asfortranarray(truth.mask(int(order[j])).astype(np.uint8))
                area[j] = np.count_nonzero(filled)
                some.insert(j, pycocotools.mask.encode(filled))
            coded = some
    key = truth.owner * len(truth.classes) + truth.labels
    return _Side(key[order], boxes, area, truth.ignored[order], coded)


def mask_texts(found: Detections, truth: AnnotatedImages) -> NDArray[Any]:
    """The run-length texts of what was found.

    Raises:
        DataError: either side has none.
    """
    if found.masks is None:
        raise DataError(f"masks of what was found on {truth.name} expected, but there are boxes only")
    if truth.masks is None:
        raise DataError(f"{truth.name}: masks expected, but its objects have boxes only")
    return found.masks


def coco_rle(text: str, size: I64) -> dict[str, Any]:
    """A mask as pycocotools takes it, after a look at its runs (its C code takes none), and its `area`.

    Raises:
        DataError: the text is malformed or its runs do not fill the image.
    """
    height, width = int(size[0]), int(size[1])
    counts = rle.decode_counts(text)
    if (counts < 0).any() or counts.sum() != height * width:
        raise DataError(f"RLE runs fill {counts.sum()} pixels, a {width}×{height} image has {height * width}")
    return {"size": [height, width], "counts": text.encode(), "area": int(counts[1::2].sum())}


def mask_area(coded: list[dict[str, Any]]) -> F64:
    """Pixels of each mask, (n,)."""
    # Not pycocotools.mask.area, which stops at 255 masks.
    return np.array([one["area"] for one in coded], float)
