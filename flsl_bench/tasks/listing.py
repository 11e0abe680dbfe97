"""The tasks as `flsl-bench list` shows them."""

from rich import box
from rich.table import Table

from flsl_bench.tasks import base

_SHOWN = 4


def tasks_table() -> Table:
    """One line a task: its name for `--tasks`, metrics, data set, protocol with version, cost."""
    table = Table(title="Tasks", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("task", "what", "metrics, the primary one first", "data", "protocol", "cost"):
        table.add_column(head, overflow="fold")
    for task in map(base.get, base.names()):
        shown = [metric.name for metric in task.metrics[:_SHOWN]]
        more = len(task.metrics) - _SHOWN
        metrics = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        protocol = f"{task.protocol[0]}, version {task.protocol[1]}"
        table.add_row(task.name, task.title, metrics, task.dataset, protocol, task.cost)
    return table
