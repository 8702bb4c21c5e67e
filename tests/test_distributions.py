import math
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from scipy import stats

from imgsynth import distributions as d
from imgsynth.distributions import Distribution, DistributionError, parse
from imgsynth.errors import ImgsynthError
from imgsynth.geometry import quat_from_axis_angle, quat_multiply, quat_to_matrix, rotate
from imgsynth.seeding import uniforms

N = 20000
ALPHA = 1e-3  # some fifty tests of fit share this file: together they err at about 5 %


def draw(law: Distribution, n: int = N, seed: int = 0, env: Any = None) -> np.ndarray:
    return law.ppf(uniforms(seed, ["x"], np.arange(n), law.dims)[:, 0], env)


CONTINUOUS = {
    "uniform": ({"uniform": [-2, 3]}, stats.uniform(-2, 5)),
    "log_uniform": ({"log_uniform": [0.01, 10]}, stats.loguniform(0.01, 10)),
    "normal": ({"normal": [3, 2]}, stats.norm(3, 2)),
    "normal, low": ({"normal": {"mean": 0, "sd": 1, "low": 0.5}}, stats.truncnorm(0.5, np.inf)),
    "normal, high": ({"normal": {"mean": 1, "sd": 2, "high": 0}}, stats.truncnorm(-np.inf, -0.5, 1, 2)),
    "normal, both": ({"normal": {"mean": 1, "sd": 2, "low": 0, "high": 2}}, stats.truncnorm(-0.5, 0.5, 1, 2)),
    "normal, tail": ({"normal": {"mean": 0, "sd": 1, "low": 9, "high": 11}}, stats.truncnorm(9, 11)),
    "beta": ({"beta": {"a": 2, "b": 5}}, stats.beta(2, 5)),
    "beta, moved": ({"beta": {"a": 0.5, "b": 0.7, "low": -1, "high": 3}}, stats.beta(0.5, 0.7, -1, 4)),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_laws(name):
    node, expected = CONTINUOUS[name]
    law = parse(node)
    assert stats.kstest(draw(law), expected.cdf).pvalue > ALPHA
    assert law.mean() == pytest.approx(expected.mean(), rel=1e-6, abs=1e-9)
    assert law.median() == pytest.approx(expected.median(), rel=1e-6, abs=1e-9)
    assert law.support() == pytest.approx(expected.support())
    assert law.kind == "number" and law.event_shape == () and law.dims == 1


DISCRETE = [
    ({"integer": [2, 12]}, list(range(2, 13)), [1] * 11),
    ({"integer": [-3, -3]}, [-3], [1]),
    ({"choice": [1.5, 2, 7]}, [1.5, 2, 7], [1, 1, 1]),
    ({"choice": {"a": 1, "b": 3, "c": 0}}, ["a", "b"], [1, 3]),
    ({"choice": {"values": [0, 1, 2], "weights": [0, 2, 5]}}, [1, 2], [2, 5]),
    ({"choice": {True: 1, False: 4}}, [True, False], [1, 4]),
    ({"bernoulli": 0.3}, [True, False], [0.3, 0.7]),
    ({"bernoulli": 1}, [True], [1]),
    ({"mixture": [{"weight": 1, "of": 4}, {"weight": 2, "of": {"integer": [4, 5]}}]}, [4, 5], [2, 1]),
    (7, [7], [1]),
    ("cat", ["cat"], [1]),
]


@pytest.mark.parametrize(("node", "values", "weights"), DISCRETE)
def test_discrete_laws(node, values, weights):
    law = parse(node)
    sample = draw(law)
    counts = [(sample == v).sum() for v in values]
    assert sum(counts) == N
    expected = N * np.array(weights) / np.sum(weights)
    assert len(values) == 1 or stats.chisquare(counts, expected).pvalue > ALPHA
    assert law.median() in values and type(law.median()) is not np.ndarray
    if isinstance(values[0], str):
        assert sorted(law.support()) == sorted(values)
        with pytest.raises(DistributionError, match="mean"):
            law.mean()
    else:
        assert law.mean() == pytest.approx(np.average(np.array(values, float), weights=weights))


def test_types_of_samples():
    assert draw(parse({"integer": [0, 3]})).dtype == np.int64 and parse({"integer": [0, 3]}).integral
    assert draw(parse(3)).dtype == np.int64 and parse(3.0).integral and not parse(3.5).integral
    assert draw(parse({"bernoulli": 0.5})).dtype == bool and draw(parse(True)).dtype == bool
    assert draw(parse({"choice": ["a", "bb"]})).dtype.kind == "U"
    assert parse(np.float64(2.5)) == d.Constant(2.5) and parse(np.int32(2)).to_yaml() == 2
    assert type(parse(np.int32(2)).to_yaml()) is int


def test_mixture_of_continuous_laws():
    law = parse({"mixture": [{"weight": 3, "of": {"uniform": [0, 1]}}, {"of": {"normal": [5, 0.5]}}]})
    sample = draw(law)
    assert (
        stats.kstest(sample, lambda x: 0.75 * stats.uniform.cdf(x) + 0.25 * stats.norm.cdf(x, 5, 0.5)).pvalue
        > ALPHA
    )
    assert law.mean() == pytest.approx(0.75 * 0.5 + 0.25 * 5)
    assert law.dims == 2 and law.support() == (-math.inf, math.inf)


def test_mixture_of_vectors_and_of_different_dims():
    law = parse({"mixture": [{"of": {"ball": {"radius": 1}}}, {"weight": 2, "of": [7, 8, 9]}]})
    sample = draw(law)
    constant = (sample == [7, 8, 9]).all(axis=1)
    assert stats.binomtest(int(constant.sum()), N, 2 / 3).pvalue > ALPHA
    assert (np.linalg.norm(sample[~constant], axis=1) <= 1).all()
    assert law.support()[1].tolist() == [7, 8, 9]


def sphere_frame(law, axis):
    """Height along the axis, and azimuth about it, of samples."""
    v = draw(law)
    assert np.allclose(np.linalg.norm(v, axis=1), 1)
    axis = np.array(axis) / np.linalg.norm(axis)
    side = np.cross(axis, [0.1, 0.7, -0.3])
    side /= np.linalg.norm(side)
    return v @ axis, np.arctan2(v @ np.cross(axis, side), v @ side)


@pytest.mark.parametrize(
    ("node", "axis", "inner", "outer"),
    [
        ({"sphere": {}}, [0, 0, 1], 0, 180),
        ({"hemisphere": {"axis": [0, 2, 0]}}, [0, 1, 0], 0, 90),
        ({"cap": {"axis": [1, -1, 0.5], "angle_deg": 35}}, [1, -1, 0.5], 0, 35),
        ({"cap": {"axis": [0, 0, -1], "angle_deg": [60, 100]}}, [0, 0, -1], 60, 100),
    ],
)
def test_directions_are_uniform_by_area(node, axis, inner, outer):
    """Archimedes: the height is uniform, the azimuth too, and they are independent."""
    law = parse(node)
    z, phi = sphere_frame(law, axis)
    low, high = math.cos(math.radians(outer)), math.cos(math.radians(inner))
    assert stats.kstest(z, stats.uniform(low, high - low).cdf).pvalue > ALPHA
    assert stats.kstest(phi, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > ALPHA
    assert abs(stats.spearmanr(z, phi)[0]) < 4 / math.sqrt(N)
    assert np.allclose(law.mean(), np.array(axis) / np.linalg.norm(axis) * (low + high) / 2)
    assert law.kind == "direction"


@settings(max_examples=40)
@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    st.floats(0, 180),
    st.floats(0, 180),
)
def test_support_of_a_ring_is_its_bounding_box(axis, a, b):
    law = parse({"cap": {"axis": axis, "angle_deg": sorted([a, b])}})
    low, high = law.support()
    sample = draw(law, 400)
    assert (sample >= low - 1e-9).all() and (sample <= high + 1e-9).all()
    # Tight: the extreme of x is taken on the ring where it comes closest to the x axis.
    angles = np.radians(np.linspace(*sorted([a, b]), 200))
    tilt = math.acos(np.clip(axis[0] / np.linalg.norm(axis), -1, 1))
    assert high[0] == pytest.approx(np.cos(angles - tilt).max(), abs=2e-3)


def rotation_angle(q):
    return 2 * np.arccos(np.clip(np.abs(q[:, 0]), 0, 1))


def test_uniform_rotations():
    """The angle has density (1 - cos θ) / π, the axis is uniform, and the law is invariant."""
    law = parse({"rotation": "uniform"})
    q = draw(law)
    assert (q[:, 0] >= 0).all() and np.allclose(np.linalg.norm(q, axis=1), 1)
    assert stats.kstest(rotation_angle(q), lambda t: (t - np.sin(t)) / math.pi).pvalue > ALPHA
    axis = q[:, 1:] / np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
    for i in range(3):
        assert stats.kstest(axis[:, i], stats.uniform(-1, 2).cdf).pvalue > ALPHA
        assert stats.kstest(quat_to_matrix(q)[:, i, 1], stats.uniform(-1, 2).cdf).pvalue > ALPHA
    turned = quat_multiply(quat_from_axis_angle([1, 2, 3], 77), q)
    assert stats.kstest(rotation_angle(turned), lambda t: (t - np.sin(t)) / math.pi).pvalue > ALPHA
    assert law.mean() == pytest.approx([4 / (3 * math.pi), 0, 0, 0])
    assert q.mean(axis=0) == pytest.approx(law.mean(), abs=4 / math.sqrt(N))


def test_rotations_about_an_axis():
    law = parse({"rotation": {"axis": [0, 3, 0], "angle_deg": {"uniform": [-60, 60]}}})
    q = draw(law)
    degrees = np.degrees(2 * np.arctan2(q[:, 2], q[:, 0]))
    assert stats.kstest(degrees, stats.uniform(-60, 120).cdf).pvalue > ALPHA
    assert np.allclose(q[:, [1, 3]], 0)
    assert law.median().tolist() == [1, 0, 0, 0]
    assert np.allclose(
        draw(parse({"rotation": {"axis": [0, 0, 1], "angle_deg": 270}}), 1), [[0.5**0.5, 0, 0, -(0.5**0.5)]]
    )


@pytest.mark.parametrize("twist", [False, True])
def test_rotations_within_a_cone(twist):
    axis = np.array([1.0, 2, 2]) / 3
    law = parse({"rotation": {"cone": {"axis": [1, 2, 2], "angle_deg": 40, "twist": twist}}})
    assert law.dims == 2 + twist
    q = draw(law)
    z = rotate(q, axis) @ axis
    low = math.cos(math.radians(40))
    assert stats.kstest(z, stats.uniform(low, 1 - low).cdf).pvalue > ALPHA
    if twist:
        swing = 2 * np.arctan2(q[:, 1:] @ axis, q[:, 0]) % (2 * math.pi)
        assert stats.kstest(swing, stats.uniform(0, 2 * math.pi).cdf).pvalue > ALPHA
    else:
        assert np.allclose(q[:, 1:] @ axis, 0, atol=1e-9)
        assert np.allclose(rotation_angle(q), np.arccos(z), atol=1e-6)


def test_euler_rotation_is_rz_ry_rx():
    q = draw(parse({"rotation": {"euler_deg": [30, 40, {"uniform": [50, 50]}]}}), 2)
    r = [
        quat_to_matrix(quat_from_axis_angle(axis, a)) for axis, a in zip(np.eye(3), (30, 40, 50), strict=True)
    ]
    assert np.allclose(quat_to_matrix(q), r[2] @ r[1] @ r[0])


@pytest.mark.parametrize("center", [[1, 2], [1, 2, 3]])
def test_disc(center):
    """r² is uniform, the angle too."""
    law = parse({"disc": {"radius": 2, "center": center}})
    offset = draw(law) - center
    assert offset.shape == (N, len(center)) and (offset[:, 2:] == 0).all()
    assert stats.kstest((offset[:, :2] ** 2).sum(axis=1) / 4, "uniform").pvalue > ALPHA
    assert (
        stats.kstest(np.arctan2(offset[:, 1], offset[:, 0]), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue
        > ALPHA
    )
    assert law.mean().tolist() == center


def test_ball():
    """r³ is uniform, the direction too."""
    law = parse({"ball": {"radius": 2, "center": [1, 2, 3]}})
    offset = draw(law) - [1, 2, 3]
    r = np.linalg.norm(offset, axis=1)
    assert stats.kstest((r / 2) ** 3, "uniform").pvalue > ALPHA
    assert stats.kstest(offset[:, 1] / r, stats.uniform(-1, 2).cdf).pvalue > ALPHA
    assert abs(stats.spearmanr(offset[:, 1] / r, r)[0]) < 4 / math.sqrt(N)


def test_box():
    law = parse({"box": {"low": [-1, 0, 2], "high": [1, 0.5, 2]}})
    sample = draw(law)
    for i, expected in enumerate([stats.uniform(-1, 2), stats.uniform(0, 0.5)]):
        assert stats.kstest(sample[:, i], expected.cdf).pvalue > ALPHA
    assert (sample[:, 2] == 2).all()
    assert law.mean().tolist() == [0, 0.25, 2]


def test_colours():
    sample = draw(parse({"rgb": [{"uniform": [0, 1]}, 0.25, {"beta": {"a": 2, "b": 2}}]}))
    assert stats.kstest(sample[:, 0], "uniform").pvalue > ALPHA and (sample[:, 1] == 0.25).all()
    assert abs(np.corrcoef(sample[:, 0], sample[:, 2])[0, 1]) < 4 / math.sqrt(N)
    hues = draw(parse({"hsv": [{"uniform": [0, 360]}, 1, {"uniform": [0.5, 1]}]}))
    assert (hues.min(axis=1) == 0).all() and stats.kstest(
        hues.max(axis=1), stats.uniform(0.5, 0.5).cdf
    ).pvalue > ALPHA
    assert parse("#ff8000").median() == pytest.approx([1, 128 / 255, 0])
    assert parse("Teal", "color") == parse("#008080")
    assert parse("#fff", "text") == d.Constant("#fff")


def test_vector_is_an_independent_product():
    law = parse([{"uniform": [0, 1]}, 3, {"normal": [0, 1]}])
    sample = draw(law)
    assert law.dims == 2 and (sample[:, 1] == 3).all()
    assert (
        stats.kstest(sample[:, 0], "uniform").pvalue > ALPHA
        and stats.kstest(sample[:, 2], "norm").pvalue > 0.01
    )
    assert abs(np.corrcoef(sample[:, 0], sample[:, 2])[0, 1]) < 4 / math.sqrt(N)


# Every YAML form once: what holds for all distributions.
ALL: list[tuple[Any, str | None]] = [
    *[(node, None) for node, _ in CONTINUOUS.values()],
    *[(node, None) for node, _, _ in DISCRETE],
    (2.5, None),
    (False, None),
    ([1, 2.5], None),
    ({"choice": [[0, 1], [1, 0]]}, None),
    ("#ff8000", None),
    ("red", "color"),
    ({"rgb": [0.1, {"uniform": [0, 1]}, {"choice": [0, 1]}]}, None),
    ({"hsv": [{"normal": [0, 20]}, {"uniform": [0.5, 1]}, 0.9]}, None),
    ({"choice": {"red": 2, "#00f": 1}}, "color"),
    ({"mixture": [{"of": "red"}, {"weight": 2, "of": {"hsv": [120, 1, {"uniform": [0, 1]}]}}]}, "color"),
    ([0, 3, 4], "direction"),
    ({"direction": [1, 1, 1]}, None),
    ({"choice": [[1, 0, 0], {"sphere": {}}]}, "direction"),
    ({"sphere": {}}, None),
    ({"hemisphere": {}}, None),
    ({"cap": {"axis": [1, 2, 3], "angle_deg": 20}}, None),
    ({"cap": {"angle_deg": [20, 25]}}, None),
    ({"rotation": "uniform"}, None),
    ("uniform", "rotation"),
    ("identity", "rotation"),
    ({"rotation": {"quaternion": [-1, 2, 0, 0.5]}}, None),
    ({"axis": [0, 1, 1], "angle_deg": {"uniform": [0, 360]}}, "rotation"),
    ({"rotation": {"cone": {"angle_deg": 30}}}, None),
    ({"cone": {"axis": [0, 1, 0], "angle_deg": 180, "twist": True}}, "rotation"),
    ({"rotation": {"euler_deg": [0, {"uniform": [-5, 5]}, 90]}}, None),
    ({"box": {"low": [0, 0], "high": [1, 2]}}, None),
    ({"disc": {"radius": 0.5}}, None),
    ({"ball": {"radius": 0.5, "center": [0, 0, 1]}}, None),
]


@pytest.mark.parametrize(("node", "expect"), ALL)
def test_conformance(node, expect):
    law = parse(node, expect)
    assert parse(law.to_yaml(), law.kind) == law and parse(law) is law
    assert hash(parse(law.to_yaml(), law.kind)) == hash(law) and len({law, parse(node, expect)}) == 1
    assert law.names == () and type(law).__name__ in repr(law)
    sample = draw(law, 4000)
    assert sample.shape == (4000, *law.event_shape)
    u = uniforms(0, ["x"], np.arange(24), law.dims)[:, 0]
    assert (law.ppf(u.reshape(2, 3, 4, law.dims)).reshape(24, *law.event_shape) == sample[:24]).all()
    assert np.array_equal(law.ppf(np.full((1, law.dims), 0.5))[0], law.median())
    assert law != parse({"uniform": [0.123, 0.456]})
    if law.kind in ("text", "boolean"):
        assert set(sample.tolist()) <= set(law.support())
    else:
        low, high = law.support()
        assert (sample >= low - 1e-12).all() and (sample <= high + 1e-12).all()
    if law.kind != "text":
        spread = sample.std(axis=0) / math.sqrt(4000)
        assert (np.abs(sample.mean(axis=0) - law.mean()) <= 4.5 * spread + 2e-6).all()


@pytest.mark.parametrize("a", range(len(ALL)))
def test_laws_differ(a):
    """Equality is by value: each form of the list equals itself only (two pairs say the same thing)."""
    law = parse(*ALL[a])
    same = [b for b in range(len(ALL)) if parse(*ALL[b]) == law]
    assert a in same and len(same) <= 2


def test_equality_tells_true_from_one():
    assert parse(True) != parse(1) and parse(1) == parse(1.0) and hash(parse(1)) == hash(parse(1.0))
    assert parse({"choice": [True, False]}) != parse({"choice": [1, 0]})


def test_immutable():
    with pytest.raises(AttributeError):
        parse({"uniform": [0, 1]}).low = 3  # type: ignore[attr-defined]


finite = st.floats(-1e6, 1e6)
ordered = st.tuples(finite, finite).map(sorted)
positive = st.floats(1e-3, 1e3)
scalars: st.SearchStrategy[Any] = st.one_of(
    finite,
    st.integers(-(2**40), 2**40),
    ordered.map(lambda p: {"uniform": p}),
    st.tuples(positive, positive).map(lambda p: {"log_uniform": sorted(p)}),
    st.tuples(finite, positive).map(lambda p: {"normal": list(p)}),
    st.tuples(finite, positive, finite, positive).map(
        lambda t: {"normal": {"mean": t[0], "sd": t[1], "low": t[2], "high": t[2] + t[3]}}
    ),
    st.tuples(st.floats(0.05, 200), st.floats(0.05, 200), ordered).map(
        lambda t: {"beta": {"a": t[0], "b": t[1], "low": t[2][0], "high": t[2][1]}}
    ),
    st.tuples(st.integers(-(2**40), 2**40), st.integers(0, 2**40)).map(
        lambda t: {"integer": [t[0], t[0] + t[1]]}
    ),
    st.lists(st.tuples(finite, positive), min_size=1, max_size=5).map(
        lambda ps: {"choice": {"values": [v for v, _ in ps], "weights": [w for _, w in ps]}}
    ),
)
numbers = st.recursive(
    scalars,
    lambda inner: st.lists(st.tuples(positive, inner), min_size=1, max_size=3).map(
        lambda ps: {"mixture": [{"weight": w, "of": law} for w, law in ps]}
    ),
    max_leaves=4,
)
forms = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=4))


