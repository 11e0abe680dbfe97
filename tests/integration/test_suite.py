"""`flsl-bench run`, whole: killed and started again, two at once, and on real samples."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flsl_bench.datasets.miniature import make_ade20k, make_davis
from flsl_bench.results.store import Store
from tests.integration.conftest import CONFIG, ROOT, environment, kill

ADE20K_CONFIG = "mmconfigs/semfpn_vitt16_flsl_ade20k_miniature.py"
COCO_SHORT = """_base_ = ["{base}"]
train_cfg = dict(max_epochs=3)
default_hooks = dict(checkpoint=dict(interval=1))
image_scale_factor = 0.5
"""
ADE20K_SHORT = """_base_ = ["{base}"]
train_cfg = dict(max_iters=8, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=2))
image_scale_factor = 0.5
"""


def program(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from flsl_bench.cli import main; main()", "run", *map(str, arguments)]


def finish(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    done = subprocess.run(program(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def start(*arguments: object, cwd: Path) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        program(*arguments), cwd=cwd, env=environment(), stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_for(pattern: str, folder: Path, process: subprocess.Popen) -> None:
    """Until there is a file of that pattern; fails if the process ends before."""
    end = time.monotonic() + 300
    while not any(folder.rglob(pattern)):
        assert process.poll() is None and time.monotonic() < end, f"no {pattern}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def arguments(inputs, tmp_path_factory) -> list:
    """Three short tasks on small miniatures."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "data").mkdir()
    (folder / "data/coco").symlink_to(inputs.data)
    make_ade20k(folder / "data/ade20k", train_images=8, val_images=3)
    make_davis(folder / "data/DAVIS")
    (folder / "coco.py").write_text(COCO_SHORT.format(base=ROOT / CONFIG))
    (folder / "ade20k.py").write_text(ADE20K_SHORT.format(base=ROOT / ADE20K_CONFIG))
    configs = [f"--config=coco={folder / 'coco.py'}", f"--config=ade20k={folder / 'ade20k.py'}"]
    places = ["--work-dir=work", "--results-dir=results"]
    return [
        "--checkpoint",
        inputs.checkpoint,
        "--data-root",
        folder / "data",
        "--tasks=coco,ade20k,davis",
        *configs,
    ] + places


def outcome(folder: Path) -> dict:
    """What a run measured: everything of its records but when and how fast."""
    return {r.key: (r.task, r.metrics, r.breakdowns) for r in Store(folder / "results").records()}


def test_killed_at_several_moments_and_started_again_it_leaves_the_same_records(arguments, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    told = finish(*arguments, cwd=whole).stdout
    assert [line for line in told.splitlines() if line.endswith(": finished")] == [
        "coco, seed 0: finished",
        "ade20k, seed 0: finished",
        "davis: finished",
    ]
    expected = outcome(whole)
    assert sorted(task for task, *_ in expected.values()) == ["ade20k", "coco", "davis"]

    for pattern in ("epoch_1.pth", "iter_4.pth", "davis/*/*/00003.png"):
        process = start(*arguments, cwd=broken)
        wait_for(pattern, broken / "work", process)
        kill(process)
    told = finish(*arguments, cwd=broken).stdout
    assert outcome(broken) == expected
    plan = told[: told.index("──")]
    assert plan.count("finished") == 2 and "half done" in plan and "Epoch(train)" not in told

    again = finish(*arguments, cwd=broken).stdout
    assert again.count("finished") == 3 and "propagate" not in again and outcome(broken) == expected


def test_its_children_end_with_it_and_a_second_run_waits_or_says_who_has_the_work_dir(arguments, tmp_path):
    first = start(*arguments, cwd=tmp_path)
    wait_for("tool.log", tmp_path / "work", first)
    second = subprocess.run(
        program(*arguments), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    if second.returncode:  # the first one took longer than a second one waits
        assert second.returncode == 2 and f"is in use by process {first.pid} on " in second.stderr
    first.send_signal(signal.SIGKILL)  # the parent alone
    first.wait(timeout=60)
    finish(*arguments[:5], *arguments[7:], "--tasks=davis", cwd=tmp_path)  # its children have let go of the lock
    kill_rest = subprocess.run(["pgrep", "-g", str(first.pid)], capture_output=True, text=True)
    assert kill_rest.stdout == ""


def test_a_smoke_run_on_real_samples_leaves_three_records_and_one_table(shared, inputs, tmp_path):
    configs = [f"--config=coco={CONFIG}", f"--config=ade20k={ADE20K_CONFIG}"]
    given = ["--checkpoint", inputs.checkpoint, "--data-root", shared / "data", "--tasks=coco,ade20k,davis", "--smoke"]
    told = finish(*given, *configs, "--work-dir=work", "--results-dir=results", cwd=tmp_path).stdout
    records = {record.task: record for record in Store(tmp_path / "results").records()}
    assert {task: record.smoke for task, record in records.items()} == {"coco": True, "ade20k": True, "davis": True}
    assert {name: split.images for name, split in records["coco"].data.splits.items()} == {"train": 32, "val": 6}
    assert {name: split.images for name, split in records["ade20k"].data.splits.items()} == {"train": 3, "val": 3}
    assert records["davis"].metric("J&F-Mean") > 20
    after = told[told.index("davis: finished") :]
    assert after.count("All tasks") == 1 and after.count("a smoke run") == 3
    assert "SelfPatch" not in told and "44.9" not in told  # no paper beside it


def test_probes_on_real_samples_leave_a_record_each_and_share_their_features(shared, inputs, tmp_path):
    given = ["--checkpoint", inputs.checkpoint, "--data-root", shared / "data", "--model-name", "m"]
    probes = "--tasks=prompt-seg,similarity,box-knn,dense-nn"
    told = finish(*given, probes, "--work-dir=work", "--results-dir=results", cwd=tmp_path).stdout
    records = {record.task: record for record in Store(tmp_path / "results").records()}
    assert sorted(records) == sorted(
        [
            *(f"{probe}-{data}" for probe in ("prompt-seg", "similarity") for data in ("coco", "davis", "ade20k")),
            *("box-knn-coco", "box-knn-voc", "dense-nn-ade20k"),
        ]
    )
    assert all(record.metrics[0].value is not None for record in records.values())
    assert "prompt-seg-voc is left out" in told  # the sample has boxes only
    assert records["box-knn-voc"].protocol.deviations["data.images_in_both_splits"] == 4  # its lists are the same
    passes = {task: told.split(f"─ {task}")[1].split(" images went through the ViT")[0] for task in records}
    assert {task: int(text.split()[-1]) for task, text in passes.items()} == {
        **{"prompt-seg-coco": 6, "prompt-seg-davis": 99, "prompt-seg-ade20k": 3},
        **{"similarity-coco": 0, "similarity-davis": 0, "similarity-ade20k": 0},
        **{"box-knn-coco": 36, "box-knn-voc": 4, "dense-nn-ade20k": 3},
    }
    panels = {path.parent.parent.parent.name for path in (tmp_path / "work").rglob("panels.json")}
    assert panels == {name for name in records if name.startswith(("prompt-seg", "similarity"))}
