import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imgsynth.color import linear_to_srgb, luminance, srgb_to_linear
from imgsynth.sensor import SensorSettings, blur, expose, otsu, resolve


def grey(levels, n=1, size=(8, 8), k=1):
    """Linear samples of one grey level a frame."""
    level = np.broadcast_to(np.asarray(levels, np.float32), (n,))
    return np.broadcast_to(level[:, None, None, None], (n, size[0] * k, size[1] * k, 3)).copy()


def shoot(color, k=1, indices=None, seed=0, **changes):
    n = len(color)
    return expose(
        color, k, SensorSettings.neutral(n, **changes), seed, np.arange(n) if indices is None else indices
    )


def test_srgb_of_every_level_is_exact():
    levels = np.arange(256)
    color = np.repeat(srgb_to_linear(levels / 255).astype(np.float32).reshape(1, 16, 16, 1), 3, axis=3)
    assert (shoot(color)[0, ..., 1].ravel() == levels).all()
    linear = np.repeat((levels / 255).astype(np.float32).reshape(1, 16, 16, 1), 3, axis=3)
    assert (shoot(linear, tone="linear")[0, ..., 0].ravel() == levels).all()
    assert (shoot(linear, tone="linear", invert=True)[0, ..., 0].ravel() == 255 - levels).all()


def test_tone_curve_is_within_a_rounding_of_the_exact_one():
    light = np.random.default_rng(0).random((1, 256, 256, 3), dtype=np.float32) ** 3
    exact = linear_to_srgb(light) * 255
    got = shoot(light)
    assert np.abs(got - exact).max() < 0.55
    assert (got == np.round(exact)).mean() > 0.99


def test_values_are_clipped():
    color = np.array([-1.0, 0, 1, 7], np.float32).reshape(1, 2, 2, 1).repeat(3, axis=3)
    assert shoot(color)[0, ..., 0].ravel().tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_resolve_is_the_block_mean(k):
    samples = np.random.default_rng(k).random((3, 4 * k, 6 * k, 2), dtype=np.float32)
    expected = samples.astype(float).reshape(3, 4, k, 6, k, 2).mean(axis=(2, 4))
    assert np.allclose(resolve(samples, k), expected, atol=3e-7)


def test_exposure_and_white_balance_are_gains():
    color = grey(0.1, 3)
    images = shoot(color, tone="linear", exposure_ev=np.array([0, 1, 2]), white_balance=[1, 2, 0.5])
    expected = 255 * 0.1 * np.array([1, 2, 4])[:, None] * [1, 2, 0.5]
    assert np.abs(images[:, 0, 0] - expected).max() <= 0.5001


def test_one_channel_is_luminance():
    color = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)
    images = shoot(color, 2, tone="linear", channels=1)
    assert images.shape == (2, 4, 4, 1)
    assert np.abs(images - 255 * luminance(resolve(color, 2))[..., None]).max() <= 0.501


@settings(max_examples=25)
@given(st.floats(0.1, 12), st.sampled_from([(8, 8), (5, 9), (70, 66)]), st.integers(0, 99))
def test_blur_keeps_energy(sigma, size, seed):
    image = np.random.default_rng(seed).random((1, *size, 1), dtype=np.float32)
    out = blur(image, np.array([sigma], np.float32))
    assert out.shape == image.shape
    assert out.sum() == pytest.approx(image.sum(), rel=1e-4)
    assert out.std() < image.std()


