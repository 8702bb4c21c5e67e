"""Keypoints: what shapes name, what scenes ask for."""

import numpy as np
import pytest

from imgsynth import scenefile
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.shapes import plates, solids
from imgsynth.shapes.dice import FACES, dice


def test_a_boxs_corners_are_its_vertices_named_by_the_sides_that_meet_there():
    made = solids.box([[0.2, 0.4, 0.6], [1.0, 1.0, 2.0]])
    assert np.allclose(made.keypoints["right_front_top"], [[0.1, -0.2, 0.3], [0.5, -0.5, 1.0]])
    for points in made.keypoints.values():
        for k in range(2):
            assert (made.vertices[k] == points[k]).all(1).any()


def test_a_rounded_boxs_corners_lie_on_its_rounding():
    made = solids.rounded_box([[0.2, 0.4, 0.6]], [0.05])
    for points in made.keypoints.values():
        core = np.sign(points[0]) * (np.array([0.1, 0.2, 0.3]) - 0.05)
        assert np.isclose(np.linalg.norm(points[0] - core), 0.05)


def test_faces_of_dice_and_corners_of_plates_stay_where_their_names_say():
    made = dice([0.02, 0.01], right_handed=[True, False])
    for name in FACES:
        assert np.allclose(made.keypoints[name], made.directions[name] * np.array([[0.01], [0.005]]))
    outline = np.array([[0.0, 0], [0, 2], [1, 2], [3, 0]])  # clockwise: it is turned
    for thickness in (None, [0.1]):
        made = plates.plate(outline, thickness)
        assert np.allclose([made.keypoints[f"corner_{k}"][0, :2] for k in range(4)], outline)
    quad = plates.quad([2.0], [4.0]).keypoints
    assert np.allclose(quad["top_left"], [[-1, 2, 0]])
    assert np.allclose(solids.cylinder([1.0], [4.0]).keypoints["top"], [[0, 0, 2]])


def _composed(keypoints: str):
    scene = scenefile.load("dice", sets=[f"objects.die.keypoints={keypoints}"])
    plan = scene.plan()
    return compose(plan, plan.sample(0, [0, 1]), folder=scene.folder)


def test_a_scene_labels_the_keypoints_it_names_in_its_own_order():
    pool = _composed("[six, one]").meshes
    mesh = 3
    rows = slice(*pool.keypoints.start[mesh : mesh + 2])
    assert pool.keypoints.name[rows].tolist() == ["six", "one"]
    assert np.allclose(pool.keypoints.position[rows].sum(0), 0)
    assert len(set(_composed("all").meshes.keypoints.name)) == 6
    assert _composed("[]").meshes.keypoints is None


def test_an_unknown_keypoint_is_said_with_its_place():
    with pytest.raises(
        SceneError, match=r"objects.die.keypoints: the shape has no keypoint 'nose' \(it has one,"
    ):
        _composed("[nose]")
    with pytest.raises(SceneError, match="'one' stands twice"):
        _composed("[one, one]")
