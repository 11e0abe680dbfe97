"""The benchmarks, one module each. A new benchmark is a new module and one line here."""

from flsl_bench.tasks.ade20k import TASKS as ADE20K_TASKS
from flsl_bench.tasks.base import MetricSpec, Plan, Task, get, members, names, register
from flsl_bench.tasks.coco import Coco
from flsl_bench.tasks.davis import Davis
from flsl_bench.tasks.probes import TASKS as PROBE_TASKS
from flsl_bench.tasks.uavdt import Uavdt

for task in (Coco(), Uavdt(), Davis(), *ADE20K_TASKS, *PROBE_TASKS):
    register(task)

__all__ = ["MetricSpec", "Plan", "Task", "get", "members", "names", "register"]
