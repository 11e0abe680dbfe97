"""FLSL's box-aligned k-NN: classify the patches inside an image's largest box by those of the training images.

Protocol: arXiv 2306.06203; the nine patches are those at the cell centres of a 3x3 grid over the box, and the vote of
the neighbours is DINO's (arXiv 2104.14294, `eval_knn.py`), weighted by exp(cosine / 0.07).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.datasets.boxed_images import BoxedImage
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.image_features import ImageFeatures, PatchFeatures, Progress, ResizeCenterCrop, no_progress
from flsl_bench.probes.nearest import ExactIndex

VIEW = ResizeCenterCrop(256, 224)
"""The protocol's view of the images, for `FeatureOptions`."""

# Test images that are searched for and voted on together.
_IMAGES_AT_A_TIME = 448


@dataclass(frozen=True)
class BoxKnn:
    """The protocol; the defaults are the published values. Raises `ConfigError` for values that mean nothing."""

    neighbours: tuple[int, ...] = (20, 10, 100, 200)
    """Numbers of neighbours that vote, the primary one first."""
    temperature: float = 0.07
    grid: int = 3
    """Cells along a side of the box."""
    as_released: bool = False
    """Place boxes as the released code does: scaled by 256/width and 256/height although the image keeps its aspect."""

    def __post_init__(self):
        if not self.neighbours or min(self.neighbours) < 1 or len(set(self.neighbours)) < len(self.neighbours):
            raise ConfigError(f"neighbours={self.neighbours}: give different numbers of 1 or more")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature}: give a number above 0")
        if self.grid < 1:
            raise ConfigError(f"grid={self.grid}: give 1 or more")


@dataclass(frozen=True)
class Hits:
    """Percent of what is right at one number of neighbours."""

    any: float
    """Images of which at least one patch is voted right, as published."""
    majority: float
    """Images of which more than half of the patches are."""
    patch: float
    """Patches."""


@dataclass(frozen=True)
class BoxKnnResult:
    """The scores, by number of neighbours; None for more of them than the bank has patches."""

    hits: dict[int, Hits | None]
    by_class: dict[str, Hits]
    """At the primary number of neighbours, by class of the test images."""
    train_images: int
    test_images: int
    cropped_away: int
    """Images of both splits whose box the view does not show; their patches are those at the border nearest to it."""

    def metrics(self) -> dict[str, float | None]:
        """Percent: "any_20" and so on, the primary one first."""
        return {
            f"{name}_{k}": None if hits is None else getattr(hits, name)
            for k, hits in self.hits.items()
            for name in ("any", "majority", "patch")
        }

    def breakdowns(self) -> dict[str, dict[str, float | None]]:
        """Percent at the primary number of neighbours, by class of the test images."""
        return {
            f"{name} by class": {label: getattr(hits, name) for label, hits in self.by_class.items()}
            for name in ("any", "majority", "patch")
        }


def box_knn(
    features: ImageFeatures,
    train: Sequence[BoxedImage],
    test: Sequence[BoxedImage],
    options: BoxKnn | None = None,
    *,
    engine: str | None = None,
    progress: Progress | None = None,
) -> BoxKnnResult:
    """Scores of the test images by the training images; a test image of a class without training images is wrong.

    Args:
        features: with the view `VIEW`; the bank, 9 patches a training image in float32, is on their device.
        engine: see `ExactIndex`.
        progress: called with what is done, the images done and the images in all.

    Raises `DataError` for no images, `ConfigError` for a bank smaller than the primary number of neighbours.
    """
    options = options or BoxKnn()
    if not train or not test:
        raise DataError(f"no {'test' if train else 'training'} images with a box; name another split")
    patches = options.grid**2 * len(train)
    if patches < options.neighbours[0]:
        raise ConfigError(f"neighbours={options.neighbours}: the bank has {patches} patches; give no more as the first")
    box_patches = _BoxPatches(features, options, progress or no_progress)
    classes = {label: i for i, label in enumerate(sorted({image.label for image in train}))}
    index = ExactIndex(box_patches.bank(train), engine)
    labels = torch.tensor([classes[image.label] for image in train], device=features.device)
    labels = labels.repeat_interleave(options.grid**2)
    truth = torch.tensor([classes.get(image.label, -1) for image in test], device=features.device)
    right: dict[int, list[Tensor]] = {k: [] for k in options.neighbours if k <= patches}
    done = 0
    for queries in box_patches.batches(test):
        values, rows = index.search(queries.flatten(0, 1), max(right))
        wanted = truth[done : done + len(queries), None]
        for k, found in right.items():
            votes = vote(values[:, :k], labels[rows[:, :k]], len(classes), options.temperature)
            found.append((votes.view(len(queries), -1) == wanted).cpu())
        done += len(queries)
    right_patches = {k: torch.cat(found).numpy() for k, found in right.items()}
    return BoxKnnResult(
        hits={k: _hits(right_patches[k]) if k in right_patches else None for k in options.neighbours},
        by_class=_by_class(right_patches[options.neighbours[0]], [image.label for image in test]),
        train_images=len(train),
        test_images=len(test),
        cropped_away=box_patches.cropped_away,
    )


