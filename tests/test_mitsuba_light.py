"""Light from around and what surfaces are made of, drawn by Mitsuba and by the raster renderer."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scenes_for_tests import (
    Material,
    Shot,
    Thing,
    box,
    grid_quad,
    icosphere,
    intrinsics,
    look_at,
    make_batch,
    pose,
    random_rotations,
)
from test_light_around import smooth_map

from imgsynth.batch import Environments, InstanceTable, SceneBatch
from imgsynth.environments import load_environment
from imgsynth.render.around import around, at_edges, looking
from imgsynth.render.environment import solid_angles
from imgsynth.render.raster import RasterRenderer
from imgsynth.render.skins import on_one_grid, resized, skin
from imgsynth.sky import directions, sky

pytest.importorskip("mitsuba", reason="needs the extra mitsuba")

from imgsynth.render.mitsuba import MitsubaRenderer
from imgsynth.render.mitsuba_matter import averages
from imgsynth.render.parts import FrameParts

HDRI = Path(os.environ.get("IMGSYNTH_HDRI", Path(__file__).parents[2] / "shared" / "assets" / "hdri"))
RASTER = RasterRenderer()
SUN = np.array([0.5, -0.3, 0.8]) / np.linalg.norm([0.5, -0.3, 0.8])
SUNLIGHT = np.array([2.0, 1.8, 1.5])


def under(batch: SceneBatch, image=None, turn=0.0, scale=1.0, radius=0.0, visible=False) -> SceneBatch:
    """The batch in the light of a map, with a sun of a radius, all light from around held back by what is before it."""
    n = len(batch)
    maps = None if image is None else Environments((image,), np.zeros(n, np.int32), np.full(n, turn), np.full(n, scale, np.float32), np.full(n, visible))  # fmt: skip
    lights = replace(
        batch.lights, environments=maps, occlusion=np.ones(n, np.float32), samples=64,
        seed=np.arange(n, dtype=np.uint32), sun_radius=np.full(n, radius, np.float32),
    )  # fmt: skip
    return replace(batch, lights=lights)


def still_life(size=(40, 40), sun=(0, 0, 0), direction=(0, 0, 1)) -> SceneBatch:
    """A matte ball and a matte box on a matte floor."""
    things = [
        Thing(0, pose(None, (0.2, 0.1, 0.35)), (0.3,) * 3, 0),
        Thing(1, pose(None, (-0.5, -0.3, 0.2)), (0.4,) * 3, 1),
    ]
    shot = Shot(things, look_at((0.3, -2.4, 2.2), (0, 0, 0.2)), ground=2, shadows=True, sun=tuple(sun), sun_direction=direction)  # fmt: skip
    colors = ((0.8, 0.5, 0.4), (0.4, 0.8, 0.5), (0.7, 0.7, 0.7))
    return make_batch([shot], [icosphere(4), box()], size, [Material(c, 0, 1) for c in colors])


def means(batch: SceneBatch, paths=48, samples=4) -> tuple[np.ndarray, np.ndarray]:
    """(3,) mean radiance of the frames by raster and by Mitsuba, direct light only."""
    a, b = (r.render(batch, samples).color for r in (RASTER, MitsubaRenderer(paths, 2)))
    return a.mean((0, 1, 2)), b.mean((0, 1, 2))


def test_matte_things_in_a_map_are_as_bright_as_the_raster_renderer_draws_them():
    """Mean radiance within 3 %, the map turned and scaled, ambient radiance added."""
    batch = under(still_life(), smooth_map(), turn=0.7, scale=1.3)
    batch = replace(batch, lights=replace(batch.lights, ambient=np.array([[0.1, 0.05, 0.2]], np.float32)))
    a, b = means(batch)
    np.testing.assert_allclose(a, b, rtol=0.03)


def test_matte_things_under_a_sky_and_a_wide_sun_are_too():
    image = sky(SUN, 3.0, 0.7, np.full(3, 0.2), SUNLIGHT).astype(np.float32)
    a, b = means(under(still_life(sun=SUNLIGHT, direction=SUN), image, radius=np.radians(2.0)))
    np.testing.assert_allclose(a, b, rtol=0.03)


@pytest.mark.real
@pytest.mark.skipif(not HDRI.is_dir(), reason=f"no environment maps at {HDRI}")
@pytest.mark.parametrize("name", ["apartment", "city", "dawn", "forest", "night", "park", "studio", "sunset",
                                  "warehouse", "workshop"])  # fmt: skip
def test_matte_things_in_photographed_light_are_too(name):
    found = load_environment(HDRI / f"{name}.hdr")
    batch = still_life(sun=found.sun_irradiance, direction=found.sun_direction)
    a, b = means(under(batch, found.radiance, radius=found.sun_radius))
    print(name, np.round(a / b - 1, 4))
    np.testing.assert_allclose(a, b, rtol=0.03)


@pytest.mark.parametrize("radius_deg", [0.5, 4.0])
def test_a_wide_sun_casts_the_penumbra_of_its_disc(radius_deg):
    """A straight edge at height 1 hides a segment of the disc: tan ρ to either side of its own shadow."""
    things, size, reach = [Thing(0, pose(None, (-2.0, 0, 1.0)), (4, 8, 1))], (8, 120), 0.9
    focal = 30 / np.tan(np.radians(radius_deg)) * reach
    shots = [Shot(t, look_at((0, 0, reach), (0, 0, 0), (0, 1, 0)), intrinsics(focal, size), ground=0,
                  sun=(np.pi,) * 3, sun_direction=(0, 0, 1)) for t in (things, [])]  # fmt: skip
    batch = make_batch(shots, [grid_quad()], size, [Material((1, 1, 1), roughness=1.0)])
    got = MitsubaRenderer(64, 2).render(under(batch, radius=np.radians(radius_deg)))
    x = (np.arange(120) + 0.5 - 60) / focal * reach
    seen = (got.instance[0] == 0).all(0)
    shade = got.color[0, ..., 0].mean(0) / got.color[1, ..., 0].mean()
    t = np.clip(x / np.tan(np.radians(radius_deg)), -1, 1)
    expected = 0.5 + (t * np.sqrt(1 - t * t) + np.arcsin(t)) / np.pi
    assert seen.sum() > 50
    assert np.abs(shade - expected)[seen].max() < 0.06


def lit_alone(material: int, background=(0, 0, 0), ambient=(0, 0, 0)) -> Shot:
    """A ball that fills most of a picture of 30 × 30 pixels, from afar."""
    return Shot([Thing(0, pose(None, (0, 0, 50.0)), material=material)], k=intrinsics(700, (30, 30)),
                ambient=ambient, color_a=background)  # fmt: skip


def test_white_bodies_vanish_in_white_light():
    """Of the light that a convex white body gets it reflects all: within 1 %, smooth or rough, metal or not."""
    materials = [Material((1, 1, 1), m, r) for m in (0.0, 1.0) for r in (0.05, 0.3, 0.6, 1.0)]
    shots = [lit_alone(i, (1, 1, 1), (1, 1, 1)) for i in range(8)]
    got = MitsubaRenderer(128, 2).render(make_batch(shots, [icosphere(4)], (30, 30), materials)).color
    body = np.pi * 14**2 / 30**2  # of the picture
    np.testing.assert_allclose(1 + (got.mean((1, 2, 3)) - 1) / body, 1.0, atol=0.01)


def wavy(size=64) -> np.ndarray:
    """A normal map of waves that are no mirror images of themselves: codes 128 + 127 n."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / size)
    n = np.stack([0.5 * np.sin(x) + 0.2, 0.3 * np.cos(y + 1) - 0.25, np.ones_like(x)], -1)
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    return np.concatenate(
        [np.rint(128 + 127 * n), np.full((size, size, 1), 255)], -1
    ).astype(np.uint8)  # fmt: skip


