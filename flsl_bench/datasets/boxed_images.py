"""Images with their largest box and its class: ImageNet, PASCAL VOC and COCO.

    ImageNet   see `flsl_bench.datasets.inspection.imagenet_split`
    VOC        VOCdevkit/VOC2007/{Annotations,ImageSets/Main,JPEGImages}
    COCO       see `flsl_bench.datasets.coco`

Boxes are clipped to the picture; those that are then empty do not count. Of equally large boxes the first one counts.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flsl_bench.datasets.box_xml import XmlAnnotation, read_box_xml
from flsl_bench.datasets.coco import official_splits, read_instances
from flsl_bench.datasets.inspection import imagenet_split
from flsl_bench.datasets.listing import file_names, folder_names, read_list
from flsl_bench.errors import ConfigError, DataError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxedImage:
    """An image and its largest box."""

    path: Path
    size: tuple[int, int]
    """Width and height that the box refers to, as annotated; in ImageNet they are not always those of the file."""
    box: Box
    """x0, y0, x1, y1 in pixels from the top left corner of the first pixel, inside `size` and not empty."""
    label: str


@dataclass(frozen=True)
class BoxedImages(Sequence):
    """A split."""

    images: tuple[BoxedImage, ...]
    without_box: int
    """Annotated images that have no box; they are left out."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> BoxedImage:
        return self.images[index]


def imagenet_boxes(root: str | os.PathLike, split: str = "val") -> BoxedImages:
    """The images of "train" or "val" that have an annotation (about half of "train"), in the order of their names.

    Labels are WordNet ids, as the boxes have them. Raises `DataError` for a missing folder, image or field.
    """
    files = imagenet_split(root, split)
    listings: dict[Path, set[str]] = {}

    def has(path: Path) -> bool:
        if path.parent not in listings:
            listings[path.parent] = file_names(path.parent) if path.parent.is_dir() else set()
        return path.name in listings[path.parent]

    found, without_box = [], 0
    for xml in _xml_files(files.boxes):
        largest = _largest_of(read_box_xml(xml), origin=0)
        if largest is None:
            without_box += 1
            continue
        name = f"{xml.stem}.JPEG"
        places = (files.images / part / name for part in (xml.parent.name, "", largest.label))
        path = next(filter(has, places), None)
        if path is None:
            raise DataError(f"{files.images / name}: no such image, though {xml} annotates it; unpack this split again")
        found.append(largest.of(path))
    return BoxedImages(tuple(found), without_box)


def voc_boxes(root: str | os.PathLike, split: str = "trainval", year: int = 2012) -> BoxedImages:
    """The images of a split of `root`/VOC<year> of the VOCdevkit, in the order of its list; labels are VOC's names.

    Objects marked difficult do not count. VOC's pixels count from 1 and its boxes include the last one.
    Raises `DataError` for a missing list, annotation, image or field.
    """
    folder = Path(root) / f"VOC{year}"
    names = read_list(folder / f"ImageSets/Main/{split}.txt")
    there = file_names(folder / "JPEGImages")
    found = []
    for name in names:
        path = folder / f"JPEGImages/{name}.jpg"
        if path.name not in there:
            raise DataError(f"{path}: no such image, though ImageSets/Main/{split}.txt names it; unpack VOC again")
        largest = _largest_of(read_box_xml(folder / f"Annotations/{name}.xml"), origin=1)
        if largest is not None:
            found.append(largest.of(path))
    return BoxedImages(tuple(found), len(names) - len(found))


def coco_boxes(root: str | os.PathLike, split: str = "val") -> BoxedImages:
    """The images of "train" or "val" in the order of COCO's JSON; labels are names of categories, crowds do not count.

    Raises `DataError` for what `read_instances` refuses, an image that is absent and a size or box that is none,
    `ConfigError` for a split that there is not.
    """
    splits = official_splits(root)
    if split not in splits:
        raise ConfigError(f"split={split!r} is none of {', '.join(splits)}")
    files = splits[split]
    content = read_instances(files)
    names = {category["id"]: category["name"] for category in content["categories"]}
    boxes: dict[int, list[tuple[str, Box]]] = {}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            entry = names[annotation["category_id"]], _coco_box(files.annotations, annotation)
            boxes.setdefault(annotation["image_id"], []).append(entry)
    there = file_names(files.images)
    found = []
    for image in content["images"]:
        path = files.images / image["file_name"]
        if image["file_name"] not in there and not path.is_file():
            raise DataError(f"{path}: no such image, though {files.annotations} lists it; fetch it again")
        largest = _largest(boxes.get(image["id"], ()), _coco_size(files.annotations, image))
        if largest is not None:
            found.append(largest.of(path))
    return BoxedImages(tuple(found), len(content["images"]) - len(found))


@dataclass(frozen=True)
class _Labelled:
    """What is known of an image before its file is."""

    size: tuple[int, int]
    box: Box
    label: str

    def of(self, path: Path) -> BoxedImage:
        return BoxedImage(path, self.size, self.box, self.label)


def _largest_of(annotation: XmlAnnotation, origin: int) -> _Labelled | None:
    """The largest box of a file whose pixels count from `origin`; with 1 the last one is included, as in VOC."""
    boxes = [
        (item.name, (item.box[0] - origin, item.box[1] - origin, item.box[2], item.box[3]))
        for item in annotation.objects
        if not item.difficult
    ]
    return _largest(boxes, annotation.size)


def _largest(boxes: Iterable[tuple[str, Box]], size: tuple[int, int]) -> _Labelled | None:
    clipped = [(name, _clip(box, size)) for name, box in boxes]
    name, box = max(clipped, key=lambda entry: _area(entry[1]), default=(None, None))
    return None if box is None or not _area(box) else _Labelled(size, box, name)


def _clip(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    x0, x1 = (min(max(x, 0), width) for x in box[::2])
    y0, y1 = (min(max(y, 0), height) for y in box[1::2])
    return x0, y0, x1, y1


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def _coco_size(path: Path, image: dict) -> tuple[int, int]:
    size = image["width"], image["height"]
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise DataError(f"{path}: image {image['id']}: width and height are {size[0]!r} and {size[1]!r}, no pixels")
    return size


def _coco_box(path: Path, annotation: dict) -> Box:
    try:
        x, y, width, height = map(float, annotation["bbox"])
    except (TypeError, ValueError):
        width = height = float("nan")
        x = y = 0.0
    if not all(abs(value) < float("inf") for value in (x, y, width, height)):
        raise DataError(f"{path}: annotation {annotation['id']}: field bbox is {annotation['bbox']}, no 4 numbers")
    return x, y, x + width, y + height


def _xml_files(folder: Path) -> list[Path]:
    folders = [folder, *(folder / name for name in sorted(folder_names(folder)))]
    files = [inner / name for inner in folders for name in sorted(file_names(inner)) if name.endswith(".xml")]
    if not files:
        raise DataError(f"{folder}: holds no .xml files; name the folder of a split, e.g. Annotations/CLS-LOC/val")
    return files
