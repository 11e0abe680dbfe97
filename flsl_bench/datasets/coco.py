"""COCO instances: the folder's layout, its check before a run, and its fingerprint."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from flsl_bench.errors import DataError

# Images of the official 2017 splits (https://cocodataset.org/#download).
OFFICIAL_IMAGES = {"train": 118_287, "val": 5_000}

LAYOUT = """DIR/
  annotations/instances_train2017.json, instances_val2017.json
  train2017/000000000009.jpg ...
  val2017/000000000139.jpg ..."""


@dataclass(frozen=True)
class Wording:
    """What messages say about a data set that is annotated in COCO's format.

    `folder_cure`: what to do where its folder is missing; `file_cure`: where its annotation file is, whose name stands
    for `{name}`; `layout`: how its folder must look.
    """

    folder_cure: str
    file_cure: str
    layout: str


COCO = Wording("link COCO there", "COCO's folder has annotations/{name}", LAYOUT)


@dataclass(frozen=True)
class SplitFiles:
    """Where one split lies."""

    annotations: Path  # instances JSON
    images: Path  # folder


@dataclass(frozen=True)
class SplitFingerprint:
    """What tells the content of one split from another's."""

    images: int
    bytes: int  # of all listed images
    annotations_sha256: str
    boxes: int  # crowds left out


def official_splits(root: str | os.PathLike) -> dict[str, SplitFiles]:
    """The train and val split of a folder in COCO's 2017 layout."""
    root = Path(root)
    return {
        split: SplitFiles(root / f"annotations/instances_{split}2017.json", root / f"{split}2017")
        for split in OFFICIAL_IMAGES
    }


def inspect_split(files: SplitFiles, wording: Wording = COCO) -> SplitFingerprint:
    """Check one split completely, without decoding pictures, and give its fingerprint.

    Args:
        files: where the split lies.
        wording: what the messages about missing files say.

    Raises:
        DataError: the annotation file or image folder is missing, the JSON is malformed or not COCO instances, or an
            image that it lists is absent or empty.
    """
    raw = _read(files.annotations, wording)
    content = _checked(files.annotations, raw)
    sizes = _image_sizes(files.images, wording)
    total = 0
    for image in content["images"]:
        size = sizes.get(image["file_name"])
        if size is None:
            nested = files.images / image["file_name"]  # lists may name sub-folders
            size = nested.stat().st_size if nested.is_file() else None
        if not size:
            state = "is absent" if size is None else "is an empty file"
            raise DataError(
                f"{files.images / image['file_name']}: listed in {files.annotations} but {state}; fetch it again"
            )
        total += size
    boxes = sum(not annotation["iscrowd"] for annotation in content["annotations"])
    return SplitFingerprint(len(content["images"]), total, hashlib.sha256(raw).hexdigest(), boxes)


def read_instances(files: SplitFiles) -> dict:
    """The content of a split's annotation file; raises `DataError` as `inspect_split` does, images apart."""
    return _checked(files.annotations, _read(files.annotations, COCO))


def _checked(path: Path, raw: bytes) -> dict:
    content = _parse(path, raw)
    _check_references(path, content)
    return content


def _read(path: Path, wording: Wording) -> bytes:
    for folder in reversed(path.parents[:2]):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such data folder; {wording.folder_cure} or pass --cfg-options data_root=DIR")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: annotation file is missing; {wording.file_cure.format(name=path.name)}") from error
    except OSError as error:
        raise DataError(f"{path}: annotation file cannot be read ({error.strerror})") from error


def _parse(path: Path, raw: bytes) -> dict:
    try:
        content = json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: malformed JSON ({error}); fetch the file again") from error
    for field in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise DataError(f"{path}: field {field} is missing or no list; this is no COCO instances file")
    if not content["images"]:
        raise DataError(f"{path}: field images is empty; there is nothing to train on or to score")
    return content


def _check_references(path: Path, content: dict) -> None:
    images = _identities(path, content, "images", ("id", "file_name", "width", "height"))
    categories = _identities(path, content, "categories", ("id", "name"))
    _identities(path, content, "annotations", ("id", "image_id", "category_id", "bbox", "area", "iscrowd"))
    for annotation in content["annotations"]:
        for field, known in (("image_id", images), ("category_id", categories)):
            if annotation[field] not in known:
                raise DataError(f"{path}: annotation {annotation['id']}: {field} {annotation[field]} is not defined")


_TYPES = {"file_name": str, **dict.fromkeys(("id", "image_id", "category_id"), (int, str))}


def _identities(path: Path, content: dict, field: str, required: tuple[str, ...]) -> set[int]:
    known = set()
    for index, entry in enumerate(content[field]):
        missing = [name for name in required if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise DataError(f"{path}: {field}[{index}]: field {missing[0]} is missing")
        wrong = [name for name in required if not isinstance(entry[name], _TYPES.get(name, object))]
        if wrong:
            raise DataError(f"{path}: {field}[{index}]: field {wrong[0]} is a {type(entry[wrong[0]]).__name__}")
        if entry["id"] in known:
            raise DataError(f"{path}: {field}[{index}]: id {entry['id']} is used twice")
        known.add(entry["id"])
    return known


def _image_sizes(folder: Path, wording: Wording) -> dict[str, int]:
    """Size in bytes of every file in a folder; one listing, since single look-ups are slow on network disks."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: image folder is missing; expected this layout: {' '.join(wording.layout.split())}"
        ) from error
    except OSError as error:
        raise DataError(f"{folder}: image folder cannot be read ({error.strerror})") from error