@pytest.mark.parametrize("mirrored", [False, True])
def test_normal_maps_lean_as_the_raster_renderer_has_them_lean(mirrored):
    """Under suns from four sides, on sheets seen from either side, texture coordinates as they are or mirrored."""
    sheet = grid_quad(1)
    if mirrored:
        sheet.uv = sheet.uv[:, ::-1].copy()
    around_it = [(1, 0, 1), (-1, 0, 1), (0, 1, 1), (0, -1, 1)]
    shots = [Shot([Thing(0, np.eye(4), (50.0,) * 3)], look_at((0, 0, 4 * s), (0, 0, 0), (0, 1, 0)), intrinsics(100, (24, 24)),
                  sun=SUNLIGHT, sun_direction=(x, y, z * s)) for s in (1, -1) for x, y, z in around_it]  # fmt: skip
    matte = Material((0.6, 0.6, 0.6), 0, 1, normal_texture=0, normal_scale=0.8, uv_scale=(40, 40))
    batch = make_batch(shots, [sheet], (24, 24), [matte], [wavy()])
    a, b = (r.render(batch, 4).color.mean((1, 2)) for r in (RASTER, MitsubaRenderer(32, 2)))
    assert np.ptp(a[:4, 0]) > 0.2 * a.mean()  # where the light comes from matters
    np.testing.assert_allclose(a, b, rtol=0.03)


