"""The sensor: linear, supersampled radiance to the 8-bit images of a file.

In this order, each step skipped where its settings are neutral:

1. Scan, for frames with `binarize` only, on the luminance of the *samples*: blur (`sample_blur_px`), Gaussian
noise
   (`sample_noise`), then threshold each sample to ink 0 or paper 1 by the frame's own Otsu threshold plus
   `threshold_bias`. This is how size-normalized bitmaps, such as scanned digits, come about.
2. Resolve: the mean of each k × k block of samples.
3. Expose: times 2^`exposure_ev`, times `white_balance`; with one channel, the luminance.
4. Optics: Gaussian blur of `blur_px`.
5. Noise in linear light: variance `shot_noise` · signal + `read_noise`².
6. Clip to [0, 1], tone curve, 8-bit rounding, `invert`, JPEG round trip at `jpeg_quality`.

Noise comes from `imgsynth.seeding` by (seed, "sensor.…", frame number), so a frame is the same alone and in
any batch. Blurs reflect at the border, so that they keep the frame's energy; labels do not move by any of
this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ive

from imgsynth import seeding
from imgsynth.batch import F32, I32, U8
from imgsynth.color import linear_to_srgb, luminance

TONES = ("srgb", "linear")
_CHUNK_SAMPLES = 1 << 18  # frames are worked on in groups of about this many samples: they stay in the cache
_BATCH_BLUR_PIXELS = 64 * 64  # smaller frames are blurred many at a time, larger ones one by one in OpenCV
_OTSU_BINS = 128
_CURVE_STEPS = (1 << 16) - 1


@dataclass(frozen=True)
class SensorSettings:
    """One value a frame for `n` frames, and what all frames share; `neutral(n)` changes nothing but sRGB
    encoding.

    Raises:
        ValueError: shapes that disagree, or a value out of its range.
    """

    sample_noise: (
        F32  # (n,) sd of the noise on samples, as a share of the frame's contrast (highest - lowest)
    )
    sample_blur_px: F32  # (n,) sd, in samples
    binarize: NDArray[np.bool_]  # (n,)
    threshold_bias: F32  # (n,) added to Otsu's threshold, as a share of the contrast; above 0 means more ink
    exposure_ev: F32  # (n,) stops
    white_balance: F32  # (n, 3) gains
    blur_px: F32  # (n,) sd, in output pixels
    shot_noise: F32  # (n,) variance per unit of signal
    read_noise: F32  # (n,) sd, signal 1 = white
    jpeg_quality: I32  # (n,) 1..100, 0 = no JPEG
    tone: str = "srgb"
    invert: bool = False
    channels: int = 3

    def __post_init__(self) -> None:
        n = len(self.binarize)
        for name in self._arrays():
            value = getattr(self, name)
            shape = (n, 3) if name == "white_balance" else (n,)
            if value.shape != shape:
                raise ValueError(f"expected sensor.{name} of shape {shape}, got {value.shape}")
            if name not in ("threshold_bias", "exposure_ev", "binarize") and np.any(value < 0):
                raise ValueError(f"expected sensor.{name} of at least 0, got {value.min()}")
        if np.any(self.jpeg_quality > 100):
            raise ValueError(f"expected sensor.jpeg_quality of at most 100, got {self.jpeg_quality.max()}")
        if self.tone not in TONES or self.channels not in (1, 3):
            raise ValueError(
                f"expected tone srgb or linear and 1 or 3 channels, got {self.tone}, {self.channels}"
            )

    @staticmethod
    def neutral(n: int, **changes: Any) -> SensorSettings:
        """Settings of `n` frames that change nothing but what `changes` gives (a scalar is for all)."""
        shapes = {"white_balance": (n, 3)}
        start = {"white_balance": 1.0}
        values: dict[str, Any] = {}
        for name in SensorSettings._arrays():
            kind = {"binarize": np.bool_, "jpeg_quality": np.int32}.get(name, np.float32)
            value: NDArray[Any] = np.asarray(changes.pop(name, start.get(name, 0)), kind)
            values[name] = np.broadcast_to(value, shapes.get(name, (n,)))
        return SensorSettings(**values, **changes)

    @staticmethod
    def _arrays() -> list[str]:
        return [f.name for f in fields(SensorSettings) if f.name not in ("tone", "invert", "channels")]

    def _rows(self, rows: slice) -> SensorSettings:
        return replace(self, **{name: getattr(self, name)[rows] for name in self._arrays()})


def expose(color: F32, supersample: int, settings: SensorSettings, seed: int, indices: ArrayLike) -> U8:
    """Images (n, H, W, channels) of linear samples (n, H·k, W·k, 3); see the module for the order of steps.

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
    for part in _chunks(n, rows * columns):
        out[part] = _expose(color[part], supersample, settings._rows(part), seed, numbers[part])
    return out


