"""Mitsuba draws what the raster renderer draws: labels by its own rays, light by paths."""

import dataclasses
import json

import numpy as np
import pytest
from agreement import Agreement
from random_scenes import random_batch
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

from imgsynth import generate, scenefile
from imgsynth.batch import POINT, RECTANGLE, SPOT, Lamps
from imgsynth.errors import ImgsynthError
from imgsynth.render import renderer
from imgsynth.render.raster import RasterRenderer

pytest.importorskip("mitsuba", reason="needs the extra mitsuba")

from imgsynth.render.mitsuba import MitsubaRenderer
from imgsynth.render.mitsuba_matter import conductor
from imgsynth.render.reference import Cells, refuse_unknown

RASTER = RasterRenderer()


def check(batch, figures: Agreement | None = None) -> dict[str, float]:
    found = figures or Agreement()
    a, b = RASTER.render(batch), MitsubaRenderer(1, 1).render(batch)
    found.add(a, b, batch.instances.frame, batch.instances.id)
    return found.figures()


def required(got: dict[str, float]) -> None:
    assert got["least IoU"] >= 0.995
    assert got["least amodal IoU"] >= 0.995
    assert got["depth within 1e-3"] >= 0.999
    assert got["normals within 1°"] >= 0.99


def test_labels_agree_on_random_scenes():
    got = check(random_batch(8, seed=5, size=(48, 56)))
    assert got["objects"] > 10
    required(got)


@pytest.mark.slow
def test_labels_agree_on_200_random_scenes():
    found = Agreement()
    for seed in range(200):
        got = check(random_batch(1, seed=1000 + seed, size=(96, 112)), found)
    print(json.dumps(got, indent=1))
    assert got["frames"] == 200
    required(got)


def test_whole_silhouettes_agree_across_the_border_and_the_near_plane():
    k = intrinsics(60, (40, 40))
    things = [
        Thing(0, pose(None, (1.1, 0.013, 3.0)), (0.8,) * 3),
        Thing(1, pose(None, (0.017, 1.511, 4.0)), (1.5,) * 3),
        Thing(0, pose(None, (0.0, 0.0, -3.0))),
        Thing(1, pose(None, (-0.257, 0.011, 0.603)), (0.4, 0.4, 2.0)),
    ]
    batch = make_batch([Shot(things, k=k, near=0.3)], [icosphere(3), box()], (40, 40))
    a, b = RASTER.render(batch), MitsubaRenderer(1, 1).render(batch)
    np.testing.assert_allclose(b.amodal_total, a.amodal_total, rtol=0.01)
    assert a.amodal_total[0] > 1.3 * a.amodal.mask(0, (40, 40)).sum()
    np.testing.assert_array_equal(a.instance, b.instance)
    np.testing.assert_array_equal(a.amodal.data, b.amodal.data)


def lambert_batch(sun, ambient, color=(0.5, 0.3, 0.7), roughness=1.0):
    """A matte square that fills the frame, facing the camera straight above it."""
    shot = Shot([Thing(0, np.eye(4), (50.0,) * 3)], look_at((0, 0, 4), (0, 0, 0), (0, 1, 0)),
        k=intrinsics(800, (16, 16)), sun_direction=(0.6, 0.0, 0.8),
                sun=sun, ambient=ambient, shadows=True)  # fmt: skip
    return make_batch([shot], [grid_quad(1)], (16, 16), [Material(color, 0.0, roughness)])


def gltf(albedo: np.ndarray, to_light: np.ndarray, roughness: float) -> np.ndarray:
    """(n, 3) reflected towards the normal per unit radiance and solid angle, cosine included: glTF 2.0, appendix B."""
    nl = to_light[:, 2]
    half = to_light + np.array([0, 0, 1])
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    a2 = roughness**4
    f = 0.04 + 0.96 * (1 - half[:, 2]) ** 5
    d = a2 / (np.pi * (half[:, 2] ** 2 * (a2 - 1) + 1) ** 2)
    v = 0.5 / (nl + np.sqrt(nl**2 * (1 - a2) + a2))
    return nl[:, None] * ((1 - f)[:, None] * albedo / np.pi + (f * d * v)[:, None])


@pytest.mark.parametrize("roughness", [0.5, 1.0])
def test_a_sheet_under_the_sun_is_as_bright_as_its_brdf_says(roughness):
    got = MitsubaRenderer(64, 2).render(lambert_batch((2.0, 1.5, 1.0), (0, 0, 0), roughness=roughness)).color
    expected = gltf(np.array([0.5, 0.3, 0.7]), np.array([[0.6, 0, 0.8]]), roughness)[0] * [2.0, 1.5, 1.0]
    np.testing.assert_allclose(got.mean((0, 1, 2)), expected, rtol=0.02)


