"""What rendering and annotation yield: buffers, instances and finished frames, as structs of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I32, I64, U8, Cameras


@dataclass(frozen=True)
class AmodalMasks:
    """In-frame amodal masks, one window per instance, packed end to end.

    Instance k covers `window[k]` = (x0, y0, x1, y1), half-open whole pixels inside the frame (x1 == x0 where
    the object lies wholly outside), row-major 0/1 bytes from `start[k]`. Sampled at pixel centres.
    """

    window: I32  # (I, 4)
    start: I64  # (I + 1,)
    data: U8  # (start[-1],)

    def mask(self, k: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Full-frame (height, width) mask of instance k."""
        x0, y0, x1, y1 = (int(v) for v in self.window[k])
        out = np.zeros(size, bool)
        out[y0:y1, x0:x1] = self.data[self.start[k] : self.start[k + 1]].reshape(y1 - y0, x1 - x0) != 0
        return out


@dataclass(frozen=True)
class Buffers:
    """A renderer's output for n frames. Labels are sampled at pixel centres, colour is not.

    `color` is linear RGB *before* resolving: (n, H·k, W·k, 3) with k = `supersample`, so that a sensor may
    work on samples.
    """

    color: F32  # (n, H·k, W·k, 3)
    supersample: int
    depth: F32  # (n, H, W) metres along camera z, inf where nothing is hit
    normal: F32  # (n, H, W, 3) unit, camera frame, facing it; interpolated vertex normals; 0 at no hit
    instance: I32  # (n, H, W) id within the frame, 0 = background or ground
    amodal: AmodalMasks
    amodal_total: F64  # (I,) area in pixels² of the whole silhouette, also outside the frame
    boxes: F64 | None = None  # (I, 4) amodal boxes, NaN if behind; where a renderer has them
    # What follows is there where the batch's `outputs` ask for it and the renderer can.
    albedo: F32 | None = None  # (n, H, W, 3) linear base colour at the pixel's centre; 0 where nothing is hit
    # (n, H, W, 2) pixels (x, y): where what the pixel's centre shows is one frame later, or was one earlier,
    # less where it is; NaN where that is nowhere in front of the camera
    flow_forward: F32 | None = None
    flow_backward: F32 | None = None
    # (n, H, W) with flow: whether it cannot be seen there, hidden or out of the frame; True where flow is NaN
    occluded_forward: NDArray[np.bool_] | None = None
    occluded_backward: NDArray[np.bool_] | None = None
    # (n, H) seconds from the frame's own time to that of each line; None where no frame has an exposure
    line_time: F64 | None = None


HIDDEN, VISIBLE = 1, 2
"""Visibilities of keypoints within the frame; 0 is outside it, or behind the camera."""


@dataclass(frozen=True)
class InstanceKeypoints:
    """Keypoints of all instances, end to end: instance k owns rows [start[k], start[k+1])."""

    start: I64  # (I + 1,)
    name: NDArray[np.object_]  # (P,)
    point: F64  # (P, 3) object frame, metres, the instance's scale applied
    xy: F64  # (P, 2) pixels, also outside the frame; NaN behind the near plane
    visibility: U8  # (P,) 0 not in the frame, 1 in the frame and hidden, 2 visible


@dataclass(frozen=True)
class Instances:
    """Annotations of all instances of n frames (rows as in the batch's InstanceTable)."""

    frame: I32  # (I,) position in the batch
    id: I32  # (I,)
    class_id: I32  # (I,) 0 = unlabelled
    path: NDArray[np.object_]  # (I,)
    group: NDArray[np.object_]  # (I,)
    box_visible: F64  # (I, 4) xyxy half-open pixels, tight on the visible mask; zeros where it is empty
    # (I, 4) xyxy of the whole projected object, also outside the frame (the part before the near plane)
    box_amodal: F64
    area_visible: I64  # (I,) pixels
    area_amodal: I64  # (I,) pixels inside the frame
    visible_fraction: F64  # (I,) area_visible / area_amodal, 0 where the latter is 0
    truncated_fraction: F64  # (I,) share of the whole silhouette outside the frame
    world_from_object: F64  # (I, 4, 4)
    camera_from_object: F64  # (I, 4, 4)
    box3d_center: F64  # (I, 3) object frame, metres
    box3d_size: F64  # (I, 3)
    keypoints: InstanceKeypoints | None = None  # None where no object has any labelled
    grounding: NDArray[np.object_] | None = None  # (I,) what the labels rest on; None: the render, exactly
    confidence: F64 | None = None  # (I,) 0 to 1, NaN where nothing measured it; None: 1, exact

    def __len__(self) -> int:
        return len(self.frame)

    def of_frame(self, i: int) -> NDArray[np.intp]:
        """Rows of batch position i."""
        return np.flatnonzero(self.frame == i)


@dataclass(frozen=True)
class FrameBatch:
    """Finished frames: images as a file holds them, labels, and the sampled values that made them."""

    indices: I64  # (n,)
    size: tuple[int, int]
    classes: tuple[str, ...]
    images: U8  # (n, H, W, 3) or (n, H, W, 1), as displayed
    buffers: Buffers
    semantic: I32  # (n, H, W)
    cameras: Cameras
    instances: Instances
    values: Mapping[str, NDArray[Any]]  # leaf path → (n, ...) sampled values; masked by `active`
    active: Mapping[str, NDArray[np.bool_]]  # leaf path → (n,) whether the leaf's slot is in the frame
    distance: F32 | None = None  # (n, H, W) metres along the ray, inf where nothing is hit; where asked for
    report: Mapping[str, I32] = field(default_factory=dict)  # (n,) what placing had to say of each frame
    # (n,) with rules: how often the frame was drawn again, and whether it keeps the rules
    attempt: I32 | None = None
    obeys: NDArray[np.bool_] | None = None
    nocs: F32 | None = None  # (n, H, W, 3) place in the object's 3-D box, 0..1, 0 off objects; as asked for
    scores: Mapping[str, F64] = field(default_factory=dict)  # (n,) what filters measured; NaN: nothing

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(self, i) for i in range(len(self)))


@dataclass(frozen=True)
class Frame:
    """One frame of a batch, by view."""

    batch: FrameBatch
    position: int

    @property
    def index(self) -> int:
        """Frame number."""
        return int(self.batch.indices[self.position])

    @property
    def image(self) -> U8:
        """(H, W, 3) or (H, W, 1) uint8."""
        return self.batch.images[self.position]

    @property
    def instance(self) -> I32:
        """(H, W) instance ids, 0 = background."""
        return self.batch.buffers.instance[self.position]

    @property
    def depth(self) -> F32:
        """(H, W) metres along camera z."""
        return self.batch.buffers.depth[self.position]

    @property
    def rows(self) -> NDArray[np.intp]:
        """Rows of this frame in `batch.instances`."""
        return self.batch.instances.of_frame(self.position)
