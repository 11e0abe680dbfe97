"""UAVDT-DET: the official text files, their check, and their conversion to COCO JSON.

Source: Du et al., "The Unmanned Aerial Vehicle Benchmark: Object Detection and Tracking", ECCV 2018, and the file
formats in the readme of its toolkit. Boxes and regions are `x, y, w, h` in pixels with the origin at the upper left.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from flsl_bench.errors import DataError
from flsl_bench.files import atomic_path

CATEGORIES = {1: "car", 2: "truck", 3: "bus"}
OCCLUSION = {1: "none", 2: "large", 3: "medium", 4: "small"}
OUT_OF_VIEW = {1: "none", 2: "medium", 3: "small"}

_TRAIN = (
    "M0101 M0201 M0202 M0204 M0206 M0207 M0210 M0301 M0401 M0402 M0501 M0603 M0604 M0605 M0702 "
    "M0703 M0704 M0901 M0902 M1002 M1003 M1005 M1006 M1008 M1102 M1201 M1202 M1304 M1305 M1306"
)
_TEST = (
    "M0203 M0205 M0208 M0209 M0403 M0601 M0602 M0606 M0701 M0801 "
    "M0802 M1001 M1004 M1007 M1009 M1101 M1301 M1302 M1303 M1401"
)
SEQUENCES = {"train": tuple(_TRAIN.split()), "test": tuple(_TEST.split())}
"""The official split."""

OFFICIAL_FRAMES = {"train": 23_829, "test": 16_580}
OFFICIAL_BOXES = {
    "train": {"car": 394_633, "truck": 17_491, "bus": 10_787},
    "test": {"car": 361_055, "truck": 7_595, "bus": 7_234},
}
"""Frames with boxes, and boxes, of the complete splits."""

LAYOUT = """GT_DIR/
  M0101_gt_whole.txt, M0101_gt_ignore.txt ...
IMAGES_DIR/ (UAV-benchmark-M)
  M0101/img000001.jpg ..."""

EMPTY_BOX = "empty after clipping"
EMPTY_REGION = "ignore region empty after clipping"
UNKNOWN_CATEGORY = "unknown category"

_FIELDS = 9
_FRAMES_PER_SEQUENCE = 10_000  # far more than there are; M1401 times this stays exact even in float32


@dataclass(frozen=True)
class SkippedBox:
    """A line that was read but has no annotation."""

    file: str
    line: int
    reason: str
    """`EMPTY_BOX`, `EMPTY_REGION` or `UNKNOWN_CATEGORY`."""


@dataclass(frozen=True)
class SplitReport:
    """What one split's JSON holds and what it lacks."""

    split: str
    path: Path
    sequences: tuple[str, ...]
    missing_sequences: tuple[str, ...]
    """Of the official split, not in the folder."""
    frames: int
    boxes: int
    boxes_per_category: dict[str, int]
    ignore_regions: int
    """Counted once each, not once for each category."""
    frames_without_boxes: int
    """Frames that have ignore regions only; they are not in the JSON."""
    skipped: tuple[SkippedBox, ...]

    @property
    def skipped_per_reason(self) -> dict[str, int]:
        """How many lines were skipped for each reason that occurs."""
        return dict(Counter(box.reason for box in self.skipped))

    @property
    def official_frames(self) -> int:
        """Annotated frames of the complete split."""
        return OFFICIAL_FRAMES[self.split]

    @property
    def official_boxes(self) -> int:
        """Boxes of the complete split."""
        return sum(OFFICIAL_BOXES[self.split].values())

    def matches_official_counts(self) -> bool:
        """Whether frames and boxes are those of the complete split."""
        return self.frames == self.official_frames and self.boxes_per_category == OFFICIAL_BOXES[self.split]


@dataclass(frozen=True)
class Conversion:
    """The reports of both splits."""

    train: SplitReport
    test: SplitReport
    unknown_sequences: tuple[str, ...]
    """Named in the folder but in neither split; they are not converted."""


