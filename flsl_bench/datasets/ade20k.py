"""ADE20K's scene parsing challenge: the folder's layout, its check before a run, and its fingerprint."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.errors import DataError

# Images of the official splits (http://sceneparsing.csail.mit.edu).
OFFICIAL_IMAGES = {"train": 20_210, "val": 2_000}

FOLDERS = {"train": "training", "val": "validation"}

LAYOUT = """DIR/
  images/training/ADE_train_00000001.jpg ..., images/validation/ADE_val_00000001.jpg ...
  annotations/training/ADE_train_00000001.png ..., annotations/validation/ADE_val_00000001.png ..."""

SAMPLE = 32
"""Label maps of a split that are decoded by the check."""

# Signature, length and name of the first chunk, width, height; then bit depth 8 and colour type 0: grey.
_PNG_SIGNATURE, _GREY_8_BITS = b"\x89PNG\r\n\x1a\n", b"\x08\x00"


@dataclass(frozen=True)
class SplitFiles:
    """Where one split lies."""

    images: Path  # folder of *.jpg
    label_maps: Path  # folder of *.png of the same names


@dataclass(frozen=True)
class SplitFingerprint:
    """What tells the content of one split from another's."""

    images: int
    bytes: int  # of all images
    annotations_sha256: str  # over names and contents of all label maps, by name


def official_splits(root: str | os.PathLike) -> dict[str, SplitFiles]:
    """The train and val split of a folder in the layout of ADEChallengeData2016."""
    root = Path(root)
    return {split: SplitFiles(root / "images" / name, root / "annotations" / name) for split, name in FOLDERS.items()}


def inspect_split(files: SplitFiles) -> SplitFingerprint:
    """Check one split and give its fingerprint; pictures are not decoded, of the label maps an even sample is.

    All label maps, 120 MB officially, are read for the fingerprint.

    Raises:
        DataError: a folder is missing or holds no pictures, an image has no label map or the reverse, a file is
            empty, a label map is no grey 8-bit PNG, or one of the sample is no valid map of its image.
    """
    images, maps = _listing(files.images, ".jpg"), _listing(files.label_maps, ".png")
    _check_pairs(files, images, maps)
    digest = hashlib.sha256()
    for name in sorted(maps):
        content = _content(files.label_maps / f"{name}.png")
        digest.update(f"{name}.png {len(content)}\n".encode())
        digest.update(content)
    names = sorted(images)
    for name in names[:: -(-len(names) // SAMPLE)]:
        check_pair(files.images / f"{name}.jpg", files.label_maps / f"{name}.png")
    return SplitFingerprint(len(images), sum(images.values()), digest.hexdigest())


def read_label_map(path: str | os.PathLike) -> np.ndarray:
    """A label map as it is stored: uint8 [H, W], 0 for what is unlabelled, c for class c of the 150 counted from 1.

    Raises:
        DataError: the file is damaged, not of 8-bit grey, or holds a value over 150.
    """
    try:
        with Image.open(path) as image:
            mode, labels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: label map cannot be read ({error}); fetch it again") from error
    if mode != "L":
        raise DataError(f"{path}: label map has mode {mode}, not L (8-bit grey); use the challenge's own annotations")
    if labels.max() > len(CLASSES):
        raise DataError(
            f"{path}: label map holds the value {labels.max()} where {len(CLASSES)} is the last class; use the "
            "annotations of ADEChallengeData2016, not those of the full ADE20K"
        )
    return labels


def check_pair(image: Path, label_map: Path) -> None:
    """Raise a `DataError` if `label_map` is no valid map of `image`, of which only the header is read."""
    height, width = read_label_map(label_map).shape
    try:
        with Image.open(image) as opened:
            size = opened.size
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{image}: image cannot be read ({error}); fetch it again") from error
    if size != (width, height):
        raise DataError(f"{label_map}: label map of {width}x{height} for an image of {size[0]}x{size[1]} pixels")


def _listing(folder: Path, suffix: str) -> dict[str, int]:
    """Size in bytes of every file with `suffix`, by its stem; one listing, since single look-ups can be slow."""
    try:
        with os.scandir(folder) as entries:
            sizes = {
                entry.name.removesuffix(suffix): entry.stat().st_size
                for entry in entries
                if entry.name.endswith(suffix) and entry.is_file()
            }
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: no such data folder; link ADEChallengeData2016 there or pass --cfg-options data_root=DIR, "
            f"where this layout is expected: {' '.join(LAYOUT.split())}"
        ) from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    if not sizes:
        raise DataError(f"{folder}: holds no {suffix} files; there is nothing to train on or to score")
    return sizes


def _check_pairs(files: SplitFiles, images: dict[str, int], maps: dict[str, int]) -> None:
    kinds = ((files.images, ".jpg", images, "image"), (files.label_maps, ".png", maps, "label map"))
    for (folder, suffix, own, what), (other_folder, _, other, other_what) in (kinds, kinds[::-1]):
        for name, size in sorted(own.items()):
            if name not in other:
                raise DataError(
                    f"{folder / name}{suffix}: this {what} has no {other_what} in {other_folder}; fetch the data again"
                )
            if not size:
                raise DataError(f"{folder / name}{suffix}: is an empty file; fetch it again")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(_PNG_SIGNATURE) or content[24:26] != _GREY_8_BITS:
        raise DataError(f"{path}: label map is no PNG of 8-bit grey; use the challenge's own annotations")
    return content
