"""`imgsynth diffuse sample --prompt` and `diffuse refine`: from names and options to a dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.diffusion.calibrate import JUDGE, SMALL, judge_digest
from imgsynth.diffusion.drift import DriftSettings, Segment
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.painters import LayoutPainter, Painting, PipelinePainter
from imgsynth.diffusion.pipelines import Drawing, load_pipeline
from imgsynth.diffusion.prompted import Asked, Progress, prompt_dataset
from imgsynth.diffusion.repaint import repaint_dataset
from imgsynth.diffusion.sampled import calibrator_of, on_device, settings_of
from imgsynth.diffusion.shipped import model_folder
from imgsynth.errors import ImgsynthError, ModelError
from imgsynth.learn.semantic import Segmenter


def words_of(options: Sequence[str]) -> dict[str, str]:
    """Class → words, from `NAME=WORDS`, or `WORDS` alone, which then name the class.

    Raises:
        ImgsynthError: an empty name or word, or a class that stands twice.
    """
    found: dict[str, str] = {}
    for option in options:
        name, equals, words = (part.strip() for part in option.partition("="))
        words = words if equals else name
        if not name or not words:
            raise ImgsynthError(f"--class: expected NAME=WORDS, words of the prompt, got {option!r}")
        if name in found:
            raise ImgsynthError(
                f"--class: {name} stands twice; words that share a class stand in one prompt each"
            )
        found[name] = words
    return found


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of a text such as 512x768.

    Raises:
        ImgsynthError: it is none.
    """
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text.strip())
    if match is None:
        raise ImgsynthError(f"--size: expected HEIGHTxWIDTH such as 512x768, got {text!r}")
    return int(match[1]), int(match[2])


def sample_prompts(
    source: str,
    out: Path,
    *,
    n: int,
    prompts: Sequence[str],
    classes: Sequence[str],
    negative: str = "",
    size: str | None = None,
    drawing: Mapping[str, Any] | None = None,
    seed: int = 0,
    start: int = 0,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw a dataset for prompts, labelled by attention; returns what was made, as plain JSON values.

    Raises:
        ImgsynthError: anything missing, unknown or out of range, in one line.
    """
    asked = Asked(tuple(prompts), words_of(classes), negative)
    run, grid = Drawing(**(drawing or {})), None if size is None else size_of(size)
    pipeline = load_pipeline(source, device=device)
    return prompt_dataset(
        pipeline, asked, n, out, seed=seed, start=start, size=grid, drawing=run, device=device, resume=resume,
        progress=progress,
    )  # fmt: skip


def refine_with_pipeline(
    dataset: Path,
    out: Path,
    *,
    source: str,
    controlnet: str | None,
    adapter: str | None,
    painting: Painting,
    drawing: Mapping[str, Any] | None = None,
    limits: DriftSettings | None = None,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Paint over a rendered dataset with a large pipeline; returns what was made, as plain JSON values.

    Raises:
        ImgsynthError: anything missing, unknown or out of range, or no frame that stays, in one line.
    """
    run = Drawing(**(drawing or {}))
    if painting.control is not None and not (controlnet or adapter):
        raise ImgsynthError("--control needs --controlnet or --adapter, the network that hears it")
    task: Any = "text" if adapter else "image"
    pipeline = load_pipeline(source, task=task, controlnet=controlnet, adapter=adapter, device=device)
    return repaint_dataset(
        PipelinePainter(pipeline, painting, run), dataset, out, seed=seed, limits=limits, device=device,
        resume=resume, progress=progress,
    )  # fmt: skip


def refine_with_model(
    dataset: Path,
    out: Path,
    *,
    model: str,
    strength: float = 1.0,
    sampling: Mapping[str, Any] | None = None,
    limits: DriftSettings | None = None,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw a rendered dataset anew with a small model that follows its layout; returns what was made.

    Where the model's folder has a judge (`diffuse calibrate`), pictures are checked by that segmenter and not
    by the cut by colour, and confidences are calibrated. `limits` then judges objects from 16 pixels.

    Raises:
        ImgsynthError: anything missing, unknown or out of range, or no frame that stays, in one line.
    """
    folder = model_folder(model)
    loaded = on_device(Diffuser.load(folder), device)
    painter = LayoutPainter(loaded, folder.name, settings_of(sampling or {}), strength, device)
    limits = limits or DriftSettings()
    check, digest, calibrate = None, "", None
    if (folder / JUDGE).is_dir():
        check, digest = judge_of(folder, loaded)
        calibrate = calibrator_of(loaded)
        limits = replace(limits, min_area=min(limits.min_area, SMALL))
    return repaint_dataset(
        painter, dataset, out, seed=seed, limits=limits, segment=check, segmenter=digest,
        calibrate=calibrate, device=device, resume=resume, progress=progress,
    )  # fmt: skip


def judge_of(folder: Path, model: Diffuser) -> tuple[Segment, str]:
    """The segmenter that was calibrated with a layout model, and its digest.

    Raises:
        ModelError: damaged, or not the one that the model's calibration is of.
    """
    net, digest = Segmenter.load(folder / JUDGE), judge_digest(folder / JUDGE)
    if digest != dict(model.record.get("calibration") or {}).get("judge"):
        raise ModelError(
            f"{folder / JUDGE}: not the judge of the model's calibration; run `imgsynth diffuse calibrate`"
        )
    return lambda images: net.predict(images).astype(np.int32), digest
