"""One training of a study: an arm, a size, a seed. Each is a pure function of its content, and cached under
it.

A cell leaves `KEY/` (the model: `imgsynth score` reads it), `KEY.json` (what it was, written last: the
commit) and, after the one pass over the test images, `KEY.TEST.npz` (class probabilities). KEY hashes
training images, classes, learner settings, seed, and the versions and sources of what trains; TEST hashes the
test images. So an interrupted study goes on from its finished cells, and a changed setting never meets an old
result.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, I64, U8
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.dataset.labelled import LabelledImages, concat
from imgsynth.errors import DataError
from imgsynth.version import __version__

FORMAT = 1  # raise it when a cell's meaning changes


class Model(Protocol):
    """What a study needs of a trained classifier."""

    def predict(self, images: U8) -> F32:
        """Class probabilities (n, C) of images (n, H, W, channels)."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model to a folder."""
        ...


class Learner(Protocol):
    """How a study trains and reloads: `study.learner.ClassifyLearner`, or a small one in tests. Picklable."""

    @property
    def steps(self) -> int:
        """Optimiser steps of every cell."""
        ...

    @property
    def threads(self) -> int:
        """Threads that one training uses."""
        ...

    def describe(self) -> dict[str, Any]:
        """All settings as plain values: part of the cell's key and of the report."""
        ...

    def train(
        self, data: LabelledImages, seed: int, weights: NDArray[Any] | None, progress: Any, checkpoint: Path
    ) -> Model:
        """Train; `weights` (n,) are chances of the rows; calls progress(steps done, steps in all, …)."""
        ...

    def load(self, path: Path) -> Model:
        """Read back what `Model.save` wrote."""
        ...

    def predict(self, model: Model, images: U8) -> F32:
        """Class probabilities (n, C)."""
        ...


@dataclass(frozen=True)
class Pool:
    """Images of the study on disk, mapped by every worker rather than sent to each."""

    path: Path
    digest: str
    classes: tuple[str, ...]

    def read(self) -> LabelledImages:
        """The whole pool, mapped."""
        return _mapped(self.path, self.digest, self.classes)


def write_pool(folder: Path, name: str, data: LabelledImages) -> Pool:
    """Put images and labels where workers can map them."""
    pool = Pool(folder / name, data.digest(), data.classes)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.images.npy", data.images)
        np.save(folder / f"{name}.labels.npy", data.labels)
    return pool


@lru_cache(maxsize=8)
def _mapped(path: Path, digest: str, classes: tuple[str, ...]) -> LabelledImages:
    images = np.load(f"{path}.images.npy", mmap_mode="c")  # copy on write: torch warns of read-only arrays
    return LabelledImages(images, np.load(f"{path}.labels.npy"), classes, None, path.name)


@dataclass(frozen=True)
class Cell:
    """One training: rows of the real and of the synthetic pool (either may be empty), settings, seed."""

    arm: str
    size: int  # images of the arm that the scaling curve counts; all of them for the arms themselves
    seed: int
    real: Pool | None
    real_rows: I64
    synthetic: Pool | None
    synthetic_rows: I64
    settings: str  # canonical JSON of Learner.describe()
    real_share: float | None = None  # of what training draws; None: every image equally often

    @property
    def images(self) -> int:
        """How many training images."""
        return len(self.real_rows) + len(self.synthetic_rows)

    def key(self) -> str:
        """Hash (20 hex digits) of everything that decides the weights."""
        h = hashlib.sha256()
        h.update(
            json.dumps(
                [FORMAT, __version__, learner_sources(), self.settings, self.seed, self.real_share]
            ).encode()
        )
        for pool, rows in ((self.real, self.real_rows), (self.synthetic, self.synthetic_rows)):
            used = pool is not None and len(rows) > 0
            h.update(repr((pool.digest, pool.classes) if used and pool else None).encode())
            h.update(np.ascontiguousarray(rows, "<i8").tobytes())
        return h.hexdigest()[:20]

    def data(self) -> LabelledImages:
        """The training images: real first."""
        parts = [
            pool.read().subset(rows)
            for pool, rows in ((self.real, self.real_rows), (self.synthetic, self.synthetic_rows))
            if pool is not None and len(rows)
        ]
        return parts[0] if len(parts) == 1 else concat(parts[0], parts[1])

    def weights(self) -> NDArray[np.float64] | None:
        """Relative chance (n,) of each row of `data`, where the real ones are to make up a share."""
        share, real, synthetic = self.real_share, len(self.real_rows), len(self.synthetic_rows)
        if share is None or not real or not synthetic:
            return None
        return np.repeat([share / real, (1 - share) / synthetic], [real, synthetic])


@lru_cache(maxsize=1)
def learner_sources() -> str:
    """Hash of the sources under imgsynth/learn and of torch's version: either may change the weights."""
    from importlib.metadata import PackageNotFoundError, version

    h = hashlib.sha256()
    for file in sorted((Path(__file__).parent.parent / "learn").glob("*.py")):
        h.update(file.name.encode() + b"\0" + file.read_bytes())
    try:
        h.update(version("torch").encode())
    except PackageNotFoundError:  # a learner of the tests needs none
        h.update(b"none")
    h.update(platform.machine().encode())  # other instructions, other rounding
    return h.hexdigest()[:16]


def finished(folder: Path, cell: Cell) -> bool:
    """Whether the cell's record, which is written last, is there and whole."""
    try:
        json.loads((folder / f"{cell.key()}.json").read_bytes())
    except (OSError, ValueError):
        return False
    return (folder / cell.key()).is_dir()


def train_cell(learner: Learner, cell: Cell, validation: Pool, folder: Path, progress: Any) -> None:
    """Train one cell and commit model and record to `folder`."""
    key = cell.key()
    checkpoint = folder / f"{key}.checkpoint"
    model = learner.train(cell.data(), cell.seed, cell.weights(), progress, checkpoint)
    seen = validation.read()
    right = learner.predict(model, seen.images).argmax(axis=1) == seen.labels
    record = {
        "arm": cell.arm,
        "size": cell.size,
        "seed": cell.seed,
        "images": cell.images,
        "learner": json.loads(cell.settings),
        "imgsynth": __version__,
        "validation_accuracy": float(right.mean()),
    }
    with disk_errors(folder):
        model.save(folder / key)
        replace(folder / f"{key}.json", (json.dumps(record, indent=1) + "\n").encode())
        checkpoint.unlink(missing_ok=True)


def score_cell(learner: Learner, cell: Cell, test: Pool, folder: Path, progress: Any) -> None:
    """Commit the cell's class probabilities on the test images."""
    data = test.read()
    probabilities = learner.predict(learner.load(folder / cell.key()), data.images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=probabilities, labels=data.labels)
    with disk_errors(folder):
        replace(predictions_path(folder, cell, test), buffer.getvalue())


def predictions_path(folder: Path, cell: Cell, test: Pool) -> Path:
    """Where `score_cell` puts the probabilities."""
    return folder / f"{cell.key()}.{test.digest[:12]}.npz"


def read_predictions(folder: Path, cell: Cell, test: Pool) -> F32:
    """(n, C) class probabilities on the test images.

    Raises:
        DataError: the file is damaged.
    """
    path = predictions_path(folder, cell, test)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            probabilities: F32 = arrays["probabilities"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not readable predictions ({error}); delete the file to have it made again"
        ) from None
    return probabilities


def read_record(folder: Path, cell: Cell) -> dict[str, Any]:
    """What `train_cell` wrote about the cell."""
    record: dict[str, Any] = json.loads((folder / f"{cell.key()}.json").read_text(encoding="utf-8"))
    return record
