"""Patterns and layers laid into pictures for the references: every point has its texel, and shows what it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import (
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
from test_mitsuba_light import wavy

from imgsynth import scenefile
from imgsynth.batch import BRICK, CHECKER, MARBLE, Patterns, SceneBatch
from imgsynth.compose import compose
from imgsynth.render.atlas import MOST_TEXELS, atlas, laid, patch_of
from imgsynth.render.dress import Dresser, wanted
from imgsynth.render.finisher import patterned
from imgsynth.render.parts import RINGS, TILE, FrameParts
from imgsynth.render.raster import RasterRenderer
from imgsynth.render.reference import bilinear
from imgsynth.scene import SceneSpec

RASTER = RasterRenderer()


def sampled(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    if picture.shape[:2] == (1, 1):
        return np.broadcast_to(picture[0, 0], (*uv.shape[:-1], *picture.shape[2:]))
    return np.stack([bilinear(picture[..., c], uv) for c in range(picture.shape[2])], -1)


def test_every_point_of_every_triangle_reads_itself():
    """A picture of places, read at random points of random triangles, gives the very places back."""
    rng = np.random.default_rng(3)
    corners = rng.normal(size=(300, 3, 3)) * rng.uniform(0.01, 2, (300, 1, 1))
    layout = atlas(corners, rng.uniform(0.2, 40, (300, 3)))
    faces = np.arange(900, dtype=np.int32).reshape(-1, 3)
    points, flat = corners.reshape(-1, 3), rng.normal(size=(900, 2))
    patch, triangle, offset, weights = patch_of(layout, points, flat, faces)
    assert len(np.unique(offset)) == len(offset)  # no texel twice
    np.testing.assert_allclose((weights[..., None] * corners[triangle]).sum(1), patch.point, atol=1e-9)
    inside = rng.dirichlet(np.ones(3), (300, 20))
    uv = np.einsum("tnc,tcd->tnd", inside, layout.uv())
    got = sampled(laid(layout, offset, np.concatenate([patch.point, patch.uv], 1)), uv)
    expected = np.einsum("tnc,tcd->tnd", inside, np.concatenate([corners, flat[faces]], 2))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_footprints_are_texels_and_charts_are_not_mirrored():
    corners = np.array([[[0.0, 0, 0], [4, 0, 0], [0, 2, 0]]])
    layout = atlas(corners, np.array([[9.0, 4, 8]]))  # the right angle stays: legs of 8 and 4 texels
    patch, *_ = patch_of(layout, corners[0], corners[0, :, :2], np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose([np.linalg.norm(patch.dx[0]), np.linalg.norm(patch.dy[0])], 0.5)
    a, b, c = layout.uv()[0] * [1, -1] * layout.size[::-1]  # v upwards
    (x, y), (z, w) = b - a, c - a
    assert x * w - y * z > 0 and patch.across[0, 2] > 0


def test_an_atlas_is_bounded():
    corners = np.random.default_rng(0).normal(size=(200, 3, 3))
    layout = atlas(corners, np.full((200, 3), 1e6))
    assert np.prod(layout.size) < 1.5 * MOST_TEXELS


def shot(things, **more):
    return Shot(things, look_at((0.3, -2.4, 2.2), (0, 0, 0.2)), intrinsics(70, (64, 64)), **more)


SPEC = {
    "name": "worn", "classes": ["thing"], "image": {"size": [64, 64]},
    "camera": {"distance": 1.2, "elevation_deg": 35, "azimuth_deg": 30, "fov_deg": 45},
    "light": {"sun": {"azimuth_deg": 60, "elevation_deg": 50, "irradiance": 2}, "ambient": {"radiance": 0.3}},
    "ground": {"material": {"color": "white", "pattern": {"kind": "brick", "a": "#b05030", "b": "#d0c8c0", "scale": 0.2}}},
    "objects": {
        "ball": {"class": "thing", "shape": {"sphere": {"radius": 0.15}}, "place": {"position": [0.1, 0.1, 0.15]},
                 "material": {"color": "white", "roughness": 1.0,
                              "pattern": {"kind": "marble", "a": "white", "b": "#204060", "scale": 0.08}}},
        "cube": {"class": "thing", "shape": {"rounded_box": {"size": [0.25, 0.25, 0.25], "radius": 0.03}},
                 "place": {"position": [-0.25, 0, 0.125]},
                 "material": {"color": "#8090a0", "roughness": 1.0, "layers": {
                     "grime": {"dirt": {"coverage": 0.4, "scale": 0.05}},
                     "bright": {"stickers": {"coverage": 0.2, "scale": 0.1}}}}},
    },
}  # fmt: skip


def worn_batch(**more) -> SceneBatch:
    plan = scenefile.load(SceneSpec.model_validate({**SPEC, **more})).plan()
    return compose(plan, plan.sample(0, [0]))


def test_what_is_laid_is_what_the_raster_renderer_shows():
    """Albedo at the pixels' centres, read from the pictures through rays at the parts: that of the raster label."""
    batch = worn_batch(outputs=["albedo"], image={"size": [256, 256]})
    label = RASTER.render(batch)
    assert label.albedo is not None
    scene, dresser = FrameParts(batch, 0), Dresser(batch)
    worn = dresser.dress(scene)
    assert [w.tailored for w in worn] == [True] * len(worn) and patterned(batch).all()
    y, x = (v[::211] for v in np.nonzero(np.isfinite(label.depth[0])))
    place = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], 1) @ np.linalg.inv(batch.cameras.k[0]).T
    place = place * label.depth[0, y, x][:, None] * scene.unit
    off = []
    for w in worn:
        own = batch.instances.id[w.part.row] if w.part.row >= 0 else 0
        mine = place[label.instance[0, y, x] == own]
        expected = label.albedo[0, y, x][label.instance[0, y, x] == own]
        got, found = looked_up(w, mine)
        off.append(np.abs(got - expected[found]).max(-1))
        assert found.mean() > (0.95 if w.part.row < 0 else 0.02)
    off = np.concatenate(off)
    assert len(off) > 0.9 * len(x)
    assert np.median(off) < 0.01 and (off < 0.1).mean() > 0.85  # edges of bricks and stickers blur apart


