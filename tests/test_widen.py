"""Widening: medians stay, other draws are equal to the byte, nothing leaves what a leaf accepts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsynth import scenefile
from imgsynth.distributions import number, parse
from imgsynth.distributions.fields import Field
from imgsynth.errors import SceneError
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec
from imgsynth.widen import as_sets, branches, chosen_leaves, class_leaves, moved, scaled, tunable, widened

FRAMES = np.arange(200)
ANY = Field("number")

SCENE = {
    "name": "pair",
    "classes": ["a", "b"],
    "image": {"size": [8, 8]},
    "variables": {"which": {"choice": [0, 1]}, "size": {"uniform": [0.5, 1.5]}},
    "light": {"sun": None, "ambient": {"radiance": {"uniform": [0.2, 0.6]}}},
    "objects": {
        "thing": {
            "count": {"integer": [1, 3]},
            "class": {"choice": {"values": ["a", "b"], "weights": [3, 1]}},
            "shape": {"box": {"size": [0.1, 0.1, 0.1]}},
            "scale": {"normal": {"mean": 1, "sd": 0.1, "low": 0.7, "high": 1.2}},
            "material": {
                "roughness": {"uniform": [0.5, 1]},
                "color": {"hsv": [{"uniform": [0, 60]}, 1, 0.5]},
            },
            "place": {"position": [{"uniform": [-0.1, 0.1]}, {"expr": "size"}, 0]},
        }
    },
}


@pytest.fixture(scope="module")
def spec():
    return scenefile.load(SceneSpec.model_validate(SCENE)).spec


def draws(spec):
    return Plan(spec).sample(7, FRAMES).values


numbers = st.floats(-5, 5, allow_nan=False).map(lambda v: round(v, 3))
widths = st.floats(0.01, 5, allow_nan=False).map(lambda v: round(v, 3))
laws = st.one_of(
    st.tuples(numbers, widths).map(lambda t: {"uniform": [t[0], t[0] + t[1]]}),
    st.tuples(widths, widths).map(lambda t: {"log_uniform": [t[0], t[0] * (1 + t[1])]}),
    st.tuples(numbers, widths).map(lambda t: {"normal": {"mean": t[0], "sd": t[1]}}),
    st.tuples(numbers, widths, widths).map(
        lambda t: {"normal": {"mean": t[0], "sd": t[1], "low": t[0] - t[2], "high": t[0] + 2 * t[1]}}
    ),
    st.tuples(widths, widths, numbers).map(
        lambda t: {"beta": {"a": t[0], "b": t[1], "low": t[2], "high": t[2] + 1}}
    ),
    st.tuples(st.integers(-9, 9), st.integers(0, 12)).map(lambda t: {"integer": [t[0], t[0] + t[1]]}),
)


@given(laws, st.floats(0.01, 6).map(lambda v: round(v, 2)))
def test_median_stays_and_every_quantile_scales_about_it(node, factor):
    law = parse(node, "number")
    wide = scaled(law, factor, ANY)
    u = np.linspace(0.02, 0.98, 25)[:, None]
    median = law.median()
    assert wide.dims == law.dims
    if "integer" in node:
        assert wide.median() == median
        assert abs((wide.high - wide.low) - factor * (law.high - law.low)) <= 1.5 + factor
        return
    assert wide.median() == pytest.approx(median, rel=1e-6, abs=1e-6)
    old, new = law.ppf(u), wide.ppf(u)
    if "log_uniform" in node:
        expected = median * (old / median) ** factor
    else:
        expected = median + factor * (old - median)
    assert new == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(laws, st.floats(0, 8))
def test_nothing_leaves_what_the_leaf_accepts(node, factor):
    field = number(ge=-1.0, lt=4.0)
    try:
        law = field.parse(node)
    except ValueError:
        return
    wide = scaled(law, factor, field)
    assert field.parse(wide) is wide  # refuses a support outside
    assert wide.support()[0] >= -1 and wide.support()[1] < 4


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.floats(0.01, 0.99), st.floats(1.01, 50))
def test_choices_shrink_to_the_median_and_flatten(weights, shrink, widen):
    law = parse({"choice": {"values": list(range(len(weights))), "weights": weights}}, "number")
    small, flat = scaled(law, shrink, None), scaled(law, widen, None)
    assert small.median() == law.median() and small.values == flat.values == law.values
    k = law.values.index(law.median())
    assert small.weights[k] >= law.weights[k] - 1e-12
    assert max(flat.weights) <= max(law.weights) + 1e-12 and min(flat.weights) >= min(law.weights) - 1e-12
    assert sum(flat.weights) == pytest.approx(1)


def test_other_draws_are_equal_to_the_byte(spec):
    before = draws(spec)
    for factor in (0, 0.3, 2.5):
        after = draws(widened(spec, ["objects.thing.material"], factor))
        for path, values in before.items():
            same = np.array_equal(values, after[path])
            assert same == (
                path not in ("objects.thing.material.roughness", "objects.thing.material.color")
            ), path


def test_factor_0_is_freeze(spec):
    frozen = scenefile.load(spec, freeze=["light", "objects.thing.scale"]).spec
    a, b = draws(frozen), draws(widened(spec, ["light", "objects.thing.scale"], 0))
    assert all(np.array_equal(a[path], b[path]) for path in a)
    assert widened(spec, ["light"], 1) == spec


def test_what_decides_the_class_is_left_alone(spec):
    plan = Plan(spec)
    assert class_leaves(plan) == {"objects.thing.class"}
    assert "objects.thing.class" not in chosen_leaves(plan, ["objects"])
    assert "objects.thing.place.position" not in chosen_leaves(plan, ["objects"])  # an expression in it
    with pytest.raises(SceneError, match="decides the class"):
        widened(spec, ["objects.thing.class"], 0)
    digits = scenefile.load("digits").plan()
    assert class_leaves(digits) == {"objects.digit.class", "objects.digit.shape.strokes.glyph"}


def test_paths_that_are_wrong_are_said(spec):
    for path, said in (
        ("lihgt", "names nothing that varies; did you mean 'light'"),
        ("camera.fov_deg", "does not vary"),
        ("objects.thing.place.position", "worked out from other leaves"),
    ):
        with pytest.raises(SceneError, match=said):
            widened(spec, [path], 0.5)
    with pytest.raises(SceneError, match="factor of at least 0"):
        widened(spec, ["light"], -1)


def test_branches_and_tunable(spec):
    plan = Plan(spec)
    thing = ["count", "scale", "material"]
    assert branches(plan) == ["light", *(f"objects.thing.{p}" for p in thing), "variables"]
    assert tunable(plan) == [
        "light.ambient.radiance", "objects.thing.count", "objects.thing.scale",
        "objects.thing.material.roughness", "variables.size",
    ]  # fmt: skip


@pytest.mark.parametrize("scene", ["digits", "dice", "jenga"])
def test_set_lines_make_the_widened_scene(scene):
    spec = scenefile.load(scene).spec
    for factor in (0, 0.5, 3):
        wide = widened(spec, branches(Plan(spec)), factor)
        again = scenefile.load(scene, sets=as_sets(spec, wide)).spec
        assert as_sets(wide, again) == []
        assert as_sets(spec, wide)
        scenefile.load(wide)  # valid as a whole


def test_slots_are_widened_with_their_leaf(spec):
    own = scenefile.load(spec, sets=["objects.thing[1].material.roughness={uniform: [0.2, 0.4]}"]).spec
    wide = widened(own, ["objects.thing.material.roughness"], 0.5)
    assert wide.slots == {"objects.thing[1].material.roughness": {"uniform": [0.25, 0.35]}}


def test_moved_ranges(spec):
    made = moved(
        spec,
        {
            "light.ambient.radiance": (1.0, 0.5),
            "objects.thing.scale": (-0.5, 1.0),
            "objects.thing.material.roughness": (2.0, 1.0),
            "objects.thing.count": (1.0, 1.0),
        },
    )
    leaves = {p: leaf.distribution.to_yaml() for p, leaf in Plan(made).leaves.items()}
    assert leaves["light.ambient.radiance"] == {"uniform": [0.5, 0.7]}
    assert leaves["objects.thing.scale"] == {"normal": {"mean": 0.95, "sd": 0.1, "low": 0.65, "high": 1.15}}
    assert leaves["objects.thing.material.roughness"] == {"uniform": [1, 1]}  # at its bound
    assert leaves["objects.thing.count"] == {"integer": [2, 4]}
    assert moved(spec, {"light.ambient.radiance": (0.0, 1.0)}) == spec
    with pytest.raises(SceneError, match="no range of numbers"):
        moved(spec, {"objects.thing.class": (0.0, 1.0)})
