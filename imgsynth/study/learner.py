"""The classifier as a study uses it, behind the protocol by which tests put a small one in its place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import ModelError
from imgsynth.study.cells import Model
from imgsynth.study.spec import Study
from imgsynth.yamlfile import nearest

CHECKPOINT_FROM = 2000  # steps; shorter trainings are quicker made again than saved


@dataclass(frozen=True)
class ClassifyLearner:
    """`imgsynth.learn` behind the `Learner` protocol. `config` is a ClassifierConfig; picklable."""

    config: Any

    @property
    def steps(self) -> int:
        """Optimiser steps of every cell."""
        return int(self.config.steps)

    @property
    def threads(self) -> int:
        """Threads of one training; part of the settings, since their number changes the last bits."""
        return int(self.config.threads)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return asdict(self.config)

    def train(
        self, data: LabelledImages, seed: int, weights: NDArray[Any] | None, progress: Any, checkpoint: Path
    ) -> Model:
        """Train; a long training saves its state to `checkpoint` and goes on from it."""
        from imgsynth.learn.trainer import train_classifier

        kept = checkpoint if self.steps >= CHECKPOINT_FROM else None
        return train_classifier(
            data, self.config, seed=seed, weights=weights, progress=progress, checkpoint=kept
        )

    def load(self, path: Path) -> Model:
        """Read a saved classifier."""
        from imgsynth.learn.classify import Classifier

        return Classifier.load(path)

    def predict(self, model: Model, images: U8) -> F32:
        """Class probabilities (n, C), on as many threads wherever it runs: no bit depends on --workers."""
        from imgsynth.learn.trainer import threads

        with threads(self.threads):
            return np.asarray(model.predict(images), np.float32)


def classify_learner(study: Study) -> ClassifyLearner:
    """The learner that a study asks for (loads torch).

    Raises:
        SceneError: an unknown or unfit setting, at its line.
    """
    from imgsynth.learn.classify import ClassifierConfig

    given = study.spec.learner
    names = [f.name for f in fields(ClassifierConfig)]
    for key in given:
        if key not in names:
            raise study.error(f"unknown key{nearest(str(key), names)}", "learner", key)
    try:
        return ClassifyLearner(ClassifierConfig.of(given))
    except ModelError as error:
        said = str(error).removeprefix("classifier: ")
        name = said.partition(":")[0]
        raise study.error(said, "learner", *([name] if name in given else [])) from None
