"""The command `flsl-bench`: parses, calls, prints. This module is the only place that exits."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flsl_bench.errors import FlslBenchError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
checkpoint_app = typer.Typer(no_args_is_help=True, help="What a weight file is, and a clean copy of its backbone.")
app.add_typer(checkpoint_app, name="checkpoint")
data_app = typer.Typer(no_args_is_help=True, help="Data sets: conversion into the layouts that the benchmarks read.")
app.add_typer(data_app, name="data")

Branch = Annotated[str | None, typer.Option(help="teacher, student, ...: which network of the file.")]
Heads = Annotated[int | None, typer.Option(help="Number of attention heads, where the file does not tell it.")]
ClassToken = Annotated[
    bool | None, typer.Option(help="Whether a CLS token is in the sequence, where the tensors leave it open.")
]


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's `main` and exit with its code; an error that a user can mend is one line and code 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        sys.exit(main() or 0)
    except FlslBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:  # not about a file the user can name: keep the traceback
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Entry point of `flsl-bench`."""
    run_tool(app)


@app.command()
def demo(
    work_dir: Annotated[Path, typer.Option(help="Everything the demo writes.")] = Path("work_dirs/demo"),
    overwrite: Annotated[bool, typer.Option(help="Run again although its record is there.")] = False,
) -> None:
    """From a checkpoint in FLSL's layout to a COCO table, on a miniature COCO, within minutes on a CPU."""
    from flsl_bench.demo import run_demo

    run_demo(work_dir, overwrite)


@app.command()
def doctor() -> None:
    """What is installed, what is missing, and the pip line that cures it. Exit code 1 if something must be cured."""
    from rich.console import Console

    from flsl_bench.doctor import diagnose

    console = Console(soft_wrap=True, highlight=False, markup=False)  # a wrapped pip line cannot be copied
    findings = diagnose()
    for finding in findings:
        console.print(f"{finding.state:<8}{finding.name:<22}{finding.detail}")
        if finding.cure:
            console.print(f"{'':<30}{finding.cure}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


@app.command()
def results(
    results_dir: Annotated[
        Path | None, typer.Option(help="Folder of the records (default: results/ of the checkout).")
    ] = None,
) -> None:
    """List the finished records."""
    from rich.console import Console

    from flsl_bench.paths import RESULTS
    from flsl_bench.results.store import Store
    from flsl_bench.results.terminal import results_overview

    store = Store(results_dir or RESULTS)
    records = list(store.records())
    if records:
        Console().print(results_overview(records))
    else:
        print(f"no records in {store.root}")


@checkpoint_app.command()
def inspect(
    file: Path,
    branch: Branch = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
    json: Annotated[bool, typer.Option("--json", help="All facts as JSON.")] = False,
) -> None:
    """Format, architecture, heads and where their number came from, key coverage, SHA-256.

    Example: flsl-bench checkpoint inspect checkpoint.pth
    """
    import json as json_format

    from flsl_bench.checkpoints import load_checkpoint

    facts = load_checkpoint(file, branch=branch, num_heads=num_heads, class_token=class_token).facts
    if json:
        print(json_format.dumps(facts.to_dict(), indent=2))
        return
    for name, value in facts.describe():
        print(f"{name:<14}{value}")


@checkpoint_app.command()
def convert(
    file: Path,
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors")],
    branch: Branch = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
) -> None:
    """Write the clean backbone as safetensors, with what is known of it in the header.

    Example: flsl-bench checkpoint convert checkpoint.pth flsl_vits16.safetensors
    """
    from flsl_bench.checkpoints import convert

    facts = convert(file, out, branch=branch, num_heads=num_heads, class_token=class_token)
    print(f"{out}: {facts.matched_keys} weights of {facts.architecture.name} from {facts.format}")


@data_app.callback()
def _data() -> None:
    """Keeps `data` a group while it has one command."""


@data_app.command()
def convert_uavdt(
    gt: Annotated[Path, typer.Option(metavar="DIR", help="The official text files, <sequence>_gt_whole.txt ...")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets annotations/uavdt_train.json and uavdt_test.json.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="UAV-benchmark-M; its frames are checked and measured.")
    ] = None,
    image_size: Annotated[tuple[int, int], typer.Option(help="Width and height where there are no images.")] = (
        1024,
        540,
    ),
) -> None:
    """UAVDT's official files to COCO JSON, by the official 30/20 split; ignore regions become crowds.

    Example: flsl-bench data convert-uavdt --gt UAV-benchmark-MOTD_v1.0/GT --images UAV-benchmark-M --out data/uavdt
    """
    from flsl_bench.datasets.uavdt import convert
    from flsl_bench.progress import bar

    with bar("convert", "sequences") as report:
        conversion = convert(gt, out, images_dir=images, image_size=image_size, progress=report)
    for split in (conversion.train, conversion.test):
        kinds = ", ".join(f"{count} {name}" for name, count in split.boxes_per_category.items())
        complete = "complete" if split.matches_official_counts() else "not the complete official split"
        print(f"{split.path}: {split.frames} frames, {split.boxes} boxes ({kinds}), {complete}")
        print(f"  {len(split.sequences)} sequences, {split.ignore_regions} ignore regions")
        if split.missing_sequences:
            print(f"  not in {gt}: {', '.join(split.missing_sequences)}")
        if split.frames_without_boxes:
            print(f"  left out: {split.frames_without_boxes} frames with ignore regions only")
        for reason, count in split.skipped_per_reason.items():
            print(f"  skipped: {count} lines, {reason}")
    if conversion.unknown_sequences:
        print(f"in neither split, not converted: {', '.join(conversion.unknown_sequences)}")
