"""Renders painted over by a large pipeline at bounded strength: labels stay, frames that drifted do not.

Each frame of a rendered dataset is given to an img2img pipeline, with a ControlNet that is shown its exact
depth, normals, edges or classes where one is loaded (an adapter draws from noise, by its guide alone). What
comes back is checked against the labels (`imgsynth.diffusion.drift`); frames that do not agree are dropped
and counted.

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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset import codec, writer
from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.dataset.manifest import MANIFEST, Header, dumps
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion import conditions
from imgsynth.diffusion.drift import REASONS, Drift, DriftSettings, Segment, drift
from imgsynth.diffusion.inherit import inherited_frames, inherited_outputs
from imgsynth.diffusion.pipelines import Drawing, TextPipeline
from imgsynth.diffusion.prompted import versions
from imgsynth.errors import DataError, ImgsynthError

Progress = Callable[[int, int], None]  # frames done, frames in all
Calibrator = Callable[[Any], Any]  # raw confidences → chances

PART = 16  # frames


@dataclass(frozen=True)
class Painting:
    """What is asked of the pipeline for every frame.

    `prompt` may hold {classes}: the names of the frame's visible classes. `control` is the guide of a
    ControlNet or adapter (`imgsynth.diffusion.conditions`), `colours` those of the classes for "semantic".
    `side` is the shorter side at which the pipeline works (default: what it was trained for); pictures come
    back at the render's size, so labels are not resampled.

    Raises:
        ImgsynthError: on construction, for an unknown control.
    """

    prompt: str
    negative: str = ""
    control: str | None = None
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    side: int | None = None

    def __post_init__(self) -> None:
        if self.control is not None and self.control not in conditions.CONTROLS:
            raise ImgsynthError(f"--control: expected {', '.join(conditions.CONTROLS)}, got {self.control!r}")


def guide_pictures(dataset: Dataset, positions: Sequence[int], painting: Painting) -> U8:
    """The guides (n, H, W, 3) of frames at `positions`.

    Raises:
        DataError: the dataset lacks a map that the control is made from.
    """
    control, kinds = painting.control, dataset.header.kinds
    for need in conditions.NEEDS[control or "edges"]:
        if need not in kinds:
            raise DataError(
                f"{dataset.root}: has no {need}, which --control {control} is made from; "
                "add it to the scene's outputs"
            )

    def maps(read: Callable[[int], Any]) -> Any:
        return np.stack([read(p) for p in positions])

    if control == "depth":
        return conditions.depth_picture(maps(dataset.depth))
    if control == "normal":
        return conditions.normal_picture(maps(dataset.normal))
    if control == "canny":
        return conditions.canny_picture(maps(dataset.image))
    if control == "semantic":
        colours = conditions.class_colours(dataset.classes, painting.colours)
        return conditions.semantic_picture(maps(dataset.semantic_mask), colours)
    depth = maps(dataset.depth) if "depth" in kinds else None
    normal = maps(dataset.normal) if "normal" in kinds else None
    return conditions.edge_picture(maps(dataset.instance_mask), depth, normal)


def paint(
    pipeline: TextPipeline,
    dataset: Dataset,
    positions: Sequence[int],
    painting: Painting,
    *,
    seed: int,
    drawing: Drawing | None = None,
) -> U8:
    """Pictures (n, H, W, 3) painted over frames at `positions`, at the dataset's size."""
    size = _working_size(dataset.size, painting.side or pipeline.side, pipeline.multiple)
    start = np.stack([_three(dataset.image(p)) for p in positions])
    controls = guide_pictures(dataset, positions, painting) if pipeline.extra else None
    # A guide of lines and flat colours keeps its values when it is enlarged; a render is smoothed.
    drawn = pipeline.draw(
        [_prompt(dataset, p, painting.prompt) for p in positions],
        seed=seed,
        indices=[dataset.header.start + p for p in positions],
        size=size,
        settings=drawing,
        negative=painting.negative,
        images=_scaled(start, size) if pipeline.task == "image" else None,
        controls=None
        if controls is None
        else _scaled(controls, size, nearest=painting.control == "semantic"),
    )
    return _scaled(drawn, dataset.size)


