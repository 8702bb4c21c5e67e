"""What a study's report shows: training images, and real test images that an arm gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgsynth.batch import F64, I64
from imgsynth.dataset import rle
from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.report import Drawn, Mistake, Pictures
from imgsynth.report.drawing import MISSED, RIGHT, WRONG, Mark, labelled, marked
from imgsynth.study.plan import Plan
from imgsynth.study.results import Answered
from imgsynth.study.sets import Sets

MISTAKES = 24
DRAWN, DRAWN_MISTAKES = 6, 9  # pictures with boxes of each set, and of mistakes
CONFIDENT = 0.3  # what scores less is not drawn
OVERLAP = 0.5  # from which a box is found


def taken(sets: Sets, plan: Plan, test: Answered) -> Pictures:
    """Training images, and the real test images that the synthetic arm (or the first) gets wrong."""
    arm = "synthetic" if "synthetic" in plan.headline else next(iter(plan.headline))
    found = test.predictions(plan.headline[arm])
    if isinstance(sets.test, LabelledImages):
        mistakes = _confused(sets.test, found)
        synthetic = next(iter(sets.synthetic.values()))
        return Pictures(synthetic=synthetic, real=sets.train, mistakes=mistakes, mistakes_arm=arm)
    drawn = {
        title: _examples(data)
        for title, data in {**sets.named(), "real train": sets.train}.items()
        if title not in ("real validation", "real test")
    }
    return Pictures(mistakes=_misfound(sets.test, found[0]), mistakes_arm=arm, drawn=drawn)


def _confused(test: LabelledImages, predictions: Sequence[Any]) -> list[Mistake]:
    """Images that most seeds call something else."""
    guesses = np.stack([p.argmax(axis=1) for p in predictions])  # (K, n)
    wrong = guesses != test.labels
    rows = np.argsort(-wrong.sum(axis=0), kind="stable")[:MISTAKES]
    mistakes = []
    for row in rows[wrong[:, rows].any(axis=0)]:
        said = np.bincount(guesses[wrong[:, row], row], minlength=len(test.classes))
        mistakes.append(
            Mistake(
                image=np.asarray(test.images[row]),
                true=test.classes[test.labels[row]],
                predicted=test.classes[int(said.argmax())],
                wrong=int(wrong[:, row].sum()),
                seeds=len(guesses),
            )
        )
    return mistakes


def _examples(data: AnnotatedImages) -> list[Drawn]:
    rows = np.unique(np.linspace(0, len(data) - 1, DRAWN).round().astype(int))
    return [Drawn(labelled(data, int(i)), _objects(data, int(i))) for i in rows]


def _objects(data: AnnotatedImages, i: int) -> str:
    rows = data.objects(i)
    count = int((~data.ignored[rows]).sum())
    return f"{count} object{'' if count == 1 else 's'}"


def _misfound(test: AnnotatedImages, found: Detections) -> list[Mistake]:
    """Images with most objects missed or found where there are none, what is right and wrong drawn on."""
    tables = [_compare(test, found, i) for i in range(len(test))]
    bad = np.array([len(missed) + int((~right).sum()) for _, right, missed in tables])
    rows = [int(i) for i in np.argsort(-bad, kind="stable")[:DRAWN_MISTAKES] if bad[i]]
    mistakes = []
    for i in rows:
        kept, right, missed = tables[i]
        size = (int(test.sizes[i][0]), int(test.sizes[i][1]))
        marks = [
            Mark(
                found.boxes[j],
                found.classes[found.labels[j]] if not ok and len(found.classes) > 1 else "",
                RIGHT if ok else WRONG,
                rle.decode(str(found.masks[j]), size) if found.masks is not None and found.masks[j] else None,
            )
            for j, ok in zip(kept, right, strict=True)
        ]
        marks += [
            Mark(test.boxes[j], test.classes[test.labels[j]] if len(test.classes) > 1 else "", MISSED)
            for j in missed
        ]
        wrong = int((~right).sum())
        text = f"{len(missed)} missed, {wrong} wrong, {int(right.sum())} found"
        mistakes.append(Mistake(marked(test.image(i), marks), "", "", 1, 1, text))
    return mistakes


def _compare(test: AnnotatedImages, found: Detections, i: int) -> tuple[I64, Any, list[int]]:
    """What was confidently found in image i, whether it is right, and the objects that were missed."""
    kept = np.flatnonzero((found.owner == i) & (found.scores >= CONFIDENT)).astype(np.int64)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    rows = test.objects(i)
    there = list(range(rows.start, rows.stop))
    overlap = _overlaps(found.boxes[kept], test.boxes[there])
    names = [found.classes[k] for k in found.labels[kept]]
    free, right, beside = set(range(len(there))), np.zeros(len(kept), bool), np.zeros(len(kept), bool)
    for k, name in enumerate(names):
        for j in np.argsort(-overlap[k], kind="stable"):
            if overlap[k, j] < OVERLAP:
                break
            if test.ignored[there[j]]:
                beside[k] = True
            elif j in free and test.classes[test.labels[there[j]]] == name:
                free.discard(int(j))
                right[k] = True
                break
    counted = right | ~beside
    missed = [there[j] for j in sorted(free) if not test.ignored[there[j]]]
    return kept[counted], right[counted], missed


def _overlaps(a: F64, b: F64) -> F64:
    """Intersection over union (A, B) of boxes xyxy."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    area = [np.prod(v[:, 2:] - v[:, :2], axis=1) for v in (a, b)]
    out: F64 = both / np.maximum(area[0][:, None] + area[1][None] - both, 1e-9)
    return out
