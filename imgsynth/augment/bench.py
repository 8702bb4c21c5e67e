"""Trainings of an augmentation, by content, and what they answer; killed and started again, it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imgsynth.augment.arms import Balanced, Maker
from imgsynth.dataset.disk import disk_errors
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.study.cells import (
    Cell,
    finished,
    predictions_path,
    read_predictions,
    read_record,
    score_cell,
    train_cell,
)
from imgsynth.study.classify import Answers
from imgsynth.study.progress import Bars
from imgsynth.study.task import Learner, Pool
from imgsynth.study.workers import Crew

SLOTS = 512  # trainings in one go, at most


@dataclass(frozen=True)
class Bench:
    """Where and how everything is trained."""

    task: Balanced
    maker: Maker
    folder: Path
    validation: Pool
    crew: Crew
    bars: Bars

    def train(self, cells: Sequence[Cell], stage: str) -> None:
        """Train what is not trained yet."""
        distinct = list({cell.key(): cell for cell in cells}.values())
        todo = [cell for cell in distinct if not finished(self.folder, cell)]
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        jobs = [(self.task, self._learner(cell), cell, self.validation, self.folder) for cell in todo]
        share = self.bars.shares(stage, "trainings", len(distinct), len(distinct) - len(todo))
        self.crew.run(train_cell, jobs, share)

    def validation_scores(self, cells: Sequence[Cell]) -> list[float]:
        """The headline of trained models on the validation images."""
        name = f"validation_{self.task.headline}"
        return [float(read_record(self.folder, cell)[name]) for cell in cells]

    def answers(self, cells: Sequence[Cell], on: Pool, data: LabelledImages, stage: str) -> list[Answers]:
        """What the trained models say of a set, a table a cell."""
        todo = [cell for cell in cells if not predictions_path(self.folder, cell, on).is_file()]
        jobs = [(self.task, self._learner(cell), cell, on, self.folder) for cell in todo]
        if jobs:
            share = self.bars.shares(stage, "models", len(cells), len(cells) - len(todo))
            self.crew.run(score_cell, jobs, share)
        return [self.task.table(read_predictions(self.task, self.folder, cell, on), data) for cell in cells]

    def _learner(self, cell: Cell) -> Learner:
        return self.maker.by_settings[cell.settings]
