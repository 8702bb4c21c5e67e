"""Scanning to ink and paper, as makers of size-normalized bitmaps did."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import seeding
from imgsynth.batch import F32
from imgsynth.sensor.optics import blur
from imgsynth.sensor.settings import SensorSettings

_OTSU_BINS = 128


def scan(
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