@pytest.mark.parametrize("roughness", [0.5, 1.0])
def test_a_sheet_in_even_light_is_as_bright_as_its_brdf_says(roughness):
    light = np.array([0.4, 0.5, 0.6])
    got = MitsubaRenderer(400, 2).render(lambert_batch((0, 0, 0), tuple(light), roughness=roughness)).color
    z, turn = np.meshgrid((np.arange(400) + 0.5) / 400, (np.arange(8) + 0.5) * np.pi / 4, indexing="ij")
    r = np.sqrt(1 - z**2)
    to_light = np.stack([r * np.cos(turn), r * np.sin(turn), z], -1).reshape(-1, 3)
    expected = gltf(np.array([0.5, 0.3, 0.7]), to_light, roughness).mean(0) * 2 * np.pi * light
    np.testing.assert_allclose(got.mean((0, 1, 2)), expected, rtol=0.02)


def lamp(kind: int, position, direction, size, radiant, cone=(1.0, 1.5)) -> Lamps:
    direction = np.asarray(direction, float) / np.linalg.norm(direction)
    across = np.cross(direction, [0.3, 0.9, 0.1])
    return Lamps(np.zeros(1, np.int32), np.array([kind], np.int32), np.array([position], float), direction[None],
                 across[None] / np.linalg.norm(across), np.array([size], np.float32), np.array([cone], np.float32),
                 np.array([radiant], np.float32), np.ones(1, bool))  # fmt: skip


LIGHTS = {
    "sun": None,
    "point": lamp(POINT, (0.8, -0.5, 2.0), (0, 0, -1), (0, 0), (6, 5, 4)),
    "spot": lamp(SPOT, (0.8, -0.5, 2.5), (-0.3, 0.2, -1), (0, 0), (9, 8, 7)),
    "rectangle": lamp(RECTANGLE, (0.6, 0.4, 1.8), (-0.2, -0.1, -1), (0.8, 0.5), (7, 6, 5)),
}
LIGHTS |= {
    f"{name} by map": dataclasses.replace(LIGHTS[name], mapped=np.ones(1, bool)) for name in ("point", "spot")
}


@pytest.mark.parametrize("name", LIGHTS)
def test_direct_light_on_matte_things_is_as_bright_as_the_raster_renderer_draws_it(name):
    """Mean radiance over the frame within 3 %, shadows included."""
    things = [
        Thing(0, pose(None, (0.2, 0.1, 0.35)), (0.3,) * 3, 0),
        Thing(1, pose(None, (-0.5, -0.3, 0.2)), (0.4,) * 3, 1),
    ]
    sun = (2.0, 1.8, 1.6) if name == "sun" else (0, 0, 0)
    shot = Shot(
        things,
        look_at((0.3, -2.4, 2.2), (0, 0, 0.2)),
        sun_direction=(0.5, -0.3, 0.8),
        sun=sun,
        shadows=True,
        ground=2,
    )
    batch = make_batch([shot], [icosphere(4), box()], (48, 48), [Material(c, 0, 1) for c in ((0.8, 0.5, 0.4), (0.4, 0.8, 0.5), (0.7, 0.7, 0.7))])  # fmt: skip
    lights = dataclasses.replace(batch.lights, lamps=LIGHTS[name], samples=64, seed=np.array([3], np.uint32))
    batch = dataclasses.replace(batch, lights=lights)
    a, b = (r.render(batch, 4).color.mean((0, 1, 2)) for r in (RASTER, MitsubaRenderer(32, 2)))
    np.testing.assert_allclose(a, b, rtol=0.03)


def test_colour_is_reproducible_alone_and_in_a_batch():
    batch = random_batch(3, seed=9, size=(24, 24))
    whole = MitsubaRenderer(4, 3).render(batch, 4)
    again = MitsubaRenderer(4, 3).render(batch, 4)
    np.testing.assert_array_equal(whole.color, again.color)
    keep = batch.instances.frame == 1
    table = {f.name: getattr(batch.instances, f.name)[keep] for f in dataclasses.fields(batch.instances)}
    table["frame"] = np.zeros(keep.sum(), np.int32)

    def one(part):
        values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        return type(part)(**{k: v[1:2] if isinstance(v, np.ndarray) else v for k, v in values.items()})

    alone = dataclasses.replace(
        batch, indices=batch.indices[1:2], cameras=one(batch.cameras), lights=one(batch.lights),
        ground=one(batch.ground), backgrounds=one(batch.backgrounds), instances=type(batch.instances)(**table),
    )  # fmt: skip
    np.testing.assert_array_equal(MitsubaRenderer(4, 3).render(alone, 4).color[0], whole.color[1])


