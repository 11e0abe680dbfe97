"""The result record: one JSON document a (weights, task, protocol, data, seed), complete and self-explaining."""

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NAMING = "use letters, digits, '.', '_', '+', '-'"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Unknown fields and NaN are errors: a typing mistake must not pass for a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Metric(Strict):
    """One score."""

    name: str  # the field's name: box_AP, mIoU, J&F-Mean
    value: float | None  # None: not defined on these data, e.g. APs without a small object
    unit: str = "%"
    higher_is_better: bool = True


class Protocol(Strict):
    """How the score was made."""

    name: str  # the benchmark's name in results/reported, so that equal names are comparable
    version: str  # raised whenever a change alters results
    deviations: dict[str, Any] = {}  # every option that differs from the paper's, with the value used


class Weights(Strict):
    """The pretrained checkpoint that was evaluated."""

    file: str  # file name, without folders
    sha256: Sha256  # of the file's bytes
    format: str  # layout: flsl, dino, mae, ...
    branch: str | None  # teacher, student, ... where the file holds several
    arch: str  # vit_small
    patch_size: int
    num_heads: int
    heads_source: str  # where the number of heads came from
    prefix_tokens: int  # CLS and registers in the sequence


class Split(Strict):
    """One split of a data set."""

    images: int
    bytes: int  # of all its images together
    annotations_sha256: Sha256


class Data(Strict):
    """The data, told apart by content and not by path."""

    name: str  # coco
    splits: dict[str, Split]


class Environment(Strict):
    """What ran it."""

    python: str
    platform: str
    packages: dict[str, str]
    device: str  # GPU or processor name
    devices: int  # processes, one a device
    precision: str  # fp32, fp16 (AMP), ...
    operators: str  # provider of NMS and RoIAlign
    evaluator: str  # library that computed the metrics


class Record(Strict):
    """A finished result. `key` and thereby the file's path follow from the fields that make a result what it is."""

    schema_version: int = SCHEMA_VERSION
    model: str  # folder name of the model's records
    task: str
    protocol: Protocol
    metrics: list[Metric] = Field(min_length=1)  # the primary one first
    breakdowns: dict[str, dict[str, float | None]] = {}  # scores of parts, e.g. "IoU by class": {"wall": 71.2}
    weights: Weights
    data: Data
    seed: int
    environment: Environment
    command: list[str]
    git_commit: str | None  # of flsl_bench's checkout; ends in -dirty with uncommitted changes
    finished: datetime
    seconds: dict[str, float]  # per phase
    artifacts: dict[str, str] = {}  # files the run left: log, config, fine-tuned checkpoint
    key: str  # `record_key` of this record

    @model_validator(mode="after")
    def _check(self) -> "Record":
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, this version reads {SCHEMA_VERSION}")
        expected = record_key(self.weights, self.task, self.protocol, self.data, self.seed)
        if self.key != expected:
            raise ValueError(f"key is {self.key!r} where the record's content gives {expected!r}")
        for name in (self.model, self.task):
            if not FOLDER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be a folder name: {NAMING}")
        return self

    @property
    def comparable(self) -> bool:
        """Whether the protocol was followed in everything, so that the papers' rows may stand beside it."""
        return not self.protocol.deviations

    @property
    def smoke(self) -> bool:
        """Whether the run was cut to the least that still runs: it proves that things work and measures nothing."""
        return bool(self.protocol.deviations.get("smoke"))

    def metric(self, name: str) -> float | None:
        """Value of the metric called `name`, None if there is none or it is undefined."""
        return next((m.value for m in self.metrics if m.name == name), None)

    def to_json(self) -> str:
        """The record as it is written to disk."""
        return self.model_dump_json(indent=2) + "\n"


def record_key(weights: Weights, task: str, protocol: Protocol, data: Data, seed: int) -> str:
    """Sixteen hexadecimal digits that two results share exactly if they answer the same question.

    The question is: these weights, read with this branch, these heads and prefix tokens, on this task and protocol,
    on these data, with this seed.
    """
    question = [
        weights.sha256,
        weights.branch,
        weights.num_heads,
        weights.prefix_tokens,
        task,
        protocol.name,
        protocol.version,
        protocol.deviations,
        {name: split.annotations_sha256 for name, split in data.splits.items()},
        {name: (split.images, split.bytes) for name, split in data.splits.items()},
        seed,
    ]
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]
