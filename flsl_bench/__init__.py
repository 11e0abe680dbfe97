"""Downstream evaluation of dense self-supervised checkpoints: COCO, UAVDT, ADE20K, DAVIS."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flsl_bench.suite import evaluate

__version__ = "0.1.0"
__all__ = ["evaluate"]


def __getattr__(name: str):
    if name == "evaluate":  # loaded when asked for: the package itself must import in no time
        from flsl_bench.suite import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
