"""The findings of `flsl-bench data check` on a terminal."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from flsl_bench.datasets.discovery import DATASETS, Finding
from flsl_bench.datasets.inspection import BROKEN, COMPLETE, MISSING, PARTIAL, SAMPLE

_STYLES = {COMPLETE: "green", SAMPLE: "cyan", PARTIAL: "yellow", MISSING: "dim", BROKEN: "red"}


def print_data(findings: Iterable[Finding], console: Console | None = None) -> None:
    """Print what lies where, what is missing, and how the folder of an incomplete data set must look."""
    console = console or Console()
    for finding in findings:
        for line in _lines(finding):
            console.print(line, soft_wrap=True)  # a wrapped path or command cannot be copied


def _lines(finding: Finding) -> Iterator[Text]:
    spec = DATASETS[finding.dataset]
    yield _line("", finding.state, spec.title, str(finding.folder or ""))
    width = max((len(split.name) for split in finding.splits), default=0)
    for split in finding.splits:
        yield _line("  ", split.state, split.name.ljust(width), split.detail)
    if finding.cure:
        yield Text(f"  {finding.cure}")
    if finding.state in (PARTIAL, MISSING, BROKEN):
        yield Text(f"  layout, with the files of {spec.published}:", style="dim")
        yield from (Text(f"    {line}", style="dim") for line in spec.layout.splitlines())
    yield Text()


def _line(indent: str, state: str, name: str, detail: str) -> Text:
    return Text.assemble(indent, (f"{state:<9}", _STYLES[state]), f"{name}  {detail}".rstrip())
