"""Two models side by side on every task that both were measured on in the same way, and what was not."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import product
from statistics import variance

from flsl_bench.errors import ConfigError
from flsl_bench.results.record import Metric, Record
from flsl_bench.results.rendering import Row, Score, Section, Table
from flsl_bench.results.rows import (
    average,
    data_label,
    distinctions,
    find_metric,
    group_seeds,
    noise,
    seeds_label,
    short_deviations,
)
from flsl_bench.results.specs import spec_of, table_order
from flsl_bench.results.store import Store

_COLUMNS = ("Metric", "Verdict", "A", "B", "A−B", "Noise")
_APART = ("Model", "Task", "Protocol", "Runs", "Reason")
_FOOTNOTES = (
    "Noise: what the seed alone does to the metric (0.3 AP, 0.3 mIoU, 0.1 J&F). Where both models have two or more "
    "seeds it is at least half the 95 % confidence interval of the difference, t · sqrt(sA²/nA + sB²/nB) with s the "
    "sample standard deviation over n seeds and t by Student's distribution (B. L. Welch, Biometrika 34, 1947). "
    "It is rounded up to a tenth.",
    "A model leads if its score, as printed, is better by more than the noise.",
)

# Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom; the last one is kept beyond, which errs
# on the side of noise. Source: any table of the distribution, e.g. NIST/SEMATECH e-Handbook, section 1.3.6.7.2.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def compare_models(store: Store, a: str, b: str) -> Table:
    """The models `a` and `b` side by side, from the records in `store`; see `compare`."""
    return compare(store.records(), a, b)


def compare(records: Iterable[Record], a: str, b: str) -> Table:
    """The models `a` and `b` side by side.

    A section for each task, protocol and version, set of deviations and data that both have; a last one for what was
    measured of one model only, with the reason. Smoke runs measure nothing and are left out.

    Raises:
        ConfigError: a model has no record, or both names are the same.
    """
    if a == b:
        raise ConfigError(f"{a!r} is compared with itself; name two models")
    records = [record for record in records if not record.smoke]
    of_a, of_b = (_groups(records, model) for model in (a, b))
    pairs = [(one, other) for one, other in product(of_a, of_b) if _setting(one[0]) == _setting(other[0])]
    sections = [_pair_section(one, other, *_labels(pairs, one, other)) for one, other in pairs]
    sections = [section for section in sections if section.rows]
    apart = [
        *_unpaired("A", of_a, "B", of_b),
        *_unpaired("B", of_b, "A", of_a),
        *(row for one, other in pairs for row in _unshared(one, other)),
    ]
    if apart:
        sections.append(Section("Not compared", _APART, tuple(apart), comparable=False))
    return Table(f"A = {a}, B = {b}", tuple(sections), _FOOTNOTES if pairs else ())


def lead_needed(metric: str, a: Sequence[float], b: Sequence[float]) -> float:
    """The difference of two means that is no more than noise; infinite where nothing is known of the metric's noise.

    The metric's known noise or, if larger, half of Welch's 95 % confidence interval, which needs two values on each
    side. In the unit of the scores, rounded up to a tenth.

    Args:
        a, b: scores of the two models, one a seed.
    """
    known = noise(metric)
    if min(len(a), len(b)) < 2:
        return known
    from_seeds = _welch_half_width(a, b)
    bound = from_seeds if math.isinf(known) else max(known, from_seeds)
    return math.ceil(round(10 * bound, 6)) / 10


def _welch_half_width(a: Sequence[float], b: Sequence[float]) -> float:
    """t * sqrt(sa^2/na + sb^2/nb), t for the degrees of freedom after Welch and Satterthwaite, rounded down."""
    shares = [variance(a) / len(a), variance(b) / len(b)]
    total = sum(shares)
    spread = sum(share**2 / (len(values) - 1) for share, values in zip(shares, (a, b), strict=True))
    if spread == 0:  # no spread at all, or too little for its square
        return 0.0
    freedom = int(round(total**2 / spread, 6))
    return _T95[min(max(freedom, 1), len(_T95)) - 1] * math.sqrt(total)


def _groups(records: Sequence[Record], model: str) -> list[list[Record]]:
    """The model's records, those of one question together, in the order of the tables."""
    models = sorted({record.model for record in records})
    if model not in models:
        near = get_close_matches(model, models, n=1)
        there = f"there are {', '.join(models)}" if models else "there are no records at all"
        raise ConfigError(f"no record of a model {model!r}: {f'did you mean {near[0]}?' if near else there}")
    groups = group_seeds(record for record in records if record.model == model)
    return sorted(groups, key=lambda group: table_order(group[0]))


def _data(record: Record) -> str:
    return json.dumps({name: split.model_dump() for name, split in record.data.splits.items()}, sort_keys=True)


def _deviations(record: Record) -> str:
    return json.dumps(record.protocol.deviations, sort_keys=True)


def _changes(record: Record) -> str:
    told = short_deviations(record.protocol.deviations)
    return f"a run that changed {told}" if told else "a run that followed the protocol in everything"


def _data_label(record: Record) -> str:
    digits = ", ".join(split.annotations_sha256[:8] for split in record.data.splits.values())
    return f"{data_label(record)}; annotations {digits}" if digits else data_label(record)


