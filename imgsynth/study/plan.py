"""Which trainings a study takes: every arm by net and seed, every point of its curves; equal ones once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from imgsynth.errors import SceneError
from imgsynth.study.cells import Cell, Part
from imgsynth.study.sets import Sets, nested_rows
from imgsynth.study.spec import ONE, Study
from imgsynth.study.spec_arms import Arm, arm_of
from imgsynth.study.task import Learner, Pool, Task


@dataclass(frozen=True)
class Plan:
    """The cells of a study; the same cell may stand in several places."""

    arms: dict[str, dict[str, list[Cell]]]  # net → arm → a cell a seed; the first net is the headline's
    curve: dict[int, list[Cell]]  # scaling: size →
    real_curve: dict[int, list[Cell]]  # real images →
    surface: dict[tuple[int, int], list[Cell]]  # (synthetic, real) images →
    learners: dict[str, Learner] = field(default_factory=dict)  # by the cells' settings

    @property
    def headline(self) -> dict[str, list[Cell]]:
        """Arms of the first net."""
        return next(iter(self.arms.values()))

    @cached_property
    def cells(self) -> list[Cell]:
        """Each cell that is scored, once; those of the first seeds first, so that an early look at `cells/`
        shows every arm.
        """
        groups = [group for arms in self.arms.values() for group in arms.values()]
        groups += [*self.curve.values(), *self.real_curve.values(), *self.surface.values()]
        distinct = {cell.key(): cell for group in groups for cell in group}
        return sorted(distinct.values(), key=lambda cell: cell.seed)

    @cached_property
    def starts(self) -> list[Cell]:
        """Each cell that others go on from, once; none of them is tested."""
        distinct = {cell.start.key(): cell.start for cell in self.cells if cell.start is not None}
        scored = {cell.key() for cell in self.cells}
        return [cell for key, cell in distinct.items() if key not in scored]


def plan_cells(make: Maker) -> Plan:
    """The cells of every arm and net, and of every size of the curves.

    Raises:
        SceneError: a size beyond its set, at its place in the file.
    """
    spec, net = make.study.spec, next(iter(make.learners))
    arms = {
        n: {name: [make.cell(arm_of(name), n, s) for s in spec.seed_list()] for name in spec.arms}
        for n in make.learners
    }
    curve, real_curve, surface = {}, {}, {}
    if spec.scaling is not None:
        arm = arm_of(spec.scaling.arm)
        for k, size in enumerate(spec.scaling.sizes):
            counted = {"real": size} if arm.kind == "real" else {"synthetic": size}
            make.check(arm, ("scaling", "sizes", k), **counted)
            curve[size] = [make.cell(arm, net, s, **counted) for s in spec.scaling_seeds()]
    sizes = make.real_sizes()
    for size in sizes:
        real_curve[size] = [make.cell(arm_of("real"), net, s, real=size) for s in spec.seed_list()]
    if spec.surface is not None:
        arm = arm_of(spec.surface.arm)
        for k, n in enumerate(spec.surface.sizes):
            make.check(arm, ("surface", "sizes", k), synthetic=n)
            for size in sizes:
                surface[n, size] = [make.cell(arm, net, s, n, size) for s in spec.seed_list()]
    return Plan(arms, curve, real_curve, surface, make.by_settings)


@dataclass(frozen=True)
class Maker:
    """Makes cells out of a study's sets."""

    study: Study
    task: Task
    sets: Sets
    pools: Mapping[str, Pool]
    learners: Mapping[str, Learner]
    shares: Mapping[str, float | None] = field(default_factory=dict)  # of real images, for each arm `both`
    by_settings: dict[str, Learner] = field(default_factory=dict)

    def cell(
        self, arm: Arm, net: str, seed: int, synthetic: int | None = None, real: int | None = None
    ) -> Cell:
        """One training of an arm, on all images where no number is given."""
        learner = self.learners[net]
        shown = self._synthetic(arm, synthetic, seed) if arm.uses_synthetic else ()
        rows = nested_rows(self.task, self.sets.train, real, seed)
        own = Part(self.pools["real train"], rows, real=True)
        size = len(rows) if arm.kind == "real" else sum(len(part.rows) for part in shown)
        if arm.kind == "real":
            return Cell(arm.name, net, size, seed, (own,), self._settings(learner))
        if arm.kind == "synthetic":
            return Cell(arm.name, net, size, seed, shown, self._settings(learner))
        if arm.kind == "both":
            parts = _shared(own, shown, self.shares.get(arm.name))
            return Cell(arm.name, net, size, seed, parts, self._settings(learner))
        how = self.study.spec.finetune
        before = min(max(round(learner.steps * how.pretrain), 1), learner.steps - 1)
        first = self._settings(learner.phase(before, {}))
        then = self._settings(learner.phase(learner.steps - before, how.learner))
        start = Cell("pretrain", net, size, seed, shown, first)
        return Cell(arm.name, net, size, seed, (own,), then, start)

    def _settings(self, learner: Learner) -> str:
        settings = json.dumps(learner.describe(), sort_keys=True)
        self.by_settings[settings] = learner
        return settings

    def _synthetic(self, arm: Arm, size: int | None, seed: int) -> tuple[Part, ...]:
        parts = []
        for name, (count, share) in self._counts(arm, size).items():
            pool = self.pools[ONE if name == ONE else f"synthetic {name}"]
            if count:
                parts.append(
                    Part(pool, nested_rows(self.task, self.sets.synthetic[name], count, seed), share)
                )
        return tuple(parts)

    def _counts(self, arm: Arm, size: int | None) -> dict[str, tuple[int, float | None]]:
        """Images (and share) of each generator where an arm sees `size` synthetic ones in all."""
        shares = self.study.spec.shares(arm.source)
        held = {name: len(self.sets.synthetic[name]) for name in shares}
        if size is None:
            return {name: (held[name], share) for name, share in shares.items()}
        # Dealt out one by one to whoever is furthest behind its share, so that smaller sizes nest in larger.
        weight = {name: held[name] if share is None else share for name, share in shares.items()}
        turns = [((j + 0.5) / w, k) for k, w in enumerate(weight.values()) for j in range(size)]
        counts = np.bincount([k for _, k in sorted(turns)[:size]], minlength=len(shares))
        return {name: (int(n), shares[name]) for name, n in zip(shares, counts, strict=True)}

    def check(
        self, arm: Arm, key: tuple[str | int, ...], synthetic: int | None = None, real: int | None = None
    ) -> None:
        """Refuse a size beyond what there is."""
        if real is not None and real > len(self.sets.train):
            raise self._too_large(real, self.sets.train, real, key)
        if synthetic is not None:
            for name, (count, _) in self._counts(arm, synthetic).items():
                if count > len(self.sets.synthetic[name]):
                    raise self._too_large(synthetic, self.sets.synthetic[name], count, key)

    def _too_large(self, size: int, data: Any, count: int, key: tuple[str | int, ...]) -> SceneError:
        of_it = f", of which it would take {count}" if count != size else ""
        return self.study.error(
            f"size {size} is larger than {data.name}, which has {len(data)} images{of_it}", *key
        )

    def real_sizes(self) -> list[int]:
        """Numbers of real images of the real-only curve, ascending; the whole set is always one of them."""
        total, sizes = len(self.sets.train), list[int]()
        for k, given in enumerate(self.study.spec.real_sizes):
            size = given if isinstance(given, int) else max(1, round(given * total))
            self.check(arm_of("real"), ("real_sizes", k), real=size)
            if size in sizes:
                raise self.study.error(
                    f"{given} is {size} images, which another size is too", "real_sizes", k
                )
            sizes.append(size)
        return sorted({*sizes, total}) if sizes else []


def _shared(own: Part, shown: tuple[Part, ...], real_share: float | None) -> tuple[Part, ...]:
    """Real and synthetic parts with the share of each; without shares, every image is drawn equally often."""
    if real_share is None and all(part.share is None for part in shown):
        return (own, *shown)
    synthetic = sum(len(part.rows) for part in shown)
    real = real_share if real_share is not None else len(own.rows) / (len(own.rows) + synthetic)
    rest = [
        Part(p.pool, p.rows, (1 - real) * (len(p.rows) / synthetic if p.share is None else p.share))
        for p in shown
    ]
    return (replace(own, share=real), *rest)
