"""Progress of a study on stderr: a bar a stage, with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Bars:
    """Bars of rich, or nothing where `quiet`."""

    def __init__(self, quiet: bool = False):
        self._bars: Any = None
        if quiet:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(),
            TextColumn("{task.fields[said]:<22}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Bars:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def counter(self, name: str, unit: str) -> Callable[..., None]:
        """A callable (done, total) for a stage whose total is not known yet."""
        task: list[Any] = []

        def tell(done: int, total: int, *_: Any) -> None:
            if self._bars is None:
                return
            if not task:
                task.append(self._bars.add_task(name, said="", total=total))
            self._bars.update(task[0], completed=done, total=total, said=f"{done}/{total} {unit}")

        return tell

    def shares(self, name: str, unit: str, total: int, before: int) -> Callable[[float], None]:
        """A callable (jobs done, with fractions) for `total` jobs, of which `before` were done already."""
        if self._bars is None:
            return lambda done: None
        task = self._bars.add_task(name, said=f"{before}/{total} {unit}", total=total, completed=before)

        def tell(done: float) -> None:
            at = before + done
            self._bars.update(task, completed=at, said=f"{int(at + 1e-9)}/{total} {unit}")

        return tell

    def of(self, name: str) -> Callable[[str, int, int], Callable[[float], None]]:
        """`shares` with its name given."""
        return lambda unit, total, before: self.shares(name, unit, total, before)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage without steps."""
        task = None if self._bars is None else self._bars.add_task(name, said="", total=None)
        yield
        if task is not None:
            self._bars.update(task, total=1, completed=1)
