"""tools/train.py and test.py on ADE20K, run as a user runs them."""

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.datasets.miniature import make_ade20k
from flsl_bench.demo import write_checkpoint
from flsl_bench.results.record import Record
from flsl_bench.results.store import Store
from tests.integration.conftest import run

MINIATURE = "mmconfigs/semfpn_vitt16_flsl_ade20k_miniature.py"
REAL = "mmconfigs/semfpn_vits16_flsl_ade20k.py"
SHORT = {
    "train_cfg.max_iters": 4,
    "train_cfg.val_interval": 4,
    "train_dataloader.batch_size": 2,
    "default_hooks.checkpoint.interval": 2,
    "default_hooks.checkpoint.max_keep_ckpts": 2,
    "default_hooks.logger.interval": 1,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
}
DATA = {"image_scale_factor": 0.5, "val_dataloader.num_workers": 0, "val_dataloader.persistent_workers": False}


def only_record(results: Path) -> Record:
    (record,) = Store(results).records()
    return record


def options(**settings: object) -> list[str]:
    return ["--cfg-options", *(f"{key}={value}" for key, value in settings.items())]


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    """A finished run on a tiny ADE20K: its folder and the settings of its data and its training."""
    folder = tmp_path_factory.mktemp("run")
    data = {"data_root": make_ade20k(folder / "data", train_images=6, val_images=3), **DATA}
    training = {**SHORT, "init_checkpoint": inputs.checkpoint}
    arguments = [MINIATURE, "--work-dir", "work", "--results-dir", "results", *options(**data, **training)]
    finished = run("train.py", *arguments, cwd=folder)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return folder, data, training


def test_training_leaves_a_complete_record(trained):
    record = only_record(trained[0] / "results")
    assert [metric.name for metric in record.metrics] == ["mIoU", "mAcc", "aAcc", "mIoU_150"]
    assert record.task == "ade20k" and record.protocol.name == "miniature_ade20k_semfpn"
    assert (record.data.splits["train"].images, record.data.splits["val"].images) == (6, 3)
    assert record.protocol.deviations["train_cfg.max_iters"] == 4
    assert record.protocol.deviations["global_batch_size"] == 2
    for table in ("IoU by class", "Acc by class"):
        assert len(record.breakdowns[table]) == 150
        assert sum(value is not None for value in record.breakdowns[table].values()) >= 5
    assert record.seconds["train"] > 0 and record.seconds["evaluate"] > 0


def test_testing_the_trained_checkpoint_gives_the_same_record_and_draws(trained):
    folder, data, _ = trained
    arguments = [MINIATURE, "work/iter_4.pth", "--results-dir", "other", "--show-dir", "drawn"]
    finished = run("test.py", *arguments, "--out", "p.pkl", *options(**data), cwd=folder)
    assert finished.returncode == 0, finished.stderr[-3000:]
    record, tested = only_record(folder / "results"), only_record(folder / "other")
    assert tested.key == record.key and tested.metrics == record.metrics and tested.breakdowns == record.breakdowns
    drawn = sorted((folder / "drawn").iterdir())
    assert [path.name for path in drawn] == [f"ADE_val_{number:08d}.jpg" for number in (1, 2, 3)]
    with Image.open(drawn[0]) as picture, Image.open(data["data_root"] / "images/validation" / drawn[0].name) as image:
        assert picture.width == 2 * image.width + 6  # truth and prediction with a gap between them
        assert picture.height > image.height  # the legend
    predictions = pickle.loads((folder / "p.pkl").read_bytes())
    assert len(predictions) == 3 and all("seg_logits" not in prediction for prediction in predictions)
    assert predictions[0]["pred_sem_seg"]["data"].shape == (1, *predictions[0]["ori_shape"])


def test_training_goes_on_from_its_checkpoint(trained):
    folder, data, training = trained
    shutil.copytree(folder / "work", folder / "again")
    (folder / "again/iter_4.pth").unlink()
    arguments = ["--resume", "--work-dir", "again", "--results-dir", "resumed", *options(**data, **training)]
    finished = run("train.py", MINIATURE, *arguments, cwd=folder)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert re.findall(r"Iter\(train\) +\[ *(\d+)/4\]", finished.stdout) == ["3", "4"]
    assert only_record(folder / "resumed").metrics == only_record(folder / "results").metrics


def test_two_processes_train_and_score_as_one(trained):
    folder, data, training = trained
    arguments = [MINIATURE, 2, "--work-dir", "both", "--results-dir", "results2", *options(**data, **training)]
    finished = run("dist_train.sh", *arguments, cwd=folder)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    record = only_record(folder / "results2")
    assert record.environment.devices == 2 and "global_batch_size" not in record.protocol.deviations
    alone = run("test.py", MINIATURE, "both/iter_4.pth", "--results-dir", "alone", *options(**data), cwd=folder)
    assert alone.returncode == 0, alone.stderr[-3000:]
    assert only_record(folder / "alone").metrics == record.metrics


def test_the_real_sample_is_scored_at_the_label_maps_own_size(shared, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "flsl.pth", embed_dim=384, depth=12, num_heads=6, patch_size=16)
    settings = {
        "data_root": shared / "data/ADEChallengeData2016",
        "init_checkpoint": checkpoint,
        **SHORT,
        **DATA,
        "image_scale_factor": 0.25,
        "train_cfg.max_iters": 2,
        "train_cfg.val_interval": 2,
    }
    arguments = [REAL, "--work-dir", "work", "--results-dir", "results", *options(**settings)]
    finished = run("train.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    record = only_record(tmp_path / "results")
    deviations = record.protocol.deviations
    assert (deviations["image_scale_factor"], deviations["data.val_images"], deviations["data.train_images"]) == (
        0.25,
        3,
        3,
    )
    assert not record.comparable and record.protocol.name == "ade20k_semfpn_40k" and record.weights.arch == "vit_small"
    labels = [path for path in (shared / "data/ADEChallengeData2016/annotations/validation").iterdir()]
    present = {int(label) for path in labels for label in np.unique(np.asarray(Image.open(path)))} - {0}
    found = {name for name, value in record.breakdowns["Acc by class"].items() if value is not None}
    assert found == {CLASSES[label - 1] for label in present} and len(found) == 15
