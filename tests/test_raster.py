"""Visibility: coverage, culling, clipping, attributes, sampling and determinism."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scenes_for_tests import (
    Material,
    Mesh,
    Shot,
    Thing,
    box,
    disc,
    grid_quad,
    icosphere,
    intrinsics,
    look_at,
    make_batch,
    pose,
    random_rotations,
)

from imgsynth.annotate import annotate
from imgsynth.batch import SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.frame import Buffers
from imgsynth.render import Renderer, renderer
from imgsynth.render.projection import projected_boxes
from imgsynth.render.raster import RasterRenderer

RENDERER = RasterRenderer()


def hits(buffers: Buffers, size: tuple[int, int]) -> np.ndarray:
    """How many instances cover each pixel centre of frame 0."""
    total = np.zeros(size, int)
    for k in range(len(buffers.amodal.window)):
        total += buffers.amodal.mask(k, size)
    return total


def pieces(mesh: Mesh) -> list[Mesh]:
    return [Mesh(mesh.vertices, mesh.normals, mesh.uv, f[None], True) for f in mesh.faces]


@pytest.mark.parametrize("turn", [0.0, 0.3, np.pi / 4])
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_each_sample_of_a_tessellated_quad_is_hit_once(turn: float, jitter: float) -> None:
    """Shared edges neither leak nor overlap, also where they run through pixel centres (no turn, no
    jitter).
    """
    quad, size = grid_quad(8, jitter=jitter), (64, 64)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    things = [Thing(i, pose(rotation, (0, 0, 1.0))) for i in range(len(quad.faces))]
    # 40 px across; at turn 0 the grid lines are 5 px apart and pass through pixel centres.
    batch = make_batch([Shot(things, k=intrinsics(40, size, (32.5, 32.5)))], pieces(quad), size)
    count = hits(RENDERER.render(batch), size)
    assert count.max() == 1
    y, x = np.mgrid[:64, :64] + 0.5 - 32.5
    u, v = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    inside = np.maximum(np.abs(u), np.abs(v)) < 20 - 1e-3
    outside = np.maximum(np.abs(u), np.abs(v)) > 20 + 1e-3
    assert np.all(count[inside] == 1)
    assert np.all(count[outside] == 0)
    assert count.sum() == pytest.approx(1600, abs=60)


def test_left_and_top_edges_own_their_samples() -> None:
    """A square whose border runs through pixel centres covers exactly side² of them."""
    size = (32, 32)
    batch = make_batch(
        [Shot([Thing(0, pose(None, (0, 0, 1.0)))], k=intrinsics(16, size, (16.5, 16.5)))], [grid_quad()], size
    )
    expected = np.zeros(size, bool)
    expected[8:24, 8:24] = True
    np.testing.assert_array_equal(RENDERER.render(batch).instance[0] != 0, expected)


def test_closed_meshes_have_no_holes_from_outside_or_inside() -> None:
    rng = np.random.default_rng(0)
    size = (96, 96)
    sphere = icosphere(3)
    room = dataclasses.replace(sphere, two_sided=True)
    outside = [
        Shot([Thing(0, pose(r, (0, 0, 2.5)))], k=intrinsics(190, size)) for r in random_rotations(rng, 20)
    ]
    batch = make_batch(outside, [sphere], size)
    assert np.all(RENDERER.render(batch).instance == 1)
    # From within, with a focal length so short that triangles lie beside and behind the camera too.
    inside = [
        Shot([Thing(0, pose(r, (0.1, 0.2, 0.3)))], k=intrinsics(20, size)) for r in random_rotations(rng, 20)
    ]
    batch = make_batch(inside, [room], size)
    assert np.all(RENDERER.render(batch).instance == 1)


def test_near_plane_cuts_leave_no_cracks() -> None:
    """A tessellated wall through the near plane: each sample is hit at most once, and no hole opens at the
    cut.
    """
    quad, size = grid_quad(12, jitter=0.4), (96, 96)
    tilt = np.array([[1, 0, 0], [0, 0.1, -0.995], [0, 0.995, 0.1]])
    things = [Thing(i, pose(tilt, (0, 0.12, 0.3)), (2, 2, 1)) for i in range(len(quad.faces))]
    batch = make_batch([Shot(things, k=intrinsics(50, size), near=0.1)], pieces(quad), size)
    buffers = RENDERER.render(batch)
    count = hits(buffers, size)
    assert count.max() == 1
    covered = count[:, 48]
    first, last = np.flatnonzero(covered)[[0, -1]]
    assert last - first > 20 and np.all(covered[first : last + 1])
    assert np.min(buffers.depth) >= 0.1 * (1 - 1e-6)


def test_back_faces_are_culled_and_two_sided_sheets_are_not() -> None:
    size = (16, 16)
    over = look_at((0, 0, 2), (0, 0, 0), (0, 1, 0))
    under = look_at((0, 0, -2), (0, 0, 0), (0, 1, 0))
    one, two = grid_quad(two_sided=False), grid_quad(two_sided=True)
    shots = [Shot([Thing(m)], c, intrinsics(32, size)) for m in (0, 1) for c in (over, under)]
    mirrored = Shot([Thing(0, np.eye(4), (-1, 1, 1))], over, intrinsics(32, size))
    buffers = RENDERER.render(make_batch([*shots, mirrored], [one, two], size))
    seen = (buffers.instance != 0).any((1, 2))
    np.testing.assert_array_equal(seen, [True, False, True, True, True])
    # Seen from below, a sheet's normal still faces the camera.
    np.testing.assert_allclose(buffers.normal[3, 8, 8], [0, 0, -1], atol=1e-6)


def test_uv_is_perspective_correct() -> None:
    """The emission of a ramp texture on a tilted plate reads its uv back."""
    size, n = (64, 64), 64
    u = (np.arange(n) + 0.5) / n
    ramp = np.zeros((n, n, 4), np.uint8)
    ramp[..., 3] = 255
    ramp[..., 0] = np.round(255 * linear_to_srgb(u))[None]
    ramp[..., 1] = np.round(255 * linear_to_srgb(1 - u))[:, None]
    camera = look_at((0.2, -1.4, 0.5), (0, 0, 0))
    shot = Shot([Thing(0)], camera, intrinsics(60, size), ambient=(1, 1, 1))
    for mesh in (grid_quad(1), grid_quad(4)):
        batch = make_batch([shot], [mesh], size, [Material((1, 1, 1), roughness=1.0, texture=0)], [ramp])
        buffers = RENDERER.render(batch)
        y, x = np.nonzero(buffers.instance[0])
        ray = np.stack([(x + 0.5 - 32) / 60, (y + 0.5 - 32) / 60, x * 0 + 1], 1) @ camera[:3, :3].T
        t = -camera[2, 3] / ray[:, 2]
        point = camera[:3, 3] + t[:, None] * ray
        uv = point[:, :2] + 0.5
        inner = np.all((uv > 0.12) & (uv < 0.88), axis=1)
        assert inner.sum() > 200
        f = fresnel(
            np.einsum("ni,ni->n", -ray / np.linalg.norm(ray, axis=1, keepdims=True), [[0, 0, 1]] * len(ray))
        )
        albedo = (buffers.color[0, y, x, :2] - f[:, None]) / (1 - f[:, None])
        assert np.abs(albedo - uv)[inner].max() < 0.012


def fresnel(cosine: np.ndarray) -> np.ndarray:
    """Environment reflectance of a fully rough dielectric: Schlick's with its rise held at zero gloss."""
    return 0.04 + 0 * cosine


