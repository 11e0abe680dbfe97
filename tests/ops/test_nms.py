"""NMS and soft-NMS against their plain definitions, alone and through mmcv.ops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.errors import OperatorError
from flsl_bench.ops import numba_kernels
from tests.ops import plain_operators as reference

METHODS = ["naive", "linear", "gaussian"]
COORDINATE = st.integers(-6, 12).map(lambda i: i / 2)
BOXES = st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE), max_size=12)
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def random_boxes(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * 100
    side = torch.rand(count, 2, generator=generator, dtype=dtype) * 60
    return torch.cat([corner, corner + side], dim=1), torch.rand(count, generator=generator, dtype=dtype)


def soft(boxes, scores, threshold, sigma, min_score, method, offset):
    dets = boxes.new_full((len(boxes), 5), float("nan"))
    indices = numba_kernels.softnms(boxes, scores, dets, threshold, sigma, min_score, METHODS.index(method), offset)
    return indices.tolist(), dets[: len(indices)]


@given(boxes=BOXES, offset=st.sampled_from([0, 1]), threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]), data=st.data())
@settings(max_examples=80, deadline=None)
def test_nms_of_degenerate_boxes_and_ties(boxes, offset, threshold, data):
    scores = [data.draw(SCORES) for _ in boxes]
    boxes, scores = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores)
    kept = numba_kernels.nms(boxes, scores, threshold, offset)
    assert kept.dtype == torch.long
    assert kept.tolist() == reference.nms(boxes.numpy(), scores.tolist(), threshold, offset)


@given(
    boxes=BOXES,
    offset=st.sampled_from([0, 1]),
    method=st.sampled_from(METHODS),
    min_score=st.sampled_from([0.0, 0.1]),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_soft_nms_of_degenerate_boxes_and_ties(boxes, offset, method, min_score, data):
    scores = [data.draw(SCORES) for _ in boxes]
    boxes, scores = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores)
    indices, dets = soft(boxes, scores, 0.3, 0.5, min_score, method, offset)
    expected, decayed = reference.soft_nms(boxes.numpy(), scores.numpy(), 0.3, 0.5, min_score, method, offset)
    np.testing.assert_allclose(dets[:, 4].numpy(), decayed, atol=1e-5)
    assert torch.equal(dets[:, :4], boxes[indices])
    assert indices == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_of_many_boxes(dtype, offset):
    boxes, scores = random_boxes(150, dtype=dtype)
    kept = numba_kernels.nms(boxes, scores, 0.4, offset).tolist()
    assert kept == reference.nms(boxes.numpy(), scores.tolist(), 0.4, offset)
    assert 10 < len(kept) < 140


@pytest.mark.parametrize("method", METHODS)
def test_soft_nms_of_many_boxes(method):
    boxes, scores = random_boxes(100)
    indices, dets = soft(boxes, scores, 0.3, 0.5, 0.05, method, 0)
    expected, decayed = reference.soft_nms(boxes.numpy(), scores.numpy(), 0.3, 0.5, 0.05, method)
    assert indices == expected
    np.testing.assert_allclose(dets[:, 4].numpy(), decayed, atol=1e-5)


def test_equal_scores_keep_their_order():
    boxes = torch.arange(64.0)[:, None] * 10 + torch.tensor([0.0, 0.0, 5.0, 5.0])
    assert numba_kernels.nms(boxes, torch.full((64,), 0.5), 0.5, 0).tolist() == list(range(64))


def test_nms_threshold_is_strict_and_soft_nms_threshold_is_not():
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0.0, 0, 2, 1]]), torch.tensor([0.9, 0.8])
    assert numba_kernels.nms(boxes, scores, 0.5, 0).tolist() == [0, 1]
    assert soft(boxes, scores, 0.5, 0.5, 0.1, "naive", 0)[0] == [0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    boxes, scores = random_boxes(80)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    assert torch.equal(numba_kernels.nms(boxes, scores, 0.4, 0), numba_kernels.nms(boxes.float(), scores, 0.4, 0))
    indices, dets = soft(boxes, scores, 0.3, 0.5, 0.05, "linear", 0)
    full_indices, full_dets = soft(boxes.float(), scores.float(), 0.3, 0.5, 0.05, "linear", 0)
    assert indices == full_indices
    assert torch.equal(dets, full_dets.to(dtype))


def test_inputs_that_are_not_contiguous():
    boxes, scores = random_boxes(80)
    table = torch.cat([scores[:, None], boxes], dim=1)
    assert torch.equal(numba_kernels.nms(table[:, 1:], table[:, 0], 0.4, 0), numba_kernels.nms(boxes, scores, 0.4, 0))
    strided = soft(table[:, 1:], table[:, 0], 0.3, 0.5, 0.05, "linear", 0)
    assert strided[0] == soft(boxes, scores, 0.3, 0.5, 0.05, "linear", 0)[0]
    assert torch.equal(table[:, 1:], boxes) and torch.equal(table[:, 0], scores)


def test_unknown_soft_nms_method_is_refused():
    with pytest.raises(OperatorError, match="soft-NMS method 3 is unknown; 0 is naive, 1 linear, 2 gaussian"):
        numba_kernels.softnms(*random_boxes(2), torch.zeros(2, 5), 0.3, 0.5, 0.1, 3, 0)


@pytest.mark.parametrize("offset", [0, 1])
def test_mmcv_nms_end_to_end(mmcv_ops, offset):
    boxes, scores = random_boxes(60)
    dets, kept = mmcv_ops.nms(boxes, scores, 0.4, offset=offset, score_threshold=0.2, max_num=20)
    expected = [i for i in reference.nms(boxes.numpy(), scores.tolist(), 0.4, offset) if scores[i] > 0.2][:20]
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[kept])
    assert mmcv_ops.nms(boxes[:0], scores[:0], 0.4)[0].shape == (0, 5)
    assert mmcv_ops.nms(boxes.numpy(), scores.numpy(), 0.4)[1].tolist() == mmcv_ops.nms(boxes, scores, 0.4)[1].tolist()


def test_mmcv_batched_nms_end_to_end(mmcv_ops):
    boxes, scores = random_boxes(60)
    classes = torch.arange(60) % 3
    dets, kept = mmcv_ops.batched_nms(boxes, scores, classes, dict(type="nms", iou_threshold=0.4))
    expected = []
    for label in range(3):
        mine = (classes == label).nonzero()[:, 0]
        expected += mine[reference.nms(boxes[mine].numpy(), scores[mine].tolist(), 0.4)].tolist()
    assert sorted(kept.tolist()) == sorted(expected)
    assert dets[:, 4].tolist() == sorted(scores[expected].tolist(), reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_mmcv_soft_nms_end_to_end(mmcv_ops, method):
    boxes, scores = random_boxes(60)
    dets, kept = mmcv_ops.soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.05, method=method)
    expected, decayed = reference.soft_nms(boxes.numpy(), scores.numpy(), 0.3, 0.5, 0.05, method)
    assert kept.tolist() == expected
    np.testing.assert_allclose(dets[:, 4].numpy(), decayed, atol=1e-5)
    assert mmcv_ops.soft_nms(boxes[:0], scores[:0])[0].shape == (0, 5)


def test_cuda_tensors_make_a_round_trip():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    boxes, scores = random_boxes(60)
    kept = numba_kernels.nms(boxes.cuda(), scores.cuda(), 0.4, 0)
    assert kept.is_cuda and torch.equal(kept.cpu(), numba_kernels.nms(boxes, scores, 0.4, 0))
