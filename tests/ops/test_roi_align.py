"""Average RoIAlign against its plain definition: values, gradients, edges, precisions."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.errors import OperatorError
from flsl_bench.ops import numba_kernels
from tests.ops import plain_operators as reference

QUARTERS = st.integers(-40, 120).map(lambda i: i / 4)
ROIS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), QUARTERS, QUARTERS, QUARTERS, QUARTERS), max_size=6)
EMPTY = torch.zeros(0)


def forward(features, rois, bins=(3, 2), scale=1.0, sampling_ratio=0, aligned=True, pool_mode=1):
    output = features.new_full((len(rois), features.shape[1], *bins), float("nan"))
    numba_kernels.roi_align_forward(
        features, rois, output, EMPTY, EMPTY, *bins, scale, sampling_ratio, pool_mode, aligned
    )
    return output


def backward(grad_output, rois, shape, scale=1.0, sampling_ratio=0, aligned=True):
    grad_input = grad_output.new_zeros(shape)
    numba_kernels.roi_align_backward(
        grad_output, rois, EMPTY, EMPTY, grad_input, *grad_output.shape[2:], scale, sampling_ratio, 1, aligned
    )
    return grad_input


def random_case(seed=0, count=20, channels=5, size=(17, 23), dtype=torch.float32):
    """Features [2, C, H, W] and RoIs [N, 5] in and around an image of four times that size."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, channels, *size, generator=generator, dtype=dtype)
    corners = torch.rand(count, 4, generator=generator, dtype=dtype) * 120 - 15
    low, high = torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])
    images = torch.arange(count, dtype=dtype)[:, None] % 2
    return features, torch.cat([images, low, high], dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_equal_the_definition(aligned, sampling_ratio, dtype):
    features, rois = random_case(dtype=dtype)
    options = dict(scale=0.25, sampling_ratio=sampling_ratio, aligned=aligned)
    output = forward(features, rois, (7, 5), **options)
    expected = reference.roi_align(features.numpy(), rois.numpy(), (7, 5), **options)
    np.testing.assert_allclose(output.numpy(), expected, atol=1e-5)
    grad_output = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    gradient = backward(grad_output, rois, features.shape, **options)
    expected = reference.roi_align_gradient(grad_output.numpy(), features.numpy(), rois.numpy(), (7, 5), **options)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-4)


@given(rois=ROIS, sampling_ratio=st.sampled_from([0, 2]), aligned=st.booleans(), scale=st.sampled_from([1.0, 0.25]))
@settings(max_examples=40, deadline=None)
def test_degenerate_rois(rois, sampling_ratio, aligned, scale):
    """Empty, outside, of no size, of negative size, larger than the map, and none at all."""
    features = random_case(size=(6, 9), channels=2)[0]
    rois = torch.tensor(rois, dtype=torch.float32).reshape(-1, 5)
    options = dict(scale=scale, sampling_ratio=sampling_ratio, aligned=aligned)
    output = forward(features, rois, **options)
    expected = reference.roi_align(features.numpy(), rois.numpy(), (3, 2), **options)
    np.testing.assert_allclose(output.numpy(), expected, atol=1e-5)
    grad_output = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    gradient = backward(grad_output, rois, features.shape, **options)
    expected = reference.roi_align_gradient(grad_output.numpy(), features.numpy(), rois.numpy(), (3, 2), **options)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (8, 1)])
def test_map_of_one_pixel_row_or_column(size):
    features, rois = random_case(size=size, channels=3)
    output = forward(features, rois, scale=0.05)
    expected = reference.roi_align(features.numpy(), rois.numpy(), (3, 2), scale=0.05)
    np.testing.assert_allclose(output.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 127, 129, 300])
def test_channels_beyond_one_tile(channels):
    features, rois = random_case(count=4, channels=channels, size=(6, 7))
    output = forward(features, rois, scale=0.1)
    np.testing.assert_allclose(
        output.numpy(), reference.roi_align(features.numpy(), rois.numpy(), (3, 2), scale=0.1), atol=1e-5
    )
    gradient = backward(output, rois, features.shape, scale=0.1)
    expected = reference.roi_align_gradient(output.numpy(), features.numpy(), rois.numpy(), (3, 2), scale=0.1)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 4)])
def test_empty_inputs(shape):
    features, rois = torch.zeros(shape), torch.zeros(0, 5)
    assert forward(features, rois).shape == (0, shape[1], 3, 2)
    assert backward(torch.zeros(0, shape[1], 3, 2), rois, shape).shape == shape


def test_map_without_pixels_pools_to_zero():
    assert forward(torch.zeros(1, 2, 0, 4), torch.zeros(3, 5)).eq(0).all()


