"""The official UAVDT score against a slow reference written from the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.datasets.uavdt import OCCLUSION, OUT_OF_VIEW
from flsl_bench.errors import DataError
from flsl_bench.metrics.uavdt import Evaluation, average_precision

TRUTH = [1, 10, 10, 20, 20]


def reference_iou(a, b):
    width = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    height = min(a[2] + a[4], b[2] + b[4]) - max(a[2], b[2])
    if a[0] != b[0] or width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[3] * a[4] + b[3] * b[4] - width * height)


def strictly_inside(box, region):
    return (
        box[0] == region[0]
        and box[1] > region[1]
        and box[2] > region[2]
        and box[1] + box[3] < region[1] + region[3]
        and box[2] + box[4] < region[2] + region[4]
    )


def reference_verdicts(detections, truths, ignores, counted, iou):
    """True, False or None (neither) for each detection that takes part, by falling score."""
    free = list(counted)
    verdicts = []
    for detection in sorted(detections, key=lambda row: -row[5]):
        if any(strictly_inside(detection, region) for region in ignores):
            continue
        best, best_iou = None, iou
        for i, truth in enumerate(truths):
            overlap = reference_iou(detection, truth)
            if free[i] and overlap >= iou and (best is None or overlap > best_iou):
                best, best_iou = i, overlap
        if best is not None:
            free[best] = False
            verdicts.append(True)
        elif any(reference_iou(detection, t) >= iou for t, c in zip(truths, counted, strict=True) if not c):
            verdicts.append(None)
        else:
            verdicts.append(False)
    return verdicts


def reference_ap(detections, truths, ignores, counted=None, iou=0.7):
    counted = [True] * len(truths) if counted is None else counted
    if not any(counted):
        return None
    recalls, precisions, right, wrong = [0.0], [0.0], 0, 0
    for verdict in reference_verdicts(detections, truths, ignores, counted, iou):
        right += verdict is True
        wrong += verdict is False
        if verdict is not None:
            recalls.append(right / sum(counted))
            precisions.append(right / (right + wrong))
    area = 0.0
    for i in range(1, len(recalls)):
        area += (recalls[i] - recalls[i - 1]) * max(precisions[i:])
    return area


@st.composite
def scenes(draw):
    """Detections, truths and regions of three frames on a coarse grid, so that ties and touching sides are common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    step = draw(st.sampled_from([1, 1, 10]))

    def boxes(most, sizes):
        n = draw(st.integers(0, most))
        columns = [rng.integers(1, 4, n), rng.integers(0, 8, n), rng.integers(0, 8, n), *rng.integers(*sizes, (2, n))]
        return np.stack(columns, axis=1) * np.array([1, step, step, step, step])

    truths = boxes(8, (1, 9))
    loose, ignores = boxes(6, (0, 9)), boxes(3, (2, 9))
    again = truths[rng.integers(0, len(truths), 8)] if len(truths) else truths
    shifted = again + np.array([0, 1, 1, 1, 1]) * rng.integers(-1, 2, again.shape)
    detections = rng.permutation(np.concatenate([loose, shifted]))[: draw(st.integers(0, 14))]
    detections[:, 3:] = np.maximum(detections[:, 3:], 0)
    scores = rng.choice([0.1, 0.5, 0.9], len(detections))
    return np.column_stack([detections, scores]), truths, ignores


def rows(*tables):
    return [table.tolist() for table in tables]


