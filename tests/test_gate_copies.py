"""Copies and near-duplicates against planted ones; the distance against what it must and must not see."""

import cv2
import numpy as np
import pytest

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.sources import load
from imgsynth.errors import DataError
from imgsynth.gate.duplicates import Nearness
from imgsynth.gate.memory import Memory
from imgsynth.gate.signature import Form, Look, similarities


def blobs(n, side=28, channels=1, seed=0):
    """Smooth random pictures with some detail: each its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 7, 7, channels))
    out = np.stack(
        [
            cv2.resize(c, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, channels)
            for c in coarse
        ]
    )
    return np.clip(40 + 170 * out, 0, 255).astype(np.uint8)


def moved(images, dy, dx):
    return np.roll(images, (dy, dx), axis=(1, 2))


def edited(images, how, rng, shift=2):
    """Copies as a generator makes them."""
    out = images
    if "flip" in how:
        out = out[:, :, ::-1]
    if "shift" in how:
        steps = [
            (y, x) for y in range(-shift, shift + 1) for x in range(-shift, shift + 1) if (y, x) != (0, 0)
        ]
        side = ((shift, shift), (shift, shift), (0, 0))
        h, w = out.shape[1:3]
        chosen = [steps[k] for k in rng.integers(0, len(steps), len(out))]
        out = np.stack(
            [
                np.pad(x, side, "edge")[shift + y : shift + y + h, shift + z : shift + z + w]
                for x, (y, z) in zip(out, chosen, strict=True)
            ]
        )
    if "contrast" in how:
        out = np.rint(
            out * rng.uniform(0.7, 0.9, (len(out), 1, 1, 1)) + rng.uniform(0, 25, (len(out), 1, 1, 1))
        )
    if "noise" in how:
        out = out + rng.normal(0, 4, out.shape)
    out = np.clip(np.rint(out), 0, 255).astype(np.uint8)
    if "jpeg" in how:
        packed = [cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 80])[1] for x in out]
        out = np.stack([cv2.imdecode(b, cv2.IMREAD_UNCHANGED).reshape(out.shape[1:]) for b in packed])
    return out


def as_data(images, labels=None, groups=None, classes=3, name="set"):
    y = np.arange(len(images)) % classes if labels is None else labels
    return LabelledImages(images, np.asarray(y, np.int64), tuple("abcdefghij"[:classes]), groups, name)


# ---- the distance ----


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, -2), (-1, 2)])
def test_flips_shifts_brightness_and_contrast_are_the_same_picture(channels, dy, dx):
    images = blobs(40, channels=channels)
    look = Look.fit(images)
    marks = look.marks(images)
    for twin in (moved(images, dy, dx), moved(images[:, :, ::-1], dy, dx), moved(images // 2 + 60, dy, dx)):
        found = look.nearest(twin, marks, 2)
        assert np.array_equal(found.row[:, 0], np.arange(40))
        assert found.distance[:, 0].max() < 0.05 < 0.3 < found.distance[:, 1].min()


def test_a_shift_beyond_what_is_seen_and_an_upside_down_picture_are_others():
    images = blobs(40)
    look = Look.fit(images)
    marks = look.marks(images)
    for other in (moved(images, 6, 6), images[:, ::-1]):
        own = [similarities(look.views(x[None]), m[None])[0, 0] for x, m in zip(other, marks, strict=True)]
        assert np.sqrt(2 - 2 * np.median(own)) > 0.4


def test_distance_is_the_least_over_all_views_of_marks():
    images, others = blobs(5), blobs(30, seed=1)
    look = Look.fit(others)
    found = look.nearest(images, look.marks(others), 30)
    marks = look.marks(others).astype(float)
    for i, image in enumerate(images):
        views = []
        for side in (image, image[:, ::-1]):
            for y in range(-2, 3):
                for x in range(-2, 3):
                    part = (
                        side[2 + y : 26 + y, 2 + x : 26 + x]
                        .astype(float)
                        .reshape(12, 2, 12, 2)
                        .mean(axis=(1, 3))
                    )
                    mark = (part - part.mean()).ravel() @ look.components
                    views.append(mark / np.linalg.norm(mark))
        wanted = np.linalg.norm(np.array(views)[:, None] - marks, axis=2).min(axis=0)
        assert np.allclose(np.sort(wanted), found.distance[i], atol=2e-3)
        assert np.allclose(wanted[found.row[i]], found.distance[i], atol=2e-3)


def test_an_image_finds_the_same_whatever_it_stands_with():
    images = blobs(50)
    look = Look.fit(images)
    marks = look.marks(blobs(3000, seed=2))
    whole = look.nearest(images, marks, 3)
    alone = [look.nearest(images[i : i + 1], marks, 3) for i in (0, 7, 49)]
    turned = look.nearest(images[::-1], marks, 3)
    assert all(np.array_equal(whole.row[i], a.row[0]) for i, a in zip((0, 7, 49), alone, strict=True))
    assert np.array_equal(whole.row, turned.row[::-1])
    assert np.allclose(whole.distance, turned.distance[::-1], atol=1e-4)


def test_own_group_and_missing_neighbours():
    images = blobs(6)
    look = Look.fit(images)
    group = np.array([0, 0, 1, 1, 2, 2])
    found = look.nearest(images, look.marks(images), 5, own=group, groups=group)
    assert np.all(group[found.row[:, :4]] != group[:, None])
    assert np.all(found.row[:, 4] == -1) and np.all(np.isinf(found.distance[:, 4]))
    assert np.all(look.nearest(images, np.zeros((0, look.components.shape[1]), np.float32)).row == -1)


def test_a_blank_is_near_to_nothing():
    images = np.concatenate([blobs(10), np.full((2, 28, 28, 1), 90, np.uint8)])
    look = Look.fit(images[:10])
    found = look.nearest(images, look.marks(images))
    assert np.allclose(found.distance[10:, 0], np.sqrt(2))


def test_forms():
    assert (Form((28, 28), 1).margin, Form((32, 32), 3).margin, Form((8, 8), 1).margin) == (2, 2, 1)
    assert Form((64, 96), 3).work == (21, 32)
    with pytest.raises(DataError, match="at least 6 pixels"):
        Form((5, 40), 1)
    with pytest.raises(DataError, match="expected uint8"):
        Look.fit(blobs(4)).marks(blobs(2, side=32))


# ---- the audit ----


@pytest.fixture(scope="module")
def digits():
    """Real digits: 6 writers' blocks trained on, and held-out ones, half to set the threshold, half to test."""
    data = load("sklearn:digits")
    block = data.groups.astype(int)
    part = [data.subset(np.isin(block, b)) for b in ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7], [9, 11, 12])]
    return [*part, Memory.fit(part[0], part[1])]


