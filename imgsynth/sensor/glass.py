"""What a lens does to light and colours: vignetting and chromatic aberration of images (n, H, W, c)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64


def vignetted(images: NDArray[Any], lost: NDArray[np.floating], terms: NDArray[np.floating]) -> NDArray[Any]:
    """Images darkened towards the corners: by the cos⁴ law, and by a radial polynomial.

    Args:
        images: (n, H, W, c) in linear light.
        lost: (n,) share of the light lost in the corners, below 1: light falls as cos⁴ of the angle from the
            axis, whose tangent grows in proportion to the distance from the centre.
        terms: (n, 3) a, b, c: light times 1 + a ρ² + b ρ⁴ + c ρ⁶, at least 0, with ρ = 1 in the corners.
    """
    which = np.flatnonzero((lost > 0) | np.any(terms != 0, axis=1))
    if len(which) == 0:
        return images
    height, width = images.shape[1:3]
    y, x = (np.arange(height) + 0.5 - height / 2)[:, None], np.arange(width) + 0.5 - width / 2
    rho = (x * x + y * y) / ((width * width + height * height) / 4)
    out = images.copy()
    for i in which:
        tangent2 = 1 / np.sqrt(1 - float(lost[i])) - 1
        a, b, c = (float(t) for t in terms[i])
        falloff = np.maximum(1 + rho * (a + rho * (b + rho * c)), 0) / (1 + tangent2 * rho) ** 2
        out[i] = images[i] * falloff[..., None].astype(np.float32)
    return out


def aberrated(images: F32, larger: NDArray[np.floating]) -> F32:
    """RGB images whose red and blue pictures are larger than the green by shares `larger` (n, 2), centred.

    Between pixels it interpolates linearly; beyond the border the outermost pixel goes on.
    """
    which = np.flatnonzero(np.any(larger != 0, axis=1))
    if len(which) == 0:
        return images
    out = images.copy()
    for i in which:
        for channel, share in ((0, larger[i, 0]), (2, larger[i, 1])):
            if share != 0:
                out[i, ..., channel] = _scaled(images[i, ..., channel].astype(np.float64), 1 + float(share))
    return out


def _scaled(plane: F64, factor: float) -> F64:
    for axis in (0, 1):
        n = plane.shape[axis]
        at = np.clip((np.arange(n) + 0.5 - n / 2) / factor + n / 2 - 0.5, 0, n - 1)
        low = np.minimum(np.floor(at).astype(int), max(n - 2, 0))
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        high = np.minimum(low + 1, n - 1)
        plane = np.take(plane, low, axis) * (1 - share) + np.take(plane, high, axis) * share
    return plane
