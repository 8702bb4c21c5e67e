"""A saved model of whatever task."""

from __future__ import annotations

from pathlib import Path

from imgsynth.learn.classify import Classifier
from imgsynth.learn.detect import Detector
from imgsynth.learn.store import read_record


def load_model(folder: str | Path) -> Classifier | Detector:
    """The classifier or detector in a folder that `learn` wrote; its record says which.

    Raises:
        ModelError: missing, damaged, or not a model of imgsynth; saying what to do about it.
    """
    task = read_record(folder)["task"]
    return Classifier.load(folder) if task == "classify" else Detector.load(folder)
