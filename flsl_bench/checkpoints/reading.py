"""Reading a weight file without running anything it contains."""

from __future__ import annotations

import argparse
import codecs
import os
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flsl_bench.errors import CheckpointError

RESAVE = (
    "load it in the environment it came from and save it again as a plain state dict (torch.save) or as safetensors"
)

# torch's list of allowed globals belongs to the whole process: a thread must not see another one's.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Content:
    """What a weight file holds: the top-level entries (tensors, or dicts and values around them) and its metadata.

    `metadata` is the string table of a safetensors header, empty for torch files.
    """

    path: Path
    entries: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)


class Inert:
    """Takes the place of an object that is never needed: accepts any arguments and any state and keeps nothing."""

    def __new__(cls, *_args: Any, **_options: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, _state: Any) -> None:
        """Ignore the state."""


def read(path: str | os.PathLike) -> Content:
    """Read a torch (zip or legacy) or safetensors file, told apart by content and never by name.

    Torch files go through the restricted unpickler with the allow-list of `allowed_globals`; there is no second way.
    Tensors of zip files are mapped from disk, so that only those used later take memory.

    Raises CheckpointError: missing file, folder, empty or truncated file, text instead of weights, a refused global.
    """
    path = Path(path)
    kind = _sniff(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    entries = _read_torch(path, mapped=kind == "zip")
    if not isinstance(entries, Mapping):
        raise CheckpointError(
            f"{path}: the file holds a {type(entries).__name__}, not a dict of weights: save a state dict instead"
        )
    return Content(path, {str(key): value for key, value in entries.items()})


def allowed_globals() -> list[Any]:
    """The globals a checkpoint may name besides torch's own: plain values, and names that are read as nothing.

    numpy 1 and numpy 2 write the same functions under different module names. mmengine's message hub (log histories
    with numpy arrays and bound methods) sits beside the weights of every mmengine checkpoint: its names are mapped to
    `Inert`, `builtins.getattr` included, so that nothing of it is ever called.
    """
    import numpy as np

    scalar = np.dtype("f8").type(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"}
    inert = ["mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr", "numpy.ndarray"]
    inert += [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    return [
        argparse.Namespace,
        codecs.encode,  # how pickle writes the bytes of a numpy scalar; torch 2.4 does not allow it by itself
        np.dtype,
        *sorted(dtypes, key=lambda dtype: dtype.__name__),
        *(_renamed(lambda *args: scalar(*args), f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        *(_renamed(type("Nothing", (Inert,), {}), name) for name in inert),
    ]


def _renamed(target: Any, name: str) -> Any:
    """`target` under the dotted `name`, by which torch finds an allowed global in every version since 2.4."""
    target.__module__, target.__qualname__ = name.rsplit(".", 1)
    target.__name__ = target.__qualname__
    return target


@contextmanager
def _allowing(allowed: list[Any]) -> Iterator[None]:
    import torch

    serialization = torch.serialization
    with _ONE_AT_A_TIME:
        before = serialization.get_safe_globals()  # torch 2.4 has no context manager for this
        serialization.add_safe_globals(allowed)
        try:
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(before)


def _sniff(path: Path) -> str:
    """'zip', 'pickle' or 'safetensors', by the first bytes."""
    try:
        if path.is_dir():
            raise CheckpointError(f"{path}: this is a folder; give the weight file inside it")
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be opened: {one_line(error)}") from None
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download or copy it again")
    if head[:2] == b"PK":
        return "zip"
    if head[:1] == b"\x80":
        return "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    raise CheckpointError(f"{path}: {_what_else(head)}")


def _what_else(head: bytes) -> str:
    """Why a file with these first bytes holds no weights."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of weights; fetch the file itself with `git lfs pull`"
    if head[257:262] == b"ustar":
        return f"a tar archive: extract the weights from it, or, if torch 0.1 wrote it, {RESAVE}"
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        return "a web page (HTML or XML) instead of weights; download the file itself"
    if all(character.isprintable() or character.isspace() for character in text):
        return f"text instead of weights (it begins with {one_line(text, 40)!r})"
    return "neither a torch file nor safetensors; the file is damaged or of another kind"


def _read_safetensors(path: Path) -> Content:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            return Content(path, {key: file.get_tensor(key) for key in file.keys()}, metadata)  # noqa: SIM118
    except Exception as error:  # the Rust side raises several types for one damaged file
        raise CheckpointError(f"{path}: a damaged or truncated safetensors file: {one_line(error)}") from None


def _read_torch(path: Path, *, mapped: bool) -> Any:
    import torch

    with _allowing(allowed_globals()):
        try:
            if mapped and path.suffix != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with open(path, "rb") as file:  # torch.load goes by a path's ending, and maps paths only
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files raise anything: OSError, KeyError, EOFError, struct.error, ...
            raise CheckpointError(f"{path}: {_why_refused(path, error, mapped)}") from None


def _why_refused(path: Path, error: Exception, mapped: bool) -> str:
    """The cause and the cure of a failed `torch.load`, in one line."""
    message = str(error)
    refused = _refused_globals(path, message)
    if refused:
        return f"refused: it asks for {', '.join(refused)}, which could run code; {RESAVE}"
    if "Unsupported operand" in message:
        return f"refused: a damaged pickle, or one with instructions that the safe reader does not take; {RESAVE}"
    if "TorchScript" in message:
        return f"a TorchScript archive, not a state dict; {RESAVE}"
    if mapped and not _has_directory(path):
        return "a truncated zip archive; download or copy it again"
    if mapped and "data.pkl" in message:
        return "a zip archive, but not one that torch.save wrote"
    cause = one_line(f"{type(error).__name__}: {error}")
    return f"not readable as a torch state dict ({cause}); download or copy it again, or {RESAVE}"


def _has_directory(path: Path) -> bool:
    """Whether the zip archive has its directory, which is at the end of the file."""
    try:
        return zipfile.is_zipfile(path)
    except (OSError, zipfile.BadZipFile):
        return False


def _refused_globals(path: Path, message: str) -> list[str]:
    import torch

    found = re.findall(r"GLOBAL ([\w.]+)", message)
    if not found:
        return []
    try:  # every refused name at once, where torch can list them (zip files only)
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)) or found
    except Exception:
        return found


def one_line(error: object, limit: int = 160) -> str:
    """The text of `error` with all white space collapsed, cut to `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
