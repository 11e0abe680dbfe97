"""ADE20K: semantic segmentation by a Semantic FPN, UperNet or a linear layer on the checkpoint's backbone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flsl_bench import __version__
from flsl_bench.datasets.ade20k import SplitFiles, inspect_split
from flsl_bench.results.record import Split
from flsl_bench.tasks.base import MetricSpec
from flsl_bench.tasks.openmmlab import OpenMMLabTask

if TYPE_CHECKING:
    from mmengine.config import Config


class Ade20k(OpenMMLabTask):
    """Semantic segmentation of ADE20K's 150 classes; primary metric mIoU, the mean over the classes that occur.

    `mIoU_150` divides by all 150 classes instead, as the official demo does; see `flsl_bench.metrics.segmentation`.
    """

    dataset = data_name = "ade20k"
    metrics = tuple(MetricSpec(name) for name in ("mIoU", "mAcc", "aAcc", "mIoU_150"))

    def __init__(self, name: str, title: str, head: str, protocol: str, iterations: int):
        self.name = name
        self.title = f"ADE20K semantic segmentation, {title}"
        self.protocol = (protocol, "1")
        self.config_pattern = f"mmconfigs/{head}_{{size}}_flsl_ade20k.py"
        self.cost = f"{iterations:,} iterations of 16 crops of 512 x 512 pixels"

    def inspect_data(self, config: "Config", splits: Sequence[str]) -> dict[str, Split]:
        return {split: _inspect(config[f"{split}_dataloader"].dataset) for split in splits}

    def evaluator(self) -> str:
        return f"flsl_bench {__version__}"


TASKS = (
    Ade20k("ade20k", "Semantic FPN", "semfpn", "ade20k_semfpn_40k", 40_000),
    Ade20k("ade20k-upernet", "UperNet", "upernet", "ade20k_upernet_160k", 160_000),
    Ade20k("ade20k-linear", "a linear layer on frozen features", "linear", "ade20k_linear_160k", 160_000),
)


def _inspect(dataset: Mapping[str, Any]) -> Split:
    root, prefix = Path(dataset["data_root"]), dataset["data_prefix"]
    found = inspect_split(SplitFiles(root / prefix["img_path"], root / prefix["seg_map_path"]))
    return Split(images=found.images, bytes=found.bytes, annotations_sha256=found.annotations_sha256)
