"""Near-duplicates among samples: of images that are the same but for a flip, a small shift or brightness, the
first by index stays.

"Near" is what real images of the class hardly ever are to each other: a quantile of real nearest-neighbour
distances. A sample is compared with those before it that were kept, and with nothing else, so shards judged
in the order of their indices, each given the marks of what was kept before, drop what one run would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgsynth.batch import F32, F64, I64, U8
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError
from imgsynth.gate.calibration import conformal_threshold
from imgsynth.gate.memory import fit_images
from imgsynth.gate.signature import ROWS, Look, distance_of, similarities

FALSE_DROP = 0.005
EACH_CLASS = 1000  # real images of a class that set its threshold


@dataclass(frozen=True)
class Nearness:
    """How near two images of a class must be to count as one."""

    look: Look
    thresholds: F64  # (K,) distance of each class
    false_drop: float

    @staticmethod
    def fit(
        real: LabelledImages,
        look: Look,
        *,
        false_drop: float = FALSE_DROP,
        each: int = EACH_CLASS,
        seed: int = 0,
    ) -> Nearness:
        """Learn from real images how near neighbours of one class are that are not the same image.

        Each class's threshold is the conformal quantile of the distance from an image to the nearest other of
        its class, outside its own group, among at most `each` of them. A class with too few images for the
        quantile takes that of all classes together.

        Raises:
            DataError: no class has two images (or groups).
        """
        if not 0 < false_drop < 0.5:
            raise DataError(f"near-duplicates: false drops: expected a share in 0 to 0.5, got {false_drop}")
        rng = np.random.Generator(np.random.Philox(key=seed))
        ids = real.groups if real.groups is not None else np.arange(len(real))
        group = np.unique(ids.astype(str), return_inverse=True)[1].reshape(-1)
        found: list[F64] = []
        for c in range(len(real.classes)):
            rows = np.flatnonzero(real.labels == c)
            rows = np.sort(rng.permutation(rows)[:each])
            shown = fit_images(look, real.images[rows])
            near = look.nearest(shown, look.marks(shown), own=group[rows], groups=group[rows]).distance[:, 0]
            found.append(near[np.isfinite(near)].astype(np.float64))
        pooled = np.concatenate(found)
        if len(pooled) == 0:
            raise DataError(f"{real.name}: expected at least two images of some class, of different groups")
        of_all = max(0.0, conformal_threshold(pooled, false_drop))
        each_class = [conformal_threshold(v, false_drop) for v in found]
        return Nearness(look, np.array([t if np.isfinite(t) else of_all for t in each_class]), false_drop)

    def first_of_kind(
        self, images: U8, labels: I64, able: np.ndarray, earlier: F32 | None = None
    ) -> tuple[I64, F32, F32]:
        """Which samples repeat one before them.

        Args:
            images: (n, H, W, C) uint8, in the order of their indices.
            labels: (n,) class of each, which says how near is near.
            able: (n,) bool: samples that passed every other test; the others are not kept, so nothing repeats
                them, nor are they measured.
            earlier: (e, K) marks of samples kept before these, in order; None: none.

        Returns:
            (n,) which kept sample each repeats, counted over `earlier` and then these, −1 for none;
            (n,) distance to the nearest kept one before it (inf: there is none, or not measured);
            marks (e + kept, K) to hand to the next call.
        """
        marks = self.look.marks(shown := fit_images(self.look, images))
        before = np.zeros((0, marks.shape[1]), np.float32) if earlier is None else earlier
        held = np.concatenate([before, np.zeros_like(marks)])
        count, n = len(before), len(marks)
        names = np.full(n, -1, np.int64)
        distance = np.full(n, np.inf, np.float32)
        rows = np.flatnonzero(able)
        for start in range(0, len(rows), ROWS):
            block = rows[start : start + ROWS]
            views = self.look.views(shown[block])
            known = similarities(views, held[:count]) if count else np.zeros((len(block), 0), np.float32)
            inside = similarities(views, marks[block])
            kept: list[tuple[int, int]] = []  # (place in the block, number among the kept)
            for j, i in enumerate(block):
                best, which = (
                    (-np.inf, -1) if known.shape[1] == 0 else (known[j].max(), int(known[j].argmax()))
                )
                for place, number in kept:
                    if inside[j, place] > best:
                        best, which = inside[j, place], number
                distance[i] = distance_of(best) if which >= 0 else np.inf
                if distance[i] < self.thresholds[labels[i]]:
                    names[i] = which
                else:
                    held[count] = marks[i]
                    kept.append((j, count))
                    count += 1
        return names, distance, held[:count]
