"""The store of result records: JSON files at `measured/<model>/<task>/<key>.json`."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from flsl_bench.errors import OtherVersionError, RecordError
from flsl_bench.files import atomic_write_text
from flsl_bench.results.record import SCHEMA_VERSION, Record

_logger = logging.getLogger(__name__)


class Store:
    """Records below one folder. The path is the key, so a result that is there is found without an index."""

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root) / "measured"

    def path(self, model: str, task: str, key: str) -> Path:
        """Where the record of `key` lies or would lie."""
        return self.root / model / task / f"{key}.json"

    def find(self, model: str, task: str, key: str) -> Record | None:
        """The finished record of `key`, or None; a broken one is set aside first.

        Raises `OtherVersionError` for one that another version wrote.
        """
        return self._read_or_set_aside(self.path(model, task, key))

    def save(self, record: Record, overwrite: bool = False) -> Path:
        """Write `record` in one step.

        Raises:
            RecordError: a finished record of the same key is there and `overwrite` is not set.
        """
        path = self.path(record.model, record.task, record.key)
        if not overwrite and self._read_or_set_aside(path) is not None:
            raise RecordError(f"{path}: a finished record is there; pass --overwrite to replace it")
        atomic_write_text(path, record.to_json())
        return path

    def records(self) -> Iterator[Record]:
        """All readable records, in the order of their paths.

        Broken ones are set aside with a message, those of other versions are passed over with one.
        """
        for path in sorted(self.root.glob("*/*/*.json")):
            try:
                record = self._read_or_set_aside(path)
            except OtherVersionError as error:
                _logger.warning("%s", error)
                continue
            if record is not None:
                yield record

    def _read_or_set_aside(self, path: Path) -> Record | None:
        if not path.exists():
            return None
        try:
            return read_record(path)
        except OtherVersionError:
            raise
        except RecordError as error:
            aside = path.with_suffix(".json.broken")
            os.replace(path, aside)
            _logger.warning("%s; set aside as %s", error, aside.name)
            return None


def read_record(path: str | os.PathLike) -> Record:
    """The record in the file `path`.

    Raises:
        OtherVersionError: another version of flsl_bench wrote it.
        RecordError: the file is no JSON or does not fit the schema.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            told = f"schema_version is {content['schema_version']}, this flsl_bench reads {SCHEMA_VERSION}"
            raise OtherVersionError(f"{path}: {told}; use the version that wrote it")
        return Record.model_validate(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(f"{path}: not a readable record ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "record"
        raise RecordError(f"{path}: field {field}: {first['msg']}") from error
