"""Running units as Slurm jobs through submitit, all at once; jobs outlive this process and are found again."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flsl_bench.errors import ConfigError
from flsl_bench.files import atomic_write_text
from flsl_bench.suite.launching import free_port, last_words

if TYPE_CHECKING:
    import submitit

_JOB_FILE = "slurm_job"
_ALIVE = {"PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED", "RESIZING"}
_TIMEOUTS = 1_000  # after which submitit gives a job up
_UNKNOWN_AT_FIRST = 600.0  # seconds in which Slurm's accounting may not know a new job


@dataclass(frozen=True)
class Command:
    """What a job does. After a timeout submitit submits it again with the words `again`, to go on where it was."""

    words: Sequence[str]
    again: Sequence[str]

    def __call__(self) -> tuple[int, str]:
        """Exit code and last words of the command."""
        import os

        environment = os.environ | {"PYTHON": sys.executable, "PORT": str(free_port()), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            self.words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True, errors="replace"
        )
        tail: list[str] = []
        for line in process.stdout:
            print(line, end="", flush=True)  # into the job's log
            tail = [*tail[-39:], line]
        return process.wait(), last_words(tail)

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What submitit asks for when the job has to give way."""
        import submitit

        return submitit.helpers.DelayedSubmission(Command(self.again, self.again))


def executor(partition: str, processes: int, hours: float, folder: Path, cluster: str = "slurm") -> "submitit.Executor":
    """Submits jobs of `processes` GPUs on one machine; `cluster` "local" runs them here, for tests.

    Raises:
        ConfigError: submitit or Slurm's sbatch is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError("--slurm needs submitit: pip install 'flsl-bench[slurm]'") from None
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError("--slurm: this machine has no sbatch; run it on a login node of the cluster")
    made = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster, slurm_max_num_timeout=_TIMEOUTS)
    made.update_parameters(
        timeout_min=round(60 * hours),
        tasks_per_node=1,
        nodes=1,
        gpus_per_node=processes if cluster == "slurm" else 0,
        slurm_partition=partition,
        slurm_cpus_per_task=5 * processes,
        slurm_job_name="flsl-bench",
    )
    return made


def run_jobs(
    executor: "submitit.Executor",
    commands: Mapping[str, tuple[Command, Path]],
    say: Callable[[str], None],
    finished: Callable[[str, int, str], None],
    interval: float = 10.0,
) -> None:
    """Submit every command (name -> command, work dir) and call `finished(name, code, last words)` as each ends.

    A job that an earlier call submitted and that is still queued or running is waited for, not submitted twice.
    """
    jobs = {name: _job(executor, name, *command, say) for name, command in commands.items()}
    states: dict[str, str] = {}
    while jobs:
        for name, job in list(jobs.items()):
            state = job.state
            if job.done():
                code, words = _outcome(job)
                finished(name, code, words)
                del jobs[name]
            elif states.get(name) != state:
                say(f"{name}: job {job.job_id} {state.lower()}")
                states[name] = state
        if jobs:
            time.sleep(interval)


def _job(
    executor: "submitit.Executor", name: str, command: Command, work_dir: Path, say: Callable[[str], None]
) -> "submitit.Job":
    import submitit

    job_class = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[executor.cluster]
    job = _earlier_job(job_class, executor.folder, work_dir)
    if job is not None:
        say(f"{name}: job {job.job_id} of an earlier call is {job.state.lower()}")
        return job
    job = executor.submit(command)
    atomic_write_text(work_dir / _JOB_FILE, job.job_id)
    say(f"{name}: job {job.job_id} submitted, log {job.paths.stdout}")
    return job


def live_job(work_dir: Path) -> str | None:
    """Number of the Slurm job that works in `work_dir`, where an earlier call left one that has not ended."""
    if not (work_dir / _JOB_FILE).is_file() or shutil.which("sacct") is None:
        return None
    import submitit

    job = _earlier_job(submitit.SlurmJob, work_dir, work_dir)
    return job and job.job_id


def _earlier_job(job_class: type, folder: Path, work_dir: Path) -> "submitit.Job | None":
    """The job that an earlier call submitted for `work_dir`, if it has not ended."""
    file = work_dir / _JOB_FILE
    if not file.is_file():
        return None
    job = job_class(folder, file.read_text(encoding="utf-8").strip())
    just_submitted = time.time() - file.stat().st_mtime < _UNKNOWN_AT_FIRST
    alive = job.state in _ALIVE or (job.state == "UNKNOWN" and just_submitted)
    return job if alive else None


def _outcome(job: "submitit.Job") -> tuple[int, str]:
    error = job.exception()
    if error is None:
        return job.result()
    return 1, f"job {job.job_id}: {str(error).strip().splitlines()[-1]}; see {job.paths.stderr}"
