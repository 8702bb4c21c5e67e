"""The benches run, at settings too small to say anything, and rivals draw the scene that we draw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"
RIVALS = ("IMGSYNTH_NEWTON", "IMGSYNTH_BPY")


def run(name, *arguments):
    """What a bench prints, without the rivals that live in other environments."""
    bare = {k: v for k, v in os.environ.items() if k not in RIVALS}
    command = [sys.executable, str(BENCH / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=bare)
    assert done.returncode == 0, done.stderr
    return done


def test_stages_of_a_frame_make_up_its_time(tmp_path):
    run("render.py", "--frames", 2, "--repeats", 2, "--sizes", 32, "--json", tmp_path / "out.json")
    row = json.loads((tmp_path / "out.json").read_text())["sizes"]["32"]
    assert row["triangles"] == 26208
    assert {"shadow", "visibility", "shading", "annotate"} <= set(row["stages"])
    assert row["ms"] > 0 and all(ms >= 0 for ms in row["stages"].values())


def test_a_race_without_rivals_says_how_to_get_them(tmp_path):
    done = run("rivals.py", "--frames", 1, "--repeats", 1, "--sizes", 64, "--json", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())["64"]
    assert rows["imgsynth"]["ms"] > 0
    assert "pip install newton" in done.stderr and "pip install bpy" in done.stderr
    if "PyBullet TinyRenderer" in rows:  # its rim of a pixel is not ours
        assert rows["PyBullet TinyRenderer"]["same_ids"] > 0.96


def test_small_frames_are_counted():
    said = run("small.py", "--frames", 8, "--repeats", 1, "--workers", 0).stdout
    for stage in ("sample", "compose", "render", "annotate", "expose"):
        assert f"{stage} " in said
    assert "frames a second and core" in said


@pytest.mark.slow
def test_what_materials_cost(tmp_path):
    run("matter.py", "--frames", 1, "--repeats", 1, "--size", 32, "--json", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {"plain", "clearcoat", "pattern: marble", "layer: dirt"} <= set(rows)
    assert all(ms > 0 for ms in rows.values())
