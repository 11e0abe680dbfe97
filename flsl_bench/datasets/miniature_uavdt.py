"""A miniature of UAVDT: short flights over roads with many small vehicles, in the official files and as COCO JSON.

The vehicles are drawn (see `aerial`) and move over photographed grounds. Trees hide some, others leave the frame, and a
car park that nobody annotated is an ignore region.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flsl_bench.datasets.aerial import BAY, CAR, COLOURS, LENGTHS, Road, paint_car_park, paint_road, tree, vehicle
from flsl_bench.datasets.cutouts import Placement, compose, ground, random_gain
from flsl_bench.datasets.miniature_build import MIN_SIDE, build_once
from flsl_bench.datasets.uavdt import CATEGORIES, OCCLUSION, OUT_OF_VIEW, convert
from flsl_bench.errors import ConfigError

VERSION = 1
"""Raised whenever the same parameters would give other pixels or annotations."""

SEQUENCES = {
    "train": ("M0101", "M0201", "M0301", "M0401", "M0501", "M0603", "M0702", "M0901", "M1002", "M1201"),
    "test": ("M0205", "M0801", "M1004"),
}
"""Of the official split, those that the miniature has."""

_GROUNDS = ("grass", "dry grass", "gravel", "pavement")
_SHARES = {"car": 0.7, "truck": 0.15, "bus": 0.15}
_MARGIN = 0.45
"""Ground around the frame that takes part, as a fraction of its height; more than the length of a bus."""
_PAN = 0.12
"""Way of the camera in a flight, as a fraction of the frame's height."""

_REACH = 16
"""Cars' lengths of a road, either way from its point, that have traffic and trees."""
_CROWNS = 6

# Du et al., ECCV 2018, section 3: lower limits of the hidden and of the outer share of a vehicle.
_OCCLUSION_FROM = {"large": 0.7, "medium": 0.3, "small": 0.01}
_OUT_OF_VIEW_FROM = {"medium": 0.3, "small": 0.01}
MAX_OUT_OF_VIEW = 0.5
"""A vehicle that is further out is not annotated."""
MAX_HIDDEN = 0.9
"""Nor is one that is hidden further."""


@dataclass(frozen=True)
class Truth:
    """What the official file says of one vehicle in one frame.

    `box`: x, y, width and height in whole pixels, up to one of them beyond the frame; `occlusion`, `out_of_view`,
    `category`: the numbers of `uavdt.OCCLUSION`, `uavdt.OUT_OF_VIEW` and `uavdt.CATEGORIES`.
    """

    track: int
    box: tuple[int, int, int, int]
    out_of_view: int
    occlusion: int
    category: int


@dataclass(frozen=True)
class Frame:
    """One frame and the truth about it.

    `image`: uint8 [H, W, 3], RGB; `visible`: int32 [H, W], the track that a pixel shows, 0 for none;
    `region`: the ignore region as x, y, width and height in pixels, if it is in sight.
    """

    image: np.ndarray
    visible: np.ndarray
    truths: tuple[Truth, ...]
    region: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class _Mover:
    """A vehicle: where it is in the first frame and its step from frame to frame, in pixels of the canvas."""

    start: Placement
    step: tuple[float, float]


@dataclass(frozen=True)
class _World:
    """What one flight sees parts of; places are pixels of the canvas."""

    canvas: np.ndarray
    movers: tuple[_Mover, ...]
    trees: tuple[Placement, ...]
    car_park: tuple[int, int, int, int] | None


def make_uavdt(root: str | os.PathLike, *, frames: int = 8, size: tuple[int, int] = (288, 160), seed: int = 0) -> Path:
    """Make a miniature of UAVDT at `root` and return `root`.

    `root` gets `GT/<sequence>_gt_whole.txt`, `GT/<sequence>_gt_ignore.txt`, `UAV-benchmark-M/<sequence>/img%06d.jpg`
    and what the converter makes of them, `annotations/uavdt_{train,test}.json`. `frames` is the length of each of
    the ten flights of train and the three of test; `size` is (width, height) in pixels, landscape. A finished miniature
    of the same parameters is left as it is. Raises `DataError` if `root` holds anything else and `ConfigError` for
    numbers that make no flights.
    """
    width, height = (int(side) for side in size)
    if frames < 1 or seed < 0 or height < MIN_SIDE or width < height:
        raise ConfigError(
            f"miniature of {frames} frames of size (width, height) = {(width, height)}, seed {seed}: give at least one "
            f"frame, a height of at least {MIN_SIDE} pixels, no smaller width and no negative seed"
        )
    parameters = {"frames": int(frames), "size": [width, height], "seed": int(seed)}

    def fill(folder: Path) -> None:
        (folder / "GT").mkdir()
        for name in (name for names in SEQUENCES.values() for name in names):
            _write_sequence(folder, name, uavdt_frames(name, frames=frames, size=(width, height), seed=seed))
        convert(folder / "GT", folder, images_dir=folder / "UAV-benchmark-M")

    return build_once(Path(root), "uavdt", VERSION, parameters, fill)


