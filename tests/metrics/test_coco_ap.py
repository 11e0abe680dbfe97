"""COCO AP: both engines against the official statistics, the edges, and OpenMMLab's way into them."""

import json

import numpy as np
import pytest
import torch

from flsl_bench.datasets.miniature import make_coco
from flsl_bench.errors import DataError
from flsl_bench.metrics.coco import ENGINES, STATISTICS, average_precision, default_engine, engine_version

KINDS = ("bbox", "segm")


def ground_truth(side=20):
    """One image of 100 x 100 pixels with one square object."""
    box = [10, 10, side, side]
    x, y, far = 10, 10, 10 + side
    return {
        "images": [{"id": 3, "file_name": "a.jpg", "width": 100, "height": 100}],
        "annotations": [
            {
                "id": 1,
                "image_id": 3,
                "category_id": 1,
                "iscrowd": 0,
                "area": side * side,
                "bbox": box,
                "segmentation": [[x, y, far, y, far, far, x, far]],
            }
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    }


def detection(side=20, **options):
    return {"image_id": 3, "category_id": 1, "score": 0.9, "bbox": [10, 10, side, side], **options}


def square_mask(corner, side):
    """A square in an image of 100 x 100 pixels, as a compressed RLE."""
    from pycocotools import mask

    pixels = np.zeros((100, 100), dtype=np.uint8, order="F")
    pixels[corner : corner + side, corner : corner + side] = 1
    encoded = mask.encode(pixels)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@pytest.fixture(params=ENGINES)
def engine(request):
    if request.param == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    return request.param


class TestOfficialResults:
    @pytest.fixture(params=KINDS)
    def official(self, request, shared):
        """Kind, ground truth, detections and the twelve statistics of the COCO API's own example."""
        folder = shared / "data/coco_fake100"
        detections = json.loads((folder / f"instances_val2014_fake{request.param}100_results.json").read_text())
        expected = json.loads((folder / "expected_pycocotools_stats.json").read_text())[request.param]
        return request.param, folder / "instances_val2014_100.json", detections, expected

    def test_all_twelve_statistics(self, official, engine):
        kind, truth, detections, expected = official
        statistics = average_precision(truth, detections, kind, engine=engine)
        assert list(statistics) == list(STATISTICS)
        assert [round(value / 100, 4) for value in statistics.values()] == expected  # given to four digits

    def test_engines_agree(self, official):
        pytest.importorskip("faster_coco_eval")
        kind, truth, detections, _ = official
        first, second = (average_precision(truth, detections, kind, engine=engine) for engine in ENGINES)
        assert first == pytest.approx(second, abs=1e-9)

    def test_content_may_be_given_instead_of_a_file(self, official, engine):
        kind, truth, detections, _ = official
        given = average_precision(json.loads(truth.read_text()), detections, kind, engine=engine)
        assert given == average_precision(truth, detections, kind, engine=engine)

    def test_inputs_are_left_as_they_are(self, official, engine):
        kind, truth, detections, _ = official
        content = json.loads(truth.read_text())
        before = json.dumps([content, detections])
        average_precision(content, detections, kind, engine=engine)
        assert json.dumps([content, detections]) == before


class TestEdges:
    def test_no_detections_score_nothing(self, engine):
        statistics = average_precision(ground_truth(), [], "bbox", engine=engine)
        assert statistics["AP"] == statistics["AP50"] == statistics["AR100"] == 0

    def test_perfect_detection_scores_100(self, engine):
        statistics = average_precision(ground_truth(), [detection()], "bbox", engine=engine)
        assert [statistics[name] for name in ("AP", "AP75", "AR1")] == pytest.approx([100] * 3)

    @pytest.mark.parametrize(("side", "defined"), [(20, "s"), (40, "m"), (97, "l")])
    def test_statistics_of_absent_sizes_are_none(self, engine, side, defined):
        statistics = average_precision(ground_truth(side), [detection(side)], "bbox", engine=engine)
        for size in "sml":
            if size == defined:
                assert [statistics[f"AP{size}"], statistics[f"AR{size}"]] == pytest.approx([100, 100])
            else:
                assert statistics[f"AP{size}"] is statistics[f"AR{size}"] is None

    @pytest.mark.parametrize("detections", [[], [detection()]])
    def test_nothing_to_find_leaves_every_statistic_undefined(self, engine, detections):
        truth = {**ground_truth(), "annotations": []}
        assert set(average_precision(truth, detections, "bbox", engine=engine).values()) == {None}

    def test_unknown_image_is_refused(self, engine):
        with pytest.raises(DataError, match=r"detections name 2 images that the ground truth has not, e\.g\. 8"):
            average_precision(
                ground_truth(), [detection(), detection(image_id=8), detection(image_id=11)], "bbox", engine=engine
            )

    def test_unknown_engine_is_named(self):
        with pytest.raises(ValueError, match="unknown engine 'lvis': use one of faster-coco-eval, pycocotools"):
            average_precision(ground_truth(), [], "bbox", engine="lvis")

    def test_mask_areas_are_the_masks_own_even_with_a_bbox(self, engine):
        # COCOeval would take the false detection's size from its large box and leave it out of APs.
        detections = [
            detection(segmentation=square_mask(10, 20)),
            detection(segmentation=square_mask(60, 20), score=0.95, bbox=[0, 0, 99, 99]),
        ]
        assert average_precision(ground_truth(), detections, "segm", engine=engine)["APs"] == pytest.approx(50)

    def test_only_the_images_asked_for_count(self, engine):
        truth = ground_truth()
        truth["images"].append({**truth["images"][0], "id": 4})
        truth["annotations"].append({**truth["annotations"][0], "id": 2, "image_id": 4})
        assert average_precision(truth, [detection()], "bbox", engine=engine)["AR100"] == pytest.approx(50)
        assert average_precision(truth, [detection()], "bbox", engine=engine, image_ids=[3])["AR100"] == 100

    def test_only_the_categories_asked_for_count(self, engine):
        truth = ground_truth()
        truth["annotations"].append({**truth["annotations"][0], "id": 2, "category_id": 2})
        assert average_precision(truth, [detection()], "bbox", engine=engine)["AP"] == pytest.approx(50)
        only = average_precision(truth, [detection()], "bbox", engine=engine, category_ids=[1])
        assert only["AP"] == pytest.approx(100)


def test_engine_version_names_library_and_version():
    name, number = engine_version().split(" ")
    assert name == default_engine()
    assert number[0].isdigit()


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    root = make_coco(tmp_path_factory.mktemp("data") / "coco", train_images=0, val_images=8)
    return root / "annotations/instances_val2017.json"


class TestCocoAP:
    """The metric as an OpenMMLab evaluator drives it."""

    @pytest.fixture
    def truth(self, miniature):
        from pycocotools.coco import COCO

        return COCO(str(miniature))

    @pytest.fixture
    def metric(self, miniature):
        metrics = pytest.importorskip("mmengine.registry").METRICS
        pytest.importorskip("flsl_bench.openmmlab")
        built = metrics.build(dict(type="CocoAP", ann_file=str(miniature), metric=list(KINDS)))
        content = json.loads(miniature.read_text())
        built.dataset_meta = {"classes": tuple(category["name"] for category in content["categories"])}
        return built

    @staticmethod
    def samples(truth, **extra):
        """The ground truth, crowds apart, as a detector's predictions."""
        categories = truth.getCatIds()
        for image in truth.imgs.values():
            annotations = truth.loadAnns(truth.getAnnIds(image["id"], iscrowd=False))
            boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float64).reshape(-1, 4)
            masks = [truth.annToMask(a) for a in annotations]
            size = (image["height"], image["width"])
            yield {
                "img_id": image["id"],
                "ori_shape": size,
                "pred_instances": {
                    "bboxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
                    "scores": torch.full((len(annotations),), 0.5),
                    "labels": torch.tensor([categories.index(a["category_id"]) for a in annotations], dtype=torch.long),
                    "masks": torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *size)),
                    **{name: torch.full((len(annotations),), value) for name, value in extra.items()},
                },
            }

    def test_ground_truth_as_predictions_scores_100(self, metric, truth):
        metric.process({}, list(self.samples(truth)))
        scores = metric.evaluate(size=len(truth.imgs))
        for kind in ("box", "mask"):
            for statistic in ("AP", "AP50", "AP75", "AR100"):
                assert scores[f"coco/{kind}_{statistic}"] == pytest.approx(100)

    def test_undefined_statistics_are_left_out(self, metric, truth):
        metric.process({}, list(self.samples(truth)))
        scores = metric.compute_metrics(metric.results)
        defined = average_precision(truth.dataset, [], "bbox")
        assert {name for name in STATISTICS if f"box_{name}" in scores} == {
            k for k, v in defined.items() if v is not None
        }

    def test_detector_that_finds_nothing_scores_nothing(self, metric, truth):
        metric.process({}, [self.nothing(sample) for sample in self.samples(truth)])
        scores = metric.compute_metrics(metric.results)
        assert scores["box_AP"] == scores["mask_AP"] == 0

    @staticmethod
    def nothing(sample):
        empty = {name: value[:0] for name, value in sample["pred_instances"].items()}
        return {**sample, "pred_instances": empty}

    def test_masks_are_ranked_by_their_own_scores(self, metric, truth):
        metric.process({}, list(self.samples(truth, mask_scores=0.25)))
        metric.cat_ids = truth.getCatIds()
        prediction = metric.results[0][1]
        assert {d["score"] for d in metric._detections(prediction, "segm")} == {0.25}
        assert {d["score"] for d in metric._detections(prediction, "bbox")} == {0.5}

    def test_scores_are_not_rounded(self, metric, truth):
        samples = list(self.samples(truth))
        samples[0] = self.nothing(samples[0])
        metric.process({}, samples)
        score = metric.compute_metrics(metric.results)["box_AP"]
        assert 0 < score < 100
        assert score != round(score, 3)
