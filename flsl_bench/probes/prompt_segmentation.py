"""Segmentation from one prompted patch: the patches similar to it, up-sampled and cut at a threshold, are the mask.

A probe in the manner of MMC (arXiv 2308.11448), of which the abstract is public and no code: what that leaves open is
an option here. Masks are compared at the size of the annotation.
"""

import functools
import importlib
import math
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from types import ModuleType

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.datasets.objects import ImageObject, ObjectImage, ObjectImages
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.ops.numba_kernels import share
from flsl_bench.probes.image_features import Geometry, ImageFeatures, PatchFeatures, Progress
from flsl_bench.probes.resampling import UPSAMPLING, upsampling_weights

PROMPTS = ("deepest", "random")
PROMPT_FRAMES = ("same", "first")
SIZES = {"small": 32**2, "medium": 96**2, "large": math.inf}
"""Upper limit (not included) of an object's area in pixels of the annotation, as COCO sets them."""

_OUTSIDE, _INSIDE, _VOID = range(3)
# Cosines of equal features in float32 are 1 but for a few roundings, which must not decide at a threshold of 1.
_SLACK = 1e-6


@dataclass(frozen=True)
class PromptSegmentation:
    """The protocol. Raises `ConfigError` for values that mean nothing."""

    prompt: str = "deepest"
    """"deepest": the pixel of the mask farthest from its outside, beyond the image's border included (of equals the
    first in reading order); "random": `points` pixels of the mask, whose IoU is averaged."""
    points: int = 1
    """Random points an object; all pixels of a mask that has fewer."""
    seed: int = 0
    """Of the random points, which depend on it and on the names of image and object only."""
    upsampling: str = "bilinear"
    """Of the similarities to the annotation's size: "nearest", "bilinear" or "bicubic", pixel centres aligned."""
    threshold: float | str = "sweep"
    """Similarity from which on, less a millionth, a pixel is in the mask; "sweep": the best of `sweep` by mean IoU."""
    sweep: tuple[float, float, float] = (0.0, 1.0, 0.01)
    """Lowest and highest threshold, and the step."""
    prompt_frame: str = "same"
    """"same": each object is prompted in its own image; "first": in its video's first frame, which is not scored."""

    def __post_init__(self):
        for name, values in (("prompt", PROMPTS), ("upsampling", UPSAMPLING), ("prompt_frame", PROMPT_FRAMES)):
            if getattr(self, name) not in values:
                raise ConfigError(f"{name}={getattr(self, name)!r} is none of {', '.join(values)}")
        if self.points < 1 or self.seed < 0:
            raise ConfigError(f"points={self.points}, seed={self.seed}: give 1 point or more and no negative seed")
        if self.threshold != "sweep" and (isinstance(self.threshold, str) or not math.isfinite(self.threshold)):
            raise ConfigError(f"threshold={self.threshold!r}: give a number or 'sweep'")
        low, high, step = self.sweep
        if not (low < high and step > 0):
            raise ConfigError(f"sweep={self.sweep}: give the lowest threshold, a higher one and a step above 0")

    @property
    def thresholds(self) -> np.ndarray:
        """All thresholds [T], ascending."""
        if self.threshold != "sweep":
            return np.array([float(self.threshold)])
        low, high, step = self.sweep
        return np.round(low + step * np.arange(math.floor((high - low) / step + 1e-9) + 1), 10)


@dataclass(frozen=True)
class PromptScores:
    """Mean IoU (0 to 1) of the objects at every threshold, of all and of parts of them."""

    thresholds: np.ndarray
    curve: np.ndarray | None
    """[T]; None without any object."""
    oracle: float | None
    """Mean over objects of the IoU at each one's own best threshold."""
    classes: dict[str, np.ndarray]
    """Curve [T] of each class that has an object."""
    sizes: dict[str, np.ndarray | None]
    """Curve [T] of each of `SIZES`."""
    images: int
    objects: int
    skipped: int
    """Objects without a pixel to prompt: empty masks, and in a video those that the first frame does not show."""

    @property
    def best(self) -> int | None:
        """Index of the threshold with the best mean IoU over objects, of equals the lowest."""
        return None if self.curve is None else int(self.curve.argmax())

    def metrics(self) -> dict[str, float | None]:
        """IoU and areas in percent at the best threshold, and that threshold; None for what has no object."""
        by_class = [self._at_best(curve) for curve in self.classes.values()]
        return {
            "mIoU": self._at_best(self.curve),
            "mIoU-class": math.fsum(by_class) / len(by_class) if by_class else None,
            "mIoU-oracle": None if self.oracle is None else 100 * self.oracle,
            **{f"mIoU-{name}": self._at_best(curve) for name, curve in self.sizes.items()},
            "AUC": self._area(),
            "threshold": None if self.best is None else float(self.thresholds[self.best]),
        }

    def breakdowns(self) -> dict[str, dict[str, float | None]]:
        """mIoU in percent by class, by size and by threshold."""
        curve = () if self.curve is None else self.curve
        return {
            "mIoU by class": {name: self._at_best(values) for name, values in sorted(self.classes.items())},
            "mIoU by size": {name: self._at_best(values) for name, values in self.sizes.items()},
            "mIoU by threshold": {_name(t): 100 * float(v) for t, v in zip(self.thresholds, curve, strict=False)},
        }

    def _at_best(self, curve: np.ndarray | None) -> float | None:
        return None if curve is None else 100 * float(curve[self.best])

    def _area(self) -> float | None:
        """Area under the curve by trapezoids over its width, in percent; None for a single threshold."""
        if self.curve is None or len(self.thresholds) < 2:
            return None
        return 100 * float(np.trapezoid(self.curve, self.thresholds) / np.ptp(self.thresholds))


