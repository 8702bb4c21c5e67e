"""Lamps against closed forms and plain integration: points, spots, rectangles, and their shadows."""

from __future__ import annotations

from dataclasses import replace

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
)
from test_shading import bsdf

from imgsynth import scenefile
from imgsynth.batch import POINT, RECTANGLE, SPOT, Lamps
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.plan import Plan
from imgsynth.render.raster import RasterRenderer
from imgsynth.surroundings import spot_angle

RENDERER = RasterRenderer()
SIZE = (64, 64)
CHALK = Material((0.8, 0.7, 0.6), roughness=1.0)


def lamp(kind, position, radiant, *, direction=(0, 0, -1), across=(1, 0, 0), size=(0, 0), cone=(6.28, 6.28),
         frame=0, shadows=True):  # fmt: skip
    """One lamp's row."""
    return frame, kind, position, direction, across, size, cone, radiant, shadows


def lamps(*rows):
    kinds = (np.int32, np.int32, float, float, float, np.float32, np.float32, np.float32, bool)
    return Lamps(*(np.array(c, k) for c, k in zip(zip(*rows, strict=True), kinds, strict=True)))


def lit(shots, rows, meshes=(), materials=(CHALK,), size=SIZE, samples=16, seed=0):
    batch = make_batch(shots, meshes or [box()], size, materials)
    n = len(batch)
    lights = replace(batch.lights, lamps=lamps(*rows), samples=samples, seed=np.full(n, seed, np.uint32))
    return RENDERER.render(replace(batch, lights=lights))


def above(things=(), height=4.0, width=4.0, size=SIZE, **more):
    """Ground from straight above: the shot, and world x, y of its pixels."""
    shot = Shot(list(things), look_at((0, 0, height), (0, 0, 0), (0, 1, 0)),
                intrinsics(size[1] * height / width, size), ground=0, **more)  # fmt: skip
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return shot, (x / size[1] - 0.5) * width, -(y / size[0] - 0.5) * width


def ground_bsdf(x, y, light, height=4.0, rough=1.0):
    """BSDF times cosine on the ground, lit from the point `light`, and the squared distance."""
    p = np.stack([x, y, 0 * x], -1)
    v, to = np.array([0, 0, height]) - p, np.asarray(light, float) - p
    far2 = (to**2).sum(-1)
    v, to = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (v, to))
    n = np.broadcast_to([0.0, 0, 1], p.shape)
    return np.stack([bsdf(n, v, to, a, 0.0, rough) for a in (0.8, 0.7, 0.6)], -1), far2[..., None], to


def test_a_point_lamp_follows_the_inverse_square() -> None:
    shot, x, y = above()
    at = (0.5, -0.3, 1.2)
    got = lit([shot], [lamp(POINT, at, (3, 2, 1))]).color[0]
    value, far2, _ = ground_bsdf(x, y, at)
    np.testing.assert_allclose(got, value / far2 * [3, 2, 1], rtol=2e-4)


def test_a_spot_fades_linearly_in_the_angle_and_its_power_is_its_integral() -> None:
    shot, x, y = above()
    at, axis = (0.2, 0.1, 1.5), np.array([0.3, 0.1, -1.0])
    axis /= np.linalg.norm(axis)
    cone = np.radians([40.0, 70.0])
    got = lit([shot], [lamp(SPOT, at, (1, 1, 1), direction=axis, cone=cone)]).color[0]
    value, far2, to = ground_bsdf(x, y, at)
    angle = np.arccos(-to @ axis)[..., None]
    fade = np.clip((cone[1] / 2 - angle) / (cone[1] - cone[0]) * 2, 0, 1)
    assert 0 < (fade == 0).mean() < 1 and (fade == 1).any()
    np.testing.assert_allclose(got, value / far2 * fade, rtol=1e-3, atol=1e-5)
    theta = np.linspace(0, np.pi / 2, 200_001)
    ramp = np.clip((cone[1] / 2 - theta) / (cone[1] - cone[0]) * 2, 0, 1)
    power = np.trapezoid(2 * np.pi * np.sin(theta) * ramp, theta)
    assert spot_angle(cone[None])[0] == pytest.approx(power, rel=1e-6)
    hard = np.full((1, 2), 1.0)
    assert spot_angle(hard)[0] == pytest.approx(2 * np.pi * (1 - np.cos(0.5)), rel=1e-5)