def test_innocent_images_raise_no_more_alarms_than_stated(digits):
    _, _, fresh, memory = digits
    found = memory.audit(fresh.images)
    assert found.copy.mean() <= 0.03  # 1 % stated; 3 blocks of 138: chance reaches 3 %
    assert found.share().lo <= 0.01
    assert np.mean(found.p <= 0.2) < 0.35


@pytest.mark.parametrize(
    "how", ["exact", "flip", "shift", "noise", "jpeg", "contrast", "flip+contrast+noise"]
)
def test_planted_copies_are_found(digits, how):
    train, _, _, memory = digits
    rows = np.random.default_rng(0).choice(len(train), 200, replace=False)
    found = memory.audit(edited(train.images[rows], how, np.random.default_rng(1), shift=1))
    least = 0.75 if how == "shift" else 0.95  # of 8 × 8 pixels a shift loses a row and a column of the digit
    assert found.copy.mean() >= least
    assert np.mean(found.nearest[found.copy] == rows[found.copy]) > 0.98


def test_the_share_of_copies_is_recovered(digits):
    train, _, fresh, memory = digits
    planted = np.concatenate([train.images[:60], fresh.images[:340]])
    found = memory.audit(planted)
    share = found.share()
    assert share.lo < 0.15 < share.hi and set(found.worst(40)) <= set(range(60))
    assert np.all(found.to_training[:60] < 0.001) and np.all(found.p[:60] <= 0.01)


