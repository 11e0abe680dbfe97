"""tools/eval_davis.py, run as a user runs it on the miniature DAVIS."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.davis import read_mask, sequences
from flsl_bench.datasets.miniature import make_davis
from flsl_bench.demo import write_checkpoint
from flsl_bench.results.store import Store
from tests.integration.conftest import ROOT, command, environment, kill, run, start

SMALL = ("--short-side", 96, "--size-multiple", 32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "flsl.pth"
    return write_checkpoint(path, embed_dim=64, depth=2, num_heads=2, patch_size=16)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_davis(tmp_path_factory.mktemp("davis") / "DAVIS", frames=8)


@pytest.fixture(scope="module")
def evaluated(weights, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--checkpoint", weights, "--davis-root", root, "--out", "out", "--results-dir", "results", *SMALL]
    finished = run("eval_davis.py", *arguments, cwd=folder)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder, arguments, finished


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {f"{p.parent.name}/{p.name}": read_mask(p) for p in sorted(folder.glob("*/*.png"))}


def test_a_run_prints_the_table_and_leaves_masks_csv_and_a_record(evaluated, root):
    folder, _, finished = evaluated
    (record,) = Store(folder / "results").records()
    names = sequences(root)
    assert len(masks(folder / "out")) == 8 * len(names)
    assert [m.name for m in record.metrics][:2] == ["J&F-Mean", "J-Mean"] and record.metric("J&F-Mean") > 20
    assert not next(m for m in record.metrics if m.name == "J-Decay").higher_is_better
    assert record.protocol.deviations == {"short_side": 96, "size_multiple": 32, "sequences": names}
    header, values = (folder / "out/global_results-val.csv").read_text().splitlines()
    assert header == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert float(values.split(",")[0]) == pytest.approx(record.metric("J&F-Mean") / 100, abs=6e-4)
    for shown in ("J&F-Mean", "F-Decay", *names, f"{names[0]} 2"):
        assert shown in finished.stdout


def test_finished_sequences_are_run_again_only_if_something_changed(evaluated):
    folder, arguments, _ = evaluated
    times = {p: p.stat().st_mtime_ns for p in (folder / "out").glob("*/*.png")}
    assert run("eval_davis.py", *arguments, cwd=folder).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert run("eval_davis.py", *arguments, "--temperature", 0.2, cwd=folder).returncode == 0
    assert all(p.stat().st_mtime_ns > before for p, before in times.items())
    assert len(list(Store(folder / "results").records())) == 2
    assert run("eval_davis.py", *arguments, cwd=folder).returncode == 0


def test_half_precision_is_recorded_and_leaves_nearly_the_same_masks(evaluated, tmp_path):
    folder, arguments, _ = evaluated
    assert run("eval_davis.py", *arguments, "--half", "--device", "cpu", cwd=tmp_path).returncode == 0
    (record,) = Store(tmp_path / "results").records()
    assert record.environment.precision == record.protocol.deviations["precision"] == "bf16"
    expected = masks(folder / "out")
    equal = [float((mask == expected[name]).mean()) for name, mask in masks(tmp_path / "out").items()]
    assert min(equal) > 0.95 and sum(equal) / len(equal) > 0.99


def test_a_killed_run_leaves_whole_masks_and_resumes_to_the_same_ones(evaluated, tmp_path):
    folder, arguments, _ = evaluated
    expected = masks(folder / "out")
    process = start("eval_davis.py", *arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("*/*.png"))) < 11:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    kill(process)
    written = masks(tmp_path / "out")  # every one of them reads
    assert 11 <= len(written) < len(expected)
    assert run("eval_davis.py", *arguments, cwd=tmp_path).returncode == 0
    resumed = masks(tmp_path / "out")
    assert resumed.keys() == expected.keys()
    assert all(np.array_equal(resumed[name], expected[name]) for name in expected)


def test_two_processes_share_the_sequences_and_give_one_table(evaluated, tmp_path):
    folder, arguments, _ = evaluated
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
    shared = [*launcher, environment()["PORT"], *command("eval_davis.py", *arguments)[1:]]
    finished = subprocess.run(shared, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("J&F-Mean    J-Mean") == 1
    expected = masks(folder / "out")
    assert all(np.array_equal(mask, expected[name]) for name, mask in masks(tmp_path / "out").items())
    (record,) = Store(tmp_path / "results").records()
    assert record.environment.devices == 2


def test_pictures_and_videos_show_the_masks_over_the_frames(evaluated, root):
    folder, arguments, _ = evaluated
    name = sequences(root)[0]
    for kind in ("mp4", "gif"):
        finished = run("eval_davis.py", *arguments, "--overlays", "--video", kind, cwd=folder)
        assert finished.returncode == 0, finished.stderr[-2000:]
        assert (folder / f"out/videos/{name}.{kind}").stat().st_size > 1000
    assert len(list((folder / "out/overlays" / name).glob("*.jpg"))) == 8
    video = cv2.VideoCapture(str(folder / f"out/videos/{name}.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 8
    with Image.open(folder / f"out/videos/{name}.gif") as gif:
        assert gif.n_frames == 8


def test_scoring_alone_needs_no_torch(evaluated, root):
    folder, _, _ = evaluated
    program = (
        "import runpy, sys; sys.modules['torch'] = None; "
        f"sys.argv = ['eval_davis.py', '--score-only', 'out', '--davis-root', {str(root)!r}]; "
        f"runpy.run_path({str(ROOT / 'tools/eval_davis.py')!r}, run_name='__main__')"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    (record, *_) = (r for r in Store(folder / "results").records() if "temperature" not in r.protocol.deviations)
    assert f"{record.metric('J&F-Mean'):.1f}" in finished.stdout


def test_a_broken_sequence_does_not_lose_the_others(weights, root, tmp_path):
    broken = shutil.copytree(root, tmp_path / "DAVIS")
    first, *others = sequences(broken)
    frame = broken / f"JPEGImages/480p/{first}/00004.jpg"
    frame.unlink()
    finished = run(
        "eval_davis.py", "--checkpoint", weights, "--davis-root", broken, "--results-dir", "r", *SMALL, cwd=tmp_path
    )
    assert finished.returncode == 1
    assert f"failed: {first}: {frame}: missing" in finished.stderr and "1 sequences failed" in finished.stderr
    assert all(re.search(rf"^{name} +\d", finished.stdout, flags=re.M) for name in others)
    assert not list(Store(tmp_path / "r").records())


def spoil_size(root: Path, name: str) -> None:
    path = root / f"Annotations/480p/{name}/00000.png"
    with Image.open(path) as image:
        image.crop((0, 0, 64, 64)).save(path)


def spoil_rgb(root: Path, name: str) -> None:
    path = root / f"Annotations/480p/{name}/00000.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path)


def spoil_empty(root: Path, name: str) -> None:
    path = root / f"Annotations/480p/{name}/00000.png"
    with Image.open(path) as image:
        image.point(lambda _: 0).save(path)


def spoil_truncated(root: Path, name: str) -> None:
    path = root / f"Annotations/480p/{name}/00000.png"
    path.write_bytes(path.read_bytes()[:200])


def spoil_image(root: Path, name: str) -> None:
    path = root / f"JPEGImages/480p/{name}/00003.jpg"
    path.write_bytes(b"no picture")


SPOILT = {
    "sizes differ": (spoil_size, r"00000\.jpg: the frame is .*its mask \(64, 64\)"),
    "RGB mask": (spoil_rgb, r"00000\.png: RGB PNG where one of object ids belongs"),
    "no object": (spoil_empty, r"00000\.png: no object in the first mask"),
    "truncated mask": (spoil_truncated, r"00000\.png: truncated or damaged PNG"),
    "no image": (spoil_image, r"00003\.jpg: .*"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong_with_a_sequence_is_said_with_the_file(case, weights, root, tmp_path):
    spoil, message = SPOILT[case]
    broken = shutil.copytree(root, tmp_path / "DAVIS")
    name = sequences(broken)[0]
    spoil(broken, name)
    finished = run(
        "eval_davis.py",
        *["--checkpoint", weights, "--davis-root", broken, "--sequences", name, *SMALL],
        cwd=tmp_path,
    )
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert re.search(rf"failed: {name}: .*{message}", finished.stderr), finished.stderr[-2000:]


def test_input_that_concerns_the_whole_run_is_exit_code_2(weights, root, tmp_path):
    for arguments, message in (
        (["--checkpoint", weights, "--davis-root", "/nowhere"], "/nowhere: no such folder"),
        (["--checkpoint", weights, "--davis-root", root, "--split", "test"], "no such split"),
        (["--checkpoint", weights, "--davis-root", root, "--sequences", "nothing"], "no such sequence 'nothing'"),
        (["--checkpoint", "none.pth", "--davis-root", root], "none.pth: no such file"),
        (["--checkpoint", weights, "--davis-root", root, "--arch", "vit_base"], "vit_base"),
        (["--checkpoint", weights, "--davis-root", root, "--top-k", 0], "top_k=0"),
        (["--score-only", "nothing", "--davis-root", root], "nothing: no such folder of results"),
        (["--score-only", ".", "--davis-root", root, "--cross-check", "--split", "test"], "no such split"),
    ):
        finished = run("eval_davis.py", *arguments, cwd=tmp_path)
        assert finished.returncode == 2 and message in finished.stderr, finished.stderr[-1000:]


def fake_official(folder: Path, shift: float) -> None:
    """A davis2017 package that answers as the official one does, from our own scores plus a shift."""
    (folder / "davis2017").mkdir(parents=True)
    (folder / "davis2017/__init__.py").touch()
    (folder / "davis2017/evaluation.py").write_text(
        "from flsl_bench.tasks.davis_scoring import score\n"
        "class DAVISEvaluation:\n"
        "    def __init__(self, davis_root, task, gt_set):\n"
        "        assert task == 'semi-supervised'\n"
        "        self.root, self.split = davis_root, gt_set\n"
        "    def evaluate(self, results):\n"
        "        objects = score(results, self.root, split=self.split).objects\n"
        "        def table(m):\n"
        "            found = [getattr(x, m) for x in objects]\n"
        f"            values = [[v + {shift} for v in (o.mean, o.recall, o.decay)] for o in found]\n"
        "            names = [f'{x.sequence}_{x.object}' for x in objects]\n"
        "            return {'M': [v[0] for v in values], 'R': [v[1] for v in values], 'D': [v[2] for v in values],\n"
        "                    'M_per_object': dict(zip(names, (v[0] for v in values)))}\n"
        "        return {'J': table('J'), 'F': table('F')}\n"
    )


def test_the_cross_check_compares_with_the_official_package(evaluated, root, tmp_path):
    folder, _, _ = evaluated
    arguments = ["--score-only", folder / "out", "--davis-root", root, "--out", tmp_path, "--cross-check"]
    missing = run("eval_davis.py", *arguments, cwd=tmp_path)
    assert missing.returncode == 2 and "davischallenge/davis2017-evaluation" in missing.stderr
    for shift, code in ((0.0, 0), (1e-3, 3)):
        fake = tmp_path / f"fake{code}"
        fake_official(fake, shift)
        finished = run("eval_davis.py", *arguments, cwd=tmp_path, PYTHONPATH=f"{fake}:{ROOT}")
        assert finished.returncode == code and "cross-check: the official package agrees" in finished.stdout


@pytest.mark.parametrize("name", ["blackswan", "libby"])
def test_real_sequences_end_in_a_table(name, shared, tmp_path):
    finished = run(
        "eval_davis.py",
        *["--checkpoint", shared / "golden/vit/flsl_tiny_checkpoint.pth", "--num-heads", 2, "--sequences", name],
        *["--davis-root", shared / "data/davis2017", "--results-dir", "results", "--short-side", 240],
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert re.search(rf"^{name} +\d\d\.\d", finished.stdout, flags=re.M)
