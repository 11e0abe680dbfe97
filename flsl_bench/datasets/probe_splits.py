"""The splits of data sets that probes read: images in the form that a probe wants, and what tells their content apart.

No split is read twice in two ways: objects, boxes and label maps come from the readers of `objects`, `boxed_images` and
`semantic`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flsl_bench.datasets import ade20k, coco, inspection
from flsl_bench.datasets.boxed_images import BoxedImages, coco_boxes, imagenet_boxes, voc_boxes
from flsl_bench.datasets.objects import ObjectImages, ade20k_objects, coco_objects, davis_objects, voc_objects
from flsl_bench.datasets.semantic import SemanticImages, ade20k_segmentation, voc_segmentation
from flsl_bench.errors import DataError
from flsl_bench.files import sha256

Images = ObjectImages | BoxedImages | SemanticImages

SMOKE_IMAGES = 8


@dataclass(frozen=True)
class ProbeSplit:
    """One split: how it is read, the files that hold its annotations, and how many images it has officially."""

    read: Callable[[Path], Images]
    annotations: Callable[[Path, Sequence[Path]], list[Path]]  # data folder and image files -> files
    official_images: int


@dataclass(frozen=True)
class ProbeData:
    """A data set as one kind of probe reads it, scored on the last of its splits."""

    dataset: str  # in `discovery`
    splits: Mapping[str, ProbeSplit]
    needs: tuple[str, ...]  # paths below the data folder without which nothing of it is there

    def there(self, folder: Path) -> bool:
        """Whether the folder has this kind of annotations at all."""
        return all((folder / path).exists() for path in self.needs)


def image_files(images: Images) -> list[Path]:
    """The image files of a split, in order."""
    return list(images.paths) if isinstance(images, ObjectImages) else [image.path for image in images.images]


def listed_images(images: Images) -> int:
    """Images that the split lists; of those with boxes also the ones without any."""
    return len(image_files(images)) + getattr(images, "without_box", 0)


def first_images(images: Images, count: int = SMOKE_IMAGES) -> Images:
    """The split cut to its first images."""
    if isinstance(images, ObjectImages):
        return replace(images, paths=images.paths[:count])
    return replace(images, images=images.images[:count])


def fingerprint(folder: Path, split: ProbeSplit, images: Images) -> dict[str, Any]:
    """Number and bytes of the image files, and a hash of their annotations' content.

    Raises `DataError` for a file that is not there.
    """
    paths = image_files(images)
    try:
        size = sum(path.stat().st_size for path in paths)
        digest = hashlib.sha256()
        for path in split.annotations(folder, paths):
            digest.update(f"{path.name}:{sha256(path)}\n".encode())
    except OSError as error:
        raise DataError(f"{error.filename}: missing, though its split lists it; unpack the data again") from None
    return {"images": len(paths), "bytes": size, "annotations_sha256": digest.hexdigest()}


def _beside(*folders: str, suffix: str = ".png", up: int = 1) -> Callable[[Path, Sequence[Path]], list[Path]]:
    """A file of the image's stem in each of `folders`, which lie beside the image's `up`-th parent."""

    def files(_: Path, paths: Sequence[Path]) -> list[Path]:
        return [path.parents[up] / folder / f"{path.stem}{suffix}" for path in paths for folder in folders]

    return files


def _davis_masks(folder: Path, paths: Sequence[Path]) -> list[Path]:
    return [folder / "Annotations/480p" / path.parent.name / f"{path.stem}.png" for path in paths]


def _ade20k_maps(folder: Path, paths: Sequence[Path]) -> list[Path]:
    return [folder / "annotations" / path.parent.name / f"{path.stem}.png" for path in paths]


def _coco_json(split: str) -> Callable[[Path, Sequence[Path]], list[Path]]:
    return lambda folder, _: [Path(coco.official_splits(folder)[split].annotations)]


def _imagenet_boxes(split: str) -> Callable[[Path, Sequence[Path]], list[Path]]:
    def files(folder: Path, paths: Sequence[Path]) -> list[Path]:
        boxes = Path(inspection.imagenet_split(folder, split).boxes)
        in_class = {path: boxes / path.parent.name / f"{path.stem}.xml" for path in paths}
        return [file if file.is_file() else boxes / file.name for file in in_class.values()]

    return files


_VOC_SEGMENTED = {"train": 1_464, "val": 1_449}  # ImageSets/Segmentation of VOC2012
_VOC_NEEDS = ("VOC2012/ImageSets/Segmentation", "VOC2012/SegmentationClass")
_VOC_MAPS = ("SegmentationClass", "SegmentationObject")
_DAVIS_VAL_FRAMES = 1_999  # of the 30 sequences


def _coco(read: Callable[..., Images], *splits: str) -> ProbeData:
    return ProbeData(
        "coco",
        {s: ProbeSplit(lambda root, s=s: read(root, s), _coco_json(s), coco.OFFICIAL_IMAGES[s]) for s in splits},
        ("annotations",),
    )


def _ade20k(read: Callable[..., Images], *splits: str) -> ProbeData:
    return ProbeData(
        "ade20k",
        {s: ProbeSplit(lambda root, s=s: read(root, s), _ade20k_maps, ade20k.OFFICIAL_IMAGES[s]) for s in splits},
        ("annotations",),
    )


def _voc(read: Callable[..., Images], maps: Sequence[str], *splits: str) -> ProbeData:
    made = {s: ProbeSplit(lambda root, s=s: read(root, split=s), _beside(*maps), _VOC_SEGMENTED[s]) for s in splits}
    return ProbeData("voc", made, _VOC_NEEDS)


_VOC_BOXES = ProbeData(
    "voc",
    {
        split: ProbeSplit(
            lambda root, split=split: voc_boxes(root, split, 2007),
            _beside("Annotations", suffix=".xml"),
            inspection.VOC_IMAGES["VOC2007", split],
        )
        for split in ("trainval", "test")
    },
    ("VOC2007/Annotations",),
)
_IMAGENET_BOXES = ProbeData(
    "imagenet",
    {
        split: ProbeSplit(
            lambda root, split=split: imagenet_boxes(root, split),
            _imagenet_boxes(split),
            inspection.IMAGENET_BOX_FILES[split],
        )
        for split in ("train", "val")
    },
    (),
)
_DAVIS = ProbeData(
    "davis",
    {"val": ProbeSplit(lambda root: davis_objects(root, "val"), _davis_masks, _DAVIS_VAL_FRAMES)},
    ("ImageSets/2017/val.txt",),
)

OBJECTS = (_coco(coco_objects, "val"), _DAVIS, _voc(voc_objects, _VOC_MAPS, "val"), _ade20k(ade20k_objects, "val"))
BOXES = (_IMAGENET_BOXES, _VOC_BOXES, _coco(coco_boxes, "train", "val"))
LABELS = (
    _voc(voc_segmentation, _VOC_MAPS[:1], "train", "val"),
    _ade20k(ade20k_segmentation, "train", "val"),
)
