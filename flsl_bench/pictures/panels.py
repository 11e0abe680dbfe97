"""Panels: captioned pictures that a run leaves in a folder, with an index, for reports to show."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from flsl_bench.errors import DataError
from flsl_bench.files import atomic_path, atomic_write_text

FOLDER = "panels"
INDEX = "panels.json"
LONG_SIDE = 1000
_FIELDS = {"file", "title", "caption"}


@dataclass(frozen=True)
class Panel:
    """A picture and what it shows; those of one title form a group."""

    file: Path
    title: str
    caption: str


def add_panel(folder: str | os.PathLike, title: str, caption: str, picture: np.ndarray) -> Path:
    """Write `picture`, uint8 RGB [H, W, 3], into `folder` as a JPEG of at most `LONG_SIDE` pixels; returns its path.

    A panel of the same title and caption is replaced. One process a folder: the index is read and written again.
    Raises `DataError` if the index that is there is damaged.
    """
    folder = Path(folder)
    index = folder / INDEX
    panels = _read(index) if index.is_file() else []
    path = folder / _file_name(title, caption)
    with atomic_path(path) as temporary:
        _limited(picture).save(temporary, format="JPEG", quality=90)
    entry = {"file": path.name, "title": title, "caption": caption}
    if entry not in panels:
        panels.append(entry)
    atomic_write_text(index, json.dumps(panels, indent=2, ensure_ascii=False) + "\n")
    return path


def find_panels(folder: str | os.PathLike) -> list[Panel]:
    """The panels of every index in or anywhere below `folder`: by path of the index, then in order of their adding.

    Raises `DataError` for an index that is damaged or names a picture that is not there.
    """
    return [
        Panel(index.parent / entry["file"], entry["title"], entry["caption"])
        for index in sorted(Path(folder).rglob(INDEX))
        for entry in _checked(index)
    ]


def _file_name(title: str, caption: str) -> str:
    """A readable name that no other title and caption share."""
    words = "-".join(re.findall(r"[a-z0-9]+", f"{title} {caption}".lower()))[:80].strip("-")
    digest = hashlib.sha256(json.dumps([title, caption]).encode()).hexdigest()[:8]
    return f"{words}-{digest}.jpg" if words else f"{digest}.jpg"


def _limited(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return image


def _checked(index: Path) -> list[dict[str, str]]:
    entries = _read(index)
    for entry in entries:
        if not (index.parent / entry["file"]).is_file():
            raise DataError(f"{index}: field file: {entry['file']} is not there; make the panels again")
    return entries


def _read(index: Path) -> list[dict[str, str]]:
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{index}: not readable as JSON ({error}); delete it and make the panels again") from None
    if not isinstance(entries, list):
        raise DataError(f"{index}: not a list of panels; delete it and make the panels again")
    for number, entry in enumerate(entries):
        if not (
            isinstance(entry, dict) and entry.keys() == _FIELDS and all(isinstance(v, str) for v in entry.values())
        ):
            raise DataError(f"{index}: panel {number}: needs the texts {', '.join(sorted(_FIELDS))}; delete the index")
        if Path(entry["file"]).name != entry["file"]:
            raise DataError(f"{index}: panel {number}: file: {entry['file']!r} is not a file name; delete the index")
    return entries
