"""A miniature of DAVIS 2017: short clips of real objects that move over photographed grounds, with their true masks.

What a method has to cope with is in the clips of `val`: one object passes in front of another, one leaves the frame
for good, three share a frame. The camera drifts and the light changes in all of them.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flsl_bench.datasets.cutouts import Placement, compose, ground, landscape, load_cutouts, random_gain
from flsl_bench.datasets.davis import write_mask
from flsl_bench.datasets.miniature_build import MIN_SIDE, build_once
from flsl_bench.errors import ConfigError

VERSION = 1
"""Raised whenever the same parameters would give other pixels or masks."""

MIN_FRAMES = 4
_SWAY = 0.006
"""Amplitude of the unsteady hand that holds the camera, as a fraction of the frame's height."""
_STEPS = 2.5
"""Number of an actor's steps in a clip."""


@dataclass(frozen=True)
class Actor:
    """One object and its way through a clip, from the first frame to the last.

    `start`, `end`: centre of its box as fractions of the frame's width and height; `long_sides`: the longer side of
    its box, at the start and at the end, as a fraction of the frame's height; `angles`: degrees counter-clockwise;
    `bob`: height of its steps, as a fraction of the frame's height.
    """

    cutout: str
    start: tuple[float, float]
    end: tuple[float, float]
    long_sides: tuple[float, float]
    angles: tuple[float, float] = (0.0, 0.0)
    flip: bool = False
    bob: float = 0.0


@dataclass(frozen=True)
class Clip:
    """The script of one clip. `actors[i - 1]` is object i; a later one is in front of an earlier one.

    `grounds`: names of which the seed takes one; `outdoors`: whether there is a sky above it; `pan`: the way of the
    camera as fractions of the frame's width and height.
    """

    split: str
    grounds: tuple[str, ...]
    outdoors: bool
    pan: tuple[float, float]
    actors: tuple[Actor, ...]


# Whom the photograph cuts off, the people below and the cat above, the frame cuts off there too.
CLIPS = {
    "horse-bike": Clip(
        "train",
        ("dry grass", "sand", "grass"),
        True,
        (0.05, 0.0),
        (
            Actor("horse", (0.24, 0.52), (0.42, 0.54), (0.56, 0.62), bob=0.012),
            Actor("motorcycle", (0.76, 0.72), (0.66, 0.72), (0.62, 0.66), flip=True),
        ),
    ),
    "cat-cup": Clip(
        "val",
        ("wood", "gravel", "bricks"),
        False,
        (-0.03, 0.02),
        (
            Actor("cat", (0.29, 0.23), (0.36, 0.24), (0.76, 0.82), (-4, 8)),
            Actor("cup", (0.71, 0.60), (1.25, 0.52), (0.58, 0.64), (0, -28)),
        ),
    ),
    "people-crossing": Clip(
        "val",
        ("bricks", "gravel"),
        False,
        (0.03, 0.0),
        (
            Actor("photographer", (0.27, 0.65), (0.68, 0.65), (0.85, 0.88), (1, -1), bob=0.012),
            Actor("astronaut", (0.77, 0.63), (0.22, 0.63), (0.95, 1.00), (-1, 2), bob=0.014),
        ),
    ),
    "street-trio": Clip(
        "val",
        ("pavement", "gravel", "dry grass"),
        True,
        (0.04, 0.01),
        (
            Actor("horse", (0.18, 0.55), (0.31, 0.56), (0.50, 0.54), bob=0.010),
            Actor("motorcycle", (0.82, 0.70), (0.71, 0.73), (0.52, 0.60), flip=True),
            Actor("astronaut", (0.50, 0.74), (0.56, 0.74), (0.72, 0.76), (-2, 2), bob=0.010),
        ),
    ),
}


@dataclass(frozen=True)
class Frame:
    """One frame and the truth about it.

    `image`: uint8 [H, W, 3], RGB; `ids`: uint8 [H, W], 0 for the background, i for object i; `placements[i - 1]`:
    where object i is, in the order in which they hide each other, the rearmost first.
    """

    image: np.ndarray
    ids: np.ndarray
    placements: tuple[Placement, ...]


def make_davis(root: str | os.PathLike, *, frames: int = 16, size: tuple[int, int] = (288, 160), seed: int = 0) -> Path:
    """Make a miniature of DAVIS 2017 at `root` and return `root`.

    `root` gets `ImageSets/2017/{train,val}.txt`, `JPEGImages/480p/<sequence>/%05d.jpg` and
    `Annotations/480p/<sequence>/%05d.png`. `frames` is the length of each clip; all take the same way, longer ones
    more slowly. `size` is (width, height) in pixels, 4:3 or wider; at the default, scaling the short side to the
    protocol's 480 triples it. A finished miniature of the same parameters is left as it is. Raises
    `DataError` if `root` holds anything else and `ConfigError` for numbers that make no clips.
    """
    width, height = (int(side) for side in size)
    _check(frames, width, height, seed)
    parameters = {"frames": int(frames), "size": [width, height], "seed": int(seed)}

    def fill(folder: Path) -> None:
        for name in CLIPS:
            clip = davis_clip(name, frames=parameters["frames"], size=(width, height), seed=parameters["seed"])
            _write_clip(folder, name, clip)
        _write_splits(folder)

    return build_once(Path(root), "davis", VERSION, parameters, fill)


