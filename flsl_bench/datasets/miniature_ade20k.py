"""ADE20K in miniature: outdoor scenes and rooms with objects, and a class for every pixel but their outlines."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flsl_bench.datasets.ade20k import FOLDERS
from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.datasets.cutouts import Cutout, Placement, compose, ground, landscape, load_cutouts, random_gain
from flsl_bench.datasets.miniature_build import MIN_SIDE, build_once
from flsl_bench.errors import ConfigError

VERSION = 1
"""Raised whenever the same parameters would give other pixels or labels."""

SPLITS = ("train", "val")

# The class of every surface that pictures are composed of.
OUTDOORS = {"grass": "grass", "dry grass": "grass", "gravel": "earth", "pavement": "road", "sand": "sand"}
ABOVE, BELOW = ("bricks", "wall"), ("wood", "floor")  # a room
SKY = "sky"

# The class of every object, by the cut-out's COCO category; None: not among the 150, so it stays unlabelled.
OBJECTS = {"person": "person", "cat": "animal", "horse": "animal", "motorcycle": "minibike", "cup": None}


@dataclass(frozen=True)
class LabelledScene:
    """One picture, uint8 [H, W, 3] RGB, and its label map, uint8 [H, W] in ADE20K's numbers: 0 is unlabelled."""

    image: np.ndarray
    labels: np.ndarray


def make_ade20k(
    root: str | os.PathLike,
    *,
    train_images: int = 120,
    val_images: int = 24,
    size: tuple[int, int] = (192, 160),
    seed: int = 0,
) -> Path:
    """Make a miniature of ADEChallengeData2016 at `root` and return `root`.

    `root` gets `images/{training,validation}/ADE_{train,val}_%08d.jpg` and the label maps of the same names under
    `annotations`. `size` is (width, height) of a landscape picture in pixels; portraits turn it. A finished miniature
    of the same parameters is left as it is. Raises `DataError` if `root` holds anything else and `ConfigError` for
    numbers that make no pictures.
    """
    width, height = (int(side) for side in size)
    if min(width, height) < MIN_SIDE or min(train_images, val_images) < 1 or seed < 0:
        raise ConfigError(
            f"miniature of size {(width, height)}, {train_images} + {val_images} images, seed {seed}: both sides must "
            f"be at least {MIN_SIDE} pixels, both splits need an image, the seed must not be negative"
        )
    counts = {"train": int(train_images), "val": int(val_images)}
    parameters = {"train_images": counts["train"], "val_images": counts["val"], "size": [width, height]}

    def fill(folder: Path) -> None:
        for split, count in counts.items():
            _write_split(folder, split, count, (width, height), int(seed))

    return build_once(Path(root), "ade20k", VERSION, {**parameters, "seed": int(seed)}, fill)


def ade20k_scene(split: str, index: int, *, size: tuple[int, int] = (192, 160), seed: int = 0) -> LabelledScene:
    """The picture that `make_ade20k` stores (before JPEG) as number `index`, from 0, of `split`, and its label map."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    size = size if index % 3 else size[::-1]  # every third is a portrait
    background, surfaces = _room(size, rng) if index % 4 == 1 else _outdoors(index, size, rng)
    placements = [_placement(size, rng) for _ in range(int(rng.integers(1, 4)))]
    image, objects = compose(background, placements)
    # `objects` counts from 1.
    numbers = np.array([0, *(_label(OBJECTS[placement.cutout.category]) for placement in placements)], np.uint8)
    labels = np.where(objects > 0, numbers[objects], surfaces)
    labels[_outlines(objects)] = 0
    return LabelledScene(image, labels)


def _outdoors(index: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A ground below the sky, the grounds in turn: the picture and its labels."""
    name = list(OUTDOORS)[index % len(OUTDOORS)]
    picture, horizon = landscape(name, size, rng)
    return picture, _two_surfaces(size, horizon, SKY, OUTDOORS[name])


def _room(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A brick wall above a wooden floor: the picture and its labels."""
    picture, floor = ground(ABOVE[0], size, rng), ground(BELOW[0], size, rng)
    edge = round(size[1] * rng.uniform(0.4, 0.7))
    picture[edge:] = floor[edge:]
    return picture, _two_surfaces(size, edge, ABOVE[1], BELOW[1])


def _two_surfaces(size: tuple[int, int], edge: int, above: str, below: str) -> np.ndarray:
    labels = np.full(size[::-1], _label(below), np.uint8)
    labels[:edge] = _label(above)
    return labels


def _placement(size: tuple[int, int], rng: np.random.Generator) -> Placement:
    width, height = size
    cutout = _random_cutout(rng)
    # Uniform in the logarithm, and no smaller than what a patch of 16 pixels can tell apart.
    long_side = min(size) * math.exp(rng.uniform(math.log(0.35), math.log(0.9)))
    return Placement(
        cutout,
        x=float(rng.uniform(0.15, 0.85) * width),
        y=float(rng.uniform(0.35, 0.8) * height),
        scale=long_side / cutout.long_side,
        angle=float(rng.uniform(-10, 10)),
        flip=bool(rng.random() < 0.5),
        gain=random_gain(rng),
    )


def _random_cutout(rng: np.random.Generator) -> Cutout:
    cutouts = list(load_cutouts().values())
    return cutouts[int(rng.integers(len(cutouts)))]


def _outlines(objects: np.ndarray) -> np.ndarray:
    """Where a neighbouring pixel is of another object or of none, as annotators leave it: bool [H, W]."""
    numbers = objects.astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    return cv2.dilate(numbers, kernel) != cv2.erode(numbers, kernel)


def _label(name: str | None) -> int:
    return 0 if name is None else CLASSES.index(name) + 1


def _write_split(folder: Path, split: str, count: int, size: tuple[int, int], seed: int) -> None:
    images, label_maps = (folder / kind / FOLDERS[split] for kind in ("images", "annotations"))
    images.mkdir(parents=True)
    label_maps.mkdir(parents=True)
    for index in range(count):
        scene = ade20k_scene(split, index, size=size, seed=seed)
        name = f"ADE_{split}_{index + 1:08d}"
        Image.fromarray(scene.image).save(images / f"{name}.jpg", quality=92)
        Image.fromarray(scene.labels).save(label_maps / f"{name}.png")