@pytest.mark.parametrize("size", [(63, 63), (91, 91)])
@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.5, 4.0])
def test_blur_of_a_point_has_the_variance_asked_for(size, sigma):
    """On both paths: many small frames at once, and one by one."""
    image = np.zeros((1, *size, 1), np.float32)
    image[0, size[0] // 2, size[1] // 2] = 1
    spread = blur(image, np.array([sigma], np.float32))[0, ..., 0]
    y, x = np.mgrid[: size[0], : size[1]] - np.array(size)[:, None, None] // 2
    assert (spread * x * x).sum() == pytest.approx(sigma**2, rel=0.01)
    assert (spread * y * y).sum() == pytest.approx(sigma**2, rel=0.01)
    assert (spread * x * y).sum() == pytest.approx(0, abs=1e-5)


def test_both_paths_of_blur_agree():
    image = np.random.default_rng(0).random((1, 65, 64, 3), dtype=np.float32)
    sigma = np.array([1.3], np.float32)
    large = blur(image, sigma)
    small = blur(image[:, :63], sigma)
    assert np.allclose(large[:, :55], small[:, :55], atol=1e-6)


def test_noise_has_the_law_of_photons_and_amplifier():
    """Variance = shot · signal + read²; mean untouched; normal."""
    levels = np.array([0.2, 0.35, 0.5, 0.65])
    shot, read = 0.004, 0.02
    images = shoot(grey(levels, 4, (128, 128)), tone="linear", shot_noise=shot, read_noise=read) / 255.0
    count = images[0].size
    for level, image in zip(levels, images, strict=True):
        variance = shot * level + read**2 + 1 / 12 / 255**2  # the last is 8-bit rounding
        assert image.mean() == pytest.approx(level, abs=4 * np.sqrt(variance / count))
        assert image.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / count))
        z = (image.ravel() - level) / np.sqrt(variance)
        assert abs(stats.skew(z)) < 4 * np.sqrt(6 / count)
        assert abs(stats.kurtosis(z)) < 4 * np.sqrt(24 / count)


def test_noise_differs_between_frames_pixels_and_channels():
    images = shoot(grey(0.5, 40, (16, 16)), tone="linear", read_noise=0.05).astype(float) - 127.5
    for a, b in (
        (images[1:], images[:-1]),
        (images[..., 1:], images[..., :-1]),
        (images[:, 1:], images[:, :-1]),
    ):
        r = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(r) < 4 / np.sqrt(a.size)


def mixed_settings(n):
    rng = np.random.default_rng(1)
    on = lambda scale: (rng.random(n) * scale * (rng.random(n) < 0.6)).astype("f4")  # noqa: E731
    return SensorSettings.neutral(
        n,
        sample_noise=on(0.2),
        sample_blur_px=on(2),
        binarize=rng.random(n) < 0.5,
        threshold_bias=on(0.1),
        exposure_ev=on(1) - 0.5,
        white_balance=0.8 + 0.4 * rng.random((n, 3)),
        blur_px=on(1.5),
        shot_noise=on(0.01),
        read_noise=on(0.05),
        jpeg_quality=rng.integers(0, 2, n) * 60,
    )


@pytest.mark.parametrize(("size", "k"), [((8, 8), 4), ((72, 64), 1)])
def test_a_frame_is_the_same_alone_and_in_any_batch(size, k):
    """Bit for bit, with all steps on in some frames and off in others, over several chunks."""
    n = 300 if k == 4 else 70
    color = np.random.default_rng(0).random((n, size[0] * k, size[1] * k, 3), dtype=np.float32)
    s = mixed_settings(n)
    numbers = np.arange(n) + 1000
    batch = expose(color, k, s, 9, numbers)
    for i in range(0, n, 7):
        alone = expose(color[i : i + 1], k, s.rows(slice(i, i + 1)), 9, numbers[i : i + 1])
        assert (alone[0] == batch[i]).all()
    assert (expose(color, k, s, 10, numbers) != batch).any()


def test_binarized_samples_are_counted_in_blocks():
    """As the real digits were made: a pixel is the number of paper samples in its 4 × 4 block."""
    rng = np.random.default_rng(0)
    ink = rng.random((5, 32, 32)) < 0.3
    light = np.where(ink, 0.1, 0.8) + rng.uniform(-0.05, 0.05, ink.shape)
    color = np.repeat(light[..., None], 3, axis=3).astype(np.float32)
    images = shoot(color, 4, binarize=True, channels=1, tone="linear", invert=True)
    counts = ink.reshape(5, 8, 4, 8, 4).sum(axis=(2, 4))
    assert (255 - images[..., 0] == np.floor(255 * (16 - counts) / 16 + 0.5)).all()