@settings(max_examples=150)
@given(forms, st.integers(0, 2**32))
def test_any_form_round_trips_and_stays_in_its_support(node, seed):
    law = parse(node)
    assert parse(law.to_yaml()) == law
    sample = draw(law, 64, seed)
    low, high = law.support()
    assert np.isfinite(sample).all()
    assert (sample >= low).all() and (sample <= high).all()
    assert np.all(law.mean() >= np.asarray(low) - 1e-6 * np.abs(low))
    assert np.all(law.mean() <= np.asarray(high) + 1e-6 * np.abs(high))


@settings(max_examples=60)
@given(scalars, st.lists(st.floats(1e-12, 1 - 1e-12), min_size=2, max_size=20))
def test_inverse_cdfs_of_numbers_never_fall(node, us):
    law = parse(node)
    if not isinstance(law, d.Choice):
        values = law.ppf(np.tile(np.sort(us)[:, None], law.dims))
        assert (np.diff(values) >= -1e-9 * np.abs(values[1:])).all()


BAD = [
    ({"unifrom": [0, 1]}, "did you mean 'uniform'"),
    ({"gaussian": [0, 1]}, "the kinds are uniform"),
    ({"uniform": [1, 0]}, "low <= high"),
    ({"uniform": [0]}, r"uniform: \[low, high\], got \[0\]"),
    ({"uniform": [0, float("nan")]}, "finite"),
    ({"uniform": [0, float("inf")]}, "finite"),
    ({"uniform": [False, 1]}, "number"),
    ({"uniform": ["0", 1]}, "number"),
    ({"uniform": [0, 10**400]}, "finite"),
    (float("nan"), "finite"),
    (None, "null"),
    ({}, "one kind"),
    ({"uniform": [0, 1], "normal": [0, 1]}, "one kind"),
    ({"log_uniform": [0, 1]}, "low > 0"),
    ({"normal": [0, 0]}, "sd > 0"),
    ({"normal": {"mean": 0, "sd": 1, "low": 2, "high": 1}}, "low < high"),
    ({"normal": {"mean": 0, "sd": 1, "low": float("nan")}}, "finite"),
    ({"normal": {"mean": 0}}, "no 'sd'"),
    ({"normal": {"mean": 0, "sd": 1, "hihg": 1}}, "did you mean 'high'"),
    ({"beta": {"a": 0, "b": 1}}, "a > 0"),
    ({"choice": []}, "at least one"),
    ({"choice": [1, "a"]}, "one type"),
    ({"choice": [True, 1]}, "one type"),
    ({"choice": [[1, 2], [1, 2, 3]]}, "one type and length"),
    ({"choice": {"a": -1, "b": 2}}, "weights >= 0"),
    ({"choice": {"a": 0}}, "positive sum"),
    ({"choice": {"values": [1, 2], "weights": [1]}}, "2 weights"),
    ({"choice": [{"uniform": [0, 1]}]}, "mixture"),
    ({"integer": [0.5, 2]}, "whole"),
    ({"integer": [3, 2]}, "low <= high"),
    ({"bernoulli": 1.5}, r"\[0, 1\]"),
    ({"mixture": []}, "at least one"),
    ({"mixture": [{"of": 1}, {"of": "a"}]}, "one kind"),
    ({"mixture": [{"off": 1}]}, "did you mean 'of'"),
    ({"rgb": [0, 0, 2]}, "blue within"),
    ({"rgb": [255, 0, 0]}, "red within"),
    ({"rgb": [0, 0]}, "three"),
    ({"hsv": [0, {"uniform": [0, 2]}, 1]}, "saturation within"),
    ({"direction": [0, 0, 0]}, "non-zero"),
    ({"cap": {"angle_deg": 200}}, "180"),
    ({"cap": {"angle_deg": [30, 20]}}, "inner <= outer"),
    ({"rotation": "random"}, "rotation"),
    ({"rotation": {"cone": {"angle_deg": 10, "twist": 1}}}, "true or false"),
    ({"rotation": {"axis": [0, 0, 0], "angle_deg": 1}}, "non-zero"),
    ({"rotation": {"axis": [0, 0, 1]}}, "angle_deg"),
    ({"rotation": {"quaternion": [0, 0, 0, 0]}}, "non-zero"),
    ({"box": {"low": [0, 1], "high": [1, 0]}}, "low <= high"),
    ({"box": {"low": [0, 0], "high": [1, 1, 1]}}, "2 numbers"),
    ({"disc": {"radius": -1}}, "radius >= 0"),
    ({"ball": {"radius": 1, "center": [0, 0]}}, "3 numbers"),
    ([], "at least one"),
    (["a", "b"], "numbers"),
    ([[1, 2], 3], "numbers"),
]


