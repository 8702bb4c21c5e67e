"""Whether a repainted picture still shows what its labels say: two checks that know nothing of the generator.

*Edges*: across every pixel of an object's outline, where along the outline's normal the picture changes most.
The share of the outline at which that is where the label says, compared with the same share in the render.
Contrast, colour and texture may change as they like; a moved outline, or one that is gone, does not agree.

*Masks*: each object is cut out of the picture anew, by the colours of its core against those around it; how
much of the band between falls to the side that the label says, compared with the same in the render. A
segmenter that was trained on renders may take that cut's place.

Both are near 1 for a picture that kept its geometry. What the render itself does not show (an outline without
contrast) is not held against the picture: its score is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, U8
from imgsynth.errors import ImgsynthError

Segment = Callable[[U8], I32]  # pictures (n, H, W, C) → semantic maps (n, H, W)

REASONS = ("edges", "masks")

_REACH = 6  # pixels to either side of an outline that are searched
_NEAR = 1  # of them that count as the outline itself
_CHANCE = (2 * _NEAR + 1) / (2 * _REACH + 1)  # share of a picture whose edges lie anywhere
_PLAIN = 0.6  # an outline that the render itself shows less than this is not judged
_CUT = 0.8  # nor a cut that succeeds less than this in the render


@dataclass(frozen=True)
class DriftSettings:
    """From which agreement (of 1) a frame is kept, judged by its worst object; objects below `min_area`
    pixels are not judged.

    Raises:
        ImgsynthError: on construction, for a value out of range.
    """

    edges: float = 0.6
    masks: float = 0.6
    min_area: int = 64

    def __post_init__(self) -> None:
        for name in ("edges", "masks"):
            if not 0 <= getattr(self, name) <= 1:
                raise ImgsynthError(f"drift: {name}: expected 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Drift:
    """Agreement of m objects with what their pictures show, 0 to 1, NaN where it cannot be judged."""

    frame: I32  # (m,) position among the pictures
    id: I32  # (m,) instance id
    edges: F64  # (m,)
    masks: F64  # (m,)

    @property
    def confidence(self) -> F64:
        """(m,) the lower of both, NaN where neither could be judged. Raw: to be calibrated."""
        return np.fmin(self.edges, self.masks)

    def reasons(self, n: int, settings: DriftSettings) -> NDArray[Any]:
        """(n,) why each picture is dropped: edges, masks, or "" where it is kept."""
        out = np.full(n, "", object)
        for name in REASONS[::-1]:  # edges are said first
            low = getattr(self, name) < getattr(settings, name)
            out[np.unique(self.frame[low])] = name
        return out


def drift(
    renders: U8,
    pictures: U8,
    instance: I32,
    settings: DriftSettings | None = None,
    *,
    semantic: I32 | None = None,
    segment: Segment | None = None,
) -> Drift:
    """How far each object of n repainted pictures agrees with its label.

    Args:
        renders, pictures: (n, H, W, 1 or 3) uint8, before and after.
        instance: (n, H, W) ids, 0 = background: the label.
        settings: which objects are judged.
        semantic: (n, H, W) class ids, where `segment` is given.
        segment: finds classes in pictures; an object's mask agreement is then the share of its pixels that
            are given its class, compared with the render's.
    """
    settings = settings or DriftSettings()
    rows: list[tuple[int, int, float, float]] = []
    if (segment is None) != (semantic is None):
        raise ImgsynthError("drift: a segmenter needs the semantic maps, and they a segmenter")
    maps = None if segment is None or semantic is None else (segment(renders), segment(pictures), semantic)
    for i in range(len(pictures)):
        before, after = _gradient(renders[i]), _gradient(pictures[i])
        for ident in np.unique(instance[i][instance[i] > 0]).tolist():
            mask = instance[i] == ident
            if mask.sum() < settings.min_area:
                continue
            edges = _relative(_on_edge(before, mask), _on_edge(after, mask), _PLAIN, _CHANCE)
            if maps is None:
                masks = _relative(_cut(renders[i], mask), _cut(pictures[i], mask), _CUT, 0.5)
            else:
                right = [float((m[i][mask] == maps[2][i][mask]).mean()) for m in maps[:2]]
                masks = _relative(right[0], right[1], _PLAIN)
            rows.append((i, ident, edges, masks))
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Drift(table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2], table[:, 3])


def _relative(before: float, after: float, least: float, chance: float = 0.0) -> float:
    """`after` as a share of `before`, counted from what chance gives; NaN where `before` shows too little."""
    if not before >= least:
        return float("nan")
    return float(np.clip((after - chance) / (before - chance), 0, 1))


def _gradient(image: U8) -> F64:
    """(H, W) how fast the picture changes: the strongest of L*, a* and b*, a little smoothed."""
    if image.shape[-1] == 1:
        planes: NDArray[Any] = image.astype(np.float32)
    else:
        planes = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB).astype(np.float32)
    planes = cv2.GaussianBlur(planes, (0, 0), 0.8).reshape(*image.shape[:2], -1)
    x, y = (cv2.Sobel(planes, cv2.CV_32F, *d).reshape(planes.shape) for d in ((1, 0), (0, 1)))
    return np.sqrt(x**2 + y**2).max(-1).astype(np.float64)


def _on_edge(gradient: F64, mask: NDArray[np.bool_]) -> float:
    """Share of a mask's outline (inside the frame) whose strongest change, within `_REACH` pixels across it,
    lies within `_NEAR`; NaN for an outline of under 8 pixels.
    """
    signed = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) - cv2.distanceTransform(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5
    )
    smooth = cv2.GaussianBlur(signed, (0, 0), 1.5)
    ny, nx = np.gradient(smooth)
    y, x = np.nonzero((signed > 0) & (signed <= 1.5))
    margin = (y >= 1) & (x >= 1) & (y < mask.shape[0] - 1) & (x < mask.shape[1] - 1)
    y, x = y[margin], x[margin]
    length = np.hypot(ny[y, x], nx[y, x])
    y, x, length = y[length > 0.2], x[length > 0.2], length[length > 0.2]
    if len(y) < 8:
        return float("nan")
    steps = np.arange(-_REACH, _REACH + 1)
    # The outline runs between its innermost pixel and the next: half a pixel along the outward normal.
    out_y, out_x = -ny[y, x] / length, -nx[y, x] / length
    at = [(p + 0.5 * d)[:, None] + d[:, None] * steps for p, d in ((y, out_y), (x, out_x))]
    values = cv2.remap(
        gradient.astype(np.float32), at[1].astype(np.float32), at[0].astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return float((np.abs(steps[values.argmax(1)]) <= _NEAR).mean())


def _cut(image: U8, mask: NDArray[np.bool_]) -> float:
    """How well an object is cut out of a picture by colour alone, balanced between both sides of its outline.

    GrabCut (Rother, Kolmogorov and Blake 2004) learns the colours of the object's core and of what lies
    beyond `_REACH` pixels, and divides the band between; 1 where it divides it as the label does, 0.5 by
    chance. NaN where there is no core or no surroundings.
    """
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
    core = inside > min(_REACH, 0.5 * inside.max())
    y, x = np.nonzero(outside <= 3 * _REACH)
    crop = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
    guess = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    guess[core], guess[outside > _REACH] = cv2.GC_FGD, cv2.GC_BGD
    guess, label = guess[crop].copy(), mask[crop]
    band = (guess == cv2.GC_PR_FGD) | (guess == cv2.GC_PR_BGD)
    if not (guess == cv2.GC_FGD).any() or not (guess == cv2.GC_BGD).any() or (band & label).sum() < 8:
        return float("nan")
    picture = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))[crop])
    cv2.setRNGSeed(0)  # its k-means draws from a generator that cannot be handed over
    cv2.grabCut(picture, guess, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    found = (guess & 1) > 0
    return float(found[band & label].mean() + (~found[band & ~label]).mean()) / 2
