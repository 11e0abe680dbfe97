"""The benchmarks, one module each. A new benchmark is a new module and one line here."""

from flsl_bench.tasks.base import MetricSpec, Plan, Task, get, names, register
from flsl_bench.tasks.coco import Coco
from flsl_bench.tasks.davis import Davis

register(Coco())
register(Davis())

__all__ = ["MetricSpec", "Plan", "Task", "get", "names", "register"]
