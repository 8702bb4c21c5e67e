"""The learner of an experiment: the compact default of its task, trained for as many steps as asked for."""

from __future__ import annotations

from typing import Any

from imgsynth.errors import ImgsynthError
from imgsynth.study.learner import ClassifyLearner, DetectLearner
from imgsynth.study.task import Learner

TASKS = ("classify", "detect", "segment")


def learner_of(task: str, *, net: str | None = None, steps: int | None = None) -> Learner:
    """The learner of a task (loads torch).

    Raises:
        ImgsynthError: an unknown task or net, steps out of range.
    """
    if task not in TASKS:
        raise ImgsynthError(f"--task: expected {', '.join(TASKS[:-1])} or {TASKS[-1]}, got {task!r}")
    # One thread: another number of them would change the last bits.
    given: dict[str, Any] = {"net": net, "steps": steps, "threads": 1}
    settings = {name: value for name, value in given.items() if value is not None}
    if task == "classify":
        from imgsynth.learn.classify import ClassifierConfig

        return ClassifyLearner(ClassifierConfig.of(settings))
    from imgsynth.learn.detect import DetectorConfig

    return DetectLearner(DetectorConfig.of({**settings, "masks": task == "segment"}))
