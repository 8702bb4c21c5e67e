"""What spoils a photograph: the fifteen effects of ImageNet-C, functions of one image and constants.

Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations"
(ICLR), say what they are; the forms here are ours. Every effect takes an image (H, W, C) float32 in 0..1, its
constants and a generator, and returns such an image, perhaps out of range. Lengths are in pixels.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

from imgsynth.batch import F32, F64

PLATE = 512  # side of a plate of frost, of which a window is laid on the image
PLATES = 5
WINDOW = 224  # side of that window


def gaussian_noise(x: F32, rng: Generator, spread: float) -> F32:
    """Noise of one spread on every value: too little light."""
    return x + np.float32(spread) * rng.standard_normal(x.shape, np.float32)


def shot_noise(x: F32, rng: Generator, photons: float) -> F32:
    """Poisson noise: a white value is `photons` on average."""
    return (rng.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x: F32, rng: Generator, share: float) -> F32:
    """A share of the values is 0 or 1, half and half: bits gone wrong."""
    u = rng.random(x.shape, np.float32)
    return np.where(u < share / 2, np.float32(0), np.where(u > 1 - share / 2, np.float32(1), x))


def defocus_blur(x: F32, rng: Generator, radius: float, softness: float) -> F32:
    """A disk of a radius, its edge softened: out of focus."""
    return _filtered(x, _disk(radius, softness))


def glass_blur(x: F32, rng: Generator, sigma: float, reach: float, times: float, grain: float) -> F32:
    """Pixels (or grains of several) change places with others near by, between two blurs: frosted glass.

    Hendrycks & Dietterich swap pixel by pixel; here every grain shows a random one within `reach`.
    """
    x = _smooth(x, sigma)
    height, width = x.shape[:2]
    rows, columns = (max(1, math.ceil(side / grain)) for side in (height, width))
    y, z = np.mgrid[:height, :width]
    for _ in range(max(1, round(times))):
        # Rounded at random, so that a reach below a pixel moves some of them.
        moves = np.floor(rng.uniform(-reach, reach, (2, rows, columns)) + rng.random((2, rows, columns)))
        dy, dz = (
            cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST) for m in moves
        )
        x = x[np.clip(y + dy.astype(int), 0, height - 1), np.clip(z + dz.astype(int), 0, width - 1)]
    return _smooth(x, sigma)


def motion_blur(x: F32, rng: Generator, length: float, sigma: float) -> F32:
    """A streak that fades along its length, within 45° of level: a moved camera.

    The streak is centred, so that what is blurred stays where its label says.
    """
    return _filtered(x, _streak(length, sigma, math.radians(rng.uniform(-45, 45))))


def zoom_blur(x: F32, rng: Generator, most: float, step: float) -> F32:
    """The mean of views zoomed in by up to `most`: a camera that rushes forward."""
    height, width = x.shape[:2]
    factors = 1 + np.arange(0, most + step / 2, step)
    total = x.copy()
    for factor in factors:
        shift = ((1 - factor) * (width - 1) / 2, (1 - factor) * (height - 1) / 2)
        view = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        total += _shaped(cv2.warpAffine(x, view, (width, height), borderMode=cv2.BORDER_REPLICATE), x)
    return total / np.float32(len(factors) + 1)


def snow(
    x: F32, rng: Generator, level: float, spread: float, flake: float, least: float,
    length: float, sigma: float, kept: float,
) -> F32:  # fmt: skip
    """Flakes of a size, streaked as they fall, over an image that pales."""
    height, width = x.shape[:2]
    rows, columns = (max(2, math.ceil(side / flake)) for side in (height, width))
    cells = rng.normal(level, spread, (rows, columns)).astype(np.float32)
    fall: Any = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    fall = np.clip(np.where(fall < least, 0, fall), 0, 1)
    fall = cv2.filter2D(fall, -1, _streak(length, sigma, math.radians(rng.uniform(-135, -45))))
    pale = np.maximum(x, _grey(x) * 1.5 + 0.5)
    mixed = np.float32(kept) * x + np.float32(1 - kept) * pale
    return mixed + (fall + fall[::-1, ::-1])[..., None]


def frost(x: F32, rng: Generator, kept: float, laid: float) -> F32:
    """A window of ice crystals laid on the image. The plates are drawn; the original's are photographs."""
    height, width = x.shape[:2]
    plate = _plate(int(rng.integers(PLATES)))
    scale = WINDOW / math.sqrt(height * width)
    rows, columns = (min(PLATE, max(1, round(side * scale))) for side in (height, width))
    top, left = rng.integers(0, PLATE - rows + 1), rng.integers(0, PLATE - columns + 1)
    view = plate[top : top + rows, left : left + columns]
    ice = cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
    if x.shape[2] == 1:
        ice = ice.mean(axis=2, keepdims=True)
    return np.float32(kept) * x + np.float32(laid) * ice


