"""Drawing what a segmentor predicts."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SegmentationDrawingHook(Hook):
    """Draws the truth (left) and the prediction (right) of every test image over it, into `test_out_dir`.

    mmseg's own hook cannot be told where its pictures go.
    """

    def __init__(self, test_out_dir: str):
        self.folder = Path(test_out_dir)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence = ()) -> None:
        for sample in outputs:
            image = mmcv.imread(sample.img_path, channel_order="rgb")
            name = Path(sample.img_path).name
            runner.visualizer.add_datasample(name, image, sample, out_file=str(self.folder / name))
