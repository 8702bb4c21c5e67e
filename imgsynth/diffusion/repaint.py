"""Renders painted over at bounded strength: labels stay, frames that drifted do not.

Each frame of a rendered dataset is given to a painter (`imgsynth.diffusion.painters`): an img2img pipeline,
with a ControlNet that is shown its exact depth, normals, edges or classes where one is loaded (an adapter
draws from noise, by its guide alone), or a small model that follows its layout. What comes back is checked
against the labels (`imgsynth.diffusion.drift`); frames that do not agree are dropped and counted.

Pictures wait in OUT.painting, one file and one record each, until all are drawn and it is known how many
stay; so an interrupted run goes on where it stopped. Kept frames are numbered anew from 0; `parent.frame`
names the render that each came from.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset import codec, writer
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.dataset.manifest import MANIFEST, Header, dumps
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion.drift import REASONS, Drift, DriftSettings, Segment, drift
from imgsynth.diffusion.inherit import inherited_frames, inherited_outputs
from imgsynth.diffusion.painters import Painter, three
from imgsynth.diffusion.prompted import versions
from imgsynth.errors import ImgsynthError

Progress = Callable[[int, int], None]  # frames done, frames in all
Calibrator = Callable[[Any], Any]  # raw confidences → chances

PART = 16  # frames


def repaint_dataset(
    painter: Painter,
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    limits: DriftSettings | None = None,
    segment: Segment | None = None,
    segmenter: str = "",
    calibrate: Calibrator | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Paint over a rendered dataset into another one; returns what was made, as plain JSON values.

    Args:
        painter: what draws the pictures.
        source: the dataset's folder.
        out: a new folder; pictures wait beside it, in OUT.painting.
        seed: frame i draws from (seed, i).
        limits: of drift.
        segment, segmenter: an independent segmenter in place of the cut by colour, and its name or digest.
        calibrate: from raw agreement of objects to the chance that their label still holds.
        device: where it is drawn, for the record.
        resume: go on with an interrupted run of the same arguments.
        progress: called with (frames drawn, frames in all).

    Raises:
        ImgsynthError: anything missing or out of range, a folder that is not free, no frame that stays.
    """
    dataset, root = Dataset(source), Path(out)
    limits = limits or DriftSettings()
    painter.check(dataset)
    made = {
        **painter.recipe(),
        "labels": {"kind": "layout", "drift": asdict(limits), "segmenter": segmenter},
        "render": dataset.manifest.digest(),
    }
    if resume and (root / MANIFEST).is_file():
        return _summary(root)
    waiting = _begin(root, made, seed, resume)
    done = [_read_record(waiting, p) for p in range(len(dataset))]
    for first in range(0, len(dataset), painter.group):
        todo = [p for p in range(first, min(first + painter.group, len(dataset))) if done[p] is None]
        if todo:
            images = painter.paint(dataset, todo, seed)
            _keep(waiting, dataset, todo, images, limits, segment)
        if progress is not None:
            progress(min(first + painter.group, len(dataset)), len(dataset))
    records = [_read_record(waiting, p) or {} for p in range(len(dataset))]
    kept = [p for p, record in enumerate(records) if not record["reason"]]
    counts = {reason: sum(r["reason"] == reason for r in records) for reason in REASONS}
    if not kept:
        why = ", ".join(f"{n} by {reason}" for reason, n in counts.items())
        shutil.rmtree(waiting, ignore_errors=True)
        raise ImgsynthError(f"{source}: every frame drifted from its labels ({why}); lower the strength")
    header = _header(painter, dataset, made, counts, len(kept), seed, device)
    for part in writer.create(root, header, resume):
        positions = kept[part.start : part.start + part.count]
        images = np.stack([_picture(waiting, p, dataset.size) for p in positions])
        indices = np.arange(part.start, part.start + part.count)
        sure = _confidences(records, positions, calibrate)
        writer.write_part(root, header, part, inherited_frames(dataset, positions, images, indices, sure))
    writer.commit(root, header)
    shutil.rmtree(waiting, ignore_errors=True)
    return _summary(root)


def _begin(root: Path, made: Mapping[str, Any], seed: int, resume: bool) -> Path:
    """The folder in which pictures wait; refuses one of another run, and an OUT that is not free."""
    waiting = root.with_name(f"{root.name}.painting")
    job = dumps({**made, "seed": seed}).encode()
    with disk_errors(waiting):
        begun = waiting / "job.json"
        if begun.is_file():
            if not resume:
                raise ImgsynthError(f"{waiting}: an unfinished run; continue it with --resume or remove it")
            if begun.read_bytes() != job:
                raise ImgsynthError(f"{waiting}: cannot resume: it was begun with other arguments")
        elif root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ImgsynthError(f"{root}: not empty; choose another folder or remove it")
        waiting.mkdir(parents=True, exist_ok=True)
        replace(begun, job)
    return waiting


