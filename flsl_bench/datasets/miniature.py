"""Tiny data sets in the real layouts, to run every tool of the suite in seconds without a download.

Real objects with true masks are pasted onto photographed grounds (see `cutouts`). The same arguments and the same
library versions give the same annotations and the same pixels. Scores on a miniature say that the tools work, nothing
about a checkpoint. COCO is made here, every other data set in a module of its own; `miniature_build` has what they
share.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from flsl_bench.datasets.coco_categories import CATEGORIES
from flsl_bench.datasets.cutouts import (
    Cutout,
    Placement,
    compose,
    ground,
    ground_names,
    landscape,
    load_cutouts,
    random_gain,
)
from flsl_bench.datasets.miniature_ade20k import make_ade20k
from flsl_bench.datasets.miniature_build import MARKER, MIN_SIDE, build_once
from flsl_bench.datasets.miniature_davis import make_davis
from flsl_bench.datasets.miniature_uavdt import make_uavdt
from flsl_bench.datasets.miniature_voc import make_voc
from flsl_bench.errors import ConfigError

__all__ = [
    "MARKER",
    "Scene",
    "coco_image_id",
    "coco_scene",
    "make_ade20k",
    "make_coco",
    "make_davis",
    "make_uavdt",
    "make_voc",
    "polygons_of",
    "uncompressed_rle",
]

VERSION = 1
"""Raised whenever the same parameters would give other pixels or annotations."""

SPLITS = ("train", "val")
MIN_VISIBLE_FRACTION = 0.25
MIN_VISIBLE_PIXELS = 60
_OUTDOOR = ("grass", "dry grass", "gravel", "pavement", "sand")


@dataclass(frozen=True)
class Scene:
    """One picture and the truth about it.

    `image`: uint8 [H, W, 3], RGB; `instances`: int32 [H, W], 0 for the background, i for object i counted from 1;
    `categories[i - 1]`: the COCO category of object i; `crowd[i - 1]`: whether object i is a group taken as one.
    """

    image: np.ndarray
    instances: np.ndarray
    categories: tuple[str, ...]
    crowd: tuple[bool, ...]


def make_coco(
    root: str | os.PathLike,
    *,
    train_images: int = 96,
    val_images: int = 24,
    size: tuple[int, int] = (192, 160),
    seed: int = 0,
) -> Path:
    """Make a miniature of COCO 2017 instance segmentation at `root` and return `root`.

    `root` gets `annotations/instances_{train,val}2017.json` and `{train,val}2017/%012d.jpg`. `size` is the largest
    (width, height) of a landscape picture in pixels; portraits turn it. A finished miniature of the same parameters is
    left as it is. Raises `DataError` if `root` holds anything else and `ConfigError` for numbers that make no pictures.
    """
    width, height = (int(side) for side in size)
    if min(width, height) < MIN_SIDE or min(train_images, val_images, seed) < 0:
        raise ConfigError(
            f"miniature of size {(width, height)}, {train_images} + {val_images} images, seed {seed}: "
            f"both sides must be at least {MIN_SIDE} pixels, the other numbers not negative"
        )
    parameters = {
        "train_images": int(train_images),
        "val_images": int(val_images),
        "size": [width, height],
        "seed": int(seed),
    }
    counts = {"train": parameters["train_images"], "val": parameters["val_images"]}

    def fill(folder: Path) -> None:
        (folder / "annotations").mkdir()
        for split, count in counts.items():
            _write_coco_split(folder, split, count, (width, height), parameters["seed"])

    return build_once(Path(root), "coco", VERSION, parameters, fill)


def coco_scene(split: str, index: int, *, size: tuple[int, int] = (192, 160), seed: int = 0) -> Scene:
    """The picture that `make_coco` stores (before JPEG) as number `index` of `split`, with its true instance map."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    width, height = _picture_size(index, size)
    background = _background((width, height), rng)
    if index % 48 == 19:  # COCO has pictures without any object
        image, instances = compose(background, [])
        return Scene(image, instances, (), ())
    crowd = _crowd(width, height, rng) if index % 12 == 5 else []
    while True:
        objects = [_random_placement(width, height, rng) for _ in range(int(rng.integers(1, 5)))]
        scene = _scene_of_visible(background, crowd, objects)
        if not all(scene.crowd):  # at least one single object was left
            return scene


