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
    from flsl_bench.tasks.arguments import parser

    made = parser(__doc__)
    made.add_argument("--amp", action="store_true", help="mixed precision, where the config does not say so already")
    made.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate to the batch size")
    made.add_argument("--smoke", action="store_true", help="a few steps on a few small images; recorded as such")
    made.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint, by default the latest one in the work dir",
    )
    return made.parse_args(argv)


def main() -> int:
    arguments = parse_args()
    from flsl_bench.results.terminal import print_record
    from flsl_bench.tasks import openmmlab
    from flsl_bench.tasks.arguments import job_options

    job = openmmlab.prepare_training(
        arguments.config,
        resume=arguments.resume,
        amp=arguments.amp,
        auto_scale_lr=arguments.auto_scale_lr,
        smoke=arguments.smoke,
        **job_options(arguments),
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
    from flsl_bench.results.terminal import print_record
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
