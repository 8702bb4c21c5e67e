"""One training of a study: an arm, a net, sizes, a seed. Each is a pure function of its content, cached under
it.

A cell leaves `KEY/` (the model: `imgsynth score` reads it), `KEY.json` (what it was, written last: the
commit) and, after the one pass over the test images, `KEY.TEST.npz` (predictions). KEY hashes training
images, classes, shares, learner settings, seed, the cell it goes on from, and the versions and sources of
what trains; TEST hashes the test images. So an interrupted study goes on from its finished cells, and a
changed setting never meets an old result.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import I64
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.errors import DataError
from imgsynth.study.task import Learner, Pool, Task
from imgsynth.version import __version__

FORMAT = 2  # raise it when a cell's meaning changes


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


@dataclass(frozen=True)
class Part:
    """Some images of a pool, and which share of what training draws they are to make up (None: by number)."""

    pool: Pool
    rows: I64
    share: float | None = None
    real: bool = False

    def key(self) -> bytes:
        """What of it decides the weights of the model."""
        said = repr((self.pool.digest, self.pool.classes, self.share)).encode()
        return said + np.ascontiguousarray(self.rows, "<i8").tobytes()

    def weights(self) -> NDArray[np.float64] | None:
        """Weights (n,) of its images, where the pool has any."""
        if not getattr(self.pool, "weighted", False):
            return None
        return np.asarray(self.pool.read().weights[self.rows], np.float64)


@dataclass(frozen=True)
class Cell:
    """One training."""

    arm: str
    net: str
    size: int  # images of the kind that the arm's curve counts
    seed: int
    parts: tuple[Part, ...]  # none of them empty; the real one first
    settings: str  # canonical JSON of Learner.describe()
    start: Cell | None = None  # the training whose model this one goes on from
    sources: str = field(default_factory=learner_sources)  # of the process that planned it

    @property
    def images(self) -> int:
        """How many training images."""
        return sum(len(part.rows) for part in self.parts)

    @property
    def real(self) -> int:
        """How many real images its model has seen."""
        return self._seen(True)

    @property
    def synthetic(self) -> int:
        """How many synthetic images its model has seen."""
        return self._seen(False)

    def _seen(self, real: bool) -> int:
        before = 0 if self.start is None else self.start._seen(real)
        return before + sum(len(part.rows) for part in self.parts if part.real == real)

    def key(self) -> str:
        """Hash (20 hex digits) of everything that decides the weights."""
        before = None if self.start is None else self.start.key()
        said = [FORMAT, __version__, self.sources, self.settings, self.seed, before]
        h = hashlib.sha256(json.dumps(said).encode())
        for part in self.parts:
            h.update(hashlib.sha256(part.key()).digest())
        return h.hexdigest()[:20]

    def data(self, task: Task) -> Any:
        """The training images, part after part."""
        joined = None
        for part in self.parts:
            data = part.pool.read().subset(part.rows)
            joined = data if joined is None else task.join(joined, data)
        return joined

    def weights(self) -> NDArray[np.float64] | None:
        """Relative chance (n,) of each row of `data`, where the parts are to make up shares or their images
        have weights of their own.
        """
        shared = len(self.parts) > 1 and all(part.share is not None for part in self.parts)
        own = [part.weights() for part in self.parts]
        if not shared and all(weights is None for weights in own):
            return None
        chances = []
        for part, weights in zip(self.parts, own, strict=True):
            of_it = (part.share or 0.0) if shared else float(len(part.rows))
            if weights is None or not weights.sum() > 0:
                chances.append(np.full(len(part.rows), of_it / len(part.rows)))
            else:
                chances.append(of_it * (weights / weights.sum()))
        return np.concatenate(chances)


def finished(folder: Path, cell: Cell) -> bool:
    """Whether the cell's record, which is written last, is there and whole."""
    try:
        json.loads((folder / f"{cell.key()}.json").read_bytes())
    except (OSError, ValueError):
        return False
    return (folder / cell.key()).is_dir()


def train_cell(
    task: Task, learner: Learner, cell: Cell, validation: Pool, folder: Path, progress: Any
) -> None:
    """Train one cell and commit model and record to `folder`."""
    key = cell.key()
    checkpoint = folder / f"{key}.checkpoint"
    start = None if cell.start is None else folder / cell.start.key()
    model = learner.train(cell.data(task), cell.seed, cell.weights(), progress, checkpoint, start)
    seen = validation.read()
    table = task.table(learner.predict(model, seen.images), seen)
    score = float(table.headline(np.ones((1, len(seen)), np.float32))[0])
    record = {
        "arm": cell.arm,
        "net": cell.net,
        "size": cell.size,
        "seed": cell.seed,
        "images": cell.images,
        "learner": json.loads(cell.settings),
        "imgsynth": __version__,
        f"validation_{task.headline}": score,
    }
    with disk_errors(folder):
        model.save(folder / key)
        replace(folder / f"{key}.json", (json.dumps(record, indent=1) + "\n").encode())
        checkpoint.unlink(missing_ok=True)


def score_cell(task: Task, learner: Learner, cell: Cell, test: Pool, folder: Path, progress: Any) -> None:
    """Commit what the cell's model says of the test images."""
    found = learner.predict(learner.load(folder / cell.key()), test.read().images)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = task.pack(found)
    np.savez_compressed(buffer, **arrays)
    with disk_errors(folder):
        replace(predictions_path(folder, cell, test), buffer.getvalue())


def predictions_path(folder: Path, cell: Cell, test: Pool) -> Path:
    """Where `score_cell` puts the predictions."""
    return folder / f"{cell.key()}.{test.digest[:12]}.npz"


def read_predictions(task: Task, folder: Path, cell: Cell, test: Pool) -> Any:
    """What `score_cell` wrote.

    Raises:
        DataError: the file is damaged.
    """
    path = predictions_path(folder, cell, test)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return task.unpack(dict(arrays))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not readable predictions ({error}); delete the file to have it made again"
        ) from None


def read_record(folder: Path, cell: Cell) -> dict[str, Any]:
    """What `train_cell` wrote about the cell."""
    record: dict[str, Any] = json.loads((folder / f"{cell.key()}.json").read_text(encoding="utf-8"))
    return record
