"""The data sets the suite reads: how each is told by its layout, found below a data root, and checked.

A data set is never told by the name of its folder, and no folder of images is searched: a look is a few tests for
files and folders of known names, one listing of the data root and one of each folder in it.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from pathlib import Path

from flsl_bench.datasets import ade20k, coco, inspection, uavdt
from flsl_bench.datasets.inspection import BROKEN, COMPLETE, MISSING, PARTIAL, SAMPLE, SplitFinding
from flsl_bench.errors import ConfigError, DataError

_IMAGE_FOLDER = 200  # entries; a folder below the data root that holds more is not searched for data sets
_RAW_FILES = 1_000  # entries; UAVDT's folder of text files holds 150
_FIRST_ENTRIES = 10  # of a folder that may hold ImageNet's classes


@dataclass(frozen=True)
class DatasetSpec:
    """One data set: what its folder looks like, and the functions that recognise and inspect it."""

    name: str
    title: str
    usual_folders: tuple[str, ...]  # where it mostly lies, relative to the data root
    recognise: Callable[[Path], bool]  # by layout; a part of the layout is enough
    layout: str  # how the folder must look
    published: str  # where to get it
    inspect: Callable[[Path], list[SplitFinding]]
    conversion: Callable[[Path], str | None] = field(default=lambda folder: None)
    """The command that makes the layout of what lies in a folder, where the published files need one."""


@dataclass(frozen=True)
class Finding:
    """What is known of one data set below a data root, or of one of its copies.

    `state` is "complete" (every split has the official numbers), "sample" (every split is sound, some have other
    numbers), "partial" (something is not there), "missing" (nothing is) or "broken" (a split is there, but no run
    could read it). `cure` says what to do, where there is more to say than the layout.
    """

    dataset: str
    state: str
    folder: Path | None
    splits: tuple[SplitFinding, ...] = ()
    cure: str = ""


def find_dataset(name: str, data_root: str | os.PathLike) -> Path:
    """The folder of data set `name` at or below `data_root`, told by its layout.

    That is `data_root` itself, else one of the data set's usual folders in it, else the only folder one or two levels
    below it that has the layout.

    Raises:
        ConfigError: there is no data set of that name, or `data_root` holds several.
        DataError: `data_root` is no readable folder, or holds no such data set.
    """
    spec = dataset_spec(name)
    root = _Root(data_root)
    found = _candidates(spec, root)
    if len(found) > 1:
        raise ConfigError(f"{root.folder}: {spec.title} lies in several folders; {_choice(spec, found)}")
    if found:
        return found[0]
    conversion = _conversion(spec, root)
    if conversion:
        raise DataError(f"{root.folder}: {spec.title} is not converted yet; run `{conversion}`")
    raise DataError(
        f"{root.folder}: {spec.title} not found ({_searched(spec, root)}); expected this layout: "
        f"{' '.join(spec.layout.split())}; name its folder by --data {spec.name}=DIR"
    )


def check_data(data_root: str | os.PathLike) -> list[Finding]:
    """Search `data_root` for every data set and check what is found; of several copies, each has its finding.

    Raises `DataError` only if `data_root` is no readable folder.
    """
    root = _Root(data_root)
    return [finding for spec in DATASETS.values() for finding in _findings(spec, root)]


def dataset_spec(name: str) -> DatasetSpec:
    """The data set of that name; raises `ConfigError` with the nearest one if there is none."""
    if name not in DATASETS:
        close = get_close_matches(name, DATASETS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}{hint}")
    return DATASETS[name]


class _Root:
    """A data root whose folders are listed once, when they are first asked for."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(os.path.expanduser(folder))
        self.unreadable: list[Path] = []
        if not os.path.isdir(self.folder):
            fault = "a file, not a folder of data sets" if os.path.exists(self.folder) else "no such data folder"
            raise DataError(f"{self.folder}: {fault}; name the folder that holds the data sets")

    @cached_property
    def children(self) -> list[Path]:
        try:
            return _folders_in(self.folder)
        except OSError as error:
            raise DataError(f"{self.folder}: data folder cannot be read ({error.strerror})") from error

    @cached_property
    def grandchildren(self) -> list[Path]:
        found = []
        for child in self.children:
            try:
                found += _folders_in(child, most=_IMAGE_FOLDER)
            except OSError:  # somebody else's folder must not hide the data beside it; it is told if nothing is found
                self.unreadable.append(child)
        return found


