"""COCO's folder: what its fingerprint tells apart, and what every error says."""

import hashlib
import json

import pytest

from flsl_bench.datasets.coco import SplitFiles, SplitFingerprint, inspect_split, official_splits
from flsl_bench.errors import DataError


def content():
    """Three images, one of them in a sub-folder, with two annotations."""
    size = dict(width=8, height=6)
    shape = dict(bbox=[0, 0, 4, 3], area=12, iscrowd=0)
    return {
        "images": [
            {"id": 1, "file_name": "a.jpg", **size},
            {"id": 2, "file_name": "b.jpg", **size},
            {"id": 9, "file_name": "street/c.jpg", **size},
        ],
        "annotations": [
            {"id": 4, "image_id": 1, "category_id": 18, **shape},
            {"id": 7, "image_id": 9, "category_id": 1, **shape},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }


@pytest.fixture
def val(tmp_path):
    """The val split of a folder that holds `content()`; its images have 3, 5 and 7 bytes."""
    files = official_splits(tmp_path / "coco")["val"]
    files.annotations.parent.mkdir(parents=True)
    (files.images / "street").mkdir(parents=True)
    for name, length in (("a.jpg", 3), ("b.jpg", 5), ("street/c.jpg", 7)):
        (files.images / name).write_bytes(b"x" * length)
    write(files, content())
    return files


def write(files, value):
    files.annotations.write_text(json.dumps(value))


def refusal(files):
    """The one line that `inspect_split` refuses with."""
    with pytest.raises(DataError) as caught:
        inspect_split(files)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestFingerprint:
    def test_of_a_known_split(self, val):
        digest = hashlib.sha256(val.annotations.read_bytes()).hexdigest()
        assert inspect_split(val) == SplitFingerprint(images=3, bytes=15, annotations_sha256=digest, boxes=2)

    def test_changes_with_the_annotations(self, val):
        before = inspect_split(val)
        changed = content()
        changed["annotations"][0]["bbox"][0] = 1
        write(val, changed)
        assert inspect_split(val).annotations_sha256 != before.annotations_sha256

    @pytest.mark.parametrize("name", ["a.jpg", "street/c.jpg"])
    def test_changes_with_the_size_of_an_image(self, val, name):
        (val.images / name).write_bytes(b"x" * 100)
        assert inspect_split(val).bytes > 100

    def test_changes_with_the_number_of_images(self, val):
        fewer = content()
        del fewer["images"][1]
        write(val, fewer)
        assert (inspect_split(val).images, inspect_split(val).bytes) == (2, 10)

    def test_is_not_changed_by_files_that_are_not_listed(self, val):
        before = inspect_split(val)
        (val.images / "thumbs.db").write_bytes(b"x" * 50)
        assert inspect_split(val) == before

    @pytest.mark.parametrize(("split", "images", "annotations"), [("train", 32, 288), ("val", 6, 136)])
    def test_of_real_images(self, shared, split, images, annotations):
        files = official_splits(shared / "data/coco_tiny38")[split]
        fingerprint = inspect_split(files)
        assert fingerprint.images == images
        assert fingerprint.bytes == sum(path.stat().st_size for path in files.images.iterdir())
        assert len(json.loads(files.annotations.read_bytes())["annotations"]) == annotations


class TestMissingFiles:
    def test_root(self, tmp_path):
        message = refusal(official_splits(tmp_path / "nowhere")["train"])
        assert message.startswith(f"{tmp_path}/nowhere: no such data folder")
        assert "--cfg-options data_root=DIR" in message

    def test_annotation_folder(self, val):
        val.annotations.unlink()
        val.annotations.parent.rmdir()
        assert refusal(val).startswith(f"{val.annotations.parent}: no such data folder")

    def test_annotation_file(self, val):
        val.annotations.unlink()
        expected = "annotation file is missing; COCO's folder has annotations/instances_val2017.json"
        assert refusal(val) == f"{val.annotations}: {expected}"

    def test_annotation_file_that_is_a_folder(self, val):
        val.annotations.unlink()
        val.annotations.mkdir()
        assert refusal(val) == f"{val.annotations}: annotation file cannot be read (Is a directory)"

    def test_image_folder(self, val):
        message = refusal(SplitFiles(val.annotations, val.images.with_name("elsewhere")))
        assert message.startswith(
            f"{val.images.with_name('elsewhere')}: image folder is missing; expected this layout:"
        )
        assert "annotations/instances_train2017.json" in message

    def test_image_folder_that_is_a_file(self, val):
        file = val.images / "a.jpg"
        assert refusal(SplitFiles(val.annotations, file)) == f"{file}: image folder cannot be read (Not a directory)"

    @pytest.mark.parametrize("name", ["b.jpg", "street/c.jpg"])
    def test_image(self, val, name):
        (val.images / name).unlink()
        expected = f"listed in {val.annotations} but is absent; fetch it again"
        assert refusal(val) == f"{val.images / name}: {expected}"

    def test_image_that_is_a_folder(self, val):
        (val.images / "b.jpg").unlink()
        (val.images / "b.jpg").mkdir()
        assert "b.jpg: listed in" in refusal(val)

    def test_image_that_is_a_broken_link(self, val):
        (val.images / "b.jpg").unlink()
        (val.images / "b.jpg").symlink_to(val.images / "lost.jpg")
        assert "but is absent" in refusal(val)

    @pytest.mark.parametrize("name", ["b.jpg", "street/c.jpg"])
    def test_empty_image_file(self, val, name):
        (val.images / name).write_bytes(b"")
        expected = f"listed in {val.annotations} but is an empty file; fetch it again"
        assert refusal(val) == f"{val.images / name}: {expected}"


class TestAnnotationFile:
    @pytest.mark.parametrize("raw", [b"", b"{", b'{"images": [', b"\xff\xfe\xfa", b"version https://git-lfs"])
    def test_malformed_json(self, val, raw):
        val.annotations.write_bytes(raw)
        message = refusal(val)
        assert message.startswith(f"{val.annotations}: malformed JSON (")
        assert message.endswith("; fetch the file again")

    @pytest.mark.parametrize("value", [[], 3, None, {}, "images"])
    def test_of_something_else(self, val, value):
        write(val, value)
        expected = "field images is missing or no list; this is no COCO instances file"
        assert refusal(val) == f"{val.annotations}: {expected}"

    @pytest.mark.parametrize("field", ["images", "annotations", "categories"])
    @pytest.mark.parametrize("value", [None, {}])
    def test_lists_that_are_missing_or_none(self, val, field, value):
        write(val, {**content(), field: value})
        assert f"field {field} is missing or no list" in refusal(val)

    def test_no_images(self, val):
        write(val, {**content(), "images": []})
        expected = "field images is empty; there is nothing to train on or to score"
        assert refusal(val) == f"{val.annotations}: {expected}"

    @pytest.mark.parametrize(
        ("entry", "field"),
        [
            ("images", "file_name"),
            ("images", "width"),
            ("categories", "name"),
            ("annotations", "id"),
            ("annotations", "bbox"),
            ("annotations", "area"),
            ("annotations", "iscrowd"),
        ],
    )
    def test_entry_without_a_field(self, val, entry, field):
        value = content()
        del value[entry][1][field]
        write(val, value)
        assert refusal(val) == f"{val.annotations}: {entry}[1]: field {field} is missing"

    def test_entry_that_is_no_object(self, val):
        value = content()
        value["images"][1] = "b.jpg"
        write(val, value)
        assert refusal(val) == f"{val.annotations}: images[1]: field id is missing"

    @pytest.mark.parametrize("entry", ["images", "annotations", "categories"])
    def test_id_used_twice(self, val, entry):
        value = content()
        value[entry][1]["id"] = value[entry][0]["id"]
        write(val, value)
        assert refusal(val) == f"{val.annotations}: {entry}[1]: id {value[entry][0]['id']} is used twice"

    @pytest.mark.parametrize("field", ["image_id", "category_id"])
    def test_annotation_of_something_not_defined(self, val, field):
        value = content()
        value["annotations"][1][field] = 77
        write(val, value)
        assert refusal(val) == f"{val.annotations}: annotation 7: {field} 77 is not defined"

    @pytest.mark.parametrize(
        ("entry", "field", "wrong", "kind"),
        [("images", "id", [], "list"), ("images", "file_name", 5, "int"), ("annotations", "image_id", {}, "dict")],
    )
    def test_value_of_another_type(self, val, entry, field, wrong, kind):
        value = content()
        value[entry][1][field] = wrong
        write(val, value)
        assert refusal(val) == f"{val.annotations}: {entry}[1]: field {field} is a {kind}"