def fog(x: F32, rng: Generator, strength: float, decay: float) -> F32:
    """Clouds of all sizes, each size weaker by decay² than the one twice as large, and less contrast."""
    height, width = x.shape[:2]
    side = max(height, width)
    octaves = max(1, math.ceil(math.log2(side)))
    cloud = np.zeros((side, side), np.float32)
    for k in range(octaves):
        cells = rng.uniform(-1, 1, (2 ** (k + 1) + 1,) * 2).astype(np.float32) / np.float32(decay ** (2 * k))
        cloud += cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)
    cloud = cloud[:height, :width]
    cloud = (cloud - cloud.min()) / max(float(np.ptp(cloud)), 1e-6)
    top = float(x.max())
    return (x + np.float32(strength) * cloud[..., None]) * np.float32(top / (top + strength))


def brightness(x: F32, rng: Generator, more: float) -> F32:
    """More value (HSV), hue and saturation kept."""
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + np.float32(more), 1)
    return np.where(value > 0, x * (raised / np.maximum(value, 1e-6)), raised)


def contrast(x: F32, rng: Generator, kept: float) -> F32:
    """A share of each value's distance from its channel's mean."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * np.float32(kept) + mean


def elastic(x: F32, rng: Generator, spread: float, smooth: float) -> F32:
    """Every pixel moves by `spread` (r.m.s. along each axis, at most three times that), neighbours alike.

    The original turns and shears the whole image besides; boxes and masks would not follow, so this does not.
    """
    height, width = x.shape[:2]
    noise = rng.standard_normal((height, width, 2), np.float32)
    reach = 2 * math.ceil(3 * smooth) + 1
    kernel = cv2.getGaussianKernel(reach, smooth)
    field: Any = cv2.sepFilter2D(noise, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT) / np.sum(kernel**2)
    field = np.clip(field, -3, 3).astype(np.float32) * np.float32(spread)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        x, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return _shaped(moved, x)


def pixelate(x: F32, rng: Generator, share: float) -> F32:
    """Fewer pixels, shown as squares."""
    height, width = x.shape[:2]
    small = tuple(max(1, int(side * share)) for side in (width, height))
    coarse = cv2.resize(x, small, interpolation=cv2.INTER_AREA)
    return _shaped(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), x)


def jpeg(x: F32, rng: Generator, quality: float) -> F32:
    """Compressed as JPEG at a quality of 1..100."""
    pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, max(1, round(quality))])
    assert done
    back = cv2.imdecode(data, cv2.IMREAD_COLOR if x.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    return _shaped(back, x)[..., ::-1].astype(np.float32) / np.float32(255)


def _shaped(image: Any, like: F32) -> F32:
    """OpenCV drops an only channel; this brings it back."""
    return np.asarray(image).reshape(like.shape)


def _grey(x: F32) -> F32:
    if x.shape[2] == 1:
        return x
    grey: F32 = x @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return grey


def _smooth(x: F32, sigma: float) -> F32:
    reach = 2 * math.ceil(3 * sigma) + 1
    return _shaped(cv2.GaussianBlur(x, (reach, reach), sigma), x)


def _filtered(x: F32, kernel: F32) -> F32:
    return _shaped(cv2.filter2D(x, -1, kernel), x)


def _splat(points: F64, weights: F64) -> F32:
    """A kernel with weights at real (y, x) from its middle, each shared by four pixels; it sums to 1."""
    reach = math.ceil(float(np.abs(points).max(initial=0))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    low = np.floor(points).astype(int)
    rest = points - low
    for dy in (0, 1):
        for dx in (0, 1):
            near = np.abs(1 - dy - rest[:, 0]) * np.abs(1 - dx - rest[:, 1])
            np.add.at(kernel, (low[:, 0] + reach + dy, low[:, 1] + reach + dx), near * weights)
    return (kernel / kernel.sum()).astype(np.float32)


@lru_cache(maxsize=64)
def _disk(radius: float, softness: float) -> F32:
    steps = max(8, math.ceil(2 * radius))
    at = (np.arange(2 * steps) - steps + 0.5) / steps * radius
    y, x = (axis.ravel() for axis in np.meshgrid(at, at, indexing="ij"))
    inside = np.hypot(y, x) <= radius
    points = np.column_stack([y, x])[inside]
    kernel = np.pad(_splat(points, np.ones(len(points))), math.ceil(3 * softness))
    soft: Any = cv2.GaussianBlur(kernel, (0, 0), max(softness, 0.05), borderType=cv2.BORDER_CONSTANT)
    disk: F32 = soft / soft.sum()
    return disk


def _streak(length: float, sigma: float, angle: float) -> F32:
    """A kernel along a direction, that fades as one side of a Gaussian, its middle in the middle."""
    at = np.linspace(0, length, max(8, math.ceil(4 * length)))
    weight = np.exp(-0.5 * (at / sigma) ** 2)
    at = at - np.average(at, weights=weight)
    return _splat(np.column_stack([at * math.sin(angle), at * math.cos(angle)]), weight)


@cache
def _plate(number: int) -> F32:
    """A plate of frost, (PLATE, PLATE, 3): ice needles that branch at 60°, over a haze."""
    rng = np.random.Generator(np.random.Philox(key=number))
    lines: Any = np.zeros((PLATE, PLATE), np.float32)
    for _ in range(110):
        x, y = rng.uniform(0, PLATE, 2).tolist()
        turn, size = float(rng.uniform(0, math.pi / 3)), 25 + float(rng.exponential(50))
        for arm in range(6):
            if rng.random() < 0.6:
                _needle(lines, rng, x, y, turn + arm * math.pi / 3, size, depth=2)
    haze: Any = np.zeros((PLATE, PLATE), np.float32)
    for k in range(2, 8):
        cells = rng.uniform(0, 1, (2**k, 2**k)).astype(np.float32) / np.float32(1.7 ** (k - 2))
        haze += cv2.resize(cells, (PLATE, PLATE), interpolation=cv2.INTER_CUBIC)
    haze = (haze - haze.min()) / np.ptp(haze)
    needles = cv2.GaussianBlur(lines, (0, 0), 0.8)
    ice = np.clip(0.75 * haze**1.5 + 0.6 * needles * (0.3 + haze), 0, 1)
    tint = np.array([0.80, 0.92, 1.0], np.float32)
    plate: F32 = ice[..., None] ** (1 / tint)
    return plate


def _needle(lines: Any, rng: Generator, x: float, y: float, angle: float, length: float, depth: int) -> None:
    """Draw a needle into `lines`, and smaller ones off its sides."""
    dx, dy = math.cos(angle), math.sin(angle)
    a = (round(8 * x), round(8 * y))
    b = (round(8 * (x + length * dx)), round(8 * (y + length * dy)))
    cv2.line(lines, a, b, float(rng.uniform(0.4, 1)), 1 + depth, cv2.LINE_8, shift=3)
    if depth == 0:
        return
    at, gap = 0.25, 8 / max(length, 8)
    while at < 0.95:
        for side in (-1, 1):
            if rng.random() < 0.75:
                part = length * (1 - at) * float(rng.uniform(0.25, 0.5))
                here = (x + at * length * dx, y + at * length * dy)
                _needle(lines, rng, *here, angle + side * math.pi / 3, part, depth - 1)
        at += gap
