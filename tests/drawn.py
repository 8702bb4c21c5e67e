"""Frames drawn by hand, a pure function of their indices: discs and rectangles of known masks."""

from __future__ import annotations

import numpy as np

from imgsynth.batch import Cameras
from imgsynth.dataset import Header
from imgsynth.frame import AmodalMasks, Buffers, FrameBatch, Instances

CLASSES = ("disc", "square plate", 'odd "name" & <sign> \\')


def header(**changes) -> Header:
    fields = {
        "name": "drawn",
        "spec": {"objects": {"plate": {"count": [1, 5]}}, "a": 1},
        "spec_digest": "d" * 64,
        "seed": 7,
        "start": 0,
        "count": 12,
        "part_size": 5,
        "size": (24, 32),
        "channels": 3,
        "classes": CLASSES,
        "outputs": ("depth", "normal"),
        "versions": {"imgsynth": "0.1.0"},
        "licences": {"wood.png": "CC0-1.0"},
    }
    return Header(**(fields | changes))


def batch_of(head: Header, start: int | None = None, count: int | None = None, **more) -> FrameBatch:
    first = head.start if start is None else start
    indices = np.arange(first, first + (head.count if count is None else count))
    return draw(indices, head.size, head.channels, **more)


def draw(indices, size=(24, 32), channels=3, lone=False, classes=CLASSES) -> FrameBatch:
    """Frames with 0 to 6 objects (exactly one labelled, visible object where `lone`)."""
    frames = [_frame(int(i), size, lone) for i in indices]
    n, (h, w) = len(frames), size
    counts = [len(f["id"]) for f in frames]
    rows = {k: np.concatenate([f[k] for f in frames]) for k in frames[0] if k not in ("map", "masks")}
    masks = [m for f in frames for m in f["masks"]]
    window = np.array([_bounds(m) for m in masks], np.int32).reshape(-1, 4)
    data = [m[y0:y1, x0:x1].ravel() for m, (x0, y0, x1, y1) in zip(masks, window, strict=True)]
    ids = np.stack([f["map"] for f in frames]).astype(np.int32)
    frame = np.repeat(np.arange(n), counts).astype(np.int32)
    total = len(frame)
    visible = np.array([(ids[f] == i).sum() for f, i in zip(frame, rows["id"], strict=True)], np.int64)
    boxes = [_bounds(ids[f] == i) for f, i in zip(frame, rows["id"], strict=True)]
    inside = np.array([m.sum() for m in masks], np.int64).reshape(-1)
    index = np.asarray(indices, np.int64)
    pixels = (37 * ids[..., None] + 5 * np.arange(channels) + index[:, None, None, None]) % 256
    pose = np.tile(np.eye(4), (total, 1, 1))
    pose[:, :2, 3] = rows["center"]
    depth = np.where(ids > 0, 2 + ids / 7 + np.linspace(0, 1, w), np.inf).astype(np.float32)
    normal = np.where(ids[..., None] > 0, np.array([0.6, 0, -0.8]), 0).astype(np.float32)
    class_of = np.zeros((n, 1000), np.int32)
    class_of[frame, rows["id"]] = rows["class_id"]
    on = index % 3 != 0
    return FrameBatch(
        indices=index,
        size=size,
        classes=classes,
        images=pixels.astype(np.uint8),
        buffers=Buffers(
            color=np.zeros((n, h, w, 3), np.float32),
            supersample=1,
            depth=depth,
            normal=normal,
            instance=ids,
            amodal=AmodalMasks(
                window,
                np.concatenate(([0], np.cumsum([len(d) for d in data]))).astype(np.int64),
                np.concatenate([np.zeros(0, np.uint8), *data]).astype(np.uint8),
            ),
            amodal_total=rows["total"],
        ),
        semantic=np.take_along_axis(class_of, ids.reshape(n, -1), 1).reshape(ids.shape),
        cameras=Cameras(
            np.tile(np.array([[30.0, 0, w / 2], [0, 30, h / 2], [0, 0, 1]]), (n, 1, 1)),
            np.tile(np.eye(4), (n, 1, 1)) + index[:, None, None] * 1e-3,
            np.full(n, 0.01),
        ),
        instances=Instances(
            frame=frame,
            id=rows["id"].astype(np.int32),
            class_id=rows["class_id"].astype(np.int32),
            path=np.array([f"objects.plate[{i - 1}]" for i in rows["id"]], object),
            group=np.array(["plate"] * total, object),
            box_visible=np.array(boxes, np.float64).reshape(-1, 4),
            box_amodal=rows["box"],
            area_visible=visible,
            area_amodal=inside,
            visible_fraction=visible / np.maximum(inside, 1),
            truncated_fraction=1 - inside / rows["total"],
            world_from_object=pose,
            camera_from_object=pose,
            box3d_center=np.zeros((total, 3)),
            box3d_size=np.ones((total, 3)),
        ),
        values={
            "objects.plate[10].hue": np.sin(index.astype(np.float64)),
            "objects.plate[2].hue": np.cos(index.astype(np.float64)),
            "objects.plate.count": np.array(counts),
            "light.color": np.stack([index / 3, index / 5, index / 7], 1).astype(np.float32),
            "camera.turn": np.tile(np.eye(3), (n, 1, 1)) * index[:, None, None],
            "paper": np.array([("white", "squared")[i % 2] for i in index], object),
            "flip": index % 2 == 0,
        },
        active={"objects.plate[10].hue": on, "light.color": on, "paper": on},
    )


def _frame(index: int, size, lone: bool) -> dict:
    rng = np.random.default_rng(1000 + index)
    h, w = size
    pad = max(h, w)
    y, x = np.mgrid[-pad : h + pad, -pad : w + pad] + 0.5
    k = 1 if lone else int(rng.integers(0, 7))
    ids = np.zeros((h, w), int)
    out: dict = {key: [] for key in ("id", "class_id", "center", "box", "total", "masks")}
    for ident in range(1, k + 1):
        cx, cy = (w / 2, h / 2) if lone else rng.uniform((-2, -2), (w + 2, h + 2))
        rx, ry = rng.uniform(1.5, min(h, w) / 2.5, 2)
        class_id = int(rng.integers(1, 4)) if lone else int(rng.integers(0, 4))
        if class_id == 1:
            ry = rx
            whole = (x - cx) ** 2 + (y - cy) ** 2 <= rx**2
        else:
            whole = (abs(x - cx) <= rx) & (abs(y - cy) <= ry)
        mask = whole[pad : pad + h, pad : pad + w]
        ids[mask] = ident
        out["masks"].append(mask)
        out["id"].append(ident)
        out["class_id"].append(class_id)
        out["center"].append((cx, cy))
        out["box"].append((cx - rx, cy - ry, cx + rx, cy + ry))
        out["total"].append(max(whole.sum(), 1))
    shapes = {"center": (k, 2), "box": (k, 4)}
    arrays = {
        key: np.array(v, float if key in ("center", "box", "total") else int).reshape(shapes.get(key, (k,)))
        for key, v in out.items()
        if key != "masks"
    }
    return arrays | {"masks": out["masks"], "map": ids}


def _bounds(mask) -> tuple[int, int, int, int]:
    if not mask.any():
        return (0, 0, 0, 0)
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
