"""`flsl-bench demo`, whole, and killed on the way."""

import subprocess
import sys
import time

from flsl_bench.results.store import Store
from tests.integration.conftest import environment, kill

COMMAND = [sys.executable, "-c", "from flsl_bench.cli import main; main()", "demo"]


def demo(cwd) -> subprocess.CompletedProcess:
    return subprocess.run(COMMAND, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=850)


def begin_and_kill(cwd, pattern: str) -> None:
    """Kill a demo as soon as a file of that pattern is there."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(COMMAND, cwd=cwd, env=environment(), stdout=quiet, stderr=quiet, start_new_session=True)
    while not any((cwd / "work_dirs/demo").rglob(pattern)):
        assert process.poll() is None
        time.sleep(0.1)
    kill(process)


def test_the_demo_measures_all_benchmarks_well_above_chance_and_does_not_repeat_itself(tmp_path):
    begin_and_kill(tmp_path, "epoch_*.pth")
    first = demo(tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    records = {record.task: record for record in Store(tmp_path / "work_dirs/demo/results").records()}
    probes = {name for name in records if name not in ("ade20k", "coco", "davis", "uavdt")}
    assert len(records) == 4 + len(probes) and probes == {
        *(f"{probe}-{data}" for probe in ("prompt-seg", "similarity") for data in ("coco", "davis", "voc", "ade20k")),
        *("box-knn-coco", "box-knn-voc", "dense-nn-voc", "dense-nn-ade20k"),
    }
    above = {"coco": ("mask_AP50", 15), "uavdt": ("box_AP50", 30), "ade20k": ("mIoU", 30), "davis": ("J&F-Mean", 40)}
    for task, (metric, least) in above.items():
        assert records[task].metric(metric) > least
        assert f"{records[task].metrics[0].value:.1f}" in first.stdout
    assert records["coco"].comparable and records["coco"].protocol.name == "miniature_coco_maskrcnn"
    titles = ("COCO: object", "UAVDT: object", "ADE20K: semantic", "DAVIS 2017: video", "All tasks")
    report = tmp_path / "work_dirs/demo/report.html"
    assert first.stdout.splitlines()[-1] == str(report.relative_to(tmp_path)) and report.stat().st_size > 100_000
    for shown in (*titles, "flsl-demo (FLSL)", "44.9"):
        assert shown in first.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["work_dirs"]
    again = demo(tmp_path)
    assert again.returncode == 0 and "train " not in again.stderr
    assert {record.task: record for record in Store(tmp_path / "work_dirs/demo/results").records()} == records
