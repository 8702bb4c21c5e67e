"""Scores of detectors: pycocotools as the oracle of matching and AP, closed forms for the rest."""

import contextlib
import io
import json
from dataclasses import replace

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
from imgsynth.evaluate.pairs import paired_detections

SUMMARY = [
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
]


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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_score_as_pycocotools_says(seed):
    check_against_coco(*random_case(np.random.default_rng(seed)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_masks_score_as_pycocotools_says(seed):
    check_against_coco(*random_case(np.random.default_rng(seed), masks=True, size=(170, 165)), masks=True)


def test_more_found_objects_than_are_looked_at_score_as_pycocotools_says():
    rng = np.random.default_rng(4)
    real = [(0, 0, 10 * i, 0, 10 * i + 9, 9) for i in range(9)]
    rows = [(0, 0, float(rng.random()), *(real[i % 9][2:] + rng.integers(0, 3, 4))) for i in range(260)]
    check_against_coco(found(rows, 1), annotated(real))


@pytest.mark.slow
def test_a_large_case_scores_as_pycocotools_says():
    rng = np.random.default_rng(5)
    for masks in (False, True):
        got, truth = random_case(rng, most=400, masks=masks, size=(165, 165))
        check_against_coco(got, truth, masks)


# Closed forms


def figures(got, truth, masks=False):
    return {k: v[0] for k, v in DetectionTable.of(got, truth, masks).figures().items()}


REAL = [(0, 0, 10, 10, 30, 30), (0, 1, 40, 40, 80, 80), (1, 0, 5, 5, 25, 25)]


def as_found(rows, score=0.9):
    return [(i, c, score, *box) for i, c, *box in rows]


def test_perfect_answers_score_one_and_still_have_an_interval():
    score = score_detections(found(as_found(REAL), 2), annotated(REAL), bootstrap=50)
    for name in ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AR_10", "AR_100"):
        assert score.figures[name].value == pytest.approx(1)
        assert score.figures[name].lo == pytest.approx(0.025**0.5) and score.figures[name].hi == 1
    assert score.figures["AP_large"] is None
    assert score.per_class["b"]["AP"].lo == pytest.approx(0.025)  # one image shows it


@pytest.mark.parametrize("shift, overlap", [(0, 1.0), (2, 18 / 22), (4, 16 / 24), (6, 14 / 26), (7, 13 / 27)])
def test_a_shifted_box_is_right_up_to_its_overlap(shift, overlap):
    real = [(0, 0, 10, 10, 30, 30)]
    out = figures(found([(0, 0, 0.9, 10 + shift, 10, 30 + shift, 30)], 1), annotated(real))
    thresholds = np.linspace(0.5, 0.95, 10)
    assert out["AP"] == pytest.approx(np.mean(overlap >= thresholds))
    assert out["AR_1"] == pytest.approx(np.mean(overlap >= thresholds))
    assert out["AP50"] == (overlap >= 0.5) and out["AP75"] == (overlap >= 0.75)


def test_a_false_alarm_costs_only_above_a_right_answer():
    real = [(0, 0, 10, 10, 30, 30)]
    wrong = (60, 60, 80, 80)
    below = figures(found([(0, 0, 0.9, *real[0][2:]), (0, 0, 0.1, *wrong)], 1), annotated(real))
    above = figures(found([(0, 0, 0.1, *real[0][2:]), (0, 0, 0.9, *wrong)], 1), annotated(real))
    assert below["AP"] == pytest.approx(1) and above["AP"] == pytest.approx(0.5)
    twice = figures(found([(0, 0, 0.9, *real[0][2:]), (0, 0, 0.95, *real[0][2:])], 1), annotated(real))
    assert twice["AP"] == pytest.approx(1)  # a double below a right answer
    half = annotated([*real, (0, 0, 60, 60, 80, 80)])
    out = figures(found([(0, 0, 0.9, *real[0][2:])], 1), half)
    assert out["AP50"] == pytest.approx(51 / 101) and out["AR_100"] == pytest.approx(0.5)


def test_ignored_objects_cost_and_earn_nothing():
    truth = annotated([*REAL, (1, 0, 50, 50, 90, 90, True)])
    got = as_found(REAL, 0.5)
    for more in (
        [],
        [(1, 0, 0.9, 50, 50, 90, 90)],
        [(1, 0, 0.9, 55, 55, 70, 70), (1, 0, 0.8, 60, 60, 90, 90)],
    ):
        assert figures(found(got + more, 2), truth)["AP"] == pytest.approx(1)
    assert figures(found([*got, (1, 0, 0.9, 60, 0, 90, 20)], 2), truth)["AP"] < 1


def test_weights_are_copies_of_images():
    rng = np.random.default_rng(7)
    got, truth = random_case(rng, most=60, masks=True, size=(165, 165))
    while len(truth) < 3:
        got, truth = random_case(rng, most=60, masks=True, size=(165, 165))
    times = np.array([2, 0, 3, 1])[: len(truth)]
    index = np.repeat(np.arange(len(truth)), times)
    rows = [np.flatnonzero(got.owner == i) for i in index]
    picked = np.concatenate(rows)
    copies = Detections(
        len(index),
        np.repeat(np.arange(len(index)), [len(r) for r in rows]),
        got.boxes[picked],
        got.labels[picked],
        # Copies of an image must not be tied with others, or their order would matter.
        got.scores[picked] + 1e-6 * got.boxes[picked, 0] + 1e-9 * picked,
        got.masks[picked],
        got.classes,
    )
    untied = Detections(
        got.images,
        got.owner,
        got.boxes,
        got.labels,
        got.scores + 1e-6 * got.boxes[:, 0] + 1e-9 * np.arange(len(got.owner)),
        got.masks,
        got.classes,
    )
    weighted = DetectionTable.of(untied, truth, masks=True).figures(np.array([times, 2 * times]))
    plain = DetectionTable.of(copies, truth.subset(index), masks=True).figures()
    for name, value in plain.items():
        np.testing.assert_allclose(weighted[name][:1], value, atol=1e-9, err_msg=name)
        # Weights count by their ratios: twice as many of each image is the same data.
        np.testing.assert_allclose(weighted[name][1:], value, atol=1e-9, err_msg=name)


# Pixels


def test_pixel_scores_of_a_worked_example():
    real = [(0, 0, 0, 0, 10, 10), (0, 0, 20, 0, 30, 10), (0, 1, 0, 50, 10, 60)]
    got = [
        (0, 0, 0.9, 0, 0, 10, 8),  # 80 of 100 pixels: matched, overlap .8
        (0, 0, 0.8, 20, 6, 30, 16),  # 40 shared of 160: a false alarm and a miss
        (0, 1, 0.4, 0, 50, 10, 60),  # too unsure to be there
    ]
    out = figures(found(got, 1, masks=True), annotated(real, masks=True), masks=True)
    assert out["per_class_PQ"] == pytest.approx([0.8 / 2, 0]) and out["PQ"] == pytest.approx(0.2)
    assert out["SQ"] == pytest.approx(0.4) and out["RQ"] == pytest.approx(0.25)
    assert out["per_class_IoU"] == pytest.approx([(80 + 40) / (100 + 160), 0])
    assert out["mIoU"] == pytest.approx(0.5 * 120 / 260)
    assert out["mask_AP50"] == pytest.approx((51 / 101 + 1) / 2)  # AP looks at all scores


def test_overlapping_found_masks_are_laid_by_score():
    real = [(0, 0, 0, 0, 10, 10), (0, 0, 10, 0, 20, 10)]
    # The surer one covers a quarter of the other's object; the third is all but hidden and dropped.
    got = [(0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.7, 5, 0, 20, 10), (0, 0, 0.6, 0, 0, 10, 9)]
    out = figures(found(got, 1, masks=True), annotated(real, masks=True), masks=True)
    assert out["PQ"] == pytest.approx(1)
    out = figures(found([(i, c, 1.5 - s, *b) for i, c, s, *b in got[:2]], 1, masks=True),
                  annotated(real, masks=True), masks=True)  # fmt: skip
    assert out["PQ"] == pytest.approx((50 / 100 * 0 + 100 / 150) / (1 + 0.5 + 0.5))


def test_pixels_of_ignored_objects_do_not_count():
    real = [(0, 0, 0, 0, 10, 10), (0, 0, 40, 40, 60, 60, True)]
    for more in ([], [(0, 0, 0.9, 42, 42, 60, 60)], [(0, 0, 0.9, 40, 40, 61, 60)]):
        got = found([(0, 0, 0.8, 0, 0, 10, 10), *more], 1, masks=True)
        out = figures(got, annotated(real, masks=True), masks=True)
        assert out["PQ"] == 1
        assert out["mIoU"] == pytest.approx(1 if not more or more[0][5] == 60 else 100 / 120)
    outside = found([(0, 0, 0.8, 0, 0, 10, 10), (0, 0, 0.9, 70, 70, 80, 80)], 1, masks=True)
    assert figures(outside, annotated(real, masks=True), masks=True)["PQ"] == pytest.approx(2 / 3)


# Intervals


def planted(rng, n, *, keen=0.7, k=3, groups=None):
    """n images of objects of varied difficulty, and what a detector of a known skill finds in them."""
    counts = rng.poisson(4, n)
    owner = np.repeat(np.arange(n), counts)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    low = np.stack([slot % 5, slot // 5], axis=1) * 100.0
    boxes = np.concatenate([low, low + 60], axis=1)
    labels = rng.integers(0, k, len(owner))
    hard = rng.normal(0, 1, n) if groups is None else rng.normal(0, 1, n)[groups]
    truth = annotated(
        [(i, c, *b) for i, c, b in zip(owner, labels, boxes, strict=True)],
        n=n, classes=tuple("abc"[:k]), size=(700, 700), groups=groups,
    )  # fmt: skip
    luck, shift, sure = rng.random(len(owner)), rng.normal(0, 4, (len(owner), 1)), rng.beta(3, 2, len(owner))
    false_owner = np.repeat(np.arange(n), rng.poisson(1, n))
    false_low = rng.uniform(0, 600, (len(false_owner), 2))
    false_rows = [
        (i, rng.integers(0, k), s, *low, *(low + 60))
        for i, low, s in zip(false_owner, false_low, rng.beta(2, 3, len(false_owner)), strict=True)
    ]

    def answers(skill):
        seen = luck < 1 / (1 + np.exp(-(np.log(skill / (1 - skill)) - 0.7 * hard[owner])))
        return [
            (owner[j], labels[j], sure[j], *(boxes[j] + shift[j])) for j in np.flatnonzero(seen)
        ] + false_rows

    make = lambda skill: found(answers(skill), n, classes=truth.classes, size=(700, 700))  # noqa: E731
    return truth, make


def test_intervals_cover_what_other_test_sets_of_the_size_show():
    cases = []
    for s in range(120):
        truth, make = planted(np.random.default_rng([3, s]), 30)
        cases.append(score_detections(make(0.7), truth, bootstrap=200, seed=s))
    covered = []
    for name in ("AP", "AP50", "AR_100"):
        value = np.mean([c.figures[name].value for c in cases])
        covered += [c.figures[name].lo <= value <= c.figures[name].hi for c in cases]
        spread = np.std([c.figures[name].value for c in cases])
        width = np.mean([c.figures[name].hi - c.figures[name].lo for c in cases])
        assert width == pytest.approx(2 * 1.96 * spread, rel=0.25), name
    assert 0.89 <= np.mean(covered) <= 0.99  # 400 cases of 300 resamples say .925 to .945


def test_groups_widen_the_interval():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(10), 12)
    truth, make = planted(rng, 120, groups=groups)
    together = score_detections(make(0.6), truth, bootstrap=300)
    alone = score_detections(make(0.6), annotated_without_groups(truth), bootstrap=300)
    assert together.units == 10 and alone.units == 120
    assert together.to_json()["resampled"] == {"units": 10, "of": "groups"}
    assert together.figures["AP"].value == alone.figures["AP"].value
    width = [s.figures["AR_100"].hi - s.figures["AR_100"].lo for s in (together, alone)]
    assert width[0] > 1.3 * width[1]


def annotated_without_groups(truth):
    return replace(truth, groups=None)


def test_pairing_sees_what_two_intervals_do_not():
    truth, make = planted(np.random.default_rng(5), 150)
    a, b = (DetectionTable.of(make(skill), truth) for skill in (0.74, 0.70))
    d = paired_detections(a, b, bootstrap=400).figures["AP50"]
    one, other = (score_detections(make(skill), truth, bootstrap=400) for skill in (0.74, 0.70))
    assert d.value > 0 and d.lo > 0 and d.p < 0.02
    assert d.value == pytest.approx(one.figures["AP50"].value - other.figures["AP50"].value)
    assert one.figures["AP50"].lo < other.figures["AP50"].hi
    back = paired_detections(b, a, bootstrap=400)
    assert back.figures["AP50"].value == pytest.approx(-d.value) and back.figures["AP50"].hi < 0
    same = paired_detections(a, a, bootstrap=100)
    assert same.figures["AP"] == (0, 0, 0, 1) and same.figures["AP_small"] is None
    assert set(same.per_class) == {"a", "b", "c"} and same.per_class["a"]["AP"].p == 1
    json.dumps(back.to_json(), allow_nan=False)


def test_runs_are_resampled_too():
    truth, make = planted(np.random.default_rng(6), 80)
    good = [DetectionTable.of(make(s), truth) for s in (0.60, 0.75, 0.90)]
    base = [DetectionTable.of(make(s), truth) for s in (0.70, 0.70, 0.70)]
    wide = paired_detections(good, base, bootstrap=300).figures["AP50"]
    narrow = paired_detections(good[1], base[1], bootstrap=300).figures["AP50"]
    assert wide.lo < 0 < wide.hi and wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)
    with pytest.raises(DataError, match="as many runs"):
        paired_detections(good, base[:2])


def test_equal_models_give_even_p():
    p = []
    for s in range(60):
        truth, make = planted(np.random.default_rng([2, s]), 16, k=1)
        got = make(0.7)
        coin = np.random.default_rng(s).random((2, len(got.owner)))
        a, b = (DetectionTable.of(replace(got, scores=got.scores + 0.3 * noise), truth) for noise in coin)
        p.append(paired_detections(a, b, bootstrap=100).figures["AP"].p)
    assert abs(np.mean(np.array(p) < 0.1) - 0.1) < 0.08 and abs(np.mean(np.array(p) < 0.5) - 0.5) < 0.15


# Manners


def test_classes_are_matched_by_name():
    truth = annotated(REAL, classes=("cat", "dog"))
    got = found([(i, 1 - c, 0.9, *b) for i, c, *b in REAL], 2, classes=("dog", "cat", "eel")[:2])
    assert figures(got, truth)["AP"] == pytest.approx(1)
    more = found([(i, 2 if c else 0, 0.9, *b) for i, c, *b in REAL], 2, classes=("cat", "eel", "dog"))
    score = score_detections(more, truth, bootstrap=20)
    assert score.figures["AP"].value == pytest.approx(1) and list(score.per_class) == ["cat", "dog"]
    assert score.objects == {"cat": 2, "dog": 1}
    with pytest.raises(ModelError, match="photos: class 'dog' is not among cat, elk"):
        score_detections(found([], 2, classes=("cat", "elk")), truth)


class Fixed:
    classes = ("a", "b")

    def __init__(self, rows, task="detect"):
        self.rows, self.task = rows, task

    def predict(self, images, *, progress=None):
        return found(self.rows, len(images), masks=self.task == "segment")


def test_json_is_whole_and_plain():
    for task in ("detect", "segment"):
        model, truth = Fixed(as_found(REAL[:2]), task), annotated(REAL, masks=True)
        score = score_detector(model, truth, bootstrap=30)
        back = json.loads(json.dumps(score.to_json(), allow_nan=False))
        assert back["task"] == task and back["n"] == 2 and back["data"] == "photos" and back["objects"] == 3
        assert back["AP_large"] is None and len(back["AP"]["ci95"]) == 2
        assert back["per_class"]["b"]["n"] == 1 and back["per_class"]["b"]["AP50"]["mean"] == 1
        assert (
            ("PQ" in back) == ("mask_AP" in back) == ("IoU" in back["per_class"]["a"]) == (task == "segment")
        )
        assert score_detector(model, truth, bootstrap=30).to_json() == score.to_json()
    boxes_only = score_detector(Fixed(as_found(REAL), "segment"), annotated(REAL), bootstrap=30)
    assert boxes_only.task == "detect"


def test_nothing_found_scores_nothing():
    score = score_detections(found([], 2), annotated(REAL), bootstrap=20)
    assert score.figures["AP"] == Estimate(0, 0, 0) and score.figures["AR_100"].value == 0
    masks = score_detections(found([], 2, masks=True), annotated(REAL, masks=True), masks=True, bootstrap=20)
    assert masks.figures["PQ"].value == 0 and masks.figures["mIoU"].value == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"owner": np.array([0, 0, 7])}, "image numbers from 0 to 1"),
        ({"labels": np.array([0, 0, 2])}, "expected 0 to 1"),
        ({"scores": np.array([0.5, np.nan, 0.5])}, "finite"),
        ({"scores": np.array([0.5, 0.5])}, r"expected shape \(3,\), got \(2,\)"),
        ({"images": 3}, "2 images, but 3 were looked at"),
    ],
)
def test_found_objects_that_do_not_fit_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        score_detections(replace(found(as_found(REAL), 2), **change), annotated(REAL))