def integral(points, eye, middle, direction, across, size, albedo, rough=1.0, cells=200):
    """Light that the ground sends to the eye from a rectangle of radiance 1, by the midpoint rule."""
    up = np.cross(direction, across)
    t = (np.arange(cells) + 0.5) / cells - 0.5
    grid = np.asarray(middle) + (t[:, None, None] * size[0] * across + t[None, :, None] * size[1] * up)
    grid, n = grid.reshape(-1, 3), np.tile([0.0, 0, 1], (cells * cells, 1))
    out = np.empty(len(points))
    for i, p in enumerate(points):
        far = np.linalg.norm(grid - p, axis=1)
        to = (grid - p) / far[:, None]
        v = np.broadcast_to((eye - p) / np.linalg.norm(eye - p), to.shape)
        value = bsdf(n, v, to, albedo, 0.0, rough)
        out[i] = (value * np.maximum(-(to @ direction), 0) / far**2).mean() * size[0] * size[1]
    return out


@pytest.mark.parametrize(
    ("middle", "direction", "size"),
    [((0.3, 0.2, 1.0), (0, 0, -1), (1.0, 0.5)), ((0.0, 1.5, 0.2), (0, -1, 0), (2.0, 1.6)),
     ((-1.0, 0.4, 0.7), (0.8, 0.0, -0.6), (0.6, 1.8))],
)  # fmt: skip
def test_a_rectangle_gives_what_integration_gives(middle, direction, size) -> None:
    """Also where the ground's horizon cuts it."""
    shot, x, y = above()
    direction = np.asarray(direction, float)
    across = np.cross([0.0, 0, 1], direction) if abs(direction[2]) < 1 else np.array([1.0, 0, 0])
    across /= np.linalg.norm(across)
    row = lamp(RECTANGLE, middle, (1,) * 3, direction=direction, across=across, size=size, shadows=False)
    got = lit([shot], [row], materials=[Material((0.8,) * 3, roughness=1.0)]).color[0, ::9, ::9, 0].ravel()
    points = np.stack([x, y, 0 * x], -1)[::9, ::9].reshape(-1, 3)
    expected = integral(points, np.array([0, 0, 4.0]), middle, direction, across, size, 0.8)
    # The Lambert layer is exact; the gloss above it, some percent of the light, is one point's.
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=0.002 * expected.max())
    assert abs(got.mean() / expected.mean() - 1) < 0.01


def test_a_rectangle_shines_on_one_side_and_mirrors_show_its_radiance() -> None:
    shot = Shot([Thing(0, pose(None, (0, 0, 0)))], look_at((0, -0.6, 2.0), (0, 0, 0)), intrinsics(64, SIZE))
    row = {"radiant": (2, 2, 2), "size": (4, 4), "shadows": False}
    mirror = Material((1, 1, 1), metallic=1.0, roughness=0.1)
    sheet = grid_quad()
    up = lit([shot], [lamp(RECTANGLE, (0, 0.5, 1.5), direction=(0, 0, 1), **row)], [sheet], [mirror])
    assert up.color[0][up.instance[0] == 1].max() == 0
    down = lit([shot], [lamp(RECTANGLE, (0, 0.5, 1.5), **row)], [sheet], [mirror])
    seen = down.color[0][down.instance[0] == 1]
    np.testing.assert_allclose(seen, 2.0, rtol=0.12)  # every mirrored ray meets it


