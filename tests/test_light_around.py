"""Environment maps, skies, a sun that is a disc, occlusion: furnaces, closed forms, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
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
from test_shading import bsdf

from imgsynth import scenefile
from imgsynth.batch import Environments
from imgsynth.color import luminance
from imgsynth.compose import compose
from imgsynth.environments import load_environment, without_sun
from imgsynth.errors import DataError, SceneError
from imgsynth.plan import Plan
from imgsynth.render.environment import reflectances, shrunk, solid_angles
from imgsynth.render.raster import RasterRenderer
from imgsynth.sky import directions, sky

RENDERER = RasterRenderer()
SIZE = (48, 48)


def render(shots, meshes, materials, maps=None, turn=0.0, scale=1.0, visible=False, size=SIZE, **lights):
    batch = make_batch(shots, meshes, size, materials)
    n = len(batch)
    if maps is not None:
        lights["environments"] = Environments(
            tuple(maps), np.arange(n, dtype=np.int32) % len(maps), np.full(n, turn), np.full(n, scale, np.float32),
            np.full(n, visible),
        )  # fmt: skip
    for name in ("occlusion", "sun_radius"):
        if name in lights:
            lights[name] = np.full(n, lights[name], np.float32)
    return RENDERER.render(replace(batch, lights=replace(batch.lights, **lights)))


def ball(material=0, distance=2.5):
    return Shot([Thing(0, pose(None, (0, 0, distance)), material=material)])


def solid(image):
    return solid_angles(*image.shape[:2])[:, None, None]


def smooth_map(rows=64, seed=0):
    """A map of a few broad lobes of colour."""
    d, rng = directions(rows), np.random.default_rng(seed)
    out = np.full((rows, 2 * rows, 3), 0.1)
    for _ in range(5):
        axis = rng.normal(size=3)
        out += np.exp(rng.uniform(1, 12) * (d @ (axis / np.linalg.norm(axis)) - 1))[..., None] * rng.uniform(
            0, 2, 3
        )
    return out.astype(np.float32)


def test_white_furnace() -> None:
    """In a constant environment white things of any roughness vanish, within 1 % (rounding, in fact)."""
    white = np.ones((64, 128, 3), np.float32)
    materials = [Material((1, 1, 1), m, r) for m in (0.0, 1.0) for r in (0.0, 0.2, 0.55, 1.0)]
    buffers = render([ball(i) for i in range(8)], [icosphere(4)], materials, [white], visible=True)
    np.testing.assert_allclose(buffers.color, 1.0, atol=2e-3)
    grey = render([ball()], [icosphere(4)], [Material((0.5,) * 3, 0.0, 1.0)], [white])
    on = grey.instance[0] == 1
    assert 0.5 < grey.color[0][on].mean() < 0.54  # half below a gloss of some 4 %


def test_reflectances_hold_all_light_that_one_bounce_leaves() -> None:
    """Scale plus bias is what a perfect mirror of micro-facets sends back: 1 when smooth, less when rough."""
    table = reflectances().reshape(32, 32, 2).sum(-1)
    np.testing.assert_allclose(table[0, 1:], 1, atol=0.01)
    assert 0.4 < table[-1, 16] < 0.9 and table.max() < 1.01
    # By the BSDF of lamps, summed over a grid of equal solid angles: another estimator of the same integral.
    z, phi = np.meshgrid((np.arange(600) + 0.5) / 600, (np.arange(400) + 0.5) / 400 * 2 * np.pi)
    to = np.stack([np.sqrt(1 - z * z) * np.cos(phi), np.sqrt(1 - z * z) * np.sin(phi), z], -1).reshape(-1, 3)
    for rough, facing in ((16, 16), (31, 16), (16, 4)):
        nv = facing / 31
        v = np.broadcast_to([np.sqrt(1 - nv * nv), 0, nv], to.shape)
        n = np.broadcast_to([0, 0, 1.0], to.shape)
        mean = 2 * np.pi * bsdf(n, v, to, 1.0, 1.0, rough / 31).mean()
        assert table[rough, facing] == pytest.approx(mean, rel=0.01)


def test_diffuse_light_is_the_integral_and_turns_with_the_map() -> None:
    """A rough ball in a map of coloured lobes: irradiance over π by summing the map, at every normal."""
    image = smooth_map()
    turn = 1.1
    buffers = render([ball()], [icosphere(5)], [Material((1, 1, 1), 0.0, 1.0)], [image], turn=turn, scale=2.0)
    on = buffers.instance[0] == 1
    normal = buffers.normal[0][on]  # the camera's frame is the world's here
    c, s = np.cos(turn), np.sin(turn)
    d = directions(64) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]).T
    cosine = np.maximum(normal @ d.reshape(-1, 3).T, 0)
    expected = 2 / np.pi * cosine @ (image * solid(image)).reshape(-1, 3)
    got = buffers.color[0][on]
    # What the gloss takes from the diffuse layer it shows of the map itself: some percent of contrast.
    assert abs(got.mean() / expected.mean() - 1) < 0.01
    assert np.abs(got / expected - 1).mean() < 0.02


def test_level_ground_gets_the_light_of_all_azimuths() -> None:
    """Under a bright place at the horizon: the integral at the map's very pole, whichever way the map is turned."""
    d = directions(64)
    image = (0.2 + 20 * np.exp(40 * (d @ [0.98, 0.0, 0.2] - 1)))[..., None] * np.ones(3, np.float32)
    expected = (image * solid(image) * np.maximum(d[..., 2:], 0)).sum((0, 1)) / np.pi
    for turn in (0.0, 0.9, 2.4):
        shot = Shot(
            [Thing(0, np.eye(4), (50.0,) * 3)],
            look_at((0, 0, 3), (0, 0, 0), (0, 1, 0)),
            intrinsics(400, SIZE),
        )
        buffers = render(
            [shot], [grid_quad()], [Material((1, 1, 1), 0.0, 1.0)], [image.astype(np.float32)], turn=turn
        )
        np.testing.assert_allclose(buffers.color[0].mean((0, 1)), expected, rtol=0.02)


