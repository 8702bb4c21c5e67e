"""Materials under light: base colour on its own, maps of normals, roughness and emission, clearcoat."""

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
    random_rotations,
)
from test_shading import bsdf

from imgsynth.color import srgb_to_linear
from imgsynth.render.raster import RasterRenderer
from imgsynth.scene import SceneSpec
from imgsynth.textures import build_mips, pool

RENDERER = RasterRenderer()


def square(*colors: tuple[int, ...]) -> np.ndarray:
    """A 2 × 2 texture of four sRGB colours, row by row from the top."""
    return np.array([(*c, 255) for c in colors], np.uint8).reshape(2, 2, 4)


@pytest.mark.parametrize("samples", [1, 4])
def test_albedo_is_the_base_colour_whatever_the_light(samples: int) -> None:
    """It ignores light, shadows, metal and emission, keeps textures, and is 0 where nothing is hit."""
    materials = [
        Material((0.2, 0.4, 0.6), 1.0, 0.1, (5, 5, 5)),
        Material((0.5, 1.0, 1.0), texture=0),
        Material((0.3, 0.3, 0.3)),
    ]
    texture = square((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)).repeat(64, 0).repeat(64, 1)
    things = [
        Thing(0, pose(None, (-0.5, 0, 1)), (0.3,) * 3, 0),
        Thing(1, pose(None, (0.6, 0, 1)), material=1),
    ]
    camera = look_at((0, 0.001, 4), (0, 0, 1), (0, 1, 0))
    made = []
    for sun in ((0, 0, 0), (3, 2, 1)):
        shot = Shot(things, camera, sun_direction=(0.3, 0.2, 1), sun=sun, ambient=(0.1,) * 3, shadows=True)
        batch = make_batch([shot], [icosphere(3), grid_quad()], (96, 96), materials, [texture])
        made.append(RENDERER.render(replace(batch, outputs=("albedo",)), samples))
    dark, lit = made
    assert dark.albedo is not None and lit.albedo is not None
    np.testing.assert_array_equal(dark.albedo, lit.albedo)
    assert not np.allclose(dark.color, lit.color)
    albedo, instance = lit.albedo[0], lit.instance[0]
    assert np.all(albedo[instance == 0] == 0)
    np.testing.assert_allclose(albedo[instance == 1], [(0.2, 0.4, 0.6)] * (instance == 1).sum(), rtol=1e-6)
    grey = 0.5 * srgb_to_linear(np.array(128 / 255))
    quarters = np.array([(0.5, 0, 0), (0, 1, 0), (0, 0, 1), (grey, 2 * grey, 2 * grey)])
    off = np.abs(albedo[instance == 2][:, None] - quarters[None]).max(-1)
    assert np.mean(off.min(1) < 1e-5) > 0.85  # all but what lies astride two
    assert np.all(np.bincount(off.argmin(1)) > 0.2 * len(off))


def test_albedo_of_the_ground_and_what_is_not_asked_for() -> None:
    shot = Shot([Thing(0, pose(None, (0, 0, 0.5)))], look_at((3, 0, 1), (0, 0, 0.3)), ground=1)
    batch = make_batch([shot], [box()], (48, 48), [Material((0.9, 0.1, 0.1)), Material((0.1, 0.2, 0.3))])
    assert RENDERER.render(batch).albedo is None
    with_albedo = RENDERER.render(replace(batch, outputs=("albedo",)))
    assert with_albedo.albedo is not None
    floor = (with_albedo.instance[0] == 0) & np.isfinite(with_albedo.depth[0])
    assert floor.any()
    np.testing.assert_allclose(with_albedo.albedo[0][floor], [(0.1, 0.2, 0.3)] * floor.sum(), rtol=1e-6)
    plain = RENDERER.render(batch)
    np.testing.assert_array_equal(plain.color, with_albedo.color)
    np.testing.assert_array_equal(plain.depth, with_albedo.depth)


