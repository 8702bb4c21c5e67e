"""The image sets of a study: rendered or read, brought to one form, refused where a figure would lie."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import I64
from imgsynth.dataset.labelled import nested_order
from imgsynth.dataset.leaks import shared_groups
from imgsynth.errors import DataError, ImgsynthError, SceneError
from imgsynth.study.progress import Bars
from imgsynth.study.spec import ONE, REAL_VARIABLE, Study, Synthetic
from imgsynth.study.task import Pool, Task

Render = Callable[..., Path]
REAL = ("train", "validation", "test")


@dataclass(frozen=True)
class Sets:
    """The sets of a study, all with the classes and in the form of the real training set."""

    train: Any
    validation: Any
    test: Any
    synthetic: dict[str, Any]  # by generator
    notes: list[str] = field(default_factory=list)

    def named(self) -> dict[str, Any]:
        """Set by name, in the order of the report."""
        return {
            **{called(name): data for name, data in self.synthetic.items()},
            **{f"real {part}": getattr(self, part) for part in REAL},
        }

    def held_out(self, task: Task) -> Any:
        """Synthetic images for testing models that were trained on real ones alone."""
        joined = None
        for data in self.synthetic.values():
            order = nested_order(task.strata(data), 0)[: max(1, task.held_out // len(self.synthetic))]
            some = data.subset(np.sort(order))
            joined = some if joined is None else task.join(joined, some)
        return joined

    def pools(self, task: Task, folder: Path) -> dict[str, Pool]:
        """Every set where workers can read it, under the names of `named`."""
        return {name: task.pool(folder, name.replace(" ", "-"), data) for name, data in self.named().items()}


def called(generator: str) -> str:
    """The name of a synthetic set in results and report."""
    return ONE if generator == ONE else f"synthetic {generator}"


def gather(
    study: Study, task: Task, out: Path, render: Render | None, workers: int | None, bars: Bars
) -> Sets:
    """Render (or go on rendering) the synthetic sets, read the real ones, and refuse what cannot be measured.

    Raises:
        ImgsynthError: classes that differ, test images among the training images, tracks cut in two, bad
            data.
    """
    real = {part: _read(study, task, getattr(study.spec.real, part), ("real", part)) for part in REAL}
    if any(source.data is None for source in study.spec.sources().values()):
        with bars.stage("check real sets"):  # before anything is made for them
            alone = _same_form(study, task, real, {})
            _refuse_leaks(study, task, alone)
            _refuse_cut_groups(study, alone)
    synthetic = {}
    for name, source in study.spec.sources().items():
        key = study.spec.place(name)
        if source.data is not None:
            synthetic[name] = _read(study, task, source.data, (*key, "data"))
        else:
            folder = out / (ONE if name == ONE else f"synthetic-{name}")
            verb = "sample" if source.model is not None else "render"
            said = bars.counter(verb if name == ONE else f"{verb} {name}", "images")
            if source.model is not None:
                synthetic[name] = _sampled(study, task, source, key, folder, said)
            else:
                synthetic[name] = _rendered(study, task, source, key, folder, render, workers, said)
    with bars.stage("check for leaks"):
        sets = _same_form(study, task, real, synthetic)
        _refuse_leaks(study, task, sets)
        _refuse_cut_groups(study, sets)
    return sets


def _read(study: Study, task: Task, data: str, key: tuple[str, ...]) -> Any:
    try:
        return replace(task.load(study.locate(data)), name=data)
    except DataError as error:
        cure = f"; {REAL_VARIABLE}=FOLDER says where your real sets are" if REAL_VARIABLE in data else ""
        raise study.error(f"{error}{cure}", *key) from None


def _rendered(
    study: Study,
    task: Task,
    wanted: Synthetic,
    key: tuple[str, ...],
    folder: Path,
    render: Render | None,
    workers: int | None,
    progress: Any,
) -> Any:
    if render is None:
        from imgsynth.generate import render as render_scene

        render = render_scene
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
        raise study.error(error.message, *key, "scene") from None
    except ImgsynthError as error:
        if "cannot resume" not in str(error):
            raise
        cure = f"delete {folder} to render anew, or choose another folder for the study"
        raise study.error(f"{error}; {cure}", *key, "scene") from None
    try:
        return replace(task.load(str(path)), name=f"scene {wanted.scene}")
    except DataError as error:  # a scene whose frames do not suit the task
        raise study.error(str(error), *key, "scene") from None


def _sampled(
    study: Study, task: Task, wanted: Synthetic, key: tuple[str, ...], folder: Path, progress: Any
) -> Any:
    from imgsynth.diffusion.sampled import sample_dataset

    assert wanted.model is not None
    try:
        sample_dataset(
            study.locate(wanted.model),
            folder,
            n=wanted.count,
            seed=wanted.seed,
            resume=True,
            progress=progress,
        )
        return replace(task.load(str(folder)), name=f"model {wanted.model}")
    except ImgsynthError as error:
        raise study.error(str(error), *key, "model") from None


def _same_form(study: Study, task: Task, real: dict[str, Any], synthetic: dict[str, Any]) -> Sets:
    """All sets with the classes and in the form of the real training set; says what was changed."""
    model = _with_names(real["train"], [*real.values(), *synthetic.values()])
    real = {**real, "train": model}
    wanted, shown = _held(model), set[str]()
    notes: list[str] = []
    everything: list[tuple[tuple[str, ...], Any]] = [(("real", part), data) for part, data in real.items()]
    for name, data in synthetic.items():
        key = study.spec.place(name)
        everything.append(((*key, _kind(study.spec.sources()[name])), data))
        shown |= _held(data)
    done = []
    for key, data in everything:
        if getattr(data, "unnamed", False):
            data = data.aligned(model.classes)
        extra = _held(data) - wanted
        missing = wanted - shown if key[0] == "synthetic" else set()
        if extra or missing:
            raise study.error(_mismatch(data, model, extra, missing), *key)
        conformed, note = task.conform(data, model)
        notes += [said for said in (note, data.notes and f"{data.name}: {data.notes}") if said]
        done.append(conformed)
    train, validation, test, *rest = done
    return Sets(train, validation, test, dict(zip(synthetic, rest, strict=True)), notes)


def _kind(source: Synthetic) -> str:
    """The key that says where a generator's images come from."""
    return next(k for k in ("scene", "model", "data") if getattr(source, k) is not None)