def looked_up(worn, places) -> tuple[np.ndarray, np.ndarray]:
    """Albedo at places on a part (m, 3), and which (n,) of them lie on it."""
    part, corners = worn.part, worn.part.vertices[worn.part.faces]
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    g = np.cross(b, c)
    scale = 1 / np.maximum((g * g).sum(1), 1e-30)
    out, found = [], np.zeros(len(places), bool)
    for i, p in enumerate(places):
        d = p - a
        v, w = (np.cross(d, c) * g).sum(1) * scale, (np.cross(b, d) * g).sum(1) * scale
        height = np.abs((d * g).sum(1)) * np.sqrt(scale)
        near = np.flatnonzero((v > -1e-3) & (w > -1e-3) & (v + w < 1.001) & (height < 1e-3))
        if len(near):
            t = near[np.argmin(height[near])]
            weights = np.array([1 - v[t] - w[t], v[t], w[t]])
            out.append(sampled(worn.skin.albedo, (weights @ part.uv[part.faces[t]])[None])[0])
            found[i] = True
    return np.array(out).reshape(-1, 3), found


def test_tiles_of_a_ground_cover_it_and_shrink_towards_the_eye():
    batch = worn_batch()
    scene = FrameParts(batch, 0)
    plain, tiles = scene.parts[-1], scene.tiled_ground()

    def area(part):
        corners = part.points[part.faces]
        return 0.5 * np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        )

    np.testing.assert_allclose(area(tiles).sum(), area(plain).sum(), rtol=1e-9)
    eye = batch.cameras.world_from_camera[0][:3, 3]
    away = np.linalg.norm(tiles.points[tiles.faces] - eye, axis=-1).max(1)
    assert np.all(np.sqrt(2 * area(tiles)) <= TILE * away * 1.0001)
    assert 200 < len(tiles.faces) < 5000 and RINGS[-1] > 1000
    assert wanted(scene, tiles).min() >= 0


def with_pattern(batch: SceneBatch, material: int, kind: int, scale: float) -> SceneBatch:
    one = np.ones(1, np.float32)
    table = Patterns(
        np.array([kind], np.int32), np.zeros(1, bool), np.eye(3, dtype=np.float32)[None] / np.float32(scale),
        np.zeros((1, 3), np.float32), np.full((1, 3), 0.9, np.float32), np.full((1, 3), 0.2, np.float32),
        np.array([7], np.uint32), np.array([3], np.int32), 0.5 * one, one, one, 0.1 * one, 0.1 * one,
    )  # fmt: skip
    pattern = np.full(len(batch.materials.metallic), -1, np.int32)
    pattern[material] = 0
    return replace(batch, materials=replace(batch.materials, pattern=pattern, patterns=table))


