"""Pictures that guide, against closed forms; drift, on pictures that were moved by a known amount."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from imgsynth.diffusion import conditions
from imgsynth.diffusion.drift import Drift, DriftSettings, drift
from imgsynth.errors import ImgsynthError


def test_depth_is_inverse_white_nearest_and_black_where_nothing_is_hit():
    depth = np.array([[[1.0, 2.0, 4.0, np.inf]], [[3.0, 3.0, np.inf, np.inf]], [[np.inf] * 4]], np.float32)
    got = conditions.depth_picture(depth)
    assert got.shape == (3, 1, 4, 3) and (got == got[..., :1]).all()
    assert got[0, 0, :, 0].tolist() == [255, round(255 * (0.5 - 0.25) / 0.75), 0, 0]
    assert got[1, 0, :, 0].tolist() == [255, 255, 0, 0] and not got[2].any()


def test_normals_are_red_left_green_up_blue_front():
    left, up, front, right = [-1, 0, 0], [0, -1, 0], [0, 0, -1], [1, 0, 0]
    got = conditions.normal_picture(np.array([[[left, up, front, right, [0, 0, 0]]]], np.float32))[
        0, 0
    ].tolist()
    assert got == [[255, 128, 128], [128, 255, 128], [128, 128, 255], [0, 128, 128], [128, 128, 255]]


def test_edges_are_where_ids_depth_or_normals_break():
    ids = np.zeros((1, 6, 8), np.int32)
    ids[0, 2:5, 3:6] = 1
    plain = conditions.edge_picture(ids)[0, ..., 0] > 0
    want = np.zeros((6, 8), bool)
    want[2:5, 2] = want[2:5, 5] = want[1, 3:6] = want[4, 3:6] = True
    assert np.array_equal(plain, want)
    depth = np.full((1, 6, 8), 2.0, np.float32)
    depth[..., 6:] = 2.3
    depth[0, 0] = np.inf
    with_depth = conditions.edge_picture(ids, depth)[0, ..., 0] > 0
    assert with_depth[3, 5] and with_depth[0].all() and not with_depth[5, 3] and with_depth[5, 5]
    normal = np.zeros((1, 6, 8, 3), np.float32)
    normal[..., 2] = -1
    normal[0, 5:, :, :] = [0, -1, 0]
    folded = conditions.edge_picture(np.zeros_like(ids), None, normal)[0, ..., 0] > 0
    assert folded[4].all() and folded.sum() == 8


def test_colours_of_classes():
    free = conditions.class_colours(("a", "b", "c"))
    assert free.shape == (4, 3) and not free[0].any() and len({tuple(c) for c in free.tolist()}) == 4
    given = conditions.class_colours(("a", "b"), {"b": (1, 2, 3), "a": (9, 9, 9), "background": (7, 7, 7)})
    assert given.tolist() == [[7, 7, 7], [9, 9, 9], [1, 2, 3]]
    assert conditions.semantic_picture(np.array([[[2, 0]]], np.int32), given)[0, 0].tolist() == [
        [1, 2, 3],
        [7, 7, 7],
    ]
    for wrong, said in (
        ({"a": (0, 0, 0), "z": (0, 0, 0)}, "'z' is none of"),
        ({"a": (0, 0, 0)}, "none is given for b"),
    ):
        with pytest.raises(ImgsynthError, match=said):
            conditions.class_colours(("a", "b"), wrong)


def planted(n=4, size=(96, 128), seed=0):
    """Two textured shapes on a textured ground; every picture another place."""
    rng = np.random.default_rng(seed)
    images, ids = np.zeros((n, *size, 3), np.uint8), np.zeros((n, *size), np.int32)
    for image, label in zip(images, ids, strict=True):
        centre = rng.uniform([30, 30], [60, 45])
        cv2.circle(label, (int(centre[1]), int(centre[0])), 18, 1, -1)
        cv2.rectangle(label, (70, 30), (int(rng.uniform(100, 115)), 70), 2, -1)
        colours = np.array([[90, 100, 80], [210, 60, 50], [60, 90, 220]]) + rng.uniform(-20, 20, (3, 3))
        texture = cv2.GaussianBlur(rng.normal(0, 60, (*size, 3)), (0, 0), 2)
        image[:] = np.clip(colours[label] + texture, 0, 255)
    return images, ids


def recoloured(images, ids, seed=1):
    """Other colours, light and grain for everything, the geometry kept: what a good repaint does."""
    rng = np.random.default_rng(seed)
    out = images.astype(float)
    for k in range(3):
        out[ids == k] = out[ids == k][:, [1, 2, 0]] * 0.6 + [(40, 120, 70), (200, 180, 30), (90, 30, 120)][k]
    shade = np.linspace(0.7, 1.2, images.shape[2])[None, None, :, None]
    return np.clip(out * shade + rng.normal(0, 6, images.shape), 0, 255).astype(np.uint8)


def moved(images, by):
    return np.roll(images, (by, by), (1, 2))


def test_a_repaint_that_keeps_its_geometry_is_kept_and_one_that_moves_is_not():
    images, ids = planted()
    good = recoloured(images, ids)
    settings = DriftSettings()
    assert (drift(images, images, ids).reasons(4, settings) == "").all()
    kept = drift(images, good, ids)
    assert len(kept.id) == 8 and (kept.reasons(4, settings) == "").all() and np.nanmin(kept.confidence) > 0.7
    scores = [drift(images, moved(good, by), ids) for by in (0, 1, 2, 3, 5, 9)]
    for name in ("edges", "masks"):
        means = [np.nanmean(getattr(s, name)) for s in scores]
        assert all(a > b for a, b in pairwise(means[:4])) and max(means[3:]) < 0.6, (
            name,
            means,
        )
    assert all((s.reasons(4, settings) != "").all() for s in scores[3:])


@pytest.mark.parametrize("what", ["grey", "noise", "another"])
def test_pictures_of_something_else_are_dropped(what):
    images, ids = planted()
    rng = np.random.default_rng(0)
    other = {
        "grey": np.full_like(images, 120), "noise": rng.integers(0, 256, images.shape, dtype=np.uint8),
        "another": planted(seed=9)[0],
    }[what]  # fmt: skip
    found = drift(images, other, ids)
    assert (found.reasons(4, DriftSettings()) != "").all()


def test_one_object_of_two_that_vanished_drops_the_frame_and_has_no_confidence():
    images, ids = planted(1)
    gone = images.copy()
    ring = (cv2.dilate((ids[0] == 1).astype(np.uint8), np.ones((9, 9))) > 0) & (ids[0] == 0)
    gone[ids == 1] = images[0][ring].mean(0)
    gone = np.stack([cv2.GaussianBlur(gone[0], (0, 0), 1.0)])
    found = drift(images, gone, ids)
    assert found.reasons(1, DriftSettings()).tolist() != [""]
    assert found.confidence[0] < 0.4 < 0.7 < found.confidence[1]


def test_what_the_render_does_not_show_is_not_judged():
    images, ids = planted(1)
    flat = np.full_like(images, 100)
    found = drift(flat, images, ids)
    assert np.isnan(found.edges).all() and np.isnan(found.masks).all() and np.isnan(found.confidence).all()
    assert found.reasons(1, DriftSettings()).tolist() == [""]
    assert len(drift(images, images, ids, DriftSettings(min_area=10**6)).id) == 0


def test_grey_pictures_and_a_segmenter_in_place_of_the_cut():
    images, ids = planted(2)
    grey = images.mean(-1, keepdims=True).astype(np.uint8)
    assert (drift(grey, grey, ids).reasons(2, DriftSettings()) == "").all()
    semantic = np.where(ids == 2, 1, np.where(ids == 1, 2, 0)).astype(np.int32)

    def segment(pictures):  # right about everything in the renders; half of object 1 is lost afterwards
        said = semantic.copy()
        if pictures is not images:
            said[:, ::2][semantic[:, ::2] == 2] = 0
        return said

    found = drift(images, images.copy(), ids, semantic=semantic, segment=segment)
    half = [float((ids[i, 1::2] == 1).sum() / (ids[i] == 1).sum()) for i in range(2)]
    np.testing.assert_allclose(found.masks, [half[0], 1, half[1], 1], atol=1e-9)
    with pytest.raises(ImgsynthError, match="a segmenter needs"):
        drift(images, images, ids, segment=segment)
    with pytest.raises(ImgsynthError, match="drift: edges: expected 0 to 1"):
        DriftSettings(edges=2)


def test_the_reason_is_of_the_worst_object_and_edges_are_said_first():
    table = Drift(
        np.array([0, 0, 1, 2, 3], np.int32), np.array([1, 2, 1, 1, 1], np.int32),
        np.array([1, 0.2, np.nan, 1, np.nan]), np.array([0.1, 1, 0.3, 1, np.nan]),
    )  # fmt: skip
    assert table.reasons(4, DriftSettings()).tolist() == ["edges", "masks", "", ""]
    np.testing.assert_array_equal(table.confidence, [0.1, 0.2, 0.3, 1, np.nan])
