"""Analog bits of masks, and labels read back from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.diffusion.joint import Cleanup, MaskCoding, canonical
from imgsynth.errors import DataError

KEEP_ALL = Cleanup(pixels=1, share=0.0)


def test_a_code_by_hand():
    """Class 5 of 6 is 101 in three bits, instance 2 of 3 is 10 in two; lowest bit first."""
    coding = MaskCoding(6, 3)
    assert (coding.class_bits, coding.bits) == (3, 5)
    semantic = np.array([[[5, 0], [1, 5]]], np.int32)
    instance = np.array([[[9, 0], [4, 9]]], np.int32)  # 9 comes first, so it is 1, and 4 is 2
    bits = coding.encode(semantic, instance)
    assert bits.shape == (1, 5, 2, 2) and bits.dtype == np.float32
    np.testing.assert_array_equal(bits[0, :, 0, 0], [1, -1, 1, 1, -1])
    np.testing.assert_array_equal(bits[0, :, 1, 0], [1, -1, -1, -1, 1])
    np.testing.assert_array_equal(bits[0, :, 0, 1], [-1] * 5)


def blobs(seed, classes, instances, size=24):
    """Random rectangles that hide each other, as class and instance ids."""
    rng = np.random.default_rng(seed)
    semantic, instance = np.zeros((2, 3, size, size), np.int32)
    for n in range(3):
        for k in range(rng.integers(0, instances + 1)):
            y, x, h, w = rng.integers(0, size - 4), rng.integers(0, size - 4), *rng.integers(2, 9, 2)
            instance[n, y : y + h, x : x + w] = 7 * k + 3
            semantic[n][instance[n] == 7 * k + 3] = rng.integers(1, classes + 1)
    return semantic, instance


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 7))
def test_labels_survive_bits_and_noise_below_their_size(seed, classes, instances):
    coding = MaskCoding(classes, instances)
    semantic, instance = blobs(seed, classes, instances)
    bits = coding.encode(semantic, instance)
    noise = np.random.default_rng(seed).uniform(-0.9, 0.9, bits.shape).astype(np.float32)
    found = coding.decode(bits + noise, cleanup=KEEP_ALL)
    np.testing.assert_array_equal(found.semantic, semantic)
    np.testing.assert_array_equal(found.instance, canonical(instance))
    assert (found.confidence <= 1).all() and (found.removed == 0).all()
    for k in range(len(found.frame)):
        mask = found.instance[found.frame[k]] == found.id[k]
        assert mask.any() and set(semantic[found.frame[k]][mask]) == {found.class_id[k]}
        assert found.confidence[k] == pytest.approx(found.pixel_confidence[found.frame[k]][mask].mean())


def test_without_instance_bits_components_are_objects():
    semantic = np.zeros((1, 12, 12), np.int32)
    semantic[0, 1:4, 1:4], semantic[0, 6:9, 6:9], semantic[0, 4:6, 1:4] = 2, 2, 1
    coding = MaskCoding(2)
    found = coding.decode(coding.encode(semantic, semantic))
    assert found.class_id.tolist() == [2, 1, 2] and found.id.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.semantic, semantic)


def test_specks_are_cleaned_away_and_counted():
    coding = MaskCoding(1, 1)
    semantic = np.zeros((1, 16, 16), np.int32)
    semantic[0, 2:8, 2:8] = 1  # 36 pixels
    semantic[0, 12, 12] = 1  # a speck of the same id
    semantic[0, 10:12, 2:4] = 1  # 4 pixels: above `pixels`, and a ninth of the largest
    found = coding.decode(coding.encode(semantic, semantic), cleanup=Cleanup(pixels=2, share=0.1))
    assert found.removed.tolist() == [1] and found.instance[0, 12, 12] == 0 and found.instance[0, 10, 2] == 1
    found = coding.decode(coding.encode(semantic, semantic), cleanup=Cleanup(pixels=2, share=0.2))
    assert found.removed.tolist() == [5] and found.semantic.sum() == 36
    found = coding.decode(coding.encode(semantic, semantic), cleanup=Cleanup(pixels=99))
    assert len(found.frame) == 0 and found.instance.max() == 0


def test_codes_that_mean_nothing_are_background():
    coding = MaskCoding(2, 2)  # class 3 and instance 3 can be written, and are nothing
    bits = -np.ones((1, 4, 8, 8), np.float32)
    bits[0, :, :4] = 1
    found = coding.decode(bits)
    assert found.instance.max() == 0 and found.semantic.max() == 0
    bits[0, :2] = -1  # an instance without a class
    assert coding.decode(bits).instance.max() == 0


def test_confidence_is_the_product_of_the_bits():
    coding = MaskCoding(1, 1)
    bits = -np.ones((1, 2, 8, 8), np.float32)
    bits[0, :, 2:6, 2:6] = [[[0.8]], [[0.6]]]
    found = coding.decode(bits)
    assert found.confidence == pytest.approx([0.9 * 0.8])
    assert found.pixel_confidence[0, 0, 0] == 1
    margins = bits.copy()
    margins[0, 0, 2:6, 2:6] = -0.2  # estimated again, the class's bit came out on the other side
    found = coding.decode(bits, margins)
    assert found.confidence == pytest.approx([0.4 * 0.8])
    assert found.class_id.tolist() == [1]


def test_the_class_is_that_of_most_of_the_pixels():
    coding = MaskCoding(3, 1)
    semantic = np.zeros((1, 8, 8), np.int32)
    semantic[0, 1:5, 1:5] = 2
    semantic[0, 1, 1:5] = 3
    found = coding.decode(coding.encode(semantic, (semantic > 0).astype(np.int32)))
    assert found.class_id.tolist() == [2] and set(np.unique(found.semantic)) == {0, 2}


def test_canonical_ids_follow_the_first_pixel():
    ids = np.array([[[0, 7, 7], [5, 7, 2]], [[0, 0, 0], [0, 0, 0]]], np.int32)
    np.testing.assert_array_equal(canonical(ids), [[[0, 1, 1], [2, 1, 3]], [[0, 0, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(canonical(canonical(ids)), canonical(ids))


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="mask coding"):
        MaskCoding(0)
    with pytest.raises(DataError, match="mask coding"):
        MaskCoding(300, 300)
    with pytest.raises(DataError, match="too few"):
        MaskCoding.of(10, 3)
    assert MaskCoding.of(10, 6) == MaskCoding(10, 3)
    many = np.arange(1, 17, dtype=np.int32).reshape(1, 4, 4)
    with pytest.raises(DataError, match="16 labelled objects"):
        MaskCoding(1, 3).encode(np.ones_like(many), many)
    with pytest.raises(DataError, match="class ids"):
        MaskCoding(1, 3).encode(np.full_like(many, 2), many)
    with pytest.raises(DataError, match="analog bits"):
        MaskCoding(1, 3).decode(np.zeros((1, 2, 4, 4), np.float32))
