"""What a reader of the README would run, runs."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from imgsynth import cli, generate, scenefile
from imgsynth.scene import SceneSpec
from imgsynth.yamlfile import parse_yaml, validate

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_runs_in_order(tmp_path, monkeypatch, capsys):
    commands = [
        shlex.split(line, comments=True)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("imgsynth ")
    ]
    assert len(commands) > 8
    monkeypatch.chdir(tmp_path)
    for words in commands:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0, (words, capsys.readouterr().err)
    for name in ("000005.png", "000007.png"):
        assert (tmp_path / "again/images" / name).read_bytes() == (
            tmp_path / "dice/images" / name
        ).read_bytes()


def test_the_python_runs():
    made = {}
    for block in blocks("python"):
        exec(block, made)
    assert made["batch"].images.shape == (4, 128, 128, 3)
    assert made["sample"]["image"].shape == (3, 96, 96)
    assert made["sample"]["boxes"].shape[1] == 4


def test_the_scene_renders():
    for block in blocks("yaml"):
        spec = validate(SceneSpec, parse_yaml(block))
        batch = generate.frames(scenefile.load(spec), 0, range(3))
        assert (batch.buffers.instance > 0).any()


def test_the_scripts_exist_and_are_executable():
    for line in blocks("sh")[0].splitlines():
        script = Path(__file__).parents[1] / line.split()[0]
        assert script.stat().st_mode & 0o111, script