def _folders_in(folder: Path, most: int = sys.maxsize - 1) -> list[Path]:
    """The folders in a folder, links followed, hidden ones left out; none if it has more than `most` entries."""
    with os.scandir(folder) as entries:
        listed = list(islice(entries, most + 1))
        if len(listed) > most:
            return []
        return sorted(folder / entry.name for entry in listed if not entry.name.startswith(".") and _is_folder(entry))


def _is_folder(entry: os.DirEntry) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # a link may lead nowhere or in a circle


def _candidates(spec: DatasetSpec, root: _Root) -> list[Path]:
    """All folders with the layout at the first of these places that has any."""
    usual = [root.folder / name for name in spec.usual_folders]
    for places in (lambda: [root.folder], lambda: usual, lambda: root.children, lambda: root.grandchildren):
        found = _distinct(path for path in places() if spec.recognise(path))
        if found:
            return found
    return []


def _distinct(folders: Iterable[Path]) -> list[Path]:
    """Each folder once, whatever links lead to it."""
    distinct: dict[str, Path] = {}
    for folder in folders:
        distinct.setdefault(os.path.realpath(folder), folder)
    return list(distinct.values())


def _conversion(spec: DatasetSpec, root: _Root) -> str | None:
    commands = (spec.conversion(folder) for folder in (root.folder, *root.children, *root.grandchildren))
    return next(filter(None, commands), None)


def _findings(spec: DatasetSpec, root: _Root) -> Iterator[Finding]:
    found = _candidates(spec, root)
    cure = _choice(spec, found) if len(found) > 1 else ""
    for folder in found:
        splits = tuple(spec.inspect(folder))
        yield Finding(spec.name, _overall(splits), folder, splits, cure)
    if not found:
        conversion = _conversion(spec, root)
        cure = f"not converted yet; run `{conversion}`" if conversion else f"not found ({_searched(spec, root)})"
        yield Finding(spec.name, PARTIAL if conversion else MISSING, None, cure=cure)


def _overall(splits: Iterable[SplitFinding]) -> str:
    states = {split.state for split in splits}
    if BROKEN in states:
        return BROKEN
    if states & {PARTIAL, MISSING}:
        return PARTIAL
    return SAMPLE if SAMPLE in states else COMPLETE


def _choice(spec: DatasetSpec, found: list[Path]) -> str:
    return f"choose one by --data {spec.name}=DIR: {', '.join(map(str, found))}"


def _searched(spec: DatasetSpec, root: _Root) -> str:
    searched = f"searched: the folder itself, {', '.join(spec.usual_folders)}, two levels of folders"
    unreadable = f"; not readable: {', '.join(map(str, root.unreadable))}" if root.unreadable else ""
    return searched + unreadable


def _is_coco(folder: Path) -> bool:
    splits = coco.official_splits(folder).values()
    return any(os.path.isfile(split.annotations) or os.path.isdir(split.images) for split in splits)


def _is_uavdt(folder: Path) -> bool:
    return any(os.path.isfile(folder / f"annotations/uavdt_{split}.json") for split in uavdt.SEQUENCES)


def _uavdt_conversion(folder: Path) -> str | None:
    for gt in (folder / "GT", folder):
        try:
            with os.scandir(gt) as entries:
                raw = any(entry.name.endswith("_gt_whole.txt") for entry in islice(entries, _RAW_FILES))
        except OSError:  # no such folder, or none that may be read
            continue
        if raw:
            return shlex.join(["flsl-bench", "data", "convert-uavdt", "--gt", str(gt), "--out", str(folder)])
    return None


