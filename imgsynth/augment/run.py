"""An augmentation from its command to results.json, report.html and the mixed training set.

The folder `out` holds `real.npz` (the real training images, as split and cut), `generated/` (a folder a
source), `cells/` (trainings, by content), `mixed.npz` with `mixed.json`, `model/` (the first seed of the
arm that validation images prefer), `results.json` and `report.html`. Killed and started again, it goes on
from what is there. FIGURE below is {mean, ci95: [low, high]}; results.json holds

    arms      arm → balanced_accuracy, accuracy, worst_class, ece: FIGURE with seeds, n, per_seed; majority,
              minority: FIGURE (mean recall of the third of the classes with most, with fewest, real training
              images); per_class: [{class, n, recall, ci95}]; title; setting; settings: each that was tried,
              with its balanced accuracy on the validation images
    deltas    baseline → balanced_accuracy, accuracy, worst_class, minority, majority: FIGURE with p, of
              generated images less that baseline, over the same test images
    budget    rounds (images, per_class, balanced_accuracy, gain, kept), reason, per_class, sources
    verdict   action, sentence, rule (`measure.verdict`), against: the best plain baseline
    ceiling   null, or of trainings on what a cut took away, too: what an arm has, against (the best plain
              baseline), delta (their difference, as in deltas), sentence
    preferred the arm that validation images prefer (nothing is chosen by the test images)
    mixed     the record of mixed.npz: the real images and the budget's generated ones
    what      data, digests, counts, options, steps, versions, how often the test set was opened, the command

and no clock, host or path of this machine beyond the DATA that was given.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.augment import mix
from imgsynth.augment.arms import BASELINES, CEILING, Added, Arm, Balanced, Maker, Setting, generated
from imgsynth.augment.bench import SLOTS, Bench
from imgsynth.augment.measure import ceiling, figures, tail, verdict
from imgsynth.augment.mix import Generated
from imgsynth.augment.options import Options, able_of, check, learner_of, sources_of
from imgsynth.augment.rounds import Plan, decide, split_evenly
from imgsynth.augment.sets import Sets, gather
from imgsynth.augment.sources import Source, joined
from imgsynth.batch import I64
from imgsynth.study.cells import Cell
from imgsynth.study.classify import Answers
from imgsynth.study.progress import Bars
from imgsynth.study.run import open_test, versions, write_results
from imgsynth.study.task import Learner
from imgsynth.study.workers import Crew

REPLICATES = 2000
ROUND_STEPS = 0.5  # of a training's steps are enough to tell a round's budgets apart


def augment(
    options: Options,
    *,
    learner: Learner | None = None,
    sources: Sequence[Source] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Decide, generate, train, compare, write; returns what it writes to results.json.

    Args:
        learner: in place of the classifier.
        sources: in place of those that `scenes` and `models` name.

    Raises:
        ImgsynthError: a folder that is not free, bad data, a generator that knows none of the classes.
    """
    check(options)
    made_by = sources_of(options) if sources is None else list(sources)
    sets = gather(options.real, options.validation, options.test, cut=options.long_tail, seed=options.seed)
    able = [able_of(source, sets.train.classes) for source in made_by]
    learner = learner or learner_of(options, len(sets.train.classes))
    out, task = options.out, Balanced()
    mix.write_real(sets.train, out / mix.OWN)
    workers = options.workers or max(1, (os.cpu_count() or 1) // learner.threads)
    with Bars(quiet) as bars, Crew(workers, SLOTS) as crew:
        pools = {part: task.pool(out / "work", part, data) for part, data in sets.named().items()}
        maker = Maker(learner, pools["train"], sets.train.labels)
        bench = Bench(task, maker, out / "cells", pools["validation"], crew, bars)
        job = _Job(options, sets, made_by, able, bench)
        added: dict[str, Added] = {}  # by arm
        tuned = {arm.name: job.tune(arm, None) for arm in BASELINES}
        plan = job.budget() if made_by else None
        made = job.make(plan.sources, plan.counts) if plan is not None and plan.counts.any() else None
        arms = list(BASELINES)
        if made is not None:
            arm = generated(options.floor)
            added[arm.name] = job.added(made)
            for setting in arm.settings:  # before any of them is trained
                mix.guarded(sets.train, made, setting, options.floor)
            arms.append(arm)
            tuned[arm.name] = job.tune(arm, added[arm.name])
        preferred = max(tuned, key=lambda name: max(tuned[name][1]))
        if options.ceiling and sets.away is not None:
            away = task.pool(out / "work", "away", sets.away)
            added[CEILING.name] = Added(away, sets.away.labels)
            arms.append(CEILING)
            tuned[CEILING.name] = job.tune(CEILING, added[CEILING.name])
        cells = {
            arm.name: [
                job.cell(arm, tuned[arm.name][0], s, added.get(arm.name)) for s in range(options.seeds)
            ]
            for arm in arms
        }
        flat = [cell for several in cells.values() for cell in several]
        bench.train(flat, "train")
        looks = open_test(out, flat, pools["test"])
        bench.answers(flat, pools["test"], sets.test, "test")
        with bars.stage("measure"):
            tables = {
                name: bench.answers(several, pools["test"], sets.test, f"read {name}")
                for name, several in cells.items()
            }
            results = _results(job, arms, tables, tuned, plan, made, looks)
            results["preferred"] = preferred
            kept = preferred if made is None else "generated"
            results["mixed"] = mix.write_mixed(out, sets.train, made, tuned[kept][0], options.floor)
            _keep_model(bench, cells[preferred][0], out / "model")
            write_results(results, out / "results.json")
        with bars.stage("report"):
            from imgsynth.augment.page import write_report

            write_report(results, sets.train, made, out / "report.html")
        shutil.rmtree(out / "work", ignore_errors=True)
    return results


@dataclass(frozen=True)
class _Job:
    """The steps of one augmentation."""

    options: Options
    sets: Sets
    sources: Sequence[Source]
    able: Sequence[Any]  # for each source (K,) whether it can make a class
    bench: Bench

    def tune(self, arm: Arm, added: Added | None) -> tuple[Setting, list[float]]:
        """The setting that does best on the validation images with the first seed, and the score of each."""
        cells = [self.cell(arm, setting, 0, added) for setting in arm.settings]
        self.bench.train(cells, f"tune {arm.title}"[:20])
        scores = self.bench.validation_scores(cells)
        return arm.settings[int(np.argmax(scores))], scores

    def cell(self, arm: Arm, setting: Setting, seed: int, added: Added | None) -> Cell:
        """One training of an arm."""
        return self.bench.maker.cell(arm.name, setting, seed, added)

    def budget(self) -> Plan:
        """Images of each class."""
        counts = self.sets.train.counts()
        most = np.where(np.any(self.able, axis=0), counts.max() - counts, 0)
        budget = min(int(most.sum()), len(self.sets.train))
        if self.options.budget is not None:
            budget = min(self.options.budget, int(most.sum()))
        setting = generated(self.options.floor).settings[0]

        def attempt(sources: tuple[int, ...], wanted: I64, seeds: Sequence[int]) -> tuple[list[Answers], I64]:
            made = self.make(sources, wanted) if wanted.any() else None
            added = None if made is None else self.added(made)
            steps = max(1, round(ROUND_STEPS * self.bench.maker.learner.steps))
            cells = [self.bench.maker.cell("round", setting, s, added, steps) for s in seeds]
            self.bench.train(cells, f"try {int(wanted.sum()):,} images")
            given = np.zeros_like(wanted) if made is None else made.data.counts()
            return self._validated(cells), given

        return decide(
            attempt,
            self.sets.train,
            self.sets.validation,
            self.able,
            budget=budget,
            rounds=self.options.rounds,
        )

    def make(self, sources: Sequence[int], wanted: I64) -> Generated:
        """Images of each class (K,), shared out among some of the sources."""
        tell = self.bench.bars.counter
        parts, names, records = [], [], {}
        for k, each in zip(sources, split_evenly(wanted, self.able, sources), strict=True):
            source = self.sources[k]
            parts.append(source.images(each, self.sets, tell))
            names += [source.name] * len(parts[-1])
            records[source.name] = source.record()
        return Generated(joined(parts, self.sets.train, "generated"), np.array(names), records)

    def added(self, made: Generated) -> Added:
        """Generated images where trainings can read them."""
        digest = made.data.digest()
        pool = self.bench.task.pool(self.options.out / "work", f"generated-{digest[:16]}", made.data)
        return Added(pool, made.data.labels)

    def _validated(self, cells: Sequence[Cell]) -> list[Answers]:
        return self.bench.answers(cells, self.bench.validation, self.sets.validation, "validate")


def _keep_model(bench: Bench, cell: Cell, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(bench.folder / cell.key(), path)


def _results(
    job: _Job,
    arms: Sequence[Arm],
    tables: dict[str, list[Answers]],
    tuned: dict[str, tuple[Setting, list[float]]],
    plan: Plan | None,
    made: Generated | None,
    looks: int,
) -> dict[str, Any]:
    sets, options = job.sets, job.options
    counts = sets.train.counts()
    top = tables.get(CEILING.name)
    tables = {name: several for name, several in tables.items() if name != CEILING.name}
    results = figures(tables, sets.test, counts, REPLICATES)
    results["ceiling"] = None if top is None else ceiling(results, tables, top, sets.test, counts, REPLICATES)
    titles = {arm.name: arm.title for arm in arms}
    for arm in arms:
        setting, scores = tuned[arm.name]
        entry = results["ceiling"] if arm is CEILING else results["arms"][arm.name]
        entry |= {
            "title": arm.title,
            "setting": setting.to_json(),
            "settings": [
                {**one.to_json(), "validation": score}
                for one, score in zip(arm.settings, scores, strict=True)
            ],
        }
    results["budget"] = None if plan is None else _budget(job, plan, made)
    why_none = "" if plan is None else plan.reason
    results["verdict"] = verdict(results, titles, why_none)
    results["what"] = {
        "data": {part: data.name for part, data in sets.named().items()},
        "images": {part: len(data) for part, data in sets.named().items()},
        "digests": {part: data.digest() for part, data in sets.named().items()},
        "classes": list(sets.train.classes),
        "counts": counts.tolist(),
        "imbalance": float(counts.max() / max(counts[counts > 0].min(), 1)),
        **{third: [sets.train.classes[c] for c in rows] for third, rows in tail(counts).items()},
        "test_groups": None if sets.test.groups is None else len(np.unique(sets.test.groups)),
        "generators": [source.name for source in job.sources],
        "options": {
            k: (list(v) if isinstance(v, tuple) else v)
            for k, v in asdict(options).items()
            if k not in ("out", "workers", "resume", "command")
        },
        "learner": job.bench.maker.learner.describe(),
        "steps": job.bench.maker.learner.steps,
        "test_looks": looks,
        "versions": versions(),
        "notes": sets.notes,
        "command": options.command or f"imgsynth augment {options.real} -o {options.out.name}",
    }
    return results


def _budget(job: _Job, plan: Plan, made: Generated | None) -> dict[str, Any]:
    names = [source.name for source in job.sources]
    rounds = [{**one, "sources": [names[k] for k in one["sources"]]} for one in plan.rounds]
    return {
        "rounds": rounds,
        "reason": plan.reason,
        "sources": [names[k] for k in plan.sources],
        "images": int(plan.counts.sum()),
        "per_class": plan.counts.tolist(),
        "records": {} if made is None else {name: dict(r) for name, r in made.records.items()},
    }
