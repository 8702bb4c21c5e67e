"""How much of each batch is to be real: chosen on the validation images, before the test is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.study.cells import Cell, read_record
from imgsynth.study.plan import Maker
from imgsynth.study.spec import StudySpec
from imgsynth.study.task import Task


@dataclass(frozen=True)
class Choice:
    """One share of real images that an arm may have, and the trainings that tell how good it is."""

    share: float | None
    cells: list[Cell]


def candidates(make: Maker) -> dict[str, list[Choice]]:
    """The shares that each arm of the kind `both` may have, where the study gives several."""
    spec, net = make.study.spec, next(iter(make.learners))
    found = {}
    for arm in spec.all_arms():
        if arm.kind == "both" and len(spec.both.candidates()) > 1:
            found[arm.name] = [
                Choice(
                    share,
                    [
                        replace(make, shares={arm.name: share}).cell(arm, net, seed)
                        for seed in spec.seed_list()
                    ],
                )
                for share in spec.both.candidates()
            ]
    return found


def shares_of(spec: StudySpec, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """The share of real images in each arm of the kind `both`."""
    given = {arm.name: spec.both.candidates()[0] for arm in spec.all_arms() if arm.kind == "both"}
    return {**given, **{arm: one["real_share"] for arm, one in chosen.items()}}


def choose(task: Task, choices: Mapping[str, list[Choice]], folder: Path) -> dict[str, dict[str, Any]]:
    """The share with the best mean headline on the validation images, for each arm that has a choice."""
    out = {}
    for arm, several in choices.items():
        scores = [
            float(np.mean([read_record(folder, cell)[f"validation_{task.headline}"] for cell in one.cells]))
            for one in several
        ]
        out[arm] = {
            "real_share": several[int(np.argmax(scores))].share,
            "candidates": [
                {"real_share": one.share, f"validation_{task.headline}": score}
                for one, score in zip(several, scores, strict=True)
            ],
        }
    return out
