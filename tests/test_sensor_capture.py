"""The camera's own pixels, motion, veil, auto-exposure and colour, against closed forms."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.color import luminance, srgb_to_linear
from imgsynth.sensor import SensorSettings, expose, mosaicked, motion_blur, resized, to_grid


def shoot(color, k=1, seed=0, **changes):
    n = len(color)
    return expose(color, k, SensorSettings.neutral(n, tone="linear", **changes), seed, np.arange(n))


def clouds(n=3, side=32, seed=0):
    return np.random.default_rng(seed).random((n, side, side, 3), dtype=np.float32)


def test_a_step_edge_keeps_its_place_in_any_camera():
    """Half dark, half light: whatever the native size, the picture's mean and the edge's place stay."""
    color = np.zeros((40, 64, 64, 3), np.float32)
    color[:, :, 32:] = 1
    sizes = np.arange(12, 52)
    images = shoot(color, 2, native_px=sizes, native_resize="area").astype(float) / 255
    assert np.abs(images.mean(axis=(1, 2, 3)) - 0.5).max() < 0.012
    profile = images[:, 16, :, 0]
    assert np.abs(profile + profile[:, ::-1] - 1).max() < 0.01  # symmetric about the middle: nothing moved
    linear = shoot(color, 2, native_px=sizes).astype(float)[:, 16, :, 0] / 255
    assert np.abs(linear + linear[:, ::-1] - 1).max() < 0.01
    assert (np.diff(linear, axis=1) >= -0.005).all()


def test_an_edge_is_as_wide_as_the_camera_s_pixels():
    color = np.zeros((1, 128, 128, 3), np.float32)
    color[:, :, 64:] = 1
    widths = []
    for native in (8, 16, 32):
        profile = shoot(color, 4, native_px=native).astype(float)[0, 16, :, 0] / 255
        step = np.diff(profile)
        centre = np.sum(step * np.arange(31))
        widths.append(np.sqrt(np.sum(step * (np.arange(31) - centre) ** 2)))
    # Between native pixels 4, 2 and 1 wide an edge is a ramp (width²/12), read off at pixels (1/6).
    assert widths[0] == pytest.approx(np.sqrt(16 / 12 + 1 / 6), rel=0.01)
    assert widths[1] == pytest.approx(np.sqrt(4 / 12 + 1 / 6), rel=0.01)
    assert widths[2] < 0.1


@pytest.mark.parametrize("size", [(17, 17), (45, 45), (100, 100), (31, 64)])
def test_linear_resize_is_plain_bilinear_without_averaging(size):
    """Four neighbours of the new pixel's centre, by hand."""
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    got = resized(image, (32, 32), "linear").astype(float)
    y, x = ((np.arange(32) + 0.5) * side / 32 - 0.5 for side in size)
    y, x = np.clip(y, 0, size[0] - 1), np.clip(x, 0, size[1] - 1)
    y0, x0 = np.minimum(y.astype(int), size[0] - 2), np.minimum(x.astype(int), size[1] - 2)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    a = image.astype(float)
    top = a[y0][:, x0] * (1 - fx) + a[y0][:, x0 + 1] * fx
    low = a[y0 + 1][:, x0] * (1 - fx) + a[y0 + 1][:, x0 + 1] * fx
    assert np.abs(got - (top * (1 - fy) + low * fy)).max() <= 1.01
    assert (resized(image, (32, 32), "linear") == cv2.resize(image, (32, 32))).all()


def test_area_resize_averages():
    image = np.random.default_rng(2).integers(0, 256, (96, 96, 1), dtype=np.uint8)
    expected = image.reshape(32, 3, 32, 3).mean(axis=(1, 3))
    assert np.abs(resized(image, (32, 32), "area")[..., 0] - expected).max() <= 0.51


