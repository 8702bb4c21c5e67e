"""What keeps a generator from feeding on itself: a generation counter, and a floor under the real share.

A model trained on its own samples, and again on theirs, loses the tails of its data and then the rest
(Shumailov et al. 2024); with enough real images in every round it does not (Alemohammad et al. 2024,
"Self-consuming generative models go MAD"; Gerstgrasser et al. 2024). An image's generation is 0 where no
model's sample is among its parents (photographs, renders), else one more than its parents' greatest.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.errors import DataError

REAL_FLOOR = 0.5  # share of a training mix that must be of generation 0
MOST_GENERATIONS = 1  # a model may learn from samples of this generation at most


class SelfConsumption(DataError):
    """A training mix that would have a model feed on generated images."""


@dataclass(frozen=True)
class Source:
    """A part of a training mix. `weight` is its share of what is drawn, where sets are not drawn by size."""

    name: str
    images: int
    generation: int = 0
    weight: float | None = None


@dataclass(frozen=True)
class Mix:
    """What a mix amounts to, and what is to be said of it."""

    real_share: float  # of generation 0
    generation: int  # the greatest among its sources; samples of a model trained on it are of one more
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return {"real_share": self.real_share, "generation": self.generation, "warnings": list(self.warnings)}


def generation_after(parents: Iterable[int]) -> int:
    """Generation of samples of a model: one more than the greatest of what it was trained on.

    Raises:
        DataError: a generation below 0.
    """
    held = list(parents)
    if any(g < 0 for g in held):
        raise DataError(f"generation: expected numbers of at least 0, got {min(held)}")
    return 1 + max(held, default=0)


def check_mix(
    sources: Sequence[Source],
    *,
    floor: float = REAL_FLOOR,
    most: int = MOST_GENERATIONS,
    what: str = "training",
) -> Mix:
    """Refuse a mix with too few real images or samples of too late a generation; warn where it comes near.

    Args:
        sources: what is trained on.
        floor: least share of generation 0, by weight where weights are given, else by number of images.
        most: greatest generation that may be trained on.
        what: is done with the mix, for the message.

    Raises:
        SelfConsumption: the mix is refused; the message names the source and the cure.
        DataError: no images, some weights given and others not, a floor outside [0, 1].
    """
    if not 0 <= floor <= 1:
        raise DataError(f"{what}: floor of the real share: expected a number in [0, 1], got {floor}")
    parts = _parts(sources, what)
    total = sum(parts)
    share = sum(p for p, s in zip(parts, sources, strict=True) if s.generation == 0) / total
    generation = max(s.generation for s in sources)
    late = [s for s in sources if s.generation > most]
    if late:
        raise SelfConsumption(
            f"{what}: {late[0].name} is of generation {late[0].generation}, samples of a model that learned "
            f"from samples; at most generation {most} is allowed: generate again from a model of real images"
        )
    if generation and share < floor - 1e-9:
        raise SelfConsumption(
            f"{what}: {100 * share:.1f} % of the images are real or rendered, at least {100 * floor:g} % are "
            f"needed beside generated ones: add real images, or take fewer of {_largest(sources).name}"
        )
    warnings = []
    if generation:
        warnings.append(
            f"{100 * (1 - share):.1f} % of the images are samples of a model (generation {generation}); "
            f"samples of a model trained on them would be of generation {generation + 1}"
        )
        if share < min(1.0, floor + 0.1):
            warnings.append(f"the real share is {100 * share:.1f} %, close to the floor of {100 * floor:g} %")
    return Mix(share, generation, tuple(warnings))


def generation_of(spec: str) -> int:
    """Greatest generation of DATA (`sources_of`).

    Raises:
        DataError: as `sources_of`.
    """
    return max(s.generation for s in sources_of(spec, 1))


def sources_of(spec: str, images: int) -> list[Source]:
    """What DATA of so many images is made of.

    dataset.json says it of a dataset of imgsynth. Of an .npz file its array `source` does, as `augment`
    writes it (real, or a generator's name) with `weights`, and the record beside it. Other images are taken
    for real: nothing in their files says otherwise.

    Raises:
        DataError: a dataset.json, a record or an array that cannot be read.
    """
    from imgsynth.dataset.reader import Dataset
    from imgsynth.dataset.sources import fragment

    source, _ = fragment(spec)
    if source.startswith(("sklearn:", "torchvision:")):
        return [Source(spec, images)]
    path = Path(source).expanduser()
    if (path / "dataset.json").is_file():
        return [Source(spec, images, Dataset(path).header.generation)]
    if path.suffix.lower() == ".npz" and path.is_file():
        return _mixed(spec, path, images)
    return [Source(spec, images)]


def _mixed(spec: str, path: Path, images: int) -> list[Source]:
    """The parts of an .npz file: one, unless its rows say where they come from."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "source" not in arrays:
                return [Source(spec, images)]
            names = arrays["source"].astype(str)
            weights = arrays["weights"] if "weights" in arrays else np.ones(len(names))
        record = path.with_suffix(".json")
        made = json.loads(record.read_text())["sources"] if record.is_file() else {}
        generation = {str(n): int(made[n]["generation"]) if n in made else 1 for n in np.unique(names)}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
        raise DataError(
            f"{path}: its array `source`, or {path.stem}.json beside it, is not readable: {e}"
        ) from e
    generation["real"] = 0
    return [
        Source(f"{spec} ({n})", int((names == n).sum()), generation[str(n)], float(weights[names == n].sum()))
        for n in np.unique(names)
    ]


def _parts(sources: Sequence[Source], what: str) -> list[float]:
    weighted = [s.weight is not None for s in sources]
    if any(weighted) and not all(weighted):
        raise DataError(f"{what}: expected a weight for every source or for none")
    parts = [float(s.images if s.weight is None else s.weight) for s in sources]
    if not parts or min(parts) < 0 or sum(parts) <= 0 or any(s.generation < 0 for s in sources):
        raise DataError(f"{what}: expected images, weights and generations of at least 0, and not all 0")
    return parts


def _largest(sources: Sequence[Source]) -> Source:
    return max((s for s in sources if s.generation), key=lambda s: s.images if s.weight is None else s.weight)
