"""The tables of the results, made from their specs, and writing them to files."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flsl_bench.files import atomic_write_text
from flsl_bench.results.model_pages import by_model, model_page, model_scores
from flsl_bench.results.record import Record
from flsl_bench.results.rendering import FORMATS, MISSING, Row, Score, Section, Table, to_csv, to_markdown
from flsl_bench.results.reported import Figure
from flsl_bench.results.rows import NOISE, deviating_rows, mark_best, measured_rows, reported_rows
from flsl_bench.results.specs import TABLES, TableSpec, spec_of, table_order

DEVIATING_TITLE = "Measured with a changed protocol; not comparable with the papers"


def make_table(name: str, figures: Iterable[Figure], records: Iterable[Record]) -> Table:
    """The table called `name`: a section a protocol, and last, by their metrics, the records that changed theirs.

    The table `others` holds what no table before it shows, so that nothing is lost. Smoke runs are in none of them.
    """
    spec = TABLES[name]
    figures = [figure for figure in figures if _home(figure) is spec]
    records = [record for record in records if spec_of(record.task) is spec and not record.smoke]
    sections = [_section(spec, benchmark, figures, records) for benchmark in _benchmarks(spec, figures, records)]
    sections += _deviating_sections(spec, [record for record in records if not record.comparable])
    shown = tuple(section for section in sections if section.rows)
    return Table(spec.title, shown, (*_footnotes(shown), *spec.notes))


def render_tables(figures: Iterable[Figure], records: Iterable[Record]) -> dict[str, str]:
    """The text of every file, by its path below the folder of the tables. The same input gives the same text."""
    figures, records = list(figures), list(records)
    tables = {name: make_table(name, figures, records) for name in TABLES}
    tables = {name: table for name, table in tables.items() if table.sections}
    texts = {f"{name}.{suffix}": FORMATS[suffix](table) for name, table in tables.items() for suffix in FORMATS}
    for model, own in by_model(records).items():
        texts[f"models/{model}.md"] = to_markdown(model_page(figures, own))
        texts[f"models/{model}.csv"] = to_csv(model_scores(figures, own))
    return texts


def write_tables(texts: Mapping[str, str], folder: str | os.PathLike) -> list[Path]:
    """Write what `render_tables` gave into `folder`; a file that would stay as it is is not touched.

    Returns:
        The files that were written.
    """
    written = []
    for name, text in texts.items():
        path = Path(folder) / name
        if not path.is_file() or path.read_bytes() != text.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, text)
            written.append(path)
    return written


def stale_files(texts: Mapping[str, str], folder: str | os.PathLike) -> list[Path]:
    """Tables in `folder` that are not among `texts`, such as the page of a model whose records are gone."""
    folder = Path(folder)
    there = [path for suffix in FORMATS for path in (*folder.glob(f"*.{suffix}"), *folder.glob(f"models/*.{suffix}"))]
    return sorted(path for path in there if path.relative_to(folder).as_posix() not in texts)


def _home(figure: Figure) -> TableSpec:
    return next((spec for spec in TABLES.values() if spec.shows(figure)), TABLES["others"])


def _benchmarks(spec: TableSpec, figures: Iterable[Figure], records: Iterable[Record]) -> list[str]:
    """Those of the spec in its order, then those it does not know."""
    found = {figure.benchmark for figure in figures} | {r.protocol.name for r in records if r.comparable}
    return [*spec.sections, *sorted(found - spec.sections.keys())]


def _section(spec: TableSpec, benchmark: str, figures: Iterable[Figure], records: Iterable[Record]) -> Section:
    published = [figure for figure in figures if figure.benchmark == benchmark]
    own = [record for record in records if record.comparable and record.protocol.name == benchmark]
    metrics = _metrics(spec, published, own)
    rows = [
        *reported_rows(published, metrics, spec.gaps.get(benchmark, ())),
        *measured_rows(own, published, metrics),
    ]
    unknown = benchmark if published else f"{benchmark} (nothing reported)"
    columns = ("Method", "Backbone", *map(_head, metrics), "Source")
    return Section(spec.sections.get(benchmark, unknown), columns, tuple(mark_best(rows, metrics)))


def _deviating_sections(spec: TableSpec, records: Iterable[Record]) -> list[Section]:
    """Tasks with the same metrics share a section; if there are several, as of probes, their tasks name them."""
    groups: dict[frozenset[str], list[Record]] = {}
    records = sorted(records, key=table_order)
    for task in dict.fromkeys(record.task for record in records):
        own = [record for record in records if record.task == task]
        names = frozenset(metric.name for record in own for metric in record.metrics)
        groups.setdefault(names, []).extend(own)
    return [_deviating_section(spec, group, named=len(groups) > 1) for group in groups.values()]


def _deviating_section(spec: TableSpec, records: Sequence[Record], named: bool) -> Section:
    tasks = ", ".join(dict.fromkeys(record.task for record in records))
    metrics = _metrics(spec, [], records)
    columns = ("Model", "Backbone", *map(_head, metrics), "Deviations", "Protocol", "Data", "Runs")
    title = f"{DEVIATING_TITLE}: {tasks}" if named else DEVIATING_TITLE
    return Section(title, columns, tuple(deviating_rows(records, metrics)), comparable=False)


def _metrics(spec: TableSpec, figures: Iterable[Figure], records: Iterable[Record]) -> list[str]:
    """The spec's metrics, of its further ones those that have a value, and in `others` whatever else was found."""
    found = dict.fromkeys(figure.record_metric for figure in figures)
    found |= dict.fromkeys(m.name for record in records for m in record.metrics if m.value is not None)
    known = [*spec.metrics, *(metric for metric in spec.more if metric in found)]
    return known if spec.tasks else [*known, *(metric for metric in found if metric not in known)]


def _head(metric: str) -> str:
    return metric.replace("_", " ")


def _footnotes(sections: Sequence[Section]) -> tuple[str, ...]:
    """What the signs of the table mean, without those that do not occur."""
    rows = [row for section in sections for row in section.rows]
    scores = [score for section in sections for score in section.scores()]
    bold = _columns_with_best(sections)
    bounds = ", ".join(f"{bound} {name}" for name, bound in NOISE.items() if any(name in head for head in bold))
    told = [
        (
            any(_has_gap(row) and not row.measured for row in rows),
            f"{MISSING}: no source for this figure was found.",
        ),
        (
            any(_has_gap(row) and row.measured for row in rows),
            f"{MISSING} in a measured row: not measured, or the metric is not defined on these data.",
        ),
        (
            any(not row.measured and row.cells[-1] != MISSING for row in rows),
            "primary: the authors' own paper, repository or log; secondary: another work that quotes the figure; "
            "reproduction: somebody's re-run. Each figure's source is in results/reported.",
        ),
        (any(score.spread is not None for score in scores), "±: sample standard deviation over the seeds."),
        (
            any(score.difference is not None for score in scores),
            "In brackets behind a measured value: difference to the reported figure of the same protocol and backbone, "
            "for the method whose checkpoint layout the weights have.",
        ),
        (
            bold,
            f"Bold: the best of its column in its section, if it leads the second by more than {bounds}, "
            "which seeds alone can give a trained model.",
        ),
    ]
    return tuple(text for applies, text in told if applies)


def _has_gap(row: Row) -> bool:
    return any(isinstance(cell, Score) and cell.value is None for cell in row.cells)


def _columns_with_best(sections: Iterable[Section]) -> set[str]:
    return {
        head
        for section in sections
        for row in section.rows
        for head, cell in zip(section.columns, row.cells, strict=True)
        if isinstance(cell, Score) and cell.best
    }
