"""Dense features of images: how an image is brought to the ViT, what is taken of it, and where it is kept.

Pixels are RGB as the file stores them (an EXIF orientation is not applied: annotations are made on stored pixels),
resized by Pillow's bicubic filter, which averages where it shrinks, then divided by 255 and standardised with
ImageNet's mean and standard deviation.
"""

import hashlib
import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flsl_bench.backbones.vit import FACETS, VisionTransformer
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.files import atomic_path

Progress = Callable[[str, int, int], None]
"""Is told what is at work, the images or steps done and those in all."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_GPU_BATCH = 8
_DECODERS = 4
# Decoded images a batch may be picked from: images of one size seldom follow each other.
_BATCHES_AHEAD = 4
_CACHE_VERSION = 1
_COARSE_CLOCK = 2.0  # seconds by which a file system's times may lag behind


@dataclass(frozen=True)
class Geometry:
    """Where an image's pixels are in the ViT's input: the whole is resized, then a part of it is fed.

    Sizes are (width, height) in pixels. Coordinates are continuous, (x, y) from the top left corner of the first pixel.
    """

    image_size: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    """Left and top of the part in the resized image."""
    input_size: tuple[int, int] | None = None
    """Of the part; by default all of the resized image."""

    def __post_init__(self):
        if self.input_size is None:
            object.__setattr__(self, "input_size", self.resized)

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Points [N, 2] of the image as points of the input; those outside the part lie outside its size."""
        scale = np.divide(self.resized, self.image_size)
        return np.asarray(points, dtype=np.float64) * scale - self.corner

    def unmap_points(self, points: np.ndarray) -> np.ndarray:
        """Points [N, 2] of the input as points of the image."""
        scale = np.divide(self.image_size, self.resized)
        return (np.asarray(points, dtype=np.float64) + self.corner) * scale

    def map_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] (x0, y0, x1, y1) of the image as boxes of the input, clipped to it (empty if outside)."""
        corners = self.map_points(np.reshape(boxes, (-1, 2)))
        return np.clip(corners, 0, self.input_size).reshape(-1, 4)


class View(Protocol):
    """How an image is brought to the ViT."""

    def geometry(self, image_size: tuple[int, int], patch_size: int) -> Geometry:
        """The geometry of an image of (width, height); the input is whole patches."""


@dataclass(frozen=True)
class Resize:
    """The whole image, its short side `short_side` pixels, both sides rounded to the nearest whole number of patches.

    Each axis has its own true scale, so that boxes and points stay where they belong. Exact halves round up.
    """

    short_side: int = 448

    def __post_init__(self):
        _check_positive(short_side=self.short_side)

    def geometry(self, image_size: tuple[int, int], patch_size: int) -> Geometry:
        """See `View`."""
        short = min(image_size)
        doubled = 2 * short * patch_size
        patches = [max(1, (2 * self.short_side * side + short * patch_size) // doubled) for side in image_size]
        return Geometry(image_size, (patches[0] * patch_size, patches[1] * patch_size))


@dataclass(frozen=True)
class ResizeCenterCrop:
    """The classical view of ImageNet: short side to `resize`, then the central square of `crop` pixels.

    Rounding is torchvision's: the long side is cut to whole pixels, the margins are rounded half to even.
    """

    resize: int = 256
    crop: int = 224

    def __post_init__(self):
        _check_positive(resize=self.resize, crop=self.crop)
        if self.crop > self.resize:
            raise ConfigError(f"crop={self.crop} is larger than resize={self.resize}; give a smaller crop")

    def geometry(self, image_size: tuple[int, int], patch_size: int) -> Geometry:
        """See `View`; raises `ConfigError` for a crop that is not whole patches."""
        if self.crop % patch_size:
            raise ConfigError(f"crop={self.crop} is not whole patches of {patch_size}; give a multiple of {patch_size}")
        short = min(image_size)
        resized = tuple(self.resize if side == short else int(self.resize * side / short) for side in image_size)
        corner = tuple(round((side - self.crop) / 2) for side in resized)
        return Geometry(image_size, resized, corner, (self.crop, self.crop))


@dataclass(frozen=True)
class FeatureOptions:
    """What is taken of the ViT. Raises `ConfigError` for an unknown facet."""

    layer: int = -1
    """Block, 0-based; negative ones count from the last."""
    norm: bool = True
    """Whether tokens pass the ViT's final LayerNorm; the other facets never do."""
    facet: str = "token"
    """"token": what the block puts out; "key", "query", "value": of its attention, heads side by side."""
    view: View = field(default_factory=Resize)

    def __post_init__(self):
        if self.facet not in ("token", *FACETS):
            raise ConfigError(f"facet={self.facet!r} is none of token, {', '.join(FACETS)}")