def constant(*code: int) -> tuple[np.ndarray, ...]:
    """A texture of one colour, its chain as it is."""
    return (np.array(code, np.uint8).reshape(1, 1, 4),)


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rotation that turns unit vector a to b the short way."""
    axis = np.cross(a, b)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + a @ b)


@pytest.mark.parametrize("code", [(128, 128, 255), (180, 128, 243), (128, 70, 239), (60, 190, 216)])
def test_a_mapped_normal_shades_as_a_plane_that_is_turned_so(code: tuple[int, int, int]) -> None:
    """Square and ground, at any turn: x of the map points along u, y along v."""
    n = np.array(code, float) - 128
    n /= np.linalg.norm(n)
    materials = [Material((0.8, 0.5, 0.3), 0.3, 0.4, normal_texture=0), Material((0.8, 0.5, 0.3), 0.3, 0.4)]
    turns = [np.eye(3), *random_rotations(np.random.default_rng(5), 5)]
    shots, size = [], (9, 9)
    for turn in turns:
        up = turn[:, 2]
        eye = up * 3 + turn[:, 0] * 0.4
        sun = turn @ np.array([0.3, -0.4, 0.9])
        for rotation, material in ((turn, 0), (turn @ between(np.array([0, 0, 1.0]), n), 1)):
            shots.append(
                Shot([Thing(0, pose(rotation), material=material)], look_at(eye, (0, 0, 0), turn[:, 1]),
                     intrinsics(200, size), sun_direction=sun, sun=(2, 2, 2), ambient=(0.2,) * 3)
            )  # fmt: skip
    camera = look_at((0.4, 0, 3), (0, 0, 0), (0, 1, 0))
    light = {"sun_direction": (0.3, -0.4, 0.9), "sun": (2, 2, 2), "ambient": (0.2,) * 3}
    shots.append(Shot([], camera, intrinsics(200, size), ground=0, **light))
    chains = pool([tuple(build_mips(np.array([[(*code, 255)]], np.uint8), "normal"))])
    color = RENDERER.render(make_batch(shots, [grid_quad()], size, materials, chains)).color[:, 4, 4]
    np.testing.assert_allclose(color[0:-1:2], color[1::2], rtol=3e-3)
    np.testing.assert_allclose(color[-1], color[1], rtol=3e-3)  # the ground is the first square


def test_normal_maps_follow_mirrored_texture_coordinates_and_leave_labels_alone() -> None:
    mirrored = grid_quad()
    mirrored.uv[:, 0] = 1 - mirrored.uv[:, 0]
    chains = pool(
        [
            tuple(build_mips(np.array([[(*c, 255)]], np.uint8), "normal"))
            for c in ((180, 128, 243), (76, 128, 243))
        ]
    )
    materials = [Material(normal_texture=0), Material(normal_texture=1), Material()]
    camera = look_at((0, 0.3, 3), (0, 0, 0), (0, 1, 0))
    shots = [
        Shot([Thing(mesh, material=material)], camera, sun_direction=(1, 0, 1), sun=(2, 2, 2))
        for mesh, material in ((0, 0), (1, 1), (0, 1), (0, 2))
    ]
    made = RENDERER.render(make_batch(shots, [grid_quad(), mirrored], (32, 32), materials, chains))
    np.testing.assert_allclose(made.color[0], made.color[1], rtol=1e-4)
    assert not np.allclose(made.color[0], made.color[2])
    for k in range(3):
        np.testing.assert_array_equal(made.normal[k], made.normal[3])


def test_surface_and_emission_textures_are_read_as_numbers_and_as_colours() -> None:
    """Green and blue are roughness and metal, linear; emission is sRGB; each multiplies its factor."""
    chains = pool([constant(7, 102, 51, 255), constant(188, 128, 64, 255)])
    glow = srgb_to_linear(np.array([188, 128, 64]) / 255)
    materials = [
        Material((0.7, 0.5, 0.2), 0.5, 0.8, (2, 2, 2), surface_texture=0, emission_texture=1),
        Material((0.7, 0.5, 0.2), 0.5 * 0.2, 0.8 * 0.4, tuple(2 * glow)),
    ]
    shots = [
        Shot([Thing(0, pose(None, (0, 0, 3)), material=m)], sun_direction=(0.3, 0.2, -1), sun=(2,) * 3, ambient=(0.3,) * 3)
        for m in (0, 1)
    ]  # fmt: skip
    made = RENDERER.render(make_batch(shots, [icosphere(3)], (32, 32), materials, chains))
    np.testing.assert_allclose(made.color[0], made.color[1], rtol=1e-4)


def test_a_plain_material_is_the_same_beside_rich_ones() -> None:
    """The kernel for all kinds of materials and the one for plain ones agree to the last bit."""
    texture = square((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128))
    plain = [Material((0.6, 0.5, 0.4), 0.2, 0.4, texture=0), Material((0.3, 0.9, 0.2))]
    shot = Shot(
        [Thing(0, pose(None, (0, 0, 3)), material=0)],
        sun_direction=(0.3, 0.2, -1),
        sun=(2,) * 3,
        ambient=(0.3,) * 3,
    )
    alone = make_batch([shot], [icosphere(3)], (32, 32), plain, [texture])
    beside = make_batch(
        [shot], [icosphere(3)], (32, 32), [plain[0], replace(plain[1], clearcoat=1.0)], [texture]
    )
    np.testing.assert_array_equal(RENDERER.render(alone, 4).color, RENDERER.render(beside, 4).color)


def test_averaged_normals_become_roughness() -> None:
    """Bumps too small to be seen: the highlight is that of the bumps seen one by one, not of a smooth plane."""
    rng = np.random.default_rng(0)
    slope = rng.normal(0, 0.15, (256, 256, 2))
    normal = np.concatenate([slope, np.ones((256, 256, 1))], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    codes = np.concatenate([128 + 127 * normal, np.full((256, 256, 1), 255.0)], -1)
    image = np.rint(codes).astype(np.uint8)
    levels = tuple(build_mips(image, "normal"))
    smooth = tuple(np.where([True, True, True, False], level, 255).astype(np.uint8) for level in levels)
    sun = np.array([0.05, 0.02, 1.0])
    view = np.array([0.0, 0.0, 1.0])
    shots = [
        Shot([], look_at(view * 40, (0, 0, 0), (0, 1, 0)), intrinsics(20, (3, 3)), sun_direction=sun, sun=(1, 1, 1), ground=m)
        for m in (0, 1)
    ]  # fmt: skip
    materials = [Material((0.0,) * 3, 0.0, 0.15, normal_texture=t, uv_scale=(0.5, 0.5)) for t in (0, 1)]
    got, wrong = RENDERER.render(make_batch(shots, [box()], (3, 3), materials, pool([levels, smooth]))).color[
        :, 1, 1, 0
    ]
    n = normal.reshape(-1, 3)
    sun = sun / np.linalg.norm(sun)
    truth = bsdf(n, np.broadcast_to(view, n.shape), np.broadcast_to(sun, n.shape), 0.0, 0.0, 0.15).mean()
    assert abs(got / truth - 1) < 0.1
    assert abs(wrong / truth - 1) > 1


def test_mips_of_data_average_numbers_and_mips_of_normals_keep_what_they_lose() -> None:
    checker = np.full((4, 4, 4), 255, np.uint8)
    checker[::2, ::2, :3] = checker[1::2, 1::2, :3] = 0
    assert build_mips(checker, "data")[1][0, 0].tolist() == [128, 128, 128, 255]
    # Slopes ±k along x: the mean points up, its length is cos, and (1 - r) / r is half the slopes' square.
    k = 0.3
    lean = np.array([k, 0, 1]) / np.hypot(k, 1)
    codes = np.stack([128 + 127 * lean, 128 + 127 * lean * [-1, 1, 1]])
    image = np.full((2, 2, 4), 255, np.uint8)
    image[:, 0, :3], image[:, 1, :3] = np.rint(codes)
    first, last = build_mips(image, "normal")
    np.testing.assert_array_equal(first, image)
    assert last[0, 0, :3].tolist() == [128, 128, 255]
    r = 1 / np.hypot(k, 1)
    assert abs((1 - last[0, 0, 3] / 255) ** 2 - (1 - r) / r) < 3e-3


def khr_coat(n, v, l, rough):  # noqa: E741
    """Clearcoat's lobe and weight as in KHR_materials_clearcoat, in numpy: D·V n·l, and Fresnel's term at n·v."""
    h = (l + v) / np.linalg.norm(l + v, axis=-1, keepdims=True)
    nl, nv, nh = ((n * a).sum(-1) for a in (l, v, h))
    a2 = max(rough, 0.045) ** 4
    d = a2 / (np.pi * (nh**2 * (a2 - 1) + 1) ** 2)
    smith = 0.5 / (nl * np.sqrt(nv**2 * (1 - a2) + a2) + nv * np.sqrt(nl**2 * (1 - a2) + a2))
    return np.where(nl > 0, nl * d * smith, 0), 0.04 + 0.96 * (1 - nv) ** 5


@pytest.mark.parametrize(("weight", "rough"), [(1.0, 0.2), (0.6, 0.5)])
def test_clearcoat_is_mixed_over_what_lies_below(weight: float, rough: float) -> None:
    size, sun = (48, 48), np.array([0.8, -0.3, 0.5])
    sun /= np.linalg.norm(sun)
    camera = look_at((0, -3, 0), (0, 0, 0))
    materials = [Material((0.6,) * 3, 0.0, 0.7, (0.1,) * 3, clearcoat=weight, clearcoat_roughness=rough)]
    shot = Shot([Thing(0)], camera, intrinsics(60, size), sun_direction=sun, sun=(2.0,) * 3)
    buffers = RENDERER.render(make_batch([shot], [icosphere(5)], size, materials))
    y, x = np.nonzero(buffers.instance[0])
    ray = np.stack([(x + 0.5 - 24) / 60, (y + 0.5 - 24) / 60, x * 0 + 1], 1)
    point = ray * buffers.depth[0, y, x][:, None] @ camera[:3, :3].T + camera[:3, 3]
    n = point / np.linalg.norm(point, axis=1, keepdims=True)
    v = -ray @ camera[:3, :3].T / np.linalg.norm(ray, axis=1, keepdims=True)
    to_sun = np.broadcast_to(sun, n.shape)
    lobe, fresnel = khr_coat(n, v, to_sun, rough)
    below = 2 * bsdf(n, v, to_sun, 0.6, 0.0, 0.7) + 0.1
    expected = below + (2 * lobe - below) * weight * fresnel
    inner = (n * v).sum(1) > 0.25
    np.testing.assert_allclose(buffers.color[0, y, x, 0][inner], expected[inner], rtol=0.02, atol=2e-3)


def test_clearcoat_outshines_no_furnace() -> None:
    materials = [
        Material((1, 1, 1), m, r, clearcoat=1.0, clearcoat_roughness=c)
        for m in (0.0, 1.0) for r in (0.1, 1.0) for c in (0.0, 0.5)
    ]  # fmt: skip
    shots = [
        Shot([Thing(0, pose(None, (0, 0, 2.5)), material=i)], ambient=(1, 1, 1))
        for i in range(len(materials))
    ]
    buffers = RENDERER.render(make_batch(shots, [icosphere(3)], (32, 32), materials))
    seen = buffers.color[buffers.instance != 0]
    assert seen.max() < 1 + 1e-5 and seen.min() > 0.9


def test_factors_are_one_where_textures_are_given(tmp_path) -> None:
    texture = {"noise": {"kind": "noise"}}
    objects = {
        "a": {
            "shape": {"sphere": {"radius": 1}},
            "material": {"surface": texture, "emission_texture": texture},
        }
    }
    material = SceneSpec.model_validate({"name": "s", "objects": objects}).objects["a"].material
    assert [d.median() for d in (material.roughness, material.metallic, material.emission)] == [1, 1, 1]
    with pytest.raises(ValueError, match="noise makes colours, not normals"):
        SceneSpec.model_validate(
            {
                "name": "s",
                "objects": {"a": {"shape": {"sphere": {"radius": 1}}, "material": {"normal": texture}}},
            }
        )