def prompt_segmentation(
    features: ImageFeatures,
    images: ObjectImages,
    options: PromptSegmentation | None = None,
    progress: Progress | None = None,
) -> PromptScores:
    """Score the masks that prompts in `images` give, with one forward pass an image.

    `progress` is called with an image's name, the images done and those in all. Memory does not grow with their number.
    Raises what `PromptSegmenter.add` raises.
    """
    segmenter = PromptSegmenter(options)
    for done, (patches, image) in enumerate(zip(features.many(images.paths), images, strict=True), 1):
        segmenter.add(patches, image)
        if progress:
            progress(image.path.name, done, len(images))
    return segmenter.scores()


class PromptSegmenter:
    """Scores image after image, so that several probes can share one pass over them."""

    def __init__(self, options: PromptSegmentation | None = None):
        self.options = options or PromptSegmentation()
        self.thresholds = self.options.thresholds
        self._all, self._oracle = _Mean(), _Mean()
        self._classes: dict[str, _Mean] = defaultdict(_Mean)
        self._sizes = {name: _Mean() for name in SIZES}
        self._images = self._skipped = 0
        self._video: str | None = None
        self._prompted: list[_Prompt] = []  # in the first frame of the video

    def add(self, features: PatchFeatures, image: ObjectImage) -> None:
        """Score the objects of one image; with prompts in the first frame, a video's frames come one after another.

        Raises `DataError` for an annotation that cannot be decoded or is of another size than the image, `ConfigError`
        for features of a part of the image, and for prompts in the first frame of what is no video.
        """
        check_pair(features, image)
        unit = F.normalize(features.tokens.flatten(1), dim=0)  # [C, N]
        masks = {one.id: one.mask() for one in image.objects}
        if self.options.prompt_frame == "same":
            prompts = self._prompts(unit, features, image, masks)
            self._skipped += len(image.objects) - len(prompts)
        elif image.video is None:
            raise ConfigError(f"{image.path}: no frame of a video; prompt_frame='first' needs videos")
        elif image.video != self._video:
            self._video, self._prompted = image.video, self._prompts(unit, features, image, masks)
            return
        else:
            prompts = self._prompted
            self._skipped += len(masks.keys() - {prompt.id for prompt in prompts})
        self._images += 1
        if prompts:
            self._score(prompts, unit, features.tokens.shape[1:], image, masks)

    def scores(self) -> PromptScores:
        """The scores of all images so far."""
        oracle = self._oracle.value()
        return PromptScores(
            thresholds=self.thresholds,
            curve=self._all.value(),
            oracle=None if oracle is None else float(oracle),
            classes={name: mean.value() for name, mean in self._classes.items()},
            sizes={name: mean.value() for name, mean in self._sizes.items()},
            images=self._images,
            objects=self._all.count,
            skipped=self._skipped,
        )

    def _prompts(
        self, unit: Tensor, features: PatchFeatures, image: ObjectImage, masks: dict[int, np.ndarray]
    ) -> list["_Prompt"]:
        """The prompts of the objects that have a pixel."""
        prompts = []
        for one in image.objects:
            points = self._points(masks[one.id], image, one)
            if len(points):
                patches = torch.from_numpy(patches_of(points, features.geometry, features.tokens.shape[1:]))
                prompts.append(_Prompt(one.id, one.category, patches, unit[:, patches.to(unit.device)].t()))
        return prompts

    def _points(self, mask: np.ndarray, image: ObjectImage, one: ImageObject) -> np.ndarray:
        """Pixels (x, y) int64 [P, 2] of the mask; none of an empty one."""
        if self.options.prompt == "deepest":
            return deepest_pixel(mask)
        pixels = np.flatnonzero(mask)
        rng = np.random.default_rng([self.options.seed, zlib.crc32(f"{image.path.name}/{one.id}".encode())])
        chosen = rng.choice(pixels, min(self.options.points, len(pixels)), replace=False) if len(pixels) else pixels
        return np.stack([chosen % mask.shape[1], chosen // mask.shape[1]], axis=1)

    def _score(
        self,
        prompts: list["_Prompt"],
        unit: Tensor,
        grid: tuple[int, int],
        image: ObjectImage,
        masks: dict[int, np.ndarray],
    ) -> None:
        similarity = torch.cat([prompt.features for prompt in prompts]) @ unit  # [P, N]
        similarity = similarity.double().cpu().numpy().reshape(-1, *grid)
        maps = np.split(similarity, np.cumsum([len(prompt.patches) for prompt in prompts])[:-1])
        (width, height), mode = image.size, self.options.upsampling
        weights = upsampling_weights(grid[0], height, mode), upsampling_weights(grid[1], width, mode)
        void, nothing = image.void(), np.zeros((height, width), bool)
        curves: list[np.ndarray | None] = [None] * len(prompts)

        def score_some(first: int, last: int) -> None:
            for n in range(first, last):
                kinds = _kinds(masks.get(prompts[n].id, nothing), void)
                curves[n] = np.mean([self._iou(one, weights, kinds) for one in maps[n]], axis=0)

        share(score_some, len(prompts))
        for prompt, curve in zip(prompts, curves, strict=True):
            self._count(prompt.category, curve, np.count_nonzero(masks.get(prompt.id, nothing)))

    def _iou(self, similarity: np.ndarray, weights: tuple, kinds: np.ndarray) -> np.ndarray:
        """IoU [T] of one map [h, w] at every threshold; 1 where neither prediction nor object has a pixel."""
        counts = np.zeros((3, len(self.thresholds) + 1), np.int64)
        _loops().count_reached(similarity, *weights, kinds, self.thresholds - _SLACK, counts)
        predicted = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # pixels that reach a threshold
        union = predicted[_OUTSIDE] + counts[_INSIDE].sum()
        return np.where(union > 0, predicted[_INSIDE] / np.maximum(union, 1), 1.0)

    def _count(self, category: str, curve: np.ndarray, area: int) -> None:
        self._all.add(curve)
        self._oracle.add(curve.max())
        self._classes[category].add(curve)
        if area:  # an object out of sight has no size
            self._sizes[next(name for name, limit in SIZES.items() if area < limit)].add(curve)


def deepest_pixel(mask: np.ndarray) -> np.ndarray:
    """The pixel (x, y) int64 [1, 2] of a mask [H, W] farthest from its outside, and from the image's; [0, 2] of none.

    Distances are Euclidean, between pixel centres; of equals the first in reading order.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    depth = cv2.distanceTransform(np.pad(box, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # Squares are whole numbers; OpenCV's roots of equal ones can differ by a rounding from call to call.
    y, x = np.unravel_index(np.rint(depth.astype(np.float64) ** 2).argmax(), depth.shape)
    return np.array([[x + columns[0], y + rows[0]]])


def patches_of(pixels: np.ndarray, geometry: Geometry, grid: tuple[int, int]) -> np.ndarray:
    """Index int64 [N] of the patch, in row-major order of `grid` (h, w), that holds the centre of each pixel (x, y)."""
    places = geometry.map_points(pixels + 0.5) / geometry.input_size * grid[::-1]
    column, row = np.clip(np.floor(places).astype(np.int64), 0, np.subtract(grid[::-1], 1)).T
    return row * grid[1] + column


def check_pair(features: PatchFeatures, image: ObjectImage) -> None:
    """Raise `DataError` if the annotation is of another size than the image, `ConfigError` if features lack a part."""
    if features.image_size != image.size:
        raise DataError(
            f"{image.path}: {features.image_size} pixels, its annotation {image.size} (width, height); fetch both again"
        )
    if features.input_size != features.geometry.resized:
        raise ConfigError(f"{image.path}: the view cuts the image; masks need one of the whole image, as Resize")


@dataclass(frozen=True)
class _Prompt:
    """The prompted patches of one object: indices int64 [P] and unit features [P, C]."""

    id: int
    category: str
    patches: Tensor
    features: Tensor


def _name(threshold: float) -> str:
    """With two decimals, or as many as it takes."""
    return np.format_float_positional(threshold, min_digits=2)


def _kinds(mask: np.ndarray, void: np.ndarray | None) -> np.ndarray:
    """What each pixel is to an object, uint8 [H, W]; its own pixels are its own even where void overlaps."""
    kinds = np.ascontiguousarray(mask).view(np.uint8)
    return kinds if void is None else np.where(void & ~mask, np.uint8(_VOID), kinds)


@dataclass
class _Mean:
    """The mean of arrays of one shape, one after another."""

    count: int = 0
    total: np.ndarray | float = field(default=0.0)

    def add(self, value: np.ndarray | float) -> None:
        self.count += 1
        self.total = self.total + value

    def value(self) -> np.ndarray | float | None:
        return self.total / self.count if self.count else None


@functools.cache
def _loops() -> ModuleType:
    return importlib.import_module("flsl_bench.probes.prompt_segmentation_loops")
