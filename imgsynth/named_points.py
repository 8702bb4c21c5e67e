"""Which of a shape's keypoints a scene labels, and which a class has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgsynth.batch import Meshes, MeshKeypoints
from imgsynth.distributions.expression import Expression
from imgsynth.errors import SceneError
from imgsynth.plan import Plan, Reader
from imgsynth.scene import ObjectSpec, SceneSpec
from imgsynth.shapes.build import build

Labelled = tuple[Meshes, tuple[str, ...]]  # meshes, and the names of those of their keypoints to label


def labelled_keypoints(obj: ObjectSpec, meshes: Meshes, path: str) -> tuple[str, ...]:
    """The names of those of the shape's keypoints that the object asks for; of an asset's, those that it has.

    Raises:
        SceneError: one that the shape lacks, or all of those of assets, which may differ.
    """
    if obj.shape.assets is not None:
        if obj.keypoints == "all":
            raise SceneError("expected names: assets may have different keypoints", path=f"{path}.keypoints")
        return tuple(name for name in obj.keypoints if name in meshes.keypoints)
    if obj.keypoints == "all":
        return tuple(meshes.keypoints)
    if unknown := [name for name in obj.keypoints if name not in meshes.keypoints]:
        known = ", ".join(meshes.keypoints) or "none"
        raise SceneError(
            f"the shape has no keypoint {unknown[0]!r} (it has {known})", path=f"{path}.keypoints"
        )
    return obj.keypoints


def pooled_keypoints(spec: SceneSpec, parts: Sequence[Labelled]) -> MeshKeypoints | None:
    """The keypoints to label of all meshes end to end; None where the scene asks for none."""
    if not any(obj.keypoints for obj in spec.objects.values()):
        return None
    name: list[str] = []
    points, counts = [np.zeros((0, 3), np.float32)], [0]
    for meshes, names in parts:
        m, given = len(meshes), [np.asarray(meshes.keypoints[k]) for k in names]
        name += names * m
        counts += [len(given)] * m
        points += [np.stack([np.broadcast_to(p, (m, 3)) for p in given], 1).reshape(-1, 3)] if given else []
    return MeshKeypoints(
        np.array(name, object),
        np.concatenate(points).astype(np.float32, copy=False),
        np.cumsum(counts).astype(np.int64),
    )


def class_keypoints(plan: Plan, folder: Path | None) -> dict[str, tuple[str, ...]]:
    """Class → names of the keypoints that its objects have, in order: a function of the scene alone.

    A class that several groups may show has the names of all of them. A group whose class is worked out by
    more than a plain reference counts for every class.
    """
    out: dict[str, tuple[str, ...]] = {}
    for name, obj in plan.spec.objects.items():
        if not obj.labelled or not obj.keypoints or not plan.slots[name]:
            continue
        names = obj.keypoints if obj.keypoints != "all" else _all_names(plan, name, obj, folder)
        for c in _possible_classes(plan, f"objects.{name}.class"):
            have = out.get(c, ())
            out[c] = have + tuple(n for n in names if n not in have)
    return {c: out[c] for c in plan.spec.classes if c in out}


def _all_names(plan: Plan, name: str, obj: ObjectSpec, folder: Path | None) -> tuple[str, ...]:
    """Of the shape in the first slot: its parameters move keypoints, they make none."""
    path, zero = f"objects.{name}", np.zeros(1, np.intp)
    read = Reader(plan.sample(0, [0]), path, zero, zero)
    built = build(obj.shape, read.at("shape"), 1, folder, path)
    return labelled_keypoints(obj, built[0].meshes, path)


def _possible_classes(plan: Plan, path: str) -> tuple[str, ...]:
    if path not in plan.leaves or any(template == path for template, _ in plan.overrides):
        return plan.spec.classes  # read off the pose, named by the asset, or set for single objects
    law = plan.leaves[path].distribution
    while isinstance(law, Expression):
        scope = path.rpartition(".")[0]
        where = [f"{scope}.{law.reference}", law.reference] if law.reference else []
        found = [plan.leaves[w].distribution for w in where if w in plan.leaves]
        if not found:
            return plan.spec.classes
        law = found[0]
    return tuple(dict.fromkeys(str(c) for c in law.support()))
