import json
import os

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from flsl_bench.datasets import miniature
from flsl_bench.datasets.coco_categories import CATEGORIES
from flsl_bench.datasets.cutouts import Placement, compose, ground, ground_names, landscape, load_cutouts
from flsl_bench.datasets.miniature import coco_image_id, coco_scene, make_coco, polygons_of, uncompressed_rle
from flsl_bench.errors import ConfigError, DataError

COUNTS = {"train": 22, "val": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coco(tmp_path_factory.mktemp("data") / "coco", train_images=COUNTS["train"], val_images=COUNTS["val"])


@pytest.fixture(scope="module", params=["train", "val"])
def split(request):
    return request.param


@pytest.fixture(scope="module")
def coco(root, split):
    return COCO(root / "annotations" / f"instances_{split}2017.json")


@pytest.fixture(scope="module")
def pairs(coco, split):
    """Every annotation with its true mask."""
    scenes = [(coco_image_id(split, index), coco_scene(split, index)) for index in range(COUNTS[split])]
    return [
        (annotation, scene.instances == number)
        for image_id, scene in scenes
        for number, annotation in enumerate(coco.imgToAnns[image_id], start=1)
    ]


def test_categories_equal_the_real_ones(shared):
    real = json.loads((shared / "data/coco_tiny38/annotations/instances_val2017.json").read_text())["categories"]
    assert list(CATEGORIES) == real


def test_annotations_have_the_keys_of_the_real_ones(shared, coco):
    real = COCO(shared / "data/coco_tiny38/annotations/instances_val2017.json")
    for ours, theirs in [
        (coco.dataset, real.dataset),
        *((coco.dataset[k][0], real.dataset[k][0]) for k in ("images", "annotations", "licenses")),
    ]:
        assert ours.keys() == theirs.keys()


def test_files_exist_with_the_stated_sizes(root, split, coco):
    names = {path.name for path in (root / f"{split}2017").iterdir()}
    assert names == {image["file_name"] for image in coco.dataset["images"]}
    assert len(names) == COUNTS[split]
    for image in coco.dataset["images"]:
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        with Image.open(root / f"{split}2017" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
            assert picture.mode == "RGB"
    assert any(image["width"] > image["height"] for image in coco.dataset["images"])
    assert any(image["width"] < image["height"] for image in coco.dataset["images"])


def test_ids_are_unique_over_both_splits(root):
    images, annotations = [], []
    for split in COUNTS:
        content = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
        images += [image["id"] for image in content["images"]]
        annotations += [annotation["id"] for annotation in content["annotations"]]
    assert len(set(images)) == len(images)
    assert len(set(annotations)) == len(annotations)


def test_every_object_of_a_scene_is_annotated(split, coco):
    names = {category["id"]: category["name"] for category in CATEGORIES}
    for index in range(COUNTS[split]):
        scene = coco_scene(split, index)
        annotations = coco.imgToAnns[coco_image_id(split, index)]
        assert tuple(names[annotation["category_id"]] for annotation in annotations) == scene.categories
        assert tuple(bool(annotation["iscrowd"]) for annotation in annotations) == scene.crowd


def test_segmentation_agrees_with_the_instance_map(coco, pairs):
    for annotation, truth in pairs:
        decoded = coco.annToMask(annotation).astype(bool)
        overlap = (decoded & truth).sum() / (decoded | truth).sum()
        assert overlap > (0.97 if truth.sum() > 200 else 0.93)


def test_area_and_box_agree_with_the_segmentation(coco, pairs):
    for annotation, truth in pairs:
        assert annotation["area"] == pytest.approx(truth.sum(), rel=0.03)
        rows, columns = np.nonzero(truth)
        box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
        assert annotation["bbox"] == pytest.approx(box, abs=1.5)
        assert all(isinstance(value, float) for value in [annotation["area"], *annotation["bbox"]])


def test_objects_are_visible(pairs):
    assert min(truth.sum() for _, truth in pairs) >= miniature.MIN_VISIBLE_PIXELS


def test_crowds_are_uncompressed_rle(coco, pairs):
    crowds = [(annotation, truth) for annotation, truth in pairs if annotation["iscrowd"]]
    assert crowds
    for annotation, truth in crowds:
        assert isinstance(annotation["segmentation"]["counts"], list)
        np.testing.assert_array_equal(coco.annToMask(annotation), truth)


def test_a_training_picture_has_no_objects(root):
    content = COCO(root / "annotations" / "instances_train2017.json")
    assert [image for image in content.imgs if not content.imgToAnns[image]] == [coco_image_id("train", 19)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ground_truth_as_detections_scores_one(coco, kind):
    detections = [
        {
            "image_id": annotation["image_id"],
            "category_id": annotation["category_id"],
            "bbox": annotation["bbox"],
            "segmentation": coco.annToRLE(annotation),
            "score": 0.9,
        }
        for annotation in coco.dataset["annotations"]
        if not annotation["iscrowd"]
    ]
    if kind == "bbox":  # pycocotools takes the box for the shape only where no segmentation is given
        detections = [{k: v for k, v in detection.items() if k != "segmentation"} for detection in detections]
    evaluation = COCOeval(coco, coco.loadRes(detections), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    sizes = {"train_images": 4, "val_images": 2}
    first, second = (_files(make_coco(tmp_path / name, **sizes)) for name in ("a", "b"))
    assert first == second
    other = _files(make_coco(tmp_path / "c", seed=1, **sizes))
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_a_scene_does_not_depend_on_what_was_made_before():
    once = coco_scene("val", 3)
    coco_scene("train", 1)
    again = coco_scene("val", 3)
    np.testing.assert_array_equal(once.image, again.image)
    np.testing.assert_array_equal(once.instances, again.instances)


def test_a_finished_miniature_is_left_alone(root, monkeypatch):
    monkeypatch.setattr(miniature, "coco_scene", lambda *_, **__: pytest.fail("made anew"))
    assert make_coco(root, train_images=COUNTS["train"], val_images=COUNTS["val"]) == root


def test_an_unknown_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match=rf"{tmp_path}: exists and is not a miniature.*name another folder"):
        make_coco(tmp_path, train_images=1, val_images=1)
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("marker", ["[]", "{}", "not json"])
def test_a_broken_marker_is_refused(tmp_path, marker):
    (tmp_path / miniature.MARKER).write_text(marker)
    with pytest.raises(DataError, match=r"no readable miniature\.json"):
        make_coco(tmp_path)


def test_other_parameters_and_lost_files_are_refused(tmp_path):
    root = make_coco(tmp_path / "coco", train_images=1, val_images=1)
    with pytest.raises(DataError, match="holds another miniature"):
        make_coco(root, train_images=1, val_images=1, seed=1)
    next((root / "val2017").iterdir()).unlink()
    with pytest.raises(DataError, match="lost or changed"):
        make_coco(root, train_images=1, val_images=1)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(miniature, "_coco_annotations", stop)
    with pytest.raises(KeyboardInterrupt):
        make_coco(tmp_path / "coco", train_images=1, val_images=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"size": (192, 20)}, {"train_images": -1}, {"seed": -1}])
def test_numbers_that_make_no_pictures_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="at least 64 pixels"):
        make_coco(tmp_path / "coco", **wrong)