@pytest.mark.parametrize(("kind", "scale"), [(CHECKER, 0.2), (MARBLE, 0.5), (BRICK, 0.4)])
def test_mitsuba_draws_patterned_things_as_bright_as_the_raster_renderer(kind, scale):
    """Mean radiance within 3 % under a sun, and the same picture, thin veins far away filtered otherwise."""
    mitsuba = pytest.importorskip("imgsynth.render.mitsuba", reason="needs the extra mitsuba")
    turn = random_rotations(np.random.default_rng(2), 1)[0]
    things = [
        Thing(0, pose(turn, (-0.4, 0, 0.6)), (0.4,) * 3),
        Thing(1, pose(turn, (0.5, 0.2, 0.7)), (0.5,) * 3),
    ]
    batch = make_batch([shot(things, sun=(2, 1.8, 1.6), sun_direction=(0.5, -0.6, 0.8), shadows=True, ground=0)],
                       [icosphere(4), box()], (64, 64))  # fmt: skip
    batch = with_pattern(batch, 0, kind, scale)
    a, b = (r.render(batch, 4).color[0] for r in (RASTER, mitsuba.MitsubaRenderer(16, 2)))
    np.testing.assert_allclose(a.mean((0, 1)), b.mean((0, 1)), rtol=0.03)
    a, b = (c.reshape(64, 2, 64, 2, 3).mean((1, 3)).reshape(-1) for c in (a, b))
    assert np.corrcoef(a, b)[0, 1] > 0.95


def test_normal_maps_under_patterns_lean_as_without():
    """On a curved body with mirrored halves: the same light with a normal map alone and below a pattern of one colour."""
    mitsuba = pytest.importorskip("imgsynth.render.mitsuba", reason="needs the extra mitsuba")
    from scenes_for_tests import Material

    ball = icosphere(4)
    ball.uv[:, 0] = np.abs(ball.uv[:, 0])
    turns = random_rotations(np.random.default_rng(4), 2)
    shots = [Shot([Thing(0, pose(t, (0, 0, 3.0)))], k=intrinsics(40, (32, 32)), sun=(2, 2, 2), sun_direction=(1, -0.4, -1)) for t in turns]  # fmt: skip
    matte = Material((0.5,) * 3, 0, 1, normal_texture=0, uv_scale=(2, 1))
    plain = make_batch(shots, [ball], (32, 32), [matte], [wavy()])
    laid_over = with_pattern(plain, 0, CHECKER, 1.0)
    table = laid_over.materials.patterns
    assert table is not None
    one = replace(table, color_a=np.ones((1, 3), np.float32), color_b=np.ones((1, 3), np.float32))
    laid_over = replace(laid_over, materials=replace(laid_over.materials, patterns=one))
    a, b = (mitsuba.MitsubaRenderer(64, 2).render(batch) for batch in (plain, laid_over))
    middle = (a.normal[..., 2] < -0.5) & (a.color[..., 0] > 0.05)
    off = np.abs(a.color[middle] / b.color[middle] - 1).mean(-1)
    assert np.median(off) < 0.02 and (off < 0.1).mean() > 0.9


def test_cut_outs_and_metal_survive_below_a_layer():
    """A sheet with a hole, half metal: the hole stays, and a picture of numbers has what the maps had."""
    from scenes_for_tests import Material

    image = np.full((8, 8, 4), 255, np.uint8)
    image[2:6, 2:6, 3] = 0
    orm = np.full((8, 8, 4), 255, np.uint8)
    orm[:, :4, 2], orm[:4, :, 1] = 0, 128
    matter = Material(
        (0.8, 0.6, 0.3), 1.0, 0.6, texture=0, alpha_cutoff=0.5, surface_texture=1, clearcoat=0.5
    )
    batch = make_batch([shot([Thing(0)])], [grid_quad(2)], (64, 64), [matter], [image, orm])
    worn = Dresser(with_pattern(batch, 0, CHECKER, 10.0)).dress(
        FrameParts(with_pattern(batch, 0, CHECKER, 10.0), 0)
    )
    made, part = worn[0].skin, worn[0].part
    assert made.opacity is not None and made.normal is None
    np.testing.assert_allclose(np.unique(made.coat), 0.5, rtol=1e-4)
    middle = part.uv[part.faces].mean(1)
    at = part.texcoords[part.faces].mean(1)  # middles of the eight triangles
    metal = sampled(made.metallic[..., None], middle)[:, 0]
    np.testing.assert_allclose(metal, (at[:, 0] > 0.5).astype(float), atol=0.05)
    rough = sampled(made.roughness[..., None], middle)[:, 0]
    np.testing.assert_allclose(rough, np.where(at[:, 1] > 0.5, 0.6 * 128 / 255, 0.6), atol=0.02)
    hole = (np.abs(at - 0.5) < 0.24).all(1)
    assert hole.sum() == 2  # their middles; those of the others are seen
    np.testing.assert_allclose(sampled(made.opacity[..., None], middle)[:, 0] > 0.5, ~hole)


def test_mitsubas_albedo_is_the_raster_renderers():
    """Where patterns and layers lie in the object's frame, to rounding; the ground too."""
    mitsuba = pytest.importorskip("imgsynth.render.mitsuba", reason="needs the extra mitsuba")
    batch = worn_batch(outputs=["albedo"])
    a, b = (r.render(batch).albedo for r in (RASTER, mitsuba.MitsubaRenderer(1, 1)))
    assert np.quantile(np.abs(a - b), 0.99) < 1e-3
