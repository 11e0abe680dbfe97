"""Semantic segmentation by one linear layer on frozen patch tokens, trained in minutes.

The head is the field's: batch normalisation, then a 1x1 convolution (DINOv2, arXiv 2304.07193, section 7.4), on the one
block that the features are of. The loss is the cross entropy of pixels under logits up-sampled by nearest, which needs
no up-sampling: each patch's logits are weighed by how many of its pixels are of each class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flsl_bench.datasets.semantic import SemanticImages
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.image_features import ImageFeatures, Progress, no_progress
from flsl_bench.probes.segmentation import (
    SegmentationResult,
    check_splits,
    labelled_patches,
    score,
)


@dataclass(frozen=True)
class LinearSegmentation:
    """The protocol, ours. Raises `ConfigError` for values that mean nothing."""

    epochs: int = 20
    batch: int = 16
    """Images a step."""
    learning_rate: float = 1e-3
    """Of AdamW; falls linearly to 0."""
    weight_decay: float = 1e-4
    seed: int = 0
    """Of the initial weights and the order of images."""

    def __post_init__(self):
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give 1 or more")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate={self.learning_rate}: give a number above 0")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay={self.weight_decay}: give 0 or more")


def linear_segmentation(
    features: ImageFeatures,
    train: SemanticImages,
    val: SemanticImages,
    options: LinearSegmentation | None = None,
    *,
    keep_bytes: int = 4 << 30,
    progress: Progress | None = None,
) -> SegmentationResult:
    """mIoU of the validation images, segmented by a linear layer trained on the training images.

    Args:
        features: of whole images (view `Resize`).
        keep_bytes: of training features held in memory, on the device of `features`. The rest is asked for again each
            epoch: give `features` a cache, or the ViT runs again.
        progress: called with what is done, the steps or images done and those in all.

    One seed gives one result on one device with one number of threads. Raises `DataError` for no images or no labelled
    patch to learn from, `ConfigError` for a view of parts of images or of a single patch.
    """
    options, progress = options or LinearSegmentation(), progress or no_progress
    check_splits(train, val)
    patches = _TrainingPatches(features, train, keep_bytes, progress)
    head, labelled = _train(patches, options, progress)
    with torch.no_grad():
        areas = score(features, val, head.eval(), progress)
    return SegmentationResult(areas, val.classes, len(train.images), labelled, len(val.images))


def patch_loss(logits: Tensor, counts: Tensor) -> Tensor:
    """Mean cross entropy over the labelled pixels of patches with logits [N, K] and pixels [N, K] of each class."""
    return -(counts * F.log_softmax(logits, dim=1)).sum() / counts.sum()


class _TrainingPatches:
    """The patches of training images, kept in memory as far as they fit."""

    def __init__(self, features: ImageFeatures, data: SemanticImages, keep_bytes: int, progress: Progress):
        self.features, self.data = features, data
        self.kept: list[tuple[Tensor, Tensor]] = []
        for tokens, counts in labelled_patches(features, data, data.images):
            counts = counts.to_sparse()  # a patch has few classes
            keep_bytes -= tokens.nbytes + counts.values().nbytes + counts.indices().nbytes
            if keep_bytes < 0:
                break
            self.kept.append((tokens.contiguous(), counts))
            progress("training images", len(self.kept), len(data.images))

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The features [N, C] and the labels float32 [N, K] of all patches of some images."""
        missing = [i for i in indices if i >= len(self.kept)]
        read = dict(zip(missing, self._read(missing), strict=True))
        tokens, counts = zip(*(read[i] if i in read else self.kept[i] for i in indices), strict=True)
        return torch.cat(tokens), torch.cat([c.to_dense() for c in counts]).float()

    def _read(self, indices: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        return labelled_patches(self.features, self.data, [self.data.images[i] for i in indices])


def _train(patches: _TrainingPatches, options: LinearSegmentation, progress: Progress) -> tuple[nn.Module, int]:
    """The trained head, tokens [N, C] to logits [N, K], and the number of labelled patches that it saw an epoch."""
    images, generator = len(patches.data.images), torch.Generator().manual_seed(options.seed)
    head = _head(patches.features.vit.embed_dim, len(patches.data.classes), generator).to(patches.features.device)
    optimizer = torch.optim.AdamW(head.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    steps_an_epoch = -(-images // options.batch)
    steps, labelled = options.epochs * steps_an_epoch, 0
    for step in range(steps):
        if step % steps_an_epoch == 0:
            batches = iter(torch.randperm(images, generator=generator).split(options.batch))
        tokens, counts = patches.batch(next(batches).tolist())
        if step < steps_an_epoch:
            labelled += int(counts.any(dim=1).sum())
        if step == steps_an_epoch - 1 and not labelled:
            raise DataError(f"no patch of the {images} training images has a class; name another split")
        optimizer.param_groups[0]["lr"] = options.learning_rate * (1 - step / steps)
        _step(head, optimizer, tokens, counts)
        progress("steps", step + 1, steps)
    return head, labelled


def _head(channels: int, classes: int, generator: torch.Generator) -> nn.Module:
    """The normalisation has no gain and no bias of its own: the linear layer behind it has both."""
    linear = nn.Linear(channels, classes)
    nn.init.normal_(linear.weight, std=0.01, generator=generator)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.BatchNorm1d(channels, affine=False), linear)


def _step(head: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor, counts: Tensor) -> None:
    if len(tokens) < 2:
        raise ConfigError("a batch of a single patch cannot be normalised; use a larger view or batch")
    optimizer.zero_grad()
    if counts.any():  # else there is nothing to learn from
        patch_loss(head(tokens), counts).backward()
        optimizer.step()
