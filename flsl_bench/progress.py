"""How far long work is: bars on a terminal, and a line now and then where the output goes to a file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_INTERVAL = 30.0
"""Seconds between two lines of one bar where there is no terminal."""


class Bars:
    """One or more bars on standard error."""

    def __init__(self, unit: str = "", console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._unit = unit
        self._lines: dict[TaskID, _Lines] = {}
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._bars.start()

    def add(self, what: str, total: int | None = None, done: int = 0) -> TaskID:
        """A new bar, `done` of `total` units long."""
        bar = self._bars.add_task(what, total=total, completed=done, note="")
        self._lines[bar] = _Lines(what, done)
        return bar

    def update(self, bar: TaskID, done: int, total: int | None = None, note: str = "") -> None:
        """Move a bar to `done` units."""
        self._bars.update(bar, completed=done, total=total, note=note)
        total = total if total is not None else self._bars.tasks[self._bars.task_ids.index(bar)].total
        line = None if self._console.is_terminal else self._lines[bar].line(done, total, self._unit, note)
        if line:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._bars.stop()

    @property
    def finished(self) -> bool:
        """Whether every bar has reached its total."""
        return self._bars.finished


class _Lines:
    """When a bar has a new line to say, and what it says."""

    def __init__(self, what: str, done: int):
        self._what, self._first, self._began = what, done, time.monotonic()
        self._told, self._last = self._began, None

    def line(self, done: int, total: int | None, unit: str, note: str) -> str | None:
        now = time.monotonic()
        state = (done, total, note)
        if state == self._last or (now - self._told < LINE_INTERVAL and done != total):
            return None
        self._told, self._last = now, state
        parts = [f"{self._what} {done}/{total if total is not None else '?'} {unit}".rstrip(), note]
        elapsed = now - self._began
        if total is not None and self._first < done < total:
            left = elapsed / (done - self._first) * (total - done)
            parts.append(f"{timedelta(seconds=round(left))} left")
        elif done == total:
            parts.append(f"in {timedelta(seconds=round(elapsed))}")
        return ", ".join(part for part in parts if part)


@contextmanager
def bar(what: str, unit: str = "frames") -> Iterator[Callable[[str, int, int], None]]:
    """One bar; the yielded function takes the name of what is at work, the units done and those in all."""
    bars = Bars(unit)
    task = bars.add(what)
    try:
        yield lambda name, done, total: bars.update(task, done, total, name)
    finally:
        bars.stop()
