"""A diffusion model's folder: a diffusers pipeline, and imgsynth.json, written last. Never pickle.

model_index.json  scheduler/  unet/   as diffusers keeps a pipeline (safetensors)
guide/                                an earlier self, kept like unet/, where there is one
judge/                                a segmenter that `refine` checks pictures with (`calibrate`)
imgsynth.json                         classes, configuration, record, and the SHA-256 of each weight file
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgsynth.dataset import disk
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.model import Diffuser, build_net
from imgsynth.errors import ModelError
from imgsynth.learn.store import seeded
from imgsynth.version import __version__

FORMAT = 1
RECORD = "imgsynth.json"
UNET, GUIDE = "unet", "guide"
WEIGHTS = "diffusion_pytorch_model.safetensors"
MAX_BYTES = 4 << 30  # of a weight file
MAX_RECORD = 16 << 20


def compacted(model: Diffuser) -> Diffuser:
    """The model with weights that 16 bits hold (in 32), and without its guide: for `save(…, half=True)`."""
    net: Any = copy.deepcopy(model.net)
    return replace(model, net=net.half().float(), guide=None)


def save(model: Diffuser, folder: Path, half: bool = False) -> None:
    """Write the model to `folder`, which need not be empty; the same model gives the same bytes.

    `half` writes weights in 16 bits, half as large a file; what they lose of the model's is lost.

    Raises:
        ModelError: if the folder cannot be written.
    """
    from imgsynth.diffusion.pipeline import DiffuserPipeline, scheduler_of

    config = model.config.plain()
    nets = {UNET: model.net} | ({} if model.guide is None else {GUIDE: model.guide.net})
    parts: dict[str, Any] = {part: copy.deepcopy(net).half() if half else net for part, net in nets.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The old record goes first, so that no record ever stands beside weights that are not its own.
        (folder / RECORD).unlink(missing_ok=True)
        if model.guide is None:
            shutil.rmtree(folder / GUIDE, ignore_errors=True)
        DiffuserPipeline(parts[UNET], scheduler_of(model.config), config).save_pretrained(folder)
        if model.guide is not None:
            parts[GUIDE].save_pretrained(folder / GUIDE)
        record = {
            "format": FORMAT,
            "imgsynth": __version__,
            "kind": "diffuser",
            "config": config,
            "record": dict(model.record),
            "sha256": {part: _sha256(folder / part / WEIGHTS) for part in parts},
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        for written in (file for part in (UNET, GUIDE) for file in (folder / part).glob("*")):
            with open(written, "rb+") as file:
                os.fsync(file.fileno())
        disk.replace(folder / RECORD, text.encode())
    except OSError as e:
        raise ModelError(f"{folder}: the model cannot be written: {e}") from e


def load(folder: Path) -> Diffuser:
    """The model that `save` wrote, on the CPU, ready to sample; its guide with it, where it has one.

    Only imgsynth.json and the weight files are read; the network is built from the configuration, never from
    a class that the folder names.

    Raises:
        ModelError: missing, damaged, or of another version.
    """
    record = read_record(folder)
    config = DiffuserConfig.of(record["config"])
    hashes = record["sha256"]
    guide = None
    if GUIDE in hashes:
        guide = Diffuser(_net(folder / GUIDE, config, hashes[GUIDE]), config, record["record"])
    return Diffuser(_net(folder / UNET, config, hashes.get(UNET)), config, record["record"], guide)


def amend(folder: Path, **told: Any) -> None:
    """Put `told` into the model's record (`Diffuser.record`), in place of what stood there by these names.

    Raises:
        ModelError: no model there, or a folder that cannot be written.
    """
    record = read_record(folder)
    record["record"].update(told)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        disk.replace(folder / RECORD, text.encode())
    except OSError as e:
        raise ModelError(f"{folder}: the record cannot be written: {e}") from e


def read_record(folder: Path) -> dict[str, Any]:
    """imgsynth.json of a model folder: `config`, `record` and `sha256` are there and are objects.

    Raises:
        ModelError: missing, damaged, or of another version.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; `imgsynth diffuse train … -o {folder}` makes one")
    path = folder / RECORD
    if not path.is_file():
        raise ModelError(
            f"{folder}: not a diffusion model: it has no {RECORD} (written last; the training may have been "
            "cut short: --resume goes on)"
        )
    try:
        if path.stat().st_size > MAX_RECORD:
            raise ModelError(f"{path}: larger than {MAX_RECORD >> 20} MiB: not a record of imgsynth")
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise ModelError(f"{path}: not readable as JSON: {e}") from e
    if not isinstance(record, dict) or record.get("kind") != "diffuser":
        raise ModelError(f"{path}: not the record of a diffusion model of imgsynth")
    if record.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {record.get('format')!r} of imgsynth {record.get('imgsynth', '?')}; "
            f"this version ({__version__}) reads format {FORMAT}"
        )
    for name in ("config", "record", "sha256"):
        if not isinstance(record.get(name), dict):
            raise ModelError(f"{path}: {name}: expected an object, got {record.get(name)!r:.60}")
    return record


def _net(part: Path, config: DiffuserConfig, sha256: Any) -> Any:
    """The net of one weight file, after checking that it is the one the record describes."""
    from safetensors.torch import load as from_bytes

    path = part / WEIGHTS
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: larger than {MAX_BYTES >> 30} GiB: not a model of imgsynth")
        data = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: cannot be read ({e}); train the model again") from e
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(
            f"{path}: not the file that {RECORD} describes (its SHA-256 differs); copy the folder again or "
            "train the model again"
        )
    try:
        with seeded(0):
            net = build_net(config)
        net.load_state_dict(from_bytes(data))
    except Exception as e:  # safetensors, torch and diffusers raise many kinds
        said = " ".join(str(e).split())[:200]
        raise ModelError(f"{path}: {RECORD} does not describe its weights ({said})") from e
    return net.eval().requires_grad_(False)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
