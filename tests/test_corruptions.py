"""Corruptions: determinism, closed forms of what each effect does, and mPC of models whose errors are known."""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate import effects
from imgsynth.evaluate.corruptions import score_corrupted
from imgsynth.evaluate.imagenet_c import CORRUPTIONS, SEVERITIES, CorruptedImages, corrupt

NAMES = list(CORRUPTIONS)


def photo(height, width, channels=3, seed=0):
    """Smooth blobs with a hard edge: something that every corruption changes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(6 * (a * x + b * y) + c) for a, b, c in rng.uniform(-1, 1, (channels, 3))]
    out = 0.45 + 0.25 * np.stack(waves, axis=-1) + 0.25 * ((x + y) % 0.25 < 0.125)[..., None]
    return np.rint(np.clip(out, 0, 1) * 255).astype(np.uint8)


def damage(image, name, severity, **how):
    """Mean change of a value; of frost, which keeps the mean and hides the rest, the loss of correlation."""
    made = corrupt(image, name, severity, **how).astype(float)
    if name == "frost":
        return 100 * (1 - np.corrcoef(made.ravel(), image.ravel())[0, 1])
    return np.abs(made - image).mean()


def test_there_are_fifteen_with_five_severities_each():
    assert len(NAMES) == 15 and SEVERITIES == (1, 2, 3, 4, 5)
    assert all(len(c.large) == len(c.small) == 5 for c in CORRUPTIONS.values())


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(1, 5),
    st.integers(2, 70),
    st.integers(2, 70),
    st.sampled_from([1, 3]),
    st.sampled_from(["photo", "black", "white", "noise"]),
)
def test_any_image_comes_back_as_one_of_its_kind_and_the_same_each_time(
    name, severity, height, width, channels, kind
):
    image = {
        "photo": photo(height, width, channels),
        "black": np.zeros((height, width, channels), np.uint8),
        "white": np.full((height, width, channels), 255, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8),
    }[kind]
    before = image.copy()
    made = corrupt(image, name, severity, seed=3, number=8)
    assert made.shape == image.shape and made.dtype == np.uint8
    np.testing.assert_array_equal(made, corrupt(image, name, severity, seed=3, number=8))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [8, 32, 250])
def test_worse_severities_do_more_harm_at_every_size(name, side):
    image = photo(side, side)
    harm = [np.mean([damage(image, name, s, number=i) for i in range(1 + 100 // side)]) for s in SEVERITIES]
    assert harm[4] > harm[0] and harm[4] > 1.5, harm
    calm = {"glass_blur", "snow", "frost", "pixelate", "defocus_blur", "fog"}  # the authors' constants swing
    if name not in calm and side >= 32:
        assert all(a < b * 1.02 for a, b in pairwise(harm)), harm


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg"}))  # fmt: skip
def test_seed_and_image_number_tell_draws_apart(name):
    image = photo(40, 50)
    first = corrupt(image, name, 5, seed=1, number=1)
    assert np.any(first != corrupt(image, name, 5, seed=1, number=2))
    assert np.any(first != corrupt(image, name, 5, seed=2, number=1))


def test_constants_are_the_authors_at_their_sizes_and_lie_between_elsewhere():
    c = CORRUPTIONS["gaussian_noise"]
    assert c.constants(5, 224) == pytest.approx([0.38]) and c.constants(5, 32) == pytest.approx([0.10])
    assert c.constants(5, np.sqrt(224 * 32)) == pytest.approx([np.sqrt(0.38 * 0.10)])
    assert c.constants(5, 900) == pytest.approx([0.38]) and c.constants(5, 8) == pytest.approx([0.10])
    blur = CORRUPTIONS["defocus_blur"]
    assert blur.constants(5, 448) == pytest.approx([20, 1]) and blur.constants(5, 16)[0] == pytest.approx(
        0.75
    )
    assert CORRUPTIONS["pixelate"].constants(1, 448) == pytest.approx([0.3])
    assert CORRUPTIONS["pixelate"].constants(1, 8) == pytest.approx([0.95])


# Closed forms


def rng():
    return np.random.Generator(np.random.Philox(key=5))


def test_noises_have_the_spread_they_are_given():
    grey = np.full((300, 300, 3), 0.4, np.float32)
    noise = effects.gaussian_noise(grey, rng(), 0.1) - grey
    assert noise.std() == pytest.approx(0.1, rel=0.01) and noise.mean() == pytest.approx(0, abs=1e-3)
    shot = effects.shot_noise(grey, rng(), 25.0)
    assert shot.mean() == pytest.approx(0.4, abs=1e-3) and shot.var() == pytest.approx(0.4 / 25, rel=0.02)
    impulse = effects.impulse_noise(grey, rng(), 0.2)
    assert np.mean(impulse == 0) == pytest.approx(0.1, abs=0.003)
    assert np.mean(impulse == 1) == pytest.approx(0.1, abs=0.003)


def moments(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    w = image / image.sum()
    cy, cx = (w * y).sum(), (w * x).sum()
    return cy, cx, (w * (y - cy) ** 2).sum(), (w * (x - cx) ** 2).sum()


def test_blurs_keep_light_and_place():
    point = np.zeros((81, 81, 1), np.float32)
    point[40, 40] = 1
    for radius in (0.4, 3.0, 10.0):
        spot = effects.defocus_blur(point, rng(), radius, 0.1)[..., 0]
        cy, cx, vy, vx = moments(spot)
        assert spot.sum() == pytest.approx(1, abs=1e-4) and (cy, cx) == pytest.approx((40, 40), abs=0.01)
        # The variance of a disk is r²/4 along an axis; sharing between pixels adds up to ¼, softness the rest.
        assert vy == pytest.approx(vx, abs=0.02) and -0.05 <= vy - radius**2 / 4 <= 0.4
    for _ in range(5):
        streak = effects.motion_blur(point, rng(), 15.0, 8.0)[..., 0]
        cy, cx, vy, vx = moments(streak)
        assert streak.sum() == pytest.approx(1, abs=1e-4) and (cy, cx) == pytest.approx((40, 40), abs=0.02)
        assert vx > vy  # within 45° of level
    zoomed = effects.zoom_blur(point, rng(), 0.1, 0.01)[..., 0]
    assert moments(zoomed)[:2] == pytest.approx((40, 40), abs=0.01)


def test_elastic_moves_pixels_as_far_as_it_says():
    y, x = np.mgrid[:200, :200].astype(np.float32)
    moved = effects.elastic(np.stack([y, x, y], axis=-1), rng(), 1.5, 4.0)[20:-20, 20:-20]
    shift = moved[..., :2] - np.stack([y, x], axis=-1)[20:-20, 20:-20]
    assert np.sqrt((shift**2).mean()) == pytest.approx(1.5, rel=0.1) and np.abs(shift).max() < 4.6
    assert np.abs(shift.mean(axis=(0, 1))).max() < 0.4  # no shift of the whole: 3 sd of a mean


def test_contrast_and_brightness_do_what_they_say():
    image = photo(40, 40).astype(np.float32) / 255
    flat = effects.contrast(image, rng(), 0.3)
    np.testing.assert_allclose(flat.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(flat.std(axis=(0, 1)), 0.3 * image.std(axis=(0, 1)), rtol=1e-4)
    bright = effects.brightness(image, rng(), 0.2)
    np.testing.assert_allclose(bright.max(axis=2), np.minimum(image.max(axis=2) + 0.2, 1), atol=1e-5)
    # Hue and saturation stay: the ratios of a pixel's values do.
    np.testing.assert_allclose(bright[..., 0] * image[..., 1], bright[..., 1] * image[..., 0], atol=1e-5)
    assert effects.brightness(np.zeros((2, 2, 3), np.float32), rng(), 0.2) == pytest.approx(0.2)


def test_pixelate_makes_squares_of_means():
    image = np.arange(64, dtype=np.float32).reshape(8, 8, 1) / 64
    made = effects.pixelate(image, rng(), 0.5)
    np.testing.assert_allclose(made[::2, ::2, 0], image.reshape(4, 2, 4, 2).mean(axis=(1, 3)), atol=1e-6)
    np.testing.assert_array_equal(made[::2], made[1::2])


def test_corrupted_images_are_read_when_asked_for_and_travel():
    clean = [photo(20, 30, seed=i) for i in range(3)]
    some = CorruptedImages(clean, "frost", 4, seed=2)
    assert len(some) == 3
    back = pickle.loads(pickle.dumps(some))
    for i in range(3):
        np.testing.assert_array_equal(back[i], corrupt(clean[i], "frost", 4, seed=2, number=i))


@pytest.mark.parametrize(
    "image, name, severity, message",
    [
        (photo(8, 8), "rain", 1, "a corruption among gaussian_noise"),
        (photo(8, 8), "fog", 6, "severity from 1 to 5, got 6"),
        (photo(8, 8)[..., 0], "fog", 1, "expected an image"),
        (photo(8, 8).astype(float), "fog", 1, "expected an image uint8"),
        (photo(1, 8), "fog", 1, r"got uint8 \(1, 8, 3\)"),
    ],
)
def test_what_is_not_an_image_or_a_corruption_is_refused(image, name, severity, message):
    with pytest.raises(DataError, match=message):
        corrupt(image, name, severity)


# Scores


class ByBrightness:
    """Says "dark" below a mean of 128: known to fail when dark images are made bright, and never else."""

    classes = ("bright", "dark")

    def predict(self, images):
        dark = images.reshape(len(images), -1).mean(axis=1) < 128
        return np.column_stack([~dark, dark]).astype(float)


def halves(n=40, groups=None):
    images = np.where(np.arange(n) % 2, 60, 200)[:, None, None, None] + np.zeros((n, 16, 16, 1), int)
    return LabelledImages(images.astype(np.uint8), np.arange(n) % 2, ("bright", "dark"), groups, "halves")


def test_mpc_of_a_classifier_whose_mistakes_are_known():
    out = score_corrupted(ByBrightness(), halves(), corruptions=["brightness", "contrast"], bootstrap=100)
    assert out["clean"]["mean"] == 1 and out["figure"] == "accuracy" and out["task"] == "classify"
    # 60 / 255 + .3 is the first step past the middle: half of the images are wrong then.
    each = [out["corruptions"]["brightness"]["severities"][str(s)]["mean"] for s in SEVERITIES]
    assert each == [1, 1, 1, 1, 0.5] and out["corruptions"]["contrast"]["mean"] == 1
    assert out["corruptions"]["brightness"]["mean"] == pytest.approx(0.9)
    assert out["mPC"]["mean"] == pytest.approx(0.95) and out["rPC"]["mean"] == pytest.approx(0.95)
    lo, hi = out["corruptions"]["brightness"]["severities"]["5"]["ci95"]
    assert lo == pytest.approx(0.5 - 0.155, abs=0.04) and hi == pytest.approx(0.5 + 0.155, abs=0.04)
    json.dumps(out, allow_nan=False)
    again = score_corrupted(ByBrightness(), halves(), corruptions=["brightness", "contrast"], bootstrap=100)
    assert again == out
    tracks = score_corrupted(
        ByBrightness(), halves(40, np.arange(40) // 4), corruptions=["fog"], bootstrap=20
    )
    assert tracks["resampled"] == {"units": 10, "of": "groups"}


class Spotter:
    """Finds the one bright square of a dark image."""

    classes, task = ("square",), "detect"

    def predict(self, images, *, progress=None):
        rows = []
        for i in range(len(images)):
            lit = images[i].mean(axis=2) > 128
            if lit.any():
                y, x = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
                rows.append((i, x[0], y[0], x[-1] + 1, y[-1] + 1))
        table = np.array(rows, float).reshape(-1, 5)
        k = len(table)
        return Detections(
            len(images),
            table[:, 0].astype(int),
            table[:, 1:],
            np.zeros(k, int),
            np.ones(k),
            None,
            ("square",),
        )


def squares(n=6):
    images = []
    for i in range(n):
        image = np.full((64, 64, 3), 30, np.uint8)
        image[20:44, 10 + i : 34 + i] = 220
        images.append(image)
    boxes = np.array([[10 + i, 20, 34 + i, 44] for i in range(n)], float)
    return AnnotatedImages(
        images, np.full((n, 2), 64), np.arange(n), boxes, np.zeros(n, int), None, np.zeros(n, bool),
        ("square",), None, np.array([str(i) for i in range(n)]), "squares",
    )  # fmt: skip


def test_mpc_of_a_detector_and_labels_that_stay_true():
    seen = []
    still = ["defocus_blur", "motion_blur", "elastic", "glass_blur", "pixelate", "jpeg", "frost"]
    out = score_corrupted(
        Spotter(), squares(), corruptions=[*still, "contrast"], severities=[1, 3], bootstrap=50,
        progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert seen[0] == (1, 17) and seen[-1] == (17, 17)
    assert out["figure"] == "AP" and out["task"] == "detect" and out["clean"]["mean"] == 1
    # Blurs and shifts leave the square where its box is, to within the sharpest of thresholds or two.
    for name in still:
        assert out["corruptions"][name]["severities"]["1"]["mean"] >= 0.8, (name, out["corruptions"][name])
    assert out["corruptions"]["contrast"]["severities"]["3"]["mean"] == 0  # 220 falls below the bar
    assert out["rPC"]["mean"] == pytest.approx(out["mPC"]["mean"])
    json.dumps(out, allow_nan=False)


def test_models_and_data_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="squares has boxes"):
        score_corrupted(ByBrightness(), squares())
    with pytest.raises(ModelError, match="finds objects"):
        score_corrupted(Spotter(), halves())
    with pytest.raises(ModelError, match="'eel' is not among"):
        score_corrupted(
            ByBrightness(), LabelledImages(halves(1).images, np.zeros(1, int), ("eel",), None, "x")
        )
    with pytest.raises(DataError, match="a corruption among"):
        score_corrupted(ByBrightness(), halves(), corruptions=["rain"])
    with pytest.raises(DataError, match="at least one"):
        score_corrupted(ByBrightness(), halves(), corruptions=[])
