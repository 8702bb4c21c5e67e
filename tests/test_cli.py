"""The command line's contract: exit codes, one clear line, JSON on stdout and nothing else there."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsynth import cli
from imgsynth.dataset import writer

SCENE = """
name: tiny
description: two balls
classes: [ball]
image: {size: [24, 32]}
renderer: {samples: 1}
objects:
  ball:
    count: {integer: [1, 2]}
    class: ball
    shape: {sphere: {radius: {uniform: [0.1, 0.2]}}}
    place: {position: {box: {low: [-0.3, -0.3, 0], high: [0.3, 0.3, 0]}}}
"""


@pytest.fixture
def scene(tmp_path):
    (tmp_path / "scene.yaml").write_text(SCENE)
    return str(tmp_path / "scene.yaml")


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["imgsynth", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return ended.value.code, out.out, out.err

    return call


def line(err):
    """The one line that an error is: progress bars aside."""
    said = [text for text in err.splitlines() if text.startswith("imgsynth: ")]
    assert len(said) == 1, err
    assert "Traceback" not in err
    return said[0]


def test_render_verify_export_show(run, scene, tmp_path):
    code, out, _ = run(
        "render",
        scene,
        "-n",
        4,
        "-o",
        tmp_path / "set",
        "--seed",
        3,
        "--workers",
        1,
        "--format",
        "yolo",
        "--json",
    )
    assert code == 0
    assert json.loads(out)["frames"] == 4
    assert (tmp_path / "set-yolo").is_dir()
    code, out, _ = run("verify", tmp_path / "set", "--json")
    assert code == 0
    assert json.loads(out)["ok"] is True
    for fmt in ("coco", "voc"):
        assert run("export", tmp_path / "set", "--format", fmt, "-o", tmp_path / fmt)[0] == 0
    assert run("show", scene, "-n", 5, "-o", tmp_path / "sheet.png")[0] == 0
    assert Image.open(tmp_path / "sheet.png").size[0] > 300


def test_verify_says_what_is_off_and_exits_1(run, scene, tmp_path):
    run("render", scene, "-n", 2, "-o", tmp_path / "set", "--workers", 1)
    (tmp_path / "set" / "images" / "000001.png").write_bytes(b"junk")
    code, out, err = run("verify", tmp_path / "set")
    assert code == 1
    assert "images/000001.png" in out
    assert "problem" in line(err)


def test_set_and_freeze_change_the_frames(run, scene, tmp_path):
    assert (
        run(
            "render",
            scene,
            "-n",
            2,
            "-o",
            tmp_path / "a",
            "--workers",
            1,
            "--set",
            "objects.ball.count=1",
            "--freeze",
            "objects.ball.shape",
        )[0]
        == 0
    )
    spec = json.loads((tmp_path / "a" / "dataset.json").read_text())["spec"]
    assert spec["objects"]["ball"]["count"] == 1
    assert spec["freeze"] == ["objects.ball.shape"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["render", "dise", "-n", "1", "-o", "OUT"], "did you mean 'dice'"),
        (["render", "SCENE", "-n", "0", "-o", "OUT"], "-n"),
        (["render", "SCENE", "-o", "OUT"], "-n"),
        (["render", "SCENE", "-n", "2", "-o", "OUT", "--seed", "-1"], "--seed"),
        (["render", "SCENE", "-n", "2", "-o", "OUT", "--set", "camera.fov=3"], "did you mean 'fov_deg'"),
        (
            ["render", "SCENE", "-n", "2", "-o", "OUT", "--freeze", "camera.fov"],
            "did you mean 'camera.fov_deg'",
        ),
        (["render", "SCENE", "-n", "2", "-o", "OUT", "--sampler", "halton"], "random or sobol"),
        (["render", "SCENE", "-n", "2", "-o", "OUT", "--renderer", "blender"], "raster"),
        (["render", "SCENE", "-n", "2", "-o", "OUT", "--device", "tpu"], "tpu"),
        (["render", "SCENE", "-n", "2", "-o", "OUT", "--format", "yollo"], "yolo"),
        (["verify", "NOWHERE"], "NOWHERE"),
        (["export", "NOWHERE", "--format", "coco", "-o", "OUT"], "NOWHERE"),
        (["score", "NOWHERE", "sklearn:digits:validation"], "NOWHERE"),
        (["learn", "NOWHERE", "--task", "classify", "-o", "OUT"], "NOWHERE"),
        (["learn", "sklearn:digits:train", "--task", "detekt", "-o", "OUT"], "classify"),
        (["study", "NOWHERE.yaml", "-o", "OUT"], "NOWHERE.yaml"),
        (["rendr"], "render"),
    ],
)
def test_bad_use_is_one_line_exit_2_and_nothing_written(words, expected, run, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*[{"SCENE": scene, "OUT": str(tmp_path / "out")}.get(w, w) for w in words])
    assert (code, out) == (2, "")
    assert expected in line(err)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_free_is_left_alone(run, scene, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    code, _, err = run("render", scene, "-n", 2, "-o", tmp_path / "mine", "--workers", 1)
    assert code == 2
    assert "mine" in line(err)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_one_line_and_nothing_that_verify_accepts(run, scene, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr(writer, "write_part", full)
    code, _, err = run("render", scene, "-n", 2, "-o", tmp_path / "out", "--workers", 1)
    assert code == 2
    assert "No space left" in line(err)
    assert run("verify", tmp_path / "out")[0] in (1, 2)


def test_ctrl_c_keeps_what_is_finished_and_resume_goes_on(scene, tmp_path):
    out = tmp_path / "set"
    words = ["-n", "2000", "-o", str(out), "--workers", "2"]
    cut = subprocess.Popen(
        [sys.executable, "-m", "imgsynth.cli", "render", scene, *words],
        stderr=subprocess.PIPE,
        text=True,
        # A suite in the background is started with Ctrl-C ignored, and its children would be too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not list(out.glob("parts/*")) and time.monotonic() < until:
        time.sleep(0.02)
    cut.send_signal(signal.SIGINT)
    _, err = cut.communicate(timeout=60)
    assert cut.returncode == 130, err
    assert "--resume" in line(err)
    assert not (out / "dataset.json").exists()
    again = subprocess.run(
        [sys.executable, "-m", "imgsynth.cli", "render", scene, *words, "--resume"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.returncode == 0
    assert (
        subprocess.run(
            [sys.executable, "-m", "imgsynth.cli", "verify", str(out)], capture_output=True
        ).returncode
        == 0
    )


def test_learn_and_score(run, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = (rng.normal(60, 20, (80, 8, 8)) + 120 * labels[:, None, None]).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=labels)
    code, out, _ = run(
        "learn", tmp_path / "d.npz", "--task", "classify", "-o", tmp_path / "m", "--steps", 40, "--json"
    )
    assert code == 0
    assert json.loads(out)["steps"] == 40
    code, out, _ = run("score", tmp_path / "m", tmp_path / "d.npz", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"]["mean"] > 0.95
    assert run("learn", tmp_path / "d.npz", "-o", tmp_path / "m")[0] == 2  # the folder holds a model


def test_schema_scenes_and_version(run, tmp_path):
    assert json.loads(run("schema")[1])["title"] == "imgsynth scene"
    assert run("schema", "-o", tmp_path / "s.json")[0] == 0
    assert {row["name"] for row in json.loads(run("scenes", "--json")[1])} >= {"dice"}
    assert run("--version")[1].startswith("imgsynth ")


def test_help_teaches_and_names_every_option(run):
    code, out, _ = run("render", "--help")
    assert code == 0
    for word in (
        "--seed",
        "--start",
        "--workers",
        "--device",
        "--sampler",
        "--set",
        "--freeze",
        "--format",
        "--resume",
        "--json",
    ):
        assert word in out


def test_console_script_is_declared():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'imgsynth = "imgsynth.cli:main"' in text


@pytest.mark.parametrize(
    "words, said",
    [
        (["--start", 2**40], "start"),
        (["--start", 10**20], "start"),
        (["--seed", 2**64], "--seed"),
        (["-n", 10**10], "too many for one dataset"),
    ],
)
def test_numbers_beyond_the_format_are_one_line_and_leave_nothing(run, scene, tmp_path, words, said):
    out = tmp_path / "d"
    code, text, err = run("render", scene, "-n", 2, "-o", out, "--workers", 1, *words)
    assert code == 2 and said in line(err) and text == ""
    assert err.count("\n") == 1, "an error before the work comes without a bar or an empty line"
    assert not out.exists()


def test_too_little_memory_is_one_line(run, scene, tmp_path, monkeypatch):
    from imgsynth import generate

    def greedy(*_, **__):
        raise MemoryError("Unable to allocate 48.0 GiB")

    monkeypatch.setattr(generate, "frames", greedy)
    code, _, err = run("show", scene, "-n", 1, "-o", tmp_path / "x.png")
    assert code == 2 and "not enough memory: Unable to allocate 48.0 GiB" in line(err)


@pytest.mark.parametrize("words", [["schema"], ["show", "SCENE", "-n", 1]])
def test_a_full_disk_leaves_no_half_written_file(run, scene, tmp_path, monkeypatch, words):
    import os

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    folder = tmp_path / "out"
    folder.mkdir()
    code, _, err = run(*(scene if w == "SCENE" else w for w in words), "-o", folder / "file")
    assert code == 2 and f"{folder / 'file'}: the disk is full" in line(err) and "--resume" not in err
    assert list(folder.iterdir()) == []


def test_an_unknown_device_is_one_line_on_the_real_stderr(scene, tmp_path):
    command = [sys.executable, "-m", "imgsynth.cli", "render", scene, "-n", "1", "-o", str(tmp_path / "d")]
    ended = subprocess.run([*command, "--device", "gpu"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert "device" in line(ended.stderr)
