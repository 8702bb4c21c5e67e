"""A tiny scene, real images and a learner whose score follows from the training images by a known rule."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgsynth import scenefile
from imgsynth.probe.bench import Setting
from imgsynth.scene import SceneSpec
from imgsynth.study.classify import Classify

SCENE = {
    "name": "planted",
    "classes": ["a", "b"],
    "image": {"size": [8, 8], "channels": 1},
    "camera": {"azimuth_deg": 0, "elevation_deg": 90, "distance": 1, "fov_deg": 45},
    "renderer": {"samples": 1},
    "light": {"sun": None, "ambient": {"radiance": {"uniform": [0.2, 0.8]}}},
    "background": {"flat": "#000000"},
    "objects": {
        "thing": {
            "class": {"choice": ["a", "b"]},
            "shape": {"box": {"size": [3, 3, 0.1]}},
            "place": {"yaw_deg": {"uniform": [0, 90]}},
            "material": {"roughness": {"uniform": [0.4, 1]}, "color": "#ffffff"},
        }
    },
}


def scene():
    return scenefile.load(SceneSpec.model_validate(SCENE))


def real_images(path: Path, n=400, seed=0, tracks=None) -> str:
    """Images that say their label (first pixel) and how hard they are (second pixel, 0 … 255) themselves."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 8, 8), np.uint8)
    images[:, 0, 0] = labels = np.arange(n) % 2
    images[:, 0, 1] = np.arange(n) * 256 // n
    images[:, 0, 2] = rng.integers(0, 256, n)
    extra = {} if tracks is None else {"groups": np.arange(n) // tracks}
    np.savez(path, images=images, labels=labels.astype(np.int64), classes=np.array(["a", "b"]), **extra)
    return str(path)


@dataclass
class Skilled:
    """Right on every image that is not harder than its skill."""

    skill: float
    seed: int

    def predict(self, images):
        # Each seed finds other images hard, the same whatever it was trained on.
        wobble = np.random.default_rng(self.seed).normal(0, 12, 256)
        hard = images[:, 0, 1, 0] + wobble[images[:, 0, 2, 0]]
        label = images[:, 0, 0, 0] % 2
        said = np.where(hard < 255 * self.skill, label, 1 - label)
        return np.eye(2, dtype=np.float32)[said]

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "skill.json").write_text(json.dumps([self.skill, self.seed]))


@dataclass(frozen=True)
class PlantedLearner:
    """Skill .8; less `costs` where the training images are all as bright; less the distance of their mean
    brightness from `wanted` (of 255), where that is given. Seeds differ by a luck of sd .03.
    """

    costs: float = 0.0
    wanted: float | None = None
    log: Path | None = None
    steps: int = 1
    threads: int = 1

    def describe(self):
        return {"costs": self.costs, "wanted": self.wanted}

    def phase(self, steps, changes):
        return replace(self, steps=steps)

    def train(self, data, seed, weights, progress, checkpoint, start):
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{seed}\n")
        light = data.images.mean(axis=(1, 2, 3))
        skill = 0.8 + 0.03 * np.random.default_rng(seed).normal()
        skill -= self.costs * (light.std() < 5)
        if self.wanted is not None:
            skill -= abs(light.mean() - self.wanted) / 255
        return Skilled(float(skill), seed)

    def load(self, path):
        return Skilled(*json.loads((path / "skill.json").read_text()))

    def predict(self, model, images):
        return model.predict(np.asarray(images))


def setting(learner, **changes):
    return Setting(Classify(), learner, **{"count": 40, "seeds": (0, 1, 2), "workers": 1, **changes})