@settings(max_examples=30)
@given(st.integers(3, 80), st.integers(0, 99))
def test_the_camera_s_pixels_share_the_light_by_area(native, seed):
    samples = clouds(1, 48, seed)[0]
    got = to_grid(samples, (native, native))
    assert got.shape[:2] == (min(native, 48),) * 2
    assert got.mean() == pytest.approx(samples.mean(), rel=2e-3)
    edges = np.linspace(0, 48, got.shape[1] + 1)
    cover = np.clip(
        np.minimum(edges[1:, None], np.arange(1, 49)) - np.maximum(edges[:-1, None], np.arange(48)), 0, 1
    )
    cover /= cover.sum(axis=1, keepdims=True)
    assert np.abs(got - np.einsum("yi,xj,ijc->yxc", cover, cover, samples)).max() < 2e-4


def test_native_frames_are_the_same_alone_and_in_any_batch():
    color = clouds(12)
    s = SensorSettings.neutral(
        12, native_px=[0, 20, 20, 33, 9, 0, 20, 45, 33, 9, 20, 31], blur_px=0.7, motion_px=2.5, motion_deg=30, mosaic=[0, 1, 2, 3] * 3, sharpen=0.8,
        shot_noise=0.01, read_noise=0.01, jpeg_quality=60, saturation=1.3, auto_exposure=0.5, veil=0.1,
    )  # fmt: skip
    whole = expose(color, 1, s, 5, np.arange(12))
    for i in range(12):
        alone = expose(color[i : i + 1], 1, s.rows(slice(i, i + 1)), 5, np.array([i]))
        assert (alone[0] == whole[i]).all(), i
    assert (color == clouds(12)).all()  # what was handed in is untouched


@settings(max_examples=30)
@given(st.floats(0.1, 9), st.floats(-360, 360))
def test_motion_keeps_light_and_has_its_length(length, angle):
    image = np.zeros((1, 41, 41, 1), np.float32)
    image[0, 20, 20] = 1
    out = motion_blur(image, np.array([length], np.float32), np.array([angle], np.float32))[0, ..., 0].astype(
        float
    )
    assert out.sum() == pytest.approx(1, rel=1e-4) and out.min() >= 0
    y, x = np.mgrid[:41, :41] - 20
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    assert np.sum(out * along) == pytest.approx(0, abs=1e-3)
    spread = np.sum(out * along**2)
    assert spread == pytest.approx(
        length**2 / 12, abs=0.26
    )  # a uniform path, and what sharing among pixels adds
    across = np.sum(out * (x * np.sin(np.radians(angle)) - y * np.cos(np.radians(angle))) ** 2)
    assert across < 0.26


def test_motion_reflects_at_the_border():
    image = clouds(1, 24)
    out = motion_blur(image, np.array([7.0], np.float32), np.array([25.0], np.float32))
    assert out.sum() == pytest.approx(image.sum(), rel=5e-3) and out.std() < image.std()
    still = motion_blur(image, np.zeros(1, np.float32), np.zeros(1, np.float32))
    assert still is image


def test_veil_spreads_light_and_takes_contrast():
    color = clouds(2)
    clear, hazy = (shoot(color, veil=v).astype(float) for v in (0.0, 0.4))
    assert np.abs(hazy.mean(axis=(1, 2)) - clear.mean(axis=(1, 2))).max() < 0.6
    assert np.allclose(hazy.std(axis=(1, 2)), 0.6 * clear.std(axis=(1, 2)), rtol=0.02)


@pytest.mark.parametrize("level", [0.01, 0.09, 0.4])
def test_auto_exposure_meets_middle_grey(level):
    color = np.full((3, 16, 16, 3), level, np.float32)
    images = shoot(color, auto_exposure=np.array([0, 0.5, 1]))[:, 0, 0, 0] / 255
    assert images == pytest.approx([level, np.sqrt(level * 0.18), 0.18], abs=0.003)


