"""From what the centre-point network says to objects: peaks, boxes, classes, masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as nnf

from imgsynth.batch import F32, F64, U8
from imgsynth.dataset import rle
from imgsynth.dataset.annotated import Detections, Images
from imgsynth.frame import AmodalMasks
from imgsynth.learn.centre import COARSEST, STRIDE, draw_masks
from imgsynth.learn.classify import normalized, to_tensor
from imgsynth.learn.crops import GREY, shrink, working_size
from imgsynth.learn.torchvision_detect import TorchvisionDetector

if TYPE_CHECKING:
    from imgsynth.learn.detect import Detector

MARGIN = 0.15  # masks may reach beyond their box by this part of its sides


def find(model: Detector, images: Images, progress: Callable[[int, int], None] | None = None) -> Detections:
    """All objects in `images`, one image at a time (`Detector.predict`)."""
    model.net.eval()
    owner, boxes, labels, scores, masks = [], [], [], [], []
    with torch.inference_mode():
        for i in range(len(images)):
            pixels = images[i]
            if pixels.shape[2] == 1:
                pixels = np.repeat(pixels, 3, axis=2)
            box, label, score, texts = find_in(model, pixels)
            owner.append(np.full(len(box), i))
            boxes.append(box)
            labels.append(label)
            scores.append(score)
            masks.extend(texts)
            if progress is not None:
                progress(i + 1, len(images))
    return Detections(
        images=len(images),
        owner=np.concatenate(owner or [np.zeros(0)]).astype(np.int64),
        boxes=np.concatenate(boxes or [np.zeros((0, 4))]).astype(np.float64),
        labels=np.concatenate(labels or [np.zeros(0)]).astype(np.int64),
        scores=np.concatenate(scores or [np.zeros(0)]).astype(np.float64),
        masks=np.array(masks, object) if model.config.masks else None,
        classes=model.classes,
    )


def find_in(model: Detector, image: U8) -> tuple[F64, NDArray[Any], F64, list[str]]:
    """Boxes (k, 4), labels, scores and mask texts (none without masks) of one RGB image."""
    height, width = image.shape[:2]
    small = shrink(image, working_size((height, width), model.side))
    scale = np.array([small.shape[1] / width, small.shape[0] / height])
    if isinstance(model.net, TorchvisionDetector):
        return _ask_torchvision(model, small, scale, (height, width))
    net, config = model.net, model.config
    pixels = _padded(small)
    logits, distances, view, canvas = net(pixels)
    at, score = peaks(logits[0], config.score_floor**2, config.most)
    box = boxes_at(distances[0], at)
    label, controls = torch.zeros(0, dtype=torch.int64), None
    if len(at):
        first = torch.zeros(len(at), dtype=torch.int64)
        names, controls = net.reader(pixels, view, first, box / STRIDE)
        sure, label = torch.softmax(names, dim=1)[:, 1:].max(1)
        score = torch.sqrt(score * sure)  # both have a say: is there something, and is it this
    kept = np.flatnonzero((score >= config.score_floor).numpy())
    kept = kept[suppress(box.numpy()[kept], score.numpy()[kept], config.overlap)]
    found = _to_image(box.numpy()[kept], scale, (height, width))
    texts: list[str] = []
    if controls is not None and canvas is not None and len(kept):
        rows = torch.from_numpy(kept)
        windows, seen = _masks(canvas[0], controls[rows], at[rows], found, scale, model.unit, (height, width))
        apart = distinct(windows, seen, config.overlap)
        # What is drawn says more exactly where the thing ends than its centre does.
        kept, found = kept[apart], _around(windows[apart], [seen[k] for k in apart], found[apart])
        texts = _texts(windows[apart], [seen[k] for k in apart], (height, width))
    return found, label.numpy()[kept], score.numpy()[kept].astype(np.float64), texts


def _ask_torchvision(
    model: Detector, small: U8, scale: F64, size: tuple[int, int]
) -> tuple[F64, NDArray[Any], F64, list[str]]:
    assert isinstance(model.net, TorchvisionDetector)
    if model.net.whole:
        side = max(small.shape[:2])
        square = np.full((side, side, 3), GREY, np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        small = square
    box, label, score, chances = model.net.find(to_tensor(small[None])[0].float() / 255)
    kept = suppress(box, score, model.config.overlap)
    texts: list[str] = []
    if chances is not None and len(kept):
        seen = [cv2.resize(chances[k], size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5 for k in kept]
        window = np.tile(np.array([0, 0, size[1], size[0]], np.int32), (len(seen), 1))
        texts = _texts(window, [m.astype(np.uint8) for m in seen], size)
    return _to_image(box[kept], scale, size), label[kept], score[kept].astype(np.float64), texts


def _to_image(boxes: F32, scale: F64, size: tuple[int, int]) -> F64:
    """Boxes in working pixels as boxes within the image, in its own."""
    limit = [size[1], size[0], size[1], size[0]]
    out: F64 = np.clip(boxes.astype(np.float64) / np.tile(scale, 2), 0, limit)
    return out


def _padded(image: U8) -> Tensor:
    h, w = (-(-n // COARSEST) * COARSEST for n in image.shape[:2])
    full = np.full((1, h, w, 3), GREY, np.uint8)
    full[0, : image.shape[0], : image.shape[1]] = image
    return normalized(to_tensor(full)).contiguous(memory_format=torch.channels_last)


def peaks(logits: Tensor, floor: float, most: int) -> tuple[Tensor, Tensor]:
    """Cells (k, 2: row, column) where the centre score is a maximum among its neighbours, best first, and
    their scores.
    """
    heat = torch.sigmoid(logits)
    top = nnf.max_pool2d(heat[None, None], 3, 1, 1)[0, 0]
    at = torch.nonzero((heat == top) & (heat >= floor))
    score = heat[at[:, 0], at[:, 1]]
    order = torch.argsort(score, descending=True, stable=True)[:most]
    return at[order], score[order]


def boxes_at(distances: Tensor, at: Tensor) -> Tensor:
    """Boxes (k, 4) in working pixels from log distances (4, h, w) at cells (k, 2)."""
    reach = torch.exp(distances[:, at[:, 0], at[:, 1]].T.clamp(max=10))
    here = at.flip(1) + 0.5
    return STRIDE * torch.cat([here - reach[:, :2], here + reach[:, 2:]], dim=1)


def suppress(boxes: F32, scores: F32, overlap: float) -> NDArray[np.int64]:
    """Rows that stay, best first, where of two boxes with an IoU above `overlap` the lesser goes.

    Their classes do not matter: one thing is one thing.
    """
    order = np.argsort(-scores, kind="stable")
    b = boxes[order].astype(np.float64)
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    low, high = np.maximum(b[:, None, :2], b[None, :, :2]), np.minimum(b[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.maximum(high - low, 0), axis=2)
    iou = inner / np.maximum(area[:, None] + area[None] - inner, 1e-9)
    stays = np.ones(len(b), bool)
    for k in range(len(b)):
        if stays[k]:
            stays[k + 1 :] &= iou[k, k + 1 :] <= overlap
    return order[stays].astype(np.int64)


def _masks(
    canvas: Tensor,
    controls: Tensor,
    at: Tensor,
    boxes: F64,
    scale: F64,
    unit: float,
    size: tuple[int, int],
) -> tuple[NDArray[np.int32], list[U8]]:
    """The masks of `boxes` (image pixels): windows (k, 4) a margin around each, and what is drawn there."""
    height, width = size
    side = boxes[:, 2:] - boxes[:, :2]
    reach = np.concatenate([boxes[:, :2] - MARGIN * side, boxes[:, 2:] + MARGIN * side], axis=1)
    windows = np.clip(np.rint(reach), 0, [width, height, width, height]).astype(np.int32)
    drawn = [
        _mask(canvas, controls[k : k + 1], at[k], window, scale, unit) for k, window in enumerate(windows)
    ]
    return windows, drawn


def distinct(windows: NDArray[np.int32], drawn: Sequence[U8], overlap: float) -> NDArray[np.int64]:
    """Rows of masks, best first, that share no more than the part `overlap` of the smaller with a better one.

    A long thing seen twice gives two boxes that overlap little, and one mask and a piece of it.

    Args:
        windows: (k, 4) where each lies (x0, y0, x1, y1).
        drawn: its pixels there, 0 or 1.
        overlap: in [0, 1].
    """
    area = [int(np.count_nonzero(m)) for m in drawn]
    kept: list[int] = []
    for k, mine in enumerate(windows):
        for j in kept:
            x0, y0 = np.maximum(mine[:2], windows[j, :2])
            x1, y1 = np.minimum(mine[2:], windows[j, 2:])
            if x1 <= x0 or y1 <= y0:
                continue
            one, two = (
                drawn[r][y0 - windows[r, 1] : y1 - windows[r, 1], x0 - windows[r, 0] : x1 - windows[r, 0]]
                for r in (k, j)
            )
            if np.count_nonzero(one & two) > overlap * min(area[k], area[j]):
                break
        else:
            kept.append(k)
    return np.array(kept, np.int64)


def _around(windows: NDArray[np.int32], drawn: Sequence[U8], boxes: F64) -> F64:
    """Boxes (k, 4) around masks on their windows; those without a mask stay."""
    out = boxes.copy()
    for k, (window, mask) in enumerate(zip(windows, drawn, strict=True)):
        x, y, w, h = cv2.boundingRect(mask) if mask.size else (0, 0, 0, 0)
        if w and h:
            out[k] = (window[0] + x, window[1] + y, window[0] + x + w, window[1] + y + h)
    return out


def _texts(windows: NDArray[np.int32], drawn: Sequence[U8], size: tuple[int, int]) -> list[str]:
    start = np.concatenate([[0], np.cumsum([m.size for m in drawn])]).astype(np.int64)
    data = np.concatenate([m.reshape(-1) for m in drawn])
    return rle.encode_amodal(AmodalMasks(windows, start, data), size).tolist()


def _mask(canvas: Tensor, controls: Tensor, at: Tensor, window: Any, scale: F64, unit: float) -> U8:
    """One mask on its window (x0, y0, x1, y1) of image pixels: logits by cell, enlarged, cut at 0."""
    x0, y0, x1, y1 = (int(v) for v in window)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), np.uint8)
    per = scale / STRIDE  # cells per image pixel (x, y)
    c0, r0 = max(int(x0 * per[0] - 1), 0), max(int(y0 * per[1] - 1), 0)
    c1, r1 = min(int(x1 * per[0] + 2), canvas.shape[2]), min(int(y1 * per[1] + 2), canvas.shape[1])
    rows, columns = torch.meshgrid(torch.arange(r0, r1), torch.arange(c0, c1), indexing="ij")
    offset = torch.stack([columns - at[1], rows - at[0]]).float() * (STRIDE / unit)
    part = canvas[:, r0:r1, c0:c1]
    logits = draw_masks(part.flatten(1)[None], controls, offset.flatten(1)[None])[0].view(r1 - r0, c1 - c0)
    # Image pixel x has its centre at (x + .5)·per cells; cell c has its own at c + .5.
    across = np.array(
        [[1 / per[0], 0, (c0 + 0.5) / per[0] - 0.5 - x0], [0, 1 / per[1], (r0 + 0.5) / per[1] - 0.5 - y0]]
    )
    grown = cv2.warpAffine(
        logits.numpy(), across, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return (grown > 0).astype(np.uint8)