def test_data_and_masks_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="nothing to score on"):
        score_detections(found([], 2), annotated([], n=2))
    with pytest.raises(DataError, match="boxes only"):
        score_detections(found([], 2), annotated(REAL, masks=True), masks=True)
    with pytest.raises(DataError, match="boxes only"):
        score_detections(found([], 2, masks=True), annotated(REAL), masks=True)
    bad = replace(found(as_found(REAL), 2, masks=True), masks=np.array(["0", "~", "P"], object))
    with pytest.raises(DataError, match="RLE"):
        score_detections(bad, annotated(REAL, masks=True), masks=True)
    table = DetectionTable.of(found(as_found(REAL), 2), annotated(REAL))
    with pytest.raises(DataError, match="weights"):
        table.figures(np.ones((1, 3)))
    with pytest.raises(DataError, match="the same images"):
        paired_detections(table, DetectionTable.of(found([], 1), annotated(REAL[:2])))


def test_a_true_object_without_a_mask_is_its_filled_box():
    truth = annotated(REAL, masks=True)
    some = replace(truth, masks=np.array(["", truth.masks[1], ""], object))
    got = found(as_found(REAL), 2, masks=True)
    for name, value in figures(got, truth, masks=True).items():
        np.testing.assert_array_equal(figures(got, some, masks=True)[name], value)