def _keep(
    waiting: Path,
    dataset: Dataset,
    positions: Sequence[int],
    images: U8,
    limits: DriftSettings,
    segment: Segment | None,
) -> None:
    """Judge pictures and put them by, each with its record, which comes last."""
    renders = np.stack([three(dataset.image(p)) for p in positions])
    ids = np.stack([dataset.instance_mask(p) for p in positions])
    semantic = None if segment is None else np.stack([dataset.semantic_mask(p) for p in positions])
    found = drift(renders, images, ids, limits, semantic=semantic, segment=segment)
    reasons = found.reasons(len(positions), limits)
    with disk_errors(waiting):
        for k, p in enumerate(positions):
            replace(
                waiting / f"{p:06d}.png", codec.encode_image(np.ascontiguousarray(images[k])), durable=False
            )
            record = {"reason": str(reasons[k]), "objects": _objects(found, k)}
            replace(waiting / f"{p:06d}.json", dumps(record).encode(), durable=False)


def _objects(found: Drift, frame: int) -> list[list[Any]]:
    """[instance id, agreement of edges, of masks] of a frame's objects; null where they cannot be judged."""
    rows = np.flatnonzero(found.frame == frame)
    values = [(int(found.id[r]), float(found.edges[r]), float(found.masks[r])) for r in rows]
    return [[i, *(None if math.isnan(v) else v for v in scores)] for i, *scores in values]


def _read_record(waiting: Path, position: int) -> dict[str, Any] | None:
    path = waiting / f"{position:06d}.json"
    try:
        record = json.loads(path.read_bytes())
        return record if {"reason", "objects"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None  # not drawn yet, or cut off by a power failure: it is drawn again


def _picture(waiting: Path, position: int, size: tuple[int, int]) -> U8:
    path = waiting / f"{position:06d}.png"
    return codec.decode_image(path.read_bytes(), size, 3, path)


def _confidences(
    records: Sequence[Mapping[str, Any]], positions: Sequence[int], calibrate: Calibrator | None
) -> dict[tuple[int, int], float]:
    """(position, instance id) → the lower of both agreements, calibrated; judged objects only."""
    raw = {
        (p, ident): min(s for s in scores if s is not None)
        for p in positions
        for ident, *scores in records[p]["objects"]
        if any(s is not None for s in scores)
    }
    if calibrate is None or not raw:
        return raw
    chances = np.clip(calibrate(np.array(list(raw.values()))), 0, 1)
    return dict(zip(raw, chances.tolist(), strict=True))


def _header(
    painter: Painter,
    dataset: Dataset,
    made: Mapping[str, Any],
    dropped: Mapping[str, int],
    count: int,
    seed: int,
    device: str,
) -> Header:
    old = dataset.header
    outputs = inherited_outputs(dataset)
    spec = {"diffusion": {**made, "drawn": len(dataset), "dropped": dict(dropped)}}
    gone = set(old.outputs) - set(outputs)
    labels = {
        name: {**text, "grounding": "inherited"} for name, text in old.labels.items() if name not in gone
    }
    parents = (
        {"kind": "dataset", "name": old.name, "sha256": dataset.manifest.digest()},
        {"kind": "model", "name": painter.name, "sha256": painter.sha256},
    )
    return Header(
        name=old.name, spec=spec, spec_digest=hashlib.sha256(dumps(spec).encode()).hexdigest(), seed=seed,
        start=0, count=count, part_size=PART, size=old.size, channels=3, classes=old.classes, outputs=outputs,
        sampler=old.sampler, renderer="diffusion", device=device.partition(":")[0], versions=versions(),
        licences=old.licences, generation=1 + max(old.generation, painter.generation),
        keypoints=old.keypoints, labels=labels, parents=parents,
    )  # fmt: skip


def _summary(root: Path) -> dict[str, Any]:
    dataset = Dataset(root)
    made = dataset.header.spec["diffusion"]
    known = [c for c in dataset.instances.column("confidence").to_pylist() if c is not None]
    return {
        "dataset": str(root), "frames": len(dataset), "drawn": made["drawn"], "dropped": made["dropped"],
        "seed": dataset.header.seed, "generation": dataset.header.generation, "grounding": "inherited",
        "mean_confidence": math.fsum(known) / len(known) if known else None,
    }  # fmt: skip
