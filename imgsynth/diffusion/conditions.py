"""Pictures that guide a ControlNet or T2I-Adapter, made from rendered labels: exact, not estimated.

All are (n, H, W, 3) uint8, in the conventions that the published checkpoints were trained on:

==========  ===========================================================================================
edges       white lines one pixel wide on black, as Canny's: where objects, depth or creases end
canny       Canny's edges of the render itself (thresholds 100 and 200), textures and shadows with it
depth       inverse depth, white nearest, each picture stretched to its own range, black where nothing is hit
normal      colours of ControlNet 1.1's normal-bae: red faces left, green up, blue towards the camera
semantic    a flat colour for each class; checkpoints for ADE20K want ADE20K's colours: give them by class
==========  ===========================================================================================
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, I32, U8
from imgsynth.errors import ImgsynthError

CONTROLS = ("edges", "canny", "depth", "normal", "semantic")
NEEDS = {"edges": (), "canny": (), "depth": ("depth",), "normal": ("normal",), "semantic": ()}
"""Control → outputs that the dataset must have; edges take depth and normals too where they are there."""

_JUMP = 0.05  # of depth between neighbours, relative, over which a line is drawn
_CREASE = np.cos(np.radians(35))  # between neighbouring normals


def depth_picture(depth: F32) -> U8:
    """Inverse depth of (n, H, W) metres, white nearest."""
    near = np.where(np.isfinite(depth) & (depth > 0), 1 / np.maximum(depth, 1e-9), 0).astype(np.float64)
    hit = near > 0
    high = near.max(axis=(1, 2), keepdims=True)
    low = np.where(hit, near, np.inf).min(axis=(1, 2), keepdims=True)
    span = high - low
    share = np.divide(near - low, span, out=np.ones_like(near), where=np.isfinite(span) & (span > 0))
    return _grey(np.where(hit, np.rint(255 * np.clip(share, 0, 1)), 0))


def normal_picture(normal: F32) -> U8:
    """Colours of (n, H, W, 3) normals by camera axes (x right, y down, z away), unit, 0 where none.

    What nothing hits faces the camera.
    """
    hit = (normal != 0).any(-1, keepdims=True)
    facing = np.where(hit, normal, np.array([0, 0, -1], np.float32))
    return np.rint(np.clip((1 - facing) * 127.5, 0, 255)).astype(np.uint8)


def edge_picture(instance: I32, depth: F32 | None = None, normal: F32 | None = None) -> U8:
    """Lines where instance ids (n, H, W) change; with depth and normals also where surfaces end or fold.

    Of two neighbours the upper or left one is drawn.
    """
    out = np.zeros(instance.shape, bool)
    for axis in (1, 2):
        here, there = _neighbours(instance, axis)
        line = here != there
        if depth is not None:
            a, b = _neighbours(depth, axis)
            both = np.isfinite(a) & np.isfinite(b)
            gap = np.abs(np.where(both, a, 0) - np.where(both, b, 0)) > _JUMP * np.minimum(
                np.where(both, a, 1), np.where(both, b, 1)
            )
            line |= gap | (np.isfinite(a) != np.isfinite(b))
        if normal is not None:
            a, b = _neighbours(normal, axis)
            line |= ((a * b).sum(-1) < _CREASE) & (a != 0).any(-1) & (b != 0).any(-1)
        out[:, : line.shape[1], : line.shape[2]] |= line
    return _grey(np.where(out, 255, 0))


def canny_picture(images: U8) -> U8:
    """Canny's edges of (n, H, W, 1 or 3) pictures."""
    found = [
        cv2.Canny(np.ascontiguousarray(image if image.shape[-1] == 3 else image[..., 0]), 100, 200)
        for image in images
    ]
    return _grey(np.stack(found))


def semantic_picture(semantic: I32, colours: NDArray[Any]) -> U8:
    """The colour of each pixel's class; `colours` (K + 1, 3), background first."""
    return colours.astype(np.uint8)[semantic]


def class_colours(classes: tuple[str, ...], given: Mapping[str, tuple[int, int, int]] | None = None) -> U8:
    """(K + 1, 3) colours: those given by class name ("background" too), else black and K distinct hues.

    Raises:
        ImgsynthError: a name that is no class, or a class without a colour where some are given.
    """
    names = ("background", *classes)
    if given:
        for name in given:
            if name not in names:
                raise ImgsynthError(f"colours: {name!r} is none of {', '.join(names)}")
        missing = [c for c in classes if c not in given]
        if missing:
            raise ImgsynthError(f"colours: none is given for {', '.join(missing)}")
        return np.array([given.get(name, (0, 0, 0)) for name in names], np.uint8)
    hues = [colorsys.hsv_to_rgb(k * 0.6180339887 % 1, 0.75, 0.95) for k in range(len(classes))]
    return np.rint(255 * np.array([(0, 0, 0), *hues])).astype(np.uint8)


def _neighbours(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each pixel but the last along `axis` (1 or 2), and the one after it."""
    low = [slice(None)] * values.ndim
    high = list(low)
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return values[tuple(low)], values[tuple(high)]


def _grey(values: NDArray[Any]) -> U8:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=-1)
