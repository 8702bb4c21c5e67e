"""Where the labels of generated images come from: four mechanisms, one form.

==============  =================  ====================================================================
mechanism       grounding          the label
==============  =================  ====================================================================
`condition`     `condition`        the class that was asked for, of the image as a whole
`joint`         `joint-sampled`    masks that were denoised together with the image, as analog bits
`layout`        `inherited`        the labels of the render that the image was made to follow
`attention`     `attention`        where the network looked at the words of the prompt
==============  =================  ====================================================================

Each gives labels and a confidence, the chance that the label is right. A confidence is raw until a
calibrator, fitted where the truth is known (`imgsynth.gate`), maps it; NaN says that nothing measured it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I32, I64
from imgsynth.diffusion.joint import Cleanup, JointLabels, MaskCoding
from imgsynth.diffusion.sample import Samples
from imgsynth.errors import DataError

Calibrator = Callable[[F64], F64]  # raw confidences → chances, both (m,)


@dataclass(frozen=True)
class Labelled:
    """Labels of n images: `m` instances, sorted by frame and id, ids from 1 in each frame."""

    grounding: str
    instance: I32  # (n, H, W) ids, 0 = background
    frame: I32  # (m,) position among the images
    id: I32  # (m,)
    class_id: I32  # (m,) 1 … K; 0 = pixels to be ignored, where an instance may be
    confidence: F64  # (m,) 0 to 1, NaN where nothing measured it
    pixel_confidence: F32 | None = None  # (n, H, W)

    def __post_init__(self) -> None:
        if len(self.frame) and (np.diff(self.frame.astype(np.int64) * 2**20 + self.id) <= 0).any():
            raise DataError("labels: expected instances sorted by frame and id, each once")

    def taken(self, positions: NDArray[np.intp]) -> Labelled:
        """Labels of the images at `positions`, ascending."""
        place = np.full(len(self.instance), -1, np.int32)
        place[positions] = np.arange(len(positions))
        rows = np.flatnonzero(place[self.frame] >= 0)
        sure = None if self.pixel_confidence is None else self.pixel_confidence[positions]
        return replace(
            self,
            instance=self.instance[positions],
            frame=place[self.frame[rows]],
            id=self.id[rows],
            class_id=self.class_id[rows],
            confidence=self.confidence[rows],
            pixel_confidence=sure,
        )


class Mechanism(Protocol):
    """What turns samples into labels. Each sample's labels depend on that sample alone."""

    @property
    def grounding(self) -> str:
        """What the labels rest on, as a dataset says it."""
        ...

    def __call__(self, samples: Samples) -> Labelled:
        """The labels of all samples."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides the labels, as plain JSON values; under `labels` what each label holds."""
        ...


@dataclass(frozen=True)
class Condition:
    """The class that was asked for. It is the image's, so its one instance covers the whole frame.

    `judge` maps images (n, H, W, C) uint8 to chances of the K classes (n, K), calibrated; the confidence is
    that of the class asked for.
    """

    judge: Callable[[Any], F64] | None = None
    grounding: str = "condition"

    def __call__(self, samples: Samples) -> Labelled:
        """One instance a frame, of class `labels` + 1; refuses samples of no class."""
        n, height, width = samples.images.shape[:3]
        confidence = np.full(n, np.nan)
        if self.judge is not None and n:
            chances = self.judge(samples.images)
            if samples.labels.max() >= chances.shape[1]:
                raise DataError(
                    f"a sample of class {samples.labels.max()}, the judge knows {chances.shape[1]}"
                )
            confidence = np.asarray(chances[np.arange(n), samples.labels], np.float64)
        return whole_frames(samples.labels, (height, width), confidence, self.grounding)

    def describe(self) -> dict[str, Any]:
        """The convention of an image-level label."""
        text = "of the image as a whole: one instance a frame, whose mask and boxes are all of it"
        return {"kind": "condition", "labels": {"class": text}}


