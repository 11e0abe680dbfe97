"""Traffic seen from straight above: vehicles and trees as cut-outs, roads painted onto a ground.

None of scikit-image's photographs shows a car, so vehicles are drawn: a body in one colour, panes, a shadow. Their
nose points to the right at angle 0.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from flsl_bench.datasets.cutouts import Cutout, ground

LENGTHS = {"car": 1.0, "truck": 1.6, "bus": 2.2}
"""Lengths of vehicles in cars."""
_WIDTHS = {"car": 0.46, "truck": 0.52, "bus": 0.54}
LANE = 0.74
"""Width of a lane in cars."""

BAY = 0.62
"""Width of a bay of a car park in cars."""

COLOURS = {
    "car": ((228, 228, 226), (168, 172, 176), (44, 46, 50), (158, 40, 38), (42, 74, 134), (206, 198, 172)),
    "truck": ((196, 122, 52), (92, 108, 84), (150, 156, 164)),
    "bus": ((220, 178, 44), (58, 132, 92), (206, 66, 46)),
}
"""Colours of the bodies, red, green and blue."""

CAR = 64
"""Pixels of a car's length at scale 1."""
_PANE = (38, 46, 56)


@lru_cache(maxsize=32)
def vehicle(category: str, colour: int) -> Cutout:
    """A vehicle of a category of `LENGTHS` in the colour of that number in `COLOURS`."""
    length, width = round(CAR * LENGTHS[category]), round(CAR * _WIDTHS[category])
    body = COLOURS[category][colour]
    pixels = np.empty((width, length, 3), np.uint8)
    pixels[:] = body
    _PARTS[category](pixels, body)
    pixels[-max(2, width // 9) :] = (np.array(body) * 0.55).astype(np.uint8)  # the side away from the sun
    cover = _rounded(length, width, radius=width // (4 if category == "car" else 8))
    return _cutout(category, pixels, cover)


@lru_cache(maxsize=32)
def tree(number: int) -> Cutout:
    """A crown of leaves as wide and as high as one and a half cars; each number has a shape of its own."""
    rng = np.random.default_rng(number)
    side = round(1.5 * CAR)
    cover = np.zeros((side, side), np.uint8)
    for angle in np.linspace(0, 2 * math.pi, 9, endpoint=False):
        away, radius = side * rng.uniform(0.18, 0.26), side * rng.uniform(0.17, 0.24)
        centre = (round(side / 2 + away * math.cos(angle)), round(side / 2 + away * math.sin(angle)))
        cv2.circle(cover, centre, round(radius), 255, -1, lineType=cv2.LINE_AA)
    leaves = ground("grass", (side, side), rng).astype(np.float32)
    light = np.linspace(0.85, 0.4, side, dtype=np.float32)[:, None, None]
    return _cutout("tree", leaves * light, cover.astype(np.float32) / 255)


@dataclass(frozen=True)
class Road:
    """A straight road through a canvas.

    `x`, `y`: a point on its centre line in pixels; `angle`: degrees counter-clockwise from rightwards; `lanes`: in all,
    an even number, half of them in each direction; `car`: length of a car in pixels.
    """

    x: float
    y: float
    angle: float
    lanes: int
    car: float

    def point(self, along: float, across: float) -> tuple[float, float]:
        """The place `along` pixels ahead of the road's point and `across` pixels to the right of the centre line."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return self.x + along * cos + across * sin, self.y - along * sin + across * cos

    def lane(self, number: int) -> tuple[float, float]:
        """Pixels of lane `number` to the right of the centre line, and the angle of its traffic."""
        across = (number + 0.5 - self.lanes / 2) * LANE * self.car
        return across, self.angle if across > 0 else self.angle + 180

    def across(self, x: float, y: float) -> float:
        """Pixels of a place to the right of the centre line."""
        angle = math.radians(self.angle)
        return (x - self.x) * math.sin(angle) + (y - self.y) * math.cos(angle)

    @property
    def half_width(self) -> float:
        """Pixels from the centre line to the kerb."""
        return (self.lanes / 2 * LANE + 0.12) * self.car


def paint_road(canvas: np.ndarray, road: Road, rng: np.random.Generator) -> None:
    """Put asphalt with lane markings onto `canvas`, uint8 [H, W, 3], in place."""
    height, width = canvas.shape[:2]
    reach = math.hypot(height, width)
    stones = ground("gravel", (width, height), rng).astype(np.float32)
    asphalt = 78 + 0.18 * (cv2.GaussianBlur(stones, (0, 0), 0.8) - stones.mean())
    kerbs = [road.point(a, b * road.half_width) for a, b in ((-reach, -1), (reach, -1), (reach, 1), (-reach, 1))]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(kerbs).astype(np.int32)], 255, lineType=cv2.LINE_AA)
    cover = mask[..., None].astype(np.float32) / 255
    canvas[:] = np.rint(canvas * (1 - cover) + asphalt * cover).clip(0, 255).astype(np.uint8)
    for number in range(1, road.lanes):
        across = (number - road.lanes / 2) * LANE * road.car
        if number == road.lanes // 2:
            _line(canvas, road.point(-reach, across), road.point(reach, across), (200, 176, 84))
        else:
            for start in np.arange(-reach, reach, 0.9 * road.car):
                _line(canvas, road.point(start, across), road.point(start + 0.4 * road.car, across), (206, 206, 200))


def paint_car_park(canvas: np.ndarray, corner: tuple[int, int], size: tuple[int, int], car: float) -> None:
    """Put asphalt with two rows of bays onto `canvas`, in place; `corner` and `size` are x, y in pixels."""
    (x, y), (width, height) = corner, size
    canvas[y : y + height, x : x + width] = 92
    for left in np.arange(0, width, BAY * car):
        for top, bottom in ((0, 0.42), (0.58, 1)):
            _line(canvas, (x + left, y + top * height), (x + left, y + bottom * height), (190, 190, 186))


def _line(canvas: np.ndarray, start: tuple[float, float], end: tuple[float, float], colour: tuple) -> None:
    ends = [tuple(round(16 * value) for value in point) for point in (start, end)]
    cv2.line(canvas, *ends, colour, 1, lineType=cv2.LINE_AA, shift=4)


def _car_parts(pixels: np.ndarray, body: tuple[int, int, int]) -> None:
    _box(pixels, 0.58, 0.72, 0.12, 0.88, _PANE)
    _box(pixels, 0.12, 0.22, 0.16, 0.84, _PANE)
    for top in (0.04, 0.90):
        _box(pixels, 0.26, 0.56, top, top + 0.06, _PANE)
    _box(pixels, 0.26, 0.54, 0.2, 0.8, tuple(min(255, round(value * 1.12 + 8)) for value in body))


def _truck_parts(pixels: np.ndarray, body: tuple[int, int, int]) -> None:
    _box(pixels, 0.72, 0.75, 0, 1, (28, 28, 30))
    _box(pixels, 0.75, 1, 0, 1, (226, 226, 222))
    _box(pixels, 0.88, 0.95, 0.08, 0.92, _PANE)
    for rib in np.arange(0.1, 0.7, 0.12):
        _box(pixels, rib, rib + 0.02, 0, 1, tuple(round(0.75 * value) for value in body))


def _bus_parts(pixels: np.ndarray, body: tuple[int, int, int]) -> None:
    _box(pixels, 0.95, 0.99, 0.06, 0.94, _PANE)
    for hatch in (0.18, 0.7):
        _box(pixels, hatch, hatch + 0.09, 0.3, 0.7, tuple(round(0.6 * value) for value in body))
    _box(pixels, 0.38, 0.58, 0.22, 0.78, (226, 226, 222))


_PARTS = {"car": _car_parts, "truck": _truck_parts, "bus": _bus_parts}


def _box(pixels: np.ndarray, left: float, right: float, top: float, bottom: float, colour: tuple) -> None:
    """Fill a rectangle given as fractions of the sides."""
    height, width = pixels.shape[:2]
    pixels[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = colour


def _rounded(length: int, width: int, radius: int) -> np.ndarray:
    """A rectangle with rounded corners: coverage, float32 [width, length]."""
    cover = np.zeros((width, length), np.uint8)
    cover[radius : width - radius], cover[:, radius : length - radius] = 255, 255
    for x in (radius, length - 1 - radius):
        for y in (radius, width - 1 - radius):
            cv2.circle(cover, (x, y), radius, 255, -1, lineType=cv2.LINE_AA)
    return cover.astype(np.float32) / 255


def _cutout(category: str, pixels: np.ndarray, cover: np.ndarray) -> Cutout:
    premultiplied = np.dstack([pixels.astype(np.float32) / 255 * cover[..., None], cover])
    premultiplied.flags.writeable = False
    return Cutout(category, category, premultiplied)
