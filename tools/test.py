#!/usr/bin/env python
"""Score a fine-tuned checkpoint; leaves a record where the checkpoint tells what it was trained from."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flsl_bench.cli import run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    from flsl_bench.tasks.arguments import parser

    made = parser(__doc__)
    made.add_argument("checkpoint", help="checkpoint that training wrote")
    made.add_argument("--out", metavar="FILE.pkl", help="dump the raw predictions")
    made.add_argument("--show-dir", metavar="DIR", help="draw the predictions over their images")
    return made.parse_args(argv)


def main() -> int:
    arguments = parse_args()
    from flsl_bench.openmmlab.execution import check_gpus
    from flsl_bench.results.terminal import print_record
    from flsl_bench.tasks import openmmlab
    from flsl_bench.tasks.arguments import job_options

    job = openmmlab.prepare_test(
        arguments.config, arguments.checkpoint, show_dir=arguments.show_dir, **job_options(arguments)
    )
    if arguments.preflight:
        check_gpus(arguments.gpus_per_node)
        openmmlab.check(job)
        return 0
    scores, record = openmmlab.test(job, arguments.out)
    if record is not None:
        print_record(record, job.results)
    elif scores:
        print("\n".join(f"{name}: {value:.2f}" for name, value in scores.items()))
        print(f"no record: {arguments.checkpoint} does not tell what it was trained from")
    return 0


if __name__ == "__main__":
    run_tool(main)
