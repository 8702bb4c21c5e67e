"""Dropped objects: at rest, on a face, through nothing, the same alone and in batches."""

import sys

import numpy as np
import pytest

from imgsynth import generate, geometry
from imgsynth.compose import compose
from imgsynth.errors import ImgsynthError, SceneError
from imgsynth.layout import settle
from imgsynth.layout.drop import _clear
from imgsynth.layout.settle import Body, Room
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec
from imgsynth.shapes import solids

NAMES = ["one", "two", "three", "four", "five", "six"]
ABOVE = {"box": {"low": [-0.03, -0.03, 0.02], "high": [0.03, 0.03, 0.05]}}


def plan_of(objects, **data):
    return Plan(
        SceneSpec.model_validate(
            {"name": "t", "classes": NAMES, "ground": {"height": 0.1}, "objects": objects, **data}
        )
    )


def batch(plan, indices, seed=1):
    return compose(plan, plan.sample(seed, indices))


def boxes(count=4, **drop):
    place = {"position": ABOVE, "rotation": "uniform", "drop": drop}
    return {"count": count, "class_from": "up", "shape": {"dice": {}}, "place": place}


def world(b, row):
    mesh = b.instances.mesh[row]
    own = b.meshes.vertices[b.meshes.vertex_start[mesh] : b.meshes.vertex_start[mesh + 1]].astype(float)
    return geometry.transform(b.instances.world_from_object[row], own * b.instances.scale[row])


@pytest.fixture(scope="module")
def dice():
    pytest.importorskip("mujoco")
    plan = plan_of({"die": boxes()}, physics={"walls": [0.1, 0.12], "center": [0.01, 0]})
    return plan, batch(plan, range(12))


def test_dice_lie_still_with_a_face_up_on_the_ground_or_on_another(dice):
    _, b = dice
    assert b.report["still_moving"].tolist() == [0] * 12
    assert b.report["fell_away"].tolist() == [0] * 12
    turn = b.instances.world_from_object[:, :3, :3]
    flat = np.abs(turn[:, 2]).max(1) > 1 - 1e-4
    assert flat.mean() > 0.8  # the others lean on one
    for row in np.flatnonzero(flat):
        up = turn[row, 2]
        assert np.abs(up).max() > 1 - 1e-4
    low = np.array([world(b, row)[:, 2].min() for row in range(len(b.instances))])
    assert np.abs(low - 0.1)[flat & (low < 0.105)].max() < 5e-5  # metres
    assert low.min() > 0.1 - 5e-5


def test_nothing_goes_through_walls_or_each_other(dice):
    _, b = dice
    for i in range(12):
        rows = np.flatnonzero(b.instances.frame == i)
        points = [world(b, r) for r in rows]
        every = np.concatenate(points)
        assert every[:, 0].min() > 0.01 - 0.05 - 1e-4
        assert every[:, 0].max() < 0.01 + 0.05 + 1e-4
        assert np.abs(every[:, 1]).max() < 0.06 + 1e-4
        for r in rows:
            inverse = geometry.rigid_inverse(b.instances.world_from_object[r])
            for s in rows[rows != r]:
                beyond = np.abs(geometry.transform(inverse, world(b, s))) - (0.5 - 0.12) * 0.016
                outside = np.linalg.norm(np.maximum(beyond, 0), axis=1) - 0.12 * 0.016
                assert outside.min() > -5e-5  # metres from the rounded cube that the other die is


def test_the_class_is_the_number_that_lies_up(dice):
    _, b = dice
    ids = b.instances.class_id
    up = b.instances.world_from_object[:, 2, :3]
    from imgsynth.shapes.dice import dice as shape

    directions = shape(np.full(1, 0.016)).directions
    cosine = np.stack([up @ directions[name][0].astype(float) for name in NAMES], 1)
    np.testing.assert_array_equal(ids, cosine.argmax(1) + 1)


def test_a_frame_alone_comes_to_rest_as_in_a_batch(dice):
    plan, b = dice
    alone = batch(plan, [7])
    here = b.instances.frame == 7
    np.testing.assert_array_equal(b.instances.world_from_object[here], alone.instances.world_from_object)


def test_a_die_falls_on_each_face_alike():
    pytest.importorskip("mujoco")
    body = solids.box(np.array([[0.016] * 3])).vertices[0].astype(float)
    rng = np.random.default_rng(5)
    room, faces = Room(0.0, None), np.zeros(6, int)
    far = [np.array([0.3 * k, 0.3 * j, 0.05]) for k in range(6) for j in range(5)]
    for _ in range(8):  # thirty at once, far from each other
        turns = geometry.quat_to_matrix(rng.normal(size=(30, 4)))
        bodies = [Body(body, geometry.compose(t, p), 1000.0, 0.5) for t, p in zip(turns, far, strict=True)]
        poses, moving, lost = settle.settle(bodies, room, 5.0)
        assert not moving.any()
        assert not lost.any()
        up = poses[:, 2, :3]
        assert np.abs(up).max(1).min() > 1 - 1e-5
        np.add.at(
            faces,
            np.abs(up).argmax(1) + 3 * (np.take_along_axis(up, np.abs(up).argmax(1)[:, None], 1)[:, 0] < 0),
            1,
        )
    assert ((faces - 40) ** 2 / 40).sum() < 20.5  # χ² of 5, 0.1 %


