"""The compiled loops behind :mod:`flsl_bench.ops.numba_kernels`: contiguous numpy arrays in and out.

Average RoIAlign is separable. The mean over a bin's grid of bilinear samples is, for every channel, Wy . F . Wx^T with
sparse weights Wy [PH, H] and Wx [PW, W] that hold the clamping, the validity of a sample and the division by the number
of samples. A RoI then costs two small products over the pixels it covers instead of four reads a sample. Features are
channels-last, so that the innermost loop runs over contiguous channels.

Geometry is computed in the precision of the features and in mmcv's order of operations: the number of samples and the
validity at the border are discontinuous, one rounding apart they give another answer.
"""

import math
from collections.abc import Callable

import numba
import numpy as np

# A tile of channels keeps the accumulators of 7 x 7 bins in the first-level cache.
_CHANNEL_TILE = 128
_SMALLEST_TILE = 16


def channel_tile(batch: int, channels: int, threads: int) -> int:
    """Channels per unit of work, so that the tiles of a batch of maps occupy all threads if they can."""
    tile = _CHANNEL_TILE
    while tile > _SMALLEST_TILE and batch * channels < threads * tile:
        tile //= 2
    return tile


def most_threads() -> int:
    """The largest number of threads numba can be set to in this process."""
    return numba.config.NUMBA_NUM_THREADS


def jit(**options: object) -> Callable:
    """numba.njit without the GIL and with IEEE division, cached on disk where any cache folder is writable."""

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
        except RuntimeError:  # no writable cache folder: compile in every process
            return numba.njit(nogil=True, error_model="numpy", **options)(function)

    return decorate


@jit()
def suppress(boxes, threshold, offset):
    """Which of the score-sorted boxes, rows x1, y1, x2, y2 of [4, N], greedy NMS keeps: bool [N]."""
    areas = (boxes[2] - boxes[0] + offset) * (boxes[3] - boxes[1] + offset)
    kept = np.ones(areas.size, np.bool_)
    overlaps = np.empty(areas.size, areas.dtype)
    for i in range(areas.size):
        if kept[i]:
            _overlaps_after(i, boxes, areas, areas.size, offset, overlaps)
            _drop_overlapping(kept[i + 1 :], overlaps[i + 1 :], threshold)
    return kept


@jit()
def soft_suppress(columns, threshold, sigma, min_score, method, offset):
    """Soft-NMS of [5, N], rows x1, y1, x2, y2, score: reorders the columns in place, selected ones first.

    Returns the indices [K] of the selected boxes. A dropped box gives its place to the last one, as in mmcv, which
    decides the order among equal scores.
    """
    scores = columns[4]
    count = scores.size
    areas = (columns[2] - columns[0] + offset) * (columns[3] - columns[1] + offset)
    overlaps = np.empty(count, areas.dtype)
    indices = np.arange(count)
    i = 0
    while i < count:
        _swap(i, i + _first_largest(scores[i:count]), columns, areas, indices)
        _overlaps_after(i, columns, areas, count, offset, overlaps)
        _decay(scores[i + 1 : count], overlaps[i + 1 : count], threshold, sigma, method)
        j = i + 1
        while j < count:
            if scores[j] < min_score:
                count -= 1
                _swap(j, count, columns, areas, indices)
            else:
                j += 1
        i += 1
    return indices[:count]


@jit()
def _overlaps_after(i, boxes, areas, count, offset, overlaps):
    """IoU of box i with boxes i + 1 .. count - 1. Contiguous slices without branches let the loop vectorise."""
    left, top, right, bottom, area = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i], areas[i]
    x1, y1 = boxes[0, i + 1 : count], boxes[1, i + 1 : count]
    x2, y2 = boxes[2, i + 1 : count], boxes[3, i + 1 : count]
    their_areas, out = areas[i + 1 : count], overlaps[i + 1 : count]
    zero = areas.dtype.type(0)
    for j in range(out.size):
        inner_left = x1[j] if left < x1[j] else left
        inner_top = y1[j] if top < y1[j] else top
        inner_right = x2[j] if x2[j] < right else right
        inner_bottom = y2[j] if y2[j] < bottom else bottom
        width = inner_right - inner_left + offset
        height = inner_bottom - inner_top + offset
        width = width if zero < width else zero
        height = height if zero < height else zero
        common = width * height
        out[j] = common / (area + their_areas[j] - common)


