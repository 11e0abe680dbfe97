"""Largest boxes of ImageNet, VOC and COCO: which one, where pixels begin, and what every error says."""

import json
import re

import pytest

from flsl_bench.datasets.box_xml import read_box_xml
from flsl_bench.datasets.boxed_images import coco_boxes, imagenet_boxes, voc_boxes
from flsl_bench.datasets.miniature_voc import make_voc
from flsl_bench.errors import ConfigError, DataError


def xml(*objects, size=(100, 80)):
    """An annotation of objects (name, xmin, ymin, xmax, ymax[, difficult])."""
    parts = [f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"]
    for name, x0, y0, x1, y1, *difficult in objects:
        box = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        flag = f"<difficult>{int(difficult[0])}</difficult>" if difficult else ""
        parts.append(f"<object><name>{name}</name>{flag}<bndbox>{box}</bndbox></object>")
    return f"<annotation>{''.join(parts)}</annotation>"


def write(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def imagenet(tmp_path):
    """Two classes; a training image of each has a box file, validation images lie flat."""
    for wnid, name in (("n01", "n01_5"), ("n02", "n02_7"), ("n02", "n02_8")):
        write(tmp_path / f"train/{wnid}/{name}.JPEG")
    boxes = tmp_path / "Annotations/CLS-LOC"
    write(boxes / "train/n02/n02_7.xml", xml(("n02", 0, 0, 9, 9), ("n02", 10, 20, 60, 50), ("n02", 40, 0, 41, 80)))
    write(boxes / "train/n01/n01_5.xml", xml(("n01", 0, 0, 100, 80), size=(100, 80)))
    write(boxes / "val/v1.xml", xml(("n02", 5, 5, 6, 7)))
    write(boxes / "val/v2.xml", xml())
    write(tmp_path / "val/v1.JPEG")
    write(tmp_path / "val/v2.JPEG")
    return tmp_path


def told(result):
    return [(image.path.name, image.size, image.box, image.label) for image in result.images]


class TestImagenet:
    def test_training_images_that_have_boxes_by_name(self, imagenet):
        assert told(imagenet_boxes(imagenet, "train")) == [
            ("n01_5.JPEG", (100, 80), (0, 0, 100, 80), "n01"),
            ("n02_7.JPEG", (100, 80), (10, 20, 60, 50), "n02"),
        ]

    def test_validation_images_and_those_without_a_box(self, imagenet):
        result = imagenet_boxes(imagenet)
        assert told(result) == [("v1.JPEG", (100, 80), (5, 5, 6, 7), "n02")]
        assert result.without_box == 1

    def test_validation_images_sorted_into_class_folders(self, imagenet):
        (imagenet / "val/n02").mkdir()
        (imagenet / "val/v1.JPEG").rename(imagenet / "val/n02/v1.JPEG")
        assert imagenet_boxes(imagenet).images[0].path == imagenet / "val/n02/v1.JPEG"

    def test_a_missing_image_is_named_with_its_box_file(self, imagenet):
        (imagenet / "val/v1.JPEG").unlink()
        message = (
            f"{imagenet}/val/v1.JPEG: no such image, though {imagenet}/Annotations/CLS-LOC/val/v1.xml annotates it"
        )
        with pytest.raises(DataError, match=re.escape(message)):
            imagenet_boxes(imagenet)

    def test_a_folder_without_box_files(self, imagenet):
        for path in (imagenet / "Annotations/CLS-LOC/val").iterdir():
            path.unlink()
        with pytest.raises(DataError, match=r"val: holds no \.xml files"):
            imagenet_boxes(imagenet)

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match="CLS-LOC/val: folder cannot be read"):
            imagenet_boxes(tmp_path)


class TestWhichBox:
    """By a VOC folder of one image."""

    def read(self, root, *objects, size=(100, 80)):
        write(root / "VOC2012/ImageSets/Main/train.txt", "a  1\n\n")
        write(root / "VOC2012/JPEGImages/a.jpg")
        write(root / "VOC2012/Annotations/a.xml", xml(*objects, size=size))
        return voc_boxes(root, "train")

    def test_pixels_count_from_one_and_the_last_is_included(self, tmp_path):
        assert told(self.read(tmp_path, ("cat", 1, 1, 100, 80))) == [("a.jpg", (100, 80), (0, 0, 100, 80), "cat")]

    def test_decimals(self, tmp_path):
        assert self.read(tmp_path, ("cat", 11.5, 1, "45.7", 9)).images[0].box == (10.5, 0, 45.7, 9)

    def test_the_first_of_equally_large_boxes(self, tmp_path):
        result = self.read(tmp_path, ("dog", 1, 1, 3, 3), ("cat", 1, 1, 10, 10), ("emu", 11, 11, 20, 20))
        assert result.images[0].label == "cat"

    def test_difficult_ones_do_not_count(self, tmp_path):
        assert self.read(tmp_path, ("dog", 1, 1, 90, 70, True), ("cat", 1, 1, 9, 9, False)).images[0].label == "cat"

    def test_size_is_what_lies_inside_the_picture(self, tmp_path):
        result = self.read(tmp_path, ("dog", 91, 71, 900, 700), ("cat", -50, 1, 20, 20))
        assert told(result) == [("a.jpg", (100, 80), (0, 0, 20, 20), "cat")]

    @pytest.mark.parametrize("box", [(101, 1, 120, 20), (30, 30, 20, 40), (5, 5, 4, 9), (-9, -9, 0, 0)])
    def test_outside_reversed_and_without_area(self, tmp_path, box):
        result = self.read(tmp_path, ("cat", *box))
        assert (result.images, result.without_box) == ((), 1)

    def test_no_object(self, tmp_path):
        assert self.read(tmp_path).without_box == 1


class TestVoc:
    def test_errors_name_the_file(self, tmp_path):
        with pytest.raises(DataError, match=r"Main/val\.txt: list of images cannot be read"):
            voc_boxes(tmp_path, "val")
        write(tmp_path / "VOC2012/ImageSets/Main/val.txt", "\n")
        with pytest.raises(DataError, match=r"Main/val\.txt: names no image; fetch it again"):
            voc_boxes(tmp_path, "val")
        write(tmp_path / "VOC2012/ImageSets/Main/val.txt", "a\n")
        (tmp_path / "VOC2012/JPEGImages").mkdir()
        with pytest.raises(
            DataError, match=r"JPEGImages/a\.jpg: no such image, though ImageSets/Main/val\.txt names it"
        ):
            voc_boxes(tmp_path, "val")
        write(tmp_path / "VOC2012/JPEGImages/a.jpg")
        with pytest.raises(DataError, match=r"Annotations/a\.xml: annotation file cannot be read"):
            voc_boxes(tmp_path, "val")

    def test_the_miniature(self, tmp_path):
        result = voc_boxes(make_voc(tmp_path / "voc", train_images=2, val_images=3), "val")
        assert len(result.images) + result.without_box == 3

    def test_real_files(self, shared):
        root = shared / "data/voc_mini/VOCdevkit"
        assert [told(voc_boxes(root, year=year))[1] for year in (2007, 2012)] == [
            ("000003.jpg", (500, 375), (122, 154, 215, 195), "sofa"),
            ("2007_000033.jpg", (500, 366), (8, 106, 499, 263), "aeroplane"),
        ]


class TestCoco:
    @pytest.fixture
    def root(self, tmp_path):
        self.content = {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 50, "height": 40} for i in (3, 1)],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 18, "bbox": [1, 2, 30, 20], "area": 1, "iscrowd": 0},
                {"id": 2, "image_id": 1, "category_id": 7, "bbox": [20, 0, 31, 20.5], "area": 1, "iscrowd": 0},
                {"id": 3, "image_id": 1, "category_id": 7, "bbox": [0, 0, 50, 40], "area": 1, "iscrowd": 1},
            ],
            "categories": [{"id": 7, "name": "train"}, {"id": 18, "name": "dog"}],
        }
        for i in (1, 3):
            write(tmp_path / f"val2017/{i}.jpg")
        self.write(tmp_path)
        return tmp_path

    def write(self, root):
        write(root / "annotations/instances_val2017.json", json.dumps(self.content))

    def test_largest_box_that_is_no_crowd(self, root):
        result = coco_boxes(root)
        assert told(result) == [("1.jpg", (50, 40), (20, 0, 50, 20.5), "train")]
        assert result.without_box == 1

    @pytest.mark.parametrize("box", [[1, 2, 3], ["a", 0, 1, 1], None, [0, 0, float("nan"), 1]])
    def test_a_box_that_is_none(self, root, box):
        self.content["annotations"][0]["bbox"] = box
        self.write(root)
        with pytest.raises(DataError, match=r"instances_val2017\.json: annotation 1: field bbox is .*, no 4 numbers"):
            coco_boxes(root)

    def test_a_size_that_is_none(self, root):
        self.content["images"][0]["width"] = "50"
        self.write(root)
        with pytest.raises(DataError, match="image 3: width and height are '50' and 40, no pixels"):
            coco_boxes(root)

    def test_a_missing_image(self, root):
        (root / "val2017/3.jpg").unlink()
        with pytest.raises(DataError, match=r"val2017/3\.jpg: no such image, though .*json lists it"):
            coco_boxes(root)

    def test_an_unknown_split(self, root):
        with pytest.raises(ConfigError, match="split='test' is none of train, val"):
            coco_boxes(root, "test")

    def test_real_files(self, shared):
        result = coco_boxes(shared / "data/coco_tiny38")
        assert (len(result.images), result.without_box) == (6, 0)
        assert told(result)[0] == ("000000471345.jpg", (640, 480), (1.25, 0, 640, 477.51), "dining table")


