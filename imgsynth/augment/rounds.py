"""How many generated images of each class: decided in rounds by what validation images say.

Before the first round a model of real images alone is trained, every class drawn equally often. Each round
adds images where the last model fails on scarce classes (`budget.need`), trains again, and is kept where
balanced accuracy on the validation images rose: by more than one standard error for the first images of all
(generated images have to earn their place), at all for more of them. The first round that is not kept ends
it. Where there are several sources, the first round tries each alone and all together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsynth.augment.budget import allocate, need, shrunk_recall, totals
from imgsynth.batch import F64, I64
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.evaluate.bootstrap import sum_by_group
from imgsynth.study.classify import Answers
from imgsynth.study.measure import resample_headline
from imgsynth.study.resample import Resampler

SEEDS = (0, 1)  # of the trainings of a round
REPLICATES = 1000
_STREAM = 7  # of the seeds' draws

# (sources, images of each class) → the answers of a model a seed to the validation images, and how many
# images of each class there were: fewer, where a source gives no more
Try = Callable[[tuple[int, ...], I64, Sequence[int]], tuple[list[Answers], I64]]


@dataclass(frozen=True)
class Plan:
    """How many images of each class (K,), of which sources (by number), and how it came to that."""

    counts: I64
    sources: tuple[int, ...]
    rounds: list[dict[str, Any]]
    reason: str


def decide(
    attempt: Try,
    train: LabelledImages,
    validation: LabelledImages,
    able: Sequence[Any],
    *,
    budget: int,
    rounds: int,
) -> Plan:
    """The budget of each class.

    Args:
        attempt: trains and answers.
        train: the real training images.
        validation: what it all is judged by.
        able: for each source (K,) whether it can make a class.
        budget: images at most.
        rounds: at most.
    """
    counts = train.counts()
    draw = Resampler(len(validation), validation.groups, REPLICATES)
    nothing = np.zeros(len(counts), np.int64)
    held, _ = attempt((), nothing, SEEDS)
    most = np.where(np.any(able, axis=0), counts.max() - counts, 0)
    best = nothing
    sources: tuple[int, ...] = ()
    recall = _recall(held, validation, counts)
    said = [_said(0, (), nothing, held, draw, None, True, recall)]
    reason = "the whole budget is used"
    for number, total in enumerate(totals(budget, rounds), 1):
        choices = _choices(len(able)) if number == 1 else [sources]
        tried = []
        for choice in choices:
            can = np.where(np.any([able[k] for k in choice], axis=0), most, 0)
            more = allocate(total - int(best.sum()), need(recall, counts), can - best)
            answers, made = attempt(choice, best + more, SEEDS)
            tried.append((choice, made, answers, made < best + more))
        choice, wanted, answers, dry = max(tried, key=lambda one: _score(one[2], draw))
        gain, error = _gain(answers, held, draw)
        kept = gain > (error if number == 1 else 0.0) and int(wanted.sum()) > int(best.sum())
        for one in tried:
            chosen = one[0] == choice
            said.append(
                _said(
                    number,
                    one[0],
                    one[1],
                    one[2],
                    draw,
                    held,
                    kept and chosen,
                    _recall(one[2], validation, counts),
                )
            )
        if not kept:
            reason = (
                "generated images did not raise balanced accuracy on the validation images by more than its "
                "standard error, so none are used"
                if number == 1
                else f"more than {int(best.sum()):,} did not raise balanced accuracy on the validation images"
            )
            break
        best, sources, held = wanted, choice, answers
        most = np.where(dry, best, most)
        recall = _recall(held, validation, counts)
    return Plan(best, sources, said, reason)


def split_evenly(counts: I64, able: Sequence[Any], sources: Sequence[int]) -> list[I64]:
    """Images (K,) that each of `sources` makes of `counts` (K,), alike among those that can make a class."""
    can = np.stack([np.asarray(able[k], bool) for k in sources])
    makers = np.maximum(can.sum(axis=0), 1)
    place = np.cumsum(can, axis=0) - 1
    return [np.where(can[i], counts // makers + (place[i] < counts % makers), 0) for i in range(len(sources))]


def _choices(sources: int) -> list[tuple[int, ...]]:
    alone: list[tuple[int, ...]] = [(k,) for k in range(sources)]
    return alone + ([tuple(range(sources))] if sources > 1 else [])


def _recall(answers: Sequence[Answers], data: LabelledImages, counts: I64) -> F64:
    """Shrunk recall (K,) over the validation units: images, or groups where images come in groups."""
    right = np.mean([one.correct for one in answers], axis=0)
    member = np.eye(len(data.classes))[data.labels]
    table = sum_by_group(np.concatenate([member * right[:, None], member], axis=1), data.groups)
    hits, seen = np.split(table, 2, axis=1)
    share = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    return shrunk_recall(share.sum(axis=0), (seen > 0).sum(axis=0), counts)


def _score(answers: Sequence[Answers], draw: Resampler) -> float:
    return float(np.mean([one.figures(draw.everything)["balanced_accuracy"][0] for one in answers]))


def _gain(a: Sequence[Any], b: Sequence[Any], draw: Resampler) -> tuple[float, float]:
    """Difference of balanced accuracy over the same validation images, and its standard error."""
    point, star = resample_headline([a, b], draw, _STREAM)
    return float(point[0].mean() - point[1].mean()), float(np.nanstd(star[:, 0] - star[:, 1]))


def _said(
    number: int, sources: tuple[int, ...], counts: I64, answers: Sequence[Any], draw: Resampler,
    before: Sequence[Any] | None, kept: bool, recall: F64,
) -> dict[str, Any]:  # fmt: skip
    gain = None if before is None else _gain(answers, before, draw)
    return {
        "round": number,
        "sources": list(sources),
        "images": int(counts.sum()),
        "per_class": counts.tolist(),
        "balanced_accuracy": _score(answers, draw),
        "gain": None if gain is None else {"mean": gain[0], "standard_error": gain[1]},
        "recall": [round(float(r), 6) for r in recall],
        "kept": kept,
    }
