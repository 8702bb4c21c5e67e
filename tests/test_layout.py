"""Layouts against closed forms: where objects must be, read back from the composed batch."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth import generate, geometry, scenefile
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.layout import surface, view
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec
from imgsynth.shapes import solids

BOX = {"box": {"size": [0.1, 0.06, 0.04]}}
CAMERA = {"azimuth_deg": {"uniform": [0, 360]}, "elevation_deg": {"uniform": [-80, 90]}, "roll_deg": {"uniform": [-40, 40]},
          "distance": {"uniform": [0.5, 3]}, "target": {"box": {"low": [-1, -1, -1], "high": [1, 1, 1]}}}  # fmt: skip


def plan_of(**data):
    return Plan(SceneSpec.model_validate({"name": "t", "classes": ["a"], **data}))


def batch(n=30, seed=1, sampler="random", **data):
    plan = plan_of(**data)
    draws = plan.sample(seed, range(n), sampler)
    return compose(plan, draws), draws


def group(place, count=4, shape=BOX, **more):
    return {"count": count, "class": "a", "shape": shape, "place": place, **more}


def rows(b, frame, name="x"):
    return np.flatnonzero((b.instances.frame == frame) & (b.instances.group == name))


def origins(b, frame, name="x"):
    return b.instances.world_from_object[rows(b, frame, name), :3, 3]


def vertices(b, row):
    mesh = b.instances.mesh[row]
    own = b.meshes.vertices[b.meshes.vertex_start[mesh] : b.meshes.vertex_start[mesh + 1]].astype(float)
    return geometry.transform(b.instances.world_from_object[row], own * b.instances.scale[row])


def test_grid_fills_rows_from_the_far_left_and_is_centred():
    b, _ = batch(
        1, objects={"x": group({"grid": {"columns": 3, "spacing": [0.2, 0.5], "center": [1, 2, 3]}}, 6)}
    )
    want = [[-0.2, 0.25], [0, 0.25], [0.2, 0.25], [-0.2, -0.25], [0, -0.25], [0.2, -0.25]]
    np.testing.assert_allclose(origins(b, 0), np.add(np.pad(want, ((0, 0), (0, 1))), [1, 2, 3]), atol=1e-12)


def test_grid_turns_about_its_centre_and_own_positions_are_jitter():
    grid = {"columns": {"integer": [1, 4]}, "rows": 3, "spacing": [{"uniform": [0.1, 0.3]}, 0.2], "yaw_deg": {"uniform": [0, 360]},
            "center": {"box": {"low": [-1, -1, 0], "high": [1, 1, 0]}}}  # fmt: skip
    jitter = {"box": {"low": [-0.01, -0.01, 0], "high": [0.01, 0.01, 0]}}
    b, draws = batch(40, objects={"x": group({"grid": grid, "position": jitter}, 3)})
    for i in range(40):
        columns, spacing = draws["objects.x.place.grid.columns"][i], draws["objects.x.place.grid.spacing"][i]
        yaw = np.radians(draws["objects.x.place.grid.yaw_deg"][i])
        back = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        own = draws["objects.x.place.position"][i]
        local = (origins(b, i) - own - draws["objects.x.place.grid.center"][i])[:, :2] @ back.T
        for k in range(3):
            r, c = divmod(k, columns)
            want = [(c - (columns - 1) / 2) * spacing[0], (1 - r) * spacing[1]]
            np.testing.assert_allclose(local[k], want, atol=1e-12)


def test_grid_without_cells_for_all_is_an_error():
    with pytest.raises(
        SceneError, match=r"objects.x.place.grid.rows: 1 × 3 cells are too few for the 4 objects of frame 0"
    ):
        batch(1, objects={"x": group({"grid": {"columns": 3, "rows": 1, "spacing": 1}})})


@pytest.mark.parametrize("facing", ["out", "in", "same"])
def test_ring_is_even_and_faces_as_asked(facing):
    ring = {
        "radius": {"uniform": [0.2, 1]},
        "phase_deg": {"uniform": [0, 360]},
        "center": [0.3, 0, 0.1],
        "facing": facing,
    }
    b, draws = batch(30, objects={"x": group({"ring": ring}, {"integer": [1, 7]})})
    for i in range(30):
        count = draws.counts["x"][i]
        arm = origins(b, i) - [0.3, 0, 0.1]
        angle = np.radians(draws["objects.x.place.ring.phase_deg"][i] + 360 / count * np.arange(count))
        out = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
        np.testing.assert_allclose(arm, draws["objects.x.place.ring.radius"][i] * out, atol=1e-12)
        ahead = b.instances.world_from_object[rows(b, i), :3, 0]
        np.testing.assert_allclose(
            ahead, {"out": out, "in": -out, "same": [[1, 0, 0]] * count}[facing], atol=1e-12
        )


def test_an_arc_has_an_object_at_each_end():
    b, _ = batch(1, objects={"x": group({"ring": {"radius": 1, "arc_deg": 90}}, 4)})
    angle = np.degrees(np.arctan2(*origins(b, 0)[:, 1::-1].T))
    np.testing.assert_allclose(angle, [0, 30, 60, 90], atol=1e-9)


def test_a_stack_stands_each_on_the_other_whatever_their_turns_and_sizes():
    place = {
        "stack": {"center": [{"uniform": [-1, 1]}, 0.5, 0.2], "gap": {"uniform": [0, 0.01]}},
        "rotation": "uniform",
        "on_ground": True,
    }
    b, draws = batch(
        30,
        ground={"height": 0.125},
        objects={"x": group(place, {"integer": [1, 5]}, scale={"uniform": [0.5, 2]})},
    )
    for i in range(30):
        spans = [(v[:, 2].min(), v[:, 2].max()) for v in (vertices(b, r) for r in rows(b, i))]
        gap = draws["objects.x.place.stack.gap"][i]
        assert spans[0][0] == pytest.approx(0.325, abs=1e-6)
        for below, above in pairwise(spans):
            assert above[0] == pytest.approx(below[1] + gap, abs=1e-6)
        np.testing.assert_allclose(
            origins(b, i)[:, 0], draws["objects.x.place.stack.center"][i, 0], atol=1e-12
        )


def test_what_is_placed_in_view_projects_to_its_pixel_at_its_distance():
    place = {
        "in_view": {"x": {"uniform": [-0.1, 1.1]}, "distance": {"uniform": [0.3, 4]}},
        "rotation": "uniform",
    }
    b, draws = batch(
        60,
        camera={**CAMERA, "fov_deg": {"uniform": [10, 120]}},
        image={"size": [90, 160]},
        objects={"x": group(place)},
    )
    for i in range(60):
        camera = geometry.rigid_inverse(b.cameras.world_from_camera[i])
        local = geometry.transform(camera, origins(b, i))
        pixel = geometry.project(b.cameras.k[i], local)
        want = np.stack(
            [draws["objects.x.place.in_view.x"][i] * 160, draws["objects.x.place.in_view.y"][i] * 90], -1
        )
        np.testing.assert_allclose(pixel, want, atol=1e-6)
        np.testing.assert_allclose(
            np.linalg.norm(local, axis=1), draws["objects.x.place.in_view.distance"][i], rtol=1e-9
        )


def test_in_view_and_scattered_objects_do_not_meet_where_they_keep_apart():
    flat = group({"position": {"box": {"low": [-0.3, -0.3, 0.1], "high": [0.3, 0.3, 0.1]}}, "apart": 0.01}, 6)
    free = group({"in_view": {"distance": {"uniform": [0.5, 1.5]}}, "apart": 0.01, "rotation": "uniform"}, 12)
    b, _ = batch(30, camera={"distance": 1}, objects={"x": flat, "y": free})
    ball = np.linalg.norm([0.05, 0.03, 0.02])
    kept = 0
    for i in range(30):
        x, y = origins(b, i), origins(b, i, "y")
        kept += len(y)
        assert np.linalg.norm(y[:, None] - x[None], axis=-1).min() >= 2 * ball + 0.01 - 1e-6
        gap = np.linalg.norm(y[:, None] - y[None], axis=-1)[~np.eye(len(y), dtype=bool)]
        assert gap.min() >= 2 * ball + 0.01 - 1e-6
    assert 30 * 6 < kept <= 30 * 12


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.floats(0.05, 0.4), st.floats(0, 0.05), st.integers(0, 10**6))
def test_no_two_kept_apart_ever_meet(count, radius, gap, seed):
    place = {"position": {"box": {"low": [-1, -1, 0], "high": [1, 1, 0]}}, "apart": gap, "on_ground": True}
    b, _ = batch(3, seed, objects={"x": group(place, count, {"sphere": {"radius": radius}})})
    for i in range(3):
        xy = origins(b, i)[:, :2]
        assert 1 <= len(xy) <= count
        far = np.linalg.norm(xy[:, None] - xy[None], axis=-1)[~np.eye(len(xy), dtype=bool)]
        assert np.all(far >= 2 * radius * (1 - 1e-6) + gap)


def test_attached_at_a_direction_it_touches_there_and_turns_along():
    parent = group(
        {"rotation": "uniform", "position": {"box": {"low": [-1, -1, -1], "high": [1, 1, 1]}}},
        {"integer": [1, 3]},
        scale={"uniform": [1, 2]},
    )
    child = group(
        {
            "attach": {"to": "x", "at": {"choice": ["top", "left"]}, "offset": [0, 0, 0.003]},
            "rotation": "uniform",
        },
        3,
    )
    b, draws = batch(40, objects={"y": child, "x": parent})  # the order of the file does not matter
    outward = {"top": np.array([0, 0, 1.0]), "left": np.array([-1.0, 0, 0])}
    for i in range(40):
        parents = rows(b, i)
        for slot, row in enumerate(rows(b, i, "y")):
            parent_row = parents[slot % len(parents)]
            pose = b.instances.world_from_object[parent_row]
            d = outward[draws["objects.y.place.attach.at"][i, slot]]
            local = geometry.transform(geometry.rigid_inverse(pose), vertices(b, row))
            face = abs(d @ (np.array([0.1, 0.06, 0.04]) / 2)) * b.instances.scale[parent_row, 0]
            assert (local @ d).min() == pytest.approx(face + 0.003, abs=1e-6)


def test_attached_points_lie_on_the_surface_evenly():
    ball = group({"rotation": "uniform", "position": [0.2, 0, 1]}, 1, {"sphere": {"radius": 0.5}})
    dot = group({"attach": {"to": "x", "surface": {"uniform": [0, 1]}}}, 8, {"disc": {"radius": 0.01}})
    b, _ = batch(100, objects={"x": ball, "y": dot})
    arms, ups = [], []
    for i in range(100):
        inverse = geometry.rigid_inverse(b.instances.world_from_object[rows(b, i)[0]])
        arms.append(geometry.transform(inverse, origins(b, i, "y")))
        ups.append(
            np.einsum("ij,mj->mi", inverse[:3, :3], b.instances.world_from_object[rows(b, i, "y"), :3, 2])
        )
    arm, up = np.concatenate(arms), np.concatenate(ups)
    length = np.linalg.norm(arm, axis=1)
    assert 0.49 < length.min() <= length.max() < 0.5001
    assert ((arm / length[:, None]) * up).sum(1).min() > 0.98  # +z away from the surface
    z = np.histogram(arm[:, 2], 8, (-0.5, 0.5))[0]  # even in z on a sphere (Archimedes)
    assert ((z - 100) ** 2 / 100).sum() < 24.3  # χ² of 7, 0.1 %


def test_points_on_a_box_share_its_sides_by_area():
    meshes = solids.box(np.array([[1.0, 2.0, 3.0]]))
    u = np.random.default_rng(0).random((20000, 3))
    point, normal = surface.picked(meshes, np.zeros(20000, int), u)
    assert np.all(np.abs(point) <= np.array([0.5, 1, 1.5]) + 1e-6)
    np.testing.assert_allclose((np.abs(normal) > 0.5).mean(0), np.array([6, 3, 2]) / 11, atol=0.015)
    on = np.abs(np.abs((point * normal).sum(1)) - (np.abs(normal) @ [0.5, 1, 1.5]))
    assert on.max() < 1e-6


def test_what_has_nothing_to_hang_on_is_left_out_with_it():
    b, draws = batch(
        30, objects={"x": group({}, {"integer": [0, 1]}), "y": group({"attach": {"to": "x"}}, 2)}
    )
    for i in range(30):
        assert len(rows(b, i, "y")) == 2 * draws.counts["x"][i]


@pytest.mark.parametrize("level", [True, False])
def test_look_at_points_plus_x_to_the_target(level):
    place = {
        "position": {"box": {"low": [-1, -1, -1], "high": [1, 1, 1]}},
        "look_at": {"group": "t", "level": level},
    }
    b, _ = batch(
        30,
        objects={
            "t": group({"position": {"box": {"low": [1, 1, 1], "high": [2, 2, 2]}}}, 3),
            "x": group(place),
        },
    )
    for i in range(30):
        to = origins(b, i, "t").mean(0) - origins(b, i)
        turn = b.instances.world_from_object[rows(b, i), :3, :3]
        if level:
            to[:, 2] = 0
            np.testing.assert_allclose(turn[:, :, 2], [[0, 0, 1]] * 4, atol=1e-12)
        np.testing.assert_allclose(turn[:, :, 0], to / np.linalg.norm(to, axis=1, keepdims=True), atol=1e-12)
        assert turn[:, 2, 1] == pytest.approx(0, abs=1e-12)  # +y stays level
        np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6), st.booleans())
def test_facing_is_always_a_rotation(numbers, level):
    a, b = np.array([numbers[:3]]), np.array([numbers[3:]])
    for target in (a, b, a + np.eye(3)[2:], a - np.eye(3)[2:]):
        turn = view.facing(a, target, level)[0]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1)


def test_objects_and_camera_can_look_at_each_other():
    place = {"position": {"box": {"low": [-1, -1, 0], "high": [1, 1, 0]}}}
    eye = group({**place, "look_at": {"camera": True}})
    b, _ = batch(
        20, camera={**CAMERA, "target": [0, 0, 0.1], "look_at": "t"}, objects={"x": eye, "t": group(place, 2)}
    )
    for i in range(20):
        camera = b.cameras.world_from_camera[i]
        local = geometry.transform(
            geometry.rigid_inverse(camera), origins(b, i, "t").mean(0, keepdims=True) + np.array([0, 0, 0.1])
        )
        np.testing.assert_allclose(local[0, :2], 0, atol=1e-9)
        to = geometry.normalize(camera[:3, 3] - origins(b, i))
        np.testing.assert_allclose(b.instances.world_from_object[rows(b, i), :3, 0], to, atol=1e-9)


def test_class_from_up_is_what_lies_on_top_of_any_tumbled_die():
    names = ["one", "two", "three", "four", "five", "six"]
    die = {"count": 3, "class_from": "up", "shape": {"dice": {"right_handed": {"bernoulli": 0.5}}}}
    told = {"class": {"expr": "place.up"}, **{k: v for k, v in die.items() if k != "class_from"}}
    tilted = {"position": [0, 0, 1], "up": {"choice": names}, "yaw_deg": {"uniform": [0, 360]}}
    scene = {"classes": names}
    a, _ = batch(40, **scene, objects={"x": {**die, "place": tilted}})
    b, _ = batch(40, **scene, objects={"x": {**told, "place": tilted}})
    np.testing.assert_array_equal(a.instances.class_id, b.instances.class_id)
    assert len(set(a.instances.class_id)) == 6


LAYOUTS = {
    "grid": {"grid": {"columns": {"integer": [2, 3]}, "spacing": {"uniform": [0.1, 0.2]}}, "on_ground": True},
    "ring": {"ring": {"radius": {"uniform": [0.1, 0.5]}, "facing": "in"}},
    "stack": {"stack": {"gap": {"uniform": [0, 0.1]}}},
    "in_view": {"in_view": {"distance": {"uniform": [0.5, 1]}}, "apart": 0.01},
    "attach": {"attach": {"to": "t", "surface": {"uniform": [0, 1]}, "pick": {"uniform": [0, 1]}}},
    "flying": {"flying": {"clearance": {"uniform": [0, 0.01]}}, "apart": 0.001},
    "occlude": {
        "occlude": {"target": "t", "share": {"uniform": [0.1, 0.5]}, "along": {"uniform": [0.2, 0.5]}}
    },
    "look_at": {
        "position": {"box": {"low": [-1, -1, 0], "high": [1, 1, 0]}},
        "look_at": {"point": {"box": {"low": [-1, -1, 0], "high": [1, 1, 1]}}},
    },
}


@pytest.mark.parametrize("sampler", ["random", "sobol"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_frame_alone_is_the_same_as_in_any_batch(kind, sampler):
    objects = {
        "t": group({"position": [0, 0, 1]}, {"integer": [1, 2]}),
        "x": group(LAYOUTS[kind], {"integer": [2, 5]}),
    }
    plan = plan_of(objects=objects)
    whole = compose(plan, plan.sample(5, range(9), sampler))
    for i in (0, 7):
        alone = compose(plan, plan.sample(5, [i], sampler))
        here = whole.instances.frame == i
        np.testing.assert_array_equal(
            whole.instances.world_from_object[here], alone.instances.world_from_object
        )
        np.testing.assert_array_equal(whole.instances.path[here], alone.instances.path)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_leaf_of_a_layout_can_be_frozen_and_set(kind):
    spec = SceneSpec.model_validate(
        {"name": "t", "classes": ["a"], "objects": {"t": group({}), "x": group(LAYOUTS[kind], 3)}}
    )
    plan = Plan(spec)
    varying = [leaf for leaf in plan.varying if leaf.path.startswith("objects.x.place")]
    assert varying
    frozen = scenefile.load(spec, freeze=[leaf.path for leaf in varying]).plan()
    assert not [leaf for leaf in frozen.varying if leaf.path.startswith("objects.x.place")]
    one = varying[0]
    constant = np.asarray(one.distribution.median()).tolist()
    after = scenefile.load(spec, sets=[f"{one.path}={constant}"]).plan()
    assert one.path not in [leaf.path for leaf in after.varying]
    if one.group:
        slot = scenefile.load(spec, sets=[f"{one.names()[1]}={constant}"]).plan().sample(0, range(3))
        assert np.ptp(slot[one.path][:, 1], axis=0).max() == 0
        assert np.ptp(slot[one.path][:, 0], axis=0).max() > 0


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({"grid": {"columns": 2, "spacing": 1}, "ring": {"radius": 1}}, "at most one of grid, ring.*got grid and ring"),
        ({"in_view": {"distance": 1}, "on_ground": True}, "on_ground does not go with in_view"),
        ({"attach": {"to": "t"}, "position": [0, 0, 1]}, "position does not go with attach"),
        ({"stack": {}, "apart": 0.1}, "apart does not go with stack"),
        ({"look_at": {"camera": True}, "on_ground": True}, "look_at tilts the object"),
        ({"look_at": {"camera": True, "group": "t"}}, "exactly one of point, group, camera, got group and camera"),
        ({"attach": {"to": "tt"}}, "objects.x.place.attach.to: no group is called 'tt'; did you mean 't'"),
        ({"attach": {"to": "x"}}, "objects.x.place: these are placed by each other: x → x"),
        ({"attach": {"to": "t", "at": "nose"}}, r"objects.x.place.attach.at: the shape has no keypoint or direction 'nose' \(it has .*right"),
        ({"grid": {"columns": {"expr": "scale"}, "spacing": 1}}, "objects.x.place.grid.columns: 'scale' has a value for each object"),
    ],
)  # fmt: skip
def test_mistakes_are_named(place, text):
    with pytest.raises(ValueError if "objects" not in text else SceneError, match=text):
        batch(2, objects={"t": group({}), "x": group(place)})


def test_circles_through_the_camera_and_framings_are_refused():
    seen = group({"in_view": {"distance": 1}})
    with pytest.raises(SceneError, match="these are placed by each other: camera → x → camera"):
        batch(1, camera={"look_at": "x"}, objects={"x": seen})
    with pytest.raises(
        SceneError,
        match=r"objects.x.place.in_view: goes by what the camera sees, which camera.framing changes",
    ):
        batch(1, camera={"framing": {}}, objects={"x": seen})
    with pytest.raises(SceneError, match=r"camera.look_at: no group is called 'z'"):
        batch(1, camera={"look_at": "z"}, objects={"x": seen})


def test_shared_values_can_be_named_by_each_object_and_have_one_column():
    objects = {
        "x": group({"ring": {"radius": {"uniform": [0.1, 0.5]}}}, 3, scale={"expr": "place.ring.radius"})
    }
    plan = plan_of(objects=objects)
    draws = plan.sample(0, range(5))
    np.testing.assert_array_equal(
        draws["objects.x.scale"], np.repeat(draws["objects.x.place.ring.radius"][:, None], 3, 1)
    )
    assert [name for leaf in plan.varying for name in leaf.names() if "radius" in name] == [
        "objects.x.place.ring.radius"
    ]


def test_the_flying_are_between_the_camera_and_what_is_labelled():
    fly = {"count": 6, "shape": {"primitive": {"size": {"uniform": [0.01, 0.05]}}},
           "place": {"flying": {"clearance": 0.02}, "rotation": "uniform", "apart": 0.005}}  # fmt: skip
    objects = {
        "fly": fly,
        "x": group({"position": {"box": {"low": [-0.3, -0.3, 0], "high": [0.3, 0.3, 0.1]}}}, 3),
    }
    b, draws = batch(40, camera={"distance": {"uniform": [0.3, 2]}, "near": 0.05}, objects=objects)
    shown = 0
    for i in range(40):
        eye = b.cameras.world_from_camera[i, :3, 3]
        local = geometry.transform(
            geometry.rigid_inverse(b.cameras.world_from_camera[i]), origins(b, i, "fly")
        )
        nearest = np.linalg.norm(origins(b, i) - eye, axis=1).min() - np.linalg.norm([0.05, 0.03, 0.02])
        for k, row in enumerate(rows(b, i, "fly")):
            shown += 1
            away = np.linalg.norm(vertices(b, row) - eye, axis=1)
            ahead = (vertices(b, row) - eye) @ b.cameras.world_from_camera[i, :3, 2]
            assert ahead.min() > 0.05 + 0.02 - 1e-6
            assert away.max() < nearest - 0.02 + 1e-6
            pixel = geometry.project(b.cameras.k[i], local[k : k + 1])[0]
            assert np.all((pixel >= 0) & (pixel <= 256))
    assert len(b.report["no_room"]) == 40
    assert 100 < shown <= 240 - b.report["no_room"].sum()
    assert b.instances.class_id[b.instances.group == "fly"].max() == 0
    assert len(draws["objects.fly.shape.primitive.kind"]) == 40


def test_primitives_are_of_all_kinds_and_as_large_as_asked():
    b, draws = batch(60, objects={"x": group({}, 2, {"primitive": {"size": [0.1, 0.2, 0.3]}})})
    want = {
        "ball": [0.1] * 3,
        "block": [0.1, 0.2, 0.3],
        "cylinder": [0.1, 0.1, 0.3],
        "cone": [0.1, 0.1, 0.3],
        "capsule": [0.1, 0.1, 0.3],
    }
    kinds = draws["objects.x.shape.primitive.kind"]
    assert set(kinds.ravel()) == set(want)
    for i in range(60):
        for slot, row in enumerate(rows(b, i)):
            np.testing.assert_allclose(np.ptp(vertices(b, row), axis=0), want[kinds[i, slot]], rtol=1e-5)


def test_an_occluder_hides_the_share_asked_for():
    wall = {
        "count": 1,
        "shape": {"box": {"size": [0.2, 0.2, 0.01]}},
        "scale": {"uniform": [1, 2]},
        "place": {"occlude": {"target": "x", "share": {"uniform": [0.05, 0.9]}}},
    }
    plan = plan_of(image={"size": [160, 160]}, renderer={"samples": 1}, camera={"distance": 1.5}, objects={
        "x": group({"rotation": "uniform"}, 1, {"dice": {"size": 0.16}}), "wall": wall})  # fmt: skip
    made = generate.frames(plan, 2, range(40))
    share = plan.sample(2, range(40))["objects.wall.place.occlude.share"][:, 0]
    x = made.instances.group == "x"
    placed = np.isin(made.instances.frame[x], made.instances.frame[~x])
    assert placed.mean() > 0.6
    np.testing.assert_array_equal(~placed, made.report["no_room"] > 0)
    hidden = 1 - made.instances.visible_fraction[x]
    np.testing.assert_allclose(hidden[placed], share[placed], atol=0.03)
    assert hidden[~placed].max(initial=0) == 0


def test_a_small_occluder_stays_before_the_middle():
    dot = {
        "shape": {"sphere": {"radius": 0.01}},
        "place": {"occlude": {"target": "x", "share": 0.9, "along": 0.5}},
    }
    b, _ = batch(
        5,
        camera={**CAMERA, "target": [0, 0, 0]},
        objects={"x": group({}, 1, {"sphere": {"radius": 0.1}}), "dot": dot},
    )
    for i in range(5):
        eye = b.cameras.world_from_camera[i, :3, 3]
        arm = origins(b, i, "dot")[0] - eye
        assert arm @ -eye / np.linalg.norm(arm) / np.linalg.norm(eye) > 0.9995
        assert np.linalg.norm(arm) == pytest.approx(0.5 * np.linalg.norm(eye), rel=1e-2)
