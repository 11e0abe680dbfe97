"""What the probes of semantic segmentation share: labelled patches, and the score of predicted patches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from flsl_bench.datasets.semantic import VOID, SemanticImage, SemanticImages
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.metrics.segmentation import Areas, count_areas, iou_by_class, summarise
from flsl_bench.probes.image_features import ImageFeatures, PatchFeatures, Progress
from flsl_bench.probes.patch_labels import class_map, patch_counts


@dataclass(frozen=True)
class SegmentationResult:
    """The scores of predicted label maps, and what they were predicted from."""

    areas: Areas
    classes: tuple[str, ...]
    train_images: int
    train_patches: int
    """Labelled patches that were learned from."""
    val_images: int

    def metrics(self) -> dict[str, float | None]:
        """mIoU, mAcc and aAcc in percent, see `metrics.segmentation.summarise`; None if no pixel has a class."""
        scores = summarise(self.areas)
        return {name: scores.get(name) for name in ("mIoU", "mAcc", "aAcc")}

    def breakdowns(self) -> dict[str, dict[str, float | None]]:
        """IoU in percent by class; None for a class that is neither there nor predicted."""
        iou = iou_by_class(self.areas).tolist()
        return {"IoU by class": {c: None if v != v else v for c, v in zip(self.classes, iou, strict=True)}}


def labelled(features: ImageFeatures, images: Sequence[SemanticImage]) -> Iterator[tuple[PatchFeatures, np.ndarray]]:
    """The features and the label map uint8 [H, W] of each image.

    Raises `DataError` for a label map of another size than its image's, `ConfigError` for a view of a part of it.
    """
    for image, taken in zip(images, features.many([image.path for image in images]), strict=True):
        label_map = image.label_map()
        if label_map.shape[::-1] != tuple(taken.image_size):
            (height, width), size = label_map.shape, taken.image_size
            raise DataError(f"{image.labels}: label map of {width}x{height} for an image of {size[0]}x{size[1]} pixels")
        if tuple(taken.geometry.resized) != tuple(taken.input_size):
            raise ConfigError("the view shows a part of each image, and all of it is labelled; use the view Resize")
        yield taken, label_map


def labelled_patches(
    features: ImageFeatures, data: SemanticImages, images: Sequence[SemanticImage]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The features [N, C] and the labels int16 [N, K] (see `patch_counts`) of each image's patches, on their device."""
    for taken, label_map in labelled(features, images):
        counts = patch_counts(label_map, taken.input_size, features.patch_size, len(data.classes))
        yield taken.tokens.flatten(1).t(), counts.to(features.device)


def score(
    features: ImageFeatures, val: SemanticImages, predict: Callable[[Tensor], Tensor], progress: Progress
) -> Areas:
    """The areas of what is predicted for a split, at the size of its label maps.

    `predict` makes scores [N, K] of features [N, C]; they are up-sampled bilinearly, and the largest is the class.
    """
    areas = Areas(*np.zeros((3, len(val.classes)), dtype=np.int64))
    for done, (taken, label_map) in enumerate(labelled(features, val.images), 1):
        scores = predict(taken.tokens.flatten(1).t()).t().unflatten(1, taken.tokens.shape[1:])
        areas += count_areas(class_map(scores, label_map.shape), label_map, len(val.classes), VOID)
        progress("validation images", done, len(val.images))
    return areas


def check_splits(train: SemanticImages, val: SemanticImages) -> None:
    """Raise a `DataError` for a split without images, and for splits of different classes."""
    for name, split in (("training", train), ("validation", val)):
        if not split.images:
            raise DataError(f"no {name} images; name another split")
    if train.classes != val.classes:
        raise DataError(f"{len(train.classes)} training and {len(val.classes)} validation classes are not the same")
