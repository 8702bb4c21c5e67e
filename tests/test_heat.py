"""Planted attention: masks are where it was planted, nothing is seen where nothing is, doubt is ignored."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsynth.diffusion.heat import IGNORE, MaskSettings, fit_presence, heat, masks_of, pieces
from imgsynth.errors import ImgsynthError

TOKENS = 77


def disc(size, centre, radius):
    y, x = np.mgrid[: size[0], : size[1]]
    scale = np.array(size)
    return ((y + 0.5) / scale[0] - centre[0]) ** 2 + ((x + 0.5) / scale[1] - centre[1]) ** 2 < radius**2


def planted(grid, regions, inside=0.3, outside=0.01, seed=0):
    """(1, K, h, w): a word is looked at in its region, with noise of a tenth."""
    rng = np.random.default_rng(seed)
    maps = [np.where(r, inside, outside) for r in regions]
    return (np.stack(maps)[None] * rng.uniform(0.9, 1.1, (1, len(regions), *grid))).astype(np.float32)


def affinity(regions, grid, leak=0.1):
    """Pixels look evenly at their own region (or at the rest of the frame), and a little everywhere."""
    label = sum((k + 1) * r for k, r in enumerate(regions)).ravel()
    same = (label[:, None] == label[None, :]).astype(np.float64)
    same = (1 - leak) * same / same.sum(1, keepdims=True) + leak / label.size
    return same[None].astype(np.float32)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(
    "grid, size", [((16, 16), (128, 128)), ((16, 24), (128, 192)), ((24, 12), (480, 240))]
)
def test_masks_are_where_attention_was_planted(grid, size):
    spots = [((0.3, 0.3), 0.2), ((0.65, 0.7), 0.22)]
    cross = {g: planted(g, [disc(g, *s) for s in spots]) for g in (grid, (grid[0] // 2, grid[1] // 2))}
    own = {grid: affinity([disc(grid, *s) for s in spots], grid)}
    found = masks_of(cross, own, size, TOKENS)
    assert found.present.all() and found.semantic.shape == (1, *size)
    for k, spot in enumerate(spots):
        mask, truth = found.semantic[0] == k + 1, disc(size, *spot)
        unsure = found.semantic[0] == IGNORE
        assert iou(mask, truth) > 0.85  # one grid cell is 8 to 20 pixels
        assert iou(mask & ~unsure, truth & ~unsure) > 0.9
        assert 0.7 < found.confidence[0, k] <= 1


def test_self_attention_fills_what_the_word_only_touches():
    grid, size = (16, 24), (128, 192)
    body, head = disc(grid, (0.5, 0.5), 0.3), disc(grid, (0.4, 0.42), 0.12)
    cross, own = {grid: planted(grid, [head])}, {grid: affinity([body], grid)}
    truth = disc(size, (0.5, 0.5), 0.3)
    score = {
        p: iou(masks_of(cross, own, size, TOKENS, MaskSettings(power=p)).semantic[0] == 1, truth)
        for p in (0, 1, 2)
    }
    assert score[0] < 0.3 and score[1] > 0.85 and score[2] > 0.85


def test_heat_is_the_affinity_to_the_power_times_the_map():
    rng = np.random.default_rng(0)
    own = rng.random((2, 35, 35)).astype(np.float32)
    own /= own.sum(-1, keepdims=True)
    cross = rng.random((2, 3, 5, 7)).astype(np.float32)
    for power in (0, 1, 3):
        want = np.stack(
            [np.linalg.matrix_power(own[i].astype(float), power) @ cross[i].reshape(3, -1).T for i in (0, 1)]
        )
        got = heat({(5, 7): cross}, {(5, 7): own}, power)
        np.testing.assert_allclose(got, want.transpose(0, 2, 1).reshape(2, 3, 5, 7), atol=1e-6)
    assert heat({(5, 7): cross, (10, 14): np.full((2, 3, 10, 14), 0.5, np.float32)}, {}, 2).shape == (
        2,
        3,
        10,
        14,
    )
    with pytest.raises(ImgsynthError, match="no cross-attention"):
        heat({}, {}, 1)


@pytest.mark.parametrize(
    "inside, outside, there",
    [
        (0.3, 0.01, True),
        (0.08, 0.02, True),
        (1 / 77, 1 / 77, False),
        (0.3, 0.25, False),
        (0.02, 1e-4, False),
        (0, 0, False),
    ],
)
def test_presence_is_absolute(inside, outside, there):
    """A flat map, one without contrast, and one that hardly looks at the word at all: no thing, no mask."""
    grid = (16, 16)
    cross = {grid: planted(grid, [disc(grid, (0.5, 0.5), 0.25)], inside, outside)}
    found = masks_of(cross, {}, (64, 64), TOKENS)
    assert found.present[0, 0] == there
    assert (found.semantic == 1).any() == there and (found.confidence > 0).any() == there
    if not there:
        assert not found.semantic.any()  # not even doubt: it is said to be missing


def test_one_word_missing_leaves_the_other_as_it_was():
    grid = (16, 16)
    there, nowhere = disc(grid, (0.5, 0.4), 0.25), np.zeros(grid, bool)
    both = planted(grid, [there, nowhere])
    found = masks_of({grid: both}, {}, (64, 64), TOKENS)
    alone = masks_of({grid: both[:, :1]}, {}, (64, 64), TOKENS)
    assert found.present.tolist() == [[True, False]]
    assert np.array_equal(found.semantic, alone.semantic) and found.confidence[0, 1] == 0


def test_between_the_thresholds_and_between_two_words_is_ignored():
    grid, size = (4, 32), (4, 32)
    ramp = np.linspace(0.01, 0.3, 32, dtype=np.float32)[None].repeat(4, 0)
    settings = MaskSettings(power=0, low=0.3, high=0.6, min_area=0)
    line = masks_of({grid: ramp[None, None]}, {}, size, TOKENS, settings).semantic[0, 0]
    steps = np.flatnonzero(np.diff(line))
    assert line[0] == 0 and line[-1] == 1 and len(steps) == 2 and line[steps[0] + 1] == IGNORE
    h = (ramp[0] - ramp[0, :4].mean()) / (ramp[0, -1:].mean() - ramp[0, :4].mean())
    assert abs(h[steps[0]] - 0.3) < 0.05 and abs(h[steps[1]] - 0.6) < 0.05
    twice = np.stack([ramp, ramp * 0.98])[None]
    assert (masks_of({grid: twice}, {}, size, TOKENS, settings).semantic[..., -1] == IGNORE).all()


def test_small_pieces_are_ignored_and_pieces_are_counted():
    grid = (32, 32)
    big, dot = disc(grid, (0.3, 0.3), 0.2), disc(grid, (0.8, 0.8), 0.04)
    cross = {grid: planted(grid, [big | dot])}
    found = masks_of(cross, {}, grid, TOKENS, MaskSettings(min_area=0.02))
    assert (found.semantic[0][dot] == IGNORE).all() and (found.semantic[0][big] == 1).mean() > 0.9
    ids, words = pieces(np.array([[1, 0, 2, 2], [0, 1, 0, 2], [-1, 0, 0, 0], [1, 0, 0, 2]], np.int32))
    assert words.tolist() == [1, 1, 2, 2] and ids.max() == 4
    assert (
        ids[0, 0] == ids[1, 1] and ids[3, 0] != ids[0, 0] and ids[2, 0] == 0 and ids[0, 2] == ids[1, 3] == 3
    )


def test_confidence_falls_with_blur():
    import cv2

    grid = (32, 32)
    sharp = np.where(disc(grid, (0.5, 0.5), 0.25), 0.3, 0.01).astype(np.float32)
    said = [
        float(
            masks_of({grid: cv2.GaussianBlur(sharp, (0, 0), s)[None, None]}, {}, grid, TOKENS).confidence[
                0, 0
            ]
        )
        for s in (0.1, 1, 2, 4)
    ]
    assert said[0] > 0.98 and all(a > b for a, b in pairwise(said)) and said[-1] < 0.9, said


def test_presence_thresholds_are_recovered():
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.5
    level, contrast = np.where(truth, rng.uniform(8, 20, 300), rng.uniform(1, 7, 300)), rng.uniform(2, 9, 300)
    fitted, accuracy = fit_presence(MaskSettings(), level, contrast, truth)
    assert accuracy == 1 and level[~truth].max() < fitted.level <= level[truth].min()
    fitted, accuracy = fit_presence(MaskSettings(), contrast, level, truth)
    assert accuracy == 1 and level[~truth].max() < fitted.contrast <= level[truth].min()
    _, accuracy = fit_presence(MaskSettings(), level, contrast, rng.random(300) < 0.5)
    assert accuracy < 0.65
    with pytest.raises(ImgsynthError, match="without"):
        fit_presence(MaskSettings(), level, contrast, np.ones(300, bool))


@given(seed=st.integers(0, 2**32 - 1), power=st.integers(0, 3), words=st.integers(1, 3))
def test_whatever_the_attention_the_masks_hold_together(seed, power, words):
    rng = np.random.default_rng(seed)
    cross = {
        (6, 9): rng.dirichlet(np.ones(words + 5), 54).T[:words].reshape(1, words, 6, 9).astype(np.float32)
    }
    own = {(6, 9): rng.dirichlet(np.ones(54), 54)[None].astype(np.float32)}
    found = masks_of(cross, own, (24, 36), words + 5, MaskSettings(power=power, level=1.2, contrast=1.1))
    shown = set(np.unique(found.semantic)) - {0, IGNORE}
    assert shown <= {k + 1 for k in range(words) if found.present[0, k]}
    assert ((found.confidence > 0) == [[k + 1 in shown for k in range(words)]]).all()
    assert (found.confidence <= 1).all()
    smooth, rough = heat(cross, own, power), heat(cross, own, 0)
    assert smooth.min() >= rough.min() - 1e-6 and smooth.max() <= rough.max() + 1e-6


@pytest.mark.parametrize("bad", [{"low": 0.7}, {"high": 1.2}, {"power": -1}, {"min_area": 2}, {"level": -1}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ImgsynthError, match="masks: "):
        MaskSettings(**bad)