@pytest.mark.parametrize("cutout", [False, True])
def test_hard_shadows_of_a_point_lamp(cutout: bool) -> None:
    """A box darkens what lies behind it from the lamp; a sheet with holes only where it has none."""
    light = np.array([0.4, 0.3, 2.0])
    shot, x, y = above([Thing(0, pose(None, (-0.2, -0.1, 0.8)), (0.8, 0.8, 1), material=0)], size=(96, 96))
    mesh = grid_quad()
    half = np.zeros((32, 32, 4), np.uint8)
    half[:, 16:] = 255
    materials = [replace(CHALK, texture=0, alpha_cutoff=0.5) if cutout else CHALK]
    batches = [make_batch([shot], [mesh], (96, 96), materials, [half] if cutout else ()) for _ in "ab"]
    rows = [lamps(lamp(POINT, light, (1, 1, 1), shadows=s)) for s in (True, False)]
    shots = [
        RENDERER.render(replace(b, lights=replace(b.lights, lamps=r)))
        for b, r in zip(batches, rows, strict=True)
    ]
    ground = shots[0].instance[0] == 0
    # Where the ray to the lamp passes the sheet's height.
    t = 0.8 / light[2]
    u, w = x + (light[0] - x) * t + 0.2, y + (light[1] - y) * t + 0.1
    inside = np.maximum(np.abs(u), np.abs(w)) - 0.4
    edge = np.abs(inside) < 0.02
    dark = inside < 0
    if cutout:
        dark &= u > 0
        edge |= (np.abs(u) < 0.03) & (inside < 0.02)
        return_ground = ground & (u != 0)
        ground = return_ground
    a, b = (s.color[0, ..., 0] for s in shots)
    lit_share = a / np.maximum(b, 1e-9)
    clear = ground & ~edge & (b > 0)
    np.testing.assert_allclose(lit_share[clear], np.where(dark, 0.0, 1.0)[clear], atol=1e-5)
    assert (clear & dark).sum() > 100


def test_penumbra_of_a_rectangle_is_the_share_that_is_seen() -> None:
    """Ground behind a wall's edge sees a part of the lamp: by integration over what the edge leaves."""
    wall = Thing(0, pose(None, (-2.0, 0, 1.0)), (4, 8, 1))  # a sheet at z = 1 over all x < 0
    shot, *_ = above([wall], height=12.0, width=3.0, size=(8, 96), near=0.05)
    shot.camera = look_at((2.0, 0, 0.9), (1.5, 0, 0.0), (0, 1, 0))
    shot.k = intrinsics(60, (8, 96))
    row = lamp(RECTANGLE, (0, 0, 2.0), (1, 1, 1), size=(0.8, 0.02))
    batch = make_batch([shot], [grid_quad()], (8, 96), [CHALK])
    both = [
        RENDERER.render(replace(batch, lights=replace(batch.lights, samples=256, lamps=lamps(r))))
        for r in (row, (*row[:-1], False))
    ]
    buffers = both[0]
    yy, xx = np.nonzero((buffers.instance[0] == 0) & np.isfinite(buffers.depth[0]))
    ray = np.stack([(xx + 0.5 - 48) / 60, (yy + 0.5 - 4) / 60, 0 * xx + 1.0], 1)
    p = ray * buffers.depth[0, yy, xx][:, None] @ shot.camera[:3, :3].T + shot.camera[:3, 3]
    got = buffers.color[0, yy, xx, 0] / both[1].color[0, yy, xx, 0]
    s = (np.arange(2000) + 0.5) / 2000 * 0.8 - 0.4
    weight = 4.0 / ((s - p[:, :1]) ** 2 + p[:, 1:2] ** 2 + 4.0) ** 2
    # The segment from (x, 0) to (s, 2) passes z = 1 at their middle.
    expected = (weight * ((s + p[:, :1]) / 2 > 0)).sum(1) / weight.sum(1)
    assert ((expected > 0.02) & (expected < 0.98)).mean() > 0.1
    assert np.abs(got - expected).max() < 0.03
    assert abs((got - expected).mean()) < 0.004


