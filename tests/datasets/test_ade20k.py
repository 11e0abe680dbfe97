"""ADE20K's folder: its classes, what its fingerprint tells apart, and what every error says."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.ade20k import SAMPLE, SplitFingerprint, inspect_split, official_splits, read_label_map
from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.errors import DataError

SIZE = (8, 6)


def write_pair(files, name, labels=None):
    Image.new("RGB", SIZE, (90, 120, 60)).save(files.images / f"{name}.jpg")
    labels = np.full(SIZE[::-1], 150, np.uint8) if labels is None else labels
    Image.fromarray(labels).save(files.label_maps / f"{name}.png")


@pytest.fixture
def val(tmp_path):
    """A val split of three images whose label maps hold 0, 1 and 150."""
    files = official_splits(tmp_path / "ade")["val"]
    files.images.mkdir(parents=True)
    files.label_maps.mkdir(parents=True)
    for number, label in enumerate((0, 1, 150), start=1):
        write_pair(files, f"ADE_val_{number:08d}", np.full(SIZE[::-1], label, np.uint8))
    return files


def refusal(files):
    """The one line that `inspect_split` refuses with."""
    with pytest.raises(DataError) as caught:
        inspect_split(files)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestClasses:
    def test_are_those_of_the_official_list(self, shared):
        lines = (shared / "data/ADEChallengeData2016/objectInfo150.txt").read_text().splitlines()[1:]
        synonyms = [line.split("\t")[4].strip().split(", ") for line in lines]
        assert len(CLASSES) == len(synonyms) == 150
        assert [name for name, names in zip(CLASSES, synonyms, strict=True) if name not in names] == []

    def test_are_those_of_mmseg(self):
        pytest.importorskip("mmseg")
        import flsl_bench.openmmlab  # noqa: F401

        # isort: split
        from mmseg.datasets import ADE20KDataset

        assert list(CLASSES) == [name.strip() for name in ADE20KDataset.METAINFO["classes"]]


class TestFingerprint:
    def test_of_a_known_split(self, val):
        digest = hashlib.sha256()
        for number in (1, 2, 3):
            content = (val.label_maps / f"ADE_val_{number:08d}.png").read_bytes()
            digest.update(f"ADE_val_{number:08d}.png {len(content)}\n".encode() + content)
        size = sum(path.stat().st_size for path in val.images.iterdir())
        assert inspect_split(val) == SplitFingerprint(3, size, digest.hexdigest())

    def test_changes_with_one_label(self, val):
        before = inspect_split(val)
        labels = np.full(SIZE[::-1], 1, np.uint8)
        labels[2, 3] = 2
        write_pair(val, "ADE_val_00000002", labels)
        after = inspect_split(val)
        assert (after.images, after.bytes) == (before.images, before.bytes)
        assert after.annotations_sha256 != before.annotations_sha256

    def test_changes_with_a_name(self, val):
        before = inspect_split(val)
        for folder, suffix in ((val.images, "jpg"), (val.label_maps, "png")):
            (folder / f"ADE_val_00000003.{suffix}").rename(folder / f"ADE_val_00000004.{suffix}")
        assert inspect_split(val).annotations_sha256 != before.annotations_sha256

    def test_other_files_do_not_matter(self, val):
        before = inspect_split(val)
        (val.images / "Thumbs.db").write_bytes(b"x")
        (val.label_maps / "index.txt").write_text("x")
        assert inspect_split(val) == before

    def test_of_the_real_sample(self, shared):
        splits = official_splits(shared / "data/ADEChallengeData2016")
        assert {name: inspect_split(files).images for name, files in splits.items()} == {"train": 3, "val": 3}
        assert inspect_split(splits["val"]).bytes == 105_302


class TestFaults:
    @pytest.mark.parametrize("kind", ["images", "label_maps"])
    def test_missing_folder(self, val, kind):
        folder = getattr(val, kind)
        folder.rename(folder.parent / "elsewhere")
        message = refusal(val)
        assert message.startswith(f"{folder}: no such data folder; link ADEChallengeData2016 there or pass --cfg-opt")
        assert "annotations/validation/ADE_val_00000001.png" in message

    def test_folder_without_pictures(self, val):
        for path in val.images.iterdir():
            path.unlink()
        assert refusal(val) == f"{val.images}: holds no .jpg files; there is nothing to train on or to score"

    def test_image_without_label_map(self, val):
        (val.label_maps / "ADE_val_00000002.png").unlink()
        assert refusal(val) == (
            f"{val.images}/ADE_val_00000002.jpg: this image has no label map in {val.label_maps}; fetch the data again"
        )

    def test_label_map_without_image(self, val):
        (val.images / "ADE_val_00000002.jpg").unlink()
        assert refusal(val) == (
            f"{val.label_maps}/ADE_val_00000002.png: this label map has no image in {val.images}; fetch the data again"
        )

    @pytest.mark.parametrize(("kind", "suffix"), [("images", "jpg"), ("label_maps", "png")])
    def test_empty_file(self, val, kind, suffix):
        path = getattr(val, kind) / f"ADE_val_00000003.{suffix}"
        path.write_bytes(b"")
        assert refusal(val) == f"{path}: is an empty file; fetch it again"

    @pytest.mark.parametrize("mode", ["RGB", "P", "I;16", "1"])
    def test_label_map_of_another_mode(self, val, mode):
        path = val.label_maps / "ADE_val_00000002.png"
        Image.new(mode, SIZE).save(path)
        assert refusal(val) == f"{path}: label map is no PNG of 8-bit grey; use the challenge's own annotations"
        with pytest.raises(DataError, match=rf"{path}: label map has mode {mode}.*, not L \(8-bit grey\)"):
            read_label_map(path)

    def test_label_map_that_is_no_png(self, val):
        path = val.label_maps / "ADE_val_00000002.png"
        Image.new("L", SIZE).save(path, format="JPEG")
        assert "label map is no PNG of 8-bit grey" in refusal(val)

    def test_label_beyond_the_last_class(self, val):
        path = val.label_maps / "ADE_val_00000002.png"
        Image.new("L", SIZE, 151).save(path)
        assert refusal(val).startswith(f"{path}: label map holds the value 151 where 150 is the last class; use the")

    def test_damaged_label_map(self, val):
        path = val.label_maps / "ADE_val_00000002.png"
        path.write_bytes(path.read_bytes()[:45])
        assert re.fullmatch(rf"{path}: label map cannot be read \(.+\); fetch it again", refusal(val))

    def test_damaged_image(self, val):
        path = val.images / "ADE_val_00000002.jpg"
        path.write_bytes(b"no picture")
        assert re.fullmatch(rf"{path}: image cannot be read \(.+\); fetch it again", refusal(val))

    def test_label_map_of_another_size(self, val):
        path = val.label_maps / "ADE_val_00000002.png"
        Image.new("L", (6, 8)).save(path)
        assert refusal(val) == f"{path}: label map of 6x8 for an image of 8x6 pixels"

    def test_a_large_split_is_sampled_evenly(self, val):
        for number in range(4, 3 * SAMPLE + 1):
            write_pair(val, f"ADE_val_{number:08d}")
        skipped, seen = (val.label_maps / f"ADE_val_{number:08d}.png" for number in (2, 3 * SAMPLE - 2))
        Image.new("L", SIZE, 200).save(skipped)
        assert inspect_split(val).images == 3 * SAMPLE
        Image.new("L", SIZE, 200).save(seen)
        assert refusal(val).startswith(f"{seen}: label map holds the value 200")
