"""Images with a class a pixel, in one form for every data set: PASCAL VOC segmentation and ADE20K.

VOC     VOCdevkit/VOC2012/{ImageSets/Segmentation,JPEGImages,SegmentationClass}; the label maps of the 10,582 images of
        `trainaug` (with those of SBD, Hariharan et al., ICCV 2011) are in SegmentationClassAug, as the field keeps them
ADE20K  see `flsl_bench.datasets.ade20k`
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from flsl_bench.datasets import ade20k
from flsl_bench.datasets.listing import file_names, read_list
from flsl_bench.datasets.voc_classes import VOC_CLASSES
from flsl_bench.errors import ConfigError, DataError

VOID = 255
"""Marks pixels without a class."""


@dataclass(frozen=True)
class SemanticImage:
    """An image and where its labels are."""

    path: Path
    labels: Path
    read_labels: Callable[[Path], np.ndarray]

    def label_map(self) -> np.ndarray:
        """Classes uint8 [H, W], counted from 0; `VOID` where there is none. Raises `DataError` for a damaged file."""
        return self.read_labels(self.labels)


@dataclass(frozen=True)
class SemanticImages:
    """A split."""

    images: tuple[SemanticImage, ...]
    classes: tuple[str, ...]
    """Their names, in the order of the labels."""


def voc_segmentation(root: str | os.PathLike, split: str = "val", year: int = 2012) -> SemanticImages:
    """A split of `root`/VOC<year> of the VOCdevkit: "train", "val", "trainval" or "trainaug".

    Background is a class as any other; borders (255 in the files) are void.
    Raises `DataError` for a missing list, folder, image or label map.
    """
    folder = Path(root) / f"VOC{year}"
    names = read_list(folder / f"ImageSets/Segmentation/{split}.txt")
    maps = folder / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
    return SemanticImages(_pairs(names, folder / "JPEGImages", maps, _read_voc), ("background", *VOC_CLASSES))


def ade20k_segmentation(root: str | os.PathLike, split: str = "val") -> SemanticImages:
    """The "train" or "val" split of ADE20K's 150 classes, by file name; what is unlabelled (0 in the files) is void.

    Raises `DataError` for a missing folder, image or label map, `ConfigError` for a split that there is not.
    """
    splits = ade20k.official_splits(root)
    if split not in splits:
        raise ConfigError(f"split={split!r} is none of {', '.join(splits)}")
    files = splits[split]
    names = sorted(name.removesuffix(".jpg") for name in file_names(files.images) if name.endswith(".jpg"))
    if not names:
        raise DataError(f"{files.images}: holds no .jpg files; fetch the data again")
    return SemanticImages(_pairs(names, files.images, files.label_maps, _read_ade20k), ade20k.CLASSES)


def _pairs(names: list[str], images: Path, maps: Path, read: Callable[[Path], np.ndarray]) -> tuple[SemanticImage, ...]:
    pairs = tuple(SemanticImage(images / f"{name}.jpg", maps / f"{name}.png", read) for name in names)
    there = {folder: file_names(folder) for folder in (images, maps)}
    for pair in pairs:
        for path in (pair.path, pair.labels):
            if path.name not in there[path.parent]:
                raise DataError(f"{path}: missing, though its split names it; unpack the data again")
    return pairs


def _read_voc(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            mode, labels = image.mode, np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: label map cannot be read ({error}); fetch it again") from error
    if mode not in ("P", "L"):
        raise DataError(f"{path}: label map has mode {mode}, not P or L; save class numbers, not colours")
    wrong = labels[(labels > len(VOC_CLASSES)) & (labels != VOID)]
    if wrong.size:
        raise DataError(f"{path}: label map holds the value {wrong.max()}; VOC has 0 to 20, and 255 for void")
    return labels


def _read_ade20k(path: Path) -> np.ndarray:
    return ade20k.read_label_map(path) - np.uint8(1)  # 0, unlabelled, wraps around to 255