def davis_clip(name: str, *, frames: int = 16, size: tuple[int, int] = (288, 160), seed: int = 0) -> Iterator[Frame]:
    """The frames that `make_davis` stores (before JPEG) as sequence `name`."""
    rng = np.random.default_rng([seed, list(CLIPS).index(name)])
    script = _varied(CLIPS[name], rng)
    gains = [random_gain(rng) for _ in script.actors]
    margin = _margin(script, size)
    canvas = _canvas(script, (size[0] + 2 * margin[0], size[1] + 2 * margin[1]), rng)
    change_of_light = float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.1))
    for time in np.linspace(0, 1, frames):
        camera = _camera(script, time, size)
        placements = tuple(
            _placement(actor, time, size, camera, gain) for actor, gain in zip(script.actors, gains, strict=True)
        )
        image, visible = compose(_view(canvas, np.add(margin, camera), size), placements)
        lit = np.clip(image * (1 + change_of_light * math.sin(math.pi * time)), 0, 255)
        yield Frame(np.rint(lit).astype(np.uint8), visible.astype(np.uint8), placements)


def _check(frames: int, width: int, height: int, seed: int) -> None:
    # In a narrower frame who stands apart would overlap, and the cup would not get out of sight.
    if frames < MIN_FRAMES or seed < 0 or height < MIN_SIDE or 3 * width < 4 * height:
        raise ConfigError(
            f"miniature of {frames} frames of size (width, height) = {(width, height)}, seed {seed}: give at least "
            f"{MIN_FRAMES} frames, a height of at least {MIN_SIDE} pixels, a width of at least 4/3 of it and no "
            "negative seed"
        )


def _varied(script: Clip, rng: np.random.Generator) -> Clip:
    """The script with small changes that keep what happens in it, and mirrored half of the time."""
    actors = tuple(_varied_actor(actor, rng) for actor in script.actors)
    if rng.random() < 0.5:
        return replace(script, actors=actors)
    return replace(script, actors=tuple(map(_mirrored, actors)), pan=(-script.pan[0], script.pan[1]))


def _varied_actor(actor: Actor, rng: np.random.Generator) -> Actor:
    shift, turn, growth = rng.uniform(-0.015, 0.015), rng.uniform(-2, 2), rng.uniform(0.97, 1.03)
    return replace(
        actor,
        start=(actor.start[0] + shift, actor.start[1]),
        end=(actor.end[0] + shift, actor.end[1]),
        long_sides=(actor.long_sides[0] * growth, actor.long_sides[1] * growth),
        angles=(actor.angles[0] + turn, actor.angles[1] + turn),
    )


def _mirrored(actor: Actor) -> Actor:
    return replace(
        actor,
        start=(1 - actor.start[0], actor.start[1]),
        end=(1 - actor.end[0], actor.end[1]),
        angles=(-actor.angles[0], -actor.angles[1]),
        flip=not actor.flip,
    )


def _margin(script: Clip, size: tuple[int, int]) -> tuple[int, int]:
    """Pixels of ground left and right of the first frame and above and below it, for the camera to move over."""
    sway = _SWAY * size[1]
    return tuple(math.ceil(abs(way) * side + sway) + 2 for way, side in zip(script.pan, size, strict=True))


def _canvas(script: Clip, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """What the camera sees parts of, without the objects: uint8 [height, width, 3]."""
    name = str(rng.choice(script.grounds))
    return landscape(name, size, rng)[0] if script.outdoors else ground(name, size, rng)


def _camera(script: Clip, time: float, size: tuple[int, int]) -> np.ndarray:
    """Pixels (right, down) the camera has moved since the first frame; `time` runs from 0 to 1."""
    sway = np.sin(2 * math.pi * time * np.array([1.5, 1.0])) * _SWAY * size[1]
    return np.multiply(script.pan, size) * time + sway


def _view(canvas: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of `canvas` below and right of `corner` (x, y), which may lie between pixels."""
    matrix = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]], dtype=np.float64)
    return cv2.warpAffine(canvas, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _placement(
    actor: Actor, time: float, size: tuple[int, int], camera: np.ndarray, gain: tuple[float, float, float]
) -> Placement:
    width, height = size
    cutout = load_cutouts()[actor.cutout]
    step = actor.bob * math.sin(2 * math.pi * _STEPS * time)
    x = _between(actor.start[0], actor.end[0], time) * width - camera[0]
    y = (_between(actor.start[1], actor.end[1], time) + step) * height - camera[1]
    # Equal factors a frame look like a steady approach.
    long_side = actor.long_sides[0] * (actor.long_sides[1] / actor.long_sides[0]) ** time * height
    return Placement(
        cutout,
        x=float(x),
        y=float(y),
        scale=float(long_side / cutout.long_side),
        angle=float(_between(*actor.angles, time)),
        flip=actor.flip,
        gain=gain,
    )


def _between(start: float, end: float, time: float) -> float:
    return start + (end - start) * time


def _write_clip(folder: Path, name: str, frames: Iterator[Frame]) -> None:
    images, masks = (folder / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    images.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame.image).save(images / f"{number:05d}.jpg", quality=92)
        write_mask(masks / f"{number:05d}.png", frame.ids)


def _write_splits(folder: Path) -> None:
    lists = folder / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [name for name, script in CLIPS.items() if script.split == split]
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