def _with_names(train: Any, others: Sequence[Any]) -> Any:
    """The training set with class names, where its files have only numbers and another set has names."""
    named = next((data for data in others if not getattr(data, "unnamed", False)), None)
    if getattr(train, "unnamed", False) and named is not None:
        return train.aligned(named.classes)
    return train


def _held(data: Any) -> set[str]:
    """Names of the classes that a set shows."""
    return {c for c, n in zip(data.classes, data.counts(), strict=True) if n}


def _mismatch(data: Any, model: Any, extra: set[str], missing: set[str]) -> str:
    said = []
    for owner, other, names in ((data, model, extra), (model, data, missing)):
        if names:
            said.append(
                f"{owner.name} has {', '.join(repr(c) for c in sorted(names)[:5])}, {other.name} has not"
            )
    return f"classes do not agree by name: {'; '.join(said)}"


def _refuse_leaks(study: Study, task: Task, sets: Sets) -> None:
    """No test image may be trained on or selected by, and no validation image trained on, by content."""
    prints = {name: task.fingerprints(data) for name, data in sets.named().items()}
    synthetic = [called(name) for name in sets.synthetic]
    for part, others in (
        ("test", ["real train", *synthetic, "real validation"]),
        ("validation", ["real train", *synthetic]),
    ):
        rows = _first_rows(prints[f"real {part}"])
        for other in others:
            shared = [(rows[h], i) for i, h in enumerate(prints[other]) if h in rows]
            if shared:
                data, held = sets.named()[other], sets.named()[f"real {part}"]
                raise study.error(
                    f"leak: {len(shared)} of {len(data)} images of {data.name} are also among the {part} "
                    f"images {held.name} (row {shared[0][1]} is row {shared[0][0]} there)",
                    "real",
                    part,
                )


def _first_rows(prints: Sequence[Hashable]) -> Mapping[Hashable, int]:
    rows: dict[Hashable, int] = {}
    for row, one in enumerate(prints):
        rows.setdefault(one, row)
    return rows


def _refuse_cut_groups(study: Study, sets: Sets) -> None:
    """A track (or another group) of the real sets lies whole in one of them: its images are near-copies."""
    for k, part in enumerate(REAL):
        for other in REAL[:k]:
            held, data = getattr(sets, part), getattr(sets, other)
            both = shared_groups(held, data)
            if both:
                raise study.error(
                    f"leak: {len(both)} tracks (groups) are cut in two, such as {both[0]!r}, of which images "
                    f"are in both {other} ({data.name}) and {part} ({held.name}); split by group, as "
                    "DATA#train, DATA#validation and DATA#test do, or name different tracks differently",
                    "real",
                    part,
                )


def nested_rows(task: Task, data: Any, size: int | None, seed: int) -> I64:
    """`size` rows, stratified and nested for one seed; ascending, so that the whole set is one cell."""
    if size is None or size == len(data):
        return np.arange(len(data), dtype=np.int64)
    return np.sort(nested_order(task.strata(data), seed)[:size])
