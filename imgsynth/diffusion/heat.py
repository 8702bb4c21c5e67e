"""From attention to masks: heat over the picture, whether the thing is there at all, and where none can say.

Cross-attention says what a pixel looks at, self-attention which pixels belong together, so a word's heat is
A^τ · c: its map c carried τ times along the network's own affinities A (DiffSegmenter, Wang et al. 2023, and
Dataset Diffusion, Nguyen et al., NeurIPS 2023, §3.3). A's rows sum to 1, so heat stays what c was: the
probability of looking at the word. That makes an absolute test possible. Maps scaled to their own maximum
show an object in every picture, also in those whose model left it out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, I32
from imgsynth.errors import ImgsynthError

IGNORE = -1  # in a semantic map: neither object nor background can be said

_TOP, _BOTTOM = 0.02, 0.10  # shares of the frame that give a map's level and its rest


@dataclass(frozen=True)
class MaskSettings:
    """How heat becomes masks. Levels are absolute; they differ between models: `fit_presence` finds them.

    Relative heat h is 0 at the map's rest (mean of its weakest tenth) and 1 at its level (mean of its
    strongest fiftieth). Object where h ≥ `high`, background where h < `low`, ignored between.

    Raises:
        ImgsynthError: on construction, for a value out of range.
    """

    power: int = 2  # τ: how often heat is carried along the self-attention
    high: float = 0.5
    low: float = 0.35
    margin: float = 0.1  # two words closer than this in h, both objects: ignored
    level: float = 3.0  # present from this many times what a pixel without a preference gives a token
    contrast: float = 2.0  # and from this ratio of level to rest
    min_area: float = 0.002  # share of the frame; smaller pieces are ignored

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ImgsynthError(f"masks: expected 0 ≤ low ≤ high ≤ 1, got low={self.low}, high={self.high}")
        for name, most in (("power", 16), ("margin", 1), ("level", 1e3), ("contrast", 1e3), ("min_area", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ImgsynthError(f"masks: {name}: expected 0 to {most:g}, got {getattr(self, name)}")


@dataclass(frozen=True)
class HeatMasks:
    """Masks of K words in n pictures, and what they rest on."""

    semantic: I32  # (n, H, W) 1 + word, 0 = background, IGNORE
    present: NDArray[np.bool_]  # (n, K) whether the word's thing is in the picture
    level: F32  # (n, K) how strongly it is looked at where most, in times the even share of a token
    contrast: F32  # (n, K) that, over the map's weakest tenth
    confidence: F32  # (n, K) expected IoU if h were a probability; 0 where there is no mask. To be calibrated


def heat(cross: dict[tuple[int, int], F32], own: dict[tuple[int, int], F32], power: int) -> F32:
    """Probability of looking at each word, (n, K, h, w) float32, on one grid: that of the finest
    self-attention that was kept (where `power` > 0), else of the finest cross-attention.

    Args:
        cross, own: as in `imgsynth.diffusion.attention.Attention`.
        power: τ; 0 leaves self-attention out.

    Raises:
        ImgsynthError: there is no cross-attention.
    """
    if not cross:
        raise ImgsynthError("no cross-attention was taken: the chosen layers or steps never ran")
    grids = list(own) if power and own else list(cross)
    grid = max(grids, key=lambda g: g[0] * g[1])
    mean = np.stack([_resized(maps, grid) for maps in cross.values()]).mean(0, np.float64)
    if not (power and own):
        return mean.astype(np.float32)
    n, words = mean.shape[:2]
    flat = mean.reshape(n, words, -1).transpose(0, 2, 1)
    affinity = own[grid].astype(np.float64)
    for _ in range(power):
        flat = affinity @ flat
    return flat.transpose(0, 2, 1).reshape(n, words, *grid).astype(np.float32)


def masks_of(
    cross: dict[tuple[int, int], F32],
    own: dict[tuple[int, int], F32],
    size: tuple[int, int],
    tokens: int,
    settings: MaskSettings | None = None,
) -> HeatMasks:
    """Masks of `size` (height, width) pixels for the K words of each picture.

    Args:
        cross, own: as in `imgsynth.diffusion.attention.Attention`.
        size: of the picture.
        tokens: how many tokens the text has for the network, ends and padding too: an even share is 1/tokens.
        settings: thresholds.
    """
    settings = settings or MaskSettings()
    level, rest = _strength(heat(cross, own, 0))  # before it is smoothed: a small thing keeps its peak
    level, contrast = level * tokens, level / np.maximum(rest, 1e-12)
    present = (level >= settings.level) & (contrast >= settings.contrast)
    fine = _resized(heat(cross, own, settings.power), size)
    top, bottom = _strength(fine)
    scale = np.maximum(top - bottom, 1e-12)[..., None, None]
    relative = np.clip((fine - bottom[..., None, None]) / scale, 0, 1) * present[..., None, None]
    semantic = _labelled(relative, settings)
    confidence = _confidence(relative, semantic)
    return HeatMasks(semantic, present, level, contrast.astype(np.float32), confidence)


def fit_presence(
    settings: MaskSettings, level: NDArray[Any], contrast: NDArray[Any], truth: NDArray[np.bool_]
) -> tuple[MaskSettings, float]:
    """The thresholds of presence that tell best, by balanced accuracy, pictures with the thing from those
    without; and that accuracy (of the pictures they were fitted on).

    Args:
        settings: what else to keep.
        level, contrast: (m,) as in HeatMasks, of pictures that somebody looked at.
        truth: (m,) whether the thing is there.

    Raises:
        ImgsynthError: there are not both kinds.
    """
    if truth.all() or not truth.any():
        raise ImgsynthError("fitting presence needs pictures with the thing and pictures without")
    best, found = -1.0, settings
    for a in _between(level):
        for b in _between(contrast):
            said = (level >= a) & (contrast >= b)
            score = float(said[truth].mean() + (~said[~truth]).mean()) / 2
            if score > best:
                best, found = score, replace(settings, level=float(a), contrast=float(b))
    return found, best


def pieces(semantic: I32) -> tuple[I32, I32]:
    """Connected pieces (8 neighbours) of one map's objects: ids (H, W) from 1, and (I,) the word of each.

    Two things of one word that touch are one piece: attention does not tell them apart.
    """
    ids = np.zeros(semantic.shape, np.int32)
    words: list[int] = []
    for word in np.unique(semantic[semantic > 0]).tolist():
        count, found = cv2.connectedComponents((semantic == word).astype(np.uint8), connectivity=8)
        ids = np.where(found > 0, found + len(words), ids)
        words += [word] * (count - 1)
    return ids.astype(np.int32), np.array(words, np.int32)


def _between(values: NDArray[Any]) -> NDArray[np.float64]:
    """0, and the middles of neighbouring values: all thresholds that differ; at most 200 of them."""
    known = np.unique(values.astype(np.float64))
    middles = np.concatenate([[0.0], (known[1:] + known[:-1]) / 2])
    return middles[np.unique(np.linspace(0, len(middles) - 1, 200).astype(int))]


def _resized(maps: NDArray[Any], size: tuple[int, int]) -> F32:
    """(n, K, *size): averaged over areas where that is smaller, linear between pixel centres where larger."""
    n, words, h, w = maps.shape
    if (h, w) == size:
        return maps.astype(np.float32)
    how = cv2.INTER_AREA if size[0] <= h and size[1] <= w else cv2.INTER_LINEAR
    flat = np.ascontiguousarray(maps.reshape(n * words, h, w), np.float32)
    out = np.stack([cv2.resize(plane, size[::-1], interpolation=how) for plane in flat])
    return out.reshape(n, words, *size)


def _strength(maps: F32) -> tuple[F32, F32]:
    """(n, K) mean of each map's strongest fiftieth, and of its weakest tenth."""
    flat = np.sort(maps.reshape(*maps.shape[:2], -1), axis=-1)
    count = flat.shape[-1]
    top, bottom = max(1, round(_TOP * count)), max(1, round(_BOTTOM * count))
    return flat[..., -top:].mean(-1), flat[..., :bottom].mean(-1)


