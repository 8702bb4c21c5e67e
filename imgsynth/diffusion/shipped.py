"""Models by name: those that ship with the package, and folders."""

from __future__ import annotations

from pathlib import Path

from imgsynth.diffusion.store import RECORD
from imgsynth.errors import ModelError

ROOM = Path(__file__).parents[1] / "_models"


def shipped_models() -> dict[str, Path]:
    """Name → folder of the models that ship, by name."""
    if not ROOM.is_dir():
        return {}
    return {p.name: p for p in sorted(ROOM.iterdir()) if (p / RECORD).is_file()}


def shipped_model(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        ModelError: there is none of that name; lists those there are.
    """
    known = shipped_models()
    if name not in known:
        some = f"those that ship are {', '.join(known)}" if known else "this installation ships none"
        raise ModelError(f"no model folder and no shipped model {name!r}: {some}")
    return known[name]


def model_folder(name: str | Path) -> Path:
    """MODEL of the command line: a folder, or the name of a shipped model.

    Raises:
        ModelError: neither.
    """
    path = Path(name).expanduser()
    # A folder of another kind (a dataset called digits) does not hide the model of that name.
    is_model = (path / RECORD).is_file() or (path.is_dir() and str(name) not in shipped_models())
    return path if is_model else shipped_model(str(name))
