"""A folder that is made once: all of it or nothing, marked with what it holds, and never put over anything else."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from flsl_bench.errors import DataError

MARKER = "miniature.json"
"""Name of the file that says which miniature a folder holds."""

MIN_SIDE = 64
"""Least width and height of a miniature's pictures in pixels."""


def build_once(root: Path, kind: str, version: int, parameters: dict, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write into a temporary folder beside `root`, then rename it to `root`; return at once if it is there.

    The rename is the only way `root` comes into being, so an interrupted run leaves no half-made data set. `kind`,
    `version` and `parameters`, whatever JSON holds, say which miniature it is. Raises `DataError` if `root` holds
    anything else.
    """
    wanted = {"kind": kind, "version": version, "parameters": parameters}
    if _holds(root, wanted):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}.", suffix=".tmp"))
    try:
        fill(temporary)
        (temporary / MARKER).write_text(json.dumps({**wanted, "contents": _contents(temporary)}), encoding="utf-8")
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp's 0700 would hide the data from the rest of a team
        try:
            os.rename(temporary, root)
        except OSError:
            # Another process may have finished the same miniature meanwhile.
            if not _holds(root, wanted):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _holds(root: Path, wanted: dict) -> bool:
    """Whether `root` holds the `wanted` miniature; False if there is nothing; `DataError` for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    cure = "name another folder, or delete this one to have it made anew"
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
        contents = found.pop("contents")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{root}: exists and is not a miniature made here (no readable {MARKER}); {cure}") from None
    if found != wanted:
        raise DataError(f"{root}: holds another miniature, {found}, not {wanted}; {cure}")
    if contents != _contents(root):
        raise DataError(f"{root}: files of this miniature were added, lost or changed; {cure}")
    return True


def _contents(folder: Path) -> dict:
    """Count and total bytes of the files below `folder`, the marker apart."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return {"files": len(sizes), "bytes": sum(sizes)}
