"""Images from a diffusion model: class by class, judged by the gate, in datasets that go on where they
stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.augment.sets import Sets
from imgsynth.augment.sources import Tell, joined, known
from imgsynth.batch import I64
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError

SLICE = 128  # frames of a class sampled at once
STRIDE = 1 << 20  # frame numbers that each class of a model has for itself


@dataclass
class ModelSource:
    """Samples of a class-conditional model that pass the quality gate (`imgsynth.gate`), which learns from
    the real training images and audits copies against the validation images.

    A class of which the gate drops 64 draws in a row gives no more images.

    Raises:
        ModelError: on construction, for a model that cannot be read, that draws masks or follows layouts,
        or that
            was trained on generated images.
    """

    model: str
    folder: Path
    seed: int = 0
    gated: bool = True
    _gate: Any = field(default=None, init=False)
    _dry: dict[str, str] = field(default_factory=dict, init=False)  # class → why it gives no more

    def __post_init__(self) -> None:
        from imgsynth.diffusion.model import Diffuser
        from imgsynth.diffusion.sampled import on_device
        from imgsynth.diffusion.shipped import model_folder

        path = model_folder(self.model)
        self.name = f"model {path.name}"
        self._model = on_device(Diffuser.load(path), "cpu")
        config = self._model.config
        if config.layout_channels or config.mask_bits:
            raise ModelError(
                f"{path}: draws masks or follows layouts; --model takes a model of classes alone"
            )
        self._record = dict(self._model.record)
        if int(self._record.get("generation", 0)) > 0:
            raise ModelError(
                f"{path}: was trained on generated images; train it on real ones, or generators feed on "
                "themselves"
            )
        self._hash = self._model.hash()

    def classes(self) -> tuple[str, ...]:
        """The model's classes."""
        return tuple(self._model.classes)

    def images(self, wanted: I64, sets: Sets, tell: Tell) -> LabelledImages:
        """Sample slices of each class until it has what is wanted, or gives no more.

        Raises:
            DataError: the model was trained on the validation or the test images.
        """
        self._refuse_leak(sets)
        like = sets.train
        told = tell(f"sample {self.name}"[:20], "frames")
        total = int(wanted.sum())
        kept: list[LabelledImages] = []
        done = 0
        for c in np.flatnonzero(wanted):
            held, earlier = 0, list[LabelledImages]()
            while held < wanted[c]:
                data = self._slice(int(c), earlier, sets, partial(_ahead, told, done + held, total))
                if data is None:
                    break
                earlier.append(data)
                kept.append(data.subset(np.arange(min(len(data), int(wanted[c]) - held))))
                held += len(kept[-1])
            done += held
        return joined(kept, like, self.name)

    def record(self) -> dict[str, Any]:
        """Model, hash, what it was trained on, generation counter, parents, classes that gave no more
        images.
        """
        from imgsynth.gate.guard import generation_after

        return {
            "kind": "model", "model": self.name.removeprefix("model "), "sha256": self._hash,
            "seed": self.seed,
            "generation": generation_after([int(self._record.get("generation", 0))]),
            "parents": [self._hash],
            "trained_on": self._record.get("data"), "grounding": "condition",
            "gated": self.gated, "dry": dict(sorted(self._dry.items())),
        }  # fmt: skip

    def _slice(
        self, c: int, earlier: list[LabelledImages], sets: Sets, told: Callable[[int, int], None]
    ) -> LabelledImages | None:
        """The slice of class c (of the real images) after `earlier`; None where the gate lets no more
        through.
        """
        from imgsynth.dataset.sources import load

        name, number = sets.train.classes[c], len(earlier)
        theirs = self._model.classes.index(name)
        room = self.folder / f"{self.name.removeprefix('model ')}-{self._hash[:12]}-{self.seed}"
        path = room / f"{theirs}-{number:04d}"
        if not (path / "dataset.json").is_file():
            if name in self._dry:
                return None
            room.mkdir(parents=True, exist_ok=True)
            try:
                self._generate(path, theirs, number, earlier, sets, told)
            except ModelError as error:
                if "draws in a row were dropped" not in str(error):
                    raise
                self._dry[name] = str(error)
                return None
        return known(load(str(path)), sets.train)

    def _generate(
        self, path: Path, theirs: int, number: int, earlier: list[LabelledImages], sets: Sets, told: Any
    ) -> None:
        from imgsynth.diffusion.sampled import origin_of
        from imgsynth.diffusion.write import Asked, generate

        keep = None
        if self.gated:
            keep = replace(self._judge(sets), seen=None)
            for data in earlier:  # no frame repeats one of the slices before
                keep.accept(self._own(data), np.full(len(data), theirs, np.int64))
        generate(
            self._model, origin_of(self._model, self.name), SLICE, path, asked=Asked((theirs,)),
            seed=self.seed, start=theirs * STRIDE + number * SLICE, keep=keep, resume=path.exists(),
            progress=told,
        )  # fmt: skip

    def _own(self, data: LabelledImages) -> Any:
        return data.fitted(self._model.size, self._model.channels).images

    def _judge(self, sets: Sets) -> Any:
        if self._gate is None:
            from imgsynth.diffusion.gated import fit_gate

            real, held_out = (self._shared(data) for data in (sets.train, sets.validation))
            self._gate = fit_gate(self._model, real, held_out, {}, self.seed)
        return self._gate

    def _shared(self, data: LabelledImages) -> LabelledImages:
        """The images of classes that the model knows."""
        can = np.array([name in self._model.classes for name in data.classes])
        return data.subset(can[data.labels])

    def _refuse_leak(self, sets: Sets) -> None:
        from imgsynth.diffusion.data import DiffusionData

        trained = (self._record.get("data") or {}).get("digest")
        for part in ("validation", "test"):
            if trained is not None and trained == DiffusionData.of(getattr(sets, part)).digest():
                raise DataError(f"leak: {self.name} was trained on the {part} images")


def _ahead(told: Callable[..., None], before: int, total: int, done: int, _: int) -> None:
    told(before + done, total)
