"""A miniature of PASCAL VOC: pictures of real objects with boxes, class masks and object masks with void borders."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from PIL import Image

from flsl_bench.datasets.cutouts import Placement, compose, ground, ground_names, load_cutouts, random_gain
from flsl_bench.datasets.davis import VOID_ID, write_mask
from flsl_bench.datasets.miniature_build import MIN_SIDE, build_once
from flsl_bench.datasets.voc_classes import VOC_CLASSES
from flsl_bench.errors import ConfigError

VERSION = 2
"""Raised whenever the same parameters would give other pixels or annotations."""

CUTOUTS = {
    "astronaut": "person",
    "photographer": "person",
    "cat": "cat",
    "horse": "horse",
    "motorcycle": "motorbike",
}
"""VOC's class of each cut-out that has one."""

SPLITS = ("train", "val")
SPLITS_OF_YEAR = {2012: ("train", "val"), 2007: ("trainval", "test")}
"""What the two splits are called."""
_MIN_VISIBLE_FRACTION = 0.3
_MIN_VISIBLE_PIXELS = 150


@dataclass(frozen=True)
class VocScene:
    """One picture and the truth about it.

    `image`: uint8 [H, W, 3], RGB; `ids`: uint8 [H, W], 0 for the background, i for object i; `classes[i - 1]`: VOC's
    class of object i.
    """

    image: np.ndarray
    ids: np.ndarray
    classes: tuple[str, ...]


def make_voc(
    root: str | os.PathLike,
    *,
    train_images: int = 12,
    val_images: int = 8,
    size: tuple[int, int] = (192, 160),
    seed: int = 0,
) -> Path:
    """Make a miniature of a VOCdevkit at `root` and return `root`.

    `root`/VOC2012 and VOC2007 get the same pictures: `JPEGImages`, `Annotations` (XML boxes), `SegmentationClass` and
    `SegmentationObject` (indexed PNGs, borders of objects 255), and lists in `ImageSets/{Main,Segmentation}`: train,
    val and trainval of 2012, trainval and test of 2007, whose test split is public. `size` is (width, height) in
    pixels. A finished miniature of the same parameters is left as it is. Raises `DataError` if `root` holds anything
    else and `ConfigError` for numbers that make no pictures.
    """
    width, height = (int(side) for side in size)
    if min(width, height) < MIN_SIDE or min(train_images, val_images) < 1 or seed < 0:
        raise ConfigError(
            f"miniature of size {(width, height)}, {train_images} + {val_images} images, seed {seed}: both sides must "
            f"be at least {MIN_SIDE} pixels, give an image or more a split and no negative seed"
        )
    counts = {"train": int(train_images), "val": int(val_images)}
    parameters = {**counts, "size": [width, height], "seed": int(seed)}

    def fill(folder: Path) -> None:
        for year, (first, second) in SPLITS_OF_YEAR.items():
            names = {split: [_name(split, index, year) for index in range(count)] for split, count in counts.items()}
            for split, stems in names.items():
                for index, stem in enumerate(stems):
                    scene = voc_scene(split, index, size=(width, height), seed=parameters["seed"])
                    _write_scene(folder / f"VOC{year}", stem, scene)
            lists = {"trainval": names["train"] + names["val"], first: names["train"], second: names["val"]}
            for kind in ("Main", "Segmentation"):
                _write_lists(folder / f"VOC{year}" / "ImageSets" / kind, lists)

    return build_once(Path(root), "voc", VERSION, parameters, fill)


def voc_scene(split: str, index: int, *, size: tuple[int, int] = (192, 160), seed: int = 0) -> VocScene:
    """The picture that `make_voc` stores (before JPEG) as number `index` of `split`; it has one to three objects."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    background = ground(str(rng.choice(ground_names())), size, rng)
    while True:
        placements = [_placement(str(name), size, rng) for name in rng.choice(list(CUTOUTS), int(rng.integers(1, 4)))]
        image, visible = compose(background, placements)
        if all(_is_seen(visible == number, one) for number, one in enumerate(placements, 1)):
            classes = tuple(CUTOUTS[placement.cutout.name] for placement in placements)
            return VocScene(image, visible.astype(np.uint8), classes)


def _name(split: str, index: int, year: int) -> str:
    return f"{year}_{2 * index + SPLITS.index(split) + 1:06d}"


def _placement(name: str, size: tuple[int, int], rng: np.random.Generator) -> Placement:
    cutout = load_cutouts()[name]
    # Uniform in the logarithm: small, medium and large objects all occur.
    long_side = min(size) * math.exp(rng.uniform(math.log(0.35), math.log(1.1)))
    x, y = rng.uniform(0.2, 0.8, size=2) * size
    return Placement(
        cutout,
        x=float(x),
        y=float(y),
        scale=long_side / cutout.long_side,
        angle=float(rng.uniform(-12, 12)),
        flip=bool(rng.random() < 0.5),
        gain=random_gain(rng),
    )


def _is_seen(mask: np.ndarray, placement: Placement) -> bool:
    whole = placement.cutout.area * placement.scale**2
    return np.count_nonzero(mask) >= max(_MIN_VISIBLE_PIXELS, _MIN_VISIBLE_FRACTION * whole)


def _write_scene(folder: Path, stem: str, scene: VocScene) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(folder / "JPEGImages" / f"{stem}.jpg", quality=92)
    ElementTree.indent(annotation := _annotation(stem, scene))
    ElementTree.ElementTree(annotation).write(folder / "Annotations" / f"{stem}.xml", encoding="utf-8")
    border = cv2.morphologyEx(scene.ids, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    values = np.array([0, *(VOC_CLASSES.index(name) + 1 for name in scene.classes)], np.uint8)
    for kind, ids in (("SegmentationObject", scene.ids), ("SegmentationClass", values[scene.ids])):
        write_mask(folder / kind / f"{stem}.png", np.where(border, VOID_ID, ids))


def _annotation(stem: str, scene: VocScene) -> ElementTree.Element:
    """The XML of one picture; boxes count pixels from 1 and include their last one, as VOC's do."""
    height, width = scene.ids.shape
    root = ElementTree.Element("annotation")
    _add(root, {"filename": f"{stem}.jpg", "segmented": 1})
    _add(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    for number, name in enumerate(scene.classes, 1):
        rows, columns = np.nonzero(scene.ids == number)
        one = ElementTree.SubElement(root, "object")
        _add(one, {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": 0})
        low, high = (columns.min() + 1, rows.min() + 1), (columns.max() + 1, rows.max() + 1)
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), (*low, *high), strict=True))
        _add(ElementTree.SubElement(one, "bndbox"), corners)
    return root


def _add(parent: ElementTree.Element, fields: dict) -> None:
    for name, value in fields.items():
        ElementTree.SubElement(parent, name).text = str(value)


def _write_lists(folder: Path, lists: dict[str, Sequence[str]]) -> None:
    folder.mkdir(parents=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
