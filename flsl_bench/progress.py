"""A progress bar over the sequences of a data set or over their frames."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def bar(what: str, unit: str = "frames") -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error; the yielded function takes a sequence's name, the units done and those in all."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=None, name="")

        def report(name: str, done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, name=name)

        yield report
