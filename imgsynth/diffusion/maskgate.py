"""The quality gate for samples with masks: doubted masks, copies and repetitions are drawn again.

As in `imgsynth.diffusion.gated`, with segmenters in place of classifiers: two judges learn from half of the
training images each, and a sample is judged by the one that did not learn from the nearest training image.
A mask's score is the share of the pixels that mask or judge calls an object on which they name the same
class. What is doubted scores lower than all but a stated share of the training masks do by the judge that
did not learn from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion.fidelity import semantic_of
from imgsynth.diffusion.mechanism import Mechanism
from imgsynth.diffusion.sample import Model, Samples
from imgsynth.diffusion.verdict import Verdict
from imgsynth.errors import DataError
from imgsynth.gate.calibration import conformal_threshold
from imgsynth.gate.duplicates import Nearness
from imgsynth.gate.judge import REASONS, GateConfig
from imgsynth.gate.memory import Memory, fit_images
from imgsynth.gate.signature import Look
from imgsynth.learn.semantic import Segmenter, SegmenterConfig, train_segmenter

JUDGES = 2
DOUBTED = "a segmenter that did not see its nearest real image sees other masks"
MEASURED = 2000  # training images of each fold that set the threshold


@dataclass
class MaskGated:
    """A gate over masks as a filter (`verdict.Filter`)."""

    mechanism: Mechanism  # how masks are read from samples
    judges: tuple[Segmenter, ...]
    look: Look
    marks: F32  # (m, K) of the training images; the judge of image i's fold is i % JUDGES
    memory: Memory | None
    nearness: Nearness
    least: float  # score below which a mask is doubted
    config: GateConfig
    seen: F32 | None = None
    reasons: tuple[str, ...] = tuple(REASONS)
    remembers: bool = True

    @staticmethod
    def fit(
        mechanism: Mechanism,
        real: Dataset,
        held_out: Dataset | None,
        settings: Mapping[str, Any],
        seed: int,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> MaskGated:
        """Learn the gate from the images and masks that the model was trained on.

        Args:
            mechanism: of the model.
            real: what it was trained on.
            held_out: images of the same kind that it never saw; without them copies are not sought.
            settings: of `GateConfig`; `steps` are those of each judge.
            seed: of judges and subsets.
            progress: called with (steps done, steps in all, loss).

        Raises:
            DataError: too few images, or an unknown setting.
        """
        config = GateConfig.of(settings)
        images = real.images()
        if len(images) < 10 * JUDGES:
            raise DataError(f"{real.root}: {len(images)} images are too few for judges of their masks")
        semantic = np.stack([real.semantic_mask(i) for i in range(len(real))]).astype(np.uint8)
        how = SegmenterConfig() if config.steps is None else SegmenterConfig(steps=config.steps)
        told = progress or (lambda done, total, loss: None)
        judges, scores = [], []
        for fold in range(JUDGES):
            others = np.arange(len(images)) % JUDGES != fold

            def said(done: int, total: int, loss: float, fold: int = fold) -> None:
                told(fold * total + done, JUDGES * total, loss)

            judge = train_segmenter(
                images[others], semantic[others], real.classes, how, seed=seed + fold,
                digest=real.manifest.sha256, progress=said,
            )  # fmt: skip
            own = np.flatnonzero(~others)[:MEASURED]
            scores.append(agreement(semantic[own], judge.predict(images[own])))
            judges.append(judge)
        look = Look.fit(images, seed)
        whole = _unlabelled(images, str(real.root))
        memory = None
        if held_out is not None:
            apart = _unlabelled(held_out.images(), str(held_out.root))
            memory = Memory.fit(whole, apart, false_alarm=config.copy_false_alarm, seed=seed, look=look)
        return MaskGated(
            mechanism, tuple(judges), look, look.marks(images) if memory is None else memory.training, memory,
            Nearness.fit(whole, look, false_drop=config.duplicate_false_drop, seed=seed),
            conformal_threshold(np.concatenate(scores), config.label_false_drop), config,
        )  # fmt: skip

    def __call__(self, samples: Samples, beside: U8 | None = None) -> Verdict:
        """The gate's verdict, in the order of the samples."""
        images = samples.images
        earlier = self._with(beside) if beside is not None else self.seen
        scores: dict[str, F64] = {}
        copied = np.zeros(len(images), bool)
        if self.memory is None:
            found = self.look.nearest(fit_images(self.look, images), self.marks)
            nearest, near = found.row[:, 0], found.distance[:, 0]
        else:
            audit = self.memory.audit(images)
            nearest, near, copied = audit.nearest, audit.to_training, audit.copy
            scores = {
                "to_held_out": audit.to_held_out.astype(np.float64), "copy": audit.score, "copy_p": audit.p,
            }  # fmt: skip
        masks = semantic_of(self.mechanism(samples)).astype(np.uint8)
        agreed = np.zeros(len(images))
        for fold, judge in enumerate(self.judges):
            rows = np.flatnonzero(nearest % JUDGES == fold)
            agreed[rows] = agreement(masks[rows], judge.predict(images[rows]))
        doubted = agreed < self.least
        able = ~doubted & ~copied
        none = np.zeros(len(images), np.int64)
        repeats, duplicate, _ = self.nearness.first_of_kind(images, none, able, earlier)
        reasons = np.full(len(images), "", object)
        reasons[repeats >= 0] = "duplicate"
        reasons[copied] = "copy"
        reasons[doubted] = "label"
        scores |= {
            "agreement": agreed,
            "to_training": near.astype(np.float64),
            "duplicate": np.where(np.isfinite(duplicate), duplicate, np.nan).astype(np.float64),
        }
        return Verdict(reasons, scores)

    def accept(self, images: U8, labels: I64) -> None:
        """Later frames may not repeat these."""
        self.seen = self._with(images)

    def describe(self) -> dict[str, Any]:
        """The gate's record."""
        return {
            "gate": {
                "config": asdict(self.config),
                "reasons": {
                    **REASONS,
                    "label": "a segmenter that did not see its nearest real image differs",
                },
                "judges": [dict(judge.record) for judge in self.judges],
                "least_agreement": self.least,
                "memorization": None if self.memory is None else self.memory.record(),
                "duplicates": {
                    "false_drop": self.nearness.false_drop,
                    "threshold": float(self.nearness.thresholds[0]),
                    "order": "the first by index stays",
                },
            }
        }

    def _with(self, images: U8) -> F32:
        marks = self.look.marks(fit_images(self.look, images))
        return marks if self.seen is None else np.concatenate([self.seen, marks])


def agreement(masks: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]]) -> F64:
    """(n,) share of the pixels that either of two class maps (n, H, W) gives a class on which both give the
    same; 1 where neither gives any.
    """
    either = ((masks > 0) | (found > 0)).sum(axis=(1, 2))
    same = ((masks == found) & (masks > 0)).sum(axis=(1, 2))
    return np.asarray(np.where(either > 0, same / np.maximum(either, 1), 1.0), np.float64)


def mask_data(path: str, model: Model) -> Dataset:
    """A dataset of imgsynth that suits the model.

    Raises:
        DataError: another size or other classes, or no dataset.
    """
    data = Dataset(path)
    if (
        data.size != model.size
        or data.classes != tuple(model.classes)
        or data.header.channels != model.channels
    ):
        (h, w), (mh, mw) = data.size, model.size
        raise DataError(
            f"{path}: {h}×{w} pixels, classes {', '.join(data.classes)}; the model draws {mh}×{mw}, "
            f"{', '.join(model.classes)}"
        )
    return data


def _unlabelled(images: U8, name: str) -> LabelledImages:
    return LabelledImages(images, np.zeros(len(images), np.int64), ("image",), None, name)
