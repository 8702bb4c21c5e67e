"""What is compared: plain training, three strong plain remedies for imbalance, and generated images.

Each arm has three settings, of which validation images choose one; all take the same optimiser steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.study.cells import Cell, Part
from imgsynth.study.classify import Answers, Classify
from imgsynth.study.task import Learner, Pool

REMEDY = 9.0  # RandAugment's magnitude where only whether it is used is to be chosen (Cubuk et al.: 9)


@dataclass(frozen=True)
class Setting:
    """One way to train an arm: how rows are drawn, how the learner differs from its defaults."""

    said: str
    balanced: bool = False  # every class equally often; else every image
    real: float = 1.0  # of a class's draws, the least share of real images where there are generated ones
    rate: float = 1.0  # factor of the learning rate
    changes: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "said": self.said, "balanced": self.balanced, "real_share": self.real, "rate": self.rate,
            **self.changes,
        }  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A remedy with the settings it may have."""

    name: str
    title: str
    settings: tuple[Setting, ...]


BASELINES = (
    Arm(
        "plain",
        "plain",
        tuple(Setting(f"learning rate ×{rate:g}", rate=rate) for rate in (1.0, 0.5, 2.0)),
    ),
    Arm(
        "oversampling",
        "oversampling + RandAugment",
        tuple(
            Setting(f"magnitude {m:g}", balanced=True, changes={"randaugment": m}) for m in (9.0, 5.0, 14.0)
        ),
    ),
    Arm(
        "logit_adjustment",
        "logit adjustment",
        (
            Setting("τ 1", changes={"logit_adjustment": 1.0}),
            Setting("τ 1, RandAugment", changes={"logit_adjustment": 1.0, "randaugment": REMEDY}),
            Setting("τ 1.5, RandAugment", changes={"logit_adjustment": 1.5, "randaugment": REMEDY}),
        ),
    ),
    Arm(
        "cutmix",
        "CutMix",
        (
            Setting("every image equally often", changes={"cutmix": 0.5}),
            Setting("every class equally often", balanced=True, changes={"cutmix": 0.5}),
            Setting("logit adjustment τ 1", changes={"cutmix": 0.5, "logit_adjustment": 1.0}),
        ),
    ),
)


def generated(floor: float) -> Arm:
    """The arm of generated images; no class with real images draws fewer of these than the share `floor`."""
    half, quarter = max(0.5, floor), max(0.25, floor)
    remedy = {"randaugment": REMEDY}
    return Arm(
        "generated",
        "generated images",
        (
            Setting(f"classes alike, {100 * half:.0f} % real", True, half),
            Setting(f"classes alike, {100 * quarter:.0f} % real, RandAugment", True, quarter, changes=remedy),
            Setting(f"classes as mixed, {100 * half:.0f} % real, RandAugment", False, half, changes=remedy),
        ),
    )


# What no generator can be expected to beat: the images that a cut took away, drawn like the rest.
CEILING = Arm(
    "ceiling",
    "all real images",
    (
        Setting("classes alike", True, 0.0),
        Setting("classes alike, magnitude 5", True, 0.0, changes={"randaugment": 5.0}),
        Setting("classes alike, magnitude 9", True, 0.0, changes={"randaugment": REMEDY}),
    ),
)


class Balanced(Classify):
    """Classification judged by balanced accuracy: the mean over classes of the share that is found."""

    headline = "balanced_accuracy"

    def table(self, predictions: Any, data: LabelledImages) -> Answers:
        """Answers beside the labels."""
        return _Recalls(predictions, data.labels)


class _Recalls(Answers):
    def headline(self, weights: Any) -> Any:
        """Balanced accuracy (b,)."""
        return self.figures(weights)["balanced_accuracy"]


@dataclass(frozen=True)
class Added:
    """Generated images of all sources in one pool, and how often each is to be drawn."""

    pool: Pool
    labels: I64


@dataclass(frozen=True)
class Maker:
    """Makes trainings out of the real images, and generated ones where there are any."""

    learner: Learner
    real: Pool
    labels: I64  # of the real images
    by_settings: dict[str, Learner] = field(default_factory=dict)

    def cell(
        self, arm: str, setting: Setting, seed: int, added: Added | None = None, steps: int | None = None
    ) -> Cell:
        """One training."""
        changes: dict[str, Any] = dict(setting.changes)
        if setting.rate != 1.0:
            changes["lr"] = setting.rate * float(self.learner.describe()["lr"])
        learner = self.learner.phase(steps or self.learner.steps, changes)
        said = json.dumps(learner.describe(), sort_keys=True)
        self.by_settings[said] = learner
        parts = self._parts(setting, added)
        size = sum(len(part.rows) for part in parts if not part.real)
        return Cell(arm, "default", size, seed, parts, said)

    def _parts(self, setting: Setting, added: Added | None) -> tuple[Part, ...]:
        if added is None and not setting.balanced:
            return (Part(self.real, np.arange(len(self.labels), dtype=np.int64), real=True),)
        theirs = np.empty(0, np.int64) if added is None else added.labels
        labels = np.concatenate([self.labels, theirs])
        real = np.arange(len(labels)) < len(self.labels)
        row = chances(labels, real, setting)
        ours, made = [], []
        for c in np.unique(labels):
            own, other = np.flatnonzero((labels == c) & real), np.flatnonzero((labels == c) & ~real)
            if len(own):
                ours.append(Part(self.real, own, float(row[own].sum()), real=True))
            if added is not None and len(other):
                made.append(Part(added.pool, other - len(self.labels), float(row[other].sum())))
        return (*ours, *made)


def real_share(real: int, made: int, least: float) -> float:
    """Share of real images among what is drawn of a class: by number, at least `least`, 0 without any."""
    if real == 0:
        return 0.0
    return max(least, real / (real + made)) if made else 1.0


def chances(labels: I64, real: NDArray[np.bool_], setting: Setting) -> F64:
    """Relative chance (n,) of each row of a mixed set, mean 1: classes alike or as many as they are, and
    within a class real images as `real_share`.

    Args:
        labels: (n,) classes.
        real: (n,) whether a row is real.
        setting: how an arm draws.
    """
    out = np.zeros(len(labels))
    for c in np.unique(labels):
        own, made = (labels == c) & real, (labels == c) & ~real
        share = real_share(int(own.sum()), int(made.sum()), setting.real)
        mass = 1.0 if setting.balanced else float(own.sum() + made.sum())
        out[own] = mass * share / max(own.sum(), 1)
        out[made] = mass * (1 - share) / max(made.sum(), 1)
    return np.asarray(out * (len(labels) / out.sum()))