class TestXml:
    BOMB = '<!DOCTYPE a [<!ENTITY x "haha"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_a_doctype_is_refused_before_its_entities_are_expanded(self, tmp_path, encoding):
        write(tmp_path / "a.xml", self.BOMB.encode(encoding))
        with pytest.raises(
            DataError, match=r"a\.xml: malformed XML \(it declares a DOCTYPE a, which annotations have no"
        ):
            read_box_xml(tmp_path / "a.xml")

    @pytest.mark.parametrize("content", ["", "<annotation>", "no xml", b"\xff\xfe\x00", '<?xml encoding="none"?><a/>'])
    def test_malformed(self, tmp_path, content):
        write(tmp_path / "a.xml", content)
        with pytest.raises(DataError, match=r"a\.xml: malformed XML \(.*\); fetch the file again"):
            read_box_xml(tmp_path / "a.xml")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (xml(("cat", 1, "x", 3, 4)), r"field object\[0\]/bndbox/ymin is 'x', no number"),
            (xml(("cat", 1, 2, 3, 4), ("", 1, 2, 3, 4)), r"field object\[1\]/name is missing or empty"),
            (xml(("cat", 1, 2, "nan", 4)), r"field object\[0\]/bndbox/xmax is 'nan', no number"),
            (xml(("cat", 1, 2, 3, 4)).replace("ymax", "top"), r"field object\[0\]/bndbox/ymax is missing or empty"),
            (xml(size=(0, 10)), "field size is 0x10, no size in pixels"),
            (xml(size=(10, 2.5)), r"field size is 10x2\.5, no size in pixels"),
            ("<annotation/>", "field size/width is missing or empty"),
        ],
    )
    def test_fields_are_named(self, tmp_path, content, message):
        write(tmp_path / "a.xml", content)
        with pytest.raises(DataError, match=r"a\.xml: " + message):
            read_box_xml(tmp_path / "a.xml")
