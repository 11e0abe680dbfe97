"""What all pictures are made of: images at a legible size, colours, tints, text. Pictures are uint8 RGB [H, W, 3]."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flsl_bench.errors import DataError
from flsl_bench.pictures.panels import LONG_SIDE

# Paul Tol's "muted" scheme, told apart by colour-blind people too (sronpersonalpages.nl/~pault), and his pale grey.
CATEGORIES = np.array(
    [
        (136, 204, 238),
        (204, 102, 119),
        (221, 204, 119),
        (17, 119, 51),
        (51, 34, 136),
        (170, 68, 153),
        (68, 170, 153),
        (153, 153, 51),
        (136, 34, 85),
        (221, 221, 221),
    ],
    np.uint8,
)
"""Colours of a few categories, uint8 [10, 3]."""

_FONT, _GAP, _WHITE = cv2.FONT_HERSHEY_SIMPLEX, 6, 255


def class_colours(count: int) -> np.ndarray:
    """Colours uint8 [count, 3] of many classes: hues a golden section apart, in four shades by turns."""
    index = np.arange(max(count, 1))  # OpenCV refuses none
    hue = index * 0.618034 % 1 * 360
    shade = np.array([(0.8, 1.0), (1.0, 0.75), (0.45, 0.95), (0.75, 0.55)])[index % 4]
    hsv = np.column_stack([hue, shade]).astype(np.float32)
    return (cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0, :count] * 255).round().astype(np.uint8)


def picture_size(image_size: tuple[int, int], long_side: int = LONG_SIDE) -> tuple[int, int]:
    """(width, height) of the picture of an image of (width, height): no side over `long_side`, the aspect kept."""
    factor = min(1.0, long_side / max(image_size))
    return max(1, round(image_size[0] * factor)), max(1, round(image_size[1] * factor))


def read_picture(path: str | os.PathLike, long_side: int = LONG_SIDE) -> np.ndarray:
    """An image file as stored (no EXIF orientation) at its `picture_size`. Raises `DataError` if it is unreadable."""
    try:
        with Image.open(path) as image:
            size = picture_size(image.size, long_side)
            return np.array(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no readable image ({error}); copy it again") from None


def caption_of(path: str | os.PathLike, root: str | os.PathLike | None = None) -> str:
    """An image's name, with its parent folder in front where that is not `root`: frames of sequences share names."""
    path = Path(path)
    in_root = root is None or path.parent.resolve() == Path(root).resolve()
    return path.name if in_root else f"{path.parent.name}/{path.name}"


def enlarged(values: np.ndarray, size: tuple[int, int], smooth: bool) -> np.ndarray:
    """Values [h, w] or [h, w, K] of patches at (width, height) pixels; bilinear where `smooth`, else sharp patches.

    Every patch covers an equal part of the picture, as `features.Resize` has it.
    """
    return cv2.resize(values, size, interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST_EXACT)


def scaled_point(point: tuple[float, float], image_size: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """A point (x, y) of an image as a point of its picture of (width, height)."""
    return point[0] * size[0] / image_size[0], point[1] * size[1] / image_size[1]


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values [H, W] in viridis, from dark blue at `low` to yellow at `high`."""
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return cv2.applyColorMap((scaled * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()


def tinted(picture: np.ndarray, colours: np.ndarray, where: np.ndarray, opacity: float) -> np.ndarray:
    """`picture` mixed with `colours` (one, or [H, W, 3]) where the mask [H, W] is set."""
    drawn = picture.copy()
    ink = colours if colours.ndim == 1 else colours[where]
    drawn[where] = (picture[where] * (1 - opacity) + ink * opacity).round()
    return drawn


def marked(picture: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    """`picture` with a red dot in a ring at (x, y), black on white so that it is seen on every ground."""
    picture = picture.copy()
    radius = max(6, max(picture.shape[:2]) // 80)
    centre = (int(point[0]), int(point[1]))
    for colour, thickness in (((255, 255, 255), 4), ((0, 0, 0), 2)):
        cv2.circle(picture, centre, radius, colour, thickness, cv2.LINE_AA)
    cv2.circle(picture, centre, 2, (255, 0, 0), -1, cv2.LINE_AA)
    return picture


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one height in a row, with a white gap between them."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), _WHITE, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=1)


def below(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one width in a column, with a white gap between them."""
    return beside(*(picture.swapaxes(0, 1) for picture in pictures)).swapaxes(0, 1).copy()


def write_text(picture: np.ndarray, text: str, corner: tuple[int, int], ground: Sequence[int], scale: float) -> None:
    """Write `text` on a strip of the colour `ground`, its lower left at (x, y) and moved into the picture, in place."""
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    x = max(0, min(int(corner[0]), picture.shape[1] - width - 2))
    y = max(height + below, min(int(corner[1]), picture.shape[0]))
    cv2.rectangle(picture, (x, y - height - below), (x + width + 1, y), [int(c) for c in ground], -1)
    cv2.putText(picture, text, (x + 1, y - below + 1), _FONT, scale, _ink(ground), 1, cv2.LINE_AA)


def with_legend(picture: np.ndarray, names: Sequence[str], colours: np.ndarray, scale: float = 0.42) -> np.ndarray:
    """`picture` with a white strip below that names each colour [len(names), 3]."""
    line, places, x, y = 20, [], 4, 0
    for name in names:
        width = cv2.getTextSize(name, _FONT, scale, 1)[0][0] + 26
        if x + width > picture.shape[1] and x > 4:
            x, y = 4, y + line
        places.append((x, y))
        x += width
    strip = np.full((y + line + 4, picture.shape[1], 3), _WHITE, np.uint8)
    for name, colour, (x, y) in zip(names, colours, places, strict=True):
        cv2.rectangle(strip, (x, y + 6), (x + 11, y + 17), [int(c) for c in colour], -1)
        cv2.putText(strip, name, (x + 16, y + 17), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def _ink(ground: Sequence[int]) -> tuple[int, int, int]:
    """Black or white, whichever is legible on `ground` (luma of ITU-R BT.601)."""
    luma = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2]
    return (0, 0, 0) if luma > 128 else (255, 255, 255)
