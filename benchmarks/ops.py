"""Speed of the operators of flsl_bench.ops beside compiled mmcv's and torchvision's, on the CPU.

Every row is the median of the repeats after a warm-up; outputs are compared before anything is timed. What is not
installed is left out.

    python benchmarks/ops.py
    python benchmarks/ops.py --repeats 20 --rois 1000 --threads 2
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from flsl_bench.ops import numba_kernels
from flsl_bench.ops.provider import compile_command, mmcv_version

NOTHING = torch.zeros(0)


def compiled_mmcv() -> ModuleType | None:
    """The real ``mmcv._ext``, or None with a line on standard error."""
    try:
        return importlib.import_module("mmcv._ext")
    except ImportError as error:
        print(f"without compiled mmcv ({error}); to get it: {compile_command()}", file=sys.stderr)
        return None


def working_torchvision() -> ModuleType | None:
    """The adapter over torchvision's kernels, or None with a line on standard error."""
    try:
        importlib.import_module("torchvision")
        adapter = importlib.import_module("flsl_bench.ops.torchvision_kernels")
        adapter.probe()
    except Exception as error:  # beside a CPU build of torch this is a RuntimeError
        print(f"without torchvision ({error})", file=sys.stderr)
        return None
    return adapter


def coco_like_boxes(count: int, generator: torch.Generator) -> Tensor:
    """Boxes [N, 4] in an image of 1216 x 800, sides log-normal around 100 pixels as those of COCO."""
    size = torch.tensor([1216.0, 800.0])
    centre = torch.rand(count, 2, generator=generator) * size
    half = torch.exp(torch.randn(count, 2, generator=generator) * 0.9 + 4.6).clamp(8, 800) / 2
    return torch.cat([(centre - half).clamp(min=0), torch.minimum(centre + half, size)], dim=1)


def roi_align_cases(arguments: argparse.Namespace, generator: torch.Generator) -> dict[str, Callable]:
    """Name of the case -> function(kernels) that runs it and returns its output."""
    features = torch.randn(1, arguments.channels, 100, 152, generator=generator)
    boxes = coco_like_boxes(arguments.rois, generator)
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    grad_output = torch.randn(len(rois), arguments.channels, 7, 7, generator=generator)

    def options(sampling_ratio: int) -> dict:
        return dict(
            aligned_height=7,
            aligned_width=7,
            spatial_scale=1 / 8,
            sampling_ratio=sampling_ratio,
            pool_mode=1,
            aligned=True,
        )

    def forward(kernels: ModuleType, sampling_ratio: int) -> Tensor:
        output = torch.zeros_like(grad_output)
        kernels.roi_align_forward(features, rois, output, NOTHING, NOTHING, **options(sampling_ratio))
        return output

    def backward(kernels: ModuleType, sampling_ratio: int) -> Tensor:
        gradient = torch.zeros_like(features)
        kernels.roi_align_backward(grad_output, rois, NOTHING, NOTHING, gradient, **options(sampling_ratio))
        return gradient

    return {
        "RoIAlign forward, adaptive": lambda kernels: forward(kernels, 0),
        "RoIAlign backward, adaptive": lambda kernels: backward(kernels, 0),
        "RoIAlign forward, 2 samples": lambda kernels: forward(kernels, 2),
        "RoIAlign backward, 2 samples": lambda kernels: backward(kernels, 2),
    }


def nms_cases(arguments: argparse.Namespace, generator: torch.Generator) -> dict[str, Callable]:
    """As :func:`roi_align_cases`; soft-NMS returns the scores of the boxes it kept, in order."""
    boxes = coco_like_boxes(arguments.boxes, generator)
    scores = torch.rand(len(boxes), generator=generator)

    def soft(kernels: ModuleType, method: int) -> Tensor:
        dets = torch.zeros(len(boxes), 5)
        kept = kernels.softnms(
            boxes, scores, dets, iou_threshold=0.3, sigma=0.5, min_score=1e-3, method=method, offset=0
        )
        return dets[: len(kept)]

    return {
        "NMS 0.7": lambda kernels: kernels.nms(boxes, scores, iou_threshold=0.7, offset=0),
        "NMS 0.5, offset 1": lambda kernels: kernels.nms(boxes, scores, iou_threshold=0.5, offset=1),
        "soft-NMS linear": lambda kernels: soft(kernels, 1),
        "soft-NMS gaussian": lambda kernels: soft(kernels, 2),
    }


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """The median of the wall time of the repeats, after one run that does not count."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def agreement(expected: Tensor, actual: Tensor) -> float:
    """The largest absolute difference, infinite where the shapes differ."""
    if expected.shape != actual.shape:
        return float("inf")
    return float((expected.double() - actual.double()).abs().max()) if expected.numel() else 0.0


def main() -> int:
    """Print the table; 1 where two providers disagree by more than 1e-3."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rois", type=int, default=512)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--boxes", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    cases = roi_align_cases(arguments, generator) | nms_cases(arguments, generator)
    others = {f"mmcv {mmcv_version()}": compiled_mmcv(), "torchvision": working_torchvision()}
    others = {name: kernels for name, kernels in others.items() if kernels is not None}
    print(
        f"{arguments.rois} RoIs x {arguments.channels} channels, {arguments.boxes} boxes, {arguments.threads} threads"
    )
    print(
        f"{'operator':30}{'numba ms':>10}" + "".join(f"{name + ' ms':>18}{'ratio':>8}{'|diff|':>10}" for name in others)
    )
    agree = True
    for name, run in cases.items():
        ours = run(numba_kernels)
        seconds = median_seconds(lambda run=run: run(numba_kernels), arguments.repeats)
        line = f"{name:30}{seconds * 1e3:10.2f}"
        for kernels in others.values():
            difference = agreement(run(kernels), ours)
            theirs = median_seconds(lambda run=run, kernels=kernels: run(kernels), arguments.repeats)
            line += f"{theirs * 1e3:18.2f}{theirs / seconds:8.1f}{difference:10.1e}"
            agree &= difference < 1e-3
        print(line, flush=True)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
