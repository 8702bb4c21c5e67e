"""Instances and semantic maps against the masks they come from, and poses against their definitions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes_for_tests import Shot, Thing, box, icosphere, look_at, make_batch, pose, random_rotations

from imgsynth.annotate import annotate
from imgsynth.batch import InstanceTable
from imgsynth.frame import AmodalMasks, Buffers
from imgsynth.render.raster import RasterRenderer

RENDERER = RasterRenderer()


def crowd(rng: np.random.Generator, n: int, size: tuple[int, int]):
    shots = []
    for _ in range(n):
        count = int(rng.integers(0, 9))
        things = [
            Thing(int(rng.integers(2)), pose(r, p), rng.uniform(0.1, 0.8, 3), class_id=int(rng.integers(3)))
            for r, p in zip(random_rotations(rng, count), rng.uniform(-1.5, 1.5, (count, 3)), strict=True)
        ]
        shots.append(Shot(things, look_at(rng.normal(size=3) * 2, (0, 0, 0))))
    return make_batch(shots, [icosphere(2), box()], size)


def test_boxes_areas_and_classes_are_those_of_the_masks() -> None:
    batch = crowd(np.random.default_rng(0), 60, (40, 56))
    buffers = RENDERER.render(batch)
    instances, semantic = annotate(batch, buffers)
    expected = np.zeros_like(semantic)
    for k in range(len(instances)):
        mask = buffers.instance[instances.frame[k]] == instances.id[k]
        expected[instances.frame[k]][mask] = instances.class_id[k]
        amodal = buffers.amodal.mask(k, batch.size)
        assert instances.area_visible[k] == mask.sum()
        assert instances.area_amodal[k] == amodal.sum()
        assert not np.any(mask & ~amodal)
        if mask.any():
            y, x = np.nonzero(mask)
            tight = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            np.testing.assert_array_equal(instances.box_visible[k], tight)
            # A pixel's centre is covered, so the box reaches half a pixel into it at least.
            assert np.all(instances.box_amodal[k, :2] <= np.array(tight[:2]) + 0.5)
            assert np.all(instances.box_amodal[k, 2:] >= np.array(tight[2:]) - 0.5)
        else:
            np.testing.assert_array_equal(instances.box_visible[k], 0)
    np.testing.assert_array_equal(semantic, expected)
    assert np.all((instances.visible_fraction >= 0) & (instances.visible_fraction <= 1))
    assert np.all((instances.truncated_fraction >= 0) & (instances.truncated_fraction <= 1))
    assert len(np.unique(instances.class_id)) == 3


def test_poses_and_boxes_in_three_dimensions() -> None:
    batch = crowd(np.random.default_rng(1), 20, (16, 16))
    instances, _ = annotate(batch, RENDERER.render(batch))
    world = batch.cameras.world_from_camera[instances.frame] @ instances.camera_from_object
    np.testing.assert_allclose(world, instances.world_from_object, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(instances.camera_from_object[:, :3, :3]), 1)
    cubes = batch.instances.mesh == 1
    np.testing.assert_allclose(instances.box3d_size[cubes], batch.instances.scale[cubes])
    np.testing.assert_allclose(instances.box3d_center, 0, atol=1e-6)


def test_the_projected_3d_box_holds_the_amodal_box() -> None:
    rng = np.random.default_rng(2)
    shots = [
        Shot([Thing(0, pose(r, (*p, 4.0)), s)])
        for r, p, s in zip(
            random_rotations(rng, 50), rng.uniform(-1, 1, (50, 2)), rng.uniform(0.2, 1, (50, 3)), strict=True
        )
    ]
    batch = make_batch(shots, [icosphere(3)], (64, 64))
    instances, _ = annotate(batch, RENDERER.render(batch))
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    corners = instances.box3d_center[:, None] + signs * instances.box3d_size[:, None]
    seen = (
        corners @ np.swapaxes(instances.camera_from_object[:, :3, :3], 1, 2)
        + instances.camera_from_object[:, None, :3, 3]
    )
    image = np.einsum("nij,nvj->nvi", batch.cameras.k, seen)
    image = image[..., :2] / image[..., 2:]
    assert np.all(image.min(1) <= instances.box_amodal[:, :2])
    assert np.all(image.max(1) >= instances.box_amodal[:, 2:])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 2**31))
def test_any_id_map_is_counted_right(n: int, count: int, seed: int) -> None:
    """Hand-made buffers, as another renderer may give them: ids missing, frames without objects."""
    rng = np.random.default_rng(seed)
    size = (6, 7)
    things = [rng.integers(0, count + 1) for _ in range(n)]
    shots = [
        Shot([Thing(0, pose(None, (0, 0, 3.0)), class_id=int(rng.integers(3))) for _ in range(c)])
        for c in things
    ]
    batch = make_batch(shots, [box()], size)
    ids = np.stack([rng.integers(0, c + 1, size) for c in things]).astype(np.int32)
    total = sum(things)
    window = np.tile(np.array([0, 0, 7, 6], np.int32), (total, 1))
    masks = [ids[i] == j + 1 for i, c in enumerate(things) for j in range(c)]
    data = np.concatenate([m.reshape(-1) for m in masks]).astype(np.uint8) if masks else np.zeros(0, np.uint8)
    buffers = Buffers(
        np.zeros((n, 6, 7, 3), np.float32), 1, np.zeros((n, 6, 7), np.float32),
        np.zeros((n, 6, 7, 3), np.float32), ids,
        AmodalMasks(window, np.arange(total + 1) * 42, data), np.array([m.sum() for m in masks], float),
    )  # fmt: skip
    instances, semantic = annotate(batch, buffers)
    np.testing.assert_array_equal(instances.area_visible, [m.sum() for m in masks])
    np.testing.assert_array_equal(instances.area_amodal, instances.area_visible)
    np.testing.assert_array_equal(instances.visible_fraction, [float(m.any()) for m in masks])
    for i in range(n):
        classes = np.concatenate([[0], instances.class_id[instances.of_frame(i)]])
        np.testing.assert_array_equal(semantic[i], classes[ids[i]])


def test_annotating_needs_no_engine() -> None:
    code = "import sys, imgsynth.annotate, imgsynth.render; print('warp' in sys.modules or 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_an_amodal_mask_is_the_mask_of_the_object_rendered_alone() -> None:
    batch = crowd(np.random.default_rng(5), 25, (48, 64))
    buffers = RENDERER.render(batch)
    table, hidden = batch.instances, 0
    for k in range(len(table)):
        one = np.array([k])
        rows = {name: getattr(table, name)[one] for name in table.__dataclass_fields__}
        alone = RENDERER.render(replace(batch, instances=InstanceTable(**rows)))
        mask = alone.instance[table.frame[k]] == table.id[k]
        np.testing.assert_array_equal(buffers.amodal.mask(k, batch.size), mask)
        hidden += int((mask & (buffers.instance[table.frame[k]] != table.id[k])).sum())
    assert hidden > 1000
