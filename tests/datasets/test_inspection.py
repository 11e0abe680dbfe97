"""What the check says of whole, small, halved and damaged data sets; nothing that lies there makes it fail."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.datasets import ade20k, coco, inspection, uavdt
from flsl_bench.datasets.discovery import DATASETS, check_data
from tests.datasets.data_folders import BUILDERS, touch, write_list

NAMES = list(BUILDERS)
STATES = {"complete", "sample", "partial", "missing", "broken"}


def check(name, root):
    """The finding of one data set and its splits by name."""
    finding = next(finding for finding in check_data(root) if finding.dataset == name)
    return finding, {split.name: split for split in finding.splits}


def small_officials(monkeypatch):
    """Official numbers that are those of the folders which the builders make."""
    for table, numbers in (
        (coco.OFFICIAL_IMAGES, {"train": 2, "val": 2}),
        (uavdt.OFFICIAL_FRAMES, {"train": 2, "test": 2}),
        (ade20k.OFFICIAL_IMAGES, {"train": 1, "val": 1}),
        (inspection.DAVIS_SEQUENCES, {"train": 1, "val": 1}),
        (inspection.VOC_IMAGES, dict.fromkeys(inspection.VOC_IMAGES, 1)),
        (inspection.IMAGENET_IMAGES, {"train": 2, "val": 2}),
        (inspection.IMAGENET_BOX_FILES, {"train": 1, "val": 1}),
    ):
        for key, number in numbers.items():
            monkeypatch.setitem(table, key, number)
    monkeypatch.setattr(inspection, "VOC2012_SEGMENTED", 1)


@pytest.mark.parametrize("name", NAMES)
class TestStates:
    def test_official_numbers_are_complete(self, tmp_path, name, monkeypatch):
        small_officials(monkeypatch)
        folder = BUILDERS[name](tmp_path / "data")
        finding, splits = check(name, tmp_path)
        assert (finding.state, finding.folder, finding.cure) == ("complete", folder, "")
        assert {split.state for split in splits.values()} == {"complete"}
        assert not any("officially" in split.detail for split in splits.values())

    def test_other_numbers_are_a_sample(self, tmp_path, name):
        BUILDERS[name](tmp_path / "data")
        finding, splits = check(name, tmp_path)
        assert finding.state == "sample" and {split.state for split in splits.values()} == {"sample"}
        assert all("; officially " in split.detail for split in splits.values())

    def test_a_folder_less_is_partial(self, tmp_path, name):
        lost = {"uavdt": "UAV-benchmark-M", "voc": "VOC2007", "imagenet": "val", "davis": "JPEGImages"}
        folder = BUILDERS[name](tmp_path / "data")
        shutil.rmtree(folder / lost.get(name, "annotations"))
        finding, splits = check(name, tmp_path)
        assert finding.state == "partial"
        told = [split.detail for split in splits.values() if split.state in ("partial", "missing")]
        assert told and all(detail.startswith("not there: ") for detail in told)
        assert lost.get(name, "annotations") in " ".join(told)


@pytest.mark.parametrize(
    ("name", "split", "detail"),
    [
        ("coco", "train2017", "2 images, 2 boxes; officially 118,287 images"),
        ("coco", "val2017", "2 images, 2 boxes; officially 5,000 images"),
        ("uavdt", "train", "2 frames, 2 boxes; officially 23,829 frames"),
        ("uavdt", "test", "2 frames, 2 boxes; officially 16,580 frames"),
        ("ade20k", "training", "1 images; officially 20,210 images"),
        ("ade20k", "validation", "1 images; officially 2,000 images"),
        ("davis", "train", "1 sequences, 2 frames; officially 60 sequences"),
        ("davis", "val", "1 sequences, 2 frames; officially 30 sequences"),
        ("voc", "VOC2007 trainval", "1 images; officially 5,011 images"),
        ("voc", "VOC2007 test", "1 images; officially 4,952 images"),
        ("voc", "VOC2012 trainval", "1 images; officially 11,540 images"),
        ("voc", "VOC2012 segmentation", "1 images; officially 2,913 images"),
        ("imagenet", "train", "2 classes, 2 images; officially 1,281,167 images"),
        ("imagenet", "val", "2 classes, 2 images; officially 50,000 images"),
        ("imagenet", "train boxes", "1 classes, 1 annotated images; officially 544,546 annotated images"),
        ("imagenet", "val boxes", "1 annotated images; officially 50,000 annotated images"),
    ],
)
def test_numbers(tmp_path, name, split, detail):
    BUILDERS[name](tmp_path)
    assert check(name, tmp_path)[1][split].detail == detail


class TestHalves:
    def test_coco_annotations_without_images(self, tmp_path):
        folder = BUILDERS["coco"](tmp_path)
        shutil.rmtree(folder / "train2017")
        finding, splits = check("coco", tmp_path)
        assert (finding.state, splits["train2017"].state, splits["val2017"].state) == ("partial", "partial", "sample")
        assert splits["train2017"].detail == "not there: train2017"

    def test_coco_of_val_alone(self, tmp_path):
        folder = BUILDERS["coco"](tmp_path)
        shutil.rmtree(folder / "train2017")
        (folder / "annotations/instances_train2017.json").unlink()
        finding, splits = check("coco", tmp_path)
        assert (finding.state, splits["train2017"].state) == ("partial", "missing")
        assert splits["train2017"].detail == "not there: annotations/instances_train2017.json, train2017"

    def test_coco_images_without_annotations(self, tmp_path):
        shutil.rmtree(BUILDERS["coco"](tmp_path) / "annotations")
        assert check("coco", tmp_path)[0].state == "partial"

    def test_imagenet_without_boxes(self, tmp_path):
        shutil.rmtree(BUILDERS["imagenet"](tmp_path) / "Annotations")
        _, splits = check("imagenet", tmp_path)
        assert {name: split.state for name, split in splits.items()} == {
            "train": "sample",
            "val": "sample",
            "train boxes": "missing",
            "val boxes": "missing",
        }
        assert splits["val boxes"].detail == "not there: Annotations/CLS-LOC/val"


class TestImagenetLayouts:
    def test_archive_of_ilsvrc(self, tmp_path):
        touch(tmp_path / "ILSVRC/Data/CLS-LOC/train/n01440764/1.JPEG")
        touch(tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG")
        touch(tmp_path / "ILSVRC/Annotations/CLS-LOC/train/n01440764/1.xml")
        touch(tmp_path / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml")
        finding, splits = check("imagenet", tmp_path)
        assert finding.state == "sample" and splits["val"].detail.startswith("1 images;")
        files = inspection.imagenet_split(finding.folder, "train")
        assert files.images == tmp_path / "ILSVRC/Data/CLS-LOC/train"
        assert files.boxes == tmp_path / "ILSVRC/Annotations/CLS-LOC/train"

    def test_boxes_folder(self, tmp_path):
        folder = BUILDERS["imagenet"](tmp_path)
        (folder / "Annotations/CLS-LOC").rename(folder / "boxes")
        assert check("imagenet", tmp_path)[0].state == "sample"
        assert inspection.imagenet_split(folder, "val") == inspection.ImagenetFiles(
            folder / "val", folder / "boxes/val"
        )


class TestBroken:
    @pytest.mark.parametrize(
        ("name", "split", "file", "fault"),
        [
            ("coco", "train2017", "train2017/2.jpg", "{file}: listed in {folder}/annotations/instances_train2017.json"),
            ("uavdt", "test", "UAV-benchmark-M/M0203/img000002.jpg", "{file}: listed in"),
            ("ade20k", "training", "images/training/ADE_train_00000001.jpg", "{folder}/images/training: holds no .jpg"),
            ("davis", "val", "Annotations/480p/libby/00001.png", "{file}: missing, though its frame is there"),
            ("davis", "val", "JPEGImages/480p/libby/00000.jpg", "{file}: missing, though its mask is there"),
            ("voc", "VOC2007 trainval", "VOC2007/Annotations/VOC2007_trainval.xml", "{file}: listed in {folder}/VOC2"),
            ("imagenet", "train", "train/n01440764/train_n01440764.JPEG", "{folder}/train/n01440764: no .JPEG in it"),
        ],
    )
    def test_by_a_lost_file(self, tmp_path, name, split, file, fault):
        folder = BUILDERS[name](tmp_path)
        (folder / file).unlink()
        finding, splits = check(name, tmp_path)
        assert (finding.state, splits[split].state) == ("broken", "broken")
        assert splits[split].detail.startswith(fault.format(file=folder / file, folder=folder))
        others = {other.state for name, other in splits.items() if name != split}
        assert others == {"sample"}  # one fault does not hide the rest

    def test_by_a_list_of_what_is_not_there(self, tmp_path):
        folder = BUILDERS["davis"](tmp_path)
        write_list(folder / "ImageSets/2017/val.txt", ["libby", "liby"])
        finding, splits = check("davis", tmp_path)
        assert finding.state == "broken" and "did you mean 'libby'?" in splits["val"].detail

    def test_by_a_folder_that_may_not_be_read(self, tmp_path, monkeypatch):
        folder = BUILDERS["imagenet"](tmp_path)
        listdir = os.listdir

        def denied(path):
            if Path(path) == folder / "val":
                raise PermissionError(13, "Permission denied", str(path))
            return listdir(path)

        monkeypatch.setattr(os, "listdir", denied)
        split = check("imagenet", tmp_path)[1]["val"]
        assert split.state == "broken" and "PermissionError" in split.detail and str(folder / "val") in split.detail


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_link(path):
    path.unlink()
    path.symlink_to(path)


DAMAGES = {
    "lost": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\xff\xfe\x00[{"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "folder": as_folder,
    "circle": as_link,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_no_damage_to_any_file_makes_the_check_fail(tmp_path, name, damage):
    """One file after the other; the finding stays one of the five states, and one line."""
    source = BUILDERS[name](tmp_path / "source")
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        DAMAGES[damage](folder / path.relative_to(source))
        for split in DATASETS[name].inspect(folder):
            assert split.state in STATES and "\n" not in split.detail
        for finding in check_data(folder):
            assert finding.state in STATES and (finding.dataset == name or finding.state == "missing")
        shutil.rmtree(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "file_name", "iscrowd"]), inner),
    max_leaves=8,
)


@given(part=st.sampled_from(["images", "annotations", "categories"]), value=JSON, field=st.integers(0, 5), whole=JSON)
@settings(max_examples=120, deadline=None)
def test_no_content_of_an_annotation_file_makes_the_check_fail(part, value, field, whole):
    with tempfile.TemporaryDirectory() as name:
        folder = BUILDERS["coco"](Path(name))
        path = folder / "annotations/instances_val2017.json"
        content = json.loads(path.read_text())
        entry = content[part][0]
        entry[list(entry)[field % len(entry)]] = value
        for changed in (content, {**content, part: value}, whole):
            path.write_text(json.dumps(changed))
            train, val = DATASETS["coco"].inspect(folder)
            assert train.state == "sample" and val.state in ("sample", "broken") and "\n" not in val.detail


@pytest.mark.parametrize("raw", ["[" * 100_000, '{"images": [' + "9" * 5_000 + "]}"])
def test_json_that_python_refuses(tmp_path, raw):
    folder = BUILDERS["coco"](tmp_path)
    (folder / "annotations/instances_val2017.json").write_text(raw)
    _, splits = check("coco", tmp_path)
    assert splits["val2017"].state == "broken" and str(tmp_path) in splits["val2017"].detail


def test_real_samples(shared):
    data = shared / "data"
    assert check("coco", data)[1]["train2017"].detail == "32 images, 284 boxes; officially 118,287 images"
    _, splits = check("davis", data)
    assert splits["val"].detail == "2 sequences, 99 frames; officially 30 sequences"
    assert splits["train"].detail == "not there: ImageSets/2017/train.txt"
    _, splits = check("voc", data)
    assert [split.state for split in splits.values()] == ["sample", "sample", "sample", "partial"]
    assert splits["VOC2007 test"].detail == "4 images; officially 4,952 images"
    _, splits = check("ade20k", data)
    assert splits["validation"].detail == "3 images; officially 2,000 images"
