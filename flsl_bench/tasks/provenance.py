"""What a record tells of where its numbers come from: software, hardware, code version."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flsl_bench.paths import CHECKOUT
from flsl_bench.results.record import Environment

_PACKAGES = (
    "flsl-bench",
    "torch",
    "numpy",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
    "torchvision",
    "numba",
    "opencv-python",
    "pillow",
)


def environment(*, devices: int, precision: str, operators: str, evaluator: str) -> Environment:
    """The software and hardware of this process."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=installed(_PACKAGES),
        device=device,
        devices=devices,
        precision=precision,
        operators=operators,
        evaluator=evaluator,
    )


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of `packages` that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, with `-dirty` for uncommitted changes; None outside one."""
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
