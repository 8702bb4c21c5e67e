"""The audit of a whole set of samples as figures, and the worst pairs as a picture to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsynth.batch import I64, U8
from imgsynth.dataset.labelled import LabelledImages, recolor
from imgsynth.evaluate.bootstrap import Estimate
from imgsynth.gate.calibration import wilson
from imgsynth.gate.duplicates import Nearness
from imgsynth.gate.memory import Audit, Memory

WORST = 24  # pairs that are shown
CELL = 96  # pixels of a picture's side, at least


@dataclass(frozen=True)
class Memorization:
    """What was found: the audit of each sample, and which samples repeat one before them."""

    audit: Audit
    repeats: I64  # (n,) sample that each repeats, −1 for none
    record: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Shares with intervals and the worst pairs, as plain values."""
        from scipy.stats import binomtest

        a = self.audit
        n, flagged, repeated = len(a.copy), int(a.copy.sum()), int((self.repeats >= 0).sum())
        chance = binomtest(flagged, n, a.false_alarm, alternative="greater").pvalue
        return {
            "images": n,
            "flagged": flagged,
            "flagged_share": _share(flagged, n).to_json(),
            "false_alarm": a.false_alarm,
            "p_of_chance": float(chance),
            "copies": a.share().to_json(),
            "near_duplicates": repeated,
            "near_duplicate_share": _share(repeated, n).to_json(),
            "worst": [
                {
                    "sample": int(i),
                    "training": int(a.nearest[i]),
                    "to_training": float(a.to_training[i]),
                    "to_held_out": float(a.to_held_out[i]),
                    "p": float(a.p[i]),
                    "copy": bool(a.copy[i]),
                }
                for i in a.worst(WORST)
            ],
            "audit": self.record,
        }


def memorization(
    samples: LabelledImages,
    training: LabelledImages,
    held_out: LabelledImages,
    *,
    false_alarm: float = 0.01,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Memorization:
    """Audit samples for copies of training images, and for near-duplicates among themselves.

    Args:
        samples: what a generator made, in the order of their indices.
        training: what it was trained on.
        held_out: real images that it never saw.
        false_alarm: share of innocent samples that may be flagged.
        seed: of subsets.
        progress: called with (images done, images in all).

    Raises:
        DataError: a class of the samples that the training set lacks, and as `Memory.fit`.
    """
    made = samples.aligned(training.classes).fitted(training.size, training.channels)
    held = held_out.fitted(training.size, training.channels)
    memory = Memory.fit(training, held, false_alarm=false_alarm, seed=seed)
    audit = memory.audit(made.images, progress=progress)
    near = Nearness.fit(training, memory.look, seed=seed)
    repeats, _, _ = near.first_of_kind(made.images, made.labels, np.ones(len(made), bool))
    kept = np.flatnonzero(repeats < 0)
    return Memorization(audit, np.where(repeats >= 0, kept[repeats], -1), memory.record())


def worst_pairs(found: Memorization, samples: U8, training: U8) -> U8:
    """The worst pairs as a picture (h, w, 3): each sample above its nearest training image, the worst first;
    a red edge marks what was flagged.
    """
    from imgsynth.report.sheet import enlarge, grid

    zoom = max(1, CELL // training.shape[1])
    cells = []
    for i in found.audit.worst(WORST):
        images = (samples[i], training[found.audit.nearest[i]])
        pair = np.concatenate([enlarge(recolor(x[None], 3)[0], zoom) for x in images])
        edge = (220, 50, 40) if found.audit.copy[i] else (225, 225, 225)
        framed = np.full((pair.shape[0] + 6, pair.shape[1] + 6, 3), edge, np.uint8)
        framed[3:-3, 3:-3] = pair
        cells.append(framed)
    return grid(cells, columns=min(12, len(cells)))


def _share(count: int, n: int) -> Estimate:
    lo, hi = wilson(count, n)
    return Estimate(count / n, float(lo), float(hi))
