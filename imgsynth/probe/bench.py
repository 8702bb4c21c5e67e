"""Variants of a scene, rendered with the same seed and frames, learned with the same seeds, and scored on the
same real images.

The folder `out` holds `variants/` (a dataset each, by content), `cells/` (the trainings, by content, as a
study keeps them) and `work/`. Killed and started again, it goes on from what is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.dataset.disk import disk_errors
from imgsynth.errors import DataError, ImgsynthError, SceneError
from imgsynth.scene import SceneSpec
from imgsynth.scenefile import Scene
from imgsynth.study.cells import (
    Cell,
    Part,
    finished,
    predictions_path,
    read_predictions,
    score_cell,
    train_cell,
)
from imgsynth.study.progress import Bars
from imgsynth.study.task import Learner, Pool, Table, Task
from imgsynth.study.workers import Crew

Render = Callable[..., Path]


@dataclass(frozen=True)
class Setting:
    """What is the same for every variant.

    Args:
        count: frames rendered of each, 0 … count - 1.
        seed: of the frames.
        seeds: of the trainings (weights and batches); as many models a variant.
        workers: processes, or None for one per core.
        render: in place of `imgsynth.generate.render`.
    """

    task: Task
    learner: Learner
    count: int = 1000
    seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int | None = None
    render: Render | None = None


class Bench:
    """Scores variants of one scene on one set of real images.

    Raises:
        ImgsynthError: fewer than two training seeds' worth of anything, classes that differ, a full disk.
    """

    def __init__(self, scene: Scene, real: Any, setting: Setting, out: Path, bars: Bars):
        if not setting.seeds:
            raise ImgsynthError("expected at least one training seed, got none")
        self.scene, self.real, self.setting, self.out, self.bars = scene, real, setting, out, bars
        self._settings = json.dumps(setting.learner.describe(), sort_keys=True)

    def tables(self, variants: Mapping[str, SceneSpec]) -> dict[str, list[Table]]:
        """Answers to the real images of a model a seed, for each variant."""
        setting, task = self.setting, self.setting.task
        work, folder = self.out / "work", self.out / "cells"
        with disk_errors(self.out):
            folder.mkdir(parents=True, exist_ok=True)
        real = task.pool(work, "real", self.real)
        cells = {name: self._cells(name, spec, work) for name, spec in variants.items()}
        distinct = list({cell.key(): cell for group in cells.values() for cell in group}.values())
        crew_size = setting.workers or max(1, (os.cpu_count() or 1) // setting.learner.threads)
        with Crew(min(crew_size, len(distinct)), len(distinct)) as crew:
            todo = [cell for cell in distinct if not finished(folder, cell)]
            share = self.bars.shares("train", "trainings", len(distinct), len(distinct) - len(todo))
            crew.run(train_cell, [(task, setting.learner, cell, real, folder) for cell in todo], share)
            todo = [cell for cell in distinct if not predictions_path(folder, cell, real).is_file()]
            share = self.bars.shares("score", "models", len(distinct), len(distinct) - len(todo))
            crew.run(score_cell, [(task, setting.learner, cell, real, folder) for cell in todo], share)
        shutil.rmtree(work, ignore_errors=True)
        return {name: [self._table(cell, real) for cell in group] for name, group in cells.items()}

    def _table(self, cell: Cell, real: Pool) -> Table:
        folder = self.out / "cells"
        return self.setting.task.table(read_predictions(self.setting.task, folder, cell, real), self.real)

    def _cells(self, name: str, spec: SceneSpec, work: Path) -> list[Cell]:
        data = self.images(name, spec)
        pool = self.setting.task.pool(work, f"variant-{_digest(spec)}", data)
        rows = np.arange(len(data), dtype=np.int64)
        part = Part(pool, rows)
        return [
            Cell("synthetic", "default", len(rows), seed, (part,), self._settings)
            for seed in self.setting.seeds
        ]

    def images(self, name: str, spec: SceneSpec) -> Any:
        """The rendered frames of a variant, with the classes and in the form of the real images.

        Raises:
            SceneError: the variant cannot be rendered; says which it is.
            DataError: its classes are not those of the real images.
        """
        from imgsynth.generate import render as render_scene

        setting = self.setting
        render: Render = setting.render or render_scene
        path = self.out / "variants" / f"{_digest(spec)}-{setting.seed}-{setting.count}"
        with disk_errors(self.out):
            path.parent.mkdir(parents=True, exist_ok=True)
        scene = Scene(spec, self.scene.folder, self.scene.file)
        if not (path / "dataset.json").is_file():
            said = self.bars.counter(f"render {name}"[-20:], "frames")
            options: dict[str, Any] = {"seed": setting.seed, "workers": setting.workers}
            try:
                render(scene, setting.count, path, resume=True, progress=said, **options)
            except SceneError as error:
                raise SceneError(f"variant {name}: {error}") from None
        data = changed(setting.task.load(str(path)), name=name)
        return _same_form(setting.task, data, self.real)


def _same_form(task: Task, data: Any, real: Any) -> Any:
    shown, wanted = ({c for c, n in zip(d.classes, d.counts(), strict=True) if n} for d in (data, real))
    for owner, other, names in ((data, real, shown - wanted), (real, data, wanted - shown)):
        if names:
            listed = ", ".join(repr(c) for c in sorted(names)[:5])
            raise DataError(
                f"classes do not agree by name: {owner.name} shows {listed}, {other.name} does not"
                + (" (too few frames rendered?)" if owner is real else "")
            )
    out, _ = task.conform(data, real)
    return out


def _digest(spec: SceneSpec) -> str:
    text = json.dumps(spec.canonical(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_seeds(count: int) -> tuple[int, ...]:
    """0 … count - 1.

    Raises:
        ImgsynthError: fewer than two: one training says nothing of how trainings differ.
    """
    if count < 2:
        raise ImgsynthError(f"--seeds: expected at least 2, got {count}: one training shows no scatter")
    return tuple(range(count))


def learned_little(task: Task, data: Any, score: float) -> list[str]:
    """A note where models hardly beat chance, for then no variant of the scene can be told from another."""
    chance = 1 / max(len(data.classes), 1) if task.name == "classify" else 0.0
    if score > chance + 0.05:
        return []
    return [
        f"the models reach {task.headline} {score:.3f}, hardly more than chance, so their differences say "
        "nothing; give more --steps or --count"
    ]


def halves(task: Task, data: Any, seed: int = 0) -> tuple[Any, Any]:
    """Two halves of real images, one to choose by and one to report on; groups stay whole.

    Raises:
        DataError: a half would be empty.
    """
    from imgsynth.dataset.split import split

    rows = split(task.strata(data), data.groups, {"choosing": 0.5, "reporting": 0.5}, seed)
    if not all(len(r) for r in rows.values()):
        raise DataError(f"{data.name}: too few images or groups to halve ({len(data)} images)")
    a, b = (data.subset(rows[part], f"{data.name} ({part})") for part in ("choosing", "reporting"))
    return a, b


def real_images(task: Task, spec: str, apart: Sequence[str] = ()) -> Any:
    """The real images that ranges are to be chosen by, which therefore must not be those that are tested on.

    Args:
        task: reads DATA.
        spec: DATA of the images.
        apart: DATA that they must share no image and no group with, such as the test set.

    Raises:
        DataError: `spec` names a test split or a whole that holds one, or an image is in a set of `apart`.
    """
    from imgsynth.dataset.leaks import shared_groups, shared_images

    reason = "what ranges are chosen by cannot be tested on afterwards; give the validation part"
    if spec.endswith(("#test", ":test")):
        raise DataError(f"{spec}: refused, this is a test split: {reason}")
    if spec == "sklearn:digits" or spec.endswith(":all"):
        raise DataError(f"{spec}: refused, it holds the test split too: {reason}")
    data = task.load(spec)
    for name in apart:
        other = task.load(name)
        if shared := shared_images(data, other):
            raise DataError(
                f"{spec}: refused, {len(shared)} of its images are also in {other.name} (row {shared[0][0]} "
                f"is row {shared[0][1]} there): {reason}"
            )
        if both := shared_groups(data, other):
            raise DataError(
                f"{spec}: refused, {len(both)} of its groups (tracks), such as {both[0]!r}, are also in "
                f"{other.name}: {reason}"
            )
    return data
