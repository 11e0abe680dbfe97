"""COCO AP as an OpenMMLab metric, unrounded and with all twelve statistics."""

from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from flsl_bench.metrics.coco import average_precision

_KINDS = {"bbox": "box", "segm": "mask"}


@METRICS.register_module()
class CocoAP(CocoMetric):
    """mmdet's gathering of results, scored by `flsl_bench.metrics.coco` under COCO's own parameters.

    mmdet's own metric rounds to three decimals and keeps six statistics. Keys are "box_AP", "mask_AP50", ...; values
    are in percent; undefined statistics are left out.
    """

    default_prefix = "coco"

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta["classes"])
        predictions = [prediction for _, prediction in results]
        seen = sorted(prediction["img_id"] for prediction in predictions)  # a loader may be cut to fewer images
        scores = {}
        for iou_type in self.metrics:
            detections = [d for p in predictions for d in self._detections(p, iou_type)]
            statistics = average_precision(
                self._coco_api.dataset, detections, iou_type, image_ids=seen, category_ids=self.cat_ids
            )
            scores |= {f"{_KINDS[iou_type]}_{k}": v for k, v in statistics.items() if v is not None}
        return scores

    def _detections(self, prediction: dict, iou_type: str) -> list[dict]:
        scores = prediction["scores"] if iou_type == "bbox" else prediction.get("mask_scores", prediction["scores"])
        common = [
            {"image_id": prediction["img_id"], "category_id": self.cat_ids[label], "score": float(score)}
            for label, score in zip(prediction["labels"], scores, strict=True)
        ]
        if iou_type == "segm":
            return [{**c, "segmentation": mask} for c, mask in zip(common, prediction["masks"], strict=True)]
        return [{**c, "bbox": self.xyxy2xywh(box)} for c, box in zip(common, prediction["bboxes"], strict=True)]
