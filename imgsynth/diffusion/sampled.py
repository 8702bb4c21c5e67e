"""`imgsynth diffuse sample`: from a model's name to a dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgsynth.diffusion.guidance import Annealing, Guidance
from imgsynth.diffusion.joint import MaskCoding
from imgsynth.diffusion.mechanism import Calibrator, Condition, Joint, Mechanism
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.sample import Sampling
from imgsynth.diffusion.shipped import model_folder
from imgsynth.diffusion.write import Asked, Origin, Progress, generate
from imgsynth.errors import ImgsynthError, ModelError
from imgsynth.learn.loop import resolve_precision

JudgeProgress = Callable[[int, int, float], None]
FINE: Mapping[str, Any] = {"steps": 16, "schedule": "karras", "high": 20.0}


@dataclass(frozen=True)
class GateRequest:
    """What the command asks of the quality gate."""

    real: str  # DATA that the model was trained on
    held_out: str | None = None  # DATA of the same kind that it never saw, for the memorization audit
    settings: Mapping[str, Any] = field(default_factory=dict)  # of `GateConfig`
    keep_share: float = 1.0  # of the samples with the greatest confidence


def sample_dataset(
    model: str | Path,
    out: str | Path,
    *,
    n: int | None = None,
    per_class: int | None = None,
    classes: Sequence[str] = (),
    sampling: Mapping[str, Any] | None = None,
    autoguide: bool = False,
    seed: int = 0,
    start: int = 0,
    gate: GateRequest | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
    judging: JudgeProgress | None = None,
) -> dict[str, Any]:
    """Sample a model into a dataset; returns what was made, as plain JSON values.

    Args:
        model: a model folder, or a shipped model's name.
        out: the dataset folder.
        n: how many frames in all, or else `per_class`.
        per_class: how many of each class.
        classes: names of the classes wanted (default: all), shown in turn.
        sampling: settings that differ from the model's (`defaults_of`): `steps`, `solver`, `schedule`,
            `high`, `low`, `guidance` (the weight), `interval` (two σ), `cads` (true, or its settings),
            `churn`.
        autoguide: guide by the model's earlier self in place of no class.
        seed: of every draw.
        start: first frame.
        gate: filter by it.
        device: cpu or cuda.
        resume: go on with an unfinished dataset of the same settings.
        progress: called with (frames done, frames in all).
        judging: called while a gate is learnt, with (steps done, steps in all, loss).

    Raises:
        ImgsynthError: anything missing, unknown or out of range, in one line.
    """
    folder = model_folder(model)
    loaded = on_device(Diffuser.load(folder), device)
    if loaded.config.layout_channels:
        raise ModelError(f"{folder}: follows layouts; `imgsynth diffuse refine` gives it some")
    asked, total = _asked(loaded, n, per_class, classes)
    settings = settings_of({**defaults_of(loaded), **(sampling or {})}, autoguide)
    guide = None
    if autoguide:
        if loaded.guide is None:
            raise ModelError(f"{folder}: has no earlier self to guide by (guide/); train it with one")
        guide = replace(loaded.guide, precision=loaded.precision)
    keep = None
    if gate is not None:
        keep = _filter(gate, loaded, seed, settings, guide, device, judging)
    root = generate(
        loaded, origin_of(loaded, folder.name), total, out, asked=asked, seed=seed, start=start,
        settings=settings, mechanism=mechanism_of(loaded), keep=keep, guide_model=guide, device=device,
        resume=resume, progress=progress,
    )  # fmt: skip
    return _summary(root)


def on_device(model: Diffuser, device: str) -> Diffuser:
    """The model on cpu or cuda, its precision settled.

    Raises:
        ImgsynthError: no such device here.
    """
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ImgsynthError(f"--device: expected cpu or cuda, got {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise ImgsynthError("--device cuda: torch finds no GPU here; leave it out to sample on the CPU")
    precision = model.precision
    if precision == "auto":
        precision = resolve_precision("auto", model.size) if device == "cpu" else "bf16"
    return replace(model.to(device), precision=precision)


def defaults_of(model: Diffuser) -> Mapping[str, Any]:
    """Sampler settings of a kind of model that differ from those of `Sampling`: outlines of several objects
    want more and finer steps than a single figure (docs/diffusion.md).
    """
    return FINE if model.config.mask_bits else {}


def settings_of(given: Mapping[str, Any], autoguide: bool = False) -> Sampling:
    """Sampler settings from the plain values that `sample_dataset` takes.

    Raises:
        ModelError: an unknown name or a value out of range.
    """
    from imgsynth.learn.settings import check_names

    plain = ("steps", "solver", "schedule", "high", "low", "churn")
    check_names("sampling", given, (*plain, "guidance", "interval", "cads"))
    values = {name: given[name] for name in plain if name in given}
    default = Sampling().guidance
    reference = "guide" if autoguide else "null"
    low, high = given.get("interval") or default.interval
    guidance = Guidance(float(given.get("guidance", default.weight)), (low, high), reference)
    if autoguide and guidance.weight == 1:
        raise ModelError("autoguidance with a weight of 1 does nothing; say --guidance 1.5, for example")
    cads = given.get("cads")
    annealing = Annealing(**cads) if isinstance(cads, Mapping) else Annealing() if cads else None
    return Sampling(**values, guidance=guidance, cads=annealing)


def mechanism_of(model: Diffuser) -> Mechanism:
    """How the labels of a model's samples come about: masks where it has bits, else its classes.

    Where the model's record has a `calibration` of its masks' confidences (`x` and `y`, the knots of a rising
    map), they go through it.

    Raises:
        ModelError: a calibration that is no such map.
    """
    if not model.config.mask_bits:
        return Condition()
    coding = MaskCoding.of(len(model.classes), model.config.mask_bits)
    calibrate = calibrator_of(model)
    if calibrate is None:
        return Joint(coding)
    return Joint(coding, calibrate=calibrate, calibration=dict(model.record["calibration"]))


def calibrator_of(model: Diffuser) -> Calibrator | None:
    """The map from raw confidences to chances in a model's record (`calibration`: knots `x` and `y` of a
    rising map); None where there is none.

    Raises:
        ModelError: a calibration that is no such map.
    """
    calibration = model.record.get("calibration")
    if calibration is None:
        return None
    try:
        x, y = (np.asarray(calibration[name], np.float64) for name in ("x", "y"))
        fine = x.ndim == 1 and x.shape == y.shape and len(x) > 0
        fine = fine and bool((np.diff(x) > 0).all() and (np.diff(y) >= 0).all() and y[0] >= 0 and y[-1] <= 1)
    except (TypeError, KeyError, ValueError):
        fine = False
    if not fine:
        raise ModelError("the model's record: calibration: expected x, rising, and y, rising from 0 to 1")
    return lambda c: np.interp(c, x, y)


def origin_of(model: Diffuser, name: str) -> Origin:
    """The lineage of a model's samples."""
    record = dict(model.record)
    told = {k: record[k] for k in ("data", "steps", "seed", "parents") if record.get(k)}
    return Origin(
        name=name,
        sha256=model.hash(),
        precision=model.precision,
        guide_sha256="" if model.guide is None else model.guide.hash(),
        generation=int(record.get("generation", 0)),
        record=told,
        licences={str(k): str(v) for k, v in dict(record.get("licences", {})).items()},
    )