@pytest.mark.parametrize(("node", "message"), BAD)
def test_what_is_refused_and_why(node, message):
    with pytest.raises(DistributionError, match=message) as caught:
        parse(node)
    assert isinstance(caught.value, ImgsynthError) and isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_nesting_is_limited():
    node: Any = 1
    for _ in range(10000):
        node = {"mixture": [{"of": node}]}
    with pytest.raises(DistributionError, match="nesting"):
        parse(node)


def test_unknown_colour_name():
    with pytest.raises(DistributionError, match="'rde'"):
        parse("rde", "color")


class Model(BaseModel):
    radius: Annotated[Distribution, d.number(gt=0)] = d.Constant(0.5)
    share: Annotated[Distribution, d.number(ge=0, le=1)] = d.Constant(0)
    count: Annotated[Distribution, d.integer(ge=1, le=12)] = d.Constant(1)
    on: Annotated[Distribution, d.boolean()] = d.Constant(True)
    mode: Annotated[Distribution, d.text(("drop", "stack"))] = d.Constant("drop")
    paint: Annotated[Distribution, d.color()] = parse("red", "color")
    sun: Annotated[Distribution, d.direction()] = d.Cap()
    pose: Annotated[Distribution, d.rotation()] = d.UniformRotation()
    at: Annotated[Distribution, d.point(3)] = parse([0, 0, 0])
    size: Annotated[Distribution, d.vector(2, gt=0)] = parse([1, 1])


