"""Optical flow and what it hides: closed forms, brightness constancy, there and back again."""

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
from test_shutter import exposed

from imgsynth import generate, geometry
from imgsynth.batch import SceneBatch
from imgsynth.frame import Buffers
from imgsynth.plan import Plan
from imgsynth.render.motion import at
from imgsynth.render.raster import RasterRenderer
from imgsynth.render.shutter import ShutterRenderer
from imgsynth.scene import SceneSpec

BOTH = ("flow_forward", "flow_backward")
RENDERER = RasterRenderer()
SIZE = (36, 48)


def flows(batch: SceneBatch, lines: int = 1, outputs: tuple[str, ...] = BOTH, **exposure: object) -> Buffers:
    """The labels of the batch moving as said, with flow to frames 0.1 s before and after."""
    moving = replace(exposed(batch, **exposure), outputs=outputs)
    return ShutterRenderer(RENDERER, 4, lines).render(moving)


def wall(z: float = 2.0, focal: float = 40.0, more: tuple[Thing, ...] = (), **shot: object) -> SceneBatch:
    things = [Thing(0, pose(None, (0, 0, z)), (20, 20, 1)), *more]
    return make_batch(
        [Shot(things, k=intrinsics(focal, SIZE), **shot)], [grid_quad(), box(), icosphere(3)], SIZE
    )  # type: ignore[arg-type]


def centres() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return x, y


def test_a_wall_moving_past_flows_by_focal_length_times_velocity_over_depth() -> None:
    made = flows(wall(), velocity=[1.5, -0.5, 0])
    assert made.flow_forward is not None and made.flow_backward is not None
    step = 40 * 0.1 / 2 * np.array([1.5, -0.5])
    np.testing.assert_allclose(made.flow_forward[0], np.broadcast_to(step, (*SIZE, 2)), atol=1e-4)
    np.testing.assert_allclose(made.flow_backward[0], np.broadcast_to(-step, (*SIZE, 2)), atol=1e-4)
    # What leaves the picture cannot be seen; all else can.
    x, y = centres()
    for flow, hidden in (
        (made.flow_forward[0], made.occluded_forward),
        (made.flow_backward[0], made.occluded_backward),
    ):
        x2, y2 = x + flow[..., 0], y + flow[..., 1]
        out = (x2 < 0) | (y2 < 0) | (x2 >= SIZE[1]) | (y2 >= SIZE[0])
        assert hidden is not None and out.any()
        np.testing.assert_array_equal(hidden[0], out)


def test_a_wall_coming_near_flows_out_of_the_axis() -> None:
    made = flows(wall(), velocity=[0, 0, -4.0])  # 2 m to 1.6 m
    x, y = centres()
    expected = np.stack([x - 24, y - 18], -1) * (2 / 1.6 - 1)
    assert made.flow_forward is not None
    np.testing.assert_allclose(made.flow_forward[0], expected, atol=1e-4)
    past = flows(wall(), velocity=[0, 0, -40.0])
    assert past.flow_forward is not None and past.occluded_forward is not None
    assert np.isnan(past.flow_forward).all() and past.occluded_forward.all()


def test_a_turning_camera_moves_near_and_infinite_alike() -> None:
    """A pure turn is a homography K·Rᵀ·K⁻¹, whatever the depth."""
    for batch in (wall(), make_batch([Shot(k=intrinsics(40, SIZE))], [box()], SIZE)):
        made = flows(batch, camera_spin_deg=[30, -60, 45])
        k = batch.cameras.k[0]
        turn = geometry.turned(np.array([30, -60, 45]) * 0.1)
        x, y = centres()
        seen = np.stack([x, y, 1 + 0 * x], -1) @ (k @ turn.T @ np.linalg.inv(k)).T
        assert made.flow_forward is not None
        expected = seen[..., :2] / seen[..., 2:] - np.stack([x, y], -1)
        np.testing.assert_allclose(made.flow_forward[0], expected, atol=1e-4)


def test_a_moving_camera_leaves_the_infinite_where_it_is_and_moves_the_ground() -> None:
    shot = Shot(camera=look_at((0, -2, 1), (0, 2, 1)), k=intrinsics(40, SIZE), ground=0)
    made = flows(make_batch([shot], [box()], SIZE), camera_velocity=[0, 0, 5.0])
    assert made.flow_forward is not None and made.occluded_forward is not None
    sky = np.isinf(made.depth[0])
    np.testing.assert_allclose(made.flow_forward[0][sky], 0, atol=1e-9)
    assert not made.occluded_forward[0][sky].any()
    # Ground a metre below, at depth z: (x, y)·z/(z - 0.5) about the centre.
    x, y = centres()
    z = made.depth[0]
    for flow, off in ((made.flow_forward[0, ..., 0], x - 24), (made.flow_forward[0, ..., 1], y - 18)):
        before = ~sky & (z > 0.6)
        expected = (off * z / np.where(before, z - 0.5, 1.0) - off)[before]
        np.testing.assert_allclose(flow[before], expected, rtol=1e-4, atol=1e-3)