def test_gloss_is_the_map_under_the_lobe() -> None:
    """A metal ball, mirror and rough: the map itself at the mirrored ray, and its average under the lobe."""
    image = smooth_map(seed=3)
    for rough in (0.0, 0.25, 0.5):
        buffers = render([ball()], [icosphere(5)], [Material((1, 1, 1), 1.0, rough)], [image])
        y, x = np.nonzero(buffers.instance[0])
        v = -np.stack([(x + 0.5 - 24) / 48, (y + 0.5 - 24) / 48, x * 0 + 1], 1)
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        n = buffers.normal[0, y, x]
        nv = (n * v).sum(1)
        keep = nv > 0.6
        r = (2 * nv[:, None] * n - v)[keep]
        dot = r @ directions(64).reshape(-1, 3).T
        a2 = max(rough, 0.06) ** 4
        lobe = (
            np.maximum(dot, 0) / ((1 + dot) / 2 * (a2 - 1) + 1) ** 2 * solid(image).repeat(128, 1).reshape(-1)
        )
        expected = lobe @ image.reshape(-1, 3) / lobe.sum(1, keepdims=True)
        # What bounces more than once comes from all around.
        cosine = np.maximum(n[keep] @ directions(64).reshape(-1, 3).T, 0)
        wide = cosine @ (image * solid(image)).reshape(-1, 3) / np.pi
        once = reflectances().reshape(32, 32, 2).sum(-1)[round(rough * 31)]
        once = np.interp(nv[keep], np.linspace(0, 1, 32), once)[:, None]
        expected = once * expected + (1 - once) * wide
        assert np.abs(buffers.color[0, y, x][keep] / expected - 1).mean() < 0.03, rough