GOOD_FIELDS = [
    ("radius", {"log_uniform": [0.1, 1]}),
    ("radius", {"expr": "count * -2"}),
    ("radius", {"mixture": [{"of": 1}, {"of": {"expr": "share"}}]}),
    ("radius", {"normal": {"mean": 0, "sd": 1, "low": 0.1}}),
    ("share", {"beta": {"a": 1, "b": 2}}),
    ("share", 1),
    ("count", {"integer": [2, 12]}),
    ("count", {"choice": [1, 2.0]}),
    ("count", 3),
    ("on", {"bernoulli": 0.2}),
    ("mode", {"choice": {"drop": 1, "stack": 2}}),
    ("mode", {"mixture": [{"of": "drop"}, {"of": {"expr": "other.mode"}}]}),
    ("paint", "#abc"),
    ("paint", {"choice": ["red", "navy"]}),
    ("paint", {"rgb": [{"expr": "share"}, 0, 0]}),
    ("sun", [1, 1, 1]),
    ("sun", {"hemisphere": {}}),
    ("pose", "identity"),
    ("pose", {"axis": [0, 0, 1], "angle_deg": {"uniform": [0, 360]}}),
    ("at", {"box": {"low": [0, 0, 0], "high": [1, 1, 1]}}),
    ("at", [{"uniform": [0, 1]}, 0, {"expr": "radius"}]),
    ("at", {"disc": {"radius": 1, "center": [0, 0, 0.5]}}),
    ("size", {"box": {"low": [1, 1], "high": [2, 2]}}),
    ("size", [{"expr": "radius"}, 2]),
    ("size", {"uniform": [1, 2]}),
    ("size", {"choice": [1, 2]}),
    ("pose", {"choice": ["identity", "uniform"]}),
    ("sun", {"choice": [[0, 0, 1], [0, 1, 0]]}),
]
BAD_FIELDS = [
    ("share", {"uniform": [0, 2]}, "expected a number or distribution within [0, 1], got {uniform: [0, 2]}"),
    ("radius", 0, "expected a number or distribution > 0, got 0"),
    ("radius", {"normal": [1, 0.1]}, "> 0"),
    ("radius", True, "a boolean"),
    ("radius", "1", "a text"),
    ("radius", [1], "a vector"),
    ("count", 2.5, "expected a whole number or distribution within [1, 12], got 2.5"),
    ("count", {"uniform": [1, 2]}, "whole"),
    ("count", {"integer": [0, 3]}, "within [1, 12]"),
    ("on", 1, "true, false"),
    ("mode", "fly", "expected one of drop, stack or a distribution, got fly"),
    ("mode", {"choice": ["drop", "fly"]}, "one of drop, stack"),
    ("paint", [1, 0, 0], "{rgb: "),
    ("paint", 3, "colour"),
    ("sun", "up", "direction"),
    ("pose", [1, 0, 0, 0], "rotation"),
    ("at", [1, 2], "3 numbers"),
    ("at", {"disc": {"radius": 1}}, "3 numbers"),
    ("size", [{"expr": "radius"}, -2], "2 numbers or a distribution > 0"),
]