def test_smooth_bodies_with_mirrored_halves_wear_normal_maps_the_same():
    ball = icosphere(4)
    ball.uv[:, 0] = np.abs(ball.uv[:, 0])  # as wide to the left as to the right
    turns = random_rotations(np.random.default_rng(4), 3)
    shots = [Shot([Thing(0, pose(t, (0, 0, 3.0)))], k=intrinsics(40, (32, 32)), sun=SUNLIGHT, sun_direction=(1, -0.4, -1), shadows=True) for t in turns]  # fmt: skip
    matte = Material((0.6, 0.6, 0.6), 0, 1, normal_texture=0, uv_scale=(2, 1))
    batch = make_batch(shots, [ball], (32, 32), [matte], [wavy()])
    a, b = RASTER.render(batch), MitsubaRenderer(64, 2).render(batch)
    middle = (a.normal[..., 2] < -0.7) & (a.color[..., 0] > 0.05)  # rims and the shadow's edge differ
    assert middle.sum(axis=(1, 2)).min() > 150
    ours, theirs = a.color[middle], b.color[middle]
    off = np.abs(ours / theirs - 1).mean(-1)
    assert np.median(off) < 0.015 and (off < 0.1).mean() > 0.9
    flipped = make_batch(shots, [ball], (32, 32), [matte], [wavy()[..., [1, 0, 2, 3]]])
    other = RASTER.render(flipped).color[middle] / theirs - 1
    assert np.median(np.abs(other).mean(-1)) > 0.1  # it matters


@pytest.mark.slow
def test_maps_of_roughness_metal_and_glow_lie_where_they_should():
    """A sheet of four quarters in a map: rough and smooth, metal and not; one more glows in one quarter."""
    orm, glow = np.full((2, 2, 4), 255, np.uint8), np.zeros((2, 2, 4), np.uint8)
    orm[0, :, 1], orm[:, 0, 2] = 90, 0
    glow[..., 3] = 255
    glow[1, 1, :3] = 255, 188, 90
    image = np.kron(orm, np.ones((16, 16, 1), np.uint8)), np.kron(glow, np.ones((16, 16, 1), np.uint8))
    materials = [
        Material((0.9, 0.6, 0.4), 1.0, 1.0, surface_texture=0),
        Material((0.3, 0.3, 0.3), 0.0, 1.0, emission=(2, 2, 2), emission_texture=1),
    ]
    shots = [Shot([Thing(0, np.eye(4), material=i)], look_at((0, -0.4, 1.2), (0, 0, 0)), intrinsics(36, (32, 32))) for i in range(2)]  # fmt: skip
    batch = under(make_batch(shots, [grid_quad(1)], (32, 32), materials, list(image)), smooth_map())
    a, b = (r.render(batch).color for r in (RASTER, MitsubaRenderer(256, 2)))
    on = RASTER.render(batch).instance > 0
    rows, columns = (np.arange(32) < 16 for _ in range(2))
    for frame in range(2):
        for top in (rows, ~rows):
            for left in (columns, ~columns):
                part = on[frame] & top[:, None] & left[None]
                assert part.sum() > 40
                np.testing.assert_allclose(a[frame][part].mean(0), b[frame][part].mean(0), rtol=0.08)


@pytest.mark.slow
def test_lacquer_shines_and_takes_from_below():
    """A dark and a white ball under lacquer in a map: mean radiance within 5 % of the raster renderer's."""
    materials = [Material((c,) * 3, 0.0, 0.8, clearcoat=1.0, clearcoat_roughness=0.1) for c in (0.02, 0.9)]
    batch = under(make_batch([lit_alone(0), lit_alone(1)], [icosphere(4)], (30, 30), materials), smooth_map())
    a, b = (r.render(batch, 4).color.mean((1, 2)) for r in (RASTER, MitsubaRenderer(128, 2)))
    np.testing.assert_allclose(a, b, rtol=0.05)