@pytest.mark.parametrize("size", [(64, 64), (320, 240)])
def test_other_sizes_can_be_made(size):
    for index in (0, 4, 5):
        scene = coco_scene("train", index, size=size)
        assert scene.image.shape[:2] == scene.instances.shape
        assert scene.instances.max() == len(scene.categories)


def test_an_empty_folder_may_be_filled(tmp_path):
    make_coco(tmp_path, train_images=1, val_images=1)
    assert (tmp_path / miniature.MARKER).is_file()


def test_a_mask_with_holes_becomes_polygons_without():
    mask = np.zeros((60, 70), bool)
    mask[:50, 5:65] = True
    mask[10:20, 10:30] = mask[30, 40] = False
    mask[35:45, 50:60] = False
    mask[38:42, 53:57] = True
    runs = coco_mask.frPyObjects(polygons_of(mask), *mask.shape)
    decoded = coco_mask.decode(coco_mask.merge(runs)).astype(bool)
    assert (decoded & mask).sum() / (decoded | mask).sum() > 0.99


@pytest.mark.parametrize(
    "rows, columns",
    [(slice(0, 0), slice(0, 0)), (slice(0, 7), slice(0, 5)), (slice(0, 1), slice(0, 1)), (slice(6, 7), slice(4, 5))],
)
def test_run_lengths_decode_at_the_edges(rows, columns):
    mask = np.zeros((7, 5), bool)
    mask[rows, columns] = True
    runs = coco_mask.frPyObjects(uncompressed_rle(mask), *mask.shape)
    np.testing.assert_array_equal(coco_mask.decode(runs), mask)


def test_cutouts_cover_five_categories_of_coco():
    cutouts = load_cutouts()
    categories = {cutout.category for cutout in cutouts.values()}
    assert len(categories) >= 5
    assert categories <= {category["name"] for category in CATEGORIES}
    for cutout in cutouts.values():
        cover = cutout.pixels[..., 3]
        assert 0.25 < cover.mean() < 0.95
        assert (cutout.pixels[..., :3] <= cover[..., None] + 1e-6).all()


def test_later_placements_hide_earlier_ones_and_sit_where_asked():
    cup, cat = load_cutouts()["cup"], load_cutouts()["cat"]
    background = np.full((200, 240, 3), 128, np.uint8)
    image, visible = compose(background, [Placement(cup, 100, 90, 0.3), Placement(cat, 100, 90, 0.3)])
    _, alone = compose(background, [Placement(cat, 100, 90, 0.3)])
    np.testing.assert_array_equal(visible == 2, alone == 1)
    rows, columns = np.nonzero(alone)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(100, abs=1)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(90, abs=1)
    assert alone.sum() == pytest.approx(cat.area * 0.3**2, rel=0.02)
    assert image.dtype == np.uint8
    assert (image[:20] == 128).all()


def test_a_quarter_turn_is_counter_clockwise_and_a_flip_mirrors():
    horse = load_cutouts()["horse"]
    background = np.zeros((200, 200, 3), np.uint8)
    maps = {
        key: compose(background, [Placement(horse, 100, 100, 0.4, **options)])[1]
        for key, options in {"plain": {}, "turned": {"angle": 90}, "flipped": {"flip": True}}.items()
    }
    for key, expected in {"turned": np.rot90(maps["plain"]), "flipped": maps["plain"][:, ::-1]}.items():
        overlap = (maps[key] & expected).sum() / (maps[key] | expected).sum()
        assert overlap > 0.97


@pytest.mark.parametrize("name", ground_names())
def test_grounds_have_the_size_asked_for(name):
    for size in [(192, 160), (64, 200), (1024, 540)]:
        assert ground(name, size, np.random.default_rng(0)).shape == (size[1], size[0], 3)
    picture, horizon = landscape(name, (192, 160), np.random.default_rng(0))
    assert picture.shape == (160, 192, 3)
    assert 0 < horizon < 160


def test_a_missing_photograph_is_named(tmp_path, monkeypatch):
    from flsl_bench.datasets import cutouts

    monkeypatch.setattr(cutouts.skimage, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(DataError, match=r"nowhere\.png.*reinstall scikit-image"):
        cutouts._photograph("nowhere.png")
