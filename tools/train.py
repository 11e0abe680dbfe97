#!/usr/bin/env python
"""Train a config on the checkpoint to evaluate, score it, and leave a record."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flsl_bench.cli import run_tool

FINISHED = 10  # exit code of the preflight where there is nothing left to do


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, e.g. mmconfigs/maskrcnn_vits16_flsl.py")
    parser.add_argument("--work-dir", help="logs and checkpoints (default: work_dirs/<config name>)")
    parser.add_argument("--amp", action="store_true", help="mixed precision, where the config does not say so already")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate to the batch size")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint, by default the latest one in the work dir",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. data_root=DIR init_checkpoint=FILE randomness.seed=1",
    )
    parser.add_argument("--results-dir", help="folder of the records (default: results/ of the checkout)")
    parser.add_argument("--overwrite", action="store_true", help="run again although a finished record is there")
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
    from flsl_bench.results.tables import print_record
    from flsl_bench.tasks import openmmlab

    job = openmmlab.prepare_training(
        arguments.config,
        options=arguments.cfg_options,
        work_dir=arguments.work_dir,
        resume=arguments.resume,
        amp=arguments.amp,
        auto_scale_lr=arguments.auto_scale_lr,
        launcher=arguments.launcher,
        processes=arguments.preflight,
        results=arguments.results_dir,
        overwrite=arguments.overwrite,
        command=sys.argv,
        progress=arguments.progress,
    )
    if arguments.preflight:
        return preflight(job, arguments.gpus_per_node)
    record = openmmlab.train(job, checked="FLSL_BENCH_CHECKED" in os.environ)
    if record is not None:
        print_record(record, job.results)
    return 0


def preflight(job, gpus: int) -> int:
    """What a launcher asks before it starts processes, so that an error is said once and not by each of them."""
    from flsl_bench.openmmlab.execution import check_gpus
    from flsl_bench.results.tables import print_record
    from flsl_bench.tasks import openmmlab

    check_gpus(gpus)
    openmmlab.check(job)
    done = openmmlab.finished(job)
    if done is None:
        return 0
    print_record(done, job.results)
    return FINISHED


if __name__ == "__main__":
    run_tool(main)
