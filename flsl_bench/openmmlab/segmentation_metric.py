"""Semantic segmentation scores as an OpenMMLab metric, exact and unrounded, with every class's own."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from flsl_bench.errors import DataError
from flsl_bench.metrics.segmentation import IGNORE, Areas, accuracy_by_class, count_areas, iou_by_class, summarise


@METRICS.register_module()
class SegmentationIoU(BaseMetric):
    """mIoU, mAcc, aAcc and mIoU_K by `flsl_bench.metrics.segmentation`, at the size of the label maps.

    "mIoU" is the mean over the classes that occur in prediction or truth, "mIoU_150" (of 150 classes) the sum over
    all divided by 150, see `summarise`. mmseg's own metric adds up float32 counts and rounds to two decimals. After an
    evaluation `breakdowns` holds IoU and accuracy by class, None where undefined. Values are in percent.
    """

    default_prefix = "segmentation"

    def __init__(self, ignore_index: int = IGNORE, collect_device: str = "cpu", prefix: str | None = None):
        super().__init__(collect_device, prefix)
        self.ignore_index = ignore_index
        self.breakdowns: dict[str, dict[str, float | None]] = {}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            prediction, truth = (
                sample[field]["data"].squeeze(0).cpu().numpy() for field in ("pred_sem_seg", "gt_sem_seg")
            )
            try:
                self.results.append(count_areas(prediction, truth, classes, self.ignore_index))
            except ValueError as error:
                raise DataError(f"{sample.get('seg_map_path')}: label map cannot be scored: {error}") from error

    def compute_metrics(self, results: list[Areas]) -> dict[str, float]:
        areas = reduce(add, results)
        self.breakdowns = {
            "IoU by class": self._by_class(iou_by_class(areas)),
            "Acc by class": self._by_class(accuracy_by_class(areas)),
        }
        return summarise(areas)

    def _by_class(self, values: np.ndarray) -> dict[str, float | None]:
        names = [name.strip() for name in self.dataset_meta["classes"]]  # mmseg has "bed "
        return {name: None if np.isnan(value) else value for name, value in zip(names, values.tolist(), strict=True)}
