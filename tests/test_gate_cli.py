"""`imgsynth evaluate memorization` and `distance` as users call them."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imgsynth import analyses
from imgsynth.dataset.sources import load
from imgsynth.errors import ImgsynthError

runner = CliRunner()


def call(*arguments):
    return runner.invoke(analyses.app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Digits in files: train, held-out, samples of which 40 of 300 are flipped copies and 20 repeat others."""
    folder = tmp_path_factory.mktemp("sets")
    data = load("sklearn:digits")
    block = data.groups.astype(int)
    train, held, fresh = (np.isin(block, b) for b in ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12]))
    images, labels = data.images[fresh][:300].copy(), data.labels[fresh][:300].copy()
    images[:40], labels[:40] = data.images[train][:40, :, ::-1], data.labels[train][:40]
    images[280:], labels[280:] = images[100:120], labels[100:120]
    sets = {"train": (data.images[train], data.labels[train]), "held": (data.images[held], data.labels[held])}
    for name, (x, y) in {**sets, "samples": (images, labels)}.items():
        np.savez(folder / f"{name}.npz", images=x, labels=y)
    return folder


def test_memorization_finds_planted_copies_and_shows_them(files, tmp_path):
    arguments = ["memorization", files / "samples.npz", files / "train.npz", "--held-out", files / "held.npz"]
    results = json.loads(call(*arguments, "-o", tmp_path / "out", "--json").stdout)
    assert results == json.loads((tmp_path / "out/results.json").read_text())
    assert {w["sample"] for w in results["worst"]} <= set(range(40))
    low, high = results["copies"]["ci95"]
    assert low < 40 / 300 < high and results["p_of_chance"] < 1e-6
    assert 20 <= results["near_duplicates"] <= 26
    page = (tmp_path / "out/report.html").read_text()
    assert "data:image/png;base64" in page and results["verdict"][0] in page
    assert np.asarray(Image.open(tmp_path / "out/pairs.png")).shape[2] == 3
    said = call(*arguments).stdout
    assert "copies of training images, beyond false alarms" in said


def test_innocent_samples_are_called_innocent(files):
    data = load("sklearn:digits")
    fresh = data.subset(data.groups.astype(int) >= 10)
    np.savez(files / "fresh.npz", images=fresh.images, labels=fresh.labels)
    said = call(
        "memorization", files / "fresh.npz", files / "train.npz", "--held-out", files / "held.npz"
    ).stdout
    assert "no sign of memorization" in said


def test_distance_writes_figures_and_a_page(files, tmp_path):
    arguments = [
        "distance",
        files / "samples.npz",
        files / "held.npz",
        "--train",
        files / "train.npz",
        "--steps",
        20,
    ]
    results = json.loads(call(*arguments, "-o", tmp_path, "--json").stdout)
    assert results["fd"]["ci95"][0] < results["fd"]["mean"] < results["fd"]["ci95"][1]
    assert set(results) >= {"kid", "precision", "recall", "density", "coverage", "fd_plain", "verdict"}
    assert "Fréchet" in (tmp_path / "report.html").read_text()
    assert results["what"]["command"].startswith("imgsynth evaluate distance ")


def test_bad_use_is_one_line(files, tmp_path):
    for arguments, said in (
        (["distance", "a.npz", "b.npz", "--net", "m", "--train", "c.npz"], "not both"),
        (["memorization", "no.npz", files / "train.npz", "--held-out", files / "held.npz"], "no such file"),
        (["distance", files / "samples.npz", files / "held.npz", "--net", tmp_path], "model.json"),
    ):
        with pytest.raises(ImgsynthError, match=said) as error:
            call(*arguments)
        assert "\n" not in str(error.value)
