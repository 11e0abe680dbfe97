"""One page a measured model: its weights, its figures on all tasks, its records."""

from collections.abc import Iterable, Sequence

from flsl_bench.results.record import Record
from flsl_bench.results.rendering import Row, Score, Section, Table
from flsl_bench.results.reported import Figure
from flsl_bench.results.rows import (
    average,
    backbone_of,
    data_label,
    distinctions,
    group_seeds,
    method_of,
    published,
    record_paths,
    short_deviations,
)
from flsl_bench.results.specs import spec_of, table_order

_WEIGHTS = (
    *("File", "SHA-256", "Format", "Branch", "Architecture", "Patch size"),
    *("Heads", "Number of heads from", "Prefix tokens"),
)
_RECORDS = ("Task", "Protocol", "Version", "Protocol followed", "Seed", "Finished", "Record")
_SCORES = (
    *("Task", "Protocol", "Version", "Changed", "Data", "Weights", "Heads"),
    *("Metric", "Measured", "Reported", "Seeds", "Records"),
)
_FOOTNOTES = (
    "±: sample standard deviation over the seeds. In brackets: difference to the reported figure, which is that of the "
    "same protocol and backbone for the method whose checkpoint layout the weights have.",
    "—: not defined on these data; under Reported: no source for this figure was found.",
    "Records lie below the folder of the results.",
)


def by_model(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each model, in the order of the tables; models in the order of their names."""
    models: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.model, table_order(record), record.seed)):
        models.setdefault(record.model, []).append(record)
    return models


def model_page(figures: Sequence[Figure], records: Sequence[Record]) -> Table:
    """The page of the one model that `records` are of: what followed its protocol first, the rest apart."""
    groups = _groups(records)
    sections = (
        Section("Weights", _WEIGHTS, tuple(dict.fromkeys(_weights_row(record) for record in records))),
        *(_group_section(group, told, figures) for group, told in zip(groups, _told_apart(groups), strict=True)),
        Section("Records", _RECORDS, tuple(_record_row(record) for record in records)),
    )
    return Table(records[0].model, sections, _FOOTNOTES)


def model_scores(figures: Sequence[Figure], records: Sequence[Record]) -> Table:
    """What `model_page` shows as one long section, a row a metric, for programs to read."""
    rows = tuple(row for group in _groups(records) for row in _score_rows(group, figures))
    return Table(records[0].model, (Section(records[0].model, _SCORES, rows),))


def run_summary(figures: Sequence[Figure], records: Sequence[Record]) -> Table:
    """One short table of one model's records on all tasks: the columns of each task's own table, a row each."""
    rows = [row for group in _groups(records) for row in _summary_rows(group, figures)]
    section = Section("All tasks", ("Task", "Metric", "Measured", "Reported", "Protocol", "Seeds"), tuple(rows))
    return Table(records[0].model, (section,), _FOOTNOTES[:2])


def _summary_rows(group: Sequence[Record], figures: Iterable[Figure]) -> list[Row]:
    """What was changed stands in the first row only."""
    one = group[0]
    shown = spec_of(one.task).metrics or (one.metrics[0].name,)
    changed = "a smoke run" if one.smoke else f"changed: {short_deviations(one.protocol.deviations)}"
    told = one.protocol.name if one.comparable else f"{one.protocol.name}, {changed}"
    about = (told, f"seed{'s' if len(group) > 1 else ''} {_seeds(group)}")
    cells = [(name.replace("_", " "), *scores) for name, *scores in _scores(group, figures) if name in shown]
    firsts = [(one.task, about), *[("", ("", ""))] * len(cells)]
    return [Row((task, *scores, *told), measured=True) for (task, told), scores in zip(firsts, cells, strict=False)]


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    return sorted(group_seeds(records), key=lambda group: table_order(group[0]))


def _told_apart(groups: Sequence[Sequence[Record]]) -> list[list[str]]:
    """What tells each group from those of the same task, protocol and deviations."""
    told = []
    for group in groups:
        alike = [other for other in groups if _setting(other[0]) == _setting(group[0])]
        told.append(distinctions(alike)[alike.index(group)])
    return told


def _setting(record: Record) -> tuple:
    return (record.task, record.protocol.name, _changes(record))


def _changes(record: Record) -> str:
    return short_deviations(record.protocol.deviations, most=None)


def _scores(group: Sequence[Record], figures: Iterable[Figure]) -> list[tuple[str, Score, Score]]:
    """Metric, measured, reported, for every metric of the group's records; nothing reported where they deviate."""
    one = group[0]
    own = [figure for figure in figures if one.comparable and figure.benchmark == one.protocol.name]
    values = [(metric.name, published(own, one, metric.name)) for metric in one.metrics]
    return [(name, average(group, name, value), Score(value)) for name, value in values]


def _group_section(group: Sequence[Record], told: Sequence[str], figures: Sequence[Figure]) -> Section:
    one, spec = group[0], spec_of(group[0].task)
    title = ", ".join([spec.heading(one.protocol.name), *told])
    columns = ("Metric", "Measured", " ".join(["Reported:", method_of(one) or "no method known", backbone_of(one)]))
    reported = {figure.benchmark for figure in figures} | spec.gaps.keys()
    if not one.comparable:
        title = f"{title}; changed, not comparable with the papers"
    width = 3 if one.comparable and one.protocol.name in reported else 2
    rows = tuple(Row(cells[:width], measured=True) for cells in _scores(group, figures))
    return Section(title, columns[:width], rows, comparable=one.comparable, about=_about(group))


def _about(group: Sequence[Record]) -> str:
    one = group[0]
    told = f"{one.protocol.name}, version {one.protocol.version}. {data_label(one)}. "
    told += f"Seed{'s' if len(group) > 1 else ''} {_seeds(group)}."
    return told if one.comparable else f"{told} Changed: {_changes(one)}."


def _seeds(group: Sequence[Record]) -> str:
    return ", ".join(str(record.seed) for record in group)


def _weights_row(record: Record) -> Row:
    weights = record.weights
    return Row(
        (
            *(weights.file, weights.sha256[:12], weights.format, weights.branch or "none", weights.arch),
            *(str(weights.patch_size), str(weights.num_heads), weights.heads_source, str(weights.prefix_tokens)),
        )
    )


def _record_row(record: Record) -> Row:
    protocol = (record.protocol.name, record.protocol.version, "yes" if record.comparable else "no")
    return Row((record.task, *protocol, str(record.seed), f"{record.finished:%Y-%m-%d}", *record_paths([record])))


def _score_rows(group: Sequence[Record], figures: Iterable[Figure]) -> list[Row]:
    one = group[0]
    protocol = (one.task, one.protocol.name, one.protocol.version, _changes(one), data_label(one))
    about = (*protocol, one.weights.sha256[:12], str(one.weights.num_heads))
    records = " ".join(record_paths(group))
    return [Row((*about, *scores, _seeds(group), records), measured=True) for scores in _scores(group, figures)]
