"""How a record's breakdowns are shown: those over numbers as curves, all others as tables with bars."""

import math
from dataclasses import dataclass

from flsl_bench.report.curves import Axes, Chart, Values, draw_chart, grid_of
from flsl_bench.results.record import Record

CURVE_FROM = 6
"""Fewer numbers than these are a table: five points make no curve."""

_PAIRS = ("pairs within one object", "pairs of two objects", "pairs of object and background")
_SIMILARITY = Axes("Similarity of patch pairs", "cosine similarity", "pairs of the kind, %", (-1.0, 1.0), _PAIRS)
_AXES = {
    **dict.fromkeys(_PAIRS, _SIMILARITY),
    "mIoU by threshold": Axes("mIoU by threshold", "threshold of the similarity", "mIoU, %"),
}


@dataclass(frozen=True)
class Part:
    """One line of a parts table: its name, its values, and their bars' lengths in percent."""

    name: str
    values: tuple[float | None, ...]
    bars: tuple[float, ...]


@dataclass(frozen=True)
class PartsTable:
    """Breakdowns over the same parts side by side."""

    title: str
    columns: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def defined(self) -> int:
        """Number of parts that have a value."""
        return sum(any(value is not None for value in part.values) for part in self.parts)


@dataclass(frozen=True)
class Curves:
    """A chart and its values."""

    chart: Chart
    values: PartsTable


def curves_of(record: Record) -> list[Curves]:
    """The charts of a record; series over one grid of numbers share one."""
    return [Curves(_chart(series), _table(series)) for series in _series(record)]


def tables_of(record: Record) -> list[PartsTable]:
    """The tables of a record: all breakdowns that no chart shows; those over the same parts share one."""
    charted = {name for series in _series(record) for name in series}
    groups: dict[tuple[str, ...], dict[str, Values]] = {}
    for name, values in record.breakdowns.items():
        if values and name not in charted:
            groups.setdefault(tuple(values), {})[name] = values
    return [_table(group) for group in groups.values()]


def _series(record: Record) -> list[dict[str, Values]]:
    groups: dict[object, dict[str, Values]] = {}
    for name, values in record.breakdowns.items():
        if values and all(is_number(x) for x in values):
            groups.setdefault(_AXES.get(name) or grid_of([float(x) for x in values]), {})[name] = values
    return [group for group in groups.values() if max(map(len, group.values())) >= CURVE_FROM]


def _chart(series: dict[str, Values]) -> Chart:
    names = list(series)
    axes = _AXES.get(names[0], Axes(", ".join(names), "", ""))
    return draw_chart(axes, series)


def _table(group: dict[str, Values]) -> PartsTable:
    columns = list(group.values())
    parts = list(dict.fromkeys(part for values in columns for part in values))
    if all(is_number(part) for part in parts):
        parts.sort(key=float)
    rows = [tuple(values.get(part) for values in columns) for part in parts]
    full = max(100.0, *(abs(value) for row in rows for value in row if value is not None), 0.0)
    bars = [tuple(round(100 * max(0.0, value or 0.0) / full, 1) for value in row) for row in rows]
    title, heads = _heads(list(group))
    return PartsTable(title, heads, tuple(Part(*row) for row in zip(parts, rows, bars, strict=True)))


def _heads(names: list[str]) -> tuple[str, tuple[str, ...]]:
    """Of `J-Mean by sequence` and `F-Mean by sequence`: title `by sequence`, columns `J-Mean` and `F-Mean`."""
    words = [name.replace("_", " ").partition(" by ") for name in names]
    kinds = {kind for _, _, kind in words}
    if len(kinds) == 1 and "" not in kinds:
        return f"By {kinds.pop()}", tuple(metric for metric, _, _ in words)
    if len(names) == 1:
        return f"By {names[0]}" if names[0].islower() else names[0], ("score",)
    return ", ".join(names), tuple(names)


def is_number(text: str) -> bool:
    """Whether `text` is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
