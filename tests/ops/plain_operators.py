"""Slow, plain definitions of the operators, sharing nothing with the kernels.

Geometry is computed in the scalar type of the input: the number of samples and the border are discontinuous in it.
"""

import math

import numpy as np


def interpolate(plane: np.ndarray, y: float, x: float) -> list[tuple[int, int, float]]:
    """The pixels (row, column, weight) of one bilinear sample of plane [H, W]; none outside [-1, H] x [-1, W]."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return []
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = float(y) - top, float(x) - left
    return [
        (top, left, (1 - dy) * (1 - dx)),
        (top, right, (1 - dy) * dx),
        (bottom, left, dy * (1 - dx)),
        (bottom, right, dy * dx),
    ]


def samples_of_bins(roi, bins, scale, sampling_ratio, aligned, scalar) -> dict[tuple[int, int], list]:
    """For each bin (row, column) the sampling points (y, x) of roi [4] x1, y1, x2, y2."""
    points = {(row, column): [] for row in range(bins[0]) for column in range(bins[1])}
    axes = []
    for low, high, count in ((roi[1], roi[3], bins[0]), (roi[0], roi[2], bins[1])):
        shift = scalar(0.5) if aligned else scalar(0)
        start = scalar(low) * scalar(np.float32(scale)) - shift
        size = scalar(high) * scalar(np.float32(scale)) - shift - start
        if not aligned:
            size = max(size, scalar(1))
        step = size / scalar(count)
        grid = sampling_ratio if sampling_ratio > 0 else max(math.ceil(np.float32(step)), 0)
        axes.append(
            [
                [start + scalar(p) * step + scalar(s + 0.5) * step / scalar(grid) for s in range(grid)]
                for p in range(count)
            ]
        )
    for row, column in points:
        points[row, column] = [(y, x) for y in axes[0][row] for x in axes[1][column]]
    return points


def roi_align(features, rois, bins, scale=1.0, sampling_ratio=0, aligned=True) -> np.ndarray:
    """Features [B, C, H, W], rois [N, 5] -> [N, C, PH, PW] in float64."""
    scalar = features.dtype.type
    output = np.zeros((len(rois), features.shape[1], *bins))
    for n, roi in enumerate(rois):
        image = features[int(roi[0])]
        for (row, column), points in samples_of_bins(roi[1:], bins, scale, sampling_ratio, aligned, scalar).items():
            for y, x in points:
                for i, j, weight in interpolate(image[0], y, x):
                    output[n, :, row, column] += weight * image[:, i, j].astype(np.float64) / len(points)
    return output


def roi_align_gradient(grad_output, features, rois, bins, scale=1.0, sampling_ratio=0, aligned=True) -> np.ndarray:
    """The gradient [B, C, H, W], in float64, of sum(grad_output * roi_align(features))."""
    scalar = features.dtype.type
    gradient = np.zeros(features.shape)
    for n, roi in enumerate(rois):
        image = gradient[int(roi[0])]
        for (row, column), points in samples_of_bins(roi[1:], bins, scale, sampling_ratio, aligned, scalar).items():
            for y, x in points:
                for i, j, weight in interpolate(image[0], y, x):
                    image[:, i, j] += weight * grad_output[n, :, row, column].astype(np.float64) / len(points)
    return gradient


def iou(a, b, offset) -> np.floating:
    """IoU of two boxes in their own precision; 0 / 0 is NaN."""
    one = type(a[0])(offset)
    zero = type(a[0])(0)
    width = max(zero, min(a[2], b[2]) - max(a[0], b[0]) + one)
    height = max(zero, min(a[3], b[3]) - max(a[1], b[1]) + one)
    area_a = (a[2] - a[0] + one) * (a[3] - a[1] + one)
    area_b = (b[2] - b[0] + one) * (b[3] - b[1] + one)
    with np.errstate(divide="ignore", invalid="ignore"):
        return width * height / (area_a + area_b - width * height)


def nms(boxes, scores, threshold, offset=0) -> list[int]:
    """Indices kept, best score first, equal scores in their order."""
    threshold = boxes.dtype.type(threshold)
    kept = []
    for candidate in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if not any(iou(boxes[k], boxes[candidate], offset) > threshold for k in kept):
            kept.append(candidate)
    return kept


def soft_nms(boxes, scores, threshold, sigma, min_score, method, offset=0) -> tuple[list[int], list[float]]:
    """Indices and decayed scores in the order of selection.

    The rest is a list in which the selected box changes places with the first, and a dropped one is replaced by the
    last; that is what decides ties.
    """
    scalar = boxes.dtype.type
    rest = [[i, scalar(s)] for i, s in enumerate(scores)]
    chosen = []
    while rest:
        best = 0
        for i in range(len(rest)):
            if rest[i][1] > rest[best][1]:
                best = i
        rest[0], rest[best] = rest[best], rest[0]
        winner = rest.pop(0)
        chosen.append(winner)
        for item in rest:
            item[1] = scalar(item[1] * decay(iou(boxes[winner[0]], boxes[item[0]], offset), threshold, sigma, method))
        position = 0
        while position < len(rest):
            if rest[position][1] < scalar(min_score):
                last = rest.pop()
                if position < len(rest):
                    rest[position] = last
            else:
                position += 1
    return [i for i, _ in chosen], [float(s) for _, s in chosen]


def decay(overlap, threshold, sigma, method) -> float:
    """The factor of soft-NMS (Bodla et al., ICCV 2017, equations 2 and 3, and hard suppression)."""
    scalar = type(overlap)
    if method == "gaussian":
        return scalar(np.exp(-(overlap * overlap) / scalar(sigma)))
    if overlap >= scalar(threshold):
        return scalar(0) if method == "naive" else scalar(1) - overlap
    return scalar(1)
