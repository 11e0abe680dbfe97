"""The stand-in for the compiled module ``mmcv._ext``."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

from flsl_bench.errors import OperatorError
from flsl_bench.ops.provider import EXTENSION, Provider, compile_command, provider

OPERATORS = ("nms", "softnms", "roi_align_forward", "roi_align_backward")


def install() -> Provider:
    """Make ``import mmcv.ops`` work without the compiled operators; where they load, do nothing.

    Puts one module, ``mmcv._ext``, into ``sys.modules`` and changes nothing else. Call it before the first
    ``import mmcv.ops``; a second call has no effect.

    Returns:
        The provider in use.

    Raises:
        OperatorError: no provider is installed.
    """
    chosen = provider()
    if chosen.name != "mmcv" and sys.modules.get(EXTENSION) is None:
        sys.modules[EXTENSION] = _stand_in(chosen)
    return chosen


class _StandInLoader(importlib.abc.Loader):
    """mmcv and mmengine ask for the spec of the module and its loader to learn whether operators exist."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        return None


def _stand_in(chosen: Provider) -> ModuleType:
    spec = importlib.machinery.ModuleSpec(EXTENSION, _StandInLoader(), origin="flsl_bench.ops")
    module = importlib.util.module_from_spec(spec)
    module.__doc__ = f"Stand-in of flsl_bench.ops for mmcv's compiled operators, by {chosen.name} {chosen.version}."
    kernels = importlib.import_module(f"flsl_bench.ops.{chosen.name}_kernels")
    for name in OPERATORS:
        setattr(module, name, getattr(kernels, name))
    module.get_compiler_version = lambda: f"none (flsl_bench.ops with {chosen.name} {chosen.version})"
    module.get_compiling_cuda_version = lambda: "not available"
    module.__getattr__ = _missing_operator
    return module


def _missing_operator(name: str) -> Callable:
    """Stands for any other operator: mmcv asks for it at import, so only the call may fail."""
    if name.startswith("_"):
        raise AttributeError(f"module {EXTENSION!r} has no attribute {name!r}")

    def missing(*args: object, **kwargs: object) -> None:
        raise OperatorError(
            f"mmcv operator {name!r} exists only in a compiled mmcv (flsl_bench.ops offers NMS, soft-NMS and average "
            f"RoIAlign); compile it: {compile_command()}"
        )

    missing.__name__ = name
    return missing
