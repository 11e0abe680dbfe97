"""A command of its own process: its output shown and kept, its last words known, its end bound to ours."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from flsl_bench.suite.launching import last_words, run_here


@pytest.fixture
def lock(tmp_path):
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def run(code: str, tmp_path, lock) -> tuple[int, str]:
    return run_here([sys.executable, "-c", code], tmp_path / "logs/tool.log", lock)


def test_output_is_shown_and_kept(tmp_path, lock, capfdbinary):
    code, words = run("import sys; print('one'); print('two', file=sys.stderr)", tmp_path, lock)
    assert (code, words) == (0, "two")
    assert (tmp_path / "logs/tool.log").read_text() == "one\ntwo\n"
    assert capfdbinary.readouterr().out == b"one\ntwo\n"


def test_a_second_run_adds_to_the_log(tmp_path, lock):
    run("print(1)", tmp_path, lock)
    run("print(2, end='')", tmp_path, lock)
    assert (tmp_path / "logs/tool.log").read_text() == "1\n2\n"


def test_a_progress_bar_is_shown_but_not_kept(tmp_path, lock, capfdbinary):
    drawn = "\\x1b[2Ktrain 1/2\\n\\x1b[1A\\x1b[2Ktrain 2/2\\nhalf\\rwhole\\n\\x1b[1mbold\\x1b[0m"
    run(f"print('{drawn}')", tmp_path, lock)
    assert (tmp_path / "logs/tool.log").read_text() == "bold\n"
    assert b"\x1b[1A" in capfdbinary.readouterr().out


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a", "error: no such file", "b"], "no such file"),
        (["Traceback", "  File", "ValueError: 3", ""], "ValueError: 3"),
        (["", " "], "it said nothing"),
        ([], "it said nothing"),
        (["error: several problems:", "no images", "no weights"], "several problems: no images; no weights"),
    ],
)
def test_last_words(lines, words):
    assert last_words(lines) == words


def test_the_exit_code_and_the_error_line_come_back(tmp_path, lock):
    assert run("import sys; print('error: bad'); sys.exit(2)", tmp_path, lock) == (2, "bad")


# A shell's background job, as CI's may be, hands down an ignored interrupt; Python then installs no handler of its own.
PARENT = """
import os, signal, sys
from pathlib import Path
from flsl_bench.suite.launching import run_here
signal.signal(signal.SIGINT, signal.default_int_handler)
child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
run_here([sys.executable, "-c", child], Path(sys.argv[1]), os.open(sys.argv[1] + ".lock", os.O_CREAT))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the end of the parent is told to the child on Linux only")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_command_ends_with_us(tmp_path, how):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(how)
    parent.wait(timeout=30)
    until = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_output_is_shown_where_standard_output_takes_text_only(tmp_path, lock, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert run("print('ö')", tmp_path, lock) == (0, "ö") and sys.stdout.getvalue() == "ö\n"
