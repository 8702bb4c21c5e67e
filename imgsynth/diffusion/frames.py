"""Generated images and their labels in the form that the rest of imgsynth works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imgsynth.batch import F64, I64, Cameras
from imgsynth.diffusion.mechanism import Labelled
from imgsynth.diffusion.sample import Samples
from imgsynth.frame import AmodalMasks, Buffers, FrameBatch, Instances


def frame_batch(
    samples: Samples,
    found: Labelled,
    classes: tuple[str, ...],
    *,
    values: Mapping[str, Any] | None = None,
    dropped: Mapping[str, I64] | None = None,
    scores: Mapping[str, F64] | None = None,
) -> FrameBatch:
    """Images and labels in the form that the dataset's writer takes; what no camera saw is NaN or empty.

    Amodal masks and boxes repeat the visible ones: nothing says what is hidden.
    """
    n, height, width = found.instance.shape
    boxes, area = _bounds(found)
    window = boxes.astype(np.int32)
    parts = [
        (found.instance[f, y0:y1, x0:x1] == i).astype(np.uint8).ravel()
        for f, i, (x0, y0, x1, y1) in zip(found.frame, found.id, window.tolist(), strict=True)
    ]
    sizes = [len(p) for p in parts]
    amodal = AmodalMasks(
        window, np.cumsum([0, *sizes]).astype(np.int64), np.concatenate([np.zeros(0, np.uint8), *parts])
    )
    far = np.broadcast_to(np.float32(np.inf), (n, height, width))
    void = np.broadcast_to(np.float32(0), (n, height, width, 3))
    buffers = Buffers(void, 1, far, void, found.instance, amodal, area.astype(np.float64))
    m, whole = len(found.id), found.grounding == "condition"
    poses = np.full((m, 4, 4), np.nan)
    instances = Instances(
        frame=found.frame, id=found.id, class_id=found.class_id,
        path=np.array(["image" if whole else f"sampled[{i - 1}]" for i in found.id.tolist()], object),
        group=np.array(["image" if whole else "sampled"] * m, object),
        box_visible=boxes, box_amodal=boxes, area_visible=area, area_amodal=area,
        visible_fraction=(area > 0).astype(np.float64), truncated_fraction=np.zeros(m),
        world_from_object=poses, camera_from_object=poses,
        box3d_center=np.full((m, 3), np.nan), box3d_size=np.full((m, 3), np.nan),
        grounding=np.array([found.grounding] * m, object), confidence=found.confidence,
    )  # fmt: skip
    class_of = np.zeros((n, int(found.id.max(initial=0)) + 1), np.int32)
    class_of[found.frame, found.id] = found.class_id
    return FrameBatch(
        indices=samples.indices, size=(height, width), classes=classes, images=samples.images,
        buffers=buffers, semantic=class_of[np.arange(n)[:, None, None], found.instance],
        cameras=Cameras(np.full((n, 3, 3), np.nan), np.full((n, 4, 4), np.nan), np.full(n, np.nan)),
        instances=instances, values=dict(values or {}), active={},
        report={f"dropped_{name}": count.astype(np.int32) for name, count in (dropped or {}).items()},
        scores=dict(scores or {}),
    )  # fmt: skip


def _bounds(found: Labelled) -> tuple[F64, I64]:
    """Tight boxes (m, 4) xyxy, half-open, and areas (m,) of all instances."""
    boxes, area = np.zeros((len(found.id), 4)), np.zeros(len(found.id), np.int64)
    for k, (frame, ident) in enumerate(zip(found.frame, found.id, strict=True)):
        y, x = np.nonzero(found.instance[frame] == ident)
        area[k] = len(y)
        if len(y):
            boxes[k] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return boxes, area
