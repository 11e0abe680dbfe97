"""tools/make_tables.py, run as a user runs it."""

import shutil
import subprocess
import sys

from flsl_bench.paths import CHECKOUT
from flsl_bench.results.rendering import FORMATS
from flsl_bench.results.store import Store

TOOL = CHECKOUT / "tools" / "make_tables.py"


def run(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_writes_the_tables_and_names_them(tmp_path, build_record):
    Store(tmp_path).save(build_record(scores={"box_AP": 12.3}))
    done = run("--results-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    names = [f"{name}.{suffix}" for name in ("coco", "uavdt", "ade20k", "davis", "others") for suffix in FORMATS]
    names += [f"models/flsl_vits16-aaaaaaaa.{suffix}" for suffix in ("md", "csv")]
    assert done.stdout.splitlines() == [str(tmp_path / "tables" / name) for name in names]
    text = (tmp_path / "tables" / "coco.md").read_text(encoding="utf-8")
    assert "| flsl_vits16-aaaaaaaa (FLSL) | ViT-S/16 | 12.3 (−32.6) |" in text
    assert "| FLSL | ViT-S/16 | 44.9 | — | — |" in text
    again = run("--results-dir", tmp_path)
    assert again.returncode == 0 and again.stdout == f"{tmp_path / 'tables'}: up to date\n"
    assert again.stderr == ""


def test_a_table_that_nothing_makes_any_more_is_named_and_kept(tmp_path, build_record):
    path = Store(tmp_path).save(build_record())
    run("--results-dir", tmp_path)
    path.unlink()
    done = run("--results-dir", tmp_path)
    page = tmp_path / "tables" / "models" / "flsl_vits16-aaaaaaaa.md"
    assert done.returncode == 0 and page.exists()
    assert f"{page}: no record or figure makes this table any more; delete it" in done.stderr.splitlines()


def test_another_folder_for_the_tables(tmp_path):
    done = run("--results-dir", tmp_path / "results", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    committed = (CHECKOUT / "results" / "tables" / "coco.md").read_text(encoding="utf-8")
    assert "measured, " not in (tmp_path / "out" / "coco.md").read_text(encoding="utf-8")
    assert committed.startswith((tmp_path / "out" / "coco.md").read_text(encoding="utf-8").splitlines()[0])
    assert not (tmp_path / "results" / "tables").exists()


def test_a_broken_record_is_named_and_the_tables_are_made(tmp_path, build_record):
    path = Store(tmp_path).save(build_record())
    path.write_text("{")
    done = run("--results-dir", tmp_path)
    assert done.returncode == 0
    assert "set aside" in done.stderr and path.name in done.stderr


def test_a_mistake_in_the_figures_is_one_line_and_code_2(tmp_path):
    for folder in ("flsl_bench", "tools"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    reported = tmp_path / "results" / "reported"
    reported.mkdir(parents=True)
    (reported / "flsl.yaml").write_text("paper: FLSL\n")
    command = [sys.executable, str(tmp_path / "tools" / "make_tables.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: {reported / 'flsl.yaml'}: field arxiv: Field required\n"


def test_it_is_executable_and_needs_no_torch(tmp_path):
    assert TOOL.stat().st_mode & 0o111
    code = (
        "import runpy, sys\n"
        f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'numba', 'cv2'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", code, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
