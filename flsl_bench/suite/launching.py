"""Running a unit's command in a process of its own: on this machine, its output passed on and kept."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_REDRAWN = re.compile(rb"\r|\x1b\[\d*[AKG]")  # a progress bar moving the cursor
_COLOUR = re.compile(rb"\x1b\[[\d;?]*[a-zA-Z]")
_TAIL = 40  # lines


def run_here(command: Sequence[str], log: Path, lock: int) -> tuple[int, str]:
    """Run `command` to its end, show its output and keep it in `log`; its exit code and the last words.

    The child inherits `lock` and, on Linux, is told to end when this process is killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=[lock],
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            tail = _pass_on(process.stdout, file)
            return process.wait(), last_words(tail)
        finally:
            if process.poll() is None:  # interrupted: give torchrun time to stop its workers
                process.terminate()
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def last_words(lines: Sequence[str]) -> str:
    """The error line of a tool's output, or the last line of all."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [number for number, line in enumerate(said) if line.startswith("error: ")]
    if not errors:
        return said[-1] if said else "it said nothing"
    first, *rest = said[errors[-1] :]
    told = [first, *rest] if first.endswith("several problems:") else [first]
    return "; ".join(told).removeprefix("error: ").replace("problems:;", "problems:")


def free_port() -> int:
    """A port for torchrun that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment() -> dict[str, str]:
    told = {"PYTHON": sys.executable, "PORT": str(free_port()), "PYTHONUNBUFFERED": "1"}
    if sys.stderr.isatty():  # the child writes to a pipe, yet its bars end up on the terminal
        told |= {"FORCE_COLOR": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    return os.environ | told


def _pass_on(source: BinaryIO, file: BinaryIO) -> list[str]:
    """Copy `source` to standard output as it comes and, without redrawn lines, to `file`; its last lines."""
    tail, rest = [], b""
    while chunk := os.read(source.fileno(), 1 << 16):
        _show(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        _keep([line for line in lines if not _REDRAWN.search(line)], file, tail)
    _keep([rest] if rest else [], file, tail)
    return tail


def _show(chunk: bytes) -> None:
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(chunk)
    else:  # a notebook's
        sys.stdout.write(chunk.decode(errors="replace"))
    sys.stdout.flush()


def _keep(lines: list[bytes], file: BinaryIO, tail: list[str]) -> None:
    for line in lines:
        plain = _COLOUR.sub(b"", line)
        file.write(plain + b"\n")
        tail.append(plain.decode(errors="replace"))
    file.flush()
    del tail[:-_TAIL]


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
