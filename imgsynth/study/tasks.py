"""The tasks a study may have, by name."""

from __future__ import annotations

from imgsynth.study.classify import Classify
from imgsynth.study.detect import Detect
from imgsynth.study.task import Task


def task_of(name: str) -> Task:
    """`classify`, `detect` or `segment` as a study's engine uses it."""
    return Classify() if name == "classify" else Detect(masks=name == "segment")