def convert(
    gt_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    images_dir: str | os.PathLike | None = None,
    image_size: tuple[int, int] = (1024, 540),
    progress: Callable[[str, int, int], None] | None = None,
) -> Conversion:
    """Write `annotations/uavdt_train.json` and `annotations/uavdt_test.json` below `out_dir`.

    The JSON is a function of the content of the files alone. An image is a frame with at least one line in
    `_gt_whole.txt`, which is how the published counts of annotated frames are understood here. A frame with
    nothing but ignore regions is left out, since no detector is asked about it.

    Boxes and ignore regions are clipped to the image, since some run a pixel over. A box that is then empty, or of an
    unknown category, is skipped and reported; its frame stays. Levels of occlusion and out-of-view are kept as written.

    An ignore region becomes one `iscrowd=1` annotation for each category. pycocotools matches category by category, so
    a region of one category would leave the false positives of the others in it standing; and it overwrites a field
    `ignore` with `iscrowd`. It ignores a detection if the share of its area in the region reaches the threshold.

    Image ids are `10_000 * number of the sequence + frame`, so they do not depend on which sequences are there;
    annotation ids count from 1 in each split. Both files take their place only when both are complete.

    Args:
        gt_dir: folder of `<sequence>_gt_whole.txt` and `<sequence>_gt_ignore.txt`; the sequences found are converted.
        out_dir: made if absent.
        images_dir: folder of `<sequence>/img%06d.jpg`. If given, every image must be there and its size is read from
            its header; if not, every image is taken to be of `image_size`.
        image_size: width and height in pixels.
        progress: called with the sequence's name, the sequences done and the sequences in all.

    Raises:
        DataError: `gt_dir` or a file is missing, no sequence is known, a line is malformed (the message has file and
            line number), or an image is missing or unreadable.
    """
    gt_dir = Path(gt_dir)
    found = _sequences_in(gt_dir)
    reader = _Reader(gt_dir, None if images_dir is None else Path(images_dir), image_size)
    plan = {split: [name for name in names if name in found] for split, names in SEQUENCES.items()}
    report = _sequence_counter(progress, sum(map(len, plan.values())))
    with ExitStack() as files:
        reports = {}
        for split, names in plan.items():
            path = Path(out_dir) / f"annotations/uavdt_{split}.json"
            temporary = files.enter_context(atomic_path(path))
            reports[split] = _write_split(split, names, reader, path, temporary, report)
    known = {name for names in SEQUENCES.values() for name in names}
    return Conversion(reports["train"], reports["test"], tuple(sorted(found - known)))


