"""`flsl-bench demo`, whole."""

import subprocess
import sys

from flsl_bench.results.store import Store
from tests.integration.conftest import environment


def demo(cwd) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from flsl_bench.cli import main; main()", "demo"]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=800)


def test_the_demo_measures_ap_well_above_zero_prints_it_and_does_not_repeat_itself(tmp_path):
    first = demo(tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    (record,) = Store(tmp_path / "work_dirs/demo/results").records()
    assert record.metric("box_AP50") > 20 and record.metric("mask_AP50") > 15
    assert record.comparable and record.protocol.name == "miniature_coco_maskrcnn"
    for shown in ("flsl-demo (FLSL)", f"{record.metric('box_AP'):.1f}", f"{record.metric('mask_AP'):.1f}", "44.9"):
        assert shown in first.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["work_dirs"]
    again = demo(tmp_path)
    assert again.returncode == 0 and f"{record.metric('box_AP'):.1f}" in again.stdout
    assert list(Store(tmp_path / "work_dirs/demo/results").records()) == [record]
