"""`diffuse sample --prompt` and `diffuse refine` from the command line, on pipelines of random weights."""

from __future__ import annotations

import json
import warnings

import pytest
import tiny_pipelines as tiny
import torch
from typer.testing import CliRunner

from imgsynth import generate
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.verify import verify
from imgsynth.diffusing import app
from imgsynth.diffusion.large import size_of, words_of
from imgsynth.errors import ImgsynthError

torch.set_num_threads(1)
warnings.filterwarnings("ignore", message=".*not initialized.*")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    tiny.stable_diffusion(root / "sd")
    tiny.controlnet(root / "controlnet")
    generate.render("toys", 2, root / "render", workers=1, sets=["outputs=[depth]"])
    return root


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


def refused(said, *arguments):
    result = run(*arguments)
    assert isinstance(result.exception, ImgsynthError) and said in str(result.exception), result.output


def test_prompts(folder, tmp_path):
    common = (
        "sample",
        folder / "sd",
        "-n",
        2,
        "--prompt",
        "a dog on the grass",
        "--size",
        "16x24",
        "--steps",
        1,
    )
    result = run(*common, "--class", "hound=dog", "-o", tmp_path / "out", "--json")
    made = json.loads(result.stdout)
    assert result.exit_code == 0 and made["frames"] == 2 and made["grounding"] == "attention"
    assert verify(tmp_path / "out").ok and Dataset(tmp_path / "out").size == (16, 24)
    refused("no prompt has the words 'cat'", *common, "--class", "cat", "-o", tmp_path / "b")
    refused("say what to draw", *common, "-o", tmp_path / "b")
    refused(
        "--solver is of small models", *common, "--class", "dog", "--solver", "heun", "-o", tmp_path / "b"
    )
    refused("belong to text-to-image", "sample", "digits", "-n", 1, "--size", "8x8", "-o", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_refine(folder, tmp_path):
    common = (
        "refine",
        folder / "render",
        "--pipeline",
        folder / "sd",
        "--steps",
        2,
        "--strength",
        0.5,
        "-o",
        tmp_path / "out",
    )
    guided = (*common, "--controlnet", folder / "controlnet", "--control", "depth")
    refused("every frame drifted", *guided)  # random weights paint anything
    assert not any(tmp_path.iterdir())  # nothing is left lying about
    result = run(*guided, "--edges", 0, "--masks", 0, "--json")
    made = json.loads(result.stdout)
    assert result.exit_code == 0 and made["frames"] == made["drawn"] == 2 and made["grounding"] == "inherited"
    assert verify(tmp_path / "out").ok and Dataset(tmp_path / "out").header.generation == 1
    refused("--control needs --controlnet", *common, "--control", "depth")
    refused("strength: expected 0.001 to 1, got 2.0", *common, "--strength", 2)


def test_options_are_read():
    assert words_of(["dog", "light=traffic light"]) == {"dog": "dog", "light": "traffic light"}
    assert size_of("512x768") == (512, 768)
    for bad in ("=dog", "dog=", ""):
        with pytest.raises(ImgsynthError, match="expected NAME=WORDS"):
            words_of([bad])
    with pytest.raises(ImgsynthError, match="stands twice"):
        words_of(["a=b", "a=c"])
    for bad in ("512", "axb", "-1x2"):
        with pytest.raises(ImgsynthError, match="HEIGHTxWIDTH"):
            size_of(bad)
