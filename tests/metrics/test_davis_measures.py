"""J, F and their statistics against a slow reference written from the definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.errors import DataError
from flsl_bench.metrics.davis import Statistics, boundary_measure, frame_scores, region_similarity, statistics


def reference_j(result, truth, void):
    result, truth = result & ~void, truth & ~void
    return (result & truth).sum() / (result | truth).sum() if (result | truth).any() else 1.0


def reference_boundary(mask):
    """The pixels that differ from a neighbour to the right, below, or both, as coordinates."""
    h, w = mask.shape
    found = []
    for y in range(h):
        for x in range(w):
            steps = [(0, 1), (1, 0), (1, 1)] if y < h - 1 and x < w - 1 else [(0, 1)] if x < w - 1 else [(1, 0)]
            if (y, x) != (h - 1, w - 1) and any(mask[y + dy, x + dx] != mask[y, x] for dy, dx in steps):
                found.append((y, x))
    return np.array(found).reshape(-1, 2)


def reference_f(result, truth, void, tolerance):
    result, truth = reference_boundary(result & ~void), reference_boundary(truth & ~void)
    if not len(result) or not len(truth):
        return float(len(result) == len(truth))
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.sqrt(void.shape[0] ** 2 + void.shape[1] ** 2))
    near = ((result[:, None] - truth[None]) ** 2).sum(axis=2) <= radius**2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rectangles(draw, shape, values):
    """Object ids painted as a few rectangles, which may cover each other, touch the border, or be one pixel."""
    ids = np.zeros(shape, np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        h, w = draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1]))
        ids[y : y + h, x : x + w] = draw(st.sampled_from(values))
    return ids


@st.composite
def frames(draw, largest=24):
    """Result and truth ids [H, W] from 1x1 up: noise, rectangles, or both."""
    shape = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pair = []
    for _ in range(2):
        ids = rectangles(draw, shape, [0, 1, 1, 2, 3, 255])
        noisy = rng.random(shape) < draw(st.sampled_from([0, 0, 0.02, 0.5]))
        pair.append(np.where(noisy, rng.choice([0, 1, 2, 3, 255], shape), ids).astype(np.uint8))
    return tuple(pair)


@settings(max_examples=300, deadline=None)
@given(frames(), st.sampled_from([0.0, 0.008, 0.1, 0.3, 0.9, 1, 3, 40]))
def test_frames_equal_the_definition_object_by_object(pair, tolerance):
    result, truth = pair
    J, F = frame_scores(result, truth, [1, 2, 3, 7], tolerance=tolerance)
    for i, k in enumerate([1, 2, 3, 7]):
        masks = result == k, truth == k, truth == 255
        assert J[i] == pytest.approx(reference_j(*masks), abs=1e-12)
        assert F[i] == pytest.approx(reference_f(*masks, tolerance), abs=1e-12)
        assert (J[i], F[i]) == (region_similarity(*masks), boundary_measure(*masks, tolerance))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(60, 400), st.integers(0, 2**32 - 1), st.sampled_from([0.008, 63, 64, 65, 130]))
def test_shifts_over_whole_words_equal_the_definition(height, width, seed, tolerance):
    rng = np.random.default_rng(seed)
    result, truth = rng.random((2, height, width)) < 0.01
    void = np.zeros((height, width), bool)
    assert boundary_measure(result, truth, void, tolerance) == pytest.approx(
        reference_f(result, truth, void, tolerance), abs=1e-12
    )


def test_full_size_masks_equal_opencvs_dilation():
    cv2 = pytest.importorskip("cv2")
    disk = pytest.importorskip("skimage.morphology").disk
    rng = np.random.default_rng(0)
    result, truth = (cv2.GaussianBlur(rng.random((480, 854)), (0, 0), 12) > 0.5 for _ in range(2))
    found, expected = np.zeros((2, 480, 854), np.uint8)
    found[tuple(reference_boundary(result).T)] = 1
    expected[tuple(reference_boundary(truth).T)] = 1
    kernel = disk(8).astype(np.uint8)
    precision = (found & cv2.dilate(expected, kernel)).sum() / found.sum()
    recall = (expected & cv2.dilate(found, kernel)).sum() / expected.sum()
    f = 2 * precision * recall / (precision + recall)
    assert boundary_measure(result, truth) == pytest.approx(f, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "result", "truth", "j", "f"),
    [
        ((5, 5), [], [], 1, 1),
        ((5, 5), [(2, 2)], [], 0, 0),
        ((5, 5), [], [(2, 2)], 0, 0),
        ((5, 5), [(2, 2)], [(2, 2)], 1, 1),
        ((1, 1), [(0, 0)], [(0, 0)], 1, 1),
        ((1, 1), [(0, 0)], [], 0, 1),  # a frame of one pixel has no boundary
        ((9, 9), [(0, 0)], [(8, 8)], 0, 0),
    ],
)
def test_small_cases_by_hand(shape, result, truth, j, f):
    masks = np.zeros((2, *shape), bool)
    for mask, pixels in zip(masks, [result, truth], strict=True):
        for pixel in pixels:
            mask[pixel] = True
    assert region_similarity(*masks) == j
    assert boundary_measure(*masks) == f


def test_a_full_mask_has_no_boundary():
    full, empty = np.ones((6, 7), bool), np.zeros((6, 7), bool)
    assert boundary_measure(full, full) == 1
    assert boundary_measure(full, empty) == 1
    assert region_similarity(full, empty) == 0


def test_void_in_the_truth_counts_for_no_object():
    truth, result = np.zeros((2, 10, 10), np.uint8)
    truth[2:6, 2:6] = 1
    truth[6, :] = 255
    result[2:7, 2:6] = 1
    J, F = frame_scores(result, truth, [1])
    assert (J.tolist(), F.tolist()) == ([1], [1])


def test_a_255_in_a_result_is_background():
    truth, result = np.zeros((2, 10, 10), np.uint8)
    truth[2:6, 2:6] = result[2:6, 2:6] = 1
    result[3, 3] = 255
    J, _ = frame_scores(result, truth, [1])
    assert J.tolist() == [15 / 16]


def test_objects_keep_their_order_and_may_repeat_or_be_none():
    truth = np.array([[1, 1, 2, 0]], np.uint8)
    result = np.array([[1, 1, 0, 0]], np.uint8)
    assert frame_scores(result, truth, [2, 1, 2])[0].tolist() == [0, 1, 0]
    assert frame_scores(result, truth, [])[0].shape == (0,)


def test_inputs_stay_as_they_were():
    truth = np.array([[1, 255, 2, 0]], np.uint8)
    result = np.array([[1, 1, 2, 2]], np.uint8)
    truth.setflags(write=False)
    result.setflags(write=False)
    frame_scores(result, truth, [1, 2])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 100, 254, 255, 256, 257, 300, 1000])
def test_statistics_equal_the_definition_at_any_length(length):
    values = np.random.default_rng(length).random(length)
    limits = [math.floor((length - 1) * i / 4 + 0.5) for i in range(5)]
    decay = values[: limits[1] + 1].mean() - values[limits[3] :].mean()
    found = statistics(values)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.recall == pytest.approx((values > 0.5).mean(), abs=1e-12)
    assert found.decay == pytest.approx(decay, abs=1e-12)


def test_decay_past_255_frames_is_of_the_real_quarters():
    values = np.concatenate([np.ones(110), np.full(180, 0.5), np.zeros(110)])
    assert statistics(values) == Statistics(mean=0.5, recall=0.275, decay=1.0)


def test_exactly_half_is_not_recalled():
    assert statistics([0.5, 0.5, 0.51, 0.2]).recall == 0.25


def test_nan_frames_are_left_out_of_the_means():
    found = statistics([1.0, math.nan, 0.5, 0.0])
    assert found.mean == 0.5
    assert math.isnan(statistics([math.nan]).mean)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_similarity(np.ones((2, 3)), np.ones((3, 2))), r"result of shape \(2, 3\) against a truth of"),
        (lambda: boundary_measure(np.ones(3), np.ones(3)), r"both must be \[H, W\]"),
        (lambda: boundary_measure(np.ones((2, 2)), np.ones((2, 2)), np.ones((1, 2))), r"shape \(1, 2\)"),
        (lambda: boundary_measure(np.ones((2, 2)), np.ones((2, 2)), tolerance=-1), "boundary tolerance -1"),
        (lambda: frame_scores(np.ones((2, 2)), np.ones((2, 3)), [1]), r"truth of shape \(2, 3\)"),
        (lambda: frame_scores(np.ones((2, 2)), np.ones((2, 2)), [0, 1]), "0 is the background and 255 is void"),
        (lambda: frame_scores(np.ones((2, 2)), np.ones((2, 2)), [255]), "leave them out"),
        (lambda: statistics([]), "give one value or more"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(DataError, match=message):
        call()
