"""The command `flsl-bench`: its answers and its errors."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flsl_bench.cli import app
from flsl_bench.demo import write_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "flsl.pth"
    return write_checkpoint(path, embed_dim=64, depth=2, num_heads=2, patch_size=16)


def invoke(*arguments: object) -> str:
    answer = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def flsl_bench(*arguments: object) -> subprocess.CompletedProcess:
    program = [sys.executable, "-c", "from flsl_bench.cli import main; main()", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


def test_inspect_tells_format_architecture_heads_and_where_they_are_from(weights):
    told = invoke("checkpoint", "inspect", weights)
    for part in (
        "flsl, teacher",
        "vit_64x2: width 64, depth 2",
        "16, positions 14x14",
        "prefix tokens 0",
        "2 (num_heads in the checkpoint's args)",
        "all 29 of the backbone found",
        "teacher.backbone.cls_token",
    ):
        assert part in told
    facts = json.loads(invoke("checkpoint", "inspect", weights, "--json"))
    assert facts["format"] == "flsl" and len(facts["sha256"]) == 64 and facts["architecture"]["num_heads"] == 2


def test_convert_writes_safetensors_that_inspect_reads(weights, tmp_path):
    out = tmp_path / "clean.safetensors"
    assert "29 weights of vit_64x2 from flsl" in invoke("checkpoint", "convert", weights, out)
    assert "flsl_bench" in invoke("checkpoint", "inspect", out)


def test_results_lists_nothing_where_there_is_nothing(tmp_path):
    assert f"no records in {tmp_path / 'measured'}" in invoke("results", "--results-dir", tmp_path)


def test_uavdt_conversion_says_what_it_wrote_and_what_is_missing(tmp_path):
    gt = tmp_path / "GT"
    gt.mkdir()
    (gt / "M0101_gt_whole.txt").write_text("1,1,10,10,20,20,1,1,1\n1,2,50,50,20,20,1,1,2\n2,1,12,10,20,20,1,1,1\n")
    (gt / "M0101_gt_ignore.txt").write_text("1,-1,0,0,5,5,1,-1,-1\n")
    told = invoke("data", "convert-uavdt", "--gt", gt, "--out", tmp_path / "out")
    assert "2 frames, 3 boxes (2 car, 1 truck, 0 bus), not the complete official split" in told
    assert "1 sequences, 1 ignore regions" in told and "M0201" in told
    written = json.loads((tmp_path / "out/annotations/uavdt_train.json").read_text())
    assert len(written["images"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("checkpoint", "inspect", "nothing.pth"), "error: nothing.pth: no such file"),
        (("checkpoint", "inspect", "/"), "error: /: this is a folder"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments, message):
    answer = flsl_bench(*arguments)
    assert answer.returncode == 2 and answer.stdout == ""
    assert len(answer.stderr.splitlines()) == 1 and answer.stderr.startswith(message)


def test_what_needs_no_openmmlab_does_not_import_it():
    program = (
        "import sys; import flsl_bench.tasks, flsl_bench.checkpoints, flsl_bench.results.tables, "
        "flsl_bench.results.store, flsl_bench.tasks.davis_scoring, flsl_bench.cli; "
        "print([m for m in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "[]"
