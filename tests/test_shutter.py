"""Depth of field, motion blur and rolling shutter: closed forms, labels that do not move, bytes that stay."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import (
    Material,
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

from imgsynth import geometry
from imgsynth.annotate import annotate
from imgsynth.batch import GRADIENT, NOISE, Exposure, MeshKeypoints, SceneBatch
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.frame import Buffers
from imgsynth.maps import object_coordinates
from imgsynth.plan import Plan
from imgsynth.render.motion import at, cameras_at, carried, moving, objects_at
from imgsynth.render.raster import RasterRenderer
from imgsynth.render.shutter import ShutterRenderer
from imgsynth.render.subframes import pattern, strip
from imgsynth.scene import SceneSpec

RENDERER = RasterRenderer()
LIT = [Material(base_color=(0, 0, 0), emission=(1.0, 1.0, 1.0)), Material(emission=(0.2, 0.4, 0.6))]
DARK = {"color_a": (0.0, 0.0, 0.0)}


def exposed(batch: SceneBatch, **fields: object) -> SceneBatch:
    """The batch with an exposure: numbers are the same for every frame (or instance)."""
    n, rows = len(batch), len(batch.instances)
    shapes = {f.name: (n,) for f in dataclasses.fields(Exposure) if f.name != "carrier"}
    shapes |= {
        "camera_velocity": (n, 3),
        "camera_spin_deg": (n, 3),
        "velocity": (rows, 3),
        "spin_deg": (rows, 3),
    }
    given = {"focus": 1.0, "interval": 0.1, **fields}
    arrays = {k: np.array(np.broadcast_to(given.get(k, 0.0), s), np.float64) for k, s in shapes.items()}
    return replace(batch, exposure=Exposure(**arrays))


def random_batch(n: int = 4, size: tuple[int, int] = (40, 48), seed: int = 0) -> SceneBatch:
    rng = np.random.default_rng(seed)
    shots = []
    for _ in range(n):
        things = [
            Thing(
                int(rng.integers(2)),
                pose(r, (*rng.uniform(-0.4, 0.4, 2), rng.uniform(0.1, 0.5))),
                [0.3] * 3,
                k % 2,
            )
            for k, r in enumerate(random_rotations(rng, 3))
        ]
        shots.append(
            Shot(things, look_at((0, -2, 1.2), (0, 0, 0.2)), intrinsics(50, size), sun=(2, 2, 2), sun_direction=(1, 0, 2),
                 ambient=(0.3,) * 3, shadows=True, ground=1, background=NOISE)
        )  # fmt: skip
    return make_batch(shots, [box(), icosphere(1)], size, LIT)


def same(a: Buffers, b: Buffers, color: bool = True) -> None:
    names = ["depth", "normal", "instance", "amodal_total", *(["color"] if color else [])]
    for name in names:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    np.testing.assert_array_equal(a.amodal.window, b.amodal.window)
    np.testing.assert_array_equal(a.amodal.data[: a.amodal.start[-1]], b.amodal.data[: b.amodal.start[-1]])


# Motion


def test_screw_is_a_group_and_goes_round_bends() -> None:
    rng = np.random.default_rng(0)
    v, w = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)) * np.geomspace(1e-6, 200, 20)[:, None]
    tenth = geometry.screw(v / 10, w / 10)
    np.testing.assert_allclose(np.linalg.matrix_power(tenth, 10), geometry.screw(v, w), atol=1e-10)
    np.testing.assert_allclose(geometry.screw(v, 0 * w)[:, :3, 3], v)
    # Forward (z) at speed r·ω while turning about "down" (y): a circle of radius r, to the right.
    quarter = geometry.screw([0, 0, 3 * np.pi / 2], [0, 90, 0])
    np.testing.assert_allclose(quarter[:3, 3], [3, 0, 3], atol=1e-12)
    np.testing.assert_allclose(quarter[:3, 2], [1, 0, 0], atol=1e-12)


def test_poses_at_a_time_and_what_is_carried_along() -> None:
    batch = random_batch()
    rng = np.random.default_rng(1)
    rows, n = len(batch.instances), len(batch)
    batch = exposed(
        batch,
        velocity=rng.normal(size=(rows, 3)),
        spin_deg=rng.normal(size=(rows, 3)) * 90,
        camera_velocity=rng.normal(size=(n, 3)),
        camera_spin_deg=rng.normal(size=(n, 3)) * 40,
    )
    exposure, t = batch.exposure, np.linspace(-0.3, 0.5, n)
    assert exposure is not None
    frame = batch.instances.frame.astype(np.int64)
    here, there = at(batch, t), at(batch, -t)
    expected = batch.instances.world_from_object[:, :3, 3] + exposure.velocity * t[frame, None]
    np.testing.assert_allclose(objects_at(batch, t)[:, :3, 3], expected)
    np.testing.assert_allclose(np.linalg.det(cameras_at(batch, t)[:, :3, :3]), 1.0)
    points = rng.normal(size=(rows, 5, 3))  # object frame

    def in_camera(b: SceneBatch) -> np.ndarray:
        world = geometry.transform(b.instances.world_from_object, points)
        return geometry.transform(geometry.rigid_inverse(b.cameras.world_from_camera)[frame], world)

    moved = carried(batch, frame, np.arange(rows), t[frame], -t[frame])
    np.testing.assert_allclose(geometry.transform(moved, in_camera(here)), in_camera(there), atol=1e-12)
    still = carried(batch, frame, np.full(rows, -1), t[frame], -t[frame])
    world = rng.normal(size=(rows, 5, 3))
    before, after = (geometry.rigid_inverse(b.cameras.world_from_camera)[frame] for b in (here, there))
    np.testing.assert_allclose(
        geometry.transform(still, geometry.transform(before, world)),
        geometry.transform(after, world),
        atol=1e-12,
    )


def test_what_moves() -> None:
    batch = exposed(random_batch(3))
    assert batch.exposure is not None
    assert not moving(batch).any()
    spin = batch.exposure.spin_deg.copy()
    spin[np.flatnonzero(batch.instances.frame == 2)[0], 1] = 1
    assert moving(replace(batch, exposure=replace(batch.exposure, spin_deg=spin))).tolist() == [
        False,
        False,
        True,
    ]


# Bytes and labels


def test_without_exposure_or_motion_the_inner_renderers_bytes() -> None:
    batch = random_batch()
    plain = RENDERER.render(batch, 4)
    camera = ShutterRenderer(RENDERER)
    same(camera.render(batch, 4), plain)
    same(camera.render(exposed(batch, shutter=0.1, readout=0.1), 4), plain)
    same(camera.render(exposed(batch, velocity=1.0), 4), plain)


@pytest.mark.parametrize("pictures", [1, 9])
def test_blur_changes_no_label(pictures: int) -> None:
    batch = random_batch()
    blurred = ShutterRenderer(RENDERER, pictures).render(
        exposed(batch, shutter=0.2, velocity=[1, 0, 0], aperture_radius=0.05), 4
    )
    plain = RENDERER.render(batch, 4)
    same(blurred, plain, color=False)
    assert blurred.color.shape == plain.color.shape and blurred.supersample == 2
    assert np.abs(blurred.color - plain.color).max() > 0.1
    # The mean brightness is about the same.
    assert blurred.color.mean() == pytest.approx(plain.color.mean(), rel=0.03)


def mixed() -> SceneBatch:
    """Frames that are still, blurred, rolling, and rolling and blurred."""
    batch = exposed(random_batch(4), focus=2.0, velocity=[1.0, 0.3, 0], camera_spin_deg=[0, 20, 5])
    assert batch.exposure is not None
    return replace(
        batch,
        exposure=replace(
            batch.exposure,
            shutter=np.array([0, 0.1, 0, 0.1]),
            readout=np.array([0, 0, 0.2, 0.2]),
            aperture_radius=np.array([0, 0.02, 0, 0]),
        ),
    )


def only(batch: SceneBatch, i: int) -> SceneBatch:
    """Frame i alone."""
    rows, n = batch.instances.frame == i, len(batch)

    def cut(struct: object) -> object:
        fields = {f.name: getattr(struct, f.name) for f in dataclasses.fields(struct)}  # type: ignore[arg-type]
        arrays = {k: v[i : i + 1] for k, v in fields.items() if isinstance(v, np.ndarray) and len(v) == n}
        arrays |= {k: v[rows] for k, v in fields.items() if k in ("velocity", "spin_deg")}
        return replace(struct, **arrays)  # type: ignore[type-var]

    parts = {k: cut(getattr(batch, k)) for k in ("cameras", "lights", "ground", "backgrounds", "exposure")}
    table = batch.instances
    own = {f.name: getattr(table, f.name)[rows] for f in dataclasses.fields(table)}
    own["frame"] = own["frame"] * 0
    return replace(batch, indices=batch.indices[i : i + 1], instances=replace(table, **own), **parts)


@pytest.mark.parametrize("grid", [(1, 1), (4, 1), (4, 2)])
def test_a_frame_alone_and_in_a_batch(grid: tuple[int, int]) -> None:
    batch = mixed()
    camera = ShutterRenderer(RENDERER, 5, 7)
    together = camera.render(batch, *grid)
    for i in range(4):
        alone = camera.render(only(batch, i), *grid)
        rows = np.flatnonzero(batch.instances.frame == i)
        for name in ("color", "depth", "normal", "instance"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[i], name)
        np.testing.assert_array_equal(alone.amodal_total, together.amodal_total[rows])
        np.testing.assert_array_equal(alone.boxes, together.boxes[rows])  # type: ignore[index]
        for k, row in enumerate(rows):
            np.testing.assert_array_equal(
                alone.amodal.mask(k, batch.size), together.amodal.mask(row, batch.size)
            )


@pytest.mark.parametrize("background", [NOISE, GRADIENT])
def test_strips_are_parts_of_the_picture(background: int) -> None:
    batch = random_batch()
    batch = replace(batch, backgrounds=replace(batch.backgrounds, kind=np.full(4, background, np.int32)))
    whole = RENDERER.render(batch, 4)
    part = RENDERER.render(strip(batch, 5, 9, np.zeros(4)), 4)
    np.testing.assert_array_equal(part.instance, whole.instance[:, 5:14])
    np.testing.assert_allclose(part.depth, whole.depth[:, 5:14], rtol=1e-5)
    off = np.abs(part.color - whole.color[:, 10:28]).max(-1)
    assert np.quantile(off, 0.995) < 1e-3  # shadow edges apart


# Closed forms


def bar(size: tuple[int, int], z: float = 2.0, focal: float = 50.0) -> SceneBatch:
    """A bright upright bar, 0.4 m wide and higher than the picture, z metres before a camera in the dark."""
    thing = Thing(0, pose(None, (0, 0, z)), (0.4, 9.0, 1.0))
    return make_batch([Shot([thing], k=intrinsics(focal, size), **DARK)], [grid_quad()], size, LIT)


def test_a_moving_edge_is_blurred_over_velocity_times_shutter() -> None:
    size, speed, shutter, z, focal = (2, 96), 3.0, 0.2, 2.0, 50.0
    batch = exposed(bar(size, z, focal), shutter=shutter, velocity=[speed, 0, 0])
    color = ShutterRenderer(RENDERER, 144).render(batch, 9).color[0, 3, :, 0]
    x = (np.arange(96 * 3) + 0.5) / 3 - 48
    width, half = focal * speed * shutter / z, focal * 0.2 / z  # 15 px of blur
    left = np.clip((x + half) / width + 0.5, 0, 1)
    right = np.clip((x - half) / width + 0.5, 0, 1)
    # Of each sample's 16 pictures one more or less may cover it.
    np.testing.assert_allclose(color, left - right, atol=1.01 / 16)
    assert np.abs(color - (left - right)).mean() < 0.02


@pytest.mark.parametrize("z", [1.0, 2.0, 4.0])
def test_circle_of_confusion(z: float) -> None:
    """A point's image is a disc of diameter aperture · f · |1/focus - 1/z|; in focus it stays a point."""
    size, focal, radius, focus = (64, 64), 60.0, 0.25, 2.0
    dot = Thing(0, pose(None, (0.05, -0.02, z)), [0.04 * z] * 3)
    batch = make_batch([Shot([dot], k=intrinsics(focal, size), **DARK)], [disc(64)], size, LIT)
    camera = ShutterRenderer(RENDERER, 144)
    drawn = (
        camera.render(exposed(batch, aperture_radius=radius, focus=focus), 9).color[0, ..., 0].astype(float)
    )
    centre = (np.arange(192) + 0.5) / 3
    mass = drawn.sum()
    x, y = (drawn.sum(axis) @ centre / mass for axis in (0, 1))
    np.testing.assert_allclose([x, y], [32 + focal * 0.05 / z, 32 - focal * 0.02 / z], atol=0.05)
    spread = (drawn.sum(0) @ (centre - x) ** 2 + drawn.sum(1) @ (centre - y) ** 2) / mass
    # The variance of a uniform disc of diameter d is d²/8 over both axes; the dot has its own.
    wide, own = 2 * radius * focal * abs(1 / focus - 1 / z), 2 * 0.04 * focal
    assert np.sqrt(8 * max(spread - own**2 / 8, 0.0)) == pytest.approx(wide, abs=0.15)
    assert mass / 9 == pytest.approx(np.pi * own**2 / 4, rel=0.02)  # no light is lost


