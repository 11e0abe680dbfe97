"""The figures that papers and their repositories report, as kept in `results/reported/`: schema and reading."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from flsl_bench.errors import RecordError
from flsl_bench.paths import CHECKOUT
from flsl_bench.results.record import Strict

REPORTED = CHECKOUT / "results" / "reported"

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
SourceKind = Literal["primary", "secondary", "reproduction"]

# A metric as papers and their files call it -> as records call it, where these differ (DAVIS: mean J and F).
_RECORD_NAMES = {"J&F_m": "J&F-Mean", "J_m": "J-Mean", "F_m": "F-Mean"}

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times faster where it is compiled


class _Typed(Strict):
    """No conversions besides: `value: "44.9"` is a mistake, not a number."""

    model_config = ConfigDict(strict=True)


class Entry(_Typed):
    """One figure as it stands in its paper's file."""

    benchmark: Text  # equal names are comparable: detector, schedule and data are the same
    method: Text
    backbone: Text
    pretrain_epochs: int | None = Field(default=None, gt=0)
    pretrain_data: Text | None = None  # where it is not ImageNet, or where a table compares several
    batch_size: int | None = Field(default=None, gt=0)  # of the pretraining
    detector: Text | None = None  # where one benchmark was run with several
    metric: Text  # box_AP, mIoU, ...
    value: float
    table: Text  # where in the paper or repository
    source_kind: SourceKind
    source: Text  # what was read to get the figure
    note: Text | None = None


class Figure(Entry):
    """One reported figure with the paper it is from."""

    paper: Text
    arxiv: Text

    @property
    def record_metric(self) -> str:
        """The metric by the name that records have for it."""
        return _RECORD_NAMES.get(self.metric, self.metric)

    @property
    def row(self) -> tuple:
        """What the figures of one table row share: all but benchmark, metric, value and the account of the source."""
        identity = (self.paper, self.table, self.method, self.backbone)
        return (*identity, self.pretrain_epochs, self.pretrain_data, self.batch_size, self.detector)

    @property
    def identity(self) -> tuple:
        """What tells this figure from every other one."""
        return (self.benchmark, self.metric, *self.row)


class ReportedFile(_Typed):
    """One file of `results/reported/`: a paper and its figures."""

    paper: Text
    arxiv: Text
    figures: list[Entry] = Field(min_length=1)


def load_reported(folder: str | os.PathLike = REPORTED) -> list[Figure]:
    """All figures of the YAML files in `folder`, in the order of file names and of their lines.

    Raises:
        RecordError: there is no such file, one does not fit the schema, or two entries report the same figure.
    """
    paths = sorted(Path(folder).glob("*.yaml"))
    if not paths:
        raise RecordError(f"{folder}: holds no *.yaml file of reported figures")
    figures, places = [], {}
    for path in paths:
        for number, figure in enumerate(_read_file(path), start=1):
            place = f"{path}: entry {number} ({_describe(figure.method, figure.metric)})"
            if figure.identity in places:
                raise RecordError(f"{place}: the same figure is in {places[figure.identity]}; remove one of them")
            places[figure.identity] = place
            figures.append(figure)
    return figures


def _read_file(path: Path) -> list[Figure]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecordError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    try:
        file = ReportedFile.model_validate(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {_first_fault(error, content)}") from error
    return [Figure(paper=file.paper, arxiv=file.arxiv, **entry.model_dump()) for entry in file.figures]


def _first_fault(error: ValidationError, content: Any) -> str:
    """Entry, field and fault of the first thing that does not fit."""
    first = error.errors()[0]
    match first["loc"]:
        case ("figures", int(index), *field):
            raw = content["figures"][index]
            named = _describe(raw.get("method"), raw.get("metric")) if isinstance(raw, dict) else "no mapping"
            place = f"entry {index + 1} ({named}), field {_dotted(field)}"
        case field:
            place = f"field {_dotted(field)}"
    return f"{place}: {first['msg']}"


def _dotted(field: tuple | list) -> str:
    return ".".join(str(part) for part in field) or "(the whole)"


def _describe(method: Any, metric: Any) -> str:
    return f"{method}, {metric}"
