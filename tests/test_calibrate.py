"""What masks are worth against a judge: counted on planted masks, and kept with the model."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from imgsynth import generate
from imgsynth.cli import app
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion.calibrate import JUDGE, calibrate_model
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.drift import DriftSettings
from imgsynth.diffusion.fidelity import fidelity, labels_of, right_objects, semantic_of
from imgsynth.diffusion.large import refine_with_model
from imgsynth.diffusion.mechanism import Labelled
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.sampled import mechanism_of, sample_dataset
from imgsynth.diffusion.store import amend
from imgsynth.errors import DataError, ImgsynthError, ModelError
from imgsynth.learn.semantic import SegmenterConfig

CLASSES = ("ball", "block", "cone")
QUICK = SegmenterConfig(width=8, steps=40)


def planted(n=600, seed=0, size=8):
    """Two objects a frame, a column apart, right as often as their confidence says; and what a judge finds."""
    rng = np.random.default_rng(seed)
    instance = np.zeros((n, size, size), np.int32)
    instance[:, :, :3], instance[:, :, 4:6] = 1, 2
    frame, ident = np.repeat(np.arange(n, dtype=np.int32), 2), np.tile(np.array([1, 2], np.int32), n)
    class_id = rng.integers(1, 4, 2 * n).astype(np.int32)
    chance = rng.uniform(0.2, 1, 2 * n)
    right = rng.random(2 * n) < chance
    labels = Labelled("joint-sampled", instance, frame, ident, class_id, chance**3)
    found = semantic_of(labels).astype(np.uint8)
    for k in np.flatnonzero(~right):
        found[frame[k]][instance[frame[k]] == ident[k]] = class_id[k] % 3 + 1
    return labels, found, right


def test_an_object_is_right_where_half_of_it_is():
    labels, found, right = planted(50)
    np.testing.assert_array_equal(right_objects(labels, found), right)
    half = semantic_of(labels).astype(np.uint8)
    half[:, :4] = 0
    assert right_objects(labels, half).all() and not right_objects(labels, half, 0.6).any()


def test_a_distorted_confidence_is_straightened():
    labels, found, right = planted(4000)
    said = fidelity(labels, found, CLASSES)
    assert said.objects == 8000 and said.right == right.mean()
    assert said.raw.ece.value > 0.15 > 0.05 > said.calibrated.ece.value
    alike = fidelity(labels, semantic_of(labels).astype(np.uint8), CLASSES)
    assert alike.miou == alike.pixels == alike.right == 1
    few = labels.taken(np.arange(20))
    assert fidelity(few, found[:20], CLASSES).map is None


def test_iou_is_of_all_pixels_and_classes():
    labels, _, _ = planted(1)
    labels.class_id[:] = (1, 2)
    found = semantic_of(labels).astype(np.uint8)
    found[found == 2] = 0
    said = fidelity(labels, found, CLASSES)
    # 24 pixels of class 1, 16 of class 2 called background, 24 of background; class 3 nowhere.
    assert (
        said.iou["ball"] == 1 and said.iou["block"] == 0 and said.iou["background"] == pytest.approx(24 / 40)
    )
    assert np.isnan(said.iou["cone"]) and said.miou == pytest.approx((1 + 0.6) / 3)


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate") / "renders"
    return generate.render("toys", 800, folder, seed=4, workers=1, sets=["outputs=[semantic]"])


def model_of(folder, **more):
    """An untrained model: its masks mean nothing, which is what a calibration should then say."""
    record = {
        "generation": 0,
        "data": {"name": "toys", "digest": "0" * 64, "classed": False, "layout": more.pop("names", [])},
    }
    config = DiffuserConfig(
        size=(32, 32), channels=3, classes=CLASSES, widths=(16, 32), blocks=1, patch=2, **more
    )
    Diffuser.new(config, 0, record).save(folder)
    return folder


def test_a_joint_model_keeps_what_was_measured(renders, tmp_path):
    model = model_of(tmp_path / "model", mask_bits=2)
    told = calibrate_model(model, renders, n=64, judge=QUICK)
    kept = Diffuser.load(model).record["calibration"]
    assert kept["miou"] == told["miou"] < 0.5 and 0 <= told["ece"]["mean"] <= 1
    assert told["judge_miou"] > told["miou"]
    mechanism = mechanism_of(Diffuser.load(model))
    assert mechanism.describe()["calibration"]["x"] == kept["x"]
    sample_dataset(model, tmp_path / "samples", n=8, seed=5, sampling={"steps": 4})
    sure = np.array(Dataset(tmp_path / "samples").instances.column("confidence").to_pylist())
    assert len(sure) and (sure <= max(kept["y"])).all() and (sure >= min(kept["y"])).all()


@pytest.mark.slow
def test_measured_anew_it_is_the_raw_confidence_that_is_mapped(renders, tmp_path):
    model = model_of(tmp_path / "model", mask_bits=2)
    assert calibrate_model(model, renders, n=64, judge=QUICK) == calibrate_model(
        model, renders, n=64, judge=QUICK
    )


@pytest.mark.slow
def test_a_layout_model_gets_a_judge_of_its_own(renders, tmp_path):
    model = model_of(tmp_path / "model", layout_channels=3, names=[f"semantic:{c}" for c in CLASSES])
    told = calibrate_model(model, renders, n=500, judge=QUICK)
    assert told["frames"] == 80 and (model / JUDGE / "model.safetensors").is_file()
    few = generate.render("toys", 20, tmp_path / "few", seed=9, workers=1, sets=["outputs=[semantic]"])
    made = refine_with_model(few, tmp_path / "out", model=str(model))
    assert sum(made["dropped"].values()) >= 10  # little agrees with an untrained model
    made = refine_with_model(few, tmp_path / "all", model=str(model), limits=DriftSettings(0, 0))
    assert made["frames"] == 20 and made["mean_confidence"] < 0.6
    labels = labels_of(Dataset(tmp_path / "all"))
    judged = np.isfinite(labels.confidence)
    areas = np.array([(labels.instance[f] == i).sum() for f, i in zip(labels.frame, labels.id, strict=True)])
    assert judged[areas >= 40].mean() > 0.8 and not judged[areas < 16].any()
    (model / JUDGE / "model.safetensors").unlink()
    with pytest.raises(ImgsynthError):
        refine_with_model(few, tmp_path / "none", model=str(model))


def test_what_cannot_be_measured_is_refused(renders, tmp_path):
    plain = model_of(tmp_path / "plain")
    with pytest.raises(ImgsynthError, match="of whole images"):
        calibrate_model(plain, renders)
    other = generate.render("toys", 4, tmp_path / "few", workers=1, sets=["outputs=[semantic]"])
    joint = model_of(tmp_path / "joint", mask_bits=2)
    with pytest.raises(DataError, match="too few"):
        calibrate_model(joint, other)
    small = generate.render("toys", 4, tmp_path / "small", workers=1, sets=["image.size=[48, 48]"])
    with pytest.raises(DataError, match="48×48"):
        calibrate_model(joint, small)
    sample_dataset(joint, tmp_path / "drawn", n=2)
    with pytest.raises(DataError, match="a model drew these"):  # it would be asked what it thinks of itself
        calibrate_model(joint, tmp_path / "drawn")
    with pytest.raises(ImgsynthError, match="calibrate the copy"):
        calibrate_model(Path("toys"), renders)
    with pytest.raises(ModelError, match="no such model"):
        amend(tmp_path / "nowhere", calibration={})
    run = CliRunner().invoke(app, ["diffuse", "calibrate", str(plain), str(renders)])
    assert run.exit_code == 2 or isinstance(run.exception, ImgsynthError)


@pytest.mark.slow
def test_the_command_says_what_it_measured(renders, tmp_path):
    model = model_of(tmp_path / "model", mask_bits=2)
    words = ["diffuse", "calibrate", str(model), str(renders), "-n", "200", "--steps", "5"]
    run = CliRunner().invoke(app, [*words, "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["frames"] == 200
