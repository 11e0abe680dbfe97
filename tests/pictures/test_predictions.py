"""Dumped predictions are read as they were written, and no code in a file is run."""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from flsl_bench.errors import DataError
from flsl_bench.pictures.predictions import category_names, draw_detections, draw_segmentation, read_predictions


class Foreign:
    """As the truth's polygons are."""

    def __init__(self):
        self.field = {"a": 1}


class Attack:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class StorageAttack(Attack):
    """Code within the bytes of a tensor's storage."""

    def __reduce__(self):
        return torch.storage._load_from_bytes, (pickle.dumps(Attack(self.folder)),)


@pytest.fixture
def samples(tmp_path):
    Image.new("RGB", (64, 32), (90, 90, 90)).save(tmp_path / "a.png")
    instances = {
        "bboxes": torch.tensor([[32.0, 4, 60, 30], [2, 4, 20, 30]]),
        "scores": torch.tensor([0.9, 0.2]),
        "labels": torch.tensor([1, 0]),
        "masks": torch.zeros(2, 32, 64, dtype=torch.bool),
    }
    labels = torch.zeros(1, 32, 64, dtype=torch.long)
    return [
        {
            "img_path": str(tmp_path / "a.png"),
            "ori_shape": (32, 64),
            "scale_factor": np.float64(1.5),
            "empty": b"",
            "array": np.arange(3),
            "truth": Foreign(),
            "pred_instances": instances,
            "pred_sem_seg": {"data": labels},
        }
    ]


@pytest.mark.parametrize("protocol", [2, 4])  # mmengine writes 2
def test_a_dump_is_read_whole(samples, tmp_path, protocol):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(samples, protocol=protocol))
    (found,) = read_predictions(tmp_path / "p.pkl", "pred_instances")
    for name, value in samples[0]["pred_instances"].items():
        assert torch.equal(found["pred_instances"][name], value)
    assert found["scale_factor"] == 1.5 and found["empty"] == b"" and found["array"].tolist() == [0, 1, 2]
    assert not isinstance(found["truth"], Foreign)
    picture = draw_detections(found, ["cat", "dog"], 0.5)
    assert picture.shape == (32, 64, 3) and (picture[20:, 5] == 90).all() and (picture[25, 32] != 90).any()
    assert draw_segmentation(found).shape[1] == 64


@pytest.mark.parametrize("attack", [Attack, StorageAttack])
def test_code_in_a_file_is_not_run(samples, tmp_path, attack):
    samples[0]["more"] = attack(str(tmp_path / "run"))
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(samples))
    try:
        read_predictions(tmp_path / "p.pkl", "pred_instances")
    except DataError as error:
        assert "not readable as predictions" in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no pickle", "not readable as predictions"),
        (pickle.dumps({}), "not a list of images' predictions"),
        (pickle.dumps([{"img_path": "a"}]), "field pred_instances is missing"),
    ],
)
def test_other_files_are_named(tmp_path, content, told):
    (tmp_path / "p.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.pkl: ") as error:
        read_predictions(tmp_path / "p.pkl", "pred_instances")
    assert told in str(error.value)


def test_category_names_are_in_the_order_of_ids(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]}')
    assert category_names(path) == ["cat", "dog"]
    path.write_text("[]")
    with pytest.raises(DataError, match=r"a\.json: no categories in it"):
        category_names(path)