def linear_to_srgb(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def busy_batch(n: int = 6, size: tuple[int, int] = (48, 40)) -> SceneBatch:
    """Frames with several overlapping, crossing, cut and far objects, all backgrounds, shadows and a cut-
    out.
    """
    rng = np.random.default_rng(5)
    checker = np.zeros((16, 16, 4), np.uint8)
    checker[..., :3] = rng.integers(0, 255, (16, 16, 3))
    checker[..., 3] = np.where((np.arange(16)[:, None] // 4 + np.arange(16) // 4) % 2, 255, 0)
    shots = []
    for i in range(n):
        things = [
            Thing(int(m), pose(r, p), s, int(m) % 3)
            for m, r, p, s in zip(
                rng.integers(0, 4, 7), random_rotations(rng, 7), rng.uniform(-0.8, 0.8, (7, 3)),
                rng.uniform(0.2, 0.7, (7, 3)), strict=True,
            )
        ]  # fmt: skip
        eye = rng.normal(size=3) + np.array([0, 0, 2])
        shots.append(
            Shot(
                things,
                look_at(2 * eye / np.linalg.norm(eye), (0, 0, 0)),
                intrinsics(45, size),
                sun_direction=(1, 1, 2),
                sun=(2, 2, 2),
                ambient=(0.3,) * 3,
                shadows=i % 2 == 0,
                ground=1 if i % 3 else -1,
                ground_height=-0.6,
                background=i % 4,
                photo=0,
            )
        )
    materials = [Material(texture=0, alpha_cutoff=0.5), Material((0.9, 0.5, 0.2)), Material(metallic=1.0)]
    return make_batch(shots, [icosphere(2), box(), grid_quad(2), disc(24)], size, materials, [checker])


def test_a_frame_is_the_same_alone_and_in_any_batch() -> None:
    batch = busy_batch()
    whole = RENDERER.render(batch, 4)
    small = RasterRenderer(scratch_bytes=1).render(batch, 4)  # one frame a round
    for name in ("color", "depth", "normal", "instance", "amodal_total", "boxes"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(small, name), err_msg=name)
    np.testing.assert_array_equal(whole.amodal.window, small.amodal.window)
    np.testing.assert_array_equal(whole.amodal.data, small.amodal.data)
    again = RENDERER.render(batch, 4)
    np.testing.assert_array_equal(whole.color, again.color)


def test_earlier_results_survive_later_renders() -> None:
    """Scratch is reused, results are not."""
    batch = busy_batch(2)
    first = RENDERER.render(batch)
    copies = [first.color.copy(), first.amodal.data.copy(), first.boxes.copy()]
    RENDERER.render(busy_batch(5))
    for kept, copy in zip([first.color, first.amodal.data, first.boxes], copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


@pytest.mark.parametrize("samples", [4, 9, 16])
def test_labels_do_not_depend_on_samples(samples: int) -> None:
    batch = busy_batch()
    one, many = RENDERER.render(batch), RENDERER.render(batch, samples)
    for name in ("depth", "normal", "instance", "amodal_total"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    k = int(samples**0.5)
    assert many.supersample == k
    assert many.color.shape == (6, 48 * k, 40 * k, 3)
    # The mean of the samples is the picture of one sample a pixel, anti-aliased.
    mean = many.color.reshape(6, 48, k, 40, k, 3).mean((2, 4))
    assert np.median(np.abs(mean - one.color)) < 0.01


def test_supersampled_coverage_is_the_covered_area() -> None:
    """A half-plane's edge through pixels: the mean of k² samples is the covered share, within one column."""
    size, k = (8, 8), 4
    edge = 3.40  # pixels from the left
    shot = Shot([Thing(0, pose(None, (-(4 - edge) / 8 - 2.0, 0, 1.0)), (4, 4, 1))], k=intrinsics(8, size),
                color_a=(0, 0, 0), ambient=(1, 1, 1))  # fmt: skip
    batch = make_batch([shot], [grid_quad()], size, [Material((1, 1, 1), roughness=1.0)])
    mean = RENDERER.render(batch, k * k).color.reshape(8, k, 8, k, 3).mean((1, 3))[..., 0]
    np.testing.assert_allclose(mean, np.tile([1, 1, 1, 0.5, 0, 0, 0, 0], (8, 1)), atol=1e-6)


def test_cut_out_texels_are_not_there() -> None:
    """A round hole in a plate shows what is behind it, in colour, ids, depth and amodal masks."""
    n, size = 128, (64, 64)
    y, x = (np.mgrid[:n, :n] + 0.5) / n - 0.5
    image = np.full((n, n, 4), 255, np.uint8)
    image[..., 3] = np.where(np.hypot(x, y) < 0.25, 0, 255)
    things = [Thing(0, pose(None, (0, 0, 1.0)), material=0), Thing(0, pose(None, (0, 0, 2.0)), material=1)]
    materials = [Material(texture=0, alpha_cutoff=0.5), Material((0, 0, 0), emission=(0, 5, 0))]
    batch = make_batch([Shot(things, k=intrinsics(48, size))], [grid_quad()], size, materials, [image])
    buffers = RENDERER.render(batch)
    py, px = np.mgrid[:64, :64] + 0.5 - 32
    radius = np.hypot(px, py) / 48
    hole, rim = radius < 0.245, (radius > 0.255) & (np.maximum(abs(px), abs(py)) < 24)
    assert np.all(buffers.instance[0][hole & (abs(px) < 12) & (abs(py) < 12)] == 2)
    assert np.all(buffers.instance[0][rim] == 1)
    assert not buffers.amodal.mask(0, size)[hole].any()
    assert np.all(buffers.color[0][hole & (abs(px) < 11.9) & (abs(py) < 11.9)][:, 1] > 4.9)
    assert buffers.amodal_total[0] == pytest.approx(48**2 * (1 - np.pi / 16), rel=0.01)


def test_ground_is_background_for_labels_but_has_depth_and_normal() -> None:
    size = (64, 64)
    camera = look_at((0, -3, 1.5), (0, 0, 0.5))
    things = [Thing(0, pose(None, (0, 0, 0.2)))]
    buffers = RENDERER.render(
        make_batch([Shot(things, camera, ground=0, ambient=(1, 1, 1))], [icosphere(3)], size)
    )
    y, x = np.mgrid[:64, :64] + 0.5
    ray = np.stack([(x - 32) / 64, (y - 32) / 64, 0 * x + 1], -1) @ camera[:3, :3].T
    t = np.where(ray[..., 2] < 0, -1.5 / np.where(ray[..., 2] < 0, ray[..., 2], 1), np.inf)
    ground = (buffers.instance[0] == 0) & np.isfinite(buffers.depth[0])
    np.testing.assert_allclose(buffers.depth[0][ground], t[ground], rtol=1e-5)
    np.testing.assert_allclose(
        buffers.normal[0][ground] @ camera[:3, :3].T, [[0, 0, 1]] * ground.sum(), atol=1e-6
    )
    assert np.array_equal(np.isinf(buffers.depth[0]), (t == np.inf) & (buffers.instance[0] == 0))
    # The sphere sinks into the ground: no pixel below shows it.
    shown = buffers.instance[0] == 1
    assert shown.any()
    assert np.all((ray * buffers.depth[0][..., None])[shown][:, 2] + 1.5 > -1e-4)


def test_depth_ties_go_to_the_first_instance() -> None:
    things = [Thing(0, pose(None, (0, 0, 1.0)), class_id=c) for c in (2, 1, 1)]
    buffers = RENDERER.render(make_batch([Shot(things)], [grid_quad()], (16, 16)))
    assert set(np.unique(buffers.instance)) == {1}


def test_boxes_agree_with_numpy() -> None:
    batch = busy_batch()
    buffers = RENDERER.render(batch)
    np.testing.assert_allclose(buffers.boxes, projected_boxes(batch), rtol=1e-9, atol=1e-9)
    without = annotate(batch, dataclasses.replace(buffers, boxes=None))[0]
    np.testing.assert_allclose(
        without.box_amodal, annotate(batch, buffers)[0].box_amodal, rtol=1e-9, atol=1e-9
    )


def test_empty_batches_and_empty_frames() -> None:
    batch = make_batch([Shot(), Shot([Thing(0, pose(None, (0, 0, 3)))]), Shot()], [icosphere(1)], (8, 8))
    buffers = RENDERER.render(batch, 4)
    np.testing.assert_array_equal(buffers.instance.any((1, 2)), [False, True, False])
    assert np.isinf(buffers.depth[0]).all()
    none = make_batch([Shot(), Shot()], [icosphere(1)], (8, 8))
    assert RENDERER.render(none).amodal_total.shape == (0,)
    assert len(annotate(none, RENDERER.render(none))[0]) == 0


def test_protocol_and_refusals() -> None:
    assert isinstance(RENDERER, Renderer)
    batch = make_batch([Shot()], [icosphere(1)], (8, 8))
    for samples in (0, 3, 81, -4):
        with pytest.raises(ImgsynthError, match="perfect square"):
            RENDERER.render(batch, samples)
    with pytest.raises(ImgsynthError, match="raster"):
        renderer("rester")
    with pytest.raises(ImgsynthError, match="device: expected one of cpu"):
        RasterRenderer("abacus")
    flat = make_batch([Shot([Thing(0, scale=(1, 0, 1))])], [icosphere(1)], (8, 8))
    with pytest.raises(ImgsynthError, match=r"objects.thing\[0\]: scale"):
        RENDERER.render(flat)


@pytest.mark.parametrize("detail", [1, 2, 4])
def test_detail_is_a_finer_picture_of_the_same_frame(detail: int) -> None:
    """Colour at detail d is that of a picture d times as large; labels stay the small picture's."""
    batch = busy_batch(3)
    height, width = batch.size
    got = RENDERER.render(batch, 16, detail)
    plain = RENDERER.render(batch, 16)
    for name in ("depth", "normal", "instance", "amodal_total"):
        np.testing.assert_array_equal(getattr(got, name), getattr(plain, name))
    k = batch.cameras.k * np.array([detail, detail, 1])[:, None]
    finer = dataclasses.replace(batch.cameras, k=k)
    large = dataclasses.replace(batch, size=(height * detail, width * detail), cameras=finer)
    expected = RasterRenderer(shadow_size=RENDERER._shadow_size(batch)).render(large, (4 // detail) ** 2)
    assert got.color.shape == expected.color.shape
    assert np.quantile(np.abs(got.color - expected.color), 0.995) < 1e-3


def test_detail_that_does_not_divide_the_samples_is_refused() -> None:
    with pytest.raises(ImgsynthError, match="divisor of 2"):
        RENDERER.render(busy_batch(1), 4, 3)
