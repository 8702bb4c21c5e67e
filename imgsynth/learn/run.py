"""What `imgsynth learn` does: read DATA, train, save, resumably."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from imgsynth.dataset.annotated import concat_annotated
from imgsynth.dataset.labelled import concat
from imgsynth.dataset.sources import load
from imgsynth.errors import ImgsynthError
from imgsynth.learn.classify import Classifier, ClassifierConfig, suited
from imgsynth.learn.detect import Detector, DetectorConfig
from imgsynth.learn.detect_trainer import train_detector
from imgsynth.learn.trainer import train_classifier

TASKS = ("classify", "detect", "segment")
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
        raise ImgsynthError(f"--task: expected {', '.join(TASKS[:-1])} or {TASKS[-1]}, got {task!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not resume:
        raise ImgsynthError(
            f"{out}: is not empty; choose another folder, or --resume to go on with the same training"
        )
    settings: dict[str, Any] = {"net": net, "weights": None if weights is None else str(weights)}
    if steps is not None:
        settings["steps"] = steps
    train = _classify if task == "classify" else _detect
    if task == "segment":
        settings["masks"] = True
    count, model = train(data, settings, seed=seed, progress=progress, checkpoint=out / CHECKPOINT)
    model.save(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return {
        "task": task,
        "classes": list(model.classes),
        "images": count,
        "steps": model.config.steps,
        **model.record,
    }


def _classify(
    data: Sequence[str], settings: Mapping[str, Any], *, seed: int, progress: Any, checkpoint: Path
) -> tuple[int, Classifier]:
    ClassifierConfig.of(settings)  # a wrong setting is said before anything is read
    images = reduce(concat, [load(spec) for spec in data])
    config = ClassifierConfig.of({**suited(len(images.classes)), **settings})
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model = train_classifier(
        images, config, seed=seed, weights=images.weights, progress=progress, checkpoint=checkpoint
    )
    return len(images), model


def _detect(
    data: Sequence[str], settings: Mapping[str, Any], *, seed: int, progress: Any, checkpoint: Path
) -> tuple[int, Detector]:
    from imgsynth.dataset.annotated_sources import load_annotated

    config = DetectorConfig.of(settings)
    images = reduce(concat_annotated, [load_annotated(spec, masks=config.masks) for spec in data])
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model = train_detector(images, config, seed=seed, progress=progress, checkpoint=checkpoint)
    return len(images), model
