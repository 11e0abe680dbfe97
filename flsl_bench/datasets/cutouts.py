"""Real objects cut out of the photographs that scikit-image's wheel ships, and pictures composed of them.

The outlines were drawn by hand, some from a GrabCut draft, and checked by eye on the enlarged photographs. Coordinates
are whole pixels of the photograph, x to the right and y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import skimage
from PIL import Image

from flsl_bench.errors import DataError

_ASTRONAUT = """
276,31 248,18 227,16 212,22 207,20 156,58 153,68 157,104 170,116 174,128 182,133 183,146 157,150 140,158 121,183
123,204 120,206 113,202 90,227 78,234 60,253 44,282 26,342 26,366 19,390 18,416 24,432 23,460 29,491 21,504 26,511
280,511 276,495 276,460 295,395 329,362 360,351 363,346 360,344 362,330 357,323 352,287 347,282 340,262 303,233
299,219 289,203 255,173 266,138 275,134 290,117 300,92 296,58 286,40
"""
_PHOTOGRAPHER = """
202,68 220,69 245,82 262,100 270,115 268,128 260,131 252,142 250,150 254,165 245,175 242,190 238,195 240,205 244,215
242,222 239,228 248,245 262,230 275,245 286,250 288,260 288,295 280,300 250,312 235,310 206,296 185,325 142,380
149,425 150,480 151,511 0,511 0,260 20,225 45,185 65,155 85,135 115,125 131,125 135,118 152,106
160,106 168,96 178,82 191,72
"""
_CAT = """
42,0 33,46 31,88 35,119 47,144 51,171 67,198 83,217 108,246 142,250 162,267 183,278 217,288 246,288 275,283 296,275
306,254 310,233 323,210 342,188 358,162 364,133 363,104 358,77 371,56 379,33 402,0
"""
_CUP = """
173,103 180,77 197,53 227,32 260,21 293,18 333,25 367,42 393,68 406,95 409,120 405,147 395,177 387,202 377,218 368,230
357,240 340,252 327,267 317,277 303,283 283,286 260,283 247,293 232,302 222,309 207,305 197,292 197,273 205,257
217,242 212,232 197,213 184,188 177,160 173,127
"""
_HORSE = """
358,9 350,19 350,9 339,19 313,22 296,30 273,50 249,80 229,89 181,93 127,82 101,82 76,88 49,90 36,96 25,110 18,143
19,229 21,235 24,229 24,244 28,239 30,251 33,250 34,245 35,248 39,244 48,210 51,122 57,105 61,100 64,101 56,119 55,134
68,190 63,203 50,220 49,267 44,291 52,295 52,304 63,311 73,309 72,304 57,285 58,254 68,229 90,204 92,207 89,224 98,243
104,284 112,291 118,303 130,304 133,301 118,284 108,258 108,236 119,191 128,172 135,166 163,179 181,184 248,188
251,212 245,294 249,298 252,309 268,307 256,289 256,263 262,248 266,297 274,312 290,311 290,307 274,292 271,277
272,264 292,186 304,169 309,124 315,111 324,75 327,70 352,80 370,102 380,100 388,88 370,52 365,36 354,24
"""
_MOTORCYCLE = """
90,203 108,196 131,195 141,197 146,202 150,198 139,172 139,158 145,149 155,145 163,149 168,160 176,160 205,172 246,168
263,189 278,196 318,195 342,188 368,190 404,168 386,166 360,175 357,170 382,148 386,138 420,121 427,128 433,128
450,139 463,141 468,128 494,120 494,112 503,105 502,82 510,82 518,95 534,107 536,116 530,122 540,122 551,129 563,131
568,119 578,120 582,133 576,142 563,138 560,152 545,185 552,190 552,198 546,202 580,265 600,273 644,303 638,312
675,362 684,388 683,415 675,432 660,444 645,451 628,449 598,440 580,428 540,388 526,362 516,333 511,325 506,330
506,310 511,290 534,276 505,226 499,223 493,229 484,226 476,229 462,242 478,250 470,280 478,292 479,305 474,325
464,347 447,366 425,378 400,380 345,373 342,378 352,386 354,405 347,406 338,394 335,432 325,434 328,400 322,372
325,368 283,357 258,386 240,396 218,400 195,399 178,394 160,383 145,368 130,345 122,320 122,300 128,278 138,262
165,240 150,243 147,232 150,226 115,246 98,260 100,243 108,224 92,220
"""

_SOURCES = {
    # name: (COCO category, photograph, outline)
    "astronaut": ("person", "astronaut.png", _ASTRONAUT),
    "photographer": ("person", "camera.png", _PHOTOGRAPHER),
    "cat": ("cat", "chelsea.png", _CAT),
    "cup": ("cup", "coffee.png", _CUP),
    "horse": ("horse", "horse.png", _HORSE),
    "motorcycle": ("motorcycle", "motorcycle_left.png", _MOTORCYCLE),
}

_GROUNDS = {
    # name: (photograph, crop as (x0, y0, x1, y1) or the whole, mean colour to tint a grey photograph with or None)
    "grass": ("grass.png", None, (96, 122, 62)),
    "dry grass": ("grass.png", None, (158, 140, 92)),
    "gravel": ("gravel.png", None, (132, 126, 120)),
    "bricks": ("brick.png", None, (150, 96, 78)),
    "pavement": ("brick.png", None, (128, 128, 132)),
    "sand": ("moon.png", None, (196, 172, 130)),
    "wood": ("coffee.png", (484, 0, 600, 400), None),
    "shelf": ("motorcycle_left.png", (592, 0, 741, 250), None),
}
_SKY = ("moon.png", None, (150, 184, 222))


@dataclass(frozen=True)
class Cutout:
    """One object without its background.

    `pixels` is float32 [H, W, 4] in 0..1: red, green and blue already multiplied by the coverage, then the coverage.
    """

    name: str
    category: str
    pixels: np.ndarray

    @property
    def long_side(self) -> int:
        """The longer side of the bounding box in pixels at scale 1."""
        return max(self.pixels.shape[:2])

    @property
    def area(self) -> float:
        """Covered area in square pixels at scale 1."""
        return float(self.pixels[..., 3].sum())


@dataclass(frozen=True)
class Placement:
    """Where and how a cut-out goes into a picture.

    `x`, `y`: centre of its bounding box in pixels from the picture's top left corner; `scale`: picture pixels per
    cut-out pixel; `angle`: degrees counter-clockwise; `flip`: mirrored left to right; `gain`: factors for red, green
    and blue.
    """

    cutout: Cutout
    x: float
    y: float
    scale: float = 1.0
    angle: float = 0.0
    flip: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


@lru_cache(maxsize=1)
def load_cutouts() -> dict[str, Cutout]:
    """All cut-outs by name; each names its COCO category. Raises `DataError` if scikit-image lacks a photograph."""
    return {name: _cut(name, *source) for name, source in _SOURCES.items()}


def ground_names() -> tuple[str, ...]:
    """The names that `ground` takes."""
    return tuple(_GROUNDS)


def ground(name: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random crop, zoom and brightness of one ground that shows none of the objects: uint8 [height, width, 3].

    `size` is (width, height) in pixels.
    """
    return _to_uint8(_random_crop(_GROUNDS[name], size, rng) * rng.uniform(0.75, 1.2))


