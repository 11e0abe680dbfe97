"""COCO 2017: Mask R-CNN on the checkpoint's backbone, box and mask AP on val2017."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flsl_bench.datasets.coco import COCO, SplitFiles, Wording, inspect_split
from flsl_bench.metrics.coco import STATISTICS, engine_version
from flsl_bench.results.record import Split
from flsl_bench.tasks.base import MetricSpec
from flsl_bench.tasks.openmmlab import OpenMMLabTask

if TYPE_CHECKING:
    from mmengine.config import Config


class Coco(OpenMMLabTask):
    """Mask R-CNN on COCO, 12 epochs; primary metric box AP."""

    name = "coco"
    title = "COCO detection and instance segmentation"
    dataset = data_name = "coco"
    protocol = ("coco_maskrcnn_vit_fpn_1x", "1")
    config_pattern = "mmconfigs/maskrcnn_{size}_flsl.py"
    cost = "12 epochs of 118,000 images"
    metrics = tuple(MetricSpec(f"{kind}_{statistic}") for kind in ("box", "mask") for statistic in STATISTICS)

    def inspect_data(self, config: "Config", splits: Sequence[str]) -> dict[str, Split]:
        return {split: inspect(config[f"{split}_dataloader"].dataset) for split in splits}

    def evaluator(self) -> str:
        return engine_version()


def inspect(dataset: Mapping[str, Any], wording: Wording = COCO) -> Split:
    """Check the split that a config's CocoDataset reads, and give its fingerprint; `wording` is for the messages."""
    root = Path(dataset["data_root"])
    found = inspect_split(SplitFiles(root / dataset["ann_file"], root / dataset["data_prefix"]["img"]), wording)
    return Split(images=found.images, bytes=found.bytes, annotations_sha256=found.annotations_sha256)
