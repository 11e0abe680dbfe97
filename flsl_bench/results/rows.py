"""From figures and records to table rows: grouping, averages over seeds, differences, and what is best."""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from flsl_bench.results.record import Metric, Record, record_key
from flsl_bench.results.rendering import MISSING, Row, Score
from flsl_bench.results.reported import Figure
from flsl_bench.results.store import Store

# Between runs that differ in the seed alone, scores whose names hold the word move this much: a smaller lead is none.
NOISE = {"AP": 0.3, "mIoU": 0.3, "J&F": 0.1}

# The method whose released weights have this layout, by the name its papers' rows carry.
METHOD_OF_FORMAT = {"flsl": "FLSL", "dino": "DINO", "selfpatch": "DINO+SelfPatch", "ibot": "iBOT"}

_SIZES = {"vit_tiny": "Ti", "vit_small": "S", "vit_base": "B", "vit_large": "L"}
_SIZE_ORDER = list(_SIZES.values())
_SOURCE_KINDS = ("primary", "secondary", "reproduction")


@dataclass(frozen=True)
class Gap:
    """A row that a table would have, were there a source for its figures."""

    method: str
    note: str
    backbone: str = MISSING


def backbone_label(arch: str, patch_size: int) -> str:
    """The backbone as papers write it: ('vit_small', 16) -> 'ViT-S/16'."""
    return f"ViT-{_SIZES[arch]}/{patch_size}" if arch in _SIZES else f"{arch}/{patch_size}"


def backbone_of(record: Record) -> str:
    """The record's backbone as papers write it."""
    return backbone_label(record.weights.arch, record.weights.patch_size)


def method_of(record: Record) -> str | None:
    """The method whose released weights have the layout of the record's, None where the layout does not tell."""
    return METHOD_OF_FORMAT.get(record.weights.format)


def noise(metric: str) -> float:
    """The lead in `metric` that seeds alone can give; infinite where it is not known."""
    return next((value for name, value in NOISE.items() if name in metric), math.inf)


def reported_rows(figures: Iterable[Figure], metrics: Sequence[str], gaps: Iterable[Gap] = ()) -> list[Row]:
    """One row for the figures of one paper, table, method, backbone and pretraining, the weakest first.

    Cells: method, backbone, `metrics`, source. Figures of other metrics are left out; each gap is a row of dashes.
    """
    groups: dict[tuple, dict[str, Figure]] = {}
    for figure in figures:
        if figure.record_metric in metrics:
            groups.setdefault(figure.row, {})[figure.record_metric] = figure
    rows = []
    for group in groups.values():
        one = next(iter(group.values()))
        scores = [Score(group[metric].value if metric in group else None) for metric in metrics]
        notes = tuple(dict.fromkeys(figure.note for figure in group.values() if figure.note))
        cells = (_reported_label(one), one.backbone, *scores, _source(group.values()))
        rows.append(Row(cells, notes, arxiv=one.arxiv))
    for gap in gaps:
        rows.append(Row((gap.method, gap.backbone, *(Score(None) for _ in metrics), MISSING), (gap.note,)))
    return sorted(rows, key=_row_order)


def measured_rows(records: Iterable[Record], figures: Sequence[Figure], metrics: Sequence[str]) -> list[Row]:
    """One row for the records that differ in the seed alone: mean, sample deviation, difference to `figures`.

    Cells as in `reported_rows`. The difference is to the figure of the same method and backbone, if there is one.
    """
    groups = group_seeds(records)
    rows = []
    for group, traits in zip(groups, distinctions(groups), strict=True):
        method = method_of(group[0])
        label = ", ".join([group[0].model, *traits]) + (f" ({method})" if method else "")
        scores = [average(group, metric, published(figures, group[0], metric)) for metric in metrics]
        cells = (label, backbone_of(group[0]), *scores, seeds_label(group))
        rows.append(Row(cells, measured=True, records=record_paths(group)))
    return sorted(rows, key=_row_order)


def deviating_rows(records: Iterable[Record], metrics: Sequence[str]) -> list[Row]:
    """Rows of records that changed the protocol: model, backbone, `metrics`, deviations, protocol, data, seeds."""
    rows = []
    for group in group_seeds(records):
        one = group[0]
        scores = [average(group, metric) for metric in metrics]
        about = (short_deviations(one.protocol.deviations), one.protocol.name, data_label(one), seeds_label(group))
        rows.append(Row((one.model, backbone_of(one), *scores, *about), measured=True, records=record_paths(group)))
    return sorted(rows, key=lambda row: tuple(str(cell) for cell in row.cells))


def group_seeds(records: Iterable[Record]) -> list[list[Record]]:
    """Records that differ in the seed alone, together; of two with one seed the later one counts."""
    groups: dict[tuple, dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: record.finished):
        groups.setdefault((record.model, question(record)), {})[record.seed] = record
    return [[seeds[seed] for seed in sorted(seeds)] for _, seeds in sorted(groups.items())]


def distinctions(groups: Sequence[Sequence[Record]]) -> list[list[str]]:
    """For each group, what tells its records from those of the other groups of the same model."""
    told = []
    for one, *_ in groups:
        peers = [other for other, *_ in groups if other.model == one.model]
        traits = [trait(one) for trait in _TRAITS if len({trait(peer) for peer in peers}) > 1]
        told.append(traits if traits or len(peers) == 1 else [f"data {question(one)[:8]}"])
    return told


