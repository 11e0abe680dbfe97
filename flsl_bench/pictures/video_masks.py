"""Masks of a video drawn over its frames, as pictures and as a video."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flsl_bench.datasets.davis import PALETTE, VOID_ID, read_mask
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.files import atomic_path
from flsl_bench.pictures.panels import add_panel

FORMATS = ("mp4", "gif")
PANEL_TITLE = "DAVIS 2017: propagated masks"
FRAMES_PER_SECOND = 24  # DAVIS was filmed at it


def overlay(image: np.ndarray, ids: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Each object of `ids` [H, W] tinted in its palette colour over `image` uint8 RGB [H, W, 3], with its outline.

    Void (255) is left as background.
    """
    ids = np.where(ids == VOID_ID, 0, ids).astype(np.uint8)
    tinted = (image * (1 - opacity) + PALETTE[ids] * opacity).round().astype(np.uint8)
    drawn = np.where((ids > 0)[..., None], tinted, image)
    kernel = np.ones((3, 3), np.uint8)
    outline = (ids > 0) & (cv2.erode(ids, kernel) != cv2.dilate(ids, kernel))
    drawn[outline] = PALETTE[ids[outline]]
    return drawn


def overlays(frames: Sequence[Path], masks: Path) -> Iterable[np.ndarray]:
    """The overlay of each frame, uint8 RGB [H, W, 3]; its mask is the PNG of the same stem in the folder `masks`."""
    for frame in frames:
        image = cv2.imread(str(frame), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{frame}: not a readable image; unpack the data again")
        yield overlay(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), read_mask(masks / f"{frame.stem}.png"))


def write_pictures(frames: Sequence[Path], masks: Path, folder: str | os.PathLike) -> Path:
    """Write the overlay of every frame as a JPEG into `folder`, which is returned."""
    folder = Path(folder)
    for frame, picture in zip(frames, overlays(frames, masks), strict=True):
        with atomic_path(folder / f"{frame.stem}.jpg") as temporary:
            Image.fromarray(picture).save(temporary, format="JPEG", quality=90)
    return folder


def write_panels(name: str, frames: Sequence[Path], masks: Path, folder: str | os.PathLike) -> list[Path]:
    """Leave panels of the first, the middle and the last frame of the sequence `name` in `folder`; their paths."""
    indices = sorted({0, len(frames) // 2, len(frames) - 1}) if frames else []
    chosen = [frames[index] for index in indices]
    return [
        add_panel(folder, PANEL_TITLE, f"{name}, frame {frame.stem}", picture)
        for frame, picture in zip(chosen, overlays(chosen, masks), strict=True)
    ]


def write_video(frames: Sequence[Path], masks: Path, path: str | os.PathLike) -> Path:
    """Write the overlays as one video; the ending of `path` is .mp4 or .gif.

    Raises:
        ConfigError: another ending, or an OpenCV without an MP4 encoder.
    """
    path = Path(path)
    if path.suffix.lstrip(".") not in FORMATS:
        raise ConfigError(f"{path}: a video is one of {', '.join(FORMATS)}")
    with atomic_path(path) as temporary:
        write = _write_mp4 if path.suffix == ".mp4" else _write_gif
        write(temporary, overlays(frames, masks))
    return path


def _write_mp4(path: Path, pictures: Iterable[np.ndarray]) -> None:
    named = path.with_suffix(".mp4")  # OpenCV goes by the ending
    writer = None
    try:
        for picture in pictures:
            height, width = picture.shape[:2]
            if writer is None:
                code = cv2.VideoWriter_fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(named), code, FRAMES_PER_SECOND, (width, height))
                if not writer.isOpened():
                    raise ConfigError(f"{path}: this OpenCV cannot write MP4; ask for gif")
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        writer.release()
        os.replace(named, path)
    finally:
        named.unlink(missing_ok=True)


def _write_gif(path: Path, pictures: Iterable[np.ndarray]) -> None:
    first, *others = (Image.fromarray(picture).quantize(128) for picture in pictures)
    duration = round(1000 / FRAMES_PER_SECOND)
    first.save(path, format="GIF", save_all=True, append_images=others, duration=duration, loop=0)
