"""The panels of a work dir as groups of pictures that fit into one page."""

import base64
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from flsl_bench.pictures.panels import LONG_SIDE, Panel, find_panels
from flsl_bench.results.record import Record

MOST = 24
"""Pictures of one group that a page shows."""


@dataclass(frozen=True)
class Picture:
    """A panel as it stands in the page: a data URI with its size in pixels, or why there is none."""

    caption: str
    uri: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Group:
    """The pictures of one model, task and title; `more` further ones lie in `folder`."""

    model: str
    task: str
    title: str
    pictures: tuple[Picture, ...]
    more: int
    folder: Path


def picture_groups(work_dir: str | os.PathLike, records: Iterable[Record] = ()) -> list[Group]:
    """The panels below `work_dir`, which holds MODEL/TASK/RUN/panels, the first `MOST` of each group.

    RUN ends in the first eight digits of its record's key, by which pictures of runs that did not follow their
    protocol are told.

    Raises what `find_panels` raises.
    """
    groups: dict[tuple[str, str, str], list[Panel]] = {}
    for panel in find_panels(work_dir):
        groups.setdefault((*_place(work_dir, panel), panel.title), []).append(panel)
    # All groups of a model, and of a task in it, stand together, also where several runs interleave their titles.
    ordered = sorted(groups, key=lambda group: group[:2])
    changed = (record for record in records if not record.comparable)
    marks = {record.key[:8]: "smoke run" if record.smoke else "protocol changed" for record in changed}
    return [_group(key, groups[key], marks) for key in ordered]


def _place(work_dir: str | os.PathLike, panel: Panel) -> tuple[str, str]:
    """Model and task of the panel, each empty where it lies less deep."""
    above = panel.file.parent.relative_to(work_dir).parts[:-1]
    model, task, *_ = (*above, "", "")
    return model, task


def _group(key: tuple[str, str, str], panels: list[Panel], marks: Mapping[str, str]) -> Group:
    runs = {panel.file.parent for panel in panels}
    shown = [_picture(panel, _about_run(panel, len(runs) > 1, marks)) for panel in panels[:MOST]]
    return Group(*key, tuple(shown), len(panels) - len(shown), _common(runs))


def _common(folders: Iterable[Path]) -> Path:
    return Path(os.path.commonpath(list(folders)))


def _about_run(panel: Panel, told: bool, marks: Mapping[str, str]) -> str:
    run = panel.file.parent.parent.name
    about = ", ".join(filter(None, (run if told else "", marks.get(run[-8:]))))
    return f" ({about})" if about else ""


def _picture(panel: Panel, about_run: str) -> Picture:
    caption = panel.caption + about_run
    try:
        with Image.open(panel.file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Picture(caption, problem=f"{panel.file}: not readable as a picture ({error}); make the panels again")
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=82, optimize=True)
    return Picture(caption, _data_uri(buffer.getvalue()), *image.size)


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
