"""Objects with their masks from COCO, DAVIS, VOC and ADE20K in one form, each decoded when it is asked for.

What an annotation leaves open (crowds, void) is no object, and no background either: it is an image's void mask.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from flsl_bench.datasets import ade20k, coco, davis
from flsl_bench.datasets.voc_classes import VOC_CLASSES
from flsl_bench.errors import ConfigError, DataError

VOID_ID = 255
"""Of VOC's and DAVIS' masks."""


@dataclass(frozen=True)
class ImageObject:
    """One object of an image."""

    category: str
    id: int
    """Unique in its image."""
    mask: Callable[[], np.ndarray]
    """Decodes the pixels of the object, bool [H, W], anew at each call; raises `DataError`."""


@dataclass(frozen=True)
class ObjectImage:
    """One image and its objects."""

    path: Path
    size: tuple[int, int]
    """(width, height) in pixels, as the annotation says."""
    objects: tuple[ImageObject, ...]
    void: Callable[[], np.ndarray | None]
    """Decodes the pixels of which the annotation does not say what they are, bool [H, W]; None if there are none."""
    video: str | None = None
    """Name of the video whose frame this is."""


@dataclass(frozen=True)
class ObjectImages(Sequence):
    """The images of a split in order; each is read when it is indexed, `paths` are there at once."""

    paths: tuple[Path, ...]
    load: Callable[[int], ObjectImage]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> ObjectImage:
        return self.load(range(len(self))[index])


def coco_objects(root: str | os.PathLike, split: str = "val") -> ObjectImages:
    """The objects of `split` ("train" or "val") of a folder in COCO's 2017 layout, in the order of its JSON.

    Crowds are void. Raises `DataError` for what is missing or malformed, `ConfigError` for another split.
    """
    files = _of_split(coco.official_splits(root), split)
    content = coco.read_instances(files)
    names = {category["id"]: category["name"] for category in content["categories"]}
    annotations: dict[int | str, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    images = content["images"]

    def load(index: int) -> ObjectImage:
        image = images[index]
        size = image["width"], image["height"]
        mask = partial(_coco_mask, files.annotations, size)
        crowds, objects = [], []
        for annotation in annotations[image["id"]]:
            if annotation["iscrowd"]:
                crowds.append(partial(mask, annotation))
            else:
                name = names[annotation["category_id"]]
                objects.append(ImageObject(name, annotation["id"], partial(mask, annotation)))
        return ObjectImage(files.images / image["file_name"], size, tuple(objects), partial(_union, crowds))

    paths = tuple(files.images / image["file_name"] for image in images)
    return ObjectImages(paths, load)


def davis_objects(root: str | os.PathLike, split: str = "val", sequences: Iterable[str] | None = None) -> ObjectImages:
    """The objects of all frames of a DAVIS split, or of `sequences`; an object's category is "<sequence>/<id>".

    Raises `DataError` for what is missing or malformed.
    """
    names = davis.sequences(root, split) if sequences is None else list(sequences)
    pairs = []
    for name in names:
        sequence = davis.sequence(root, name)
        masks = sequence.masks()
        pairs += [(name, image, mask) for image, mask in zip(sequence.images(), masks, strict=True)]

    def load(index: int) -> ObjectImage:
        name, path, mask = pairs[index]
        ids = davis.read_mask(mask)
        return _of_map(path, ids, {i: f"{name}/{i}" for i in _ids(ids)}, VOID_ID, name)

    return ObjectImages(tuple(path for _, path, _ in pairs), load)


def voc_objects(root: str | os.PathLike, year: int | str = 2012, split: str = "val") -> ObjectImages:
    """The objects of a VOC segmentation split: `root`/VOC<year> of the VOCdevkit.

    Of an object, SegmentationObject has the pixels and SegmentationClass the class; 255, the borders and what is hard
    to tell, is void. Raises `DataError` for what is missing or malformed.
    """
    folder = Path(root) / f"VOC{year}"
    listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    try:
        names = listed.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not a text file")
        raise DataError(
            f"{listed}: cannot read this list ({reason}); give the VOCdevkit folder, a year and a split"
        ) from None
    if not names:
        raise DataError(f"{listed}: no image in it; unpack VOC{year} again")

    def load(index: int) -> ObjectImage:
        name = names[index]
        path = folder / "SegmentationObject" / f"{name}.png"
        ids = davis.read_mask(path)
        classes = davis.read_mask(folder / "SegmentationClass" / f"{name}.png")
        if classes.shape != ids.shape:
            raise DataError(f"{path}: {ids.shape} pixels, SegmentationClass has {classes.shape} (H, W)")
        found = {i: _voc_class(path, i, classes[ids == i]) for i in _ids(ids)}
        return _of_map(folder / "JPEGImages" / f"{name}.jpg", ids, found, VOID_ID)

    return ObjectImages(tuple(folder / "JPEGImages" / f"{name}.jpg" for name in names), load)


def ade20k_objects(root: str | os.PathLike, split: str = "val", *, components_above: int | None = None) -> ObjectImages:
    """The regions of `split` ("train" or "val") of ADEChallengeData2016, which has classes and no instances.

    By default an object is all of a class in an image. With `components_above`, it is a connected part (8 neighbours)
    of more pixels than that; smaller parts are void. Unlabelled pixels (0) are void. Raises `DataError` for what is
    missing or malformed, `ConfigError` for another split.
    """
    files = _of_split(ade20k.official_splits(root), split)
    try:
        names = sorted(name[:-4] for name in os.listdir(files.images) if name.endswith(".jpg"))
    except OSError as error:
        raise DataError(
            f"{files.images}: cannot read this folder ({error.strerror}); give ADEChallengeData2016"
        ) from None
    if not names:
        raise DataError(f"{files.images}: no .jpg in it; unpack ADEChallengeData2016 again")

    def load(index: int) -> ObjectImage:
        path = files.images / f"{names[index]}.jpg"
        labels = ade20k.read_label_map(files.label_maps / f"{names[index]}.png")
        ids, classes = labels, {int(c): int(c) for c in np.unique(labels) if c}
        if components_above is not None:
            ids, classes = _components(labels, components_above)
        return _of_map(path, ids, {i: ade20k.CLASSES[c - 1] for i, c in classes.items()}, 0)

    return ObjectImages(tuple(files.images / f"{name}.jpg" for name in names), load)


def _of_split(splits: dict, split: str):
    if split not in splits:
        raise ConfigError(f"split={split!r} is none of {', '.join(splits)}")
    return splits[split]


def _coco_mask(file: Path, size: tuple[int, int], annotation: dict) -> np.ndarray:
    """bool [H, W] of an annotation's polygons (their union), or of its run lengths, compressed or not."""
    width, height = size
    shape = annotation.get("segmentation")
    try:
        if isinstance(shape, dict) and not isinstance(shape["counts"], list):
            runs = shape
        else:
            runs = coco_mask.frPyObjects(shape, height, width)
        decoded = coco_mask.decode(coco_mask.merge(runs) if isinstance(runs, list) else runs)
    except Exception as error:  # pycocotools raises bare Exceptions too
        reason = f"segmentation cannot be decoded ({type(error).__name__}: {error})"
        raise DataError(f"{file}: annotation {annotation['id']}: {reason}; fetch the file again") from None
    if decoded.shape != (height, width):
        raise DataError(
            f"{file}: annotation {annotation['id']}: segmentation of {decoded.shape}, not {(height, width)}"
        )
    return decoded.view(bool)


