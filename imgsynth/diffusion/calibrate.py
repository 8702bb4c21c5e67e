"""`imgsynth diffuse calibrate`: what the confidences of a model's masks are worth, measured and kept with it.

A segmenter, the judge, learns from renders and never sees the model. The model draws; where the judge finds
in the pictures what the masks say, objects are right (`imgsynth.diffusion.fidelity`); the map from raw
confidence to that chance goes into the model's record, and `sample` and `refine` use it from then on.

A model that samples its masks has a raw confidence of its own, the margin of its bits. One that follows a
layout has none: a second judge, of other renders, gives it (`MODEL/judge`; the agreement that `refine` drops
frames by), and the first says how often that is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import I64, U8
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion.drift import DriftSettings, drift
from imgsynth.diffusion.fidelity import LEAST_OBJECTS, fidelity, labels_of
from imgsynth.diffusion.mechanism import Labelled
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.painters import LayoutPainter
from imgsynth.diffusion.sample import Sampling, sample
from imgsynth.diffusion.sampled import defaults_of, mechanism_of, on_device, settings_of
from imgsynth.diffusion.shipped import shipped_models
from imgsynth.diffusion.store import amend
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.learn.semantic import Segmenter, SegmenterConfig, mean_iou, train_segmenter
from imgsynth.learn.store import WEIGHTS

JUDGE = "judge"  # folder inside the model's
HELD = 10  # one render in so many is held out of the judges' training
SMALL = 16  # pixels: objects below are not judged, where a segmenter judges
CHUNK = 256  # pictures drawn between two words of progress

Progress = Callable[[str, int, int], None]  # (what is done, steps done, steps in all)


def calibrate_model(
    folder: Path,
    renders: Path,
    *,
    n: int = 2000,
    judge: SegmenterConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a model's masks against a judge of `renders` and keep the calibration in the model's record.

    Args:
        folder: the model, one with mask bits or one that follows a layout.
        renders: a rendered dataset of the same classes and size, best one that the model did not learn from.
        n: pictures to draw.
        judge: how the judges are trained.
        seed: of judges and draws.
        device: where the model draws.
        progress: called with what is being done, steps done and steps in all.

    Returns:
        What was measured, as plain JSON values, and under `judge_miou` the judge's own mean IoU on a tenth of
        the renders that it did not learn from: what can be reached.

    Raises:
        ImgsynthError: a model without masks, renders that do not fit, too few objects.
    """
    if not folder.is_dir() and str(folder) in shipped_models():
        raise ImgsynthError(
            f"{folder}: the model that ships is not written to; copy {shipped_models()[str(folder)]} and "
            "calibrate the copy"
        )
    model, dataset = on_device(Diffuser.load(folder), device), Dataset(renders)
    if not model.config.mask_bits and not model.config.layout_channels:
        raise ImgsynthError(f"{folder}: draws no masks and follows no layout; its labels are of whole images")
    if dataset.size != model.size or dataset.classes != model.classes:
        (h, w), (mh, mw) = dataset.size, model.size
        raise DataError(
            f"{renders}: {h}×{w} pixels, classes {', '.join(dataset.classes)}; the model draws {mh}×{mw}, "
            f"{', '.join(model.classes)}"
        )
    if dataset.header.generation:
        raise DataError(f"{renders}: a model drew these images; a judge learns from renders, or real images")
    if len(dataset) < 10 * HELD:
        raise DataError(f"{renders}: {len(dataset)} renders are too few for a judge; render 2,000 or more")
    config = judge or SegmenterConfig()
    held = np.arange(len(dataset)) % HELD == HELD - 1
    learnt = np.flatnonzero(~held)
    bar = progress or (lambda what, done, total: None)
    if model.config.mask_bits:
        first = _judge(dataset, learnt, config, seed, "judge", bar)
        labels, pictures = _drawn(model, n, seed, bar)
    else:
        first = _judge(dataset, learnt[::2], config, seed, "judge", bar)
        second = _judge(dataset, learnt[1::2], config, seed + 1, "second judge", bar)
        labels, pictures = _painted(model, folder.name, dataset, np.flatnonzero(held)[:n], second, seed, bar)
    result = fidelity(labels, first.predict(pictures), model.classes)
    if result.map is None:
        raise ImgsynthError(
            f"{folder}: {np.isfinite(labels.confidence).sum()} objects were judged, a calibration needs "
            f"{LEAST_OBJECTS}; raise -n, or give more renders"
        )
    truth = _semantic(dataset, np.flatnonzero(held))
    reached = mean_iou(
        first.predict(dataset.images(np.flatnonzero(held).tolist())), truth, len(model.classes)
    )
    told = {
        "frames": len(pictures), **result.to_json(), "judge_miou": float(np.nanmean(reached)),
        "renders": dataset.manifest.sha256, "judge_steps": config.steps, "seed": seed,
    }  # fmt: skip
    kept = {"x": list(result.map.x), "y": list(result.map.y), **told}
    if model.config.layout_channels:
        second.save(folder / JUDGE)
        kept["judge"] = judge_digest(folder / JUDGE)
    amend(folder, calibration=kept)
    return told


