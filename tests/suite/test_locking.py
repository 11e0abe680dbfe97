"""The lock of a work dir: one holder at a time, told by name, held by children, gone with the holder."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flsl_bench.errors import ConfigError
from flsl_bench.suite.locking import hold

HOLD = """
import subprocess, sys, time
from pathlib import Path
from flsl_bench.suite.locking import hold
with hold(Path(sys.argv[1]), print) as lock:
    if len(sys.argv) > 2:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[lock])
        print(child.pid, flush=True)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A function that starts a process which holds the lock, with a child if asked; it is killed at the end."""
    started = []

    def start(*child: str) -> tuple[subprocess.Popen, list[str]]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock"), *child]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        lines = []
        while (line := process.stdout.readline().strip()) != "held":
            lines.append(line)
        return process, lines

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_second_holder_is_told_who_has_it(tmp_path, holder):
    process, _ = holder()
    told = []
    with pytest.raises(ConfigError) as caught, hold(tmp_path / ".lock", told.append, patience=0.3):
        pass
    message = str(caught.value)
    assert f"{tmp_path}: is in use by process {process.pid} on " in message and "pass another --work-dir" in message
    assert len(told) == 1 and f"process {process.pid}" in told[0]


def test_it_is_free_when_the_holder_is_killed(tmp_path, holder):
    process, _ = holder()
    process.kill()
    process.wait()
    with hold(tmp_path / ".lock", print, patience=0.0):
        pass


def test_it_is_waited_for(tmp_path, holder):
    process, _ = holder()
    ended = time.monotonic() + 0.5
    subprocess.Popen(["bash", "-c", f"sleep 0.5; kill -9 {process.pid}"])
    with hold(tmp_path / ".lock", lambda told: None, patience=20):
        assert time.monotonic() >= ended


def test_a_child_that_outlives_the_holder_still_holds_it(tmp_path, holder):
    process, (child,) = holder("child")
    process.kill()
    process.wait()
    try:
        with pytest.raises(ConfigError), hold(tmp_path / ".lock", lambda told: None, patience=0.0):
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)
    with hold(tmp_path / ".lock", print, patience=10):
        pass


def test_it_can_be_taken_again(tmp_path):
    for _ in range(2):
        with hold(tmp_path / "folder/.lock", print, patience=0.0):
            pass
