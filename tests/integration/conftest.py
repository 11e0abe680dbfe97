"""A tiny COCO and a checkpoint in FLSL's layout, and a way to run the tools as a user does."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flsl_bench.datasets.miniature import make_coco
from flsl_bench.demo import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "mmconfigs/maskrcnn_vitt16_flsl_miniature.py"


@dataclass(frozen=True)
class Inputs:
    """What a run needs, and the options that name it."""

    data: Path
    checkpoint: Path

    def options(self, **more: object) -> list[str]:
        """Arguments that cut the demo's training down to two iterations an epoch."""
        settings = {
            "data_root": self.data,
            "init_checkpoint": self.checkpoint,
            "train_cfg.max_epochs": 1,
            "default_hooks.checkpoint.interval": 1,
            "image_scale_factor": 0.5,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "val_dataloader.num_workers": 0,
            "val_dataloader.persistent_workers": False,
            **more,
        }
        return ["--cfg-options", *(f"{key}={value}" for key, value in settings.items())]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    data = make_coco(folder / "coco", train_images=8, val_images=3)
    checkpoint = write_checkpoint(folder / "flsl.pth", embed_dim=192, depth=4, num_heads=3, patch_size=16)
    return Inputs(data, checkpoint)


def command(tool: str, *arguments: object) -> list[str]:
    """The command line of a tool in tools/, run by this interpreter."""
    start = [sys.executable] if tool.endswith(".py") else ["bash"]
    return [*start, str(ROOT / "tools" / tool), *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """This environment with the interpreter of the tests for the launchers, on a port of their own."""
    return os.environ | {"PYTHON": sys.executable, "PORT": str(20_000 + os.getpid() % 20_000)} | more


def run(tool: str, *arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """Run a tool to its end."""
    return subprocess.run(
        command(tool, *arguments), cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=600
    )


def start(tool: str, *arguments: object, cwd: Path) -> subprocess.Popen:
    """Start a tool in a process group of its own, to be killed by `kill`."""
    return subprocess.Popen(
        command(tool, *arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the process and all it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
