"""What lies in the folder of a data set, split by split, beside the official numbers.

Every split is read as a run would read it, pictures aside: lists, annotation files, and that each file they name is
there. Whatever fails becomes a finding, never an exception.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flsl_bench.datasets import ade20k, coco, davis, uavdt
from flsl_bench.datasets.listing import read_list
from flsl_bench.errors import DataError

COMPLETE, SAMPLE, PARTIAL, MISSING, BROKEN = "complete", "sample", "partial", "missing", "broken"

UAVDT_IMAGES = "UAV-benchmark-M"
DAVIS_SEQUENCES = {"train": 60, "val": 30}  # Pont-Tuset et al., arXiv 1704.00675
VOC_IMAGES = {("VOC2007", "trainval"): 5_011, ("VOC2007", "test"): 4_952, ("VOC2012", "trainval"): 11_540}
VOC2012_SEGMENTED = 2_913  # trainval, http://host.robots.ox.ac.uk/pascal/VOC/voc2012
IMAGENET_IMAGES = {"train": 1_281_167, "val": 50_000}  # Russakovsky et al., IJCV 2015, table 2
IMAGENET_BOX_FILES = {"train": 544_546, "val": 50_000}  # of ILSVRC's archive

WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class SplitFinding:
    """One split of a data set.

    `state` is "complete" (the official numbers), "sample" (sound, other numbers), "partial" (some of its files or
    folders are absent), "missing" (all of them are) or "broken" (there, but no run could read it).
    """

    name: str
    state: str
    detail: str


def inspect_coco(folder: Path) -> list[SplitFinding]:
    """Both splits of COCO 2017 instances."""
    return [
        _split(
            folder,
            f"{split}2017",
            (f"annotations/instances_{split}2017.json", f"{split}2017"),
            partial(_instances, files, "images"),
            {"images": coco.OFFICIAL_IMAGES[split]},
        )
        for split, files in coco.official_splits(folder).items()
    ]


def inspect_uavdt(folder: Path) -> list[SplitFinding]:
    """Both splits of converted UAVDT."""
    findings = []
    for split, frames in uavdt.OFFICIAL_FRAMES.items():
        pieces = (f"annotations/uavdt_{split}.json", UAVDT_IMAGES)
        files = coco.SplitFiles(*(folder / piece for piece in pieces))
        findings.append(_split(folder, split, pieces, partial(_instances, files, "frames"), {"frames": frames}))
    return findings


def inspect_ade20k(folder: Path) -> list[SplitFinding]:
    """Both splits of ADE20K."""
    return [
        _split(
            folder,
            name,
            (f"images/{name}", f"annotations/{name}"),
            partial(_label_maps, ade20k.official_splits(folder)[split]),
            {"images": ade20k.OFFICIAL_IMAGES[split]},
        )
        for split, name in ade20k.FOLDERS.items()
    ]


def inspect_davis(folder: Path) -> list[SplitFinding]:
    """The train and val split of DAVIS 2017 at 480p."""
    folders = ("JPEGImages/480p", "Annotations/480p")
    return [
        _split(
            folder,
            split,
            (f"ImageSets/2017/{split}.txt", *folders),
            partial(_sequences, folder, split),
            {"sequences": count},
        )
        for split, count in DAVIS_SEQUENCES.items()
    ]


def inspect_voc(folder: Path) -> list[SplitFinding]:
    """The splits of VOC 2007 and 2012 with published boxes, and VOC 2012's segmentation."""
    findings = []
    for (year, split), count in VOC_IMAGES.items():
        files = {"JPEGImages": ".jpg", "Annotations": ".xml"}
        findings.append(_voc_split(folder, f"{year} {split}", year, f"Main/{split}.txt", files, count))
    files = {"JPEGImages": ".jpg", "SegmentationClass": ".png", "SegmentationObject": ".png"}
    name = "VOC2012 segmentation"
    return [*findings, _voc_split(folder, name, "VOC2012", "Segmentation/trainval.txt", files, VOC2012_SEGMENTED)]


def inspect_imagenet(folder: Path) -> list[SplitFinding]:
    """ImageNet's train and val images, and the box files of each."""
    images, boxes = [], []
    for split in IMAGENET_IMAGES:
        files = imagenet_split(folder, split)
        for findings, name, path, suffix, official in (
            (images, split, files.images, ".JPEG", {"images": IMAGENET_IMAGES[split]}),
            (boxes, f"{split} boxes", files.boxes, ".xml", {"annotated images": IMAGENET_BOX_FILES[split]}),
        ):
            read = partial(_in_class_folders, path, suffix, next(iter(official)))
            findings.append(_split(folder, name, (str(path.relative_to(folder)),), read, official))
    return images + boxes


