"""Do synthetic images look like real ones? Simple statistics, compared in about a second.

Hours of training find out slowly what a look at light, contrast, sharpness and colour finds at once. Each
figure of `imgsynth.evaluate.appearance` is compared at the real set's mix of classes: mean, spread and whole
distribution (Kolmogorov–Smirnov distance). What is a difference is said by the real images themselves: they
are cut in two at random, whole tracks together, and what their halves differ by is the null band.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError
from imgsynth.evaluate.appearance import HUES, appearance

# What to do where synthetic images have too little, or too much, of something.
_ADVICE: Mapping[str, tuple[str, str]] = {
    "luminance": ("more light, or a higher sensor.exposure_ev", "less light, or a lower sensor.exposure_ev"),
    "contrast": ("less veil and ambient light, wider colours", "more veil, softer light, closer colours"),
    "centre": ("a darker background or a brighter object", "a brighter background or a darker object"),
    "black": ("darker exposures and shadows", "fewer dark exposures"),
    "white": ("over-exposed frames, bright sky", "fewer over-exposed frames"),
    "sharpness": (
        "less blur, more native pixels, busier backgrounds",
        "more blur and motion, fewer native pixels",
    ),
    "slope": ("less blur, finer background texture", "more blur, coarser background texture"),
    "noise": ("more shot and read noise, fewer blurs after it", "less noise"),
    "saturation": ("a higher sensor.saturation, stronger colours", "a lower sensor.saturation, fading, veil"),
    "warmth": ("warmer light or white balance", "cooler light or white balance"),
    "green cast": ("greener light, white balance or background", "less green light or background"),
}


_EXACT = 1e-6  # of a standard deviation or a share: rounding


def _beyond(shift: float, null_shift: float, distance: float, null_distance: float) -> bool:
    return abs(shift) > null_shift + _EXACT or distance > null_distance + _EXACT


@dataclass(frozen=True)
class Gap:
    """How one figure differs: synthetic against real."""

    figure: str
    real_mean: float
    real_sd: float
    synthetic_mean: float
    synthetic_sd: float
    shift: float  # (synthetic mean - real mean) / real sd
    spread: float  # synthetic sd / real sd
    distance: float  # Kolmogorov–Smirnov, 0..1
    null_shift: float  # what 95 % of real halves stay within
    null_distance: float
    advice: str  # "" within the null band

    @property
    def differs(self) -> bool:
        """Whether shift or distance lies outside the null band."""
        return _beyond(self.shift, self.null_shift, self.distance, self.null_distance)


@dataclass(frozen=True)
class ClassGap:
    """How one figure's mean differs in one class, in real standard deviations and in standard errors."""

    class_name: str
    figure: str
    shift: float
    z: float  # standard error over whole groups (tracks) of the real images