def read_attributes(path: str | os.PathLike, sequences: Collection[str]) -> dict[str, list[str]] | None:
    """Each sequence's attributes, such as daylight or high-alt, from a JSON {sequence: [attribute, ...]}.

    None if there is no such file.

    Raises:
        DataError: the file is no such JSON, or one of `sequences` is not in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); write {{sequence: [attribute, ...]}}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no mapping; write {{sequence: [attribute, ...]}}")
    for sequence, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path}: field {sequence} is no list of attributes; write {{sequence: [attribute, ...]}}")
    missing = sorted(set(sequences) - content.keys())
    if missing:
        raise DataError(f"{path}: sequence {missing[0]} is missing; give it an empty list if it has no attribute")
    return content


def _sequence_counter(progress: Callable[[str, int, int], None] | None, total: int) -> Callable[[str], None]:
    done = 0

    def report(name: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(name, done, total)

    return report


def _sequences_in(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected this layout: {' '.join(LAYOUT.split())}")
    found = {path.name.removesuffix("_gt_whole.txt") for path in folder.glob("*_gt_whole.txt")}
    if not any(name in found for names in SEQUENCES.values() for name in names):
        raise DataError(
            f"{folder}: no <sequence>_gt_whole.txt of a UAVDT sequence; expected this layout: "
            f"{' '.join(LAYOUT.split())}"
        )
    return found


class _Line(NamedTuple):
    """One line of either file; in an ignore file the last three fields mean nothing."""

    number: int
    frame: int
    track: int
    box: list[float]
    out_of_view: int
    occlusion: int
    category: int


@dataclass
class _Sequence:
    """The COCO entries of one sequence; `annotations` have no ids yet."""

    images: list[dict]
    annotations: list[dict] = field(default_factory=list)
    categories: Counter = field(default_factory=Counter)
    ignore_regions: int = 0
    frames_without_boxes: int = 0
    skipped: list[SkippedBox] = field(default_factory=list)


@dataclass(frozen=True)
class _Reader:
    gt_dir: Path
    images_dir: Path | None
    image_size: tuple[int, int]

    def read(self, name: str) -> _Sequence:
        whole, ignore = (self.gt_dir / f"{name}_gt_{kind}.txt" for kind in ("whole", "ignore"))
        boxes, regions = list(_lines(whole)), list(_lines(ignore))
        images = {frame: self._image(name, frame) for frame in sorted({line.frame for line in boxes})}
        sequence = _Sequence(list(images.values()))
        _add_boxes(sequence, whole, images, boxes)
        _add_regions(sequence, ignore, images, regions)
        sequence.annotations.sort(
            key=lambda annotation: annotation["image_id"]
        )  # stable: within a frame as in the files
        return sequence

    def _image(self, name: str, frame: int) -> dict:
        file_name = f"{name}/img{frame:06d}.jpg"
        width, height = self.image_size if self.images_dir is None else _picture_size(self.images_dir / file_name)
        return {
            "id": int(name[1:]) * _FRAMES_PER_SEQUENCE + frame,
            "file_name": file_name,
            "width": width,
            "height": height,
            "sequence": name,
            "frame": frame,
        }


def _add_boxes(sequence: _Sequence, path: Path, images: dict[int, dict], lines: list[_Line]) -> None:
    for line in lines:
        image = images[line.frame]
        box = _clip(line.box, image["width"], image["height"])
        if line.category not in CATEGORIES or box is None:
            reason = EMPTY_BOX if line.category in CATEGORIES else UNKNOWN_CATEGORY
            sequence.skipped.append(SkippedBox(path.name, line.number, reason))
            continue
        sequence.categories[line.category] += 1
        sequence.annotations.append(_annotation(image, line, box, line.category, iscrowd=0))


def _add_regions(sequence: _Sequence, path: Path, images: dict[int, dict], lines: list[_Line]) -> None:
    sequence.frames_without_boxes = len({line.frame for line in lines} - images.keys())
    for line in lines:
        image = images.get(line.frame)
        if image is None:
            continue
        box = _clip(line.box, image["width"], image["height"])
        if box is None:
            sequence.skipped.append(SkippedBox(path.name, line.number, EMPTY_REGION))
            continue
        sequence.ignore_regions += 1
        for category in CATEGORIES:  # pycocotools lets a crowd act on its own category only
            sequence.annotations.append(_annotation(image, line, box, category, iscrowd=1))


def _annotation(image: dict, line: _Line, box: list[float], category: int, iscrowd: int) -> dict:
    annotation = {
        "image_id": image["id"],
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": iscrowd,
        "sequence": image["sequence"],
        "track_id": line.track,
    }
    if not iscrowd:
        annotation.update(occlusion=line.occlusion, out_of_view=line.out_of_view)
    return annotation


def _clip(box: list[float], width: int, height: int) -> list[float] | None:
    """The part of `x, y, w, h` inside the image; None if it has no area."""
    x, y, w, h = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + w, width), min(y + h, height)
    return [left, top, right - left, bottom - top] if right > left and bottom > top else None


def _lines(path: Path) -> Iterator[_Line]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; UAVDT has it for every sequence, if only empty") from error
    except OSError as error:
        raise DataError(f"{path}: file cannot be read ({error.strerror})") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace():
            yield _parse(path, number, line)


def _parse(path: Path, number: int, line: str) -> _Line:
    texts = line.split(",")
    if len(texts) != _FIELDS:
        raise DataError(f"{path}:{number}: {len(texts)} fields instead of {_FIELDS}; fetch the file again")
    try:
        frame, track, *box, out_of_view, occlusion, category = map(int, texts)
    except ValueError:
        frame, track, *box, out_of_view, occlusion, category = _decimals(path, number, texts)
    if not 1 <= frame < _FRAMES_PER_SEQUENCE:
        raise DataError(f"{path}:{number}: frame {frame}; frames count from 1 to {_FRAMES_PER_SEQUENCE - 1}")
    return _Line(number, frame, track, box, out_of_view, occlusion, category)


def _decimals(path: Path, number: int, texts: list[str]) -> list[float]:
    """The fields of a line in which the box, but nothing else, may have decimals."""
    values = []
    for index, text in enumerate(texts):
        try:
            value = float(text) if 2 <= index < 6 else int(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise DataError(f"{path}:{number}: field {index + 1} is {text.strip()!r}, no number; fetch the file again")
        values.append(value)
    return values


def _picture_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:  # reads the header only
            return picture.size
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: annotated frame is missing; expected this layout: {' '.join(LAYOUT.split())}"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: annotated frame is no readable image; fetch it again") from error


def _write_split(
    split: str, names: list[str], reader: _Reader, path: Path, temporary: Path, report: Callable[[str], None]
) -> SplitReport:
    images, annotations, sequences, first_id = [], [], [], 1
    for name in names:
        sequence = reader.read(name)
        numbered = [{"id": i, **entry} for i, entry in enumerate(sequence.annotations, start=first_id)]
        first_id += len(numbered)
        images.append(_inner_json(sequence.images))
        annotations.append(_inner_json(numbered))
        sequence.images, sequence.annotations = [None] * len(sequence.images), []  # text takes a fraction of the memory
        sequences.append(sequence)
        report(name)
    missing = tuple(name for name in SEQUENCES[split] if name not in names)
    head = {
        "info": {"description": f"UAVDT-DET {split}", "sequences": names, "missing_sequences": missing},
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1])
        for key, parts in (("images", images), ("annotations", annotations)):
            file.write(f', "{key}": [{", ".join(filter(None, parts))}]')
        file.write("}\n")
    return _split_report(split, path, names, missing, sequences)


def _inner_json(entries: list[dict]) -> str:
    return json.dumps(entries)[1:-1]


def _split_report(
    split: str, path: Path, names: list[str], missing: tuple[str, ...], sequences: list[_Sequence]
) -> SplitReport:
    categories = sum((sequence.categories for sequence in sequences), Counter())
    return SplitReport(
        split=split,
        path=path,
        sequences=tuple(names),
        missing_sequences=missing,
        frames=sum(len(sequence.images) for sequence in sequences),
        boxes=categories.total(),
        boxes_per_category={name: categories[i] for i, name in CATEGORIES.items()},
        ignore_regions=sum(sequence.ignore_regions for sequence in sequences),
        frames_without_boxes=sum(sequence.frames_without_boxes for sequence in sequences),
        skipped=tuple(box for sequence in sequences for box in sequence.skipped),
    )
