"""mmcv's operators by numba on the CPU: tensors in and out, with the signatures that mmcv.ops calls.

Semantics follow mmcv/ops/csrc/pytorch/cpu/nms.cpp and roi_align.cpp (mmcv 2.x). Half precision is computed in
float32, float64 in float64. Tensors of another device make a round trip through the CPU. numba is imported with the
first kernel.
"""

import functools
import importlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import torch
from torch import Tensor

from flsl_bench.errors import OperatorError
from flsl_bench.ops.provider import compile_command

# Sampling points are counted in integers; a RoI this far away is a diverged regression, not a box.
_LARGEST_COORDINATE = 2.0**24


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression; a box goes when its IoU with a kept one is above the threshold.

    Args:
        boxes: [N, 4] x1, y1, x2, y2 in pixels.
        scores: [N]; equal scores keep their order (mmcv leaves them to torch's sort, which need not be stable).
        iou_threshold: compared strictly, in the precision of the boxes.
        offset: 0, or 1 where a box includes its last pixel (side = x2 - x1 + 1).

    Returns:
        Indices [K] int64 of the kept boxes by descending score, on the device of the boxes.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    order = scores.detach().cpu().sort(dim=0, descending=True, stable=True).indices
    columns = _on_cpu(boxes, compute_dtype(boxes))[order].t().contiguous().numpy()
    cast = columns.dtype.type
    kept = _loops().suppress(columns, cast(iou_threshold), cast(offset))
    return order[torch.from_numpy(kept)].to(boxes.device)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017, section 3): overlapping boxes lose score instead of going at once.

    Args:
        boxes: [N, 4] x1, y1, x2, y2 in pixels.
        scores: [N].
        dets: [N, 5], filled in place: rows 0..K-1 are x1, y1, x2, y2, score in the order of selection.
        iou_threshold: at or above it a score is multiplied by 0 (naive) or 1 - IoU (linear).
        sigma: of the factor exp(-IoU^2 / sigma) (gaussian).
        min_score: a score that falls below it drops its box.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0, or 1 where a box includes its last pixel.

    Returns:
        Indices [K] int64 of the kept boxes in the order of selection, on the device of the boxes.

    Raises:
        OperatorError: an unknown method.
    """
    if method not in (0, 1, 2):
        raise OperatorError(f"soft-NMS method {method!r} is unknown; 0 is naive, 1 linear, 2 gaussian")
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    dtype = compute_dtype(boxes)
    columns = torch.cat([_on_cpu(boxes, dtype).t(), _on_cpu(scores, dtype)[None]]).numpy()  # [5, N]
    cast = columns.dtype.type
    indices = _loops().soft_suppress(columns, cast(iou_threshold), cast(sigma), cast(min_score), method, cast(offset))
    dets[: len(indices)] = torch.from_numpy(columns[:, : len(indices)]).t().to(dets)
    return torch.from_numpy(indices).to(boxes.device)


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
    """Average RoIAlign (He et al., Mask R-CNN, ICCV 2017, section 3), written to ``output``.

    A RoI of negative size pools to zero with ``sampling_ratio`` 0, as in mmcv's CUDA kernel and in torchvision; mmcv's
    CPU kernel stops there.

    Args:
        features: [B, C, H, W].
        rois: [N, 5] image index, x1, y1, x2, y2 in image pixels.
        output: [N, C, PH, PW], filled in place.
        argmax_y, argmax_x: unused, for max pooling only.
        aligned_height, aligned_width: PH, PW.
        spatial_scale: feature pixels per image pixel.
        sampling_ratio: samples a bin and axis; 0 takes ceil(RoI size / bins).
        pool_mode: 1, average.
        aligned: shift by half a feature pixel; otherwise the older rule, with RoIs of at least one feature pixel.

    Raises:
        OperatorError: max pooling, an image index outside the batch, a RoI that is not finite.
    """
    require_average(pool_mode)
    if output.numel() == 0 or features.numel() == 0:
        output.zero_()
        return
    dtype = compute_dtype(features)
    channels_last = _on_cpu(features, dtype).permute(0, 2, 3, 1).contiguous()
    regions = _checked_rois(rois, features.shape[0], spatial_scale, dtype)
    in_place = output.is_contiguous() and output.device.type == "cpu" and output.dtype == dtype
    pooled = output if in_place else torch.empty(output.shape, dtype=dtype)
    loops = _loops()
    tile = loops.channel_tile(len(regions), features.shape[1], _threads())
    arrays = channels_last.numpy(), regions.numpy()
    units = loops.forward_units(*arrays, tile)
    share(loops.roi_align_forward, units, *arrays, tile, sampling_ratio, aligned, pooled.detach().numpy())
    if not in_place:
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
    """The transpose of :func:`roi_align_forward`: adds to ``grad_input`` [B, C, H, W].

    ``grad_output`` is [N, C, PH, PW], the other arguments are those of the forward. The number of threads does not
    change the order of the sum.

    Raises:
        OperatorError: as the forward.
    """
    require_average(pool_mode)
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    dtype = compute_dtype(grad_output)
    batch, channels, height, width = grad_input.shape
    regions = _checked_rois(rois, batch, spatial_scale, dtype)
    gradient = torch.zeros((batch, height, width, channels), dtype=dtype)
    loops = _loops()
    tile = loops.channel_tile(batch, channels, _threads())
    arrays = _on_cpu(grad_output, dtype).contiguous().numpy(), regions.numpy()
    units = loops.backward_units(gradient.numpy(), tile)
    share(loops.roi_align_backward, units, *arrays, tile, sampling_ratio, aligned, gradient.numpy())
    grad_input.add_(gradient.permute(0, 3, 1, 2).to(grad_input))


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """float64 stays; everything else is computed in float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def require_average(pool_mode: int) -> None:
    """Raise OperatorError for max pooling (``pool_mode`` 0), which only mmcv has."""
    if pool_mode != 1:
        raise OperatorError(
            "RoIAlign with pool_mode='max' exists only in a compiled mmcv; use pool_mode='avg' or compile it: "
            f"{compile_command()}"
        )


