"""Drawing what a detector or a segmentor predicts: the truth on the left, the prediction on the right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement, InstanceData
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from flsl_bench.files import atomic_path
from flsl_bench.pictures import annotations, canvas
from flsl_bench.pictures.panels import FOLDER, LONG_SIDE, add_panel

SCORE_THRESHOLD = 0.3


@HOOKS.register_module()
class DrawingHook(Hook):
    """Draws every test image into `test_out_dir`, in a folder a sequence where the images have such.

    OpenMMLab's own hooks overwrite a frame by that of the same name in another sequence.
    """

    def __init__(self, test_out_dir: str):
        self.folder = Path(test_out_dir)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence = ()) -> None:
        dataset = runner.test_loop.dataloader.dataset
        for sample in outputs:
            picture = draw_sample(sample, _class_names(dataset), LONG_SIDE)
            path = self.folder / canvas.caption_of(sample.img_path, _image_root(dataset))
            with atomic_path(path) as temporary:
                Image.fromarray(picture).save(temporary, format="JPEG", quality=90)


class PanelHook(Hook):
    """Leaves panels of the first images of the last validation of a training, or of a test, in `<work_dir>/panels`.

    The main process draws what it evaluates. A picture that cannot be drawn is a warning: it must not end a run.
    """

    def __init__(self, count: int = 4):
        self.count = count
        self._left = count

    def before_val(self, runner) -> None:
        self._left = self.count if runner.iter >= runner.max_iters else 0

    def before_test(self, runner) -> None:
        self._left = self.count

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence = ()) -> None:
        self._add(runner, runner.val_loop.dataloader, outputs)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence = ()) -> None:
        self._add(runner, runner.test_loop.dataloader, outputs)

    def _add(self, runner, loader: DataLoader, samples: Sequence[BaseDataElement]) -> None:
        if not self._left or not is_main_process():
            return
        for sample in samples[: self._left]:
            self._left -= 1
            try:
                what = "Segmentation" if "pred_sem_seg" in sample else "Detections"
                caption = canvas.caption_of(sample.img_path, _image_root(loader.dataset))
                picture = draw_sample(sample, _class_names(loader.dataset), LONG_SIDE // 2)
                folder = Path(runner.work_dir) / FOLDER
                add_panel(folder, f"{what}: truth (left), prediction (right)", caption, picture)
            except Exception as error:
                runner.logger.warning(f"no panel of {sample.get('img_path')}: {type(error).__name__}: {error}")


def draw_sample(sample: BaseDataElement, names: Sequence[str], long_side: int) -> np.ndarray:
    """Truth beside prediction of mmdet's or mmseg's data sample, uint8 RGB, each at most `long_side` pixels a side.

    Instances are drawn from a score of 0.3; a side without annotations or predictions is the plain image.
    """
    image = canvas.read_picture(sample.img_path, long_side)
    if "pred_sem_seg" in sample:
        maps = [sample.get(field) for field in ("gt_sem_seg", "pred_sem_seg")]
        labels = [found.data.squeeze(0).cpu().numpy() for found in maps if found is not None]
        sides = [image] * (2 - len(labels)) + [annotations.draw_label_map(image, one, len(names)) for one in labels]
        return annotations.with_label_legend(canvas.beside(*sides), labels, names)
    instances = (sample.get("gt_instances"), sample.get("pred_instances"))
    return canvas.beside(*(_draw_instances(image, one, sample.ori_shape, names) for one in instances))


def _draw_instances(
    image: np.ndarray, instances: InstanceData | None, shape: tuple[int, int], names: Sequence[str]
) -> np.ndarray:
    if instances is None:
        return image
    if "scores" in instances:
        instances = instances[instances.scores >= SCORE_THRESHOLD]
    masks = instances.get("masks")
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else masks.cpu().numpy()
    boxes = getattr(instances.bboxes, "tensor", instances.bboxes)
    return annotations.draw_instances(
        image,
        boxes.cpu().numpy(),
        instances.labels.tolist(),
        scores=instances.scores.tolist() if "scores" in instances else None,
        masks=masks,
        names=names,
        image_size=(shape[1], shape[0]),
    )


def _class_names(dataset: Dataset) -> list[str]:
    return [name.strip() for name in dataset.metainfo["classes"]]  # mmseg has "bed "


def _image_root(dataset: Dataset) -> str | None:
    prefix = dataset.data_prefix
    return prefix.get("img") or prefix.get("img_path")
