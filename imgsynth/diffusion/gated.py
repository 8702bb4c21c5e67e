"""The quality gate inside generation: samples that the judges of `imgsynth.gate` drop are drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imgsynth.batch import F32, F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.diffusion.sample import Model, Samples, Sampling, sample
from imgsynth.diffusion.verdict import Filter, Verdict
from imgsynth.errors import DataError
from imgsynth.gate.judge import REASONS, Gate, GateConfig

UNSURE = "unsure"
TRIAL = 1_000_000  # attempt that no dataset reaches: its noise is for measuring
TRIALS = 64  # of each class


@dataclass
class Gated:
    """A gate as a filter: labels doubted by judges that did not train on the nearest real image, copies of
    training images, repetitions of earlier frames.
    """

    gate: Gate
    seen: F32 | None = None  # marks of the frames accepted so far
    reasons: tuple[str, ...] = tuple(REASONS)
    remembers: bool = True

    def __call__(self, samples: Samples, beside: U8 | None = None) -> Verdict:
        """The gate's verdict, in the order of the samples."""
        earlier = self._with(beside) if beside is not None else self.seen
        verdicts, _ = self.gate.judge(samples.images, samples.labels, earlier=earlier)
        scores = {name: _finite(values) for name, values in verdicts.scores.items() if name != "confidence"}
        return Verdict(verdicts.reasons, scores, verdicts.scores["confidence"])

    def accept(self, images: U8, labels: I64) -> None:
        """Later frames may not repeat these."""
        self.seen = self._with(images)

    def describe(self) -> dict[str, Any]:
        """The gate's record."""
        return {"gate": self.gate.record()}

    def _with(self, images: U8) -> F32:
        marks = self.gate.marks(images)
        return marks if self.seen is None else np.concatenate([self.seen, marks])


@dataclass
class Surest:
    """Keeps of each class the share of samples with the greatest confidence.

    The threshold of a class is measured beforehand on samples with noise of their own, so it depends on no
    frame.
    """

    inner: Filter
    share: float
    thresholds: F64  # (K,)
    remembers: bool = field(init=False)
    reasons: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.remembers, self.reasons = self.inner.remembers, (*self.inner.reasons, UNSURE)

    @staticmethod
    def fit(
        inner: Filter, share: float, model: Model, *, seed: int, settings: Sampling, **sampler: Any
    ) -> Surest:
        """Measure the thresholds on 64 samples of each class.

        Raises:
            DataError: a share outside (0, 1), or a filter that gives no confidence.
        """
        if not 0 < share < 1:
            raise DataError(f"keep share: expected a number between 0 and 1, got {share}")
        k = len(model.classes)
        labels = np.repeat(np.arange(k), TRIALS)
        tried = sample(
            model, labels, seed=seed, indices=np.arange(len(labels)),
            attempts=np.full(len(labels), TRIAL), settings=settings, **sampler,
        )  # fmt: skip
        confidence = inner(tried).confidence
        if confidence is None:
            raise DataError("keep share: this filter says nothing of how sure a label is")
        return Surest(inner, share, np.quantile(confidence.reshape(k, TRIALS), 1 - share, axis=1))

    def __call__(self, samples: Samples, beside: U8 | None = None) -> Verdict:
        """The inner verdict, and `unsure` where it kept what lies below its class's threshold."""
        verdict = self.inner(samples, beside)
        confidence = np.asarray(verdict.confidence, np.float64)
        below = (np.asarray(verdict.reason) == "") & (confidence < self.thresholds[samples.labels])
        reason = np.where(below, UNSURE, np.asarray(verdict.reason, object)).astype(object)
        return Verdict(reason, verdict.scores, verdict.confidence)

    def accept(self, images: U8, labels: I64) -> None:
        """Handed on."""
        self.inner.accept(images, labels)

    def describe(self) -> dict[str, Any]:
        """The inner filter's, the share and its thresholds."""
        return {
            **self.inner.describe(),
            "keep_share": self.share,
            "least_confidence": self.thresholds.tolist(),
        }


def fit_gate(
    model: Model,
    real: LabelledImages,
    held_out: LabelledImages | None,
    settings: Mapping[str, Any],
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> Gated:
    """A gate learnt from `real` images of the model's classes.

    Raises:
        DataError: images of other classes, or an unknown setting.
    """
    config = GateConfig.of(settings)
    real = _like(real, model)
    return Gated(
        Gate.fit(
            real, None if held_out is None else _like(held_out, model), config, seed=seed, progress=progress
        )
    )


def _like(data: LabelledImages, model: Model) -> LabelledImages:
    """The images at the model's size, its classes in the model's order."""
    return data.aligned(model.classes).fitted(model.size, model.channels)


def _finite(values: F64) -> F64:
    """What was not measured is NaN."""
    return np.where(np.isfinite(values), values, np.nan)
