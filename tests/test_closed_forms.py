"""Labels against closed forms, over hundreds of random cameras."""

from __future__ import annotations

import numpy as np
import pytest
from scenes_for_tests import (
    Shot,
    Thing,
    box,
    disc,
    icosphere,
    intrinsics,
    look_at,
    make_batch,
    pose,
    random_rotations,
)

from imgsynth.annotate import annotate
from imgsynth.render.raster import RasterRenderer

RENDERER = RasterRenderer()


def sphere_conic(center: np.ndarray, radius: float, k: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and bounds of a sphere's image: a ray d hits it where (c·d)² ≥ (|c|² - r²)|d|², an ellipse."""
    inverse = np.linalg.inv(k)
    q = inverse.T @ ((center @ center - radius**2) * np.eye(3) - np.outer(center, center)) @ inverse
    a, b = q[:2, :2], q[:2, 2]
    middle = -np.linalg.solve(a, b)
    level = -(q[2, 2] + b @ middle)
    shape = np.linalg.inv(a) * level
    half = np.sqrt(np.diag(shape))
    return float(np.pi * np.sqrt(np.linalg.det(shape))), np.concatenate([middle - half, middle + half])


def random_cameras(rng: np.random.Generator, n: int, near: float, far: float) -> list[np.ndarray]:
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    eye = direction * rng.uniform(near, far, (n, 1))
    target = rng.uniform(-0.15, 0.15, (n, 3))
    return [look_at(e, t, up) for e, t, up in zip(eye, target, rng.normal(size=(n, 3)), strict=True)]


def test_sphere_silhouettes_depths_and_normals() -> None:
    rng = np.random.default_rng(0)
    n, size = 200, (160, 200)
    radii = rng.uniform(0.2, 0.5, n)
    cameras = random_cameras(rng, n, 1.6, 4.0)
    focals = rng.uniform(110, 180, n)
    shots = [
        Shot([Thing(0, pose(turn), (r, r, r))], camera, intrinsics(f, size, (100 + dx, 80 + dy)))
        for r, camera, turn, f, dx, dy in zip(
            radii, cameras, random_rotations(rng, n), focals, *rng.uniform(-5, 5, (2, n)), strict=True
        )
    ]
    batch = make_batch(shots, [icosphere(5)], size)
    buffers = RENDERER.render(batch)
    instances, _ = annotate(batch, buffers)

    centers = np.array([-c[:3, :3].T @ c[:3, 3] for c in cameras])
    expected = [sphere_conic(c, r, k) for c, r, k in zip(centers, radii, batch.cameras.k, strict=True)]
    area, bounds = np.array([e[0] for e in expected]), np.array([e[1] for e in expected])
    inside = np.all(bounds[:, :2] > 0, axis=1) & (bounds[:, 2] < 200) & (bounds[:, 3] < 160)
    assert inside.sum() > 150
    # Lattice points in a random circle of radius r have variance 0.6765 r (Kendall 1948): no better, no
    # worse.
    score = (buffers.amodal_total - area)[inside] / np.sqrt(0.6765 * np.sqrt(area[inside] / np.pi))
    assert 0.8 < np.sqrt(np.mean(score**2)) < 1.2
    assert np.abs(score).max() < 4.5
    assert np.abs(score.mean()) < 0.35
    # The mesh lies inside the sphere, by at most 0.1 % of its radius.
    slack = 1.5e-3 * (bounds[:, 2:] - bounds[:, :2]).max(axis=1, keepdims=True)
    assert np.all(instances.box_amodal[:, :2] >= bounds[:, :2] - 1e-6)
    assert np.all(instances.box_amodal[:, 2:] <= bounds[:, 2:] + 1e-6)
    assert np.all(np.abs(instances.box_amodal - bounds) < slack)

    frame, y, x = np.nonzero(buffers.instance)
    ray = np.einsum(
        "nij,nj->ni", np.linalg.inv(batch.cameras.k)[frame], np.stack([x + 0.5, y + 0.5, x * 0 + 1], 1)
    )
    c, r = centers[frame], radii[frame]
    dd, dc = np.einsum("ni,ni->n", ray, ray), np.einsum("ni,ni->n", ray, c)
    root = dc**2 - dd * (np.einsum("ni,ni->n", c, c) - r**2)
    rim = root < 0.02 * dd * r**2  # where the ray grazes, the facets decide
    depth = (dc - np.sqrt(np.maximum(root, 0))) / dd
    assert rim.mean() < 0.05
    # Facets sag under the sphere by 0.1 % of r, seen along the ray.
    assert np.all(np.abs(buffers.depth[frame, y, x] - depth)[~rim] < 6e-3 * r[~rim])
    normal = (depth[:, None] * ray - c) / r[:, None]
    cosine = np.einsum("ni,ni->n", buffers.normal[frame, y, x], normal)
    assert np.all(cosine[~rim] > 1 - 2e-5)
    np.testing.assert_allclose(np.linalg.norm(buffers.normal[frame, y, x], axis=1), 1, atol=1e-5)


def cross2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Convex hull by gift wrapping with exact enough doubles: (m, 2), counter-clockwise in (x, y)."""
    start = int(np.lexsort((points[:, 1], points[:, 0]))[0])
    out, at = [start], start
    while True:
        best = (at + 1) % len(points)
        for j in range(len(points)):
            turn = cross2(points[best] - points[at], points[j] - points[at])
            if j != at and turn < 0:
                best = j
        if best == start:
            return points[out]
        out.append(best)
        at = best


def distance_inside(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) signed distance of pixel centres to a convex polygon's edges' lines, positive inside."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    centers = np.stack([x, y], -1)
    distance = np.full(size, np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        distance = np.minimum(distance, cross2(b - a, centers - a) / np.linalg.norm(b - a))
    return distance


def test_box_silhouettes_are_the_hulls_of_their_corners() -> None:
    rng = np.random.default_rng(1)
    n, size = 200, (96, 128)
    cameras = random_cameras(rng, n, 2.2, 4.0)
    scales = rng.uniform(0.3, 1.2, (n, 3))
    poses = [
        pose(t, s) for t, s in zip(random_rotations(rng, n), rng.uniform(-0.4, 0.4, (n, 3)), strict=True)
    ]
    shots = [
        Shot([Thing(0, p, s)], c, intrinsics(120, size))
        for p, s, c in zip(poses, scales, cameras, strict=True)
    ]
    batch = make_batch(shots, [box()], size)
    buffers = RENDERER.render(batch)
    instances, semantic = annotate(batch, buffers)
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    for i in range(n):
        world = corners * scales[i] @ poses[i][:3, :3].T + poses[i][:3, 3]
        seen = (world - cameras[i][:3, 3]) @ cameras[i][:3, :3] @ batch.cameras.k[i].T
        image = seen[:, :2] / seen[:, 2:]
        distance = distance_inside(convex_hull(image), size)
        mask = buffers.instance[i] != 0
        decided = np.abs(distance) > 1e-6
        np.testing.assert_array_equal(mask[decided], (distance > 0)[decided])
        np.testing.assert_array_equal(buffers.amodal.mask(i, size), mask)
        np.testing.assert_allclose(instances.box_amodal[i], [*image.min(0), *image.max(0)], atol=1e-5)
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(instances.box_visible[i], tight)
    np.testing.assert_array_equal(semantic, (buffers.instance != 0).astype(np.int32))


def test_box_depth_and_flat_normals() -> None:
    """Every hit of a box lies on one of its six planes, and the normal is that plane's."""
    rng = np.random.default_rng(2)
    n, size = 100, (64, 64)
    cameras = random_cameras(rng, n, 2.0, 50.0)
    shots = [Shot([Thing(0)], c, intrinsics(45 * np.linalg.norm(c[:3, 3]), size)) for c in cameras]
    batch = make_batch(shots, [box()], size)
    buffers = RENDERER.render(batch)
    frame, y, x = np.nonzero(buffers.instance)
    ray = np.einsum(
        "nij,nj->ni", np.linalg.inv(batch.cameras.k)[frame], np.stack([x + 0.5, y + 0.5, x * 0 + 1], 1)
    )
    depth = buffers.depth[frame, y, x].astype(float)
    turn = np.array(cameras)[frame]
    point = np.einsum("nij,nj->ni", turn[:, :3, :3], ray * depth[:, None]) + turn[:, :3, 3]
    normal = np.einsum("nij,nj->ni", turn[:, :3, :3], buffers.normal[frame, y, x])
    axis = np.abs(normal).argmax(1)
    i = np.arange(len(axis))
    np.testing.assert_allclose(np.abs(normal[i, axis]), 1, atol=1e-5)
    off = np.abs(point[i, axis] - 0.5 * np.sign(normal[i, axis]))
    # Accuracy 1e-4 of the depth along the ray; the plane is met at an angle.
    assert np.all(off < 1e-5 * depth)
    assert np.all(np.einsum("ni,ni->n", buffers.normal[frame, y, x], ray) < 0)


def test_two_discs_occlude_as_they_should() -> None:
    """Fronto-parallel discs: pixel centres within circles, the near one on top."""
    rng = np.random.default_rng(3)
    n, size = 100, (64, 64)
    near, far = rng.uniform(-0.5, 0.5, (2, n, 2))
    shots = [
        Shot([Thing(0, pose(None, (*a, 2.0)), (0.5, 0.5, 1)), Thing(0, pose(None, (*b, 3.0)), (0.9, 0.9, 1))])
        for a, b in zip(near, far, strict=True)
    ]
    batch = make_batch(shots, [disc(2048)], size)
    buffers = RENDERER.render(batch)
    instances, _ = annotate(batch, buffers)
    y, x = np.mgrid[:64, :64] + 0.5
    for i in range(n):
        circles = []
        for center, depth, radius in ((near[i], 2.0, 0.5), (far[i], 3.0, 0.9)):
            dx, dy = x - 32 - 64 * center[0] / depth, y - 32 - 64 * center[1] / depth
            circles.append(np.hypot(dx, dy) - 64 * radius / depth)
        sure = np.all(np.abs(circles) > 1e-3, axis=0)
        a, b = circles[0] < 0, circles[1] < 0
        expected = np.where(a, 1, np.where(b, 2, 0))
        np.testing.assert_array_equal(buffers.instance[i][sure], expected[sure])
        assert abs(instances.area_visible[2 * i + 1] - (b & ~a).sum()) <= (~sure).sum()
        assert abs(instances.area_amodal[2 * i + 1] - b.sum()) <= (~sure).sum()
        fraction = instances.area_visible[2 * i + 1] / instances.area_amodal[2 * i + 1]
        assert instances.visible_fraction[2 * i + 1] == pytest.approx(fraction)
        assert instances.visible_fraction[2 * i] == 1.0


def test_truncation_of_a_disc_at_the_border() -> None:
    """The share of a disc beyond a chord: a circular segment."""
    size, radius = (200, 200), 60.0
    offsets = np.linspace(-0.9, 0.9, 25)  # of the centre beyond the left border, in radii
    shots = [
        Shot([Thing(0, pose(None, ((-d * radius - 100) / 200, 0, 1.0)), (radius / 200, radius / 200, 1))])
        for d in offsets
    ]
    batch = make_batch(shots, [disc(1024)], size)
    instances, _ = annotate(batch, RENDERER.render(batch))
    outside = 1 - (np.arccos(offsets) - offsets * np.sqrt(1 - offsets**2)) / np.pi
    np.testing.assert_allclose(instances.truncated_fraction, outside, atol=2e-3)
    np.testing.assert_allclose(instances.box_amodal[:, 0], -offsets * radius - radius, atol=1e-3)
    np.testing.assert_allclose(instances.box_amodal[:, 2], -offsets * radius + radius, atol=1e-3)


@pytest.mark.parametrize("focal", [64.0, 640.0, 6400.0])
def test_half_a_plate_is_half_truncated(focal: float) -> None:
    """A square plate centred on the border, from one that fits the off-screen grid to one far beyond it."""
    plate = box(1, 1, 0.001)
    batch = make_batch(
        [Shot([Thing(0, pose(None, (-32 / focal, 0, 1.0)))], k=intrinsics(focal, (64, 64)))],
        [plate],
        (64, 64),
    )
    instances, _ = annotate(batch, RENDERER.render(batch))
    side = focal / 0.9995
    kept = min(side / 2, 64) * min(side, 64) / side**2
    assert instances.truncated_fraction[0] == pytest.approx(1 - kept, abs=0.012)


def test_plate_across_the_near_plane_is_clipped_exactly() -> None:
    """A floor plate from behind the camera to 10 m ahead: seen below the horizon up to its far edge."""
    size = (128, 128)
    floor = box(4, 20, 0.5)
    camera = look_at((0, 0, 1.25), (0, 1, 1.25))
    for near in (0.02, 0.5, 3.0):
        batch = make_batch([Shot([Thing(0)], camera, intrinsics(64, size), near)], [floor], size)
        buffers = RENDERER.render(batch)
        instances, _ = annotate(batch, buffers)
        y, x = np.mgrid[:128, :128] + 0.5
        drop = (y - 64) / 64
        depth = np.where(drop > 0, 1.0 / np.where(drop > 0, drop, 1), np.inf)
        hit = (depth <= 10) & (depth >= near) & (np.abs((x - 64) / 64 * depth) <= 2)
        sure = (np.abs(depth - 10) > 1e-6) & (np.abs(depth - near) > 1e-6)
        np.testing.assert_array_equal((buffers.instance[0] != 0)[sure], hit[sure])
        np.testing.assert_allclose(buffers.depth[0][hit & sure], depth[hit & sure], rtol=1e-5)
        # The lowest point before the near plane is the bottom's cut; the top's far edge is highest.
        expected = [64 - 64 * 2 / near, 64 + 64 * 1.0 / 10, 64 + 64 * 2 / near, 64 + 64 * 1.5 / near]
        np.testing.assert_allclose(instances.box_amodal[0], expected, rtol=1e-5)


def test_objects_behind_the_camera_or_beside_the_frame() -> None:
    things = [
        Thing(0, pose(None, (0, 0, -3.0))),
        Thing(0, pose(None, (9.0, 0, 3.0))),
        Thing(0, pose(None, (0, 0, 3.0))),
    ]
    batch = make_batch([Shot(things)], [icosphere(2)], (32, 32))
    instances, _ = annotate(batch, RENDERER.render(batch))
    np.testing.assert_array_equal(instances.box_amodal[0], 0)
    np.testing.assert_array_equal(instances.area_amodal[:2], 0)
    np.testing.assert_array_equal(instances.truncated_fraction, [1, 1, 0])
    np.testing.assert_array_equal(instances.visible_fraction, [0, 0, 1])
    assert instances.box_amodal[1, 0] > 32


def test_objects_smaller_than_a_pixel() -> None:
    """Hit exactly when they cover the pixel's centre; the amodal box is theirs whatever."""
    rng = np.random.default_rng(4)
    n = 200
    at = rng.uniform(2, 30, (n, 2))
    half = 0.3  # pixels
    shots = [
        Shot([Thing(0, pose(None, (*((p - 16) / 32), 1.0)), (2 * half / 32, 2 * half / 32, 1e-6))])
        for p in at
    ]
    batch = make_batch(shots, [box()], (32, 32))
    buffers = RENDERER.render(batch)
    instances, _ = annotate(batch, buffers)
    offset = np.abs(at - np.floor(at) - 0.5).max(1)
    sure = np.abs(offset - half) > 1e-4
    np.testing.assert_array_equal(instances.area_visible[sure], (offset < half)[sure].astype(int))
    np.testing.assert_allclose(instances.box_amodal, np.hstack([at - half, at + half]), atol=1e-4)
    assert np.all(instances.truncated_fraction == 0)
