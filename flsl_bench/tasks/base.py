"""What every benchmark is to the suite: a name, a protocol, metrics, and the same few verbs.

`prepare` turns what a user wants into a job; `check`, `plan`, `run` and `collect` are about that job; `command` is the
line by which the suite has a tool of `tools/` do the same in a process of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Request:
    """One run of a task as the suite asks for it: these weights, these data, this seed."""

    checkpoint: Path
    data: Path  # folder of the task's data set
    work_dir: Path  # everything that is no record
    results: Path  # records
    model: str | None = None  # name in the tables; None: file name and digits of its hash
    seed: int = 0
    config: str | None = None  # in place of the config that fits the weights' architecture
    reading: Mapping[str, Any] = field(default_factory=dict)  # num_heads, class_token, branch: how the file is read
    processes: int = 1  # one a GPU
    gpu: bool | None = None  # whether the machine that runs it has GPUs; None: it is this one
    cache: Path | None = None  # folder of features that probes share
    smoke: bool = False  # steps, images and sizes cut to the least that still runs; recorded
    overwrite: bool = False
    again: bool = False  # a run that overwrites was cut off and goes on


class Task(ABC):
    """One benchmark. `Job` is whatever the task's `prepare` makes of a request."""

    name: str
    title: str
    metrics: tuple[MetricSpec, ...]  # the primary one first
    dataset: str  # name in `flsl_bench.datasets.discovery`
    protocol: tuple[str, str]  # name and version; a config may state another one
    cost: str  # what a whole run takes, in words
    seeded: bool  # whether anything in it is random
    has_configs: bool = False  # whether a config says what runs, and another one may be given
    group: str = ""  # stands for all tasks that have it, in so far as their data are there

    def there(self, folder: Path) -> bool:
        """Whether the folder of the data set has what this task needs of it."""
        return True

    @abstractmethod
    def prepare(self, request: Request) -> Any:
        """The job that `request` asks for; raises one of the library's errors for what cannot work."""

    def with_seed(self, job: Any, seed: int) -> Any:
        """The same job with another seed; what was checked stays checked. For tasks that are `seeded`."""
        raise NotImplementedError

    @abstractmethod
    def command(self, request: Request, python: str) -> list[str]:
        """Interpreter, tool and arguments that do what `request` asks for, going on from what is half done."""

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
        known = dict.fromkeys([*_tasks, *(task.group for task in _tasks.values() if task.group)])
        near = get_close_matches(name, known)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise ConfigError(f"unknown task {name!r}: {hint}")
    return _tasks[name]


def members(group: str) -> list[Task]:
    """The tasks of a group; none if there is no such group."""
    return [task for task in _tasks.values() if group and task.group == group]


def names() -> list[str]:
    """All registered tasks, in the order of registration."""
    return list(_tasks)