def test_shadows_do_not_speckle_and_frames_stand_alone() -> None:
    """A ball on the ground: what faces the lamp alone is fully lit, and no frame depends on its batch."""
    things = [Thing(0, pose(None, (0, 0, 0.7)), (0.7, 0.7, 0.7))]
    shot = Shot(things, look_at((2.5, -2.0, 2.2), (0, 0, 0.3)), intrinsics(90, SIZE), ground=0)
    at = (1.5, -1.5, 3.0)
    rows = [
        lamp(POINT, at, (9, 9, 9), size=(0.2, 0), shadows=s, frame=f) for f, s in enumerate((True, False))
    ]
    buffers = lit([shot, shot], rows, [icosphere(4)])
    on = buffers.instance[0] == 1
    assert np.abs(buffers.color[0] - buffers.color[1])[on].max() < 1e-6
    missing = 1 - buffers.color[0][~on][:, 0] / buffers.color[1][~on][:, 0]
    assert (missing > 0.99).sum() > 20 and ((missing > 0.1) & (missing < 0.9)).sum() > 20
    alone = lit([shot], rows[:1], [icosphere(4)])
    np.testing.assert_array_equal(alone.color[0], buffers.color[0])
    other = lit([shot], rows[:1], [icosphere(4)], seed=5)
    assert np.any(other.color != alone.color)


SCENE = """
name: lamps
image: {size: [16, 16]}
light:
  sun: null
  lamps:
    desk: {spot: {cone_deg: 50}, count: {integer: [1, 3]}, position: {box: {low: [-1, -1, 1], high: [1, 1, 2]}}, target: [0, 0, 0], power: 10}
    panel: {rectangle: {width: 2, height: 0.5}, position: [0, 0, 2]}
ground: {}
"""


def test_lamps_of_a_scene_file(tmp_path) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(SCENE)
    plan = Plan(scenefile.load(path).spec)
    draws = plan.sample(1, range(20))
    made = compose(plan, draws).lights.lamps
    count = draws["light.lamps.desk.count"]
    assert set(count.tolist()) == {1, 2, 3}
    np.testing.assert_array_equal(np.bincount(made.frame), count + 1)
    desk = made.kind == SPOT
    np.testing.assert_allclose(np.cross(made.direction[desk], -made.position[desk]), 0, atol=1e-12)
    np.testing.assert_allclose(
        made.radiant[desk] * spot_angle(made.cone[desk].astype(float))[:, None], 10, rtol=1e-5
    )
    np.testing.assert_array_equal(made.direction[~desk], np.tile([0, 0, -1.0], (20, 1)))
    # A lamp more changes no draw of the others, and single slots can be set.
    few = Plan(scenefile.load(path, sets=["light.lamps.desk.count=3", "light.lamps.desk[1].power=5"]).spec)
    again = few.sample(1, range(20))
    np.testing.assert_array_equal(again["light.lamps.desk.position"], draws["light.lamps.desk.position"])
    assert np.all(again["light.lamps.desk.power"] == [10, 5, 10])
    alone = compose(plan, plan.sample(1, [7])).lights.lamps
    np.testing.assert_array_equal(alone.position, made.position[made.frame == 7])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{}", "expected exactly one of point, spot, rectangle, got none"),
     ("{point: {}, target: [0, 0, 0], direction: [0, 0, 1]}", "expected target or direction, got both"),
     ("{point: {intensity: 2}, power: 3}", "expected power or point.intensity, got both"),
     ("{spot: {cone_deg: 190}}", "lt=180|below 180|180"), ("{point: {}, colour: red}", "color")],
)  # fmt: skip
def test_lamps_that_mean_nothing_are_refused(tmp_path, text, expected) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(f"name: a\nlight:\n  lamps:\n    one: {text}\n")
    with pytest.raises(SceneError, match=expected):
        scenefile.load(path)