def _on_cpu(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(device="cpu", dtype=dtype)


def _checked_rois(rois: Tensor, batch: int, spatial_scale: float, dtype: torch.dtype) -> Tensor:
    """RoIs [N, 5] with coordinates in feature pixels; the loops index memory with them, hence the checks."""
    regions = _on_cpu(rois, dtype).clone(memory_format=torch.contiguous_format)
    # mmcv's launcher takes the scale as a C float, for float64 features too.
    regions[:, 1:] *= torch.tensor(spatial_scale, dtype=torch.float32).to(dtype)
    sound = (regions[:, 1:].abs() < _LARGEST_COORDINATE).all(dim=1)
    if not bool(sound.all()):
        row = int(sound.logical_not().nonzero()[0])
        raise OperatorError(f"RoI {row} is not finite or absurdly far away: {rois[row].tolist()}")
    images = regions[:, 0]
    inside = (images >= 0) & (images < batch)
    if not bool(inside.all()):
        row = int(inside.logical_not().nonzero()[0])
        raise OperatorError(f"RoI {row} names image {images[row].item():g} of a batch of {batch}")
    return regions


@functools.cache
def _loops() -> ModuleType:
    return importlib.import_module("flsl_bench.ops.numba_loops")


def _threads() -> int:
    """As many threads as torch uses, within numba's own limit (NUMBA_NUM_THREADS)."""
    return min(torch.get_num_threads(), _loops().most_threads())


def share(kernel: Callable, units: int, *arguments: object) -> None:
    """Run ``kernel(first_unit, last_unit, *arguments)`` over all units, in threads.

    Plain threads rather than numba's parallel loops: those run on GNU OpenMP, which ends a process that was forked
    after the first loop.
    """
    threads = min(_threads(), units)
    if threads <= 1:
        kernel(0, units, *arguments)
        return
    # RoIs differ in cost by orders of magnitude: several shares a thread even that out.
    shares = min(units, 8 * threads)
    bounds = [units * i // shares for i in range(shares + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, *bound, *arguments) for bound in itertools.pairwise(bounds)]:
            done.result()
