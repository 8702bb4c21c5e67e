"""Arrays between numpy and a Warp device: shared on a CPU, copied elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from imgsynth.errors import ImgsynthError


def _start() -> None:
    """Initialize Warp without letting it print: a command's output is its own.

    Its native library says on file descriptor 2, whatever the log level, that a machine has no GPU.
    """
    if hasattr(wp.config, "log_level"):
        wp.config.log_level = wp.LOG_ERROR
    else:
        wp.config.quiet = True  # type: ignore[attr-defined]
    with _silent():
        wp.init()


@contextmanager
def _silent() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Memory:
    """One device's arrays; scratch grows and is kept, so a renderer is for one thread at a time."""

    def __init__(self, device: str):
        _start()
        try:
            with _silent():
                self.device = wp.get_device(device)
        except Exception as error:
            have = ", ".join(str(d) for d in wp.get_devices())
            raise ImgsynthError(f"device: expected one of {have}, got {device!r}") from error
        self.cpu: bool = self.device.is_cpu
        self._scratch: dict[str, Any] = {}
        self.kept: dict[Any, Any] = {}  # tables that outlive a round, for whoever makes them to manage

    def up(self, array: NDArray[Any], dtype: Any) -> Any:
        """A device array over (CPU) or copied from (elsewhere) a numpy array."""
        return wp.array(np.ascontiguousarray(array), dtype=dtype, device=self.device, copy=not self.cpu)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A fresh device array, uninitialized.

        On a CPU numpy allocates: it asks for huge pages, which a batch of frames is large enough to feel.
        """
        if not self.cpu:
            return wp.empty(shape, dtype=dtype, device=self.device)
        inner = getattr(dtype, "_shape_", ())
        scalar = wp.dtype_to_numpy(getattr(dtype, "_wp_scalar_type_", dtype))
        return wp.array(np.empty((*shape, *inner), scalar), dtype=dtype, device=self.device, copy=False)

    def scratch(self, name: str, count: int, dtype: Any, fill: Any = None) -> Any:
        """At least `count` elements kept under a name; the first `count` filled if asked."""
        held = self._scratch.get(name)
        if held is None or len(held) < count:
            held = self._scratch[name] = self.empty((max(count + count // 4, 1),), dtype)
        if fill is not None and count:
            if self.cpu:
                held.numpy()[:count] = fill
            else:
                held[:count].fill_(fill)
        return held

    def down(self, array: Any, count: int | None = None) -> NDArray[Any]:
        """The first `count` elements in numpy: a view on a CPU, a copy elsewhere."""
        out: NDArray[Any] = array.numpy()
        return out if count is None else out[:count]