def _asked(model: Diffuser, n: int | None, per_class: int | None, names: Sequence[str]) -> tuple[Asked, int]:
    """Which classes, and how many frames."""
    from imgsynth.learn.settings import check_names

    if (n is None) == (per_class is None):
        raise ImgsynthError("say how many: -n N frames in all, or --per-class K of each class")
    check_names("--class", names, list(model.classes))
    chosen = tuple(dict.fromkeys(model.classes.index(name) for name in names)) or tuple(range(model.null))
    if not model.record.get("data", {}).get("classed", model.config.mask_bits == 0):
        if names or per_class is not None:
            raise ImgsynthError("this model was trained without a class an image: say -n, and no classes")
        chosen = (model.null,)
    return Asked(chosen), int(n if n is not None else (per_class or 0) * len(chosen))


def _filter(
    request: GateRequest, model: Diffuser, seed: int, settings: Sampling, guide: Diffuser | None,
    device: str, progress: JudgeProgress | None,
) -> Any:  # fmt: skip
    from imgsynth.dataset.sources import load
    from imgsynth.diffusion.gated import Surest, fit_gate

    if model.config.mask_bits:
        from imgsynth.diffusion.maskgate import MaskGated, mask_data

        if request.keep_share != 1:
            raise ImgsynthError("--keep-share ranks images by their class; this model samples masks")
        apart = None if request.held_out is None else mask_data(request.held_out, model)
        known = mask_data(request.real, model)
        return MaskGated.fit(mechanism_of(model), known, apart, request.settings, seed, progress)
    held_out = None if request.held_out is None else load(request.held_out)
    gated = fit_gate(model, load(request.real), held_out, request.settings, seed, progress)
    if request.keep_share == 1:
        return gated
    return Surest.fit(
        gated, request.keep_share, model, seed=seed, settings=settings, guide_model=guide, device=device
    )


def _summary(root: Path) -> dict[str, Any]:
    from imgsynth.dataset.reader import Dataset

    dataset = Dataset(root)
    header = dataset.header
    filters = {} if dataset.manifest.filters is None else {"filters": dataset.manifest.filters}
    confidence = [c for c in dataset.instances.column("confidence").to_pylist() if c is not None]
    mean = {"mean_confidence": math.fsum(confidence) / len(confidence)} if confidence else {}
    return {
        "dataset": str(root), "frames": header.count, "start": header.start, "seed": header.seed,
        "generation": header.generation, "model": header.parents[0]["sha256"],
        "sampling": header.spec["diffusion"]["sampling"],
        "grounding": next(iter(header.labels.values()))["grounding"],
        **filters, **mean,
    }  # fmt: skip
