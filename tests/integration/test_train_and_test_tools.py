"""tools/train.py, test.py and the launchers, run as a user runs them."""

import json
import re
import time
from pathlib import Path

import pytest

from flsl_bench.results.record import Record
from flsl_bench.results.store import Store, read_record
from tests.integration.conftest import CONFIG, ROOT, kill, run, start


def only_record(results: Path) -> Record:
    (record,) = Store(results).records()
    return record


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    """A finished run of tools/train.py in one process, from a folder that is not the checkout."""
    folder = tmp_path_factory.mktemp("run")
    arguments = [CONFIG, "--work-dir", "work", "--results-dir", "results", *inputs.options()]
    finished = run("train.py", *arguments, cwd=folder)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return folder, arguments, finished


def test_training_leaves_a_complete_record(trained, inputs):
    folder, _, finished = trained
    record = only_record(folder / "results")
    assert record.metrics[0].name == "box_AP" and len(record.metrics) == 24
    assert record.weights.format == "flsl" and record.weights.num_heads == 3 and record.weights.prefix_tokens == 0
    assert record.data.splits["train"].images == 8 and record.data.splits["val"].images == 3
    assert record.protocol.deviations["train_cfg.max_epochs"] == 1
    assert record.protocol.deviations["data.train_images"] == 8
    assert record.environment.packages["torch"] and record.environment.evaluator.startswith(("faster", "pycoco"))
    assert record.seconds["train"] > 0 and record.seconds["evaluate"] > 0
    assert (folder / "work/epoch_1.pth").is_file() and Path(record.artifacts["log"]).name.endswith(".log")
    assert Store(folder / "results").path(record.model, "coco", record.key).name in finished.stdout


def test_a_finished_record_is_not_computed_again_unless_asked(trained):
    folder, arguments, _ = trained
    before = only_record(folder / "results")
    checkpoint = folder / "work/epoch_1.pth"
    written = checkpoint.stat().st_mtime_ns
    again = run("train.py", *arguments, cwd=folder)
    assert again.returncode == 0 and "Epoch(train)" not in again.stdout
    assert only_record(folder / "results") == before and checkpoint.stat().st_mtime_ns == written
    overwritten = run("train.py", *arguments[:5], "--overwrite", *arguments[5:], cwd=folder)
    assert overwritten.returncode == 0 and "Epoch(train)" in overwritten.stdout
    after = only_record(folder / "results")
    assert after.key == before.key and after.finished > before.finished


