"""From UAVDT's COCO JSON and detections to the official score: what goes where, and what is refused."""

import json

import numpy as np
import pytest

from flsl_bench.datasets.uavdt import convert
from flsl_bench.errors import DataError
from flsl_bench.metrics.uavdt import average_precision
from flsl_bench.metrics.uavdt_coco import official_score, read_truth

CAR, TRUCK = 1, 2


def box(number, image, xywh, category=CAR, occlusion=1, out_of_view=1):
    shape = dict(bbox=xywh, area=xywh[2] * xywh[3], iscrowd=0)
    levels = dict(occlusion=occlusion, out_of_view=out_of_view)
    return dict(id=number, image_id=image, category_id=category, **shape, **levels)


def region(number, image, xywh, category):
    return dict(id=number, image_id=image, category_id=category, bbox=xywh, area=xywh[2] * xywh[3], iscrowd=1)


def detection(image, xywh, score=0.9, category=CAR):
    return dict(image_id=image, category_id=category, bbox=xywh, score=score)


@pytest.fixture
def content():
    """Two sequences of one frame each; the second has an ignore region, once for each category."""
    return {
        "images": [{"id": 1010001, "sequence": "M0101"}, {"id": 2030005, "sequence": "M0203"}],
        "annotations": [
            box(1, 1010001, [10, 10, 20, 10]),
            box(2, 1010001, [50, 10, 20, 10], TRUCK, occlusion=4),
            box(3, 2030005, [10, 10, 20, 10], out_of_view=3),
            *(region(3 + i, 2030005, [100, 100, 50, 50], i) for i in (1, 2, 3)),
        ],
    }


def perfect(content):
    return [detection(a["image_id"], a["bbox"]) for a in content["annotations"] if not a["iscrowd"]]


def test_the_truth_as_arrays(content):
    truth = read_truth(content)
    assert truth.boxes.tolist() == [[1010001, 10, 10, 20, 10], [1010001, 50, 10, 20, 10], [2030005, 10, 10, 20, 10]]
    assert truth.ignores.tolist() == [[2030005, 100, 100, 50, 50]] * 3
    assert truth.occlusion.tolist() == [1, 4, 1]
    assert truth.out_of_view.tolist() == [1, 1, 3]
    assert truth.sequence_of_frame == {1010001: "M0101", 2030005: "M0203"}


def test_perfect_detections_score_full_marks_in_every_part(content):
    score = official_score(read_truth(content), perfect(content), {"M0101": ["fog"], "M0203": []})
    assert score.ap == pytest.approx(100)
    assert score.breakdowns == {
        "official AP by occlusion": {"none": 100.0, "large": None, "medium": None, "small": 100.0},
        "official AP by out-of-view": {"none": 100.0, "medium": None, "small": 100.0},
        "official AP by attribute": {"fog": 100.0},
    }


def test_without_attributes_there_is_no_such_part(content):
    assert len(official_score(read_truth(content), perfect(content)).breakdowns) == 2


def test_categories_play_no_part(content):
    detections = [{**d, "category_id": 3} for d in perfect(content)]
    assert official_score(read_truth(content), detections).ap == pytest.approx(100)


def test_a_detection_in_an_ignore_region_is_dropped_and_one_outside_is_wrong(content):
    inside, outside = detection(2030005, [110, 110, 20, 10], 0.99), detection(1010001, [110, 110, 20, 10], 0.99)
    assert official_score(read_truth(content), [inside, *perfect(content)]).ap == pytest.approx(100)
    assert official_score(read_truth(content), [outside, *perfect(content)]).ap == pytest.approx(75)


def test_no_detections_and_no_truths(content):
    assert official_score(read_truth(content), []).ap == 0
    empty = read_truth({"images": content["images"], "annotations": []})
    assert official_score(empty, perfect(content)).ap is None


def test_the_truth_of_some_frames(content):
    truth = read_truth(content).of_frames({1010001})
    assert truth.boxes[:, 0].tolist() == [1010001, 1010001]
    assert len(truth.ignores) == 0
    assert truth.occlusion.tolist() == [1, 4]
    assert truth.out_of_view.tolist() == [1, 1]
    assert official_score(truth, perfect(content)[:2]).ap == pytest.approx(100)
    assert official_score(truth, perfect(content)[:1]).ap == pytest.approx(50)


@pytest.mark.parametrize("field", ["image_id", "bbox", "occlusion", "out_of_view"])
def test_a_box_without_a_field_is_refused(content, field):
    del content["annotations"][1][field]
    with pytest.raises(DataError, match=f"annotation 2: field {field} is missing; have flsl-bench data convert-uavdt"):
        read_truth(content)


def test_an_image_without_its_sequence_is_refused(content):
    del content["images"][1]["sequence"]
    with pytest.raises(DataError, match="image 2030005: field sequence is missing"):
        read_truth(content)


def test_real_files_score_as_their_lines_do(shared, tmp_path):
    """The text files, read by a plain loop, against the way through the converter."""
    folder = shared / "data/uavdt/GT"
    found = json.loads(convert(folder, tmp_path).test.path.read_text())
    truths, ignores = [], []
    for number, name in ((205, "M0205"), (208, "M0208"), (801, "M0801"), (1004, "M1004"), (1007, "M1007")):
        for kind, table in (("whole", truths), ("ignore", ignores)):
            for line in (folder / f"{name}_gt_{kind}.txt").read_text().splitlines():
                frame, _, x, y, w, h = map(int, line.split(",")[:6])
                right, bottom = min(x + w, 1024), min(y + h, 540)
                table.append((number * 10_000 + frame, max(x, 0), max(y, 0), right - max(x, 0), bottom - max(y, 0)))
    rng = np.random.default_rng(0)
    rows = np.array(truths, dtype=float)[rng.random(len(truths)) < 0.8]
    rows[:, 1:] += rng.integers(0, 4, size=(len(rows), 4))
    scores = rng.random(len(rows))
    detections = [detection(int(row[0]), row[1:].tolist(), s) for row, s in zip(rows, scores, strict=True)]
    expected = average_precision(np.column_stack([rows, scores]), truths, ignores)
    assert 0.1 < expected < 0.9
    assert official_score(read_truth(found), detections).ap == pytest.approx(100 * expected, abs=1e-9)
