"""Scores of detectors: pycocotools as the oracle of matching and AP, closed forms for the rest."""

import contextlib
import io
import json

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate.bootstrap import Estimate
from imgsynth.evaluate.detection import DetectionTable, score_detections, score_detector

SUMMARY = ("AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_small AR_medium AR_large").split()


def annotated(rows, *, n=None, classes=("a", "b"), size=(100, 100), groups=None, masks=False, name="photos"):
    """Rows (image, class, x0, y0, x1, y1[, ignored]) as a data set; masks are the filled boxes."""
    rows = sorted(rows, key=lambda r: r[0])
    n = n if n is not None else 1 + max(r[0] for r in rows)
    boxes = np.array([r[2:6] for r in rows], float).reshape(-1, 4)
    sizes = np.tile(np.array(size), (n, 1))
    return AnnotatedImages(
        images=[np.zeros((*size, 3), np.uint8)] * n,
        sizes=sizes,
        owner=np.array([r[0] for r in rows], np.int64),
        boxes=boxes,
        labels=np.array([r[1] for r in rows], np.int64),
        masks=np.array([filled(b, size) for b in boxes], object) if masks else None,
        ignored=np.array([len(r) > 6 and bool(r[6]) for r in rows], bool),
        classes=classes,
        groups=groups,
        names=np.array([f"{i}.png" for i in range(n)]),
        name=name,
    )


def found(rows, n, *, classes=("a", "b"), size=(100, 100), masks=False):
    """Rows (image, class, score, x0, y0, x1, y1) as detections."""
    boxes = np.array([r[3:] for r in rows], float).reshape(-1, 4)
    return Detections(
        images=n,
        owner=np.array([r[0] for r in rows], np.int64),
        boxes=boxes,
        labels=np.array([r[1] for r in rows], np.int64),
        scores=np.array([r[2] for r in rows], float),
        masks=np.array([filled(b, size) for b in boxes], object) if masks else None,
        classes=classes,
    )


def filled(box, size):
    mask = np.zeros(size, np.uint8, order="F")
    x0, y0, x1, y1 = (int(v) for v in box)
    mask[y0:y1, x0:x1] = 1
    return pycocotools.mask.encode(mask)["counts"].decode()


def coco_figures(got, truth, masks=False):
    """pycocotools' summary and per-class AP, AP50."""
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO()
        size = [int(v) for v in truth.sizes[0]]
        kind = "segm" if masks else "bbox"

        def entry(j, boxes, texts, image, label):
            x0, y0, x1, y1 = boxes[j]
            out = {"image_id": int(image), "category_id": int(label), "id": j + 1}
            out["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            if texts is not None:
                out["segmentation"] = {"size": size, "counts": texts[j]}
            return out

        oracle.dataset = {
            "images": [{"id": i, "height": size[0], "width": size[1]} for i in range(len(truth))],
            "categories": [{"id": k} for k in range(len(truth.classes))],
            "annotations": [
                entry(j, truth.boxes, truth.masks, truth.owner[j], truth.labels[j])
                | {"area": area_of(truth, j), "iscrowd": int(truth.ignored[j])}
                for j in range(len(truth.owner))
            ],
        }
        oracle.createIndex()
        results = [
            entry(j, got.boxes, got.masks, got.owner[j], got.labels[j]) | {"score": float(got.scores[j])}
            for j in range(len(got.owner))
        ]
        if not masks:
            for r in results:
                r.pop("segmentation", None)
        else:
            for r in results:
                r.pop("bbox")
        e = COCOeval(oracle, oracle.loadRes(results), kind)
        e.evaluate(), e.accumulate(), e.summarize()
    p = e.eval["precision"][:, :, :, 0, 2]
    p = np.where(p < 0, np.nan, p)
    summary = dict(zip(SUMMARY, np.where(e.stats < 0, np.nan, e.stats), strict=True))
    return summary, p.mean(axis=(0, 1)), p[0].mean(axis=0)


def area_of(truth, j):
    if truth.masks is not None and truth.masks[j]:
        size = [int(v) for v in truth.sizes[truth.owner[j]]]
        return float(pycocotools.mask.area({"size": size, "counts": truth.masks[j].encode()}))
    x0, y0, x1, y1 = truth.boxes[j]
    return (x1 - x0) * (y1 - y0)


def random_case(rng, *, masks=False, size=(160, 160), most=12):
    """Crowds, ties of scores and overlaps, empty images, absent classes, boxes of all sizes."""
    n, k = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    classes = tuple("abc"[:k])

    def boxes(m):
        low = rng.integers(0, 110, (m, 2))
        return np.concatenate([low, np.minimum(low + rng.integers(1, 130, (m, 2)), 160)], axis=1)

    m = int(rng.integers(1, most))
    real = boxes(m)
    owner, label = rng.integers(0, n, m), rng.integers(0, k, m)
    truth = annotated(
        [(owner[j], label[j], *real[j], rng.random() < 0.2) for j in range(m)],
        n=n,
        classes=classes,
        size=size,
        masks=masks,
    )
    near = rng.integers(0, m, int(rng.integers(1, 2 * most)))
    moved = np.clip(
        real[near] + rng.integers(-6, 7, (len(near), 4)) * (rng.random((len(near), 1)) < 0.7), 0, 160
    )
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    swap = rng.random(len(near)) < 0.15
    rows = [
        (owner[j], rng.integers(0, k) if s else label[j], rng.integers(1, 9) / 8, *b)
        for j, b, s in zip(near, moved, swap, strict=True)
    ]
    rows += [
        (rng.integers(0, n), rng.integers(0, k), rng.integers(1, 9) / 8, *b)
        for b in boxes(int(rng.integers(0, most)))
    ]
    return found(rows, n, classes=classes, size=size, masks=masks), truth


def check_against_coco(got, truth, masks=False):
    table = DetectionTable.of(got, truth, masks=masks)
    ours = {name: v[0] for name, v in table.figures().items()}
    fore = "mask_" if masks else ""
    summary, ap, ap50 = coco_figures(got, truth, masks)
    for name, value in summary.items():
        np.testing.assert_allclose(ours[fore + name], value, rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(ours[f"per_class_{fore}AP"], ap, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours[f"per_class_{fore}AP50"], ap50, rtol=0, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_score_as_pycocotools_says(seed):
    check_against_coco(*random_case(np.random.default_rng(seed)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_masks_score_as_pycocotools_says(seed):
    check_against_coco(*random_case(np.random.default_rng(seed), masks=True, size=(170, 165)), masks=True)


def test_more_found_objects_than_are_looked_at_score_as_pycocotools_says():
    rng = np.random.default_rng(4)
    real = [(0, 0, 10 * i, 0, 10 * i + 9, 9) for i in range(9)]
    rows = [(0, 0, float(rng.random()), *(real[i % 9][2:] + rng.integers(0, 3, 4))) for i in range(260)]
    check_against_coco(found(rows, 1), annotated(real))


def test_a_large_case_scores_as_pycocotools_says():
    rng = np.random.default_rng(5)
    for masks in (False, True):
        got, truth = random_case(rng, most=400, masks=masks, size=(165, 165))
        check_against_coco(got, truth, masks)
