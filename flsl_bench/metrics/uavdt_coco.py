"""UAVDT's official score of detections in COCO's format, against the JSON that `flsl_bench.datasets.uavdt` writes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flsl_bench.datasets.uavdt import OCCLUSION, OUT_OF_VIEW
from flsl_bench.errors import DataError
from flsl_bench.metrics.uavdt import Evaluation

_BOX_FIELDS = ("image_id", "bbox", "occlusion", "out_of_view")


@dataclass(frozen=True)
class Truth:
    """The truth of a split as the arrays of `flsl_bench.metrics.uavdt`; a frame's number is its image id.

    `boxes`: float64 [T, 5]; `ignores`: float64 [R, 5], a region once for each category; `occlusion`, `out_of_view`:
    int64 [T]; `sequence_of_frame`: image id to sequence, of all images.
    """

    boxes: np.ndarray
    ignores: np.ndarray
    occlusion: np.ndarray
    out_of_view: np.ndarray
    sequence_of_frame: dict[int, str]

    def of_frames(self, frames: Collection[int]) -> "Truth":
        """The truth of these image ids alone."""
        boxes, ignores = (np.isin(table[:, 0], list(frames)) for table in (self.boxes, self.ignores))
        sequences = {frame: self.sequence_of_frame[frame] for frame in frames}
        return Truth(
            self.boxes[boxes], self.ignores[ignores], self.occlusion[boxes], self.out_of_view[boxes], sequences
        )


@dataclass(frozen=True)
class OfficialScore:
    """The official AP in percent, None without truths, and those of parts by the title of the breakdown."""

    ap: float | None
    breakdowns: dict[str, dict[str, float | None]]


def read_truth(content: Mapping) -> Truth:
    """The truth of a COCO JSON whose `iscrowd` annotations are ignore regions.

    Raises:
        DataError: an image has no sequence, or a box no level of occlusion or out-of-view.
    """
    for image in content["images"]:
        _require(image, ("id", "sequence"), "image")
    boxes = [a for a in content["annotations"] if not a["iscrowd"]]
    for annotation in boxes:
        _require(annotation, _BOX_FIELDS, "annotation")
    return Truth(
        boxes=_table(boxes),
        ignores=_table([a for a in content["annotations"] if a["iscrowd"]]),
        occlusion=np.array([a["occlusion"] for a in boxes], dtype=np.int64),
        out_of_view=np.array([a["out_of_view"] for a in boxes], dtype=np.int64),
        sequence_of_frame={image["id"]: image["sequence"] for image in content["images"]},
    )


def official_score(
    truth: Truth, detections: Sequence[Mapping], attributes: Mapping[str, Collection[str]] | None = None
) -> OfficialScore:
    """The official AP, whole and by level of occlusion and out-of-view, and by `attributes` of the sequences if given.

    Args:
        truth: of the frames that were given to the detector.
        detections: dicts in COCO's result format: image_id, bbox ([x, y, w, h] in pixels) and score; categories play
            no part.
        attributes: each sequence's attributes; see `Evaluation.by_attribute`.
    """
    scores = np.array([d["score"] for d in detections], dtype=np.float64)
    evaluation = Evaluation(np.column_stack([_table(detections), scores]), truth.boxes, truth.ignores)
    parts = {
        "official AP by occlusion": evaluation.by_level(truth.occlusion, OCCLUSION),
        "official AP by out-of-view": evaluation.by_level(truth.out_of_view, OUT_OF_VIEW),
    }
    if attributes is not None:
        parts["official AP by attribute"] = evaluation.by_attribute(truth.sequence_of_frame, attributes)
    return OfficialScore(
        _percent(evaluation.average_precision()),
        {title: {name: _percent(value) for name, value in part.items()} for title, part in parts.items()},
    )


def _table(entries: Sequence[Mapping]) -> np.ndarray:
    """Rows image id, x, y, w, h, float64 [N, 5]."""
    return np.array([(e["image_id"], *e["bbox"]) for e in entries], dtype=np.float64).reshape(-1, 5)


def _require(entry: Mapping, fields: Sequence[str], what: str) -> None:
    missing = [name for name in fields if name not in entry]
    if missing:
        raise DataError(
            f"{what} {entry.get('id')}: field {missing[0]} is missing; have flsl-bench data convert-uavdt make the JSON"
        )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
