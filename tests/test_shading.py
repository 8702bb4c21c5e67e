"""Radiance against closed forms: Lambert and GGX under a sun, ambient light, shadows, textures,
backgrounds.
"""

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

from imgsynth.batch import GRADIENT, NOISE, PHOTO
from imgsynth.render.raster import RasterRenderer

RENDERER = RasterRenderer()


def bsdf(n, v, l, albedo, metallic, rough):  # noqa: E741
    """Metallic-roughness reflectance, glTF 2.0 appendix B, with height-correlated Smith masking, in numpy."""
    h = (l + v) / np.linalg.norm(l + v, axis=-1, keepdims=True)
    nl, nv, nh, vh = ((a * b).sum(-1) for a, b in ((n, l), (n, v), (n, h), (v, h)))
    f0 = 0.04 * (1 - metallic) + albedo * metallic
    f = f0 + (1 - f0) * (1 - vh) ** 5
    a2 = rough**4
    d = a2 / (np.pi * (nh**2 * (a2 - 1) + 1) ** 2)
    smith = 0.5 / (nl * np.sqrt(nv**2 * (1 - a2) + a2) + nv * np.sqrt(nl**2 * (1 - a2) + a2))
    return np.where(nl > 0, nl * ((1 - f) * (1 - metallic) * albedo / np.pi + f * d * smith), 0)


