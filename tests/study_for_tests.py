"""What the tests of studies share: tiny images of three noisy kinds, a learner of class means, a study file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.study import run_study

CLASSES = ("ant", "bee", "cat")


def blobs(n, seed, shift=0.0, classes=CLASSES, name="blobs"):
    """Images 4×4 of three noisy classes; `shift` is the domain gap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(classes)
    base = np.random.default_rng(99).uniform(60, 190, (3, 4, 4, 1))
    images = base[labels % 3] + shift * 25 * np.random.default_rng(98).normal(size=(4, 4, 1))
    images = np.clip(images + rng.normal(0, 55, images.shape), 0, 255).astype(np.uint8)
    return LabelledImages(images, labels.astype(np.int64), classes, None, name)


def save(data, path):
    np.savez(path, images=data.images, labels=data.labels, classes=np.array(data.classes))


class Centroids:
    """A model that is nothing but class means."""

    def __init__(self, means):
        self.means = means

    def predict(self, images):
        flat = images.reshape(len(images), -1).astype(np.float32) / 255
        score = -8 * ((flat[:, None] - self.means[None]) ** 2).sum(-1)
        p = np.exp(score - score.max(1, keepdims=True))
        return (p / p.sum(1, keepdims=True)).astype(np.float32)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "means.npy", self.means)


@dataclass(frozen=True)
class CentroidLearner:
    """Class means of a seeded draw of up to 180 rows: enough of a learner to have a curve and seeds."""

    log: Path | None = None
    stop_after: int | None = None
    steps: int = 10
    threads: int = 1

    def describe(self):
        return {"kind": "centroids", "steps": self.steps}

    def phase(self, steps, changes):
        return replace(self, steps=steps, **changes)

    def train(self, data, seed, weights, progress, checkpoint, start):
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{data.name} {len(data)} {seed} {weights is not None}\n")
            if self.stop_after is not None and len(self.log.read_text().splitlines()) > self.stop_after:
                raise KeyboardInterrupt
        rng = np.random.default_rng(seed)
        p = None if weights is None else weights / weights.sum()
        rows = rng.choice(len(data), min(len(data), 180), p=p)
        flat = data.images[rows].reshape(len(rows), -1).astype(np.float32) / 255
        y = data.labels[rows]
        overall = flat.mean(0)
        means = [flat[y == c].mean(0) if (y == c).any() else overall for c in range(len(data.classes))]
        means = np.stack(means).astype(np.float32)
        if start is not None:  # a third of what was learned before stays
            means = (2 * means + self.load(start).means) / 3
        progress(self.steps, self.steps, 0.0)
        return Centroids(means)

    def load(self, path):
        return Centroids(np.load(path / "means.npy"))

    def predict(self, model, images):
        return model.predict(np.asarray(images))


def study_dict(**changes):
    return {
        "name": "blobs",
        "synthetic": {"data": "synthetic.npz"},
        "real": {"train": "train.npz", "validation": "validation.npz", "test": "test.npz"},
        "seeds": 3,
        "bootstrap": 400,
        "scaling": {"arm": "synthetic", "sizes": [6, 18, 48, 120, 300]},
        **changes,
    }


def write(folder, **changes):
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study_dict(**changes), sort_keys=False))
    return path


def run(folder, out="out", learner=None, **options):
    options.setdefault("workers", 1)
    return run_study(
        folder / "study.yaml", folder / out, learner=learner or CentroidLearner(), quiet=True, **options
    )
