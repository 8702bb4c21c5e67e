"""The models that ship draw what they say, without a network, and state their origin."""

import numpy as np

from imgsynth import generate
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.sources import load
from imgsynth.dataset.verify import verify
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.sampled import sample_dataset
from imgsynth.diffusion.shipped import ROOM, model_folder, shipped_models


def test_each_says_its_origin_and_licence():
    models = shipped_models()
    assert "digits" in models
    said = (ROOM / "README.md").read_text()
    for name, folder in models.items():
        assert f"| {name} |" in said
        model = Diffuser.load(folder)
        assert model.record["data"]["digest"] and model.record["generation"] == 0
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 12 << 20


def test_digits_are_the_digits_that_were_asked_for(tmp_path):
    sample_dataset("digits", tmp_path / "drawn", per_class=20, seed=3)
    assert not verify(tmp_path / "drawn").problems
    drawn, real = load(str(tmp_path / "drawn")), load("sklearn:digits:validation")
    train = load("sklearn:digits:train")

    def agreement(some):
        """Share whose nearest image of writers that the model never saw is of the class that they claim."""
        far = ((some.images[:, None].astype(float) - real.images[None]) ** 2).sum(axis=(2, 3, 4))
        return (real.labels[far.argmin(axis=1)] == some.labels).mean()

    assert agreement(drawn) > agreement(train) - 0.08
    header = Dataset(tmp_path / "drawn").header
    assert header.generation == 1 and header.parents[0]["name"] == "digits"
    assert len(np.unique(drawn.images.reshape(len(drawn), -1), axis=0)) == len(drawn)


def coloured(data):
    """Share of coloured pixels inside the masks and outside them: objects of `toys` are coloured, the floor is not."""
    images = data.images().astype(float)
    spread = images.max(axis=3) - images.min(axis=3)  # of a pixel's channels
    found = np.abs(spread - np.median(spread, axis=(1, 2), keepdims=True)) > 40
    masks = np.stack([data.semantic_mask(i) > 0 for i in range(len(data))])
    return found[masks].mean(), found[~masks].mean(), masks.mean()


def test_toys_come_with_masks_of_what_is_in_them(tmp_path):
    made = sample_dataset("toys", tmp_path / "drawn", n=64, seed=4)
    assert made["grounding"] == "joint-sampled" and not verify(tmp_path / "drawn").problems
    data = Dataset(tmp_path / "drawn")
    render = generate.render("toys", 64, tmp_path / "real", workers=1, sets=["outputs=[semantic]"])
    drawn, real = coloured(data), coloured(Dataset(render))
    assert drawn[0] > real[0] - 0.12 and drawn[1] < real[1] + 0.03 and abs(drawn[2] - real[2]) < 0.04
    sure = np.array(data.instances.column("confidence").to_pylist())
    assert 2 <= len(sure) / 64 <= 5 and (sure >= 0).all() and (sure <= 1).all()
    assert "calibration" in Diffuser.load(shipped_models()["toys"]).record


def test_a_dataset_of_that_name_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert model_folder("digits") == shipped_models()["digits"]
    Diffuser.load(model_folder("digits")).save(tmp_path / "digits")
    assert model_folder("digits").resolve() == tmp_path / "digits"
