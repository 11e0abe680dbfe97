"""A progress bar over the frames of many sequences."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def frames_bar(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error; the yielded function takes a sequence's name, the frames done and the frames in all."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(what, total=None, name="")

        def report(name: str, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, name=name)

        yield report
