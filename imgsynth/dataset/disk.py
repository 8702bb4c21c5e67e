"""Files that are there whole or not at all, hashed on their way out, and a full disk said in one line."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imgsynth.errors import ImgsynthError


def write_file(path: str, data: bytes) -> None:
    """Write a whole file; unbuffered, as for small ones the buffer is a third of the cost."""
    with open(path, "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


class _Hashed:
    """A binary file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]):
        self.file, self.hash, self.closed = file, hashlib.sha256(), False
        self.tell, self.flush = file.tell, file.flush

    def write(self, data: bytes | memoryview) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


@contextmanager
def hashed(path: Path, hashes: dict[str, str]) -> Iterator[IO[bytes]]:
    """Open `path` for writing; afterwards it is on disk and its SHA-256 in `hashes`."""
    with open(path, "wb") as file:
        out = _Hashed(file)
        yield out  # type: ignore[misc]
        file.flush()
        os.fsync(file.fileno())
    hashes[path.name] = out.hash.hexdigest()


def replace(path: Path, data: bytes, *, draft: Path | None = None, durable: bool = True) -> None:
    """Put a file in place whole or not at all, by way of `draft` on the same disk; `durable` waits for it."""
    draft = draft or path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(draft, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(root: Path, *, resumable: bool = True) -> Iterator[None]:
    """Turn what the disk says into one line that names the path.

    A copy fails with the name of its source, so a full disk is said of `root`.
    """
    try:
        yield
    except OSError as e:
        where = e.filename or root
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            where, message = root, "the disk is full; "
            if resumable:
                message += "what was committed stays: free some space and continue with --resume"
            else:
                message += "nothing was left there: free some space and run it again"
        else:
            message = f"cannot write: {e.strerror or e}"
        raise ImgsynthError(f"{where}: {message}") from e
