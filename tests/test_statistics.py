"""Statistics of looks: each planted shift is found, named first, and told what to do; halves of one set differ by nothing."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError
from imgsynth.evaluate.appearance import HUES, appearance
from imgsynth.evaluate.statistics import statistics

SIZE = 24


def photos(n: int, seed: int, classes: int = 3, tracks: int = 40) -> LabelledImages:
    """Soft coloured clouds whose look varies from track to track."""
    rng = np.random.default_rng(seed)
    track = rng.integers(0, tracks, n)
    own = np.random.default_rng(99).normal(0, 1, (tracks, 4))  # the tracks of every set are of one kind
    own = own + rng.normal(0, 0.3, own.shape)
    field = rng.normal(0, 1, (n, SIZE, SIZE, 3)).astype(np.float32)
    soft = np.stack([cv2.GaussianBlur(f, (0, 0), 2) for f in field])
    soft /= soft.std(axis=(1, 2, 3), keepdims=True)
    level = 110 + 25 * own[track, 0]
    images = level[:, None, None, None] + (25 + 4 * own[track, 1])[:, None, None, None] * soft
    images += (own[track, 2] * 6)[:, None, None, None] * np.array([1, 0, -1])
    labels = rng.integers(0, classes, n)
    names = tuple("abc"[:classes])
    return LabelledImages(
        np.clip(images, 0, 255).astype(np.uint8),
        labels,
        names,
        np.array([f"t{t}" for t in track]),
        f"set{seed}",
    )


def changed(data: LabelledImages, change) -> LabelledImages:
    images = np.clip(np.rint(change(data.images.astype(np.float32))), 0, 255).astype(np.uint8)
    return replace(data, images=images)


def blurred(images):
    return np.stack([cv2.GaussianBlur(i, (0, 0), 1.5) for i in images])


REAL = photos(1500, 1)


@pytest.mark.parametrize(
    ("change", "figure", "sign", "word"),
    [
        (lambda x: x + 30, "luminance", 1, "less light"),
        (lambda x: x.mean(axis=(1, 2, 3), keepdims=True) * 0.7 + 0.3 * x, "contrast", -1, "less veil"),
        (blurred, "sharpness", -1, "less blur"),
        (lambda x: x + np.array([18, 0, -18]), "warmth", 1, "cooler"),
        (lambda x: x + np.array([-14, 14, -14]), "green cast", 1, "less green"),
        (lambda x: x + np.random.default_rng(0).normal(0, 12, x.shape), "noise", 1, "less noise"),
    ],
)
def test_a_planted_shift_is_found_and_named(change, figure, sign, word):
    found = statistics(changed(photos(800, 2), change), REAL)
    gap = next(g for g in found.gaps if g.figure == figure)
    assert gap.differs and np.sign(gap.shift) == sign and word in gap.advice
    assert found.gaps.index(gap) < 6  # among the greatest distances
    assert gap.distance > 1.2 * gap.null_distance
    assert f"- {figure}: too {'high' if sign > 0 else 'low'}" in found.text()


def test_two_sets_of_one_kind_stay_near_the_null_band():
    found = statistics(photos(1500, 3), REAL)
    assert sum(g.differs for g in found.gaps) <= 4
    assert max(g.distance for g in found.gaps) < 0.2
    same = statistics(REAL, REAL)
    assert not any(g.differs for g in same.gaps) and max(g.distance for g in same.gaps) < 1e-9
    assert "Nothing stands out." in same.text()


def test_another_mix_of_classes_is_no_difference_in_looks():
    """Class b is bright: a set with few of b has other raw means, but the same look class by class."""
    data = photos(3000, 4)
    data = replace(
        data, images=np.where((data.labels == 1)[:, None, None, None], 250, data.images).astype(np.uint8)
    )
    few = data.subset(np.flatnonzero((data.labels != 1) | (np.arange(len(data)) % 10 == 0)))
    gap = next(g for g in statistics(few, data).gaps if g.figure == "luminance")
    assert abs(gap.shift) < 0.1
    assert few.images.mean() < data.images.mean() - 20


def test_a_class_of_its_own_light_is_named():
    odd = photos(1500, 5)
    images = odd.images.copy()
    images[odd.labels == 2] //= 2
    found = statistics(replace(odd, images=images), REAL)
    assert [(c.class_name, c.shift < 0) for c in found.classes if c.figure == "luminance"] == [("c", True)]
    assert found.classes[0].class_name == "c" and abs(found.classes[0].shift) > 1


def test_narrow_ranges_are_told():
    narrow = photos(800, 6)
    mean = narrow.images.mean(axis=(1, 2, 3), keepdims=True)
    found = statistics(changed(narrow, lambda x: x - mean + mean.mean()), REAL)
    gap = next(g for g in found.gaps if g.figure == "luminance")
    assert gap.spread < 0.3 and "varies too little" in gap.advice


def test_null_band_is_wider_where_tracks_are_few():
    few = replace(REAL, groups=np.array([f"{int(g[1:]) % 5}" for g in REAL.groups]))
    wide = {g.figure: g.null_shift for g in statistics(REAL, few).gaps}
    tight = {g.figure: g.null_shift for g in statistics(REAL, replace(REAL, groups=None)).gaps}
    assert wide["luminance"] > 2 * tight["luminance"]


def test_figures_of_known_images():
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    images = np.zeros((3, 32, 32, 3), np.uint8)
    images[0] = ramp[None, :, None]
    images[1] = (200, 0, 0)
    images[2, 8:24, 8:24] = 255
    found = appearance(images)
    grey = ramp / 255
    assert found["luminance"][0] == pytest.approx(grey.mean(), abs=3e-3)
    assert found["contrast"][0] == pytest.approx(grey.std(), abs=3e-3)
    assert found["noise"][0] == pytest.approx(0, abs=0.02)  # a ramp is no noise
    assert found["red"][1] == 1 and found["saturation"][1] == pytest.approx(200 / 255, abs=1e-3)
    assert found["warmth"][1] == pytest.approx(200 / 255, abs=1e-3)
    assert found["centre"][2] == pytest.approx(1) and found["white"][2] == pytest.approx(0.25)
    assert found["black"][2] == pytest.approx(0.75)
    assert "red" not in appearance(images[..., :1]) and set(HUES) < set(found)


def test_slope_of_power_law_noise():
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    f[0, 0] = 1
    slopes = {}
    for exponent in (0, 2):
        field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(60, 64, 64))) * f ** (-exponent / 2)).real
        field /= field.std(axis=(1, 2), keepdims=True)
        images = np.clip(128 + 30 * field, 0, 255).astype(np.uint8)[..., None]
        slopes[exponent] = appearance(images)["slope"].mean()
    assert slopes[0] == pytest.approx(0, abs=0.15) and slopes[2] == pytest.approx(-2, abs=0.25)


def test_misuse_is_one_line():
    with pytest.raises(DataError, match="no class in common"):
        statistics(replace(photos(50, 7), classes=("x", "y", "z")), REAL)
    with pytest.raises(DataError, match="at least two groups"):
        statistics(REAL, replace(REAL, groups=np.array(["one"] * len(REAL))))
    with pytest.raises(DataError, match="8 × 8"):
        statistics(REAL, replace(REAL, images=REAL.images[:, :4, :4]))


def test_json_is_plain_and_sorted():
    import json

    told = json.loads(json.dumps(statistics(photos(300, 8), REAL).to_json()))
    distances = [f["distance"] for f in told["figures"]]
    assert distances == sorted(distances, reverse=True)
    assert told["real"] == {"name": "set1", "images": 1500}
