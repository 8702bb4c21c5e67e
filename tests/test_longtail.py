import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.dataset.longtail import class_profile, long_tail
from imgsynth.errors import DataError


def test_the_profile_is_the_exponential_one():
    assert class_profile([5000] * 10, 100).tolist() == [
        5000, 2997, 1797, 1077, 646, 387, 232, 139, 83, 50,
    ]  # fmt: skip
    assert class_profile([10, 500, 0, 30], 100).tolist() == [5, 500, 0, 30]  # 500, 50 (has 30), 5
    assert class_profile([7, 9], 1).tolist() == [7, 9]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6), st.floats(1, 300), st.integers(0, 5), st.booleans()
)
def test_what_remains_is_the_profile_and_cuts_at_most_one_group_a_class(sizes, factor, seed, grouped):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if len(labels) == 0:
        with pytest.raises(DataError):
            long_tail(labels, factor)
        return
    groups = np.array([f"{c}_{i // 7}" for c, n in enumerate(sizes) for i in range(n)]) if grouped else None
    rows = long_tail(labels, factor, seed, groups)
    assert (np.diff(rows) > 0).all()
    kept = np.bincount(labels[rows], minlength=len(sizes))
    assert np.array_equal(kept, class_profile(sizes, factor))
    assert np.array_equal(rows, long_tail(labels, factor, seed, groups))
    if groups is not None:
        whole = dict(zip(*np.unique(groups, return_counts=True), strict=True))
        left = dict(zip(*np.unique(groups[rows], return_counts=True), strict=True))
        for c in range(len(sizes)):
            cut = [g for g in left if g.startswith(f"{c}_") and left[g] < whole[g]]
            assert len(cut) <= 1


def test_another_seed_keeps_others_and_wrong_input_is_said():
    labels = np.repeat([0, 1], [100, 80])
    a, b = long_tail(labels, 10, 0), long_tail(labels, 10, 1)
    assert len(a) == len(b) == 110 and not np.array_equal(a, b)
    for factor in (0.5, float("nan"), float("inf")):
        with pytest.raises(DataError, match="factor"):
            long_tail(labels, factor)
    with pytest.raises(DataError, match="one an image"):
        long_tail(labels, 10, groups=[1, 2])
