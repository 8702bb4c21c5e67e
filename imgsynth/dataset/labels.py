"""What each label of a dataset holds and what grounds it, as `dataset.json` says under `labels`."""

from __future__ import annotations

from imgsynth.dataset.tables import GROUNDING
from imgsynth.scene import SceneSpec

ALWAYS = {
    "mask": "16-bit instance ids, 0 = background; as seen, sampled at pixel centres",
    "boxes": "box_visible tight on the visible mask, box_amodal of the whole object, also outside the frame; "
    "xyxy, half-open pixels",
    "amodal": "mask of the object as if alone, inside the frame; RLE",
    "pose": "world_from_object and camera_from_object, 4x4, metres; camera axes x right, y down, z forward",
    "box3d": "bounds of the object along its own axes, metres: center and size in the object's frame",
}
CHOSEN = {
    "depth": "float32 metres along camera z at pixel centres, inf where nothing is hit",
    "distance": "float32 metres along the ray at pixel centres, inf where nothing is hit",
    "normal": "unit, camera frame, facing the camera; (value - 32768) / 32767; 0 where nothing is hit",
    "albedo": "linear base colour at pixel centres, value / 65535; 0 where nothing is hit",
    "nocs": "place in the object's 3-D box along its axes, value / 65535; 0 off objects",
    "flow_forward": "pixels (x, y) from where a point is to where it is one frame later; NaN where it cannot "
    "be said; occluded 1 where it is not seen there",
    "flow_backward": "pixels (x, y) from where a point is to where it was one frame earlier; NaN where it "
    "cannot be said; occluded 1 where it is not seen there",
    "panoptic": "COCO panoptic: segment id = R + 256 G + 65536 B, 0 = void; segments in panoptic.json",
    "semantic": "16-bit class ids, 0 = background or unlabelled",
}
KEYPOINTS = "x, y in pixels; 0 not in the frame, 1 in it and hidden, 2 visible"


def described(spec: SceneSpec) -> dict[str, dict[str, str]]:
    """Label → its convention and its grounding, for datasets of a scene."""
    texts = dict(ALWAYS) | {name: CHOSEN[name] for name in spec.outputs}
    if any(obj.keypoints for obj in spec.objects.values()):
        texts["keypoints"] = KEYPOINTS
    return {name: {"convention": text, "grounding": GROUNDING} for name, text in texts.items()}
