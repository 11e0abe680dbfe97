#!/usr/bin/env python
"""A probe of frozen features on one data set: nothing is fine-tuned; scores, records.

Every option of the protocol has its default; others are recorded as deviations. Started again it is not repeated, and
with --cache another probe over the same images costs no forward pass.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flsl_bench.cli import run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="such as prompt-seg-coco; see flsl-bench list")
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="the weights, in any known layout")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--work-dir", metavar="DIR", help="pictures (default: work_dirs/probes/<model>/<task>)")
    parser.add_argument("--cache", metavar="DIR", help="keep features here for further probes, 20 GiB at most")

    weights = parser.add_argument_group("weights, where the file leaves something open")
    weights.add_argument("--num-heads", type=int)
    weights.add_argument("--class-token", action=argparse.BooleanOptionalAction, help="is a CLS token in the sequence?")
    weights.add_argument("--branch", help="teacher, student, ...")

    protocol = parser.add_argument_group("protocol")
    settings = {"action": "append", "metavar": "NAME=VALUE", "default": []}
    protocol.add_argument("--option", **settings, help="of the probe, e.g. prompt=random points=5; may be repeated")
    protocol.add_argument("--feature", **settings, help="layer=-1, norm=true, facet=token or short_side=448")

    running = parser.add_argument_group("running")
    running.add_argument("--device", help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    running.add_argument("--smoke", action="store_true", help="the first eight images only; recorded as such")
    running.add_argument("--model-name", help="name in the tables (default: file name and digits of its hash)")
    running.add_argument("--results-dir", help="folder of the records (default: results/ of the checkout)")
    running.add_argument("--overwrite", action="store_true", help="probe and record again")
    return parser.parse_args(argv)


def main() -> int:
    arguments = parse_args()
    from flsl_bench.progress import bar
    from flsl_bench.results.terminal import print_record
    from flsl_bench.tasks import base
    from flsl_bench.tasks.probes import probe_task

    task = probe_task(arguments.task)
    job = task.prepare_job(
        arguments.checkpoint,
        arguments.data,
        reading={name: getattr(arguments, name) for name in ("num_heads", "class_token", "branch")},
        options=settings("--option", arguments.option),
        features=settings("--feature", arguments.feature),
        smoke=arguments.smoke,
        device=arguments.device,
        cache=arguments.cache,
        work_dir=arguments.work_dir,
        model=arguments.model_name,
        results=arguments.results_dir,
        overwrite=arguments.overwrite,
        command=sys.argv,
    )
    record = base.finished(task, job)
    if record is None:
        with bar(task.probe.name, "images") as report:
            outcome = task.run(job, report)
        record = base.keep(task, job, outcome)
        draw(task, job, outcome)
        print(f"{outcome.forward_passes} images went through the ViT")
    print_record(record, job.results)
    return 0


def draw(task, job, outcome) -> None:
    """Leave pictures; the record is there, and must not be reported as failed for want of them."""
    from flsl_bench.errors import FlslBenchError

    try:
        task.draw(job, outcome)
    except (FlslBenchError, OSError) as error:
        print(f"no pictures: {error}", file=sys.stderr)


def settings(option: str, given: list[str]) -> dict[str, object]:
    """`["points=5"]` to `{"points": 5}`."""
    import yaml

    from flsl_bench.errors import ConfigError

    values = {}
    for word in given:
        name, separator, value = word.partition("=")
        if not (separator and name and value):
            raise ConfigError(f"{option} {word}: write NAME=VALUE")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{option} {word}: the value is neither a word, a number nor a [list]") from None
    return values


if __name__ == "__main__":
    run_tool(main)