@pytest.mark.parametrize(("name", "node"), GOOD_FIELDS)
def test_fields_accept(name, node):
    model = Model(**{name: node})
    assert isinstance(getattr(model, name), Distribution)
    assert Model(**model.model_dump()) == model
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert Model(**{name: getattr(model, name)}) == model


@pytest.mark.parametrize(("name", "node", "message"), BAD_FIELDS)
def test_fields_refuse(name, node, message):
    with pytest.raises(ValidationError) as caught:
        Model(**{name: node})
    error = caught.value.errors()[0]
    assert error["loc"] == (name,) and message in error["msg"]


def test_schema_agrees_with_the_parser():
    jsonschema = pytest.importorskip("jsonschema")
    schema = Model.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name, node in GOOD_FIELDS:
        assert validator.is_valid({name: node}), (name, node)
    for name, node in [
        ("radius", 0),
        ("radius", "1"),
        ("count", 2.5),
        ("mode", "fly"),
        ("pose", "random"),
        ("sun", [1]),
    ]:
        assert not validator.is_valid({name: node}), (name, node)
    assert not validator.is_valid({"radius": {"unifrom": [0, 1]}})
    assert not validator.is_valid({"radius": {"normal": {"mean": 0, "sd": 1, "hihg": 2}}})


def test_one_law_for_all_components_is_drawn_for_each():
    law = Model(size={"uniform": [1, 2]}).size
    sample = draw(law)
    assert law.dims == 2 and abs(np.corrcoef(sample.T)[0, 1]) < 4 / math.sqrt(N)


