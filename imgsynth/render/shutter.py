"""Any renderer, behind a shutter and a lens: depth of field, motion blur, rolling shutter.

What it promises beside the `Renderer` protocol:

- Colour is the mean of pinhole pictures over the shutter's time and the lens (`imgsynth.render.subframes`).
- Labels are those of the pinhole at the shutter's middle; with a readout, those of each line at that line's
  time, so that a mask agrees with the picture. How many pictures a blur is the mean of changes no label.
- A readout is drawn in bands of lines, each at the time of its middle. Amodal masks and boxes follow it;
what of a
  silhouette lies outside the frame is that of time 0.
- Frames without blur or readout, and batches without an exposure, are the inner renderer's, byte for byte.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, SceneBatch
from imgsynth.frame import Buffers
from imgsynth.render.base import Renderer
from imgsynth.render.flow import flow, hidden
from imgsynth.render.motion import at, moving
from imgsynth.render.rolling import Bands, either, rolled_boxes, stacked
from imgsynth.render.subframes import pattern, strip, sub_frame

Flags = NDArray[np.bool_]
DIRECTIONS = {"flow_forward": (1, "occluded_forward"), "flow_backward": (-1, "occluded_backward")}


class ShutterRenderer:
    """`inner` behind the shutter and the lens that a batch's exposure tells of.

    Args:
        inner: what draws the pictures.
        pictures: how many a blurred one is the mean of, at least; rounded up to a multiple of the samples a
            pixel.
        lines: how many lines a rolling shutter exposes at once; 1 is exact.
    """

    def __init__(self, inner: Renderer, pictures: int = 16, lines: int = 4):
        self.inner, self.pictures, self.lines = inner, pictures, lines

    def render(self, batch: SceneBatch, samples: int = 1, detail: int = 1) -> Buffers:
        """Draw all frames; see `Renderer.render`. Flow is added where the batch's `outputs` ask for it."""
        asked = [name for name in DIRECTIONS if name in batch.outputs]
        plain = replace(batch, outputs=tuple(name for name in batch.outputs if name not in DIRECTIONS))
        seen = replace(self._seen(plain, samples, detail), line_time=self._line_times(batch))
        for name in asked:
            seen = self._with_flow(plain, seen, name)
        return seen

    def _line_times(self, batch: SceneBatch) -> F64 | None:
        """(n, H) seconds about which each line is exposed, by bands; 0 where nothing rolls."""
        if batch.exposure is None:
            return None
        bands = Bands.of(batch.size[0], self.lines)
        times = bands.times(batch, moving(batch) & (batch.exposure.readout > 0))
        return np.repeat(times, bands.lines, axis=1)

    def _with_flow(self, batch: SceneBatch, seen: Buffers, name: str) -> Buffers:
        sign, hides = DIRECTIONS[name]
        interval = np.zeros(len(batch)) if batch.exposure is None else batch.exposure.interval
        moved, depth = flow(batch, seen, sign * interval, self.lines)
        then = seen
        if moving(batch).any():
            # Labels do not blur: the other frame is drawn through a pinhole.
            other = at(batch, sign * interval)
            assert other.exposure is not None
            instant = np.zeros(len(batch))
            sharp = replace(other.exposure, shutter=instant, aperture_radius=instant)
            then = self._seen(replace(other, outputs=(), exposure=sharp), 1, 1)
        more: dict[str, Any] = {name: moved, hides: hidden(moved, depth, seen, then)}
        return replace(seen, **more)

    def _seen(self, batch: SceneBatch, samples: int, detail: int) -> Buffers:
        exposure = batch.exposure
        if exposure is None:
            return self._pinhole(batch, samples, detail)
        moves = moving(batch)
        blurred = (moves & (exposure.shutter > 0)) | (exposure.aperture_radius > 0)
        rolls = moves & (exposure.readout > 0)
        grid = (samples, detail)
        if not rolls.any():
            return self._strip(batch, (0, batch.size[0]), np.zeros(len(batch)), blurred, grid)
        rolled = self._rolled(batch, rolls, blurred, grid)
        if rolls.all():
            return rolled
        upright = self._strip(batch, (0, batch.size[0]), np.zeros(len(batch)), blurred & ~rolls, grid)
        return either(batch, rolls, rolled, upright)

    def _pinhole(self, batch: SceneBatch, samples: int, detail: int) -> Buffers:
        """An instant's picture: the inner renderer need know nothing of time."""
        return self.inner.render(replace(batch, exposure=None), samples, detail)

    def _strip(
        self, batch: SceneBatch, lines: tuple[int, int], seconds: F64, blurred: Flags, grid: tuple[int, int]
    ) -> Buffers:
        """Some lines (first, how many) of all frames, exposed about times `seconds` (n,)."""
        samples, detail = grid
        sharp = strip(batch, *lines, seconds)
        if not blurred.any():
            return self._pinhole(sharp, samples, detail)
        labels = self._pinhole(sharp, 1, 1) if blurred.all() else self._pinhole(sharp, samples, detail)
        k = math.isqrt(samples)
        cells = k // detail
        view = pattern(self.pictures, cells)
        color = np.zeros((len(batch), lines[1] * k, batch.size[1] * k, 3), np.float32)
        share = np.float32(cells**2 / len(view))
        for j, (x, y) in enumerate(view.cell):
            drawn = self._pinhole(sub_frame(batch, view, j, (cells, detail), lines, seconds), 1, 1)
            color[:, y::cells, x::cells] += drawn.color * share
        if not blurred.all():
            color[~blurred] = labels.color[~blurred]
        return replace(labels, color=color, supersample=k)

    def _rolled(self, batch: SceneBatch, rolls: Flags, blurred: Flags, grid: tuple[int, int]) -> Buffers:
        """All frames with their lines exposed band after band."""
        bands = Bands.of(batch.size[0], self.lines)
        times = bands.times(batch, rolls)
        parts = [
            self._strip(batch, (int(first), int(lines)), times[:, b], blurred & rolls, grid)
            for b, (first, lines) in enumerate(zip(bands.first, bands.lines, strict=True))
        ]
        whole = self._pinhole(batch, 1, 1)
        return stacked(bands, parts, whole, rolled_boxes(batch, bands, times))
