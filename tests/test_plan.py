import subprocess
import sys

import numpy as np
import pytest

from imgsynth import scenefile
from imgsynth.errors import SceneError
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec


def scene(**changes):
    data = {
        "name": "t",
        "classes": ["ball", "other"],
        "camera": {"fov_deg": {"uniform": [30, 60]}, "distance": {"uniform": [1, 2]}},
        "objects": {
            "ball": {
                "count": {"integer": [1, 5]},
                "class": "ball",
                "shape": {"sphere": {"radius": {"uniform": [0.1, 0.2]}}},
                "place": {"position": {"box": {"low": [-1, -1, 0], "high": [1, 1, 1]}}},
            }
        },
    }
    data.update(changes)
    return SceneSpec.model_validate(data)


def values(spec, indices=range(50), seed=3, sampler="random"):
    return Plan(spec).sample(seed, list(indices), sampler)


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_frame_is_the_same_alone_and_in_any_batch(sampler):
    whole = values(scene(), sampler=sampler)
    for part in ([17], [49, 3], range(10, 20)):
        some = values(scene(), part, sampler=sampler)
        for path, array in some.values.items():
            np.testing.assert_array_equal(array, whole[path][list(part)])


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_a_new_leaf_changes_no_other_draw(sampler):
    before = values(scene(), sampler=sampler)
    after = values(
        scene(variables={"aaa": {"uniform": [0, 1]}}, sensor={"blur_px": {"uniform": [0, 2]}}),
        sampler=sampler,
    )
    shared = [p for p in before.values if p != "sensor.blur_px"]
    for path in shared:
        np.testing.assert_array_equal(before[path], after[path])
    assert "variables.aaa" in after


def test_raising_a_count_keeps_the_old_slots():
    few, many = scene(), scene()
    grown = many.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    grown["objects"]["ball"]["count"] = {"integer": [1, 9]}
    a, b = values(few), values(SceneSpec.model_validate(grown))
    path = "objects.ball.shape.sphere.radius"
    assert b[path].shape[1] == 9
    np.testing.assert_array_equal(a[path], b[path][:, :5])


def test_another_process_draws_the_same():
    code = (
        "from imgsynth import scenefile; d = scenefile.load('dice').plan().sample(5, [7, 8]);"
        "import hashlib; print(hashlib.sha256(d['objects.die.place.position'].tobytes() + d['camera.target'].tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_freeze_holds_a_branch_at_its_median_and_nothing_else():
    spec = scene()
    frozen = values(spec.model_copy(update={"freeze": ("camera",)}))
    free = values(spec)
    assert np.all(frozen["camera.fov_deg"] == 45.0)
    assert np.all(frozen["camera.distance"] == 1.5)
    np.testing.assert_array_equal(frozen["objects.ball.place.position"], free["objects.ball.place.position"])


def test_slot_override():
    spec = scene(slots={"objects.ball[2].shape.sphere.radius": 0.5})
    got, free = (
        values(spec)["objects.ball.shape.sphere.radius"],
        values(scene())["objects.ball.shape.sphere.radius"],
    )
    assert np.all(got[:, 2] == 0.5)
    np.testing.assert_array_equal(got[:, [0, 1, 3, 4]], free[:, [0, 1, 3, 4]])


def test_expressions_see_siblings_variables_and_other_slots():
    spec = scene(
        variables={"size": {"uniform": [1, 2]}, "twice": {"expr": "size * 2"}},
        objects={
            "a": {
                "count": 3,
                "shape": {"box": {"size": [1, {"expr": "scale + twice"}, 1]}},
                "scale": {"uniform": [1, 2]},
            },
            "b": {"shape": {"sphere": {"radius": {"expr": "objects.a[1].scale"}}}},
        },
    )
    d = values(spec)
    np.testing.assert_allclose(d["variables.twice"], 2 * d["variables.size"])
    np.testing.assert_allclose(
        d["objects.a.shape.box.size"][..., 1], d["objects.a.scale"] + d["variables.twice"][:, None]
    )
    np.testing.assert_array_equal(d["objects.b.shape.sphere.radius"][:, 0], d["objects.a.scale"][:, 1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"variables": {"a": {"expr": "b"}, "b": {"expr": "c + 1"}, "c": {"expr": "a"}}},
            "round in a circle: variables.a → variables.b",
        ),
        ({"variables": {"a": {"expr": "camera.fov"}}}, "did you mean 'camera.fov_deg'"),
        ({"variables": {"a": {"expr": "objects.ball.scale"}}}, r"name one, as in 'objects.ball\[0\].scale'"),
        ({"freeze": ["camera.fov"]}, "names no leaf to freeze; did you mean 'camera.fov_deg'"),
        ({"slots": {"objects.ball[7].scale": 1}}, "slot 7 does not exist: ball has at most 5"),
        ({"slots": {"objects.ball[1].scalle": 1}}, r"did you mean 'objects.ball\[0\].scale'"),
    ],
)
def test_mistakes_between_leaves_are_named(changes, text):
    with pytest.raises(SceneError, match=text):
        Plan(scene(**changes))


def test_an_expression_is_held_to_its_leaf_when_sampled():
    with pytest.raises(
        SceneError,
        match=r"camera.fov_deg: expected a number .* within \(0, 175\), but the expression gives 200",
    ):
        values(scene(camera={"fov_deg": {"expr": "variables.x * 100"}}, variables={"x": 2}))


def test_inactive_slots_are_known():
    d = values(scene(), range(400))
    count = d.active("ball").sum(1)
    np.testing.assert_array_equal(count, d.counts["ball"])
    assert set(count) == {1, 2, 3, 4, 5}


def test_set_and_freeze_from_the_command_line():
    loaded = scenefile.load(
        "dice",
        sets=["objects.die.count=3", "objects.die[1].scale=2", "camera.distance={uniform: [1, 1.5]}"],
        freeze=["camera.fov_deg"],
    )
    d = loaded.plan().sample(0, range(20))
    assert d["objects.die.scale"].shape == (20, 3)
    assert np.all(d["objects.die.scale"] == [1, 2, 1])
    assert np.all(d["camera.fov_deg"] == 42.5)
    assert d["camera.distance"].min() >= 1


def test_canonical_form_makes_the_same_scene_again():
    loaded = scenefile.load("dice", sets=["objects.die[1].scale=2"], freeze=["camera"])
    again = SceneSpec.model_validate(loaded.spec.canonical())
    assert again == loaded.spec
    assert again.digest() == loaded.spec.digest()
    assert scenefile.load("dice").spec.digest() != loaded.spec.digest()
