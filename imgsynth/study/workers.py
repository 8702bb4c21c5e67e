"""Many independent jobs, in this process or in spawned ones that stay, with progress from inside each job."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import TracebackType
from typing import Any

from imgsynth.errors import ImgsynthError
from imgsynth.interrupts import held_back

Share = Callable[[float], None]  # told the sum of the shares done, 0 … number of jobs


class Stopped(Exception):
    """Raised inside a job when the study is being stopped."""


class Crew:
    """`workers` processes of one thread each, kept between calls of `run`, so that each imports torch once.

    With one worker everything runs in this process. A job is a picklable function; it gets its arguments and
    then a progress(done, total) callable, through which a stop also reaches it.
    """

    def __init__(self, workers: int, slots: int):
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._context = multiprocessing.get_context("spawn")
        self._slots = slots

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            if kind is not None:
                self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._stop = self._context.Event()
            self._shares = self._context.Array("d", max(self._slots, 1), lock=False)
            arguments = (self._shares, self._stop)
            self._pool = ProcessPoolExecutor(self.workers, self._context, _begin, arguments)
        return self._pool

    def run(self, function: Callable[..., None], jobs: Sequence[tuple[Any, ...]], share: Share) -> None:
        """Do all jobs; `share` is told how far they are.

        Raises:
            ImgsynthError: a process died. Whatever a job raises is raised here, after the others were
                stopped.
        """
        if self.workers <= 1 or len(jobs) <= 1:
            for k, job in enumerate(jobs):
                function(*job, _Told(share, k))
                share(k + 1)
            return
        pool = self._start()
        for k in range(len(jobs)):
            self._shares[k] = 0.0
        with held_back():
            futures = {pool.submit(_work, function, job, k) for k, job in enumerate(jobs)}
        while futures:
            done, futures = wait(futures, timeout=0.25, return_when=FIRST_EXCEPTION)
            for future in done:
                try:
                    future.result()
                except BrokenProcessPool:
                    raise ImgsynthError(
                        "a training process died (killed, or out of memory); finished cells are kept: "
                        "run again to go on, with --workers 1 to need less memory"
                    ) from None
            share(sum(self._shares[: len(jobs)]))


class _Told:
    """Progress of job number k when jobs run one after the other."""

    def __init__(self, share: Share, before: int):
        self._share, self._before = share, before

    def __call__(self, done: int, total: int, *_: Any) -> None:
        self._share(self._before + done / max(total, 1))


# ---- inside a worker ----

_here: dict[str, Any] = {}  # set once by _begin: what multiprocessing shares with this process


def _begin(shares: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it stops us by the event
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    _here.update(shares=shares, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for jobs for ever; what it was at is made again anyway."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(function: Callable[..., None], job: tuple[Any, ...], slot: int) -> None:
    def progress(done: int, total: int, *_: Any) -> None:
        if _here["stop"].is_set():
            raise Stopped
        _here["shares"][slot] = done / max(total, 1)

    progress(0, 1)
    function(*job, progress)
    _here["shares"][slot] = 1.0
