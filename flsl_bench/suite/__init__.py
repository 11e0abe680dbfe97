"""From a checkpoint to the whole table: what is to run (`planning`), how it is run (`launching`, `slurm`), and both."""

from flsl_bench.suite.evaluation import Failure, evaluate, execute
from flsl_bench.suite.planning import Unit, Wish, make_units

__all__ = ["Failure", "Unit", "Wish", "evaluate", "execute", "make_units"]