def test_fields_check_what_expressions_yield():
    assert d.number(gt=0, le=1).check(np.array([0, 0.5, 1, 1.5, np.nan])).tolist() == [0, 1, 1, 0, 0]
    assert d.integer(ge=1).check(np.array([0.0, 1.0, 1.5])).tolist() == [0, 1, 0]
    assert d.vector(2, ge=0).check(np.array([[0, 1], [-1, 1]])).tolist() == [1, 0]
    assert d.text(("a", "b")).check(np.array(["a", "c"])).tolist() == [1, 0]
    for field, values in (
        (d.number(), np.array(["a"])),
        (d.color(), np.zeros((3, 2))),
        (d.boolean(), np.zeros(2)),
    ):
        with pytest.raises(DistributionError, match="expected"):
            field.check(values)


ENV = {
    "a": np.array([1.0, 2.0, 3.0]),
    "n": np.array([1, 2, 3]),
    "b.c": np.array([True, False, True]),
    "objects.die[0].size": np.array([0.5, 0.25, 4.0]),
    "camera.at": np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "mode": np.array(["x", "y", "x"]),
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("2 * a + 0.5", [2.5, 4.5, 6.5]),
        ("-a ** 2", [-1, -4, -9]),
        ("a // 2 + a % 2 - +a / 2", [0.5, 0, 0.5]),
        ("min(a, 2) + max(a, 2, n)", [3, 4, 5]),
        ("objects.die[0].size * n", [0.5, 0.5, 12]),
        ("camera.at[1] + a", [3, 7, 11]),
        ("a if b.c else -a", [1, -2, 3]),
        ("1 < a < 3", [False, True, False]),
        ("(a > 1 and not b.c) or a == 1", [True, True, False]),
        ("where(mode == 'x', a, 10)", [1, 10, 3]),
        ("where(a > 2, log(a - 2), 0)", [0, 0, 0]),
        ("sin_deg(90 * a) + cos_deg(0 * a) + tan_deg(45)", [3, 2, 1]),
        (
            "clip(a, 1.5, 2.5) + abs(-1) + sqrt(4) + exp(0) + floor(0.7) + ceil(0.2) + round(1.2)",
            [7.5, 8, 8.5],
        ),
        ("'u' if b.c else 'v'", ["u", "v", "u"]),
        ("camera.at", ENV["camera.at"].tolist()),
        ("mode", ["x", "y", "x"]),
        ("n", [1, 2, 3]),
    ],
)
def test_expressions(source, expected):
    law = parse({"expr": source})
    value = law.ppf(np.zeros((3, 0)), ENV)
    assert value.tolist() == (expected if isinstance(expected[0], str | list) else pytest.approx(expected))
    assert parse(law.to_yaml()) == law


