"""A model's folder: model.safetensors, then model.json with its SHA-256. Never pickle, never half written."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgsynth.dataset import disk
from imgsynth.errors import ModelError
from imgsynth.version import __version__

FORMAT = 1
WEIGHTS, RECORD = "model.safetensors", "model.json"
MAX_BYTES = 4 << 30  # of a weight file
KINDS = {
    "classify": "a classifier",
    "detect": "a detector",
    "segment": "a detector",
    "semantic": "a segmenter of pixels",
}


def save_model(folder: str | Path, net: nn.Module, task: str, about: Mapping[str, Any]) -> None:
    """Write model.safetensors, then model.json, which holds its SHA-256 (so a half-written model is never
    loaded).

    Raises:
        ModelError: if the folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    data = to_bytes({name: t.contiguous() for name, t in net.state_dict().items()})
    record = {
        "format": FORMAT,
        "imgsynth": __version__,
        "task": task,
        **about,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The old record goes first, so that no record ever stands beside weights that are not its own.
        (folder / RECORD).unlink(missing_ok=True)
        disk.replace(folder / WEIGHTS, data)
        disk.replace(folder / RECORD, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as e:
        raise ModelError(f"{folder}: the model cannot be written: {e}") from e


def read_record(
    folder: str | Path, tasks: Sequence[str] = ("classify", "detect", "segment")
) -> dict[str, Any]:
    """model.json of a folder that `save_model` wrote, for a model of one of `tasks`.

    Raises:
        ModelError: missing, damaged, of another version or another task.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; `imgsynth learn … -o {folder}` makes one")
    path = folder / RECORD
    if not path.is_file():
        raise ModelError(
            f"{folder}: not a model: it has no {RECORD} (written last; the training may have been cut short)"
        )
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise ModelError(f"{path}: not readable as JSON: {e}") from e
    if not isinstance(record, dict) or record.get("task") not in tasks:
        kinds = " or ".join(dict.fromkeys(KINDS[task] for task in tasks))
        raise ModelError(f"{path}: not the record of {kinds} of imgsynth")
    if record.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {record.get('format')!r} of imgsynth {record.get('imgsynth', '?')}; "
            f"this version ({__version__}) reads format {FORMAT}"
        )
    return record


def read_tensors(folder: str | Path, record: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a model folder, after checking that they are what its record describes.

    Raises:
        ModelError: they are missing, or another file.
    """
    from safetensors.torch import load as from_bytes

    folder = Path(folder)
    try:
        if (folder / WEIGHTS).stat().st_size > MAX_BYTES:
            raise ModelError(
                f"{folder / WEIGHTS}: larger than {MAX_BYTES >> 30} GiB: not a model of imgsynth"
            )
        data = (folder / WEIGHTS).read_bytes()
    except OSError as e:
        raise ModelError(f"{folder}: {WEIGHTS} cannot be read ({e}); train the model again") from e
    if hashlib.sha256(data).hexdigest() != record.get("weights_sha256"):
        raise ModelError(
            f"{folder}: {WEIGHTS} is not the file that {RECORD} describes (its SHA-256 differs); "
            "copy the folder again or train the model again"
        )
    tensors: dict[str, Tensor] = from_bytes(data)
    return tensors


@contextlib.contextmanager
def fits_record(folder: str | Path) -> Iterator[None]:
    """Within, whatever goes wrong with a model's record is said in one line (ModelError)."""
    try:
        yield
    except ModelError:
        raise
    except Exception as e:  # whatever a record that another program wrote may hold
        said = " ".join(str(e).split())  # torch's own takes a line a tensor
        raise ModelError(
            f"{folder}: {RECORD} does not describe its weights ({said[:200]}); train the model again"
        ) from e


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's global generator counts from `seed`; afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
