"""The tasks as `flsl-bench list` shows them."""

from rich import box
from rich.table import Table

from flsl_bench.tasks import base

_SHOWN = 4


def tasks_table() -> Table:
    """A few lines a task: its name for `--tasks`, metrics, protocol with version, data set, cost."""
    table = Table(title="Tasks", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("what; metrics, the primary one first; protocol; data set and cost", overflow="fold")
    for task in map(base.get, base.names()):
        protocol = f"{task.protocol[0]}, version {task.protocol[1]}"
        about = (task.title, _metrics(task), protocol, f"data set {task.dataset}; {task.cost}")
        table.add_row(task.name, "\n".join(about), end_section=True)
    groups = dict.fromkeys(task.group for task in map(base.get, base.names()) if task.group)
    table.caption = f"{', '.join(groups)}: all of that name whose data are there"
    return table


def _metrics(task: base.Task) -> str:
    names = [metric.name for metric in task.metrics]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
