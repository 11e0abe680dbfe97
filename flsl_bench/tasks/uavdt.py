"""UAVDT: Faster R-CNN on the checkpoint's backbone, COCO's box AP and the official AP on the test sequences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flsl_bench import __version__
from flsl_bench.datasets.coco import Wording
from flsl_bench.metrics.coco import STATISTICS, engine_version
from flsl_bench.results.record import Split
from flsl_bench.tasks.base import MetricSpec
from flsl_bench.tasks.coco import inspect
from flsl_bench.tasks.openmmlab import OpenMMLabTask

if TYPE_CHECKING:
    from mmengine.config import Config

_CONVERT = "make it with flsl-bench data convert-uavdt --gt GT --images UAV-benchmark-M --out DIR"
_LAYOUT = """DIR/
  annotations/uavdt_train.json, uavdt_test.json
  UAV-benchmark-M/M0101/img000001.jpg ..."""
WORDING = Wording(folder_cure=_CONVERT, file_cure=_CONVERT, layout=_LAYOUT)


class Uavdt(OpenMMLabTask):
    """Faster R-CNN on UAVDT, 12 epochs; primary metric box AP.

    Its "val" split is UAVDT's test. FLSL published no protocol for UAVDT; this one is the suite's own.
    """

    name = "uavdt"
    title = "UAVDT object detection"
    dataset = data_name = "uavdt"
    protocol = ("uavdt_fasterrcnn_vit_fpn_1x", "1")
    config_pattern = "mmconfigs/fasterrcnn_{size}_flsl_uavdt.py"
    cost = "12 epochs of 23,829 frames"
    metrics = (*(MetricSpec(f"box_{statistic}") for statistic in STATISTICS), MetricSpec("official_AP"))

    def inspect_data(self, config: "Config", splits: Sequence[str]) -> dict[str, Split]:
        return {split: inspect(config[f"{split}_dataloader"].dataset, WORDING) for split in splits}

    def evaluator(self) -> str:
        return f"{engine_version()}, flsl_bench {__version__} for official_AP"