def uavdt_frames(name: str, *, frames: int = 8, size: tuple[int, int] = (288, 160), seed: int = 0) -> Iterator[Frame]:
    """The frames that `make_uavdt` stores (before JPEG) as sequence `name`."""
    rng = np.random.default_rng([seed, int(name[1:])])
    margin, pan = math.ceil(_MARGIN * size[1]), math.ceil(_PAN * size[1])
    world = _world((size[0] + 2 * margin + pan, size[1] + 2 * margin + pan), size[1], rng)
    way = np.array([[0, 0], [pan, pan * rng.uniform(0, 1)]])[:: int(rng.choice([-1, 1]))]
    for number in range(frames):
        camera = np.rint(way[0] + (way[1] - way[0]) * number / max(1, frames - 1)).astype(int)
        yield _frame(world, number, camera, margin, size)


def _world(size: tuple[int, int], height: int, rng: np.random.Generator) -> _World:
    car = height * rng.uniform(0.115, 0.155)
    canvas = _ground_from_above(size, rng)
    x, y = np.array(size) / 2 + rng.uniform(-0.08, 0.08, size=2) * height
    main = Road(x, y, angle=rng.uniform(-28, 28), lanes=4, car=car)
    x, y = main.point(rng.uniform(-0.3, 0.3) * height, 0)
    side_street = Road(x, y, angle=main.angle + rng.uniform(75, 105), lanes=2, car=car)
    paint_road(canvas, side_street, rng)
    paint_road(canvas, main, rng)
    crossing = 1.25 * main.half_width
    movers = (*_traffic(main, rng, speed=(0.1, 0.35)), *_traffic(side_street, rng, speed=(0, 0), gap=crossing))
    canvas, car_park = _with_car_park(canvas, (main, side_street), rng)
    return _World(canvas, movers, _trees(main, rng), car_park)


def _ground_from_above(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A photographed ground, mirrored at its borders and shrunk: its blades and stones are smaller than cars."""
    width, height = size
    near = ground(str(rng.choice(_GROUNDS)), size, rng)
    wide = cv2.copyMakeBorder(near, height, height, width, width, cv2.BORDER_REFLECT)
    return cv2.resize(wide, size, interpolation=cv2.INTER_AREA)


def _traffic(road: Road, rng: np.random.Generator, speed: tuple[float, float], gap: float = 0.0) -> Iterator[_Mover]:
    """Vehicles on all lanes, none nearer than `gap` pixels to the road's point; `speed` in cars a frame."""
    for lane in range(road.lanes):
        across, heading = road.lane(lane)
        pace = road.car * rng.uniform(*speed)
        step = (pace * math.cos(math.radians(heading)), -pace * math.sin(math.radians(heading)))
        along = rng.uniform(-_REACH - 3, -_REACH) * road.car
        while along < _REACH * road.car:
            category = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
            half = LENGTHS[category] / 2 * road.car
            along += half
            if abs(along) - half > gap:
                place = road.point(along, across)
                yield _Mover(_placement(category, place, heading + rng.uniform(-2, 2), road.car, rng), step)
            along += half + rng.uniform(0.4, 3.2) * road.car


def _placement(
    category: str, place: tuple[float, float], angle: float, car: float, rng: np.random.Generator
) -> Placement:
    cutout = vehicle(category, int(rng.integers(len(COLOURS[category]))))
    return Placement(cutout, *place, scale=car / CAR, angle=angle, gain=random_gain(rng))


def _with_car_park(
    canvas: np.ndarray, roads: tuple[Road, ...], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int, int] | None]:
    """`canvas` with parked cars beside the roads, and their place; as it is and None if there is no room."""
    car = roads[0].car
    size = np.rint(np.array([rng.integers(5, 9) * BAY, 2.8]) * car).astype(int)
    for _ in range(60):
        centre = np.array(canvas.shape[1::-1]) * rng.uniform(0.25, 0.75, size=2)
        corners = centre + size / 2 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
        if all(_beside(road, corners) for road in roads):
            break
    else:
        return canvas, None
    x, y = np.rint(corners[0]).astype(int).tolist()
    paint_car_park(canvas, (x, y), tuple(size.tolist()), car)
    parked = [
        _placement("car", (x + (bay + 0.5) * BAY * car, y + row * size[1]), 90 * int(rng.choice([-1, 1])), car, rng)
        for bay in range(int(size[0] / (BAY * car)))
        for row in (0.22, 0.78)
        if rng.random() < 0.8
    ]
    return compose(canvas, parked)[0], (x, y, *size.tolist())


def _beside(road: Road, corners: np.ndarray) -> bool:
    offsets = [road.across(*corner) for corner in corners]
    return min(offsets) > 1.4 * road.half_width or max(offsets) < -1.4 * road.half_width


