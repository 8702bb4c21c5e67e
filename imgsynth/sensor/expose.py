"""From samples to 8-bit images; the order of steps stands in the package's text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth import seeding
from imgsynth.batch import F32, U8
from imgsynth.color import linear_to_srgb, luminance
from imgsynth.sensor.glass import aberrated, vignetted
from imgsynth.sensor.optics import blur, mosaicked, motion_blur, resized, resolve, sharpened, to_grid
from imgsynth.sensor.scan import scan
from imgsynth.sensor.settings import SensorSettings

MIDDLE_GREY = 0.18
_CHUNK_SAMPLES = 1 << 18  # frames are worked on in groups of about this many samples: they stay in the cache
_CURVE_STEPS = (1 << 16) - 1


def expose(color: F32, supersample: int, settings: SensorSettings, seed: int, indices: ArrayLike) -> U8:
    """Images (n, H, W, channels) of linear samples (n, H·k, W·k, 3); see the package for the order of steps.

    Args:
        color: linear RGB, float32, finite.
        supersample: k.
        settings: of the same n frames.
        seed: of the data set.
        indices: (n,) frame numbers, which key the noise.

    Raises:
        ValueError: shapes that disagree.
    """
    numbers = np.asarray(indices)
    n, rows, columns = color.shape[:3]
    if color.ndim != 4 or color.shape[3] != 3 or rows % supersample or columns % supersample:
        raise ValueError(f"expected samples (n, H·{supersample}, W·{supersample}, 3), got {color.shape}")
    if len(settings.binarize) != n or numbers.shape != (n,):
        raise ValueError(
            f"expected settings and numbers of {n} frames, got {len(settings.binarize)}, {numbers.shape}"
        )
    out = np.empty((n, rows // supersample, columns // supersample, settings.channels), np.uint8)
    plain = np.flatnonzero(settings.native_px == 0)
    for part in _chunks(len(plain), rows * columns):
        some = plain[part] if len(plain) < n else part
        s = settings.rows(some)
        out[some] = _develop(
            _collect(color[some], supersample, s, seed, numbers[some]), s, seed, numbers[some]
        )
    for width in np.unique(settings.native_px[settings.native_px > 0]):
        some = np.flatnonzero(settings.native_px == width)
        s = settings.rows(some)
        height = max(1, round(int(width) * rows / columns))
        native = _collect(color[some], supersample, s, seed, numbers[some], (height, int(width)))
        for i, image in zip(some, _develop(native, s, seed, numbers[some]), strict=True):
            out[i] = resized(image, out.shape[1:3], s.native_resize)
    return out


def _chunks(n: int, samples: int) -> Iterator[slice]:
    step = max(1, _CHUNK_SAMPLES // max(1, samples))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _develop(signal: F32, s: SensorSettings, seed: int, indices: NDArray[Any]) -> U8:
    """Steps 3 to 7, on what `_collect` gives."""
    signal = _expose(_veil(signal, s.veil), s)
    if s.channels == 3:
        signal = aberrated(signal, s.chromatic)
    signal = motion_blur(blur(signal, s.blur_px), s.motion_px, s.motion_deg)
    signal = vignetted(signal, s.vignetting, s.vignette_terms)
    signal = _add_noise(signal, s, seed, indices)
    if s.channels == 3:
        signal = mosaicked(signal, s.mosaic)
    signal = _contrast(signal, s.contrast)
    if np.any(s.black_level):
        signal = signal + s.black_level[:, None, None, None]
    signal = _filmic(signal, s.filmic)
    image = sharpened(_encode(signal, s.tone), s.sharpen)
    if s.invert:
        image = 255 - image
    for i in np.flatnonzero(s.jpeg_quality):
        image[i] = _jpeg(image[i], int(s.jpeg_quality[i]))
    return image


def _collect(
    color: F32,
    k: int,
    s: SensorSettings,
    seed: int,
    indices: NDArray[Any],
    native: tuple[int, int] | None = None,
) -> F32:
    """Steps 1 and 2: (n, H, W, 3) at the output's size or the camera's own."""

    def onto(samples: F32) -> F32:
        if native is None:
            return resolve(samples, k)
        return np.stack([to_grid(frame, native) for frame in samples])

    ink = np.flatnonzero(s.binarize)
    if len(ink) == 0:
        return onto(color)
    scanned = onto(scan(luminance(color[ink]), s, ink, seed, indices)[..., None])
    out = np.empty((len(color), *scanned.shape[1:3], 3), np.float32)
    out[ink] = scanned
    rest = np.flatnonzero(~s.binarize)
    if len(rest):
        out[rest] = onto(color[rest])
    return out


def _veil(signal: F32, veil: F32) -> F32:
    which = np.flatnonzero(veil > 0)
    if len(which) == 0:
        return signal
    out = signal.copy()
    for i in which:
        mean = signal[i].reshape(-1, signal.shape[3]).mean(axis=0)
        out[i] = signal[i] * (1 - veil[i]) + mean * veil[i]
    return out


def _expose(signal: F32, s: SensorSettings) -> NDArray[np.floating]:
    """Step 4: (n, H, W, channels)."""
    level = s.exposure_ev.astype(np.float64)
    for i in np.flatnonzero(s.auto_exposure > 0):
        mean = max(float(luminance(signal[i]).mean()), 1e-6)
        level[i] += s.auto_exposure[i] * np.log2(MIDDLE_GREY / mean)
    gain = (np.exp2(level)[:, None] * s.white_balance).astype(np.float32)
    if s.channels == 1:
        lit = signal * gain[:, None, None] if np.any(gain != 1) else signal
        return np.asarray(luminance(lit)[..., None], np.float32)
    which = np.flatnonzero(np.any(gain != 1, axis=1) | (s.saturation != 1))
    if len(which) == 0:
        return signal
    out = np.empty_like(signal) if len(which) == len(signal) else signal.copy()
    grey = luminance(np.eye(3))  # the weights of the channels
    for i in which:
        mix = s.saturation[i] * np.eye(3) + (1 - s.saturation[i]) * grey
        out[i] = cv2.transform(signal[i], (mix * gain[i]).astype(np.float32))
    return out


def _add_noise(signal: F32, s: SensorSettings, seed: int, indices: NDArray[Any]) -> F32:
    which = np.flatnonzero((s.shot_noise > 0) | (s.read_noise > 0))
    if len(which) == 0:
        return signal
    clean = signal if len(which) == len(signal) else signal[which]
    shot, read = (v[which, None, None, None] for v in (s.shot_noise, s.read_noise))
    noisy: F32 = seeding.normals(seed, "sensor.noise", indices[which], clean.shape[1:])
    if np.any(shot > 0):
        noisy *= np.sqrt(shot * np.maximum(clean, 0) + read * read)
    else:
        noisy *= read  # the same number: the root of a square is exact
    noisy = np.add(clean, noisy, out=noisy if clean.dtype == noisy.dtype else None)
    if len(which) == len(signal):
        return noisy
    signal = signal.copy()
    signal[which] = noisy
    return signal


def _contrast(signal: NDArray[np.floating], exponent: F32) -> NDArray[np.floating]:
    which = np.flatnonzero(exponent != 1)
    if len(which) == 0:
        return signal
    out = signal.copy()
    out[which] = np.maximum(signal[which] / MIDDLE_GREY, 0) ** exponent[which, None, None, None] * MIDDLE_GREY
    return out


def _filmic(signal: NDArray[np.floating], share: F32) -> NDArray[np.floating]:
    """Narkowicz, "ACES filmic tone mapping curve", 2016: x (2.51 x + 0.03) / (x (2.43 x + 0.59) + 0.14)."""
    which = np.flatnonzero(share > 0)
    if len(which) == 0:
        return signal
    x = np.maximum(signal[which], 0)
    curve = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    mix = share[which, None, None, None]
    out = signal.copy()
    out[which] = (1 - mix) * signal[which] + mix * curve
    return out


@cache
def _curve() -> U8:
    """8-bit sRGB of linear light in 2^16 steps: at most 0.03 levels from the exact curve before rounding."""
    steps = np.arange(_CURVE_STEPS + 1) / _CURVE_STEPS
    return np.round(linear_to_srgb(steps) * 255).astype(np.uint8)


def _encode(signal: F32, tone: str) -> U8:
    steps = np.clip(signal, 0, 1)
    steps *= 255 if tone == "linear" else _CURVE_STEPS
    steps += 0.5
    return steps.astype(np.uint8) if tone == "linear" else _curve()[steps.astype(np.uint16)]


def _jpeg(image: U8, quality: int) -> U8:
    order = image[..., ::-1] if image.shape[-1] == 3 else image
    _, data = cv2.imencode(".jpg", order, [cv2.IMWRITE_JPEG_QUALITY, quality])
    mode = cv2.IMREAD_COLOR if image.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
    decoded: Any = cv2.imdecode(data, mode)
    return decoded[..., ::-1] if image.shape[-1] == 3 else decoded[..., None]