def test_a_background_is_the_map_along_the_ray() -> None:
    image = smooth_map(seed=5)
    camera = look_at((0, 0, 0), (1.0, 0.6, 0.4))
    k = intrinsics(40, SIZE)
    buffers = render([Shot([], camera, k)], [icosphere(1)], [Material()], [image], visible=True)
    y, x = np.mgrid[:48, :48] + 0.5
    ray = np.stack([(x - 24) / 40, (y - 24) / 40, np.ones_like(x)], -1) @ camera[:3, :3].T
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    row = np.arccos(ray[..., 2]) / np.pi * 64 - 0.5
    column = (0.5 - np.arctan2(ray[..., 1], ray[..., 0]) / (2 * np.pi)) * 128 - 0.5
    expected = cv2.remap(image, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    np.testing.assert_allclose(buffers.color[0], expected, rtol=0.01)
    hidden = render([Shot([], camera, k, color_a=(0.1, 0.2, 0.3))], [icosphere(1)], [Material()], [image])
    np.testing.assert_allclose(hidden.color[0, 0, 0], [0.1, 0.2, 0.3], rtol=1e-6)


def test_shrinking_keeps_light() -> None:
    image = np.random.default_rng(0).uniform(0, 9, (96, 192, 3)).astype(np.float32)
    small = shrunk(image, 20)
    assert small.shape == (20, 40, 3)
    np.testing.assert_allclose(
        (small * solid(small)).sum((0, 1)), (image * solid(image)).sum((0, 1)), rtol=1e-5
    )


def test_a_sun_is_taken_out_whole() -> None:
    """A planted disc: its place, size and irradiance come back, and the map keeps the rest."""
    d, radius = directions(512), np.radians(1.5)
    axis = np.array([0.3, -0.7, 0.5]) / np.linalg.norm([0.3, -0.7, 0.5])
    image = np.full((512, 1024, 3), 0.2, np.float32)
    disc = d @ axis > np.cos(radius)
    image[disc] += [3000, 2500, 2000]
    made = without_sun(image)
    np.testing.assert_allclose(made.sun_direction, axis, atol=2e-3)
    assert made.sun_radius == pytest.approx(radius, rel=0.05)
    np.testing.assert_allclose(
        made.sun_irradiance, np.array([3000, 2500, 2000]) * np.pi * radius**2, rtol=0.03
    )
    np.testing.assert_allclose(made.radiance, 0.2, rtol=1e-3)
    whole = (image * solid(image)).sum((0, 1))
    np.testing.assert_allclose(
        (made.radiance * solid(image)).sum((0, 1)) + made.sun_irradiance, whole, rtol=1e-4
    )
    window = np.full((64, 128, 3), 0.2, np.float32)
    window[20:40, 30:60] = 5
    assert not without_sun(window).sun_irradiance.any()


def test_a_sky_gives_the_ground_what_it_says() -> None:
    sun = np.array([np.cos(0.6), 0, np.sin(0.6)])
    for turbidity in (2.0, 4.0, 10.0):
        image = sky(sun, turbidity, 0.7, np.array([0.2, 0.2, 0.2]), np.array([1.0, 1, 1]))
        d = directions(32)
        level = (image * solid(image) * np.maximum(d[..., 2:], 0)).sum((0, 1))
        assert luminance(level) == pytest.approx(0.7, rel=0.01)
        assert np.all(image >= 0)
        below = 0.2 * (level + np.sin(0.6)) / np.pi
        np.testing.assert_allclose(image[20, 5], below, rtol=0.01)
    clear = sky(sun, 2.0, 1.0, np.zeros(3), np.zeros(3))
    away = clear[8, 0]  # half way up, opposite the sun
    assert away[2] > 1.5 * away[0]  # blue
    bright = luminance(clear[:16])
    assert directions(32)[:16].reshape(-1, 3)[bright.argmax()][0] > 0.8  # on the sun's side
    late = sky(np.array([np.cos(-0.2), 0, np.sin(-0.2)]), 3.0, 1.0, np.zeros(3), np.zeros(3))
    assert np.isfinite(late).all() and late.max() > 0


def penumbra(radius_deg, samples=64):
    """Share of the sun on the ground across the straight edge of a sheet 1 m up, by x in metres."""
    sheet = Thing(0, pose(None, (-2.0, 0, 1.0)), (4, 8, 1))
    size = (12, 160)
    shot = Shot([sheet], look_at((0, 0, 0.9), (0, 0, 0), (0, 1, 0)), intrinsics(600, size), ground=0,
                sun_direction=(0, 0, 1), sun=(np.pi,) * 3, shadows=True)  # fmt: skip
    material = [Material((1, 1, 1), roughness=1.0)]
    color = render(
        [shot], [grid_quad()], material, size=size, sun_radius=np.radians(radius_deg), samples=samples
    )
    clear = render(
        [replace_shot(shot)], [grid_quad()], material, size=size, sun_radius=np.radians(radius_deg)
    )
    x = (np.arange(160) + 0.5 - 80) / 600 * 0.9
    ground = color.instance[0, 6] == 0
    return x[ground], (color.color[0, :, :, 0] / clear.color[0, :, :, 0]).mean(0)[ground]


def replace_shot(shot):
    return replace(shot, things=[], shadows=False)


@pytest.mark.parametrize("radius_deg", [1.0, 5.0])
def test_penumbra_of_the_sun(radius_deg: float) -> None:
    """A straight edge at height h hides a segment of the disc: h·tan ρ to either side of its own shadow."""
    x, got = penumbra(radius_deg)
    t = np.clip(x / np.tan(np.radians(radius_deg)), -1, 1)
    expected = 0.5 + (t * np.sqrt(1 - t * t) + np.arcsin(t)) / np.pi
    inner = (expected > 0.01) & (expected < 0.99)
    assert inner.sum() > 5
    assert np.abs(got - expected).max() < 0.06
    assert np.abs(got - expected)[inner].mean() < 0.02


def test_a_wide_sun_has_wide_highlights_of_the_same_light() -> None:
    shots = [replace(ball(), sun_direction=(0.3, -0.4, -1.0), sun=(1, 1, 1))]
    sizes, sums = [], []
    for radius in (0.0, 0.06):
        color = render(
            shots, [icosphere(5)], [Material((1, 1, 1), 1.0, 0.2)], sun_radius=radius, size=(96, 96)
        )
        bright = color.color[0, ..., 0]
        sizes.append((bright > bright.max() / 2).sum())
        sums.append(bright[color.instance[0] == 1].sum())
    assert sizes[1] > 1.5 * sizes[0]
    assert sums[1] == pytest.approx(sums[0], rel=0.3)


def test_occlusion_of_a_ball_on_the_ground() -> None:
    """Ground under a hovering ball: the ball hides (r/d)² cos θ of the light; far away nothing."""
    size, h, r = (64, 64), 1.0, 0.5
    shot = Shot([Thing(0, pose(None, (0, 0, h)), (r, r, r))], look_at((0, -6, 3.0), (0, 0, 0)), intrinsics(80, size),
                ground=0, ambient=(1, 1, 1))  # fmt: skip
    chalk = [Material((1, 1, 1), 0.0, 1.0)]
    dark = render([shot], [icosphere(4)], chalk, size=size, occlusion=1.0, samples=256)
    half = render([shot], [icosphere(4)], chalk, size=size, occlusion=0.5, samples=256)
    y, x = np.nonzero((dark.instance[0] == 0) & np.isfinite(dark.depth[0]))
    ray = np.stack([(x + 0.5 - 32) / 80, (y + 0.5 - 32) / 80, x * 0 + 1.0], 1) * dark.depth[0, y, x][:, None]
    p = ray @ shot.camera[:3, :3].T + shot.camera[:3, 3]
    d2 = p[:, 0] ** 2 + p[:, 1] ** 2 + h * h
    # The ball lies wholly above the horizon: its form factor is (r/d)² cos θ.
    expected = 1 - r * r / d2 * h / np.sqrt(d2)
    got = dark.color[0, y, x, 0]
    assert expected.min() < 0.8
    assert np.abs(got - expected).max() < 0.025
    assert abs((got - expected).mean()) < 0.002
    np.testing.assert_allclose(half.color[0, y, x, 0], (1 + got) / 2, atol=1e-5)


SCENE = """
name: around
image: {{size: [16, 16]}}
light:
  {light}
ground: {{}}
"""


def planned(tmp_path: Path, light: str):
    path = tmp_path / "scene.yaml"
    path.write_text(SCENE.format(light=light))
    plan = Plan(scenefile.load(path).spec)
    return lambda frames: compose(plan, plan.sample(0, frames), folder=tmp_path).lights


def write_hdr(path: Path, image) -> None:
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1], np.float32))


