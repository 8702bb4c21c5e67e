"""Vertex colours as a texture: a tile of 2 × 2 texels for each triangle, which bilinear filtering turns into
exactly the linear blend of its three colours.
"""

from __future__ import annotations

import numpy as np

from imgsynth.batch import F64, I64, U8
from imgsynth.textures.mips import encode_srgb


def painted(corners: F64, colors: F64) -> tuple[U8, F64]:
    """A texture (h, w, 4) and texture coordinates (f, 3, 2) that show `colors` (f, 3, 3), linear, at the
    corners (f, 3, 3) of triangles.

    Corner a sits at the centre of its tile's first texel, b right of it, c below. The fourth texel is b + c -
    a, cut to what colours can be, which makes bilinear interpolation linear. Triangles lie along a Morton
    curve in the order of a Morton curve in space, so that coarse mip levels mix near neighbours.
    """
    count = len(corners)
    side = 1 << max(0, int(np.ceil(np.log2(count) / 2)))
    rank = np.empty(count, np.int64)
    rank[np.argsort(_morton3(corners.mean(1)), kind="stable")] = np.arange(count)
    x, y = _every_second(rank), _every_second(rank >> 1)
    tiles = np.empty((count, 2, 2, 3))
    tiles[:, 0, 0], tiles[:, 0, 1], tiles[:, 1, 0] = colors[:, 0], colors[:, 1], colors[:, 2]
    tiles[:, 1, 1] = np.clip(colors[:, 1] + colors[:, 2] - colors[:, 0], 0, 1)
    image = np.full((2 * side, 2 * side, 4), 255, np.uint8)
    image[..., :3] = encode_srgb(colors.mean((0, 1)).astype(np.float32))
    encoded = encode_srgb(tiles.astype(np.float32))
    for i in range(2):
        for j in range(2):
            image[2 * y + i, 2 * x + j, :3] = encoded[:, i, j]
    corner = np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])  # texels, y downwards
    uv = (np.stack([2 * x, 2 * y], -1)[:, None] + corner) / (2 * side)
    uv[..., 1] = 1 - uv[..., 1]
    return image, uv


def _morton3(points: F64) -> I64:
    """Morton code of points, 20 bits an axis."""
    span = max(float(np.ptp(points, axis=0).max()), 1e-30)
    cells = np.clip((points - points.min(0)) / span * (2**20 - 1), 0, 2**20 - 1).astype(np.int64)
    out = np.zeros(len(points), np.int64)
    for bit in range(20):
        for axis in range(3):
            out |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return out


def _every_second(code: I64) -> I64:
    """The number made of the even bits."""
    out = np.zeros_like(code)
    for bit in range(16):
        out |= ((code >> (2 * bit)) & 1) << bit
    return out
