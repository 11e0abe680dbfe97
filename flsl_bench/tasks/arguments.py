"""The command-line arguments that tools/train.py and tools/test.py share, as OpenMMLab's own tools name them."""

import argparse
import os
import sys
from typing import Any

from mmengine.config import DictAction


class _Settings(DictAction):
    """mmengine's, with an error in place of a traceback for a word without a sign of equality."""

    def __call__(self, parser: argparse.ArgumentParser, namespace, values, option_string=None) -> None:
        for word in values:
            if "=" not in word:
                parser.error(f"{option_string} {word}: write KEY=VALUE")
        super().__call__(parser, namespace, values, option_string)


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with everything that does not depend on whether a run trains or tests."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("config", help="config file, e.g. mmconfigs/maskrcnn_vits16_flsl.py")
    made.add_argument("--work-dir", help="logs and checkpoints (default: work_dirs/<config name>)")
    made.add_argument(
        "--cfg-options",
        nargs="+",
        action=_Settings,
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. data_root=DIR init_checkpoint=FILE randomness.seed=1",
    )
    made.add_argument("--results-dir", help="folder of the records (default: results/ of the checkout)")
    made.add_argument("--overwrite", action="store_true", help="run again although a finished record is there")
    made.add_argument("--progress", action="store_true", help="a progress bar in place of log lines")
    made.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    made.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    made.add_argument("--preflight", type=int, metavar="PROCESSES", help=argparse.SUPPRESS)
    made.add_argument("--gpus-per-node", type=int, help=argparse.SUPPRESS)
    return made


def job_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the parsed arguments mean to `prepare_training` and `prepare_test` alike."""
    os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))
    return {
        "options": arguments.cfg_options,
        "work_dir": arguments.work_dir,
        "launcher": arguments.launcher,
        "processes": arguments.preflight,
        "results": arguments.results_dir,
        "overwrite": arguments.overwrite,
        "command": sys.argv,
        "progress": arguments.progress,
    }
