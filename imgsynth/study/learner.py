"""The learners as a study uses them, behind the protocol by which tests put small ones in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32
from imgsynth.errors import ModelError
from imgsynth.study.spec import Study
from imgsynth.study.task import Learner
from imgsynth.yamlfile import nearest

CHECKPOINT_FROM = 2000  # steps of a classifier; shorter trainings are quicker made again than saved
WEIGHTS = "model.safetensors"  # within a saved model
DEFAULT_NET = "default"


@dataclass(frozen=True)
class _Configured:
    """What learners have in common: a configuration of `imgsynth.learn`."""

    config: Any

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        return int(self.config.steps)

    @property
    def threads(self) -> int:
        """Threads of one training; part of the settings, since their number changes the last bits."""
        return int(self.config.threads)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return asdict(self.config)

    def phase(self, steps: int, changes: Mapping[str, Any]) -> Self:
        """The same for so many steps, some settings changed."""
        return replace(self, config=replace(self.config, **{**changes, "steps": steps}))


@dataclass(frozen=True)
class ClassifyLearner(_Configured):
    """The classifier of `imgsynth.learn` as a `Learner`. `config` is a ClassifierConfig; picklable."""

    def train(
        self,
        data: Any,
        seed: int,
        weights: NDArray[Any] | None,
        progress: Any,
        checkpoint: Path,
        start: Path | None,
    ) -> Any:
        """Train; a long training saves its state to `checkpoint` and goes on from it."""
        from imgsynth.learn.trainer import train_classifier

        kept = checkpoint if self.steps >= CHECKPOINT_FROM else None
        config = _from(self.config, start)
        return train_classifier(data, config, seed=seed, weights=weights, progress=progress, checkpoint=kept)

    def load(self, path: Path) -> Any:
        """Read a saved classifier."""
        from imgsynth.learn.classify import Classifier

        return Classifier.load(path)

    def predict(self, model: Any, images: Any) -> F32:
        """Class probabilities (n, K), on as many threads wherever it runs: no bit depends on --workers."""
        from imgsynth.learn.loop import threads

        with threads(self.threads):
            return np.asarray(model.predict(images), np.float32)


@dataclass(frozen=True)
class DetectLearner(_Configured):
    """The detector of `imgsynth.learn`, of boxes or masks. `config` is a DetectorConfig; picklable."""

    def train(
        self,
        data: Any,
        seed: int,
        weights: NDArray[Any] | None,
        progress: Any,
        checkpoint: Path,
        start: Path | None,
    ) -> Any:
        """Train; the state goes to `checkpoint` now and then, and training goes on from it."""
        from imgsynth.learn.detect_trainer import train_detector

        config = _from(self.config, start)
        return train_detector(
            data, config, seed=seed, weights=weights, progress=progress, checkpoint=checkpoint
        )

    def load(self, path: Path) -> Any:
        """Read a saved detector."""
        from imgsynth.learn.detect import Detector

        return Detector.load(path)

    def predict(self, model: Any, images: Any) -> Any:
        """What the model finds, on as many threads wherever it runs."""
        from imgsynth.learn.loop import threads

        with threads(self.threads):
            return model.predict(images)


def _from(config: Any, start: Path | None) -> Any:
    return config if start is None else replace(config, weights=str(start / WEIGHTS))


def learners(study: Study) -> dict[str, Learner]:
    """The learner of each net that a study asks for (loads torch); the first is the headline's.

    Raises:
        SceneError: an unknown or unfit setting, at its line.
    """
    spec = study.spec
    config, make, fixed = _kind(spec.task)
    nets = spec.nets or {str(spec.learner.get("net", DEFAULT_NET)): {}}
    made: dict[str, Learner] = {}
    for name, settings in nets.items():
        given = [((), fixed), (("learner",), spec.learner), (("nets", name), settings)]
        made[name] = make(_config(study, config, given))
        if spec.finetune.learner:
            _config(study, config, [*given, (("finetune", "learner"), spec.finetune.learner)])
    return made


def _kind(task: str) -> tuple[Any, Callable[[Any], Learner], dict[str, Any]]:
    """The task's configuration and learner, and settings that a study fixes unless it says otherwise."""
    if task == "classify":
        from imgsynth.learn.classify import ClassifierConfig

        return ClassifierConfig, ClassifyLearner, {}
    from imgsynth.learn.detect import DetectorConfig

    # A thread each: two trainings side by side are done sooner than one after the other on two threads.
    return DetectorConfig, DetectLearner, {"masks": task == "segment", "threads": 1}


def _config(study: Study, kind: Any, given: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]) -> Any:
    """A configuration of settings, later ones over earlier ones."""
    names = [f.name for f in fields(kind)]
    settings: dict[str, Any] = {}
    came: dict[str, tuple[str, ...]] = {}
    for where, part in given:
        for key, value in part.items():
            if key not in names:
                raise study.error(f"unknown key{nearest(str(key), names)}", *where, key)
            settings[key], came[key] = value, where
    if settings.get("masks", False) != (study.spec.task == "segment"):
        raise study.error("masks are what task: segment is for", *came["masks"], "masks")
    try:
        return kind.of(settings)
    except ModelError as error:
        said = str(error).partition(": ")[2]
        name, _, rest = said.partition(": ")
        if came.get(name):
            raise study.error(rest, *came[name], name) from None
        raise study.error(said, "learner") from None
