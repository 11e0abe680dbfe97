"""COCO average precision: faster-coco-eval where installed, pycocotools otherwise, the same twelve statistics."""

import contextlib
import importlib.util
import io
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from flsl_bench.errors import DataError

# In the order of COCOeval.stats. AR1 is the average recall with at most one detection an image, and so on.
STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

ENGINES = ("faster-coco-eval", "pycocotools")


def default_engine() -> str:
    """The faster of the two engines that is installed."""
    return ENGINES[0] if importlib.util.find_spec("faster_coco_eval") else ENGINES[1]


def engine_version(engine: str | None = None) -> str:
    """Name and version of the engine that `average_precision` uses, as the record states it."""
    engine = engine or default_engine()
    return f"{engine} {version(engine)}"


def average_precision(
    ground_truth: str | os.PathLike | dict,
    detections: Sequence[dict],
    iou_type: str,
    *,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
    engine: str | None = None,
) -> dict[str, float | None]:
    """The twelve COCO statistics in percent, None where they are not defined (e.g. APs without small objects).

    Args:
        ground_truth: an instances JSON file, or its content.
        detections: dicts in COCO's result format: image_id, category_id, score and bbox ([x, y, w, h] in pixels) or
            segmentation (RLE). For "segm" areas are those of the masks, whether or not a bbox is given.
        iou_type: "bbox" or "segm".
        image_ids, category_ids: score only these.
        engine: one of `ENGINES`; the default is the faster one installed.

    Raises:
        DataError: a detection names an image that the ground truth does not have.
    """
    coco_class, evaluator_class = _engine_classes(engine or default_engine())
    if iou_type == "segm":
        detections = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    with contextlib.redirect_stdout(io.StringIO()):  # both engines print as they go
        truth = _load(coco_class, ground_truth)
        result = _results(coco_class, truth, detections)
        evaluator = evaluator_class(truth, result, iou_type)
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        if category_ids is not None:
            evaluator.params.catIds = list(category_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = (float(value) for value in evaluator.stats[: len(STATISTICS)])
    return {name: None if value < 0 else 100 * value for name, value in zip(STATISTICS, values, strict=True)}


def _engine_classes(engine: str) -> tuple[type, type]:
    if engine == "faster-coco-eval":
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    if engine == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    raise ValueError(f"unknown engine {engine!r}: use one of {', '.join(ENGINES)}")


def _load(coco_class: type, ground_truth: str | os.PathLike | dict):
    if not isinstance(ground_truth, dict):
        ground_truth = json.loads(Path(ground_truth).read_text(encoding="utf-8"))
    coco = coco_class()
    # Both engines write into annotations and detections: they get copies.
    coco.dataset = {**ground_truth, "annotations": [dict(a) for a in ground_truth["annotations"]]}
    coco.createIndex()
    return coco


def _results(coco_class: type, truth, detections: Sequence[dict]):
    if detections:
        unknown = {d["image_id"] for d in detections} - set(truth.imgs)
        if unknown:
            raise DataError(f"detections name {len(unknown)} images that the ground truth has not, e.g. {min(unknown)}")
        return truth.loadRes([dict(d) for d in detections])
    # loadRes looks into the first detection; without any, an empty result is built by hand.
    empty = coco_class()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty
