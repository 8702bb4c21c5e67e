"""Vignetting, lateral chromatic aberration, the filmic curve, and albumentations' transforms by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_sensor import grey, shoot

from imgsynth import generate
from imgsynth.cameraspec import EffectSpec
from imgsynth.errors import SceneError
from imgsynth.scene import SceneSpec
from imgsynth.scenefile import Scene
from imgsynth.sensor import Effects, aberrated, vignetted


def radius2(height: int, width: int) -> np.ndarray:
    """(H, W) squared distance from the centre, 1 in the corners."""
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x - width / 2) ** 2 + (y - height / 2) ** 2) / ((width**2 + height**2) / 4)


def test_vignetting_is_the_fourth_power_of_the_cosine():
    """Of a lens whose corners stand at the angle with cos⁴ = 1 - lost."""
    light = np.ones((2, 30, 40, 3), np.float32)
    out = vignetted(light, np.array([0.6, 0.0]), np.zeros((2, 3)))
    corner = np.arccos(0.4**0.25)
    angle = np.arctan(np.tan(corner) * np.sqrt(radius2(30, 40)))
    np.testing.assert_allclose(out[0, ..., 1], np.cos(angle) ** 4, rtol=1e-5)
    np.testing.assert_array_equal(out[1], light[1])


def test_vignetting_by_a_polynomial():
    light = np.full((1, 20, 20, 1), 0.5, np.float32)
    rho = radius2(20, 20)
    out = vignetted(light, np.zeros(1), np.array([[-0.3, 0.1, -0.2]]))
    np.testing.assert_allclose(out[0, ..., 0], 0.5 * (1 - 0.3 * rho + 0.1 * rho**2 - 0.2 * rho**3), rtol=1e-5)


def test_aberration_enlarges_red_and_blue_about_the_centre():
    """A straight ramp stays one, with another slope about the picture's middle; green stays itself."""
    x = np.arange(64) + 0.5 - 32
    image = np.broadcast_to((x / 100)[None, None, :, None], (1, 48, 64, 3)).astype(np.float32)
    out = aberrated(image, np.array([[0.02, -0.01]]))
    inner = slice(4, -4)
    np.testing.assert_allclose(out[0, 10, inner, 0], (x / 102)[inner], atol=1e-6)
    np.testing.assert_allclose(out[0, 10, inner, 2], (x / 99)[inner], atol=1e-6)
    np.testing.assert_array_equal(out[..., 1], image[..., 1])


def test_filmic_has_a_shoulder_where_the_plain_curve_clips():
    light = grey([0.0, 0.18, 1.0, 4.0], 4)
    plain = shoot(light, tone="linear")[:, 0, 0, 0]
    half, whole = (shoot(light, tone="linear", filmic=f)[:, 0, 0, 0].astype(float) for f in (0.5, 1.0))
    x = np.array([0.0, 0.18, 1.0, 4.0])
    expected = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    np.testing.assert_allclose(whole, np.clip(expected, 0, 1) * 255, atol=0.51)
    np.testing.assert_allclose(half, np.clip((x + expected) / 2, 0, 1) * 255, atol=0.51)
    assert plain[2] == plain[3] == 255
    assert whole[2] < whole[3]


def test_each_is_off_by_default_and_alone_as_in_a_batch():
    light = np.random.default_rng(0).random((3, 16, 24, 3), dtype=np.float32)
    plain = shoot(light)
    on = {
        "vignetting": np.array([0, 0.5, 0]),
        "vignette_terms": np.array([[0, 0, 0], [0.1, 0, 0], [0, 0, 0]]),
        "chromatic": np.array([[0, 0], [0.05, -0.02], [0, 0]]),
        "filmic": np.array([0, 0.7, 0]),
    }
    some = shoot(light, **on)
    np.testing.assert_array_equal(some[[0, 2]], plain[[0, 2]])
    assert np.any(some[1] != plain[1])
    alone = shoot(light[1:2], **{name: values[1:2] for name, values in on.items()})
    np.testing.assert_array_equal(alone[0], some[1])


def spec_of(**sensor: object) -> SceneSpec:
    return SceneSpec.model_validate(
        {
            "name": "one",
            "classes": ["thing"],
            "image": {"size": [48, 64]},
            "renderer": {"samples": 1},
            "objects": {"box": {"class": "thing", "shape": {"box": {"size": 0.3}}}},
            "sensor": sensor,
        }
    )


def labels_of(made) -> list[np.ndarray]:
    buffers, rows = made.buffers, made.instances
    return [buffers.instance, buffers.depth, buffers.normal, made.semantic, rows.box_visible, rows.box_amodal]


def test_the_sensor_moves_no_label():
    """What blurs, darkens and fringes changes colours only."""
    lens = {"vignetting": 0.5, "chromatic": [0.02, -0.02], "blur_px": 1.5, "motion_px": 4, "filmic": 1}
    noisy = {"shot_noise": 0.01, "mosaic": 1, "sharpen": 1, "jpeg_quality": 40}
    plain = generate.frames(Scene(spec_of(), Path()).plan(), 0, range(2))
    made = generate.frames(Scene(spec_of(**lens, **noisy), Path()).plan(), 0, range(2))
    assert np.any(made.images != plain.images)
    for a, b in zip(labels_of(made), labels_of(plain), strict=True):
        np.testing.assert_array_equal(a, b)


def effects(*names: str, **options: object) -> Effects:
    pytest.importorskip("albumentations")
    return Effects([EffectSpec.model_validate({"name": name, **options}) for name in names])


PICTURES = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "name", ["GaussNoise", "RandomBrightnessContrast", "ISONoise", "RandomFog", "RandomRain"]
)
def test_an_effect_is_the_same_alone_in_a_batch_and_again(name):
    together = effects(name).apply(PICTURES, 5, np.arange(4))
    alone = effects(name).apply(PICTURES[2:3], 5, np.array([2]))
    np.testing.assert_array_equal(together[2], alone[0])
    assert np.any(together != PICTURES)
    other = effects(name).apply(PICTURES, 6, np.arange(4))
    assert np.any(other != together)


def test_p_is_the_share_of_frames():
    images = np.zeros((400, 8, 8, 3), np.uint8)
    changed = effects("InvertImg", p=0.3).apply(images, 1, np.arange(400)).any(axis=(1, 2, 3))
    assert abs(changed.mean() - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("HorizontalFlip", {}, "may move pixels"),
        ("ElasticTransform", {}, "by the camera instead"),
        ("CoarseDropout", {}, "take them away"),
        ("Normalize", {}, "another kind"),
        ("FDA", {}, "other pictures"),
        ("RandomFogg", {}, "did you mean .*RandomFog"),
        ("Compose", {}, "no transform Compose"),
        ("RandomFog", {"density": 3}, "does not take its options.*density"),
        ("RandomFog", {"alpha_coef": -3}, "does not take its options"),
    ],
)
def test_other_transforms_are_refused_by_name(name, options, words):
    with pytest.raises(SceneError, match=words):
        effects(name, **options)


def test_every_transform_offered_gives_a_picture_of_the_same_kind():
    """With their own defaults, all that are offered give a picture of the same size and kind."""
    library = pytest.importorskip("albumentations")
    from imgsynth.sensor.effects import REFUSED

    names = [
        n
        for n in dir(library)
        if isinstance(getattr(library, n), type)
        and issubclass(getattr(library, n), library.ImageOnlyTransform)
        and n not in (*REFUSED, "ImageOnlyTransform")
    ]
    assert len(names) > 40
    picture = np.full((1, 64, 64, 3), 40, np.uint8)
    picture[:, :, 32:] = 200
    failed = [n for n in names if effects(n).apply(picture, 0, np.array([1])).shape != picture.shape]
    assert not failed


def test_effects_in_a_scene_change_pictures_and_no_labels():
    pytest.importorskip("albumentations")
    spec = spec_of(effects=[{"name": "RandomFog", "alpha_coef": 0.1}, {"name": "GaussNoise", "p": 0.5}])
    assert SceneSpec.model_validate(spec.canonical()) == spec
    plain = generate.frames(Scene(spec_of(), Path()).plan(), 0, range(2))
    made = generate.frames(Scene(spec, Path()).plan(), 0, range(2))
    assert np.any(made.images != plain.images)
    for a, b in zip(labels_of(made), labels_of(plain), strict=True):
        np.testing.assert_array_equal(a, b)
