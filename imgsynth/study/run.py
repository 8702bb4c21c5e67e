"""A study from its file to results.json and report.html: render, train, score once, measure, report.

The folder `out` holds `synthetic/` (the rendered set), `cells/` (every training, by content), `results.json`
and `report.html`. Killed and started again, it goes on from what is there. results.json holds

    arms      arm → accuracy, balanced_accuracy, worst_class, ece: {mean, ci95: [low, high], seeds: how many,
    n: test images,
              per_seed: […]}; per_class: [{class, n, accuracy, ci95}]; confusion (true × predicted, summed
                  over seeds); validation_accuracy {mean, per_seed}
    paired    both_minus_real, synthetic_minus_real, both_minus_synthetic, synthetic_over_real: {mean, ci95}
    scaling   sizes, error, ci95, errors_per_seed, fit: {alpha, C, D, ci95: {…}, identified, reason, …}, band,
    advice what      the study, its digests, versions, image counts, steps, seeds, notes, and the commands to
    run it again

and no clock, host or path of this machine: the same study gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.report import Mistake, Pictures, write_report
from imgsynth.study.cells import (
    Cell,
    Learner,
    Pool,
    finished,
    predictions_path,
    read_predictions,
    read_record,
    score_cell,
    train_cell,
    write_pool,
)
from imgsynth.study.measure import measure
from imgsynth.study.progress import Bars
from imgsynth.study.sets import Render, Sets, gather, plan_cells
from imgsynth.study.spec import Study, StudySpec, load_study, shown_source
from imgsynth.study.workers import Crew
from imgsynth.version import __version__

LIBRARIES = ("numpy", "scipy", "torch", "warp-lang", "opencv-python-headless", "scikit-learn")
MISTAKES = 24


def run_study(
    source: str | Path | StudySpec,
    out: str | Path,
    *,
    workers: int | None = None,
    render: Render | None = None,
    learner: Learner | None = None,
    command: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a study, or go on with one, and return what it writes to results.json.

    Args:
        source: study file, folder with a study.yaml, name of a shipped scene that has one, or a spec.
        out: folder to work in; holds the results.
        workers: processes (default: one per core); figures do not depend on it.
        render: in place of `imgsynth.generate.render`.
        learner: in place of the classifier.
        command: what to print as the command to run again (default: ``imgsynth study …``).
        quiet: no progress bars on stderr.

    Raises:
        ImgsynthError: a wrong study file, classes that differ, a leak, sizes beyond the set, a full disk;
            before any training where it can be known before.
    """
    study = load_study(source)
    out = Path(out)
    if learner is None:
        from imgsynth.study.learner import classify_learner

        learner = classify_learner(study)
    with Bars(quiet) as bars:
        sets = gather(study, out, render, workers, bars.counter("render", "images"))
        work = out / "work"
        pools = _pools(sets, work)
        arms, curve = plan_cells(study, sets, pools, json.dumps(learner.describe(), sort_keys=True))
        cells = _distinct([*arms.values(), *curve.values()])
        crew_size = workers or max(1, (os.cpu_count() or 1) // learner.threads)
        with Crew(min(crew_size, len(cells)), len(cells)) as crew:
            _train(crew, learner, cells, pools["validation"], out / "cells", bars)
            looks = _open_test(out, cells, pools["test"])
            _score(crew, learner, cells, pools["test"], out / "cells", bars)
        with bars.stage("measure and report"):
            results = _results(study, sets, arms, curve, pools["test"], out / "cells")
            results["what"] = _what(study, sets, learner, cells, looks, command)
            pictures = _pictures(study, sets, arms, pools["test"], out / "cells")
            write_results(results, out / "results.json")
            write_report(results, pictures, out / "report.html")
            shutil.rmtree(work, ignore_errors=True)
    return results


def write_results(results: dict[str, Any], path: Path) -> None:
    """Write results as JSON, whole or not at all."""
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors(path.parent):
        replace(path, (text + "\n").encode())


def _pools(sets: Sets, folder: Path) -> dict[str, Pool]:
    return {
        "train": write_pool(folder, "train", sets.train),
        "validation": write_pool(folder, "validation", sets.validation),
        "test": write_pool(folder, "test", sets.test),
        "synthetic": write_pool(folder, "synthetic", sets.synthetic),
    }


def _distinct(groups: Iterable[list[Cell]]) -> list[Cell]:
    """Each cell once, those of the first seeds first, so that an early look at `cells/` shows every arm."""
    cells = {cell.key(): cell for group in groups for cell in group}
    return sorted(cells.values(), key=lambda cell: cell.seed)


def _train(
    crew: Crew, learner: Learner, cells: list[Cell], validation: Pool, folder: Path, bars: Bars
) -> None:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    todo = [cell for cell in cells if not finished(folder, cell)]
    share = bars.shares("train", "trainings", len(cells), len(cells) - len(todo))
    crew.run(train_cell, [(learner, cell, validation, folder) for cell in todo], share)


def _score(crew: Crew, learner: Learner, cells: list[Cell], test: Pool, folder: Path, bars: Bars) -> None:
    todo = [cell for cell in cells if not predictions_path(folder, cell, test).is_file()]
    share = bars.shares("test", "models", len(cells), len(cells) - len(todo))
    crew.run(score_cell, [(learner, cell, test, folder) for cell in todo], share)


def _open_test(out: Path, cells: list[Cell], test: Pool) -> int:
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
            replace(path, (json.dumps(looks, indent=1) + "\n").encode())
    return seen.index(this) + 1


def _results(
    study: Study,
    sets: Sets,
    arms: dict[str, list[Cell]],
    curve: dict[int, list[Cell]],
    test: Pool,
    folder: Path,
) -> dict[str, Any]:
    def predicted(group: list[Cell]) -> Any:
        return np.stack([read_predictions(folder, cell, test) for cell in group])

    by_arm = {arm: predicted(group) for arm, group in arms.items()}
    by_size = {size: predicted(group) for size, group in curve.items()}
    labels, groups = sets.test.labels, sets.test.groups
    results = measure(study.spec, by_arm, by_size, labels, groups, sets.test.classes)
    for arm, group in arms.items():
        per_seed = [float(read_record(folder, cell)["validation_accuracy"]) for cell in group]
        mean = float(np.mean(per_seed))
        results["arms"][arm]["validation_accuracy"] = {"mean": mean, "per_seed": per_seed}
    return results


def _what(
    study: Study,
    sets: Sets,
    learner: Learner,
    cells: list[Cell],
    looks: int,
    command: str | None,
) -> dict[str, Any]:
    spec = study.spec
    return {
        "study": spec.model_dump(mode="json"),
        "study_digest": spec.digest(),
        "classes": list(sets.train.classes),
        "image_size": list(sets.train.size),
        "channels": sets.train.channels,
        "images": {name: len(data) for name, data in sets.named().items()},
        "sources": {name: data.name for name, data in sets.named().items()},
        "digests": {name: data.digest() for name, data in sets.named().items()},
        "test_groups": None if sets.test.groups is None else len(np.unique(sets.test.groups)),
        "learner": learner.describe(),
        "steps": learner.steps,
        "seeds": spec.seed_list(),
        "trainings": len(cells),
        "test_looks": looks,
        "versions": {"imgsynth": __version__, **_versions()},
        "notes": sets.notes,
        "commands": [command or f"imgsynth study {shown_source(study)} -o {spec.name}"],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _pictures(study: Study, sets: Sets, arms: dict[str, list[Cell]], test: Pool, folder: Path) -> Pictures:
    """Training images, and the real test images that the synthetic arm (or the first) gets wrong."""
    arm = "synthetic" if "synthetic" in arms else next(iter(arms))
    guesses = np.stack([read_predictions(folder, cell, test).argmax(axis=1) for cell in arms[arm]])  # (K, n)
    wrong = guesses != sets.test.labels
    rows = np.argsort(-wrong.sum(axis=0), kind="stable")[:MISTAKES]
    mistakes = []
    for row in rows[wrong[:, rows].any(axis=0)]:
        said = np.bincount(guesses[wrong[:, row], row], minlength=len(sets.test.classes))
        mistakes.append(
            Mistake(
                image=np.asarray(sets.test.images[row]),
                true=sets.test.classes[sets.test.labels[row]],
                predicted=sets.test.classes[int(said.argmax())],
                wrong=int(wrong[:, row].sum()),
                seeds=len(guesses),
            )
        )
    return Pictures(synthetic=sets.synthetic, real=sets.train, mistakes=mistakes, mistakes_arm=arm)
