"""Search of numbers by trials (Optuna's tree-structured Parzen estimator), seeded and resumable from a log of
plain JSON lines.

Every trial's sampler is seeded by (seed, number of the trial) and sees the trials before it, so a search that
was killed and goes on proposes what it would have proposed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgsynth.dataset.disk import disk_errors
from imgsynth.errors import ImgsynthError
from imgsynth.seeding import derive

Values = dict[str, float]
STARTUP = 8  # trials drawn at random before the estimator has something to learn from


@dataclass(frozen=True)
class Parameter:
    """A number to search between `low` and `high`, in its logarithm where `log`; `start` is tried first."""

    low: float
    high: float
    start: float
    log: bool = False


@dataclass(frozen=True)
class Trial:
    """One evaluation."""

    values: Values
    score: float


def search(
    parameters: Mapping[str, Parameter],
    score: Callable[[Values], float],
    *,
    trials: int,
    seed: int = 0,
    log: Path | None = None,
    about: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trial]:
    """Maximize `score`; trial 0 is the start.

    Args:
        parameters: by name.
        score: of values by name; must depend on nothing else.
        trials: how many in all, those in the log included.
        seed: another one, other proposals.
        log: file to keep trials in, and to go on from.
        about: plain value of all that the score depends on; a log of another is refused.
        progress: told (trials done, in all).

    Raises:
        ImgsynthError: Optuna is missing, nothing to search, a log of another search, a score that is no
            number.
    """
    optuna = _optuna()
    if not parameters or trials < 1:
        raise ImgsynthError("tuning: expected at least one parameter and one trial")
    head = {"seed": seed, "about": about, "parameters": {k: vars(p) for k, p in parameters.items()}}
    done = _read(log, head, parameters) if log is not None else []
    study, ranges = _study(parameters, done[:trials])
    for number in range(len(done), trials):
        if progress is not None:
            progress(number, trials)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, seed=derive(seed, f"trial {number}") % (1 << 32)
        )
        study.sampler = sampler
        if number == 0:
            study.enqueue_trial({k: p.start for k, p in parameters.items()})
        asked = study.ask(ranges)
        value = float(score(dict(asked.params)))
        if not math.isfinite(value):
            raise ImgsynthError(f"tuning: trial {number} scored {value}, expected a finite number")
        study.tell(asked, value)
        done.append(Trial(dict(asked.params), value))
        if log is not None:
            _append(log, {"trial": number, "score": value, "values": asked.params})
    if progress is not None:
        progress(trials, trials)
    return done[:trials]


def best(trials: list[Trial]) -> Trial:
    """The first of the highest score."""
    return max(trials, key=lambda trial: trial.score)


def importances(parameters: Mapping[str, Parameter], trials: list[Trial]) -> dict[str, float] | None:
    """Share of the score's variance that goes with each parameter (fANOVA, Hutter et al. 2014); None where
    there are too few trials, or all score alike.
    """
    if len(trials) < 10 or max(t.score for t in trials) == min(t.score for t in trials):
        return None
    optuna = _optuna()
    study, _ = _study(parameters, trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(shares.get(name, 0.0)) for name in parameters}


def _study(parameters: Mapping[str, Parameter], trials: list[Trial]) -> tuple[Any, dict[str, Any]]:
    """An Optuna study that has seen the trials, and the range of each parameter."""
    optuna = _optuna()
    ranges = {
        k: optuna.distributions.FloatDistribution(p.low, p.high, log=p.log) for k, p in parameters.items()
    }
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        made = optuna.trial.create_trial(params=trial.values, distributions=ranges, value=trial.score)
        study.add_trial(made)
    return study, ranges


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImgsynthError(
            "tuning needs Optuna, which is not installed; install it: pip install 'imgsynth[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _read(log: Path, head: dict[str, Any], parameters: Mapping[str, Parameter]) -> list[Trial]:
    """The trials of a log; a last line that was cut off is dropped."""
    with disk_errors(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
        held = log.read_bytes() if log.exists() else b""
        whole = held[: held.rfind(b"\n") + 1]
        if not whole:
            log.write_text(json.dumps(head, ensure_ascii=False) + "\n", encoding="utf-8")
            return []
        if whole != held:
            os.truncate(log, len(whole))
    try:
        first, *rows = [json.loads(line) for line in whole.decode().splitlines()]
        done: list[Trial] = []
        for row in rows:
            if row["trial"] != len(done) or set(row["values"]) != set(parameters):
                raise ValueError("trials out of order")
            done.append(Trial({k: float(v) for k, v in row["values"].items()}, float(row["score"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ImgsynthError(
            f"{log}: not a readable log of trials ({error}); delete it to start anew"
        ) from None
    if first != json.loads(json.dumps(head)):
        raise ImgsynthError(f"{log}: holds the trials of another tuning; choose another folder for this one")
    return done


def _append(log: Path, row: dict[str, Any]) -> None:
    with disk_errors(log.parent), open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
