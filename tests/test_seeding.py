import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imgsynth import seeding


def words(*values: int) -> list[np.ndarray]:
    return [np.array([v], np.uint64) for v in values]


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # Random123, tests/kat_vectors, threefry2x64 20
        ((0, 0), (0, 0), (0xC2B6E3A8C2C69865, 0x6F81ED42F350084D)),
        ((2**64 - 1,) * 2, (2**64 - 1,) * 2, (0xE02CB7C4D95D277A, 0xD06633D0893B8B68)),
        (
            (0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0x243F6A8885A308D3, 0x13198A2E03707344),
            (0x263C7D30BB0F0AF1, 0x56BE8361D3311526),
        ),
    ],
)
def test_threefry_known_answers(key, counter, expected):
    got = seeding.threefry2x64(*words(*key), *words(*counter))
    assert tuple(int(w[0]) for w in got) == expected


def test_numbers_are_pinned_for_all_time():
    """Data sets are named by seed and index: if this fails, every image ever made has changed."""
    assert seeding.leaf_key(7, "camera.fov_deg") == (10319851584251799716, 12747696441371695701)
    u = seeding.uniforms(7, ["camera.fov_deg"], [0, 123456789], 2)
    assert u.tolist() == [
        [[0.9902279952886118, 0.37922336106790155]],
        [[0.8018424520953701, 0.8588600294807466]],
    ]


def test_same_in_another_process():
    code = (
        "from imgsynth.seeding import *; print(uniforms(3, ['a', 'b[1].c'], [5, 9], [2, 1]).tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == seeding.uniforms(3, ["a", "b[1].c"], [5, 9], [2, 1]).tobytes().hex()


@settings(max_examples=40)
@given(
    st.integers(0, 2**70),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=8),
    st.lists(
        st.tuples(st.text("ab.[0]é ", max_size=8), st.integers(0, 5)),
        min_size=1,
        max_size=5,
        unique_by=lambda t: t[0],
    ),
)
def test_a_draw_depends_on_nothing_but_seed_path_index_and_dimension(seed, indices, leaves):
    paths, dims = [p for p, _ in leaves], [d for _, d in leaves]
    batch = seeding.uniforms(seed, paths, indices, dims)
    assert batch.shape == (len(indices), len(paths), max(dims))
    assert ((batch > 0) & (batch < 1)).all()
    for j, (path, d) in enumerate(leaves):
        alone = seeding.uniforms(seed, [path], indices[-1:], d + 1)[0, 0]
        assert (batch[-1, j, :d] == alone[:d]).all()
        assert (batch[:, j, d:] == 0.5).all()


def test_chunks_do_not_show():
    many = seeding.uniforms(1, ["a", "b"], np.arange(30000), 3)
    assert (many[29990:] == seeding.uniforms(1, ["a", "b"], np.arange(29990, 30000), 3)).all()
    wide = seeding.uniforms(1, [f"p{i}" for i in range(20000)], [4], 1)
    assert wide[0, 19999, 0] == seeding.uniforms(1, ["p19999"], [4], 1)[0, 0, 0]


@pytest.mark.parametrize("axis", ["frames", "leaves", "dims", "seeds"])
def test_uniform_along_every_axis(axis):
    n = 20000
    if axis == "frames":
        u = seeding.uniforms(0, ["x"], np.arange(n), 1).ravel()
    elif axis == "leaves":
        u = seeding.uniforms(0, [f"objects.die[{i}].size" for i in range(n)], [0], 1).ravel()
    elif axis == "dims":
        u = seeding.uniforms(0, ["x"], [0], n).ravel()
    else:
        u = np.array([seeding.uniforms(s, ["x"], [0], 1)[0, 0, 0] for s in range(2000)])
    assert stats.kstest(u, "uniform").pvalue > 0.01
    table = np.histogram2d(u[:-1:2], u[1::2], 8, [[0, 1], [0, 1]])[0]
    assert stats.chisquare(table.ravel()).pvalue > 0.01


def test_leaves_are_independent():
    u = seeding.uniforms(0, [f"p{i}" for i in range(20)], np.arange(20000), 2).reshape(20000, 40)
    r = np.corrcoef(u.T)[np.triu_indices(40, 1)]
    assert stats.kstest(r * np.sqrt(20000), "norm").pvalue > 0.01


def test_noise_is_uniform_and_the_same_alone():
    field = seeding.noise(5, "sensor", np.arange(40), (33, 31, 3))
    assert field.dtype == np.float32 and field.shape == (40, 33, 31, 3)
    assert field.min() > 0 and field.max() < 1
    assert stats.kstest(field.ravel(), "uniform").pvalue > 0.01
    assert (field[17:18] == seeding.noise(5, "sensor", [17], (33, 31, 3))).all()
    assert (seeding.noise(5, "sensor", [17], (300, 300)).ravel()[:50] == field[17].ravel()[:50]).all()
    assert seeding.noise(5, "sensor", [], (4, 4)).shape == (0, 4, 4)


def test_normals_are_normal_and_the_same_alone():
    field = seeding.normals(5, "sensor", np.arange(10), (130, 130))
    assert stats.kstest(field.ravel(), "norm").pvalue > 0.01
    assert abs(field.std() - 1) < 4 / np.sqrt(2 * field.size)
    assert stats.kurtosis(field.ravel()) == pytest.approx(0, abs=4 * np.sqrt(24 / field.size))
    assert (field[7] == seeding.normals(5, "sensor", [7], (130, 130))[0]).all()


def test_neighbouring_pixels_frames_and_paths_are_uncorrelated():
    field = seeding.normals(5, "sensor", np.arange(40), (64, 64)).astype(float)
    other = seeding.normals(5, "sensors", np.arange(40), (64, 64))
    pairs = [
        (field[:, 1:], field[:, :-1]),
        (field[..., 1:], field[..., :-1]),
        (field[1:], field[:-1]),
        (field, other),
    ]
    for a, b in pairs:
        assert abs((a * b).mean()) < 4 / np.sqrt(a.size)


def test_derive_names_other_generators():
    seeds = {seeding.derive(s, p) for s in range(50) for p in ("init", "shuffle")}
    assert len(seeds) == 100 and all(0 <= s < 2**63 for s in seeds)


@pytest.mark.parametrize("indices", [[-1], [0.5], [[1]]])
def test_bad_frame_numbers(indices):
    with pytest.raises(ValueError, match="frame numbers"):
        seeding.uniforms(0, ["a"], indices, 1)


def test_bad_seed_and_dims():
    with pytest.raises(ValueError, match="seed"):
        seeding.leaf_key(-1, "a")
    with pytest.raises(ValueError, match="dimensions"):
        seeding.uniforms(0, ["a", "b"], [0], [1])
