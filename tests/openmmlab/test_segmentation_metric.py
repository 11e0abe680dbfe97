"""mIoU as mmseg's runner computes it: label maps through mmseg's own pipeline, scores of every class."""

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

# First, as a config's custom_imports does.
import flsl_bench.openmmlab  # noqa: F401

# isort: split
from mmengine.registry import METRICS, DefaultScope
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS
from PIL import Image

from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.errors import DataError
from flsl_bench.openmmlab.config import apply_knobs, load_config
from flsl_bench.paths import CHECKOUT

CONFIG = CHECKOUT / "mmconfigs/semfpn_vits16_flsl_ade20k.py"


@pytest.fixture(scope="module", autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def validation_set(root):
    """The val data set of the published config, with its pipeline, on the data in `root`."""
    config = load_config(CONFIG, {"data_root": str(root), "init_checkpoint": None})
    apply_knobs(config)
    return DATASETS.build(config.val_dataloader.dataset)


def evaluated(dataset, predict, metric=None):
    """The metric after the evaluation of `dataset`, and its scores; `predict` makes predictions of truths [1, H, W]."""
    metric = metric or METRICS.build(dict(type="SegmentationIoU"))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"].to_dict()
        sample["pred_sem_seg"] = {"data": predict(sample["gt_sem_seg"]["data"])}
        metric.process({}, [sample])
    return metric, metric.evaluate(len(dataset))


def perfect(truth):
    return torch.where(truth == 255, 0, truth)


def noisy(truth):
    generator = torch.Generator().manual_seed(0)
    other = torch.randint(0, 150, truth.shape, generator=generator)
    return torch.where(torch.rand(truth.shape, generator=generator) < 0.4, other, perfect(truth))


@pytest.fixture
def one_map(tmp_path):
    """A folder whose only validation image has a label map of 0, 1, 150 and 2 in four quarters."""
    labels = np.repeat(np.repeat(np.array([[0, 1], [150, 2]], np.uint8), 10, axis=0), 12, axis=1)
    for kind in ("images", "annotations"):
        (tmp_path / kind / "validation").mkdir(parents=True)
    Image.fromarray(labels).save(tmp_path / "annotations/validation/ADE_val_00000001.png")
    Image.new("RGB", (24, 20)).save(tmp_path / "images/validation/ADE_val_00000001.jpg")
    return tmp_path


def test_the_pipeline_makes_labels_from_zero_and_ignores_the_unlabelled(one_map):
    sample = validation_set(one_map)[0]
    truth = sample["data_samples"].gt_sem_seg.data[0]
    assert sample["inputs"].shape[1:] == (512, 614)
    assert truth.shape == (20, 24)  # the label map keeps its own size
    assert [int(truth[y, x]) for y, x in ((0, 0), (0, 12), (10, 0), (10, 12))] == [255, 0, 149, 1]


def test_the_unlabelled_is_not_scored_and_every_class_has_its_name(one_map):
    metric, scores = evaluated(validation_set(one_map), lambda truth: torch.where(truth == 149, 149, 0))
    # Class 0 takes the quarter of class 1, and the unlabelled quarter, which does not count.
    assert scores["segmentation/mIoU"] == pytest.approx((50 + 0 + 100) / 3)
    assert scores["segmentation/mAcc"] == pytest.approx((100 + 0 + 100) / 3)
    assert scores["segmentation/aAcc"] == pytest.approx(100 * 2 / 3)
    assert scores["segmentation/mIoU_150"] == pytest.approx(150 / 150)
    iou, accuracy = metric.breakdowns["IoU by class"], metric.breakdowns["Acc by class"]
    assert list(iou) == list(accuracy) == list(CLASSES)
    assert {name: value for name, value in iou.items() if value is not None} == {"wall": 50, "building": 0, "flag": 100}


def test_the_annotation_as_prediction_is_100_over_the_classes_present(shared):
    metric, scores = evaluated(validation_set(shared / "data/ADEChallengeData2016"), perfect)
    assert sum(value is not None for value in metric.breakdowns["IoU by class"].values()) == 15
    assert scores["segmentation/mIoU"] == 100
    assert scores["segmentation/mIoU_150"] == 10


def test_agrees_with_the_metric_of_mmseg_but_for_its_rounding(shared):
    dataset = validation_set(shared / "data/ADEChallengeData2016")
    _, ours = evaluated(dataset, noisy)
    _, theirs = evaluated(dataset, noisy, IoUMetric())
    for name in ("mIoU", "mAcc", "aAcc"):
        assert ours[f"segmentation/{name}"] == pytest.approx(float(theirs[name]), abs=0.006)
    assert 0 < ours["segmentation/mIoU"] < ours["segmentation/aAcc"] < 100


def test_a_label_that_no_class_has_names_the_file(one_map):
    path = one_map / "annotations/validation/ADE_val_00000001.png"
    Image.new("L", (24, 20), 151).save(path)
    with pytest.raises(DataError, match=rf"{path}: label map cannot be scored: truth has labels 150 to 150 where 0 to"):
        evaluated(validation_set(one_map), torch.zeros_like)
