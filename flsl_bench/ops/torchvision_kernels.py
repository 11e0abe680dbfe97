"""mmcv's operators by torchvision's kernels, on the CPU and the GPU, where the two mean the same."""

import torch
from torch import Tensor

from flsl_bench.ops import numba_kernels
from flsl_bench.ops.numba_kernels import compute_dtype, require_average

softnms = numba_kernels.softnms


def probe() -> None:
    """Raise whatever keeps torchvision's kernels from running, or RuntimeError if they cannot serve this torch."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    if torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist() != [1]:
        raise RuntimeError("torchvision.ops.nms gives a wrong answer")
    pooled = torch.ops.torchvision.roi_align(
        torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 1, 1, 3, 3]]), 1, 1, 1, 0, True
    )
    if pooled.tolist() != [[[[1.0]]]]:
        raise RuntimeError("torchvision.ops.roi_align gives a wrong answer")
    if torch.version.cuda and torch.ops.torchvision._cuda_version() < 0:
        raise RuntimeError("torchvision is a CPU build beside a CUDA build of torch")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices [K] of the boxes kept, as :func:`flsl_bench.ops.numba_kernels.nms`.

    torchvision knows no offset, and adding it to x2, y2 beforehand rounds differently from mmcv's x2 - x1 + 1,
    so that an offset of 1 (the boxes of mmdetection 1.x) runs on numba.
    """
    if offset:
        return numba_kernels.nms(boxes, scores, iou_threshold, offset)
    dtype = torch.promote_types(compute_dtype(boxes), compute_dtype(scores))
    if dtype == torch.float32:
        # mmcv compares in float32; 0.3 as a double is smaller than an IoU of float32(0.3).
        iou_threshold = torch.tensor(iou_threshold, dtype=dtype).item()
    return torch.ops.torchvision.nms(boxes.to(dtype), scores.to(dtype), iou_threshold)


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` [N, C, PH, PW], as :func:`flsl_bench.ops.numba_kernels.roi_align_forward`."""
    require_average(pool_mode)
    dtype = compute_dtype(features)
    pooled = torch.ops.torchvision.roi_align(
        features.to(dtype), rois.to(dtype), spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to ``grad_input`` [B, C, H, W], as :func:`flsl_bench.ops.numba_kernels.roi_align_backward`."""
    require_average(pool_mode)
    dtype = compute_dtype(grad_output)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.add_(gradient)
