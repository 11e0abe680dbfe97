"""What every benchmark is to the suite: a name, a protocol, metrics, and the verbs check, plan, run and collect."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flsl_bench.errors import ConfigError
from flsl_bench.results.record import Record
from flsl_bench.results.store import Store


@dataclass(frozen=True)
class MetricSpec:
    """A metric that a task yields."""

    name: str
    unit: str = "%"
    higher_is_better: bool = True


@dataclass(frozen=True)
class Plan:
    """What a job will do, told before it starts."""

    task: str
    model: str
    record: Path  # where the record will be
    done: Record | None  # the finished record that is there already
    steps: list[str] = field(default_factory=list)


class Task(ABC):
    """One benchmark. `Job` is whatever the task's own `prepare` made of the user's wishes."""

    name: str
    title: str
    metrics: tuple[MetricSpec, ...]  # the primary one first

    @abstractmethod
    def check(self, job: Any) -> list[str]:
        """Everything that would stop the job, one line each, found before anything is computed."""

    @abstractmethod
    def plan(self, job: Any) -> Plan:
        """What will run, where its record goes, and whether that is there already."""

    @abstractmethod
    def run(self, job: Any) -> Any:
        """Do the work; resumes what is half done."""

    @abstractmethod
    def collect(self, job: Any, outcome: Any) -> Record:
        """The record of what `run` gave."""


def finished(task: Task, job: Any) -> Record | None:
    """The record that `job` would make, if it is there and the job does not say overwrite."""
    return None if job.overwrite else task.plan(job).done


def keep(task: Task, job: Any, outcome: Any) -> Record:
    """The record of `outcome`, stored; one that is there already stays unless the job says overwrite."""
    record = finished(task, job)
    if record is None:
        record = task.collect(job, outcome)
        Store(job.results).save(record, overwrite=job.overwrite)
    return record


_tasks: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Add a task to the registry; a name that is taken is a programming error."""
    if task.name in _tasks:
        raise ValueError(f"task {task.name!r} is registered twice")
    _tasks[task.name] = task
    return task


def get(name: str) -> Task:
    """The task called `name`, or a `ConfigError` with the nearest names."""
    if name not in _tasks:
        near = get_close_matches(name, _tasks)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(_tasks))}"
        raise ConfigError(f"unknown task {name!r}: {hint}")
    return _tasks[name]


def names() -> list[str]:
    """All registered tasks, in the order of registration."""
    return list(_tasks)
