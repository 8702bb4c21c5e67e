"""Cycles under every kind of light and over every kind of matter, against the raster renderer: needs IMGSYNTH_BPY."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
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
from test_dress import worn_batch
from test_light_around import smooth_map
from test_light_lamps import lamp, lamps
from test_mitsuba_light import SUN, SUNLIGHT, lit_alone, still_life, under, wavy

from imgsynth.batch import POINT, RECTANGLE, SPOT
from imgsynth.render.around import finer
from imgsynth.render.cycles import CyclesRenderer
from imgsynth.render.raster import RasterRenderer
from imgsynth.sky import directions, sky

BPY = os.environ.get("IMGSYNTH_BPY", "")
pytestmark = pytest.mark.skipif(not Path(BPY).is_file(), reason="IMGSYNTH_BPY names no Python with bpy")
RASTER = RasterRenderer()
DOWN = np.array([-0.3, 0.2, -1.0]) / np.linalg.norm([-0.3, 0.2, -1.0])
ACROSS = np.cross(DOWN, [0.3, 0.9, 0.1]) / np.linalg.norm(np.cross(DOWN, [0.3, 0.9, 0.1]))


def scene(name: str):
    lit = {
        "point": lambda: lamp(POINT, (0.8, -0.5, 2.0), (6, 5, 4)),
        "ball": lambda: lamp(POINT, (0.8, -0.5, 2.0), (6, 5, 4), size=(0.3, 0.0)),
        "spot": lambda: lamp(SPOT, (0.8, -0.5, 2.5), (9, 8, 7), direction=DOWN, across=ACROSS, cone=(0.5, 1.5)),
        "rectangle": lambda: lamp(RECTANGLE, (0.6, 0.4, 1.8), (7, 6, 5), direction=DOWN, across=ACROSS, size=(0.8, 0.5)),
    }  # fmt: skip
    if name in lit:
        batch = under(still_life())
        return replace(batch, lights=replace(batch.lights, lamps=lamps(lit[name]())))
    if name == "map":
        batch = under(still_life(), smooth_map(), turn=0.7, scale=1.3)
        return replace(batch, lights=replace(batch.lights, ambient=np.array([[0.1, 0.05, 0.2]], np.float32)))
    image = sky(SUN, 3.0, 0.7, np.full(3, 0.2), SUNLIGHT).astype(np.float32)
    radius = np.radians(3.0) if name == "sky and wide sun" else 0.0
    return under(still_life(sun=SUNLIGHT, direction=SUN), None if name == "sun" else image, radius=radius)


@pytest.mark.parametrize("name", ["sun", "point", "ball", "spot", "rectangle", "map", "sky and wide sun"])
def test_matte_things_are_as_bright_as_the_raster_renderer_draws_them(name):
    """Mean radiance within 3 %, direct light only."""
    batch = scene(name)
    a, b = (r.render(batch, 4).color.mean((0, 1, 2)) for r in (RASTER, CyclesRenderer(32, 2)))
    np.testing.assert_allclose(a, b, rtol=0.03)


def test_white_bodies_vanish_in_white_light():
    """Within 1 % of all the light, smooth or rough, metal or not."""
    materials = [Material((1, 1, 1), m, r) for m in (0.0, 1.0) for r in (0.05, 0.5, 1.0)]
    shots = [lit_alone(i, (1, 1, 1), (1, 1, 1)) for i in range(6)]
    got = CyclesRenderer(128, 2).render(make_batch(shots, [icosphere(4)], (30, 30), materials)).color
    body = np.pi * 14**2 / 30**2
    level = 1 + (got.mean((1, 2, 3)) - 1) / body
    print(np.round(level, 4))
    np.testing.assert_allclose(level, 1.0, atol=0.01)


@pytest.mark.parametrize("mirrored", [False, True])
def test_normal_maps_lean_as_the_raster_renderer_has_them_lean(mirrored):
    sheet = grid_quad(1)
    if mirrored:
        sheet.uv = sheet.uv[:, ::-1].copy()
    sides = [(1, 0, 1), (-1, 0, 1), (0, 1, 1), (0, -1, 1)]
    shots = [Shot([Thing(0, np.eye(4), (50.0,) * 3)], look_at((0, 0, 4), (0, 0, 0), (0, 1, 0)), intrinsics(100, (24, 24)),
                  sun=SUNLIGHT, sun_direction=side) for side in sides]  # fmt: skip
    matte = Material((0.6, 0.6, 0.6), 0, 1, normal_texture=0, normal_scale=0.8, uv_scale=(40, 40))
    batch = make_batch(shots, [sheet], (24, 24), [matte], [wavy()])
    a, b = (r.render(batch, 4).color.mean((1, 2)) for r in (RASTER, CyclesRenderer(16, 2)))
    np.testing.assert_allclose(a, b, rtol=0.04)


def test_maps_of_roughness_metal_and_glow_lie_where_they_should():
    orm, glow = np.full((2, 2, 4), 255, np.uint8), np.zeros((2, 2, 4), np.uint8)
    orm[0, :, 1], orm[:, 0, 2] = 90, 0
    glow[..., 3] = 255
    glow[1, 1, :3] = 255, 188, 90
    image = [np.kron(m, np.ones((16, 16, 1), np.uint8)) for m in (orm, glow)]
    materials = [
        Material((0.9, 0.6, 0.4), 1.0, 1.0, surface_texture=0),
        Material((0.3, 0.3, 0.3), 0.0, 1.0, emission=(2, 2, 2), emission_texture=1),
    ]
    shots = [Shot([Thing(0, np.eye(4), material=i)], look_at((0, -0.4, 1.2), (0, 0, 0)), intrinsics(36, (32, 32))) for i in range(2)]  # fmt: skip
    batch = under(make_batch(shots, [grid_quad(1)], (32, 32), materials, image), smooth_map())
    a, b = (r.render(batch).color for r in (RASTER, CyclesRenderer(128, 2)))
    on, half = RASTER.render(batch).instance > 0, np.arange(32) < 16
    for frame in range(2):
        for top in (half, ~half):
            for left in (half, ~half):
                part = on[frame] & top[:, None] & left[None]
                np.testing.assert_allclose(a[frame][part].mean(0), b[frame][part].mean(0), rtol=0.1)


def test_lacquer_shines_and_takes_from_below():
    materials = [Material((c,) * 3, 0.0, 0.8, clearcoat=1.0, clearcoat_roughness=0.1) for c in (0.02, 0.9)]
    batch = under(make_batch([lit_alone(0), lit_alone(1)], [icosphere(4)], (30, 30), materials), smooth_map())
    a, b = (r.render(batch, 4).color.mean((1, 2)) for r in (RASTER, CyclesRenderer(128, 2)))
    np.testing.assert_allclose(a, b, rtol=0.06)


def test_patterned_things_and_their_albedo():
    """The same picture, as bright within 4 % but for one light's way round; albedo is the label's."""
    batch = worn_batch(outputs=["albedo"])
    a, b = RASTER.render(batch, 4), CyclesRenderer(16, 2).render(batch, 4)
    assert a.albedo is not None and b.albedo is not None
    assert (a.instance == b.instance).mean() > 0.99
    np.testing.assert_allclose(a.albedo.mean((0, 1, 2)), b.albedo.mean((0, 1, 2)), rtol=0.03)
    blocks = [v[0].reshape(8, 8, 8, 8, 3).mean((1, 3)) for v in (a.albedo, b.albedo)]
    assert np.abs(blocks[0] - blocks[1]).max() < 0.1
    whole = [r.color.reshape(16, 8, 16, 8, 3).mean((1, 3)).reshape(-1) for r in (a, b)]
    assert np.corrcoef(*whole)[0, 1] > 0.95


def test_albedo_is_the_base_colour():
    shot = Shot(
        [Thing(0, pose(None, (0, 0, 3.0)))],
        k=intrinsics(30, (24, 24)),
        sun=SUNLIGHT,
        sun_direction=(0, 0, -1),
    )
    batch = make_batch(
        [shot], [icosphere(3)], (24, 24), [Material((0.7, 0.2, 0.1), 1.0, 0.2, emission=(1, 1, 1))]
    )
    batch = replace(batch, outputs=("albedo",))
    a, b = RASTER.render(batch), CyclesRenderer(1, 2).render(batch)
    np.testing.assert_allclose(
        a.albedo[a.instance == b.instance], b.albedo[a.instance == b.instance], atol=1e-4
    )


def test_finer_maps_are_the_same_maps():
    d = directions(16)
    image = np.stack([2 + d[..., 0], 2 + d[..., 1] + 0.5 * d[..., 2], 2 + d[..., 2]], -1).astype(np.float32)
    big = finer(image, 64)
    e = directions(64)
    expected = np.stack([2 + e[..., 0], 2 + e[..., 1] + 0.5 * e[..., 2], 2 + e[..., 2]], -1)
    assert big.shape == (64, 128, 3) and finer(image, 16) is image
    np.testing.assert_allclose(big, expected, atol=0.03)  # its poles and its seam too