def test_what_a_moving_thing_covers_is_hidden() -> None:
    """A card moves 4 px to the right before a wall: forward it hides 4 columns, backward the 4 on its other side."""
    card = Thing(0, pose(None, (0, 0, 1.0)), (0.5, 0.35, 1))  # 20 × 14 px, columns 14 … 33
    batch = wall(more=(card,))
    velocity = np.zeros((2, 3))
    velocity[1, 0] = 1.0
    made = flows(batch, velocity=velocity)
    assert made.occluded_forward is not None and made.occluded_backward is not None
    assert np.flatnonzero(made.instance[0, 18] == 2).tolist() == list(range(14, 34))
    expected = np.zeros(SIZE, bool)
    expected[11:25, 34:38] = True
    np.testing.assert_array_equal(made.occluded_forward[0], expected)
    np.testing.assert_array_equal(made.occluded_backward[0], expected[:, ::-1])


def test_a_turning_box_hides_its_own_side() -> None:
    """Of a box that turns by 90° between frames the face in front goes from sight altogether."""
    crate = Thing(1, pose(None, (0, 0, 3.0)), (1, 1, 1))
    batch = make_batch([Shot([crate], k=intrinsics(60, SIZE))], [grid_quad(), box()], SIZE)
    made = flows(batch, spin_deg=[0, 900.0, 0])
    assert made.occluded_forward is not None and made.occluded_backward is not None
    front = np.zeros(SIZE, bool)
    front[made.instance[0] == 1] = True
    assert front.sum() > 300
    # Left and right edges of the front face lie at the box's edges then too, within the tolerance.
    assert made.occluded_forward[0][front].mean() > 0.9
    slow = flows(batch, spin_deg=[0, 20.0, 0])
    assert slow.occluded_forward is not None
    assert slow.occluded_forward[0][front].mean() < 0.1


def turning(seed: int = 3) -> SceneBatch:
    """Two textured things before a textured floor, lit evenly, seen by a moving camera."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] / 64 * 2 * np.pi
    wave = np.stack([np.sin(x), np.cos(y), np.sin(x + y), np.full_like(x, 1.0)], -1)
    image = np.round(255 * (0.5 + 0.4 * wave)).astype(np.uint8)
    image[..., 3] = 255
    r = random_rotations(rng, 2)
    things = [
        Thing(0, pose(r[0], (-0.3, 0, 0.5)), [0.5] * 3),
        Thing(1, pose(r[1], (0.5, 0.3, 0.6)), [0.4] * 3),
    ]
    shot = Shot(
        things,
        look_at((0.2, -2.5, 1.6), (0, 0, 0.4)),
        intrinsics(110, (96, 128)),
        ambient=(1, 1, 1),
        ground=1,
    )
    materials = [Material(roughness=1.0, texture=0), Material(roughness=1.0, texture=0, uv_scale=(0.5, 0.5))]
    return make_batch([shot], [box(), icosphere(3)], (96, 128), materials, [image])


MOTION = {
    "velocity": [[0.8, 0.2, 0.1], [-0.5, 0.3, 0.0]],
    "spin_deg": [[40, 60, 90], [0, 0, -120.0]],
    "camera_velocity": [0.5, -0.2, 0.4],
    "camera_spin_deg": [10, -15, 20.0],
}


def sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values of an image (H, W, …) at pixel coordinates."""
    h, w = image.shape[:2]
    x, y = np.clip(x - 0.5, 0, w - 1.001), np.clip(y - 0.5, 0, h - 1.001)
    i, j = x.astype(int), y.astype(int)
    fx, fy = (x - i)[..., None], (y - j)[..., None]
    top = image[j, i] * (1 - fx) + image[j, i + 1] * fx
    return top * (1 - fy) + (image[j + 1, i] * (1 - fx) + image[j + 1, i + 1] * fx) * fy


@pytest.mark.parametrize("readout", [0.0, 0.08])
def test_there_and_back_and_the_same_colour(readout: float) -> None:
    """What is seen in both frames has one colour in both, and its flow back is its flow there, reversed."""
    lines = 1 if readout else 4
    here = replace(exposed(turning(), readout=readout, **MOTION), outputs=BOTH)
    camera = ShutterRenderer(RENDERER, 4, lines)
    made = camera.render(here)
    other = camera.render(replace(at(here, np.array([0.1])), outputs=BOTH) if not readout else later(here))
    assert (
        made.flow_forward is not None
        and made.occluded_forward is not None
        and other.flow_backward is not None
    )
    y, x = np.mgrid[:96, :128] + 0.5
    flow, ok = made.flow_forward[0], ~made.occluded_forward[0]
    ok &= np.isfinite(made.depth[0])
    assert ok.mean() > 0.5 and np.linalg.norm(flow[ok], axis=-1).mean() > 3
    there = x + flow[..., 0], y + flow[..., 1]
    color = np.abs(sampled(other.color[0], *there) - made.color[0]).max(-1)[ok]
    # Far texture is filtered anew in each frame.
    assert np.median(color) < 0.004 and np.quantile(color, 0.9) < 0.1
    back = sampled(other.flow_backward[0], *there)
    off = np.linalg.norm(back + flow, axis=-1)[ok]
    assert np.median(off) < 0.005 and np.quantile(off, 0.9) < 0.02
    still = np.abs(sampled(other.color[0], x, y) - made.color[0]).max(-1)[ok]
    assert np.median(still) > 0.05  # and without the flow it would not do