def repaint_dataset(
    pipeline: TextPipeline,
    source: str | Path,
    out: str | Path,
    painting: Painting,
    *,
    seed: int = 0,
    drawing: Drawing | None = None,
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
        pipeline: of the task "image", or guided from noise.
        source: the dataset's folder.
        out: a new folder; pictures wait beside it, in OUT.painting.
        painting: prompt and guide.
        seed: frame i draws from (seed, i).
        drawing: steps, guidance, strength.
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
    drawing, limits = drawing or Drawing(), limits or DriftSettings()
    if (pipeline.extra != "") != (painting.control is not None):
        raise ImgsynthError("a guide (--control) needs a ControlNet or an adapter, and they need a guide")
    guide_pictures(dataset, [0], painting)
    made = _recipe(pipeline, dataset, painting, drawing, limits, segmenter)
    if resume and (root / MANIFEST).is_file():
        return _summary(root)
    waiting = _begin(root, made, seed, resume)
    done = [_read_record(waiting, p) for p in range(len(dataset))]
    for first in range(0, len(dataset), PART):
        todo = [p for p in range(first, min(first + PART, len(dataset))) if done[p] is None]
        if todo:
            images = paint(pipeline, dataset, todo, painting, seed=seed, drawing=drawing)
            _keep(waiting, dataset, todo, images, limits, segment)
        if progress is not None:
            progress(min(first + PART, len(dataset)), len(dataset))
    records = [_read_record(waiting, p) or {} for p in range(len(dataset))]
    kept = [p for p, record in enumerate(records) if not record["reason"]]
    counts = {reason: sum(r["reason"] == reason for r in records) for reason in REASONS}
    if not kept:
        why = ", ".join(f"{n} by {reason}" for reason, n in counts.items())
        shutil.rmtree(waiting, ignore_errors=True)
        raise ImgsynthError(f"{source}: every frame drifted from its labels ({why}); lower the strength")
    header = _header(pipeline, dataset, made, counts, len(kept), seed, device)
    for part in writer.create(root, header, resume):
        positions = kept[part.start : part.start + part.count]
        images = np.stack([_picture(waiting, p, dataset.size) for p in positions])
        indices = np.arange(part.start, part.start + part.count)
        sure = _confidences(records, positions, calibrate)
        writer.write_part(root, header, part, inherited_frames(dataset, positions, images, indices, sure))
    writer.commit(root, header)
    shutil.rmtree(waiting, ignore_errors=True)
    return _summary(root)


def _prompt(dataset: Dataset, position: int, prompt: str) -> str:
    if "{classes}" not in prompt:
        return prompt
    rows = dataset.instances_of(position)
    seen = rows.filter(np.asarray(rows.column("area_visible").to_numpy() > 0))
    names = dict.fromkeys(name for name in seen.column("class").to_pylist() if name is not None)
    return prompt.replace("{classes}", " and ".join(names))


def _working_size(size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """Multiples of `multiple`, in nearly the render's proportions, the shorter about `side`."""
    scale = side / min(size)
    height, width = (max(multiple, round(s * scale / multiple) * multiple) for s in size)
    return height, width


def _three(image: U8) -> U8:
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _scaled(images: U8, size: tuple[int, int], nearest: bool = False) -> U8:
    if images.shape[1:3] == size:
        return images
    shrinks = size[0] <= images.shape[1] and size[1] <= images.shape[2]
    how = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    out = [cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=how) for image in images]
    return np.stack(out).astype(np.uint8)


def _recipe(
    pipeline: TextPipeline,
    dataset: Dataset,
    painting: Painting,
    drawing: Drawing,
    limits: DriftSettings,
    segmenter: str,
) -> dict[str, Any]:
    """What decides the pictures, as plain JSON values."""
    return {
        "pipeline": pipeline.sha256,
        "task": pipeline.task,
        "guide": pipeline.extra,
        "scheduler": type(pipeline.pipe.scheduler).__name__,
        "precision": str(pipeline.net.dtype).removeprefix("torch."),
        "painting": {**asdict(painting), "colours": {k: list(v) for k, v in painting.colours.items()}},
        "drawing": asdict(drawing),
        "labels": {"kind": "layout", "drift": asdict(limits), "segmenter": segmenter},
        "render": dataset.manifest.digest(),
    }


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
    renders = np.stack([_three(dataset.image(p)) for p in positions])
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
    pipeline: TextPipeline,
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
        {"kind": "model", "name": pipeline.name, "sha256": pipeline.sha256},
    )
    return Header(
        name=old.name, spec=spec, spec_digest=hashlib.sha256(dumps(spec).encode()).hexdigest(), seed=seed,
        start=0, count=count, part_size=PART, size=old.size, channels=3, classes=old.classes, outputs=outputs,
        sampler=old.sampler, renderer="diffusion", device=device.partition(":")[0], versions=versions(),
        licences=old.licences, generation=old.generation + 1, keypoints=old.keypoints, labels=labels,
        parents=parents,
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