@dataclass(frozen=True)
class Joint:
    """Masks that were sampled with the image, read from their bits; `calibrate` maps raw confidences."""

    coding: MaskCoding
    cleanup: Cleanup = field(default_factory=Cleanup)
    calibrate: Calibrator | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)  # what `calibrate` is, for the record
    grounding: str = "joint-sampled"

    def __call__(self, samples: Samples) -> Labelled:
        """The objects in each sample's bits; refuses samples without bits."""
        if samples.bits is None:
            raise DataError("joint labels: this model samples no mask")
        return from_joint(self.coding.decode(samples.bits, samples.margins, self.cleanup), self.calibrate)

    def describe(self) -> dict[str, Any]:
        """Coding, cleaning-up and conventions of a sampled mask."""
        texts = {
            "mask": "16-bit instance ids, 0 = background; sampled together with the image",
            "boxes": "tight on the mask; box_amodal and the amodal mask repeat the visible ones, as what is "
            "hidden is not sampled; xyxy, half-open pixels",
        }
        c, k = self.cleanup, self.coding
        return {
            "kind": "joint",
            "coding": {"classes": k.classes, "instances": k.instances},
            "cleanup": {"pixels": c.pixels, "share": c.share},
            "calibration": dict(self.calibration),
            "labels": texts,
        }


def whole_frames(labels: I64, size: tuple[int, int], confidence: F64, grounding: str) -> Labelled:
    """One instance a frame, covering it, of class `labels` (n,) + 1."""
    n = len(labels)
    return Labelled(
        grounding,
        np.ones((n, *size), np.int32),
        np.arange(n, dtype=np.int32),
        np.ones(n, np.int32),
        (labels + 1).astype(np.int32),
        confidence,
    )


def from_joint(found: JointLabels, calibrate: Calibrator | None = None) -> Labelled:
    """Labels read from bits, their confidences calibrated."""
    confidence = found.confidence if calibrate is None else calibrate(found.confidence)
    return Labelled(
        "joint-sampled",
        found.instance,
        found.frame,
        found.id,
        found.class_id,
        np.clip(confidence, 0, 1),
        found.pixel_confidence,
    )


def inherited(
    instance: I32, frame: I32, ident: I32, class_id: I32, confidence: F64, calibrate: Calibrator | None = None
) -> Labelled:
    """The render's own labels for images that were made to follow it; `confidence` (m,) is what an
    independent check of the drift says of each object.
    """
    confidence = confidence if calibrate is None else calibrate(confidence)
    return Labelled("inherited", instance, frame, ident, class_id, np.clip(confidence, 0, 1))


def attended(
    masks: NDArray[np.bool_],
    present: NDArray[np.bool_],
    class_id: I32,
    confidence: F64,
    ignore: NDArray[np.bool_],
) -> Labelled:
    """Labels of masks (n, K, H, W) of K words, kept where `present` (n, K); `class_id` (K,) and `confidence`
    (n, K) are the words'.

    Where masks meet the surer word has the pixel. Pixels to `ignore` (n, H, W) become an instance without a
    class, the last of its frame.
    """
    n, k, height, width = masks.shape
    sure = np.where(present, np.nan_to_num(confidence, nan=0.0), -1.0)
    strength = np.where(masks & present[:, :, None, None], sure[:, :, None, None], -1.0)
    winner, won = strength.argmax(1), strength.max(1) >= 0
    winner = np.where(won & ~ignore, winner, -1)
    instance = np.zeros((n, height, width), np.int32)
    rows: list[tuple[int, int, int, float]] = []
    for i in range(n):
        words = [w for w in range(k) if (winner[i] == w).any()]
        for ident, w in enumerate(words, 1):
            instance[i][winner[i] == w] = ident
            rows.append((i, ident, int(class_id[w]), float(confidence[i, w])))
        if ignore[i].any():
            instance[i][ignore[i]] = len(words) + 1
            rows.append((i, len(words) + 1, 0, np.nan))
    table = np.array(rows, np.float64).reshape(-1, 4)
    frame, ids, classes = (table[:, j].astype(np.int32) for j in range(3))
    return Labelled("attention", instance, frame, ids, classes, table[:, 3])