def test_what_is_in_focus_is_as_through_a_pinhole() -> None:
    size = (32, 48)
    wall = Thing(0, pose(None, (0.1, 0.05, 2.0)), (1.0, 0.7, 1.0))
    batch = make_batch([Shot([wall], k=intrinsics(40, size), **DARK)], [grid_quad()], size, LIT)
    sharp = RENDERER.render(batch, 16).color
    drawn = ShutterRenderer(RENDERER, 16).render(exposed(batch, aperture_radius=0.1, focus=2.0), 16).color
    np.testing.assert_allclose(drawn, sharp, atol=1e-5)


def test_the_sky_is_blurred_as_something_infinitely_far() -> None:
    """A camera that turns by an angle a sees the background moved by f·tan a; one that only moves, where it was."""
    size = (24, 64)
    batch = make_batch([Shot(background=NOISE, k=intrinsics(60, size), noise_scale=6.0)], [box()], size)
    sharp = RENDERER.render(batch).color[0, ..., 0]
    turn = np.degrees(np.arctan(8 / 60))
    turned = strip(exposed(batch, camera_spin_deg=[0, turn, 0]), 0, 24, np.ones(1))
    # Near the axis a turn is a shift, of 8 pixels here.
    seen = RENDERER.render(turned).color[0, ..., 0]
    np.testing.assert_allclose(seen[12, 28], sharp[12, 36], atol=0.02)
    for x in (4, 28, 50):
        q = (
            batch.cameras.k[0]
            @ geometry.turned([0, turn, 0])
            @ np.linalg.inv(batch.cameras.k[0])
            @ [x + 0.5, 12.5, 1]
        )
        px, py = q[:2] / q[2] - 0.5
        if px < 63:
            row = sharp[int(py)] * (1 - py % 1) + sharp[int(py) + 1] * (py % 1)
            assert seen[12, x] == pytest.approx(np.interp(px, np.arange(64), row), abs=0.01)
    moved = strip(exposed(batch, camera_velocity=[3.0, 1, 2]), 0, 24, np.ones(1))
    np.testing.assert_allclose(RENDERER.render(moved).color[0, ..., 0], sharp, atol=1e-5)


