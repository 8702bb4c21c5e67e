"""Every error a user can cause, each with the exit code that the command line returns for it."""

from __future__ import annotations

from pathlib import Path


class ImgsynthError(Exception):
    """Bad use or bad input: one clear line for the user, exit code 2."""

    exit_code = 2


class CheckFailed(ImgsynthError):
    """A check that the user asked for did not pass: exit code 1."""

    exit_code = 1


class SceneError(ImgsynthError):
    """Something wrong in a scene (or study) file, said as ``file:line: path: message``.

    Args:
        message: what was expected, and what came instead.
        file: the file it stands in, where known.
        line: 1-based line, where known.
        path: dotted path of the offending value (``objects.die.count``), where known.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, line: int | None = None, path: str = ""
    ):
        self.message, self.file, self.line, self.path = message, file, line, path
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file and self.line else str(self.file or "")
        return ": ".join(part for part in (where, self.path, self.message) if part)


class DataError(ImgsynthError):
    """Images, labels or a dataset that cannot be read as what they claim to be."""


class ModelError(ImgsynthError):
    """A saved model that cannot be loaded, or that does not fit the data it is given."""
