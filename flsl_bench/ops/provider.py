"""Whose kernels run: compiled mmcv, else torchvision, else numba on the CPU."""

import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass

from flsl_bench.errors import OperatorError

EXTENSION = "mmcv._ext"
MMCV_DISTRIBUTIONS = ("onedl-mmcv", "mmcv")


@dataclass(frozen=True)
class Provider:
    """The kernels in use.

    Attributes:
        name: "mmcv", "torchvision" or "numba".
        version: the version of that package, "" when its metadata does not say.
        detail: why each better provider was not taken, "" when the best one was.
    """

    name: str
    version: str
    detail: str = ""


@functools.cache
def provider() -> Provider:
    """Choose the best provider that loads, once a process; ``mmcv.ops`` is not imported.

    Raises:
        OperatorError: no provider is installed.
    """
    reasons = []
    reason = _why_not_mmcv()
    if reason is None:
        return Provider("mmcv", mmcv_version())
    reasons.append(f"mmcv: {reason}")
    reason = _why_not_torchvision()
    if reason is None:
        return Provider("torchvision", distribution_version("torchvision"), "; ".join(reasons))
    reasons.append(f"torchvision: {reason}")
    if importlib.util.find_spec("numba") is None:
        raise OperatorError(f"no NMS and RoIAlign: {'; '.join(reasons)}; numba: not installed. Cure: pip install numba")
    return Provider("numba", distribution_version("numba"), "; ".join(reasons))


def distribution_version(*names: str) -> str:
    """The version of the first of these distributions that is installed, else ""."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def mmcv_version() -> str:
    """The version of the installed mmcv, whichever family distributes it, else ""."""
    return distribution_version(*MMCV_DISTRIBUTIONS)


def compile_command() -> str:
    """The pip line that compiles the installed version of mmcv with its operators."""
    version = mmcv_version()
    pin = f"=={version}" if version else ""
    return f"MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary onedl-mmcv --no-cache-dir onedl-mmcv{pin}"


def _why_not_mmcv() -> str | None:
    if sys.modules.get(EXTENSION) is not None:
        return None
    package = importlib.util.find_spec("mmcv")
    if package is None:
        return "not installed"
    # find_spec("mmcv._ext") would import mmcv, two seconds that an absent extension is not worth.
    if importlib.machinery.PathFinder.find_spec(EXTENSION, package.submodule_search_locations) is None:
        return "installed without compiled operators"
    try:
        importlib.import_module("torch")  # the extension links against torch's libraries
        importlib.import_module(EXTENSION)
    except Exception as error:  # an ABI mismatch shows as ImportError, OSError or RuntimeError
        return f"compiled operators do not load ({_one_line(error)})"
    return None


def _why_not_torchvision() -> str | None:
    try:
        if importlib.util.find_spec("torchvision") is None:
            return "not installed"
        importlib.import_module("torchvision")
        importlib.import_module("flsl_bench.ops.torchvision_kernels").probe()
    except Exception as error:  # beside a CPU build of torch this is a RuntimeError, not an ImportError
        return f"does not work here ({_one_line(error)})"
    return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
