import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.dataset.split import DIGITS_PARTS, FRACTIONS, digits_blocks, digits_split, split
from imgsynth.errors import DataError


def rows_of(parts):
    return np.sort(np.concatenate(list(parts.values())))


@given(
    n=st.integers(1, 120),
    classes=st.integers(1, 6),
    groups=st.integers(1, 30) | st.none(),
    seed=st.integers(0, 5),
    data_seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_every_row_lands_once_and_no_group_is_cut(n, classes, groups, seed, data_seed):
    rng = np.random.default_rng(data_seed)
    labels = rng.integers(0, classes, n)
    group = None if groups is None else rng.integers(0, groups, n)
    parts = split(labels, group, seed=seed)
    assert list(parts) == ["train", "validation", "test"]
    assert np.array_equal(rows_of(parts), np.arange(n))
    if group is not None:
        held = [set(group[rows]) for rows in parts.values()]
        assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_each_class_is_cut_at_the_fractions():
    labels = np.repeat([0, 1, 2], [200, 40, 20])
    parts = split(labels)
    for name, share in FRACTIONS.items():
        assert np.array_equal(np.bincount(labels[parts[name]]), np.array([200, 40, 20]) * share)


def test_whole_numbers_come_as_near_the_fractions_as_they_can():
    for n in range(1, 40):
        counts = [len(rows) for rows in split(n).values()]
        assert sum(counts) == n
        assert all(abs(c - n * f) < 1 for c, f in zip(counts, FRACTIONS.values(), strict=True))
    assert len(split(1)["train"]) == 1


def test_groups_of_one_class_meet_the_fractions_class_by_class():
    # As in GTSRB: tracks of 30 frames, each of one sign.
    track = np.repeat(np.arange(400), 30)
    labels = track % 10
    parts = split(labels, track)
    for name, share in FRACTIONS.items():
        assert np.array_equal(np.bincount(labels[parts[name]], minlength=10), np.full(10, 1200 * share))


def test_groups_that_mix_classes_come_near_the_fractions():
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(60), 20)
    labels = rng.integers(0, 4, len(group))
    parts = split(labels, group)
    for name, share in FRACTIONS.items():
        counts = np.bincount(labels[parts[name]], minlength=4) / np.bincount(labels)
        assert np.abs(counts - share).max() < 0.05


def test_the_seed_matters_and_fixes_the_split():
    labels = np.arange(300) % 3
    a, b, c = split(labels, seed=1), split(labels, seed=1), split(labels, seed=2)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["test"], c["test"])
    # Two independent 15 % draws share about 15 % of their rows, not most of them.
    shared = len(np.intersect1d(a["test"], c["test"])) / len(a["test"])
    assert 0 < shared < 0.45


@pytest.mark.parametrize("by", ["names", "groups"])
def test_the_order_of_files_does_not_matter(by):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    ids = np.array([f"{i // 5:03d}" if by == "groups" else f"{i:03d}.png" for i in range(200)])
    order = rng.permutation(200)
    given_ids = {by: ids}
    shuffled_ids = {by: ids[order]}
    a, b = split(labels, **given_ids), split(labels[order], **shuffled_ids)
    for name in a:
        assert np.array_equal(np.sort(a[name]), np.sort(order[b[name]]))


def test_a_row_draws_no_part_by_its_place():
    # χ² of part against position (thirds of the file): 2 × 2 degrees of freedom, 99.9 % quantile 18.5.
    part = np.empty(3000, int)
    for k, rows in enumerate(split(3000, seed=7).values()):
        part[rows] = k
    table = np.array([np.bincount(part[i * 1000 : (i + 1) * 1000], minlength=3) for i in range(3)])
    expected = table.sum(axis=0) / 3
    assert ((table - expected) ** 2 / expected).sum() < 18.5


def test_digits_split_is_by_block_as_written_down():
    block = digits_blocks()
    edges = [1797 * b // 13 for b in range(14)]
    assert all(np.all(block[edges[b] : edges[b + 1]] == b) for b in range(13)) and len(block) == 1797
    parts = digits_split()
    assert {k: len(v) for k, v in parts.items()} == {"train": 829, "validation": 138, "test": 830}
    assert np.array_equal(rows_of(parts), np.arange(1797))
    for name, rows in parts.items():
        assert set(block[rows]) == set(DIGITS_PARTS[name])


@pytest.mark.parametrize("fractions", [{"a": 0.5, "b": 0.4}, {"a": 1.5, "b": -0.5}, {}])
def test_fractions_that_do_not_add_up_are_refused(fractions):
    with pytest.raises(DataError, match="add up to 1"):
        split(10, fractions=fractions)


def test_columns_of_another_length_are_refused():
    with pytest.raises(DataError, match="groups: expected 10"):
        split(10, groups=np.zeros(9))
    with pytest.raises(DataError, match="names: expected 10"):
        split(10, names=["a"])