def coco_image_id(split: str, index: int) -> int:
    """The id of picture `index` of `split`: unique over both splits and with gaps, as in COCO."""
    return 9 + 8 * index + SPLITS.index(split)


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """COCO polygons [x0, y0, x1, y1, ...] in pixels whose union is `mask`, bool [H, W].

    COCO polygons know no holes, so a region with a hole is split into parts that have none.
    """
    number, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [polygon for label in range(1, number) for polygon in _region_polygons(labels == label)]


def uncompressed_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths of `mask`, bool [H, W]: column by column, zeros first."""
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"counts": [0, *runs] if flat[0] else runs, "size": list(mask.shape)}


def _region_polygons(region: np.ndarray) -> list[list[float]]:
    # The frame of zeros closes contours at the border of the picture.
    contours = find_contours(np.pad(region, 1).astype(np.float32), 0.5, fully_connected="low")
    if len(contours) > 1:
        hole = min(contours, key=len)  # the outer contour is the longest
        column = round(float(hole[:, 1].mean())) - 1
        left, right = region.copy(), region.copy()
        left[:, column:], right[:, :column] = False, False
        return polygons_of(left) + polygons_of(right)
    points = approximate_polygon(contours[0], 0.35)[:-1, ::-1] - 0.5
    return [[round(float(value), 2) for value in points.reshape(-1)]]


def _picture_size(index: int, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    flat = round(height * 0.8)
    return [(width, height), (height, width), (width, flat), (width, height), (flat, width)][index % 5]


def _background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.35:
        return landscape(str(rng.choice(_OUTDOOR)), size, rng)[0]
    return ground(str(rng.choice(ground_names())), size, rng)


def _random_cutout(rng: np.random.Generator) -> Cutout:
    cutouts = list(load_cutouts().values())
    category = rng.choice(sorted({cutout.category for cutout in cutouts}))
    candidates = [cutout for cutout in cutouts if cutout.category == category]
    return candidates[int(rng.integers(len(candidates)))]


def _random_placement(width: int, height: int, rng: np.random.Generator) -> Placement:
    cutout = _random_cutout(rng)
    # Uniform in the logarithm: small, medium and large objects all occur.
    long_side = min(width, height) * math.exp(rng.uniform(math.log(0.22), math.log(1.15)))
    x, y = rng.uniform(0.15, 0.85, size=2) * (width, height)
    return Placement(
        cutout,
        x=float(x),
        y=float(y),
        scale=long_side / cutout.long_side,
        angle=float(rng.uniform(-15, 15)),
        flip=bool(rng.random() < 0.5),
        gain=random_gain(rng),
    )


def _crowd(width: int, height: int, rng: np.random.Generator) -> list[Placement]:
    """A row of seven to ten small objects of one kind that hide parts of each other."""
    cutout = _random_cutout(rng)
    long_side = 0.17 * min(width, height)
    number = int(rng.integers(7, 11))
    left = rng.uniform(0.1, 0.3) * width
    row = rng.uniform(0.25, 0.6) * height
    return [
        Placement(
            cutout,
            x=float(left + step * 0.5 * long_side),
            y=float(row + rng.uniform(-0.2, 0.2) * long_side),
            scale=long_side / cutout.long_side * float(rng.uniform(0.85, 1.15)),
            flip=bool(rng.random() < 0.5),
            gain=random_gain(rng),
        )
        for step in range(number)
    ]


def _scene_of_visible(background: np.ndarray, crowd: list[Placement], objects: list[Placement]) -> Scene:
    """Compose `objects` before `crowd`, without those that would be hidden too much."""
    groups = [crowd] * bool(crowd) + [[placement] for placement in objects]
    while True:
        image, visible = compose(background, [placement for group in groups for placement in group])
        owner = np.concatenate([[0], np.repeat(np.arange(len(groups)), [len(group) for group in groups]) + 1])
        instances = owner[visible].astype(np.int32)
        hidden = [i for i, group in enumerate(groups) if _is_hidden(np.count_nonzero(instances == i + 1), group)]
        if not hidden:
            break
        # One at a time, the rearmost first: leaving it out never hides another.
        del groups[hidden[0]]
    categories = tuple(group[0].cutout.category for group in groups)
    return Scene(image, instances, categories, tuple(len(group) > 1 for group in groups))


def _is_hidden(visible_pixels: int, group: list[Placement]) -> bool:
    # Members of a crowd hide each other, so it is measured against a third of the sum of its members.
    whole = sum(placement.cutout.area * placement.scale**2 for placement in group) / (3 if len(group) > 1 else 1)
    return visible_pixels < max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_FRACTION * whole)


def _write_coco_split(folder: Path, split: str, count: int, size: tuple[int, int], seed: int) -> None:
    pictures = folder / f"{split}2017"
    pictures.mkdir()
    images, annotations = [], []
    for index in range(count):
        scene = coco_scene(split, index, size=size, seed=seed)
        image_id = coco_image_id(split, index)
        name = f"{image_id:012d}.jpg"
        Image.fromarray(scene.image).save(pictures / name, quality=92)
        images.append(_coco_image(image_id, name, scene.image))
        annotations.extend(_coco_annotations(scene, image_id))
    for number, annotation in enumerate(annotations):
        annotation["id"] = 10 * number + SPLITS.index(split) + 1
    content = {
        "info": _COCO_INFO,
        "licenses": _COCO_LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": list(CATEGORIES),
    }
    path = folder / "annotations" / f"instances_{split}2017.json"
    path.write_text(json.dumps(content), encoding="utf-8")


_COCO_INFO = {
    "description": "Miniature in the format of COCO 2017",
    "url": "https://scikit-image.org",
    "version": "1.0",
    "year": 2017,
    "contributor": "flsl_bench",
    "date_created": "2017/09/01",
}
_COCO_LICENSES = [
    {"url": "https://scikit-image.org/docs/stable/license.html", "id": 1, "name": "As scikit-image's sample pictures"}
]


def _coco_image(image_id: int, name: str, image: np.ndarray) -> dict:
    return {
        "license": 1,
        "file_name": name,
        "coco_url": "",
        "height": image.shape[0],
        "width": image.shape[1],
        "date_captured": "2017-09-01 00:00:00",
        "flickr_url": "",
        "id": image_id,
    }


def _coco_annotations(scene: Scene, image_id: int) -> list[dict]:
    ids = {category["name"]: category["id"] for category in CATEGORIES}
    annotations = []
    for number, (name, is_crowd) in enumerate(zip(scene.categories, scene.crowd, strict=True), start=1):
        shape = _crowd_shape if is_crowd else _polygon_shape
        annotation = {**shape(scene.instances == number), "iscrowd": int(is_crowd), "image_id": image_id}
        annotations.append({**annotation, "category_id": ids[name]})
    return annotations


def _polygon_shape(mask: np.ndarray) -> dict:
    polygons = polygons_of(mask)
    points = [np.reshape(polygon, (-1, 2)) for polygon in polygons]
    area = sum(_polygon_area(part) for part in points)
    low, high = np.concatenate(points).min(axis=0), np.concatenate(points).max(axis=0)
    bbox = [round(float(value), 2) for value in (*low, *(high - low))]
    return {"segmentation": polygons, "area": round(area, 4), "bbox": bbox}


def _polygon_area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _crowd_shape(mask: np.ndarray) -> dict:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    return {
        "segmentation": uncompressed_rle(mask),
        "area": float(np.count_nonzero(mask)),
        "bbox": [float(value) for value in box],
    }
