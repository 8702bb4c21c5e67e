"""Folders of other people's checkpoints, looked at before anything is loaded from them.

A checkpoint is data: JSON that says which classes of diffusers and transformers to build, and safetensors.
Pickles run code when they are opened, and so would classes from anywhere else; both are refused. A hub id is
first downloaded, without them, and then treated as the folder that it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from imgsynth.errors import ModelError

F = TypeVar("F", bound=str)

_INDEX, _CONFIG = "model_index.json", "config.json"
_MAX_JSON = 1 << 20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
_LIBRARIES = {"diffusers", "transformers", None}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w.-]+)?")
_SKIPPED = {"safety_checker", "feature_extractor", "image_encoder"}  # never loaded here


def pipeline_folder(source: str, families: Mapping[str, F]) -> tuple[Path, F]:
    """The folder of a pipeline (downloaded where `source` is a hub id), and its family.

    Args:
        source: folder, `org/name` or `org/name@revision`.
        families: prefix of the pipelines' class names → family.

    Raises:
        ModelError: there is none, it is of another family, its parts come from elsewhere than diffusers and
            transformers, or its weights are not safetensors.
    """
    folder = _found(source, [_INDEX, "*/*.json", "*/*.txt", "*/*.safetensors", "*/*.model"])
    index = _json(folder / _INDEX, "not a pipeline of diffusers")
    name = str(index.get("_class_name"))
    pattern = rf"({'|'.join(sorted(families, key=len, reverse=True))})(ControlNet|Adapter)?(Img2Img)?Pipeline"
    match = re.fullmatch(pattern, name)
    if match is None:
        raise ModelError(f"{source}: a {name}; expected one of {', '.join(f'{f}Pipeline' for f in families)}")
    for part, entry in index.items():
        if part.startswith("_") or part in _SKIPPED or not isinstance(entry, list):
            continue
        library = entry[0] if entry else None
        if library not in _LIBRARIES:
            raise ModelError(
                f"{source}: its {part} is built by {library!r}, expected diffusers or transformers"
            )
        if entry[-1] is not None and (folder / part / _CONFIG).is_file():
            _needs_safetensors(folder / part)
    return folder, families[match[1]]


def component_folder(source: str) -> Path:
    """The folder of one network (a ControlNet, an adapter), downloaded where `source` is a hub id.

    Raises:
        ModelError: there is none, or its weights are not safetensors.
    """
    folder = _found(source, [_CONFIG, "*.safetensors"])
    _json(folder / _CONFIG, "not a network of diffusers")
    _needs_safetensors(folder)
    return folder


def weights_digest(folder: Path) -> str:
    """SHA-256 over all safetensors in a folder, by relative name and content."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{digest}  {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()


def _found(source: str, patterns: list[str]) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(source) or folder.exists():
        raise ModelError(f"{source}: no such folder, and not a hub id (org/name)")
    name, _, revision = source.partition("@")
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # no network, no such repository, no access: the hub has a class for each
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{source}: no such folder, and the hub did not give it: {said}") from None


def _json(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"{path.parent}: {otherwise}: it has no {path.name}")
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ModelError(f"{path}: larger than {_MAX_JSON} bytes")
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: expected a JSON object, got a {type(data).__name__}")
    return data


def _needs_safetensors(folder: Path) -> None:
    """Refuse a network's folder whose only weights are pickles."""
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickled:
        raise ModelError(
            f"{folder / pickled[0]}: a pickle, which could run anything; save it as safetensors "
            "(save_pretrained does) and load that"
        )
