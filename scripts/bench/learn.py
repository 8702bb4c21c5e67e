"""How many training images a second the compact learners take: python scripts/bench/learn.py [--threads 2]

Pixels and boxes are random: speed does not depend on what is learnt. A detector's image is a 256 × 256 crop.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from pycocotools.mask import encode

from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.learn.classify import ClassifierConfig
from imgsynth.learn.detect import DetectorConfig
from imgsynth.learn.detect_trainer import train_detector
from imgsynth.learn.trainer import train_classifier


class Clock:
    """Seconds a step, the first few left out: compilers and caches warm up in them."""

    def __init__(self, skip: int = 3):
        self.times: list[float] = []
        self.skip = skip

    def __call__(self, done: int, *_: object) -> None:
        self.times.append(time.perf_counter())

    def rate(self, batch: int) -> float:
        return batch / float(np.median(np.diff(self.times[self.skip :])))


def photographs(masks: bool, n: int = 24, side: int = 640, objects: int = 8) -> AnnotatedImages:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, side - 60, (n * objects, 2))
    boxes = np.concatenate([low, low + rng.uniform(30, 50, (n * objects, 2))], axis=1)
    return AnnotatedImages(
        images=[rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(n)],
        sizes=np.full((n, 2), side),
        owner=np.repeat(np.arange(n), objects),
        boxes=boxes,
        labels=rng.integers(0, 6, n * objects),
        masks=np.array([_filled(box, side) for box in boxes], object) if masks else None,
        ignored=np.zeros(n * objects, bool),
        classes=tuple("abcdef"),
        groups=None,
        names=np.array([str(i) for i in range(n)]),
        name="noise",
    )


def _filled(box: np.ndarray, side: int) -> str:
    """The run-length text of a filled box."""
    mask = np.zeros((side, side), np.uint8, order="F")
    x0, y0, x1, y1 = box.astype(int)
    mask[y0:y1, x0:x1] = 1
    return str(encode(mask)["counts"].decode())


def signs(n: int = 4000) -> LabelledImages:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return LabelledImages(images, rng.integers(0, 43, n), tuple(map(str, range(43))), None, "noise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    for precision in ("fp32", "bf16"):
        for masks in (False, True):
            clock = Clock()
            config = DetectorConfig(
                precision=precision, steps=args.steps, threads=args.threads, masks=masks, crop=256
            )
            train_detector(photographs(masks), config, seed=0, progress=clock)
            what = "masks" if masks else "boxes"
            print(f"detector, {what}, 256²   {precision}  {clock.rate(config.batch):7.1f} images/s")
        clock = Clock()
        quick = ClassifierConfig(precision=precision, steps=args.steps, threads=args.threads)
        train_classifier(signs(), quick, seed=0, progress=clock)
        print(f"classifier, 32²          {precision}  {clock.rate(quick.batch):7.1f} images/s")


if __name__ == "__main__":
    main()
