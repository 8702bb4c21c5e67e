"""Run-length encoded masks as COCO stores them, written for a whole batch of masks at once.

A mask is read column by column (x slow, y fast); its runs alternate between 0 and 1, beginning with the
length of the first run of zeros (perhaps 0). COCO's compressed form writes each count as the difference to
the count two places before (from the fourth on), five bits a character, low bits first, bit 5 set where
more follow, plus 48 (pycocotools, common/maskApi.c, ``rleToString``). The text equals what
``pycocotools.mask.encode`` yields, but costs one pass over the pixels of a batch whatever the number of
instances. Decoding here refuses what is malformed, where C code would read past its buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import I32, I64, U8
from imgsynth.errors import DataError
from imgsynth.frame import AmodalMasks

_CHUNK_PIXELS = 4_000_000  # bounds the temporary memory; the result does not depend on it
_MAX_DIGITS = 7  # 35 bits: more than any image has pixels


@dataclass(frozen=True)
class RleTexts:
    """Compressed RLE texts (ASCII), packed end to end: text k is `data[start[k]:start[k + 1]]`."""

    data: U8
    start: I64  # (I + 1,)

    def __len__(self) -> int:
        return len(self.start) - 1

    def tolist(self) -> list[str]:
        """The texts as Python strings."""
        text = self.data.tobytes().decode("ascii")
        return [text[a:b] for a, b in pairwise(self.start.tolist())]


def encode_instances(instance: I32, frame: I32, ids: I32) -> RleTexts:
    """RLE of the visible mask of every instance row.

    Args:
        instance: (n, H, W) instance ids, 0 = background.
        frame: (I,) position in the batch of each row, ascending.
        ids: (I,) instance id of each row.

    Raises:
        DataError: an id stands in the image but in no row.
    """
    n, height, width = instance.shape
    step = max(1, _CHUNK_PIXELS // (height * width))
    bounds = np.searchsorted(frame, np.arange(0, n + step, step))
    texts = []
    for k, first in enumerate(range(0, n, step)):
        rows = slice(bounds[k], bounds[k + 1])
        texts.append(_encode_id_images(instance[first : first + step], frame[rows] - first, ids[rows]))
    return _concatenate(texts)


def encode_amodal(masks: AmodalMasks, size: tuple[int, int]) -> RleTexts:
    """RLE of every in-frame amodal mask, on the full (height, width) frame."""
    count = len(masks.window)
    texts, first = [], 0
    while first < count:
        last = int(np.searchsorted(masks.start, masks.start[first] + _CHUNK_PIXELS, side="right")) - 1
        last = min(max(last, first + 1), count)
        start = masks.start[first : last + 1]
        data = masks.data[start[0] : start[-1]]
        texts.append(_encode_windows(masks.window[first:last], start - start[0], data, size))
        first = last
    return _concatenate(texts)


def encode_counts(counts: ArrayLike) -> str:
    """The compressed text of run lengths (zeros first), which COCO also writes as a plain list.

    Raises:
        DataError: not whole numbers from 0.
    """
    runs = np.asarray(counts)
    if runs.ndim != 1 or not len(runs) or runs.dtype.kind not in "iu" or runs.min() < 0:
        raise DataError("RLE counts: expected a list of whole numbers from 0")
    return _compress(runs.astype(np.int64), np.array([0, len(runs)], np.int64)).tolist()[0]


def decode(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The (height, width) mask of one compressed RLE text.

    Raises:
        DataError: the text is malformed, or its runs do not fill the frame.
    """
    counts = decode_counts(text)
    height, width = size
    if (counts < 0).any() or counts.sum() != height * width:
        raise DataError(f"RLE runs fill {counts.sum()} pixels, a {width}×{height} frame has {height * width}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


def decode_counts(text: str) -> I64:
    """Run lengths of one compressed RLE text (zeros first). Raises DataError where it is malformed."""
    chars = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if not len(chars):
        raise DataError("empty RLE text")
    if chars.min() < 0 or chars.max() > 63 or chars[-1] & 32:
        raise DataError("malformed RLE text: a character out of range, or the last number is cut off")
    last = np.flatnonzero(chars & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    digits = last - first + 1
    if digits.max() > _MAX_DIGITS:
        raise DataError("malformed RLE text: a run is longer than any image")
    place = np.arange(len(chars)) - np.repeat(first, digits)
    value = np.add.reduceat((chars & 31) << (5 * place), first)
    value -= np.where(chars[last] & 16, np.int64(1) << (5 * digits), 0)
    value[1::2] = np.cumsum(value[1::2])
    value[2::2] = np.cumsum(value[2::2])
    return value


def _encode_id_images(instance: I32, frame: I32, ids: I32) -> RleTexts:
    n, height, width = instance.shape
    pixels = height * width
    instance = np.ascontiguousarray(instance, np.int32)
    flat = np.empty((n, pixels), np.int32)
    for k in range(n):  # OpenCV transposes in blocks, several times as fast as NumPy's strided copy
        cv2.transpose(instance[k], flat[k].reshape(width, height))
    change = np.ones((n, pixels), bool)
    np.not_equal(flat[:, 1:], flat[:, :-1], out=change[:, 1:])
    begin = np.flatnonzero(change)
    stop = np.append(begin[1:], n * pixels)
    owner = flat.reshape(-1)[begin]
    seen = owner > 0
    begin, stop, owner = begin[seen], stop[seen], owner[seen]
    position = begin // pixels

    span = int(max(owner.max(initial=0), ids.max(initial=0))) + 1
    row_of = np.full(n * span, -1, np.int64)
    row_of[frame.astype(np.int64) * span + ids] = np.arange(len(ids))
    row = row_of[position * span + owner]
    if (row < 0).any():
        k = int(np.argmax(row < 0))
        raise DataError(f"instance {owner[k]} is in the image of batch position {position[k]} but has no row")
    order = np.argsort(row, kind="stable")
    base = (position * pixels)[order]
    return from_runs(row[order], begin[order] - base, stop[order] - base, len(ids), pixels)


def _encode_windows(window: I32, start: I64, data: U8, size: tuple[int, int]) -> RleTexts:
    height, width = size
    x0, y0, x1, y1 = window.astype(np.int64).T
    wide, high = x1 - x0, y1 - y0
    data = np.ascontiguousarray(data, np.uint8)
    on = np.empty(len(data), np.uint8)  # the windows read column by column
    for a, b, h, w in zip(start[:-1].tolist(), start[1:].tolist(), high.tolist(), wide.tolist(), strict=True):
        if a < b:
            cv2.transpose(data[a:b].reshape(h, w), on[a:b].reshape(w, h))
    on = on.view(bool) if on.max(initial=0) <= 1 else on != 0
    change = np.empty(len(data), bool)
    np.not_equal(on[1:], on[:-1], out=change[1:])
    columns = np.where(high > 0, wide, 0)
    place = np.arange(columns.sum()) - np.repeat(np.cumsum(columns) - columns, columns)
    change[np.repeat(start[:-1], columns) + place * np.repeat(high, columns)] = True
    begin = np.flatnonzero(change)
    length = np.diff(np.append(begin, len(data)))
    begin, length = begin[on[begin]], length[on[begin]]
    row = np.searchsorted(start, begin, side="right") - 1
    x, y = np.divmod(begin - start[row], high[row])
    first = (x0[row] + x) * height + y0[row] + y
    stop = first + length
    # Columns that fill the frame's height run into each other.
    joined = np.zeros(len(first), bool)
    joined[1:] = (row[1:] == row[:-1]) & (first[1:] == stop[:-1])
    ends = ~np.append(joined[1:], False) if len(joined) else joined
    return from_runs(row[~joined], first[~joined], stop[ends], len(window), height * width)


def from_runs(row: I64, first: I64, stop: I64, rows: int, pixels: int) -> RleTexts:
    """Texts from the runs of ones, sorted by row and place: [first, stop) in column-major pixels."""
    runs = np.bincount(row, minlength=rows)
    run_start = np.concatenate(([0], np.cumsum(runs)))
    before = np.zeros(len(first), np.int64)
    before[1:] = np.where(row[1:] == row[:-1], stop[:-1], 0)
    filled = np.zeros(rows, np.int64)
    filled[runs > 0] = stop[run_start[1:][runs > 0] - 1]
    tail = pixels - filled
    start = np.concatenate(([0], np.cumsum(2 * runs + (tail > 0))))
    counts = np.empty(start[-1], np.int64)
    at = start[row] + 2 * (np.arange(len(row)) - run_start[row])
    counts[at] = first - before
    counts[at + 1] = stop - first
    counts[start[1:][tail > 0] - 1] = tail[tail > 0]
    return _compress(counts, start)


def _compress(counts: I64, start: I64) -> RleTexts:
    place = np.arange(len(counts)) - np.repeat(start[:-1], np.diff(start))
    rest = counts.copy()
    late = np.flatnonzero(place > 2)
    rest[late] -= counts[late - 2]
    chars = np.zeros((len(counts), _MAX_DIGITS), np.uint8)
    used = np.zeros((len(counts), _MAX_DIGITS), bool)
    live = np.ones(len(counts), bool)
    for k in range(_MAX_DIGITS):
        used[:, k] = live
        digit = rest & 31
        rest >>= 5
        more = rest != np.where(digit & 16, -1, 0)
        chars[:, k] = digit + 32 * more + 48
        live &= more
        if not live.any():
            break
    length = np.concatenate(([0], np.cumsum(used.sum(axis=1))))
    return RleTexts(chars[used], length[start])


def _concatenate(texts: Sequence[RleTexts]) -> RleTexts:
    if len(texts) == 1:
        return texts[0]
    data = np.concatenate([np.zeros(0, np.uint8), *(t.data for t in texts)])
    return RleTexts(data, np.fromiter(_offsets(texts), np.int64))


def _offsets(texts: Sequence[RleTexts]) -> Iterator[int]:
    base = 0
    yield 0
    for text in texts:
        yield from (text.start[1:] + base)
        base += int(text.start[-1])
