"""The gate inside generation: planted copies, wrong labels and repetitions are drawn again, and counted."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from closed_forms_diffusion import Mixture

from imgsynth.dataset import Dataset
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.verify import verify
from imgsynth.diffusion import write
from imgsynth.diffusion.gated import UNSURE, Surest, fit_gate
from imgsynth.diffusion.sample import Sampling, sample
from imgsynth.diffusion.verdict import Verdict
from imgsynth.diffusion.write import Origin, generate
from imgsynth.errors import DataError

SIDE = 12


def patterns(labels, rng):
    """Class 0: a broad horizontal wave, class 1: a vertical one, each of its own phase and noise."""
    n = len(labels)
    phase, tilt = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE * 2 * np.pi
    wave = np.where(labels[:, None, None] == 0, np.sin(y + phase), np.sin(x + phase))
    other = 0.5 * np.sin(2 * x + 3 * y + tilt)
    return np.clip(127.5 + 60 * wave + 30 * other + rng.normal(0, 14, (n, SIDE, SIDE)), 0, 255)[
        ..., None
    ].astype(np.uint8)


def real(n, seed, name="waves"):
    labels = np.arange(n) % 2
    images = patterns(labels, np.random.default_rng(seed))
    return LabelledImages(images, labels, ("across", "down"), None, name)


class Replayed(Mixture):
    """A "model" whose every start picks a picture: by the sign of one number of its noise, a new or a planted one."""

    def denoise(self, x, sigma, labels, layout=None):
        rng_of = (x[:, 0, 0, 0].double() * 1e6).round().long()
        out = []
        for key, label, first in zip(rng_of.tolist(), labels.tolist(), x[:, 0, 0, 1].tolist(), strict=True):
            rng = np.random.default_rng(abs(key))
            if first < -0.8 * float(sigma[0]):  # about a fifth
                out.append(TRAINING.images[rng.integers(len(TRAINING) // 2) * 2 + label])
            elif first > 0.8 * float(sigma[0]):
                out.append(patterns(np.array([1 - label]), rng)[0])
            else:
                out.append(patterns(np.array([label]), rng)[0])
        return torch.from_numpy(np.stack(out)).float().permute(0, 3, 1, 2) / 127.5 - 1


TRAINING = real(400, 1)
MODEL = Replayed(size=(SIDE, SIDE), classes=("across", "down"))
ONE = Sampling(steps=1)


@pytest.fixture(scope="module")
def gate():
    return fit_gate(MODEL, TRAINING, real(200, 2, "held out"), {"steps": 40, "folds": 2}, seed=0)


def test_plants_are_drawn_again_and_counted(gate, tmp_path):
    keep = replace(gate)
    root = generate(
        MODEL, Origin("replayed", "0" * 64, "fp32"), 60, tmp_path / "set", settings=ONE, keep=keep
    )
    dataset = Dataset(root)
    assert verify(root).ok
    images, labels = dataset.images(), dataset.labels()
    plants = {i.tobytes() for i in TRAINING.images}
    assert not any(i.tobytes() in plants for i in images)  # no copy is left
    across = np.abs(np.diff(images[..., 0].astype(float).mean(axis=2), axis=1)).sum(axis=1)
    down = np.abs(np.diff(images[..., 0].astype(float).mean(axis=1), axis=1)).sum(axis=1)
    assert ((across > down) == (labels == 0)).mean() > 0.98  # nor a wrong label
    counts = dataset.manifest.filters
    assert (
        counts["copy"] >= 8
        and counts["label"] >= 8
        and counts["drawn"] >= 60 + counts["copy"] + counts["label"]
    )
    confidence = np.array(dataset.instances.column("confidence").to_pylist())
    assert ((confidence > 0.5) & (confidence <= 1)).all()
    assert dataset.header.spec["diffusion"]["filters"]["gate"]["config"]["folds"] == 2


def test_a_gated_run_resumes_to_the_same_bytes(gate, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_FRAMES_PER_PART", 32)

    def run(name, **more):
        origin = Origin("replayed", "0" * 64, "fp32")
        return generate(MODEL, origin, 70, tmp_path / name, settings=ONE, keep=replace(gate), **more)

    def bytes_of(root):
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}

    whole, real_write, written = bytes_of(run("whole")), write.writer.write_part, []

    def dying(*args):
        if written:
            raise KeyboardInterrupt
        written.append(real_write(*args))

    monkeypatch.setattr(write.writer, "write_part", dying)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    monkeypatch.setattr(write.writer, "write_part", real_write)
    assert bytes_of(run("cut", resume=True)) == whole


class Sure:
    """Says how sure it is of a label: how bright the image is."""

    reasons, remembers = ("odd",), False

    def __call__(self, samples, beside=None):
        sure = samples.images.mean(axis=(1, 2, 3)) / 255
        return Verdict(np.full(len(sure), "", object), {}, sure)

    def accept(self, images, labels):
        pass

    def describe(self):
        return {}


def test_the_surest_share_is_kept_of_each_class():
    model = Mixture((-0.5, 0.5), (0.4, 0.2), size=(4, 4))
    settings = Sampling(steps=8)
    keep = Surest.fit(Sure(), 0.25, model, seed=3, settings=settings)
    assert keep.reasons == ("odd", UNSURE) and keep.describe()["keep_share"] == 0.25
    labels = np.arange(1200) % 2
    samples = sample(model, labels, seed=3, indices=np.arange(1200), settings=settings)
    kept = keep(samples).reason == ""
    for label in (0, 1):
        assert kept[labels == label].mean() == pytest.approx(0.25, abs=0.12)  # measured on 64
    bright = samples.images.mean(axis=(1, 2, 3))
    assert bright[(labels == 0) & kept].min() > bright[(labels == 0) & ~kept].max()
    with pytest.raises(DataError, match="keep share"):
        Surest.fit(Sure(), 1.5, model, seed=3, settings=settings)


def test_a_gate_of_other_classes_is_refused():
    with pytest.raises(DataError, match="not among"):
        fit_gate(replace(MODEL, classes=("a", "b")), TRAINING, None, {}, seed=0)
    with pytest.raises(DataError, match="did you mean"):
        fit_gate(MODEL, TRAINING, None, {"fold": 3}, seed=0)