def test_textures_lie_as_the_raster_renderer_lays_them():
    image = np.zeros((8, 8, 4), np.uint8)
    image[..., 3] = 255
    image[:4, :4, 0], image[:4, 4:, 1], image[4:, :4, 2] = 255, 200, 180
    shot = Shot(
        [Thing(0, pose(None, (0, 0, 0.2)), (1.2,) * 3)],
        look_at((0.5, -1.5, 1.5), (0, 0, 0.2)),
        ambient=(1, 1, 1),
        ground=1,
    )
    batch = make_batch([shot], [grid_quad(2)], (32, 32), [Material((1, 1, 1), 0, 1, texture=0, uv_scale=(1, 2)), Material((0.9, 0.8, 0.7), 0, 1, texture=0, uv_scale=(3, 3))], [image])  # fmt: skip
    a, b = RASTER.render(batch, 16).color, MitsubaRenderer(64, 2).render(batch, 16).color
    a, b = (c.reshape(32, 4, 32, 4, 3).mean((1, 3)) for c in (a[0], b[0]))
    sheet = RASTER.render(batch).instance[0] == 1
    assert np.abs(a - b)[sheet].mean() < 0.03
    far = np.abs(a - b)[~sheet]  # the floor lies in the sheet's shade, which only paths see
    assert np.median(far) < 0.06
    assert np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1] > 0.97


def test_what_glows_is_seen_and_what_lies_behind_shows_through():
    shot = Shot([Thing(0, pose(None, (0, 0, 3)), (0.5,) * 3)], color_a=(0.1, 0.2, 0.3))
    batch = make_batch([shot], [icosphere(4)], (32, 32), [Material((0, 0, 0), 0, 1, emission=(2, 1, 0.5))])
    got = MitsubaRenderer(16, 2).render(batch)
    np.testing.assert_allclose(got.color[0][16, 16], (2, 1, 0.5), rtol=1e-3)
    np.testing.assert_allclose(got.color[0][0, 0], (0.1, 0.2, 0.3), rtol=1e-5)


def test_conductors_follow_schlick():
    f0 = np.array([0.04, 0.2, 0.5, 0.9])
    eta, k = conductor(f0)
    for c in (1.0, 0.7, 0.5, 0.3):
        s2 = 1 - c * c
        both = np.sqrt((eta**2 - k**2 - s2) ** 2 + 4 * eta**2 * k**2)
        a = np.sqrt(0.5 * (both + eta**2 - k**2 - s2))
        rs = (both + c * c - 2 * a * c) / (both + c * c + 2 * a * c)
        rp = rs * (both * c * c + s2 * s2 - 2 * a * c * s2) / (both * c * c + s2 * s2 + 2 * a * c * s2)
        np.testing.assert_allclose(0.5 * (rs + rp), f0 + (1 - f0) * (1 - c) ** 5, atol=0.03)


def test_cells_give_the_intrinsics_of_their_own_grid():
    k = intrinsics(50, (40, 60))
    cells = Cells(-10.0, 5.0, 2.0, 30, 20)
    own = cells.intrinsics(k)
    point = np.array([0.3, -0.2, 2.0])
    image, cell = k @ point, own @ point
    np.testing.assert_allclose(cell[:2] / cell[2] * 2.0 + [-10, 5], image[:2] / image[2])
    np.testing.assert_allclose(cells.points()[0, 0], (-9, 6))


def test_a_dataset_by_mitsuba_says_so(tmp_path):
    scene = tmp_path / "scene.yaml"
    scene.write_text(
        "name: two\nimage: {size: [16, 16]}\nclasses: [ball]\nrenderer: {samples: 1, paths: 2}\n"
        "objects: {ball: {class: ball, shape: {sphere: {radius: 0.2}}}}\n"
    )
    root = generate.render(scene, 2, tmp_path / "out", renderer="mitsuba", workers=1)
    header = json.loads((root / "dataset.json").read_text())
    assert header["renderer"] == "mitsuba" and "mitsuba" in header["versions"]
    raster = generate.frames(scenefile.load(scene), 0, range(2))
    paths = generate.frames(scenefile.load(scene), 0, range(2), renderer="mitsuba")
    np.testing.assert_array_equal(raster.buffers.instance, paths.buffers.instance)
    assert not np.array_equal(raster.images, paths.images)


def test_what_it_cannot_draw_is_refused_by_name():
    batch = random_batch(1, 0)
    with pytest.raises(ImgsynthError, match=r"--renderer mitsuba does not draw cameras\.k"):
        refuse_unknown(batch, "mitsuba", {"cameras": {"world_from_camera", "near"}})
    with pytest.raises(ImgsynthError, match="CPU only"):
        renderer("mitsuba", "cuda")
    with pytest.raises(ImgsynthError, match="perfect square"):
        MitsubaRenderer().render(batch, 3)
    with pytest.raises(ImgsynthError, match="paths"):
        MitsubaRenderer(0)
