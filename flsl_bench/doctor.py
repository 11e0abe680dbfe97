"""`flsl-bench doctor`: what is installed, what is missing, and the pip line that cures it."""

import importlib
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from flsl_bench.paths import CHECKOUT

OPENMMLAB = {
    "onedl-mmengine": "mmengine",
    "onedl-mmcv": "mmcv",
    "onedl-mmdetection": "mmdet",
    "onedl-mmsegmentation": "mmseg",
}
UPSTREAM = ("mmengine", "mmcv", "mmcv-full", "mmcv-lite", "mmdet", "mmsegmentation")
REQUIRED = {"numpy": "numpy", "pycocotools": "pycocotools", "scikit-image": "skimage", "safetensors": "safetensors"}
EXTRAS = {
    "tracking": {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"},
    "slurm": {"submitit": "submitit"},
    "hub": {"huggingface_hub": "huggingface_hub"},
}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis. `state` is "ok", "note" (works, could be better) or "missing" (must be cured)."""

    name: str
    state: str
    detail: str
    cure: str = ""


def diagnose() -> list[Finding]:
    """Everything worth knowing about this environment; nothing is changed and nothing fails."""
    return [
        *_python(),
        *_torch(),
        *_openmmlab(),
        *(_package(distribution, module) for distribution, module in REQUIRED.items()),
        _opencv(),
        *_operators(),
        _coco_evaluator(),
        _checkout(),
        *_extras(),
    ]


def pip_line(*requirements: str) -> str:
    """The pip command that installs `requirements` at the suite's pinned versions."""
    constraints = CHECKOUT / "constraints.txt"
    pinned = f"-c {constraints} " if constraints.is_file() else ""
    quoted = " ".join(f"'{name}'" if "[" in name else name for name in requirements)
    return f"python -m pip install {pinned}{quoted}"


def _python() -> Iterator[Finding]:
    supported = (3, 10) <= tuple(map(int, platform.python_version_tuple()[:2])) <= (3, 12)
    yield Finding(
        "python",
        "ok" if supported else "note",
        platform.python_version() + ("" if supported else "; tested are 3.10 to 3.12"),
        "" if supported else "make PYTHON=python3.12 demo",
    )


def _torch() -> Iterator[Finding]:
    found = _package("torch", "torch", "torch==2.13.0")
    if found.state != "ok":
        yield found
        return
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding("torch", "ok", f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if names:
        yield Finding("GPUs", "ok", f"{len(names)}: {', '.join(sorted(set(names)))}")
    else:
        yield Finding("GPUs", "note", "none; everything runs on the CPU, training slowly and in fp32")


def _openmmlab() -> Iterator[Finding]:
    clash = [name for name in UPSTREAM if _version(name)]
    if clash:
        yield Finding(
            "OpenMMLab",
            "missing",
            f"{', '.join(clash)} share their folders with the maintained distributions; only one family can work",
            f"python -m pip uninstall -y {' '.join([*clash, *OPENMMLAB])} && {pip_line(*OPENMMLAB)}",
        )
    for distribution, module in OPENMMLAB.items():
        yield _package(distribution, module)


def _opencv() -> Finding:
    """OpenCV's two wheels share a folder; the one with windows needs libGL, which servers often lack."""
    try:
        import cv2
    except Exception as error:  # a missing system library shows as ImportError, a clash as anything
        cure = pip_line("--force-reinstall", "--no-deps", "opencv-python-headless")
        return Finding("opencv", "missing", _one_line(error), cure)
    return Finding("opencv", "ok", cv2.__version__)


def _operators() -> Iterator[Finding]:
    from flsl_bench.errors import OperatorError
    from flsl_bench.ops import provider
    from flsl_bench.ops.provider import compile_command

    try:
        chosen = provider()
    except OperatorError as error:
        yield Finding("operators", "missing", str(error), pip_line("numba"))
        return
    why = f" ({chosen.detail})" if chosen.detail else ""
    detail = f"NMS and RoIAlign from {chosen.name} {chosen.version}{why}"
    if chosen.name != "numba" or not _has_gpu():
        yield Finding("operators", "ok", detail)
    else:
        yield Finding("operators", "note", f"{detail}; on a GPU every call goes through the CPU", _torchvision_line())
    if chosen.name != "mmcv":
        yield Finding("other mmcv operators", "note", "need mmcv compiled; the suite uses none", compile_command())


def _torchvision_line() -> str:
    """The torchvision of this torch: 0.(x + 15) belongs to 2.x (github.com/pytorch/vision, table of versions)."""
    import torch

    minor = int(torch.__version__.split(".")[1])
    return f"python -m pip install --no-deps torchvision==0.{minor + 15}.*"


def _coco_evaluator() -> Finding:
    from flsl_bench.metrics.coco import ENGINES, default_engine, engine_version

    if default_engine() == ENGINES[0]:
        return Finding("COCO evaluator", "ok", engine_version())
    return Finding("COCO evaluator", "note", "pycocotools; slower, equal numbers", pip_line("faster-coco-eval"))


def _checkout() -> Finding:
    if (CHECKOUT / "mmconfigs").is_dir():
        return Finding("configs", "ok", str(CHECKOUT / "mmconfigs"))
    return Finding(
        "configs",
        "missing",
        "mmconfigs/ and tools/ are not beside the package",
        "clone the repository and run: python -m pip install -e .",
    )


def _extras() -> Iterator[Finding]:
    for extra, packages in EXTRAS.items():
        absent = [name for name, module in packages.items() if importlib.util.find_spec(module) is None]
        detail = f"optional: {', '.join(absent)} not installed" if absent else ", ".join(packages)
        yield Finding(
            f"extra {extra}", "note" if absent else "ok", detail, pip_line(f"{CHECKOUT}[{extra}]") if absent else ""
        )


def _package(distribution: str, module: str, requirement: str | None = None) -> Finding:
    cure = pip_line(requirement or distribution)
    found = _version(distribution)
    if not found:
        return Finding(distribution, "missing", "not installed", cure)
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken package may raise anything; that is what is being asked
        return Finding(distribution, "missing", f"{found} does not load: {_one_line(error)}", cure)
    return Finding(distribution, "ok", found)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