def _is_ade20k(folder: Path) -> bool:
    parts = [part for split in ade20k.official_splits(folder).values() for part in (split.images, split.label_maps)]
    return sum(map(os.path.isdir, parts)) >= 2  # a single one of these common names tells little


def _is_davis(folder: Path) -> bool:
    return os.path.isdir(folder / "ImageSets/2017")


def _is_voc(folder: Path) -> bool:
    return any(os.path.isdir(folder / year / "JPEGImages") for year in ("VOC2007", "VOC2012"))


def _is_imagenet(folder: Path) -> bool:
    return any(_has_imagenet_files(inspection.imagenet_split(folder, split).images) for split in ("train", "val"))


def _has_imagenet_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _FIRST_ENTRIES)]
    except OSError:  # no such folder, or none that may be read
        return False
    return any(name.endswith(".JPEG") or inspection.WORDNET_ID.fullmatch(name) for name in names)


_SPECS = (
    DatasetSpec(
        "coco",
        "COCO 2017",
        ("coco", "COCO", "coco2017", "COCO2017"),
        _is_coco,
        coco.LAYOUT,
        "https://cocodataset.org/#download",
        inspection.inspect_coco,
    ),
    DatasetSpec(
        "uavdt",
        "UAVDT",
        ("uavdt", "UAVDT"),
        _is_uavdt,
        f"""DIR/
  annotations/uavdt_train.json, uavdt_test.json (written by flsl-bench data convert-uavdt)
  {inspection.UAVDT_IMAGES}/M0101/img000001.jpg ...""",
        "https://sites.google.com/view/grli-uavdt",
        inspection.inspect_uavdt,
        _uavdt_conversion,
    ),
    DatasetSpec(
        "ade20k",
        "ADE20K",
        ("ADEChallengeData2016", "ade/ADEChallengeData2016", "ade20k", "ADE20K", "ade"),
        _is_ade20k,
        ade20k.LAYOUT,
        "http://sceneparsing.csail.mit.edu",
        inspection.inspect_ade20k,
    ),
    DatasetSpec(
        "davis",
        "DAVIS 2017",
        ("DAVIS", "davis", "davis2017", "DAVIS2017"),
        _is_davis,
        """DIR/
  ImageSets/2017/train.txt, val.txt
  JPEGImages/480p/bear/00000.jpg ...
  Annotations/480p/bear/00000.png ...""",
        "https://davischallenge.org",
        inspection.inspect_davis,
    ),
    DatasetSpec(
        "voc",
        "PASCAL VOC",
        ("VOCdevkit", "voc/VOCdevkit", "VOC/VOCdevkit", "voc", "VOC"),
        _is_voc,
        """DIR/ (VOCdevkit)
  VOC2007, VOC2012, each with
    JPEGImages/*.jpg
    Annotations/*.xml
    ImageSets/Main/trainval.txt, test.txt
  VOC2012 for segmentation besides
    SegmentationClass/*.png, SegmentationObject/*.png
    ImageSets/Segmentation/trainval.txt""",
        "http://host.robots.ox.ac.uk/pascal/VOC",
        inspection.inspect_voc,
    ),
    DatasetSpec(
        "imagenet",
        "ImageNet with boxes",
        ("imagenet", "ImageNet", "imagenet1k", "ILSVRC", "ILSVRC2012"),
        _is_imagenet,
        """DIR/
  train/n01440764/*.JPEG ... (or Data/CLS-LOC/train/...)
  val/n01440764/*.JPEG ... or val/*.JPEG (or Data/CLS-LOC/val/...)
  Annotations/CLS-LOC/train/n01440764/*.xml ... (or boxes/train/...)
  Annotations/CLS-LOC/val/*.xml (or boxes/val/...)""",
        "https://www.image-net.org",
        inspection.inspect_imagenet,
    ),
)
DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}
"""Every data set the suite reads, in the order in which they are told."""
