"""What every renderer promises."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from imgsynth.batch import SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.frame import Buffers
from imgsynth.lens import PINHOLE


def pinholes_only(batch: SceneBatch, what: str) -> None:
    """Refuse cameras with a lens, where `what` ("mitsuba", "depth of field") is for pinholes only.

    Raises:
        ImgsynthError: says which frame has a lens, and the cure.
    """
    lens = batch.cameras.lens
    if lens is not None and np.any(lens.kind != PINHOLE):
        frame = int(batch.indices[np.argmax(lens.kind != PINHOLE)])
        raise ImgsynthError(
            f"camera.lens: {what} is for pinhole cameras only, and frame {frame} has a lens: leave out one"
        )


@runtime_checkable
class Renderer(Protocol):
    """Draws a batch of frames; the same frame gives the same bytes alone and in any batch."""

    def render(self, batch: SceneBatch, samples: int = 1, detail: int = 1) -> Buffers:
        """Draw all frames of `batch`.

        Args:
            batch: what to draw.
            samples: colour samples a pixel, a perfect square k²: a regular k×k grid. Labels are sampled at
                the pixel centre whatever it is.
            detail: textures and light are worked out for detail × detail cells of each pixel, for a sensor
                that is finer than the picture; divides k.

        Raises:
            ImgsynthError: `samples` is not a perfect square from 1 to 64, or `detail` does not divide its
                root.
        """
        ...