def landscape(name: str, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A ground below a hazy sky: the picture, uint8 [height, width, 3], and the row where the ground starts."""
    picture = ground(name, size, rng)
    horizon = round(size[1] * rng.uniform(0.2, 0.45))
    sky = cv2.GaussianBlur(_random_crop(_SKY, size, rng), (0, 0), 12) * rng.uniform(0.85, 1.15)
    haze = np.linspace(0, 50, horizon, dtype=np.float32)[:, None, None]
    picture[:horizon] = _to_uint8(sky[:horizon] + haze)
    return picture, horizon


def compose(background: np.ndarray, placements: Sequence[Placement]) -> tuple[np.ndarray, np.ndarray]:
    """Paste `placements` onto `background` (uint8 [H, W, 3]), later ones in front of earlier ones.

    Returns the picture, uint8 [H, W, 3], and the map of what is visible, int32 [H, W]: 0 for the background, i for the
    i-th placement counted from 1. A pixel belongs to an object that covers at least half of it.
    """
    canvas = background.astype(np.float32)
    visible = np.zeros(background.shape[:2], np.int32)
    for number, placement in enumerate(placements, start=1):
        layer = _transform(placement, background.shape[:2])
        cover = layer[..., 3:]
        colour = np.minimum(layer[..., :3] * np.float32(placement.gain), cover) * 255
        canvas = canvas * (1 - cover) + colour
        visible[cover[..., 0] >= 0.5] = number
    return _to_uint8(canvas), visible


def random_gain(rng: np.random.Generator) -> tuple[float, float, float]:
    """Factors for a `Placement.gain`: a brightness of 0.75 to 1.2 and a slight colour cast."""
    red, green, blue = rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, size=3)
    return float(red), float(green), float(blue)


def _transform(placement: Placement, shape: tuple[int, int]) -> np.ndarray:
    """The placed cut-out on an empty canvas of `shape` (height, width): float32 [H, W, 4], premultiplied."""
    pixels = placement.cutout.pixels[:, ::-1] if placement.flip else placement.cutout.pixels
    height, width = pixels.shape[:2]
    wanted = np.array([width, height]) * placement.scale
    if placement.scale < 1:  # warping alone would skip pixels and alias
        target = np.maximum(1, np.rint(wanted)).astype(int)
        pixels = cv2.resize(pixels, (int(target[0]), int(target[1])), interpolation=cv2.INTER_AREA)
    now = np.array(pixels.shape[1::-1])
    cos, sin = np.cos(np.radians(placement.angle)), np.sin(np.radians(placement.angle))
    linear = np.array([[cos, sin], [-sin, cos]]) * (wanted / now)  # y points down, hence the signs
    # Positions count from the corner of the first pixel, OpenCV's from its centre.
    shift = np.array([placement.x, placement.y]) - 0.5 - linear @ (now / 2 - 0.5)
    matrix = np.column_stack([linear, shift])
    return cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)


def _cut(name: str, category: str, photograph: str, outline: str) -> Cutout:
    points = np.array([[int(number) for number in point.split(",")] for point in outline.split()])
    colours = _horse_coat(points) if name == "horse" else _photograph(photograph)
    cover = _fill(points, colours.shape[:2]).astype(np.float32) / 255
    pixels = np.dstack([colours.astype(np.float32) / 255 * cover[..., None], cover])
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0) + 1
    pixels = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    pixels.flags.writeable = False
    return Cutout(name, category, pixels)


def _fill(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(shape, np.uint8)
    return cv2.fillPoly(canvas, [points.astype(np.int32)], 255, lineType=cv2.LINE_AA)


def _horse_coat(points: np.ndarray) -> np.ndarray:
    """Colours for the horse, whose picture is a mere silhouette: brown hair, darker towards the edge and the hooves."""
    shape = _photograph("horse.png").shape[:2]
    hair = cv2.GaussianBlur(_photograph("grass.png")[: shape[0], : shape[1], 0], (0, 0), 1.2).astype(np.float32)
    depth = cv2.distanceTransform(_fill(points, shape), cv2.DIST_L2, 5)
    round_body = 0.55 + 0.45 * np.sqrt(np.minimum(depth / 45, 1))
    height = np.linspace(1.25, 0.6, shape[0], dtype=np.float32)[:, None]
    shade = round_body * height * (0.75 + 0.25 * hair / hair.mean())
    return _to_uint8(shade[..., None] * np.float32([146, 92, 54]))


def _random_crop(
    source: tuple[str, tuple[int, int, int, int] | None, tuple[int, int, int] | None],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """A crop of the aspect ratio of `size` (width, height), resized to it: float32 [height, width, 3] in 0..255."""
    texture = _texture(*source)
    full = np.array(texture.shape[1::-1])
    largest = float((full / size).min())
    # Neither a few blown-up pixels nor a whole field shrunk to noise.
    zoom = min(largest, rng.uniform(1.1, 2.4))
    width, height = np.maximum(1, np.floor(np.array(size) * zoom)).astype(int)
    x = int(rng.integers(0, full[0] - width + 1))
    y = int(rng.integers(0, full[1] - height + 1))
    return cv2.resize(texture[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=16)
def _texture(photograph: str, crop: tuple[int, int, int, int] | None, tint: tuple[int, int, int] | None) -> np.ndarray:
    pixels = _photograph(photograph).astype(np.float32)
    if crop:
        pixels = pixels[crop[1] : crop[3], crop[0] : crop[2]]
    if tint:
        pixels = pixels / pixels.mean() * np.float32(tint)
    return pixels


@lru_cache(maxsize=16)
def _photograph(name: str) -> np.ndarray:
    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise DataError(f"{path}: this photograph belongs to scikit-image's wheel; reinstall scikit-image")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
