"""The task UAVDT: what it yields, and what it says about data that are not there."""

import hashlib
import shutil

import pytest
from mmengine.config import ConfigDict

from flsl_bench import tasks
from flsl_bench.datasets.miniature import make_uavdt
from flsl_bench.errors import DataError


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    return make_uavdt(tmp_path_factory.mktemp("data") / "uavdt", frames=1)


@pytest.fixture
def root(miniature, tmp_path):
    """A copy, to be broken."""
    return shutil.copytree(miniature, tmp_path / "uavdt")


def inspect(root, *splits):
    loaders = {
        f"{split}_dataloader": dict(
            dataset=dict(
                data_root=str(root),
                ann_file=f"annotations/uavdt_{file}.json",
                data_prefix=dict(img="UAV-benchmark-M/"),
            )
        )
        for split, file in (("train", "train"), ("val", "test"))
    }
    return tasks.get("uavdt").inspect_data(ConfigDict(loaders), splits or ("train", "val"))


def refusal(root):
    """The one line that `inspect_data` refuses with."""
    with pytest.raises(DataError) as caught:
        inspect(root)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_box_AP_is_primary_and_the_official_AP_is_there():
    names = [metric.name for metric in tasks.get("uavdt").metrics]
    assert names[:3] == ["box_AP", "box_AP50", "box_AP75"]
    assert len(names) == 13 and names[-1] == "official_AP"
    assert {metric.unit for metric in tasks.get("uavdt").metrics} == {"%"}


def test_scores_become_metrics_in_that_order():
    task = tasks.get("uavdt")
    found = task._metrics({"uavdt/official_AP": 40.0, "uavdt/box_AP": 20.0})
    assert [metric.name for metric in found] == [metric.name for metric in task.metrics]
    values = {metric.name: metric.value for metric in found}
    assert (values["box_AP"], values["official_AP"], values["box_APl"]) == (20.0, 40.0, None)


def test_the_evaluator_names_both_engines():
    assert "coco" in tasks.get("uavdt").evaluator() and "flsl_bench" in tasks.get("uavdt").evaluator()


def test_the_fingerprint_is_that_of_the_files(root):
    found = inspect(root)
    assert {name: split.images for name, split in found.items()} == {"train": 10, "val": 3}
    for name, file in (("train", "train"), ("val", "test")):
        raw = (root / f"annotations/uavdt_{file}.json").read_bytes()
        assert found[name].annotations_sha256 == hashlib.sha256(raw).hexdigest()
    images = list((root / "UAV-benchmark-M").glob("*/*.jpg"))
    assert sum(split.bytes for split in found.values()) == sum(path.stat().st_size for path in images)
    assert inspect(root, "val") == {"val": found["val"]}


CURE = "make it with flsl-bench data convert-uavdt --gt GT --images UAV-benchmark-M --out DIR"


def test_missing_root(tmp_path):
    expected = f"no such data folder; {CURE} or pass --cfg-options data_root=DIR"
    assert refusal(tmp_path / "nowhere") == f"{tmp_path}/nowhere: {expected}"


def test_unconverted_root(root):
    shutil.rmtree(root / "annotations")
    assert refusal(root).startswith(f"{root}/annotations: no such data folder; {CURE}")


def test_missing_annotations(root):
    (root / "annotations/uavdt_test.json").unlink()
    assert refusal(root) == f"{root}/annotations/uavdt_test.json: annotation file is missing; {CURE}"


def test_missing_images(root):
    shutil.rmtree(root / "UAV-benchmark-M")
    message = refusal(root)
    assert message.startswith(
        f"{root}/UAV-benchmark-M: image folder is missing; expected this layout: DIR/ annotations"
    )
    assert "UAV-benchmark-M/M0101/img000001.jpg" in message


def test_missing_frame(root):
    frame = root / "UAV-benchmark-M/M0205/img000001.jpg"
    frame.unlink()
    assert refusal(root).startswith(f"{frame}: listed in {root}/annotations/uavdt_test.json but is absent")
