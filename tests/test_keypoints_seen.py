"""Visibility of keypoints: closed forms for convex objects, brute-force rays for crowds, the rules at borders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import (
    Shot,
    Thing,
    box,
    grid_quad,
    intrinsics,
    look_at,
    make_batch,
    pose,
    random_rotations,
)

from imgsynth.annotate import annotate
from imgsynth.batch import MeshKeypoints, SceneBatch
from imgsynth.keypoints import hidden_by_mesh
from imgsynth.render.raster import RasterRenderer

RENDERER = RasterRenderer()
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def with_points(batch: SceneBatch, points: list[np.ndarray]) -> SceneBatch:
    """Give mesh k the keypoints points[k]."""
    counts = [len(p) for p in points]
    given = MeshKeypoints(
        np.array([f"p{i}" for n in counts for i in range(n)], object),
        np.concatenate(points).astype(np.float32),
        np.cumsum([0, *counts]),
    )
    return replace(batch, meshes=replace(batch.meshes, keypoints=given))


def seen(batch: SceneBatch):
    return annotate(batch, RENDERER.render(batch))[0].keypoints


def crowd(rng: np.random.Generator, frames: int, most: int, size=(96, 128)) -> SceneBatch:
    shots = []
    for _ in range(frames):
        n = int(rng.integers(1, most + 1))
        places = zip(random_rotations(rng, n), rng.uniform(-0.8, 0.8, (n, 3)), strict=True)
        things = [Thing(0, pose(r, p), rng.uniform(0.3, 0.9, 3)) for r, p in places]
        eye = rng.normal(size=3)
        shots.append(Shot(things, look_at(eye / np.linalg.norm(eye) * rng.uniform(2.5, 4), (0, 0, 0))))
    return with_points(make_batch(shots, [box()], size), [CORNERS])


def in_camera(batch: SceneBatch, row: int, points: np.ndarray) -> np.ndarray:
    """Object points (unscaled) in the camera's frame, by 4×4 matrices."""
    t = batch.instances
    m = np.linalg.inv(batch.cameras.world_from_camera[t.frame[row]]) @ t.world_from_object[row]
    return (m @ np.c_[points * t.scale[row], np.ones(len(points))].T).T[:, :3]


def test_of_a_box_alone_a_corner_is_seen_just_if_one_of_its_three_sides_faces_the_camera() -> None:
    batch = crowd(np.random.default_rng(0), 60, 1)
    found = seen(batch)
    counts = np.zeros(3, int)
    for row in range(len(batch.instances)):
        camera = in_camera(batch, row, CORNERS)
        middle = in_camera(batch, row, np.zeros((1, 3)))[0]
        pixel = camera @ batch.cameras.k[batch.instances.frame[row]].T
        pixel = pixel[:, :2] / pixel[:, 2:]
        here = slice(found.start[row], found.start[row + 1])
        np.testing.assert_allclose(found.xy[here], pixel, atol=1e-4)
        inside = np.all((pixel >= 0) & (pixel < [128, 96]), axis=1)
        axes = in_camera(batch, row, np.eye(3)) - middle
        sides = np.sign(CORNERS)[:, :, None] * axes / np.linalg.norm(axes, axis=1, keepdims=True)
        facing = np.einsum("ksd,kd->ks", sides, camera)  # below 0: the side is seen from its outside
        sure = np.abs(facing).min(1) > 1e-3
        expected = np.where(inside, np.where((facing < 0).any(1), 2, 1), 0)
        np.testing.assert_array_equal(found.visibility[here][sure], expected[sure])
        counts += np.bincount(expected, minlength=3)
    assert counts[1] > 50 and counts[2] > 300


def exact(batch: SceneBatch, row: int, target: np.ndarray) -> bool:
    """Whether a ray to a point in the camera's frame is free, against every triangle of the frame."""
    table, pool = batch.instances, batch.meshes
    for other in np.flatnonzero(table.frame == table.frame[row]):
        corners = in_camera(batch, other, pool.vertices.astype(float))[pool.faces]
        for a, b, c in corners:
            m = np.stack([b - a, c - a, -target], 1)
            if abs(np.linalg.det(m)) > 1e-14:
                u, v, t = np.linalg.solve(m, -a)
                if u >= 0 and v >= 0 and u + v <= 1 and 0 < t < 1 - 1e-3:
                    return False
    return True