# What two records must share to be laid side by side, with how the other model differs where it does not.
_CONDITIONS: tuple[tuple[Callable[[Record], str], Callable[[Record], str]], ...] = (
    (lambda record: record.task, lambda record: "no record of this task"),
    (lambda record: record.protocol.name, lambda record: f"protocol {record.protocol.name}"),
    (lambda record: record.protocol.version, lambda record: f"version {record.protocol.version} of the protocol"),
    (_deviations, _changes),
    (_data, lambda record: f"other data ({_data_label(record)})"),
)


def _setting(record: Record) -> tuple[str, ...]:
    return tuple(condition(record) for condition, _ in _CONDITIONS)


def _labels(pairs: Sequence[tuple], one: Sequence[Record], other: Sequence[Record]) -> tuple[str, str]:
    """`A` and `B`, each with what tells its weights from the model's others in the same setting."""
    labels = []
    for side, name, group in ((0, "A", one), (1, "B", other)):
        alike = []
        for pair in pairs:
            if _setting(pair[0][0]) == _setting(one[0]) and pair[side] not in alike:
                alike.append(pair[side])
        labels.append(", ".join([name, *distinctions(alike)[alike.index(group)]]))
    return labels[0], labels[1]


def _pair_section(one: Sequence[Record], other: Sequence[Record], label: str, other_label: str) -> Section:
    first = one[0]
    rows = tuple(_metric_row(name, one, other) for name in _shared_metrics(one, other))
    about = f"{label}: {seeds_label(one)}; {other_label}: {seeds_label(other)}. {data_label(first)}."
    if not first.comparable:
        about += f" Both changed: {short_deviations(first.protocol.deviations, most=None)}."
    title = spec_of(first.task).heading(first.protocol.name)
    return Section(title, _COLUMNS, rows, comparable=first.comparable, about=about)


def _shared_metrics(one: Sequence[Record], other: Sequence[Record]) -> list[str]:
    """Names of the metrics of the task's table that both have in the same unit, the primary one first."""
    alike = [name for name in _table_metrics(one[0]) if _kind(one[0], name) == _kind(other[0], name)]
    return sorted(alike, key=lambda name: name != one[0].metrics[0].name)


def _table_metrics(record: Record) -> list[str]:
    """The record's metrics that its table shows; all of them if the table knows none."""
    names, spec = [metric.name for metric in record.metrics], spec_of(record.task)
    wanted = [name for name in (*spec.metrics, *spec.more) if name in names]
    return wanted if spec.tasks and wanted else names


def _kind(record: Record, name: str) -> tuple[str, bool] | None:
    metric: Metric | None = find_metric(record, name)
    return None if metric is None else (metric.unit, metric.higher_is_better)


def _metric_row(name: str, one: Sequence[Record], other: Sequence[Record]) -> Row:
    a, b = average(one, name), average(other, name)
    if a.value is None or b.value is None:
        return Row((name, "not defined", a, b, Score(None), Score(None)), measured=True)
    difference = round(round(a.value, 1) - round(b.value, 1), 1)
    needed = lead_needed(name, *([record.metric(name) for record in group] for group in (one, other)))
    if math.isinf(needed):
        return Row((name, "noise unknown", a, b, Score(difference), Score(None)), measured=True)
    leads = "A leads" if (difference > 0) == a.higher_is_better else "B leads"
    verdict = leads if abs(difference) > needed else "within noise"
    return Row((name, verdict, a, b, Score(difference), Score(needed)), measured=True)


def _unpaired(
    name: str, groups: Sequence[Sequence[Record]], other_name: str, others: Sequence[Sequence[Record]]
) -> Iterator[Row]:
    """A row for each of `groups`, those of model `name`, that has no counterpart in `others`."""
    there = [group[0] for group in others]
    for group in groups:
        if all(_setting(record) != _setting(group[0]) for record in there):
            yield _apart_row(name, group, f"{other_name} has {_reason(group[0], there)}")


def _reason(record: Record, there: Sequence[Record]) -> str:
    """What `there` has instead of a counterpart, at the first condition that none of them meets."""
    for condition, told in _CONDITIONS:
        near = [other for other in there if condition(other) == condition(record)]
        if not near:
            return "; ".join(dict.fromkeys(told(other) for other in there))
        there = near
    raise AssertionError("a record that meets every condition is a counterpart")


def _unshared(one: Sequence[Record], other: Sequence[Record]) -> Iterator[Row]:
    """Rows for the metrics of the task's table that only one of the two has, or that they have in different units."""
    shared = _shared_metrics(one, other)
    for name, group, other_name, opposite in (("A", one, "B", other), ("B", other, "A", one)):
        record, counterpart = group[0], opposite[0]
        names = [n for n in _table_metrics(record) if n not in shared]
        lacking = [n for n in names if _kind(counterpart, n) is None]
        if lacking:
            yield _apart_row(name, group, f"{other_name} has no {', '.join(lacking)}")
        if len(lacking) < len(names):
            clash = ", ".join(n for n in names if n not in lacking)
            yield _apart_row(name, group, f"{other_name} has {clash} in another unit or direction")


def _apart_row(name: str, group: Sequence[Record], reason: str) -> Row:
    one = group[0]
    what = one.protocol.name if one.comparable else f"{one.protocol.name}, changed"
    return Row((name, one.task, what, seeds_label(group), reason), measured=True)
