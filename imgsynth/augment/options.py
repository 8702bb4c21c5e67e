"""What an augmentation is asked for: its options, its generators, its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.augment.arms import BASELINES
from imgsynth.augment.sources import SceneSource, Source
from imgsynth.errors import ImgsynthError, ModelError
from imgsynth.study.task import Learner


@dataclass(frozen=True)
class Options:
    """What an augmentation is asked for; see `imgsynth augment --help`."""

    real: str
    out: Path
    scenes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    validation: str | None = None
    test: str | None = None
    budget: int | None = None
    rounds: int = 3
    steps: int | None = None
    seeds: int = 3
    seed: int = 0
    floor: float = 0.25
    gate: bool = True
    long_tail: float | None = None
    ceiling: bool = False
    learner: tuple[str, ...] = ()  # KEY=VALUE
    workers: int | None = None
    resume: bool = False
    command: str | None = None


def check(options: Options) -> None:
    """Refuse what can be known to be wrong before anything is read.

    Raises:
        ImgsynthError: a folder that is not free, too few seeds, a share that is none.
    """
    out = options.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not options.resume:
        raise ImgsynthError(
            f"{out}: is not empty; choose another folder, or --resume to go on with the same augmentation"
        )
    if options.seeds < 2:
        raise ImgsynthError(
            f"--seeds: expected at least 2, got {options.seeds}: one training shows no scatter"
        )
    if options.ceiling and options.long_tail is None:
        raise ImgsynthError(
            "--ceiling: is of the images that --long-tail cuts away; say --long-tail 100, too"
        )
    if not 0 <= options.floor <= 1:
        raise ImgsynthError(f"--real-floor: expected a share from 0 to 1, got {options.floor:g}")


def sources_of(options: Options) -> list[Source]:
    """The generators that `scenes` and `models` name.

    Raises:
        ImgsynthError: one that cannot be read, or two of one name.
    """
    folder, seed = options.out / "generated", options.seed
    sources: list[Source] = [SceneSource(scene, folder, seed, options.workers) for scene in options.scenes]
    if options.models:
        from imgsynth.augment.models import ModelSource

        sources += [ModelSource(model, folder, seed, options.gate) for model in options.models]
    if len({source.name for source in sources}) < len(sources):
        twice = next(s.name for i, s in enumerate(sources) if s.name in [t.name for t in sources[:i]])
        raise ImgsynthError(
            f"two generators are called {twice!r}; give each once, and other folders other names"
        )
    return sources


def able_of(source: Source, classes: Sequence[str]) -> Any:
    """(K,) whether a source can make each class.

    Raises:
        ImgsynthError: it can make none.
    """
    known = set(source.classes())
    able = np.array([name in known for name in classes])
    if not able.any():
        theirs, ours = (", ".join(repr(c) for c in list(names)[:4]) for names in (source.classes(), classes))
        raise ImgsynthError(
            f"{source.name}: makes none of the classes, by name: it has {theirs} …, the real images "
            f"have {ours} …"
        )
    return able


def learner_of(options: Options, classes: int) -> Learner:
    """The classifier of every arm.

    Raises:
        ImgsynthError: a setting that is unknown, out of range, or the arms' own.
    """
    from imgsynth.learn.classify import ClassifierConfig, suited
    from imgsynth.study.learner import ClassifyLearner

    given = _settings(options.learner)
    if options.steps is not None:
        given["steps"] = options.steps
    try:
        config = ClassifierConfig.of({**suited(classes), **given})
    except ModelError as error:
        raise ImgsynthError(f"--learner: {str(error).removeprefix('classifier: ')}") from None
    learner: Learner = ClassifyLearner(config)
    return learner


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs, values as YAML reads them."""
    import yaml

    out: dict[str, Any] = {}
    for pair in given:
        key, mark, value = pair.partition("=")
        if not mark or not key:
            raise ImgsynthError(f"--learner: expected KEY=VALUE, got {pair!r}")
        if key in (taken := {k for arm in BASELINES for s in arm.settings for k in s.changes}):
            raise ImgsynthError(f"--learner: {key}: the arms set {', '.join(sorted(taken))} themselves")
        try:
            out[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ImgsynthError(f"--learner: {key}: expected a number or a word, got {value!r}") from None
    return out
