import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import qmc

from imgsynth import sobol
from imgsynth.seeding import uniforms
from imgsynth.sobol import sobol_uniforms


def test_direction_numbers_match_scipy():
    """Unscrambled points, in Gray-code order, are scipy's."""
    index = sobol._reverse(np.arange(512, dtype=np.uint32))
    points = np.zeros((512, 8), np.uint32)
    for d in range(8):
        for byte in range(4):
            points[:, d] ^= sobol._tables()[d, byte][(index >> np.uint32(8 * byte)) & np.uint32(255)]
    gray = np.arange(512) ^ (np.arange(512) >> 1)
    expected = qmc.Sobol(8, scramble=False, bits=32).random(512)
    assert (sobol._reverse(points)[gray] / 2.0**32 == expected).all()


@settings(max_examples=60)
@given(
    st.integers(0, 2**64), st.text(max_size=6), st.integers(0, 9), st.integers(0, 2**22), st.integers(1, 11)
)
def test_every_aligned_block_is_stratified(seed, path, m, block, dims):
    indices = (block << m) + np.arange(1 << m)
    u = sobol_uniforms(seed, [path], indices, dims)[:, 0]
    assert ((u > 0) & (u < 1)).all()
    for d in range(dims):
        assert sorted(np.floor(u[:, d] * 2**m)) == list(range(2**m))


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 8), st.integers(0, 2**20))
def test_first_two_dimensions_are_a_0_m_2_net(seed, m, block):
    u = sobol_uniforms(seed, ["leaf"], (block << m) + np.arange(1 << m), 2)[:, 0]
    for a in range(m + 1):
        cells = np.floor(u * [2**a, 2 ** (m - a)]).astype(int)
        assert len({tuple(c) for c in cells}) == 2**m


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6), st.integers(1, 10))
def test_random_access_equals_batch_and_leaves_do_not_touch_each_other(indices, dims):
    paths = ["a", "b[2].c", "d"]
    batch = sobol_uniforms(3, paths, indices, [dims, 1, 3])
    assert batch.shape == (len(indices), 3, max(dims, 3))
    alone = sobol_uniforms(3, ["b[2].c"], indices[-1:], 2)
    assert batch[-1, 1, 0] == alone[0, 0, 0]
    assert (batch[:, 1, 1:] == 0.5).all()
    assert (batch[0, 0, :dims] == sobol_uniforms(3, ["a"], indices[:1], dims + 3)[0, 0, :dims]).all()


def test_chunks_do_not_show():
    many = sobol_uniforms(1, ["a", "b", "c"], np.arange(20000), 2)
    assert (many[19990:] == sobol_uniforms(1, ["a", "b", "c"], np.arange(19990, 20000), 2)).all()


@pytest.mark.parametrize("use", [0, 1])
def test_scrambling_reaches_all_nested_permutations_alike(use):
    """Over leaves, shuffle and scrambling are uniform over the 2^7 permutations of three levels."""
    n = 1 << 14
    keys = sobol._net_keys(0, [f"p{i}" for i in range(n)], 0, 1)[use]
    numbers = sobol._reverse(np.arange(8, dtype=np.uint32) << np.uint32(29))[:, None]
    ranks = (sobol._reverse(sobol._scramble(numbers, keys)) >> np.uint32(29)).astype(np.int64)
    counts = np.unique((ranks * 8 ** np.arange(8)[:, None]).sum(axis=0), return_counts=True)[1]
    assert len(counts) == 128
    assert stats.chisquare(counts).pvalue > 0.01


def test_each_point_is_uniform_and_leaves_are_independent():
    u = sobol_uniforms(0, [f"p{i}" for i in range(4000)], [0, 1, 77], 3)
    for frame in range(3):
        for d in range(3):
            assert stats.kstest(u[frame, :, d], "uniform").pvalue > 0.003
    leaves = sobol_uniforms(1, [f"q{i}" for i in range(600)], np.arange(16), 1)[..., 0]
    table = np.histogram2d(leaves[:, ::2].ravel(), leaves[:, 1::2].ravel(), 4, [[0, 1], [0, 1]])[0]
    # Both margins are exactly stratified, so the counts vary less than multinomial ones: mean 300, variance
    # of the hypergeometric law of 4 of 16 against 4 of 16.
    variance = 300 * stats.hypergeom(16, 4, 4).var()
    assert np.abs(table - 300).max() < 4.5 * np.sqrt(variance)


@pytest.mark.parametrize(("leaves", "factor"), [(1, 0.05), (4, 0.75)])
def test_integrates_better_than_random_numbers(leaves, factor):
    """∏ over dims of (1 + (u - 1/2)) has integral 1; root mean square error over 256 seeds at 256 points.

    Four leaves gain less than one: between leaves, only what is additive over them is integrated better.
    """

    def error(draw):
        paths = [f"leaf{j}" for j in range(leaves)]
        means = [np.prod(draw(s, paths, np.arange(256), 2) + 0.5, axis=(1, 2)).mean() for s in range(256)]
        return np.sqrt(np.mean((np.array(means) - 1) ** 2))

    assert error(sobol_uniforms) < factor * error(uniforms)


def test_discrepancy_is_lower_than_of_random_numbers():
    nets = [qmc.discrepancy(sobol_uniforms(s, ["x"], np.arange(256), 4)[:, 0]) for s in range(8)]
    randoms = [qmc.discrepancy(uniforms(s, ["x"], np.arange(256), 4)[:, 0]) for s in range(8)]
    assert max(nets) < min(randoms) / 3


def test_refuses_frames_beyond_its_period():
    with pytest.raises(ValueError, match="2\\^32"):
        sobol_uniforms(0, ["a"], [1 << 32], 1)


def test_nothing_to_draw():
    assert sobol_uniforms(0, [], [0, 1], 1).shape == (2, 0, 0)
    assert sobol_uniforms(0, ["a"], [], 2).shape == (0, 1, 2)
    assert sobol_uniforms(0, ["a"], [0], 0).shape == (1, 1, 0)