@pytest.mark.parametrize("lines", [1, 4])
def test_a_rolling_shutter_leans_a_bar(lines: int) -> None:
    """Each line shows the bar where it is at the line's own time: it leans by v·readout/H a line."""
    size, speed, readout, z, focal = (40, 80), 4.0, 0.25, 2.0, 50.0
    batch = exposed(bar(size, z, focal), readout=readout, velocity=[speed, 0, 0])
    drawn = ShutterRenderer(RENDERER, 8, lines).render(batch, 4)
    line = np.arange(40) // lines * lines + lines / 2
    middle = 40 + focal * speed / z * (line / 40 - 0.5) * readout  # 25 px over the picture
    x = np.arange(80) + 0.5
    expected = np.abs(x[None] - middle[:, None]) < focal * 0.2 / z
    np.testing.assert_array_equal(drawn.instance[0] == 1, expected)
    np.testing.assert_array_equal(drawn.amodal.mask(0, size), expected)
    # The picture agrees with the mask: what the mask calls the bar is bright.
    resolved = drawn.color[0, ..., 0].reshape(40, 2, 80, 2).mean((1, 3))
    np.testing.assert_array_equal(resolved >= 0.5, expected | (resolved == 0.5))
    assert drawn.amodal_total[0] > expected.sum()  # the bar goes on above and below