def _union(masks: list[Callable[[], np.ndarray]]) -> np.ndarray | None:
    return np.logical_or.reduce([mask() for mask in masks]) if masks else None


def _ids(ids: np.ndarray) -> list[int]:
    """The objects in a mask of DAVIS or VOC."""
    return [int(i) for i in np.unique(ids) if i not in (0, VOID_ID)]


def _of_map(
    path: Path, ids: np.ndarray, categories: dict[int, str], void_id: int, video: str | None = None
) -> ObjectImage:
    """An image of a map [H, W], of which the ids in `categories` are objects and `void_id` is void."""
    objects = tuple(ImageObject(name, i, partial(np.equal, ids, i)) for i, name in categories.items())
    return ObjectImage(path, ids.shape[::-1], objects, partial(_equal_or_none, ids, void_id), video)


def _equal_or_none(ids: np.ndarray, value: int) -> np.ndarray | None:
    mask = ids == value
    return mask if mask.any() else None


def _voc_class(path: Path, number: int, classes: np.ndarray) -> str:
    """The class that most of an object's pixels have; void ones do not count."""
    counts = np.bincount(classes, minlength=256)
    counts[[0, VOID_ID]] = 0
    largest = int(counts.argmax())
    if not counts[largest] or largest > len(VOC_CLASSES):
        raise DataError(f"{path}: object {number} has no class in SegmentationClass; unpack VOC again")
    return VOC_CLASSES[largest - 1]


def _components(labels: np.ndarray, above: int) -> tuple[np.ndarray, dict[int, int]]:
    """Ids int32 [H, W] of the connected parts with more than `above` pixels, 0 elsewhere, and their classes."""
    ids, classes = np.zeros(labels.shape, np.int32), {}
    for label in np.unique(labels[labels > 0]):
        count, parts = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=8)
        sizes = np.bincount(parts.ravel(), minlength=count)
        for part in range(1, count):
            if sizes[part] > above:
                classes[len(classes) + 1] = int(label)
                ids[parts == part] = len(classes)
    return ids, classes