def slow_pixel_scores(got, truth):
    """PQ and IoU of each class from sets of pixels, for found objects that do not overlap."""
    decode = lambda text, size: {  # noqa: E731
        tuple(p) for p in np.argwhere(pycocotools.mask.decode({"size": list(size), "counts": text.encode()}))
    }
    pq, iou = [], []
    for c in range(len(truth.classes)):
        overlap, hits, alarms, misses, shared, either = 0.0, 0, 0, 0, 0, 0
        for i in range(len(truth)):
            size = truth.sizes[i].tolist()
            real = [
                decode(truth.masks[j], size) for j in np.flatnonzero((truth.owner == i) & (truth.labels == c))
            ]
            made = [decode(got.masks[j], size) for j in np.flatnonzero((got.owner == i) & (got.labels == c))]
            pairs = [(len(a & b) / len(a | b), n, m) for n, a in enumerate(real) for m, b in enumerate(made)]
            good = [p for p in pairs if p[0] > 0.5]
            overlap, hits = overlap + sum(p[0] for p in good), hits + len(good)
            alarms, misses = alarms + len(made) - len(good), misses + len(real) - len(good)
            a, b = set().union(*real), set().union(*made)
            shared, either = shared + len(a & b), either + len(a | b)
        pq.append(overlap / (hits + alarms / 2 + misses / 2) if hits + alarms + misses else np.nan)
        iou.append(shared / either if either else np.nan)
    return np.array(pq), np.array(iou)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pixel_scores_agree_with_sets_of_pixels(seed):
    rng = np.random.default_rng(seed)
    cell, rows, answers = 12, [], []
    for i in range(3):
        for at in rng.permutation(9)[:5]:
            x, y = 2 + 16 * (at % 3), 2 + 16 * (at // 3)
            box = np.array([x, y, x + cell, y + cell])
            label = int(rng.integers(2))
            if rng.random() < 0.8:
                rows.append((i, label, *box))
            if rng.random() < 0.8:
                moved = box + rng.integers(-2, 3, 4)
                answers.append(
                    (i, label if rng.random() < 0.8 else 1 - label, 0.5 + rng.random() / 2, *moved)
                )
    if not rows:
        return
    truth = annotated(rows, n=3, size=(50, 50), masks=True)
    got = found(answers, 3, size=(50, 50), masks=True)
    out = figures(got, truth, masks=True)
    pq, iou = slow_pixel_scores(got, truth)
    np.testing.assert_allclose(out["per_class_PQ"], pq, atol=1e-12)
    np.testing.assert_allclose(out["per_class_IoU"], iou, atol=1e-12)
    assert out["PQ"] == pytest.approx(np.nanmean(pq)) and out["mIoU"] == pytest.approx(np.nanmean(iou))
