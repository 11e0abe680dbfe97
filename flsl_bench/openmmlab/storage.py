"""Reading and writing mmengine's checkpoints safely: nothing in a file is executed, no file is left half-written."""

import re
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_torch_safe_globals

from flsl_bench.checkpoints.reading import one_line
from flsl_bench.errors import CheckpointError
from flsl_bench.files import atomic_path


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, each written in one step, so that a killed run leaves only whole checkpoints."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with atomic_path(filepath) as temporary:
            temporary.write_bytes(obj)


def load_detector_checkpoint(filename: str, map_location: str | None = None) -> dict:
    """A checkpoint that training wrote, read with `weights_only=True`; mmengine would fall back to unsafe pickle.

    Raises:
        CheckpointError: the file is missing, damaged, or holds objects that could run code.
    """
    path = Path(filename)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        # torch wraps its reason in advice to load unsafely, and ends it with advice to allow what was refused.
        reason = one_line(error.__context__ or error).split(" Please ")[0]
        raise CheckpointError(f"{path}: refused, it holds more than weights and plain values: {reason}") from error
    except Exception as error:  # damaged files raise anything: IndexError, AssertionError, struct.error, ...
        raise CheckpointError(f"{path}: not a readable checkpoint ({one_line(error)})") from error


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint to resume from: the one `last_checkpoint` names, or else the one of the most iterations.

    The pointer is written by mmengine in place, so a kill can leave it empty; the checkpoints themselves are whole.
    """
    work_dir = Path(work_dir)
    pointer = work_dir / "last_checkpoint"
    if pointer.is_file():
        named = pointer.read_text().strip()
        candidate = work_dir / Path(named).name  # the folder may have been moved since
        if named and candidate.is_file():
            return candidate
    numbered = [(int(match[1]), path) for path in work_dir.glob("*.pth") if (match := re.search(r"_(\d+)$", path.stem))]
    return max(numbered)[1] if numbered else None


def _allowed_globals() -> list:
    """mmengine's allow-list with a harmless `getattr`: Python's own would let a file reach and replace builtins."""
    return [entry for entry in get_torch_safe_globals() if entry is not getattr] + [_log_statistic]


def _log_statistic(owner: object, name: str) -> object:
    if owner is not HistoryBuffer or name.startswith("_"):
        raise UnpicklingError(f"builtins.getattr({owner!r}, {name!r}) is not part of a training log")
    return getattr(owner, name)


# By this name torch finds it where mmengine's message hub asks for `getattr`.
_log_statistic.__module__, _log_statistic.__qualname__, _log_statistic.__name__ = "builtins", "getattr", "getattr"

register_backend("local", AtomicLocalBackend, force=True, prefixes="")
CheckpointLoader.register_scheme(prefixes="", loader=load_detector_checkpoint, force=True)
