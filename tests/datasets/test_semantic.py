"""Label maps of VOC and ADE20K in one form."""

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.davis import write_mask
from flsl_bench.datasets.miniature_voc import make_voc
from flsl_bench.datasets.semantic import VOID, ade20k_segmentation, voc_segmentation
from flsl_bench.errors import ConfigError, DataError


@pytest.fixture
def voc(tmp_path):
    """One image, in `val` and in `trainaug`."""
    root = tmp_path / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (root / folder).mkdir(parents=True)
    for split in ("val", "trainaug"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("a\n")
    Image.new("RGB", (3, 2)).save(root / "JPEGImages/a.jpg")
    write_mask(root / "SegmentationClass/a.png", np.array([[0, 20, 255], [1, 2, 3]], np.uint8))
    Image.fromarray(np.array([[7, 7, 7], [7, 7, 255]], np.uint8)).save(root / "SegmentationClassAug/a.png")
    return tmp_path


def test_voc_has_21_classes_and_void_borders(voc):
    data = voc_segmentation(voc)
    assert len(data.classes) == 21
    assert [data.classes[i] for i in (0, 15, 20)] == ["background", "person", "tvmonitor"]
    assert data.images[0].label_map().tolist() == [[0, 20, VOID], [1, 2, 3]]
    assert data.images[0].path == voc / "VOC2012/JPEGImages/a.jpg"


def test_voc_trainaug_has_grey_maps_in_a_folder_of_its_own(voc):
    assert voc_segmentation(voc, "trainaug").images[0].label_map().tolist() == [[7, 7, 7], [7, 7, VOID]]


def test_voc_miniature(tmp_path):
    data = voc_segmentation(make_voc(tmp_path / "voc", train_images=2, val_images=2), "train")
    values = np.unique([image.label_map() for image in data.images])
    assert {0, VOID} < set(values.tolist()) <= {*range(21), VOID}


@pytest.mark.parametrize(("folder", "suffix"), [("JPEGImages", "jpg"), ("SegmentationClass", "png")])
def test_missing_files_are_named(voc, folder, suffix):
    (voc / f"VOC2012/{folder}/a.{suffix}").unlink()
    with pytest.raises(DataError, match=rf"{folder}/a\.{suffix}: missing, though its split names it; unpack"):
        voc_segmentation(voc)


def test_a_missing_list_and_folder(voc):
    with pytest.raises(DataError, match=r"Segmentation/train\.txt: list of images cannot be read"):
        voc_segmentation(voc, "train")
    with pytest.raises(DataError, match=r"VOC2007/ImageSets/Segmentation/val\.txt: list of images cannot be read"):
        voc_segmentation(voc, year=2007)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(np.array([[0, 21]], np.uint8)), "holds the value 21; VOC has 0 to 20, and 255 for void"),
        (Image.new("RGB", (3, 2)), "has mode RGB, not P or L; save class numbers, not colours"),
    ],
)
def test_voc_maps_that_are_none(voc, picture, message):
    picture.save(voc / "VOC2012/SegmentationClass/a.png")
    with pytest.raises(DataError, match=rf"SegmentationClass/a\.png: label map {message}"):
        voc_segmentation(voc).images[0].label_map()


def test_a_damaged_map(voc):
    (voc / "VOC2012/SegmentationClass/a.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"a\.png: label map cannot be read"):
        voc_segmentation(voc).images[0].label_map()


def test_ade20k_of_real_files(shared):
    data = ade20k_segmentation(shared / "data/ADEChallengeData2016")
    assert [image.path.stem for image in data.images] == [f"ADE_val_0000000{i}" for i in (1, 2, 3)]
    assert (len(data.classes), data.classes[0], data.classes[149]) == (150, "wall", "flag")
    for image in data.images:
        stored = np.asarray(Image.open(image.labels)).astype(int)
        labels = image.label_map()
        assert np.array_equal(labels == VOID, stored == 0)
        assert np.array_equal(labels[stored > 0], stored[stored > 0] - 1)


def test_ade20k_pairs_images_with_maps(tmp_path):
    for folder in ("images/training", "annotations/training"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=r"training: holds no \.jpg files"):
        ade20k_segmentation(tmp_path, "train")
    Image.new("RGB", (3, 2)).save(tmp_path / "images/training/ADE_train_1.jpg")
    with pytest.raises(DataError, match=r"annotations/training/ADE_train_1\.png: missing"):
        ade20k_segmentation(tmp_path, "train")
    with pytest.raises(ConfigError, match="split='test' is none of train, val"):
        ade20k_segmentation(tmp_path, "test")
