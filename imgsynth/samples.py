"""What one frame gives a learner: numpy arrays by name, sharing the frames' memory where they can.

=============  =====================  =======================================================================
`image`        (C, H, W) uint8        as displayed
`boxes`        (k, 4) float32         xyxy half-open pixels, of the k labelled instances with a visible pixel
`labels`       (k,) int64             their classes, 1..
`masks`        (k, H, W) bool         their visible masks
`amodal`       (k, H, W) bool         their masks as if alone
`keypoints`    (k, p, 3) float32      x, y, visibility 0/1/2 of their keypoints, in the scene's order,
                                      padded with zeros to the object with most
`class`        int                    the one class in the frame, 0..; an error where there is not just one
`instance`     (H, W) int32           instance ids, 0 = background
`semantic`     (H, W) int32           class ids, 0 = background
others         (H, W[, c]) float32    depth, distance, normal, nocs, albedo, flow_forward, flow_backward
=============  =====================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.errors import DataError
from imgsynth.frame import FrameBatch

Positions = int | slice
Array = NDArray[Any]


@dataclass(frozen=True)
class OutputKind:
    """`get` takes the frames and a position, or a slice of them where the output is `dense`."""

    get: Callable[[FrameBatch, Any], Any]
    dense: bool


def frame_sample(made: FrameBatch, k: Positions, outputs: Sequence[str]) -> dict[str, Any]:
    """`index` and the outputs of the frame at position k, or of a slice of frames where all are dense.

    Raises:
        DataError: a frame that has no single class was asked for it.
    """
    index = made.indices[k]
    out: dict[str, Any] = {"index": index if isinstance(k, slice) else int(index)}
    return out | {name: OUTPUTS[name].get(made, k) for name in outputs}


def _labelled(made: FrameBatch, k: int) -> NDArray[np.intp]:
    """Rows of frame k's labelled instances with a visible pixel."""
    rows = made.instances.of_frame(k)
    return rows[(made.instances.class_id[rows] > 0) & (made.instances.area_visible[rows] > 0)]


def _boxes(made: FrameBatch, k: int) -> Array:
    return made.instances.box_visible[_labelled(made, k)].astype(np.float32)


def _labels(made: FrameBatch, k: int) -> Array:
    return made.instances.class_id[_labelled(made, k)].astype(np.int64)


def _masks(made: FrameBatch, k: int) -> Array:
    ids = made.instances.id[_labelled(made, k)]
    return np.asarray(made.buffers.instance[k] == ids[:, None, None])


def _amodal(made: FrameBatch, k: int) -> Array:
    masks = [made.buffers.amodal.mask(int(row), made.size) for row in _labelled(made, k)]
    return np.stack(masks) if masks else np.zeros((0, *made.size), bool)


def _keypoints(made: FrameBatch, k: int) -> Array:
    points = made.instances.keypoints
    if points is None:
        raise DataError("keypoints: the scene names none; give an object's `keypoints`")
    rows = _labelled(made, k)
    most = int(np.diff(points.start).max(initial=0))
    out = np.zeros((len(rows), most, 3), np.float32)
    for place, row in enumerate(rows):
        here = slice(points.start[row], points.start[row + 1])
        seen = points.visibility[here]
        triples = np.concatenate([points.xy[here], seen[:, None]], 1)
        out[place, : len(seen)] = np.where(seen[:, None] > 0, triples, 0.0)
    return out


def _class(made: FrameBatch, k: int) -> int:
    found = np.unique(_labels(made, k))
    if len(found) != 1:
        raise DataError(
            f"class: expected frames that show one class, frame {made.indices[k]} shows {len(found)}"
        )
    return int(found[0]) - 1


def _buffer(name: str) -> OutputKind:
    return OutputKind(lambda made, k: getattr(made.buffers, name)[k], True)


def _map(name: str) -> OutputKind:
    return OutputKind(lambda made, k: getattr(made, name)[k], True)


OUTPUTS: dict[str, OutputKind] = {
    "image": OutputKind(lambda made, k: np.moveaxis(made.images[k], -1, -3), True),
    "boxes": OutputKind(_boxes, False),
    "labels": OutputKind(_labels, False),
    "masks": OutputKind(_masks, False),
    "amodal": OutputKind(_amodal, False),
    "keypoints": OutputKind(_keypoints, False),
    "class": OutputKind(_class, False),
    "instance": _buffer("instance"),
    "semantic": _map("semantic"),
    "depth": _buffer("depth"),
    "distance": _map("distance"),
    "normal": _buffer("normal"),
    "nocs": _map("nocs"),
    "albedo": _buffer("albedo"),
    "flow_forward": _buffer("flow_forward"),
    "flow_backward": _buffer("flow_backward"),
}
