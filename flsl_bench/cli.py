"""The command `flsl-bench`: parses, calls, prints. This module is the only place that exits."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flsl_bench.cli_options import Branch, ClassToken, Heads
from flsl_bench.cli_show import show_app
from flsl_bench.errors import ConfigError, FlslBenchError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
checkpoint_app = typer.Typer(no_args_is_help=True, help="What a weight file is, and a clean copy of its backbone.")
app.add_typer(checkpoint_app, name="checkpoint")
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is there, and conversion into what is read.")
app.add_typer(data_app, name="data")
app.add_typer(show_app, name="show")

ResultsDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the records (default: results/ of the checkout).")
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
    """From a checkpoint in FLSL's layout to the tables of all benchmarks, on miniatures, within minutes on a CPU."""
    from flsl_bench.demo import run_demo

    if not run_demo(work_dir, overwrite):
        raise typer.Exit(1)


@app.command()
def run(
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="The weights, in any known layout.")],
    data_root: Annotated[
        Path, typer.Option(metavar="DIR", help="Holds the data sets; each is found by its layout, not by its name.")
    ] = Path("data"),
    tasks: Annotated[str, typer.Option(help="Names as `flsl-bench list` shows them.")] = "coco,uavdt,ade20k,davis",
    work_dir: Annotated[Path, typer.Option(metavar="DIR", help="Logs, checkpoints, masks.")] = Path("work_dirs/suite"),
    results_dir: ResultsDir = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="A data set that lies elsewhere; may be repeated.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(metavar="TASK=FILE", help="A config of your own for a task; may be repeated.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Processes, one a GPU.")] = 1,
    seeds: Annotated[str, typer.Option(help="Comma-separated; tasks without chance run once.")] = "0",
    slurm: Annotated[str | None, typer.Option(metavar="PARTITION", help="Run as Slurm jobs, all at once.")] = None,
    slurm_hours: Annotated[float, typer.Option(min=0.1, help="Time limit of a job; after it, it is resumed.")] = 24.0,
    model_name: Annotated[str | None, typer.Option(help="Name in the tables (default: file name and hash).")] = None,
    arch: Annotated[str | None, typer.Option(help="Expected architecture, e.g. vit_small.")] = None,
    patch_size: Annotated[int | None, typer.Option(help="Expected patch size.")] = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
    branch: Branch = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few steps on a few small images; recorded as such.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run again although records are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every input, print the plan, stop.")] = False,
) -> None:
    """From a checkpoint to the whole table: checks everything, runs what is not finished, prints the papers' rows too.

    Example: flsl-bench run --checkpoint checkpoints/flsl_vits16.pth --data-root data --gpus 8 --seeds 0,1,2
    """
    from rich.console import Console

    from flsl_bench.paths import RESULTS
    from flsl_bench.suite import Wish, execute

    wish = Wish(
        checkpoint=checkpoint,
        tasks=tuple(name.strip() for name in tasks.split(",") if name.strip()),
        data_root=data_root,
        work_dir=work_dir,
        results=results_dir or RESULTS,
        data={name: Path(folder) for name, folder in _pairs("--data", data).items()},
        configs=_pairs("--config", config),
        seeds=_seeds(seeds),
        processes=gpus,
        slurm=slurm,
        model=model_name,
        arch=arch,
        patch_size=patch_size,
        reading={"num_heads": num_heads, "class_token": class_token, "branch": branch},
        smoke=smoke,
        overwrite=overwrite,
    )
    _, failures = execute(wish, Console(highlight=False), dry_run=dry_run, hours=slurm_hours)
    if failures:
        raise typer.Exit(1)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`["coco=DIR"]` to `{"coco": "DIR"}`."""
    pairs = {}
    for word in given or []:
        name, separator, value = word.partition("=")
        if not (separator and name and value):
            raise ConfigError(f"{option} {word}: write NAME=VALUE")
        pairs[name] = value
    return pairs


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds {text}: write whole numbers with commas between them, e.g. 0,1,2") from None
    if min(seeds) < 0:
        raise ConfigError(f"--seeds {text}: a seed is not negative")
    return seeds


@app.command(name="list")
def list_all() -> None:
    """The tasks with their metrics, data, protocol and cost; the known models and where their weights are."""
    from rich.console import Console

    from flsl_bench.known_models import models_table
    from flsl_bench.tasks.listing import tasks_table

    console = Console(highlight=False)
    console.print(tasks_table())
    console.print(models_table())


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model as `flsl-bench results` names it.")],
    b: Annotated[str, typer.Argument(metavar="B")],
    results_dir: ResultsDir = None,
) -> None:
    """Two models side by side over all tasks; a lead within the noise between seeds is told as none.

    Example: flsl-bench compare flsl_vits16 dino_vits16
    """
    from rich.console import Console

    from flsl_bench.paths import RESULTS
    from flsl_bench.results.comparison import compare_models
    from flsl_bench.results.store import Store
    from flsl_bench.results.terminal import terminal_table

    Console(highlight=False).print(terminal_table(compare_models(Store(results_dir or RESULTS), a, b)))


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
def results(results_dir: ResultsDir = None) -> None:
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


@app.command()
def report(
    work_dir: Annotated[Path, typer.Option(metavar="DIR", help="Its panels are shown, and the page goes there.")],
    results_dir: ResultsDir = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where else the page goes.")] = None,
) -> None:
    """One HTML page of all tables, curves, pictures and records; it needs no server and no network.

    Example: flsl-bench report --work-dir work_dirs/suite
    """
    from flsl_bench.paths import RESULTS
    from flsl_bench.report import write_report

    print(write_report(work_dir, results_dir or RESULTS, out))


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


@data_app.command()
def check(
    data_root: Annotated[Path, typer.Argument(metavar="DIR", help="Holds the data sets, or is one of them.")],
) -> None:
    """What lies there, complete or not, and how each folder must look. Exit code 1 if something there is broken.

    Example: flsl-bench data check data
    """
    from flsl_bench.datasets.discovery import check_data
    from flsl_bench.datasets.inspection import BROKEN
    from flsl_bench.datasets.report import print_data

    findings = check_data(data_root)
    print_data(findings)
    if any(finding.state == BROKEN for finding in findings):
        raise typer.Exit(1)


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
