"""Rules: which frames break them, and that drawing again keeps a frame a pure function of (spec, seed, index)."""

import json
from dataclasses import fields, is_dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from imgsynth import cli, generate, scenefile
from imgsynth.errors import SceneError
from imgsynth.layoutspec import RulesSpec
from imgsynth.rules import attempt_seed, broken
from imgsynth.scene import SceneSpec
from imgsynth.splice import joined, taken

BALL = {"class": "a", "shape": {"sphere": {"radius": 0.12}}, "keypoints": "all"}
SPREAD = {"position": {"box": {"low": [-0.6, -0.6, 0], "high": [0.6, 0.6, 0]}}}


def spec(rules=None, **more):
    data = {
        "name": "t",
        "classes": ["a"],
        "image": {"size": [32, 40]},
        "camera": {"elevation_deg": 90, "distance": 1.4},
        "sensor": {"read_noise": 0.01},
        "objects": {"x": {**BALL, "count": {"integer": [1, 4]}, "place": SPREAD}},
        **more,
    }
    return SceneSpec.model_validate(data | ({"rules": rules} if rules else {}))


def frames(scene, seed=3, indices=range(24)):
    return generate.frames(scenefile.load(scene), seed, indices)


def same(a, b, where=""):
    """Whether two structs of arrays are the same, bit for bit."""
    for item in fields(a):
        x, y = getattr(a, item.name), getattr(b, item.name)
        if is_dataclass(x):
            same(x, y, f"{where}.{item.name}")
        elif isinstance(x, dict):
            assert x.keys() == y.keys()
            for key in x:
                np.testing.assert_array_equal(x[key], y[key], err_msg=key)
        else:
            np.testing.assert_array_equal(x, y, err_msg=f"{where}.{item.name}")


@pytest.mark.parametrize(
    "rules",
    [
        {"count_visible": [2, 3]},
        {"min_visible_fraction": 0.8},
        {"max_truncated": 0.2},
        {"min_area_px": 20},
        {"count_visible": [1, 3], "min_visible_fraction": 0.6, "max_truncated": 0.5, "groups": ["x"]},
    ],
)
def test_frames_keep_the_rules_and_those_that_did_at_once_are_as_without(rules):
    free, ruled = frames(spec()), frames(spec({**rules, "tries": 200}))
    broke = np.any(list(broken(RulesSpec(**rules), free.instances, 24).values()), axis=0)
    np.testing.assert_array_equal(ruled.attempt > 0, broke)
    assert 0 < broke.sum() < 24
    assert ruled.obeys.all()
    assert not np.any(list(broken(RulesSpec(**rules), ruled.instances, 24).values()))
    np.testing.assert_array_equal(free.images[~broke], ruled.images[~broke])
    assert (free.images[broke] != ruled.images[broke]).any(axis=(1, 2, 3)).all()


def test_broken_by_hand():
    free = frames(spec())
    rows = free.instances
    seen = [int(((rows.frame == i) & (rows.area_visible > 0)).sum()) for i in range(24)]
    found = broken(RulesSpec(count_visible=(2, 3), max_truncated=0.3), rows, 24)
    np.testing.assert_array_equal(found["count_visible"], [not 2 <= k <= 3 for k in seen])
    np.testing.assert_array_equal(
        found["max_truncated"], [rows.truncated_fraction[rows.frame == i].max() > 0.3 for i in range(24)]
    )


def test_unlabelled_objects_and_other_groups_break_no_rule():
    prop = {"shape": {"sphere": {"radius": 0.12}}, "place": {"position": [5, 0, 0]}}  # out of the picture
    objects = {"x": {**BALL, "place": {"position": [0, 0, 0]}}, "prop": prop, "y": {**prop, "class": "a"}}
    assert frames(spec({"max_truncated": 0, "groups": ["x"]}, objects=objects)).attempt.max() == 0
    assert not frames(spec({"max_truncated": 0, "tries": 3}, objects=objects)).obeys.any()


def test_a_frame_alone_is_the_same_as_in_a_batch_and_as_its_attempt():
    scene = spec({"count_visible": [3, 3], "tries": 50})
    whole = frames(scene)
    assert len(set(whole.attempt.tolist())) > 3
    for i in (0, 5, int(whole.attempt.argmax())):
        same(taken(whole, np.array([i])), frames(scene, indices=[i]))
        attempt = frames(spec(), attempt_seed(3, int(whole.attempt[i])), [i])
        np.testing.assert_array_equal(attempt.images[0], whole.images[i])


def test_taking_and_joining_are_each_others_inverse():
    whole = frames(spec(), indices=range(6))
    parts = [taken(whole, np.array(k)) for k in ([4, 1], [0], [5, 3, 2])]
    assert [p.indices.tolist() for p in parts] == [[4, 1], [0], [5, 3, 2]]
    same(taken(joined(parts), np.argsort([4, 1, 0, 5, 3, 2])), whole)
    k = int(np.flatnonzero(parts[0].instances.frame == 1)[0])
    row = int(np.flatnonzero(whole.instances.frame == 1)[0])
    np.testing.assert_array_equal(
        parts[0].buffers.amodal.mask(k, whole.size), whole.buffers.amodal.mask(row, whole.size)
    )


def test_when_the_tries_run_out():
    never = {"count_visible": [9, 9], "tries": 3}
    kept = frames(spec(never), indices=range(5))
    assert not kept.obeys.any()
    assert kept.attempt.tolist() == [2] * 5
    np.testing.assert_array_equal(kept.images, frames(spec(), attempt_seed(3, 2), range(5)).images)
    with pytest.raises(SceneError, match="rules: frame 7 breaks count_visible in each of 3 tries"):
        frames(spec({**never, "on_failure": "error"}), indices=[7])


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"tries": 3}, "expected at least one of min_visible_fraction"),
        ({"count_visible": [3, 2]}, r"expected \[least, most\], got \[3, 2\]"),
        ({"max_truncated": 1.5}, "less than or equal to 1"),
        ({"max_truncated": 0.5, "groups": ["y"]}, "'y' is no group with a class"),
    ],
)
def test_mistakes_are_named(rules, text):
    with pytest.raises(ValueError, match=text):
        spec(rules)


def test_datasets_say_how_often_and_do_not_depend_on_workers(tmp_path):
    scene = spec(
        {"count_visible": [2, 2], "tries": 4}, sensor={"native_px": 300}, image={"size": [32, 40]}
    ).canonical()
    (tmp_path / "scene.yaml").write_text(json.dumps(scene))
    for workers in (1, 2):
        out = tmp_path / str(workers)
        args = ["render", str(tmp_path), "-n", "8", "-o", str(out), "--workers", str(workers), "--json"]
        result = CliRunner().invoke(cli.app, args)
        assert result.exit_code == 0, result.output
    manifest = json.loads((out / "dataset.json").read_text())
    table = pq.read_table(out / "frames.parquet").to_pydict()
    attempt = np.array(table["attempt"])
    assert manifest["rules"] == {
        "drawn_again": int((attempt > 0).sum()), "draws": int((attempt + 1).sum()), "broken": table["obeys_rules"].count(False)
    }  # fmt: skip
    assert 0 < manifest["rules"]["drawn_again"] < 8
    assert json.loads(result.stdout)["rules"] == manifest["rules"]
    assert (tmp_path / "1" / "dataset.json").read_bytes() == (tmp_path / "2" / "dataset.json").read_bytes()
    assert CliRunner().invoke(cli.app, ["verify", str(out)]).exit_code == 0
