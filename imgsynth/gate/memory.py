"""Which samples are copies of training images: the memorization audit, with its held-out control.

A sample near to a training image proves nothing: in a dense corner of the data everything is near to
something. A copy is far nearer to training than to real images that the generator never saw. So each sample's
distance to its nearest training image is set against its distances to the nearest held-out ones, and held-out
images themselves, judged each without its own group, say how small that ratio gets for the innocent. (The
three-sample idea of Meehan, Chaudhuri and Dasgupta 2020, "A non-parametric test to detect data-copying in
generative models", sample by sample; the threshold is a conformal quantile.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F32, F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages, recolor, resize
from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import Estimate
from imgsynth.gate.calibration import conformal_threshold, wilson
from imgsynth.gate.signature import Look

FALSE_ALARM = 0.01
CONTROLS = 5  # nearest held-out images that a sample's control distance is the mean of
FLOOR = 0.01  # distances below this are alike: rounding of pixels alone makes as much
MOST_INNOCENT = 2000  # held-out images that set the threshold: more cost time and change nothing
LEAST_HELD = 50

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Audit:
    """What the audit found of n samples."""

    score: F64  # (n,) log of training distance ÷ control distance; low is a copy
    p: F64  # (n,) how often an innocent image scores as low: (1 + innocents at or below) / (1 + innocents)
    copy: NDArray[np.bool_]  # (n,)
    nearest: I64  # (n,) row of the nearest training image
    to_training: F32  # (n,) distance to it, 0 to 1.41
    to_held_out: F32  # (n,) mean distance to the nearest held-out images
    false_alarm: float

    def share(self) -> Estimate:
        """Share of copies: flagged less what false alarms account for, (f − α)/(1 − α), with Wilson's
        interval of f carried through. Copies that were not flagged are not in it.
        """
        n, a = len(self.copy), self.false_alarm
        ends = wilson(int(self.copy.sum()), n)
        value, lo, hi = ((float(f) - a) / (1 - a) for f in (self.copy.mean(), *ends))
        return Estimate(max(0.0, value), max(0.0, lo), max(0.0, hi))

    def worst(self, most: int = 24) -> I64:
        """Samples of the lowest score, the lowest first."""
        return np.argsort(self.score, kind="stable")[:most].astype(np.int64)


@dataclass(frozen=True)
class Memory:
    """Training and held-out images as the audit sees them, and what innocent images score."""

    look: Look
    training: F32  # (m, K) marks
    held_out: F32  # (h, K)
    innocent: F64  # (i,) sorted scores of held-out images
    false_alarm: float
    threshold: float

    @staticmethod
    def fit(
        training: LabelledImages,
        held_out: LabelledImages,
        *,
        false_alarm: float = FALSE_ALARM,
        most: int = MOST_INNOCENT,
        seed: int = 0,
        look: Look | None = None,
        progress: Progress | None = None,
    ) -> Memory:
        """Learn what innocent images score.

        Args:
            training: what the generator was trained on, all of it.
            held_out: real images of the same kind that it never saw; where images come in groups (tracks),
                `groups` must say so, and no group may stand in both.
            false_alarm: share of innocent images that may be called copies.
            most: held-out images that set the threshold.
            seed: of their choice.
            look: how to compare; None: learned from the training images.
            progress: called with (images done, images in all).

        Raises:
            DataError: fewer than 50 held-out images, too few for this rate of false alarms, or of too few
                groups; a group that stands in both.
        """
        if not 0 < false_alarm < 0.5:
            raise DataError(
                f"memorization: false alarms: expected a share between 0 and 0.5, got {false_alarm}"
            )
        _check_apart(training, held_out)
        needed = max(LEAST_HELD, int(np.ceil(1 / false_alarm)) - 1)
        if len(held_out) < needed:
            raise DataError(
                f"{held_out.name}: expected at least {needed} held-out images for false alarms of "
                f"{100 * false_alarm:g} %, got {len(held_out)}"
            )
        look = look or Look.fit(training.images, seed)
        shown = fit_images(look, held_out.images)
        control, train = look.marks(shown), look.marks(fit_images(look, training.images))
        group = np.arange(len(shown)) if held_out.groups is None else _numbers(held_out.groups)
        if len(shown) - np.bincount(group).max() < CONTROLS:
            raise DataError(
                f"{held_out.name}: {len(np.unique(group))} groups of held-out images are too few: each image "
                f"is compared with {CONTROLS} of other groups"
            )
        rng = np.random.Generator(np.random.Philox(key=seed))
        rows = np.sort(rng.permutation(len(shown))[:most])
        near = look.nearest(shown[rows], train, progress=progress)
        far = look.nearest(shown[rows], control, CONTROLS, own=group[rows], groups=group)
        innocent = np.sort(_score(near.distance, far.distance))
        return Memory(look, train, control, innocent, false_alarm, conformal_threshold(innocent, false_alarm))

    def audit(self, images: U8, *, progress: Progress | None = None) -> Audit:
        """Judge samples (n, H, W, C) uint8, each by itself: the same alone or in any batch.

        Raises:
            DataError: anything but images.
        """
        shown = fit_images(self.look, images)
        near = self.look.nearest(shown, self.training, progress=progress)
        far = self.look.nearest(shown, self.held_out, CONTROLS)
        score = _score(near.distance, far.distance)
        at_or_below = np.searchsorted(self.innocent, score, side="right")
        return Audit(
            score,
            (1 + at_or_below) / (1 + len(self.innocent)),
            score < self.threshold,
            near.row[:, 0],
            near.distance[:, 0],
            _control(far.distance).astype(np.float32),
            self.false_alarm,
        )

    def record(self) -> dict[str, Any]:
        """What was compared and how, as plain JSON values."""
        return {
            "training_images": len(self.training),
            "held_out_images": len(self.held_out),
            "innocent_images": len(self.innocent),
            "false_alarm": self.false_alarm,
            "threshold": float(np.exp(self.threshold)),
            "seen": {
                "reflections": True,
                "shift_px": self.look.form.margin,
                "at_size": list(self.look.form.work),
            },
        }


def fit_images(look: Look, images: ArrayLike) -> U8:
    """Images at the size and channels that a look compares.

    Raises:
        DataError: anything but uint8 (n, H, W, 1 or 3).
    """
    array = np.asarray(images)
    if array.ndim != 4 or array.dtype != np.uint8 or array.shape[3] not in (1, 3):
        raise DataError(f"gate: expected images uint8 (n, H, W, 1 or 3), got {array.dtype} {array.shape}")
    return recolor(resize(array, look.form.size), look.form.channels)


def _score(near: F32, far: F32) -> F64:
    return np.asarray(np.log(np.maximum(near[:, 0], FLOOR).astype(np.float64)) - np.log(_control(far)))


def _control(far: F32) -> F64:
    held = np.where(np.isfinite(far), np.maximum(far, FLOOR), np.nan).astype(np.float64)
    return np.asarray(np.nanmean(held, axis=1))


def _numbers(groups: NDArray[Any]) -> I64:
    return np.unique(groups.astype(str), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _check_apart(training: LabelledImages, held_out: LabelledImages) -> None:
    from imgsynth.dataset.leaks import shared_groups

    both = shared_groups(training, held_out)
    if both:
        raise DataError(
            f"{held_out.name}: group {both[0]!r} has images in the training set as well ({len(both)} such "
            "groups); held-out images must share no track with training"
        )