@pytest.mark.parametrize("lines", [1, 4])
def test_keypoints_and_object_coordinates_follow_the_line(lines: int) -> None:
    """On the leaning bar: a pixel's place in the bar is where its own line's time has the bar; a keypoint
    lies on the picture of its place, and is hidden by what its line shows before it.
    """
    size, speed, readout, z, focal = (40, 80), 4.0, 0.25, 2.0, 50.0
    shade = Thing(1, pose(None, (0.0, 0.1, 1.0)), (3.0, 0.1, 0.1))  # over lines below the middle, still
    long = Thing(0, pose(None, (0, 0, z)), (0.4, 9.0, 1.0))
    shot = Shot([long, shade], k=intrinsics(focal, size), **DARK)
    batch = make_batch([shot], [grid_quad(), box()], size, LIT)
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [rng.uniform([-0.2, -0.6, 0], [0.2, 0.6, 0], (30, 3)), [[0, 0.7, 0], [0, 0.7, 0]]]
    )
    scale = batch.instances.scale[0]
    given = MeshKeypoints(
        np.array([f"p{i}" for i in range(32)], object), (points / scale).astype(np.float32),
        np.concatenate([[0], np.full(len(batch.meshes.two_sided), 32)]),
    )  # fmt: skip
    batch = replace(batch, meshes=replace(batch.meshes, keypoints=given))
    moves = np.zeros((len(batch.instances), 3))
    moves[0, 0] = speed
    batch = exposed(batch, readout=readout)
    batch = replace(batch, exposure=replace(batch.exposure, velocity=moves))
    drawn = ShutterRenderer(RENDERER, 8, lines).render(batch)
    labels, _ = annotate(batch, drawn)
    assert labels.keypoints is not None
    seconds = ((np.arange(40) // lines * lines + lines / 2) / 40 - 0.5) * readout
    assert drawn.line_time is not None
    np.testing.assert_allclose(drawn.line_time[0], seconds, atol=1e-12)
    # Object coordinates: a pixel's own point, in the bar's box.
    place = object_coordinates(batch, drawn, labels)[0]
    y, x = np.nonzero(drawn.instance[0] == 1)
    expected = ((x + 0.5 - 40) * z / focal - speed * seconds[y]) / labels.box3d_size[0, 0] + 0.5
    np.testing.assert_allclose(place[y, x, 0], expected, atol=1e-5)
    assert np.ptp(expected) > 0.8
    # Keypoints: their height does not move, so their line and time are known.
    xy = labels.keypoints.xy[:32]
    down = 20 + focal * points[:, 1] / z
    np.testing.assert_allclose(xy[:, 1], down, atol=1e-5)
    at_line = seconds[np.clip(down.astype(int), 0, 39)]
    np.testing.assert_allclose(xy[:, 0], 40 + focal * (points[:, 0] + speed * at_line) / z, atol=1e-5)
    inside = np.all((xy >= 0) & (xy < [80, 40]), axis=1)
    shown = drawn.instance[0, xy[inside, 1].astype(int), xy[inside, 0].astype(int)]
    edge = np.abs(np.abs(points[inside, 0]) - 0.2) < z / focal
    seen = labels.keypoints.visibility[:32][inside]
    assert inside.sum() > 20 and set(seen) == {1, 2}
    np.testing.assert_array_equal((seen == 2)[~edge], (shown == 1)[~edge])


def test_a_rolling_shutters_labels_are_those_of_the_object_alone() -> None:
    """Amodal masks through a rolling shutter: those of each object drawn without the others."""
    batch = exposed(random_batch(2), readout=0.2, velocity=[0.8, 0.2, 0.4], camera_spin_deg=[10, 20, 30])
    camera = ShutterRenderer(RENDERER, 4, 2)
    drawn = camera.render(batch)
    labels, _ = annotate(batch, drawn)
    table = batch.instances
    hidden = 0
    for row in range(len(table)):
        own = {f.name: getattr(table, f.name)[row : row + 1] for f in dataclasses.fields(table)}
        exposure = batch.exposure
        assert exposure is not None
        one = replace(
            batch,
            instances=replace(table, **own),
            ground=replace(batch.ground, present=np.zeros(2, bool)),
            exposure=replace(exposure, velocity=exposure.velocity[[row]], spin_deg=exposure.spin_deg[[row]]),
        )
        alone = camera.render(one).instance[table.frame[row]] != 0
        mask = drawn.amodal.mask(row, batch.size)
        np.testing.assert_array_equal(mask, alone)
        hidden += int(mask.sum()) - int(labels.area_visible[row])
        if not 0 < mask.sum() < labels.area_amodal[row] + 1 or labels.truncated_fraction[row] > 0:
            continue
        y, x = np.nonzero(mask)
        tight = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        # As in any picture: the box may hold up to half a pixel more, and a band's step.
        np.testing.assert_allclose(labels.box_amodal[row], tight, atol=1.0)
    assert hidden > 0


def test_sub_frames_fill_the_shutter_the_lens_and_the_pixel() -> None:
    for count, k in ((16, 2), (64, 4), (10, 3), (256, 1)):
        p = pattern(count, k)
        assert len(p) >= count and len(p) % (k * k) == 0
        cells, often = np.unique(p.cell @ [1, k], return_counts=True)
        assert len(cells) == k * k and np.all(often == len(p) // (k * k))
        np.testing.assert_allclose(np.diff(p.time), 1 / len(p))
        np.testing.assert_allclose([p.time.mean(), *p.lens.mean(0)], 0, atol=1e-12)
        np.testing.assert_allclose((p.lens**2).sum(1).mean(), 0.5, atol=0.6 / len(p) + 0.02)
        # Time, lens and place in the pixel do not go together.
        together = np.corrcoef(np.stack([p.time, *p.lens.T, *(p.cell.T if k > 1 else p.lens.T)]))
        assert np.abs(together[0, 1:]).max() < 0.25


# The spec


def composed(n: int = 5, **data: object) -> SceneBatch:
    spec = {"name": "t", "classes": ["a"], "image": {"size": [32, 32]}, **data}
    plan = Plan(SceneSpec.model_validate(spec))
    return compose(plan, plan.sample(1, range(n)))


def ball(**more: object) -> dict[str, object]:
    return {"class": "a", "shape": {"sphere": {"radius": 0.1}}, **more}


def test_the_spec_says_what_moves() -> None:
    assert composed(objects={"a": ball()}).exposure is None
    batch = composed(
        objects={
            "a": ball(
                count={"integer": [0, 3]},
                motion={"velocity": [{"uniform": [1, 2]}, 0, 0], "spin_deg": [0, 0, 90]},
            ),
            "b": ball(count=2),
        },
        camera={
            "fov_deg": 2 * math.degrees(math.atan(0.5)),
            "motion": {"velocity": [0, 0, 1]},
            "exposure": {"shutter_s": 0.01, "f_number": 2},
        },
    )
    exposure, table = batch.exposure, batch.instances
    assert exposure is not None
    mine = table.group == "a"
    assert (
        mine.any() and np.all(exposure.velocity[~mine] == 0) and np.all(exposure.spin_deg[mine] == [0, 0, 90])
    )
    speed = exposure.velocity[mine, 0]
    assert np.all((speed >= 1) & (speed <= 2)) and len(np.unique(speed)) == mine.sum()
    np.testing.assert_array_equal(exposure.camera_velocity, np.tile([0, 0, 1.0], (5, 1)))
    # A 24 mm high sensor and tan(fov/2) = 1/2: a 24 mm lens, of 12 mm at f/2.
    np.testing.assert_allclose(exposure.aperture_radius, 0.006)
    np.testing.assert_allclose(exposure.focus, 1.0)  # the target's distance


def test_what_is_attached_goes_with_what_moves() -> None:
    """Its pose in the other's frame is the same at all times, on a chain too; its own motion stands instead."""
    spun = {"motion": {"velocity": [1, {"uniform": [-1, 1]}, 0.5], "spin_deg": [30, 0, 90]}}
    side = {"attach": {"to": "car", "offset": [0.3, 0, 0.1], "pick": {"uniform": [0, 1]}}}
    batch = composed(
        4,
        objects={
            "tip": ball(count=2, place={"attach": {"to": "arm", "offset": [0, 0.2, 0]}}),
            "arm": ball(count=3, place=side),
            "own": ball(place=side, motion={"velocity": [0, 0, 1]}),
            "car": ball(count={"integer": [1, 3]}, place={"position": [{"uniform": [-2, 2]}, 0, 0]}, **spun),
        },
        camera={"exposure": {"shutter_s": 0.1}},
    )
    exposure, table = batch.exposure, batch.instances
    assert exposure is not None and exposure.carrier is not None
    led, lead = np.isin(table.group, ("tip", "arm")), exposure.carrier
    assert set(table.group[lead[led]]) == {"car"} and np.all(table.frame[lead] == table.frame)
    np.testing.assert_array_equal(lead[~led], np.flatnonzero(~led))
    seconds = np.array([0.4, -0.3, 1.1, 0.0])
    now = at(batch, seconds).instances.world_from_object
    then = table.world_from_object
    within = geometry.rigid_inverse(then[lead]) @ then
    np.testing.assert_allclose(now, now[lead] @ within, atol=1e-12)
    moved = np.linalg.norm(now[:, :3, 3] - then[:, :3, 3], axis=1)
    assert np.all(moved[led & (table.frame < 3)] > 0.1)
    own = table.group == "own"
    np.testing.assert_allclose(
        (now - then)[own, :3, 3], seconds[table.frame[own], None] * [0, 0, 1], atol=1e-12
    )
    # Points carried for flow go the same way.
    rows, f = np.arange(len(table)), table.frame.astype(np.int64)
    path = carried(batch, f, rows, np.zeros(len(rows)), seconds[f])
    eye = batch.cameras.world_from_camera[f]
    np.testing.assert_allclose(eye @ path @ geometry.rigid_inverse(eye) @ then, now, atol=1e-12)


def test_focus_on_a_group() -> None:
    camera = {"elevation_deg": 0, "distance": 2, "exposure": {"aperture_m": 0.01, "focus_on": "a"}}
    place = {"position": [0, {"uniform": [-1, 1]}, 0]}
    batch = composed(8, camera=camera, objects={"a": ball(count={"integer": [0, 1]}, place=place)})
    assert batch.exposure is not None
    expected = np.full(8, 2.0)
    expected[batch.instances.frame] = 2 + batch.instances.world_from_object[:, 1, 3]
    np.testing.assert_allclose(batch.exposure.focus, expected)
    assert len(np.unique(expected)) > 1
    camera["exposure"] = {"focus_on": "c"}
    with pytest.raises(SceneError, match=r"camera.exposure.focus_on: 'c' is no group of objects"):
        composed(camera=camera, objects={"a": ball()})


def test_a_lens_has_one_aperture_and_one_focus() -> None:
    for pair in ({"aperture_m": 0.1, "f_number": 2}, {"focus_m": 1, "focus_on": "a"}):
        with pytest.raises(ValueError, match="got both"):
            composed(camera={"exposure": pair})
