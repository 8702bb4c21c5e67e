"""The moments, lens points and places in the pixel that a blurred picture is the mean of.

A picture taken through an open lens, or while something moves, is the mean of pinhole pictures. Sub-frame j
of m·k² is drawn once a pixel, at cell j mod k² of the pixel's k×k grid, at its own time and through its own
point of the lens: so a pixel's samples are spread over all of these at once, and blur costs no samples of
its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, SceneBatch
from imgsynth.render.motion import at

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Pattern:
    """`S` sub-frames for a k×k grid."""

    time: F64  # (S,) -½ … ½ of the shutter's time, stratified
    lens: F64  # (S, 2) points of the unit disc, their mean its centre
    cell: I64  # (S, 2) column and row of the pixel's grid

    def __len__(self) -> int:
        return len(self.time)


def _stride(count: int, given: NDArray[np.floating], traits: NDArray[np.floating]) -> int:
    """The stride through `count` rows of traits at which their columns go least with those of `given`."""
    j = np.arange(len(given))

    def together(stride: int) -> float:
        order = traits[j * stride % count]
        size = np.linalg.norm(given, axis=0)[:, None] * np.linalg.norm(order, axis=0)
        return round(float(np.abs(given.T @ order / np.maximum(size, 1e-9)).max()), 9)

    strides = [s for s in range(1, min(count, 128)) if math.gcd(s, count) == 1]
    return min(strides or [1], key=together)


@cache
def pattern(count: int, k: int) -> Pattern:
    """The sub-frames for at least `count` pictures of a k×k grid: a multiple of k², each cell as often.

    Times are the middles of equal parts of the shutter. Lens points lie on Vogel's spiral (1979, eq. 1),
    equal areas each. They, the times and the cells are paired so that none goes with another.
    """
    cells = k * k
    total = cells * max(1, -(-count // cells))
    j = np.arange(total)
    time = (j + 0.5) / total - 0.5
    radius, angle = np.sqrt((j + 0.5) / total), 2 * np.pi * (1 - GOLDEN) * j
    lens = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    lens -= lens.mean(axis=0)
    # Cells and lens points are gone through by the strides that correlate least with what is given.
    grid = np.stack([j % cells % k, j % cells // k], 1)
    place = grid[j * _stride(cells, time[:, None], grid[:cells] - (k - 1) / 2) % cells]
    traits: F64 = np.concatenate([lens, (lens**2).sum(1, keepdims=True) - 0.5], 1)
    given: F64 = np.concatenate([time[:, None], place - (k - 1) / 2], 1)
    lens = lens[j * _stride(total, given, traits) % total]
    return Pattern(time, lens, place)


def strip(batch: SceneBatch, first: int, lines: int, seconds: F64) -> SceneBatch:
    """Lines [first, first + lines) of the frames at times `seconds` (n,), as pictures of their own."""
    if first == 0 and lines == batch.size[0] and not np.any(seconds):
        return batch
    down = np.eye(3)
    down[1, 2] = -first
    return _seen(batch, at(batch, seconds), down @ batch.cameras.k, (lines, batch.size[1]))


def sub_frame(
    batch: SceneBatch, view: Pattern, j: int, grid: tuple[int, int], strip: tuple[int, int], seconds: F64
) -> SceneBatch:
    """Sub-frame j of the strip (first line, lines) of the frames about times `seconds` (n,).

    Each pixel is `detail` × `detail` pixels here, of which the k×k grid of `view` is. An eye moved by e on
    the lens sees the plane in focus where it was: its image plane is moved along by f·e/focus.

    Args:
        batch: with an exposure.
        view: the pattern, of a k×k grid.
        j: which of its sub-frames.
        grid: (k, detail).
        strip: first line and number of lines.
        seconds: (n,) the middle of the shutter.
    """
    exposure = batch.exposure
    assert exposure is not None
    (k, detail), (first, lines) = grid, strip
    moved = at(batch, seconds + exposure.shutter * view.time[j])
    eye = exposure.aperture_radius[:, None] * view.lens[j]
    pose = moved.cameras.world_from_camera.copy()
    pose[:, :3, 3] += np.einsum("nij,nj->ni", pose[:, :3, :2], eye)
    moved = replace(moved, cameras=replace(moved.cameras, world_from_camera=pose))
    shear = np.tile(np.eye(3), (len(batch), 1, 1))
    shear[:, :2, 2] = eye / exposure.focus[:, None]
    place = np.diag([detail, detail, 1.0])
    # A picture's only sample lies at the middle of its pixel; move there what the cell's middle sees.
    place[:2, 2] = 0.5 - (view.cell[j] + 0.5) / k - [0, first * detail]
    return _seen(batch, moved, place @ batch.cameras.k @ shear, (lines * detail, batch.size[1] * detail))


def _seen(batch: SceneBatch, moved: SceneBatch, k: F64, size: tuple[int, int]) -> SceneBatch:
    """`moved` through other intrinsics; the background stays infinitely far behind where `batch` has it."""
    turn = (
        np.swapaxes(batch.cameras.world_from_camera[:, :3, :3], 1, 2)
        @ moved.cameras.world_from_camera[:, :3, :3]
    )
    back = batch.cameras.k @ turn @ np.linalg.inv(k)
    return replace(
        moved,
        size=size,
        cameras=replace(moved.cameras, k=k),
        backgrounds=replace(batch.backgrounds, to_picture=back, picture_size=batch.size),
    )