def test_both_sides_of_a_glowing_sheet_glow():
    shots = [Shot([Thing(0, np.eye(4), (2.0,) * 3)], look_at((0, 0, s), (0, 0, 0), (0, 1, 0))) for s in (1, -1)]  # fmt: skip
    batch = under(make_batch(shots, [grid_quad(1)], (8, 8), [Material((0, 0, 0), 0, 1, emission=(2, 1, 0.5))]), smooth_map(), visible=True)  # fmt: skip
    got = MitsubaRenderer(4, 1).render(batch).color
    np.testing.assert_allclose(got.mean((1, 2)), [(2, 1, 0.5)] * 2, rtol=1e-4)


def test_the_map_is_seen_where_the_scene_shows_it():
    """Behind a ball that glows, too: what is seen of the map is what the raster renderer shows."""
    shot = Shot([Thing(0, pose(None, (0, 0, 3.0)), (0.4,) * 3)], look_at((0, 0, 0), (0, 1, 0)))
    batch = under(make_batch([shot], [icosphere(3)], (24, 24), [Material((0.5,) * 3, 0, 1, emission=(1, 1, 1))]), smooth_map(), turn=0.4, scale=2.0, visible=True)  # fmt: skip
    a, b = RASTER.render(batch), MitsubaRenderer(4, 2).render(batch)
    away = a.instance[0] == 0
    away[1:-1, 1:-1] &= (a.instance[0, 2:, 1:-1] + a.instance[0, :-2, 1:-1] + a.instance[0, 1:-1, 2:] + a.instance[0, 1:-1, :-2]) == 0  # fmt: skip
    np.testing.assert_allclose(b.color[0][away], a.color[0][away], rtol=1e-5)


def test_rows_at_the_poles_read_as_rows_between_them():
    """Read at its edges, a map has the same light as the texels in the middles of their rows."""
    image = smooth_map(16)
    fine = at_edges(image)
    assert fine.shape == (33, 32, 3)
    np.testing.assert_array_equal(fine[1::2], image)
    np.testing.assert_allclose(fine[4], (image[1] + image[2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(fine[0, :16], fine[0, 16:], rtol=1e-6)  # across the pole lies its other side
    d = directions(16)
    for at in ((0, 3), (7, 20), (15, 31)):
        np.testing.assert_allclose(looking(image, d[at]), image[at])
    batch = under(still_life(), image, scale=2.0)
    np.testing.assert_allclose(around(batch, 0), 2 * image, rtol=1e-6)
    whole = (image * solid_angles(16, 32)[:, None, None]).sum()
    assert whole > 0


def test_gloss_keeps_energy_with_what_it_gives_back():
    """A white metal's first and further bounces are all light; a dielectric's are a share of it."""
    rough = np.linspace(0, 1, 9)
    once, many = averages(rough, np.ones(9))
    np.testing.assert_allclose(once + many, 1.0, atol=0.01)
    once, many = averages(rough, np.full(9, 0.04))
    assert np.all(np.diff(once) < 0) and 0.08 < once[0] < 0.095 and once[-1] > 0.01 and np.all(many < 0.002)


def test_pictures_of_several_sizes_come_onto_one_grid():
    ramp = np.tile(np.cos(2 * np.pi * (np.arange(8) + 0.5) / 8), (4, 1))
    big, same, one = on_one_grid(ramp, np.zeros((16, 32, 3)), np.ones((1, 1)))
    assert big.shape == (16, 32) and same.shape == (16, 32, 3) and one.shape == (1, 1)
    np.testing.assert_allclose(big[0], np.interp((np.arange(32) + 0.5) / 4 - 0.5, np.arange(-1, 10), np.r_[ramp[0, -1], ramp[0], ramp[0, :2]]), atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(resized(big, (4, 8)).mean(), ramp.mean(), atol=1e-6)


def test_parts_are_cut_where_a_normal_map_turns_over():
    """Every triangle is in one part, and a mirrored one's texture runs the other way round."""
    ball = icosphere(3)
    ball.uv[:, 0] = np.abs(ball.uv[:, 0])
    batch = make_batch(
        [Shot([Thing(0)])], [ball], (8, 8), [Material(normal_texture=0), Material()], [wavy(4)]
    )
    parts = FrameParts(batch, 0).parts
    assert sorted(p.mirrored for p in parts) == [False, True]
    assert sum(len(p.faces) for p in parts) == len(ball.faces)
    table = {f.name: getattr(batch.instances, f.name) for f in fields(InstanceTable)}
    plain = replace(
        batch, instances=InstanceTable(**{**table, "materials": np.ones_like(table["materials"])})
    )
    assert [p.mirrored for p in FrameParts(plain, 0).parts] == [False]
    assert skin(batch, 0).normal is not None and skin(plain, 1).normal is None
