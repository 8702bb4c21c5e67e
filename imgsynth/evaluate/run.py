"""What `imgsynth score` does: read a model and DATA for its task, score the one on the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgsynth.dataset.annotated_sources import load_annotated
from imgsynth.dataset.sources import load
from imgsynth.errors import ImgsynthError


def score(
    model: str | Path,
    data: str,
    *,
    unknown: str | None = None,
    bootstrap: int = 2000,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Every figure of the model's task on DATA, with intervals, as plain JSON values (they name their task).

    Args:
        model: folder that `learn` wrote.
        data: as `imgsynth.dataset.sources` reads it for the model's task.
        unknown: DATA whose images show none of the classifier's classes, to see whether it notices.
        bootstrap: replicates for the intervals.
        progress: called with (images done, images in all) while a detector looks.

    Raises:
        ImgsynthError: no such model or data, classes that do not fit, an option of another task.
    """
    from imgsynth.evaluate.detection import score_detector
    from imgsynth.evaluate.score import score_classifier
    from imgsynth.learn.classify import Classifier
    from imgsynth.learn.models import load_model

    loaded = load_model(model)
    if isinstance(loaded, Classifier):
        stranger = None if unknown is None else load(unknown)
        held = load(data)
        return {
            "task": "classify",
            **score_classifier(loaded, held, unknown=stranger, bootstrap=bootstrap).to_json(),
        }
    if unknown is not None:
        raise ImgsynthError(f"--unknown: belongs to classifiers; {model} is a model to {loaded.task}")
    truth = load_annotated(data, masks=loaded.task == "segment")
    return score_detector(loaded, truth, bootstrap=bootstrap, progress=progress).to_json()