@dataclass(frozen=True)
class PatchFeatures:
    """The features of one image."""

    tokens: Tensor
    """[C, h, w] float32, on the device asked for."""
    geometry: Geometry

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of the image as stored."""
        return self.geometry.image_size

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of what the ViT saw."""
        return self.geometry.input_size


class FeatureCache:
    """Features on disk, one file a key; the least recently used go when `max_bytes` is reached.

    What was used since this object was made stays: a scan of more images than fit would push out each file before it
    is asked for again. Once nothing older is left, nothing more is taken in.

    Files are written in one step, and one that vanishes or is damaged is a miss, so that processes can share a folder;
    each of them can then exceed the limit by a sixteenth of it.
    """

    def __init__(self, folder: str | os.PathLike, max_bytes: int = 20 << 30):
        _check_positive(max_bytes=max_bytes)
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._allowance = max_bytes // 16
        self._unseen = self._allowance  # bytes written since the folder was last looked through
        self._began, self._full = time.time() - _COARSE_CLOCK, False

    def get(self, key: str) -> dict[str, Tensor] | None:
        """What was put under `key`, or None."""
        path = self._path(key)
        try:
            tensors = load_file(path)
            os.utime(path)
        except (OSError, SafetensorError):
            return None
        return tensors

    def put(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep `tensors` under `key`, a hexadecimal digest, if there is room.

        Raises `DataError` if the folder cannot be written.
        """
        path = self._path(key)
        if self._full:
            return
        try:
            with atomic_path(path) as temporary:
                save_file(tensors, temporary)
                size = temporary.stat().st_size
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot write to the feature cache ({error}); name another folder") from None
        self._unseen += size
        if self._unseen >= self._allowance:
            self._evict()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _evict(self) -> None:
        self._unseen = 0
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) - (self.max_bytes - self._allowance)
        for last_use, size, path in files:
            if excess <= 0:
                break
            if last_use >= self._began:
                self._full = True
                if excess > self._allowance:  # the last one was too much
                    files[-1][2].unlink(missing_ok=True)
                break
            path.unlink(missing_ok=True)
            excess -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Last use, bytes and path of every file, other processes' unfinished ones apart."""
        an_hour_ago = time.time() - 3600
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:  # another process removed it
                continue
            if path.suffix == ".safetensors" or (path.suffix == ".tmp" and status.st_mtime < an_hour_ago):
                yield status.st_mtime, status.st_size, path


@dataclass(frozen=True)
class _Decoded:
    """An image on its way: pixels uint8 [H, W, 3] for the ViT, or the tokens that the cache had."""

    path: Path
    geometry: Geometry
    key: str | None
    pixels: np.ndarray | None = None
    tokens: Tensor | None = None

    def batches_with(self, other: "_Decoded") -> bool:
        return self.tokens is None and self.geometry.input_size == other.geometry.input_size


class ImageFeatures:
    """Features of images, by one forward pass an image.

    Args:
        vit: moved to `device` and set to evaluation.
        weights_sha256: tells these weights from all others in the cache; a file that holds several branches needs the
            branch in it too.
        options: what is taken of the ViT.
        device: where the ViT runs and the features are.
        batch: images of equal input size at a time; by default 1 on the CPU, where more gain nothing, and 8 elsewhere.
        cache: where features are looked up first and kept.

    Raises `ConfigError` for a layer that is not there and a batch below 1.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        weights_sha256: str,
        options: FeatureOptions | None = None,
        *,
        device: str | torch.device = "cpu",
        batch: int | None = None,
        cache: FeatureCache | None = None,
    ):
        self.options = options or FeatureOptions()
        self.device = torch.device(device)
        self.batch = batch if batch is not None else 1 if self.device.type == "cpu" else _GPU_BATCH
        _check_positive(batch=self.batch)
        if not -vit.depth <= self.options.layer < vit.depth:
            raise ConfigError(
                f"layer={self.options.layer}: the ViT has {vit.depth} blocks; give -{vit.depth}..{vit.depth - 1}"
            )
        self.block = self.options.layer % vit.depth
        self.vit = vit.to(self.device).eval()
        self.cache = cache
        self.forward_passes = 0
        """Images that went through the ViT."""
        self._identity = self._describe(weights_sha256)
        self._mean = torch.tensor(MEAN, device=self.device)[:, None, None]
        self._std = torch.tensor(STD, device=self.device)[:, None, None]

    @property
    def patch_size(self) -> int:
        """Pixels of the input along a side of a patch."""
        return self.vit.patch_size

    def one(self, path: str | os.PathLike) -> PatchFeatures:
        """The features of an image file. Raises `DataError` if it cannot be read or its features are not finite."""
        decoded = self._decode(Path(path))
        return self._finish(decoded, *self._run([decoded]))

    def many(self, paths: Iterable[str | os.PathLike]) -> Iterator[PatchFeatures]:
        """The features of image files in their order; files are decoded ahead, and batched where input sizes agree.

        Errors are raised at the turn of the image they are about.
        """
        pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="images")
        try:
            waiting = iter(paths)
            ahead = deque(self._submit(pool, path) for path in islice(waiting, _BATCHES_AHEAD * self.batch))
            done: dict[Future, Tensor] = {}
            while ahead:
                first = ahead[0]
                if first not in done:
                    batch = self._batch([future for future in ahead if future not in done])
                    done.update(zip(batch, self._run([future.result() for future in batch]), strict=True))
                ahead.popleft()
                ahead.extend(self._submit(pool, path) for path in islice(waiting, 1))
                yield self._finish(first.result(), done.pop(first))
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, path: str | os.PathLike) -> Future:
        return pool.submit(self._decode, Path(path))

    def _batch(self, futures: list[Future]) -> list[Future]:
        """The first of `futures` and others, up to a batch, of its input size; alone if the cache had its tokens.

        Which ones depends on the order of images and on what the cache has, not on which is decoded first.
        """
        batch, first = futures[:1], futures[0].result()
        for future in futures[1:] if first.tokens is None else ():
            if len(batch) == self.batch:
                break
            if future.exception() is None and future.result().batches_with(first):
                batch.append(future)
        return batch

    def _decode(self, path: Path) -> _Decoded:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot read this image ({error.strerror}); copy it again") from None
        key = None
        if self.cache:
            key = hashlib.sha256(self._identity + hashlib.sha256(content).digest()).hexdigest()
            kept = self.cache.get(key)
            if kept is not None:
                geometry = self.options.view.geometry(tuple(kept["image_size"].tolist()), self.patch_size)
                return _Decoded(path, geometry, key, tokens=kept["tokens"])
        try:
            with Image.open(io.BytesIO(content)) as image:
                geometry = self.options.view.geometry(image.size, self.patch_size)
                return _Decoded(path, geometry, key, pixels=_view(image.convert("RGB"), geometry))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: no readable image ({error}); copy it again") from None

    def _run(self, decoded: list[_Decoded]) -> list[Tensor]:
        """Tokens [C, h, w] of images of one input size."""
        if decoded[0].tokens is not None:
            return [decoded[0].tokens.to(self.device)]
        self.forward_passes += len(decoded)
        return list(self._maps(np.stack([one.pixels for one in decoded])))

    @torch.no_grad()
    def _maps(self, images: np.ndarray) -> Tensor:
        """Feature maps [B, C, h, w] of images uint8 [B, H, W, 3]."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        pixels = pixels.float().div_(255).sub_(self._mean).div_(self._std).contiguous()
        if self.options.facet == "token":
            return self.vit(pixels, [self.block], norm=self.options.norm)[0].float()
        tokens = self.vit.facet(pixels, self.block, self.options.facet)[:, self.vit.num_prefix_tokens :]
        return tokens.float().transpose(1, 2).unflatten(2, self.vit.grid(pixels))

    def _finish(self, decoded: _Decoded, tokens: Tensor) -> PatchFeatures:
        if not bool(torch.isfinite(tokens).all()):
            raise DataError(f"{decoded.path}: its features are not finite; the weights are damaged")
        if self.cache and decoded.tokens is None:
            size = torch.tensor(decoded.geometry.image_size)
            self.cache.put(decoded.key, {"tokens": tokens.contiguous().cpu(), "image_size": size})
        return PatchFeatures(tokens, decoded.geometry)

    def _describe(self, weights_sha256: str) -> bytes:
        """All that the features of an image follow from besides the image."""
        taken = {"layer": self.block, "facet": self.options.facet, "norm": self.options.norm}
        if self.options.facet != "token":
            del taken["norm"]
        view = self.options.view
        vit = [self.vit.num_heads, self.vit.num_prefix_tokens, self.vit.class_token_position, self.vit.position_rule]
        place = [self.device.type, torch.__version__]
        facts = [_CACHE_VERSION, weights_sha256, vit, taken, type(view).__name__, asdict(view), place]
        return json.dumps(facts, sort_keys=True).encode()


def no_progress(name: str, done: int, total: int) -> None:
    """The progress that nobody asked for."""


def _view(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """RGB uint8 [H, W, 3] of the part of the resized image that is fed."""
    resized = image if image.size == geometry.resized else image.resize(geometry.resized, Image.Resampling.BICUBIC)
    (left, top), (width, height) = geometry.corner, geometry.input_size
    return np.array(resized)[top : top + height, left : left + width]


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value}: give 1 or more")
