#!/usr/bin/env python
"""Score a fine-tuned checkpoint; leaves a record where the checkpoint tells what it was trained from."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flsl_bench.cli import run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, e.g. mmconfigs/maskrcnn_vits16_flsl.py")
    parser.add_argument("checkpoint", help="checkpoint that training wrote")
    parser.add_argument("--work-dir", help="logs (default: work_dirs/<config name>)")
    parser.add_argument("--out", metavar="FILE.pkl", help="dump the raw predictions")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="override settings")
    parser.add_argument("--results-dir", help="folder of the records (default: results/ of the checkout)")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished record")
    parser.add_argument("--progress", action="store_true", help="a progress bar in place of log lines")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--preflight", type=int, metavar="PROCESSES", help=argparse.SUPPRESS)
    parser.add_argument("--gpus-per-node", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))
    return arguments


def main() -> int:
    arguments = parse_args()
    from flsl_bench.openmmlab import execution
    from flsl_bench.results.tables import print_record
    from flsl_bench.tasks import openmmlab

    job = openmmlab.prepare_test(
        arguments.config,
        arguments.checkpoint,
        options=arguments.cfg_options,
        work_dir=arguments.work_dir,
        launcher=arguments.launcher,
        processes=arguments.preflight,
        results=arguments.results_dir,
        overwrite=arguments.overwrite,
        command=sys.argv,
        progress=arguments.progress,
    )
    if arguments.preflight:
        execution.check_gpus(arguments.gpus_per_node)
        openmmlab.check(job)
        return 0
    _, record = openmmlab.test(job, arguments.out)
    if record is not None:
        print_record(record, job.results)
    return 0


if __name__ == "__main__":
    run_tool(main)
