"""Files that cannot be read end in one CheckpointError of one line; nothing in a file is ever run."""

import argparse
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from flsl_bench.checkpoints import load_checkpoint
from flsl_bench.checkpoints.reading import Inert, allowed_globals, read
from flsl_bench.errors import CheckpointError
from tests.checkpoints import checkpoint_builders as build


def fails(path, message, **options):
    """Loading raises CheckpointError with `message`, in one line that names the file."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target):
        """Remember which."""
        self.target = str(target)

    def __reduce__(self):
        """What a malicious pickle would have run."""
        return (os.system, (f"touch {self.target}",))


class Evaluated(Payload):
    """The same by `eval`, which is a builtin."""

    def __reduce__(self):
        """What a malicious pickle would have run."""
        return (eval, (f"open({self.target!r}, 'w')",))


def test_missing_folder_and_empty(tmp_path):
    """The plain mistakes."""
    fails(tmp_path / "none.pth", "no such file")
    fails(tmp_path, "this is a folder")
    (tmp_path / "empty.pth").touch()
    fails(tmp_path / "empty.pth", "the file is empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"\n  <?xml version='1.0'?><Error/>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"Not Found", "text instead of weights"),
        (b"\x00" * 600, "neither a torch file nor safetensors"),
        (b"a.pth".ljust(257, b"\x00") + b"ustar" + b"\x00" * 300, "a tar archive"),
        (b"\x80", "not readable as a torch state dict"),
        (b"PK", "a truncated zip archive"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "a damaged or truncated safetensors file"),
    ],
)
def test_other_files(content, message, tmp_path):
    """Told by their content."""
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    fails(path, message)


def test_truncated_zip_and_foreign_zip(tmp_path):
    """A cut download, and an archive of something else."""
    path = tmp_path / "weights.pth"
    torch.save(build.canonical(), path)
    path.write_bytes(path.read_bytes()[:-100])
    fails(path, "a truncated zip archive; download or copy it again")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    fails(path, "a zip archive, but not one that torch.save wrote|not readable as a torch state dict")


@pytest.mark.parametrize("payload", [Payload, Evaluated])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_does_not(payload, legacy, tmp_path):
    """The global is named, the cure is said, and the file it would create is not there."""
    target, path = tmp_path / "created", tmp_path / "weights.pth"
    content = build.canonical() | {"extra": payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    message = fails(path, "refused: it asks for .*which could run code; load it in the environment it came from")
    assert "system" in message or "eval" in message
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_does_not_run_either(protocol, tmp_path):
    """Whatever the protocol of the pickle."""
    target, path = tmp_path / "created", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Payload(target), protocol=protocol))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not target.exists()


def test_every_refused_global_is_named(tmp_path):
    """A zip file lists them all at once."""
    path = tmp_path / "weights.pth"
    torch.save({"a": types.SimpleNamespace(x=1), "b": argparse.ArgumentError(None, "b"), "w": build.canonical()}, path)
    message = fails(path, "refused")
    assert "types.SimpleNamespace" in message and "argparse.ArgumentError" in message
    assert "safetensors" in message


def test_a_whole_module_is_refused(tmp_path):
    """Saved with torch.save(model): its classes would have to be imported."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    fails(tmp_path / "model.pth", r"torch\.nn\.modules\.linear\.Linear")


def test_the_allow_list_is_left_as_it_was(tmp_path):
    """Reading must not make later reads of other code more permissive."""
    before = torch.serialization.get_safe_globals()
    torch.save(build.dino(build.canonical()), tmp_path / "dino.pth")
    load_checkpoint(tmp_path / "dino.pth", num_heads=2)
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_namespace_and_numpy_scalars_are_read(tmp_path):
    """What training scripts leave in `args`, under the module names of numpy 1 and 2."""
    content = build.dino(build.canonical(), num_heads=np.int64(2), ratio=np.float32(0.5), flag=np.bool_(True))
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert read(path).entries["args"].ratio == 0.5
    assert load_checkpoint(path).facts.heads_source == "num_heads in the checkpoint's args"
    names = {f"{entry.__module__}.{entry.__name__}" for entry in allowed_globals()}
    assert {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"} <= names


def test_the_log_history_of_mmengine_is_skipped(tmp_path, monkeypatch):
    """Its class, its bound methods and its numpy arrays are read as nothing, so that the weights can be had."""
    module = types.ModuleType("mmengine.logging.history_buffer")

    def mean(self):
        """A method, whose pickle asks for getattr."""

    mean.__module__, mean.__qualname__ = module.__name__, "HistoryBuffer.mean"
    HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__, "mean": mean})
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    history = HistoryBuffer()
    history._log_history, history.methods = np.arange(3.0), {"mean": HistoryBuffer.mean}
    content = build.openmmlab_finetuned(build.canonical())
    content["message_hub"] = {"log_scalars": OrderedDict(loss=history)}
    path = tmp_path / "epoch_12.pth"
    torch.save(content, path)
    assert isinstance(read(path).entries["message_hub"]["log_scalars"]["loss"], Inert)
    facts = load_checkpoint(path, num_heads=2).facts
    assert facts.format == "openmmlab_finetuned" and "message_hub" in facts.left_over


def test_legacy_torch_files_and_safetensors(tmp_path):
    """The same weights from the three containers."""
    tensors = build.canonical()
    torch.save(tensors, tmp_path / "zip")
    torch.save(tensors, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "safe")
    for name in ("zip", "legacy", "safe"):
        state = load_checkpoint(tmp_path / name, num_heads=2).state_dict
        assert all(torch.equal(state[key], value) for key, value in tensors.items()), name


def write(container, path):
    """A small checkpoint in one of the containers; returns its bytes."""
    content = build.dino(build.canonical(embed=2, depth=1, patch=1), num_heads=1)
    if container == "safetensors":
        save_file(build.canonical(embed=2, depth=1, patch=1), path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncation_gives_nothing_but_checkpoint_error(container, data, tmp_path):
    """Cut anywhere, a file is never half loaded."""
    path = tmp_path / "weights.pth"
    whole = write(container, path)
    near_the_end = st.integers(len(whole) - 40, len(whole) - 1)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1) | near_the_end)])
    with pytest.raises(CheckpointError):
        load_checkpoint(path, num_heads=1)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_one_line_or_a_whole_checkpoint(container, data, tmp_path):
    """Bytes changed in names and structure are found out; those of a weight cannot be."""
    path = tmp_path / "weights.pth"
    damaged = bytearray(write(container, path))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        load_checkpoint(path, num_heads=1)
    except CheckpointError as error:
        assert "\n" not in str(error)


def test_something_else_than_a_dict(tmp_path):
    """A tensor or a list of tensors."""
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    fails(tmp_path / "tensor.pth", "holds a Tensor, not a dict of weights")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    fails(tmp_path / "list.pth", "holds a list, not a dict of weights")


def test_no_known_layout_names_the_top_level_keys(tmp_path):
    """A ResNet."""
    torch.save({"conv1.weight": torch.zeros(2), "layer1.0.bn1.weight": torch.zeros(2)}, tmp_path / "resnet.pth")
    fails(tmp_path / "resnet.pth", "no known layout .*top-level keys are conv1.weight, layer1.0.bn1.weight")
    torch.save({}, tmp_path / "nothing.pth")
    fails(tmp_path / "nothing.pth", "top-level keys are none")
    torch.save({str(index): 0 for index in range(20)}, tmp_path / "many.pth")
    fails(tmp_path / "many.pth", "and 8 more")
