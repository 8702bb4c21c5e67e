"""The image sets of a study: rendered or read, brought to one form, refused where a figure would lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import I64
from imgsynth.dataset.labelled import LabelledImages, nested_order
from imgsynth.errors import DataError, SceneError
from imgsynth.study.cells import Cell, Pool
from imgsynth.study.spec import Study

Render = Callable[..., Path]


@dataclass(frozen=True)
class Sets:
    """The four sets, all with the classes, size and channels of the real training set."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    synthetic: LabelledImages
    notes: list[str] = field(default_factory=list)

    def named(self) -> dict[str, LabelledImages]:
        """Set by name, in the order of the report."""
        return {
            "synthetic": self.synthetic,
            "real train": self.train,
            "real validation": self.validation,
            "real test": self.test,
        }


def gather(study: Study, out: Path, render: Render | None, workers: int | None, progress: Any) -> Sets:
    """Render (or go on rendering) the synthetic set, read the real ones, and refuse what cannot be measured.

    Raises:
        ImgsynthError: classes that differ, test images among the training images, sizes beyond the set, bad
            data.
    """
    spec = study.spec
    real = {part: _read(study, "real", part) for part in ("train", "validation", "test")}
    if spec.synthetic.data is not None:
        synthetic = _read(study, "synthetic", "data")
    else:
        synthetic = _rendered(study, out / "synthetic", render, workers, progress)
    sets = _same_form(study, real, synthetic)
    _refuse_leaks(study, sets)
    _refuse_sizes(study, sets)
    return sets


def _read(study: Study, *key: str) -> LabelledImages:
    from imgsynth.dataset.sources import load

    named = getattr(getattr(study.spec, key[0]), key[1])
    try:
        return replace(load(study.locate(named)), name=named)
    except DataError as error:
        raise study.error(str(error), *key) from None


def _rendered(
    study: Study, folder: Path, render: Render | None, workers: int | None, progress: Any
) -> LabelledImages:
    from imgsynth.dataset.sources import load

    if render is None:
        from imgsynth.generate import render as render_scene

        render = render_scene
    wanted = study.spec.synthetic
    assert wanted.scene is not None and wanted.count is not None
    options: dict[str, Any] = {"seed": wanted.seed, "workers": workers, "resume": True, "progress": progress}
    if wanted.set:
        options["sets"] = wanted.set
    if wanted.freeze:
        options["freeze"] = wanted.freeze
    if wanted.sampler != "random":
        options["sampler"] = wanted.sampler
    try:
        path = render(study.locate(wanted.scene), wanted.count, folder, **options)
    except SceneError as error:
        if error.file is not None:
            raise
        raise study.error(error.message, "synthetic", "scene") from None
    return replace(load(str(path)), name=f"scene {wanted.scene}")


def _same_form(study: Study, real: dict[str, LabelledImages], synthetic: LabelledImages) -> Sets:
    """All sets with the classes, size and channels of the real training set; says what was changed."""
    model = real["train"]
    notes: list[str] = []
    parts = {}
    for (block, part), data in {
        ("real", "train"): model,
        ("real", "validation"): real["validation"],
        ("real", "test"): real["test"],
        ("synthetic", "data" if study.spec.synthetic.data else "scene"): synthetic,
    }.items():
        held = {c for c, n in zip(data.classes, data.counts(), strict=True) if n}
        wanted = {c for c, n in zip(model.classes, model.counts(), strict=True) if n}
        if held - wanted or (block == "synthetic" and wanted - held):
            raise study.error(_mismatch(data, model, held, wanted), block, part)
        if (data.size, data.channels) != (model.size, model.channels):
            notes.append(f"{data.name}: {_form(data)} brought to {_form(model)}, the form of {model.name}")
        if data.notes:
            notes.append(f"{data.name}: {data.notes}")
        parts[block if block == "synthetic" else part] = data.aligned(model.classes).fitted(
            model.size, model.channels
        )
    return Sets(**parts, notes=notes)


def _form(data: LabelledImages) -> str:
    return f"{data.size[0]}×{data.size[1]} {'grey' if data.channels == 1 else 'RGB'}"


def _mismatch(data: LabelledImages, model: LabelledImages, held: set[str], wanted: set[str]) -> str:
    said = []
    for owner, other, names in ((data, model, held - wanted), (model, data, wanted - held)):
        if names:
            said.append(
                f"{owner.name} has {', '.join(repr(c) for c in sorted(names)[:5])}, {other.name} has not"
            )
    return f"classes do not agree by name: {'; '.join(said)}"


def _refuse_leaks(study: Study, sets: Sets) -> None:
    """No test image may be trained on or selected by, and no validation image trained on, byte for byte."""
    for held, part, others in (
        (sets.test, "test", (sets.train, sets.synthetic, sets.validation)),
        (sets.validation, "validation", (sets.train, sets.synthetic)),
    ):
        rows: dict[bytes, int] = {}
        for row, image in enumerate(held.images):
            rows.setdefault(_hash(image), row)
        for other in others:
            shared = [(rows[h], i) for i, image in enumerate(other.images) if (h := _hash(image)) in rows]
            if shared:
                raise study.error(
                    f"leak: {len(shared)} of {len(other)} images of {other.name} are also among the {part} "
                    f"images {held.name} (row {shared[0][1]} is row {shared[0][0]} there)",
                    "real",
                    part,
                )


def _hash(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def _refuse_sizes(study: Study, sets: Sets) -> None:
    scaling = study.spec.scaling
    if scaling is None:
        return
    base = sets.train if scaling.arm == "real" else sets.synthetic
    for k, size in enumerate(scaling.sizes):
        if size > len(base):
            raise study.error(
                f"size {size} is larger than {base.name}, which has {len(base)} images", "scaling", "sizes", k
            )


def plan_cells(
    study: Study, sets: Sets, pools: dict[str, Pool], settings: str
) -> tuple[dict[str, list[Cell]], dict[int, list[Cell]]]:
    """The cells of every arm, and of every size of the scaling curve; equal ones are equal by key."""
    spec = study.spec
    arms: dict[str, list[Cell]] = {
        arm: [_cell(study, sets, pools, settings, arm, None, s) for s in spec.seed_list()]
        for arm in spec.arms
    }
    curve: dict[int, list[Cell]] = {}
    if spec.scaling is not None:
        for size in spec.scaling.sizes:
            curve[size] = [
                _cell(study, sets, pools, settings, spec.scaling.arm, size, s) for s in spec.scaling_seeds()
            ]
    return arms, curve


def _cell(
    study: Study, sets: Sets, pools: dict[str, Pool], settings: str, arm: str, size: int | None, seed: int
) -> Cell:
    none = np.zeros(0, np.int64)
    real = _rows(sets.train, size if arm == "real" else None, seed) if arm != "synthetic" else none
    synthetic = _rows(sets.synthetic, size if arm != "real" else None, seed) if arm != "real" else none
    counted = len(real) if arm == "real" else len(synthetic)
    share = study.spec.both.real_share if arm == "both" else None
    return Cell(arm, counted, seed, pools["train"], real, pools["synthetic"], synthetic, settings, share)


def _rows(data: LabelledImages, size: int | None, seed: int) -> I64:
    """`size` rows, stratified and nested for one seed; ascending, so that the whole set is one cell."""
    if size is None or size == len(data):
        return np.arange(len(data), dtype=np.int64)
    return np.sort(nested_order(data.labels, seed)[:size])