def _chunks(n: int, samples: int) -> Iterator[slice]:
    step = max(1, _CHUNK_SAMPLES // max(1, samples))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _expose(color: F32, k: int, s: SensorSettings, seed: int, indices: NDArray[Any]) -> U8:
    signal = _collect(color, k, s, seed, indices)
    signal = blur(signal, s.blur_px)
    signal = _add_noise(signal, s, seed, indices)
    image = _encode(signal, s.tone)
    if s.invert:
        image = 255 - image
    for i in np.flatnonzero(s.jpeg_quality):
        image[i] = _jpeg(image[i], int(s.jpeg_quality[i]))
    return image


def _collect(color: F32, k: int, s: SensorSettings, seed: int, indices: NDArray[Any]) -> F32:
    """Steps 1 to 3: (n, H, W, channels)."""
    gain = (np.exp2(s.exposure_ev)[:, None] * s.white_balance).astype(np.float32)
    size = (color.shape[1] // k, color.shape[2] // k)
    out = np.empty((len(color), *size, s.channels), np.float32)
    ink = np.flatnonzero(s.binarize)
    if len(ink):
        scanned = resolve(_scan(luminance(color[ink]), s, ink, seed, indices)[..., None], k)
        out[ink] = scanned * _to_channels(gain[ink], s.channels)[:, None, None]
    rest = np.flatnonzero(~s.binarize)
    if len(rest):
        resolved = resolve(color if len(ink) == 0 else color[rest], k)
        if np.any(gain[rest] != 1):
            resolved = resolved * gain[rest, None, None]
        out[rest] = _to_channels(resolved, s.channels)
    return out


def _to_channels(rgb: NDArray[np.floating], channels: int) -> NDArray[np.floating]:
    return rgb if channels == 3 else luminance(rgb)[..., None]


def _scan(
    light: NDArray[Any], s: SensorSettings, ink: NDArray[np.intp], seed: int, indices: NDArray[Any]
) -> F32:
    """Samples (m, rows, columns) of the frames `ink` as ink 0 or paper 1, float32."""
    light = blur(light[..., None], s.sample_blur_px[ink])[..., 0]
    low, high = light.min(axis=(1, 2)), light.max(axis=(1, 2))
    contrast = high - low
    noisy = np.flatnonzero(s.sample_noise[ink] > 0)
    if len(noisy):
        sd = (s.sample_noise[ink] * contrast)[noisy, None, None]
        field = seeding.normals(seed, "sensor.samples", indices[ink[noisy]], light.shape[1:])
        light = light.copy()
        light[noisy] += sd * field
    threshold = otsu(light) + s.threshold_bias[ink] * contrast
    paper = light > threshold[:, None, None]
    paper |= (contrast <= 1e-3 * high)[:, None, None]  # nothing is written on a uniform sheet
    return paper.astype(np.float32)


def otsu(values: NDArray[np.floating]) -> F32:
    """Threshold (m,) of each image (m, rows, columns) that best separates two classes: dark is ≤ it.

    Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979, eq. 18, on
    128 bins between the lowest and the highest value; the middle of the gap where several thresholds are
    equally good.
    """
    flat = values.reshape(len(values), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    span = np.maximum(high - low, np.float32(1e-12))
    bins = ((flat - low[:, None]) * ((_OTSU_BINS - 1e-3) / span)[:, None]).astype(np.int32)
    bins += (np.arange(len(flat), dtype=np.int32) * _OTSU_BINS)[:, None]
    counts = np.bincount(bins.ravel(), minlength=len(flat) * _OTSU_BINS).reshape(len(flat), _OTSU_BINS)
    share = np.cumsum(counts, axis=1) / flat.shape[1]
    moment = np.cumsum(counts * (np.arange(_OTSU_BINS) + 0.5), axis=1) / flat.shape[1]
    both = share * (1 - share)
    between = (moment[:, -1:] * share - moment) ** 2 / np.where(both > 0, both, 1)
    best = between[:, :-1] >= between[:, :-1].max(axis=1, keepdims=True) * (1 - 1e-9)
    first = best.argmax(axis=1) + 1
    last = _OTSU_BINS - 1 - best[:, ::-1].argmax(axis=1)
    return (low + span * ((first + last) / 2 / _OTSU_BINS)).astype(np.float32)


def resolve(samples: F32, k: int) -> F32:
    """Mean of each k × k block: (n, H·k, W·k, c) → (n, H, W, c)."""
    if k == 1:
        return samples
    n, rows, columns, c = samples.shape
    tall = samples.reshape(n, rows // k, k, columns * c)
    lines = tall[:, :, 0] + tall[:, :, 1]
    for i in range(2, k):
        lines += tall[:, :, i]
    wide = lines.reshape(n, rows // k, columns // k, k, c)
    out = wide[:, :, :, 0] + wide[:, :, :, 1]
    for i in range(2, k):
        out += wide[:, :, :, i]
    out *= np.float32(1 / k**2)
    return out


def blur(images: NDArray[Any], sigma: NDArray[np.floating]) -> NDArray[Any]:
    """Gaussian blur of images (n, H, W, c) by sd (n,) pixels; border reflected, sd 0 returned untouched.

    The kernel is the discrete analogue of the Gaussian, e^-t I_k(t) with t = sd² (Lindeberg, "Scale-space for
    discrete signals", IEEE PAMI 12(3), 1990, eq. 19): its variance is sd² also where sd is well below a
    pixel.
    """
    which = np.flatnonzero(sigma > 0)
    if len(which) == 0:
        return images
    out = images.copy()
    if images.shape[1] * images.shape[2] > _BATCH_BLUR_PIXELS:
        for i in which:
            taps = _kernel(sigma[i : i + 1])[0]
            blurred = cv2.sepFilter2D(images[i], -1, taps, taps, borderType=cv2.BORDER_REFLECT)
            out[i] = blurred.reshape(images[i].shape)
        return out
    taps = _kernel(sigma[which])
    out[which] = _convolve(_convolve(images[which], taps, 1), taps, 2)
    return out


def _kernel(sigma: NDArray[np.floating]) -> F32:
    """(m, 2 r + 1) taps; r fits the widest, the others are padded with zeros."""
    sd = sigma.astype(np.float64)
    each = np.ceil(4 * sd) + 1
    reach = int(each.max())
    offset = np.abs(np.arange(-reach, reach + 1))
    taps = np.where(offset <= each[:, None], ive(offset, sd[:, None] ** 2), 0.0)
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)


def _convolve(images: NDArray[Any], taps: F32, axis: int) -> NDArray[Any]:
    reach = taps.shape[1] // 2
    pad = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
    padded = np.pad(images, pad, mode="symmetric")
    length = images.shape[axis]
    out = np.zeros_like(images)
    for j in range(taps.shape[1]):
        part = padded[:, j : j + length] if axis == 1 else padded[:, :, j : j + length]
        out += taps[:, j, None, None, None] * part
    return out


def _add_noise(signal: F32, s: SensorSettings, seed: int, indices: NDArray[Any]) -> F32:
    which = np.flatnonzero((s.shot_noise > 0) | (s.read_noise > 0))
    if len(which) == 0:
        return signal
    clean = signal[which]
    shot, read = (v[which, None, None, None] for v in (s.shot_noise, s.read_noise))
    sd: F32 = np.sqrt(shot * np.maximum(clean, 0) + read * read)
    noisy: F32 = clean + sd * seeding.normals(seed, "sensor.noise", indices[which], clean.shape[1:])
    if len(which) == len(signal):
        return noisy
    signal = signal.copy()
    signal[which] = noisy
    return signal


@cache
def _curve() -> U8:
    """8-bit sRGB of linear light in 2^16 steps: at most 0.03 levels from the exact curve before rounding."""
    steps = np.arange(_CURVE_STEPS + 1) / _CURVE_STEPS
    return np.round(linear_to_srgb(steps) * 255).astype(np.uint8)


def _encode(signal: F32, tone: str) -> U8:
    clipped = np.clip(signal, 0, 1)
    if tone == "linear":
        return (clipped * 255 + 0.5).astype(np.uint8)
    return _curve()[(clipped * _CURVE_STEPS + 0.5).astype(np.uint16)]


def _jpeg(image: U8, quality: int) -> U8:
    order = image[..., ::-1] if image.shape[-1] == 3 else image
    _, data = cv2.imencode(".jpg", order, [cv2.IMWRITE_JPEG_QUALITY, quality])
    mode = cv2.IMREAD_COLOR if image.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
    decoded: Any = cv2.imdecode(data, mode)
    return decoded[..., ::-1] if image.shape[-1] == 3 else decoded[..., None]
