"""What an image looks like, in a few numbers: light, contrast, sharpness, noise and colour."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, U8
from imgsynth.dataset.labelled import recolor

_CHUNK = 2048  # images worked on at once: they stay in the cache
_FLAT = 1e-4  # least variance of grey (0..1): sharpness of an even image means nothing
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
_SECTOR = ((np.arange(256) + 15) // 30 % 6).astype(np.uint8)  # of OpenCV's hue, which counts 0..179


def appearance(images: U8) -> dict[str, F32]:
    """Figures (n,) of each image (n, H, W, 1 or 3), in this order; colour only where there is colour.

    - `luminance`: mean grey (0..1, as encoded, Rec. 601 weights); `contrast`: its standard deviation.
    - `centre`: mean grey of the middle half minus that of the border (an eighth wide): object against
      surroundings.
    - `black`, `white`: shares of pixels below 8 and above 247 of 255.
    - `sharpness`: log₁₀ of mean squared gradient over variance, so that contrast does not count.
    - `slope`: of log power against log frequency, radially averaged; steeper (lower) is softer.
    - `noise`: mean absolute response of the Laplacian difference mask of Immerkaer, "Fast noise variance
      estimation", CVIU 64(2), 1996, eq. 4, over contrast.
    - `saturation`: mean of (largest - least channel)/255; `warmth`: mean red minus mean blue (0..1);
      `green cast`: mean green minus the mean of red and blue.
    - `red` … `magenta`: share of an image's chroma whose hue is within 30° of that colour.

    Images need 8 pixels a side.
    """
    if images.shape[1] < 8 or images.shape[2] < 8:
        raise ValueError(f"expected images of at least 8 × 8 pixels, got {images.shape[1:3]}")
    parts = [_some(images[i : i + _CHUNK]) for i in range(0, len(images), _CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _some(images: U8) -> dict[str, F32]:
    grey = recolor(images, 1)[..., 0].astype(np.float32) / np.float32(255)
    flat = grey.reshape(len(grey), -1)
    variance = flat.var(axis=1)
    out = {"luminance": flat.mean(axis=1), "contrast": np.sqrt(variance), "centre": _centre(grey)}
    out |= {"black": (flat < 8 / 255).mean(axis=1), "white": (flat > 247 / 255).mean(axis=1)}
    sure = np.maximum(variance, _FLAT)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    energy = _mean(across * across) + _mean(down * down)
    out["sharpness"] = np.log10(np.maximum(energy, 1e-8) / sure)
    out["slope"] = _slope(grey)
    out["noise"] = _mean(np.abs(_laplacian(grey))) / np.sqrt(sure)
    if images.shape[3] == 3:
        out |= _colour(images)
    return {name: np.asarray(values, np.float32) for name, values in out.items()}


def _mean(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))


def _centre(grey: F32) -> NDArray[Any]:
    height, width = grey.shape[1:]
    inner = grey[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
    ring = np.ones((height, width), bool)
    edge = max(1, min(height, width) // 8)
    ring[edge : height - edge, edge : width - edge] = False
    return _mean(inner) - np.asarray(grey[:, ring].mean(axis=1))


def _laplacian(grey: F32) -> F32:
    """The difference of two Laplacians: blind to edges that are straight over three pixels."""
    rows = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    out: F32 = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return out


def _slope(grey: F32) -> NDArray[Any]:
    height, width = grey.shape[1:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    power = np.abs(np.fft.rfft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    fy = np.fft.fftfreq(height)[:, None]
    radius = np.hypot(fy, np.fft.rfftfreq(width)[None])
    rings = np.floor(radius * min(height, width)).astype(int)
    inside = (rings >= 1) & (rings < min(height, width) // 2)
    labels = rings[inside] - 1
    count = np.bincount(labels)
    total = np.zeros((inside.sum(), len(count)), np.float32)
    total[np.arange(len(labels)), labels] = 1 / count[labels]
    mean = power[:, inside].astype(np.float32) @ total
    x = np.log10(np.bincount(labels, radius[inside]) / count)
    x -= x.mean()
    return np.asarray(np.log10(mean + 1e-7) @ x / (x @ x))


def _colour(images: U8) -> dict[str, NDArray[Any]]:
    red, green, blue = cv2.split(images.reshape(len(images), -1, 3))
    most = cv2.max(cv2.max(red, green), blue)
    chroma = cv2.subtract(most, cv2.min(cv2.min(red, green), blue))
    hue = cv2.cvtColor(images.reshape(len(images), -1, 3), cv2.COLOR_RGB2HSV)[..., 0]  # 0..179
    sector = _SECTOR[hue]
    weight = np.stack([np.where(sector == k, chroma, 0).sum(axis=1, dtype=np.int32) for k in range(6)], 1)
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1)
    r, g, b = (c.mean(axis=1, dtype=np.float32) / 255 for c in (red, green, blue))
    out = {
        "saturation": chroma.mean(axis=1, dtype=np.float32) / 255,
        "warmth": r - b,
        "green cast": g - (r + b) / 2,
    }
    return out | {name: share[:, k] for k, name in enumerate(HUES)}
