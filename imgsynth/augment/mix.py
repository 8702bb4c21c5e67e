"""The mixed training set: real and generated images with weights, and the record of what is in it.

`mixed.npz` holds `images`, `labels`, `classes`, `weights` (how often a row is to be drawn, mean 1),
`source` (`real` or the generator's name) and, where the real images have them, `groups`: DATA of `imgsynth
learn`. `mixed.json` is its record.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.augment.arms import Setting, chances
from imgsynth.augment.sets import REAL
from imgsynth.batch import I64
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.gate.guard import Mix, Source, check_mix
from imgsynth.version import __version__

MIXED, RECORD, OWN = "mixed.npz", "mixed.json", "real.npz"


@dataclass(frozen=True)
class Generated:
    """Generated images, the name of the source of each row (n,), and the records of the sources."""

    data: LabelledImages
    source: NDArray[np.str_]
    records: Mapping[str, Mapping[str, Any]]


def write_real(train: LabelledImages, path: Path) -> None:
    """Write the real training images, as they were split off and cut, as DATA: a generator may be trained on
    them and on nothing else.
    """
    _write(path, _arrays(train))


def guarded(train: LabelledImages, made: Generated, setting: Setting, floor: float) -> Mix:
    """What the mix amounts to, by what training draws of it (`gate.guard`).

    Raises:
        SelfConsumption: too few real or rendered images beside samples of models, or samples of a model that
            learned from samples.
    """
    _, source, weights = _rows(train, made, setting)
    generation = {REAL: 0} | {name: int(r["generation"]) for name, r in made.records.items()}
    parts = [
        Source(name, int((source == name).sum()), of, float(weights[source == name].sum()))
        for name, of in generation.items()
    ]
    return check_mix(parts, floor=floor, what="the mixed set")


def write_mixed(
    folder: Path, train: LabelledImages, made: Generated | None, setting: Setting, floor: float
) -> dict[str, Any]:
    """Write mixed.npz, then mixed.json; returns the record."""
    arrays = _arrays(train)
    labels, source, weights = _rows(train, made, setting)
    if made is not None:
        arrays["images"] = np.concatenate([train.images, made.data.images])
        if train.groups is not None:
            tagged = [f"generated/{i}" for i in range(len(made.data))]
            arrays["groups"] = np.array([f"{REAL}/{g}" for g in train.groups.tolist()] + tagged)
    digest = _write(folder / MIXED, {**arrays, "labels": labels, "weights": weights, "source": source})
    records = {} if made is None else {name: dict(r) for name, r in made.records.items()}
    record = {
        "imgsynth": __version__,
        "file": MIXED,
        "sha256": digest,
        "generation": max([0, *(int(r["generation"]) for r in records.values())]),
        "parents": [train.digest(), *(p for r in records.values() for p in r["parents"])],
        "floor": floor,
        "mix": None if made is None else guarded(train, made, setting, floor).to_json(),
        "training": setting.to_json(),
        "sources": records,
        "per_class": per_class(train.classes, labels, source == REAL, weights),
    }
    _text(folder / RECORD, record)
    return record


def _rows(
    train: LabelledImages, made: Generated | None, setting: Setting
) -> tuple[I64, NDArray[np.str_], NDArray[np.float64]]:
    """Label, source and weight of each row of the mixed set."""
    labels, source = train.labels, np.full(len(train), REAL)
    if made is not None:
        labels = np.concatenate([labels, made.data.labels])
        source = np.concatenate([source, made.source])
    return labels, source, chances(labels, source == REAL, setting)


def per_class(
    classes: Sequence[str], labels: I64, real: NDArray[np.bool_], weights: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Real and generated images of each class, and the share of real ones among what training draws of it."""
    out = []
    for c, name in enumerate(classes):
        own, made = (labels == c) & real, (labels == c) & ~real
        drawn = weights[own].sum() + weights[made].sum()
        share = float(weights[own].sum() / drawn) if drawn > 0 else None
        out.append({"class": name, "real": int(own.sum()), "generated": int(made.sum()), "real_share": share})
    return out


def _arrays(data: LabelledImages) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "images": data.images,
        "labels": data.labels,
        "classes": np.array(data.classes),
    }
    if data.groups is not None:
        arrays["groups"] = np.array([str(g) for g in data.groups.tolist()])
    return arrays


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """An .npz file, whole or not at all (zip entries carry no clock); its SHA-256."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getvalue()
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    return hashlib.sha256(data).hexdigest()


def _text(path: Path, record: Mapping[str, Any]) -> None:
    with disk_errors(path.parent):
        replace(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
