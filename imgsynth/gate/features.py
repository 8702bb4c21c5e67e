"""What distances between sets are measured on: features of a small net that learned real images, not these.

Features of a net trained on some images flatter those images. So the net learns from real images other than
those that are compared: from a training set of its own, or from one half of the real images for the other
half, both ways, averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsynth.batch import F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.evaluate.bootstrap import Estimate
from imgsynth.gate.agreement import deal
from imgsynth.gate.distances import Covered, covered, frechet_distance, frechet_unbiased, kernel_distance

if TYPE_CHECKING:
    from imgsynth.learn.classify import Classifier

PLACES = 16  # the compact net reads out 4 × 4 places: 32 features of 28 × 28 pixels, 64 or more of 32 × 32

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Distance:
    """How far samples lie from real images, on the features of one net or the mean over two."""

    samples: str
    real: str
    images: tuple[int, int]  # samples, real
    features: int
    net: str  # what measured, in words
    fd: Estimate  # Fréchet, extrapolated to endless samples
    fd_plain: float  # as others quote it, at the number of images it has
    kid: Estimate
    covered: Covered

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "samples": {"name": self.samples, "images": self.images[0]},
            "real": {"name": self.real, "images": self.images[1]},
            "net": self.net,
            "features": self.features,
            "fd": self.fd.to_json(),
            "fd_plain": self.fd_plain,
            "kid": self.kid.to_json(),
            **self.covered.to_json(),
        }


def features(net: Classifier, images: U8) -> F64:
    """Features (n, D) of images (n, H, W, C) uint8: what the net reads out, averaged over places."""
    found = net.features(images).astype(np.float64)
    if net.config.net == "compact":
        return np.asarray(found.reshape(len(found), found.shape[1] // PLACES, PLACES).mean(axis=2))
    return found


def compare(
    samples: LabelledImages,
    real: LabelledImages,
    *,
    net: Classifier | None = None,
    train: LabelledImages | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Distance:
    """How far `samples` lie from `real`.

    Args:
        samples: images in question, brought to the real ones' size and channels.
        real: real images to compare with, not those that the generator was trained on.
        net: measures on its features; it must not have learned from `real`.
        train: real images that a net is trained on to measure with; neither this nor `net`: one half of
            `real` serves the other, and the figures of both are averaged.
        steps: optimiser steps of such a net; None: the learner's own.
        seed: of halves, nets and subsets.
        progress: called while nets train, with (steps done, steps in all, loss).

    Raises:
        DataError: images that do not fit each other, or too few.
    """
    made = samples.fitted(real.size, real.channels)
    if net is not None:
        return _measured(made, real, [(net, np.arange(len(real)))], f"{net.config.net}, given", seed)
    if train is not None:
        fitted = train.fitted(real.size, real.channels)
        nets = [(_trained(fitted, steps, seed, 0, 1, progress), np.arange(len(real)))]
        return _measured(made, real, nets, f"compact, trained on {train.name}", seed)
    half = deal(real, 2, seed)
    nets = [
        (_trained(real.subset(half != k), steps, seed, k, 2, progress), np.flatnonzero(half == k))
        for k in range(2)
    ]
    return _measured(made, real, nets, f"compact, trained on one half of {real.name} for the other", seed)


def _measured(
    made: LabelledImages, real: LabelledImages, nets: Sequence[tuple[Classifier, I64]], how: str, seed: int
) -> Distance:
    figures: list[tuple[Estimate, Estimate, Covered, float, int]] = []
    for net, rows in nets:
        x, y = features(net, made.images), features(net, real.images[rows])
        n = min(len(x), len(y))
        plain = frechet_distance(_some(x, n, seed), _some(y, n, seed + 1))
        fd, kid = frechet_unbiased(x, y, seed=seed), kernel_distance(x, y, seed=seed)
        figures.append((fd, kid, covered(x, y, seed=seed), plain, x.shape[1]))
    names = ("precision", "recall", "density", "coverage")
    overlap = Covered(*(_mean([getattr(f[2], name) for f in figures]) for name in names))
    return Distance(
        made.name,
        real.name,
        (len(made), len(real)),
        figures[0][4],
        how,
        _mean([f[0] for f in figures]),
        float(np.mean([f[3] for f in figures])),
        _mean([f[1] for f in figures]),
        overlap,
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean with the mean of the intervals: right where estimates rise and fall together, else wide."""
    return Estimate(*(float(np.mean(values)) for values in zip(*estimates, strict=True)))


def _some(x: F64, n: int, seed: int) -> F64:
    return x[np.random.Generator(np.random.Philox(key=seed)).permutation(len(x))[:n]]


def _trained(
    data: LabelledImages, steps: int | None, seed: int, number: int, of: int, progress: Progress | None
) -> Classifier:
    from imgsynth.learn.classify import ClassifierConfig, suited
    from imgsynth.learn.trainer import train_classifier
    from imgsynth.seeding import derive

    settings = suited(len(data.classes))
    config = ClassifierConfig.of(settings if steps is None else {**settings, "steps": steps})

    def told(done: int, in_all: int, loss: float) -> None:
        if progress is not None:
            progress(number * in_all + done, of * in_all, loss)

    return train_classifier(data, config, seed=derive(seed, f"gate.features.{number}"), progress=told)
