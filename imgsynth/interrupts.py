"""Ctrl-C while processes start: held back until they stand, so that none dies half started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C back in the block; one that came is raised at its end.

    Processes that start in the block inherit that and never hear of it: they finish what they are at, and the
    parent says what happened. Blocking the signal in this thread is what they inherit, and is not enough
    here: the kernel then hands it to another thread (a progress bar's), and Python runs the handler in the
    main thread all the same.
    """
    came: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # None: a handler that Python did not set, and could not put back.
    handled = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    )
    restore: Any = None
    if handled:
        restore = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that waited comes here, and is noted
        if handled:
            signal.signal(signal.SIGINT, restore)
    if came:
        signal.raise_signal(signal.SIGINT)