def question(record: Record) -> str:
    """The record's key as it would be without the seed."""
    return record_key(record.weights, record.task, record.protocol, record.data, seed=0)


def record_paths(records: Iterable[Record]) -> tuple[str, ...]:
    """Where the records lie below the folder of the results."""
    return tuple(Store("").path(record.model, record.task, record.key).as_posix() for record in records)


def find_metric(record: Record, name: str) -> Metric | None:
    """The record's metric called `name`, also if its value is undefined."""
    return next((metric for metric in record.metrics if metric.name == name), None)


def average(records: Sequence[Record], metric: str, reported: float | None = None) -> Score:
    """Mean over the records, with the sample deviation of two or more, and the difference to `reported`."""
    found = [find_metric(record, metric) for record in records]
    if any(one is None or one.value is None for one in found):
        return Score(None)
    values = [one.value for one in found]
    centre = mean(values)
    return Score(
        centre,
        spread=stdev(values) if len(values) > 1 else None,
        difference=None if reported is None else centre - reported,
        higher_is_better=found[0].higher_is_better,
        digits=digits_of(found[0].unit),
    )


def digits_of(unit: str) -> int:
    """Decimals that a metric is told with: percents as papers print them, cosines with what tells them apart."""
    return 1 if unit == "%" else 3


def published(figures: Iterable[Figure], record: Record, metric: str) -> float | None:
    """The figure of `record`'s method and backbone, from the best kind of source, if those agree on one value."""
    identity = (method_of(record), backbone_of(record), metric)
    wanted = [f for f in figures if (f.method, f.backbone, f.record_metric) == identity]
    for kind in _SOURCE_KINDS:
        values = {figure.value for figure in wanted if figure.source_kind == kind}
        if values:
            return values.pop() if len(values) == 1 else None
    return None


def mark_best(rows: Sequence[Row], metrics: Sequence[str], first: int = 2) -> list[Row]:
    """`rows` with the best score of a column marked, if it leads the second by more than the metric's noise.

    The scores of `metrics` start in column `first`; where one of them says that lower is better, the lowest is best.
    Compared is what is printed, so that no 58.0 stands in bold above a 57.7 because its logs say 57.67.
    """
    rows = list(rows)
    for column, metric in enumerate(metrics, start=first):
        scores = [(row.cells[column], n) for n, row in enumerate(rows) if row.cells[column].value is not None]
        higher = all(score.higher_is_better for score, _ in scores)
        ranked = sorted(((round(score.value, 1), n) for score, n in scores), reverse=higher)
        if len(ranked) < 2:
            continue
        (leading, best), (second, _) = ranked[:2]
        if round(abs(leading - second), 6) > noise(metric):  # in binary, 44.9 - 44.6 is more than 0.3
            rows[best] = _with_cell(rows[best], column, replace(rows[best].cells[column], best=True))
    return rows


def seeds_label(records: Sequence[Record]) -> str:
    """`measured, 3 seeds`."""
    return f"measured, {len(records)} seed{'s' if len(records) != 1 else ''}"


def data_label(record: Record) -> str:
    """The number of images in each split: `117,266 train / 5,000 val images`."""
    splits = record.data.splits.items()
    return " / ".join(f"{split.images:,} {name}" for name, split in splits) + " images" if splits else record.data.name


def short_deviations(deviations: dict[str, Any], most: int | None = 3) -> str:
    """`key=value` of the first `most` deviations in the order of their names, then `and n more`."""
    parts = [f"{key}={_short(value)}" for key, value in sorted(deviations.items())]
    if most is None or len(parts) <= most:
        return ", ".join(parts)
    return f"{', '.join(parts[:most])} and {len(parts) - most} more"


def _short(value: Any, width: int = 40) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"


def _with_cell(row: Row, column: int, cell: Score) -> Row:
    return replace(row, cells=(*row.cells[:column], cell, *row.cells[column + 1 :]))


def _reported_label(figure: Figure) -> str:
    extras = [
        f"{figure.pretrain_epochs} epochs" if figure.pretrain_epochs else None,
        f"on {figure.pretrain_data}" if figure.pretrain_data else None,
        f"batch {figure.batch_size}" if figure.batch_size else None,
        figure.detector,
    ]
    told = ", ".join(extra for extra in extras if extra)
    return f"{figure.method} ({told})" if told else figure.method


def _source(figures: Iterable[Figure]) -> str:
    figures = list(figures)
    kinds = {figure.source_kind for figure in figures}
    told = "/".join(kind for kind in _SOURCE_KINDS if kind in kinds)
    return f"{figures[0].paper}, {figures[0].table}; {told}"


_TRAITS: tuple[Callable[[Record], str], ...] = (
    lambda record: record.weights.branch or "no branch",
    lambda record: f"{record.weights.num_heads} heads",
    lambda record: f"file {record.weights.sha256[:8]}",
    lambda record: f"protocol {record.protocol.version}",
)


def _row_order(row: Row) -> tuple:
    """By backbone from small to large, then the first score from low to high, then by the words."""
    label, backbone, *rest = row.cells
    scores = [cell.value if cell.value is not None else -math.inf for cell in rest if isinstance(cell, Score)]
    vit = re.fullmatch(r"ViT-(\w+)/(\d+)", backbone)
    known = vit and vit[1] in _SIZE_ORDER
    size = (_SIZE_ORDER.index(vit[1]), -int(vit[2])) if known else (len(_SIZE_ORDER), 0)
    return (*size, backbone, scores, label, rest[-1])
