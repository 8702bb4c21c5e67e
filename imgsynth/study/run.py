"""A study from its file to results.json and report.html: render, train, score once, measure, report.

The folder `out` holds `synthetic/` (the rendered set; `synthetic-NAME/` of several), `cells/` (every
training, by content), `results.json` and `report.html`. Killed and started again, it goes on from what is
there. HEADLINE below is accuracy, AP50 (detect) or mask_AP50 (segment); FIGURE is {mean, ci95: [low, high]}.
results.json holds

    headline    HEADLINE
    arms        arm → every score of `what.scores`: FIGURE with seeds (how many), n (images), per_seed;
                per_class: [{class, n, HEADLINE, ci95}]; validation_HEADLINE {mean, per_seed}; images {real,
                synthetic} seen; classify: confusion (true × predicted, summed over seeds)
    paired      A_minus_B, A_over_real: FIGURE of the headline over the same test images
    transfer    TRTS: FIGURE with n, per_seed; arm of synthetic images alone → trtr, tstr, gap, relative,
                trts, reading (`evaluate.transfer`)
    class_delta arm → [{class, delta, ci95, p, q, significant, n}] against real, one family of tests
    scaling     arm, sizes, error, ci95, errors_per_seed, fit {alpha, C, D, ci95, identified, reason,
                flips_at, …}, band, advice, holdout (the largest size foretold, or null)
    real_curve  the same of real images alone, where the study has real_sizes
    worth       arm → n_real, n_synthetic, error, effective (real images), exchange (`evaluate.worth`)
    surface     arm, sizes, real_sizes, cells [{n_real, n_synthetic, error, ci95, effective, …}], fit or null
    nets        arms: net → arm → FIGURE; difference: net → arm → FIGURE against real; agreement: arm →
                {pairs, agree, tau_b}, where there are several nets
    chosen      arm → real_share, candidates, where a share was chosen on the validation images
    verdict     action, sentence, reasons, rule (`evaluate.verdict`; 0: nothing was learned), mixed: the arm
                of both kinds that it speaks of
    what        the study, its digests, versions, image counts, steps, seeds, grounding of the labels, notes,
                and the commands to run it again

and no clock, host or path of this machine: the same study gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.dataset import disk
from imgsynth.dataset.disk import disk_errors
from imgsynth.report import write_report
from imgsynth.study.cells import Cell, finished, predictions_path, score_cell, train_cell
from imgsynth.study.choice import candidates, choose, shares_of
from imgsynth.study.grounding import grounding
from imgsynth.study.pictures import taken
from imgsynth.study.plan import Maker, plan_cells
from imgsynth.study.progress import Bars
from imgsynth.study.results import Answered, measured_results
from imgsynth.study.sets import Render, Sets, gather
from imgsynth.study.spec import Study, StudySpec, load_study, shown_source
from imgsynth.study.task import Learner, Pool, Task
from imgsynth.study.tasks import task_of
from imgsynth.study.workers import Crew
from imgsynth.version import __version__

Say = Callable[[str, int, int], Callable[[float], None]]  # (unit, in all, done before) → a bar
LIBRARIES = ("numpy", "scipy", "torch", "warp-lang", "opencv-python-headless", "scikit-learn")


def run_study(
    source: str | Path | StudySpec,
    out: str | Path,
    *,
    workers: int | None = None,
    render: Render | None = None,
    learner: Learner | Mapping[str, Learner] | None = None,
    command: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a study, or go on with one, and return what it writes to results.json.

    Args:
        source: study file, folder with a study.yaml, name of a shipped scene that has one, or a spec.
        out: folder to work in; holds the results.
        workers: processes (default: one per core); figures do not depend on it.
        render: in place of `imgsynth.generate.render`.
        learner: in place of the task's own; or one for each net.
        command: what to print as the command to run again (default: ``imgsynth study …``).
        quiet: no progress bars on stderr.

    Raises:
        ImgsynthError: a wrong study file, classes that differ, a leak, sizes beyond the set, a full disk;
            before any training where it can be known before.
    """
    study = load_study(source)
    out = Path(out)
    task = task_of(study.spec.task)
    learners = _learners(study, learner)
    with Bars(quiet) as bars:
        sets = gather(study, task, out, render, workers, bars)
        work, folder = out / "work", out / "cells"
        with bars.stage("plan"):
            pools, held_out = sets.pools(task, work), sets.held_out(task)
            trts = task.pool(work, "held-out", held_out)
            make = Maker(study, task, sets, pools, learners)
            choices = candidates(make)
            draft = plan_cells(make)  # refuses what cannot be trained before anything is
        jobs = len(draft.cells) + sum(len(one.cells) for several in choices.values() for one in several)
        with _crew(workers, learners, jobs) as crew:
            train = partial(_train, crew, task, make.by_settings, pools["real validation"], folder)
            train(
                [cell for several in choices.values() for one in several for cell in one.cells],
                bars.of("choose"),
            )
            chosen = choose(task, choices, folder)
            plan = plan_cells(replace(make, shares=shares_of(study.spec, chosen)))
            train(plan.starts, bars.of("pre-train"))
            train(plan.cells, bars.of("train"))
            looks = open_test(out, plan.cells, pools["real test"])
            score = partial(_score, crew, task, make.by_settings, folder)
            score(plan.cells, pools["real test"], bars.of("test"))
            score(plan.headline.get("real", []), trts, bars.of("test on synthetic"))
        with bars.stage("measure"):
            test = Answered(task, folder, pools["real test"], sets.test)
            back = Answered(task, folder, trts, held_out)
            results = measured_results(study, sets, plan, test, back, chosen)
            trained = plan.starts + plan.cells
            results["what"] = _what(study, sets, pools, learners, trained, looks, command)
            write_results(results, out / "results.json")
        with bars.stage("report"):
            pictures = taken(sets, plan, test)
            write_report(results, pictures, out / "report.html")
            shutil.rmtree(work, ignore_errors=True)
    return results


