"""All figures of results.json, from the predictions that a study's cells left on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.study.cells import Cell, read_predictions, read_record
from imgsynth.study.curves import scaling, surface
from imgsynth.study.measure import Measured, arm_figures, paired, resample
from imgsynth.study.plan import Plan
from imgsynth.study.resample import Resampler
from imgsynth.study.sets import Sets
from imgsynth.study.spec import Study
from imgsynth.study.spec_arms import arm_of
from imgsynth.study.task import Pool, Table, Task
from imgsynth.study.worth import (
    RealCurve,
    by_net,
    class_deltas,
    transfer_figures,
    unlearned,
    verdict_of,
    worth_of_arms,
)


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
    study: Study, sets: Sets, plan: Plan, test: Answered, held_out: Answered, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything of results.json but `what`."""
    spec, task, data = study.spec, test.task, sets.test
    draw = Resampler(len(data), data.groups, spec.bootstrap)
    arms = {arm: test.tables(cells) for arm, cells in plan.headline.items()}
    measured = resample(task, arms, draw)
    out: dict[str, Any] = {"headline": task.headline, "arms": {}}
    for arm, cells in plan.headline.items():
        figures = arm_figures(task, arm, measured, data.classes, data.counts(), len(data))
        figures.update(task.extras(test.predictions(cells), data))
        figures[f"validation_{task.headline}"] = _validation(task, cells, test.folder)
        figures["images"] = {"real": cells[0].real, "synthetic": cells[0].synthetic}
        out["arms"][arm] = figures
    out["paired"] = paired(measured)
    if "real" in arms:
        back = held_out.tables(plan.headline["real"])
        out["transfer"] = transfer_figures(measured, back, len(held_out.data))
        out["class_delta"] = class_deltas(task, arms, measured, data)
    if spec.scaling is not None:
        curve = {n: test.tables(cells) for n, cells in plan.curve.items()}
        out["scaling"] = scaling(spec.scaling.arm, curve, draw, D=spec.scaling.D)
    if plan.real_curve:
        _priced(out, study, plan, test, measured, draw)
    if len(plan.arms) > 1:
        nets = {
            net: {arm: test.tables(cells) for arm, cells in of_net.items()}
            for net, of_net in plan.arms.items()
        }
        out["nets"] = by_net(nets, draw)
    if chosen:
        out["chosen"] = dict(chosen)
    out["verdict"] = _verdict(out, task, chosen, task.chance(data))
    return out


def _priced(
    out: dict[str, Any], study: Study, plan: Plan, test: Answered, measured: Measured, draw: Resampler
) -> None:
    """The real-only curve, what every arm is worth by it, and the surface."""
    curve = {n: test.tables(cells) for n, cells in plan.real_curve.items()}
    out["real_curve"] = scaling("real", curve, draw)
    real = RealCurve(curve, draw)
    out["worth"] = worth_of_arms(measured, real, plan)
    if study.spec.surface is not None:
        grid = {at: test.tables(cells) for at, cells in plan.surface.items()}
        out["surface"] = surface(study.spec.surface.arm, grid, real, draw)


def _verdict(out: Mapping[str, Any], task: Task, chosen: Mapping[str, Any], chance: float) -> dict[str, Any]:
    """By the arm of both kinds of images that the validation images prefer.

    Where models of real images do no better than a guess, nothing can be set against them.
    """
    real = out["arms"].get("real", {}).get(task.headline)
    if real is not None and real["ci95"][0] <= chance:
        return unlearned(real, chance)
    mixed = [arm for arm in out["arms"] if arm_of(arm).kind in ("both", "finetune")]
    best = max(mixed, key=lambda a: out["arms"][a][f"validation_{task.headline}"]["mean"], default=None)
    share = chosen[best]["real_share"] if best is not None and best in chosen else None
    return {**verdict_of(out, best, None if share is None else 1 - share), "mixed": best}


def _validation(task: Task, cells: list[Cell], folder: Path) -> dict[str, Any]:
    """The headline on the validation images, as each cell recorded it."""
    per_seed = [float(read_record(folder, cell)[f"validation_{task.headline}"]) for cell in cells]
    return {"mean": float(np.mean(per_seed)), "per_seed": per_seed}
