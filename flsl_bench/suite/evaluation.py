"""Checks, plan, runs, records, tables: the whole of `flsl-bench run` and of `flsl_bench.evaluate`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flsl_bench.errors import FlslBenchError
from flsl_bench.paths import RESULTS
from flsl_bench.results.model_pages import run_summary
from flsl_bench.results.record import Record
from flsl_bench.results.reported import load_reported
from flsl_bench.results.specs import TABLES, spec_of
from flsl_bench.results.store import Store
from flsl_bench.results.tables import make_table
from flsl_bench.results.terminal import terminal_table
from flsl_bench.suite import slurm
from flsl_bench.suite.launching import run_here
from flsl_bench.suite.locking import hold
from flsl_bench.suite.planning import Unit, Wish, make_units

TASKS = ("coco", "uavdt", "ade20k", "davis")
WORK_DIR = "work_dirs/suite"


@dataclass(frozen=True)
class Failure:
    """A unit that left no record."""

    name: str
    reason: str
    log: Path


def evaluate(
    checkpoint: str | os.PathLike,
    tasks: Sequence[str] = TASKS,
    *,
    data_root: str | os.PathLike = "data",
    work_dir: str | os.PathLike = WORK_DIR,
    results: str | os.PathLike = RESULTS,
    **options,
) -> list[Record]:
    """The records of `checkpoint` on `tasks`; what is finished is read, the rest is run.

    `options` are the other fields of `flsl_bench.suite.Wish`: data, configs, seeds, processes, slurm, model, arch,
    patch_size, reading, smoke, overwrite.

    Raises:
        ConfigError: with every problem of every input, before anything is run.
        FlslBenchError: a task failed; the records of the others are stored.
    """
    wish = Wish(Path(checkpoint), tuple(tasks), Path(data_root), Path(work_dir), Path(results), **options)
    records, failures = execute(wish, Console(highlight=False))
    if failures:
        told = "; ".join(f"{failure.name}: {failure.reason} (see {failure.log})" for failure in failures)
        raise FlslBenchError(f"{len(failures)} of {len(records) + len(failures)} runs failed: {told}")
    return records


def execute(
    wish: Wish, console: Console, *, dry_run: bool = False, hours: float = 24.0
) -> tuple[list[Record], list[Failure]]:
    """Check, tell the plan, run what is not finished, print the tables; the records and what failed."""
    if wish.slurm:
        slurm.executor(wish.slurm, wish.processes, hours, wish.work_dir)
    units = make_units(wish, lambda told: console.print(Text(told)))
    console.print(plan_table(units))
    if dry_run:
        return [unit.plan.done for unit in units if unit.plan.done], []
    folder = wish.work_dir.absolute() / units[0].plan.model
    with hold(folder / ".lock", lambda told: console.print(Text(told))) as lock:
        reasons = _run_all(units, wish, console, lock, folder, hours)
    records = [record for unit in units if unit.name not in reasons and (record := unit.record())]
    logs = folder / "slurm" if wish.slurm else None
    failures = [Failure(u.name, reasons[u.name], logs or _log(u)) for u in units if u.name in reasons]
    print_tables(records, wish.results, console)
    for failure in failures:
        console.print(Text(f"failed: {failure.name}: {failure.reason} (see {failure.log})", style="red"))
    return records, failures


def plan_table(units: Sequence[Unit]) -> Table:
    """What will run and what is there already, one line a unit."""
    table = Table(title="Plan", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for head in ("task", "state", "data", "what runs"):
        table.add_column(head, overflow="fold")
    for unit in units:
        steps = "" if unit.state == "finished" else ", ".join(unit.plan.steps)
        config = Path(unit.request.config).name if unit.request.config else ""
        table.add_row(unit.name, unit.state, str(unit.request.data), f"{config} {steps}".strip())
    return table


def print_tables(records: Sequence[Record], results: Path, console: Console) -> None:
    """The tables that show `records`, with the papers' rows and all other models, and one of `records` alone."""
    figures, everything = load_reported(), list(Store(results).records())
    specs = {spec_of(record.task).title for record in records if not record.smoke}
    for name in (name for name, spec in TABLES.items() if spec.title in specs):
        console.print(terminal_table(make_table(name, figures, everything)))
    if records:
        console.print(terminal_table(run_summary(figures, records)))


def _run_all(
    units: Sequence[Unit], wish: Wish, console: Console, lock: int, folder: Path, hours: float
) -> Mapping[str, str]:
    """Run every unit that is not finished; name -> reason of those that failed."""
    reasons: dict[str, str] = {}

    def ended(unit: Unit, code: int, words: str) -> None:
        if code or unit.record() is None:
            reasons[unit.name] = words if code else "it ended without a record"
        console.print(Text(f"{unit.name}: {'failed' if unit.name in reasons else 'finished'}", style="bold"))

    waiting = [unit for unit in units if unit.request.overwrite or unit.record() is None]
    if wish.slurm:
        _run_on_slurm(waiting, wish, console, folder, hours, ended)
    else:
        for unit in waiting:
            console.rule(unit.name)
            job = slurm.live_job(unit.request.work_dir)
            if job is None:
                ended(unit, *run_here(unit.task.command(unit.request, sys.executable), _log(unit), lock))
            else:
                ended(unit, 1, f"Slurm job {job} of an earlier call works on it; wait for it or cancel it")
    return reasons


def _run_on_slurm(
    units: Sequence[Unit],
    wish: Wish,
    console: Console,
    folder: Path,
    hours: float,
    ended: Callable[[Unit, int, str], None],
) -> None:
    by_name = {unit.name: unit for unit in units}
    slurm.run_jobs(
        slurm.executor(wish.slurm, wish.processes, hours, folder / "slurm"),
        {name: (_command(unit), unit.request.work_dir) for name, unit in by_name.items()},
        lambda told: console.print(Text(told)),
        lambda name, code, words: ended(by_name[name], code, words),
    )


def _command(unit: Unit) -> slurm.Command:
    again = replace(unit.request, again=True)
    return slurm.Command(*(unit.task.command(request, sys.executable) for request in (unit.request, again)))


def _log(unit: Unit) -> Path:
    return unit.request.work_dir / "tool.log"