def test_uniform_frames_are_all_paper():
    images = shoot(
        grey([0.02, 0.5, 1.0], 3, k=4), 4, binarize=True, channels=1, sample_noise=0.5, threshold_bias=0.3
    )
    assert (images == 255).all()


def test_threshold_bias_above_zero_is_more_ink():
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (3, 32, 1))[..., None].repeat(3, axis=3)
    images = shoot(ramp, 4, binarize=True, threshold_bias=[-0.25, 0, 0.25], channels=1, tone="linear")
    ink = 1 - images.reshape(3, -1).mean(axis=1) / 255
    assert ink == pytest.approx([0.25, 0.5, 0.75], abs=0.04)


def test_sample_noise_flips_as_many_samples_as_the_normal_law_says():
    """Two levels, threshold midway: a sample flips with probability Φ(-1/2 / sd)."""
    light = np.where(np.arange(64) < 32, 0.2, 0.8)[:, None] * np.ones(64)
    color = np.broadcast_to(light[None, ..., None], (20, 64, 64, 3)).astype(np.float32)
    image = shoot(color, binarize=True, sample_noise=0.25, channels=1)
    flipped = (image[..., 0] > 0) != (light > 0.5)
    p = stats.norm.cdf(-2)
    assert flipped.mean() == pytest.approx(p, abs=0.1 * p)


def between_class_variance(image, threshold):
    dark = image <= threshold
    return dark.mean() * (~dark).mean() * (image[dark].mean() - image[~dark].mean()) ** 2


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_otsu_is_as_good_as_opencvs(share):
    rng = np.random.default_rng(0)
    dark = rng.random((64, 64)) < share
    image = np.clip(np.where(dark, rng.normal(70, 20, dark.shape), rng.normal(160, 20, dark.shape)), 0, 255)
    theirs, mask = cv2.threshold(image.astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    mine = otsu(image[None])[0]
    assert between_class_variance(image, mine) > 0.999 * between_class_variance(image, theirs)
    assert ((image > mine) == (mask > 0)).mean() > 0.99


def test_otsu_of_two_levels_is_midway_and_ignores_scale():
    image = np.array([[0.2, 0.2, 0.2, 0.6]])
    thresholds = otsu(np.stack([image, 100 * image, image + 7]))
    assert thresholds == pytest.approx([0.4, 40, 7.4], rel=1e-6)


def test_binarized_and_plain_frames_share_a_batch():
    color = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    both = shoot(color, 4, binarize=[True, False])
    assert (both[0] == both[0, ..., :1]).all()
    assert (both[1] == shoot(color, 4)[1]).all()


def test_jpeg_is_opencvs_and_only_where_asked():
    color = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    plain = shoot(color)
    mixed = shoot(color, jpeg_quality=[0, 30])
    assert (mixed[0] == plain[0]).all()
    _, data = cv2.imencode(".jpg", plain[1][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    assert (mixed[1] == cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]).all()
    smooth = grey(0.25, 1, (16, 16))
    assert (
        np.abs(shoot(smooth, jpeg_quality=95, channels=1).astype(int) - shoot(smooth, channels=1)).max() <= 1
    )


def test_neutral_settings_do_not_touch_the_input():
    color = np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32)
    before = color.copy()
    expose(color, 1, mixed_settings(3), 0, np.arange(3))
    assert (color == before).all()


def test_no_frames():
    assert shoot(np.zeros((0, 32, 32, 3), np.float32), 4).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"read_noise": -1}, "read_noise"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
        ({"tone": "filmic"}, "tone"),
        ({"channels": 2}, "channels"),
    ],
)
def test_bad_settings(changes, what):
    with pytest.raises(ValueError, match=what):
        SensorSettings.neutral(2, **changes)


def test_shapes_that_disagree():
    color = grey(0.5, 2, (9, 9))
    with pytest.raises(ValueError, match="samples"):
        shoot(color, 2)
    with pytest.raises(ValueError, match="2 frames"):
        expose(color, 1, SensorSettings.neutral(3), 0, np.arange(2))
    with pytest.raises(TypeError):
        SensorSettings.neutral(2, exposure=1)