@settings(max_examples=300, deadline=None)
@given(scenes(), st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_average_precision_equals_the_reference(scene, iou):
    expected = reference_ap(*rows(*scene), iou=iou)
    assert average_precision(*scene, iou=iou) == (None if expected is None else pytest.approx(expected, abs=1e-12))


@settings(max_examples=200, deadline=None)
@given(scenes(), st.integers(0, 2**32 - 1))
def test_levels_equal_the_reference(scene, seed):
    levels = np.random.default_rng(seed).integers(1, 6, len(scene[1]))  # 5 has no name
    found = Evaluation(*scene, iou=0.5).by_level(levels, OCCLUSION)
    assert list(found) == ["none", "large", "medium", "small"]
    for level, name in OCCLUSION.items():
        expected = reference_ap(*rows(*scene), counted=(levels == level).tolist(), iou=0.5)
        assert found[name] == (None if expected is None else pytest.approx(expected, abs=1e-12))


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_attributes_equal_the_reference_on_their_frames(scene):
    sequences = {1: "M0203", 2: "M0205", 3: "M0205"}
    attributes = {"M0203": ["night", "fog"], "M0205": ["night"]}
    found = Evaluation(*scene, iou=0.5).by_attribute(sequences, attributes)
    assert list(found) == ["fog", "night"]
    for name, frames in (("fog", [1]), ("night", [1, 2, 3])):
        expected = reference_ap(*([row for row in table if row[0] in frames] for table in rows(*scene)), iou=0.5)
        assert found[name] == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_no_truth_is_no_score_and_no_detection_scores_nothing():
    assert average_precision([], [], []) is None
    assert average_precision([[1, 10, 10, 20, 20, 0.5]], [], []) is None
    assert average_precision([], [TRUTH], []) == 0.0


def test_a_known_curve():
    truths = [[1, 0, 0, 10, 10], [1, 50, 0, 10, 10], [2, 0, 0, 10, 10]]
    detections = [[1, 0, 0, 10, 10, 0.9], [1, 80, 80, 10, 10, 0.8], [2, 0, 0, 10, 10, 0.7], [2, 0, 0, 10, 10, 0.6]]
    assert average_precision(detections, truths, []) == pytest.approx((1 + 2 / 3) / 3)


def test_the_threshold_itself_matches():
    truth, detection = [1, 0, 0, 10, 10], [1, 0, 0, 7, 10, 0.5]
    assert average_precision([detection], [truth], []) == 1.0
    assert average_precision([detection], [truth], [], iou=0.71) == 0.0


def test_equal_scores_count_in_the_order_of_the_array():
    right, wrong = [1, 10, 10, 20, 20, 0.5], [1, 60, 10, 20, 20, 0.5]
    assert average_precision([right, wrong], [TRUTH], []) == 1.0
    assert average_precision([wrong, right], [TRUTH], []) == 0.5


def test_of_truths_that_overlap_equally_the_first_of_the_array_is_matched():
    left, right = [1, 0, 0, 10, 10], [1, 4, 0, 10, 10]
    detections = [[1, 2, 0, 10, 10, 0.9], [*left, 0.5]]
    assert average_precision(detections, [left, right], [], iou=0.5) == 0.5
    assert average_precision(detections, [right, left], [], iou=0.5) == 1.0


@pytest.mark.parametrize(
    ("region", "dropped"),
    [
        ([1, 59, 9, 22, 22], True),
        ([1, 60, 9, 22, 22], False),
        ([1, 59, 10, 22, 22], False),
        ([1, 59, 9, 21, 22], False),
        ([1, 59, 9, 22, 21], False),
        ([1, 60, 10, 20, 20], False),
        ([2, 0, 0, 200, 200], False),
    ],
)
def test_a_detection_is_dropped_only_strictly_inside_a_region_of_its_frame(region, dropped):
    detections = [[1, 60, 10, 20, 20, 0.9], [1, 10, 10, 20, 20, 0.5]]
    assert average_precision(detections, [TRUTH], [region]) == (1.0 if dropped else 0.5)


def test_a_truth_in_a_region_is_still_to_be_found():
    assert average_precision([[1, 10, 10, 20, 20, 0.5]], [TRUTH], [[1, 0, 0, 99, 99]]) == 0.0


def test_any_number_of_detections_may_lie_on_a_truth_of_another_level():
    detections = [[1, 60, 10, 20, 20, 0.9], [1, 60, 10, 20, 20, 0.8], [1, 10, 10, 20, 20, 0.5]]
    evaluation = Evaluation(detections, [TRUTH, [1, 60, 10, 20, 20]], [])
    assert evaluation.by_level([1, 2], OUT_OF_VIEW) == {"none": 1.0, "medium": 1.0, "small": None}
    assert evaluation.average_precision() == pytest.approx((1 + 2 / 3) / 2)


def test_inputs_that_cannot_be_scored_are_named():
    with pytest.raises(DataError, match=r"detections of shape \(1, 5\): give \[number, 6\]"):
        average_precision([TRUTH], [TRUTH], [])
    with pytest.raises(DataError, match=r"truths: row 1 has a value that is not finite"):
        average_precision([], [TRUTH, [1, 2, np.nan, 4, 5]], [])
    with pytest.raises(DataError, match=r"ignores: row 0 has a negative width or height"):
        average_precision([], [TRUTH], [[1, 2, 3, 4, -5]])
    with pytest.raises(DataError, match=r"iou 70: give a threshold over 0 and up to 1"):
        average_precision([], [TRUTH], [], iou=70)
    with pytest.raises(DataError, match=r"levels of shape \(2,\) for 1 truths: give one each"):
        Evaluation([], [TRUTH], []).by_level([1, 2], OCCLUSION)
    with pytest.raises(DataError, match=r"frame 1 belongs to no sequence"):
        Evaluation([], [TRUTH], []).by_attribute({}, {"M0203": []})
    with pytest.raises(DataError, match=r"sequence M0203 has no entry in attributes"):
        Evaluation([], [TRUTH], []).by_attribute({1: "M0203"}, {})
    with pytest.raises(DataError, match=r"attributes of M0203: 'night' is a string"):
        Evaluation([], [TRUTH], []).by_attribute({1: "M0203"}, {"M0203": "night"})
