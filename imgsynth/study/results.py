"""All figures of results.json, from the predictions that a study's cells left on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.study.cells import Cell, read_predictions, read_record
from imgsynth.study.curves import scaling
from imgsynth.study.measure import arm_figures, paired, resample
from imgsynth.study.plan import Plan
from imgsynth.study.resample import Resampler
from imgsynth.study.sets import Sets
from imgsynth.study.spec import Study
from imgsynth.study.task import Pool, Table, Task


@dataclass
class Answered:
    """Predictions of cells on one set, and tables made of them; each read once."""

    task: Task
    folder: Path
    pool: Pool
    data: Any
    _tables: dict[str, Table] = field(default_factory=dict)

    def predictions(self, cells: Iterable[Cell]) -> list[Any]:
        """What each cell's model says of the set."""
        return [read_predictions(self.task, self.folder, cell, self.pool) for cell in cells]

    def tables(self, cells: Iterable[Cell]) -> list[Table]:
        """The same beside the truth."""
        out = []
        for cell in cells:
            key = cell.key()
            if key not in self._tables:
                self._tables[key] = self.task.table(self.predictions([cell])[0], self.data)
            out.append(self._tables[key])
        return out


def measured_results(
    study: Study, sets: Sets, plan: Plan, test: Answered, held_out: Answered
) -> dict[str, Any]:
    """`arms`, `paired`, and whatever curves the study has."""
    spec, task = study.spec, test.task
    data = sets.test
    draw = Resampler(len(data), data.groups, spec.bootstrap)
    arms = {arm: test.tables(cells) for arm, cells in plan.headline.items()}
    measured = resample(task, arms, draw)
    counts = data.counts()
    out: dict[str, Any] = {"arms": {}}
    for arm, cells in plan.headline.items():
        figures = arm_figures(task, arm, measured, data.classes, counts, len(data))
        figures.update(task.extras(test.predictions(cells), data))
        figures[f"validation_{task.headline}"] = _validation(task, cells, test.folder)
        out["arms"][arm] = figures
    out["paired"] = paired(measured)
    if spec.scaling is not None:
        curve = {n: test.tables(cells) for n, cells in plan.curve.items()}
        out["scaling"] = scaling(spec.scaling.arm, curve, draw, D=spec.scaling.D)
    return out


def _validation(task: Task, cells: list[Cell], folder: Path) -> dict[str, Any]:
    """The headline on the validation images, as each cell recorded it."""
    per_seed = [float(read_record(folder, cell)[f"validation_{task.headline}"]) for cell in cells]
    return {"mean": float(np.mean(per_seed)), "per_seed": per_seed}