def _labelled(relative: F32, settings: MaskSettings) -> I32:
    words, height, width = relative.shape[1:]
    order = np.sort(relative, axis=1)
    first = order[:, -1]
    second = order[:, -2] if words > 1 else np.zeros_like(first)
    semantic = np.where(first >= settings.high, relative.argmax(1) + 1, 0).astype(np.int32)
    unsure = (first >= settings.low) & (first < settings.high)
    unsure |= (second >= settings.high) & (first - second < settings.margin)
    semantic[unsure] = IGNORE
    least = settings.min_area * height * width
    for picture in semantic:
        ids, _ = pieces(picture)
        small = np.bincount(ids.ravel()) < least
        small[0] = False
        picture[small[ids]] = IGNORE
    return semantic


def _confidence(relative: F32, semantic: I32) -> F32:
    """(n, K) Σ_mask h / (|mask| + Σ_elsewhere h): the expected IoU of the mask, were pixels independent."""
    words = relative.shape[1]
    inside = semantic[:, None] == np.arange(1, words + 1)[:, None, None]
    hit = (relative * inside).sum((2, 3))
    union = inside.sum((2, 3)) + (relative * ~inside).sum((2, 3))
    found = np.divide(hit, union, out=np.zeros_like(hit), where=inside.any((2, 3)))
    return found.astype(np.float32)
