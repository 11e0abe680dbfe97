"""Running a prepared config: the process group, the runner, training and testing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from flsl_bench.errors import CheckpointError, ConfigError
from flsl_bench.openmmlab.drawing import PanelHook
from flsl_bench.openmmlab.hooks import ProgressBarHook, ResultHook
from flsl_bench.openmmlab.repeatable import SeedIterationHook, make_repeatable
from flsl_bench.openmmlab.storage import latest_checkpoint


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    scores: dict[str, float]
    breakdowns: dict[str, dict[str, float | None]]
    seconds: dict[str, float]
    artifacts: dict[str, Path]


def process_count(launcher: str) -> int:
    """Processes of this run as the launcher's environment tells."""
    variable = {"pytorch": "WORLD_SIZE", "slurm": "SLURM_NTASKS", "mpi": "OMPI_COMM_WORLD_SIZE"}.get(launcher)
    return int(os.environ.get(variable, 1)) if variable else 1


def process_rank(launcher: str) -> int:
    """Rank of this process as the launcher's environment tells."""
    variable = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}.get(launcher)
    return int(os.environ.get(variable, 0)) if variable else 0


def check_gpus(asked: int) -> None:
    """Raise a `ConfigError` if this machine has GPUs but fewer than `asked`; without any, gloo runs on the CPU."""
    found = torch.cuda.device_count()
    if torch.cuda.is_available() and found < asked:
        raise ConfigError(f"{asked} GPUs asked, {found} found: pass {found}, or see CUDA_VISIBLE_DEVICES")


def train(config: Config, hook: ResultHook, progress: bool = False) -> Outcome:
    """Train `config` to its end and score the final weights; a finished run that is resumed is only scored.

    `progress` shows a bar and sends everything that would be printed to a file in the work dir.
    """
    make_repeatable(config)
    with _quiet(config) if progress else nullcontext():
        runner = _runner(config, hook, progress)
        runner.register_hook(SeedIterationHook(config.randomness.seed))
        runner.train()
        if not hook.scored(runner.iter):
            runner.val()
    return _outcome(runner, hook)


def test(config: Config, hook: ResultHook, progress: bool = False, dump: str | None = None) -> Outcome:
    """Score the detector or segmentor in `config.load_from`; `dump` is a .pkl file for its raw predictions."""
    checkpoint, config.load_from = config.load_from, None
    with _quiet(config) if progress else nullcontext():
        runner = _runner(config, hook, progress)
        _load_completely(runner, checkpoint)
        if dump is not None:
            runner.test_evaluator.metrics.append(_DumpPredictions(out_file_path=dump))
        runner.test()
    return _outcome(runner, hook)


class _DumpPredictions(DumpResults):
    """Without a segmentor's score of every class at every pixel: 200 MB an image of ADE20K."""

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        dropped = ("seg_logits", "gt_sem_seg")
        super().process(data_batch, [{k: v for k, v in s.items() if k not in dropped} for s in data_samples])


def _load_completely(runner: Runner, checkpoint: str) -> None:
    """Load all weights; mmengine's own way passes over what does not fit."""
    try:
        runner.load_checkpoint(checkpoint, map_location="cpu", strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise CheckpointError(f"{checkpoint}: does not fit the config's model: {reason}") from error


def _runner(config: Config, hook: ResultHook, progress: bool) -> Runner:
    _start_processes(config)
    runner = Runner.from_cfg(config)
    runner.register_hook(hook)
    runner.register_hook(PanelHook())
    if progress:
        runner.register_hook(ProgressBarHook())
    return runner


def _start_processes(config: Config) -> None:
    """Join the process group where mmengine cannot: it asks for a CUDA device even for gloo."""
    if config.launcher == "none" or dist.is_initialized() or torch.cuda.is_available():
        return
    if config.launcher != "pytorch":
        raise ConfigError(f"launcher {config.launcher} needs GPUs; on CPUs use tools/dist_train.sh")
    dist.init_process_group("gloo")


@contextmanager
def _quiet(config: Config) -> Iterator[None]:
    """Leave the terminal to the progress bar: OpenMMLab and pycocotools print a thousand lines."""
    path = Path(config.work_dir) / "output.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file, redirect_stdout(file):
        yield


def _outcome(runner: Runner, hook: ResultHook) -> Outcome:
    artifacts = {"log": Path(runner.log_dir) / f"{runner.timestamp}.log"}
    checkpoint = latest_checkpoint(runner.work_dir)
    if checkpoint is not None:
        artifacts["checkpoint"] = checkpoint
    return Outcome(hook.scores or {}, hook.breakdowns, dict(hook.seconds), artifacts)