@dataclass(frozen=True)
class ImagenetFiles:
    """Where one split of ImageNet lies."""

    images: Path
    """Folder of `<wnid>/*.JPEG` or, for val, of `*.JPEG`."""
    boxes: Path
    """Folder of `<wnid>/*.xml` or, for val, of `*.xml`."""


def imagenet_split(root: str | os.PathLike, split: str) -> ImagenetFiles:
    """The "train" or "val" split of a folder of ImageNet, as ILSVRC's archive has it or with the images on top."""
    root = Path(root)
    images, boxes = (
        next((name for name in names if os.path.isdir(root / name / split)), names[0])
        for names in ((".", "Data/CLS-LOC"), ("Annotations/CLS-LOC", "boxes"))
    )
    return ImagenetFiles(root / images / split, root / boxes / split)


Numbers = Mapping[str, int]


def _split(
    folder: Path, name: str, pieces: tuple[str, ...], read: Callable[[], Numbers], official: Numbers
) -> SplitFinding:
    """What `read` counts in a split that consists of `pieces`, files and folders relative to `folder`."""
    try:
        absent = [piece for piece in pieces if _is_absent(folder / piece)]
        if absent:
            state = MISSING if len(absent) == len(pieces) else PARTIAL
            return SplitFinding(name, state, f"not there: {', '.join(absent)}")
        found = read()
    except DataError as error:
        return SplitFinding(name, BROKEN, str(error))
    except Exception as error:  # a damaged file may raise anything in its reader, and the others are to be checked too
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return SplitFinding(name, BROKEN, f"{folder}: {name} cannot be read ({reason})")
    if all(found[key] == count for key, count in official.items()):
        return SplitFinding(name, COMPLETE, _told(found))
    return SplitFinding(name, SAMPLE, f"{_told(found)}; officially {_told(official)}")


def _is_absent(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def _told(numbers: Numbers) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in numbers.items())


def _instances(files: coco.SplitFiles, what: str) -> Numbers:
    fingerprint = coco.inspect_split(files)
    return {what: fingerprint.images, "boxes": fingerprint.boxes}


def _label_maps(files: ade20k.SplitFiles) -> Numbers:
    return {"images": ade20k.inspect_split(files).images}


def _sequences(root: Path, split: str) -> Numbers:
    found = [davis.sequence(root, name) for name in davis.sequences(root, split)]
    return {"sequences": len(found), "frames": sum(_frames(sequence) for sequence in found)}


def _frames(sequence: davis.DavisSequence) -> int:
    frames = sequence.images()
    sequence.masks()  # raises for a frame without a mask and a mask without a frame
    return len(frames)


def _voc_split(
    folder: Path, name: str, year: str, listed: str, files: Mapping[str, str], official: int
) -> SplitFinding:
    listed = f"{year}/ImageSets/{listed}"
    pieces = (listed, *(f"{year}/{kind}" for kind in files))
    read = partial(_listed, folder / listed, {folder / year / kind: suffix for kind, suffix in files.items()})
    return _split(folder, name, pieces, read, {"images": official})


def _listed(path: Path, files: Mapping[Path, str]) -> Numbers:
    names = read_list(path)
    for folder, suffix in files.items():
        there = _stems(folder, suffix)
        absent = next((name for name in names if name not in there), None)
        if absent is not None:
            raise DataError(f"{folder / absent}{suffix}: listed in {path} but absent; unpack the archive again")
    return {"images": len(names)}


def _in_class_folders(folder: Path, suffix: str, what: str) -> Numbers:
    """Files in class folders or, without those, in the folder itself, as those of val are published."""
    classes = [folder / name for name in sorted(os.listdir(folder)) if WORDNET_ID.fullmatch(name)]
    number = sum(len(_stems(path, suffix)) for path in classes or [folder])
    return {"classes": len(classes), what: number} if classes else {what: number}


def _stems(folder: Path, suffix: str) -> set[str]:
    """Names without `suffix` of the files of that kind, by one listing; raises `DataError` if there is none."""
    names = (name for name in os.listdir(folder) if not name.startswith("."))
    stems = {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
    if not stems:
        raise DataError(f"{folder}: no {suffix} in it; unpack the archive again")
    return stems
