"""Frames that break a scene's rules are drawn again, whole, as further attempts at the same index.

Attempt k of frame i under a seed is frame i under a seed that is derived from (seed, k). So the attempt that
is kept is a pure function of (spec, seed, index), and a frame is the same alone, in any batch, on any worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imgsynth import seeding
from imgsynth.batch import I64
from imgsynth.errors import SceneError
from imgsynth.frame import FrameBatch, Instances
from imgsynth.layoutspec import RulesSpec
from imgsynth.splice import joined, taken


def broken(rules: RulesSpec, instances: Instances, n: int) -> dict[str, NDArray[np.bool_]]:
    """(n,) for each rule, by name: which of n frames break it."""
    mine = instances.class_id > 0
    if rules.groups:
        mine &= np.isin(instances.group.astype(str), rules.groups)
    inside = mine & (instances.area_amodal > 0)
    bad = {}
    if rules.min_visible_fraction is not None:
        bad["min_visible_fraction"] = inside & (instances.visible_fraction < rules.min_visible_fraction)
    if rules.min_area_px is not None:
        bad["min_area_px"] = inside & (instances.area_visible < rules.min_area_px)
    if rules.max_truncated is not None:
        bad["max_truncated"] = mine & (instances.truncated_fraction > rules.max_truncated)
    out = {name: np.bincount(instances.frame[rows], minlength=n) > 0 for name, rows in bad.items()}
    if rules.count_visible is not None:
        seen = np.bincount(instances.frame[mine & (instances.area_visible > 0)], minlength=n)
        out["count_visible"] = (seen < rules.count_visible[0]) | (seen > rules.count_visible[1])
    return out


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed under which the attempt draws all its numbers; the first draws under the seed itself."""
    return seed if attempt == 0 else seeding.derive(seed, f"attempt {attempt}")


def obeyed(rules: RulesSpec, draw: Callable[[int, I64], FrameBatch], seed: int, indices: I64) -> FrameBatch:
    """Frames that keep the rules, or the last attempts at them; `draw(seed, indices)` makes frames.

    Raises:
        SceneError: `on_failure: error`, and a frame breaks a rule in its last attempt.
    """
    todo, parts, origin = np.arange(len(indices)), [], []
    for attempt in range(rules.tries):
        batch = draw(attempt_seed(seed, attempt), indices[todo])
        broke = broken(rules, batch.instances, len(batch))
        bad = np.any(list(broke.values()), axis=0)
        last = attempt == rules.tries - 1
        if last and rules.on_failure == "error" and bad.any():
            k = int(np.argmax(bad))
            names = " and ".join(name for name, frames in broke.items() if frames[k])
            raise SceneError(
                f"frame {batch.indices[k]} breaks {names} in each of {rules.tries} tries", path="rules"
            )
        keep = np.flatnonzero(~bad | last)
        if len(keep):
            whole = len(keep) == len(batch)
            part = replace(
                batch, attempt=np.full(len(batch), attempt, np.int32), obeys=np.asarray(~bad, bool)
            )
            parts.append(part if whole else taken(part, keep))
            origin.append(todo[keep])
        todo = np.delete(todo, keep)
        if len(todo) == 0:
            break
    if len(parts) == 1:
        return parts[0]
    return taken(joined(parts), np.argsort(np.concatenate(origin)))
