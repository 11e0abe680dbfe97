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
    coco, davis = Store(tmp_path / "work_dirs/demo/results").records()
    assert coco.metric("box_AP50") > 20 and coco.metric("mask_AP50") > 15
    assert coco.comparable and coco.protocol.name == "miniature_coco_maskrcnn"
    assert davis.metric("J&F-Mean") > 40
    measured = (coco.metric("box_AP"), coco.metric("mask_AP"), davis.metric("J&F-Mean"))
    for shown in ("flsl-demo (FLSL)", "44.9", "J&F-Mean", *(f"{value:.1f}" for value in measured)):
        assert shown in first.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["work_dirs"]
    again = demo(tmp_path)
    assert again.returncode == 0 and f"{coco.metric('box_AP'):.1f}" in again.stdout
    assert list(Store(tmp_path / "work_dirs/demo/results").records()) == [coco, davis]
