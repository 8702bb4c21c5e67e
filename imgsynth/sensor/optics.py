"""Averaging, blurring and resizing of images (n, H, W, c)."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ive

from imgsynth.batch import F32, U8

_BATCH_BLUR_PIXELS = 24 * 24  # smaller frames are blurred many at a time, larger ones one by one in OpenCV
_MOSAIC_STEPS = (1 << 16) - 1
# Colours of the first 2 × 2 pixels, and OpenCV's name for that (which goes by the second line's second one).
_BAYER = {
    1: ((0, 1, 1, 2), cv2.COLOR_BayerBG2RGB),
    2: ((1, 0, 2, 1), cv2.COLOR_BayerGB2RGB),
    3: ((1, 2, 0, 1), cv2.COLOR_BayerGR2RGB),
    4: ((2, 1, 1, 0), cv2.COLOR_BayerRG2RGB),
}
_STEPS_PER_PIXEL = 8  # of a motion's path


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


def motion_blur(
    images: NDArray[Any], length: NDArray[np.floating], angle_deg: NDArray[np.floating]
) -> NDArray[Any]:
    """Images (n, H, W, c) smeared evenly along a straight path of `length` (n,) pixels, centred.

    The path runs at `angle_deg` (n,) from +x towards +y; its weight is shared bilinearly among the pixels
    that it crosses. Border reflected; length 0 returned untouched.
    """
    which = np.flatnonzero(length > 0)
    if len(which) == 0:
        return images
    out = images.copy()
    for i in which:
        path = _path(float(length[i]), float(angle_deg[i]))
        smeared = cv2.filter2D(images[i], -1, path, borderType=cv2.BORDER_REFLECT)
        out[i] = smeared.reshape(images[i].shape)
    return out


def _path(length: float, angle_deg: float) -> F32:
    """Kernel of a motion, odd sides, sum 1, symmetric about its centre."""
    steps = max(1, math.ceil(length * _STEPS_PER_PIXEL))
    t = ((np.arange(steps) + 0.5) / steps - 0.5) * length
    angle = math.radians(angle_deg)
    reach = math.ceil(length / 2)
    x, y = t * math.cos(angle) + reach, t * math.sin(angle) + reach
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    kernel = np.zeros((2 * reach + 2, 2 * reach + 2))
    for right in (0, 1):
        for low in (0, 1):
            weight = np.abs(1 - right - (x - left)) * np.abs(1 - low - (y - top))
            np.add.at(kernel, (top + low, left + right), weight)
    return (kernel[:-1, :-1] / steps).astype(np.float32)


def mosaicked(images: NDArray[Any], phase: NDArray[np.integer]) -> NDArray[Any]:
    """RGB images (n, H, W, 3) seen through a Bayer filter, the other colours interpolated bilinearly.

    `phase` (n,) says which colours the first line starts with: 1 R G, 2 G R, 3 G B, 4 B G; 0 leaves an image
    untouched. Values are kept between 0 and 2, in steps of 2/65535. Images need 4 pixels a side.
    """
    which = np.flatnonzero(phase > 0)
    if len(which) == 0 or min(images.shape[1:3]) < 4:
        return images
    out = images.copy()
    for i in which:
        levels = (np.clip(images[i], 0, 2) * (_MOSAIC_STEPS / 2) + 0.5).astype(np.uint16)
        first, code = _BAYER[int(phase[i])]
        seen = np.empty(levels.shape[:2], np.uint16)
        for row in (0, 1):
            for column in (0, 1):
                seen[row::2, column::2] = levels[row::2, column::2, first[2 * row + column]]
        out[i] = cv2.cvtColor(seen, code) * np.float32(2 / _MOSAIC_STEPS)
    return out


def sharpened(images: U8, amount: NDArray[np.floating]) -> U8:
    """8-bit images (n, H, W, c) plus `amount` (n,) times their difference from a Gaussian blur of 1 pixel."""
    which = np.flatnonzero(amount > 0)
    if len(which) == 0:
        return images
    out = images.copy()
    for i in which:
        soft = cv2.GaussianBlur(images[i], (0, 0), 1.0, borderType=cv2.BORDER_REFLECT)
        sharp = cv2.addWeighted(
            images[i], 1 + float(amount[i]), soft.reshape(images[i].shape), -float(amount[i]), 0
        )
        out[i] = sharp.reshape(images[i].shape)
    return out


def to_grid(samples: F32, size: tuple[int, int]) -> F32:
    """Samples (h, w, c) of one frame averaged by area onto (height, width) pixels, no finer than they are."""
    height, width = (min(want, have) for want, have in zip(size, samples.shape[:2], strict=True))
    made = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(made, np.float32).reshape(height, width, samples.shape[2])


def resized(image: NDArray[Any], size: tuple[int, int], law: str) -> NDArray[Any]:
    """An 8-bit image (h, w, c) brought to (height, width) as makers of data sets do.

    `linear` interpolates between the four pixels around each new centre and nothing else, so shrinking by
    more than two aliases; that is OpenCV's INTER_LINEAR (not Pillow's BILINEAR, which averages). `area`
    averages.
    """
    kind = cv2.INTER_LINEAR if law == "linear" else cv2.INTER_AREA
    made = cv2.resize(image, (size[1], size[0]), interpolation=kind)
    return np.asarray(made).reshape(*size, image.shape[2])
