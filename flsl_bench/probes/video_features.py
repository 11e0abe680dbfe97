"""Dense features of a video's frames, in order, with decoding ahead of the backbone."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.errors import ConfigError, DataError

_GPU_BATCH = 8


class FrameFeatures:
    """Iterates over the features [C, h, w] of a video's frames: last block, final LayerNorm, spatial tokens only.

    Args:
        vit: moved to `device` and set to evaluation.
        frames: image files in order, all of one size.
        short_side, size_multiple: see `frame_size`.
        mean, std: RGB, of images in [0, 1].
        device: where the backbone runs and the features stay.
        batch: frames at a time; by default 1 on the CPU, where more gain nothing, and 8 elsewhere.
        dtype: float32, or half a precision to run the backbone in by autocast.

    Raises `DataError` for frames that cannot be read or differ in size, `ConfigError` for a frame size that the patch
    size does not divide and for a batch below 1.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        frames: Sequence[str | os.PathLike],
        *,
        short_side: int,
        size_multiple: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device = "cpu",
        batch: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        if not frames:
            raise DataError("no frames; a video needs at least one")
        self.frames = [Path(frame) for frame in frames]
        self.device, self.dtype = torch.device(device), dtype
        self.batch = batch if batch is not None else 1 if self.device.type == "cpu" else _GPU_BATCH
        if self.batch < 1:
            raise ConfigError(f"batch={batch}: give 1 or more")
        self.original_size = _read(self.frames[0]).shape[:2]
        self.size = frame_size(self.original_size, short_side, size_multiple)
        if any(side % vit.patch_size or not side for side in self.size):
            raise ConfigError(
                f"frames of {self.size[1]}x{self.size[0]} are not whole patches of {vit.patch_size}; "
                f"choose multiples of {vit.patch_size} in place of short_side={short_side} and "
                f"size_multiple={size_multiple}"
            )
        self.grid = self.size[0] // vit.patch_size, self.size[1] // vit.patch_size
        self.vit = vit.to(self.device).eval()
        self._mean = torch.tensor(mean, device=self.device)[:, None, None]
        self._std = torch.tensor(std, device=self.device)[:, None, None]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Tensor]:
        pool = ThreadPoolExecutor(1, thread_name_prefix="frames")
        try:
            waiting = iter(self.frames)
            ahead = deque(self._submit(pool, path) for path in islice(waiting, 2 * self.batch))
            while ahead:
                images = [ahead.popleft().result() for _ in range(min(self.batch, len(ahead)))]
                ahead.extend(self._submit(pool, path) for path in islice(waiting, len(images)))
                yield from self._maps(np.stack(images))
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, path: Path) -> Future:
        return pool.submit(read_frame, path, self.original_size, self.size)

    @torch.no_grad()
    def _maps(self, images: np.ndarray) -> Tensor:
        """Feature maps [B, C, h, w] of images uint8 [B, H, W, 3]."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        pixels = pixels.float().div_(255).sub_(self._mean).div_(self._std)
        half = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if half else nullcontext():
            return self.vit(pixels.contiguous())[0]


def frame_size(size: tuple[int, int], short_side: int, size_multiple: int) -> tuple[int, int]:
    """Height and width a frame of height and width `size` is resized to, in pixels.

    The short side becomes `short_side`, the long side keeps the aspect ratio and is rounded down to a multiple of
    `size_multiple` (`read_frame` of DINO's `eval_video_segmentation.py`: 480x854 to 480x832).
    """
    height, width = size
    if height > width:
        return short_side * height // width // size_multiple * size_multiple, short_side
    return short_side, short_side * width // height // size_multiple * size_multiple


def read_frame(path: Path, original_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The frame as RGB uint8 [H, W, 3] of height and width `size`, resized by OpenCV's bilinear rule as DINO does.

    Raises `DataError` if it cannot be read or its own size is not `original_size`.
    """
    image = _read(path)
    if image.shape[:2] != original_size:
        raise DataError(f"{path}: {image.shape[:2]}, the first frame is {original_size} (H, W); one size a video")
    return np.ascontiguousarray(cv2.resize(image, size[::-1])[:, :, ::-1])


def _read(path: Path) -> np.ndarray:
    """BGR uint8 [H, W, 3]."""
    image = cv2.imread(str(path)) if path.is_file() else None
    if image is None:
        raise DataError(f"{path}: {'no readable image' if path.is_file() else 'no such frame'}; copy it again")
    return image
