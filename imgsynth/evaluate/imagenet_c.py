"""The 15 corruptions × 5 severities of ImageNet-C, for images of any size from 8² up.

The constants of Hendrycks & Dietterich (2019) belong to images of 224²; for CIFAR-10-C, of 32², the same
authors chose milder ones. Here the side of an image (√(height · width)) decides: at 224 the former, at 32
the latter, between them a geometric mean weighted by log side; beyond them the nearer ones, with lengths in
proportion to the side. So a severity means about the same at every size. Published figures are to be
compared with care: blurs, snow and glass are of our make, and plates of frost are drawn, not photographed.

Labels stay as they are. No effect moves the picture as a whole; zoom smears what is far from the middle, by
15 % of its distance at most on average (as in Michaelis et al. 2019, who score detectors on the same), and
elastic and glass move pixels by about 1 % of the side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from imgsynth.batch import F32, U8
from imgsynth.dataset.annotated import Images
from imgsynth.errors import DataError
from imgsynth.evaluate import effects
from imgsynth.seeding import derive

SEVERITIES = (1, 2, 3, 4, 5)
SMALL, LARGE = 32, 224  # sides that the constants are known for


@dataclass(frozen=True)
class Corruption:
    """An effect and its constants, a row a severity."""

    effect: Callable[..., F32]
    large: Sequence[tuple[float, ...]]  # at 224², ImageNet-C
    small: Sequence[tuple[float, ...]]  # at 32², CIFAR-10-C
    lengths: tuple[int, ...] = ()  # which constants are in pixels
    inverse_lengths: tuple[int, ...] = ()  # which are in 1 / pixels

    def constants(self, severity: int, side: float) -> list[float]:
        """The constants at a severity of 1 to 5 for images of a side in pixels."""
        share = min(max(math.log(side / SMALL) / math.log(LARGE / SMALL), 0), 1)
        both = zip(self.small[severity - 1], self.large[severity - 1], strict=True)
        c = [a ** (1 - share) * b**share for a, b in both]
        beyond = side / min(max(side, SMALL), LARGE)
        for i in self.lengths:
            c[i] *= beyond
        for i in self.inverse_lengths:
            c[i] /= max(beyond, 1)
        return c


def _column(*values: float) -> list[tuple[float, ...]]:
    return [(v,) for v in values]


def _shares(side: int, smooth: float, *shares: float) -> list[tuple[float, ...]]:
    return [(share * side, smooth * side) for share in shares]


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        effects.gaussian_noise, _column(0.08, 0.12, 0.18, 0.26, 0.38), _column(0.04, 0.06, 0.08, 0.09, 0.10)
    ),
    "shot_noise": Corruption(effects.shot_noise, _column(60, 25, 12, 5, 3), _column(500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(
        effects.impulse_noise, _column(0.03, 0.06, 0.09, 0.17, 0.27), _column(0.01, 0.02, 0.03, 0.05, 0.07)
    ),
    "defocus_blur": Corruption(
        effects.defocus_blur,
        [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        lengths=(0, 1),
    ),
    # Blur, reach, times, and the side of a grain.
    "glass_blur": Corruption(
        effects.glass_blur,
        [(0.7, 1, 2, 1), (0.9, 2, 1, 1), (1, 2, 3, 1), (1.1, 3, 2, 1), (1.5, 4, 2, 1)],
        [(0.05, 1, 1, 1), (0.25, 1, 1, 1), (0.4, 1, 1, 1), (0.25, 1, 2, 1), (0.4, 1, 2, 1)],
        lengths=(0, 1, 3),
    ),
    "motion_blur": Corruption(
        effects.motion_blur,
        [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
        [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
        lengths=(0, 1),
    ),
    "zoom_blur": Corruption(
        effects.zoom_blur,
        [(0.10, 0.01), (0.15, 0.01), (0.20, 0.02), (0.24, 0.02), (0.30, 0.03)],
        [(0.05, 0.01), (0.10, 0.01), (0.15, 0.01), (0.20, 0.01), (0.25, 0.01)],
    ),
    # Level and spread of the noise that flakes are cut from, their size and least brightness, length and
    # fading of the streak, share of the image that does not pale.
    "snow": Corruption(
        effects.snow,
        [(0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
         (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)],
        [(0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
         (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)],
        lengths=(2, 4, 5),
    ),
    "frost": Corruption(
        effects.frost,
        [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
        [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    ),
    "fog": Corruption(
        effects.fog,
        [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
        [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    ),
    "brightness": Corruption(
        effects.brightness, _column(0.1, 0.2, 0.3, 0.4, 0.5), _column(0.05, 0.1, 0.15, 0.2, 0.3)
    ),
    "contrast": Corruption(
        effects.contrast, _column(0.4, 0.3, 0.2, 0.1, 0.05), _column(0.75, 0.5, 0.4, 0.3, 0.15)
    ),
    # How far pixels move, and how far they move alike. Ours: the original's largest part is an affine map.
    "elastic": Corruption(
        effects.elastic,
        _shares(LARGE, 0.010, 0.002, 0.003, 0.004, 0.006, 0.009),
        _shares(SMALL, 0.030, 0.006, 0.009, 0.012, 0.016, 0.020),
        lengths=(0, 1),
    ),
    "pixelate": Corruption(
        effects.pixelate,
        _column(0.6, 0.5, 0.4, 0.3, 0.25),
        _column(0.95, 0.9, 0.85, 0.75, 0.65),
        inverse_lengths=(0,),
    ),
    "jpeg": Corruption(effects.jpeg, _column(25, 18, 15, 10, 7), _column(80, 65, 58, 50, 40)),
}  # fmt: skip


def corrupt(image: U8, name: str, severity: int, *, seed: int = 0, number: int = 0) -> U8:
    """An image (H, W, 1 or 3) uint8 under a corruption, the same for the same seed and image number.

    Severities of one image share their randomness: the same flakes, only more of them.

    Raises:
        DataError: an unknown corruption or severity, or something that is not such an image.
    """
    if name not in CORRUPTIONS:
        raise DataError(f"expected a corruption among {', '.join(CORRUPTIONS)}; got {name!r}")
    if severity not in SEVERITIES:
        raise DataError(f"expected a severity from 1 to 5, got {severity!r}")
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] not in (1, 3) or min(image.shape[:2]) < 2:
        raise DataError(
            f"{name}: expected an image uint8 (H ≥ 2, W ≥ 2, 1 or 3), got {image.dtype} {image.shape}"
        )
    side = math.sqrt(image.shape[0] * image.shape[1])
    corruption = CORRUPTIONS[name]
    rng = Generator(np.random.Philox(key=derive(seed, f"corruptions.{name}.{number}")))
    x = image.astype(np.float32) / np.float32(255)
    made = corruption.effect(x, rng, *corruption.constants(severity, side))
    return np.rint(np.clip(made, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class CorruptedImages:
    """A list of images, corrupted as they are read. Image i has number i."""

    images: Images
    name: str
    severity: int
    seed: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> U8:
        return corrupt(self.images[i], self.name, self.severity, seed=self.seed, number=i)
