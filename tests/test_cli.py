"""The command `flsl-bench`: its answers and its errors."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flsl_bench.cli import app
from flsl_bench.datasets.miniature import make_davis
from flsl_bench.demo import write_checkpoint
from flsl_bench.results.store import Store
from tests.results.conftest import build_record


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


def test_list_names_every_task_and_the_known_models():
    told = invoke("list")
    for part in (
        "coco",
        "uavdt",
        "ade20k-upernet",
        "prompt-seg-davis",
        "box_AP50",
        "davis2017_val_label_prop, version 1",
    ):
        assert part in told
    assert "SelfPatch" in told and "arXiv 2306.06203" in told and "data set ade20k; 40,000 iterations" in told
    assert "prompt-seg, similarity, box-knn, dense-nn, linear-seg: all of that name" in " ".join(told.split())


def test_compare_sets_two_models_side_by_side(tmp_path):
    store = Store(tmp_path)
    for model, value in (("a", 44.9), ("b", 44.0)):
        store.save(build_record(model=model, scores={"box_AP": value, "mask_AP": 40.0}))
    told = invoke("compare", "a", "b", "--results-dir", tmp_path)
    assert "A = a, B = b" in told
    rows = [line.split() for line in told.splitlines() if line.split()[:1] in (["box_AP"], ["mask_AP"])]
    assert rows == [["box_AP", "A", "leads", "44.9", "44.0", "0.9", "0.3"]] + [
        ["mask_AP", "within", "noise", "40.0", "40.0", "0.0", "0.3"]
    ]
    answer = flsl_bench("compare", "a", "c", "--results-dir", tmp_path)
    assert answer.returncode == 2 and "c" in answer.stderr and len(answer.stderr.splitlines()) == 1


def test_data_check_tells_every_data_set_and_fails_for_a_broken_one(tmp_path):
    make_davis(tmp_path / "DAVIS")
    told = invoke("data", "check", tmp_path)
    assert "DAVIS 2017" in told and "3 sequences, 48 frames" in told and "missing  COCO 2017" in told
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/val2017").mkdir()
    (tmp_path / "coco/annotations/instances_val2017.json").write_text("{}")
    answer = flsl_bench("data", "check", tmp_path)
    assert answer.returncode == 1 and "broken" in answer.stdout


def test_run_tells_the_plan_and_stops(weights, tmp_path):
    make_davis(tmp_path / "data/DAVIS")
    common = ("run", "--checkpoint", weights, "--data-root", tmp_path / "data", "--work-dir", tmp_path / "work")
    told = invoke(*common, "--tasks", "davis,prompt-seg", "--results-dir", tmp_path / "results", "--dry-run")
    words = " ".join(told.split())
    assert "prompt-seg-coco is left out" in told and "propagate 3 sequences on" in words
    assert "prompt-seg-davis to do" in words and "features of 48 images" in words
    assert not (tmp_path / "work").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "coc"), "unknown task 'coc': did you mean coco?"),
        (("--seeds", "0,one"), "--seeds 0,one: write whole numbers with commas between them"),
        (("--seeds", "-1"), "--seeds -1: a seed is not negative"),
        (("--data", "coco"), "--data coco: write NAME=VALUE"),
        (("--tasks", "dense-nn"), "dense-nn: none of its data sets (voc, ade20k) is below"),
    ],
)
def test_run_refuses_what_means_nothing(weights, tmp_path, arguments, message):
    answer = flsl_bench("run", "--checkpoint", weights, "--data-root", tmp_path, *arguments)
    assert answer.returncode == 2 and message in answer.stderr


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
