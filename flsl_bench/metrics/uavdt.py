"""The score of UAVDT's official toolkit: class-agnostic AP at IoU 0.7, in all and by level and attribute.

Source: the detection part of the toolkit of Du et al., "The Unmanned Aerial Vehicle Benchmark: Object Detection and
Tracking", ECCV 2018; the area under the curve is that of PASCAL VOC 2010 and later (Everingham et al., "The PASCAL
Visual Object Classes Challenge: A Retrospective", IJCV 2015).
What the protocol leaves open, such as ties and the truths of other levels, is decided in `Evaluation` and stated there.

Arrays, each of float64 or of what converts to it:

- detections [D, 6]: frame, x, y, w, h, score
- truths [T, 5]: frame, x, y, w, h
- ignores [R, 5]: frame, x, y, w, h

`frame` is a whole number that no two frames of the data set share, such as the image id of the COCO JSON. The rest is
in pixels, with the origin at the upper left; a box has the area w * h, no pixel is added. Categories play no part.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from flsl_bench.errors import DataError

IOU = 0.7
"""The toolkit's threshold."""


def average_precision(detections: ArrayLike, truths: ArrayLike, ignores: ArrayLike, iou: float = IOU) -> float | None:
    """AP from 0 to 1 over all truths; None where there is no truth. Choices and errors are those of `Evaluation`."""
    return Evaluation(detections, truths, ignores, iou).average_precision()


class Evaluation:
    """Detections laid against truths once, to be scored over all truths and over parts of them.

    - A detection strictly inside an ignore region of its frame is dropped: all four sides, none touching the region's
      border. It is lost also for a truth in there, since truths are never dropped.
    - Detections are taken by descending score over all frames; equal scores in the order of the array.
    - A detection matches the truth of its frame with the highest IoU among those not matched yet, if that IoU is at
      least `iou`; of equal IoUs the first in the array. A truth matches once: later detections of it are wrong.
    - Precision and recall are taken after each detection; precision is made monotone from the right, and AP is the area
      below it, from recall 0 to the highest reached.

    Args:
        detections: [D, 6], the layout of the module's docstring; also an empty list.
        truths: [T, 5]; also an empty list.
        ignores: [R, 5]; also an empty list.
        iou: over 0, up to 1.

    Raises:
        DataError: an array of another shape, a value that is no finite number, a negative width or height, or an `iou`
            out of range.
    """

    def __init__(self, detections: ArrayLike, truths: ArrayLike, ignores: ArrayLike, iou: float = IOU) -> None:
        if not 0 < iou <= 1:
            raise DataError(f"iou {iou}: give a threshold over 0 and up to 1")
        detections, truths = _table("detections", detections, 6), _table("truths", truths, 5)
        detections = _outside(detections, _table("ignores", ignores, 5))
        detections = detections[np.argsort(-detections[:, 5], kind="stable")]
        self._detection_frames = detections[:, 0]
        self._truth_frames = truths[:, 0]
        self._pairs = _pairs(detections, truths, iou)

    def average_precision(self) -> float | None:
        """AP from 0 to 1 over all truths; None where there is no truth."""
        return self._score(np.ones(len(self._truth_frames), dtype=bool))

    def by_level(self, levels: ArrayLike, names: Mapping[int, str]) -> dict[str, float | None]:
        """AP for the truths of each level of `names`, of occlusion or of out-of-view; None for a level without truth.

        Truths of other levels are ignored then: a detection that matches no truth of the level, but overlaps one of
        another by the threshold or more, is neither right nor wrong, however many do so. Detections that overlap no
        truth are wrong on every level, so a score is comparable between detectors, not between levels.

        Args:
            levels: whole numbers [T], in the order of the truths; numbers that `names` lacks are always ignored.
            names: level to the name in the result.

        Raises:
            DataError: `levels` has another length than the truths.
        """
        levels = np.asarray(levels)
        if levels.shape != self._truth_frames.shape:
            raise DataError(f"levels of shape {levels.shape} for {len(self._truth_frames)} truths: give one each")
        return {name: self._score(levels == level) for level, name in names.items()}

    def by_attribute(
        self, sequence_of_frame: Mapping[int, str], attributes: Mapping[str, Collection[str]]
    ) -> dict[str, float | None]:
        """AP over the frames of the sequences with each attribute, sorted by name; None where these have no truth.

        Args:
            sequence_of_frame: the frame numbers of the arrays to the names of their sequences.
            attributes: each sequence's attributes, such as daylight or high-alt; an empty list if it has none.

        Raises:
            DataError: a frame of the arrays has no sequence, its sequence no entry in `attributes`, or an entry is a
                string instead of a list of them.
        """
        for sequence, names in attributes.items():
            if isinstance(names, str):  # would be read as one attribute for each letter
                raise DataError(f"attributes of {sequence}: {names!r} is a string; give a list of attributes")
        present = np.unique(np.concatenate([self._detection_frames, self._truth_frames]))
        frames = {name: [] for name in sorted({name for names in attributes.values() for name in names})}
        for frame in present:
            for name in set(_attributes_of(int(frame), sequence_of_frame, attributes)):
                frames[name].append(frame)
        return {name: self._score_frames(np.array(chosen)) for name, chosen in frames.items()}

    def _score_frames(self, frames: np.ndarray) -> float | None:
        return self._score(np.isin(self._truth_frames, frames), np.isin(self._detection_frames, frames))

    def _score(self, counted: np.ndarray, taking_part: np.ndarray | None = None) -> float | None:
        """AP over the truths of bool [T], with the detections of bool [D] or all."""
        if not counted.any():
            return None
        detection, truth = self._pairs
        right = np.zeros(len(self._detection_frames), dtype=bool)
        right[_greedy(detection[counted[truth]], truth[counted[truth]])] = True
        neutral = np.zeros_like(right)
        neutral[detection[~counted[truth]]] = True
        kept = right | ~neutral
        if taking_part is not None:
            kept &= taking_part
        return _area(right[kept], np.count_nonzero(counted))


