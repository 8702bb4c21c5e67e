"""Dice: closed for all parameters, right numbers on the right faces, both chiralities, circular pips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from meshchecks import assert_sound, exact
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imgsynth.batch import F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes.dice import FACES, dice, fits
from imgsynth.shapes.surface import face_normals, volume

COUNT = dict(zip(FACES, range(1, 7), strict=True))


def pips(m: Meshes, k: int = 0) -> tuple[NDArray[np.intp], F64, F64]:
    """Face number, centre (p, 3) and rim radius (p,) of each connected set of pip triangles."""
    faces = m.faces[m.slots > 0]
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]]).T
    count = m.vertices.shape[1]
    label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)[
        1
    ]
    vertex = m.vertices[k].astype(np.float64)
    out = np.stack([m.directions[name][k] for name in FACES]).astype(np.float64)
    number, centre, radius = [], [], []
    for group in np.unique(label[faces]):
        own = vertex[label == group]
        face = int((out @ own.mean(0)).argmax())
        height = own @ out[face]
        rim = own[np.isclose(height, height.max(), atol=1e-6)]
        middle = (rim.min(0) + rim.max(0)) / 2
        number.append(face + 1)
        centre.append(middle)
        radius.append(np.linalg.norm(own - middle, axis=1).max())
    return np.array(number), np.array(centre), np.array(radius)


PARAMETERS = {
    "corner_radius": st.floats(0.01, 0.2),
    "pip_radius": st.floats(0.03, 0.12),
    "depth_share": st.floats(0, 1),
    "pip_spread": st.floats(0.15, 0.3),
    "one_scale": st.floats(0.5, 2.5),
    "turns": st.tuples(st.booleans(), st.booleans(), st.booleans()),
    "right_handed": st.booleans(),
}


@given(**PARAMETERS)
@settings(max_examples=60, deadline=None)
def test_dice_are_closed_and_outward(
    corner_radius: float,
    pip_radius: float,
    depth_share: float,
    pip_spread: float,
    one_scale: float,
    turns: tuple[bool, bool, bool],
    right_handed: bool,
) -> None:
    assume(fits(corner_radius, pip_radius, pip_spread, one_scale)[0])
    depth = depth_share * pip_radius
    m = dice(
        1.0,
        corner_radius=corner_radius,
        pip_radius=pip_radius,
        pip_depth=depth,
        pip_spread=pip_spread,
        one_scale=one_scale,
        turn_two=turns[0],
        turn_three=turns[1],
        turn_six=turns[2],
        right_handed=right_handed,
    )
    assert_sound(m)
    assert np.allclose(np.abs(m.vertices).max(1), 0.5, atol=1e-6)
    core, r = 1 - 2 * corner_radius, corner_radius
    cube = core**3 + 6 * core**2 * r + 3 * np.pi * core * r**2 + 4 / 3 * np.pi * r**3  # Steiner's formula
    p, d = np.full(21, pip_radius), np.full(21, depth)
    p[0] *= one_scale
    d[0] *= one_scale
    caps = (np.pi * d / 6 * (3 * p**2 + d**2)).sum()
    # Facets lose up to 1 % of the bevels (2nd order in 90°/6) and 20 % of a half ball in two rings.
    assert abs(volume(*exact(m)) - (cube - caps)) <= 0.02 * (1 - core**3) + 0.2 * caps


def test_volume_converges() -> None:
    r, p, d = 0.15, 0.1, 0.05
    core = 1 - 2 * r
    cube = core**3 + 6 * core**2 * r + 3 * np.pi * core * r**2 + 4 / 3 * np.pi * r**3
    m = dice(
        1.0, corner_radius=r, pip_radius=p, pip_depth=d, pip_spread=0.24, segments=128, bevel=32, rings=12
    )
    cap = np.pi * d / 6 * (3 * p**2 + d**2)
    assert volume(*exact(m)) == pytest.approx(cube - 21 * cap, abs=3e-4)
    painted = dice(
        1.0, corner_radius=r, pip_radius=p, pip_depth=0, pip_spread=0.24, segments=128, bevel=32, rings=12
    )
    assert volume(*exact(painted)) - volume(*exact(m)) == pytest.approx(21 * cap, rel=0.01)


@pytest.mark.parametrize("right_handed", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_faces_show_their_number_and_opposites_sum_to_seven(right_handed: bool, turned: bool) -> None:
    m = dice(1.0, right_handed=right_handed, turn_two=turned, turn_three=turned, turn_six=turned)
    number, centre, radius = pips(m)
    assert np.bincount(number, minlength=7).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.allclose(radius, 0.095, atol=1e-6)
    out = {name: m.directions[name][0] for name in FACES}
    for name in FACES:
        opposite = FACES[6 - COUNT[name]]
        assert np.array_equal(out[name], -out[opposite])
        assert np.allclose(centre[number == COUNT[name]] @ out[name], 0.5, atol=1e-6)
        assert np.allclose(centre[number == COUNT[name]].mean(0), 0.5 * out[name], atol=1e-6)
    # 1, 2, 3 run counter-clockwise round their corner on right-handed dice.
    handedness = np.linalg.det(np.stack([out["one"], out["two"], out["three"]]))
    assert handedness == pytest.approx(1 if right_handed else -1)
    assert out["one"].tolist() == [0, 0, 1] and out["two"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "option"), [("two", "turn_two"), ("three", "turn_three"), ("six", "turn_six")]
)
def test_turning_a_face_turns_its_pattern_by_a_quarter(name: str, option: str) -> None:
    plain, turned = dice(1.0), dice(1.0, **{option: True})
    out = plain.directions[name][0].astype(np.float64)
    (na, a, _), (nb, b, _) = pips(plain), pips(turned)
    ours_a, ours_b = a[na == COUNT[name]], b[nb == COUNT[name]]
    quarter = np.outer(out, out) + np.cross(np.eye(3), -out)  # Rodrigues' formula at 90°

    def as_set(points: F64) -> set[tuple[float, ...]]:
        return {tuple(p) for p in (np.round(points, 4) + 0.0).tolist()}

    assert as_set(ours_a) != as_set(ours_b)
    assert as_set(ours_a @ quarter.T) == as_set(ours_b)
    others = na != COUNT[name]
    assert as_set(a[others]) == as_set(b[nb != COUNT[name]])


def test_layout_is_the_usual_one() -> None:
    number, centre, _ = pips(dice(1.0, pip_spread=0.25))
    for face, expected in {
        1: {0.0},
        2: {np.sqrt(2) / 4},
        3: {0.0, np.sqrt(2) / 4},
        4: {np.sqrt(2) / 4},
        5: {0.0, np.sqrt(2) / 4},
        6: {0.25, np.sqrt(2) / 4},
    }.items():
        own = centre[number == face]
        offset = np.linalg.norm(own - own.mean(0), axis=1)
        assert set(np.round(offset, 4).tolist()) == {round(float(x), 4) for x in expected}


def test_pips_are_spherical_dimples_with_the_ideal_normals() -> None:
    p, d = 0.1, 0.04
    m = dice(1.0, pip_radius=p, pip_depth=d)
    used = np.unique(m.faces[m.slots == 2])  # the single pip, on top
    vertex, normal = m.vertices[0, used].astype(np.float64), m.normals[0, used].astype(np.float64)
    ball = (p**2 + d**2) / (2 * d)
    middle = np.array([0, 0, 0.5 - d + ball])
    assert np.allclose(np.linalg.norm(vertex - middle, axis=1), ball, atol=1e-6)
    assert np.allclose(vertex + ball * normal, middle, atol=1e-5)
    assert vertex[:, 2].min() == pytest.approx(0.5 - d, abs=1e-6)


def test_painted_pips_are_flush() -> None:
    m = dice(1.0, pip_depth=0.0)
    inside = m.slots > 0
    corners = m.vertices[0][m.faces[inside]].astype(np.float64)
    assert np.allclose(np.abs(corners).max(-1), 0.5, atol=1e-6)
    areas = np.linalg.norm(face_normals(*exact(m)), axis=1)[inside] / 2
    disc = 12 * np.sin(np.pi / 12) * 0.095**2
    assert areas.sum() == pytest.approx(21 * disc, rel=1e-4) and areas.min() > 0


def test_large_single_pip_of_its_own_slot() -> None:
    m = dice(1.0, one_scale=[1.0, 2.2])
    assert m.slot_names == ("main", "pips", "one")
    for k, expected in ((0, 0.095), (1, 0.209)):
        number, _, radius = pips(m, k)
        assert radius[number == 1] == pytest.approx(expected, abs=1e-6)
        assert np.allclose(radius[number != 1], 0.095, atol=1e-6)


def test_topology_is_constant_and_a_die_is_the_same_alone_and_in_a_batch() -> None:
    rng = np.random.default_rng(5)
    n = 9
    values = {
        "size": rng.uniform(0.01, 0.02, n),
        "corner_radius": rng.uniform(0.02, 0.14, n),
        "pip_depth": rng.uniform(0, 0.09, n),
        "right_handed": rng.random(n) < 0.5,
        "turn_six": rng.random(n) < 0.5,
    }
    batch = dice(**values)
    assert 2000 < len(batch.faces) < 4000
    for k in (0, 4, 8):
        alone = dice(**{name: value[k : k + 1] for name, value in values.items()})
        assert np.array_equal(alone.vertices[0], batch.vertices[k])
        assert np.array_equal(alone.normals[0], batch.normals[k])
        assert np.array_equal(alone.uv[0], batch.uv[k])
        assert np.array_equal(alone.faces, batch.faces)
        assert all(np.array_equal(alone.directions[f][0], batch.directions[f][k]) for f in FACES)


def test_size_is_metres() -> None:
    m = dice([0.016, 0.012])
    assert np.allclose(np.ptp(m.vertices, axis=1), [[0.016] * 3, [0.012] * 3], atol=1e-8)
    assert len(dice(np.zeros(0))) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"pip_spread": 0.3, "corner_radius": 0.15},
        {"pip_radius": 0.13, "pip_spread": 0.24},
        {"one_scale": 3.0},
        {"corner_radius": 0.0},
        {"pip_depth": 0.2},
        {"pip_depth": -0.01},
        {"size": 0.0},
    ],
)
def test_dice_that_cannot_be_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SceneError, match=next(iter(values))):
        dice(**values)
