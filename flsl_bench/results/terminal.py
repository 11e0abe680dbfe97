"""Results on a terminal: one record, an overview of many, a table of the results."""

import os
import re
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from flsl_bench.results.record import Metric, Record
from flsl_bench.results.rendering import MISSING, Row, Score, Section, Table, markers, number_notes
from flsl_bench.results.rows import digits_of, short_deviations
from flsl_bench.results.store import Store

_KIND = re.compile(r"(?P<kind>[a-z]+)_(?P<statistic>A[PR](?:50|75|100|10|1|s|m|l)?)")
_STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def print_record(record: Record, results_dir: str | os.PathLike, console: Console | None = None) -> None:
    """Print the metrics of a finished run, how it deviates from the protocol, and where its record lies.

    Of box, mask, ... scores the APs are printed, of scores of parts the highest and the lowest three; the rest is in
    the record.
    """
    console = console or Console()
    path = Store(results_dir).path(record.model, record.task, record.key)
    console.print(Text(f"{record.model} on {record.task}, seed {record.seed}", style="bold"))
    by_kind, others = _split_metrics(record.metrics)
    if by_kind:
        console.print(_kinds_table(by_kind))
    if others:
        console.print(_list_table(others))
    for name, scores in record.breakdowns.items():
        console.print(_breakdown(name, scores))
    if not record.comparable:
        told = short_deviations(record.protocol.deviations, most=None)
        console.print(Text(f"not comparable with the papers: {told}", style="yellow"))
    console.print(Text(f"record: {path}"), soft_wrap=True)  # a wrapped path cannot be copied


def results_overview(records: Iterable[Record]) -> RichTable:
    """One line a record with its primary metric."""
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    table.add_column("task", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("comparable")
    table.add_column("seed", justify="right")
    for head in ("finished", "key"):
        table.add_column(head, no_wrap=True)
    for record in records:
        primary = record.metrics[0]
        table.add_row(
            Text(record.model),
            Text(record.task),
            Text(primary.name),
            _with_unit(primary),
            "yes" if record.comparable else "no",
            str(record.seed),
            f"{record.finished:%Y-%m-%d %H:%M}",
            record.key,
        )
    return table


def terminal_table(table: Table) -> Group:
    """The table's first section and all with measured rows, for 100 columns.

    Words that follow a row's scores, such as its source, stand below its first cell.
    """
    sections = [s for number, s in enumerate(table.sections) if number == 0 or s.measured]
    numbers = number_notes(sections)
    notes = [*table.footnotes, *(f"[{number}] {note}" for note, number in numbers.items())]
    parts = [part for section in sections for part in (*_heading(section), _section(section, numbers), Text())]
    return Group(Text(table.title, style="bold"), Text(), *parts, *(Text(note, style="dim") for note in notes))


def _heading(section: Section) -> list[Text]:
    title = Text(section.title, style="bold" if section.comparable else "bold yellow")
    return [title, Text(section.about, style="dim")] if section.about else [title]


def _section(section: Section, numbers: dict[str, int]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    scores = [c for c in range(len(section.columns)) if section.is_score(c)]
    last_score = max(scores, default=len(section.columns))
    for number, head in enumerate(section.columns[: last_score + 1]):
        if section.is_score(number):
            narrow = head.replace(" ", "\n").replace("-", "-\n")
            table.add_column(narrow, justify="right", no_wrap=True, vertical="top")
        elif number == 0:
            table.add_column(head, overflow="fold", ratio=1, min_width=16 if scores else None)
        else:
            table.add_column(head, overflow="fold", no_wrap=head == "Backbone")
    for row in section.rows:
        table.add_row(_first_cell(row, last_score, numbers), *(_cell(cell) for cell in row.cells[1 : last_score + 1]))
    return table


def _first_cell(row: Row, last_score: int, numbers: dict[str, int]) -> Group:
    about = [cell for cell in row.cells[last_score + 1 :] if cell]
    if about:
        about[-1] += markers(row, numbers)
    return Group(Text(row.cells[0]), *(Padding(Text(line, style="dim"), (0, 0, 0, 2)) for line in about))


def _cell(cell: str | Score) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    remarks = cell.remark.replace(" (", "\n(")
    return Text.assemble((cell.text, "bold" if cell.best else ""), f"\n{remarks}" if remarks else "")


def _split_metrics(metrics: Iterable[Metric]) -> tuple[dict[str, dict[str, Metric]], list[Metric]]:
    """Box, mask, ... scores by kind and statistic; and all metrics of another make."""
    by_kind: dict[str, dict[str, Metric]] = {}
    others = []
    for metric in metrics:
        found = _KIND.fullmatch(metric.name)
        if found:
            by_kind.setdefault(found["kind"], {})[found["statistic"]] = metric
        else:
            others.append(metric)
    return by_kind, others


def _kinds_table(by_kind: dict[str, dict[str, Metric]]) -> RichTable:
    statistics = [name for name in _STATISTICS if any(name in metrics for metrics in by_kind.values())]
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("%")
    for name in statistics:
        table.add_column(name, justify="right")
    for kind, metrics in by_kind.items():
        table.add_row(kind, *(Score(metrics[name].value).text if name in metrics else MISSING for name in statistics))
    return table


def _list_table(metrics: Iterable[Metric]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for metric in metrics:
        table.add_row(Text(metric.name), _with_unit(metric))
    return table


def _breakdown(name: str, scores: dict[str, float | None], most: int = 3) -> Text:
    """`IoU by class, 150 entries` with the `most` highest and lowest ones; all of them if they are not more."""
    ranked = sorted(((value, part) for part, value in scores.items() if value is not None), reverse=True)
    if len(ranked) > 2 * most and all(map(_is_number, scores)):  # a curve
        return Text(f"{name}, {len(scores)} points: the highest is {Score(ranked[0][0]).text} at {ranked[0][1]}")
    undefined = f", {len(scores) - len(ranked)} not defined" if len(ranked) < len(scores) else ""
    parts = [f"{part} {Score(value).text}" for value, part in ranked]
    lines = [f"{name}, {len(scores)} entr{'y' if len(scores) == 1 else 'ies'}{undefined}"]
    if len(parts) <= 2 * most:
        lines += [f"  {', '.join(parts)}"] if parts else []
    else:
        lines += [f"  highest: {', '.join(parts[:most])}", f"  lowest: {', '.join(reversed(parts[-most:]))}"]
    return Text("\n".join(lines))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_unit(metric: Metric) -> str:
    value = Score(metric.value, digits=digits_of(metric.unit)).text
    return value if metric.value is None or not metric.unit else f"{value} {metric.unit}"