def test_expressions_align_frames_never_components():
    """Three frames times three components: a scalar per frame multiplies rows."""
    value = parse({"expr": "camera.at * a"}).ppf(np.zeros((3, 0)), ENV)
    assert value.tolist() == (ENV["camera.at"] * ENV["a"][:, None]).tolist()


def test_expression_names_and_constants():
    law = parse({"expr": "max(a.b, c[2].d) * a.b + f"})
    assert isinstance(law, d.Expression)
    assert law.names == ("a.b", "c[2].d", "f") and law.reference is None and law.kind == "reference"
    assert d.Expression("a.b[3]").reference == "a.b[3]" and d.split_component("a.b[3]") == ("a.b", 3)
    assert d.split_component("a.b") is None
    assert parse({"expr": "2 ** 0.5"}).ppf(np.zeros((4, 0))).tolist() == [2**0.5] * 4
    mixed = parse([{"expr": "a"}, {"uniform": [0, 1]}, {"mixture": [{"of": {"expr": "n"}}, {"of": 3}]}])
    assert mixed.names == ("a", "n") and draw(mixed, 3, env=ENV).shape == (3, 3)
    assert (draw(mixed, 3, env=ENV)[:, 0] == ENV["a"]).all()


HOSTILE = [
    "__import__('os').system('true')",
    "(1).__class__.__bases__",
    "a.__class__()",
    "[x for x in a]",
    "lambda: 1",
    "a[b]",
    "a['b']",
    "a[-1]",
    "f'{a}'",
    "(a := 3)",
    "{1: 2}",
    "[1, 2]",
    "a @ a",
    "a << 3",
    "a is a",
    "a in a",
    "~a",
    "min(*a)",
    "clip(a, low=1, high=2)",
    "sqrt(1, 2)",
    "eval(a)",
    "1j",
    "None",
    "b'x'",
    "...",
    "a; b",
    "a = 1",
    "",
    "   ",
    "a +",
    "(" * 300,
    "-" * 400 + "1",
    "+".join(["a"] * 249),
    "a" * 501,
    "a" + ".b" * 240,
    "9" * 450,
    "\x00",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_expressions_are_refused_unread(source):
    with pytest.raises(DistributionError) as caught:
        parse({"expr": source})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("9 ** 9 ** 9 ** 9", "finite"),
        ("10 ** 299 * 10 ** 299", "finite"),
        ("1 / (a - 1)", "finite"),
        ("log(a - 2)", "finite"),
        ("'ab' * 1000000000", "text"),
        ("mode + 1", "text"),
        ("mode < 'b'", "compare"),
        ("mode == 1", "compare"),
        ("where(b.c, mode, 1)", "one of each"),
        ("a + camera.att", "did you mean camera.at"),
        ("camera.at[3]", "name of a leaf"),
    ],
)
def test_expressions_that_fail_when_sampled(source, message):
    with pytest.raises(DistributionError, match=message):
        parse({"expr": source}).ppf(np.zeros((3, 0)), ENV)


@pytest.mark.parametrize("source", [3, None, ["a"], {"a": 1}])
def test_an_expression_is_a_text(source):
    with pytest.raises(DistributionError, match="expression"):
        parse({"expr": source})


def test_unknown_function_names_the_nearest():
    with pytest.raises(DistributionError, match="did you mean sqrt"):
        parse({"expr": "sqr(a)"})


def test_an_expression_has_no_law_of_its_own():
    law = parse({"expr": "a + 1"})
    for method in (law.mean, law.median):
        with pytest.raises(DistributionError, match="expression"):
            method()