def test_testing_the_trained_checkpoint_gives_the_same_scores_and_the_same_record(trained, inputs):
    folder, _, _ = trained
    record = only_record(folder / "results")
    data_only = inputs.options()[:2] + ["image_scale_factor=0.5"]
    finished = run(
        "test.py",
        CONFIG,
        "work/epoch_1.pth",
        "--results-dir",
        "other",
        "--out",
        "p.pkl",
        "--show-dir",
        "drawn",
        *data_only,
        cwd=folder,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    tested = only_record(folder / "other")
    assert tested.key == record.key and tested.metrics == record.metrics and (folder / "p.pkl").stat().st_size > 0
    assert len(list((folder / "drawn").glob("*.jpg"))) == 3


def test_testing_refuses_weights_of_another_model(trained, inputs, tmp_path):
    folder, _, _ = trained
    finished = run(
        "test.py", "mmconfigs/maskrcnn_vits16_flsl.py", folder / "work/epoch_1.pth", *inputs.options()[:2], cwd=tmp_path
    )
    assert finished.returncode == 2 and "does not fit the config's model" in finished.stderr


def test_two_processes_train_and_record_from_any_folder(inputs, tmp_path):
    finished = run(
        "dist_train.sh",
        CONFIG,
        2,
        *["--work-dir", "work", "--results-dir", "results", *inputs.options()],
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    record = only_record(tmp_path / "results")
    assert record.environment.devices == 2 and record.protocol.deviations["global_batch_size"] == 8
    tested = run(
        "dist_test.sh",
        *[CONFIG, "work/epoch_1.pth", 2, "--results-dir", "other", *inputs.options()[:2], "image_scale_factor=0.5"],
        cwd=tmp_path,
    )
    assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr[-3000:]
    assert only_record(tmp_path / "other").metrics == record.metrics


def test_a_killed_training_goes_on_from_its_last_checkpoint(inputs, tmp_path):
    arguments = [CONFIG, "--work-dir", "work", "--results-dir", "results", "--resume"]
    arguments += inputs.options(**{"train_cfg.max_epochs": 4})
    process = start("train.py", *arguments, cwd=tmp_path)
    deadline = time.monotonic() + 240
    while not (tmp_path / "work/epoch_2.pth").exists():
        assert process.poll() is None and time.monotonic() < deadline, "training ended before it could be killed"
        time.sleep(0.02)
    kill(process)
    assert not list(Store(tmp_path / "results").records())
    resumed = run("train.py", *arguments, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    epochs = [int(found) for found in re.findall(r"Epoch\(train\) +\[(\d)\]", resumed.stdout)]
    assert epochs and min(epochs) >= 2 and max(epochs) == 4 and 1 not in epochs
    assert "resumed epoch" in resumed.stdout
    assert only_record(tmp_path / "results").protocol.deviations["train_cfg.max_epochs"] == 4


def test_resuming_the_work_dir_of_other_weights_is_refused(trained, inputs, tmp_path):
    from flsl_bench.demo import write_checkpoint

    folder, _, _ = trained
    other = write_checkpoint(tmp_path / "other.pth", embed_dim=192, depth=4, num_heads=3, patch_size=16, seed=1)
    finished = run(
        "train.py",
        *[CONFIG, "--work-dir", folder / "work", "--results-dir", tmp_path, "--resume"],
        *inputs.options(init_checkpoint=other),
        cwd=tmp_path,
    )
    assert finished.returncode == 2 and "other weights" in finished.stderr


def without(annotations: Path, change) -> None:
    content = json.loads(annotations.read_text())
    change(content)
    annotations.write_text(json.dumps(content))


@pytest.fixture
def broken(inputs, tmp_path):
    """A copy of the data, to be broken."""
    import shutil

    return shutil.copytree(inputs.data, tmp_path / "broken")


BAD = {
    "missing data root": (lambda d: {"data_root": "/nowhere/coco"}, r"/nowhere/coco.*no such data folder.*data_root="),
    "missing annotations": (
        lambda d: (d / "annotations/instances_val2017.json").unlink(),
        r"instances_val2017\.json: annotation file is missing",
    ),
    "malformed JSON": (
        lambda d: (d / "annotations/instances_train2017.json").write_text('{"images": ['),
        r"instances_train2017\.json: malformed JSON",
    ),
    "absent image": (
        lambda d: next((d / "train2017").glob("*.jpg")).unlink(),
        r"train2017/0+\d*\.jpg: listed in .* but is absent",
    ),
    "unknown architecture": (lambda d: {"model.backbone.arch": "gigantic"}, r"unknown architecture 'gigantic'.*small"),
    "other architecture": (lambda d: {"model.backbone.arch": "small"}, r"width, depth, patch \(192, 4, 16\)"),
    "missing checkpoint": (lambda d: {"init_checkpoint": "nothing.pth"}, r"nothing\.pth: no such file"),
    "no seed": (lambda d: {"randomness.seed": None}, r"randomness\.seed is not set"),
    "unfitting option": (lambda d: {"train_dataloader.batch_size.x": 1}, r"--cfg-options do not fit"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case, inputs, broken, tmp_path):
    spoil, message = BAD[case]
    options = spoil(broken)
    options = {"data_root": broken} | (options if isinstance(options, dict) else {})
    finished = run("train.py", CONFIG, "--work-dir", "work", *inputs.options(**options), cwd=tmp_path)
    assert finished.returncode == 2, finished.stderr[-2000:]
    lines = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and re.search(message, lines[0]), finished.stderr[-2000:]
    assert "Traceback" not in finished.stderr


def test_an_unwritable_work_dir_is_one_line_and_exit_code_2(inputs, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    finished = run("train.py", CONFIG, "--work-dir", "file/work", *inputs.options(), cwd=tmp_path)
    assert finished.returncode == 2
    assert re.search(r"error: file/work: cannot be written \(.*\); choose another --work-dir", finished.stderr)


def test_an_unknown_config_is_one_line_and_exit_code_2(tmp_path):
    finished = run("train.py", "mmconfigs/nothing.py", cwd=tmp_path)
    assert finished.returncode == 2 and "error: mmconfigs/nothing.py: no such config" in finished.stderr


def test_the_launcher_says_an_error_once_before_it_starts_processes(inputs, tmp_path):
    finished = run("dist_train.sh", CONFIG, 2, *inputs.options(data_root="/nowhere"), cwd=tmp_path)
    assert finished.returncode == 2 and finished.stderr.count("/nowhere") == 1
    assert run("dist_train.sh", CONFIG, "many", cwd=tmp_path).returncode == 2
    assert "Usage: tools/dist_train.sh CONFIG GPUS" in run("dist_train.sh", cwd=tmp_path).stderr


def test_slurm_launchers_hand_over_to_srun(tmp_path):
    fake = tmp_path / "srun"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GPUS": "16", "SRUN_ARGS": "--time=1:00:00 -x bad"}
    finished = run("slurm_train.sh", "gpu", "name", CONFIG, "work", "--resume", cwd=tmp_path, **path)
    assert finished.returncode == 0, finished.stderr
    for part in (
        "-p gpu --job-name=name --gres=gpu:8 --ntasks=16 --ntasks-per-node=8",
        "--time=1:00:00 -x bad",
        f"{ROOT}/tools/train.py {CONFIG} --work-dir work --resume --launcher slurm",
    ):
        assert part in finished.stdout
    finished = run("slurm_test.sh", "gpu", "name", CONFIG, "e.pth", cwd=tmp_path, **path)
    assert f"{ROOT}/tools/test.py {CONFIG} e.pth --launcher slurm" in finished.stdout


def test_fewer_gpus_than_asked_is_an_error(monkeypatch):
    import torch

    from flsl_bench.errors import ConfigError
    from flsl_bench.openmmlab.execution import check_gpus

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus(2)
    with pytest.raises(ConfigError, match="8 GPUs asked, 2 found: pass 2"):
        check_gpus(8)


def test_the_real_coco_sample_trains_on_two_processes(shared, tmp_path):
    """The command of the README's developer section."""
    from flsl_bench.demo import write_checkpoint

    checkpoint = write_checkpoint(tmp_path / "flsl.pth", embed_dim=384, depth=12, num_heads=6, patch_size=16)
    finished = run(
        "dist_train.sh",
        *["mmconfigs/maskrcnn_vits16_flsl.py", 2, "--work-dir", "work", "--results-dir", "results", "--cfg-options"],
        *[f"data_root={shared / 'data/coco_tiny38'}", f"init_checkpoint={checkpoint}", "image_scale_factor=0.2"],
        *["train_cfg.max_epochs=1", "train_dataloader.dataset.indices=6"],
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    record = only_record(tmp_path / "results")
    path = Store(tmp_path / "results").path(record.model, record.task, record.key)
    assert read_record(path).data.splits["val"].images == 6 and record.weights.arch == "vit_small"
    assert record.metric("box_AP") is not None and not record.comparable
