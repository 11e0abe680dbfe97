"""Every data set is found by its layout, wherever it lies below the data root and whatever its folder is called."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.datasets.discovery import DATASETS, check_data, dataset_spec, find_dataset
from flsl_bench.datasets.miniature import make_coco, make_davis, make_uavdt
from flsl_bench.errors import ConfigError, DataError
from tests.datasets.data_folders import BUILDERS, coco, touch, uavdt

NAMES = list(BUILDERS)


def refusal(name, root, error=DataError):
    """The one line that `find_dataset` refuses with."""
    with pytest.raises(error) as caught:
        find_dataset(name, root)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(root))
    return message


def states(root):
    return {finding.dataset: finding.state for finding in check_data(root)}


def test_the_registry_has_a_builder_for_every_data_set():
    assert list(DATASETS) == NAMES
    assert all(spec.name == name for name, spec in DATASETS.items())


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"unknown data set 'cocoo'; known are coco, .*; did you mean coco\?"):
        dataset_spec("cocoo")


@pytest.mark.parametrize("name", NAMES)
class TestPlaces:
    @pytest.mark.parametrize("place", [".", "anything", "two levels/down"])
    def test_by_layout(self, tmp_path, name, place):
        folder = BUILDERS[name](tmp_path / place)
        assert find_dataset(name, tmp_path) == folder

    def test_every_usual_folder(self, tmp_path, name):
        for index, usual in enumerate(DATASETS[name].usual_folders):
            root = tmp_path / str(index)
            BUILDERS[name](root / "other")  # of two copies, the one in the usual folder is meant
            folder = BUILDERS[name](root / usual)
            assert find_dataset(name, root) == folder

    def test_a_usual_folder_of_something_else(self, tmp_path, name):
        other = "davis" if name == "coco" else "coco"
        BUILDERS[other](tmp_path / DATASETS[name].usual_folders[0])
        message = refusal(name, tmp_path)
        assert "not found" in message and f"name its folder by --data {name}=DIR" in message
        assert " ".join(DATASETS[name].layout.split()) in message and DATASETS[name].usual_folders[-1] in message

    def test_several(self, tmp_path, name):
        for place in ("one", "two"):
            BUILDERS[name](tmp_path / place)
        listed = f"{tmp_path / 'one'}, {tmp_path / 'two'}"
        assert refusal(name, tmp_path, ConfigError).endswith(f"choose one by --data {name}=DIR: {listed}")
        findings = [finding for finding in check_data(tmp_path) if finding.dataset == name]
        assert [finding.folder for finding in findings] == [tmp_path / "one", tmp_path / "two"]
        assert all(f"choose one by --data {name}=DIR" in finding.cure for finding in findings)

    def test_no_other_layout_is_taken_for_it(self, tmp_path, name):
        for other in set(NAMES) - {name}:
            BUILDERS[other](tmp_path / other)
        assert states(tmp_path)[name] == "missing"

    def test_its_layout_text_names_what_its_folder_holds(self, tmp_path, name):
        for entry in BUILDERS[name](tmp_path).iterdir():
            assert entry.name in DATASETS[name].layout


# From the data root: where a copy of COCO may lie.
PLACES = ["", "coco", "COCO2017", "a", "b", "a/coco", "a/c", "b/c", ".hidden", "a/b/c"]


@given(st.sets(st.sampled_from(PLACES), max_size=4))
@settings(max_examples=80, deadline=None)
def test_the_nearest_copies_count(places):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for place in places:
            coco(root / place)
        usual, direct, below = {"coco", "COCO2017"} & places, {"coco", "COCO2017", "a", "b"} & places, places - {""}
        below = {place for place in below if place.count("/") == 1}
        nearest = next(filter(None, ({""} & places, usual, direct, below)), set())
        if len(nearest) == 1:
            assert find_dataset("coco", root) == root / nearest.pop()
        else:
            told, error = ("several folders", ConfigError) if nearest else ("not found", DataError)
            assert told in refusal("coco", root, error)


class TestDataRoot:
    @pytest.mark.parametrize("function", [check_data, lambda root: find_dataset("coco", root)])
    def test_that_is_none(self, tmp_path, function, monkeypatch):
        with pytest.raises(DataError, match=f"{tmp_path}/lost: no such data folder; name the folder that holds"):
            function(tmp_path / "lost")
        touch(tmp_path / "file")
        with pytest.raises(DataError, match=f"{tmp_path}/file: a file, not a folder of data sets"):
            function(tmp_path / "file")
        deny(monkeypatch, tmp_path)
        with pytest.raises(DataError, match=rf"{tmp_path}: data folder cannot be read \(Permission denied\)"):
            function(tmp_path)

    def test_empty(self, tmp_path):
        assert set(states(tmp_path).values()) == {"missing"}

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        folder = coco(tmp_path / "data")
        assert find_dataset("coco", "~/data") == folder

    def test_an_unreadable_folder_in_it_is_told_and_hides_nothing(self, tmp_path, monkeypatch):
        (tmp_path / "private").mkdir()
        coco(tmp_path / "level" / "set")
        deny(monkeypatch, tmp_path / "private")
        assert find_dataset("coco", tmp_path) == tmp_path / "level" / "set"
        assert f"not readable: {tmp_path / 'private'}" in refusal("voc", tmp_path)


def deny(monkeypatch, folder):
    """Make `folder` unreadable, for root too."""
    scandir = os.scandir

    def denied(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


class TestLinks:
    def test_are_followed(self, tmp_path):
        real = coco(tmp_path / "disk" / "deep" / "down" / "x")
        root = tmp_path / "root"
        root.mkdir()
        (root / "any").symlink_to(real, target_is_directory=True)
        (tmp_path / "link").symlink_to(root, target_is_directory=True)
        assert find_dataset("coco", tmp_path / "link") == tmp_path / "link" / "any"

    def test_to_one_folder_are_one(self, tmp_path):
        real = coco(tmp_path / "disk" / "deep" / "down" / "x")
        root = tmp_path / "root"
        root.mkdir()
        for name in ("a", "b"):
            (root / name).symlink_to(real, target_is_directory=True)
        assert find_dataset("coco", root) == root / "a"

    def test_that_lead_nowhere_or_in_a_circle(self, tmp_path):
        (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
        (tmp_path / "circle").symlink_to(tmp_path / "circle")
        (tmp_path / "self").symlink_to(tmp_path, target_is_directory=True)
        folder = coco(tmp_path / "set")
        assert find_dataset("coco", tmp_path) == folder
        assert states(tmp_path)["voc"] == "missing"


class TestUavdt:
    @pytest.mark.parametrize(("gt", "out"), [("UAV/GT", "UAV"), ("GT", "."), ("a/GT", "a"), ("raw", "raw")])
    def test_text_files_alone_are_to_be_converted(self, tmp_path, gt, out):
        touch(tmp_path / gt / "M0101_gt_whole.txt")
        command = f"flsl-bench data convert-uavdt --gt {tmp_path / gt} --out {tmp_path / out}"
        assert refusal("uavdt", tmp_path) == f"{tmp_path}: UAVDT is not converted yet; run `{command}`"
        finding = next(f for f in check_data(tmp_path) if f.dataset == "uavdt")
        assert (finding.state, finding.cure) == ("partial", f"not converted yet; run `{command}`")

    def test_the_command_can_be_pasted(self, tmp_path):
        touch(tmp_path / "my data" / "GT" / "M0101_gt_whole.txt")
        assert f"--gt '{tmp_path}/my data/GT' --out '{tmp_path}/my data'`" in refusal("uavdt", tmp_path)

    def test_text_files_beside_the_annotations_do_not_matter(self, tmp_path):
        touch(tmp_path / "uavdt" / "GT" / "M0101_gt_whole.txt")
        folder = uavdt(tmp_path / "uavdt")
        assert find_dataset("uavdt", tmp_path) == folder


class _Counted:
    """A listing that counts the entries drawn from it."""

    def __init__(self, entries, folder, drawn):
        self.entries, self.folder, self.drawn = entries, folder, drawn

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.entries.close()

    def __iter__(self):
        return self

    def __next__(self):
        entry = next(self.entries)
        self.drawn[self.folder] = self.drawn.get(self.folder, 0) + 1
        return entry


def test_folders_of_images_are_not_searched(tmp_path, monkeypatch):
    """However many images there are, only the first few entries of a folder of images are ever asked for."""
    coco(tmp_path / "coco")
    touch(*(tmp_path / f"coco/train2017/{number:012d}.jpg" for number in range(3_000)))
    scandir, drawn = os.scandir, {}
    monkeypatch.setattr(os, "scandir", lambda path: _Counted(scandir(path), Path(path), drawn))
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"{path} was listed"))
    find_dataset("coco", tmp_path)
    assert not drawn  # a usual folder needs no listing at all
    for root in (tmp_path, tmp_path / "coco"):
        for name in set(NAMES) - {"coco"}:
            refusal(name, root)
    assert drawn[tmp_path / "coco" / "train2017"] <= 10 * (201 + 1_000)
    assert max(drawn.values()) <= 10 * (201 + 1_000)


def test_a_folder_of_very_many_folders_is_not_searched(tmp_path):
    coco(tmp_path / "many" / "coco")
    for number in range(250):
        (tmp_path / "many" / str(number)).mkdir()
    assert "not found" in refusal("coco", tmp_path)
    assert find_dataset("coco", tmp_path / "many") == tmp_path / "many" / "coco"


def test_miniatures(tmp_path):
    made = {
        "coco": make_coco(tmp_path / "one", train_images=2, val_images=1, size=(64, 64)),
        "davis": make_davis(tmp_path / "two", frames=4),
        "uavdt": make_uavdt(tmp_path / "three", frames=1),
    }
    assert {name: find_dataset(name, tmp_path) for name in made} == made
    assert not {"broken", "missing"} & {states(tmp_path)[name] for name in made}


def test_real_samples(shared):
    data = shared / "data"
    folders = {
        "coco": "coco_tiny38",  # and not coco_fake100, which has other files
        "ade20k": "ADEChallengeData2016",
        "davis": "davis2017",
        "voc": "voc_mini/VOCdevkit",
    }
    assert {name: find_dataset(name, data) for name in folders} == {name: data / at for name, at in folders.items()}
    assert f"convert-uavdt --gt {data}/uavdt/GT --out {data}/uavdt" in refusal("uavdt", data)
    assert states(data) == {
        "coco": "sample",
        "uavdt": "partial",
        "ade20k": "sample",
        "davis": "partial",
        "voc": "partial",
        "imagenet": "missing",
    }


def test_start_up_loads_no_framework():
    code = "import sys; import flsl_bench.datasets.report, flsl_bench.known_models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "mmengine", "mmcv", "mmdet", "mmseg", "cv2"} & set(loaded)
