"""What augmentation draws its images from: scenes and diffusion models, a class at a time."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import yaml
from planted import SCENE

from imgsynth.augment import mix, sources
from imgsynth.augment.arms import generated
from imgsynth.augment.sets import Sets
from imgsynth.augment.sources import SceneSource, known
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ImgsynthError

# ---- scenes ----


def test_a_scene_gives_the_same_first_images_whatever_else_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SLICE", 24)
    file = tmp_path / "scene.yaml"
    file.write_text(yaml.safe_dump({**SCENE, "classes": ["a", "b", "c"]}, sort_keys=False))
    like = LabelledImages(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), ("b", "a"), None, "real")
    quiet = lambda *_: lambda *a: None  # noqa: E731
    source = SceneSource(str(file), tmp_path / "made", 3, 1)
    real = Sets(like, like, like)
    few = source.images(np.array([2, 0]), real, quiet)
    assert few.classes == ("b", "a") and few.labels.tolist() == [0, 0]
    many = SceneSource(str(file), tmp_path / "made", 3, 1).images(np.array([30, 3]), real, quiet)
    assert np.bincount(many.labels).tolist() == [30, 3]
    assert np.array_equal(many.images[many.labels == 0][:2], few.images)
    frames = source.record()
    assert frames["generation"] == 0 and frames["frames"] == 24
    with pytest.raises(DataError, match="show no 'c', a class that the scene names"):
        monkeypatch.setattr(sources, "BARREN", 2)
        other = replace(like.subset([1]), labels=np.zeros(1, np.int64), classes=("c",))
        source.images(np.array([1]), Sets(other, other, other), quiet)
    names = ("ant", "bee", "cat", "dog")
    animals = LabelledImages(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4), names, None, "animals")
    assert known(animals, replace(like, classes=("dog", "cow"))).labels.tolist() == [0]


# ---- diffusion models ----


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A model of noise in three classes, and real images of two of them and another."""
    from imgsynth.diffusion.config import DiffuserConfig
    from imgsynth.diffusion.model import Diffuser

    folder = tmp_path_factory.mktemp("model")
    config = DiffuserConfig(
        size=(8, 8), channels=1, classes=("x", "b", "a"), widths=(8, 16), blocks=1, attention=4
    )
    Diffuser.new(config, 0, {"data": {"name": "noise", "digest": "d"}}).save(folder / "noise")
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype(np.uint8)
    real = LabelledImages(images, np.arange(12) % 3, ("a", "b", "c"), None, "real")
    return folder, Sets(real.subset(range(6)), real.subset(range(6, 9)), real.subset(range(9, 12)))


def test_a_model_gives_the_same_images_of_a_class_however_many_are_asked(drawn, tmp_path, monkeypatch):
    from imgsynth.augment import models

    monkeypatch.setattr(models, "SLICE", 3)
    folder, sets = drawn
    told = []
    tell = lambda *_: lambda *a: told.append(a)  # noqa: E731
    source = models.ModelSource(str(folder / "noise"), tmp_path / "made", 1, gated=False)
    assert source.classes() == ("x", "b", "a")
    few = source.images(np.array([2, 0, 0]), sets, tell)
    assert few.classes == ("a", "b", "c") and few.labels.tolist() == [0, 0]
    again = models.ModelSource(str(folder / "noise"), tmp_path / "made", 1, gated=False)
    many = again.images(np.array([4, 2, 0]), sets, tell)
    assert many.labels.tolist() == [0] * 4 + [1] * 2 and np.array_equal(many.images[:2], few.images)
    assert len({image.tobytes() for image in many.images}) == 6
    assert max(done for done, _ in told) == 6 + 1 and told[-1][1] == 6  # slices are whole
    record = again.record()
    assert record["generation"] == 1 and record["parents"] == [record["sha256"]] and record["dry"] == {}
    assert (
        json.loads((next((tmp_path / "made").iterdir()) / "2-0000" / "dataset.json").read_text())[
            "generation"
        ]
        == 1
    )


def test_a_class_that_the_gate_drops_gives_no_more_and_the_rest_goes_on(drawn, tmp_path, monkeypatch):
    from imgsynth.augment import models
    from imgsynth.diffusion import write
    from imgsynth.diffusion.verdict import Verdict

    @dataclass
    class NoneOf:
        """Drops all of one class."""

        dropped: int
        seen: object = None
        reasons: tuple = ("label",)
        remembers: bool = True

        def __call__(self, samples, beside=None):
            reason = np.where(samples.labels == self.dropped, "label", "").astype(object)
            return Verdict(reason, {}, np.ones(len(samples)))

        def accept(self, images, labels):
            assert images.shape[1:] == (8, 8, 1)

        def describe(self):
            return {"dropped": self.dropped}

    monkeypatch.setattr(models, "SLICE", 3)
    monkeypatch.setattr(write, "MOST_DRAWS", 4)
    folder, sets = drawn
    source = models.ModelSource(str(folder / "noise"), tmp_path / "made", 1)
    source._gate = NoneOf(1)
    quiet = lambda *_: lambda *a: None  # noqa: E731
    made = source.images(np.array([4, 2, 0]), sets, quiet)
    assert made.labels.tolist() == [0] * 4
    assert list(source.record()["dry"]) == ["b"] and "4 draws" in source.record()["dry"]["b"]
    assert len(source.images(np.array([1, 1, 0]), sets, quiet)) == 1  # it is not tried again


def test_models_that_saw_the_wrong_images_are_refused(drawn, tmp_path):
    from imgsynth.augment import models
    from imgsynth.diffusion.data import DiffusionData
    from imgsynth.diffusion.model import Diffuser

    folder, sets = drawn
    held = Diffuser.load(folder / "noise")
    replace(held, record={"generation": 1}).save(tmp_path / "late")
    with pytest.raises(ImgsynthError, match="was trained on generated images"):
        models.ModelSource(str(tmp_path / "late"), tmp_path / "made")
    seen = {"data": {"digest": DiffusionData.of(sets.test).digest()}}
    replace(held, record=seen).save(tmp_path / "peeked")
    source = models.ModelSource(str(tmp_path / "peeked"), tmp_path / "made", gated=False)
    with pytest.raises(DataError, match="leak: model peeked was trained on the test images"):
        source.images(np.array([1, 0, 0]), sets, lambda *_: lambda *a: None)
    made = mix.Generated(sets.validation, np.array(["m"] * 3), {"m": {"generation": 1, "parents": []}})
    rows = sets.train.subset([0])
    with pytest.raises(DataError, match="the mixed set"):
        mix.guarded(rows, made, generated(0.5).settings[0], 0.5)
