"""Semantic segmentation: exact pixel counts a class, and IoU and accuracy from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

IGNORE = 255
"""The label of pixels that are not scored."""


@dataclass(frozen=True)
class Areas:
    """Pixels of every class, int64 [K] each, over the scored pixels of any number of images; `+` adds images."""

    intersection: np.ndarray  # predicted and true
    prediction: np.ndarray
    truth: np.ndarray

    def __add__(self, other: "Areas") -> "Areas":
        return Areas(
            self.intersection + other.intersection, self.prediction + other.prediction, self.truth + other.truth
        )

    @property
    def union(self) -> np.ndarray:
        """Pixels that are of a class in the prediction, in the truth, or in both."""
        return self.prediction + self.truth - self.intersection


def count_areas(prediction: ArrayLike, truth: ArrayLike, num_classes: int, ignore: int = IGNORE) -> Areas:
    """The areas of one label map of integers [H, W] against the true one; pixels whose truth is `ignore` do not count.

    Raises:
        ValueError: the shapes differ, or a scored pixel has a label outside 0..num_classes - 1.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"a prediction of shape {prediction.shape} for a truth of shape {truth.shape}")
    scored = truth != ignore
    prediction, truth = (labels[scored].astype(np.int64) for labels in (prediction, truth))
    for what, labels in (("prediction", prediction), ("truth", truth)):
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(f"{what} has labels {labels.min()} to {labels.max()} where 0 to {num_classes - 1} exist")
    return Areas(*(np.bincount(m, minlength=num_classes) for m in (truth[prediction == truth], prediction, truth)))


def iou_by_class(areas: Areas) -> np.ndarray:
    """Intersection over union in percent, float64 [K]; NaN for a class in neither prediction nor truth."""
    return _percent(areas.intersection, areas.union)


def accuracy_by_class(areas: Areas) -> np.ndarray:
    """Share of a class's true pixels that were found, in percent, float64 [K]; NaN for a class not in the truth."""
    return _percent(areas.intersection, areas.truth)


def summarise(areas: Areas) -> dict[str, float]:
    """The scores of a data set in percent, unrounded; empty if nothing was scored.

    "mIoU": mean IoU over the classes in prediction or truth (mmsegmentation's convention, and the papers'); "mAcc":
    mean accuracy over the classes in the truth; "aAcc": share of right pixels; "mIoU_K", with K the number of classes:
    sum of the IoUs over K, so that an absent class counts 0 (the official demo, in
    CSAILVision/sceneparsing). Both mIoU are equal where all classes are present, as in ADE20K's validation set.
    """
    if not areas.truth.any():
        return {}
    iou, accuracy = iou_by_class(areas), accuracy_by_class(areas)
    return {
        "mIoU": float(np.nanmean(iou)),
        "mAcc": float(np.nanmean(accuracy)),
        "aAcc": float(100 * areas.intersection.sum() / areas.truth.sum()),
        f"mIoU_{len(iou)}": float(np.nansum(iou) / len(iou)),
    }


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(100 * part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
