"""Rendered maps as planes that a model follows: what stands where, and how it faces.

A layout is (n, H, W, L) uint8, of one or several kinds, in the order asked for:

========  ======  =====================================================================================
kind      planes  what
========  ======  =====================================================================================
semantic  K       255 where the pixel is of class k, a plane for each class; 0 on what has no class
edges     1       255 on both sides of a border between two instances, or of one with the background
depth     1       inverse depth: 255 for what is nearest in the frame, 0 infinitely far away
normal    3       unit normals in the camera's frame, −1 … 1 as 0 … 255; 128 where nothing is hit
========  ======  =====================================================================================

The names of the planes go into the model's record, so that a layout is laid out again in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, I32, U8
from imgsynth.dataset.labelled import check_memory
from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError
from imgsynth.learn.settings import check_names

KINDS = ("semantic", "edges", "depth", "normal")


def chosen(text: str) -> tuple[str, ...]:
    """The kinds in a text such as "semantic,edges".

    Raises:
        ImgsynthError: an unknown kind, one that stands twice, or none.
    """
    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    check_names("layout", kinds, list(KINDS))
    if not kinds or len(set(kinds)) != len(kinds):
        raise DataError(f"layout: expected some of {', '.join(KINDS)}, each once, got {text!r}")
    return kinds


def plane_names(kinds: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """What each plane of a layout holds: `semantic:CLASS`, `edges`, `depth`, `normal:x` …"""
    names: list[str] = []
    for kind in kinds:
        if kind == "semantic":
            names += [f"semantic:{c}" for c in classes]
        elif kind == "normal":
            names += [f"normal:{axis}" for axis in "xyz"]
        else:
            names.append(kind)
    return tuple(names)


def kinds_of(names: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """The kinds that gave these plane names.

    Raises:
        DataError: names that no kinds give, or of other classes.
    """
    kinds = tuple(dict.fromkeys(name.partition(":")[0] for name in names))
    if not kinds or any(k not in KINDS for k in kinds) or plane_names(kinds, classes) != tuple(names):
        raise DataError(
            f"layout: the model follows {', '.join(names) or 'nothing'}; with the classes "
            f"{', '.join(classes)} that cannot be laid out"
        )
    return kinds


def layout_of(dataset: Dataset, kinds: Sequence[str], positions: Sequence[int] | None = None) -> U8:
    """The planes (n, H, W, L) of all frames, or of those at `positions`.

    Raises:
        DataError: the dataset lacks a map that is wanted (saying how to render it), or is too large.
    """
    lacking = [k for k in kinds if k in ("depth", "normal") and k not in dataset.header.kinds]
    if lacking:
        raise DataError(
            f"{dataset.root}: has no {lacking[0]} maps; render it with --set outputs='[{lacking[0]}]'"
        )
    chosen_ = range(len(dataset)) if positions is None else positions
    planes = len(plane_names(kinds, dataset.classes))
    check_memory(dataset.root, (len(chosen_), *dataset.size, planes))
    out = np.empty((len(chosen_), *dataset.size, planes), np.uint8)
    for k, i in enumerate(chosen_):
        parts = [_plane(dataset, kind, i) for kind in kinds]
        out[k] = np.concatenate(parts, axis=2)
    return out


def _plane(dataset: Dataset, kind: str, i: int) -> U8:
    if kind == "semantic":
        return semantic_planes(dataset.semantic_mask(i), len(dataset.classes))
    if kind == "edges":
        return edge_plane(dataset.instance_mask(i))
    if kind == "depth":
        return depth_plane(dataset.depth(i))
    return normal_planes(dataset.normal(i))


def semantic_planes(semantic: NDArray[np.integer], classes: int) -> U8:
    """(H, W, K) of class ids (H, W)."""
    return np.where(semantic[..., None] == np.arange(1, classes + 1), 255, 0).astype(np.uint8)


def edge_plane(instance: I32) -> U8:
    """(H, W, 1) of instance ids (H, W): pixels with a neighbour (4) of another id."""
    edge = np.zeros(instance.shape, bool)
    across, down = instance[:, :-1] != instance[:, 1:], instance[:-1] != instance[1:]
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    return np.where(edge, 255, 0).astype(np.uint8)[..., None]


def depth_plane(depth: F32) -> U8:
    """(H, W, 1) of metres (H, W), inf where nothing is hit."""
    near = float(depth.min(initial=np.inf))
    share = near / depth if np.isfinite(near) and near > 0 else np.zeros_like(depth)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)[..., None]


def normal_planes(normal: F32) -> U8:
    """(H, W, 3) of unit normals (H, W, 3)."""
    return np.rint(127.5 * (np.clip(normal, -1, 1) + 1)).astype(np.uint8)