@pytest.mark.parametrize(("metallic", "rough"), [(0.0, 1.0), (0.0, 0.4), (1.0, 0.3), (0.5, 0.7)])
def test_sphere_under_the_sun(metallic: float, rough: float) -> None:
    size, sun = (64, 64), np.array([0.8, -0.3, 0.5])
    sun /= np.linalg.norm(sun)
    camera = look_at((0, -3, 0), (0, 0, 0))
    shot = Shot([Thing(0)], camera, intrinsics(80, size), sun_direction=sun, sun=(2.0, 1.0, 0.5))
    batch = make_batch([shot], [icosphere(5)], size, [Material((0.6,) * 3, metallic, rough)])
    buffers = RENDERER.render(batch)
    y, x = np.nonzero(buffers.instance[0])
    ray = np.stack([(x + 0.5 - 32) / 80, (y + 0.5 - 32) / 80, x * 0 + 1], 1)
    point = ray * buffers.depth[0, y, x][:, None] @ camera[:3, :3].T + camera[:3, 3]
    n = point / np.linalg.norm(point, axis=1, keepdims=True)
    v = -ray @ camera[:3, :3].T / np.linalg.norm(ray, axis=1, keepdims=True)
    expected = bsdf(n, v, np.broadcast_to(sun, n.shape), 0.6, metallic, rough)
    inner = (n * v).sum(1) > 0.2
    got = buffers.color[0, y, x]
    np.testing.assert_allclose(got[inner, 0], 2 * expected[inner], rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(got[:, 1:] * [2, 4], got[:, :1].repeat(2, 1), rtol=1e-5)
    assert (expected == 0).sum() > 100  # the dark side is there, and black
    assert np.all(got[(n @ sun < -0.01)] == 0)


def test_ambient_never_outshines_a_white_furnace() -> None:
    """In a uniform environment of radiance 1 nothing white is brighter, and a rough white thing is just as
    bright.
    """
    materials = [Material((1, 1, 1), m, r) for m in (0.0, 0.5, 1.0) for r in (0.0, 0.3, 1.0)]
    shots = [
        Shot([Thing(0, pose(None, (0, 0, 2.5)), material=i)], ambient=(1, 1, 1))
        for i in range(len(materials))
    ]
    buffers = RENDERER.render(make_batch(shots, [icosphere(4)], (48, 48), materials))
    seen = [c[i != 0] for c, i in zip(buffers.color, buffers.instance, strict=True)]
    assert max(s.max() for s in seen) < 1 + 1e-5
    pure = [
        s for s, m in zip(seen, materials, strict=True) if m.metallic in (0.0, 1.0)
    ]  # glTF's blends lose light
    assert min(s.min() for s in pure) > 1 - 1e-5
    grey = make_batch(
        shots[:3], [icosphere(4)], (48, 48), [Material((0.5,) * 3, 0, r) for r in (0.0, 0.3, 1.0)]
    )
    buffers = RENDERER.render(grey)
    assert np.all(buffers.color[buffers.instance != 0] <= 1)
    np.testing.assert_allclose(buffers.color[2][buffers.instance[2] != 0], 0.5 * 0.96 + 0.04, atol=1e-5)


def test_sunlight_is_not_created() -> None:
    """The light that a plane sends back over all directions is less than what fell on it (white furnace,
    sun).
    """
    rng = np.random.default_rng(0)
    v = rng.normal(size=(200_000, 3))
    v[:, 2] = np.abs(v[:, 2])
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    eyes = v[:300] * 5
    up = np.where(np.abs(v[:300, 2:]) > 0.9, [[1, 0, 0]], [[0, 0, 1]])
    for elevation in (0.3, 1.2):
        sun = np.array([np.cos(elevation), 0, np.sin(elevation)])
        shots = [
            Shot(
                [],
                look_at(e, (0, 0, 0), u),
                intrinsics(100, (1, 1)),
                sun_direction=sun,
                sun=(1, 1, 1),
                ground=0,
            )
            for e, u in zip(eyes, up, strict=True)
        ]
        color = RENDERER.render(make_batch(shots, [box()], (1, 1), [Material((1, 1, 1), 0.0, 0.6)])).color[
            :, 0, 0, 0
        ]
        expected = bsdf(np.array([[0.0, 0, 1]]), v, sun[None], 1.0, 0.0, 0.6)
        np.testing.assert_allclose(color, expected[:300], rtol=2e-3, atol=1e-5)
        reflected = np.mean(expected * v[:, 2]) * 2 * np.pi
        # Schlick's term at the half vector is no exact bookkeeping between gloss and Lambert: 3 % at grazing
        # light.
        assert 0.8 * np.sin(elevation) < reflected < 1.03 * np.sin(elevation)


def test_emission_is_added() -> None:
    batch = make_batch(
        [Shot([Thing(0, pose(None, (0, 0, 2)))])], [icosphere(2)], (8, 8), [Material(emission=(1, 2, 3))]
    )
    np.testing.assert_allclose(RENDERER.render(batch).color[0, 4, 4], [1, 2, 3], rtol=1e-6)


def shadow_scene(things, mesh, size=(128, 128), sun=(0.5, 0.2, 1.0), height=6.0):
    """White ground from straight above, where each pixel is a known point: ids, share of the sun that is
    missing, x, y.
    """
    camera = look_at((0.0, 0.0, height), (0, 0, 0), (0, 1, 0))
    shots = [
        Shot(things, camera, intrinsics(size[0] * height / 4, size), sun_direction=sun, sun=(np.pi,) * 3,
             shadows=shadows, ground=0) for shadows in (True, False)
    ]  # fmt: skip
    buffers = RENDERER.render(make_batch(shots, mesh, size, [Material((1, 1, 1), roughness=1.0)]))
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    missing = 1 - buffers.color[0, ..., 0] / np.maximum(buffers.color[1, ..., 0], 1e-9)
    return buffers.instance[0], missing, (x - size[1] / 2) * 4 / size[1], -(y - size[0] / 2) * 4 / size[0]


@pytest.mark.parametrize("lift", [0.0, 0.4])
def test_shadow_of_a_box_on_the_ground(lift: float) -> None:
    """Swept along the sun's direction, a box darkens the ground between its lowest and highest faces'
    shadows.
    """
    sun = np.array([0.9, 0.4, 1.0])
    ids, missing, x, y = shadow_scene(
        [Thing(0, pose(None, (-0.4, -0.3, 0.3 + lift)))], [box(0.8, 0.7, 0.6)], sun=sun
    )
    ground = ids == 0
    # A ground point is dark where its ray to the sun meets the box: slabs in x, y and z.
    low, high = np.full(x.shape, lift), np.full(x.shape, lift + 0.6)
    for p, c, half, d in ((x, -0.4, 0.4, 0.9), (y, -0.3, 0.35, 0.4)):
        low = np.maximum(low, (c - half - p) / d)
        high = np.minimum(high, (c + half - p) / d)
    gap = high - low  # > 0: in shadow
    # Within three texels (the box's extent / 256) of an edge the filter blurs; gap counts heights, not
    # metres.
    blur = 0.05
    assert np.all(missing[ground & (gap < -blur)] < 1e-5)
    assert np.all(missing[ground & (gap > blur)] > 1 - 1e-5)
    assert (ground & (gap > blur)).sum() > 200


def test_shadow_edges_lie_where_they_should() -> None:
    """Area in shadow under a floating sheet, straight below the sun: the sheet's own, to a fraction of a
    texel.
    """
    _, share, x, y = shadow_scene([Thing(0, pose(None, (3.0, 0.5, 1.0)))], [grid_quad()], sun=(1.0, 0.0, 0.4))
    assert share.sum() * (4 / 128) ** 2 == pytest.approx(1.0, rel=0.01)
    assert (share * x).sum() / share.sum() == pytest.approx(3.0 - 1.0 / 0.4, abs=0.01)
    assert (share * y).sum() / share.sum() == pytest.approx(0.5, abs=0.01)


def test_no_acne_and_no_gap_at_contact() -> None:
    """What faces the sun alone is fully lit; ground is dark right up to a standing box, on its far side."""
    size = (96, 96)
    camera = look_at((2.5, -2.0, 2.2), (0, 0, 0.3))
    for sun in ((0.5, -0.3, 1.0), (0.9, -0.4, 0.25), (0.05, -0.02, 1.0)):
        for mesh in (icosphere(4), box(), grid_quad(4)):
            things = [Thing(0, pose(None, (0, 0, 1.0)), (0.7, 0.7, 0.7))]
            shot = {"camera": camera, "k": intrinsics(110, size), "sun_direction": sun, "sun": (3, 3, 3)}
            batch = make_batch([Shot(things, shadows=s, **shot) for s in (True, False)], [mesh], size)
            buffers = RENDERER.render(batch)
            with_map, without = buffers.color[buffers.instance != 0].reshape(2, -1, 3)
            # A sphere's own rim, where the sun grazes, may darken by the width of a texel: it hardly shines
            # there.
            assert np.abs(with_map - without).max() < 0.03
    ids, missing, _, _ = shadow_scene([Thing(0, pose(None, (0, 0, 0.5)))], [box()], sun=(-1.0, 0.0, 1.0))
    right = np.flatnonzero(ids[64]).max()
    assert np.all(missing[64, right + 1 : right + 7] > 0.99)


def test_shadows_are_per_frame_and_need_a_sun() -> None:
    thing = [Thing(0, pose(None, (0, 0, 1.0)))]
    base = {"camera": look_at((0, -5, 3), (0, 0, 0)), "ground": 0, "ambient": (0.2,) * 3}
    shots = [
        Shot(thing, sun=(1, 1, 1), shadows=True, **base),
        Shot(thing, sun=(1, 1, 1), shadows=False, **base),
        Shot(thing, sun=(0, 0, 0), shadows=True, **base),
        Shot(thing, sun=(0, 0, 0), shadows=False, **base),
    ]
    color = RENDERER.render(make_batch(shots, [icosphere(3)], (48, 48))).color
    assert np.abs(color[0] - color[1]).max() > 0.1
    np.testing.assert_array_equal(color[2], color[3])


def test_mip_filtering_averages_a_checkerboard() -> None:
    """Far under the pixel's size, black and white squares are half the light, not half the sRGB value."""
    n = 256
    checker = np.zeros((n, n, 4), np.uint8)
    checker[..., 3] = 255
    checker[(np.arange(n)[:, None] + np.arange(n)) % 2 == 1, :3] = 255
    camera = look_at((0.37, 0.21, 20.0), (0, 0, 0), (0, 1, 0))
    shots = [Shot([], camera, intrinsics(32, (32, 32)), ambient=(1, 1, 1), ground=0)]
    buffers = RENDERER.render(
        make_batch(shots, [box()], (32, 32), [Material((1, 1, 1), roughness=1.0, texture=0)], [checker])
    )
    np.testing.assert_allclose(buffers.color, 0.5 * 0.96 + 0.04, atol=0.005)


def test_anisotropic_footprints_keep_detail_across_and_blur_along() -> None:
    """Stripes seen at a slant: those that run towards the eye survive, those across it average out."""
    n = 64
    stripes = np.zeros((n, n, 4), np.uint8)
    stripes[..., 3] = 255
    stripes[:, (np.arange(n) // 8) % 2 == 1, :3] = 255
    camera = look_at((0.0, -3.0, 0.35), (0, 0, 0.2))
    colors = []
    for image in (stripes, stripes.swapaxes(0, 1).copy()):
        shot = Shot([], camera, intrinsics(96, (96, 96)), ambient=(1, 1, 1), ground=0)
        batch = make_batch(
            [shot], [box()], (96, 96), [Material((1, 1, 1), roughness=1.0, texture=0)], [image]
        )
        colors.append(RENDERER.render(batch).color[0, 60, :, 0])
    assert np.ptp(colors[0]) > 0.7
    assert np.ptp(colors[1]) < np.ptp(colors[0])


def test_backgrounds() -> None:
    photo = np.zeros((40, 60, 4), np.uint8)
    photo[..., 3] = 255
    photo[:, 30:, 0] = 255
    shots = [
        Shot(color_a=(0.1, 0.2, 0.3)),
        Shot(color_a=(0, 0, 0), color_b=(1, 1, 1), background=GRADIENT),
        Shot(color_a=(0, 0, 0), color_b=(1, 1, 1), background=NOISE, noise_seed=1),
        Shot(color_a=(0, 0, 0), color_b=(1, 1, 1), background=NOISE, noise_seed=2),
        Shot(color_a=(0.5, 1, 1), background=PHOTO, photo=0),
        Shot(color_a=(1, 1, 1), background=PHOTO, photo=0, photo_window=(0.5, 0, 1, 1)),
    ]
    color = RENDERER.render(make_batch(shots, [box()], (32, 48), textures=[photo])).color
    np.testing.assert_allclose(color[0], np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (32, 48, 3)))
    np.testing.assert_allclose(color[1, :, 0, 0], (np.arange(32) + 0.5) / 32, rtol=1e-5)
    assert 0 <= color[2].min() < 0.3 < 0.6 < color[2].max() <= 1
    assert np.abs(np.diff(color[2, ..., 0], axis=1)).max() < 0.25  # smooth
    assert np.corrcoef(color[2, ..., 0].ravel(), color[3, ..., 0].ravel())[0, 1] < 0.5
    np.testing.assert_allclose(color[4, :, :20, 0], 0, atol=1e-6)
    np.testing.assert_allclose(color[4, :, 28:, 0], 0.5, atol=1e-5)
    np.testing.assert_allclose(color[5, :, 3:, 0], 1.0, atol=1e-5)


def test_noise_is_a_fair_mixture() -> None:
    """Over many seeds the noise's mean is one half, whatever the place."""
    shots = [
        Shot(color_a=(0, 0, 0), color_b=(1, 1, 1), background=NOISE, noise_seed=s, noise_scale=3.0)
        for s in range(2000)
    ]
    color = RENDERER.render(make_batch(shots, [box()], (4, 4))).color[..., 0]
    assert np.abs(color.mean(0) - 0.5).max() < 0.03
    assert color.std(0).min() > 0.08


@pytest.mark.parametrize("shift", [(-3, 0), (0, 2), (5, -4)])
def test_a_texture_repeats_on_both_sides_of_nought(shift: tuple[int, int]) -> None:
    """Texture coordinates moved by whole repeats show the same picture, borders of the texture included."""
    image = np.random.default_rng(4).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    image[..., 3] = 255
    shot = Shot([Thing(0)], look_at((0.1, -0.4, 2), (0, 0, 0)), intrinsics(60, (32, 32)), ambient=(1, 1, 1))
    mesh = grid_quad()
    batches = []
    for move in ((0, 0), shift):
        moved = replace(mesh, uv=mesh.uv * 2.0 + np.array(move))
        batches.append(make_batch([shot], [moved], (32, 32), [Material((1, 1, 1), texture=0)], [image]))
    still, carried = (RENDERER.render(batch).color for batch in batches)
    assert still.std() > 0.05
    np.testing.assert_allclose(carried, still, atol=2e-4)