def test_saturation_is_about_the_luminance():
    color = clouds(3) * 0.5 + 0.2
    grey, same, strong = shoot(color, saturation=np.array([0, 1, 1.5])).astype(float)
    assert np.ptp(grey, axis=2).max() == 0
    assert np.abs(same - 255 * color[1]).max() <= 0.51
    light = luminance(color[2])[..., None]
    expected = np.clip(light + 1.5 * (color[2] - light), 0, 1) * 255
    assert np.abs(strong - expected).max() <= 0.52


def test_contrast_turns_about_middle_grey_and_black_level_lifts():
    color = np.array([0.02, 0.18, 0.5], np.float32)[:, None, None, None] * np.ones((1, 8, 8, 3), np.float32)
    hard = shoot(color, contrast=1.5)[:, 0, 0, 0] / 255
    assert hard == pytest.approx(0.18 * (np.array([0.02, 0.18, 0.5]) / 0.18) ** 1.5, abs=0.003)
    lifted = shoot(color, black_level=0.05)[:, 0, 0, 0] / 255
    assert lifted == pytest.approx(np.array([0.07, 0.23, 0.55]), abs=0.003)


@pytest.mark.parametrize("phase", [1, 2, 3, 4])
def test_a_mosaic_keeps_plain_colours_and_makes_false_ones_of_fine_lines(phase):
    plain = np.broadcast_to(np.array([0.7, 0.3, 0.1], np.float32), (1, 12, 12, 3)).copy()
    assert np.abs(mosaicked(plain, np.array([phase])) - plain).max() < 1e-4
    ramp = np.linspace(0.1, 0.9, 16, dtype=np.float32)[None, :, None, None] * np.ones(
        (1, 1, 16, 3), np.float32
    )
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert np.abs(mosaicked(ramp, np.array([phase])) - ramp)[inner].max() < 1e-3  # bilinear is exact on ramps
    lines = np.zeros((1, 16, 16, 3), np.float32)
    lines[:, :, ::2] = 0.8
    false = mosaicked(lines, np.array([phase]))[0, 4:-4, 4:-4].mean(axis=(0, 1))
    assert false.max() - false.min() > 0.3
    # The colour that is sampled at a pixel is kept there.
    color = clouds(1, 16)
    got = mosaicked(color, np.array([phase]))
    first = {1: 0, 2: 1, 3: 1, 4: 2}[phase]
    assert np.abs(got[0, 2:-2:2, 2:-2:2, first] - color[0, 2:-2:2, 2:-2:2, first]).max() < 1e-4


def test_sharpening_leaves_even_light_and_overshoots_at_edges():
    color = np.full((2, 16, 16, 3), 0.3, np.float32)
    color[:, :, 8:] = 0.6
    plain, sharp = (i.astype(int)[8, :, 0] for i in shoot(color, sharpen=np.array([0.0, 1.0])))
    assert (plain[[0, 15]] == sharp[[0, 15]]).all()
    # A step blurred by a Gaussian of sd 1 px, sampled: the pixel beside the edge is 0.31 of the step off.
    step = plain[15] - plain[0]
    assert sharp[8] - plain[8] == pytest.approx(0.31 * step, abs=0.03 * step)
    assert plain[7] - sharp[7] == pytest.approx(0.31 * step, abs=0.03 * step)


def test_native_noise_is_that_of_the_camera_s_pixels():
    """Noise of few native pixels is coarse in the picture: neighbours go together."""
    color = np.full((2, 32, 32, 3), srgb_to_linear(0.5), np.float32)
    images = shoot(color, native_px=np.array([8, 0]), read_noise=0.05).astype(float)
    coarse, fine = (np.corrcoef(i[:, :-1, 0].ravel(), i[:, 1:, 0].ravel())[0, 1] for i in images)
    assert coarse > 0.8 and abs(fine) < 0.15


def test_misuse_is_said():
    for wrong in ({"veil": 1.5}, {"auto_exposure": 2}, {"native_resize": "cubic"}, {"motion_px": -1}):
        with pytest.raises(ValueError, match="expected"):
            SensorSettings.neutral(1, **wrong)
