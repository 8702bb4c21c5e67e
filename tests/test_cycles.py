"""Cycles, in a process of its own, draws what the raster renderer draws: needs IMGSYNTH_BPY."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from agreement import Agreement
from random_scenes import random_batch
from scenes_for_tests import (
    Material,
    Shot,
    Thing,
    grid_quad,
    icosphere,
    intrinsics,
    look_at,
    make_batch,
    pose,
)

from imgsynth.errors import ImgsynthError
from imgsynth.render import cycles, renderer
from imgsynth.render.cycles import CyclesRenderer
from imgsynth.render.raster import RasterRenderer

BPY = os.environ.get("IMGSYNTH_BPY", "")
needs_bpy = pytest.mark.skipif(not Path(BPY).is_file(), reason="IMGSYNTH_BPY names no Python with bpy")


def agreement(count: int, seed: int, size: tuple[int, int], per_job: int) -> dict[str, float]:
    found = Agreement()
    for first in range(0, count, per_job):
        batch = random_batch(per_job, seed + first, size)
        found.add(
            RasterRenderer().render(batch),
            CyclesRenderer(1, 2).render(batch),
            batch.instances.frame,
            batch.instances.id,
        )
    return found.figures()


@needs_bpy
def test_masks_agree_on_random_scenes():
    got = agreement(4, 21, (40, 48), 4)
    assert got["least IoU"] >= 0.99 and got["least amodal IoU"] >= 0.99
    assert got["depth within 1e-3"] > 0.99 and got["normals within 1°"] > 0.98


@pytest.mark.slow
@needs_bpy
def test_masks_agree_on_200_random_scenes():
    got = agreement(200, 5000, (72, 80), 20)
    print(json.dumps(got, indent=1))
    assert got["frames"] == 200
    assert got["least IoU"] >= 0.99


@needs_bpy
def test_light_colour_texture_and_background_are_as_they_should_be():
    """A sheet under a sun straight above, a glowing ball, a hole to the background."""
    image = np.full((8, 8, 4), 255, np.uint8)
    image[:4, :, 1:3] = 0
    ball = Thing(1, pose(None, (0.6, 0, 0.5)), (0.2,) * 3, 1)
    shot = Shot([Thing(0, np.eye(4), (2.0,) * 3, 0), ball], look_at((0, 0, 6), (0, 0, 0), (0, 1, 0)), k=intrinsics(80, (40, 40)),
                sun_direction=(0, 0, 1), sun=(np.pi, np.pi, np.pi / 2), color_a=(0.1, 0.2, 0.3))  # fmt: skip
    materials = [Material((0.5, 0.5, 0.5), 0, 0.5, texture=0), Material((0, 0, 0), 0, 1, emission=(3, 2, 1))]
    batch = make_batch([shot], [grid_quad(1), icosphere(3)], (40, 40), materials, [image])
    got = CyclesRenderer(16, 2).render(batch)
    raster = RasterRenderer().render(batch)
    np.testing.assert_array_equal(got.instance, raster.instance)
    np.testing.assert_allclose(got.color[0][1, 1], (0.1, 0.2, 0.3), rtol=1e-4)
    np.testing.assert_allclose(got.color[0][12, 12], raster.color[0][12, 12], rtol=0.05, atol=0.01)
    np.testing.assert_allclose(got.color[0][28, 12], raster.color[0][28, 12], rtol=0.05, atol=0.01)
    row, column = (int(v) for v in np.argwhere(got.instance[0] == 2).mean(0))
    np.testing.assert_allclose(got.color[0][row, column], (3, 2, 1), rtol=0.02)


@needs_bpy
def test_the_same_bytes_again():
    batch = random_batch(1, 3, (16, 16))
    a, b = (CyclesRenderer(4, 3).render(batch, 4) for _ in range(2))
    np.testing.assert_array_equal(a.color, b.color)


def test_without_bpy_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv("IMGSYNTH_BPY", raising=False)
    with pytest.raises(ImgsynthError, match=r"IMGSYNTH_BPY must name .*pip install bpy") as error:
        renderer("cycles")
    assert "\n" not in str(error.value)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no bpy here >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMGSYNTH_BPY", str(broken))
    with pytest.raises(ImgsynthError, match="failed: no bpy here"):
        cycles.bpy_version()
