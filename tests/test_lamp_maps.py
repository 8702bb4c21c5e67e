"""Shadow maps of points and spots against shadow rays, and what maps get wrong where they are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import (
    Material,
    Mesh,
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
from test_light_lamps import lamp, lamps

from imgsynth import scenefile
from imgsynth.batch import POINT, RECTANGLE, SPOT
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.geometry import quat_to_matrix
from imgsynth.plan import Plan
from imgsynth.render import lightdata
from imgsynth.render.raster import RasterRenderer

SIZE = (96, 96)
CHALK = Material((0.8, 0.7, 0.6), roughness=1.0)
RENDERER = RasterRenderer()


def colors(batch, rows, how: str, **lights):
    """Radiance (n, h, w) of a batch whose lamps cast shadows by `maps`, `rays`, or not at all."""
    made = lamps(*rows)
    made = replace(made, mapped=np.full(len(made), how == "maps"))
    if how == "none":
        made = replace(made, shadows=np.zeros(len(made), bool))
    seed = np.zeros(len(batch), np.uint32)
    return RENDERER.render(
        replace(batch, lights=replace(batch.lights, lamps=made, seed=seed, **lights))
    ).color[..., 0]


def clutter(seed: int) -> Shot:
    rng = np.random.default_rng(seed)
    things = [
        Thing(k % 2, pose(quat_to_matrix(q / np.linalg.norm(q)), (x, y, z)), (s, s, s))
        for k, (x, y, z, s, q) in enumerate(
            zip(rng.uniform(-1, 1, 6), rng.uniform(-1, 1, 6), rng.uniform(0.3, 0.6, 6), rng.uniform(0.1, 0.3, 6),
                rng.normal(size=(6, 4)), strict=True)
        )
    ]  # fmt: skip
    eye = (*rng.uniform(-2.5, 2.5, 2), rng.uniform(1, 3))
    return Shot(things, look_at(eye, (0, 0, 0.2)), intrinsics(100, SIZE), ground=0, color_a=(0, 0, 0))


PLACES = {
    "spot above": (SPOT, (0.4, -0.6, 2.5), (0.6, 0.9)),
    "spot on one side": (SPOT, (2.5, 0.3, 0.7), (0.4, 0.8)),
    "wide spot": (SPOT, (0.1, 0.2, 1.1), (2.0, 2.9)),
    "point above": (POINT, (-0.5, 0.6, 3.0), (6.28, 6.28)),
    "point in the midst": (POINT, (0.05, -0.1, 0.4), (6.28, 6.28)),
}


@pytest.mark.parametrize("where", PLACES)
def test_maps_and_rays_cast_the_same_shadows(where: str) -> None:
    """The mean within 1 %; single pixels differ along the edges of shadows only, where the filter is soft."""
    kind, at, cone = PLACES[where]
    direction = -np.array(at) / np.linalg.norm(at)
    batch = make_batch([clutter(s) for s in range(4)], [icosphere(3), box()], SIZE, [CHALK])
    rows = [lamp(kind, at, (9, 9, 9), direction=direction, cone=cone, frame=f) for f in range(4)]
    maps, rays, none = (colors(batch, rows, how) for how in ("maps", "rays", "none"))
    assert none.mean() > 1.02 * rays.mean()
    assert maps.mean() == pytest.approx(rays.mean(), rel=0.01)
    off = np.abs(maps - rays) > 0.1 * np.maximum(none, 0.02 * none.max())
    assert off.mean() < 0.03
    edge = np.zeros_like(off)
    lit = rays > 0.5 * none
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1), (1, 2), (1, -2), (2, 2), (2, -2)):
        edge |= lit != np.roll(lit, step, axis)
    assert (off & ~edge).mean() < 0.002


def test_what_faces_the_lamp_alone_has_no_shadow_on_it() -> None:
    """No acne on a ball, but for what is left where its facets turn away, nor on ground at a grazing angle."""
    things = [Thing(0, pose(None, (0, 0, 0.7)), (0.7, 0.7, 0.7))]
    shot = Shot(things, look_at((2.5, -2.0, 2.2), (0, 0, 0.3)), intrinsics(90, SIZE), ground=0)
    batch = make_batch([shot], [icosphere(4)], SIZE, [CHALK])
    for at in ((1.5, -1.5, 3.0), (3.0, -0.2, 0.15)):
        maps, none = (colors(batch, [lamp(POINT, at, (9, 9, 9))], how)[0] for how in ("maps", "none"))
        ball = RENDERER.render(batch).instance[0] == 1
        assert np.abs(maps - none)[ball].max() < 1e-3 * none.max()
        depth = RENDERER.render(batch).depth[0]
        ray = np.stack([*(np.mgrid[:96, :96][::-1] + 0.5 - 48) / 90, np.ones(SIZE)], -1)
        p = ray * depth[..., None] @ shot.camera[:3, :3].T + shot.camera[:3, 3]
        # Ground from which the ball is nowhere near the way to the lamp.
        way = np.array(at) - p
        t = np.clip(((np.array([0, 0, 0.7]) - p) * way).sum(-1) / (way**2).sum(-1), 0, 1)
        clear = ~ball & (np.linalg.norm(p + way * t[..., None] - [0, 0, 0.7], axis=-1) > 0.8)
        assert clear.mean() > 0.2
        np.testing.assert_allclose(maps[clear], none[clear], rtol=1e-5)


@pytest.mark.parametrize("seen_from", ["inside", "outside"])
def test_walls_keep_light_in_and_out(seen_from: str) -> None:
    """A lamp in a closed room lights nothing outside, and one outside nothing inside, but for a line a texel
    wide where walls without thickness meet.
    """
    room = Thing(0, pose(None, (0, 0, 1.2)), (2, 2, 2))
    inside, outside = (0.3, 0.2, 0.9), (2.6, -2.1, 2.9)
    light, eye = (outside, (0.8, 0.7, 0.6)) if seen_from == "inside" else (inside, (4.0, -3.0, 3.0))
    shot = Shot([room, Thing(1, pose(None, (-0.4, -0.3, 0.5)), (0.3, 0.3, 0.3))],
                look_at(eye, (-0.2, -0.2, 0.4)), intrinsics(80, SIZE), ground=0, color_a=(0, 0, 0))  # fmt: skip
    shell, inner = box(), box()
    walls = Mesh(
        np.concatenate([shell.vertices, inner.vertices]), np.concatenate([shell.normals, -inner.normals]),
        np.concatenate([shell.uv, inner.uv]), np.concatenate([shell.faces, 24 + inner.faces[:, ::-1]]),
    )  # fmt: skip
    batch = make_batch([shot], [walls, icosphere(3)], SIZE, [CHALK])
    maps = colors(batch, [lamp(POINT, light, (9, 9, 9))], "maps")[0]
    rays = colors(batch, [lamp(POINT, light, (9, 9, 9))], "rays")[0]
    none = colors(batch, [lamp(POINT, light, (9, 9, 9))], "none")[0]
    assert none.mean() > 0.01
    assert (maps > 0.01 * none.mean()).mean() < 0.005 and maps.mean() < 0.002 * none.mean()
    assert rays.max() == 0


def test_holes_in_a_sheet_let_light_through() -> None:
    holes = np.zeros((32, 32, 4), np.uint8)
    holes[:, 16:] = 255
    sheet = Thing(0, pose(None, (-0.2, -0.1, 0.8)), (0.8, 0.8, 1), material=1)
    shot = Shot([sheet], look_at((0, 0, 4), (0, 0, 0), (0, 1, 0)), intrinsics(96, SIZE), ground=0)
    made = [CHALK, replace(CHALK, texture=0, alpha_cutoff=0.5)]
    batch = make_batch([shot], [grid_quad()], SIZE, made, [holes])
    rows = [lamp(POINT, (0.4, 0.3, 2.0), (1, 1, 1))]
    maps, rays, none = (colors(batch, rows, how)[0] for how in ("maps", "rays", "none"))
    dark, seen = none - rays > 0.5 * none, none - maps > 0.5 * none
    assert dark.sum() > 300 and (dark != seen).sum() < 0.1 * dark.sum()


def test_a_frame_stands_alone_and_a_lamp_beneath_the_ground_lights_nothing_above() -> None:
    shots = [clutter(s) for s in range(3)]
    meshes = [icosphere(3), box()]
    rows = [lamp(SPOT, (0.4, -0.6, 2.5), (9, 9, 9), cone=(0.5, 0.9), frame=0),
            lamp(POINT, (0.1, 0.1, 0.5), (2, 2, 2), frame=1), lamp(POINT, (2, 1, 2), (9, 9, 9), frame=1),
            lamp(POINT, (0.3, 0.2, -0.5), (9, 9, 9), frame=2)]  # fmt: skip
    together = colors(make_batch(shots, meshes, SIZE, [CHALK]), rows, "maps")
    for f, own in enumerate((rows[:1], rows[1:3], rows[3:])):
        alone = colors(
            make_batch(shots[f : f + 1], meshes, SIZE, [CHALK]), [(0, *row[1:]) for row in own], "maps"
        )
        np.testing.assert_array_equal(alone[0], together[f])
    assert together[2].max() == 0 < together[:2].mean()


def test_maps_need_no_trees_and_mix_with_rays() -> None:
    """Rays are prepared where a lamp or sun asks for them; a map beside them changes nothing of its own."""
    batch = make_batch([clutter(0)], [icosphere(3), box()], SIZE, [CHALK])
    point = lamp(POINT, (-0.5, 0.6, 3.0), (9, 9, 9))
    panel = lamp(RECTANGLE, (0.5, 0.2, 2.0), (5, 5, 5), size=(0.5, 0.5))
    for rows, mapped, rays in (([point], [True], False), ([point], [False], True),
                               ([point, panel], [True, True], True)):  # fmt: skip
        lights = replace(batch.lights, lamps=replace(lamps(*rows), mapped=np.array(mapped)))
        ready = lightdata.begin(RENDERER.memory, RENDERER.maps, replace(batch, lights=lights),
                                RENDERER._geometry(batch))  # fmt: skip
        assert ready.rays == rays and bool(ready.meshes) == rays
    one, other, both = (colors(batch, rows, "maps") for rows in ([point], [panel], [panel, point]))
    np.testing.assert_allclose(one + other, both, rtol=1e-5, atol=1e-6)


def test_the_scene_says_which(tmp_path) -> None:
    """By default maps for what has no size; rectangles by rays always, and asking for a map is an error."""
    path = tmp_path / "scene.yaml"
    scene = """
name: lamps
light:
  lamps:
    hard: {spot: {}}
    either: {point: {radius: {choice: [0, 0.1]}}, count: 8}
    forced: {point: {radius: 0.1}, shadows_by: map}
    traced: {point: {}, shadows_by: rays}
    panel: {rectangle: {}}
"""
    path.write_text(scene)
    plan = Plan(scenefile.load(path).spec)
    made = compose(plan, plan.sample(1, [0])).lights.lamps
    radius = made.size[1:9, 0]
    assert set(radius) == {np.float32(0), np.float32(0.1)}
    assert made.mapped.tolist() == [True, *(radius == 0), True, False, False]
    path.write_text(scene.replace("{rectangle: {}}", "{rectangle: {}, shadows_by: map}"))
    with pytest.raises(SceneError, match="rectangle's shadows are soft"):
        scenefile.load(path)