def later(batch: SceneBatch) -> SceneBatch:
    """The next frame of a batch whose twists stay what they are: poses a step on."""
    return replace(at(batch, np.full(len(batch), 0.1)), outputs=batch.outputs)


def test_flow_is_depth_and_motion() -> None:
    """To a hundredth of a pixel: each pixel's point, put by hand where its object and the camera are then."""
    batch = replace(exposed(turning(), **MOTION), outputs=("flow_backward",))
    made = ShutterRenderer(RENDERER).render(batch)
    assert made.flow_backward is not None and made.flow_forward is None and made.occluded_forward is None
    then, t = at(batch, np.array([-0.1])), batch.instances
    y, x = np.mgrid[:96, :128] + 0.5
    rays = np.stack([x, y, 1 + 0 * x], -1) @ np.linalg.inv(batch.cameras.k[0]).T
    hit = np.isfinite(made.depth[0])
    world = geometry.transform(batch.cameras.world_from_camera[0], rays[hit] * made.depth[0][hit][:, None])
    ids = made.instance[0][hit]
    for i in (1, 2):
        own = geometry.transform(geometry.rigid_inverse(t.world_from_object[i - 1]), world[ids == i])
        world[ids == i] = geometry.transform(then.instances.world_from_object[i - 1], own)
    points = geometry.transform(geometry.rigid_inverse(then.cameras.world_from_camera[0]), world)
    expected = geometry.project(batch.cameras.k[0], points) - np.stack([x, y], -1)[hit]
    got = made.flow_backward[0][hit]
    assert np.nanmax(np.abs(got - expected)) < 0.01 and set(ids) == {0, 1, 2}


def test_a_rolling_shutter_stretches_flow_down_the_picture() -> None:
    """A wall moving by u lines a second: y' - y = u·interval / (1 - u·readout/H)."""
    u, readout = 60.0, 0.2
    made = flows(wall(), velocity=[0, u * 2 / 40, 0], readout=readout)
    assert made.flow_forward is not None and made.occluded_forward is not None
    seen = ~made.occluded_forward[0]
    expected = u * 0.1 / (1 - u * readout / SIZE[0])
    # Lines are exposed one by one, so a time is known to half a line's.
    np.testing.assert_allclose(
        made.flow_forward[0, ..., 1][seen], expected, atol=0.5 * u * readout / SIZE[0] + 0.01
    )
    assert made.flow_forward[0, ..., 1][seen].mean() == pytest.approx(expected, abs=0.1)
    np.testing.assert_allclose(made.flow_forward[0, ..., 0], 0, atol=1e-4)


def test_flow_is_the_same_alone_and_in_a_batch_and_whatever_blurs() -> None:
    one = turning(3)
    alone = flows(one, **MOTION)
    blurred = flows(one, **MOTION, shutter=0.05, aperture_radius=0.02)
    for name in (*BOTH, "occluded_forward", "occluded_backward"):
        np.testing.assert_array_equal(getattr(blurred, name), getattr(alone, name))


def test_scenes_ask_for_flow() -> None:
    def frames(outputs: list[str], indices: list[int]) -> Buffers:
        scene = {
            "name": "t", "classes": ["a"], "image": {"size": [32, 32]}, "outputs": outputs,
            "objects": {"a": {"class": "a", "shape": {"box": {"size": [1, 1, 1]}}, "motion": {"velocity": [{"uniform": [1, 3]}, 0, 0]},
                              "scale": 0.3}},
            "camera": {"exposure": {"interval_s": 0.05}},
        }  # fmt: skip
        return generate.frames(Plan(SceneSpec.model_validate(scene)), 1, indices).buffers

    assert frames([], [0]).flow_forward is None
    made = frames(["flow_forward"], [0, 1, 2])
    assert made.flow_forward is not None and made.occluded_forward is not None and made.flow_backward is None
    assert made.flow_forward.dtype == np.float32 and made.flow_forward.shape == (3, 32, 32, 2)
    moving = [made.flow_forward[i][made.instance[i] == 1] for i in range(3)]
    assert all(m[:, 0].min() > 0.3 for m in moving)
    alone = frames(["flow_forward"], [2])
    assert alone.flow_forward is not None
    np.testing.assert_array_equal(alone.flow_forward[0], made.flow_forward[2])
    still = Plan(
        SceneSpec.model_validate({"name": "t", "outputs": ["flow_forward"], "image": {"size": [8, 8]}})
    )
    none = generate.frames(still, 1, [0]).buffers
    assert none.flow_forward is not None and none.occluded_forward is not None
    assert np.abs(none.flow_forward).max() < 1e-6 and not none.occluded_forward.any()
