"""Where a number comes from: the facts of a record, as pairs of a name and what is said."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flsl_bench.results.record import Metric, Record
from flsl_bench.results.rendering import MISSING
from flsl_bench.results.rows import backbone_of, find_metric, group_seeds, record_paths, seeds_label
from flsl_bench.results.specs import spec_of, table_order


@dataclass(frozen=True)
class Run:
    """The records that differ in the seed alone."""

    records: tuple[Record, ...]

    @property
    def one(self) -> Record:
        """The first of them, for what they share."""
        return self.records[0]

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the records lie below the folder of the results."""
        return record_paths(self.records)

    @property
    def title(self) -> str:
        """`COCO: Mask R-CNN, ..., ViT-S/16`."""
        return f"{spec_of(self.one.task).heading(self.one.protocol.name)}, {backbone_of(self.one)}"

    @property
    def seeds(self) -> str:
        """`measured, 3 seeds`, or what else the numbers are."""
        if self.one.smoke:
            return "smoke run, no measurement"
        return seeds_label(self.records) + ("" if self.one.comparable else ", protocol changed")

    @property
    def metrics(self) -> list[tuple[str, list[tuple[float | None, str]]]]:
        """Every metric's name with, for each seed, its value and the value's text."""
        names = dict.fromkeys(metric.name for record in self.records for metric in record.metrics)
        return [(name, [_value(find_metric(record, name)) for record in self.records]) for name in names]


def runs_of(records: Iterable[Record]) -> list[Run]:
    """The runs by model, then in the order of the tables."""
    groups = sorted(group_seeds(records), key=lambda group: (group[0].model, table_order(group[0])))
    return [Run(tuple(group)) for group in groups]


def anchor(record_path: str) -> str:
    """The id by which a page refers to the record at `record_path`, the path below the folder of the results."""
    return record_path.removeprefix("measured/").removesuffix(".json").replace("/", "--")


def record_anchor(record: Record) -> str:
    """The id of the record in a page."""
    return anchor(record_paths([record])[0])


def facts_of(record: Record, results: Path) -> list[tuple[str, str]]:
    """Name and text of everything that made the record what it is, but its scores and its command."""
    weights, environment = record.weights, record.environment
    return [
        ("Record", str(results / record_paths([record])[0])),
        ("Key", record.key),
        ("Protocol", f"{record.protocol.name}, version {record.protocol.version}"),
        ("Changed", _pairs(record.protocol.deviations) or "nothing: the protocol was followed"),
        ("Weights", f"{weights.file} ({weights.format}, {weights.branch or 'no'} branch)"),
        ("SHA-256", weights.sha256),
        ("Architecture", f"{weights.arch}, patch size {weights.patch_size}, prefix tokens {weights.prefix_tokens}"),
        ("Heads", f"{weights.num_heads}, from {weights.heads_source}"),
        *((f"Data, {record.data.name} {name}", _split(split)) for name, split in record.data.splits.items()),
        ("Seed", str(record.seed)),
        ("Finished", f"{record.finished:%Y-%m-%d %H:%M %Z}".strip()),
        ("Time", _times(record.seconds)),
        ("Device", f"{environment.device}, {environment.devices} process{'' if environment.devices == 1 else 'es'}"),
        ("Precision", environment.precision),
        ("Operators", environment.operators),
        ("Evaluator", environment.evaluator),
        ("Git commit", record.git_commit or "not known: run outside a checkout"),
        ("Python", f"{environment.python} on {environment.platform}"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items())),
        *((f"File: {name}", path) for name, path in record.artifacts.items()),
    ]


def command_of(record: Record) -> str:
    """The command line, quoted so that a shell takes it."""
    return shlex.join(record.command)


def _duration(seconds: float) -> str:
    """`45.2 s`, `12 min 5 s` or `7 h 3 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _times(seconds: dict[str, float]) -> str:
    parts = [f"{phase} {_duration(value)}" for phase, value in seconds.items()]
    return ", ".join(parts) + (f", together {_duration(sum(seconds.values()))}" if len(parts) > 1 else "") or MISSING


def _split(split) -> str:
    return f"{split.images:,} images, {split.bytes:,} bytes, annotations {split.annotations_sha256}"


def _pairs(values: dict[str, Any]) -> str:
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in sorted(values.items())}
    return ", ".join(f"{name}={value}" for name, value in told.items())


def _value(metric: Metric | None) -> tuple[float | None, str]:
    if metric is None or metric.value is None:
        return None, MISSING
    decimals = 2 if metric.unit == "%" else 4
    return metric.value, f"{metric.value:.{decimals}f} {metric.unit}".strip().replace("-", "−")
