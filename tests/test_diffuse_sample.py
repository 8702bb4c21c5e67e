"""`imgsynth diffuse sample`, from a model folder to a dataset: what it takes, what it refuses, what it writes."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from imgsynth.cli import app
from imgsynth.dataset import Dataset
from imgsynth.dataset.verify import verify
from imgsynth.diffusion import shipped
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.sample import Sampling
from imgsynth.diffusion.sampled import mechanism_of, sample_dataset, settings_of
from imgsynth.errors import ImgsynthError, ModelError


def tiny(seed, classed=True, **more):
    record = {"data": {"name": "nothing", "classed": classed}}
    values = {"size": (8, 8), "channels": 1, "classes": ("zero", "one", "two"), "widths": (16,), "blocks": 1}
    model = Diffuser.new(DiffuserConfig(**(values | more)), seed, record | {"generation": 2})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.net.parameters():  # a fresh net's last layer is zero
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return replace(model, net=model.net.eval())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    replace(tiny(1), guide=tiny(2)).save(root / "plain")
    tiny(3, classed=False, mask_bits=4).save(root / "joint")
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
    assert dataset.header.parents[0]["data"] == {"name": "nothing", "classed": True}
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
    made = dataset.header.spec["diffusion"]
    assert made["labels"]["coding"] == {"classes": 3, "instances": 3}
    assert made["asked"] == {"classes": [3], "counts": []}  # of no class


def test_what_cannot_be_done_is_said(folders, tmp_path):
    def said(pattern, model="plain", error=ImgsynthError, **more):
        with pytest.raises(error, match=pattern):
            sample_dataset(folders / model, tmp_path / "no", **({"n": 2} | more))
        assert not (tmp_path / "no").exists()

    said("say how many", n=None)
    said("say how many", per_class=2)
    said("without a class an image", model="joint", classes=["one"])
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


def test_a_calibration_in_the_record_maps_confidences():
    model = tiny(3, classed=False, mask_bits=4)
    assert mechanism_of(model).calibrate is None
    told = replace(model, record={"calibration": {"x": [0.5, 1.0], "y": [0.2, 0.6]}})
    mechanism = mechanism_of(told)
    np.testing.assert_allclose(mechanism.calibrate(np.array([0.0, 0.75, 1.0])), [0.2, 0.4, 0.6])
    assert mechanism.describe()["calibration"] == {"x": [0.5, 1.0], "y": [0.2, 0.6]}
    for bad in (
        {"x": [1, 0], "y": [0, 1]},
        {"x": [0, 1], "y": [0.5, 1.5]},
        {"x": []},
        "map",
        {"x": ["a"], "y": [1]},
    ):
        with pytest.raises(ModelError, match="calibration"):
            mechanism_of(replace(model, record={"calibration": bad}))


def test_settings_from_plain_values():
    assert settings_of({}) == Sampling()
    found = settings_of({"guidance": 2, "interval": (0.5, 3.0), "cads": True, "steps": 7})
    assert found.steps == 7 and found.guidance.interval == (0.5, 3.0) and found.cads.scale == 0.1
    assert found.to_json()["guidance"] == {"weight": 2.0, "interval": [0.5, 3.0], "reference": "null"}
    assert settings_of({"guidance": 2}).to_json()["guidance"]["interval"] == [0.0, None]
    assert settings_of({"guidance": 2}, autoguide=True).guidance.reference == "guide"
    assert math.isinf(settings_of({}).guidance.interval[1])


def test_masks_are_drawn_in_more_steps_unless_told_otherwise(folders, tmp_path):
    def drawn(model, name, **told):
        sample_dataset(folders / model, tmp_path / name, n=2, sampling=told)
        settings = Dataset(tmp_path / name).header.spec["diffusion"]["sampling"]
        return settings["steps"], settings["schedule"], settings["solver"]

    assert drawn("plain", "a") == (8, "straight", "dpmpp_2m")
    assert drawn("joint", "b") == (16, "karras", "dpmpp_2m")
    assert drawn("joint", "c", steps=3, schedule="straight", solver="heun") == (3, "straight", "heun")


def command(*arguments):
    return CliRunner().invoke(app, ["diffuse", "sample", *map(str, arguments)])


def test_the_command(folders, tmp_path):
    out = tmp_path / "set"
    done = command(folders / "plain", "--per-class", 2, "-o", out, "--steps", 2, "--class", "one", "--class", "two",
                   "--interval", 0.1, 3, "--guidance", 2, "--start", 7, "--json", "--schedule", "karras", "--low", 0.03,
                   )  # fmt: skip
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (
        said["frames"] == 4 and said["start"] == 7 and said["sampling"]["guidance"]["interval"] == [0.1, 3.0]
    )
    assert (said["sampling"]["schedule"], said["sampling"]["low"]) == ("karras", 0.03)
    assert CliRunner().invoke(app, ["verify", str(out)]).exit_code == 0
    for arguments in (
        ["--keep-share", 0.5], ["--held-out", "x"], ["--class", "three"], ["--steps", 0], ["--interval", 3, 1],
        ["--gate", "no-such-data"], ["--autoguide"], ["--low", 0], ["--schedule", "steep"],
    ):  # fmt: skip
        done = command(folders / "plain", "-n", 2, "-o", tmp_path / "no", *arguments)
        assert done.exit_code == 2 or isinstance(done.exception, ImgsynthError), (arguments, done.output)
        assert not (tmp_path / "no").exists()
    assert isinstance(command("nothing", "-n", 2, "-o", tmp_path / "no").exception, ModelError)


@pytest.mark.slow
def test_the_race_against_diffusers_own_loops_runs(folders, tmp_path):
    """At a size too small to say anything; the figures are in docs/diffusion.md."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", images=images, labels=np.arange(60) % 3, classes=["zero", "one", "two"])
    script = Path(__file__).parents[1] / "scripts/bench/diffuse.py"
    arguments = [folders / "plain", "--real", tmp_path / "real.npz", "-n", 40, "--repeats", 1, "--steps", 3,
                 "--feature-steps", 3, "--json", tmp_path / "out.json"]  # fmt: skip
    done = subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {"imgsynth (default)", "imgsynth, 3 steps", "diffusers DDIM-50", "diffusers pipeline, 50"} <= set(
        rows
    )
    assert rows["imgsynth, 3 steps"]["images_a_second"] > 2 * rows["diffusers DDIM-50"]["images_a_second"]
    assert all(row["fd_pixels"] > 0 for row in rows.values())