def _learners(study: Study, given: Learner | Mapping[str, Learner] | None) -> dict[str, Learner]:
    if isinstance(given, Mapping):
        return dict(given)
    if given is not None:
        return dict.fromkeys(study.spec.nets or ("default",), given)
    from imgsynth.study.learner import learners

    return learners(study)


def write_results(results: dict[str, Any], path: Path) -> None:
    """Write results as JSON, whole or not at all."""
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors(path.parent):
        disk.replace(path, (text + "\n").encode())


def _crew(workers: int | None, learners: Mapping[str, Learner], jobs: int) -> Crew:
    threads = max(one.threads for one in learners.values())
    return Crew(min(workers or max(1, (os.cpu_count() or 1) // threads), jobs), jobs)


def _train(
    crew: Crew,
    task: Task,
    learners: Mapping[str, Learner],
    validation: Pool,
    folder: Path,
    cells: list[Cell],
    say: Say,
) -> None:
    """Train what is not trained yet."""
    if not cells:
        return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    todo = [cell for cell in cells if not finished(folder, cell)]
    jobs = [(task, learners[cell.settings], cell, validation, folder) for cell in todo]
    crew.run(train_cell, jobs, say("trainings", len(cells), len(cells) - len(todo)))


def _score(
    crew: Crew,
    task: Task,
    learners: Mapping[str, Learner],
    folder: Path,
    cells: list[Cell],
    images: Pool,
    say: Say,
) -> None:
    """Have models say what they see in images, where they have not yet."""
    if not cells:
        return
    todo = [cell for cell in cells if not predictions_path(folder, cell, images).is_file()]
    jobs = [(task, learners[cell.settings], cell, images, folder) for cell in todo]
    crew.run(score_cell, jobs, say("models", len(cells), len(cells) - len(todo)))


def open_test(out: Path, cells: list[Cell], test: Pool) -> int:
    """How many different studies have, in this folder, been scored on these test images, this one included.

    A test split that is looked at after every change becomes a validation split; the report says how often it
    was.
    """
    path = out / "test-looks.json"
    try:
        looks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        looks = {}
    seen = looks.setdefault(test.digest[:16], [])
    this = hashlib.sha256(",".join(sorted(cell.key() for cell in cells)).encode()).hexdigest()[:16]
    if this not in seen:
        seen.append(this)
        with disk_errors(out):
            disk.replace(path, (json.dumps(looks, indent=1) + "\n").encode())
    return seen.index(this) + 1


def _what(
    study: Study,
    sets: Sets,
    pools: Mapping[str, Pool],
    learners: Mapping[str, Learner],
    cells: list[Cell],
    looks: int,
    command: str | None,
) -> dict[str, Any]:
    spec, learner = study.spec, next(iter(learners.values()))
    return {
        "study": spec.model_dump(mode="json"),
        "study_digest": spec.digest(),
        "classes": list(sets.train.classes),
        "scores": dict(task_of(spec.task).scores),
        **task_of(spec.task).form(sets.train),
        "images": {name: len(data) for name, data in sets.named().items()},
        "sources": {name: data.name for name, data in sets.named().items()},
        "digests": {name: pools[name].digest for name in sets.named()},
        "grounding": grounding(study, sets),
        "test_groups": None if sets.test.groups is None else len(np.unique(sets.test.groups)),
        "learner": learner.describe(),
        "steps": learner.steps,
        "seeds": spec.seed_list(),
        "trainings": len(cells),
        "test_looks": looks,
        "versions": {"imgsynth": __version__, **versions()},
        "notes": sets.notes,
        "commands": [command or f"imgsynth study {shown_source(study)} -o {spec.name}"],
    }


def versions() -> dict[str, str]:
    """Version of each library that figures depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