@dataclass(frozen=True)
class Statistics:
    """All gaps, the greatest distance first, and the classes that stand out most."""

    synthetic: str
    real: str
    images: tuple[int, int]  # synthetic, real
    gaps: tuple[Gap, ...]
    classes: tuple[ClassGap, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a JSON document."""
        return {
            "synthetic": {"name": self.synthetic, "images": self.images[0]},
            "real": {"name": self.real, "images": self.images[1]},
            "figures": [{**asdict(gap), "differs": gap.differs} for gap in self.gaps],
            "classes": [asdict(gap) for gap in self.classes],
        }

    def text(self) -> str:
        """A table for people, then the advice."""
        lines = [
            f"{self.synthetic} ({self.images[0]} images) against {self.real} ({self.images[1]}); "
            "* outside what halves of the real set differ by",
            f"{'figure':<12}{'real':>16}{'synthetic':>17}{'shift':>9}{'(null)':>8}{'KS':>7}{'(null)':>8}",
        ]
        for g in self.gaps:
            real = f"{g.real_mean:.3f} ± {g.real_sd:.3f}"
            made = f"{g.synthetic_mean:.3f} ± {g.synthetic_sd:.3f}"
            lines.append(
                f"{g.figure:<12}{real:>16}{made:>17}{g.shift:>+9.2f}{g.null_shift:>8.2f}"
                f"{g.distance:>7.3f}{g.null_distance:>8.3f}{' *' if g.differs else ''}"
            )
        told = [f"- {g.figure}: {g.advice}" for g in self.gaps if g.advice]
        lines += ["", *(told or ["Nothing stands out."])]
        if self.classes:
            lines += ["", "Classes that stand out (shift in real sd, z over tracks):"]
            lines += [f"- {c.class_name} {c.figure} {c.shift:+.2f} (z {c.z:+.1f})" for c in self.classes]
        return "\n".join(lines)


def statistics(
    synthetic: LabelledImages,
    real: LabelledImages,
    *,
    halves: int = 40,
    seed: int = 0,
    most_classes: int = 10,
) -> Statistics:
    """Compare the looks of two sets.

    Synthetic images are brought to the real ones' size and channels, and weighted to their mix of classes.

    Args:
        synthetic: the set in question.
        real: real training images; their groups, where there are any, are never cut in two.
        halves: random halvings of the real images for the null band.
        seed: of the halvings.
        most_classes: how many single classes to name.

    Raises:
        DataError: no class in common, or fewer than two groups of real images.
    """
    made = synthetic.fitted(real.size, real.channels)
    if min(real.size) < 8:
        raise DataError(f"{real.name}: statistics need images of at least 8 × 8 pixels, got {real.size}")
    kept, weight = _same_mix(made, real)
    a, b = appearance(made.images[kept]), appearance(real.images)
    group = _groups(real)
    if group.max(initial=0) < 1:
        raise DataError(f"{real.name}: expected at least two groups of real images")
    sides = _sides(group, halves, seed)
    gaps = [_gap(name, a[name].astype(float), weight, b[name].astype(float), sides) for name in b]
    names = np.array(made.classes)[made.labels[kept]]
    classes = _class_gaps(a, names, b, np.array(real.classes)[real.labels], group)
    return Statistics(
        synthetic.name,
        real.name,
        (len(synthetic), len(real)),
        tuple(sorted(gaps, key=lambda g: -g.distance)),
        tuple(classes[:most_classes]),
    )


def _same_mix(made: LabelledImages, real: LabelledImages) -> tuple[NDArray[np.intp], F64]:
    """Synthetic rows of classes that the real set has, and weights (sum 1) that give its mix."""
    have = dict(zip(real.classes, real.counts(), strict=True))
    want = np.array([float(have.get(name, 0)) for name in made.classes])
    counts = made.counts()
    each = np.where((want > 0) & (counts > 0), want / np.maximum(counts, 1), 0.0)
    weight = each[made.labels]
    kept = np.flatnonzero(weight > 0)
    if len(kept) == 0:
        raise DataError(f"{made.name} and {real.name} have no class in common")
    return kept, weight[kept] / weight[kept].sum()


def _groups(real: LabelledImages) -> NDArray[np.intp]:
    if real.groups is None:
        return np.arange(len(real))
    return np.unique(real.groups.astype(str), return_inverse=True)[1].reshape(-1)


def _sides(group: NDArray[np.intp], halves: int, seed: int) -> NDArray[np.bool_]:
    """(halves, n): a random half of the groups each."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    count = int(group.max()) + 1
    chosen = np.array([rng.permutation(count) < count // 2 for _ in range(halves)])
    return chosen[:, group]


def _gap(name: str, a: F64, weight: F64, b: F64, sides: NDArray[np.bool_]) -> Gap:
    mean, sd = float(b.mean()), max(float(b.std()), 1e-6)
    a_mean = float(a @ weight)
    a_sd = float(np.sqrt(((a - a_mean) ** 2) @ weight))
    order = np.argsort(b, kind="stable")
    ranked = b[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # distributions are compared between values, not ties
    distance = _weighted_ks(a, weight, ranked)
    null_shift, null_distance = _null(ranked, last, sides[:, order], sd)
    shift, spread = (a_mean - mean) / sd, a_sd / sd
    differs = _beyond(shift, null_shift, distance, null_distance)
    advice = _advice(name, shift, spread, null_shift) if differs else ""
    return Gap(
        name, mean, sd, a_mean, a_sd, shift, spread, distance, null_shift, null_distance, advice
    )  # fmt: skip


def _weighted_ks(a: F64, weight: F64, ranked: F64) -> float:
    """Largest distance between the weighted distribution of `a` and the even one of `ranked` (sorted)."""
    order = np.argsort(a, kind="stable")
    values = a[order]
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    points = np.unique(np.concatenate([values, ranked]))
    of_a = total[np.searchsorted(values, points, side="right")]
    of_b = np.searchsorted(ranked, points, side="right") / len(ranked)
    return float(np.abs(of_a - of_b).max())


def _null(ranked: F64, last: NDArray[np.bool_], sides: NDArray[np.bool_], sd: float) -> tuple[float, float]:
    """95 % quantiles of |shift| and KS distance between a random half and the rest."""
    shifts, distances = [], []
    n = len(ranked)
    rank = np.arange(1, n + 1)[last]
    for side in sides:
        inside = int(side.sum())
        below = np.cumsum(side)[last]
        distances.append(np.abs(below / inside - (rank - below) / (n - inside)).max())
        part = float(ranked[side].mean())
        shifts.append(abs(part - (ranked.sum() - part * inside) / (n - inside)) / sd)
    return float(np.quantile(shifts, 0.95)), float(np.quantile(distances, 0.95))


def _advice(name: str, shift: float, spread: float, null_shift: float) -> str:
    told = []
    if abs(shift) > null_shift:
        little, much = _ADVICE.get(name, (f"more {name} things", f"fewer {name} things"))
        told.append(f"too {'low' if shift < 0 else 'high'}: {little if shift < 0 else much}")
    if not 0.8 < spread < 1.25:
        told.append(f"varies {'too little' if spread < 1 else 'too much'} ({spread:.2f} × the real spread)")
    return "; ".join(told) or "another shape of distribution at the same mean and spread"


def _class_gaps(
    a: Mapping[str, Any],
    a_names: NDArray[Any],
    b: Mapping[str, Any],
    b_names: NDArray[Any],
    group: NDArray[np.intp],
) -> list[ClassGap]:
    """Gaps of single classes, the surest first; classes of fewer than 3 groups are left out."""
    figures = [name for name in b if name not in HUES]
    have, want = (np.stack([np.asarray(x[f], float) for f in figures], 1) for x in (a, b))
    sd = np.maximum(want.std(axis=0), 1e-12)
    out = []
    for name in np.unique(b_names):
        mine, theirs = a_names == name, b_names == name
        _, of = np.unique(group[theirs], return_inverse=True)
        size = np.bincount(of)
        if len(size) < 3 or not mine.any():
            continue
        sums = np.stack([np.bincount(of, column) for column in want[theirs].T], 1)
        mean = sums.sum(axis=0) / size.sum()
        # Standard error of a ratio of sums over groups (linearized).
        t = len(size)
        error = np.sqrt(((sums - size[:, None] * mean) ** 2).sum(axis=0) * t / (t - 1)) / size.sum()
        error = np.hypot(error, have[mine].std(axis=0) / np.sqrt(mine.sum()))
        gap = have[mine].mean(axis=0) - mean
        z = gap / np.maximum(error, 1e-12)
        out += [
            ClassGap(str(name), f, float(g / s), float(k))
            for f, g, s, k in zip(figures, gap, sd, z, strict=True)
            if abs(k) > 3 and abs(g / s) > 0.3
        ]
    return sorted(out, key=lambda c: -abs(c.shift))
