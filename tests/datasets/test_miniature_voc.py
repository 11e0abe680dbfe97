"""The miniature VOC: its layout, and that boxes, classes and masks tell one truth."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from flsl_bench.datasets import miniature_voc
from flsl_bench.datasets.davis import PALETTE, read_mask
from flsl_bench.datasets.miniature import make_coco, make_voc
from flsl_bench.datasets.miniature_voc import voc_scene
from flsl_bench.datasets.objects import voc_objects
from flsl_bench.datasets.voc_classes import VOC_CLASSES
from flsl_bench.errors import ConfigError, DataError

COUNTS = {"train": 12, "val": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("data") / "voc") / "VOC2012"


@pytest.fixture(scope="module")
def scenes(folder):
    """Name and scene of every picture."""
    names = {split: (folder / f"ImageSets/Main/{split}.txt").read_text().split() for split in COUNTS}
    return [(name, voc_scene(split, i)) for split in COUNTS for i, name in enumerate(names[split])]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_that_of_voc(folder):
    for kind in ("Main", "Segmentation"):
        lists = {path.stem: path.read_text().split() for path in (folder / "ImageSets" / kind).iterdir()}
        assert {split: len(names) for split, names in lists.items()} == {**COUNTS, "trainval": 20}
        assert sorted(lists["trainval"]) == sorted(lists["train"] + lists["val"])
        assert len(set(lists["trainval"])) == 20
    suffixes = {"JPEGImages": "jpg", "Annotations": "xml", "SegmentationClass": "png", "SegmentationObject": "png"}
    for kind, suffix in suffixes.items():
        assert {path.name for path in (folder / kind).iterdir()} == {f"{name}.{suffix}" for name in lists["trainval"]}


def test_masks_are_the_scenes_with_void_borders(folder, scenes):
    for name, scene in scenes:
        ids, classes = (
            read_mask(folder / kind / f"{name}.png") for kind in ("SegmentationObject", "SegmentationClass")
        )
        windows = [ndimage.maximum_filter(scene.ids, 3), ndimage.minimum_filter(scene.ids, 3)]
        border = windows[0] != windows[1]
        np.testing.assert_array_equal(ids, np.where(border, 255, scene.ids))
        values = np.array([0, *(VOC_CLASSES.index(one) + 1 for one in scene.classes)])
        np.testing.assert_array_equal(classes, np.where(border, 255, values[scene.ids]))
        with Image.open(folder / f"SegmentationObject/{name}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.reshape(image.getpalette(), (-1, 3)), PALETTE)
        with Image.open(folder / f"JPEGImages/{name}.jpg") as image:
            assert image.mode == "RGB" and image.size == ids.shape[::-1]
            assert np.abs(np.asarray(image, np.float32) - scene.image).mean() < 8  # what JPEG loses


def test_boxes_count_from_one_and_include_their_last_pixel(folder, scenes):
    for name, scene in scenes:
        root = ElementTree.parse(folder / f"Annotations/{name}.xml").getroot()
        assert root.findtext("filename") == f"{name}.jpg"
        assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["192", "160", "3"]
        found = root.findall("object")
        assert [one.findtext("name") for one in found] == list(scene.classes)
        assert {one.findtext("difficult") for one in found} == {"0"}
        for slices, one in zip(ndimage.find_objects(scene.ids), found, strict=True):
            rows, columns = slices
            expected = [columns.start + 1, rows.start + 1, columns.stop, rows.stop]
            assert [int(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")] == expected


def test_every_object_is_read_back(folder, scenes):
    truth = dict(scenes)
    for split in COUNTS:
        for image in voc_objects(folder.parent, split=split):
            assert tuple(one.category for one in image.objects) == truth[image.path.stem].classes
            assert min(one.mask().sum() for one in image.objects) > 50


def test_all_classes_with_a_cutout_occur(scenes):
    assert {name for _, scene in scenes for name in scene.classes} == {"person", "cat", "horse", "motorbike"}
    assert {len(scene.classes) for _, scene in scenes} == {1, 2, 3}


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    small = {"train_images": 2, "val_images": 1, "size": (96, 80)}
    first, second = (files(make_voc(tmp_path / name, **small)) for name in "ab")
    assert first == second
    other = files(make_voc(tmp_path / "c", **small, seed=1))
    assert other.keys() == first.keys()
    assert {path.suffix for path in first if other[path] == first[path]} == {".txt"}


def test_the_year_with_a_public_test_split(tmp_path):
    root = make_voc(tmp_path / "voc", train_images=2, val_images=1, size=(96, 80))
    assert [len(voc_objects(root, 2007, split)) for split in ("trainval", "test")] == [2, 1]
    assert len(voc_objects(root, 2012, "trainval")) == 3
    assert (root / "VOC2007/JPEGImages/2007_000001.jpg").is_file()


def test_a_finished_miniature_is_left_alone(folder, monkeypatch):
    monkeypatch.setattr(miniature_voc, "voc_scene", lambda *_, **__: pytest.fail("made anew"))
    assert make_voc(folder.parent) == folder.parent


def test_a_miniature_of_coco_is_refused(tmp_path):
    root = make_coco(tmp_path / "data", train_images=1, val_images=1)
    with pytest.raises(DataError, match=r"holds another miniature.*'coco'"):
        make_voc(root)


@pytest.mark.parametrize("wrong", [{"size": (63, 64)}, {"train_images": 0}, {"val_images": 0}, {"seed": -1}])
def test_numbers_that_make_no_pictures_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="both sides must be at least 64 pixels"):
        make_voc(tmp_path / "voc", **wrong)
    assert not list(tmp_path.iterdir())
