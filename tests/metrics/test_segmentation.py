"""Segmentation scores against pixel-by-pixel counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flsl_bench.metrics.segmentation import Areas, accuracy_by_class, count_areas, iou_by_class, summarise

CLASSES = 4


@st.composite
def maps(draw):
    """A prediction and a truth of one size, with pixels to ignore; empty ones too."""
    shape = draw(st.tuples(st.integers(0, 5), st.integers(1, 5)))
    prediction = draw(arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1)))
    truth = draw(arrays(np.uint8, shape, elements=st.sampled_from([*range(CLASSES), 255])))
    return prediction, truth


def plain_scores(pairs):
    """IoU and accuracy by class (None where undefined) and the share of right pixels, counted in sets of pixels."""
    pixels = [
        (image, int(p), int(t))
        for image, (prediction, truth) in enumerate(pairs)
        for p, t in zip(prediction.ravel(), truth.ravel(), strict=True)
        if t != 255
    ]
    iou, accuracy = [], []
    for c in range(CLASSES):
        both = sum(p == c and t == c for _, p, t in pixels)
        either = sum(p == c or t == c for _, p, t in pixels)
        true = sum(t == c for _, _, t in pixels)
        iou.append(100 * both / either if either else None)
        accuracy.append(100 * both / true if true else None)
    right = 100 * sum(p == t for _, p, t in pixels) / len(pixels) if pixels else None
    return iou, accuracy, right


def mean(values):
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined)


@given(st.lists(maps(), min_size=1, max_size=3))
def test_equals_counting_pixel_by_pixel(pairs):
    areas = count_areas(*pairs[0], CLASSES)
    for pair in pairs[1:]:
        areas = areas + count_areas(*pair, CLASSES)
    iou, accuracy, right = plain_scores(pairs)
    for found, expected in ((iou_by_class(areas), iou), (accuracy_by_class(areas), accuracy)):
        assert found.tolist() == pytest.approx([np.nan if e is None else e for e in expected], nan_ok=True)
    if right is None:
        assert summarise(areas) == {}
        return
    expected = {"mIoU": mean(iou), "mAcc": mean(accuracy), "aAcc": right}
    expected[f"mIoU_{CLASSES}"] = sum(value or 0 for value in iou) / CLASSES
    assert summarise(areas) == pytest.approx(expected)


def test_of_a_known_map():
    truth = np.array([[0, 0, 1], [1, 255, 255]])
    prediction = np.array([[0, 2, 1], [1, 1, 2]])  # one pixel of class 0 is taken for class 2; two are ignored
    areas = count_areas(prediction, truth, CLASSES)
    np.testing.assert_array_equal(areas.intersection, [1, 2, 0, 0])
    np.testing.assert_array_equal(areas.union, [2, 2, 1, 0])
    np.testing.assert_array_equal(iou_by_class(areas), [50, 100, 0, np.nan])
    np.testing.assert_array_equal(accuracy_by_class(areas), [50, 100, np.nan, np.nan])
    assert summarise(areas) == {"mIoU": 50, "mAcc": 75, "aAcc": 75, "mIoU_4": 37.5}


def test_counts_are_exact_where_float32_is_not():
    many = np.array([2**24, 0, 0, 0])
    areas = Areas(many, many, many) + count_areas([[0]], [[0]], CLASSES)
    assert areas.intersection.dtype == np.int64
    assert areas.intersection[0] == 2**24 + 1


def test_a_perfect_prediction_of_few_classes_is_100_and_their_share_of_all():
    truth = np.array([[7, 9, 255]])
    scores = summarise(count_areas(np.array([[7, 9, 3]]), truth, 150))
    assert scores == {"mIoU": 100, "mAcc": 100, "aAcc": 100, "mIoU_150": pytest.approx(100 * 2 / 150)}


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 1]], [[0], [1]], r"a prediction of shape \(1, 2\) for a truth of shape \(2, 1\)"),
        ([[0, 4]], [[0, 1]], "prediction has labels 0 to 4 where 0 to 3 exist"),
        ([[0, -1]], [[0, 1]], "prediction has labels -1 to 0 where 0 to 3 exist"),
        ([[0, 1]], [[0, 254]], "truth has labels 0 to 254 where 0 to 3 exist"),
    ],
)
def test_labels_that_do_not_exist_are_refused(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        count_areas(prediction, truth, CLASSES)


def test_an_unknown_label_where_nothing_is_scored_does_not_matter():
    assert summarise(count_areas([[200, 1]], [[255, 1]], CLASSES))["mIoU"] == 100
