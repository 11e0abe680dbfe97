"""The DAVIS 2017 scores: region similarity J, boundary measure F, and their statistics over a sequence.

Definitions: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016,
section 4; the conventions at the frame's edges and for empty masks are those of `davis2017-evaluation`
(`davis2017/metrics.py`, `davis2017/utils.py`), so the numbers are equal to its numbers.

Two facts make it fast without changing a bit. Away from an object's bounding box both masks are background, so all work
is done on a crop. And whether a boundary pixel has one of the other boundary within the tolerance is asked of
64 pixels at a time, on masks packed to one bit a pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flsl_bench.errors import DataError

VOID_ID = 255
TOLERANCE = 0.008
"""Boundary tolerance as a share of the frame's diagonal (`bound_th` of the official code)."""

_WORD = 64


@dataclass(frozen=True)
class Statistics:
    """One measure of one object over the frames of a sequence; each from 0 to 1, decay from -1 to 1."""

    mean: float
    recall: float
    """Share of the frames that score over 0.5."""
    decay: float
    """Mean of the first quarter of the frames less the mean of the last; higher is worse."""


def region_similarity(result: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """J: intersection over union of two bool masks [H, W] outside `void`; 1 if both are empty there.

    Raises `DataError` for masks that are not two-dimensional or differ in size.
    """
    result, truth = _outside_void(result, truth, void)
    return _intersection_over_union(result, truth)


def boundary_measure(
    result: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None, tolerance: float = TOLERANCE
) -> float:
    """F: harmonic mean of boundary precision and recall of two bool masks [H, W] outside `void`.

    A boundary pixel matches when one of the other boundary is at most a radius away (Euclidean). The radius is
    `ceil(tolerance * diagonal)` pixels for a tolerance below 1; a tolerance of 1 or more is in pixels, rounded up.
    Raises `DataError` for masks that are not two-dimensional or differ in size, and for a negative tolerance.
    """
    result, truth = _outside_void(result, truth, void)
    radius = _radius(tolerance, truth.shape)
    box = _bounding_box(result | truth)
    if box is None:
        return 1.0
    return _boundary_f(_crop(result, box), _crop(truth, box), radius)


def frame_scores(
    result_ids: np.ndarray,
    truth_ids: np.ndarray,
    objects: Sequence[int],
    void_id: int = VOID_ID,
    tolerance: float = TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """J and F, float64 [len(objects)] each, of one frame's object ids uint8 [H, W].

    Pixels of `void_id` in the truth count for no object; in the result they are background. An object absent in both
    scores 1, absent in one 0. Equal to `region_similarity` and `boundary_measure` object by object, only faster.
    Raises `DataError` for arrays that are not two-dimensional or differ in size, and for objects that are 0 or void.
    """
    _check_sizes(result_ids, truth_ids)
    if any(k == 0 or k == void_id for k in objects):
        raise DataError(f"objects {list(objects)}: 0 is the background and {void_id} is void; leave them out")
    radius = _radius(tolerance, truth_ids.shape)
    scores = np.ones((2, len(objects)))
    if np.max(truth_ids, initial=0) >= void_id:  # one pass; most frames have no void and need no second
        result_ids = np.where(truth_ids == void_id, truth_ids, result_ids)  # void matches no object
    box = _bounding_box(result_ids | truth_ids)
    if box is not None:
        result_ids, truth_ids = _crop(result_ids, box), _crop(truth_ids, box)
        for i, k in enumerate(objects):
            scores[:, i] = _object_scores(result_ids == k, truth_ids == k, radius)
    return scores[0], scores[1]


def statistics(values: Sequence[float] | np.ndarray) -> Statistics:
    """Mean, recall and decay of one object's per-frame values [T]; NaN frames are left out of the means.

    The quarters are the official code's: they share their end frames, and their limits are rounded half up. It stores
    the limits as uint8, which wraps past 255 frames; here they are whole numbers of any size.
    Raises `DataError` when there is no value.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"per-frame values of shape {values.shape}: give one value or more, as a list")
    limits = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64)
    first = values[limits[0] : limits[1] + 1]
    last = values[limits[3] : limits[4] + 1]
    return Statistics(_nan_mean(values), float(np.mean(values > 0.5)), _nan_mean(first) - _nan_mean(last))


def _nan_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else math.nan


def _check_sizes(result: np.ndarray, truth: np.ndarray) -> None:
    if np.ndim(truth) != 2 or np.shape(result) != np.shape(truth):
        raise DataError(
            f"result of shape {np.shape(result)} against a truth of shape {np.shape(truth)}: both must be [H, W]"
        )


def _outside_void(result: np.ndarray, truth: np.ndarray, void: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    _check_sizes(result, truth)
    result, truth = np.asarray(result, dtype=bool), np.asarray(truth, dtype=bool)
    if void is None:
        return result, truth
    _check_sizes(void, truth)
    counted = ~np.asarray(void, dtype=bool)
    return result & counted, truth & counted


def _radius(tolerance: float, shape: tuple[int, ...]) -> int:
    if not tolerance >= 0:
        raise DataError(f"boundary tolerance {tolerance}: give a share of the diagonal, or 1 and more for pixels")
    return math.ceil(tolerance if tolerance >= 1 else tolerance * np.linalg.norm(shape))


def _object_scores(result: np.ndarray, truth: np.ndarray, radius: int) -> tuple[float, float]:
    """J and F of one object on masks that end as `_crop` leaves them."""
    box = _bounding_box(result[:-1, :-1] | truth[:-1, :-1])
    if box is None:
        return 1.0, 1.0
    top, bottom, left, right = box
    part = np.s_[top : bottom + 1, left : right + 1]
    result, truth = result[part], truth[part]
    return _intersection_over_union(result[:-1, :-1], truth[:-1, :-1]), _boundary_f(result, truth, radius)


def _intersection_over_union(result: np.ndarray, truth: np.ndarray) -> float:
    union = np.count_nonzero(result | truth)
    return np.count_nonzero(result & truth) / union if union else 1.0


def _bounding_box(occupied: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the non-zero pixels, ends exclusive; None if there are none.

    Grown by one row up and one column left: a pixel there differs from its neighbour inside, so it is boundary.
    """
    rows = np.flatnonzero(occupied.any(axis=1))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(occupied[top:bottom].any(axis=0))
    return max(top - 1, 0), bottom, max(int(columns[0]) - 1, 0), int(columns[-1]) + 1


def _crop(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The box and one row and column more, [h + 1, w + 1]; at the frame's edge these repeat the last of the frame.

    Repeating is what makes the last row compare only to the right and the last column only downwards.
    """
    top, bottom, left, right = box
    part = image[top : bottom + 1, left : right + 1]
    missing = (bottom - top + 1 - part.shape[0], right - left + 1 - part.shape[1])
    return np.pad(part, ((0, missing[0]), (0, missing[1])), mode="edge") if any(missing) else part


def _boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels [h, w] of a mask [h + 1, w + 1] that differ from their right, lower or lower-right neighbour."""
    here = mask[:-1, :-1]
    boundary = here ^ mask[:-1, 1:]
    boundary |= here ^ mask[1:, :-1]
    boundary |= here ^ mask[1:, 1:]
    return boundary


def _boundary_f(result: np.ndarray, truth: np.ndarray, radius: int) -> float:
    """F of masks that end as `_crop` leaves them."""
    result, truth = _boundary(result), _boundary(truth)
    in_result, in_truth = np.count_nonzero(result), np.count_nonzero(truth)
    if not in_result or not in_truth:
        return 1.0 if in_result == in_truth else 0.0
    result_matches, truth_matches = _matches(result, truth, radius)
    precision, recall = result_matches / in_result, truth_matches / in_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _matches(first: np.ndarray, second: np.ndarray, radius: int) -> tuple[int, int]:
    """How many pixels of each boundary [h, w] have one of the other at most `radius` away.

    Both are laid into one string of bits, row after row, and dilated together by a disk: grow the rows sideways by the
    disk's half-width at a height, then move them up and down by that height. Empty columns after each row and
    empty rows between the two keep what is shifted from reaching another row or the other boundary.
    """
    height, width = first.shape
    half_widths = [min(math.isqrt(radius**2 - dy**2), width - 1) for dy in range(min(radius, height - 1) + 1)]
    gap = len(half_widths) - 1
    row_words = -(-(width + half_widths[0]) // _WORD)
    bits = np.zeros((2 * height + gap, row_words * _WORD), dtype=bool)
    bits[:height, :width] = first
    bits[height + gap :, :width] = second
    string = np.packbits(bits, bitorder="little").view("<u8")
    near = _dilate(string, half_widths, row_words)
    split = height * row_words
    return _common(string[:split], near[-split:]), _common(string[-split:], near[:split])


def _dilate(string: np.ndarray, half_widths: list[int], row_words: int) -> np.ndarray:
    """The bit string dilated by the shape that is `half_widths[dy]` wide to either side at height dy up and down."""
    sideways, grown = string.copy(), 0
    near = np.zeros_like(string)
    for dy in range(len(half_widths) - 1, -1, -1):  # from the disk's narrow ends, so that `sideways` only grows
        while grown < half_widths[dy]:
            step = min(half_widths[dy] - grown, grown + 1)  # not more: what leaves the string's ends cannot fill a gap
            before = sideways.copy()
            _add_forward(sideways, before, step)
            _add_backward(sideways, before, step)
            grown += step
        _add_moved(near, sideways, dy * row_words)
        _add_moved(near, sideways, -dy * row_words)
    return near


def _add_forward(target: np.ndarray, string: np.ndarray, bits: int) -> None:
    words, bits = divmod(bits, _WORD)
    _add_moved(target, string << bits, words)
    if bits:
        _add_moved(target, string >> (_WORD - bits), words + 1)


def _add_backward(target: np.ndarray, string: np.ndarray, bits: int) -> None:
    words, bits = divmod(bits, _WORD)
    _add_moved(target, string >> bits, -words)
    if bits:
        _add_moved(target, string << (_WORD - bits), -words - 1)


def _add_moved(target: np.ndarray, string: np.ndarray, words: int) -> None:
    """target |= string moved by whole words; what leaves either end is dropped."""
    if words > 0:
        target[words:] |= string[:-words]
    elif words < 0:
        target[:words] |= string[-words:]
    else:
        target |= string


def _common(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.bitwise_count(a & b).sum())
