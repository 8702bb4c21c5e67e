"""Where generated images come from: as many of each class as are wanted, the same ones every time.

A source keeps what it made under its folder, in slices that are ordinary datasets of imgsynth, so an
interrupted run goes on where it stopped, and asking for more images of a class leaves the ones before as
they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imgsynth.augment.sets import Sets
from imgsynth.batch import I64
from imgsynth.dataset.labelled import LabelledImages, concat
from imgsynth.errors import DataError

SLICE = 1024  # frames of a scene rendered at once
BARREN = 8  # slices without one image of a wanted class, after which the scene is taken not to show it

Tell = Callable[[str, str], Callable[..., None]]  # (stage, unit) → progress


class Source(Protocol):
    """A generator of labelled images."""

    @property
    def name(self) -> str:
        """What to call it, such as `scene traffic_signs`."""
        ...

    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it can make."""
        ...

    def images(self, wanted: I64, sets: Sets, tell: Tell) -> LabelledImages:
        """The first `wanted[c]` images of each class c of the real ones (K,), in their form and an order of
        their own; fewer of a class where there are no more.

        Raises:
            ImgsynthError: they cannot be made.
        """
        ...

    def record(self) -> dict[str, Any]:
        """What is known of it: digest, seed, generation counter, parents, how many images were made."""
        ...


@dataclass
class SceneSource:
    """Frames of a scene, of which each shows one class; of more than are wanted the first are taken."""

    scene: str
    folder: Path
    seed: int = 0
    workers: int | None = None
    _made: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        from imgsynth import scenefile

        self._scene = scenefile.load(self.scene)
        spec = self._scene.spec
        self.name = f"scene {spec.name}"
        self._digest = hashlib.sha256(json.dumps(spec.canonical(), sort_keys=True).encode()).hexdigest()

    def classes(self) -> tuple[str, ...]:
        """The scene's classes."""
        return tuple(self._scene.spec.classes)

    def images(self, wanted: I64, sets: Sets, tell: Tell) -> LabelledImages:
        """Render slices until every class has what is wanted.

        Raises:
            DataError: the scene does not show a class that it names, or shows several in one frame.
        """
        like = sets.train
        told = tell(f"render {self.name}"[:20], "frames")
        held = np.zeros(len(wanted), np.int64)
        kept: list[LabelledImages] = []
        number = 0
        while (held < wanted).any():
            data = known(self._slice(number, told), like)
            rows = []
            for c in np.flatnonzero(held < wanted):
                mine = np.flatnonzero(data.labels == c)[: wanted[c] - held[c]]
                held[c] += len(mine)
                rows.append(mine)
            kept.append(data.subset(np.sort(np.concatenate(rows))))
            number += 1
            if number >= BARREN and (barren := np.flatnonzero((held == 0) & (wanted > 0))).size:
                raise DataError(
                    f"{self.name}: {number * SLICE} frames show no {like.classes[barren[0]]!r}, a class that "
                    "the scene names"
                )
        self._made = max(self._made, number * SLICE)
        return joined(kept, like, self.name)

    def _slice(self, number: int, told: Callable[..., None]) -> LabelledImages:
        from imgsynth.dataset.sources import load
        from imgsynth.generate import render

        path = self.folder / f"{self._scene.spec.name}-{self._digest[:12]}-{self.seed}" / f"{number:04d}"
        if not (path / "dataset.json").is_file():
            path.parent.mkdir(parents=True, exist_ok=True)

            def progress(done: int, total: int) -> None:
                told(number * SLICE + done, number * SLICE + total)

            render(
                self.scene, SLICE, path, seed=self.seed, start=number * SLICE,
                workers=self.workers, resume=True, progress=progress,
            )  # fmt: skip
        return load(str(path))

    def record(self) -> dict[str, Any]:
        """Scene, digest, seed, frames rendered."""
        return {
            "kind": "scene", "scene": self._scene.spec.name, "spec_digest": self._digest, "seed": self.seed,
            "frames": self._made, "generation": 0, "parents": [], "grounding": "render-exact",
        }  # fmt: skip


def known(data: LabelledImages, like: LabelledImages) -> LabelledImages:
    """The images of classes that `like` knows too, in its classes and form."""
    position = {c: k for k, c in enumerate(like.classes)}
    lookup = np.array([position.get(c, -1) for c in data.classes], np.int64)
    rows = np.flatnonzero(lookup[data.labels] >= 0)
    data = data.subset(rows)
    return replace(data, labels=lookup[data.labels], classes=like.classes).fitted(like.size, like.channels)


def joined(parts: Sequence[LabelledImages], like: LabelledImages, name: str) -> LabelledImages:
    """Sets of the same form one after the other; an empty set where there are none."""
    if not parts:
        return replace(like.subset(np.empty(0, np.int64)), groups=None, names=None, name=name, notes="")
    out = parts[0]
    for part in parts[1:]:
        out = concat(out, part)
    return replace(out, name=name)
