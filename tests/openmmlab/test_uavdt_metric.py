"""UavdtAP on predictions as mmdet hands them over: two scores, ignore regions, levels, attributes."""

import json

import pytest
import torch

pytest.importorskip("mmdet")

# First, as a config's custom_imports does: mmdet looks up mmcv's operators once, as it is imported.
import flsl_bench.openmmlab  # noqa: F401

# isort: split
from mmengine.registry import METRICS

from flsl_bench.datasets.uavdt import CATEGORIES, convert
from flsl_bench.errors import DataError
from flsl_bench.metrics.coco import average_precision

SIZE = (540, 1024)  # height, width


@pytest.fixture
def annotations(tmp_path):
    """Two test sequences of two frames; large enough boxes of each category; a region in the second sequence."""
    folder = tmp_path / "GT"
    folder.mkdir()
    lines = {
        "M0205_gt_whole": ["1,1,100,100,60,40,1,1,1", "1,2,300,100,90,40,1,4,2", "2,1,110,100,60,40,1,1,1"],
        "M0205_gt_ignore": [],
        "M0801_gt_whole": ["1,1,100,100,60,40,3,1,3", "2,1,100,120,60,40,1,2,1"],
        "M0801_gt_ignore": ["1,9,500,200,300,200,1,-1,-1", "2,9,500,200,300,200,1,-1,-1"],
    }
    for name, texts in lines.items():
        (folder / f"{name}.txt").write_text("".join(f"{text}\n" for text in texts))
    return convert(folder, tmp_path).test.path


def predictions(annotations):
    """For each image id the true boxes as x0, y0, x1, y1, score, label."""
    found = {image["id"]: [] for image in json.loads(annotations.read_text())["images"]}
    for a in json.loads(annotations.read_text())["annotations"]:
        x, y, w, h = a["bbox"]
        if not a["iscrowd"]:
            found[a["image_id"]].append((x, y, x + w, y + h, 0.5, a["category_id"] - 1))
    return found


def evaluate(annotations, found):
    """The metric and its scores for all images of `found`."""
    metric = METRICS.build(dict(type="UavdtAP", ann_file=str(annotations), metric="bbox"))
    metric.dataset_meta = {"classes": tuple(CATEGORIES.values())}
    for image_id, rows in found.items():
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
        instances = dict(bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].long())
        metric.process({}, [dict(img_id=image_id, ori_shape=SIZE, pred_instances=instances)])
    return metric, metric.evaluate(len(found))


def test_perfect_predictions_score_full_marks(annotations):
    metric, scores = evaluate(annotations, predictions(annotations))
    assert scores["uavdt/box_AP"] == pytest.approx(100)
    assert scores["uavdt/official_AP"] == pytest.approx(100)
    assert metric.breakdowns == {
        "official AP by occlusion": {"none": 100.0, "large": 100.0, "medium": None, "small": 100.0},
        "official AP by out-of-view": {"none": 100.0, "medium": None, "small": 100.0},
    }


def test_the_other_scores_are_cocos(annotations):
    found = predictions(annotations)
    found[2050001][0] = (104, 103, 164, 143, 0.4, 0)
    found[2050002].append((400, 300, 450, 330, 0.8, 0))
    _, scores = evaluate(annotations, found)
    detections = [
        dict(image_id=image, category_id=int(label) + 1, bbox=[x, y, right - x, bottom - y], score=score)
        for image, rows in found.items()
        for x, y, right, bottom, score, label in rows
    ]
    expected = average_precision(annotations, detections, "bbox")
    assert 10 < expected["AP"] < 90
    own = {key.removeprefix("uavdt/box_"): value for key, value in scores.items() if "/box_" in key}
    assert own == pytest.approx({key: value for key, value in expected.items() if value is not None})


def test_the_official_score_knows_no_categories(annotations):
    found = {image: [(*row[:5], 2) for row in rows] for image, rows in predictions(annotations).items()}
    _, scores = evaluate(annotations, found)
    assert scores["uavdt/official_AP"] == pytest.approx(100)
    assert scores["uavdt/box_AP"] < 50


def test_what_is_in_an_ignore_region_costs_neither_score(annotations):
    found = predictions(annotations)
    found[8010001] += [(600, 250, 660, 290, 0.99, label) for label in range(3)]
    _, scores = evaluate(annotations, found)
    assert scores["uavdt/box_AP"] == scores["uavdt/official_AP"] == pytest.approx(100)
    found[2050001].append((600, 250, 660, 290, 0.99, 0))  # no region in that frame
    _, scores = evaluate(annotations, found)
    assert max(scores["uavdt/box_AP"], scores["uavdt/official_AP"]) < 95


def test_a_missed_level_is_zero_and_the_others_are_not(annotations):
    found = predictions(annotations)
    found[8010002] = []
    metric, _ = evaluate(annotations, found)
    by_occlusion = metric.breakdowns["official AP by occlusion"]
    assert by_occlusion == {"none": 100.0, "large": 0.0, "medium": None, "small": 100.0}


def test_no_prediction_at_all_scores_zero(annotations):
    _, scores = evaluate(annotations, {image: [] for image in predictions(annotations)})
    assert scores["uavdt/box_AP"] == scores["uavdt/official_AP"] == 0


def test_images_that_were_not_tested_do_not_count(annotations):
    found = predictions(annotations)
    _, scores = evaluate(annotations, {image: found[image] for image in (2050001, 2050002)})
    assert scores["uavdt/box_AP"] == scores["uavdt/official_AP"] == pytest.approx(100)


def test_attributes_beside_the_annotations_are_used(annotations):
    attributes = annotations.with_name("sequence_attributes.json")
    attributes.write_text(json.dumps({"M0205": ["daylight", "low-alt"], "M0801": ["night", "low-alt"]}))
    found = predictions(annotations)
    found[8010001] = found[8010002] = []
    metric, _ = evaluate(annotations, found)
    by_attribute = metric.breakdowns["official AP by attribute"]
    assert by_attribute == {"daylight": 100.0, "low-alt": pytest.approx(60), "night": 0.0}


def test_attributes_that_lack_a_sequence_are_refused_at_once(annotations):
    path = annotations.with_name("sequence_attributes.json")
    path.write_text(json.dumps({"M0205": []}))
    with pytest.raises(DataError, match=r"sequence_attributes\.json: sequence M0801 is missing; give it an empty list"):
        evaluate(annotations, {})


def test_a_json_of_another_converter_is_refused_at_once(annotations):
    content = json.loads(annotations.read_text())
    del content["annotations"][0]["occlusion"]
    annotations.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"uavdt_test\.json: annotation 1: field occlusion is missing; have flsl-bench"):
        evaluate(annotations, {})