def test_in_crowds_pixels_decide_as_exact_rays_do_but_within_a_pixel_of_an_edge() -> None:
    batch = crowd(np.random.default_rng(1), 12, 5)
    found = seen(batch)
    buffers = RENDERER.render(batch)
    row = np.repeat(np.arange(len(batch.instances)), np.diff(found.start))
    wrong = 0
    inside = np.flatnonzero(found.visibility)
    for k in inside:
        free = exact(
            batch, row[k], in_camera(batch, row[k], found.point[k : k + 1] / batch.instances.scale[row[k]])[0]
        )
        if free != (found.visibility[k] == 2):
            wrong += 1
            x, y = found.xy[k].astype(int)
            near = buffers.instance[
                batch.instances.frame[row[k]], max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2
            ]
            assert len(np.unique(near)) > 1, "away from every edge"
    assert len(inside) > 200
    assert wrong <= 0.02 * len(inside)


def test_what_stands_on_something_is_seen_where_it_touches_and_what_lies_below_is_not() -> None:
    """Corners of a sheet at heights about the ground, seen at grazing angles."""
    points = np.array([[0, 0, 0], [0, 0, -0.2], [0, 0, 0.05]])
    shots = [
        Shot(
            [Thing(0, pose(None, (0.3, 0.1, 0)))],
            look_at((3 * np.cos(e), 0, 3 * np.sin(e)), (0, 0, 0)),
            ground=0,
        )
        for e in np.radians([10, 30, 60, 88])
    ]
    sheet = grid_quad()
    sheet.vertices *= 1e-3
    found = seen(with_points(make_batch(shots, [sheet], (64, 64)), [points]))
    np.testing.assert_array_equal(found.visibility.reshape(4, 3), np.tile([2, 1, 2], (4, 1)))


def test_outside_the_frame_and_behind_the_camera() -> None:
    k = intrinsics(64.0, (64, 64))
    points = np.array([[0, 0, 2.0], [5.0, 0, 2], [0, 0, -1], [0, 0, 0.01]])
    sheet = grid_quad()
    sheet.vertices = sheet.vertices * 1e-6 + [0, 0, 3.0]
    found = seen(with_points(make_batch([Shot([Thing()], k=k)], [sheet], (64, 64)), [points]))
    np.testing.assert_array_equal(found.visibility, [2, 0, 0, 0])
    np.testing.assert_allclose(found.xy[:2], [[32, 32], [192, 32]])
    assert np.isnan(found.xy[2:]).all()


def test_a_point_on_the_frames_border_belongs_to_the_pixel_it_lies_in() -> None:
    k = intrinsics(64.0, (64, 64))
    edge = np.array([[-0.5, 0, 1], [0.5, 0, 1], [0.5 - 1e-6, 0, 1], [-0.5 - 1e-6, 0, 1]])
    sheet = grid_quad()
    sheet.vertices = sheet.vertices * 1e-6 + [0, 0, 3.0]
    found = seen(with_points(make_batch([Shot([Thing()], k=k)], [sheet], (64, 64)), [edge]))
    np.testing.assert_array_equal(found.visibility, [2, 0, 2, 0])


@pytest.mark.parametrize("two_sided", [True, False])
def test_a_sheet_drawn_from_one_side_hides_from_that_side_only(two_sided: bool) -> None:
    vertices = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    faces = np.array([[0, 1, 2]], np.int32)
    behind, zero = np.array([[0.0, 0, -1]]), np.zeros(1)
    assert hidden_by_mesh(np.array([0.0, 0, 2]), behind, vertices, faces, zero, two_sided).item()
    hidden = hidden_by_mesh(np.array([0.0, 0, -2]), -behind, vertices, faces, zero, two_sided)
    assert hidden.item() == two_sided


def test_points_on_the_surface_are_not_hidden_by_it_and_an_eye_inside_sees_past_nothing() -> None:
    cube = box()
    faces = cube.faces.astype(np.int32)
    top = np.array([[0.1, 0.2, 0.5], [0.1, 0.2, 0.4], [0.1, 0.2, -0.5]])
    zero = np.zeros(3)
    hidden = hidden_by_mesh(np.array([0.3, 0.1, 3.0]), top, cube.vertices, faces, zero, False)
    np.testing.assert_array_equal(hidden, [False, True, True])
    inside = hidden_by_mesh(
        np.zeros(3), np.array([[2.0, 0.1, 0], [0.4, 0, 0]]), cube.vertices, faces, zero[:2], True
    )
    np.testing.assert_array_equal(inside, [True, False])