def judge_digest(folder: Path) -> str:
    """SHA-256 of a judge's weight file."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _judge(
    dataset: Dataset, rows: I64, config: SegmenterConfig, seed: int, what: str, bar: Progress
) -> Segmenter:
    return train_segmenter(
        dataset.images(rows.tolist()), _semantic(dataset, rows), dataset.classes,
        config, seed=seed, digest=dataset.manifest.sha256,
        progress=lambda done, total, loss: bar(what, done, total),
    )  # fmt: skip


def _semantic(dataset: Dataset, rows: I64) -> U8:
    return np.stack([dataset.semantic_mask(int(i)) for i in rows]).astype(np.uint8)


def _drawn(model: Diffuser, n: int, seed: int, bar: Progress) -> tuple[Labelled, U8]:
    """Labels with raw confidences, and pictures, of n samples."""
    record = {k: v for k, v in model.record.items() if k != "calibration"}
    mechanism = mechanism_of(replace(model, record=record))
    classes = np.arange(n) % model.null if record.get("data", {}).get("classed") else np.full(n, model.null)
    settings = settings_of(defaults_of(model))
    parts: list[Labelled] = []
    pictures: list[U8] = []
    for first in range(0, n, CHUNK):
        at = np.arange(first, min(first + CHUNK, n))
        drawn = sample(model, classes[at], seed=seed, indices=at, settings=settings, device=model.device.type)
        parts.append(mechanism(drawn))
        pictures.append(drawn.images)
        bar("samples", first + len(at), n)
    return _joined(parts), np.concatenate(pictures)


def _painted(
    model: Diffuser, name: str, dataset: Dataset, rows: I64, second: Segmenter, seed: int, bar: Progress
) -> tuple[Labelled, U8]:
    """The renders' labels with the agreement that `refine` goes by, and pictures painted into them."""
    painter = LayoutPainter(model, name, Sampling(), device=model.device.type)
    painter.check(dataset)
    found = labels_of(dataset)
    pictures: list[U8] = []
    sure: dict[tuple[int, int], float] = {}
    limits = DriftSettings(min_area=SMALL)
    for first in range(0, len(rows), painter.group):
        at = rows[first : first + painter.group].tolist()
        drawn = painter.paint(dataset, at, seed)
        judged = drift(
            dataset.images(at), drawn, found.instance[at], limits,
            semantic=_semantic(dataset, np.array(at)).astype(np.int32),
            segment=lambda images: second.predict(images).astype(np.int32),
        )  # fmt: skip
        for f, i, c in zip(judged.frame, judged.id, judged.confidence, strict=True):
            sure[at[int(f)], int(i)] = float(c)
        pictures.append(drawn)
        bar("pictures", first + len(at), len(rows))
    raw = [sure.get((int(f), int(i)), np.nan) for f, i in zip(found.frame, found.id, strict=True)]
    return replace(found, confidence=np.array(raw, np.float64)).taken(rows), np.concatenate(pictures)


def _joined(parts: list[Labelled]) -> Labelled:
    """Labels of images that follow one another."""
    counts = np.cumsum([0, *(len(p.instance) for p in parts)])
    frames = [p.frame + np.int32(k) for p, k in zip(parts, counts, strict=False)]
    names = ("instance", "id", "class_id", "confidence")
    whole = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    return Labelled(parts[0].grounding, frame=np.concatenate(frames), **whole)