def _trees(road: Road, rng: np.random.Generator) -> tuple[Placement, ...]:
    """Crowns along both kerbs that hang over the outer lanes."""
    trees = []
    for side in (-1, 1):
        for along in np.arange(-_REACH, _REACH, 3.5):
            place = road.point((along + rng.uniform(0, 2)) * road.car, side * road.half_width * rng.uniform(0.85, 1.3))
            crown, scale = tree(int(rng.integers(_CROWNS))), road.car / CAR * rng.uniform(0.6, 1.1)
            if rng.random() < 0.6:
                trees.append(Placement(crown, *place, scale=scale, angle=rng.uniform(0, 360)))
    return tuple(trees)


def _frame(world: _World, number: int, camera: np.ndarray, margin: int, size: tuple[int, int]) -> Frame:
    """Frame `number`, whose upper left corner is `margin` pixels right of and below `camera`."""
    (x, y), (width, height) = camera, np.array(size) + 2 * margin
    image = world.canvas[y : y + height, x : x + width].copy()
    shown = np.zeros((height, width), np.int32)
    movers = [_shifted(m.start, np.multiply(m.step, number) - camera) for m in world.movers]
    extents = [_paste(image, shown, placement, track) for track, placement in enumerate(movers, start=1)]
    for crown in world.trees:
        _paste(image, shown, _shifted(crown, -camera), 0)
    inner = (slice(margin, -margin), slice(margin, -margin))
    truths = [
        _truth(track, placement.cutout.category, extent, shown[inner], margin)
        for track, (placement, extent) in enumerate(zip(movers, extents, strict=True), start=1)
    ]
    region = world.car_park and _region(np.array(world.car_park) - [*(camera + margin), 0, 0], size)
    return Frame(image[inner], shown[inner], tuple(truth for truth in truths if truth), region)


def _paste(image: np.ndarray, shown: np.ndarray, placement: Placement, number: int) -> np.ndarray:
    """Put `placement` into both pictures, in place; the pixels it covers as (x, y), int64 [N, 2]."""
    radius = 0.5 * math.hypot(*placement.cutout.pixels.shape[:2]) * placement.scale + 2
    centre = np.array([placement.x, placement.y])
    x, y = np.maximum(0, np.floor(centre - radius)).astype(int)
    right, bottom = np.minimum(image.shape[1::-1], np.ceil(centre + radius)).astype(int)
    if right <= x or bottom <= y:
        return np.empty((0, 2), np.int64)
    window = (slice(y, bottom), slice(x, right))
    image[window], own = compose(image[window], [_shifted(placement, (-x, -y))])
    shown[window][own > 0] = number
    return np.argwhere(own > 0)[:, ::-1] + (x, y)


def _shifted(placement: Placement, by: Sequence[float]) -> Placement:
    return replace(placement, x=float(placement.x + by[0]), y=float(placement.y + by[1]))


def _truth(track: int, category: str, extent: np.ndarray, shown: np.ndarray, margin: int) -> Truth | None:
    """What is annotated of a vehicle that covers the pixels `extent`; None if hardly anything of it can be seen."""
    size = np.array(shown.shape[::-1])
    places = extent - margin
    inside = np.count_nonzero(((places >= 0) & (places < size)).all(axis=1))
    if not inside or inside < (1 - MAX_OUT_OF_VIEW) * len(places):
        return None
    hidden = 1 - np.count_nonzero(shown == track) / inside
    if hidden > MAX_HIDDEN:
        return None
    start, end = np.maximum(places.min(axis=0), -1), np.minimum(places.max(axis=0), size) + 1
    return Truth(
        track,
        (*start.tolist(), *(end - start).tolist()),
        out_of_view=_level(1 - inside / len(places), _OUT_OF_VIEW_FROM, OUT_OF_VIEW),
        occlusion=_level(hidden, _OCCLUSION_FROM, OCCLUSION),
        category=next(i for i, name in CATEGORIES.items() if name == category),
    )


def _level(share: float, lower_limits: dict[str, float], names: dict[int, str]) -> int:
    """The number of the first level whose lower limit `share` exceeds, 1 (none) if there is none."""
    name = next((name for name, limit in lower_limits.items() if share > limit), "none")
    return next(number for number, own in names.items() if own == name)


def _region(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of x, y, w, h inside the frame; None if it has no area."""
    start, end = np.maximum(box[:2], 0), np.minimum(box[:2] + box[2:], size)
    return (*start.tolist(), *(end - start).tolist()) if (end > start).all() else None


def _write_sequence(folder: Path, name: str, frames: Iterator[Frame]) -> None:
    images = folder / "UAV-benchmark-M" / name
    images.mkdir(parents=True)
    whole, ignore = [], []
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame.image).save(images / f"img{number:06d}.jpg", quality=92)
        whole += [(number, t.track, *t.box, t.out_of_view, t.occlusion, t.category) for t in frame.truths]
        ignore += [(number, 1, *frame.region, 1, -1, -1)] if frame.region else []
    for kind, lines in (("whole", whole), ("ignore", ignore)):
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        (folder / f"GT/{name}_gt_{kind}.txt").write_text(text, encoding="utf-8")
