"""UAVDT's two scores as an OpenMMLab metric: COCO's statistics, and the AP of the official toolkit."""

import os
from pathlib import Path

from mmengine.registry import METRICS

from flsl_bench.datasets.uavdt import read_attributes
from flsl_bench.errors import DataError
from flsl_bench.metrics.uavdt_coco import official_score, read_truth
from flsl_bench.openmmlab.coco_metric import CocoAP


@METRICS.register_module()
class UavdtAP(CocoAP):
    """COCO's twelve statistics for boxes, "box_AP" and so on, and "official_AP"; in percent, undefined ones left out.

    `ann_file` is the JSON that `flsl-bench data convert-uavdt` writes. After an evaluation `breakdowns` has the
    official AP by occlusion and by out-of-view; by attribute too if a file `sequence_attributes.json`, a list of
    attributes for each sequence, lies beside `ann_file`. The toolkit defines such attributes, but the suite ships no
    table of them.

    Raises `DataError` when it is built if either file lacks something.
    """

    default_prefix = "uavdt"

    def __init__(self, ann_file: str | os.PathLike, **options):
        super().__init__(ann_file=str(ann_file), **options)
        try:
            self._truth = read_truth(self._coco_api.dataset)
        except DataError as error:
            raise DataError(f"{ann_file}: {error}") from error
        self._attributes = read_attributes(
            Path(ann_file).with_name("sequence_attributes.json"), set(self._truth.sequence_of_frame.values())
        )
        self.breakdowns: dict[str, dict[str, float | None]] = {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        scores = super().compute_metrics(results)
        predictions = [prediction for _, prediction in results]
        found = official_score(
            self._truth.of_frames({prediction["img_id"] for prediction in predictions}),
            [d for p in predictions for d in self._detections(p, "bbox")],
            self._attributes,
        )
        self.breakdowns = found.breakdowns
        return scores if found.ap is None else scores | {"official_AP": found.ap}