def test_scale_does_not_matter():
    """A crate a hundred times as large, ten times slower, falls the same."""
    pytest.importorskip("mujoco")
    body = solids.box(np.array([[0.02, 0.03, 0.04]])).vertices[0].astype(float)
    turn = geometry.quat_to_matrix(np.array([0.3, 0.5, 0.7, 0.2]))
    ends = []
    for scale in (1.0, 100.0):
        start = geometry.compose(turn, np.array([0.0, 0.0, 0.1]) * scale)
        ends.append(settle.settle([Body(body * scale, start, 1000.0, 0.5)], Room(0.0, None), 30.0)[0][0])
    np.testing.assert_allclose(ends[0][:3, :3], ends[1][:3, :3], atol=1e-3)
    np.testing.assert_allclose(ends[0][:3, 3] * 100, ends[1][:3, 3], atol=0.02)


def test_things_lie_in_a_tray_and_what_misses_the_table_is_left_out():
    pytest.importorskip("mujoco")
    table = {"shape": {"box": {"size": [0.1, 0.1, 0.02]}}, "place": {"position": [0, 0, 1]}}
    inside = {
        "count": 2,
        "shape": {"sphere": {"radius": 0.01}},
        "place": {"ring": {"radius": 0.02, "center": [0, 0, 1.1]}, "drop": {"onto": ["table"]}},
    }
    beside = {
        "shape": {"box": {"size": [0.02, 0.01, 0.01]}},
        "place": {"position": [0.3, 0, 1.1], "drop": {"onto": ["table"]}},
    }
    plan = plan_of({"in": inside, "out": beside, "table": table}, ground=None, physics={"time_s": 2})
    b = batch(plan, range(2))
    assert b.report["fell_away"].tolist() == [1, 1]
    assert b.report["still_moving"].tolist() == [0, 0]
    assert set(b.instances.group) == {"in", "table"}
    kept = b.instances.world_from_object[b.instances.group == "in", 2, 3]
    np.testing.assert_allclose(kept, 1.02, atol=1e-4)


def test_pieces_of_a_mesh_and_hulls_of_flat_ones():
    a, b = (solids.box(np.ones((1, 3))) for _ in range(2))
    vertices = np.concatenate([a.vertices[0], b.vertices[0] + np.float32([3, 0, 0])]).astype(float)
    faces = np.concatenate([a.faces, b.faces + len(a.vertices[0])])
    parts = settle.pieces(vertices, faces)
    assert [len(p) for p in parts] == [8, 8]
    assert {round(p[:, 0].mean()) for p in parts} == {0, 3}
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    for flat in (square, square[:, [2, 0, 1]], square[:2], square[:1] + 1):
        if len(flat) > 1:
            thick = settle.hull(flat)
            assert np.ptp(thick, axis=0).min() > 0
            assert np.ptp(thick, axis=0).max() < 1.01


def test_starts_clear_of_what_is_there():
    balls = [(np.array([0, 0, 1.0]), 1.0), (np.array([0.5, 0, 2.9]), 1.0)]
    z = _clear(0.0, 0.0, 0.0, 1.0, balls)
    assert all(np.linalg.norm([x - 0, y - 0, z - h]) >= 2 - 1e-9 for (x, y, h), _ in balls)
    assert _clear(5.0, 0.0, 0.3, 1.0, balls) == 0.3


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(SceneError, match=r"objects.die.place.drop: there is nothing to fall on"):
        batch(plan_of({"die": boxes()}, ground=None), [0])
    with pytest.raises(SceneError, match=r"objects.die.place.drop.onto\[0\]: no group is called 'tray'"):
        batch(plan_of({"die": boxes(onto=["tray"])}), [0])
    with pytest.raises(SceneError, match=r"'die' is dropped itself"):
        batch(plan_of({"die": boxes(onto=["die"])}), [0])
    with pytest.raises(ValueError, match="on_ground does not go with drop"):
        plan_of({"die": {**boxes(), "place": {"drop": {}, "on_ground": True}}})
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ImgsynthError, match=r"place.drop needs MuJoCo.*pip install 'imgsynth\[physics\]'"):
        batch(plan_of({"die": boxes()}), [0])


def test_datasets_of_dropped_objects_name_the_simulator():
    pytest.importorskip("mujoco")
    assert "mujoco" in generate._versions(plan_of({"die": boxes()}).spec, "raster")
    assert "mujoco" not in generate._versions(plan_of({}).spec, "raster")