def _attributes_of(
    frame: int, sequence_of_frame: Mapping[int, str], attributes: Mapping[str, Collection[str]]
) -> Collection[str]:
    sequence = sequence_of_frame.get(frame)
    if sequence is None:
        raise DataError(f"frame {frame} belongs to no sequence; name one in sequence_of_frame")
    if sequence not in attributes:
        raise DataError(f"sequence {sequence} has no entry in attributes; give an empty list if it has none")
    return attributes[sequence]


def _table(name: str, values: ArrayLike, columns: int) -> np.ndarray:
    table = np.asarray(values, dtype=np.float64)
    if table.size == 0 and table.ndim <= 2:
        return np.empty((0, columns))
    if table.ndim != 2 or table.shape[1] != columns:
        raise DataError(f"{name} of shape {table.shape}: give [number, {columns}]")
    if not np.isfinite(table).all():
        raise DataError(f"{name}: row {int(np.argmin(np.isfinite(table).all(axis=1)))} has a value that is not finite")
    if (table[:, 3:5] < 0).any():
        raise DataError(f"{name}: row {int(np.argmax((table[:, 3:5] < 0).any(axis=1)))} has a negative width or height")
    return table


def _frames(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of two tables frame by frame, for the frames in both; rows of a frame in the tables' order."""
    orders = [np.argsort(table[:, 0], kind="stable") for table in (first, second)]
    keys = [table[order, 0] for table, order in zip((first, second), orders, strict=True)]
    frames = np.intersect1d(*keys)
    limits = [(np.searchsorted(key, frames), np.searchsorted(key, frames, side="right")) for key in keys]
    for a, b, c, d in zip(*limits[0], *limits[1], strict=True):
        yield orders[0][a:b], orders[1][c:d]


def _corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper left and lower right corners, [N, 2] each, of rows frame, x, y, w, h."""
    return boxes[:, 1:3], boxes[:, 1:3] + boxes[:, 3:5]


def _outside(detections: np.ndarray, ignores: np.ndarray) -> np.ndarray:
    """The detections that are not strictly inside an ignore region of their frame."""
    dropped = np.zeros(len(detections), dtype=bool)
    start, end = _corners(detections)
    region_start, region_end = _corners(ignores)
    for mine, regions in _frames(detections, ignores):
        inside = (start[mine, None] > region_start[regions]) & (end[mine, None] < region_end[regions])  # [d, r, 2]
        dropped[mine] = inside.all(axis=2).any(axis=1)
    return detections[~dropped]


def _pairs(detections: np.ndarray, truths: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of detections and truths, int64 [P] each, that overlap by `iou` or more.

    Sorted by detection, then by falling IoU, then by truth. So the first pair of a detection whose truth is free is its
    best match, and one pass over the pairs does the greedy matching.
    """
    found = [_frame_pairs(detections, truths, *rows, iou) for rows in _frames(detections, truths)]
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    detection, truth, overlap = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((truth, -overlap, detection))
    return detection[order], truth[order]


def _frame_pairs(
    detections: np.ndarray, truths: np.ndarray, mine: np.ndarray, theirs: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detection rows, truth rows and IoUs of the pairs of one frame."""
    detections, truths = detections[mine], truths[theirs]
    start, end = _corners(detections)
    truth_start, truth_end = _corners(truths)
    sides = np.minimum(end[:, None], truth_end) - np.maximum(start[:, None], truth_start)  # [d, t, 2]
    common = np.prod(np.maximum(sides, 0), axis=2)
    union = np.prod(detections[:, 3:5], axis=1)[:, None] + np.prod(truths[:, 3:5], axis=1) - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    i, j = np.nonzero(overlap >= iou)
    return mine[i], theirs[j], overlap[i, j]


def _greedy(detection: np.ndarray, truth: np.ndarray) -> list[int]:
    """The detections that match a truth, of pairs in the order of `_pairs`."""
    matched, taken = set(), set()
    for i, j in zip(detection.tolist(), truth.tolist(), strict=True):
        if i not in matched and j not in taken:
            matched.add(i)
            taken.add(j)
    return list(matched)


def _area(right: np.ndarray, truths: int) -> float:
    """Area under the monotone precision-recall curve of bool [D], by falling score."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(highest[right].sum() / truths)  # recall grows by 1 / truths where a detection is right, only there
