"""The gate over sampled masks: planted wrong masks, copies and repetitions are told, and right ones kept."""

from dataclasses import dataclass

import numpy as np
import pytest

from imgsynth import generate
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.fidelity import labels_of
from imgsynth.diffusion.maskgate import MaskGated, agreement, mask_data
from imgsynth.diffusion.mechanism import Labelled
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.sample import Samples
from imgsynth.diffusion.sampled import GateRequest, sample_dataset
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.gate.duplicates import Nearness
from imgsynth.gate.judge import GateConfig
from imgsynth.gate.signature import Look

CLASSES = ("ball", "block", "cone")


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    root = tmp_path_factory.mktemp("maskgate")
    sets = ["outputs=[semantic]"]
    return [
        Dataset(generate.render("toys", n, root / name, seed=seed, workers=1, sets=sets))
        for name, n, seed in (("training", 500, 1), ("held-out", 300, 2), ("samples", 120, 3))
    ]


@dataclass
class Told:
    """A mechanism that is told the labels of each sample by its index."""

    labels: Labelled
    grounding: str = "joint-sampled"

    def __call__(self, samples):
        return self.labels.taken(samples.indices)

    def describe(self):
        return {}


def samples_of(images):
    n = len(images)
    return Samples(np.arange(n), np.zeros(n, int), np.full(n, 3), images)


@pytest.fixture(scope="module")
def gate(renders):
    training, held_out, _ = renders
    return MaskGated.fit(Told(labels_of(training)), training, held_out, {"steps": 160}, 0)


def test_agreement_is_of_what_either_calls_an_object():
    masks = np.array([[[0, 1], [1, 2]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]])
    found = np.array([[[1, 1], [1, 3]], [[0, 0], [0, 0]], [[0, 2], [0, 0]]])
    assert agreement(masks, found).tolist() == [0.5, 1.0, 0.0]


class Knowing:
    """A judge that knows the masks of some pictures by heart, and sees nothing in others."""

    def __init__(self, *datasets):
        self.known = {
            image.tobytes(): data.semantic_mask(i).astype(np.uint8)
            for data in datasets
            for i, image in enumerate(data.images())
        }
        self.asked = 0

    def predict(self, images):
        self.asked += len(images)
        none = np.zeros((32, 32), np.uint8)
        return np.array([self.known.get(image.tobytes(), none) for image in images]).reshape(-1, 32, 32)


def test_the_judge_is_the_one_that_did_not_learn_the_nearest_image(renders):
    """With copies of training images the nearest is known: even rows go to one judge, odd ones to the other."""
    training = renders[0]
    images, labels = training.images(), labels_of(training)
    look = Look.fit(images)
    whole = LabelledImages(images, np.zeros(500, np.int64), ("image",), None, "t")
    judges = (Knowing(training), Knowing())
    gate = MaskGated(
        Told(labels), judges, look, look.marks(images), None, Nearness.fit(whole, look), 0.5, GateConfig()
    )
    told = gate(samples_of(images[:60]))
    assert judges[0].asked == judges[1].asked == 30
    seen = labels.class_id[np.searchsorted(labels.frame, np.arange(60))] > 0  # a frame with an object
    np.testing.assert_array_equal(told.scores["agreement"][0::2], 1)
    np.testing.assert_array_equal(told.scores["agreement"][1::2][seen[1::2]], 0)
    assert set(told.reason[1::2]) == {"label"} and set(told.reason[0::2]) <= {"", "duplicate"}
    # What was accepted before is not accepted again; what is dropped for its mask is not remembered.
    gate.accept(images[:10], np.zeros(10, int))
    assert set(gate(samples_of(images[:60])).reason[0:10:2]) == {"duplicate"}


@pytest.mark.slow
def test_right_masks_stay_and_wrong_ones_go(renders, gate):
    fresh = renders[2]
    gate.mechanism, gate.seen = Told(labels_of(fresh)), None
    kept = gate(samples_of(fresh.images())).reason == ""
    assert kept.mean() > 0.85
    wrong = labels_of(fresh)
    wrong.class_id[:] = wrong.class_id % 3 + 1  # every object is called something else
    gate.mechanism = Told(wrong)
    assert (gate(samples_of(fresh.images())).reason == "label").mean() > 0.9


@pytest.mark.slow
def test_copies_and_repetitions_are_told(renders, gate):
    training, _, fresh = renders
    gate.mechanism, gate.seen = Told(labels_of(training)), None
    told = gate(samples_of(training.images()[:80]))
    assert (told.reason == "copy").mean() > 0.8 and told.scores["to_training"].max() < 1e-2
    gate.mechanism = Told(labels_of(fresh))
    images = fresh.images()
    gate.accept(images[:40], np.zeros(40, int))
    again = gate(samples_of(images)).reason
    assert set(again[:40]) <= {"duplicate", "label", "copy"} and (again[40:] == "duplicate").mean() < 0.1
    gate.seen = None
    assert "duplicate" not in set(gate(samples_of(images[:40])).reason[:1])
    described = gate.describe()["gate"]
    assert 0 < described["least_agreement"] < 1 and described["memorization"]["training_images"] == 500


@pytest.mark.slow
def test_the_command_draws_again_and_counts(renders, tmp_path):
    """An untrained model's masks are all doubted, and the run says so; unfit data is refused before."""
    config = DiffuserConfig(
        size=(32, 32), channels=3, classes=CLASSES, mask_bits=2, widths=(16, 32), blocks=1, patch=2
    )
    record = {"generation": 0, "data": {"name": "toys", "digest": "0" * 64, "classed": False}}
    Diffuser.new(config, 0, record).save(tmp_path / "model")
    path = str(renders[0].root)
    with pytest.raises(ImgsynthError, match="keep-share"):
        sample_dataset(tmp_path / "model", tmp_path / "a", n=2, gate=GateRequest(path, keep_share=0.5))
    with pytest.raises(ImgsynthError, match="in a row"):
        sample_dataset(
            tmp_path / "model", tmp_path / "b", n=2,
            gate=GateRequest(path, settings={"steps": 10, "label_false_drop": 0.4}), sampling={"steps": 1},
        )  # fmt: skip
    other = generate.render("toys", 2, tmp_path / "other", workers=1, sets=["image.size=[40, 40]"])
    with pytest.raises(DataError, match="40×40"):
        mask_data(str(other), Diffuser.new(config, 0))