def vote(similarities: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """The class [Q] with the largest sum of exp(similarity / temperature) over neighbours [Q, k]; of equals the lower.

    `labels`: class of each neighbour, int64 [Q, k].
    """
    similarities = similarities.double()  # on a GPU the order of sums is not fixed: it must not decide
    weights = ((similarities - similarities.amax(1, keepdim=True)) / temperature).exp()  # no temperature overflows
    return weights.new_zeros(len(weights), classes).scatter_add_(1, labels, weights).argmax(1)


def place_box(image: BoxedImage, features: PatchFeatures, as_released: bool = False) -> np.ndarray:
    """The box of an image in the pixels of the ViT's input, clipped to it: x0, y0, x1, y1.

    `as_released` scales it by 256/width and 256/height (the view's `resize`) and takes off half of what the crop does.
    Clipping leaves nothing of a box outside the input but a line or a point on its border.
    """
    if not as_released:
        scale = np.divide(features.image_size, image.size)
        return features.geometry.map_boxes((np.reshape(image.box, (2, 2)) * scale).reshape(1, 4))[0]
    resized, crop = min(features.geometry.resized), np.array(features.input_size)
    corners = np.reshape(image.box, (2, 2)) / image.size * resized - (resized - crop) / 2
    return np.clip(corners, 0, crop).reshape(4)


def grid_patches(box: np.ndarray, grid: int, patch_size: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns int64 [grid * grid] of the patches that hold the cell centres of a grid over a box, row by row.

    `box`: x0, y0, x1, y1 in pixels of the input; `shape`: rows and columns of its patches.
    """
    share = (np.arange(grid) + 0.5) / grid
    columns, rows = (
        np.clip((low + share * (high - low)) // patch_size, 0, limit - 1).astype(np.int64)
        for low, high, limit in ((box[0], box[2], shape[1]), (box[1], box[3], shape[0]))
    )
    return np.repeat(rows, grid), np.tile(columns, grid)


class _BoxPatches:
    """The patches [grid * grid, C] inside the boxes of images, each of length one."""

    def __init__(self, features: ImageFeatures, options: BoxKnn, progress: Progress):
        if options.as_released and not isinstance(features.options.view, ResizeCenterCrop):
            raise ConfigError("as_released=True is about the view ResizeCenterCrop; use that one")
        self.features, self.options, self.progress = features, options, progress
        self.cropped_away = 0

    def bank(self, images: Sequence[BoxedImage]) -> Tensor:
        """[grid * grid * images, C]."""
        bank = None
        for i, patches in enumerate(self._each(images, "training images")):
            if bank is None:
                bank = patches.new_empty(len(images), *patches.shape)
            bank[i] = patches
        return bank.flatten(0, 1)

    def batches(self, images: Sequence[BoxedImage]) -> Iterator[Tensor]:
        """[B, grid * grid, C] of a few images at a time."""
        waiting = []
        for patches in self._each(images, "test images"):
            waiting.append(patches)
            if len(waiting) == _IMAGES_AT_A_TIME:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)

    def _each(self, images: Sequence[BoxedImage], what: str) -> Iterator[Tensor]:
        for i, features in enumerate(self.features.many([image.path for image in images])):
            box = place_box(images[i], features, self.options.as_released)
            self.cropped_away += bool(box[2] <= box[0] or box[3] <= box[1])
            rows, columns = grid_patches(box, self.options.grid, self.features.patch_size, features.tokens.shape[1:])
            yield F.normalize(features.tokens[:, rows, columns].t(), dim=1)
            self.progress(what, i + 1, len(images))


def _hits(right: np.ndarray) -> Hits:
    """Of right patches bool [images, patches]."""
    shares = right.mean(axis=1)
    return Hits(*(float(100 * value.mean()) for value in (shares > 0, shares > 0.5, shares)))


def _by_class(right: np.ndarray, labels: Sequence[str]) -> dict[str, Hits]:
    members = defaultdict(list)
    for i, label in enumerate(labels):
        members[label].append(i)
    return {label: _hits(right[members[label]]) for label in sorted(members)}
