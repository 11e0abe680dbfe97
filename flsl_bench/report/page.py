"""The page: header, tables, breakdowns, pictures and records, put into the template."""

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flsl_bench import __version__
from flsl_bench.errors import ConfigError
from flsl_bench.files import atomic_write_text
from flsl_bench.report.breakdowns import curves_of, is_number, tables_of
from flsl_bench.report.gallery import picture_groups
from flsl_bench.report.provenance import Run, anchor, command_of, facts_of, record_anchor, runs_of
from flsl_bench.results.record import Record
from flsl_bench.results.rendering import Row, Score, Section, Table, number_notes
from flsl_bench.results.reported import Figure, load_reported
from flsl_bench.results.rows import average, backbone_of, published, seeds_label
from flsl_bench.results.specs import TABLES, spec_of
from flsl_bench.results.store import Store
from flsl_bench.results.tables import make_table

_HERE = Path(__file__).parent
_OVERVIEW = ("Model", "Metric", "Measured", "Reported", "Benchmark", "Backbone", "Runs")


@dataclass(frozen=True)
class _TableView:
    """A table, its sections with measured rows apart from those that papers alone fill."""

    name: str
    table: Table

    @property
    def measured(self) -> list[Section]:
        return [section for section in self.table.sections if section.measured]

    @property
    def reported(self) -> list[Section]:
        return [section for section in self.table.sections if not section.measured]


def write_report(work_dir: str | os.PathLike, results: str | os.PathLike, out: str | os.PathLike | None = None) -> Path:
    """Write the page of the records below `results` and the panels below `work_dir`; returns its path.

    The same records and panels give the same bytes. `out` is WORK_DIR/report.html by default.

    Raises:
        ConfigError: there is no record.
        DataError: an index of panels is damaged.
    """
    work_dir, results = Path(work_dir), Path(results)
    store = Store(results)
    records = list(store.records())
    if not records:
        raise ConfigError(f"{store.root}: no records to report on; evaluate a checkpoint or name another --results-dir")
    path = Path(out) if out else work_dir / "report.html"
    atomic_write_text(path, render_page(records, load_reported(), work_dir, results))
    return path


def render_page(records: Sequence[Record], figures: Sequence[Figure], work_dir: Path, results: Path) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"arxiv": _arxiv_url, "run_anchor": _run_anchor, "decimal": _decimal}
    environment.globals |= {
        "number_notes": number_notes,
        "is_number": is_number,
        "curves_of": curves_of,
        "tables_of": tables_of,
        "facts_of": facts_of,
        "command_of": command_of,
        "record_anchor": record_anchor,
    }
    runs = runs_of(records)
    tables = [_TableView(name, make_table(name, figures, records)) for name in TABLES]
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=_summary(records),
        overview=_overview(runs, figures),
        tables=[view for view in tables if view.measured] + [view for view in tables if not view.measured],
        runs=runs,
        broken_down=[run for run in runs if any(record.breakdowns for record in run.records)],
        pictures=picture_groups(work_dir, records),
        results=results,
    )


def _summary(records: Sequence[Record]) -> list[tuple[str, str]]:
    days = sorted(f"{record.finished:%Y-%m-%d}" for record in records)
    smoke = sum(record.smoke for record in records)
    versions = _distinct(record.environment.packages.get("flsl-bench") for record in records)
    commits = _distinct(
        record.git_commit and re.sub(r"^([0-9a-f]{10})[0-9a-f]*", r"\1", record.git_commit) for record in records
    )
    return [
        ("Models", ", ".join(_distinct(record.model for record in records))),
        ("Records", f"{len(records)}" + (f", of them {smoke} of smoke runs" if smoke else "")),
        ("Finished", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"),
        ("Measured with", f"flsl_bench {', '.join(versions)}" if versions else "a version not known"),
        ("Git commits", ", ".join(commits) or "not known"),
        ("Page by", f"flsl_bench {__version__}"),
    ]


def _distinct(values: Iterable[str | None]) -> list[str]:
    return sorted({value for value in values if value})


def _overview(runs: Iterable[Run], figures: Iterable[Figure]) -> Section:
    """The primary metric of every run that followed its protocol."""
    figures = list(figures)
    rows = tuple(_overview_row(run, figures) for run in runs if run.one.comparable)
    return Section("Primary metrics", _OVERVIEW, rows)


def _overview_row(run: Run, figures: Iterable[Figure]) -> Row:
    one, metric = run.one, run.one.metrics[0].name
    value = published([figure for figure in figures if figure.benchmark == one.protocol.name], one, metric)
    scores = (average(run.records, metric, value), Score(value))
    about = (spec_of(one.task).heading(one.protocol.name), backbone_of(one), seeds_label(run.records))
    return Row((one.model, metric.replace("_", " "), *scores, *about), measured=True, records=run.paths)


def _arxiv_url(number: str) -> str:
    """The paper's page, empty where `number` is no arXiv number."""
    return f"https://arxiv.org/abs/{number}" if re.fullmatch(r"\d{4}\.\d{4,5}", number) else ""


def _run_anchor(paths: Sequence[str]) -> str:
    """The id of the run whose records lie at `paths`."""
    return f"run--{anchor(paths[0])}"


def _decimal(value: float | None) -> str:
    return Score(value).text
