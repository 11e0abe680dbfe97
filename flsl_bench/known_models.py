"""The released checkpoints whose layouts the suite reads: `known_models.yaml`, its schema, and its table."""

import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from rich import box
from rich.table import Table
from rich.text import Text

from flsl_bench.errors import ConfigError
from flsl_bench.results.record import Strict

KNOWN_MODELS = Path(__file__).with_name("known_models.yaml")

Name = Annotated[str, Field(min_length=1, pattern=r"\S")]
Backbone = Annotated[str, Field(pattern=r"^ViT-(Ti|S|B|L|H|g)/[1-9]\d*$")]  # as in results/reported: ViT-S/16


class KnownModel(Strict):
    """One method whose released checkpoints the suite reads. None: not known for sure."""

    model_config = ConfigDict(strict=True)

    method: Name
    paper: Name | None = None  # title
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{5}$")] | None = None
    backbones: list[Backbone] = Field(min_length=1)  # published sizes, weights of which may or may not be public
    layouts: list[Name] = Field(min_length=1)  # names in flsl_bench.checkpoints' registry
    weights: Annotated[str, Field(pattern=r"^https://\S+$")] | None = None  # the authors' public repository
    tested_on: Literal["released file", "reference code", "key names"]  # what the tests of the layout read
    note: Name | None = None


_MODELS = TypeAdapter(list[KnownModel])
_EVIDENCE = {
    "released file": "a released file",
    "reference code": "files written by the authors' code",
    "key names": "genuine key names",
}


def load_known_models(path: str | os.PathLike = KNOWN_MODELS) -> list[KnownModel]:
    """The known models in the order of the file.

    Raises `ConfigError` if the file cannot be read, does not fit the schema, or names a method twice.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        models = _MODELS.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = _place(first["loc"], content)
        raise ConfigError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    methods = [model.method for model in models]
    for method in methods:
        if methods.count(method) > 1:
            raise ConfigError(f"{path}: method {method!r} is there twice; remove one of its entries")
    return models


def models_table(models: list[KnownModel] | None = None) -> Table:
    """A table for a terminal of 100 columns, one row a method; of `models` or, by default, of all known ones."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("method", "ViT", "layout", "paper, weights, tests"):
        table.add_column(head, overflow="fold", max_width=11 if head == "ViT" else None)  # leaves the URLs in one piece
    for model in load_known_models() if models is None else models:
        table.add_row(*map(Text, _cells(model)))
    return table


def _cells(model: KnownModel) -> tuple[str, ...]:
    sizes = ", ".join(backbone.removeprefix("ViT-") for backbone in model.backbones)
    paper = f"arXiv {model.arxiv}" if model.arxiv else model.paper
    about = (paper, model.weights, f"tested on {_EVIDENCE[model.tested_on]}", model.note)
    return model.method, sizes, ",\n".join(model.layouts), "\n".join(filter(None, about))


def _place(location: tuple[int | str, ...], content: object) -> str:
    """Entry and field of a fault."""
    if not location:
        return "(the whole)"
    entry, *field = location
    raw = content[entry]
    named = f" ({raw.get('method')})" if isinstance(raw, dict) else ""
    return f"entry {entry + 1}{named}" + (f", field {'.'.join(map(str, field))}" if field else "")