@jit()
def _drop_overlapping(kept, overlaps, threshold):
    for j in range(kept.size):
        # "not >" keeps a pair of empty boxes, whose IoU is 0 / 0.
        kept[j] = kept[j] & (not (overlaps[j] > threshold))


@jit()
def _first_largest(scores):
    best = 0
    for j in range(1, scores.size):
        if scores[best] < scores[j]:
            best = j
    return best


@jit()
def _swap(i, j, columns, areas, indices):
    for row in range(columns.shape[0]):
        columns[row, i], columns[row, j] = columns[row, j], columns[row, i]
    areas[i], areas[j] = areas[j], areas[i]
    indices[i], indices[j] = indices[j], indices[i]


@jit()
def _decay(scores, overlaps, threshold, sigma, method):
    zero, one = scores.dtype.type(0), scores.dtype.type(1)
    for j in range(scores.size):
        if method == 2:
            scores[j] *= math.exp(-(overlaps[j] * overlaps[j]) / sigma)
        elif overlaps[j] >= threshold:
            scores[j] *= zero if method == 0 else one - overlaps[j]


def forward_units(features: np.ndarray, rois: np.ndarray, tile: int) -> int:
    """How many independent units of work :func:`roi_align_forward` has: RoIs x tiles of channels."""
    return len(rois) * -(-features.shape[3] // tile)


@jit()
def roi_align_forward(first_unit, last_unit, features, rois, tile, sampling_ratio, aligned, output):
    """Pool features [B, H, W, C] in RoIs [N, 5] (image, x1, y1, x2, y2, feature pixels) into output [N, C, PH, PW]."""
    for unit in range(first_unit, last_unit):
        n, start, stop = _unit(unit, tile, features.shape[3])
        _pool(features[int(rois[n, 0])], start, stop, rois[n], sampling_ratio, aligned, output[n])


def backward_units(grad_features: np.ndarray, tile: int) -> int:
    """How many independent units of work :func:`roi_align_backward` has: images x tiles of channels."""
    return len(grad_features) * -(-grad_features.shape[3] // tile)


@jit()
def roi_align_backward(first_unit, last_unit, grad_output, rois, tile, sampling_ratio, aligned, grad_features):
    """Add the gradient of grad_output [N, C, PH, PW] to grad_features [B, H, W, C].

    A unit of work owns a tile of channels of one image, so that no two threads write the same place.
    """
    for unit in range(first_unit, last_unit):
        b, start, stop = _unit(unit, tile, grad_features.shape[3])
        for n in range(rois.shape[0]):
            if int(rois[n, 0]) == b:
                _spread(grad_output[n], start, stop, rois[n], sampling_ratio, aligned, grad_features[b])


@jit()
def _unit(unit, tile, channels):
    tiles = -(-channels // tile)
    start = (unit % tiles) * tile
    return unit // tiles, start, min(start + tile, channels)


@jit()
def _pool(image, start, stop, roi, sampling_ratio, aligned, output):
    """One RoI of image [H, W, C] into output [C, PH, PW], channels start to stop.

    Rows are pooled along x, then added to the bins along y.
    """
    height, width, channels = image.shape[0], image.shape[1], stop - start
    bins_y, bins_x = output.shape[1], output.shape[2]
    weights_y = np.zeros((bins_y, height), image.dtype)
    weights_x = np.zeros((bins_x, width), image.dtype)
    first_y, last_y = _fill_weights(roi[2], roi[4], sampling_ratio, aligned, weights_y)
    first_x, last_x = _fill_weights(roi[1], roi[3], sampling_ratio, aligned, weights_x)
    row = np.empty((bins_x, channels), image.dtype)
    pooled = np.zeros((bins_y, bins_x, channels), image.dtype)
    for y in range(first_y.min(), last_y.max() + 1):
        if not weights_y[:, y].any():
            continue
        row[:] = 0
        for px in range(bins_x):
            for x in range(first_x[px], last_x[px] + 1):
                _add_scaled(row[px], weights_x[px, x], image[y, x, start:stop])
        for py in range(bins_y):
            if weights_y[py, y] != 0:
                for px in range(bins_x):
                    _add_scaled(pooled[py, px], weights_y[py, y], row[px])
    for c in range(channels):
        for py in range(bins_y):
            for px in range(bins_x):
                output[start + c, py, px] = pooled[py, px, c]


@jit()
def _spread(grad_output, start, stop, roi, sampling_ratio, aligned, grad_image):
    """The transpose of _pool: add the gradient of grad_output [C, PH, PW] to grad_image [H, W, C]."""
    height, width, channels = grad_image.shape[0], grad_image.shape[1], stop - start
    bins_y, bins_x = grad_output.shape[1], grad_output.shape[2]
    weights_y = np.zeros((bins_y, height), grad_image.dtype)
    weights_x = np.zeros((bins_x, width), grad_image.dtype)
    first_y, last_y = _fill_weights(roi[2], roi[4], sampling_ratio, aligned, weights_y)
    first_x, last_x = _fill_weights(roi[1], roi[3], sampling_ratio, aligned, weights_x)
    bins = np.empty((bins_y, bins_x, channels), grad_image.dtype)
    for c in range(channels):
        for py in range(bins_y):
            for px in range(bins_x):
                bins[py, px, c] = grad_output[start + c, py, px]
    row = np.empty((bins_x, channels), grad_image.dtype)
    for y in range(first_y.min(), last_y.max() + 1):
        if not weights_y[:, y].any():
            continue
        row[:] = 0
        for py in range(bins_y):
            if weights_y[py, y] != 0:
                for px in range(bins_x):
                    _add_scaled(row[px], weights_y[py, y], bins[py, px])
        for px in range(bins_x):
            for x in range(first_x[px], last_x[px] + 1):
                _add_scaled(grad_image[y, x, start:stop], weights_x[px, x], row[px])


@jit(fastmath={"contract"})
def _add_scaled(target, weight, source):
    if weight != 0:  # a pixel that no sample reads must not turn 0 * inf into NaN
        for c in range(target.size):
            target[c] += weight * source[c]


@jit()
def _fill_weights(low, high, sampling_ratio, aligned, weights):
    """Fill weights [bins, pixels] of one axis for a RoI from low to high, in feature pixels.

    Returns the first and last pixel of each bin; a bin without samples inside the map has an empty range.
    """
    cast = weights.dtype.type
    bins, pixels = weights.shape
    first, last = np.full(bins, pixels), np.full(bins, -1)
    half, one = cast(0.5), cast(1)
    start = low - half if aligned else low
    size = (high - half) - start if aligned else high - low
    if not aligned and size < one:
        size = one
    # mmcv rounds to a C float before it counts the samples, for float64 too.
    samples = sampling_ratio if sampling_ratio > 0 else math.ceil(np.float32(size / cast(bins)))
    step = size / cast(bins)
    for p in range(bins):
        for s in range(samples):
            point = start + cast(p) * step + (cast(s) + half) * step / cast(samples)
            if point < -one or point > cast(pixels):
                continue
            point = point if point > 0 else cast(0)
            pixel = min(int(point), pixels - 1)
            fraction = point - cast(pixel) if pixel < pixels - 1 else cast(0)
            weights[p, pixel] += (one - fraction) / cast(samples)
            first[p], last[p] = min(first[p], pixel), max(last[p], pixel)
            if fraction > 0:
                weights[p, pixel + 1] += fraction / cast(samples)
                last[p] = max(last[p], pixel + 1)
    return first, last
