"""Do masks say what their pictures show? Held against a segmenter that never saw what drew the pictures.

Two answers: intersection over union of each class over all pixels, and, where objects have confidences,
whether they mean what they say. An object is right where at least half of its pixels are given its class by
the segmenter, too. Confidences are calibrated on frames of even number and scored on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, U8
from imgsynth.diffusion.mechanism import Labelled
from imgsynth.gate.calibration import Isotonic, Reliability, fit_isotonic, reliability
from imgsynth.learn.semantic import mean_iou

RIGHT = 0.5  # least share of an object's pixels that the segmenter must give its class
LEAST_OBJECTS = 200  # below, a calibration would be chance


@dataclass(frozen=True)
class Fidelity:
    """How well masks agree with what a segmenter finds."""

    iou: dict[str, float]  # of background and each class, over all pixels; NaN where neither shows it
    pixels: float  # share of all pixels that are alike
    objects: int  # that were judged
    right: float  # share of them; NaN where there are none
    raw: Reliability | None = None  # of the confidences as they came, on frames of odd number
    calibrated: Reliability | None = None  # of the same after `map`
    map: Isotonic | None = None  # fitted on frames of even number

    @property
    def miou(self) -> float:
        """Mean of `iou`."""
        return float(np.nanmean(list(self.iou.values())))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        out: dict[str, Any] = {
            "miou": self.miou, "iou": self.iou, "pixels_alike": self.pixels, "objects": self.objects,
            "objects_right": self.right,
        }  # fmt: skip
        if self.raw is not None and self.calibrated is not None:
            out |= {"ece_raw": self.raw.ece.to_json(), "ece": self.calibrated.ece.to_json()}
        return out


def fidelity(labels: Labelled, found: U8, classes: tuple[str, ...], *, least: float = RIGHT) -> Fidelity:
    """Agreement of the labels of n images with the class ids (n, H, W) that a segmenter found in them.

    Confidences are judged where at least 200 objects have one.
    """
    semantic = semantic_of(labels)
    iou = mean_iou(found, semantic, len(classes))
    right = right_objects(labels, found, least)
    known = np.isfinite(labels.confidence)
    report: tuple[Any, ...] = (None, None, None)
    fit, test = known & (labels.frame % 2 == 0), known & (labels.frame % 2 == 1)
    if known.sum() >= LEAST_OBJECTS and fit.any() and test.any():
        to = fit_isotonic(labels.confidence[fit], right[fit])
        kinds = (labels.confidence[test], to(labels.confidence[test]))
        report = (*(reliability(c, right[test], labels.frame[test]) for c in kinds), to)
    return Fidelity(
        dict(zip(("background", *classes), iou.astype(float).tolist(), strict=True)),
        float((found == semantic).mean()),
        len(right),
        float(right.mean()) if len(right) else float("nan"),
        *report,
    )


def semantic_of(labels: Labelled) -> I32:
    """Class ids (n, H, W) of instance ids."""
    of = np.zeros((len(labels.instance), int(labels.instance.max(initial=0)) + 1), np.int32)
    of[labels.frame, labels.id] = labels.class_id
    return of[np.arange(len(labels.instance))[:, None, None], labels.instance]


def right_objects(labels: Labelled, found: U8, least: float = RIGHT) -> NDArray[np.bool_]:
    """(m,) whether at least that share of each object's pixels is given its class in `found` (n, H, W)."""
    out = np.zeros(len(labels.id), bool)
    for k, (frame, ident) in enumerate(zip(labels.frame, labels.id, strict=True)):
        here = labels.instance[frame] == ident
        out[k] = here.any() and (found[frame][here] == labels.class_id[k]).mean() >= least
    return out


def labels_of(dataset: Any) -> Labelled:
    """The labels of all frames of an `imgsynth.dataset.reader.Dataset`, for `fidelity`."""
    rows = dataset.instances
    frame, ident = (rows.column(name).to_numpy().astype(np.int32) for name in ("frame", "id"))
    confidence: F64 = rows.column("confidence").to_numpy(zero_copy_only=False).astype(np.float64)
    return Labelled(
        "",
        np.stack([dataset.instance_mask(i) for i in range(len(dataset))]).astype(np.int32),
        frame - np.int32(dataset.header.start),
        ident,
        rows.column("class_id").to_numpy().astype(np.int32),
        confidence,
    )
