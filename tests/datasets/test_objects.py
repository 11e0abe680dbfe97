"""Objects of four data sets against their files read in another way."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from scipy import ndimage

from flsl_bench.datasets import objects
from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.datasets.davis import write_mask
from flsl_bench.datasets.miniature import make_coco, make_davis, make_voc
from flsl_bench.datasets.objects import ade20k_objects, coco_objects, davis_objects, voc_objects
from flsl_bench.datasets.voc_classes import VOC_CLASSES
from flsl_bench.errors import ConfigError, DataError


def picture(path, size=(20, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def write_coco(root, annotations, size=(20, 12)):
    picture(root / "val2017/1.jpg", size)
    categories = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]
    images = [{"id": 1, "file_name": "1.jpg", "width": size[0], "height": size[1]}]
    common = {"image_id": 1, "category_id": 18, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]}
    annotations = [{**common, "id": i, **annotation} for i, annotation in enumerate(annotations, 1)]
    (root / "annotations").mkdir()
    content = {"images": images, "categories": categories, "annotations": annotations}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    return root


class TestCoco:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_real_ones_are_as_pycocotools_has_them(self, shared, split, capsys):
        root = shared / "data/coco_tiny38"
        reference = COCO(root / f"annotations/instances_{split}2017.json")
        images = coco_objects(root, split)
        assert len(images) == len(reference.imgs)
        for image, (number, info) in zip(images, reference.imgs.items(), strict=True):
            assert image.path.name == info["file_name"]
            assert Image.open(image.path).size == image.size
            annotations = {a["id"]: a for a in reference.imgToAnns[number]}
            assert {one.id for one in image.objects} == {i for i, a in annotations.items() if not a["iscrowd"]}
            for one in image.objects:
                assert one.category == reference.cats[annotations[one.id]["category_id"]]["name"]
                np.testing.assert_array_equal(one.mask(), reference.annToMask(annotations[one.id]) == 1)
                assert one.mask().dtype == bool
            crowds = [reference.annToMask(a) == 1 for a in annotations.values() if a["iscrowd"]]
            void = image.void()
            assert (void is None) == (not crowds)
            assert not crowds or np.array_equal(void, np.any(crowds, axis=0))

    def test_two_polygons_are_one_object(self, tmp_path):
        squares = [[2, 2, 6, 2, 6, 6, 2, 6], [10, 3, 15, 3, 15, 9, 10, 9]]
        (image,) = coco_objects(write_coco(tmp_path, [{"segmentation": squares}]))
        expected = np.zeros((12, 20), bool)
        expected[2:6, 2:6], expected[3:9, 10:15] = True, True
        np.testing.assert_array_equal(image.objects[0].mask(), expected)
        assert (image.objects[0].category, image.size) == ("dog", (20, 12))

    def test_an_image_without_objects(self, tmp_path):
        (image,) = coco_objects(write_coco(tmp_path, []))
        assert image.objects == () and image.void() is None

    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            (None, r"annotation 1: segmentation cannot be decoded"),
            ([[1, 2]], r"annotation 1: segmentation cannot be decoded"),
            ([], r"annotation 1: segmentation cannot be decoded|segmentation of"),
            ({"counts": [10, 2], "size": [3, 4]}, r"annotation 1: segmentation of \(3, 4\), not \(12, 20\)"),
            ({"size": [12, 20]}, r"annotation 1: segmentation cannot be decoded \(KeyError"),
        ],
    )
    def test_masks_that_cannot_be_decoded_are_named_when_asked_for(self, tmp_path, segmentation, message):
        (image,) = coco_objects(write_coco(tmp_path, [{"segmentation": segmentation}]))
        with pytest.raises(DataError, match=message):
            image.objects[0].mask()

    def test_nothing_is_decoded_before(self, tmp_path, monkeypatch):
        make_coco(tmp_path / "coco", train_images=4, val_images=3, size=(96, 64))
        monkeypatch.setattr(objects.coco_mask, "decode", lambda *_: pytest.fail("decoded"))
        images = coco_objects(tmp_path / "coco")
        assert len(images.paths) == 3 and all(image.objects for image in images)

    def test_another_split(self, tmp_path):
        with pytest.raises(ConfigError, match="split='test' is none of train, val"):
            coco_objects(tmp_path, "test")


class TestDavis:
    def test_real_ones(self, shared):
        root = shared / "data/davis2017"
        images = davis_objects(root, sequences=["tennis", "blackswan"])
        assert [image.video for image in images] == ["tennis"] * 2 + ["blackswan"] * 50
        ids = np.asarray(Image.open(root / "Annotations/480p/tennis/00000.png"))
        first = images[0]
        assert first.path == root / "JPEGImages/480p/tennis/00000.jpg" and first.size == ids.shape[::-1]
        assert [one.category for one in first.objects] == ["tennis/1", "tennis/2"]
        for one in first.objects:
            np.testing.assert_array_equal(one.mask(), ids == one.id)
        np.testing.assert_array_equal(first.void(), ids == 255)
        assert images[10].void() is None

    def test_a_split(self, tmp_path):
        root = make_davis(tmp_path / "davis", frames=4, size=(86, 64))
        images = davis_objects(root, "val")
        assert len(images) == len(images.paths) == 12
        assert [path.is_file() for path in images.paths] == [True] * 12
        names = {"cat-cup": 2, "people-crossing": 2, "street-trio": 3}
        expected = {f"{name}/{i}" for name, count in names.items() for i in range(1, count + 1)}
        assert {one.category for image in images for one in image.objects} == expected

    def test_an_unknown_sequence(self, tmp_path):
        root = make_davis(tmp_path / "davis", frames=4, size=(86, 64))
        with pytest.raises(DataError, match="no such sequence 'cat-cap'; did you mean 'cat-cup'"):
            davis_objects(root, sequences=["cat-cap"])


class TestVoc:
    @pytest.fixture
    def root(self, tmp_path):
        """One image with a dog (1), a person (2) and a border between them."""
        folder = tmp_path / "VOC2012"
        picture(folder / "JPEGImages/a.jpg")
        ids = np.zeros((12, 20), np.uint8)
        ids[2:8, 2:8], ids[2:8, 9:15], ids[2:8, 8] = 1, 2, 255
        classes = np.select([ids == 1, ids == 2, ids == 255], [12, 15, 255]).astype(np.uint8)
        write_mask(folder / "SegmentationObject/a.png", ids)
        write_mask(folder / "SegmentationClass/a.png", classes)
        (folder / "ImageSets/Segmentation").mkdir(parents=True)
        (folder / "ImageSets/Segmentation/val.txt").write_text("a\n")
        return tmp_path

    def test_objects_have_the_class_below_them(self, root):
        (image,) = voc_objects(root)
        assert (VOC_CLASSES.index("dog"), VOC_CLASSES.index("person"), len(VOC_CLASSES)) == (11, 14, 20)
        assert [(one.id, one.category, one.mask().sum()) for one in image.objects] == [
            (1, "dog", 36),
            (2, "person", 36),
        ]
        assert image.void().sum() == 6 and image.size == (20, 12)

    def test_an_object_of_no_class(self, root):
        write_mask(root / "VOC2012/SegmentationClass/a.png", np.zeros((12, 20), np.uint8))
        with pytest.raises(DataError, match=r"SegmentationObject/a.png: object 1 has no class in SegmentationClass"):
            voc_objects(root)[0]

    def test_masks_of_two_sizes(self, root):
        write_mask(root / "VOC2012/SegmentationClass/a.png", np.zeros((12, 21), np.uint8))
        with pytest.raises(DataError, match=r"\(12, 20\) pixels, SegmentationClass has \(12, 21\)"):
            voc_objects(root)[0]

    def test_lists(self, root):
        with pytest.raises(
            DataError, match=r"Segmentation/train.txt: cannot read this list .* give the VOCdevkit folder"
        ):
            voc_objects(root, split="train")
        (root / "VOC2012/ImageSets/Segmentation/val.txt").write_text("\n")
        with pytest.raises(DataError, match=r"val.txt: no image in it; unpack VOC2012 again"):
            voc_objects(root)

    def test_indexing(self, tmp_path):
        images = voc_objects(make_voc(tmp_path / "voc", train_images=1, val_images=3, size=(96, 80)))
        assert images[-1].path == images.paths[2]
        with pytest.raises(IndexError):
            images[3]


class TestAde20k:
    def test_whole_classes(self, shared):
        root = shared / "data/ADEChallengeData2016"
        images = ade20k_objects(root)
        assert len(images) == 3
        for image in images:
            labels = np.asarray(Image.open(root / f"annotations/validation/{image.path.stem}.png"))
            assert image.size == Image.open(image.path).size == labels.shape[::-1]
            assert [CLASSES.index(one.category) + 1 for one in image.objects] == np.unique(labels[labels > 0]).tolist()
            for one in image.objects:
                np.testing.assert_array_equal(one.mask(), labels == CLASSES.index(one.category) + 1)
            np.testing.assert_array_equal(image.void(), labels == 0)

    @pytest.mark.parametrize("above", [0, 100])
    def test_connected_parts(self, shared, above):
        root = shared / "data/ADEChallengeData2016"
        for image in ade20k_objects(root, "train", components_above=above):
            labels = np.asarray(Image.open(root / f"annotations/training/{image.path.stem}.png"))
            expected, rest = set(), labels == 0
            for value in np.unique(labels[labels > 0]):
                parts, count = ndimage.label(labels == value, np.ones((3, 3)))
                for i in range(1, count + 1):
                    if (parts == i).sum() > above:
                        expected.add((CLASSES[value - 1], (parts == i).tobytes()))
                    else:
                        rest |= parts == i
            assert {(one.category, one.mask().tobytes()) for one in image.objects} == expected
            assert len({one.id for one in image.objects}) == len(image.objects) == len(expected)
            np.testing.assert_array_equal(image.void(), rest)

    def test_no_void(self, tmp_path):
        picture(tmp_path / "images/validation/a.jpg")
        (tmp_path / "annotations/validation").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "annotations/validation/a.png"), np.full((12, 20), 150, np.uint8))
        (image,) = ade20k_objects(tmp_path)
        assert [one.category for one in image.objects] == ["flag"] and image.void() is None

    def test_folders_that_are_missing_or_empty(self, tmp_path):
        with pytest.raises(
            DataError, match=r"images/validation: cannot read this folder .*; give ADEChallengeData2016"
        ):
            ade20k_objects(tmp_path)
        (tmp_path / "images/validation").mkdir(parents=True)
        with pytest.raises(DataError, match=r"images/validation: no .jpg in it"):
            ade20k_objects(tmp_path)


def test_a_polygon_by_another_rasteriser_is_nearly_the_same(tmp_path):
    points = [(3, 2), (17, 4), (12, 10), (5, 9)]
    (image,) = coco_objects(write_coco(tmp_path, [{"segmentation": [[float(v) for point in points for v in point]]}]))
    canvas = Image.new("L", (20, 12))
    ImageDraw.Draw(canvas).polygon(points, fill=1)
    differing = np.count_nonzero(image.objects[0].mask() != (np.asarray(canvas) == 1))
    assert differing < 35  # the border: Pillow fills it, COCO halves it