def test_environments_of_a_scene_file(tmp_path) -> None:
    for k in range(3):
        write_hdr(tmp_path / f"m{k}.hdr", smooth_map(16, k))
    make = planned(tmp_path, "environment: {folder: ., intensity: 2}")
    lights = make(range(12))
    assert lights.environments is not None and len(lights.environments.maps) == 3
    assert not lights.ambient.any() and not lights.sun_irradiance.any()
    assert np.ptp(lights.environments.turn) > 1
    alone = make([5])
    image = lights.environments.maps[lights.environments.index[5]]
    np.testing.assert_array_equal(alone.environments.maps[alone.environments.index[0]], image)
    np.testing.assert_allclose(image, smooth_map(16, int(lights.environments.index[5])), rtol=0.02)
    with_sky = planned(tmp_path, "sky: {turbidity: {uniform: [2, 6]}}")(range(4))
    assert len(with_sky.environments.maps) == 4 and with_sky.sun_irradiance.any()


def test_a_map_with_a_sun_lights_with_it(tmp_path) -> None:
    image = np.full((128, 256, 3), 0.2, np.float32)
    image[directions(128) @ [0, 0.6, 0.8] > np.cos(np.radians(1.5))] += 500
    write_hdr(tmp_path / "a.hdr", image)
    turned = planned(tmp_path, "environment: {image: a.hdr, rotation_deg: 90}")([0])
    np.testing.assert_allclose(turned.sun_direction[0], [-0.6, 0, 0.8], atol=0.01)
    assert turned.sun_irradiance.min() > 0.5 and turned.sun_radius[0] > 0.01
    assert turned.environments.maps[0].max() < 1
    own = planned(tmp_path, "environment: {image: a.hdr}\n  sun: {azimuth_deg: 0}")([0])
    assert own.environments.maps[0].max() > 100  # the scene has a sun: the map keeps its own


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "expected a Radiance"), (b"hello", "expected a Radiance"), (b"#?RADIANCE\n\n", "names no size"),
     (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 999999 +X 999999\n", "pixels, got 999999 × 999999"),
     (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 64 +X 128\nxx", "broken image file"),
     (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n+X 64 -Y 128\nxx", "rows from top to bottom"),
     (b"\x76\x2f\x31\x01rubbish", "OpenEXR")],
)  # fmt: skip
def test_hostile_maps_give_one_line(tmp_path, content, expected) -> None:
    (tmp_path / "bad.hdr").write_bytes(content)
    with pytest.raises(SceneError, match=expected) as caught:
        planned(tmp_path, "environment: {image: bad.hdr}")([0])
    assert "light.environment.image" in str(caught.value) and "\n" not in str(caught.value)


def test_maps_of_other_shapes_are_refused(tmp_path) -> None:
    write_hdr(tmp_path / "square.hdr", np.ones((32, 32, 3)))
    with pytest.raises(DataError, match="twice as wide as high, got 32 × 32"):
        load_environment(tmp_path / "square.hdr")
    with pytest.raises(DataError, match="no such file"):
        load_environment(tmp_path / "none.hdr")


def test_exr_reads_as_hdr(tmp_path) -> None:
    exr = pytest.importorskip("OpenEXR")
    image = smooth_map(16)
    exr.File({"type": exr.scanlineimage}, {"RGB": image}).write(str(tmp_path / "a.exr"))
    np.testing.assert_allclose(load_environment(tmp_path / "a.exr").whole, image, rtol=1e-3)


@pytest.mark.parametrize(
    ("light", "expected"),
    [("sky: {}\n  sun: null", "a sky stands about the sun"), ("sky: {}\n  environment: {image: a.hdr}", "got both"),
     ("environment: {}", "expected exactly one of image, folder"), ("occlusion: 2", r"within \[0, 1\]")],
)  # fmt: skip
def test_light_that_means_nothing_is_refused(tmp_path, light, expected) -> None:
    with pytest.raises(SceneError, match=expected):
        planned(tmp_path, light)
