"""What a study needs of a task, so that its engine knows neither class labels nor boxes.

`study.classify` and `study.detect` are the tasks; a task is stateless and picklable. Data is whatever the
task reads (`LabelledImages`, `AnnotatedImages`); predictions are whatever its models return.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I64


class Data(Protocol):
    """A set of images with labels, as the engine handles it."""

    classes: tuple[str, ...]
    groups: NDArray[Any] | None
    images: Any
    name: str
    notes: str

    def __len__(self) -> int: ...

    def subset(self, index: Any, name: str | None = None) -> Self:
        """Some of the images, with what belongs to them."""
        ...

    def counts(self) -> I64:
        """Images (or objects) of each class, (K,)."""
        ...

    def digest(self) -> str:
        """SHA-256 of everything that training sees."""
        ...


class Pool(Protocol):
    """A set where every worker can read it: picklable, and small to send."""

    @property
    def digest(self) -> str:
        """Hash of the content."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        ...

    def read(self) -> Any:
        """The set."""
        ...


class Table(Protocol):
    """One model's answers to a set of images, ready to be scored under any weights of the images."""

    def figures(self, weights: F32) -> Mapping[str, NDArray[Any]]:
        """Every score of the task, (b,) each, and `per_class` (b, K), for weights (b, n); nan where a score
        has nothing to stand on.
        """
        ...

    def headline(self, weights: F32) -> NDArray[Any]:
        """The task's headline score alone, (b,)."""
        ...


@dataclass(frozen=True)
class ClassPair:
    """The headline of each class in one arm less that in another: (K,), its replicates (B, K), and their
    degrees of freedom (K,).
    """

    delta: F64
    star: F64
    freedom: F64


class Model(Protocol):
    """What a study needs of a trained model."""

    def save(self, folder: Path) -> None:
        """Write the model to a folder."""
        ...


class Learner(Protocol):
    """How a study trains and reloads: those of `study.learner`, or a small one in tests. Picklable."""

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        ...

    @property
    def threads(self) -> int:
        """Threads that one training uses."""
        ...

    def describe(self) -> dict[str, Any]:
        """All settings as plain values: part of the cell's key and of the report."""
        ...

    def phase(self, steps: int, changes: Mapping[str, Any]) -> Learner:
        """The same learner for a part of a training: so many steps, some settings changed."""
        ...

    def train(
        self,
        data: Any,
        seed: int,
        weights: NDArray[Any] | None,
        progress: Any,
        checkpoint: Path,
        start: Path | None,
    ) -> Any:
        """Train; `weights` (n,) are chances of the images; calls progress(steps done, steps in all, …).

        `start` is the folder of a saved model to go on from.
        """
        ...

    def load(self, path: Path) -> Any:
        """Read back what `Model.save` wrote."""
        ...

    def predict(self, model: Any, images: Any) -> Any:
        """What the model says of the images (`Data.images`)."""
        ...


class Task(Protocol):
    """Reading, joining and scoring the data of one kind of task."""

    @property
    def name(self) -> str:
        """`classify`, `detect` or `segment`."""
        ...

    @property
    def headline(self) -> str:
        """The score that verdicts, curves and differences are about; 1 is perfect."""
        ...

    @property
    def scores(self) -> Mapping[str, str]:
        """Score → what to call it in a report; the headline first."""
        ...

    @property
    def held_out(self) -> int:
        """Synthetic images at most that models of real images are tested on."""
        ...

    def load(self, spec: str) -> Any:
        """Read DATA."""
        ...

    def conform(self, data: Any, model: Any) -> tuple[Any, str]:
        """`data` with the classes and in the form of `model`, and a note on what was changed, or ""."""
        ...

    def form(self, data: Any) -> dict[str, Any]:
        """What the images of a set look like, for results.json."""
        ...

    def fingerprints(self, data: Any) -> Sequence[Hashable]:
        """(n,) what tells that two images are the same, by content."""
        ...

    def strata(self, data: Any) -> I64:
        """(n,) a class for each image, by which subsets are stratified."""
        ...

    def join(self, a: Any, b: Any) -> Any:
        """`a` followed by `b`."""
        ...

    def pool(self, folder: Path, name: str, data: Any) -> Pool:
        """Put a set where workers can read it."""
        ...

    def pack(self, predictions: Any) -> dict[str, NDArray[Any]]:
        """Predictions as plain arrays."""
        ...

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> Any:
        """Predictions again; KeyError or ValueError where the arrays are none."""
        ...

    def table(self, predictions: Any, data: Any) -> Table:
        """Answers beside the truth."""
        ...

    def chance(self, data: Any) -> float:
        """The headline of a model that has learned nothing."""
        ...

    def deltas(self, a: Sequence[Any], b: Sequence[Any], data: Any, measured: ClassPair) -> list[Any]:
        """The headline of each class in arm a (a table a seed) less that in arm b, with p and q."""
        ...

    def extras(self, predictions: Sequence[Any], data: Any) -> dict[str, Any]:
        """More of an arm (over its seeds) for results.json, such as a confusion matrix."""
        ...
