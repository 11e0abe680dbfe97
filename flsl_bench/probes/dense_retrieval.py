"""Semantic segmentation by dense nearest-neighbour retrieval: patches take the labels of similar training patches.

Protocol: Hummingbird (arXiv 2306.01667, section 3): a bank of training patches and their labels, read by
cross-attention over the nearest ones. 30 neighbours and temperature 0.02 are those of the open re-implementation,
open-hummingbird-eval; the size of the bank is ours. Training images are taken as they are, without augmentation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.datasets.semantic import SemanticImages
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.image_features import ImageFeatures, Progress, no_progress
from flsl_bench.probes.nearest import ExactIndex
from flsl_bench.probes.segmentation import (
    SegmentationResult,
    check_splits,
    labelled_patches,
    score,
)


@dataclass(frozen=True)
class DenseRetrieval:
    """The protocol. Raises `ConfigError` for values that mean nothing."""

    neighbours: int = 30
    temperature: float = 0.02
    """Of the softmax over cosine / temperature."""
    max_patches: int = 1_024_000
    """Of the bank, shared evenly among the training images."""
    seed: int = 0
    """Of the choice of patches where an image has more than its share."""

    def __post_init__(self):
        for name in ("neighbours", "max_patches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give 1 or more")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature}: give a number above 0")


def dense_retrieval(
    features: ImageFeatures,
    train: SemanticImages,
    val: SemanticImages,
    options: DenseRetrieval | None = None,
    *,
    engine: str | None = None,
    progress: Progress | None = None,
) -> SegmentationResult:
    """mIoU of the validation images, segmented by the labels of the training images.

    Args:
        features: of whole images (view `Resize`); the bank, float32 and int16 a class, is on their device.
        engine: see `ExactIndex`.
        progress: called with what is done, the images done and the images in all.

    Raises `DataError` for no images or no labelled patch to learn from, `ConfigError` for a bank smaller than the
    number of neighbours and for a view of parts of images.
    """
    options, progress = options or DenseRetrieval(), progress or no_progress
    check_splits(train, val)
    bank, counts = _bank(features, train, options, progress)
    if len(bank) < options.neighbours:
        raise ConfigError(f"neighbours={options.neighbours}: the bank has {len(bank)} labelled patches; give no more")
    index = ExactIndex(bank, engine)

    def predict(tokens: Tensor) -> Tensor:
        similarities, rows = index.search(F.normalize(tokens, dim=1), options.neighbours)
        return transfer(similarities, counts[rows], options.temperature)

    areas = score(features, val, predict, progress)
    return SegmentationResult(areas, val.classes, len(train.images), len(bank), len(val.images))


def transfer(similarities: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """Class shares [Q, K] by cross-attention: softmax of similarities [Q, k] / temperature over the neighbours' shares.

    `counts`: pixels of each class, [Q, k, K]; each neighbour has some.
    """
    weights = (similarities / temperature).softmax(dim=1) / counts.sum(dim=2)
    return torch.bmm(weights[:, None], counts.to(weights.dtype))[:, 0]


def choose_patches(counts: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Ascending indices of at most `most` labelled patches of an image, those with rare classes more likely.

    Patches are taken in the order of u * (sum over their classes of the number of patches with that class), u uniform
    in [0, 1), smallest first, as open-hummingbird-eval fills its memory. `counts`: see `patch_counts`, on the CPU.
    """
    has = counts > 0  # [N, K]
    candidates = has.any(dim=1).nonzero()[:, 0]
    if len(candidates) <= most:
        return candidates
    frequency = (has * has.sum(dim=0)).sum(dim=1)[candidates]
    order = (torch.rand(len(candidates), generator=generator) * frequency).argsort(stable=True)
    return candidates[order[:most]].sort().values


def _bank(
    features: ImageFeatures, train: SemanticImages, options: DenseRetrieval, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Unit features [M, C] and labels int16 [M, K] of the chosen patches."""
    keys, labels = [], []
    for tokens, counts in _chosen(features, train, options, progress):
        keys.append(F.normalize(tokens, dim=1))
        labels.append(counts)
    if not sum(map(len, labels)):
        raise DataError(f"no patch of the {len(train.images)} training images has a class; name another split")
    return torch.cat(keys), torch.cat(labels)


def _chosen(
    features: ImageFeatures, train: SemanticImages, options: DenseRetrieval, progress: Progress
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(options.seed)
    share, rest = divmod(options.max_patches, len(train.images))
    for i, (tokens, counts) in enumerate(labelled_patches(features, train, train.images)):
        chosen = choose_patches(counts.cpu(), share + (i < rest), generator).to(features.device)
        yield tokens[chosen], counts[chosen]
        progress("training images", i + 1, len(train.images))
