"""The gate: every sample is judged, and what is dropped has a reason.

    gate = Gate.fit(training, held_out, seed=0)
    seen = None
    for images, labels in shards:                      # in the order of their indices
        verdicts, seen = gate.judge(images, labels, earlier=seen)

Label and memorization are judged for each sample alone; near-duplicates against the samples kept before it.
So verdicts depend on the samples and their order, not on where shards are cut. After a stop, `gate.marks(kept
images)` gives `earlier` back from what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F32, F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError
from imgsynth.gate.agreement import Agreement
from imgsynth.gate.duplicates import Nearness
from imgsynth.gate.memory import Audit, Memory, fit_images
from imgsynth.gate.signature import Look

REASONS: Mapping[str, str] = {
    "label": "classifiers that did not see its nearest real image doubt its label",
    "copy": "it is nearer to a training image than held-out images allow",
    "duplicate": "it repeats a sample before it",
}


@dataclass(frozen=True)
class GateConfig:
    """How strict the gate is; each share is of innocent samples, measured on real images.

    Raises:
        DataError: on construction, for a value out of range.
    """

    label_false_drop: float = 0.02  # of right labels
    copy_false_alarm: float = 0.01  # of images that are no copies
    duplicate_false_drop: float = 0.005  # of images that repeat nothing
    folds: int = 3
    steps: int | None = None  # of each judge's training; None: the learner's own
    trust: float | None = 0.9  # share of labels right beforehand: sets the confidence, not what is dropped

    def __post_init__(self) -> None:
        for name in ("label_false_drop", "copy_false_alarm", "duplicate_false_drop"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise DataError(f"gate: {name}: expected a share between 0 and 0.5, got {value}")
        if self.folds < 2 or (self.steps is not None and self.steps < 1):
            raise DataError(
                f"gate: expected at least 2 folds and 1 step, got {self.folds} folds, {self.steps} steps"
            )
        if self.trust is not None and not 0 < self.trust <= 1:
            raise DataError(f"gate: trust: expected a share in (0, 1], got {self.trust}")

    @staticmethod
    def of(values: Mapping[str, Any]) -> GateConfig:
        """A configuration from plain values.

        Raises:
            DataError: an unknown name (with the nearest known one) or a value out of range.
        """
        from difflib import get_close_matches

        known = [f.name for f in fields(GateConfig)]
        for name in values:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
                raise DataError(f"gate: unknown setting {name!r}{hint}")
        return GateConfig(**values)


@dataclass(frozen=True)
class Verdicts:
    """What the gate says of n samples."""

    keep: NDArray[np.bool_]  # (n,)
    reasons: NDArray[np.object_]  # (n,) "" where kept, else a key of REASONS (the first that applies)
    scores: dict[str, F64]  # each (n,); see Gate.judge

    def counts(self) -> dict[str, int]:
        """Samples judged, kept, and dropped for each reason."""
        dropped = {name: int(np.sum(self.reasons == name)) for name in REASONS}
        return {"judged": len(self.keep), "kept": int(self.keep.sum()), **dropped}


@dataclass(frozen=True)
class Gate:
    """Judges of labels, the memorization audit (None without held-out images) and what counts as near."""

    config: GateConfig
    agreement: Agreement
    memory: Memory | None
    nearness: Nearness
    training: F32  # (m, K) marks of the training images

    @staticmethod
    def fit(
        training: LabelledImages,
        held_out: LabelledImages | None = None,
        config: GateConfig | None = None,
        *,
        seed: int = 0,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> Gate:
        """Learn the gate from real images.

        Args:
            training: real images that the generator was trained on, all of them, with groups where images
                come in tracks.
            held_out: real images of the same kind that the generator never saw. Without them nothing can be
                said about copies, and nothing is.
            config: how strict.
            seed: of folds, judges and subsets.
            progress: called while the judges train, with (steps done, steps in all, loss).

        Raises:
            DataError: images that do not fit each other, or too few.
        """
        config = config or GateConfig()
        look = Look.fit(training.images, seed)
        memory = None
        if held_out is not None:
            held = held_out.fitted(training.size, training.channels)
            memory = Memory.fit(training, held, false_alarm=config.copy_false_alarm, seed=seed, look=look)
        agreement = Agreement.fit(
            training,
            folds=config.folds,
            steps=config.steps,
            false_drop=config.label_false_drop,
            trust=config.trust,
            seed=seed,
            progress=progress,
        )
        nearness = Nearness.fit(training, look, false_drop=config.duplicate_false_drop, seed=seed)
        marks = memory.training if memory is not None else look.marks(training.images)
        return Gate(config, agreement, memory, nearness, marks)

    def judge(
        self,
        images: U8,
        labels: ArrayLike,
        *,
        parents: ArrayLike | None = None,
        earlier: F32 | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Verdicts, F32]:
        """Judge samples in the order of their indices.

        Args:
            images: (n, H, W, 1 or 3) uint8.
            labels: (n,) index into the training classes.
            parents: (n,) row of the training image that each was made from, −1 for none; None: none known.
            earlier: what the call before returned, or `marks` of the samples kept before these.
            progress: called with (images done, images in all).

        Returns:
            The verdicts, and what to hand to the next call as `earlier`. Scores: `confidence` of the label,
            calibrated; `to_training`, distance to the nearest training image; `duplicate`, distance to the
            nearest sample kept before (inf: none, or not measured as it was dropped already); with held-out
            images also `to_held_out`, `copy` (log ratio of the two) and `copy_p`, how often an innocent image
            scores as low.

        Raises:
            DataError: anything but images, labels or parents out of range.
        """
        y = self._labels(images, labels)
        audit, nearest, near = self._near(images, progress)
        of = nearest if parents is None else self._parents(parents, nearest)
        confidence, agreed = self.agreement.judge(images, y, self.agreement.fold[of])
        copied = np.zeros(len(y), bool) if audit is None else audit.copy
        able = agreed & ~copied
        repeats, duplicate, seen = self.nearness.first_of_kind(images, y, able, earlier)
        reasons = np.full(len(y), "", object)
        reasons[repeats >= 0] = "duplicate"
        reasons[copied] = "copy"
        reasons[~agreed] = "label"
        scores = {
            "confidence": confidence,
            "to_training": near.astype(np.float64),
            "duplicate": duplicate.astype(np.float64),
        }
        if audit is not None:
            scores |= {
                "to_held_out": audit.to_held_out.astype(np.float64),
                "copy": audit.score,
                "copy_p": audit.p,
            }
        return Verdicts(able & (repeats < 0), reasons, scores), seen

    def marks(self, images: U8) -> F32:
        """What near-duplicates of these samples are found by: `earlier` for samples that come after them."""
        look = self.nearness.look
        return look.marks(fit_images(look, images))

    def record(self) -> dict[str, Any]:
        """How samples were judged, as plain JSON values, for the manifest of what was kept."""
        return {
            "config": asdict(self.config),
            "reasons": dict(REASONS),
            "labels": self.agreement.to_record(),
            "memorization": None if self.memory is None else self.memory.record(),
            "duplicates": {
                "false_drop": self.nearness.false_drop,
                "thresholds": dict(
                    zip(self.agreement.classes, map(float, self.nearness.thresholds), strict=True)
                ),
                "order": "the first by index stays",
            },
        }

    def _near(self, images: U8, progress: Any) -> tuple[Audit | None, I64, F32]:
        if self.memory is not None:
            audit = self.memory.audit(images, progress=progress)
            return audit, audit.nearest, audit.to_training
        look = self.nearness.look
        found = look.nearest(fit_images(look, images), self.training, progress=progress)
        return None, found.row[:, 0], found.distance[:, 0]

    def _labels(self, images: U8, labels: ArrayLike) -> I64:
        y, k = np.asarray(labels), len(self.agreement.classes)
        if y.shape != (len(images),) or (
            len(y) and (y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= k)
        ):
            raise DataError(f"gate: expected {len(images)} labels of 0 to {k - 1}, got {y.dtype} {y.shape}")
        return y.astype(np.int64)

    def _parents(self, parents: ArrayLike, nearest: I64) -> I64:
        rows, m = np.asarray(parents), len(self.training)
        if rows.shape != nearest.shape or rows.dtype.kind not in "iu" or (len(rows) and rows.max() >= m):
            raise DataError(
                f"gate: expected {len(nearest)} parents, rows of {m} training images, got {rows.shape}"
            )
        return np.where(rows >= 0, rows, nearest).astype(np.int64)
