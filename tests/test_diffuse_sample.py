"""`imgsynth diffuse sample`, from a model folder to a dataset: what it takes, what it refuses, what it writes."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from imgsynth.dataset import Dataset
from imgsynth.dataset.verify import verify
from imgsynth.diffusion import shipped
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.sample import Sampling
from imgsynth.diffusion.sampled import sample_dataset, settings_of
from imgsynth.errors import ImgsynthError, ModelError


def tiny(seed, **more):
    values = {"size": (8, 8), "channels": 1, "classes": ("zero", "one", "two"), "widths": (16,), "blocks": 1}
    model = Diffuser.new(
        DiffuserConfig(**(values | more)), seed, {"data": {"name": "nothing"}, "generation": 2}
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.net.parameters():  # a fresh net's last layer is zero
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return replace(model, net=model.net.eval())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    replace(tiny(1), guide=tiny(2)).save(root / "plain")
    tiny(3, mask_bits=4).save(root / "joint")
    tiny(4, layout_channels=1).save(root / "laid")
    return root


FAST = {"steps": 2}


def bytes_of(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def test_a_dataset_comes_out_with_its_lineage(folders, tmp_path):
    made = sample_dataset(folders / "plain", tmp_path / "a", per_class=3, seed=5, sampling=FAST)
    model = Diffuser.load(folders / "plain")
    assert made["frames"] == 9 and made["grounding"] == "condition" and made["generation"] == 3
    assert made["model"] == model.hash() and made["sampling"]["steps"] == 2
    dataset = Dataset(tmp_path / "a")
    assert verify(dataset.root).ok
    assert np.bincount(dataset.labels()).tolist() == [3, 3, 3]
    assert dataset.header.parents[0]["data"] == {"name": "nothing"}
    assert dataset.header.spec["diffusion"]["guide"] == model.guide.hash()
    sample_dataset(folders / "plain", tmp_path / "b", per_class=3, seed=5, sampling=FAST)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_guides_and_classes_are_as_asked(folders, tmp_path):
    def images(name, **more):
        sample_dataset(folders / "plain", tmp_path / name, n=4, classes=["two", "zero"], **more)
        dataset = Dataset(tmp_path / name)
        assert dataset.labels().tolist() == [2, 0, 2, 0]
        return dataset.images()

    few = {"steps": 4}
    plain = images("plain", sampling=few)
    free = images("free", sampling={**few, "guidance": 2.0, "interval": (0.2, 20.0)})
    own = images("own", sampling={**few, "guidance": 2.0}, autoguide=True)
    noisy = images("noisy", sampling={**few, "cads": {"scale": 3.0, "full": 0.1}})
    assert len({a.tobytes() for a in (plain, free, own, noisy)}) == 4


def test_a_joint_model_gives_masks(folders, tmp_path):
    made = sample_dataset(folders / "joint", tmp_path / "joint", n=5, sampling=FAST)
    dataset = Dataset(tmp_path / "joint")
    assert made["grounding"] == "joint-sampled" and verify(dataset.root).ok
    assert dataset.header.spec["diffusion"]["labels"]["coding"] == {"classes": 3, "instances": 3}


def test_what_cannot_be_done_is_said(folders, tmp_path):
    def said(pattern, model="plain", error=ImgsynthError, **more):
        with pytest.raises(error, match=pattern):
            sample_dataset(folders / model, tmp_path / "no", **({"n": 2} | more))
        assert not (tmp_path / "no").exists()

    said("say how many", n=None)
    said("say how many", per_class=2)
    said("did you mean 'zero'", classes=["zeor"])
    said("did you mean 'steps'", sampling={"step": 3})
    said("solver: expected one of", sampling={"solver": "best"})
    said("weight of 1 does nothing", autoguide=True)
    said("no earlier self", model="joint", autoguide=True, sampling={"guidance": 2.0})
    said("follows layouts", model="laid", error=ModelError)
    said("expected cpu or cuda", device="tpu")
    if not torch.cuda.is_available():
        said("finds no GPU", device="cuda")


def test_models_are_found_by_name(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ROOM", tmp_path / "none")
    assert shipped.shipped_models() == {}
    with pytest.raises(ModelError, match="'digits': this installation ships none"):
        shipped.model_folder("digits")
    monkeypatch.setattr(shipped, "ROOM", folders)
    assert set(shipped.shipped_models()) == {"plain", "joint", "laid"}
    assert shipped.model_folder("plain") == folders / "plain"
    assert shipped.model_folder(tmp_path) == tmp_path
    with pytest.raises(ModelError, match="those that ship are joint, laid, plain"):
        shipped.model_folder("../plain")


def test_settings_from_plain_values():
    assert settings_of({}) == Sampling()
    found = settings_of({"guidance": 2, "interval": (0.5, 3.0), "cads": True, "steps": 7})
    assert found.steps == 7 and found.guidance.interval == (0.5, 3.0) and found.cads.scale == 0.1
    assert found.to_json()["guidance"] == {"weight": 2.0, "interval": [0.5, 3.0], "reference": "null"}
    assert settings_of({"guidance": 2}).to_json()["guidance"]["interval"] == [0.0, None]
    assert settings_of({"guidance": 2}, autoguide=True).guidance.reference == "guide"
    assert math.isinf(settings_of({}).guidance.interval[1])