def test_inputs_that_are_not_contiguous():
    features, rois = random_case()
    strided = torch.randn(2, 23, 5, 34)[..., ::2].permute(0, 2, 3, 1)
    strided.copy_(features)
    padded = torch.zeros(len(rois), 8)
    padded[:, 1:6] = rois
    assert not strided.is_contiguous() and not padded[:, 1:6].is_contiguous()
    assert torch.equal(forward(strided, padded[:, 1:6], scale=0.25), forward(features, rois, scale=0.25))
    grad_output = torch.randn(len(rois), 5, 2, 3).transpose(2, 3)
    expected = backward(grad_output.contiguous(), rois, features.shape, scale=0.25)
    assert torch.equal(backward(grad_output, rois, features.shape, scale=0.25), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("roi_dtype", [torch.float32, None])
def test_half_precision_is_computed_in_float32(dtype, roi_dtype):
    features, rois = random_case()
    features, rois = features.to(dtype), rois.round().to(roi_dtype or dtype)
    output = forward(features, rois, scale=0.25)
    assert output.dtype == dtype
    assert torch.equal(output, forward(features.float(), rois.float(), scale=0.25).to(dtype))
    gradient = backward(output, rois, features.shape, scale=0.25)
    assert torch.equal(gradient, backward(output.float(), rois.float(), features.shape, scale=0.25).to(dtype))


def test_gradient_does_not_depend_on_the_number_of_threads():
    features, rois = random_case(count=60, channels=96)
    grad_output = torch.randn(60, 96, 3, 2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = backward(grad_output, rois, features.shape, scale=0.25)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, backward(grad_output, rois, features.shape, scale=0.25))


def test_gradient_is_added():
    features, rois = random_case(count=3)
    grad_output, grad_input = torch.ones(3, 5, 3, 2), torch.ones(features.shape)
    numba_kernels.roi_align_backward(grad_output, rois, EMPTY, EMPTY, grad_input, 3, 2, 0.25, 0, 1, True)
    assert torch.equal(grad_input, 1 + backward(grad_output, rois, features.shape, scale=0.25))


def test_infinite_pixel_that_no_sample_reads_changes_nothing():
    features = torch.ones(1, 1, 8, 8)
    features[0, 0, 0, 0] = float("inf")
    assert forward(features, torch.tensor([[0.0, 3, 3, 6, 6]])).eq(1).all()


def test_max_pooling_is_refused():
    with pytest.raises(OperatorError, match=r"pool_mode='max' exists only in a compiled mmcv.*MMCV_WITH_OPS=1 pip"):
        forward(*random_case(), pool_mode=0)


@pytest.mark.parametrize("image", [-1.0, 2.0])
def test_image_index_outside_the_batch_is_refused(image):
    features, rois = random_case()
    rois[3, 0] = image
    with pytest.raises(OperatorError, match=f"RoI 3 names image {image:g} of a batch of 2"):
        forward(features, rois)
    with pytest.raises(OperatorError, match="RoI 3 names image"):
        backward(torch.ones(20, 5, 3, 2), rois, features.shape)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_roi_that_is_not_finite_is_refused(value):
    features, rois = random_case()
    rois[2, 4] = value
    with pytest.raises(OperatorError, match="RoI 2 is not finite or absurdly far away"):
        forward(features, rois)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_gradcheck_through_mmcv(mmcv_ops, aligned, sampling_ratio):
    features, rois = random_case(count=5, channels=2, size=(5, 6), dtype=torch.float64)
    layer = mmcv_ops.RoIAlign((2, 3), spatial_scale=0.05, sampling_ratio=sampling_ratio, aligned=aligned)
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), (features.requires_grad_(),))


def test_layer_of_mmcv_in_a_training_step(mmcv_ops):
    features, rois = random_case()
    features.requires_grad_()
    output = mmcv_ops.roi_align(features, rois, (7, 7), 0.25, 0, "avg", True)
    output.square().sum().backward()
    expected = reference.roi_align(features.detach().numpy(), rois.numpy(), (7, 7), 0.25)
    np.testing.assert_allclose(output.detach().numpy(), expected, atol=1e-5)
    expected = reference.roi_align_gradient(2 * expected, features.detach().numpy(), rois.numpy(), (7, 7), 0.25)
    np.testing.assert_allclose(features.grad.numpy(), expected, atol=1e-4)


def test_cuda_tensors_make_a_round_trip():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    features, rois = random_case()
    output = forward(features.cuda(), rois.cuda(), scale=0.25)
    assert output.is_cuda
    assert torch.equal(output.cpu(), forward(features, rois, scale=0.25))
    gradient = backward(output, rois.cuda(), features.shape, scale=0.25)
    assert torch.equal(gradient.cpu(), backward(output.cpu(), rois, features.shape, scale=0.25))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")
def test_kernels_run_in_a_process_forked_after_their_first_use():
    code = (
        "import os, torch; from flsl_bench.ops import numba_kernels as kernels\n"
        "def pool():\n"
        "    output = torch.zeros(4, 8, 2, 2)\n"
        "    rois = torch.tensor([[0.0, 1, 1, 5, 5]] * 4)\n"
        "    kernels.roi_align_forward(torch.ones(1, 8, 9, 9), rois, output, None, None, 2, 2, 1.0, 0, 1, True)\n"
        "    return bool(output.eq(1).all())\n"
        "assert pool()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if pool() else 1)\n"
        "print('exit', os.waitpid(child, 0)[1])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout == "exit 0\n", result.stderr


def test_kernels_run_in_several_threads_at_once():
    features, rois = random_case(count=30)
    expected = forward(features, rois, scale=0.25)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: forward(features, rois, scale=0.25), range(12)))
    assert all(torch.equal(expected, result) for result in results)