def test_the_audit_needs_a_control(digits):
    train, held, _, memory = digits
    with pytest.raises(DataError, match="at least 99 held-out"):
        Memory.fit(train, held.subset(np.arange(60)))
    with pytest.raises(DataError, match=r"group '1' has images in the training set"):
        Memory.fit(load("sklearn:digits"), held)
    with pytest.raises(DataError, match="1 groups of held-out images are too few"):
        Memory.fit(train, held.subset(held.groups.astype(int) == 1))
    with pytest.raises(DataError, match="false alarms"):
        Memory.fit(train, held, false_alarm=0.0)
    with pytest.raises(DataError, match="expected images uint8"):
        memory.audit(np.zeros((2, 8, 8, 1)))
    assert memory.record()["seen"] == {"reflections": True, "shift_px": 1, "at_size": [8, 8]}


# ---- near-duplicates ----


def test_the_first_of_each_kind_stays_and_shards_change_nothing():
    rng = np.random.default_rng(5)
    real = as_data(blobs(300, seed=9))
    near = Nearness.fit(real, Look.fit(real.images), false_drop=0.02)
    once = blobs(30, seed=3)
    origin = np.concatenate([np.arange(30), rng.integers(0, 30, 40)])
    images = np.concatenate([once, edited(once[origin[30:]], "flip+shift+noise", rng)])
    order = rng.permutation(70)
    images, origin = images[order], origin[order]
    first = np.array([np.flatnonzero(origin == o)[0] for o in origin])
    labels, able = np.zeros(70, np.int64), np.ones(70, bool)
    names, distance, marks = near.first_of_kind(images, labels, able)
    kept = np.flatnonzero(names < 0)
    assert np.array_equal(kept, np.unique(first))
    assert np.array_equal(kept[names[names >= 0]], first[names >= 0])
    assert np.array_equal(marks, near.look.marks(images[kept])) and np.isinf(distance[0])
    for cuts in ([1, 2, 40], [33], list(range(5, 70, 5))):
        seen, parts = None, []
        for rows in np.split(np.arange(70), cuts):
            found, _, seen = near.first_of_kind(images[rows], labels[rows], able[rows], seen)
            parts.append(found)
        assert np.array_equal(np.concatenate(parts), names) and np.allclose(seen, marks, atol=1e-6)
    # What failed another test hides nothing: without it its twin is the first.
    able[kept[0]] = False
    again = near.first_of_kind(images, labels, able)[0]
    assert np.flatnonzero((origin == origin[kept[0]]) & able & (again < 0)).size == (
        np.sum(origin == origin[kept[0]]) > 1
    )


def test_real_images_are_hardly_ever_called_duplicates():
    data = load("sklearn:digits")
    train, fresh = data.subset(data.groups.astype(int) < 7), data.subset(data.groups.astype(int) >= 7)
    near = Nearness.fit(train, Look.fit(train.images), false_drop=0.02)
    found = near.first_of_kind(fresh.images, fresh.labels, np.ones(len(fresh), bool))[0]
    assert np.mean(found >= 0) <= 0.04
    assert np.all(near.thresholds > 0)


def test_scarce_classes_share_a_threshold():
    images = blobs(120, seed=4)
    labels = np.repeat([0, 1, 2], [110, 8, 2])
    near = Nearness.fit(as_data(images, labels), Look.fit(images), false_drop=0.05)
    assert near.thresholds[1] == near.thresholds[2] != near.thresholds[0]
