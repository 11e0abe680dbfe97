"""What an evaluation consists of, found out before anything runs: tasks, data, configs, seeds, and what is done."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flsl_bench import tasks
from flsl_bench.checkpoints import Facts, load_checkpoint
from flsl_bench.datasets.discovery import find_dataset
from flsl_bench.errors import ConfigError, DataError, FlslBenchError
from flsl_bench.results.store import Store
from flsl_bench.tasks.base import Plan, Request, Task
from flsl_bench.tasks.weights import model_name, weights_of


@dataclass(frozen=True)
class Wish:
    """What a user asks of the suite."""

    checkpoint: Path
    tasks: tuple[str, ...]
    data_root: Path  # the data sets are found below it by their layouts
    work_dir: Path
    results: Path
    data: Mapping[str, Path] = field(default_factory=dict)  # data set -> folder, where it is not to be looked for
    configs: Mapping[str, str] = field(default_factory=dict)  # task -> config in place of the architecture's
    seeds: tuple[int, ...] = (0,)
    processes: int = 1
    slurm: str | None = None  # partition
    model: str | None = None
    arch: str | None = None  # expectations, checked against the file
    patch_size: int | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)  # num_heads, class_token, branch
    smoke: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Unit:
    """One task with one seed: what is run, skipped, resumed and reported as a whole."""

    task: Task
    request: Request
    plan: Plan

    @property
    def name(self) -> str:
        """`coco, seed 0`."""
        return f"{self.task.name}, seed {self.request.seed}" if self.task.seeded else self.task.name

    @property
    def state(self) -> str:
        """finished, half done or to do."""
        if self.plan.done and not self.request.overwrite:
            return "finished"
        return "half done" if self.request.work_dir.exists() else "to do"

    def record(self):
        """The record that is there now, or None."""
        plan = self.plan
        return Store(self.request.results).find(plan.model, plan.task, plan.record.stem)


def make_units(wish: Wish, say: Callable[[str], None] = lambda text: None) -> list[Unit]:
    """Every task with every seed, with all inputs checked; `say` is told what of a group is left out.

    Raises:
        ConfigError: with one line for each thing that would stop any of them.
    """
    if not (wish.tasks and wish.seeds):
        raise ConfigError(
            f"no {'seed' if wish.tasks else 'task'} is given; see flsl-bench list and flsl-bench run --help"
        )
    problems: list[str] = []
    facts = _facts(wish, problems)
    chosen = list(_tasks(wish, problems, say))
    problems += _strays("--config", wish.configs, [task.name for task in chosen if task.has_configs])
    problems += _strays("--data", wish.data, [task.dataset for task in chosen])
    units = [unit for task in chosen for unit in _units_of(task, wish, facts, problems)]
    if problems:
        problems = list(dict.fromkeys(problems))
        raise ConfigError(problems[0] if len(problems) == 1 else "\n".join(["several problems:", *problems]))
    return units


def _facts(wish: Wish, problems: list[str]) -> Facts | None:
    try:
        return load_checkpoint(wish.checkpoint, arch=wish.arch, patch_size=wish.patch_size, **wish.reading).facts
    except FlslBenchError as error:
        problems.append(str(error))
        return None


def _tasks(wish: Wish, problems: list[str], say: Callable[[str], None]) -> Iterator[Task]:
    for name in dict.fromkeys(wish.tasks):
        try:
            group = tasks.members(name)
            yield from _with_data(name, group, wish, say) if group else [tasks.get(name)]
        except ConfigError as error:
            problems.append(str(error))


def _with_data(group: str, members: list[Task], wish: Wish, say: Callable[[str], None]) -> list[Task]:
    """The members of a group whose data are there."""
    found = []
    for task in members:
        try:
            there = task.there(_data_folder(task, wish))
        except DataError:
            there = False
        if there:
            found.append(task)
        else:
            say(f"{task.name} is left out: its data are not below {wish.data_root}")
    if not found:
        needed = ", ".join(task.dataset for task in members)
        raise ConfigError(
            f"{group}: none of its data sets ({needed}) is below {wish.data_root}; see flsl-bench data check"
        )
    return found


def _data_folder(task: Task, wish: Wish) -> Path:
    return wish.data.get(task.dataset) or find_dataset(task.dataset, wish.data_root)


def _strays(option: str, given: Mapping[str, Any], known: list[str]) -> list[str]:
    told = ", ".join(dict.fromkeys(known)) or "nothing takes it"
    return [f"{option} {name}=...: none of what is to run: {told}" for name in given if name not in known]


def _units_of(task: Task, wish: Wish, facts: Facts | None, problems: list[str]) -> list[Unit]:
    """The units of one task, none if there is a problem; data and settings are checked once for all seeds."""
    try:
        folder = _data_folder(task, wish)
        if facts is None:
            return []
        request = _request(task, wish, facts, folder)
        job = task.prepare(request)
        found = task.check(job)
    except FlslBenchError as error:
        problems.append(f"{task.name}: {error}")
        return []
    if found:
        problems += [f"{task.name}: {problem}" for problem in found]
        return []
    seeds = dict.fromkeys(wish.seeds if task.seeded else wish.seeds[:1])
    return [_unit(task, request, job if seed == request.seed else task.with_seed(job, seed), seed) for seed in seeds]


def _request(task: Task, wish: Wish, facts: Facts, folder: Path) -> Request:
    model = model_name(weights_of(facts), wish.model)
    return Request(
        checkpoint=wish.checkpoint.absolute(),
        data=Path(os.path.abspath(folder)),
        work_dir=wish.work_dir.absolute() / model / task.name,
        results=wish.results.absolute(),
        model=model,
        seed=wish.seeds[0],
        config=wish.configs.get(task.name),
        reading=wish.reading,
        processes=wish.processes,
        gpu=True if wish.slurm else None,
        cache=wish.work_dir.absolute() / "features",
        smoke=wish.smoke,
        overwrite=wish.overwrite,
    )


def _unit(task: Task, request: Request, job: Any, seed: int) -> Unit:
    """With a work dir of its own for every question, so that nothing half done is taken up by another one."""
    plan = task.plan(job)
    question = plan.record.stem[:8]
    folder = f"seed{seed}-{question}" if task.seeded else question
    return Unit(task, replace(request, seed=seed, work_dir=request.work_dir / folder), plan)
