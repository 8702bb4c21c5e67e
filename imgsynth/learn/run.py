"""What `imgsynth learn` does: read DATA, train, save, resumably."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from imgsynth.dataset.labelled import concat
from imgsynth.dataset.sources import load
from imgsynth.errors import ImgsynthError
from imgsynth.learn.classify import Classifier, ClassifierConfig
from imgsynth.learn.trainer import train_classifier

TASKS = ("classify",)
CHECKPOINT = "checkpoint.safetensors"


def learn(
    data: Sequence[str],
    *,
    out: Path,
    task: str = "classify",
    net: str = "compact",
    steps: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    resume: bool = False,
    progress: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Train on DATA (several are joined, classes matched by name), save to `out`, and say what was done.

    Raises:
        ImgsynthError: an unknown task, data that cannot be read, a folder that is not free.
    """
    if task not in TASKS:
        raise ImgsynthError(f"--task: expected {' or '.join(TASKS)}, got {task!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not resume:
        raise ImgsynthError(
            f"{out}: is not empty; choose another folder, or --resume to go on with the same training"
        )
    config = ClassifierConfig(net=net, weights=None if weights is None else str(weights))
    if steps is not None:
        config = replace(config, steps=steps)
    images = reduce(concat, [load(spec) for spec in data])
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / CHECKPOINT
    model: Classifier = train_classifier(images, config, seed=seed, progress=progress, checkpoint=checkpoint)
    model.save(out)
    checkpoint.unlink(missing_ok=True)
    return {
        "task": task,
        "classes": list(model.classes),
        "images": len(images),
        "steps": config.steps,
        **model.record,
    }
