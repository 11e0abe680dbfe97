"""One evaluation of a model at a time in a work dir."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from flsl_bench.errors import ConfigError

PATIENCE = 20.0
"""Seconds to wait for the lock: a run that was just killed may still have processes that end."""


@contextmanager
def hold(path: Path, say: Callable[[str], None], patience: float = PATIENCE) -> Iterator[int]:
    """Hold the lock file `path`; yields its descriptor, which children inherit so that they hold it too.

    Raises:
        ConfigError: another process holds it for longer than `patience` seconds; the message says which one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, path, say, patience)
        holder = {
            "process": os.getpid(),
            "host": platform.node(),
            "since": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, say: Callable[[str], None], patience: float) -> None:
    end, told = time.monotonic() + patience, False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise ConfigError(
                    f"{path.parent}: is in use by {_holder(path)}; wait for it, or pass another --work-dir"
                ) from None
        if not told:
            say(f"{path.parent} is in use by {_holder(path)}; waiting {patience:.0f} s for it")
            told = True
        time.sleep(min(0.2, patience))


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['process']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
