"""Drawing hooks on data samples as mmdet and mmseg hand them over."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmdet")

# First, as a config's custom_imports does: mmdet looks up mmcv's operators once, as it is imported.
import flsl_bench.openmmlab  # noqa: F401

# isort: split
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from flsl_bench.openmmlab.drawing import DrawingHook, PanelHook, draw_sample
from flsl_bench.pictures.panels import find_panels

SIZE = (60, 100)  # height, width


@pytest.fixture
def frames(tmp_path):
    """Three frames, two of them of one name."""
    paths = [tmp_path / "images" / name for name in ("M1/1.jpg", "M2/1.jpg", "M2/2.jpg")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (100, 100, 100)).save(path)
    return paths


def detection(path, truth=True, predicted=True):
    sample = DetDataSample(metainfo={"img_path": str(path), "ori_shape": SIZE})
    masks = np.zeros((1, *SIZE), np.uint8)
    masks[:, 10:50, 10:40] = 1
    box = torch.tensor([[10.0, 10, 40, 50]])
    if truth:
        sample.gt_instances = InstanceData(bboxes=box, labels=torch.tensor([0]), masks=BitmapMasks(masks, *SIZE))
    if predicted:
        scores = torch.tensor([0.9, 0.1])
        boxes = torch.cat([box, box + 40])
        found = torch.from_numpy(masks).bool().repeat(2, 1, 1)
        sample.pred_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 0]), scores=scores, masks=found)
    return sample


def segmentation(path, truth=True):
    sample = SegDataSample(metainfo={"img_path": str(path), "ori_shape": SIZE})
    labels = torch.zeros(1, *SIZE, dtype=torch.long)
    if truth:
        sample.gt_sem_seg = PixelData(data=labels)
    sample.pred_sem_seg = PixelData(data=labels + 1)
    return sample


def runner(folder, prefix, iteration=10):
    dataset = SimpleNamespace(metainfo={"classes": ("cat", "dog ")}, data_prefix={"img": str(prefix)})
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    logger = logging.getLogger("drawing")
    return SimpleNamespace(work_dir=folder, iter=iteration, max_iters=10, val_loop=loop, test_loop=loop, logger=logger)


@pytest.mark.parametrize(("truth", "predicted"), [(True, True), (False, True), (True, False), (False, False)])
def test_a_detector_is_drawn_with_or_without_truth_and_prediction(frames, truth, predicted):
    picture = draw_sample(detection(frames[0], truth, predicted), ["cat", "dog"], 500)
    assert picture.shape == (60, 206, 3)
    plain = np.array([100, 100, 100])
    assert (np.abs(picture[40, 25] - plain).max() > 10) == truth
    assert (np.abs(picture[40, 106 + 25] - plain).max() > 10) == predicted
    assert np.abs(picture[30:, 106 + 60 :].astype(int) - plain).max() <= 10  # below the threshold


@pytest.mark.parametrize("truth", [True, False])
def test_a_segmentor_is_drawn_with_or_without_truth(frames, truth):
    picture = draw_sample(segmentation(frames[0], truth), ["cat", "dog"], 500)
    left, right = picture[30, 50].astype(int), picture[30, 156].astype(int)
    assert picture.shape[1] == 206 and picture.shape[0] > 60
    assert np.abs(left - right).max() > 20
    assert (np.abs(left - 100).max() <= 3) == (not truth)


def test_test_pictures_of_frames_of_one_name_are_all_kept(frames, tmp_path):
    hook = DrawingHook(str(tmp_path / "drawn"))
    hook.after_test_iter(runner(tmp_path, tmp_path / "images"), 0, outputs=[detection(path) for path in frames])
    drawn = sorted(str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*.jpg"))
    assert drawn == ["M1/1.jpg", "M2/1.jpg", "M2/2.jpg"]


def test_panels_of_the_first_images_of_the_last_validation(frames, tmp_path):
    hook = PanelHook(count=2)
    for iteration, expected in ((5, []), (10, ["M1/1.jpg", "M2/1.jpg"])):
        run = runner(tmp_path / "work", tmp_path / "images", iteration)
        hook.before_val(run)
        for number, path in enumerate(frames):
            hook.after_val_iter(run, number, outputs=[detection(path)])
        assert [panel.caption for panel in find_panels(tmp_path / "work")] == expected
    assert find_panels(tmp_path / "work")[0].title == "Detections: truth (left), prediction (right)"


def test_panels_of_a_test(frames, tmp_path):
    hook, run = PanelHook(), runner(tmp_path / "work", tmp_path / "images")
    hook.before_test(run)
    hook.after_test_iter(run, 0, outputs=[segmentation(path) for path in frames])
    assert [panel.title for panel in find_panels(tmp_path / "work")] == [
        "Segmentation: truth (left), prediction (right)"
    ] * 3


def test_a_picture_that_cannot_be_drawn_is_a_warning(frames, tmp_path, caplog):
    hook, run = PanelHook(), runner(tmp_path / "work", tmp_path / "images")
    hook.before_test(run)
    with caplog.at_level(logging.WARNING):
        hook.after_test_iter(run, 0, outputs=[detection(tmp_path / "gone.jpg"), detection(frames[0])])
    assert "no panel of" in caplog.text and "gone.jpg" in caplog.text
    assert [panel.caption for panel in find_panels(tmp_path / "work")] == ["M1/1.jpg"]
